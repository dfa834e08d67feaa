"""Method ``explicit``: the objects of the derivation themselves, sample by sample.

For a sample (x, y) with residual r = f(theta, x) - y, and for a task with loss scale c (1 for half
the sum of squares), equation by equation:

* 5, 11   gradient   ``g = c sum_j r_j df/dtheta (x_j)``
* 8       ``theta' = theta - alpha * g``
* 10, 12  Hessian    ``H = c sum_j [ r_j d2f/dtheta2 + (df/dtheta)^T (df/dtheta) ]``
* 7, 9    Jacobian of the adaptation   ``M = I - diag(alpha) H``
* 4, 13   ``dL(theta')/dtheta = dL/dtheta' . M``, one M for each inner step

With momentum mu, a step moves along ``v <- mu v + g`` in place of g, so the row vector lambda is
carried back together with that of the velocity, nu: ``lambda <- lambda M - mu nu H`` and
``nu <- mu nu + alpha * lambda`` (see ``dense``, whose signs these are).

Row p of the curvature ``sum_o r_o d2f_o/dtheta2`` is the derivative of ``sum_o r_o df_o/dtheta``
along the unit vector of parameter p. It costs P passes over the network for each sample, and P * P
numbers for each worker: a method for tens of parameters, and for reading.

Parameters lie in their plain layout here; values of a network lie in the places of one padded row.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .activations import activate
from .jit import kernel
from .link import linked
from .mlp import (
    ACTIVATION,
    BIAS,
    N_IN,
    N_LAYERS,
    N_OUT,
    N_THETA,
    PLACE,
    ROW,
    WEIGHT,
    WIDTH,
)  # fmt: skip
from .modes import RATES, VALUE
from .reduce import add_rows
from .simd import offset

#: row blocks of one sample: a, phi', phi'', delta, delta W, Ra, Rdelta
_BLOCKS = 7


def scratch_size(table: np.ndarray, steps: int, momentum: float = 0.0) -> int:
    """Numbers of scratch that one worker needs."""
    p, last = int(table[N_THETA]), int(table[N_LAYERS]) * ROW
    jacobian = int(table[last + N_OUT]) * p
    trajectory = (steps + 1) * p
    velocities = (steps + 1) * p if momentum else 0
    return _BLOCKS * int(table[WIDTH]) + jacobian + trajectory + 3 * p + p * p + velocities


@linked
def _forward(table, theta, x, blocks):
    """Values of one sample, with phi' and phi'' of the hidden ones."""
    width, n_layers = table[WIDTH], table[N_LAYERS]
    for j in range(table[ROW + N_IN]):
        blocks[j] = x[j]
    for layer in range(1, n_layers + 1):
        row = layer * ROW
        n_in, n_out = table[row + N_IN], table[row + N_OUT]
        before, here = table[row + PLACE], table[row + ROW + PLACE]
        for i in range(n_out):
            z = theta[table[row + BIAS] + i] if table[row + BIAS] >= 0 else 0 * theta[0]
            for j in range(n_in):
                z += theta[table[row + WEIGHT] + i * n_in + j] * blocks[before + j]
            blocks[here + i] = z
        if layer < n_layers:
            activate(table[ACTIVATION], blocks, here, here, width + here, 2 * width + here, n_out)


@linked
def _backward(table, theta, blocks):
    """delta of the hidden values from that of the output, and delta W beside it."""
    width = table[WIDTH]
    phi1, delta, back = width, 3 * width, 4 * width
    for layer in range(table[N_LAYERS], 1, -1):
        row = layer * ROW
        n_in, n_out = table[row + N_IN], table[row + N_OUT]
        before, here = table[row + PLACE], table[row + ROW + PLACE]
        for j in range(n_in):
            total = 0 * theta[0]
            for i in range(n_out):
                total += blocks[delta + here + i] * theta[table[row + WEIGHT] + i * n_in + j]
            blocks[back + before + j] = total
            blocks[delta + before + j] = total * blocks[phi1 + before + j]


@linked
def _add_outer(table, blocks, left, right, constant, out, factor):
    """Add ``factor * left^T right`` of every layer; biases see a ``constant`` for the input."""
    for layer in range(1, table[N_LAYERS] + 1):
        row = layer * ROW
        n_in, n_out = table[row + N_IN], table[row + N_OUT]
        before, here = table[row + PLACE], table[row + ROW + PLACE]
        for i in range(n_out):
            value = factor * blocks[left + here + i]
            for j in range(n_in):
                out[table[row + WEIGHT] + i * n_in + j] += value * blocks[right + before + j]
            if table[row + BIAS] >= 0:
                out[table[row + BIAS] + i] += constant * value


@linked
def _jacobian(table, theta, blocks, out):
    """df/dtheta of the sample whose values are in blocks: one row of P numbers for each output."""
    p, last, width = table[N_THETA], table[N_LAYERS] * ROW, table[WIDTH]
    n_out, place = table[last + N_OUT], table[last + ROW + PLACE]
    for o in range(n_out):
        for i in range(n_out):
            blocks[3 * width + place + i] = 1 if i == o else 0
        _backward(table, theta, blocks)
        for i in range(p):
            out[o * p + i] = 0
        _add_outer(table, blocks, 3 * width, 0, 1, offset(out, o * p), 1)


@linked
def _add_curvature(table, theta, blocks, out, factor):
    """Add ``factor * sum_o delta_o d2f_o/dtheta2``, delta_o as it lies in the output's delta."""
    p, n_layers, width = table[N_THETA], table[N_LAYERS], table[WIDTH]
    phi1, phi2, delta, back = width, 2 * width, 3 * width, 4 * width
    ra, r_delta = 5 * width, 6 * width
    _backward(table, theta, blocks)
    for layer in range(1, n_layers + 1):
        row = layer * ROW
        n_in, n_out = table[row + N_IN], table[row + N_OUT]
        for i in range(n_out):
            for j in range(n_in + (1 if table[row + BIAS] >= 0 else 0)):
                # Along the unit vector of weight (i, j), or of bias i if j is past the inputs:
                at_bias = j == n_in
                direction = table[row + BIAS] + i if at_bias else table[row + WEIGHT] + i * n_in + j
                for k in range(width):
                    blocks[ra + k] = 0
                    blocks[r_delta + k] = 0
                for up in range(layer, n_layers):
                    above = up * ROW
                    m_in, m_out = table[above + N_IN], table[above + N_OUT]
                    before, here = table[above + PLACE], table[above + ROW + PLACE]
                    for k in range(m_out):
                        rz = 0 * theta[0]
                        if up > layer:
                            for m in range(m_in):
                                w = theta[table[above + WEIGHT] + k * m_in + m]
                                rz += w * blocks[ra + before + m]
                        elif k == i:
                            rz += 1 if at_bias else blocks[before + j]
                        blocks[ra + here + k] = blocks[phi1 + here + k] * rz
                        # this part of Rdelta is there before the backward pass adds the rest
                        blocks[r_delta + here + k] = (
                            blocks[back + here + k] * blocks[phi2 + here + k] * rz
                        )
                for down in range(n_layers, 1, -1):
                    above = down * ROW
                    m_in, m_out = table[above + N_IN], table[above + N_OUT]
                    before, here = table[above + PLACE], table[above + ROW + PLACE]
                    for m in range(m_in):
                        total = 0 * theta[0]
                        for k in range(m_out):
                            w = theta[table[above + WEIGHT] + k * m_in + m]
                            total += blocks[r_delta + here + k] * w
                        if down == layer and m == j:
                            total += blocks[delta + here + i]
                        blocks[r_delta + before + m] += total * blocks[phi1 + before + m]
                line = offset(out, direction * p)
                _add_outer(table, blocks, r_delta, 0, 1, line, factor)
                _add_outer(table, blocks, delta, ra, 0, line, factor)


@linked
def _differentiate(
    table,
    theta,
    x,
    y,
    r0,
    r1,
    scale,
    blocks,
    jacobian,
    gradient,
    with_gradient,
    hessian,
    with_hessian,
) -> float:
    """A task's sum of squares; its gradient and Hessian, accumulated over samples where asked.

    Leaves the last sample's values and Jacobian behind.
    """
    p, last, width = table[N_THETA], table[N_LAYERS] * ROW, table[WIDTH]
    n_in, n_out, place = table[ROW + N_IN], table[last + N_OUT], table[last + ROW + PLACE]
    squares = 0.0
    for i in range(p if with_gradient else 0):
        gradient[i] = 0
    for i in range(p * p if with_hessian else 0):
        hessian[i] = 0
    for sample in range(r0, r1):
        _forward(table, theta, offset(x, sample * n_in), blocks)
        for o in range(n_out):
            r = np.float64(blocks[place + o] - y[sample * n_out + o])
            squares += r * r
        if with_gradient or with_hessian:
            _jacobian(table, theta, blocks, jacobian)
        for o in range(n_out if with_gradient else 0):
            r = scale * (blocks[place + o] - y[sample * n_out + o])
            for i in range(p):
                gradient[i] += r * jacobian[o * p + i]
        if with_hessian:
            for o in range(n_out):
                for i in range(p):
                    left = scale * jacobian[o * p + i]
                    for j in range(p):
                        hessian[i * p + j] += left * jacobian[o * p + j]
                blocks[3 * width + place + o] = blocks[place + o] - y[sample * n_out + o]
            _add_curvature(table, theta, blocks, hessian, scale)
    return squares


@linked
def _task(
    table, theta, x, y, r0, r1, scale, x_query, y_query, q0, q1, query_scale,
    exact, rates, momentum, step_weights, steps, mode, scratch, rate_row,
) -> float:  # fmt: skip
    """One task: trajectory, then lambda M for each step; lambda and theta_S are left in scratch."""
    p, last = table[N_THETA], table[N_LAYERS] * ROW
    jacobian = offset(scratch, _BLOCKS * table[WIDTH])
    trajectory = offset(jacobian, table[last + N_OUT] * p)
    adjoint = offset(trajectory, (steps + 1) * p)
    g, product = offset(adjoint, p), offset(adjoint, 2 * p)
    matrix = offset(adjoint, 3 * p)
    nu, velocities = offset(matrix, p * p), offset(matrix, p * p + p)  # if there is momentum
    for i in range(p):
        trajectory[i] = theta[i]
    for i in range(p if momentum != 0 else 0):
        nu[i] = 0
    for step in range(steps):
        here, after = offset(trajectory, step * p), offset(trajectory, (step + 1) * p)
        _differentiate(table, here, x, y, r0, r1, scale, scratch, jacobian, g, True, matrix, False)
        for i in range(p if momentum != 0 else 0):
            if step > 0:
                g[i] += momentum * velocities[(step - 1) * p + i]
            velocities[step * p + i] = g[i]
        for i in range(p):
            after[i] = here[i] - rates[step * p + i] * g[i]
    value = 0.0
    for i in range(p):
        adjoint[i] = 0
    for step in range(steps, -1, -1):
        here = offset(trajectory, step * p)
        if step < steps and mode > VALUE:
            _differentiate(
                table, here, x, y, r0, r1, scale, scratch, jacobian, g, True, matrix, exact
            )
            for i in range(p if mode == RATES else 0):
                moved = velocities[step * p + i] if momentum != 0 else g[i]
                rate_row[step * p + i] -= np.float64(adjoint[i]) * np.float64(moved)
            if exact:
                for j in range(p):
                    product[j] = 0
                for i in range(p if momentum != 0 else 0):
                    nu[i] *= momentum
                    for j in range(p):
                        product[j] -= nu[i] * matrix[i * p + j]
                    nu[i] += rates[step * p + i] * adjoint[i]
                for i in range(p):  # the Hessian becomes M = I - diag(alpha) H
                    for j in range(p):
                        matrix[i * p + j] *= -rates[step * p + i]
                    matrix[i * p + i] += 1
                for i in range(p):
                    for j in range(p):
                        product[j] += adjoint[i] * matrix[i * p + j]
                for j in range(p):
                    adjoint[j] = product[j]
        weight = step_weights[step]
        if weight != 0:
            squares = _differentiate(
                table, here, x_query, y_query, q0, q1, weight * query_scale, scratch, jacobian,
                g, mode > VALUE, matrix, False,
            )  # fmt: skip
            value += 0.5 * weight * query_scale * squares
            for i in range(p if mode > VALUE else 0):
                adjoint[i] += g[i]
    return value


@linked
def _work(
    worker, n_workers, table, theta, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, loss_scale, loss_mean, exact, rates, momentum, step_weights, steps, mode,
    scratch, scratch_stride, gradient_rows, rate_rows, rate_stride, task_values,
):  # fmt: skip
    p = table[N_THETA]
    scratch = offset(scratch, worker * scratch_stride)
    n_out = table[table[N_LAYERS] * ROW + N_OUT]
    trajectory = offset(scratch, _BLOCKS * table[WIDTH] + n_out * p)
    adjoint = offset(trajectory, (steps + 1) * p)
    for chunk in range(first + worker, last, n_workers):
        gradient_row = offset(gradient_rows, (chunk - first) * p)
        rate_row = offset(rate_rows, (chunk - first) * rate_stride)
        for i in range(p if mode > VALUE else 0):
            gradient_row[i] = 0
        for i in range(rate_stride if mode == RATES else 0):
            rate_row[i] = 0
        for task in range(chunks[chunk], chunks[chunk + 1]):
            r0, r1 = offsets[task], offsets[task + 1]
            q0, q1 = query_offsets[task], query_offsets[task + 1]
            value = _task(
                table, theta, x, y, r0, r1, loss_scale / (r1 - r0) if loss_mean else loss_scale,
                x_query, y_query, q0, q1, loss_scale / (q1 - q0) if loss_mean else loss_scale,
                exact, rates, momentum, step_weights, steps, mode, scratch, rate_row,
            )  # fmt: skip
            task_values[task] = value
            for i in range(p if mode > VALUE else 0):
                gradient_row[i] += adjoint[i]


@kernel
def explicit(
    n_workers, table, theta, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, loss_scale, loss_mean, exact, rates, momentum,
    step_weights, mode, scratch, gradient_rows, gradient, rate_rows, rate_gradient,
    task_values,
):  # fmt: skip
    """Work chunks first:last, as ``dense`` does, with theta and rates (S, P) in plain layout."""
    for worker in prange(n_workers):
        _work(
            worker, n_workers, table, theta, x, y, offsets, x_query, y_query, query_offsets,
            chunks, first, last, loss_scale, loss_mean, exact, rates, momentum, step_weights,
            rates.shape[0], mode, scratch, scratch.shape[1], gradient_rows,
            rate_rows, rate_rows.shape[1], task_values,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, gradient.size, gradient)
    if mode == RATES:
        add_rows(rate_rows, last - first, rate_gradient.size, rate_gradient)


@linked
def _derivatives_of_tasks(
    worker, n_workers, table, theta, theta_stride, x, y, offsets, n_tasks, loss_scale, loss_mean,
    scratch, scratch_stride, residuals, want_residuals, jacobians, want_jacobians,
    gradients, want_gradients, hessians, want_hessians,
):  # fmt: skip
    p, last = table[N_THETA], table[N_LAYERS] * ROW
    n_in, n_out, place = table[ROW + N_IN], table[last + N_OUT], table[last + ROW + PLACE]
    scratch = offset(scratch, worker * scratch_stride)
    jacobian = offset(scratch, _BLOCKS * table[WIDTH])
    for task in range(worker, n_tasks, n_workers):
        own = offset(theta, task * theta_stride)
        r0, r1 = offsets[task], offsets[task + 1]
        for sample in range(r0, r1 if want_residuals or want_jacobians else r0):
            _forward(table, own, offset(x, sample * n_in), scratch)
            for o in range(n_out if want_residuals else 0):
                at = sample * n_out + o
                residuals[at] = scratch[place + o] - y[at]
            if want_jacobians:
                _jacobian(table, own, scratch, offset(jacobians, sample * n_out * p))
        if want_gradients or want_hessians:
            _differentiate(
                table, own, x, y, r0, r1, loss_scale / (r1 - r0) if loss_mean else loss_scale,
                scratch, jacobian,
                offset(gradients, task * p if want_gradients else 0), want_gradients,
                offset(hessians, task * p * p if want_hessians else 0), want_hessians,
            )  # fmt: skip


@kernel
def derivatives(
    n_workers, table, theta, x, y, offsets, loss_scale, loss_mean, scratch,
    residuals, jacobians, gradients, hessians,
):  # fmt: skip
    """Fill those of the four outputs that are not empty; theta is (1, P) or (n_tasks, P)."""
    stride = theta.shape[1] if theta.shape[0] > 1 else 0
    for worker in prange(n_workers):
        _derivatives_of_tasks(
            worker, n_workers, table, theta, stride, x, y, offsets, offsets.size - 1, loss_scale,
            loss_mean, scratch, scratch.shape[1], residuals, residuals.size > 0, jacobians,
            jacobians.size > 0, gradients, gradients.size > 0, hessians, hessians.size > 0,
        )  # fmt: skip
