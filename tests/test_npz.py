"""An npz file is read for what it holds, and for no more than that."""

from __future__ import annotations

import json
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmaml.npz import parse_json, read_npz, require_shallow

ARRAYS = {
    "f8": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "big": np.arange(3, dtype=">f8"),
    "i": np.arange(3, dtype=np.int8),
    "flags": np.array([True, False]),
    "number": np.array(3),
    "empty": np.zeros((0, 3)),
    "text": np.array("Grüße, 🎲"),
    "texts": np.array(["a", "bcd"]),
    "five axes": np.ones((1, 2, 1, 2, 1)),
}


def npy(
    descr: str = "<f8", shape: str = "(2,)", data: bytes = bytes(16), order: str = "False"
) -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}"
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def store(path: Path, content: bytes, name: str = "a.npy", kind: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(name, content)


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **ARRAYS)
    read = read_npz(path)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype.newbyteorder("=")
        assert read[name].flags.writeable
    store(path, npy())
    np.testing.assert_array_equal(read_npz(path)["a"], [0.0, 0.0])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (npy("<U0", "(5000000,)", b""), "accepted are arrays of booleans"),
        (npy("|O"), "holds b\"{'descr': '|O'"),
        (npy("<M8[s]"), "holds b\"{'descr': '<M8[s]'"),
        (npy("<c16"), "accepted are arrays of booleans, integers, floats or text"),
        (npy("<f16"), "accepted are arrays"),
        (npy("[('a', '<f8')]"), "accepted are arrays"),
        (npy(shape="(-2,)"), "accepted are arrays"),
        (npy(shape="(__import__('os').getpid(),)"), "accepted are arrays"),
        (npy(shape="(" * 50 + ")" * 50), "accepted are arrays"),
        (npy(shape="2"), "accepted are arrays"),
        (npy(order="None"), "accepted are arrays"),
        (npy(shape="(3,)"), "'a.npy' that claims 24 bytes, and has 16"),
        (npy(shape="(1,)"), "'a.npy' that claims 8 bytes, and has 16"),
        (npy(shape="(999999999999999999, 9)"), "claims 71999999999999999928 bytes, and has 16"),
        (npy("<U30000000", "()"), "claims 120000000 bytes, and has 16"),
        (npy("<U999999999", "()"), "accepted are arrays"),  # which some NumPy take for less than 0
        (npy()[:40], "accepted are arrays"),
        (npy()[:9], "accepted are arrays"),
        (b"", "accepted are arrays"),
        (b"\x93NUMPY\x02" + npy()[7:], "accepted are arrays"),
        (b"text", "holds b''; accepted are arrays"),
    ],
)  # fmt: skip
def test_members_of_other_kinds_are_named(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "a.npz"
    store(path, content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} .*{re.escape(error)}"):
        read_npz(path)


def test_a_member_that_unfolds_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    store(path, npy(shape="(4000000,)", data=bytes(32_000_000)), kind=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"'a\.npy' of 32000128 bytes that is compressed"):
        peak_of(read_npz, path)

    # A stored one that claims more than there is, in both of its headers, and in its own.
    store(path, npy(shape="(4000000,)"))
    size = len(npy())
    content = path.read_bytes()
    claims = content.replace(size.to_bytes(4, "little"), (32_000_128).to_bytes(4, "little"))
    assert claims != content
    path.write_bytes(claims)
    with pytest.raises(ValueError, match=r"it claims 32000128 bytes of arrays, and has \d{3}$"):
        peak_of(read_npz, path)


def peak_of(read: Any, path: Path) -> None:
    """Read, in no more than 200 kB."""
    tracemalloc.start()
    try:
        read(path)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 200_000


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Ten entries of the directory for one array would be ten arrays."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a0.npy", npy(shape="(1000,)", data=bytes(8000)))
        first = archive.infolist()[0]
        for i in range(1, 10):
            again = zipfile.ZipInfo(f"a{i}.npy")
            for field in ("CRC", "compress_size", "file_size", "header_offset", "external_attr"):
                setattr(again, field, getattr(first, field))
            archive.filelist.append(again)
    with pytest.raises(ValueError, match=r"it claims 81280 bytes of arrays, and has \d{4}$"):
        read_npz(path)


def test_other_names_and_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    store(path, npy(), "a.txt")
    with pytest.raises(ValueError, match=r"has a member 'a\.txt'; accepted are \.npy files, each"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", npy())
    with pytest.raises(ValueError, match=r"has a member 'a\.npy'; accepted are \.npy files, each"):
        read_npz(path)


def test_json_is_not_nested_deep() -> None:
    deep = "[" * 99 + "]" * 99
    assert parse_json(f'{{"a": {deep}}}')
    with pytest.raises(ValueError, match="nested deeper than 100"):
        parse_json(f'{{"a": [{deep}]}}')
    with pytest.raises(ValueError, match="nested deeper than 100"):
        parse_json("[" * 100_000)
    with pytest.raises(ValueError, match="Expecting value"):
        parse_json("[")
    assert parse_json(json.dumps({"a": 1.5})) == {"a": 1.5}
    require_shallow([{"a": (1, 2)}] * 1000)
