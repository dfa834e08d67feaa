"""Damage to the bytes of a file, and to the words of a text."""

from __future__ import annotations

from collections.abc import Callable

from .values import Draw

Damage = Callable[[Draw, bytes, bytes], bytes]


def _place(draw: Draw, content: bytes) -> tuple[int, int]:
    """A slice of the content, mostly a short one."""
    start = draw.integer(0, len(content))
    length = draw.choice([1, 4, 16, len(content) // 4])
    return start, min(start + length, len(content))


def _flip(draw: Draw, content: bytes, _: bytes) -> bytes:
    damaged = bytearray(content)
    for _n in range(draw.choice([1, 1, 2, 20])):
        if damaged:
            damaged[draw.integer(0, len(damaged) - 1)] ^= 1 << draw.integer(0, 7)
    return bytes(damaged)


def _cut(draw: Draw, content: bytes, _: bytes) -> bytes:
    start, end = _place(draw, content)
    return content[:start] + content[end:]


def _end_early(draw: Draw, content: bytes, _: bytes) -> bytes:
    return content[: draw.integer(0, len(content))]


def _insert(draw: Draw, content: bytes, _: bytes) -> bytes:
    start, _end = _place(draw, content)
    return content[:start] + draw.rng.bytes(draw.integer(1, 8)) + content[start:]


def _repeat(draw: Draw, content: bytes, _: bytes) -> bytes:
    start, end = _place(draw, content)
    return content[:end] + content[start:]


def _splice(draw: Draw, content: bytes, other: bytes) -> bytes:
    return content[: draw.integer(0, len(content))] + other[draw.integer(0, len(other)) :]


def _fill(draw: Draw, content: bytes, _: bytes) -> bytes:
    start, end = _place(draw, content)
    return content[:start] + draw.choice([b"\0", b"\xff", b"9"]) * (end - start) + content[end:]


def _nothing(_draw: Draw, _content: bytes, other: bytes) -> bytes:
    return other[:0]


BYTES: list[Damage] = [_flip, _flip, _cut, _end_early, _insert, _repeat, _splice, _fill, _nothing]

#: what a cell, a key or a value of a text may have become
WORDS = [
    b"", b" ", b"nan", b"-inf", b"1e999", b"1e308", b"-1", b"0", b"1_000", b"0x10", b"1,5", b'"',
    b'""', b"'", b"\0", b"\r", b"\r\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"true", b"None",
    b"[]", b"{}", b"[[[[[[[[[[1]]]]]]]]]]", b"1979-05-27", b"=1+1", b"9" * 400, b"x" * 200_000,
    "ünïcödé".encode(), "１２".encode(), "\u2028".encode(), "\u202e1".encode(), b"#", b"\\",
    b"1" * 5000, b"[" * 2000 + b"]" * 2000, b"{a=" * 300 + b"1" + b"}" * 300, b"1.0 2.0", b";",
]  # fmt: skip


def damaged(draw: Draw, content: bytes, other: bytes) -> bytes:
    """The content after one or two kinds of damage; `other` is a file that was mixed up with it."""
    for _ in range(1 + draw.chance(0.3)):
        content = draw.choice(BYTES)(draw, content, other)
    return content


def reworded(draw: Draw, content: bytes, separators: bytes) -> bytes:
    """A text in which one word between separators is another."""
    ends = [i for i, byte in enumerate(content) if byte in separators]
    if not ends:
        return content
    at = draw.integer(0, len(ends) - 1)
    end = ends[at + 1] if at + 1 < len(ends) else len(content)
    return content[: ends[at] + 1] + draw.choice(WORDS) + content[end:]


#: values of JSON and TOML
VALUES = [
    None, True, False, 0, 1, -1, 2.5, -0.0, float("nan"), float("inf"), 1e308, 10**30, -(10**30),
    10**400, 2**63, "", "text", "MLP", "0", [], [1], [[]], [1, [2]], [None], ["a", "b"], {},
    {"name": 1}, {"name": "Adam"}, {"a": {"b": {}}}, "\ud800", "\0", [10**30], [-1, 0], [1.0, "x"],
]  # fmt: skip
