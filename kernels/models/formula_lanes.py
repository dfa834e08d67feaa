"""The passes of a formula with a task in each lane (``lanes``), the loss within.

A row of a group is one vector of each number, so there are no masks and no sums across lanes:

* slopes     ``g_j  = sum_rows l'_o slope_oj``
* products   ``hv_j = sum_rows l''_o Rf_o slope_oj + l'_o bend_oj``,  ``Rf_o = sum_j slope_oj v_j``

What takes long and is needed again, a function or a division, is stored for each row: what depends
on inputs alone is *made* once for all steps, the rest is *kept* from ``slopes`` to ``products`` of
the same step. All else is computed anew, which is faster than to read it.

Each pass is written once, for both machines of ``vectors.loops``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from ..compile.link import linked
from ..vectors.elementary import PREPARED
from ..vectors.loops import operation
from ..vectors.loss_formulas import LANE_LOSSES
from .lanes import LanePasses
from .programs import LEAVES, ROW, Program, entries_of, evaluate

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
        """Those of a row; LLVM drops what is not used."""
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
        function: Any = LANE_LOSSES[kind][part]
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
    on: Any, program: Program, kind: str, *operands: Any, kept: Any = None, value: Any = None
) -> None:
    """With ``kept`` what ``products`` takes up, with ``value`` the loss itself."""
    numbers, n, x, made, y, width, weights, stride, scale, w, g = operands
    p, m = _Pass(on, program), on.m
    what, wanted = p.layout.kept, program.with_slopes
    before = p.before(wanted, p.layout.made.nodes, parameter=w)
    of_loss = p.numbers(kind, numbers)

    def body(row: Any, totals: list[Any]) -> list[Any]:
        nodes, shared = p.stored(p.layout.made, made, row)
        found = evaluate(m, program, wanted, {**before, **p.inputs(x, row), **nodes}, shared)
        if kept is not None:
            for place, each in enumerate(what.nodes):
                on.store(found[each], kept, row, what.size, place)
        weight = on.load(weights, row, stride, 0)
        errors = p.errors(kind, of_loss, y, width, row, found, 0)
        for (of_row, slope), slopes in zip(errors, program.slopes, strict=True):
            delta = weight * slope
            for j, node in enumerate(slopes):
                if node is not None:
                    totals[j] = m.fma(delta, found[node], totals[j])
            if value is not None:
                totals[-1] = m.fma(weight, of_row, totals[-1])
        return totals

    count = program.n_params + (value is not None)
    totals = on.rows(n, [m.constant(0.0)] * count, body)
    factor = on.load(scale, 0, 0, 0)
    for j in range(program.n_params):
        on.store(totals[j] * factor, g, 0, 0, j)
    if value is not None:
        on.store(totals[-1] * factor, value, 0, 0, 0)


def _write_products(on: Any, program: Program, kind: str, *operands: Any) -> None:
    numbers, n, x, made, y, width, weights, stride, scale, w, v, kept, hv = operands
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


# As linked functions -----------------------------------------------------------------------------


_ROWS = "numbers n x made y width weights stride scale"


def _prepare_of(program: Program, kind: str) -> Any:
    passed = operation("n x made", _write_prepare, program, kind)

    def prepare(rows, made):
        passed(rows.n, rows.x, made)

    return prepare


def _slopes_of(program: Program, kind: str) -> Any:
    def write(on: Any, program: Program, kind: str, *operands: Any) -> None:
        *rest, kept, g = operands
        _write_slopes(on, program, kind, *rest, g, kept=kept)

    passed = operation(f"{_ROWS} w kept g", write, program, kind)

    def slopes(numbers, rows, w, kept, g):
        passed(
            numbers, rows.n, rows.x, rows.made, rows.y, rows.width, rows.weights, rows.stride,
            rows.scale, w, kept, g,
        )  # fmt: skip

    return slopes


def _query_of(program: Program, kind: str) -> Any:
    def write(on: Any, program: Program, kind: str, *operands: Any) -> None:
        *rest, value, g = operands
        _write_slopes(on, program, kind, *rest, g, value=value)

    passed = operation(f"{_ROWS} w value g", write, program, kind)

    def query(numbers, rows, w, room, value, g):
        passed(
            numbers, rows.n, rows.x, rows.made, rows.y, rows.width, rows.weights, rows.stride,
            rows.scale, w, value, g,
        )  # fmt: skip

    return query


def _products_of(program: Program, kind: str) -> Any:
    passed = operation(f"{_ROWS} w v kept hv", _write_products, program, kind)

    def products(numbers, rows, w, v, kept, hv):
        passed(
            numbers, rows.n, rows.x, rows.made, rows.y, rows.width, rows.weights, rows.stride,
            rows.scale, w, v, kept, hv,
        )  # fmt: skip

    return products


@lru_cache(maxsize=128)
def formula_lanes(program: Program, kind: str, query_kind: str) -> LanePasses:
    """The passes of a program and two losses, which are kept on disk under its text and a word."""
    layout = _layout_of(program)
    kinds = "", kind, query_kind, kind
    prepare, slopes, query, products = (
        linked(make(program, word), f"{word} {program.text}")
        for make, word in zip(
            (_prepare_of, _slopes_of, _query_of, _products_of), kinds, strict=True
        )
    )  # fmt: skip
    return LanePasses(prepare, slopes, query, products, layout.made.size, len(layout.kept.nodes))
