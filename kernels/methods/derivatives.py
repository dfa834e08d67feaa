"""A task's loss, gradient and Hessian, as sums over its samples; for ``fastmaml.equations``, too.

For samples (x_j, y_j) and a loss of scale c with l_j = l(f(theta, x_j), y_j), of which dl_j is the
slope and G_j the curvature at the outputs (for squared errors the residual and the unit matrix):

* 2, 3    loss       ``L = c sum_j l_j``
* 5, 11   gradient   ``g = c sum_j dl_j df/dtheta (x_j)``
* 10, 12  Hessian    ``H = c sum_j [ dl_j d2f/dtheta2 + (df/dtheta)^T G_j (df/dtheta) ]``

Row o of the Jacobian df/dtheta is a pass backward from the unit vector of output o. Row p of the
curvature ``c sum_j dl_j d2f/dtheta2`` is an R-pass along the unit vector of parameter p in which
the R-deltas of the outputs are zero: P passes for a block of rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..compile.jit import helper, kernel
from ..compile.link import linked
from ..compile.records import View, net_of
from ..losses.passes import bend, output_of, slope
from ..models.padded import gather, spread
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
from ..vectors.emitter import LINE, on_line
from ..vectors.pointers import offset
from .tasks import Tasks, rows_of, vector_of, vectors_of


class Derived(NamedTuple):
    """What is derived for a task, and the memory that it takes."""

    at: Point  # theta
    along: Point  # the unit vector of a parameter
    padded: Any  # a gradient
    unit: Any  # a unit vector, in plain layout
    jacobian: Any  # df/dtheta of a sample, (n_out, P),
    slopes: Any  # and its delta, (ld_out,)
    rows: Any  # a row block
    gradient: Any  # (P,)
    hessian: Any  # (P, P)


def _places(size: int, derived: int, p: int, n_out: int, ld_out: int) -> tuple[int, ...]:
    """Where each of `Derived` after the two vectors begins, but for what is summed up."""
    c, vc = 2 * size, 2 * size + derived
    padded = vc + derived
    unit = padded + size
    jacobian = unit + p
    slopes = jacobian + n_out * p
    rows = (slopes + ld_out + LINE - 1) // LINE * LINE  # as on_line
    return c, vc, padded, unit, jacobian, slopes, rows


def size_of(table: np.ndarray, max_rows: int) -> int:
    """Numbers that a worker needs to derive, for tasks of up to ``max_rows`` rows."""
    net = View(table)
    rows = _places(net.n_padded, net.n_derived, net.n_theta, net.n_out, net.ld_out)[-1]
    return on_line(rows + min(max_rows, MAX_ROWS) * net.row_size)


def scratch_size(table: np.ndarray, max_rows: int) -> int:
    """Numbers of scratch that a worker of ``derivatives`` needs: these, and a gradient."""
    return size_of(table, max_rows) + on_line(View(table).n_theta)


_compiled_places = helper(_places)


@helper
def derived_of(net, scratch, gradient, hessian):
    """The start of a worker's scratch, cut up, and where the sums go."""
    size = net.n_padded
    p = _compiled_places(size, net.n_derived, net.n_theta, net.n_out, net.ld_out)
    return Derived(
        Point(scratch, offset(scratch, p[0])), Point(offset(scratch, size), offset(scratch, p[1])),
        offset(scratch, p[2]), offset(scratch, p[3]), offset(scratch, p[4]), offset(scratch, p[5]),
        offset(scratch, p[6]), gradient, hessian,
    )  # fmt: skip


@linked
def _values(net, x, derived):
    """f of one sample, in the row block."""
    copy_rows(1, net.n_in, x, net.n_in, derived.rows, net.ld_in)
    forward(net, Block(1, derived.rows), derived.at, 1)


@linked
def _jacobian(net, derived, out):
    """df/dtheta (n_out, P) of the sample whose values are in the row block."""
    block = Block(1, derived.rows)
    delta = delta_of(net, block)
    for o in range(net.n_out):
        for i in range(net.ld_out):
            delta[i] = 1 if i == o else 0
        backward(net, block, derived.at, 1, derived.padded, False)
        gather(net, derived.padded, offset(out, o * net.n_theta))


@linked
def _add_sample(net, rows, j, order, derived) -> float:
    """Add the share of sample j to the gradient and, but for the curvature of f, to the Hessian.

    Returns l of the sample.
    """
    n_out, ld_out, p, h = net.n_out, net.ld_out, net.n_theta, derived.hessian
    slopes, g, df = derived.slopes, derived.gradient, derived.jacobian
    _values(net, offset(rows.x, j * net.n_in), derived)
    block = Block(1, derived.rows)
    output = output_of(net, rows.side, 1, f_of(net, block), offset(rows.y, j * rows.ld_y))
    loss = slope(net, rows.side, output, rows.scale, slopes)
    if order == 0:
        return loss
    _jacobian(net, derived, df)
    for o in range(n_out):
        for i in range(p):
            g[i] += slopes[o] * df[o * p + i]
    rf, bent = rf_of(net, block), r_delta_of(net, block)
    for i in range(p if order > 1 else 0):
        for o in range(ld_out):
            rf[o] = df[o * p + i] if o < n_out else 0
        bend(net, rows.side, output, rows.scale, rf, bent)  # c G df/dtheta_i
        for o in range(n_out):
            for k in range(p):
                h[i * p + k] += bent[o] * df[o * p + k]
    return loss


@linked
def _add_curvature(net, rows, derived):
    """Add ``c sum_j dl_j d2f/dtheta2`` to the Hessian."""
    p, at, along, unit = net.n_theta, derived.at, derived.along, derived.unit
    for i in range(p):
        unit[i] = 0
    for first in range(0, rows.n, MAX_ROWS):
        block = Block(min(MAX_ROWS, rows.n - first), derived.rows)
        x = offset(rows.x, first * net.n_in)
        copy_rows(block.rows, net.n_in, x, net.n_in, block.memory, net.ld_in)
        y = offset(rows.y, first * rows.ld_y)
        for i in range(p):
            unit[i] = 1
            spread(net, unit, along.w)
            derive(net, along)
            unit[i] = 0
            forward(net, block, at, 2)
            output = output_of(net, rows.side, block.rows, f_of(net, block), y)
            slope(net, rows.side, output, rows.scale, delta_of(net, block))
            backward(net, block, at, 2, derived.padded, False)
            r_forward(net, block, at, along)
            r_delta = r_delta_of(net, block)
            for k in range(block.rows * net.ld_out):
                r_delta[k] = 0
            r_backward(net, block, at, along, derived.padded, False)
            row = offset(derived.hessian, i * p)
            gather(net, derived.padded, derived.jacobian)
            for k in range(p):
                row[k] += derived.jacobian[k]


@linked
def differentiate(net, theta, rows, order, derived) -> float:
    """A task's loss; its gradient if order > 0, its Hessian if > 1."""
    p, g, h, total = net.n_theta, derived.gradient, derived.hessian, 0.0
    spread(net, theta, derived.at.w)
    derive(net, derived.at)
    for i in range(p if order > 0 else 0):
        g[i] = 0
    for i in range(p * p if order > 1 else 0):
        h[i] = 0
    for j in range(rows.n):
        total += _add_sample(net, rows, j, order, derived)
    if order > 1:
        _add_curvature(net, rows, derived)
    return rows.scale * total


class Wanted(NamedTuple):
    """Where results go; the flags say which are wanted."""

    residuals: Any  # (N, n_out)
    with_residuals: bool
    jacobians: Any  # (N, n_out, P)
    with_jacobians: bool
    gradients: Any  # (n_tasks, P)
    with_gradients: bool
    hessians: Any  # (n_tasks, P, P)
    with_hessians: bool


@linked
def _derive_samples(net, theta, rows, first, derived, wanted):
    """Residuals, the task's from number ``first`` on, and Jacobians; each where wanted."""
    n_out, p = net.n_out, net.n_theta
    residuals, jacobians = offset(wanted.residuals, first), offset(wanted.jacobians, first * p)
    spread(net, theta, derived.at.w)
    derive(net, derived.at)
    f = f_of(net, Block(1, derived.rows))
    for j in range(rows.n):
        _values(net, offset(rows.x, j * net.n_in), derived)
        for o in range(n_out if wanted.with_residuals else 0):
            residuals[j * n_out + o] = f[o] - rows.y[j * rows.ld_y + o]
        if wanted.with_jacobians:
            _jacobian(net, derived, offset(jacobians, j * n_out * p))


@linked
def _work(worker, n_workers, net, tasks, n_tasks, theta, scratch, stride, wanted):
    p, scratch = net.n_theta, offset(scratch, worker * stride)
    spare = offset(scratch, stride - p)  # for a gradient that nobody wants
    for task in range(worker, n_tasks, n_workers):
        own, rows = vector_of(theta, task), rows_of(net, tasks, task)
        g = offset(wanted.gradients, task * p) if wanted.with_gradients else spare
        derived = derived_of(net, scratch, g, offset(wanted.hessians, task * p * p))
        if wanted.with_residuals or wanted.with_jacobians:
            _derive_samples(net, own, rows, tasks.offsets[task] * net.n_out, derived, wanted)
        if wanted.with_hessians or wanted.with_gradients:
            differentiate(net, own, rows, 2 if wanted.with_hessians else 1, derived)


@kernel
def derivatives(
    n_workers, table, theta, x, y, offsets, scratch, residuals, jacobians, gradients, hessians
):  # fmt: skip
    """Fill those of the four outputs that are not empty; theta is (1, P) or (n_tasks, P)."""
    for worker in prange(n_workers):
        wanted = Wanted(
            residuals, residuals.size > 0, jacobians, jacobians.size > 0,
            gradients, gradients.size > 0, hessians, hessians.size > 0,
        )  # fmt: skip
        _work(
            worker, n_workers, net_of(table), Tasks(x, y, offsets, 0), offsets.size - 1,
            vectors_of(theta), scratch, scratch.shape[1], wanted,
        )  # fmt: skip
