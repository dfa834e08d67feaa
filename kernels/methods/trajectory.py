"""One task's way: parameters theta_0 ... theta_S, and derivatives of its loss at each of them.

With g_s = dL/dtheta at theta_s on the task's rows, equation 8 is ``theta_{s+1} = theta_s -
alpha_s * g_s``. With momentum mu the step is that of a velocity, ``v_{s+1} = mu v_s + g_s`` from
v_0 = 0, and ``theta_{s+1} = theta_s - alpha_s v_{s+1}``. A proximal weight c adds ``c (theta_s -
theta_0)`` to g_s, the gradient of ``c / 2 |theta_s - theta_0|^2``.

Scratch belongs to a worker and is used for one task at a time: S + 5 parameter vectors (the
trajectory, g, lambda, a direction, H v), with momentum the S velocities, what is derived from three
vectors, and a block of at most ``MAX_ROWS`` rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import View, piece_of
from ..losses.passes import bend, output_of, slope
from ..models.passes import (
    MAX_ROWS,
    Block,
    Point,
    backward,
    copy_rows,
    delta_of,
    derive,
    f_of,
    forward,
    r_backward,
    r_delta_of,
    r_forward,
    rf_of,
)
from ..vectors.emitter import on_line
from ..vectors.pointers import offset


class Memory(NamedTuple):
    """What a worker needs for a task. Parameter vectors are padded."""

    trajectory: Any  # theta_0 ... theta_S
    g: Any
    adjoint: Any  # lambda
    direction: Any
    hv: Any
    velocities: Any  # v_1 ... v_S, if there is momentum
    c_first: Any  # what is derived from theta_0,
    c: Any  # from theta_s,
    vc: Any  # and from the direction
    rows: Any  # a row block


def _places(size: int, derived: int, steps: int, momentum: float) -> tuple[int, ...]:
    """Where each of `Memory` begins."""
    g = (steps + 1) * size
    velocities = g + 4 * size
    c_first = velocities + (steps * size if momentum != 0 else 0)
    c, vc = c_first + derived, c_first + 2 * derived
    return 0, g, g + size, g + 2 * size, g + 3 * size, velocities, c_first, c, vc, vc + derived


def scratch_size(table: np.ndarray, max_rows: int, steps: int, momentum: float = 0.0) -> int:
    """Numbers of scratch that one worker needs, for tasks of up to ``max_rows`` rows."""
    net = View(table)
    rows = _places(net.n_padded, net.n_derived, steps, momentum)[-1]
    return on_line(rows + min(max_rows, MAX_ROWS) * net.row_size)


_compiled_places = helper(_places)


@helper
def memory_of(net, steps, momentum, scratch):
    """A worker's scratch, cut up."""
    p = _compiled_places(net.n_padded, net.n_derived, steps, momentum)
    return Memory(
        offset(scratch, p[0]), offset(scratch, p[1]), offset(scratch, p[2]), offset(scratch, p[3]),
        offset(scratch, p[4]), offset(scratch, p[5]), offset(scratch, p[6]), offset(scratch, p[7]),
        offset(scratch, p[8]), offset(scratch, p[9]),
    )  # fmt: skip


@helper
def point_at(net, memory, step):
    """theta_s and what is derived from it."""
    w = offset(memory.trajectory, step * net.n_padded)
    return Point(w, memory.c_first if step == 0 else memory.c)


@linked
def rate_times(net, inner, step, vector, out):
    """``out = alpha_s * vector``."""
    if inner.per_parameter:
        for i in range(net.n_padded):
            out[i] = inner.parameter_rates[i] * vector[i]
        return
    for number in range(net.n_pieces):
        piece = piece_of(net, number)
        rate = inner.rates[step * net.n_layers + piece.layer]
        for i in range(piece.padded, piece.padded + piece.rows * piece.ld):
            out[i] = rate * vector[i]


@linked
def sweep(net, rows, at, along, memory, order) -> float:
    """A task's loss; its gradient into g if order > 0, its Hessian times ``along`` into H v if > 1.

    A task of many rows is worked in blocks of them.
    """
    n_in, total = net.n_in, 0.0
    for first in range(0, rows.n, MAX_ROWS):
        block, add = Block(min(MAX_ROWS, rows.n - first), memory.rows), first > 0
        x = offset(rows.x, first * n_in)
        copy_rows(block.rows, n_in, x, n_in, block.memory, net.ld_in)
        forward(net, block, at, order)
        y = offset(rows.y, first * rows.ld_y)
        output = output_of(net, rows.side, block.rows, f_of(net, block), y)
        total += slope(net, rows.side, output, rows.scale, delta_of(net, block))
        if order > 0:
            backward(net, block, at, order, memory.g, add)
        if order > 1:
            r_forward(net, block, at, along)
            bend(net, rows.side, output, rows.scale, rf_of(net, block), r_delta_of(net, block))
            r_backward(net, block, at, along, memory.hv, add)
    return rows.scale * total


@linked
def adapt_task(net, inner, rows, memory):
    """Equation 8, S times, from theta_0 at the start of the trajectory."""
    size, g = net.n_padded, memory.g
    for step in range(inner.steps):
        at, after = point_at(net, memory, step), offset(memory.trajectory, (step + 1) * size)
        if step > 0:
            derive(net, at)
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
