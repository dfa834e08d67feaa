"""Register tiles of triangular systems, and their plain Python twins for where the JIT is off.

Up to ``BLOCK`` rows are worked together: they take what other rows give them, and then what those
among them do, without leaving the registers. Operands are as in ``tiles``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from .emitter import LANES, Emitter

#: rows of a tile, and vectors across
BLOCK, ACROSS = 4, 2
#: what is done after the rows have taken what others give: nothing, R^-T, or R^-1 of their own
TAKE, LOWER, UPPER = 0, 1, 2


def _plain_reduce(rows, vectors, mode, c, ldc, k, a, row, step, b, ldb, r, ldr):
    n = vectors * LANES[c.dtype]
    x = [c[i * ldc : i * ldc + n] for i in range(rows)]
    for i in range(rows):
        for p in range(k):
            x[i] -= a[i * row + p * step] * b[p * ldb : p * ldb + n]
    order = range(rows) if mode == LOWER else range(rows - 1, -1, -1)
    for i in order if mode != TAKE else ():
        x[i] *= r[i * ldr + i]
        for j in range(i + 1, rows) if mode == LOWER else range(i):
            x[j] -= r[min(i, j) * ldr + max(i, j)] * x[i]


def _reduce_case(e: Emitter, rows: int, vectors: int) -> None:
    builder = e.builder
    starts = [e.at(e["c"], e.mul(e["ldc"], i)) for i in range(rows)]
    cells = [e.at(start, e.constant(v * e.lanes)) for start in starts for v in range(vectors)]
    a_rows = [e.at(e["a"], e.mul(e["row"], i)) for i in range(rows)]

    def less(factor: Any, across: list[Any], values: list[Any]) -> list[Any]:
        factor = builder.fneg(factor)
        return [e.fma(factor, b, value) for b, value in zip(across, values, strict=True)]

    def body(index: Any, values: list[Any]) -> list[Any]:
        b_row = e.at(e["b"], builder.mul(index, e["ldb"]))
        across = [e.load(e.at(b_row, e.constant(v * e.lanes))) for v in range(vectors)]
        at, out = builder.mul(index, e["step"]), []
        for i in range(rows):
            factor = e.broadcast(e.at(a_rows[i], at))
            out += less(factor, across, values[i * vectors : (i + 1) * vectors])
        return out

    values = e.loop(e["k"], [e.load(cell) for cell in cells], body)
    done = builder.append_basic_block("reduce.done")
    way = builder.switch(e["mode"], done)
    before, ends = builder.block, []
    for mode, order in ((LOWER, range(rows)), (UPPER, range(rows - 1, -1, -1))):
        block = builder.append_basic_block("reduce.solve")
        way.add_case(e.constant(mode), block)
        builder.position_at_end(block)
        x = [values[i * vectors : (i + 1) * vectors] for i in range(rows)]
        r_rows = [e.at(e["r"], e.mul(e["ldr"], i)) for i in range(rows)]
        for i in order:
            inverse = e.broadcast(e.at(r_rows[i], e.constant(i)))
            x[i] = [builder.fmul(inverse, value) for value in x[i]]
            for j in range(i + 1, rows) if mode == LOWER else range(i):
                entry = e.at(r_rows[min(i, j)], e.constant(max(i, j)))
                x[j] = less(e.broadcast(entry), x[i], x[j])
        ends.append(([value for each in x for value in each], builder.block))
        builder.branch(done)
    builder.position_at_end(done)
    out = []
    for place, value in enumerate(values):
        phi = builder.phi(e.vector)
        phi.add_incoming(value, before)
        for solved, block in ends:
            phi.add_incoming(solved[place], block)
        out.append(phi)
    for value, cell in zip(out, cells, strict=True):
        e.store(value, cell)


@intrinsic
def _emit_reduce(typingctx, rows, vectors, mode, c, ldc, k, a, row, step, b, ldb, r, ldr):
    def emit(*call):
        e = Emitter(*call, "rows vectors mode c ldc k a row step b ldb r ldr")
        shapes = BLOCK, ACROSS, "rows vectors", "ldc row step ldb ldr"
        e.switch(*shapes, lambda *shape: _reduce_case(e, *shape))
        return e.context.get_dummy_value()

    i = types.int64
    return types.void(i, i, i, c, i, i, a, i, i, b, i, r, i), emit


#: ``C = C - A B`` for up to BLOCK rows and ACROSS vectors, with A[i, p] at ``a[i * row + p *
#: step]``, and then by mode ``C = R^-T C`` or ``R^-1 C`` with an upper triangle R of as many rows,
#: whose diagonal holds 1 / R[i, i]
reduce_tile = _plain_reduce if config.DISABLE_JIT else _emit_reduce


def _plain_pivots(rows, one, a, lda, r):
    s = np.array([[a[i * lda + j] for j in range(rows)] for i in range(rows)])
    for i in range(rows):
        s[i, i] = 1 / np.sqrt(1.0 if s[i, i] < 1 else s[i, i])  # NaN stays
        s[i, i + 1 :] *= s[i, i]
        for j in range(i + 1, rows):
            s[j, j:] -= s[i, j] * s[i, j:]
        r[i * BLOCK + i : i * BLOCK + rows] = s[i, i:]


def _pivots_case(e: Emitter, rows: int, root: Any) -> None:
    b, one = e.builder, ir.Constant(e.scalar, 1.0)
    s = {
        (i, j): b.load(e.at(e["a"], b.add(e.mul(e["lda"], i), e.constant(j))))
        for i in range(rows)
        for j in range(i, rows)
    }
    for i in range(rows):
        pivot = b.select(b.fcmp_ordered("<", s[i, i], one), one, s[i, i])  # NaN stays
        s[i, i] = b.fdiv(one, b.call(root, [pivot]))
        for j in range(i + 1, rows):
            s[i, j] = b.fmul(s[i, j], s[i, i])
        for j in range(i + 1, rows):
            for k in range(j, rows):
                s[j, k] = b.fsub(s[j, k], b.fmul(s[i, j], s[i, k]))
    for (i, j), value in s.items():
        b.store(value, e.at(e["c"], e.constant(i * BLOCK + j)))


@intrinsic
def _emit_pivots(typingctx, rows, one, a, lda, r):
    def emit(*call):
        e = Emitter(*call, "rows one a lda c")
        kind = ir.FunctionType(e.scalar, [e.scalar])
        name = f"llvm.sqrt.f{8 * e.itemsize}"
        root = cgutils.get_or_insert_function(e.builder.module, kind, name)
        e.switch(BLOCK, 1, "rows one", "lda", lambda rows, _: _pivots_case(e, rows, root))
        return e.context.get_dummy_value()

    i = types.int64
    return types.void(i, i, a, i, r), emit


#: the factor R (rows, BLOCK) of a square A of up to BLOCK rows, as ``reduce_tile`` takes it; pivots
#: below 1 count as 1 (``one``, the tile's columns, is 1)
pivots_tile = _plain_pivots if config.DISABLE_JIT else _emit_pivots
