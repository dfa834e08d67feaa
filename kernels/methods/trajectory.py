"""One task's way: parameters theta_0 ... theta_S, and derivatives of its loss at each of them.

With g_s = dL/dtheta at theta_s on the task's rows, equation 8 is ``theta_{s+1} = theta_s -
alpha_s * g_s``. With momentum mu the step is that of a velocity, ``v_{s+1} = mu v_s + g_s`` from
v_0 = 0, and ``theta_{s+1} = theta_s - alpha_s v_{s+1}``. A proximal weight c adds ``c (theta_s -
theta_0)`` to g_s, the gradient of ``c / 2 |theta_s - theta_0|^2``.

Scratch belongs to a worker and is used for one task at a time: S + 5 parameter vectors (the
trajectory, g, lambda, a direction, H v), with momentum the S velocities, three transposed copies,
and a block of at most ``MAX_ROWS`` rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import layer_of
from ..models.layers import (
    DELTA,
    KINDS,
    R_DELTA,
    RA,
    A,
    Block,
    Point,
    backward,
    forward,
    gradient,
    load_rows,
    r_backward,
    r_forward,
    r_gradient,
    residual,
    sizes_of,
    transpose,
    value,
)
from ..vectors.emitter import on_line
from ..vectors.pointers import offset
from .predict import MAX_ROWS


class Memory(NamedTuple):
    """What a worker needs for a task. Parameter vectors are padded."""

    trajectory: Any  # theta_0 ... theta_S
    g: Any
    adjoint: Any  # lambda
    direction: Any
    hv: Any
    velocities: Any  # v_1 ... v_S, if there is momentum
    t_first: Any  # transposed copies: of theta_0,
    t: Any  # of theta_s,
    vt: Any  # and of the direction
    rows: Any  # a row block


def _places(size: int, transposed: int, steps: int, momentum: float) -> tuple[int, ...]:
    """Where each of `Memory` begins."""
    g = (steps + 1) * size
    velocities = g + 4 * size
    t_first = velocities + (steps * size if momentum != 0 else 0)
    t, vt = t_first + transposed, t_first + 2 * transposed
    return 0, g, g + size, g + 2 * size, g + 3 * size, velocities, t_first, t, vt, vt + transposed


def scratch_size(table: np.ndarray, max_rows: int, steps: int, momentum: float = 0.0) -> int:
    """Numbers of scratch that one worker needs, for tasks of up to ``max_rows`` rows."""
    net = sizes_of(table)
    rows = _places(net.n_padded, net.n_transposed, steps, momentum)[-1]
    return on_line(rows + KINDS * min(max_rows, MAX_ROWS) * net.width)


_compiled_places = helper(_places)


@helper
def memory_of(net, steps, momentum, scratch):
    """A worker's scratch, cut up."""
    p = _compiled_places(net.n_padded, net.n_transposed, steps, momentum)
    return Memory(
        offset(scratch, p[0]), offset(scratch, p[1]), offset(scratch, p[2]), offset(scratch, p[3]),
        offset(scratch, p[4]), offset(scratch, p[5]), offset(scratch, p[6]), offset(scratch, p[7]),
        offset(scratch, p[8]), offset(scratch, p[9]),
    )  # fmt: skip


@helper
def point_at(net, memory, step):
    """theta_s and its transposed copy."""
    w = offset(memory.trajectory, step * net.n_padded)
    return Point(w, memory.t_first if step == 0 else memory.t)


@helper
def layer_end(net, number):
    """Where a layer ends in a padded vector."""
    return layer_of(net, number + 1).p_weight if number < net.n_layers else net.n_padded


@linked
def rate_times(net, inner, step, vector, out):
    """``out = alpha_s * vector``."""
    if inner.per_parameter:
        for i in range(net.n_padded):
            out[i] = inner.parameter_rates[i] * vector[i]
        return
    for number in range(1, net.n_layers + 1):
        rate = inner.rates[step * net.n_layers + number - 1]
        for i in range(layer_of(net, number).p_weight, layer_end(net, number)):
            out[i] = rate * vector[i]


@linked
def sweep(net, rows, at, along, memory, order) -> float:
    """A task's loss; its gradient into g if order > 0, its Hessian times ``along`` into H v if > 1.

    A task of many rows is worked in blocks of them.
    """
    first_layer, last_layer = layer_of(net, 1), layer_of(net, net.n_layers)
    n_in, n_out, ld_out = first_layer.n_in, last_layer.n_out, last_layer.ld_out
    output, squares = net.n_layers + 1, 0.0
    for first in range(0, rows.n, MAX_ROWS):
        block, add = Block(min(MAX_ROWS, rows.n - first), memory.rows), first > 0
        x, y = offset(rows.x, first * n_in), offset(rows.y, first * n_out)
        load_rows(n_in, first_layer.ld_in, block.rows, x, block.memory)
        forward(net, block, at, order)
        f, delta = value(net, block, A, output), value(net, block, DELTA, output)
        squares += residual(n_out, ld_out, block.rows, f, y, rows.scale, delta)
        if order == 0:
            continue
        backward(net, block, at, order)
        gradient(net, block, memory.g, add)
        if order == 1:
            continue
        r_forward(net, block, at, along)
        rf, r_delta = value(net, block, RA, output), value(net, block, R_DELTA, output)
        for i in range(block.rows * ld_out):
            r_delta[i] = rows.scale * rf[i]
        r_backward(net, block, at, along)
        r_gradient(net, block, memory.hv, add)
    return 0.5 * rows.scale * squares


@linked
def adapt_task(net, inner, rows, memory):
    """Equation 8, S times, from theta_0 at the start of the trajectory."""
    size, g = net.n_padded, memory.g
    for step in range(inner.steps):
        at, after = point_at(net, memory, step), offset(memory.trajectory, (step + 1) * size)
        if step > 0:
            transpose(net, at.w, at.t)
        sweep(net, rows, at, at, memory, 1)
        if inner.proximal != 0 and step > 0:
            for i in range(size):
                g[i] += inner.proximal * (at.w[i] - memory.trajectory[i])
        moved = g
        if inner.momentum != 0:  # v_{s+1} = mu v_s + g_s
            moved = offset(memory.velocities, step * size)
            before = offset(memory.velocities, max(step - 1, 0) * size)
            for i in range(size):
                moved[i] = g[i]
            for i in range(size if step > 0 else 0):
                moved[i] += inner.momentum * before[i]
        rate_times(net, inner, step, moved, after)
        for i in range(size):
            after[i] = at.w[i] - after[i]
