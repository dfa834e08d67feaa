"""Own weights: those of small layers, which the factored method keeps for each task after all.

A set of them is a block of ``own_size`` numbers for each task; ``own_table`` says what lies in it.
There is a set after each inner step, and one for the adjoint lambda, whose sum over the tasks
becomes the layer's gradient.
"""

from __future__ import annotations

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import NET_FIELDS, View, layer_of
from ..models.layers import (
    DELTA,
    NARROW,
    A,
    Weights,
    is_narrow,
    times,
    times_transposed,
    transpose_layer,
    weights_of,
)
from ..vectors.matmul import outer, sum_rows
from ..vectors.pointers import offset
from .blocks import count_of, n_rows, row_of
from .run import Pair, adjoint_of, own_after, pair_of, rate_of, support_block, task_pair


def own_table(table: np.ndarray, own: list[bool], lanes: int) -> np.ndarray:
    """A copy of the table that says of which layers each task has its own weights.

    They lie in a block of ``own_size`` numbers: of each such layer the weights (n_out, ld_in), at
    ``own`` the bias (ld_out), and the transposed weights (ld_in, ld_out). What no pass reads has no
    room: the weights of the first layer, or the transposed ones of a narrow layer.
    """
    table, own_size, n_common = table.copy(), 0, 0
    layers = View(table).layers
    for number, flag in enumerate(own, start=1):
        layer = layers[number - 1]
        if flag:
            narrow = NARROW * layer.n_out <= lanes
            weights = layer.n_out * layer.ld_in if narrow or number > 1 else 0
            rows = layer.ld_in if number > 1 else layer.n_in
            layer.own = own_size + weights
            own_size = layer.own + layer.ld_out + (0 if narrow else layer.ld_out * rows)
        else:
            layer.common = n_common
            n_common += 1
    table[NET_FIELDS.index("own_size")] = own_size
    table[NET_FIELDS.index("n_common")] = n_common
    return table


@helper
def own_of(net, layer, own, index):
    """The weights of a layer in a set, of the task that is the block's ``index``-th."""
    # Where no weights are kept (see `own_table`), theirs is a place that nobody reads.
    bias = index * net.own_size + layer.own
    weights = bias - layer.n_out * layer.ld_in
    return Weights(offset(own, weights), offset(own, bias), offset(own, bias + layer.ld_out))


@linked
def own_forward(net, number, side, own, x, z, with_bias):
    """``z = x W^T + b``, or ``z += x W^T``, with the own weights of each task."""
    layer = layer_of(net, number)
    ld_in, ld_out = layer.ld_in, layer.ld_out
    for task in range(side.first, side.last):
        r0, weights = row_of(side, task), own_of(net, layer, own, task - side.first)
        zt = offset(z, r0 * ld_out)
        start, ld = (weights.b, 0) if with_bias else (zt, ld_out)
        xt = offset(x, r0 * ld_in)
        times_transposed(layer, count_of(side, task), zt, start, ld, xt, weights)


@linked
def own_backward(net, number, side, own, delta, out, add):
    """``out = [out +] delta W`` with the own weights of each task."""
    layer = layer_of(net, number)
    for task in range(side.first, side.last):
        r0, weights = row_of(side, task), own_of(net, layer, own, task - side.first)
        out_t, delta_t = offset(out, r0 * layer.ld_in), offset(delta, r0 * layer.ld_out)
        times(layer, count_of(side, task), out_t, add, delta_t, weights)


@linked
def _add(number, layer, after, before, pair, with_bias):
    """``W' = W + P^T Q`` for one task's weights, and likewise the bias.

    The transposed weights only change where no others are kept; elsewhere ``own_transpose`` is to
    follow.
    """
    n_in, n_out, ld_in, ld_out = layer.n_in, layer.n_out, layer.ld_in, layer.ld_out
    rows, p, q = pair.rows, pair.p, pair.q
    if is_narrow(layer, p) or number > 1:
        outer(n_out, ld_in, rows, after.w, ld_in, before.w, ld_in, 1, p, 1, ld_out, q, ld_in)
    else:
        outer(n_in, ld_out, rows, after.t, ld_out, before.t, ld_out, 1, q, 1, ld_in, p, ld_out)
    count = rows if with_bias and layer.bias >= 0 else 0
    sum_rows(ld_out, count, after.b, before.b, 1, p, ld_out)


@linked
def own_transpose(net, run, number, own):
    """Each task's transposed weights in a set, of a layer that keeps both."""
    layer = layer_of(net, number)
    if number > 1 and not is_narrow(layer, own):
        for index in range(run.support.last - run.support.first):
            weights = own_of(net, layer, own, index)
            transpose_layer(layer, weights.w, weights.t)


@linked
def own_step(net, run, number, step):
    """The own weights after ``step + 1`` steps, from those before and the step's delta and a."""
    layer, support, scaled = layer_of(net, number), run.support, run.memory.small
    rate, rows = rate_of(net, run, step, number), n_rows(support)
    updates = pair_of(net, support_block(net, run, step), number, DELTA, A)
    for i in range(rows * layer.ld_out):
        scaled[i] = -rate * updates.p[i]
    updates = Pair(rows, scaled, updates.q)
    own, own_before = own_after(run, step + 1), own_after(run, max(step, 1))
    for task in range(support.first, support.last):
        index = task - support.first
        after = own_of(net, layer, own, index)
        before = (
            own_of(net, layer, own_before, index) if step > 0 else weights_of(layer, run.shared)
        )
        _add(number, layer, after, before, task_pair(layer, support, updates, task), True)
    own_transpose(net, run, number, own)


@linked
def add_to_adjoint(net, run, number, side, pair, with_bias):
    """``lambda += P^T Q`` for each task."""
    layer, adjoint = layer_of(net, number), adjoint_of(run)
    for task in range(side.first, side.last):
        weights = own_of(net, layer, adjoint, task - side.first)
        _add(number, layer, weights, weights, task_pair(layer, side, pair, task), with_bias)


@helper
def is_wide(layer):
    """Whether a layer's gradient is kept as (n_in, ld_out), the shorter way to pad it."""
    return layer.n_in * layer.ld_out < layer.n_out * layer.ld_in


@helper
def clear_rest(layer, add, g_w):
    """Zero what the gradient of a wide layer leaves of its place, unless it is added to one."""
    first, last = layer.n_in * layer.ld_out, layer.n_out * layer.ld_in
    for j in range(first, first if add else last):
        g_w[j] = 0


@helper
def is_summable(number, layer, vector):
    """Whether a layer's gradient is kept in a form in which its adjoint is, too."""
    narrow = is_narrow(layer, vector)
    kept = not narrow if is_wide(layer) else narrow or number > 1
    return layer.own >= 0 and kept


@linked
def sum_adjoints(net, run, number, add, g):
    """The sum of the tasks' adjoints of a layer, as [part of] its gradient."""
    layer, size, n_tasks = layer_of(net, number), net.own_size, run.support.last - run.support.first
    n_in, n_out, ld_in, ld_out = layer.n_in, layer.n_out, layer.ld_in, layer.ld_out
    g_w, g_b = offset(g, layer.p_weight), offset(g, layer.p_bias)
    adjoint = own_of(net, layer, adjoint_of(run), 0)
    if is_wide(layer):
        sum_rows(n_in * ld_out, n_tasks, g_w, g_w, add, adjoint.t, size)
        clear_rest(layer, add, g_w)
    else:
        sum_rows(n_out * ld_in, n_tasks, g_w, g_w, add, adjoint.w, size)
    sum_rows(ld_out, n_tasks, g_b, g_b, add, adjoint.b, size)
