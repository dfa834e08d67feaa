"""What an exported file is made of, whichever way it adapts."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Member", "Parts"]


class Member(NamedTuple):
    """An array of the state."""

    name: str
    size: int
    note: str


class Parts(NamedTuple):
    """The C code of a way to adapt."""

    members: list[Member]  # of the state
    tables: str
    functions: str  # all of them, in an order in which each is defined before it is called
    prototypes: str  # of those that the header declares
    usage: list[str]  # lines of C that show how they are called
    costs: list[str]  # lines in words: what each call takes
