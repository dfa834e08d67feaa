"""What the commands share: how they speak, fail, write, and read their arguments."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..files import write_whole

__all__ = ["CommandError", "count", "rate", "require", "say", "show", "write"]


class CommandError(Exception):
    """Something that the person at the terminal can put right."""


def say(text: str) -> None:
    """Print a line about the run itself, to stderr; if that is gone, it is not worth an error."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
        print(f"fastmaml: {text}", file=sys.stderr)


def write(path: Path, content: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all, and say so."""
    write_whole(path, content)
    with contextlib.suppress(OSError):  # the end of `main` has it again, after all files
        print(f"wrote {path}")


def show(figure: Any, path: Path) -> None:
    """Write a picture."""
    write(path, lambda file: figure.savefig(file, format="png"))


def require(command: str, extra: str, *modules: str) -> None:
    """Look for the modules of an extra, so that their absence is known before the work."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise CommandError(
                f'{command} needs {module}, which comes with pip install "fastmaml[{extra}]"'
            ) from error


def count(minimum: int) -> Callable[[str], int]:
    """Argument type: a whole number."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} up")
        return number

    return convert


def rate(text: str) -> float:
    """Argument type: a positive number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number
