"""Functions that a user has compiled: whether they compile for given types and complex numbers.

A complex step (``models.completed``) differentiates what it can see: sums, products and analytic
functions. What hides the imaginary part compiles all the same, and the result is wrong without a
word: the size of a complex number; its conjugate; and an integer power, which Numba takes by
logarithms, so that of a negative base the imaginary part is lost in rounding. Numba's own record of
a function, which says what is called with which types, is searched for these three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from numba import config, njit, types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

from .link import Types


def is_compiled(function: Any) -> bool:
    """Whether it is what ``numba.njit`` returns (any function, where the JIT is off)."""
    return callable(function) if config.DISABLE_JIT else isinstance(function, Dispatcher)


def python_of(function: Any) -> Any:
    """The Python function that was compiled."""
    return getattr(function, "py_func", function)


def name_of(function: Any) -> str:
    """What a user calls it."""
    return str(getattr(python_of(function), "__qualname__", function)).rsplit(".", 1)[-1]


def result_for(function: Any, arguments: Types) -> types.Type:
    """Compile a function for the types of its arguments, and return the type of its result.

    Raises
    ------
    TypeError
        If it does not compile; the text is a reason in one line, its cause Numba's error.
    """
    if config.DISABLE_JIT:
        return types.none
    try:
        called = types.Dispatcher(function).get_call_type(cpu_target.typing_context, arguments, {})
    except NumbaError as error:
        raise TypeError(_reason(str(error))) from error
    if called is None:
        raise TypeError(f"it was compiled for {', '.join(map(str, function.signatures))} alone")
    return called.return_type


def _reason(text: str) -> str:
    """The line of Numba's message that says most."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    where = [line for line in lines if re.match(r'File ".*line \d+', line)]
    shown = [line for line in lines if line.startswith(">>> ")]  # the call that has no version
    head = [line for line in lines if not line.startswith(("Failed in nopython", "File"))][:1]
    said = f"there is no {shown[0][4:]}" if shown else (head or ["no reason given"])[0]
    place = re.search(r"line \d+", where[0]) if where else None
    return said[:160] + (f" ({place[0].rstrip(':')})" if place else "")


# What a complex step does not see ----------------------------------------------------------------


def hides(function: Any, arguments: Types) -> str | None:
    """What in a function hides the imaginary part, in words; None if nothing was found.

    It has been compiled for these types. Functions that it calls are searched as well.
    """
    return None if config.DISABLE_JIT else next(_hidden(function, arguments, set()), None)


def _hidden(function: Any, arguments: Types, seen: set[Any]) -> Iterator[str]:
    if (function, arguments) in seen:
        return
    seen.add((function, arguments))
    compiled = function.overloads.get(arguments)
    notes: Any = getattr(compiled, "type_annotation", None)
    if compiled is not None and not hasattr(notes, "calltypes"):  # from the disk, without a record
        fresh = njit(function.py_func)
        fresh.compile(arguments)
        notes = fresh.overloads[arguments].type_annotation
    for expression, signature in getattr(notes, "calltypes", {}).items():
        if signature is None or not any(map(_is_complex, signature.args)):
            continue
        line = f" (line {expression.loc.line})"
        operation = getattr(expression, "op", "")
        if operation in ("binop", "inplace_binop"):
            symbol = getattr(expression.fn, "__name__", "")
            if symbol in ("pow", "ipow") and _counts(notes.typemap[expression.rhs.name]):
                yield f"an integer power{line}; write it as products"
        elif operation == "call":
            called = notes.typemap[expression.func.name]
            if isinstance(called, types.Dispatcher):
                yield from _hidden(called.dispatcher, tuple(signature.args), seen)
                continue
            name = str(getattr(getattr(called, "typing_key", None), "__name__", called))
            if name == "power" and _counts(signature.args[1]):
                yield f"an integer power{line}; write it as products"
            elif "conj" in name or name in _CONJUGATING:
                yield f"a conjugate{line}"
            elif name != "real" and _is_real(signature.return_type):
                yield f"{name} of a complex number{line}"


#: functions of NumPy that take the conjugate of an argument
_CONJUGATING = ("vdot", "cov", "corrcoef")


def _is_complex(kind: types.Type) -> bool:
    return isinstance(getattr(kind, "dtype", kind), types.Complex)


def _is_real(kind: types.Type) -> bool:
    return isinstance(getattr(kind, "dtype", kind), types.Float)


def _counts(kind: types.Type) -> bool:
    """Whether an exponent is an integer, but for those whose powers are products."""
    if isinstance(kind, types.IntegerLiteral):
        return kind.literal_value not in (0, 1, 2)
    return isinstance(getattr(kind, "dtype", kind), types.Integer)
