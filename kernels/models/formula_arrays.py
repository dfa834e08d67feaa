"""The five passes of a formula on arrays of all rows, for where the JIT is off.

The programs are those of the vector registers (``formula``), and so are the results, but nothing is
kept from forward for the others: each computes what it needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..vectors.emitter import LANES
from ..vectors.machines import Arrays
from .formula_table import places_of
from .programs import Program, entries_of, evaluate


class _Block:
    """The rows of a block, in flat arrays."""

    def __init__(self, program: Program, memory: np.ndarray, rows: int) -> None:
        self.m, self.program, self.memory, self.rows = Arrays(memory.dtype), program, memory, rows
        self.places = places_of(program, LANES[memory.dtype])

    def matrix(self, place: int, width: int) -> np.ndarray:
        """A matrix (rows, width)."""
        start = self.rows * place
        return self.memory[start : start + self.rows * width].reshape(self.rows, width)

    def outputs(self, place: int) -> np.ndarray:
        """One of (rows, n_out)."""
        return self.matrix(place, self.program.n_outputs)

    def known(self, **vectors: Any) -> dict[int, Any]:
        """The leaves."""
        given = {**vectors, "input": self.matrix(0, self.program.n_inputs).T}
        return {
            node: given[op][args[0] : args[0] + 1] if op != "input" else given[op][args[0]]
            for node, (op, *args) in enumerate(self.program.nodes)
            if op in given
        }

    def table(self, entries: Any, found: dict[int, Any]) -> np.ndarray:
        """Slopes or bends as an array (n_out, n_params, rows)."""
        shape = (self.program.n_outputs, self.program.n_params, self.rows)
        out = np.zeros(shape, self.memory.dtype)
        for o, row in enumerate(entries):
            for j, node in enumerate(row):
                if node is not None:
                    out[o, j] = found[node]
        return out


def plain_forward(program: Program, memory: Any, rows: int, w: Any, c: Any, order: int) -> None:
    """The outputs f of all rows."""
    block = _Block(program, memory, rows)
    wanted = program.with_slopes if order > 0 else program.f
    with np.errstate(all="ignore"):
        found = evaluate(block.m, program, wanted, block.known(parameter=w))
    for o, node in enumerate(program.f):
        block.outputs(block.places.f)[:, o] = found[node]


def _tables(block: _Block, w: Any, v: Any) -> tuple[np.ndarray, np.ndarray]:
    program = block.program
    wanted = [*entries_of(program.slopes), *entries_of(program.bends)]
    with np.errstate(all="ignore"):
        found = evaluate(block.m, program, wanted, block.known(parameter=w, direction=v))
    return block.table(program.slopes, found), block.table(program.bends, found)


def _add(out: Any, program: Program, total: np.ndarray, add: int) -> None:
    count = -(-program.n_params // LANES[out.dtype]) * LANES[out.dtype]
    if not add:
        out[:count] = 0
    out[: program.n_params] += total


def plain_backward(
    program: Program, memory: Any, rows: int, w: Any, c: Any, g: Any, add: int
) -> None:
    """``g_j = sum_rows delta_o slope_oj``, or added to g."""
    block = _Block(program, memory, rows)
    slopes, _ = _tables(block, w, w)
    with np.errstate(all="ignore"):
        total = np.einsum("io,oji->j", block.outputs(block.places.delta), slopes)
    _add(g, program, total, add)


def plain_r_forward(program: Program, memory: Any, rows: int, w: Any, c: Any, along: Any) -> None:
    """``Rf_o = sum_j slope_oj v_j``."""
    block = _Block(program, memory, rows)
    slopes, _ = _tables(block, w, along)
    with np.errstate(all="ignore"):
        rf = np.einsum("oji,j->io", slopes, along[: program.n_params])
    block.outputs(block.places.rf)[...] = rf


def plain_r_backward(
    program: Program, memory: Any, rows: int, w: Any, c: Any, along: Any, hv: Any, add: int
) -> None:
    """``hv_j = sum_rows Rdelta_o slope_oj + delta_o bend_oj``, or added to hv."""
    block = _Block(program, memory, rows)
    slopes, bends = _tables(block, w, along)
    delta, r_delta = block.outputs(block.places.delta), block.outputs(block.places.r_delta)
    with np.errstate(all="ignore"):
        total = np.einsum("io,oji->j", r_delta, slopes) + np.einsum("io,oji->j", delta, bends)
    _add(hv, program, total, add)


def plain_derive(program: Program, w: Any, c: Any) -> None:
    """Nothing: the other passes compute it anew."""
