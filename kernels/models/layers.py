"""Stacks of weight layers, and their passes for a block of rows.

A network of L layers is described by ``layer_table``; a linear model is the network with one
layer. Layer l (1 ... L) makes value l from value l - 1; value 0 is the input, value L the output.
In a padded vector each layer is a weight (n_out, ld_in) followed by a bias (ld_out), where ``ld``
is a width rounded up to whole vector registers and the padding is zero. A *transposed* copy holds
the weights as (ld_in, ld_out): it is what is derived from a padded vector. A row block keeps every
value for some rows: value v is the (rows, ld_v) matrix at ``rows`` times the place that the table
gives for one row.

With z = a W^T + b, a' = phi(z), the passes are, for parameters W and a direction V (Pearlmutter's
R-operator):

* forward      ``z = a W^T + b``
* backward     ``delta_prev = (delta W) * phi'``
* R-forward    ``Rz = Ra W^T + a V^T + v``,                       ``Ra' = phi' * Rz``
* R-backward   ``Rdelta_prev = (Rdelta W + delta V) * phi' + (delta W) * phi'' * Rz_prev``
* gradients    ``dW = delta^T a``,                               ``RdW = Rdelta^T a + delta^T Ra``
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import layer_of, table_of
from ..vectors.activations import CODES, PIECEWISE_LINEAR, activate, activate_slope, activate_value
from ..vectors.emitter import LANES
from ..vectors.matmul import inner, outer, sum_rows
from ..vectors.pointers import lanes_of, offset
from ..vectors.tiles import transpose_tile
from .passes import Passes

#: a layer is narrow if its outputs fill less than this part of a vector: its rows are then read as
#: vectors instead
NARROW = 4

# What is kept of some rows: values, phi', delta, which is all of a pass of order 1; phi'' (then
# delta W * phi'', then times Rz), and the derivatives of the values and of delta along a direction
A, D1, DELTA, D2, RA, R_DELTA = 0, 1, 2, 3, 4, 5
KINDS = 6


def _padded(n: int, lanes: int, itemsize: int) -> int:
    """``n`` rounded up to whole vectors, but not to a stride at which rows share cache sets."""
    width = -(-n // lanes) * lanes
    return width + lanes if width * itemsize % 1024 == 0 else width


def layer_table(
    layer_sizes: tuple[int, ...], activations: tuple[str, ...], intercept: bool, dtype: np.dtype
) -> np.ndarray:
    """The table of a network for one dtype; activations are those of the hidden layers."""
    lanes = LANES[np.dtype(dtype)]
    n_layers = len(layer_sizes) - 1
    codes = [*(CODES[activation] for activation in activations), -1]  # none of the outputs
    padded = [_padded(n, lanes, np.dtype(dtype).itemsize) for n in layer_sizes]
    layers: list[tuple[int, ...]] = []
    pieces: list[tuple[int, ...]] = []
    theta = pad = transposed = place = 0
    for number in range(n_layers):
        n_in, n_out = layer_sizes[number : number + 2]
        ld_in, ld_out = padded[number : number + 2]
        bias, p_bias = theta + n_in * n_out, pad + n_out * ld_in
        layers.append((
            n_in, n_out, ld_in, ld_out, theta, bias if intercept else -1, pad, p_bias, transposed,
            place, codes[number], -1, 0,
        ))  # fmt: skip
        pieces.append((theta, pad, n_out, n_in, ld_in, number, False))
        n_biases = n_out if intercept else 0
        pieces.append((bias if intercept else 0, p_bias, 1, n_biases, ld_out, number, True))
        theta = bias + n_biases
        pad, transposed, place = p_bias + ld_out, transposed + ld_in * ld_out, place + ld_in
    layers.append((*[0] * 9, place, *[0] * 3))
    width = place + padded[-1]
    fields = {
        "n_in": layer_sizes[0], "n_out": layer_sizes[-1], "ld_in": padded[0],
        "ld_out": padded[-1], "n_theta": theta, "n_padded": pad, "n_derived": transposed,
        "n_layers": n_layers, "row_size": KINDS * width, "value_size": width, "width": width,
        "f": A * width + place, "delta": DELTA * width + place, "rf": RA * width + place,
        "r_delta": R_DELTA * width + place,
    }  # fmt: skip
    return table_of(fields, layers, pieces)


class Weights(NamedTuple):
    """One layer's weights (n_out, ld_in), bias (ld_out,) and transposed weights (ld_in, ld_out)."""

    w: Any
    b: Any
    t: Any


@helper
def weights_of(layer, at):
    """A layer's part of a point."""
    return Weights(
        offset(at.w, layer.p_weight), offset(at.w, layer.p_bias), offset(at.c, layer.t_weight)
    )


# Transposed copies -------------------------------------------------------------------------------


@helper
def is_narrow(layer, vector):
    """Whether vectors across the layer's outputs would mostly be padding."""
    return NARROW * layer.n_out <= lanes_of(vector)


@linked
def derive(net, w, t):
    """Write the transposed copy of the weights, of the layers that use it."""
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        if not is_narrow(layer, t):
            transpose_layer(layer, offset(w, layer.p_weight), offset(t, layer.t_weight))


@linked
def transpose_layer(layer, w, t):
    """Write a layer's weights (n_out, ld_in) as (ld_in, ld_out)."""
    lanes, n_out, ld_in, ld_out = lanes_of(t), layer.n_out, layer.ld_in, layer.ld_out
    for i in range(0, ld_out, lanes):
        for j in range(0, ld_in, lanes):
            source, target = offset(w, i * ld_in + j), offset(t, j * ld_out + i)
            transpose_tile(n_out - i, target, ld_out, source, ld_in)


# Products of one layer ---------------------------------------------------------------------------


@linked
def times_transposed(layer, rows, out, d, ldd, x, weights):
    """``out = D + x W^T``."""
    n_in, n_out, ld_in, ld_out = layer.n_in, layer.n_out, layer.ld_in, layer.ld_out
    if is_narrow(layer, out):
        for i in range(rows):
            for j in range(ld_out):
                out[i * ld_out + j] = d[i * ldd + j]
        inner(rows, n_out, ld_in, out, ld_out, 1.0, 0.0, 1, x, ld_in, weights.w, ld_in)
    else:
        outer(rows, ld_out, n_in, out, ld_out, d, ldd, 1, x, ld_in, 1, weights.t, ld_out)


@linked
def times(layer, rows, out, add, x, weights):
    """``out = [out +] x W``."""
    ld_in, ld_out = layer.ld_in, layer.ld_out
    outer(rows, ld_in, layer.n_out, out, ld_in, out, ld_in, add, x, ld_out, 1, weights.w, ld_in)


@linked
def add_products(layer, rows, g, add, left, right):
    """Weight part of a gradient: ``g_W = [g_W +] left^T right``."""
    n_out, ld_in, ld_out = layer.n_out, layer.ld_in, layer.ld_out
    g_w = offset(g, layer.p_weight)
    outer(n_out, ld_in, rows, g_w, ld_in, g_w, ld_in, add, left, 1, ld_out, right, ld_in)


@linked
def add_columns(layer, rows, g, add, left):
    """Bias part of a gradient: ``[g_b +]`` column sums of left; zero without an intercept."""
    count, ld_out = rows if layer.bias >= 0 else 0, layer.ld_out
    g_b = offset(g, layer.p_bias)
    sum_rows(ld_out, count, g_b, g_b, add, left, ld_out)


# Activations -------------------------------------------------------------------------------------


@helper
def is_curved(layer):
    """Whether phi'' is not zero everywhere."""
    return layer.activation >= PIECEWISE_LINEAR


@linked
def apply_activation(layer, rows, a, d1, d2, order):
    """Turn z of a hidden layer into phi(z) in place, with as many derivatives as asked beside it.

    phi'' of an activation that has none (see ``is_curved``) is not written.
    """
    n_out, ld_out = layer.n_out, layer.ld_out
    if order > 1 and is_curved(layer):
        activate(layer.activation, a, a, d1, d2, rows * ld_out)
    elif order > 0:
        activate_slope(layer.activation, a, a, d1, rows * ld_out)
    else:
        activate_value(layer.activation, a, a, rows * ld_out)
    if n_out < ld_out and a[n_out] != 0:  # phi(0) is not 0, and padding must stay 0
        for i in range(rows):
            for j in range(n_out, ld_out):
                a[i * ld_out + j] = 0


@linked
def r_activation(layer, n, rz, d1, d2):
    """Turn Rz into the layer's R-value ``phi' * Rz``, and d2 into ``d2 * Rz``."""
    if is_curved(layer):
        for i in range(n):
            d2[i] *= rz[i]
    for i in range(n):
        rz[i] *= d1[i]


@linked
def backward_activation(layer, n, delta, d1, d2, order):
    """``delta = delta * phi'``; with order 2, d2 becomes ``delta * phi''`` first."""
    if order > 1 and is_curved(layer):
        for i in range(n):
            d2[i] *= delta[i]
    for i in range(n):
        delta[i] *= d1[i]


@linked
def r_backward_activation(layer, n, r_delta, d1, d2):
    """``r_delta = r_delta * phi' + d2``."""
    for i in range(n):
        r_delta[i] *= d1[i]
    if is_curved(layer):
        for i in range(n):
            r_delta[i] += d2[i]


# Passes over a block of rows ---------------------------------------------------------------------


@helper
def value(net, block, kind, number):
    """One kind of the input of a layer (1 ... L), or of the output (L + 1)."""
    place = kind * net.width + layer_of(net, number).place
    return offset(block.memory, block.rows * place)


@linked
def forward(net, block, at, order):
    """All values for the inputs that lie in the block."""
    for number in range(1, net.n_layers + 1):
        layer, z = layer_of(net, number), value(net, block, A, number + 1)
        weights, x = weights_of(layer, at), value(net, block, A, number)
        times_transposed(layer, block.rows, z, weights.b, 0, x, weights)
        if number < net.n_layers:
            d1, d2 = value(net, block, D1, number + 1), value(net, block, D2, number + 1)
            apply_activation(layer, block.rows, z, d1, d2, order)


@linked
def backward(net, block, at, order, g, add):
    """delta of all hidden values, and the gradient; with order 2, d2 is ``(delta W) * phi''``."""
    for number in range(net.n_layers, 1, -1):
        layer, delta = layer_of(net, number), value(net, block, DELTA, number)
        after = value(net, block, DELTA, number + 1)
        times(layer, block.rows, delta, 0, after, weights_of(layer, at))
        d1, d2 = value(net, block, D1, number), value(net, block, D2, number)
        before = layer_of(net, number - 1)
        backward_activation(before, block.rows * layer.ld_in, delta, d1, d2, order)
    for number in range(1, net.n_layers + 1):
        layer, delta = layer_of(net, number), value(net, block, DELTA, number + 1)
        add_products(layer, block.rows, g, add, delta, value(net, block, A, number))
        add_columns(layer, block.rows, g, add, delta)


@linked
def r_forward(net, block, at, along):
    """R-values along a direction; d2 becomes ``(delta W) * phi'' * Rz``."""
    for number in range(1, net.n_layers + 1):
        layer, rz = layer_of(net, number), value(net, block, RA, number + 1)
        direction, a = weights_of(layer, along), value(net, block, A, number)
        times_transposed(layer, block.rows, rz, direction.b, 0, a, direction)
        if number > 1:  # the input does not depend on the parameters
            ra, ld = value(net, block, RA, number), layer.ld_out
            times_transposed(layer, block.rows, rz, rz, ld, ra, weights_of(layer, at))
        if number < net.n_layers:
            d1, d2 = value(net, block, D1, number + 1), value(net, block, D2, number + 1)
            r_activation(layer, block.rows * layer.ld_out, rz, d1, d2)


@linked
def r_backward(net, block, at, along, hv, add):
    """R-deltas of all hidden values, and the derivative of the gradient along the direction."""
    for number in range(net.n_layers, 1, -1):
        layer, r_delta = layer_of(net, number), value(net, block, R_DELTA, number)
        r_after = value(net, block, R_DELTA, number + 1)
        after = value(net, block, DELTA, number + 1)
        times(layer, block.rows, r_delta, 0, r_after, weights_of(layer, at))
        times(layer, block.rows, r_delta, 1, after, weights_of(layer, along))
        d1, d2 = value(net, block, D1, number), value(net, block, D2, number)
        r_backward_activation(layer_of(net, number - 1), block.rows * layer.ld_in, r_delta, d1, d2)
    for number in range(1, net.n_layers + 1):
        layer, r_delta = layer_of(net, number), value(net, block, R_DELTA, number + 1)
        add_products(layer, block.rows, hv, add, r_delta, value(net, block, A, number))
        add_columns(layer, block.rows, hv, add, r_delta)
        if number > 1:
            delta, ra = value(net, block, DELTA, number + 1), value(net, block, RA, number)
            add_products(layer, block.rows, hv, 1, delta, ra)


LAYERS = Passes(derive, forward, backward, r_forward, r_backward)
