"""Own weights: those of small layers, which the factored method keeps for each task after all.

A set of them is a block of OWN_SIZE numbers for each task; ``own_table`` says what lies in it.
There is a set after each inner step, and one for the adjoint lambda, whose sum over the tasks
becomes the layer's gradient.
"""

from __future__ import annotations

import numpy as np

from .link import linked
from .matmul import outer, sum_rows
from .mlp import (
    BIAS,
    COMMON,
    LD_IN,
    LD_OUT,
    N_COMMON,
    N_IN,
    N_OUT,
    N_PADDED,
    NARROW,
    OWN,
    OWN_SIZE,
    P_BIAS,
    P_WEIGHT,
    ROW,
    T_WEIGHT,
    times,
    times_transposed,
    transpose_layer,
)
from .simd import lanes_of


def own_table(table: np.ndarray, own: list[bool], lanes: int) -> np.ndarray:
    """A copy of the table that says of which layers each task has its own weights (OWN, COMMON).

    They lie in a block of OWN_SIZE numbers: of each such layer the weights (n_out, ld_in), at OWN
    the bias (ld_out), and the transposed weights (ld_in, ld_out). What no pass reads has no room:
    the weights of the first layer, or the transposed ones of a narrow layer.
    """
    rows = table.reshape(-1, ROW).copy()
    for layer, flag in enumerate(own, start=1):
        if flag:
            n_in, n_out, ld_in, ld_out = rows[layer, [N_IN, N_OUT, LD_IN, LD_OUT]]
            narrow = NARROW * n_out <= lanes
            rows[layer, OWN] = rows[0, OWN_SIZE] + (n_out * ld_in if narrow or layer > 1 else 0)
            transposed = 0 if narrow else ld_out * (ld_in if layer > 1 else n_in)
            rows[0, OWN_SIZE] = rows[layer, OWN] + ld_out + transposed
        else:
            rows[layer, COMMON] = rows[0, N_COMMON]
            rows[0, N_COMMON] += 1
    return rows.reshape(-1)


@linked
def own_forward(table, layer, first, last, offsets, buf, own, x, z, with_bias):
    """``z = x W^T + b``, or ``z += x W^T``, with the own weights of each task."""
    row = layer * ROW
    ld_in, ld_out = table[row + LD_IN], table[row + LD_OUT]
    bias = own + table[row + OWN]
    for task in range(first, last):
        r0, k = offsets[task] - offsets[first], offsets[task + 1] - offsets[task]
        start, there = (bias, 0) if with_bias else (z + r0 * ld_out, ld_out)
        times_transposed(
            table, layer, k, buf, z + r0 * ld_out, buf, start, there, buf, x + r0 * ld_in,
            buf, bias - table[row + P_BIAS], buf, bias + ld_out - table[row + T_WEIGHT],
        )  # fmt: skip
        bias += table[OWN_SIZE]


@linked
def own_backward(table, layer, first, last, offsets, buf, own, delta, out, add):
    """``out = [out +] delta W`` with the own weights of each task."""
    row = layer * ROW
    weights = own + table[row + OWN] - table[row + P_BIAS]
    for task in range(first, last):
        r0, k = offsets[task] - offsets[first], offsets[task + 1] - offsets[task]
        times(
            table, layer, k, buf, out + r0 * table[row + LD_IN], add,
            buf, delta + r0 * table[row + LD_OUT], buf, weights,
        )  # fmt: skip
        weights += table[OWN_SIZE]


@linked
def _add(
    table, layer, first, last, offsets, buf, own, before, b0, t0, stride, delta, a, with_bias,
):  # fmt: skip
    """``W' = W + delta^T a`` for the own weights of each task, and likewise the bias.

    The bias of the first task lies in ``before`` at b0, W in front of it, its transpose at t0, and
    those of the next task ``stride`` further. The transposed weights only change where no others
    are kept; elsewhere ``own_transpose`` is to follow.
    """  # fmt: skip
    row = layer * ROW
    n_in, n_out = table[row + N_IN], table[row + N_OUT]
    ld_in, ld_out = table[row + LD_IN], table[row + LD_OUT]
    narrow, bias = NARROW * n_out <= lanes_of(buf), own + table[row + OWN]
    for task in range(first, last):
        r0, k = offsets[task] - offsets[first], offsets[task + 1] - offsets[task]
        left, right = delta + r0 * ld_out, a + r0 * ld_in
        if narrow or layer > 1:
            outer(
                n_out, ld_in, k, buf, bias - n_out * ld_in, ld_in, before, b0 - n_out * ld_in,
                ld_in, 1, buf, left, 1, ld_out, buf, right, ld_in,
            )  # fmt: skip
        else:
            outer(
                n_in, ld_out, k, buf, bias + ld_out, ld_out, before, t0, ld_out, 1,
                buf, right, 1, ld_in, buf, left, ld_out,
            )  # fmt: skip
        count = k if with_bias and table[row + BIAS] >= 0 else 0
        sum_rows(ld_out, count, buf, bias, before, b0, 1, buf, left, ld_out)
        bias, b0, t0 = bias + table[OWN_SIZE], b0 + stride, t0 + stride


@linked
def own_transpose(table, layer, n_tasks, buf, own):
    """Each task's transposed weights of a layer that keeps both."""
    row = layer * ROW
    if layer > 1 and NARROW * table[row + N_OUT] > lanes_of(buf):
        bias, size = own + table[row + OWN], table[row + N_OUT] * table[row + LD_IN]
        for _ in range(n_tasks):
            transpose_layer(table, layer, buf, bias - size, buf, bias + table[row + LD_OUT])
            bias += table[OWN_SIZE]


@linked
def own_step(
    table, shared, layer, step, first, last, offsets, rate, delta, a, buf, own, small
):  # fmt: skip
    """The own weights after ``step + 1`` steps, from those before and the step's delta and a."""
    row, rows = layer * ROW, offsets[last] - offsets[first]
    count, ld_out = (last - first) * table[OWN_SIZE], table[row + LD_OUT]
    for i in range(rows * ld_out):
        buf[small + i] = -rate * buf[delta + i]
    if step == 0:
        _add(
            table, layer, first, last, offsets, buf, own, shared, table[row + P_BIAS],
            table[N_PADDED] + table[row + T_WEIGHT], 0, small, a, True,
        )  # fmt: skip
    else:
        bias = own + (step - 1) * count + table[row + OWN]
        _add(
            table, layer, first, last, offsets, buf, own + step * count, buf, bias, bias + ld_out,
            table[OWN_SIZE], small, a, True,
        )  # fmt: skip
    own_transpose(table, layer, last - first, buf, own + step * count)


@linked
def own_adjoint(table, layer, first, last, offsets, buf, own, delta, a, with_bias):
    """``lambda += delta^T a`` for each task."""
    bias = own + table[layer * ROW + OWN]
    _add(
        table, layer, first, last, offsets, buf, own, buf, bias, bias + table[layer * ROW + LD_OUT],
        table[OWN_SIZE], delta, a, with_bias,
    )  # fmt: skip


@linked
def is_wide(table, layer) -> float:
    """Whether a layer's gradient is kept as (n_in, ld_out), the shorter way to pad it."""
    row = layer * ROW
    wide = table[row + N_IN] * table[row + LD_OUT] < table[row + N_OUT] * table[row + LD_IN]
    return 1.0 if wide else 0.0


@linked
def is_summable(table, layer, buf) -> float:
    """Whether a layer's gradient is kept in a form in which its adjoint is, too."""
    row = layer * ROW
    if table[row + OWN] < 0:
        return 0.0
    narrow, wide = NARROW * table[row + N_OUT] <= lanes_of(buf), is_wide(table, layer) > 0
    return 1.0 if (not narrow if wide else narrow or layer > 1) else 0.0


@linked
def sum_adjoints(table, layer, n_tasks, buf, adjoint, add, out, g0):
    """The sum of the tasks' adjoints of a layer, as [part of] its gradient."""
    row = layer * ROW
    ld_in, ld_out = table[row + LD_IN], table[row + LD_OUT]
    n_in, n_out = table[row + N_IN], table[row + N_OUT]
    weight, bias = g0 + table[row + P_WEIGHT], g0 + table[row + P_BIAS]
    own, size = adjoint + table[row + OWN], table[OWN_SIZE]
    if is_wide(table, layer) > 0:
        sum_rows(
            n_in * ld_out, n_tasks, out, weight, out, weight, add, buf, own + ld_out, size
        )  # fmt: skip
        if not add:  # the rest of the place
            for j in range(weight + n_in * ld_out, bias):
                out[j] = 0
    else:
        sum_rows(
            n_out * ld_in, n_tasks, out, weight, out, weight, add, buf, own - n_out * ld_in, size
        )  # fmt: skip
    sum_rows(ld_out, n_tasks, out, bias, out, bias, add, buf, own, size)
