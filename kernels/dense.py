"""Method ``dense``: every task has its own parameters theta_0 ... theta_S.

Per task, with g_s = dL/dtheta at theta_s on the support rows and H_s the Hessian there:

* equation 8    ``theta_{s+1} = theta_s - alpha_s * g_s``
* equation 13   ``lambda <- w_S dL_query/dtheta (theta_S)``, then for s = S-1 ... 0
  ``lambda <- (I - H_s diag(alpha_s)) lambda + w_s dL_query/dtheta (theta_s)``

so H_s only ever multiplies a vector, which the R-operator does without forming it (equation 12).
The gradient of the rates is ``d/d alpha_s = -lambda * g_s``, with lambda as it stands before step
s is undone.

With momentum mu the step is that of a velocity, ``v_{s+1} = mu v_s + g_s`` from v_0 = 0, and
``theta_{s+1} = theta_s - alpha_s v_{s+1}``. On the way back its adjoint is a second vector:

    nu <- mu nu + alpha_s lambda,        lambda <- lambda - H_s nu

(nu with its sign turned, so that without momentum it is the direction of equation 13), and the
gradient of the rates is ``-lambda * v_{s+1}``. A proximal weight c adds ``c (theta_s - theta_0)``
to g_s, the gradient of ``c / 2 |theta_s - theta_0|^2``; ``adapt`` alone has it.

Scratch belongs to a worker and is used for one task at a time: S + 5 parameter vectors (the
trajectory, g, lambda, a direction, H v), three transposed copies, blocks of at most ``MAX_ROWS``
rows and, with momentum, the S velocities at its end.
"""

from __future__ import annotations

import math

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
    N_THETA,
    N_TRANSPOSED,
    P_WEIGHT,
    PLACE,
    ROW,
    WIDTH,
    add_columns,
    add_products,
    backward,
    forward,
    gather,
    load_rows,
    r_backward,
    r_forward,
    residual,
    spread,
    transpose,
)  # fmt: skip
from .modes import GRADIENT, RATES, VALUE
from .predict import MAX_ROWS, predict_rows
from .reduce import add_rows, count_beyond, squares
from .simd import offset, on_line


def scratch_size(table: np.ndarray, max_rows: int, steps: int, momentum: float = 0.0) -> int:
    """Numbers of scratch that one worker needs, for tasks of up to ``max_rows`` rows."""
    vectors = 2 * steps + 5 if momentum else steps + 5
    parameters = vectors * table[N_PADDED] + 3 * table[N_TRANSPOSED]
    return on_line(int(parameters + 6 * min(max_rows, MAX_ROWS) * table[WIDTH]))


@linked
def _rate_times(table, rates, step, parameter_rates, per_parameter, scratch, vector, out):
    """``out = alpha_step * vector`` for padded vectors in scratch."""
    n_layers = table[N_LAYERS]
    if per_parameter:
        for i in range(table[N_PADDED]):
            scratch[out + i] = parameter_rates[i] * scratch[vector + i]
        return
    for layer in range(1, n_layers + 1):
        rate = rates[step * n_layers + layer - 1]
        start = table[layer * ROW + P_WEIGHT]
        end = table[(layer + 1) * ROW + P_WEIGHT] if layer < n_layers else table[N_PADDED]
        for i in range(start, end):
            scratch[out + i] = rate * scratch[vector + i]


@linked
def _add_rate_gradient(table, step, per_parameter, scratch, adjoint, g, rate_rows, r0):
    """Add ``-lambda * g``, g what the step's rate multiplies: per parameter, or for each layer."""
    n_layers = table[N_LAYERS]
    if per_parameter:
        for i in range(table[N_PADDED]):
            rate_rows[r0 + i] -= np.float64(scratch[adjoint + i]) * np.float64(scratch[g + i])
        return
    for layer in range(1, n_layers + 1):
        start = table[layer * ROW + P_WEIGHT]
        end = table[(layer + 1) * ROW + P_WEIGHT] if layer < n_layers else table[N_PADDED]
        total = 0.0
        for i in range(start, end):
            total += np.float64(scratch[adjoint + i]) * np.float64(scratch[g + i])
        rate_rows[r0 + step * n_layers + layer - 1] -= total


@linked
def _sweep(
    table, x, y, r0, r1, scale, scratch, blocks, w, t, g, v, vt, hv, gradient, curvature
) -> float:
    """One task's loss on rows r0:r1 and, where asked, its gradient g and Hessian-vector product hv.

    Parameters w (transposed copy t), direction v (transposed copy vt), g and hv are offsets in
    scratch. The loss is ``scale / 2`` times the sum of squared residuals.
    """
    n_layers = table[N_LAYERS]
    last = n_layers * ROW
    n_in, n_out = table[ROW + N_IN], table[last + N_OUT]
    squares = 0.0
    for b0 in range(r0, r1, MAX_ROWS):
        rows = min(MAX_ROWS, r1 - b0)
        size = rows * table[WIDTH]
        a, d1, d2, delta = blocks, blocks + size, blocks + 2 * size, blocks + 3 * size
        ra, r_delta = blocks + 4 * size, blocks + 5 * size
        load_rows(n_in, table[ROW + LD_IN], rows, x, b0 * n_in, scratch, a)
        derivatives = (2 if curvature else 1) if gradient else 0
        forward(table, rows, scratch, a, d1, d2, derivatives, scratch, w, scratch, t)
        out, ld_out = rows * table[last + ROW + PLACE], table[last + LD_OUT]
        squares += residual(
            n_out, ld_out, rows, scratch, a + out, delta + out, y, b0 * n_out, scale
        )
        if not gradient:
            continue
        backward(table, rows, scratch, d1, d2, delta, curvature, scratch, w)
        add = b0 > r0
        for layer in range(1, n_layers + 1):
            row = layer * ROW
            left, right = delta + rows * table[row + ROW + PLACE], a + rows * table[row + PLACE]
            add_products(table, layer, rows, scratch, g, add, scratch, left, scratch, right)
            add_columns(table, layer, rows, scratch, g, add, scratch, left)
        if not curvature:
            continue
        r_forward(table, rows, scratch, a, d1, d2, ra, w, t, v, vt)
        for i in range(out, out + rows * ld_out):
            scratch[r_delta + i] = scale * scratch[ra + i]
        r_backward(table, rows, scratch, d1, d2, delta, r_delta, w, v)
        for layer in range(1, n_layers + 1):
            row = layer * ROW
            here, prev = rows * table[row + ROW + PLACE], rows * table[row + PLACE]
            left, right = r_delta + here, a + prev
            add_products(table, layer, rows, scratch, hv, add, scratch, left, scratch, right)
            add_columns(table, layer, rows, scratch, hv, add, scratch, left)
            if layer > 1:
                left, right = delta + here, ra + prev
                add_products(table, layer, rows, scratch, hv, 1, scratch, left, scratch, right)
    return 0.5 * scale * squares


@linked
def _adapt(
    table, x, y, r0, r1, scale, rates, parameter_rates, per_parameter, momentum, proximal, steps,
    scratch, velocities,
):  # fmt: skip
    """Equation 8, ``steps`` times, from theta_0 at the start of scratch."""
    size, transposed = table[N_PADDED], table[N_TRANSPOSED]
    g = (steps + 1) * size
    t_first = (steps + 5) * size
    t = t_first + transposed
    blocks = t + 2 * transposed
    for step in range(steps):
        before, after = step * size, (step + 1) * size
        t0 = t_first if step == 0 else t
        if step > 0:
            transpose(table, scratch, before, scratch, t)
        _sweep(table, x, y, r0, r1, scale, scratch, blocks, before, t0, g, 0, 0, 0, True, False)
        if proximal != 0 and step > 0:
            for i in range(size):
                scratch[g + i] += proximal * (scratch[before + i] - scratch[i])
        moved = g
        if momentum != 0:
            moved = velocities + step * size
            for i in range(size):
                scratch[moved + i] = scratch[g + i]
            for i in range(size if step > 0 else 0):
                scratch[moved + i] += momentum * scratch[moved - size + i]
        _rate_times(table, rates, step, parameter_rates, per_parameter, scratch, moved, after)
        for i in range(size):
            scratch[after + i] = scratch[before + i] - scratch[after + i]


@linked
def _carry_back(
    table, x, y, r0, r1, scale, x_query, y_query, q0, q1, query_scale, exact,
    rates, parameter_rates, per_parameter, momentum, step_weights, steps, mode, scratch, velocities,
    rate_rows, r_row,
) -> float:  # fmt: skip
    """Equation 13, from the last step to the first; returns the task's value."""
    size, transposed = table[N_PADDED], table[N_TRANSPOSED]
    g = (steps + 1) * size
    adjoint, direction, hv = g + size, g + 2 * size, g + 3 * size
    t_first = g + 4 * size
    t = t_first + transposed
    vt, blocks = t + transposed, t + 2 * transposed
    value = 0.0
    for i in range(size):
        scratch[adjoint + i] = 0
    for i in range(size if momentum != 0 else 0):
        scratch[direction + i] = 0
    for step in range(steps, -1, -1):
        w0, t0 = step * size, t_first if step == 0 else t
        if step > 0:
            transpose(table, scratch, w0, scratch, t)
        if step < steps and (mode == RATES or (exact and mode == GRADIENT)):
            moved, scaled = (velocities + step * size, hv) if momentum != 0 else (g, direction)
            _rate_times(
                table, rates, step, parameter_rates, per_parameter, scratch, adjoint, scaled
            )
            for i in range(size if momentum != 0 else 0):
                scratch[direction + i] = momentum * scratch[direction + i] + scratch[hv + i]
            transpose(table, scratch, direction, scratch, vt)
            _sweep(
                table, x, y, r0, r1, scale, scratch, blocks,
                w0, t0, g, direction, vt, hv, True, exact,
            )  # fmt: skip
            if mode == RATES:
                _add_rate_gradient(
                    table, step, per_parameter, scratch, adjoint, moved, rate_rows, r_row
                )
            if exact:
                for i in range(size):
                    scratch[adjoint + i] -= scratch[hv + i]
        weight = step_weights[step]
        if weight != 0:
            value += _sweep(
                table, x_query, y_query, q0, q1, weight * query_scale, scratch, blocks,
                w0, t0, g, 0, 0, 0, mode > VALUE, False,
            )  # fmt: skip
            if mode > VALUE:
                for i in range(size):
                    scratch[adjoint + i] += scratch[g + i]
    return value


@linked
def _work(
    worker, n_workers, table, shared, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, loss_scale, loss_mean, exact, rates, parameter_rates, per_parameter,
    momentum, step_weights, steps, mode, scratch, scratch_stride, gradient_rows, rate_rows,
    rate_stride, task_values,
):  # fmt: skip
    """One worker's chunks.

    Its scratch: theta_0 ... theta_S, g, lambda, direction, H v; transposed copies; blocks;
    velocities.
    """
    size, transposed = table[N_PADDED], table[N_TRANSPOSED]
    scratch = offset(scratch, worker * scratch_stride)
    t_first, adjoint = (steps + 5) * size, (steps + 2) * size
    velocities = scratch_stride - steps * size
    for i in range(size):
        scratch[i] = shared[i]
    for i in range(transposed):
        scratch[t_first + i] = shared[size + i]
    for chunk in range(first + worker, last, n_workers):
        g_row, r_row = (chunk - first) * size, (chunk - first) * rate_stride
        for i in range(size if mode > VALUE else 0):
            gradient_rows[g_row + i] = 0
        for i in range(rate_stride if mode == RATES else 0):
            rate_rows[r_row + i] = 0
        for task in range(chunks[chunk], chunks[chunk + 1]):
            r0, r1 = offsets[task], offsets[task + 1]
            scale = loss_scale / (r1 - r0) if loss_mean else loss_scale
            _adapt(
                table, x, y, r0, r1, scale, rates, parameter_rates, per_parameter, momentum, 0.0,
                steps, scratch, velocities,
            )  # fmt: skip
            q0, q1 = query_offsets[task], query_offsets[task + 1]
            query_scale = loss_scale / (q1 - q0) if loss_mean else loss_scale
            task_values[task] = _carry_back(
                table, x, y, r0, r1, scale, x_query, y_query, q0, q1, query_scale, exact,
                rates, parameter_rates, per_parameter, momentum, step_weights, steps, mode, scratch,
                velocities, rate_rows, r_row,
            )  # fmt: skip
            for i in range(size if mode > VALUE else 0):
                gradient_rows[g_row + i] += scratch[adjoint + i]


@linked
def _prepare(table, theta, shared, total, size):
    """theta padded, and its transposed copy behind it; a total of zero."""
    spread(table, theta, 0, shared, 0)
    transpose(table, shared, 0, shared, table[N_PADDED])
    for i in range(size):
        total[i] = 0


@kernel
def dense(
    n_workers, table, theta, shared, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, loss_scale, loss_mean, exact, rates, parameter_rates, momentum,
    step_weights, mode, scratch, gradient_rows, total, rate_rows, rate_gradient,
    task_values, gradient,
):  # fmt: skip
    """Work chunks first:last; chunk c is the tasks ``chunks[c] : chunks[c + 1]``.

    ``rates`` is (S, L), ``parameter_rates`` padded, or empty. ``shared`` takes the padded theta
    with its transposed copy, ``scratch`` has a row per worker, ``gradient_rows`` (padded) and
    ``rate_rows`` a row per chunk of the call; ``total`` (padded) and ``rate_gradient``, which
    starts as zero, take their sums. ``task_values`` (n_tasks,) is written; the last call writes
    ``gradient`` (P,).
    """
    if first == 0:
        _prepare(table, theta, shared, total, total.size)
    for worker in prange(n_workers):
        _work(
            worker, n_workers, table, shared, x, y, offsets, x_query, y_query, query_offsets,
            chunks, first, last, loss_scale, loss_mean, exact, rates, parameter_rates,
            parameter_rates.size > 0, momentum, step_weights, rates.shape[0], mode, scratch,
            scratch.shape[1], gradient_rows, rate_rows, rate_rows.shape[1], task_values,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, total.size, total)
        if last == chunks.size - 1:
            gather(table, total, 0, gradient, 0)
    if mode == RATES:
        add_rows(rate_rows, last - first, rate_gradient.size, rate_gradient)


@linked
def _adapt_work(
    worker, n_workers, table, theta, x, y, offsets, first, last, loss_scale, loss_mean, rates,
    parameter_rates, per_parameter, momentum, proximal, steps, scratch, scratch_stride, limit,
    adapted, with_adapted, x_new, new_offsets, f, with_f,
):  # fmt: skip
    """Leave how many parameters are beyond the limit at the start of the worker's scratch."""
    scratch = offset(scratch, worker * scratch_stride)
    n_beyond = 0
    size, transposed = table[N_PADDED], table[N_TRANSPOSED]
    g, t_first = (steps + 1) * size, (steps + 5) * size
    t, blocks = t_first + transposed if steps else t_first, t_first + 3 * transposed
    spread(table, theta, 0, scratch, 0)
    transpose(table, scratch, 0, scratch, t_first)
    for task in range(first + worker, last, n_workers):
        r0, r1 = offsets[task], offsets[task + 1]
        scale = loss_scale / (r1 - r0) if loss_mean else loss_scale
        _adapt(
            table, x, y, r0, r1, scale, rates, parameter_rates, per_parameter, momentum, proximal,
            steps, scratch, scratch_stride - steps * size,
        )  # fmt: skip
        scratch[g] = limit  # the gradient has done its service
        n_beyond += count_beyond(scratch, steps * size, size, g)
        if with_adapted:
            gather(table, scratch, steps * size, adapted, task * table[N_THETA])
        if with_f:
            n0, n1 = new_offsets[task], new_offsets[task + 1]
            if steps > 0:
                transpose(table, scratch, steps * size, scratch, t)
            predict_rows(table, x_new, n0, n1, scratch, blocks, steps * size, t, f)
    scratch[0] = n_beyond


@kernel
def adapt(
    n_workers, table, theta, x, y, offsets, first, last, loss_scale, loss_mean, rates,
    parameter_rates, momentum, proximal, scratch, reach, adapted, x_new, new_offsets, f,
) -> float:  # fmt: skip
    """Equation 8 alone: parameters into ``adapted`` (n_tasks, P), or predictions into ``f``.

    Of the tasks first:last. The one of the two outputs that is empty is left out. Returns how many
    adapted parameters are NaN, or larger than `reach` times the length of theta (or than `reach`):
    where there are some, a task may have diverged.
    """
    limit = reach * max(1.0, math.sqrt(squares(theta, theta.size)))
    for worker in prange(n_workers):
        _adapt_work(
            worker, n_workers, table, theta, x, y, offsets, first, last, loss_scale, loss_mean,
            rates, parameter_rates, parameter_rates.size > 0, momentum, proximal, rates.shape[0],
            scratch, scratch.shape[1], limit, adapted, adapted.size > 0, x_new, new_offsets, f,
            f.size > 0,
        )  # fmt: skip
    n_beyond = 0.0
    for worker in range(n_workers):
        n_beyond += scratch[worker, 0]
    return n_beyond


@linked
def _products_work(
    worker, n_workers, table, theta, theta_stride, v, v_stride, curvature, x, y, offsets, n_tasks,
    loss_scale, loss_mean, scratch, scratch_stride, values, gradients, with_gradients, products,
):  # fmt: skip
    scratch = offset(scratch, worker * scratch_stride)
    size, transposed = table[N_PADDED], table[N_TRANSPOSED]
    direction, g, hv, t = size, 2 * size, 3 * size, 4 * size
    vt, blocks = t + transposed, t + 2 * transposed
    for task in range(worker, n_tasks, n_workers):
        r0, r1 = offsets[task], offsets[task + 1]
        scale = loss_scale / (r1 - r0) if loss_mean else loss_scale
        spread(table, theta, task * theta_stride, scratch, 0)
        transpose(table, scratch, 0, scratch, t)
        if curvature:
            spread(table, v, task * v_stride, scratch, direction)
            transpose(table, scratch, direction, scratch, vt)
        values[task] = _sweep(
            table, x, y, r0, r1, scale, scratch, blocks, 0, t, g, direction, vt, hv, True, curvature
        )
        if with_gradients:
            gather(table, scratch, g, gradients, task * table[N_THETA])
        if curvature:
            gather(table, scratch, hv, products, task * table[N_THETA])


@kernel
def hessian_products(
    n_workers, table, theta, v, x, y, offsets, loss_scale, loss_mean, scratch, values, gradients,
    products,
):  # fmt: skip
    """Each task's loss, gradient and Hessian times v; the outputs that are empty are left out.

    ``theta`` is (1, P) or (n_tasks, P), and so is ``v``; ``values`` (n_tasks,) is always written.
    """
    theta_stride = theta.shape[1] if theta.shape[0] > 1 else 0
    v_stride = v.shape[1] if v.shape[0] > 1 else 0
    for worker in prange(n_workers):
        _products_work(
            worker, n_workers, table, theta, theta_stride, v, v_stride, products.size > 0, x, y,
            offsets, offsets.size - 1, loss_scale, loss_mean, scratch, scratch.shape[1], values,
            gradients, gradients.size > 0, products,
        )  # fmt: skip
