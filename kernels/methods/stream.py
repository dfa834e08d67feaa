"""The last layer's posterior of one task, whose rows come one at a time.

The state is that of the square-root information filter, (p, p + m) in float64 whatever theta is:
``[L^T, u]`` with L the lower Cholesky factor of the precision Λ in units of the noise's, and u =
L^T w^T for the mean w (m, p), so that ``L u = Λ w^T``. A row with features phi and targets y makes

    Λ <- forget Λ + weight phi phi^T,    L u <- forget L u + weight phi y

which is one rotation for each row of the state (``cholesky.take_in``): orthogonal, so errors do not
grow, and the precision stays positive. A prediction is one solve, v = L^-1 phi: mean v^T u,
variance ``sigma^2 (1 + v^T v)``.
"""

from __future__ import annotations

import math

from ..compile.jit import serial_kernel
from ..compile.link import linked
from ..compile.records import layer_of, net_of
from ..models.layers import A, derive, forward, value
from ..models.padded import spread
from ..models.passes import Block, Point, copy_rows
from ..vectors.cholesky import forward_row, take_in
from ..vectors.pointers import offset

#: a diagonal entry of the factor down to which it forgets: a feature that no row shows any longer
#: keeps a precision (the square) whose inverse is a number
LEAST = 1e-140


@linked
def prepare_stream(net, theta, shared):
    """The network as passes take it: padded, and its transposed copy behind it."""
    spread(net, theta, shared)
    derive(net, shared, offset(shared, net.n_padded))


@linked
def features_of_row(net, shared, x, memory, phi, n):
    """phi (n,): the features of one row, the 1 for a bias, and zeros."""
    layer, block, first = layer_of(net, net.n_layers), Block(1, memory), layer_of(net, 1)
    copy_rows(1, first.n_in, x, first.n_in, memory, first.ld_in)
    forward(net, block, Point(shared, offset(shared, net.n_padded)), 0)
    a, n_in = value(net, block, A, net.n_layers), layer.n_in
    for j in range(n_in):
        phi[j] = a[j]
    for j in range(n_in, n):
        phi[j] = 0
    if layer.bias >= 0:
        phi[n_in] = 1


@linked
def take_row(net, shared, x, y, weight, forget, p, n, state, memory, phi):
    """Take in one row."""
    features_of_row(net, shared, x, memory, phi, n)
    for o in range(layer_of(net, net.n_layers).n_out):
        phi[p + o] = y[o]
    if weight != 1.0:
        root = math.sqrt(weight)
        for j in range(n):
            phi[j] *= root
    if forget != 1.0:
        root = math.sqrt(forget)
        for i in range(p):
            row = offset(state, i * n)
            by = root if row[i] * root > LEAST else min(1.0, LEAST / row[i])
            for j in range(i, n):
                row[j] *= by
    take_in(p, n, state, n, phi)


@linked
def predict_row(net, shared, x, noise, p, n, state, memory, phi, mean, std):
    """Mean and standard deviation (m,) of an observation at one row."""
    features_of_row(net, shared, x, memory, phi, n)
    root = math.sqrt(1.0 + forward_row(p, n, state, n, phi))
    for o in range(layer_of(net, net.n_layers).n_out):
        mean[o] = -phi[p + o]
        std[o] = root * math.sqrt(noise[o])


@serial_kernel
def prepare(table, theta, shared):
    """Write the network to ``shared``."""
    prepare_stream(net_of(table), theta, shared)


@serial_kernel
def update(table, shared, x, y, weight, forget, state, memory, phi):
    """Take in one row x (n_in,), y (m,); ``phi`` (n,) and ``memory`` are to work in."""
    take_row(
        net_of(table), shared, x, y, weight, forget, state.shape[0], state.shape[1], state, memory,
        phi,
    )  # fmt: skip


@serial_kernel
def predict(table, shared, x, noise, state, memory, phi, mean, std):
    """Predict at one row x (n_in,)."""
    predict_row(
        net_of(table), shared, x, noise, state.shape[0], state.shape[1], state, memory, phi, mean,
        std,
    )  # fmt: skip
