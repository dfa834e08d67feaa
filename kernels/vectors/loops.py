"""Loops over rows of vectors, on the two machines that programs run on.

What a loop does is written once, as a function of a `RegisterRows`, which emits it as LLVM
instructions on whole registers, or an `ArrayRows`, which runs it with NumPy where the JIT is off. A
matrix (rows, width) of vectors lies row by row; a pointer to its first number and the width find
one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from .emitter import LANES
from .machines import Arrays, Lanes, Registers


class RegisterRows:
    """Vectors in memory, and the loop over rows, as LLVM instructions."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.m, self.b, self.int = Registers(context, dtype), builder, ir.IntType(64)
        self.m.builder = builder

    def _value(self, number: Any) -> Any:
        return ir.Constant(self.int, number) if isinstance(number, int) else number

    def _at(self, pointer: Any, row: Any, width: Any, column: int) -> Any:
        """Vector ``row * width + column``."""
        b, index = self.b, ir.Constant(self.int, column)
        if not isinstance(row, int):
            index = b.add(b.mul(row, self._value(width)), index)
        return b.gep(pointer, [b.mul(index, ir.Constant(self.int, self.m.lanes))])

    def load(self, pointer: Any, row: Any, width: Any, column: int) -> Lanes:
        """A vector of a matrix (rows, width) of them."""
        return self.m.load(self._at(pointer, row, width, column))

    def store(self, value: Any, pointer: Any, row: Any, width: Any, column: int) -> None:
        """Write one."""
        self.m.store(value, self._at(pointer, row, width, column))

    def _places(self, count: Any, stride: Any, column: Any) -> list[Any]:
        b, last = self.b, self.b.sub(count, self._value(1))
        rows = (self._value(lane) for lane in range(self.m.lanes))
        rows = (b.select(b.icmp_signed("<", last, row), last, row) for row in rows)
        return [b.add(b.mul(row, stride), self._value(column)) for row in rows]

    def gather(self, pointer: Any, count: Any, stride: Any, column: Any = 0) -> Lanes:
        """A number of each of so many rows, of either dtype; beyond them that of the last."""
        b, m, kind = self.b, self.m, pointer.type.pointee
        result = ir.Constant(ir.VectorType(kind, m.lanes), ir.Undefined)
        for lane, place in enumerate(self._places(count, stride, column)):
            number = b.load(b.gep(pointer, [place]))
            result = b.insert_element(result, number, ir.Constant(ir.IntType(32), lane))
        return Lanes(m, result if kind == m.scalar else b.fpext(result, m.vector))

    def scatter(self, value: Lanes, pointer: Any, count: Any, stride: Any, column: Any) -> None:
        """Write a number of each row: beyond the last it is that of the last once more."""
        b, m, kind = self.b, self.m, pointer.type.pointee
        result = value.value
        if kind != m.scalar:
            result = b.fptrunc(result, ir.VectorType(kind, m.lanes))
        for lane, place in enumerate(self._places(count, stride, column)):
            number = b.extract_element(result, ir.Constant(ir.IntType(32), lane))
            b.store(number, b.gep(pointer, [place]))

    def sum(self, column: Any, other: Any) -> Any:
        """The column so far behind one."""
        return self.b.add(self._value(column), self._value(other))

    def spread(self, number: Any) -> Lanes:
        """A number, of either kind, in every lane."""
        if isinstance(number.type, ir.IntType):
            number = self.b.sitofp(number, self.m.scalar)
        return self.m.spread(number)

    def number(self, pointer: Any, index: int) -> Lanes:
        """A float64 in every lane."""
        b = self.b
        number = b.load(b.gep(pointer, [ir.Constant(self.int, index)]))
        return self.m.spread(b.fptrunc(number, self.m.scalar) if self.m.itemsize == 4 else number)

    def rows(self, count: Any, start: list[Lanes], body: Any) -> list[Lanes]:
        """``totals = body(row, totals)`` for each row, of which there is one; in registers."""
        return row_loop(self.m, self.b, count, 1, start, body)


def row_loop(
    m: Registers, b: Any, count: Any, step: int, start: list[Lanes], body: Any
) -> list[Lanes]:
    """``values = body(row, values)`` for every step-th row, of which there is one.

    The values stay in registers.
    """
    integer = ir.IntType(64)
    entry, head = b.block, b.append_basic_block("rows")
    done = b.append_basic_block("rows.done")
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(integer)
    index.add_incoming(ir.Constant(integer, 0), entry)
    carried = [b.phi(m.vector) for _ in start]
    for phi, value in zip(carried, start, strict=True):
        phi.add_incoming(value.value, entry)
    values = body(index, [Lanes(m, phi) for phi in carried])
    following = b.add(index, ir.Constant(integer, step))
    index.add_incoming(following, b.block)
    for phi, value in zip(carried, values, strict=True):
        phi.add_incoming(value.value, b.block)
    b.cbranch(b.icmp_signed("<", following, count), head, done)
    b.position_at_end(done)
    return values


class ArrayRows:
    """The same with NumPy."""

    def __init__(self, dtype: np.dtype) -> None:
        self.m, self.lanes = Arrays(dtype), LANES[dtype]

    def _at(self, row: int, width: int, column: int) -> slice:
        start = (row * width + column) * self.lanes
        return slice(start, start + self.lanes)

    def load(self, memory: Any, row: int, width: int, column: int) -> Any:
        """A vector of a matrix (rows, width) of them."""
        return memory[self._at(row, width, column)]

    def store(self, value: Any, memory: Any, row: int, width: int, column: int) -> None:
        """Write one."""
        memory[self._at(row, width, column)] = value

    def _places(self, count: int, stride: int, column: int) -> Any:
        return np.minimum(np.arange(self.lanes), count - 1) * stride + column

    def gather(self, memory: Any, count: int, stride: int, column: int = 0) -> Any:
        """A number of each of so many rows, of either dtype; beyond them that of the last."""
        return memory[self._places(count, stride, column)].astype(self.m.dtype)

    def scatter(self, value: Any, memory: Any, count: int, stride: int, column: int) -> None:
        """Write a number of each row: beyond the last it is that of the last once more."""
        memory[self._places(count, stride, column)] = value

    def sum(self, column: int, other: int) -> int:
        """The column so far behind one."""
        return column + other

    def spread(self, number: Any) -> Any:
        """A number, of either kind, in every lane."""
        return self.m.constant(number)

    def number(self, memory: Any, index: int) -> Any:
        """A float64 in the dtype."""
        return self.m.constant(memory[index])

    def rows(self, count: int, totals: list[Any], body: Any) -> list[Any]:
        """``totals = body(row, totals)`` for each row."""
        for row in range(count):
            totals = body(row, totals)
        return totals


def operation(names: str, write: Callable[..., None], *given: Any, of: str = "x") -> Any:
    """``write(rows, *given, *operands)`` as compiled code calls it, with operands of such names.

    One of them, ``of``, is a pointer to numbers of the vectors' dtype.
    """
    place = names.split().index(of)
    if config.DISABLE_JIT:

        def plain(*operands: Any) -> None:
            with np.errstate(all="ignore"):
                write(ArrayRows(operands[place].dtype), *given, *operands)

        return plain

    def definition(typingctx, *operands):
        dtype = operands[place].dtype

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            write(RegisterRows(context, builder, dtype), *given, *values)
            return context.get_dummy_value()

        return types.void(*operands), emit

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("typingctx", *names.split())]
    definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(definition)
