"""One ``as_*`` function for each kind of argument: the normalised value, or a clear error.

``TypeError`` says that the kind or dtype is wrong (complex, object, text, masked arrays, ``None``),
``ValueError`` that the shape or a value is. Each text names the argument, what was given and what
is accepted. No function here writes to what it was given.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import reprlib
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "all_finite",
    "as_array",
    "as_choice",
    "as_count",
    "as_dtype",
    "as_flag",
    "as_float_dtype",
    "as_number",
    "as_positive",
    "as_rng",
    "holds_masked",
    "physical_memory",
    "real_array",
    "require_finite",
    "require_memory",
    "require_size",
    "shape_text",
    "shown",
]

FLOAT32: np.dtype[Any] = np.dtype(np.float32)
FLOAT64: np.dtype[Any] = np.dtype(np.float64)

#: the largest size of a number that says how to compute: a specification serves both dtypes
LARGEST = float(np.finfo(np.float32).max)
#: how deep lists may be nested: as many axes as an array of NumPy 2 can have
MAX_DEPTH = 64
#: what an array of NumPy and a file can hold; and as many digits as NumPy takes from the system
MAX_COUNT, MAX_SEED = 2**63 - 1, 2**128 - 1


# Words -------------------------------------------------------------------------------------------

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 5
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 30
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200


def shown(value: Any, width: int = 60) -> str:
    """Return the beginning of ``repr(value)``, whatever that is: nothing that is given breaks it.

    >>> shown([[[[[[[[0.0]]]]]]]]), shown("a word")
    ('[[[[[[...]]]]]]', "'a word'")
    """
    try:
        return _SHORT.repr(value)[:width]
    except Exception:  # a repr that raises, or an int of more digits than Python prints
        return f"<{type(value).__name__}>"


#: where Linux says what a container may have; the older file holds a huge number for "no limit"
CONTAINER_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


@lru_cache(maxsize=1)
def physical_memory() -> int:
    """Bytes of the machine's or the container's memory, or 8 GiB where that is unknown."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        memory = 8 << 30
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            memory = min(memory, int(file.read()))  # the word "max" is no number
    return memory


def require_memory(needed: int, what: str) -> None:
    """Raise MemoryError if `what` takes more bytes than the machine has memory.

    NumPy's own error comes late and names no argument, or not at all: Linux promises memory that
    it does not have, and ends the process that uses it.
    """
    memory = physical_memory()
    if needed > memory:
        raise MemoryError(
            f"{what} would take {needed / 2**30:.3g} GiB; this machine has {memory / 2**30:.3g} GiB"
        )


# Arrays ------------------------------------------------------------------------------------------


def real_array(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an ndarray of real numbers, of whatever dtype and layout it has.

    Accepts nested sequences and anything with ``__array__``; booleans count as 0 and 1.
    """
    if type(value) is np.ndarray:
        array = value
    elif value is None:
        raise TypeError(f"{name} is None; accepted are arrays of real numbers")
    elif isinstance(value, str | bytes):
        raise TypeError(f"{name} is text, {shown(value, 40)}; accepted are arrays of real numbers")
    elif holds_masked(name, value):
        # np.asarray would drop the mask without a word and compute with the masked values.
        raise TypeError(
            f"{name} is a masked array; accepted are plain arrays (fill or drop what is masked)"
        )
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"{name} is no regular array; accepted are arrays of real numbers ({error})"
            ) from error
        except Exception as error:  # whatever a foreign __array__ raises
            raise TypeError(
                f"{name} is a {type(value).__name__} that NumPy cannot convert; "
                f"accepted are arrays of real numbers ({error})"
            ) from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} has dtype {array.dtype}; accepted are real numbers (float, integer or bool)"
        )
    return array


def as_array(name: str, value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `value` as a C-contiguous, aligned, native array of `dtype`; no copy if it is one.

    What comes back is for reading only. It is nevertheless always flagged writeable: a read-only
    array is another type to Numba, and so another compilation of the whole kernel.
    """
    array = real_array(name, value)
    if array.dtype == dtype and array.flags.carray:
        return array
    # A number too large for `dtype` becomes inf here; the check for finite values names it.
    with np.errstate(all="ignore"):
        array = np.require(array, dtype, ["C", "A"])
    return array if array.flags.writeable else np.asarray(_Writeable(array))


class _Writeable:
    """The memory of a read-only array, described as writeable, so that it needs no copy."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array  # keeps the memory alive
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def holds_masked(name: str, value: Any, depth: int = 0) -> bool:
    """Return whether `value` is, or a nested list holds, a masked array."""
    if isinstance(value, list | tuple):
        if depth == MAX_DEPTH:  # or a list that holds itself
            raise ValueError(
                f"{name} is nested more than {MAX_DEPTH} deep; accepted are arrays of real numbers"
            )
        return any(holds_masked(name, item, depth + 1) for item in value)
    if type(value) is np.ndarray or not isinstance(value, np.ndarray):
        return False  # without np.ma, which NumPy only imports here
    return isinstance(value, np.ma.MaskedArray)


def all_finite(array: NDArray[Any], other: NDArray[Any] | None = None) -> bool:
    """Return whether no entry of a contiguous float array is NaN or inf, nor of another."""
    # A sum of squares has no cancellation, so it is finite unless an entry is not, or is huge: then
    # the full scan decides. Nor is a sum of products finite if a factor of one is not. np.vdot is
    # the cheapest way to it and, unlike sum and dot, never warns of overflow. Long arrays are
    # scanned at once: on them vdot would start the threads of BLAS, which go on spinning on the
    # cores that the kernel needs next.
    if other is None or other.size == array.size:
        factor = array if other is None else other
        if array.size <= 8192 and math.isfinite(np.vdot(array, factor)):
            return True
        return bool(np.isfinite(array).all()) and (other is None or bool(np.isfinite(other).all()))
    return all_finite(array) and all_finite(other)


def require_finite(name: str, array: NDArray[Any], axes: Sequence[str] = ()) -> None:
    """Raise ValueError if `array` holds NaN or inf; `axes` are words for its axes, if any."""
    if not all_finite(array):
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = ", ".join(f"{word} {i}" for word, i in zip(axes, first, strict=False))
        raise ValueError(
            f"{name} holds {array[first]}{' at ' if where else ''}{where}; "
            f"accepted are finite {array.dtype} numbers"
        )


def shape_text(shape: Sequence[int | str]) -> str:
    """Return a shape as Python writes it; words stand for sizes that are free.

    >>> shape_text(("n_tasks", "rows", 1)), shape_text((5,))
    ('(n_tasks, rows, 1)', '(5,)')
    """
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def as_dtype(name: str, value: Any) -> np.dtype[Any]:
    """Return the dtype to compute in: float32 for float32, float64 for every other real dtype."""
    given = real_array(name, value).dtype
    return FLOAT32 if given.kind == "f" and given.itemsize == 4 else FLOAT64


def as_float_dtype(name: str, value: Any) -> np.dtype[Any]:
    """Return the dtype that `value` names, which must be float32 or float64."""
    try:
        dtypes = [d for d in (FLOAT32, FLOAT64) if value is not None and np.dtype(value) == d]
    except Exception:  # no dtype at all
        dtypes = []
    if not dtypes:
        raise TypeError(f"{name} is {shown(value)}; accepted are float32 and float64")
    return dtypes[0]


# Scalars -----------------------------------------------------------------------------------------

_UP_TO_LARGEST = f"accepted are numbers that float32 can hold, up to {LARGEST:.3g}"


def require_size(name: str, array: NDArray[Any]) -> None:
    """Raise ValueError if an entry is larger than `as_number` accepts."""
    largest = np.abs(array).max(initial=0.0)
    if largest > LARGEST:
        raise ValueError(f"{name} holds a number of size {largest:.3g}; {_UP_TO_LARGEST}")


def as_choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return `value`, which must be one of the words in `allowed`."""
    accepted = ", ".join(map(repr, allowed))
    if not isinstance(value, str):
        raise TypeError(f"{name} is {shown(value)}; accepted are the words {accepted}")
    if value not in allowed:
        raise ValueError(f"{name} is {shown(value)}; accepted are {accepted}")
    return str(value)


def as_flag(name: str, value: Any) -> bool:
    """Return a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {shown(value)}; accepted are True and False")
    return bool(value)


def as_count(name: str, value: Any, minimum: int = 0, maximum: int = MAX_COUNT) -> int:
    """Return an int within bounds, both included; NumPy integers are integers, bools are not."""
    accepted = f"accepted are integers of at least {minimum}"
    if maximum < MAX_COUNT:
        accepted += f" and at most {maximum}"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {shown(value)}; {accepted}") from None
    if not minimum <= count <= maximum:
        if count > MAX_COUNT <= maximum:
            accepted += f" and at most {maximum}"
        raise ValueError(f"{name} is {shown(count)}; {accepted}")
    return count


def as_number(name: str, value: Any) -> float:
    """Return one real number as a float, finite in float32; arrays of shape () count, bools do not.

    A size that float32 cannot hold is an error in float64 too: nothing that is computed from it
    would be finite for long.
    """
    try:
        array = real_array(name, value)
        accepted = array.shape == () and array.dtype.kind != "b"
    except (TypeError, ValueError):
        accepted = False
    if not accepted:
        raise TypeError(f"{name} is {shown(value)}; accepted is one real number")
    number = float(array)
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}; accepted are finite numbers")
    if abs(number) > LARGEST:
        raise ValueError(f"{name} is {number}; {_UP_TO_LARGEST}")
    return number


def as_positive(name: str, value: Any) -> float:
    """Return one finite number above zero as a float."""
    number = as_number(name, value)
    if number <= 0.0:
        raise ValueError(f"{name} is {number}; accepted are numbers above 0")
    return number


def as_rng(name: str, value: Any) -> np.random.Generator:
    """Return a random generator from a seed, a Generator (itself) or None (fresh entropy)."""
    if value is None or isinstance(value, np.random.Generator):
        return np.random.default_rng(value)
    try:
        return np.random.default_rng(as_count(name, value, 0, MAX_SEED))
    except TypeError:
        raise TypeError(
            f"{name} is {shown(value)}; accepted are a seed (an integer of at least 0), "
            "a numpy.random.Generator and None"
        ) from None
