"""Method ``factored``: the meta-gradient without any task's parameter vector.

A task's gradient for a layer is a sum of outer products over its rows, so its adapted weights
differ from the shared W by a matrix of low rank, and nobody needs to form it. With a bias folded
in (an input that is 1), after t steps

    W_t = W - sum_{u<t} alpha_u delta_u^T a_u

where a_u (inputs of the layer) and delta_u = dL/dz are the row blocks of the task's support set at
step u. Products with W are then made with the one W of all tasks, for the rows of a whole block of
tasks at once; what belongs to a task is products of small blocks:

* forward    ``z = x W^T - sum_u alpha_u (x a_u^T) delta_u``
* backward   ``delta_prev = (delta W - sum_u alpha_u (delta delta_u^T) a_u) * phi'``

The adjoint lambda = dL/dW_t is a pair of row blocks too, ``lambda = P^T Q``. It starts as the
query rows, (P, Q) = (delta_query, a_query). Going back through step s, ``lambda <- lambda - H_s
(alpha_s lambda)``: the R-operator on the support rows of step s, along ``-alpha_s lambda``. With C
= a_s Q^T and E = delta_s P^T,

* R-forward   ``Rz = Ra W_s^T - alpha_s C P``,                 ``Ra' = phi' * Rz``
* R-backward  ``Rdelta_prev = (Rdelta W_s - alpha_s E Q) * phi' + (delta_s W_s) * phi'' * Rz_prev``
* output      ``Rdelta = c Rz``, c the scale of the loss
* lambda gains the rows (Rdelta, a_s) and (delta_s, Ra)
* rates       ``d/d alpha_s = -sum C * E``

(all R-values carry the minus sign of the direction, so lambda only ever gains rows). A weight on
the query loss after step t appends that step's query rows when the way back arrives there. At the
end the gradient of a layer is P^T Q over the rows of a block of tasks: a few larger products.

For S steps of K rows the work that is not shared grows as S^2 K^2 per layer width, and memory does
not depend on P per task. So this is the method for few rows a task.

A layer of few weights, such as one with a single input, is cheaper the other way: each task has
its *own* weights W_1, ..., W_S of it, and the adjoint lambda as a matrix (``own_table`` says which
layers). Such a layer's passes are those of ``mlp``: ``z = x W_t^T + b_t``, ``Rz = -alpha_s a
lambda^T + Ra W_s^T``, and so on; and its gradient is the sum of what its lambdas have become.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import kernel
from .link import linked
from .matmul import inner, outer, sum_rows
from .mlp import (
    BIAS,
    COMMON,
    LD_IN,
    LD_OUT,
    N_COMMON,
    N_IN,
    N_LAYERS,
    N_OUT,
    N_PADDED,
    OWN,
    OWN_SIZE,
    P_BIAS,
    P_WEIGHT,
    PLACE,
    ROW,
    WEIGHT,
    WIDTH,
    apply_activation,
    is_curved,
    load_rows,
    r_activation,
    r_backward_activation,
    residual,
    spread,
    times,
    times_transposed,
    transpose,
)  # fmt: skip
from .modes import RATES, VALUE
from .own_weights import (
    is_summable,
    is_wide,
    own_adjoint,
    own_backward,
    own_forward,
    own_step,
    own_transpose,
    sum_adjoints,
)
from .reduce import add_rows
from .simd import LINE, offset, on_line

# The row blocks that are kept of one step: inputs, phi', phi'' (then delta W * phi'' * Rz), delta,
# R-values, R-deltas
A, D1, D2, DELTA, RA, R_DELTA = 0, 1, 2, 3, 4, 5
SUPPORT_BLOCKS, QUERY_BLOCKS = 6, 4
# The small products that are kept, -alpha_s (x a_s^T + 1) or -alpha_s (x delta_s^T), for x the
# rows of a later pass. C and E of step s are transposes of them, so the way back needs no product
# of its own.
FORWARD, BACKWARD, R_FORWARD, R_BACKWARD = 0, 1, 2, 3
SUPPORT_KINDS, QUERY_KINDS = 4, 2


def scratch_size(
    table: np.ndarray, rows: np.ndarray, query_rows: np.ndarray, blocks: np.ndarray,
    steps: int, losses: int, with_rates: bool,
) -> int:  # fmt: skip
    """Numbers of scratch that one worker needs, for the numbers of rows of each task.

    ``losses`` is the number of steps with a weight, ``with_rates`` whether the gradient of the
    rates is wanted; block b is the tasks ``blocks[b] : blocks[b + 1]``.
    """

    def most(counts: np.ndarray) -> int:
        return int(np.add.reduceat(counts, blocks[:-1]).max())

    n_common, width = int(table[N_COMMON]), int(table[WIDTH])
    values = SUPPORT_BLOCKS * steps * most(rows) + QUERY_BLOCKS * losses * most(query_rows)
    products = SUPPORT_KINDS * steps * most(rows * rows) + QUERY_KINDS * losses * most(
        rows * query_rows
    )
    pairs = int((rows * np.maximum(rows, query_rows)).max()) if with_rates else 0
    layers = table.reshape(-1, ROW)[1:-1]
    widest = int(layers[layers[:, OWN] >= 0, LD_OUT].max(initial=0))
    own = (steps + 1) * int(np.diff(blocks).max()) * int(table[OWN_SIZE])
    small = max(2 * pairs, most(rows) * widest)
    return on_line(values * width + n_common * steps * products) + on_line(own + small)


@linked
def _rank_dot(m, k, buf, a, q, ld_in, one, delta, p, ld_out, small) -> float:
    """``sum C * E`` for C = a q^T + one and E = delta p^T."""
    inner(m, k, ld_in, buf, small, k, 1.0, 1.0 * one, 0, buf, a, ld_in, buf, q, ld_in)
    inner(m, k, ld_out, buf, small + m * k, k, 1.0, 0.0, 0, buf, delta, ld_out, buf, p, ld_out)
    total = 0.0
    for i in range(m * k):
        total += np.float64(buf[small + i]) * np.float64(buf[small + m * k + i])
    return total


@linked
def _updates(
    table, layer, forward, first, last, offsets, rows, support, x_offsets, x, one, z,
    steps, rates, buf, kept, stride,
):  # fmt: skip
    """Subtract what the tasks' first ``steps`` updates change.

    ``z -= sum_u alpha_u (x a_u^T + one) delta_u``; on the way back a_u and delta_u change places.

    x and z are blocks of rows cut into tasks by ``x_offsets``. The small products are kept: those
    of step u at ``kept + u * stride``, one task after the other.
    """  # fmt: skip
    row = layer * ROW
    ld_in, ld_out = table[row + LD_IN], table[row + LD_OUT]
    ld_x, ld_z = (ld_in, ld_out) if forward else (ld_out, ld_in)
    size = rows * table[WIDTH]
    left, right = rows * table[row + PLACE], DELTA * size + rows * table[row + ROW + PLACE]
    if not forward:
        left, right = right, left
    for step in range(steps):
        rate = rates[step * table[N_LAYERS] + layer - 1]
        if rate == 0:
            continue
        block, small = support + step * SUPPORT_BLOCKS * size, kept + step * stride
        for task in range(first, last):
            r0, k = offsets[task] - offsets[first], offsets[task + 1] - offsets[task]
            x0, m = x_offsets[task] - x_offsets[first], x_offsets[task + 1] - x_offsets[task]
            zt = z + x0 * ld_z
            inner(
                m, k, ld_x, buf, small, k, -rate, -rate * one, 0,
                buf, x + x0 * ld_x, ld_x, buf, block + left + r0 * ld_x, ld_x,
            )  # fmt: skip
            outer(
                m, ld_z, k, buf, zt, ld_z, buf, zt, ld_z, 1, buf, small, k, 1,
                buf, block + right + r0 * ld_z, ld_z,
            )  # fmt: skip
            small += m * k


@linked
def _add_kept(table, first, last, offsets, p_offsets, p, ld, z, buf, kept):
    """``z += T^T p`` for every task, T a product that a later pass has kept with p's rows down."""
    for task in range(first, last):
        r0, m = offsets[task] - offsets[first], offsets[task + 1] - offsets[task]
        p0, k = p_offsets[task] - p_offsets[first], p_offsets[task + 1] - p_offsets[task]
        zt = z + r0 * ld
        outer(m, ld, k, buf, zt, ld, buf, zt, ld, 1, buf, kept, 1, m, buf, p + p0 * ld, ld)
        kept += m * k


@linked
def _pass(
    table, shared, first, last, offsets, rows, support, steps, all_steps, rates,
    x, y, x_offsets, x_rows, block, own,
    loss_scale, loss_mean, weight, gradient, curvature, task_values, buf, kept, kinds, stride,
):  # fmt: skip
    """Forward and backward for rows (x, y) of the block's tasks, after ``steps`` steps.

    Fills A, D1, D2, DELTA of ``block``; adds the weighted loss to ``task_values`` if weight is not
    0.
    """
    n_layers, size, transposed = table[N_LAYERS], x_rows * table[WIDTH], table[N_PADDED]
    last_row, start = n_layers * ROW, x_offsets[first]
    a, d1, d2, delta = block, block + D1 * size, block + D2 * size, block + DELTA * size
    n_in, n_out = table[ROW + N_IN], table[last_row + N_OUT]
    own += (steps - 1) * (last - first) * table[OWN_SIZE]
    load_rows(n_in, table[ROW + LD_IN], x_rows, x, start * n_in, buf, a)
    for layer in range(1, n_layers + 1):
        row = layer * ROW
        before, here = x_rows * table[row + PLACE], x_rows * table[row + ROW + PLACE]
        bias = table[row + P_BIAS]
        if steps > 0 and table[row + OWN] >= 0:
            own_forward(
                table, layer, first, last, x_offsets, buf, own, a + before, a + here, True
            )  # fmt: skip
        else:
            times_transposed(
                table, layer, x_rows, buf, a + here, shared, bias, 0, buf, a + before,
                shared, 0, shared, transposed,
            )  # fmt: skip
            _updates(
                table, layer, True, first, last, offsets, rows, support, x_offsets, a + before,
                table[row + BIAS] >= 0, a + here, steps, rates, buf,
                kept + (table[row + COMMON] * kinds + FORWARD) * all_steps * stride, stride,
            )  # fmt: skip
        if layer < n_layers:
            derivatives = (2 if curvature else 1) if gradient else 0
            apply_activation(
                table, layer, x_rows, buf, a + here, d1 + here, d2 + here, derivatives
            )  # fmt: skip
    out, ld_out = x_rows * table[last_row + ROW + PLACE], table[last_row + LD_OUT]
    factor = weight if weight != 0 else 1.0
    for task in range(first, last):
        r0, k = x_offsets[task] - start, x_offsets[task + 1] - x_offsets[task]
        scale = factor * (loss_scale / k if loss_mean else loss_scale)
        at = out + r0 * ld_out
        squares = residual(
            n_out, ld_out, k, buf, a + at, delta + at, y, (start + r0) * n_out, scale
        )
        if weight != 0:
            task_values[task] += 0.5 * scale * squares
    if not gradient:
        return
    for layer in range(n_layers, 1, -1):
        row = layer * ROW
        before, here = x_rows * table[row + PLACE], x_rows * table[row + ROW + PLACE]
        if steps > 0 and table[row + OWN] >= 0:
            own_backward(
                table, layer, first, last, x_offsets, buf, own, delta + here, delta + before, 0
            )  # fmt: skip
        else:
            times(table, layer, x_rows, buf, delta + before, 0, buf, delta + here, shared, 0)
            _updates(
                table, layer, False, first, last, offsets, rows, support, x_offsets, delta + here,
                0, delta + before, steps, rates, buf,
                kept + (table[row + COMMON] * kinds + BACKWARD) * all_steps * stride, stride,
            )  # fmt: skip
        n = x_rows * table[row + LD_IN]
        if curvature and is_curved(table) > 0:
            for i in range(n):
                buf[d2 + before + i] *= buf[delta + before + i]
        for i in range(n):
            buf[delta + before + i] *= buf[d1 + before + i]


@linked
def _along_adjoint(
    table, layer, forward, step, steps, first, last, offsets, rows, support, q_offsets, q_rows,
    query,
    step_weights, z, rates, buf, kept, stride, q_kept, q_stride,
):  # fmt: skip
    """The direction's own part of an R-pass: ``z -= alpha C P``, or, back, ``z -= alpha E Q``.

    The rows (P, Q) of lambda are the query rows of later losses and, of each later step u,
    (Rdelta_u, a_u) and (delta_u, Ra_u); the products with them are those that the later passes
    made with the rows of this step.
    """
    row = layer * ROW
    if rates[step * table[N_LAYERS] + layer - 1] == 0:
        return
    size, q_size = rows * table[WIDTH], q_rows * table[WIDTH]
    before, here = table[row + PLACE], table[row + ROW + PLACE]
    ld = table[row + LD_OUT] if forward else table[row + LD_IN]
    place = here if forward else before
    kind, common = FORWARD if forward else BACKWARD, table[row + COMMON]
    block = query + q_rows * place + (DELTA * q_size if forward else 0)
    of_layer = q_kept + ((common * QUERY_KINDS + kind) * steps + step) * q_stride
    for after in range(steps + 1):
        if step_weights[after] == 0:
            continue
        if after > step:
            _add_kept(table, first, last, offsets, q_offsets, block, ld, z, buf, of_layer)
        block += QUERY_BLOCKS * q_size
        of_layer += QUERY_KINDS * table[N_COMMON] * steps * q_stride
    for after in range(step + 1, steps):
        later = support + after * SUPPORT_BLOCKS * size + rows * place
        of_layer = kept + (after * table[N_COMMON] + common) * SUPPORT_KINDS * steps * stride
        own = of_layer + kind * steps * stride + step * stride
        ours = own + (R_FORWARD - FORWARD) * steps * stride
        # with C of (Rdelta, a) and of (delta, Ra), or with E of (delta, Ra) and of (Rdelta, a)
        first_block = R_DELTA * size if forward else RA * size
        second_block = DELTA * size if forward else 0
        _add_kept(table, first, last, offsets, offsets, later + first_block, ld, z, buf, own)
        if layer > 1:  # Ra of the input is zero, and so is R of the folded 1
            _add_kept(table, first, last, offsets, offsets, later + second_block, ld, z, buf, ours)


@linked
def _rate_gradient(
    table, layer, step, steps, exact, first, last, offsets, rows, support, q_offsets, q_rows, query,
    step_weights, buf, small,
) -> float:  # fmt: skip
    """``-sum C * E`` of one step and layer, over the block's tasks."""
    row = layer * ROW
    ld_in, ld_out = table[row + LD_IN], table[row + LD_OUT]
    one = 1 if table[row + BIAS] >= 0 else 0
    size, q_size = rows * table[WIDTH], q_rows * table[WIDTH]
    before, here = table[row + PLACE], table[row + ROW + PLACE]
    own = support + step * SUPPORT_BLOCKS * size
    total = 0.0
    for task in range(first, last):
        r0, m = offsets[task] - offsets[first], offsets[task + 1] - offsets[task]
        q0, k = q_offsets[task] - q_offsets[first], q_offsets[task + 1] - q_offsets[task]
        a = own + rows * before + r0 * ld_in
        delta = own + DELTA * size + rows * here + r0 * ld_out
        block = query
        for after in range(steps + 1):
            if step_weights[after] == 0:
                continue
            if after > step:
                q = block + q_rows * before + q0 * ld_in
                p = block + DELTA * q_size + q_rows * here + q0 * ld_out
                total -= _rank_dot(m, k, buf, a, q, ld_in, one, delta, p, ld_out, small)
            block += QUERY_BLOCKS * q_size
        for after in range(step + 1, steps if exact else 0):
            later = support + after * SUPPORT_BLOCKS * size
            q, p = later + rows * before + r0 * ld_in, later + rows * here + r0 * ld_out
            total -= _rank_dot(
                m, m, buf, a, q, ld_in, one, delta, p + R_DELTA * size, ld_out, small
            )
            if layer > 1:
                total -= _rank_dot(
                    m, m, buf, a, q + RA * size, ld_in, 0, delta, p + DELTA * size, ld_out, small
                )
    return total


@linked
def _carry_adjoint(
    table, step, steps, first, last, offsets, rows, support, q_offsets, q_rows, query,
    step_weights, buf, own,
):  # fmt: skip
    """lambda at ``step``, for the layers that have own weights.

    It gains what has come since: the rows of step + 1, and ``query``, those of the loss after this
    step.
    """
    n_layers, size, q_size = table[N_LAYERS], rows * table[WIDTH], q_rows * table[WIDTH]
    count = (last - first) * table[OWN_SIZE]
    adjoint, later = own + steps * count, support + (step + 1) * SUPPORT_BLOCKS * size
    if step == steps - 1:
        for i in range(count):
            buf[adjoint + i] = 0
    for layer in range(1, n_layers + 1):
        row = layer * ROW
        if table[row + OWN] < 0:
            continue
        before, here = table[row + PLACE], table[row + ROW + PLACE]
        if step < steps - 1:
            a, b = later + rows * before, later + rows * here
            own_adjoint(
                table, layer, first, last, offsets, buf, adjoint, b + R_DELTA * size, a, True
            )  # fmt: skip
            if layer > 1:
                own_adjoint(
                    table, layer, first, last, offsets, buf, adjoint, b + DELTA * size,
                    a + RA * size, False,
                )  # fmt: skip
        if step_weights[step + 1] != 0:
            own_adjoint(
                table, layer, first, last, q_offsets, buf, adjoint,
                query + DELTA * q_size + q_rows * here, query + q_rows * before, True,
            )  # fmt: skip
        own_transpose(table, layer, last - first, buf, adjoint)


@linked
def _scale(n, buf, at, factor):
    for i in range(n):
        buf[at + i] *= factor


@linked
def _r_pass(
    table, shared, step, steps, first, last, offsets, rows, support, q_offsets, q_rows, query,
    own, loss_scale, loss_mean, step_weights, rates, buf, kept, stride, q_kept, q_stride,
):  # fmt: skip
    """R-values and R-deltas of the support rows at ``step``, along ``-alpha lambda``."""
    n_layers, size, transposed = table[N_LAYERS], rows * table[WIDTH], table[N_PADDED]
    block = support + step * SUPPORT_BLOCKS * size
    d1, d2 = block + D1 * size, block + D2 * size
    ra, r_delta = block + RA * size, block + R_DELTA * size
    products = kept + step * table[N_COMMON] * SUPPORT_KINDS * steps * stride
    count = (last - first) * table[OWN_SIZE]
    before_step, adjoint = own + (step - 1) * count, own + steps * count
    for layer in range(1, n_layers + 1):
        row = layer * ROW
        before, here = rows * table[row + PLACE], rows * table[row + ROW + PLACE]
        z, n, is_own = ra + here, rows * table[row + LD_OUT], table[row + OWN] >= 0
        if is_own:
            own_forward(table, layer, first, last, offsets, buf, adjoint, block + before, z, True)
            _scale(n, buf, z, -rates[step * n_layers + layer - 1])
        else:
            for i in range(n):
                buf[z + i] = 0
        if layer > 1 and is_own and step > 0:
            own_forward(table, layer, first, last, offsets, buf, before_step, ra + before, z, False)
        elif layer > 1:
            times_transposed(
                table, layer, rows, buf, z, buf, z, table[row + LD_OUT], buf, ra + before,
                shared, 0, shared, transposed,
            )  # fmt: skip
            if not is_own:
                _updates(
                    table, layer, True, first, last, offsets, rows, support, offsets, ra + before,
                    0, z, step, rates, buf,
                    products + (table[row + COMMON] * SUPPORT_KINDS + R_FORWARD) * steps * stride,
                    stride,
                )  # fmt: skip
        if not is_own:
            _along_adjoint(
                table, layer, True, step, steps, first, last, offsets, rows, support, q_offsets,
                q_rows, query,
                step_weights, z, rates, buf, kept, stride, q_kept, q_stride,
            )  # fmt: skip
        if layer < n_layers:
            r_activation(table, n, buf, z, d1 + here, d2 + here)
    last_row = n_layers * ROW
    out, ld = rows * table[last_row + ROW + PLACE], table[last_row + LD_OUT]
    for task in range(first, last):
        r0, r1 = offsets[task] - offsets[first], offsets[task + 1] - offsets[first]
        scale = loss_scale / (r1 - r0) if loss_mean else loss_scale
        for i in range(out + r0 * ld, out + r1 * ld):
            buf[r_delta + i] = scale * buf[ra + i]
    for layer in range(n_layers, 1, -1):
        row = layer * ROW
        before, here = rows * table[row + PLACE], rows * table[row + ROW + PLACE]
        z, is_own = r_delta + before, table[row + OWN] >= 0
        if is_own:
            delta = block + DELTA * size + here
            own_backward(table, layer, first, last, offsets, buf, adjoint, delta, z, 0)
            _scale(rows * table[row + LD_IN], buf, z, -rates[step * n_layers + layer - 1])
        if is_own and step > 0:
            own_backward(
                table, layer, first, last, offsets, buf, before_step, r_delta + here, z, 1
            )  # fmt: skip
        else:
            times(table, layer, rows, buf, z, is_own, buf, r_delta + here, shared, 0)
        if not is_own:
            _updates(
                table, layer, False, first, last, offsets, rows, support, offsets, r_delta + here,
                0, z, step, rates, buf,
                products + (table[row + COMMON] * SUPPORT_KINDS + R_BACKWARD) * steps * stride,
                stride,
            )  # fmt: skip
            _along_adjoint(
                table, layer, False, step, steps, first, last, offsets, rows, support, q_offsets,
                q_rows, query,
                step_weights, z, rates, buf, kept, stride, q_kept, q_stride,
            )  # fmt: skip
        r_backward_activation(
            table, rows * table[row + LD_IN], buf, z, d1 + before, d2 + before
        )  # fmt: skip


@linked
def _add_gradient(table, layer, rows, buf, left, right, with_bias, add, out, g0):
    """``P^T Q`` of one pair of row blocks, and the column sums of P for the bias."""
    row = layer * ROW
    ld_in, ld_out = table[row + LD_IN], table[row + LD_OUT]
    weight, bias = g0 + table[row + P_WEIGHT], g0 + table[row + P_BIAS]
    if is_wide(table, layer) > 0:
        outer(
            table[row + N_IN], ld_out, rows, out, weight, ld_out, out, weight, ld_out, add,
            buf, right, 1, ld_in, buf, left, ld_out,
        )  # fmt: skip
    else:
        outer(
            table[row + N_OUT], ld_in, rows, out, weight, ld_in, out, weight, ld_in, add,
            buf, left, 1, ld_out, buf, right, ld_in,
        )  # fmt: skip
    if not add and is_wide(table, layer) > 0:  # the rest of the place
        for j in range(weight + table[row + N_IN] * ld_out, bias):
            out[j] = 0
    count = rows if with_bias and table[row + BIAS] >= 0 else 0
    sum_rows(ld_out, count, out, bias, out, bias, add, buf, left, ld_out)


@linked
def gather_gradient(table, total, gradient):
    """Write the padded total as a plain parameter vector."""
    for layer in range(1, table[N_LAYERS] + 1):
        row = layer * ROW
        n_in, n_out = table[row + N_IN], table[row + N_OUT]
        wide = is_wide(table, layer) > 0
        down = 1 if wide else table[row + LD_IN]
        across = table[row + LD_OUT] if wide else 1
        weight, source = table[row + WEIGHT], table[row + P_WEIGHT]
        for i in range(n_out):
            for j in range(n_in):
                gradient[weight + i * n_in + j] = total[source + i * down + j * across]
        if table[row + BIAS] >= 0:
            for i in range(n_out):
                gradient[table[row + BIAS] + i] = total[table[row + P_BIAS] + i]


@linked
def _block(
    table, shared, x, y, offsets, x_query, y_query, q_offsets, first, last, loss_scale, loss_mean,
    exact, rates, step_weights, steps, mode, buf, gradient_rows, g0, rate_rows, r0, add,
    task_values,
):  # fmt: skip
    """The tasks first:last, from their rows to their sum of gradients, [+] a chunk's row."""
    rows, q_rows = offsets[last] - offsets[first], q_offsets[last] - q_offsets[first]
    size, q_size = rows * table[WIDTH], q_rows * table[WIDTH]
    support = losses = 0
    for step in range(steps + 1):
        losses += 1 if step_weights[step] != 0 else 0
    query = steps * SUPPORT_BLOCKS * size
    stride = q_stride = 0
    for task in range(first, last):
        k, m = offsets[task + 1] - offsets[task], q_offsets[task + 1] - q_offsets[task]
        stride += k * k
        q_stride += m * k
    kept = query + losses * QUERY_BLOCKS * q_size
    q_kept = kept + steps * table[N_COMMON] * SUPPORT_KINDS * steps * stride
    own = q_kept + losses * table[N_COMMON] * QUERY_KINDS * steps * q_stride
    own = (own + LINE - 1) // LINE * LINE  # as on_line
    small = own + (steps + 1) * (last - first) * table[OWN_SIZE]
    back = mode > VALUE
    for task in range(first, last):
        task_values[task] = 0
    for i in range(steps * table[N_LAYERS] if mode == RATES and not add else 0):
        rate_rows[r0 + i] = 0
    if losses == 0:  # no loss counts: everything is zero
        for i in range(table[N_PADDED] if back and not add else 0):
            gradient_rows[g0 + i] = 0
        return
    block, of_loss = query, q_kept
    for step in range(steps + 1):
        if step_weights[step] != 0:
            _pass(
                table, shared, first, last, offsets, rows, support, step, steps, rates,
                x_query, y_query, q_offsets, q_rows, block, own, loss_scale, loss_mean,
                step_weights[step], back, False, task_values, buf, of_loss, QUERY_KINDS, q_stride,
            )  # fmt: skip
            block += QUERY_BLOCKS * q_size
            of_loss += table[N_COMMON] * QUERY_KINDS * steps * q_stride
        if step < steps:
            _pass(
                table, shared, first, last, offsets, rows, support, step, steps, rates,
                x, y, offsets, rows, support + step * SUPPORT_BLOCKS * size, own, loss_scale,
                loss_mean, 0.0, True, back and exact, task_values, buf,
                kept + step * table[N_COMMON] * SUPPORT_KINDS * steps * stride, SUPPORT_KINDS,
                stride,
            )  # fmt: skip
            for layer in range(1, table[N_LAYERS] + 1):
                if table[layer * ROW + OWN] >= 0:
                    values = support + step * SUPPORT_BLOCKS * size
                    own_step(
                        table, shared, layer, step, first, last, offsets,
                        rates[step * table[N_LAYERS] + layer - 1],
                        values + DELTA * size + rows * table[layer * ROW + ROW + PLACE],
                        values + rows * table[layer * ROW + PLACE], buf, own, small,
                    )  # fmt: skip
    for step in range(steps - 1, -1, -1):
        if exact and back:
            if step_weights[step + 1] != 0:
                block -= QUERY_BLOCKS * q_size
            _carry_adjoint(
                table, step, steps, first, last, offsets, rows, support, q_offsets, q_rows, block,
                step_weights, buf, own,
            )  # fmt: skip
            _r_pass(
                table, shared, step, steps, first, last, offsets, rows, support, q_offsets, q_rows,
                query, own, loss_scale, loss_mean, step_weights, rates, buf, kept, stride, q_kept,
                q_stride,
            )  # fmt: skip
        if mode == RATES:
            for layer in range(1, table[N_LAYERS] + 1):
                rate_rows[r0 + step * table[N_LAYERS] + layer - 1] += _rate_gradient(
                    table, layer, step, steps, exact, first, last, offsets, rows, support,
                    q_offsets, q_rows, query, step_weights, buf, small,
                )  # fmt: skip
    if not back:
        return
    for layer in range(1, table[N_LAYERS] + 1):
        before, here = table[layer * ROW + PLACE], table[layer * ROW + ROW + PLACE]
        # lambda at step 0 lacks the rows of this step, and those of a loss before it.
        carried = steps > 0 and exact and is_summable(table, layer, buf) > 0
        if carried:
            adjoint = own + steps * (last - first) * table[OWN_SIZE]
            sum_adjoints(table, layer, last - first, buf, adjoint, add, gradient_rows, g0)
        block, more = query, add or carried
        for step in range(steps + 1):
            if step_weights[step] == 0:
                continue
            if step == 0 or not carried:
                left, right = block + DELTA * q_size + q_rows * here, block + q_rows * before
                _add_gradient(table, layer, q_rows, buf, left, right, True, more, gradient_rows, g0)
                more = True
            block += QUERY_BLOCKS * q_size
        for step in range((1 if carried else steps) if exact and steps > 0 else 0):
            block = support + step * SUPPORT_BLOCKS * size
            left, right = block + rows * here, block + rows * before
            _add_gradient(
                table, layer, rows, buf, left + R_DELTA * size, right, True, more, gradient_rows, g0
            )  # fmt: skip
            more = True
            if layer > 1:
                _add_gradient(
                    table, layer, rows, buf, left + DELTA * size, right + RA * size, False, True,
                    gradient_rows, g0,
                )  # fmt: skip


@linked
def _work(
    worker, n_workers, table, shared, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, loss_scale, loss_mean, exact, rates, step_weights, steps, mode,
    scratch, scratch_stride, gradient_rows, rate_rows, task_values, blocks,
):  # fmt: skip
    buf = offset(scratch, worker * scratch_stride)
    for chunk in range(first + worker, last, n_workers):
        for block in range(chunks[chunk], chunks[chunk + 1]):
            _block(
                table, shared, x, y, offsets, x_query, y_query, query_offsets, blocks[block],
                blocks[block + 1], loss_scale, loss_mean, exact, rates, step_weights, steps, mode,
                buf, gradient_rows, (chunk - first) * table[N_PADDED], rate_rows,
                (chunk - first) * steps * table[N_LAYERS], block > chunks[chunk], task_values,
            )  # fmt: skip


@linked
def _prepare(table, theta, shared, total, size):
    """theta padded, and its transposed copy behind it; a total of zero."""
    spread(table, theta, 0, shared, 0)
    transpose(table, shared, 0, shared, table[N_PADDED])
    for i in range(size):
        total[i] = 0


@kernel
def factored(
    n_workers, table, theta, shared, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, loss_scale, loss_mean, exact, rates, step_weights, mode, scratch,
    gradient_rows, total, rate_rows, rate_gradient, task_values, gradient, blocks,
):  # fmt: skip
    """Work chunks first:last; arguments as for ``dense``, with rates (S, L).

    A chunk c is worked in blocks of tasks, ``chunks[c] : chunks[c + 1]``, and block b is the tasks
    ``blocks[b] : blocks[b + 1]``.
    """
    if first == 0:
        _prepare(table, theta, shared, total, total.size)
    for worker in prange(n_workers):
        _work(
            worker, n_workers, table, shared, x, y, offsets, x_query, y_query, query_offsets,
            chunks, first, last, loss_scale, loss_mean, exact, rates, step_weights,
            rates.shape[0], mode, scratch, scratch.shape[1], gradient_rows, rate_rows, task_values,
            blocks,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, total.size, total)
        if last == chunks.size - 1:
            gather_gradient(table, total, gradient)
    if mode == RATES:
        add_rows(rate_rows, last - first, rate_gradient.size, rate_gradient)
