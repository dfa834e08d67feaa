"""What may come of a call: a result that holds, or an error that names an argument on purpose."""

from __future__ import annotations

import linecache
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastmaml as fm

PACKAGE = str(Path(fm.__file__).parent)
#: what the documentation of some function names
DOCUMENTED = (TypeError, ValueError, FloatingPointError, OverflowError, ImportError, OSError)
#: warnings that are meant, too
MEANT = (fm.ConvergenceWarning, fm.DivergenceWarning)
#: numbers up to here are those of real data; what is beyond may overflow, with a word or without
TAME = 100.0
#: and numbers nearer to 0 than its inverse are none, either
HUGE = 1e6
MANY = 10**9


class Refusal(RuntimeError):
    """What an array of another library raises when it is converted."""


class Failure(Exception):
    """The call did what it must not; the text says what."""


@dataclass
class Call:
    """One call to be made.

    `arguments` are by the names under which an error may speak of them. `hold` looks at the result
    and raises Failure. `finite`: whether tame arguments must give finite numbers.
    """

    name: str
    make: Callable[[], Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    hold: Callable[[Any], None] | None = None
    finite: bool = True
    says: str = ""  # in a warning that is meant
    foreign: tuple[str, ...] = ()  # packages whose errors are the documented ones


def judge(call: Call) -> None:
    """Make the call; raise Failure for what it must not do."""
    before = {name: _bits(value) for name, value in call.arguments.items() if name != "out"}
    tame = _tame(call.arguments)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = call.make()
        except Exception as error:
            judge_error(error, call.arguments, call.foreign)
        else:
            if call.finite and tame and not _finite(result):
                raise Failure(f"NaN or inf from finite arguments: {result!r:.200}")
            if call.hold is not None:
                call.hold(result)
    for warning in warned:
        allowed = issubclass(warning.category, MEANT) or call.foreign
        allowed = allowed or (call.says and call.says in str(warning.message))
        if not allowed and (tame or not issubclass(warning.category, RuntimeWarning)):
            raise Failure(f"{warning.category.__name__}: {warning.message}")
    for name, bits in before.items():
        if _bits(call.arguments[name]) != bits:
            raise Failure(f"{name} was written to")


def judge_error(error: BaseException, names: Iterable[str], foreign: tuple[str, ...] = ()) -> None:
    """Raise Failure if an error was not meant, or does not say which argument it is about."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    found = f"{type(error).__name__}: {error!s:.200} ({place})"
    if isinstance(error, Failure):
        raise error
    if isinstance(error, MemoryError):
        if any(map(_is_many, names.values() if isinstance(names, dict) else ())):
            return
        raise Failure(found) from error
    if foreign and isinstance(error, Refusal):
        return
    if foreign and any(f"/{package}/" in last.filename for package in foreign):
        if isinstance(error, DOCUMENTED) and str(error).strip():
            return
        raise Failure(found) from error
    meant = last.filename.startswith(PACKAGE) and linecache.getline(
        last.filename, last.lineno or 0
    ).strip().startswith("raise")
    if not isinstance(error, DOCUMENTED) or not meant or not str(error).strip():
        raise Failure(found) from error
    if isinstance(error, FloatingPointError | ImportError | OSError):
        return
    if not any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in names):
        raise Failure(f"names no argument: {found}") from error


def judge_reading(error: Exception, path: Path) -> None:
    """Raise Failure unless an error is one that reading the file may have: it names the file."""
    if not isinstance(error, ValueError | OSError) or path.name not in str(error):
        raise Failure(f"{type(error).__name__}: {error!s:.200}") from error


def _is_many(value: Any) -> bool:
    return isinstance(value, int) and value >= MANY


# ---- arguments and results as numbers


def _leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """What a value is made of, as deep as arguments and results go."""
    if depth > 4:
        yield "deep"
    elif isinstance(value, list | tuple):
        for item in value[:50]:
            yield from _leaves(item, depth + 1)
    else:
        yield value


def _numbers(value: Any) -> Iterator[Any]:
    """The real arrays and numbers in it."""
    for leaf in _leaves(value):
        if isinstance(leaf, np.ndarray | np.generic | float) or type(leaf) is int:
            try:
                array = np.asarray(leaf)
            except (ValueError, OverflowError):
                continue
            if array.dtype.kind in "fiu" and not isinstance(leaf, np.ma.MaskedArray):
                yield array


def _finite(result: Any) -> bool:
    return all(bool(np.isfinite(array).all()) for array in _numbers(result))


def _tame(arguments: dict[str, Any]) -> bool:
    """Whether all that is given are numbers of the size that data has."""
    for value in arguments.values():
        for leaf in _leaves(value):
            if type(leaf) is int and abs(leaf) > 10 * TAME:
                return False
            if hasattr(leaf, "__array__") and not isinstance(leaf, np.ndarray | np.generic):
                return False
        for array in _numbers(value):
            if not array.size:
                continue
            largest = float(np.abs(array.astype("f8")).max())
            smallest = float(np.abs(array.astype("f8")).min(where=array != 0, initial=1.0))
            if not smallest > 1 / HUGE or not largest <= TAME:
                return False
    return True


def _bits(value: Any) -> list[bytes]:
    arrays = [leaf for leaf in _leaves(value) if isinstance(leaf, np.ndarray)]
    return [np.ndarray.tobytes(array) for array in arrays]
