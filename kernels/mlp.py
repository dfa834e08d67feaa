"""Layer passes of a multilayer perceptron on a block of rows.

A network of L weight layers is described by ``layer_table``; a linear model is the network with
one layer. Layer l (1 ... L) makes value l from value l - 1; value 0 is the input, value L the
output. Inside the kernels a parameter vector is *padded*: each layer is a weight (n_out, ld_in)
followed by a bias (ld_out), where ``ld`` is a width rounded up to whole vector registers and the
padding is zero. A *transposed* copy holds the weights as (ld_in, ld_out). A row block keeps every
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

import numpy as np

from .activations import CODES, PIECEWISE_LINEAR, activate, activate_slope, activate_value
from .link import linked
from .matmul import inner, outer, sum_rows
from .simd import LANES, lanes_of, transpose_tile

# Row 0 of a layer table describes the network,
N_LAYERS, ACTIVATION, N_THETA, N_PADDED, N_TRANSPOSED, WIDTH = 0, 1, 2, 3, 4, 5
OWN_SIZE, N_COMMON = 6, 7  # see OWN and COMMON
# row l layer l, and row L + 1 only holds the PLACE of value L. Sizes:
N_IN, N_OUT, LD_IN, LD_OUT = 0, 1, 2, 3
WEIGHT, BIAS = 4, 5  # offsets in theta; BIAS is -1 without an intercept
P_WEIGHT, P_BIAS, T_WEIGHT = 6, 7, 8  # offsets in a padded vector and in a transposed copy
PLACE = 9  # where the layer's input value lies in a row of all values
# Of factored: where the layer lies in a task's own weights (of OWN_SIZE numbers), or -1; and the
# number among the N_COMMON layers of which no task has own weights.
OWN, COMMON = 10, 11
ROW = 12  # numbers in a row of the table

#: a layer is narrow if its outputs fill less than this part of a vector: its rows are then read as
#: vectors instead
NARROW = 4


def _padded(n: int, lanes: int, itemsize: int) -> int:
    """``n`` rounded up to whole vectors, but not to a stride at which rows share cache sets."""
    width = -(-n // lanes) * lanes
    return width + lanes if width * itemsize % 1024 == 0 else width


def layer_table(
    layer_sizes: tuple[int, ...], activation: str, intercept: bool, dtype: np.dtype
) -> np.ndarray:
    """The flat int64 description of a network, ``ROW`` numbers a row, for one dtype."""
    lanes = LANES[np.dtype(dtype)]
    n_layers = len(layer_sizes) - 1
    table = np.zeros((n_layers + 2, ROW), np.int64)
    padded = [_padded(n, lanes, np.dtype(dtype).itemsize) for n in layer_sizes]
    theta = pad = transposed = place = 0
    for layer in range(1, n_layers + 1):
        n_in, n_out = layer_sizes[layer - 1 : layer + 1]
        ld_in, ld_out = padded[layer - 1 : layer + 1]
        bias = theta + n_in * n_out if intercept else -1
        p_bias = pad + n_out * ld_in
        table[layer] = (
            n_in, n_out, ld_in, ld_out, theta, bias, pad, p_bias, transposed, place, -1, 0,
        )  # fmt: skip
        theta += n_in * n_out + (n_out if intercept else 0)
        pad, transposed, place = p_bias + ld_out, transposed + ld_in * ld_out, place + ld_in
    table[n_layers + 1, PLACE] = place
    header = n_layers, CODES[activation], theta, pad, transposed, place + padded[-1]
    table[0, : len(header)] = header
    return table.reshape(-1)


def padded_sizes(table: np.ndarray) -> tuple[int, int]:
    """Numbers in a padded parameter vector and in the transposed copy of its weights."""
    return int(table[N_PADDED]), int(table[N_TRANSPOSED])


@linked
def spread(table, theta, t0, out, p0):
    """Write a parameter vector as a padded one, padding included."""
    for layer in range(1, table[N_LAYERS] + 1):
        row = layer * ROW
        n_in, n_out, ld_in = table[row + N_IN], table[row + N_OUT], table[row + LD_IN]
        weight, p_weight = t0 + table[row + WEIGHT], p0 + table[row + P_WEIGHT]
        for i in range(n_out):
            for j in range(n_in):
                out[p_weight + i * ld_in + j] = theta[weight + i * n_in + j]
            for j in range(n_in, ld_in):
                out[p_weight + i * ld_in + j] = 0
        bias, p_bias = t0 + table[row + BIAS], p0 + table[row + P_BIAS]
        for i in range(table[row + LD_OUT]):
            given = table[row + BIAS] >= 0 and i < n_out
            out[p_bias + i] = theta[bias + i] if given else 0


@linked
def gather(table, padded, p0, out, t0):
    """Write a padded vector as a plain parameter vector."""
    for layer in range(1, table[N_LAYERS] + 1):
        row = layer * ROW
        n_in, n_out, ld_in = table[row + N_IN], table[row + N_OUT], table[row + LD_IN]
        weight, p_weight = t0 + table[row + WEIGHT], p0 + table[row + P_WEIGHT]
        for i in range(n_out):
            for j in range(n_in):
                out[weight + i * n_in + j] = padded[p_weight + i * ld_in + j]
        if table[row + BIAS] >= 0:
            bias, p_bias = t0 + table[row + BIAS], p0 + table[row + P_BIAS]
            for i in range(n_out):
                out[bias + i] = padded[p_bias + i]


@linked
def transpose(table, padded, p0, out, t0):
    """Write the transposed copy of a padded vector's weights, of the layers that use it."""
    for layer in range(1, table[N_LAYERS] + 1):
        row = layer * ROW
        if NARROW * table[row + N_OUT] > lanes_of(out):
            transpose_layer(
                table, layer, padded, p0 + table[row + P_WEIGHT], out, t0 + table[row + T_WEIGHT]
            )  # fmt: skip


@linked
def transpose_layer(table, layer, w, w0, out, o0):
    """Write a layer's weights (n_out, ld_in) as (ld_in, ld_out)."""
    lanes, row = lanes_of(out), layer * ROW
    n_out, ld_in, ld_out = table[row + N_OUT], table[row + LD_IN], table[row + LD_OUT]
    for i in range(0, ld_out, lanes):
        for j in range(0, ld_in, lanes):
            transpose_tile(
                n_out - i, 0, out, o0 + j * ld_out + i, ld_out, w, w0 + i * ld_in + j, ld_in
            )  # fmt: skip


@linked
def load_rows(n, ld, rows, source, s0, out, o0):
    """Copy rows of n numbers into rows of ld numbers, zero-padded."""
    for i in range(rows * ld if n < ld else 0):
        out[o0 + i] = 0
    for i in range(rows):
        for j in range(n):
            out[o0 + i * ld + j] = source[s0 + i * n + j]


@linked
def times_transposed(table, layer, rows, out, o0, d, d0, ldd, x, x0, w, w0, t, t0):
    """``out = D + x W^T`` of one layer; w is padded, t its transposed copy."""
    row = layer * ROW
    n_out, ld_in, ld_out = table[row + N_OUT], table[row + LD_IN], table[row + LD_OUT]
    if NARROW * n_out <= lanes_of(
        out
    ):  # whole vectors across so few outputs would mostly be padding
        for i in range(rows):
            for j in range(ld_out):
                out[o0 + i * ld_out + j] = d[d0 + i * ldd + j]
        weight = w0 + table[row + P_WEIGHT]
        inner(rows, n_out, ld_in, out, o0, ld_out, 1.0, 0.0, 1, x, x0, ld_in, w, weight, ld_in)
    else:
        n_in, weight = table[row + N_IN], t0 + table[row + T_WEIGHT]
        outer(
            rows, ld_out, n_in, out, o0, ld_out, d, d0, ldd, 1, x, x0, ld_in, 1, t, weight, ld_out
        )


@linked
def times(table, layer, rows, out, o0, add, x, x0, w, w0):
    """``out = [out +] x W`` of one layer."""
    row = layer * ROW
    n_out, ld_in, ld_out = table[row + N_OUT], table[row + LD_IN], table[row + LD_OUT]
    weight = w0 + table[row + P_WEIGHT]
    outer(
        rows, ld_in, n_out, out, o0, ld_in, out, o0, ld_in, add, x, x0, ld_out, 1, w, weight, ld_in
    )


@linked
def add_products(table, layer, rows, out, p0, add, left, l0, right, r0):
    """Weight part of a gradient: ``out_W = [out_W +] left^T right``."""
    row = layer * ROW
    n_out, ld_in, ld_out = table[row + N_OUT], table[row + LD_IN], table[row + LD_OUT]
    weight = p0 + table[row + P_WEIGHT]
    outer(
        n_out, ld_in, rows, out, weight, ld_in, out, weight, ld_in, add,
        left, l0, 1, ld_out, right, r0, ld_in,
    )  # fmt: skip


@linked
def add_columns(table, layer, rows, out, p0, add, left, l0):
    """Bias part of a gradient: ``[out_b +]`` column sums of left; zero without an intercept."""
    row = layer * ROW
    ld_out, bias = table[row + LD_OUT], p0 + table[row + P_BIAS]
    count = rows if table[row + BIAS] >= 0 else 0
    sum_rows(ld_out, count, out, bias, out, bias, add, left, l0, ld_out)


@linked
def is_curved(table) -> float:
    """1 unless phi'' is zero everywhere."""
    return 0.0 if table[ACTIVATION] < PIECEWISE_LINEAR else 1.0


@linked
def apply_activation(table, layer, rows, buf, a, d1, d2, derivatives):
    """Turn z of a hidden layer into phi(z) in place, with as many derivatives as asked beside it.

    phi'' of an activation that has none (see ``is_curved``) is not written.
    """
    row = layer * ROW
    n_out, ld_out = table[row + N_OUT], table[row + LD_OUT]
    if derivatives > 1 and is_curved(table) > 0:
        activate(table[ACTIVATION], buf, a, a, d1, d2, rows * ld_out)
    elif derivatives > 0:
        activate_slope(table[ACTIVATION], buf, a, a, d1, rows * ld_out)
    else:
        activate_value(table[ACTIVATION], buf, a, a, rows * ld_out)
    if n_out < ld_out and buf[a + n_out] != 0:  # phi(0) is not 0, and padding must stay 0
        for i in range(rows):
            for j in range(n_out, ld_out):
                buf[a + i * ld_out + j] = 0


@linked
def forward(table, rows, buf, a, d1, d2, derivatives, w, w0, t, t0):
    """All values for the inputs at value 0 of block ``a``."""
    n_layers = table[N_LAYERS]
    for layer in range(1, n_layers + 1):
        row = layer * ROW
        x, out = rows * table[row + PLACE], rows * table[row + ROW + PLACE]
        bias = w0 + table[row + P_BIAS]
        times_transposed(table, layer, rows, buf, a + out, w, bias, 0, buf, a + x, w, w0, t, t0)
        if layer < n_layers:
            apply_activation(table, layer, rows, buf, a + out, d1 + out, d2 + out, derivatives)


@linked
def residual(n, ld, rows, buf, f, delta, y, y0, scale) -> float:
    """delta of the output, ``scale * (f - y)``; returns the sum of squared residuals."""
    for i in range(rows * ld if n < ld else 0):
        buf[delta + i] = 0
    total = 0.0
    for i in range(rows):
        for j in range(n):
            r = buf[f + i * ld + j] - y[y0 + i * n + j]
            total += np.float64(r) * np.float64(r)
            buf[delta + i * ld + j] = scale * r
    return total


@linked
def r_activation(table, n, buf, rz, d1, d2):
    """Turn Rz into the layer's R-value ``phi' * Rz``, and d2 into ``d2 * Rz``."""
    if is_curved(table) > 0:
        for i in range(n):
            buf[d2 + i] *= buf[rz + i]
    for i in range(n):
        buf[rz + i] *= buf[d1 + i]


@linked
def r_backward_activation(table, n, buf, r_delta, d1, d2):
    """``r_delta = r_delta * phi' + d2``."""
    for i in range(n):
        buf[r_delta + i] *= buf[d1 + i]
    if is_curved(table) > 0:
        for i in range(n):
            buf[r_delta + i] += buf[d2 + i]


@linked
def backward(table, rows, buf, d1, d2, delta, curvature, w, w0):
    """delta of all hidden values; with ``curvature``, d2 becomes ``(delta W) * phi''``."""
    for layer in range(table[N_LAYERS], 1, -1):
        row = layer * ROW
        out, prev = rows * table[row + ROW + PLACE], rows * table[row + PLACE]
        times(table, layer, rows, buf, delta + prev, 0, buf, delta + out, w, w0)
        n = rows * table[row + LD_IN]
        if curvature and is_curved(table) > 0:
            for i in range(n):
                buf[d2 + prev + i] *= buf[delta + prev + i]
        for i in range(n):
            buf[delta + prev + i] *= buf[d1 + prev + i]


@linked
def r_forward(table, rows, buf, a, d1, d2, ra, w, t, v, vt):
    """R-values for a direction v; d2 becomes ``(delta W) * phi'' * Rz``."""
    n_layers = table[N_LAYERS]
    for layer in range(1, n_layers + 1):
        row = layer * ROW
        x, out = rows * table[row + PLACE], rows * table[row + ROW + PLACE]
        bias, ld = v + table[row + P_BIAS], table[row + LD_OUT]
        here = ra + out
        times_transposed(table, layer, rows, buf, here, buf, bias, 0, buf, a + x, buf, v, buf, vt)
        if layer > 1:  # the input does not depend on the parameters
            times_transposed(
                table, layer, rows, buf, here, buf, here, ld, buf, ra + x, buf, w, buf, t
            )
        if layer < n_layers:
            r_activation(table, rows * ld, buf, here, d1 + out, d2 + out)


@linked
def r_backward(table, rows, buf, d1, d2, delta, r_delta, w, v):
    """R-deltas of all hidden values, from that of the output."""
    for layer in range(table[N_LAYERS], 1, -1):
        row = layer * ROW
        out, prev = rows * table[row + ROW + PLACE], rows * table[row + PLACE]
        times(table, layer, rows, buf, r_delta + prev, 0, buf, r_delta + out, buf, w)
        times(table, layer, rows, buf, r_delta + prev, 1, buf, delta + out, buf, v)
        r_backward_activation(
            table, rows * table[row + LD_IN], buf, r_delta + prev, d1 + prev, d2 + prev
        )  # fmt: skip
