"""Register tiles of small matrix products, and their plain Python twins for where the JIT is off.

Operands are pointers to their first numbers. A vector holds ``LANES[dtype]`` numbers, and rows that
are read as vectors are padded with zeros to a multiple of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config, types
from numba.extending import intrinsic

from .emitter import DOT_ROWS, LANES, TILE_COLUMNS, TILE_ROWS, Emitter


def _plain_outer(rows, vectors, c, ldc, d, ldd, add, a, row, step, b, ldb, k):
    n = vectors * LANES[c.dtype]
    for i in range(rows):
        value = d[i * ldd : i * ldd + n].copy() if add else np.zeros(n, c.dtype)
        for p in range(k):
            value += a[i * row + p * step] * b[p * ldb : p * ldb + n]
        c[i * ldc : i * ldc + n] = value


def _outer_case(e: Emitter, rows: int, vectors: int) -> None:
    """The tile of one shape: ``rows * vectors`` accumulators."""
    builder = e.builder

    def cells(pointer: Any, stride: Any) -> list[Any]:
        starts = [e.at(pointer, e.mul(stride, i)) for i in range(rows)]
        return [e.at(start, e.constant(v * e.lanes)) for start in starts for v in range(vectors)]

    a_rows = [e.at(e["a"], e.mul(e["row"], i)) for i in range(rows)]

    def body(index: Any, values: list[Any]) -> list[Any]:
        b_row = e.at(e["b"], builder.mul(index, e["ldb"]))
        across = [e.load(e.at(b_row, e.constant(v * e.lanes))) for v in range(vectors)]
        at = builder.mul(index, e["step"])
        out = []
        for i in range(rows):
            factor = e.broadcast(e.at(a_rows[i], at))
            out += [e.fma(factor, across[v], values[i * vectors + v]) for v in range(vectors)]
        return out

    start = e.either(
        e["add"], rows * vectors, lambda: [e.load(cell) for cell in cells(e["d"], e["ldd"])]
    )
    values = e.loop(e["k"], start, body)
    for value, cell in zip(values, cells(e["c"], e["ldc"]), strict=True):
        e.store(value, cell)


@intrinsic
def _emit_outer(typingctx, rows, vectors, c, ldc, d, ldd, add, a, row, step, b, ldb, k):
    def emit(*call):
        e = Emitter(*call, "rows vectors c ldc d ldd add a row step b ldb k")
        shapes = TILE_ROWS, TILE_COLUMNS, "rows vectors", "ldc ldd row step ldb"
        e.switch(*shapes, lambda *shape: _outer_case(e, *shape))
        return e.context.get_dummy_value()

    i = types.int64
    return types.void(i, i, c, i, d, i, i, a, i, i, b, i, i), emit


#: ``C = D + A B`` for up to TILE_ROWS rows and TILE_COLUMNS vectors across: ``C[i, :] = D[i, :] +
#: sum_p A[i, p] B[p, :]`` with A[i, p] at ``a[i * row + p * step]``. A is read one number at
#: a time, so a transposed A costs nothing. D is taken as zero unless ``add`` is set; it may be C
#: itself, and ``ldd = 0`` repeats one row.
outer_tile = _plain_outer if config.DISABLE_JIT else _emit_outer


def _plain_inner(rows, columns, c, ldc, scale, shift, add, a, lda, b, ldb, k):
    for i in range(rows):
        for j in range(columns):
            dot = a[i * lda : i * lda + k] @ b[j * ldb : j * ldb + k]
            value = c.dtype.type(scale * dot + shift)
            c[i * ldc + j] = c[i * ldc + j] + value if add else value


def _inner_case(e: Emitter, rows: int, columns: int) -> None:
    """The tile of one shape: a vector of partial sums for each dot product."""
    builder = e.builder
    a_rows = [e.at(e["a"], e.mul(e["lda"], i)) for i in range(rows)]
    b_rows = [e.at(e["b"], e.mul(e["ldb"], j)) for j in range(columns)]

    def body(index: Any, values: list[Any]) -> list[Any]:
        at = e.mul(index, e.lanes)
        left = [e.load(e.at(pointer, at)) for pointer in a_rows]
        right = [e.load(e.at(pointer, at)) for pointer in b_rows]
        pairs = [(x, y) for x in left for y in right]
        return [e.fma(x, y, value) for (x, y), value in zip(pairs, values, strict=True)]

    count = builder.sdiv(e["k"], e.constant(e.lanes))
    values = e.loop(count, [e.zero] * (rows * columns), body)
    factor, term = e.splat(e.cast(e["scale"])), e.splat(e.cast(e["shift"]))
    some = builder.icmp_signed("!=", e["add"], e.constant(0))
    group = max(e.lanes // columns, 1)  # rows of the tile whose sums one vector holds
    for first in range(0, rows, group):
        members = range(first, min(first + group, rows))
        for left in range(0, columns, e.lanes):  # a row of the tile may be longer than a vector
            part = range(left, min(left + e.lanes, columns))
            sums = e.sums([values[i * columns + j] for i in members for j in part])
            sums = e.fma(sums, factor, term)
            for i in members:
                cell = e.at(e["c"], builder.add(e.mul(e["ldc"], i), e.constant(left)))
                e.put(sums, (i - first) * len(part), len(part), cell, some)


@intrinsic
def _emit_inner(typingctx, rows, columns, c, ldc, scale, shift, add, a, lda, b, ldb, k):
    def emit(*call):
        e = Emitter(*call, "rows columns c ldc scale shift add a lda b ldb k")
        shapes = DOT_ROWS, DOT_ROWS, "rows columns", "ldc lda ldb"
        e.switch(*shapes, lambda *shape: _inner_case(e, *shape))
        return e.context.get_dummy_value()

    i, f = types.int64, types.float64
    return types.void(i, i, c, i, f, f, i, a, i, b, i, i), emit


#: ``C = scale A B^T + shift [+ C]`` for up to DOT_ROWS rows of A and of B, both read as vectors;
#: ``k`` is a multiple of the vector's lanes.
inner_tile = _plain_inner if config.DISABLE_JIT else _emit_inner


def _plain_sum(k, add, c, d, a, lda):
    n = LANES[c.dtype]
    total = d[:n].copy() if add else np.zeros(n, c.dtype)
    for i in range(k):
        total += a[i * lda : i * lda + n]
    c[:n] = total


@intrinsic
def _emit_sum(typingctx, k, add, c, d, a, lda):
    def emit(*call):
        e = Emitter(*call, "k add c d a lda")

        def body(index: Any, values: list[Any]) -> list[Any]:
            row = e.at(e["a"], e.builder.mul(index, e["lda"]))
            return [e.builder.fadd(values[0], e.load(row))]

        start = e.either(e["add"], 1, lambda: [e.load(e["d"])])
        e.store(e.loop(e["k"], start, body)[0], e["c"])
        return e.context.get_dummy_value()

    i = types.int64
    return types.void(i, i, c, d, a, i), emit


#: ``C = D + A[0] + A[1] + ...`` for ``k`` rows, one vector across; D counts as zero unless ``add``
#: is set
sum_tile = _plain_sum if config.DISABLE_JIT else _emit_sum


def _plain_transpose(count, c, ldc, a, lda):
    lanes = LANES[c.dtype]
    for j in range(lanes):
        for i in range(lanes):
            c[j * ldc + i] = a[i * lda + j] if i < count else 0


@intrinsic
def _emit_transpose(typingctx, count, c, ldc, a, lda):
    def emit(*call):
        e = Emitter(*call, "count c ldc a lda")
        builder = e.builder
        rows = []
        for i in range(e.lanes):
            there = builder.icmp_signed("<", e.constant(i), e["count"])
            at = builder.select(there, e.mul(e["lda"], i), e.constant(0))
            rows.append(builder.select(there, e.load(e.at(e["a"], at)), e.zero))
        # Exchange ever larger square blocks across the diagonal.
        step = 1
        while step < e.lanes:
            lanes = range(e.lanes)
            upper = e.lane_mask([x if not x & step else e.lanes + x - step for x in lanes])
            lower = e.lane_mask([x + step if not x & step else e.lanes + x for x in lanes])
            for i in lanes:
                if not i & step:
                    u, v = rows[i], rows[i + step]
                    rows[i] = builder.shuffle_vector(u, v, upper)
                    rows[i + step] = builder.shuffle_vector(u, v, lower)
            step *= 2
        for i, row in enumerate(rows):
            e.store(row, e.at(e["c"], e.mul(e["ldc"], i)))
        return e.context.get_dummy_value()

    i = types.int64
    return types.void(i, c, i, a, i), emit


#: ``C = A^T`` for a square of one vector's lanes, of which A has ``count`` rows; the others count
#: as zero
transpose_tile = _plain_transpose if config.DISABLE_JIT else _emit_transpose
