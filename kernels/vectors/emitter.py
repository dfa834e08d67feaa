"""The LLVM phrases that register tiles are made of, and the registers that the target has.

Numba has no vector type, and LLVM does not find a good register tile in plain loops. So each tile
(``tiles``) writes its own LLVM loop with an ``Emitter``: accumulators stay in registers while the
shared dimension runs. Every multiply-add is explicit, in a fixed order, so a tile gives the same
bits wherever it is inlined.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features


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
SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def on_line(count: int) -> int:
    """A number of numbers, rounded up to whole cache lines."""
    return -(-count // LINE) * LINE


def sums(b: Any, lanes: int, vectors: list[Any]) -> Any:
    """The sums of up to ``lanes`` vectors, in the first lanes of one vector.

    Each level adds neighbouring lanes of two vectors side by side, so a tree of pairs sums all of
    them in about as many instructions as one vector's sum takes alone.
    """
    kind = ir.VectorType(ir.IntType(32), lanes)
    even, odd = (ir.Constant(kind, list(range(first, 2 * lanes, 2))) for first in (0, 1))
    for _ in range(lanes.bit_length() - 1):
        if len(vectors) % 2:
            vectors = [*vectors, vectors[-1]]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [
            b.fadd(b.shuffle_vector(u, v, even), b.shuffle_vector(u, v, odd)) for u, v in pairs
        ]
    return vectors[0]


class Emitter:
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
        self.scalar = SCALARS[dtype]
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
        """A pointer moved on by some numbers."""
        return self.builder.gep(pointer, [index])

    def constant(self, value: int) -> Any:
        """An int64."""
        return ir.Constant(self.int, value)

    def mul(self, a: Any, b: int) -> Any:
        """An int64 times a fixed one."""
        return self.builder.mul(a, self.constant(b))

    def load(self, pointer: Any) -> Any:
        """A vector from memory."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(pointer, align=self.itemsize)

    def store(self, value: Any, pointer: Any) -> None:
        """A vector to memory."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, pointer, align=self.itemsize)

    def broadcast(self, pointer: Any) -> Any:
        """A vector of one number from memory."""
        return self.splat(self.builder.load(pointer, align=self.itemsize))

    def splat(self, value: Any) -> Any:
        """A vector of one number."""
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
        """Which lanes a shuffle takes."""
        return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, rounded once where the processor can."""
        return self.builder.call(self._fma, [a, b, c])

    def sums(self, vectors: list[Any]) -> Any:
        """The sums of up to ``lanes`` vectors, in the first lanes of one vector."""
        return sums(self.builder, self.lanes, vectors)

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
