"""The passes of a formula with a task in each lane (``lanes``), the loss within.

A row of a group is one vector of each number, so there are no masks and no sums across lanes:

* slopes     ``g_j  = sum_rows l'_o slope_oj``
* products   ``hv_j = sum_rows l''_o Rf_o slope_oj + l'_o bend_oj``,  ``Rf_o = sum_j slope_oj v_j``

What takes long and is needed again, a function or a division, is stored for each row: what depends
on inputs alone is *made* once for all steps, the rest is *kept* from ``slopes`` to ``products`` of
the same step. All else is computed anew, which is faster than to read it.

Each pass is written once, for a `_Registers` that emits its loop as LLVM instructions on whole
registers, or an `_Arrays` that runs it with NumPy where the JIT is off.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from ..compile.link import linked
from ..losses.lanes import LANE_LOSSES
from ..vectors.elementary import PREPARED
from ..vectors.emitter import LANES
from ..vectors.machines import Arrays, Lanes, Registers
from .lanes import LanePasses
from .programs import AT, LEAVES, ROW, Program, entries_of, evaluate

#: operations that are faster done again than read
_CHEAP = {"add", "multiply", "negative", "abs", "sign", "greater", "max", "min"}


class _Stored(NamedTuple):
    """What lies in memory for each row: nodes, and what several functions of one node share."""

    nodes: tuple[int, ...]
    shared: tuple[int, ...]  # arguments of powers, whose logarithm comes in two parts

    @property
    def size(self) -> int:
        """Vectors of a row."""
        return len(self.nodes) + 2 * len(self.shared)


class _Layout:
    """What of a program is stored, and what a pass has before its loop."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.all = [*program.with_slopes, *entries_of(program.bends)]
        costly = {
            node
            for node in program.needed(self.all)
            if program.depends[node] & ROW and program.nodes[node][0] not in (*LEAVES, *_CHEAP)
        }
        alone = {node for node in costly if program.depends[node] == ROW}
        powers = {
            program.nodes[node][1]
            for node in costly - alone
            if program.nodes[node][0] == "power"
            and program.depends[program.nodes[node][1]] == ROW
        }  # fmt: skip
        self.made = _Stored(self._used(self.all, alone), tuple(sorted(powers)))
        first = {node for node in program.needed(program.with_slopes) if node in costly}
        self.kept = _Stored(self._used(self.all, first - alone, alone), ())

    def _used(self, wanted: Any, stored: set[int], known: Any = ()) -> tuple[int, ...]:
        """Those of the stored nodes that the wanted ones are made of directly."""
        needed = self.program.needed(wanted, {*stored, *known})
        used = {*wanted, *self.program.used_by(needed)}
        return tuple(sorted(stored & used))


# The passes --------------------------------------------------------------------------------------


class _Pass:
    """One pass, as it is written: the machine with its loop, and the program."""

    def __init__(self, on: Any, program: Program) -> None:
        self.on, self.m, self.program, self.layout = on, on.m, program, _layout_of(program)

    def before(self, wanted: Any, stored: Any, **vectors: Any) -> dict[int, Any]:
        """The values of what is the same for all rows; ``vectors`` are P vectors of each kind."""
        program = self.program
        needed = program.needed(wanted, stored)
        outside = [node for node in needed if not program.depends[node] & ROW]
        known = {}
        for node in outside:
            op, *args = program.nodes[node]
            if op in vectors:
                known[node] = self.on.load(vectors[op], 0, 0, args[0])
        return evaluate(self.m, program, outside, known)

    def inputs(self, x: Any, row: Any) -> dict[int, Any]:
        """Those of a row. (LLVM drops what is not used.)"""
        return {
            node: self.on.load(x, row, self.program.n_inputs, args[0])
            for node, (op, *args) in enumerate(self.program.nodes)
            if op == "input"
        }

    def stored(self, what: _Stored, memory: Any, row: Any) -> tuple[dict[int, Any], dict[Any, Any]]:
        """What was left of a row: nodes, and what functions share."""
        def read(place: int) -> Any:
            return self.on.load(memory, row, what.size, place)

        nodes = {node: read(place) for place, node in enumerate(what.nodes)}
        first = len(nodes)
        shared = {
            (PREPARED["power"][0], node): (read(first + 2 * i), read(first + 2 * i + 1))
            for i, node in enumerate(what.shared)
        }
        return nodes, shared

    def errors(
        self, kind: str, numbers: Any, y: Any, width: Any, row: Any, found: dict[int, Any],
        part: int,
    ) -> list[Any]:  # fmt: skip
        """Of each output, what a function of the loss gives."""
        function = LANE_LOSSES[kind][part]
        return [
            function(self.m, numbers, found[node], self.on.load(y, row, width, o))
            for o, node in enumerate(self.program.f)
        ]

    def numbers(self, kind: str, pointer: Any) -> list[Any]:
        """Those of the loss."""
        return [self.on.number(pointer, i) for i in range(LANE_LOSSES[kind][2])]


def _write_prepare(on: Any, program: Program, kind: str, n: Any, x: Any, made: Any) -> None:
    p = _Pass(on, program)
    what = p.layout.made
    wanted = [*what.nodes, *what.shared]

    def body(row: Any, totals: list[Any]) -> list[Any]:
        found = evaluate(p.m, program, wanted, p.inputs(x, row))
        values = [found[node] for node in what.nodes]
        for node in what.shared:
            values += PREPARED["power"][0](p.m, found[node])
        for place, value in enumerate(values):
            on.store(value, made, row, what.size, place)
        return []

    on.rows(n, [], body)


def _write_slopes(
    on: Any, program: Program, kind: str, numbers: Any, n: Any, x: Any, made: Any, y: Any,
    width: Any, weights: Any, stride: Any, scale: Any, w: Any, kept: Any, value: Any, g: Any,
) -> None:  # fmt: skip
    """With ``kept`` what ``products`` takes up, with ``value`` the loss itself."""
    p, m = _Pass(on, program), on.m
    what, wanted = p.layout.kept, program.with_slopes
    before = p.before(wanted, p.layout.made.nodes, parameter=w)
    of_loss = p.numbers(kind, numbers)

    def body(row: Any, totals: list[Any]) -> list[Any]:
        nodes, shared = p.stored(p.layout.made, made, row)
        found = evaluate(m, program, wanted, {**before, **p.inputs(x, row), **nodes}, shared)
        if kept is not None:
            for place, node in enumerate(what.nodes):
                on.store(found[node], kept, row, what.size, place)
        weight = on.load(weights, row, stride, 0)
        errors = p.errors(kind, of_loss, y, width, row, found, 0)
        for (each, slope), slopes in zip(errors, program.slopes, strict=True):
            delta = weight * slope
            for j, node in enumerate(slopes):
                if node is not None:
                    totals[j] = m.fma(delta, found[node], totals[j])
            if value is not None:
                totals[-1] = m.fma(weight, each, totals[-1])
        return totals

    count = program.n_params + (value is not None)
    totals = on.rows(n, [m.constant(0.0)] * count, body)
    factor = on.load(scale, 0, 0, 0)
    for j in range(program.n_params):
        on.store(totals[j] * factor, g, 0, 0, j)
    if value is not None:
        on.store(totals[-1] * factor, value, 0, 0, 0)


def _write_products(
    on: Any, program: Program, kind: str, numbers: Any, n: Any, x: Any, made: Any, y: Any,
    width: Any, weights: Any, stride: Any, scale: Any, w: Any, v: Any, kept: Any, hv: Any,
) -> None:  # fmt: skip
    p, m = _Pass(on, program), on.m
    wanted = p.layout.all
    stored = {*p.layout.made.nodes, *p.layout.kept.nodes}
    before = p.before(wanted, stored, parameter=w, direction=v)
    direction = [on.load(v, 0, 0, j) for j in range(program.n_params)]
    of_loss = p.numbers(kind, numbers)

    def body(row: Any, totals: list[Any]) -> list[Any]:
        nodes, shared = p.stored(p.layout.made, made, row)
        known = {**before, **p.inputs(x, row), **nodes, **p.stored(p.layout.kept, kept, row)[0]}
        found = evaluate(m, program, wanted, known, shared)
        weight = on.load(weights, row, stride, 0)
        errors = p.errors(kind, of_loss, y, width, row, found, 0)
        curvatures = p.errors(kind, of_loss, y, width, row, found, 1)
        for o, ((_, slope), curvature) in enumerate(zip(errors, curvatures, strict=True)):
            rf = m.constant(0.0)
            for node, each in zip(program.slopes[o], direction, strict=True):
                rf = rf if node is None else m.fma(found[node], each, rf)
            r_delta = weight * (rf if curvature is None else curvature * rf)
            delta = weight * slope
            for nodes_of, factor in ((program.slopes[o], r_delta), (program.bends[o], delta)):
                for j, node in enumerate(nodes_of):
                    if node is not None:
                        totals[j] = m.fma(factor, found[node], totals[j])
        return totals

    totals = on.rows(n, [m.constant(0.0)] * program.n_params, body)
    factor = on.load(scale, 0, 0, 0)
    for j in range(program.n_params):
        on.store(totals[j] * factor, hv, 0, 0, j)


@lru_cache(maxsize=64)
def _layout_of(program: Program) -> _Layout:
    return _Layout(program)


# The machines with their loop --------------------------------------------------------------------


class _Registers:
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

    def number(self, pointer: Any, index: int) -> Lanes:
        """A float64 in every lane."""
        b = self.b
        number = b.load(b.gep(pointer, [ir.Constant(self.int, index)]))
        return self.m.spread(b.fptrunc(number, self.m.scalar) if self.m.itemsize == 4 else number)

    def rows(self, count: Any, start: list[Lanes], body: Any) -> list[Lanes]:
        """``totals = body(row, totals)`` for each row, of which there is one; in registers."""
        b = self.b
        entry, head = b.block, b.append_basic_block("rows")
        done = b.append_basic_block("rows.done")
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(self.int)
        index.add_incoming(self._value(0), entry)
        carried = [b.phi(self.m.vector) for _ in start]
        for phi, value in zip(carried, start, strict=True):
            phi.add_incoming(value.value, entry)
        values = body(index, [Lanes(self.m, phi) for phi in carried])
        following = b.add(index, self._value(1))
        index.add_incoming(following, b.block)
        for phi, value in zip(carried, values, strict=True):
            phi.add_incoming(value.value, b.block)
        b.cbranch(b.icmp_signed("<", following, count), head, done)
        b.position_at_end(done)
        return values


class _Arrays:
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

    def number(self, memory: Any, index: int) -> Any:
        """A float64 in the dtype."""
        return self.m.constant(memory[index])

    def rows(self, count: int, totals: list[Any], body: Any) -> list[Any]:
        """``totals = body(row, totals)`` for each row."""
        for row in range(count):
            totals = body(row, totals)
        return totals


# As linked functions -----------------------------------------------------------------------------


def _operation(names: str, write: Callable[..., None], program: Program, kind: str) -> Any:
    """A pass as compiled code calls it, with operands of such names, ``x`` among them."""
    if config.DISABLE_JIT:
        place = names.split().index("x")

        def plain(*operands: Any) -> None:
            with np.errstate(all="ignore"):
                write(_Arrays(operands[place].dtype), program, kind, *operands)

        return plain

    def definition(typingctx, *operands):
        dtype = operands[names.split().index("x")].dtype

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            write(_Registers(context, builder, dtype), program, kind, *values)
            return context.get_dummy_value()

        return types.void(*operands), emit

    of = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, of) for name in ("typingctx", *names.split())]
    definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(definition)


_ROWS = "numbers n x made y width weights stride scale"


def _prepare_of(program: Program, kind: str) -> Any:
    operation = _operation("n x made", _write_prepare, program, kind)

    def prepare(rows, made):
        operation(rows.n, rows.x, made)

    return prepare


def _slopes_of(program: Program, kind: str) -> Any:
    def write(on: Any, program: Program, kind: str, *operands: Any) -> None:
        *rest, g = operands
        _write_slopes(on, program, kind, *rest, None, g)

    operation = _operation(f"{_ROWS} w kept g", write, program, kind)

    def slopes(numbers, rows, w, kept, g):
        operation(
            numbers, rows.n, rows.x, rows.made, rows.y, rows.width, rows.weights, rows.stride,
            rows.scale, w, kept, g,
        )  # fmt: skip

    return slopes


def _query_of(program: Program, kind: str) -> Any:
    def write(on: Any, program: Program, kind: str, *operands: Any) -> None:
        *rest, value, g = operands
        _write_slopes(on, program, kind, *rest, None, value, g)

    operation = _operation(f"{_ROWS} w value g", write, program, kind)

    def query(numbers, rows, w, value, g):
        operation(
            numbers, rows.n, rows.x, rows.made, rows.y, rows.width, rows.weights, rows.stride,
            rows.scale, w, value, g,
        )  # fmt: skip

    return query


def _products_of(program: Program, kind: str) -> Any:
    operation = _operation(f"{_ROWS} w v kept hv", _write_products, program, kind)

    def products(numbers, rows, w, v, kept, hv):
        operation(
            numbers, rows.n, rows.x, rows.made, rows.y, rows.width, rows.weights, rows.stride,
            rows.scale, w, v, kept, hv,
        )  # fmt: skip

    return products


@lru_cache(maxsize=128)
def formula_lanes(program: Program, kind: str, query_kind: str) -> LanePasses:
    """The passes of a program and two losses, which are kept on disk under its text and a word."""
    layout = _layout_of(program)
    kinds = "", kind, query_kind, kind
    made = (
        linked(make(program, word), f"{word} {program.text}")
        for make, word in zip(
            (_prepare_of, _slopes_of, _query_of, _products_of), kinds, strict=True
        )
    )  # fmt: skip
    return LanePasses(*made, layout.made.size, len(layout.kept.nodes))
