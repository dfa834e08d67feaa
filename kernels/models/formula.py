"""The five passes of a formula, written from its program for the vector registers.

The rows of a block are worked a vector at a time; lanes behind the last row compute what the
vector's first row does, and their deltas are zero. What a row-independent node is worth stands in
registers before the loop. ``forward`` for gradients keeps the slopes, and what the curvature shares
with them, a vector for each of ``Program.kept`` after another:

* backward     ``g_j  = sum_rows delta_o slope_oj``
* R-forward    ``Rf_o = sum_j slope_oj v_j``
* R-backward   ``hv_j = sum_rows Rdelta_o slope_oj + delta_o bend_oj``

Where the JIT is off, the same programs run on arrays of all rows (``formula_arrays``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from ..compile.link import linked
from ..vectors.elementary import FUNCTIONS
from ..vectors.loops import row_loop
from ..vectors.machines import Lanes, Registers
from .formula_arrays import (
    plain_backward,
    plain_derive,
    plain_forward,
    plain_r_backward,
    plain_r_forward,
)  # fmt: skip
from .formula_table import places_of
from .passes import Passes
from .programs import Program, entries_of, evaluate

# As vector instructions --------------------------------------------------------------------------


class _Writer:
    """One pass, as it is written: the machine, the program, and the operands of the call."""

    def __init__(self, context: Any, builder: Any, program: Program, dtype: Any) -> None:
        self.m, self.b, self.program = Registers(context, dtype), builder, program
        self.m.builder = builder
        self.places = places_of(program, self.m.lanes)
        self.int = ir.IntType(64)

    def number(self, value: int) -> Any:
        """An int64."""
        return ir.Constant(self.int, value)

    def at(self, pointer: Any, index: Any) -> Any:
        """A pointer moved on."""
        index = self.number(index) if isinstance(index, int) else index
        return self.b.gep(pointer, [index])

    def before(self, w: Any, c: Any, v: Any, wanted: Any, known: Any = ()) -> dict[int, Lanes]:
        """The values of all row-independent nodes that the wanted ones are made of."""
        program, pointers = self.program, {"parameter": w, "direction": v}
        outside = program.outside(wanted, known)
        values = {
            node: self.m.splat(self.at(c, program.slots[node]))
            for node in outside
            if node in program.slots
        }
        for node in outside:
            op, *args = program.nodes[node]
            if op in pointers:
                values[node] = self.m.splat(self.at(pointers[op], args[0]))
        return evaluate(self.m, program, outside, values)

    def rows(self, memory: Any, count: Any, start: list[Lanes], body: Any) -> list[Lanes]:
        """``values = body(vector, values)`` for each vector of rows; values stay in registers."""

        def of_rows(index: Any, values: list[Lanes]) -> list[Lanes]:
            mask = self.m.first_lanes(self.b.sub(count, index))
            return body(_Vector(self, memory, count, index, mask), values)

        return row_loop(self.m, self.b, count, self.m.lanes, start, of_rows)

    def add_sums(self, totals: list[Lanes], out: Any, add: Any) -> None:
        """The sums of vectors, one for each parameter, to a padded vector, or added to it."""
        m, b = self.m, self.b
        flag = b.icmp_signed("!=", add, self.number(0))
        for first in range(0, len(totals), m.lanes):
            sums, target = m.sums(totals[first : first + m.lanes]), self.at(out, first)
            with b.if_else(flag) as (then, otherwise):
                with then:
                    m.store(m.load(target) + sums, target)
                with otherwise:
                    m.store(sums, target)


class _Vector:
    """Some rows of a block, a lane for each."""

    def __init__(self, writer: _Writer, memory: Any, count: Any, index: Any, mask: Any) -> None:
        self.writer, self.memory, self.count = writer, memory, count
        self.index, self.mask = index, mask

    def _place(self, place: int, width: int, column: int) -> Any:
        """Where a column of a matrix begins, which lies at so many numbers for each row."""
        w, b = self.writer, self.writer.b
        start = b.mul(self.count, w.number(place))
        row = b.mul(self.index, w.number(width))
        return w.at(self.memory, b.add(b.add(start, row), w.number(column)))

    def column(self, place: int, width: int, column: int, rest: Any = 0.0) -> Lanes:
        """A column of a matrix; behind the rows ``rest``, or the first row's number for None."""
        m = self.writer.m
        pointer = self._place(place, width, column)
        return m.where(
            self.mask, m.gather(pointer, width), m.splat(pointer) if rest is None else rest
        )

    def put(self, value: Lanes, place: int, width: int, column: int) -> None:
        """Write a column."""
        self.writer.m.scatter(value, self._place(place, width, column), width)

    def inputs(self, wanted: Any, known: Any = ()) -> dict[int, Lanes]:
        """The inputs that nodes are made of."""
        program = self.writer.program
        return {
            node: self.column(0, program.n_inputs, program.nodes[node][1], None)
            for node in program.needed(wanted, known)
            if program.nodes[node][0] == "input"
        }

    def kept_at(self, number: int) -> Any:
        """Where a kept vector lies."""
        w, b, program = self.writer, self.writer.b, self.writer.program
        start = b.mul(self.count, w.number(w.places.kept))
        row = b.mul(self.index, w.number(len(program.kept)))
        more = w.number(w.places.spill + number * w.m.lanes)
        return w.at(self.memory, b.add(b.add(start, row), more))

    def kept(self, wanted: Any) -> dict[int, Lanes]:
        """Those kept values that nodes are made of."""
        program, m = self.writer.program, self.writer.m
        reached = {*wanted, *program.used_by(program.needed(wanted, program.kept))}
        return {
            node: m.load(self.kept_at(number))
            for node, number in program.kept.items()
            if node in reached
        }


def _write_derive(w: _Writer, values: Any) -> None:
    at, c = values
    m, program = w.m, w.program
    vectors: dict[tuple[str, int], Lanes] = {}  # functions of whole vectors of parameters
    known = {}
    for node in program.needed(program.slots):
        op, *args = program.nodes[node]
        name = ""
        if op in FUNCTIONS and len(args) == 1 and program.nodes[args[0]][0] == "parameter":
            name, args = op, list(program.nodes[args[0]][1:])
        if name or op == "parameter":
            first, lane = args[0] // m.lanes * m.lanes, args[0] % m.lanes
            if (name, first) not in vectors:
                vector = m.load(w.at(at, first))
                vectors[name, first] = FUNCTIONS[name](m, vector) if name else vector
            known[node] = m.lane(vectors[name, first], lane)
    found = evaluate(m, program, program.slots, known)
    for node, slot in program.slots.items():
        lane = w.b.extract_element(found[node].value, ir.Constant(ir.IntType(32), 0))
        w.b.store(lane, w.at(c, slot))


def _write_forward(w: _Writer, values: Any) -> None:
    memory, count, at, c, order = values
    program, n_out = w.program, w.program.n_outputs

    def write(wanted: Any, keep: bool) -> None:
        before = w.before(at, c, None, wanted)

        def body(vector: _Vector, _: Any) -> list[Lanes]:
            known = {**before, **vector.inputs(wanted)}
            found = evaluate(w.m, program, wanted, known)
            for o, node in enumerate(program.f):
                vector.put(found[node], w.places.f, n_out, o)
            for node, number in program.kept.items() if keep else ():
                w.m.store(found[node], vector.kept_at(number))
            return []

        w.rows(memory, count, [], body)

    flag = w.b.icmp_signed(">", order, w.number(0))
    with w.b.if_else(flag) as (then, otherwise):
        with then:
            write(program.with_slopes, True)
        with otherwise:
            write(program.f, False)


def _write_backward(w: _Writer, values: Any) -> None:
    memory, count, at, c, g, add = values
    program, n_out, m = w.program, w.program.n_outputs, w.m
    before = w.before(at, c, None, entries_of(program.slopes), program.kept)

    def body(vector: _Vector, totals: list[Lanes]) -> list[Lanes]:
        known = {**before, **vector.kept(entries_of(program.slopes))}
        known.update(vector.inputs(entries_of(program.slopes), known))
        for o, slopes in enumerate(program.slopes):
            delta = vector.column(w.places.delta, n_out, o)
            totals = [
                total if node is None else m.fma(delta, known[node], total)
                for total, node in zip(totals, slopes, strict=True)
            ]
        return totals

    start = [m.constant(0.0)] * program.n_params
    w.add_sums(w.rows(memory, count, start, body), g, add)


def _write_r_forward(w: _Writer, values: Any) -> None:
    memory, count, at, c, along = values
    program, n_out, m = w.program, w.program.n_outputs, w.m
    before = w.before(at, c, along, entries_of(program.slopes), program.kept)
    v = [m.splat(w.at(along, j)) for j in range(program.n_params)]

    def body(vector: _Vector, _: Any) -> list[Lanes]:
        known = {**before, **vector.kept(entries_of(program.slopes))}
        known.update(vector.inputs(entries_of(program.slopes), known))
        for o, slopes in enumerate(program.slopes):
            total = m.constant(0.0)
            for node, each in zip(slopes, v, strict=True):
                total = total if node is None else m.fma(known[node], each, total)
            vector.put(total, w.places.rf, n_out, o)
        return []

    w.rows(memory, count, [], body)


def _write_r_backward(w: _Writer, values: Any) -> None:
    memory, count, at, c, along, hv, add = values
    program, n_out, m = w.program, w.program.n_outputs, w.m
    wanted = [*entries_of(program.slopes), *entries_of(program.bends)]
    before = w.before(at, c, along, wanted, program.kept)

    def body(vector: _Vector, totals: list[Lanes]) -> list[Lanes]:
        known = {**before, **vector.kept(wanted)}
        known.update(vector.inputs(wanted, known))
        found = evaluate(m, program, wanted, known)
        for o, (slopes, bends) in enumerate(zip(program.slopes, program.bends, strict=True)):
            delta = vector.column(w.places.delta, n_out, o)
            r_delta = vector.column(w.places.r_delta, n_out, o)
            for node_of, factor in ((slopes, r_delta), (bends, delta)):
                totals = [
                    total if node is None else m.fma(factor, found[node], total)
                    for total, node in zip(totals, node_of, strict=True)
                ]
        return totals

    start = [m.constant(0.0)] * program.n_params
    w.add_sums(w.rows(memory, count, start, body), hv, add)


# As linked functions -----------------------------------------------------------------------------


def _operation(
    names: str, program: Program, write: Callable[..., None], plain: Callable[..., None]
) -> Any:
    """A pass of a program as compiled code calls it, with operands of such names."""
    if config.DISABLE_JIT:
        return lambda *operands: plain(program, *operands)

    def definition(typingctx, *operands):
        dtype = operands[0].dtype

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            write(_Writer(context, builder, program, dtype), values)
            return context.get_dummy_value()

        return types.void(*operands), emit

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("typingctx", *names.split())]
    definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(definition)


def _derive_of(program: Program) -> Any:
    operation = _operation("w c", program, _write_derive, plain_derive)

    def derive(net, w, c):
        operation(w, c)

    return derive


def _forward_of(program: Program) -> Any:
    operation = _operation("memory rows w c order", program, _write_forward, plain_forward)

    def forward(net, block, at, order):
        operation(block.memory, block.rows, at.w, at.c, order)

    return forward


def _backward_of(program: Program) -> Any:
    operation = _operation("memory rows w c g add", program, _write_backward, plain_backward)

    def backward(net, block, at, order, g, add):
        operation(block.memory, block.rows, at.w, at.c, g, add)

    return backward


def _r_forward_of(program: Program) -> Any:
    operation = _operation("memory rows w c v", program, _write_r_forward, plain_r_forward)

    def r_forward(net, block, at, along):
        operation(block.memory, block.rows, at.w, at.c, along.w)

    return r_forward


def _r_backward_of(program: Program) -> Any:
    names = "memory rows w c v hv add"
    operation = _operation(names, program, _write_r_backward, plain_r_backward)

    def r_backward(net, block, at, along, hv, add):
        operation(block.memory, block.rows, at.w, at.c, along.w, hv, add)

    return r_backward


_MAKERS = _derive_of, _forward_of, _backward_of, _r_forward_of, _r_backward_of


@lru_cache(maxsize=64)
def formula_passes(program: Program) -> Passes:
    """The five passes of a program, which are kept on disk under its text."""
    return Passes(*(linked(make(program), program.text) for make in _MAKERS))
