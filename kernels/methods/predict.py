"""f(theta, x) for the rows of many tasks."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..compile.jit import kernel
from ..compile.link import linked
from ..compile.records import View, net_of
from ..models.padded import spread
from ..models.passes import MAX_ROWS, Block, Point, copy_rows, derive, f_of, forward
from ..vectors.emitter import on_line
from ..vectors.pointers import offset
from .tasks import vector_of, vectors_of


def scratch_size(table: np.ndarray, max_rows: int) -> int:
    """Numbers of scratch that one worker needs, for tasks of up to ``max_rows`` rows."""
    net = View(table)
    return on_line(net.n_padded + net.n_derived + min(max_rows, MAX_ROWS) * net.value_size)


@linked
def predict_rows(net, x, n_rows, at, memory, f):
    """f of some rows, worked in blocks that lie in ``memory``."""
    n_in, n_out, ld_out = net.n_in, net.n_out, net.ld_out
    for first in range(0, n_rows, MAX_ROWS):
        block = Block(min(MAX_ROWS, n_rows - first), memory)
        copy_rows(block.rows, n_in, offset(x, first * n_in), n_in, memory, net.ld_in)
        forward(net, block, at, 0)
        copy_rows(block.rows, n_out, f_of(net, block), ld_out, offset(f, first * n_out), n_out)


@linked
def _work(worker, n_workers, net, theta, x, offsets, first, last, scratch, stride, f):
    scratch = offset(scratch, worker * stride)
    n_in, n_out = net.n_in, net.n_out
    at = Point(scratch, offset(scratch, net.n_padded))
    memory = offset(at.c, net.n_derived)
    for task in range(first + worker, last, n_workers):
        if theta.stride > 0 or task == first + worker:
            spread(net, vector_of(theta, task), at.w)
            derive(net, at)
        start, n_rows = offsets[task], offsets[task + 1] - offsets[task]
        predict_rows(net, offset(x, start * n_in), n_rows, at, memory, offset(f, start * n_out))


@kernel
def predict(n_workers, table, theta, x, offsets, first, last, scratch, f):
    """Write f (N, n_outputs) of the tasks first:last; theta is (1, P) or (n_tasks, P).

    ``scratch`` has a row per worker.
    """
    for worker in prange(n_workers):
        _work(
            worker, n_workers, net_of(table), vectors_of(theta), x, offsets, first, last, scratch,
            scratch.shape[1], f,
        )  # fmt: skip
