"""f(theta, x) for the rows of many tasks."""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import kernel
from .link import linked
from .mlp import (
    LD_IN,
    LD_OUT,
    N_IN,
    N_LAYERS,
    N_OUT,
    N_PADDED,
    N_TRANSPOSED,
    PLACE,
    ROW,
    WIDTH,
    forward,
    load_rows,
    spread,
    transpose,
)  # fmt: skip
from .simd import offset, on_line

#: rows worked at a time
MAX_ROWS = 64


def scratch_size(table: np.ndarray, max_rows: int) -> int:
    """Numbers of scratch that one worker needs, for tasks of up to ``max_rows`` rows."""
    blocks = min(max_rows, MAX_ROWS) * table[WIDTH]
    return on_line(int(table[N_PADDED] + table[N_TRANSPOSED] + blocks))


@linked
def predict_rows(table, x, r0, r1, buf, blocks, w, t, out):
    """Rows r0:r1 of f, for the padded parameters at w and their transposed copy at t."""
    last = table[N_LAYERS] * ROW
    n_in, n_out, ld_out = table[ROW + N_IN], table[last + N_OUT], table[last + LD_OUT]
    for b0 in range(r0, r1, MAX_ROWS):
        rows = min(MAX_ROWS, r1 - b0)
        load_rows(n_in, table[ROW + LD_IN], rows, x, b0 * n_in, buf, blocks)
        forward(table, rows, buf, blocks, 0, 0, 0, buf, w, buf, t)
        value = blocks + rows * table[last + ROW + PLACE]
        for i in range(rows):
            for j in range(n_out):
                out[(b0 + i) * n_out + j] = buf[value + i * ld_out + j]


@linked
def _work(
    worker, n_workers, table, theta, theta_stride, x, offsets, first, last, scratch, scratch_stride,
    out,
):  # fmt: skip
    scratch = offset(scratch, worker * scratch_stride)
    size = table[N_PADDED]
    for task in range(first + worker, last, n_workers):
        if theta_stride > 0 or task == first + worker:
            spread(table, theta, task * theta_stride, scratch, 0)
            transpose(table, scratch, 0, scratch, size)
        blocks = size + table[N_TRANSPOSED]
        predict_rows(table, x, offsets[task], offsets[task + 1], scratch, blocks, 0, size, out)


@kernel
def predict(n_workers, table, theta, x, offsets, first, last, scratch, out):
    """Write f (N, n_outputs) of the tasks first:last; theta is (1, P) or (n_tasks, P).

    ``scratch`` has a row per worker.
    """
    stride = theta.shape[1] if theta.shape[0] > 1 else 0
    for worker in prange(n_workers):
        _work(
            worker, n_workers, table, theta, stride, x, offsets, first, last, scratch,
            scratch.shape[1], out,
        )  # fmt: skip
