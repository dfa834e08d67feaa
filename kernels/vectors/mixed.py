"""Tiles between rows of a network, in the dtype of theta, and those of systems in float64.

A vector here is as many numbers as one holds of float64, of whatever dtype they are. A tile takes
one vector across, of every row; ``factor`` is read once. Their plain Python twins are for where the
JIT is off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from ..compile.link import linked
from .emitter import LANES, SCALARS, Emitter
from .pointers import lanes_of, offset

_LANES = LANES[np.dtype(np.float64)]


def _pointer(e: Emitter, kind: types.CPointer, start: Any, index: Any, stride: Any) -> Any:
    """Where a row's vector lies, of the dtype of its array."""
    at = e.at(start, e.builder.mul(index, stride))
    return e.builder.bitcast(at, ir.VectorType(SCALARS[kind.dtype], e.lanes).as_pointer())


def _plain_scale(rows, c, ldc, a, lda, factor):
    for i in range(rows):
        c[i * ldc : i * ldc + _LANES] = a[i * lda : i * lda + _LANES] * factor[:_LANES]


@intrinsic
def _emit_scale(typingctx, rows, to, ldt, a, lda, factor):
    def emit(context, builder, signature, arguments):
        e = Emitter(context, builder, signature, arguments, "rows to ldt a lda c")
        _, of_to, _, of_a, _, _ = signature.args
        factor = e.load(e["c"])

        def body(index: Any, values: list[Any]) -> list[Any]:
            source = _pointer(e, of_a, e["a"], index, e["lda"])
            value = builder.load(source, align=of_a.dtype.bitwidth // 8)
            if of_a.dtype != types.float64:
                value = builder.fpext(value, e.vector)
            value = builder.fmul(value, factor)
            if of_to.dtype != types.float64:
                value = builder.fptrunc(value, ir.VectorType(SCALARS[of_to.dtype], e.lanes))
            target = _pointer(e, of_to, e["to"], index, e["ldt"])
            builder.store(value, target, align=of_to.dtype.bitwidth // 8)
            return []

        e.loop(e["rows"], [], body)
        return e.context.get_dummy_value()

    i = types.int64
    return types.void(i, to, i, a, i, factor), emit


_scale_tile = _plain_scale if config.DISABLE_JIT else _emit_scale


@linked
def scale_rows(rows, width, c, ldc, a, lda, factor):
    """``C = A diag(factor)`` in columns up to ``width``, whole vectors; each of either dtype."""
    for j in range(0, width, lanes_of(factor)):
        _scale_tile(rows, offset(c, j), ldc, offset(a, j), lda, offset(factor, j))
