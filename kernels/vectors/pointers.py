"""Pointers to numbers in compiled code, which are flat arrays where the JIT is off."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from .emitter import LANES, REGISTER_BYTES, SCALARS, TILE_COLUMNS


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
        kind = ir.ArrayType(SCALARS[dtype], count)
        with builder.goto_entry_block():
            panel = builder.alloca(kind)  # numba's own alloca_once would zero it at each call
        panel.align = REGISTER_BYTES
        return builder.bitcast(panel, SCALARS[dtype].as_pointer())

    return types.CPointer(dtype)(c, rows), emit


#: room on the stack for a given number of rows of a panel
stack_panel = _plain_panel if config.DISABLE_JIT else _emit_panel
