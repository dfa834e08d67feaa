"""What the commands share: how they speak, fail, write, and read their arguments."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ..files import write_whole

__all__ = [
    "CommandError", "aloud", "count", "meant", "new_folder", "rate", "require", "say", "show",
    "write",
]  # fmt: skip


class CommandError(Exception):
    """Something that the person at the terminal can put right."""


def say(text: str) -> None:
    """Print a line about the run itself, to stderr; if that is gone, it is not worth an error."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
        print(f"fastmaml: {text}", file=sys.stderr)


def meant(word: Any, known: Iterable[Any]) -> str:
    """Return " (did you mean ...?)" for a misspelt word, or nothing."""
    near = difflib.get_close_matches(str(word)[:60].lower(), {str(k).lower(): k for k in known}, 1)
    return next((f" (did you mean {k!r}?)" for k in known if near == [str(k).lower()]), "")


@contextlib.contextmanager
def aloud() -> Iterator[None]:
    """Say what is warned of in this block, a line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                say(f"warning: {' '.join(str(warning.message).split())}")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder; if this block fails, it goes again as long as it is empty."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # of one that is not empty
                folder.rmdir()
        raise


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
