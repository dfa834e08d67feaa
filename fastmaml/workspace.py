"""The memory that kernels work in: aligned to the vectors, and kept from call to call.

Fresh arrays of megabytes cost page faults, on a wide network as much time as the arithmetic; and
NumPy's begin where each of a processor's vectors lies across two cache lines. So each thread keeps
the memory of its last call for the next one, up to `KEPT` bytes. A call that is interrupted by
another on the same thread (a signal handler) leaves it nothing to find: it takes its own.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels.compile.jit import thread_limit

__all__ = ["ALIGNMENT", "KEPT", "Layout", "Workspace", "borrow", "release", "rows_of"]

#: bytes of a cache line, and of the longest vector
ALIGNMENT = 64
#: the most bytes that a thread keeps: so many for each worker that a call may have
KEPT = thread_limit() * (64 << 20)
#: how many layouts of arrays are remembered with the memory that they lie in
LAYOUTS = 16

_kept = threading.local()


class Layout:
    """Which arrays lie in a workspace: a dtype and a shape for each."""

    def __init__(self, *arrays: tuple[np.dtype[Any], tuple[int, ...]]) -> None:
        self.arrays = arrays
        self.sizes = [math.prod(shape) * dtype.itemsize for dtype, shape in arrays]
        self.places = [-(-size // ALIGNMENT) * ALIGNMENT for size in self.sizes]

    def on(self, memory: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """The arrays, as views."""
        starts = accumulate(self.places, initial=0)
        return [
            memory[start : start + size].view(dtype).reshape(shape)
            for (dtype, shape), size, start in zip(self.arrays, self.sizes, starts, strict=False)
        ]


class Workspace:
    """Uninitialised arrays that a ``with`` block may use; afterwards the thread keeps them."""

    def __init__(self, size: int) -> None:
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.memory = raw[start : start + size]
        self.laid_out: dict[Layout, list[NDArray[Any]]] = {}
        self.arrays: list[NDArray[Any]] = []

    def __enter__(self) -> list[NDArray[Any]]:
        return self.arrays

    def __exit__(self, *error: object) -> None:
        if self.memory.size <= KEPT:
            _kept.workspace = self


def borrow(layout: Layout) -> Workspace:
    """Return a workspace with the arrays of a layout."""
    workspace: Workspace | None = _kept.__dict__.pop("workspace", None)
    arrays = None if workspace is None else workspace.laid_out.get(layout)
    if workspace is None or arrays is None:
        size = sum(layout.places)
        if workspace is None or workspace.memory.size < size:
            del workspace  # before there is another
            workspace = Workspace(size)
        elif len(workspace.laid_out) >= LAYOUTS:
            workspace.laid_out.clear()
        arrays = workspace.laid_out[layout] = layout.on(workspace.memory)
    workspace.arrays = arrays
    return workspace


@lru_cache(maxsize=128)
def rows_of(dtype: np.dtype[Any], workers: int, scratch: int) -> Layout:
    """A row of scratch for each worker."""
    return Layout((dtype, (workers, scratch)))


def release() -> None:
    """Give the calling thread's kept memory back to the system (for tests)."""
    _kept.__dict__.clear()
