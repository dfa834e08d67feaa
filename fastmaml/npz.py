"""npz files from anywhere: arrays of plain numbers and texts, read without trust.

Accepted is what ``np.savez`` writes and no more: members that are stored, not compressed, whose
headers have the one form that NumPy gives them. So nothing is unpickled or evaluated, and what is
allocated is never more than the file holds: a member's claims are compared with its real size
before anything is made of them.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .files import open_file

__all__ = ["parse_json", "read_headed", "read_npz", "require_shallow"]

#: how deep lists and tables of a JSON text may lie in each other; Python's own limit is not fixed
DEPTH = 100

#: magic and version 1.0, the header's length, and the header as numpy.lib.format writes it
MAGIC = b"\x93NUMPY\x01\x00"
NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|](?:b1|[iu][1248]|f[248]|U[1-9]\d{0,7}))', "
    rb"'fortran_order': (False|True), 'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n"
)


class _Damaged(ValueError):
    """What is wrong with a file, in words that follow its name."""


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file by their names.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        Arrays of booleans, integers, floats or text, in the machine's byte order.

    Raises
    ------
    ValueError
        If the file is no npz file, is cut short or damaged, holds anything else, or claims to hold
        more than it does. The text begins with the file's name.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np
    >>> from fastmaml.npz import read_npz
    >>> path = pathlib.Path(tempfile.mkdtemp(), "two.npz")
    >>> np.savez(path, a=np.arange(3.0), b="text")
    >>> read_npz(path)
    {'a': array([0., 1., 2.]), 'b': array('text', dtype='<U4')}
    """
    with open_file(Path(path)) as file:
        size = file.seek(0, 2)
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                _require_sizes(members, size)
                return {m.filename[:-4]: _array(m.filename, archive.read(m)) for m in members}
        except _Damaged as error:
            raise ValueError(f"{path} {error}") from error
        except Exception as why:  # of a damaged file, zipfile and NumPy raise a dozen kinds
            raise ValueError(f"{path} is no whole npz file ({why!r:.80})") from why


def _require_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    """See that all members together are not larger than the file, and none comes twice."""
    names = set()
    for member in members:
        name = member.filename
        if not name.endswith(".npy") or name in names:
            raise _Damaged(f"has a member {name!r:.60}; accepted are .npy files, each name once")
        names.add(name)
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise _Damaged(
                f"has a member {name!r:.60} of {member.file_size} bytes that is compressed; "
                "accepted are files of np.savez, which does not compress"
            )
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise _Damaged(f"is no whole npz file: it claims {claimed} bytes of arrays, and has {size}")


def _array(name: str, content: bytes) -> np.ndarray:
    start = len(MAGIC) + 2
    data = start + int.from_bytes(content[len(MAGIC) : start], "little")
    header = NPY_HEADER.fullmatch(content[start:data]) if content.startswith(MAGIC) else None
    if header is None or len(content) < data:
        raise _Damaged(
            f"has a member {name!r:.60} that holds {content[start:data]!r:.60}; "
            "accepted are arrays of booleans, integers, floats or text, as np.savez writes them"
        )
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in header[3].replace(b" ", b"").split(b",") if n)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(content) - data:
        raise _Damaged(
            f"has a member {name!r:.60} that claims {claimed} bytes, and has {len(content) - data}"
        )
    # ndarray, not frombuffer, which takes no empty array; astype makes it the reader's own.
    array: np.ndarray = np.ndarray(
        shape, dtype, content, data, order="F" if header[2] == b"True" else "C"
    )
    return array.astype(header[1][1:].decode())


def read_headed(
    path: str | Path,
    header_of: Callable[[dict[str, np.ndarray]], dict[str, Any]],
    unpack: Callable[[dict[str, Any], dict[str, np.ndarray]], Any],
    newest: int,
    other: str,
    damaged: str,
) -> Any:
    """Return what `unpack` makes of the header of an npz file and its arrays.

    Formats up to the `newest` are read. `other` says what the file is if `header_of` refuses it,
    and `damaged` what it is if `unpack` does.

    Raises
    ------
    ValueError
        As `read_npz` does, and in those words, after the file's name.
    OSError
        If the file cannot be read.
    """
    arrays = read_npz(path)
    try:
        header = header_of(arrays)
    except ValueError as error:
        raise ValueError(f"{path} is {other} ({error})") from error
    if header["format"] > newest:
        raise ValueError(
            f"{path} was written by fastmaml {header.get('version')!s:.20} in format "
            f"{header['format']}; accepted are formats up to {newest}: a newer fastmaml reads it"
        )
    try:
        return unpack(header, arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is {damaged}: {error}") from error


def parse_json(text: str) -> Any:
    """Return what a JSON text says.

    Raises
    ------
    ValueError
        If it is no JSON, or lists and tables lie more than 100 deep in each other.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"JSON nested deeper than {DEPTH}") from None
    require_shallow(value)
    return value


def require_shallow(value: Any) -> None:
    """Raise ValueError if lists and dictionaries lie more than 100 deep in each other."""
    level, depth = [value], 0
    while holders := [item for item in level if isinstance(item, list | tuple | dict)]:
        depth += 1
        if depth > DEPTH:
            raise ValueError(f"nested deeper than {DEPTH}")
        level = [
            item
            for holder in holders
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
