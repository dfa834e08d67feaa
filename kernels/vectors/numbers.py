"""A vector as a number of Numba's: functions that a user has compiled for floats, run on all lanes.

A function of arrays is compiled once more, for arrays whose entries are whole vectors, a number of
each task of a group. Then its sums, products and functions of numbers are those of
``elementary``, and its loops are as they are. What asks a number for yes or no (a comparison, a
branch on a parameter) has no meaning for several tasks at once: it does not compile, nor does what
is not here. The types are registered with Numba when this file is imported, which only a model of a
user's functions does.

A division by zero is NaN here, for in the user's function it may be an exception, and so is a power
of a negative number by one that does not stand in the code. A result that is not finite is computed
again, by the function itself.
"""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin, lower_cast
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model
from numba.np import arrayobj

from .elementary import FUNCTIONS, PREPARED, power
from .emitter import REGISTER_BYTES, SCALARS
from .machines import Lanes, Registers


class LaneNumber(types.Type):
    """A number of each task of a group.

    (No `types.Number`: of these Numba asks which NumPy has for a float and it.)
    """

    def __init__(self, scalar: types.Float) -> None:
        self.scalar = scalar
        super().__init__(name=f"lanes({scalar})")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Numbers are the same in every lane."""
        plain = isinstance(other, types.Float | types.Integer | types.IntegerLiteral)
        return Conversion.safe if plain else None

    def unify(self, typingctx: Any, other: Any) -> Any:
        """What a variable is that holds either."""
        return self if self.can_convert_from(typingctx, other) is not None else None


LANE_NUMBERS = {np.dtype(f"float{t.bitwidth}"): LaneNumber(t) for t in SCALARS}


@register_model(LaneNumber)
class _LaneModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, kind: LaneNumber) -> None:
        count = REGISTER_BYTES // (kind.scalar.bitwidth // 8)
        super().__init__(dmm, kind, ir.VectorType(SCALARS[kind.scalar], count))


def _machine(context: Any, builder: Any, kind: LaneNumber) -> Registers:
    m = Registers(context, kind.scalar)
    m.builder = builder
    return m


@lower_cast(types.Float, LaneNumber)
@lower_cast(types.Integer, LaneNumber)
@lower_cast(types.IntegerLiteral, LaneNumber)
def _from_number(context: Any, builder: Any, given: Any, wanted: LaneNumber, value: Any) -> Any:
    number = context.cast(builder, value, given, wanted.scalar)
    return _machine(context, builder, wanted).spread(number).value


# Operations --------------------------------------------------------------------------------------


def _quotient(m: Any, x: Lanes, y: Lanes) -> Lanes:
    return m.where(y == 0.0, float("nan"), x / y)


def _by_library(name: str, m: Any, x: Lanes) -> Lanes:
    return m.library(name, x)


def _log(m: Any, x: Lanes) -> Lanes:
    prepare, finish = PREPARED["log"]
    return finish(m, prepare(m, x), x)


def _sin(m: Any, x: Lanes) -> Lanes:
    return PREPARED["sin"][0](m, x)[0]


def _cos(m: Any, x: Lanes) -> Lanes:
    return PREPARED["sin"][0](m, x)[1]


#: by what stands in a user's function: a function of a machine and of numbers on it
_OPERATIONS: dict[Any, tuple[Any, int]] = {
    operator.add: (FUNCTIONS["add"], 2),
    operator.sub: (lambda m, x, y: x - y, 2),
    operator.mul: (FUNCTIONS["multiply"], 2),
    operator.truediv: (_quotient, 2),
    operator.neg: (FUNCTIONS["negative"], 1),
    operator.pos: (lambda m, x: x, 1),
    abs: (FUNCTIONS["abs"], 1),
    math.fabs: (FUNCTIONS["abs"], 1),
    np.abs: (FUNCTIONS["abs"], 1),
    np.square: (lambda m, x: x * x, 1),
    math.log: (_log, 1),
    np.log: (_log, 1),
    math.sin: (_sin, 1),
    np.sin: (_sin, 1),
    math.cos: (_cos, 1),
    np.cos: (_cos, 1),
    np.power: (power, 2),
    math.pow: (power, 2),
}
#: functions of the C library, one lane at a time, and NumPy's words for them
_OF_LIBRARY = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh",
    "atanh": "arctanh", "erf": "", "log1p": "log1p", "expm1": "expm1", "log10": "log10",
}  # fmt: skip
for _name, _word in _OF_LIBRARY.items():
    for _symbol in (getattr(math, _name), getattr(np, _word, None)):
        if _symbol is not None:
            _OPERATIONS[_symbol] = partial(_by_library, _name), 1
for _name in ("add", "sub", "mul", "truediv"):  # += and the like
    _OPERATIONS[getattr(operator, f"i{_name}")] = _OPERATIONS[getattr(operator, _name)]
for _name in ("exp", "sqrt", "tan", "tanh", "sinh", "cosh"):
    for _module in (math, np):
        _OPERATIONS[getattr(_module, _name)] = FUNCTIONS[_name], 1


def _register(symbol: Any, function: Any, count: int) -> None:
    class _Template(AbstractTemplate):
        key = symbol

        def generic(self, args: Any, kws: Any) -> Any:
            return None if kws else _signature(args, count)

    # As a decorator it would ask for the symbol's module, which NumPy 2.0's functions have not.
    infer_global(symbol, types.Function(_Template))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        m = _machine(context, builder, sig.return_type)
        return function(m, *(Lanes(m, value) for value in args)).value

    lower_builtin(symbol, *[LaneNumber] * count)(lower)


def _signature(args: Any, count: int) -> Any:
    """That of an operation, if one of its arguments is a vector and the others are numbers."""
    found = [each for each in args if isinstance(each, LaneNumber)]
    if len(args) != count or not found:
        return None
    kind = found[0]
    for each in args:
        if each != kind and kind.can_convert_from(None, each) is None:
            return None
    return signature(kind, *[kind] * count)


for _symbol, (_function, _count) in _OPERATIONS.items():
    _register(_symbol, _function, _count)


class _Power(AbstractTemplate):
    """Products for a whole exponent that stands in the code, else by the logarithm."""

    key = operator.pow

    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], LaneNumber):
            if isinstance(args[1], types.IntegerLiteral):
                return signature(args[0], *args)
            if isinstance(args[1], types.Integer):  # whose value is asked for first
                return None
        return _signature(args, 2)


class _InplacePower(_Power):
    key = operator.ipow


infer_global(operator.pow)(_Power)
infer_global(operator.ipow)(_InplacePower)


@lower_builtin(operator.pow, LaneNumber, types.IntegerLiteral)
@lower_builtin(operator.ipow, LaneNumber, types.IntegerLiteral)
def _lower_whole_power(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    m, exponent = _machine(context, builder, sig.return_type), sig.args[1].literal_value
    base, result, left = Lanes(m, args[0]), m.constant(1.0), abs(exponent)
    while left:
        if left % 2:
            result = base if left == abs(exponent) else result * base
        base, left = base * base, left // 2
    return (_quotient(m, m.constant(1.0), result) if exponent < 0 else result).value


@lower_builtin(operator.pow, LaneNumber, LaneNumber)
@lower_builtin(operator.ipow, LaneNumber, LaneNumber)
def _lower_power(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    m = _machine(context, builder, sig.return_type)
    return power(m, *(Lanes(m, value) for value in args)).value


# Arrays ------------------------------------------------------------------------------------------


def array_type(dtype: np.dtype, axes: int) -> types.Array:
    """An array of vectors, which may begin anywhere."""
    return types.Array(LANE_NUMBERS[np.dtype(dtype)], axes, "C", aligned=False)


def _array(context: Any, builder: Any, kind: types.Array, pointer: Any, shape: list[Any]) -> Any:
    array = context.make_array(kind)(context, builder)
    size = context.get_constant(types.intp, REGISTER_BYTES)
    strides = [size] if len(shape) == 1 else [builder.mul(shape[1], size), size]
    data = builder.bitcast(pointer, array.data.type)
    arrayobj.populate_array(
        array, data=data, shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides), itemsize=size, meminfo=None,
    )  # fmt: skip
    return array._getvalue()


def _dtype_of(pointer: types.CPointer) -> np.dtype:
    return np.dtype(f"float{pointer.dtype.bitwidth}")


@intrinsic
def lane_run(typingctx, pointer, n):
    """Vectors behind a pointer to numbers as an array (n,)."""
    kind = array_type(_dtype_of(pointer), 1)

    def emit(context, builder, sig, args):
        return _array(context, builder, kind, args[0], [args[1]])

    return kind(pointer, types.int64), emit


@intrinsic
def lane_rows(typingctx, pointer, rows, n):
    """The same as one (rows, n)."""
    kind = array_type(_dtype_of(pointer), 2)

    def emit(context, builder, sig, args):
        return _array(context, builder, kind, args[0], [args[1], args[2]])

    return kind(pointer, types.int64, types.int64), emit
