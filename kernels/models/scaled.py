"""A model in other units: ``f(x) = m + s g((x - a) / b)``, with g the model's passes by address.

Its own numbers are a and b (n_in each), then m and s (n_out each). The arithmetic of the scales is
in float64. delta, Rf and R delta of the part are s times those of f, or f's s times the part's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import net_at, own_numbers, part_of
from ..vectors.pointers import offset
from .passes import Block, Passes, Point, delta_of, f_of, r_delta_of, rf_of
from .passes import backward as part_backward
from .passes import derive as part_derive
from .passes import forward as part_forward
from .passes import r_backward as part_r_backward
from .passes import r_forward as part_r_forward
from .sums import own_block, sum_table


def scaled_table(table: np.ndarray, numbers: Sequence[float]) -> np.ndarray:
    """The table of a scaled model, from the model's and the scales."""
    return sum_table([table], numbers)


@linked
def _times_scale(n, rows, scale, source, ld_source, out, ld_out):
    """``out = s source``, zero-padded."""
    for i in range(rows):
        for j in range(n):
            out[i * ld_out + j] = scale[j] * source[i * ld_source + j]
        for j in range(n, ld_out):
            out[i * ld_out + j] = 0


@helper
def _scale_of_f(net):
    return own_numbers(net, 2 * net.n_in + net.n_out)


@linked
def _derive(net, w, c):
    part_derive(net_at(net, part_of(net, 0).net), Point(w, c))


@linked
def _forward(net, block, at, order):
    part, n_in, n_out, x = part_of(net, 0), net.n_in, net.n_out, block.memory
    sub, f = net_at(net, part.net), f_of(net, block)
    place = part.place if order > 0 else n_in + n_out
    own = Block(block.rows, offset(block.memory, block.rows * place))
    mean, scale, ld, inner = own_numbers(net, 0), own_numbers(net, n_in), sub.ld_in, own.memory
    for i in range(block.rows):
        for j in range(n_in):
            inner[i * ld + j] = (np.float64(x[i * n_in + j]) - mean[j]) / scale[j]
        for j in range(n_in, ld):
            inner[i * ld + j] = 0
    part_forward(sub, own, at, order)
    mean, scale, ld = own_numbers(net, 2 * n_in), _scale_of_f(net), sub.ld_out
    found = f_of(sub, own)
    for i in range(block.rows):
        for j in range(n_out):
            f[i * n_out + j] = mean[j] + scale[j] * np.float64(found[i * ld + j])


@linked
def _backward(net, block, at, order, g, add):
    part, n_out, scale = part_of(net, 0), net.n_out, _scale_of_f(net)
    sub, own = net_at(net, part.net), own_block(block, part)
    delta = delta_of(net, block)
    _times_scale(n_out, block.rows, scale, delta, n_out, delta_of(sub, own), sub.ld_out)
    part_backward(sub, own, at, order, g, add)


@linked
def _r_forward(net, block, at, along):
    part, n_out, scale = part_of(net, 0), net.n_out, _scale_of_f(net)
    sub, own = net_at(net, part.net), own_block(block, part)
    part_r_forward(sub, own, at, along)
    rf = rf_of(net, block)
    _times_scale(n_out, block.rows, scale, rf_of(sub, own), sub.ld_out, rf, n_out)


@linked
def _r_backward(net, block, at, along, hv, add):
    part, n_out, scale = part_of(net, 0), net.n_out, _scale_of_f(net)
    sub, own = net_at(net, part.net), own_block(block, part)
    r_delta = r_delta_of(net, block)
    _times_scale(n_out, block.rows, scale, r_delta, n_out, r_delta_of(sub, own), sub.ld_out)
    part_r_backward(sub, own, at, along, hv, add)


SCALED = Passes(_derive, _forward, _backward, _r_forward, _r_backward)
