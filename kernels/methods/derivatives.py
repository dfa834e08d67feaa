"""A task's loss, gradient and Hessian, as sums over its samples; for ``fastmaml.equations``, too.

For samples (x_j, y_j) with residuals r_j = f(theta, x_j) - y_j and a loss of scale c (1 for half
the sum of squares):

* 2, 3    loss       ``L = c/2 sum_j r_j^2``
* 5, 11   gradient   ``g = c sum_j r_j df/dtheta (x_j)``
* 10, 12  Hessian    ``H = c sum_j [ r_j d2f/dtheta2 + (df/dtheta)^T (df/dtheta) ]``
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..compile.jit import helper, kernel
from ..compile.link import linked
from ..compile.records import layer_of, net_of
from ..models.layers import sizes_of
from ..vectors.pointers import offset
from .samples import KINDS, Sample, add_curvature, forward, jacobian, outputs_of, sample_of
from .tasks import Tasks, rows_of, vector_of, vectors_of


class Derived(NamedTuple):
    """What is derived for a task, and from what."""

    sample: Sample  # the last one
    jacobian: Any  # df/dtheta of it, (n_out, P)
    gradient: Any  # (P,)
    hessian: Any  # (P, P)


def size_of(width: int, n_out: int, p: int) -> int:
    """Numbers of a sample and its Jacobian."""
    return KINDS * width + n_out * p


def scratch_size(table: np.ndarray) -> int:
    """Numbers of scratch that one worker of ``derivatives`` needs: the above, and a gradient."""
    net = sizes_of(table)
    return size_of(net.width, net.layers[net.n_layers].n_out, net.n_theta) + net.n_theta


compiled_size = helper(size_of)


@linked
def differentiate(net, theta, rows, order, derived) -> float:
    """A task's loss; its gradient if order > 0, its Hessian if > 1."""
    sample, slopes, g, h = derived.sample, derived.jacobian, derived.gradient, derived.hessian
    p, n_in, n_out = net.n_theta, layer_of(net, 1).n_in, layer_of(net, net.n_layers).n_out
    f, delta = outputs_of(net, sample.a), outputs_of(net, sample.delta)
    squares = 0.0
    for i in range(p if order > 0 else 0):
        g[i] = 0
    for i in range(p * p if order > 1 else 0):
        h[i] = 0
    for j in range(rows.n):
        forward(net, theta, offset(rows.x, j * n_in), sample)
        y = offset(rows.y, j * n_out)
        for o in range(n_out):
            r = np.float64(f[o] - y[o])
            squares += r * r
        if order == 0:
            continue
        jacobian(net, theta, sample, slopes)
        for o in range(n_out):
            r = rows.scale * (f[o] - y[o])
            for i in range(p):
                g[i] += r * slopes[o * p + i]
        if order == 1:
            continue
        for o in range(n_out):
            for i in range(p):
                left = rows.scale * slopes[o * p + i]
                for k in range(p):
                    h[i * p + k] += left * slopes[o * p + k]
            delta[o] = f[o] - y[o]
        add_curvature(net, theta, sample, rows.scale, h)
    return 0.5 * rows.scale * squares


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


@helper
def derived_of(net, scratch, gradient, hessian):
    """A sample and its Jacobian at the start of scratch, and where the sums go."""
    slopes = offset(scratch, KINDS * net.width)
    return Derived(sample_of(net, scratch), slopes, gradient, hessian)


@linked
def _derive_samples(net, theta, rows, sample, first, wanted):
    """Residuals, the task's from number ``first`` on, and Jacobians; each where wanted."""
    p, n_in, n_out = net.n_theta, layer_of(net, 1).n_in, layer_of(net, net.n_layers).n_out
    residuals, jacobians = offset(wanted.residuals, first), offset(wanted.jacobians, first * p)
    f = outputs_of(net, sample.a)
    for j in range(rows.n):
        forward(net, theta, offset(rows.x, j * n_in), sample)
        for o in range(n_out if wanted.with_residuals else 0):
            residuals[j * n_out + o] = f[o] - rows.y[j * n_out + o]
        if wanted.with_jacobians:
            jacobian(net, theta, sample, offset(jacobians, j * n_out * p))


@linked
def _work(worker, n_workers, net, tasks, n_tasks, theta, scratch, stride, wanted):
    p, n_out = net.n_theta, layer_of(net, net.n_layers).n_out
    scratch = offset(scratch, worker * stride)
    spare = offset(scratch, compiled_size(net.width, n_out, p))  # for a gradient that nobody wants
    for task in range(worker, n_tasks, n_workers):
        own, rows = vector_of(theta, task), rows_of(net, tasks, task)
        g = offset(wanted.gradients, task * p) if wanted.with_gradients else spare
        derived = derived_of(net, scratch, g, offset(wanted.hessians, task * p * p))
        if wanted.with_residuals or wanted.with_jacobians:
            first = tasks.offsets[task] * n_out
            _derive_samples(net, own, rows, derived.sample, first, wanted)
        if wanted.with_hessians or wanted.with_gradients:
            differentiate(net, own, rows, 2 if wanted.with_hessians else 1, derived)


@kernel
def derivatives(
    n_workers, table, theta, x, y, offsets, loss_scale, loss_mean, scratch,
    residuals, jacobians, gradients, hessians,
):  # fmt: skip
    """Fill those of the four outputs that are not empty; theta is (1, P) or (n_tasks, P)."""
    for worker in prange(n_workers):
        wanted = Wanted(
            residuals, residuals.size > 0, jacobians, jacobians.size > 0,
            gradients, gradients.size > 0, hessians, hessians.size > 0,
        )  # fmt: skip
        _work(
            worker, n_workers, net_of(table), Tasks(x, y, offsets, loss_scale, loss_mean),
            offsets.size - 1, vectors_of(theta), scratch, scratch.shape[1], wanted,
        )  # fmt: skip
