"""Damaged entries of the kernel cache: the number is right all the same."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numba
import numpy as np
from fastmaml.kernels.compile import cache, link, versions

from .damage import damaged
from .memory import modest
from .oracle import Failure
from .values import Draw

if TYPE_CHECKING:
    from .good import Good


def _functions(factor: float) -> Any:
    """A linked function and one that calls it, as a new process has them: not compiled yet."""

    def inner(x, n) -> float:  # type: ignore[no-untyped-def]
        total = 0.0
        for i in range(n):
            total += factor * x[i]
        return total

    inner.__module__ = link.__name__  # only what the package has is kept
    called = link.linked(inner)

    def outer(x, n) -> float:  # type: ignore[no-untyped-def]
        return 2.0 * called(x, n)

    outer.__module__ = link.__name__
    return outer


def make_entries(folder: Path) -> Path:
    """A folder with the entries of both functions."""
    folder.mkdir(mode=0o700)
    _use_kernel(folder)
    assert len(list(folder.iterdir())) == 2
    return folder


def cache_entry(draw: Draw, made: Good, folder: Path) -> None:
    """Entries that are damaged, swapped or lost give the right number all the same."""
    store = folder / "entries"
    shutil.copytree(made.entries, store)
    paths = sorted(store.iterdir())
    content = [path.read_bytes() for path in paths]
    if draw.chance(0.3):
        for path, i in zip(paths, draw.rng.permutation(len(paths)).tolist(), strict=True):
            path.write_bytes(content[i])
    else:
        at, other = draw.integer(0, len(paths) - 1), draw.choice(content)
        paths[at].write_bytes(damaged(draw, content[at], other))
    with modest(max(map(len, content))):
        _use_kernel(store)


def _use_kernel(store: Path) -> None:
    """Call the outer function as a new process would, with a folder of entries."""
    with mock.patch.object(cache, "cache_folder", return_value=store):
        piece = link._Piece(_functions(2.0))
        types = numba.types.CPointer(numba.types.float64), numba.types.int64
        version, numbers = piece.require(types), np.arange(4.0)
        versions.load_pending()
        kind = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_int64)
        found = kind(version.address)(numbers.ctypes.data, 4)
    if found != 24.0:
        raise Failure(f"a kernel from the cache returned {found}, not 24.0")
