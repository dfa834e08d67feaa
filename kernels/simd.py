"""Vector instructions for Numba: register tiles of small matrix products.

Numba has no vector type, and LLVM does not find a good register tile in plain loops. So each tile
is an ``@intrinsic`` that writes its own LLVM loop: ``rows x vectors`` accumulators stay in
registers while the shared dimension runs. Every multiply-add is explicit, in a
fixed order, so a tile gives the same bits wherever it is inlined. Where the JIT is off, plain
Python twins take their place.

Operands are pointers to their first numbers. A vector holds ``LANES[dtype]`` numbers, and rows that
are read as vectors are padded with zeros to a multiple of it.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic


def _target_features() -> list[str]:
    """The features of the processor that numba compiles for."""
    features = config.CPU_FEATURES
    if features is None:
        features = "" if config.CPU_NAME == "generic" else get_host_cpu_features()
    return features.split(",")


def _register_bytes() -> int:
    """Bytes of the widest vector register that the target has."""
    features = _target_features()
    if "+avx512f" in features:
        return 64
    return 32 if "+avx2" in features else 16


#: whether a fused multiply-add is one instruction; else LLVM would call a library for it
FUSED = "+fma" in _target_features() or platform.machine() in ("aarch64", "arm64")
REGISTER_BYTES = _register_bytes()
#: numbers of a dtype in one vector register
LANES = {np.dtype(t): REGISTER_BYTES // np.dtype(t).itemsize for t in ("float32", "float64")}
#: largest register tile of ``outer``: its accumulators, one row of B and a broadcast fill the
#: register file
TILE_ROWS, TILE_COLUMNS = (8, 3) if REGISTER_BYTES == 64 else (6, 2)
#: largest tile of ``inner``, a square one
DOT_ROWS = 5 if REGISTER_BYTES == 64 else 3
#: numbers after which a buffer is on a cache line's edge again, whatever their dtype
LINE = 16
_SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def on_line(count: int) -> int:
    """A number of numbers, rounded up to whole cache lines."""
    return -(-count // LINE) * LINE


class _Emitter:
    """The few LLVM phrases that a tile is made of, and the tile's operands by their names."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, arguments: Any, names: str
    ) -> None:
        self.context, self.builder = context, builder
        kinds = dict(zip(names.split(), signature.args, strict=True))
        self._operands = dict(zip(kinds, arguments, strict=True))
        for name, kind in kinds.items():
            if isinstance(kind, types.Array):
                array = cgutils.create_struct_proxy(kind)(context, builder, value=self[name])
                self._operands[name] = array.data
        dtype = kinds["c"].dtype
        self.scalar = _SCALARS[dtype]
        self.itemsize = dtype.bitwidth // 8
        self.lanes = REGISTER_BYTES // self.itemsize
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.int = ir.IntType(64)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        suffix = f"v{self.lanes}f{dtype.bitwidth}"
        module = builder.module
        self._fma = cgutils.get_or_insert_function(
            module,
            ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.{'fma' if FUSED else 'fmuladd'}.{suffix}",
        )

    def __getitem__(self, name: str) -> Any:
        """An operand: a number, or the pointer to an array's first one."""
        return self._operands[name]

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [index])

    def constant(self, value: int) -> Any:
        return ir.Constant(self.int, value)

    def mul(self, a: Any, b: int) -> Any:
        return self.builder.mul(a, self.constant(b))

    def load(self, pointer: Any) -> Any:
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(pointer, align=self.itemsize)

    def store(self, value: Any, pointer: Any) -> None:
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, pointer, align=self.itemsize)

    def broadcast(self, pointer: Any) -> Any:
        return self.splat(self.builder.load(pointer, align=self.itemsize))

    def splat(self, value: Any) -> Any:
        b = self.builder
        lane = b.insert_element(
            ir.Constant(self.vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        return b.shuffle_vector(lane, lane, self.lane_mask([0] * self.lanes))

    def cast(self, value: Any) -> Any:
        """A float64 as the arrays' dtype."""
        return self.builder.fptrunc(value, self.scalar) if self.itemsize == 4 else value

    def put(self, vector: Any, start: int, count: int, pointer: Any, add: Any) -> None:
        """Store ``count`` lanes from ``start`` on, added to what is there if ``add`` is set."""
        b = self.builder
        part = ir.VectorType(self.scalar, count)
        value = b.shuffle_vector(vector, vector, self.lane_mask(list(range(start, start + count))))
        pointer = b.bitcast(pointer, part.as_pointer())
        before = b.load(pointer, align=self.itemsize)
        b.store(b.select(add, b.fadd(value, before), value), pointer, align=self.itemsize)

    def lane_mask(self, lanes: list[int]) -> Any:
        return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.call(self._fma, [a, b, c])

    def sums(self, vectors: list[Any]) -> Any:
        """The sums of up to ``lanes`` vectors, in the first lanes of one vector.

        Each level adds neighbouring lanes of two vectors side by side, so a tree of pairs sums all
        of them in about as many instructions as one vector's sum takes alone.
        """
        b, count = self.builder, self.lanes
        even, odd = (self.lane_mask(list(range(first, 2 * count, 2))) for first in (0, 1))
        for _ in range(count.bit_length() - 1):
            if len(vectors) % 2:
                vectors = [*vectors, vectors[-1]]
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [
                b.fadd(b.shuffle_vector(u, v, even), b.shuffle_vector(u, v, odd)) for u, v in pairs
            ]
        return vectors[0]

    def opaque(self, value: Any) -> Any:
        """An integer of which LLVM knows nothing."""
        kind = ir.FunctionType(self.int, [self.int])
        return self.builder.asm(kind, "", "=r,0", [value], side_effect=True)

    def switch(self, rows: int, columns: int, chosen: str, strides: str, case: Any) -> None:
        """Emit ``case(r, c)`` for every shape; two operands choose.

        Each case gets the strides as values of its own. Otherwise LLVM computes all multiples of
        all cases before the loop around the switch, which takes longer than a small tile.
        """
        b, operands = self.builder, self._operands
        down, across = (self[name] for name in chosen.split())
        done = b.append_basic_block("tile.done")
        switch = b.switch(b.add(self.mul(down, columns), across), done)
        for r in range(1, rows + 1):
            for c in range(1, columns + 1):
                block = b.append_basic_block(f"tile.{r}x{c}")
                switch.add_case(self.constant(r * columns + c), block)
                b.position_at_end(block)
                self._operands = operands | {n: self.opaque(self[n]) for n in strides.split()}
                case(r, c)
                b.branch(done)
                self._operands = operands
        b.position_at_end(done)

    def either(self, flag: Any, count: int, read: Any) -> list[Any]:
        """``read() if flag else zeros``, without touching memory when the flag is 0."""
        b = self.builder
        entry = b.block
        then = b.append_basic_block("tile.read")
        done = b.append_basic_block("tile.start")
        b.cbranch(b.icmp_signed("!=", flag, self.constant(0)), then, done)
        b.position_at_end(then)
        values = read()
        tail = b.block
        b.branch(done)
        b.position_at_end(done)
        phis = [b.phi(self.vector) for _ in range(count)]
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(self.zero, entry)
            phi.add_incoming(value, tail)
        return phis

    def loop(self, count: Any, start: list[Any], body: Any) -> list[Any]:
        """``for index in range(count): values = body(index, values)``, values kept in registers."""
        b = self.builder
        entry = b.block
        head = b.append_basic_block("tile.loop")
        done = b.append_basic_block("tile.done")
        b.cbranch(b.icmp_signed(">", count, self.constant(0)), head, done)
        b.position_at_end(head)
        index = b.phi(self.int)
        index.add_incoming(self.constant(0), entry)
        carried = [b.phi(self.vector) for _ in start]
        for phi, value in zip(carried, start, strict=True):
            phi.add_incoming(value, entry)
        values = body(index, carried)
        following = b.add(index, self.constant(1))
        tail = b.block
        index.add_incoming(following, tail)
        for phi, value in zip(carried, values, strict=True):
            phi.add_incoming(value, tail)
        b.cbranch(b.icmp_signed("<", following, count), head, done)
        b.position_at_end(done)
        results = [b.phi(self.vector) for _ in start]
        for phi, first, last in zip(results, start, values, strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(last, tail)
        return results


def _plain_outer(rows, vectors, c, ldc, d, ldd, add, a, row, step, b, ldb, k):
    n = vectors * LANES[c.dtype]
    for i in range(rows):
        value = d[i * ldd : i * ldd + n].copy() if add else np.zeros(n, c.dtype)
        for p in range(k):
            value += a[i * row + p * step] * b[p * ldb : p * ldb + n]
        c[i * ldc : i * ldc + n] = value


def _outer_case(e: _Emitter, rows: int, vectors: int) -> None:
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
        e = _Emitter(*call, "rows vectors c ldc d ldd add a row step b ldb k")
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


def _inner_case(e: _Emitter, rows: int, columns: int) -> None:
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
        e = _Emitter(*call, "rows columns c ldc scale shift add a lda b ldb k")
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
        e = _Emitter(*call, "k add c d a lda")

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
        e = _Emitter(*call, "count c ldc a lda")
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


def _plain_lanes(c):
    return LANES[c.dtype]


@intrinsic
def _emit_lanes(typingctx, c):
    count = REGISTER_BYTES // (c.dtype.bitwidth // 8)

    def emit(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), count)

    return types.int64(c), emit


#: numbers of the array's dtype in one vector, a constant in compiled code
lanes_of = _plain_lanes if config.DISABLE_JIT else _emit_lanes


def _plain_offset(array, count):
    return array[count:]


@intrinsic
def _emit_offset(typingctx, pointer, count):
    def emit(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), emit


#: a flat array or pointer from element ``count`` on
offset = _plain_offset if config.DISABLE_JIT else _emit_offset


def _plain_panel(c, rows):
    return np.empty(rows * TILE_COLUMNS * LANES[c.dtype], c.dtype)


@intrinsic(prefer_literal=True)
def _emit_panel(typingctx, c, rows):
    dtype, count = (
        c.dtype,
        rows.literal_value * TILE_COLUMNS * REGISTER_BYTES // (c.dtype.bitwidth // 8),
    )

    def emit(context, builder, signature, arguments):
        kind = ir.ArrayType(_SCALARS[dtype], count)
        with builder.goto_entry_block():
            panel = builder.alloca(kind)  # numba's own alloca_once would zero it at each call
        panel.align = REGISTER_BYTES
        return builder.bitcast(panel, _SCALARS[dtype].as_pointer())

    return types.CPointer(dtype)(c, rows), emit


#: room on the stack for a given number of rows of a panel
stack_panel = _plain_panel if config.DISABLE_JIT else _emit_panel
