"""Options of frozen dataclasses: a default each, and the function that checks what is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields
from functools import lru_cache
from typing import Any

__all__ = ["check_options", "option"]


def option(default: Any, check: Callable[..., Any], *limits: Any) -> Any:
    """Describe a field: its default, and the ``as_*`` function that checks it.

    What is left out for None is not checked.
    """
    return field(default=default, metadata={"check": check, "limits": limits})


@lru_cache(maxsize=32)
def _options(kind: Any) -> list[tuple[str, bool, Callable[..., Any], tuple[Any, ...]]]:
    """Of each option of a class: its name, whether it may be None, and how it is checked."""
    return [
        (each.name, each.default is None, each.metadata["check"], each.metadata["limits"])
        for each in fields(kind)
        if "check" in each.metadata
    ]


def check_options(made: Any) -> None:
    """Check the options of an object that was made, and set them to what they stand for."""
    for name, optional, check, limits in _options(type(made)):  # type: ignore[arg-type]
        value = getattr(made, name)
        if optional and value is None:
            continue
        checked = check(name, value, *limits)
        if checked is not value:
            object.__setattr__(made, name, checked)  # frozen from here on
