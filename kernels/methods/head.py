"""The last layer as a linear model on features: rows of many tasks, there and back.

A block holds the rows of some tasks, those of each one side by side: its K support rows, then its Q
query rows. One forward pass with the weights that all tasks share gives the features phi (the
values of the last hidden layer, and a 1 for the bias) and what the prior mean predicts, f. With
S = diag(s) the prior variances in units of the noise's,

    z = [phi, 1] S^1/2

is all that a task's linear system is made of (``dual``, ``primal``). These return the loss's
derivatives by z and by f; the rest is the ordinary backward pass:

* delta of the output is the derivative by f, and gives the gradient of the prior mean
* delta of the last hidden value is ``dz S^1/2``, plus what comes back from the output
* ``d / d log s`` is a sum over tasks, which their systems add to: what ``z dz`` sums up to over the
  rows is the same number, but with a wide prior the difference of large ones

A support row of weight w is an observation of noise sigma^2 / w: its z and its residual Y - F_0 are
multiplied by the root of w, and so are, on the way back, the derivatives by them.

The network is computed in the dtype of theta, and a task's system in float64 whatever that is: a
wide prior makes it ill-conditioned, and it is the smaller part of the work. The rounding of the
features does no harm, it is as if other features had been learned.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import layer_of
from ..models.layers import (
    D1,
    DELTA,
    A,
    add_columns,
    add_products,
    backward_activation,
    times,
    value,
    weights_of,
)
from ..models.passes import copy_rows
from ..vectors.cholesky import whole
from ..vectors.mixed import scale_rows
from ..vectors.pointers import offset

#: kinds of values that a block has room for: values, phi', delta
KINDS = 3


class Head(NamedTuple):
    """The linear model that all tasks start from."""

    p: int  # features, the 1 included
    ld: int  # with padding
    n_out: int
    ld_out: int
    roots: Any  # (ld,) S^1/2, zero in the padding; as all that follows, float64
    log_noise: Any  # (n_noise,) log variances of the noise
    n_noise: int  # 1 for all outputs, or n_out
    density: bool  # whether the loss, or a result, needs the predictive variance
    limit: int  # support rows up to which a task is worked in the dual form
    scale: float  # of the loss
    mean: bool  # whether it is divided by a task's query rows, or the sum of their weights
    ld_y: int  # numbers in a row of y: the targets, and its weight where rows have weights
    ld_y_query: int


class Task(NamedTuple):
    """One task's rows in a block: K of support, then Q of query."""

    k: int
    q: int
    z: Any  # (K + Q, ld)
    dz: Any
    f: Any  # (K + Q, ld_out) what the prior mean predicts, and then what the posterior mean does
    df: Any  # (K + Q, ld_out) Y - F_0 of the support rows; and then the loss's derivative by f
    d_log_s: Any  # (ld,) of all tasks of a block


@helper
def task_of(head, support, query, first, task, places):
    """A task of a block whose tasks begin with ``first``; ``places`` as of a ``Task`` there."""
    k0, q0 = support.offsets[task], query.offsets[task]
    row = k0 - support.offsets[first] + q0 - query.offsets[first]
    return Task(
        support.offsets[task + 1] - k0, query.offsets[task + 1] - q0,
        offset(places.z, row * head.ld), offset(places.dz, row * head.ld),
        offset(places.f, row * head.ld_out), offset(places.df, row * head.ld_out),
        places.d_log_s,
    )  # fmt: skip


@helper
def clear(n, x):
    """``x (n,) = 0``: at once, since a loop for what pads each row costs more."""
    for i in range(n):
        x[i] = 0


@helper
def rows_between(support, query, first, last):
    """Rows of the tasks first:last."""
    of_support = support.offsets[last] - support.offsets[first]
    return of_support + query.offsets[last] - query.offsets[first]


@linked
def write_prior(net, theta, n_prior, n_noise, ld, roots):
    """Write S^1/2 (ld,), from one log variance or one for each feature, and log noise variances."""
    layer = layer_of(net, net.n_layers)
    p = layer.n_in + (1 if layer.bias >= 0 else 0)
    log_s = offset(theta, net.n_theta)
    for j in range(ld):
        roots[j] = 0
    for j in range(p):
        roots[j] = math.exp(0.5 * np.float64(log_s[j if n_prior > 1 else 0]))
    for j in range(n_noise):
        roots[ld + j] = log_s[n_prior + j]


@linked
def load(net, support, query, first, last, block):
    """Write the inputs of some tasks' rows to a block."""
    layer = layer_of(net, 1)
    n_in, ld_in, at = layer.n_in, layer.ld_in, value(net, block, A, 1)
    for task in range(first, last):
        k0, q0 = support.offsets[task], query.offsets[task]
        k, q = support.offsets[task + 1] - k0, query.offsets[task + 1] - q0
        copy_rows(k, n_in, offset(support.x, k0 * n_in), n_in, at, ld_in)
        at = offset(at, k * ld_in)
        copy_rows(q, n_in, offset(query.x, q0 * n_in), n_in, at, ld_in)
        at = offset(at, q * ld_in)


@linked
def scale_features(net, head, block, z, f):
    """``z = [phi, 1] S^1/2`` for the rows of a block, and f, what the prior mean predicts."""
    layer = layer_of(net, net.n_layers)
    n_in, ld_in, ld, roots = layer.n_in, layer.ld_in, head.ld, head.roots
    a, out = value(net, block, A, net.n_layers), value(net, block, A, net.n_layers + 1)
    n_out, ld_out, ld_f = layer.n_out, layer.ld_out, head.ld_out
    width = whole(n_in, roots)
    clear(block.rows * ld_f, f)
    if ld > width:
        clear(block.rows * ld, z)
    scale_rows(block.rows, width, z, ld, a, ld_in, roots)
    for i in range(block.rows):
        for j in range(n_in, head.p):  # of the bias
            z[i * ld + j] = roots[j]
        for j in range(n_out):
            f[i * ld_f + j] = out[i * ld_out + j]


@linked
def residuals(head, task, y):
    """``df = Y - F_0`` of a task's support rows; where these have weights, it and z are weighed."""
    n, ld, f, df, ld_y = head.n_out, head.ld_out, task.f, task.df, head.ld_y
    clear(task.k * ld, df)
    for i in range(task.k):
        for j in range(n):
            df[i * ld + j] = y[i * ld_y + j] - f[i * ld + j]
    if ld_y > n:
        weigh(head, task, y, task.z, df)


@linked
def weigh(head, task, y, of_z, of_f):
    """Multiply a task's support rows, (K, ld) and (K, ld_out), by the roots of their weights."""
    n, ld_y, ld, ld_out = head.n_out, head.ld_y, head.ld, head.ld_out
    for i in range(task.k):
        root = math.sqrt(np.float64(y[i * ld_y + n]))
        for j in range(i * ld, (i + 1) * ld):
            of_z[j] *= root
        for j in range(i * ld_out, (i + 1) * ld_out):
            of_f[j] *= root


@linked
def write_deltas(net, head, block, dz, df):
    """Write delta of the output, and of the last hidden value what does not come from there."""
    layer = layer_of(net, net.n_layers)
    n_in, ld_in, ld, roots = layer.n_in, layer.ld_in, head.ld, head.roots
    n_out, ld_out, ld_f = layer.n_out, layer.ld_out, head.ld_out
    delta = value(net, block, DELTA, net.n_layers + 1)
    clear(block.rows * ld_out, delta)
    for i in range(block.rows):
        for j in range(n_out):
            delta[i * ld_out + j] = df[i * ld_f + j]
    delta = value(net, block, DELTA, net.n_layers)
    rows = block.rows if net.n_layers > 1 else 0
    width = whole(n_in, roots)
    if ld_in > width:
        clear(rows * ld_in, delta)
    scale_rows(rows, width, delta, ld_in, dz, ld, roots)
    for i in range(rows):
        for j in range(n_in, min(head.p, width)):  # dz of the bias
            delta[i * ld_in + j] = 0


@linked
def pull_back(net, block, at, g, add):
    """``g = [g +]`` the gradient of the network, padded, from the deltas of ``write_deltas``."""
    last = net.n_layers
    for number in range(last, 0, -1):
        layer, after = layer_of(net, number), value(net, block, DELTA, number + 1)
        add_products(layer, block.rows, g, add, after, value(net, block, A, number))
        add_columns(layer, block.rows, g, add, after)
        if number > 1:
            delta = value(net, block, DELTA, number)
            times(layer, block.rows, delta, number == last, after, weights_of(layer, at))
            before, d1 = layer_of(net, number - 1), value(net, block, D1, number)
            backward_activation(before, block.rows * layer.ld_in, delta, d1, d1, 1)


@linked
def add_variances(head, d_log_s, noise, g, add):
    """``g = [g +]`` the gradient of log s (ld,), and that of the noise (n_out,) behind it."""
    ld = head.ld
    for j in range(ld):
        g[j] = g[j] + d_log_s[j] if add else d_log_s[j]
    for j in range(head.n_out):
        g[ld + j] = g[ld + j] + noise[j] if add else noise[j]
