"""The passes of the factored method, for the rows of a block of tasks.

After t steps a task's weights are ``W_t = W - sum_{u<t} alpha_u delta_u^T a_u``. Products with W
are made with the one W of all tasks, for all rows at once; what belongs to a task is small ones:

* forward    ``z = x W^T - sum_u alpha_u (x a_u^T) delta_u``
* backward   ``delta_prev = (delta W - sum_u alpha_u (delta delta_u^T) a_u) * phi'``

and along ``-alpha_s lambda``, lambda = P^T Q, with C = a_s Q^T and E = delta_s P^T,

* R-forward   ``Rz = Ra W_s^T - alpha_s C P``,                 ``Ra' = phi' * Rz``
* R-backward  ``Rdelta_prev = (Rdelta W_s - alpha_s E Q) * phi' + (delta_s W_s) * phi'' * Rz_prev``
* output      ``Rdelta = c Rz``, c the scale of the loss

A layer with own weights has them in place of W, and lambda itself in place of P and Q.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import layer_of
from ..models.layers import (
    D1,
    D2,
    DELTA,
    R_DELTA,
    RA,
    A,
    Block,
    Point,
    apply_activation,
    backward_activation,
    load_rows,
    r_activation,
    r_backward_activation,
    residual,
    times,
    times_transposed,
    value,
    weights_of,
)
from ..vectors.pointers import offset
from .adjoint import along_adjoint
from .blocks import (
    Memory,
    Products,
    Side,
    count_of,
    row_of,
    support_block,
    support_products,
)
from .own_weights import own_backward, own_forward
from .products import BACKWARD, FORWARD, R_KINDS, subtract_updates


class Run(NamedTuple):
    """A block of tasks: theta, the support rows and what the steps have left of them."""

    shared: Point
    support: Side
    memory: Memory
    rates: Any  # (S, L)
    steps: int  # S


class Pass(NamedTuple):
    """A pass of the rows of a side, with the weights after so many steps."""

    side: Side
    block: Block
    products: Products
    steps: int


@helper
def _own_after(run, steps):
    """The own weights after one or more steps."""
    return offset(run.memory.own, (steps - 1) * run.memory.own_size)


@helper
def _adjoint(run):
    """The own weights of the adjoint."""
    return offset(run.memory.own, run.steps * run.memory.own_size)


# Values and deltas -------------------------------------------------------------------------------


@linked
def values(net, run, this, order):
    """A, and by the order D1 and D2, of a pass."""
    first_layer, rows = layer_of(net, 1), this.block.rows
    x = offset(this.side.x, this.side.offsets[this.side.first] * first_layer.n_in)
    load_rows(first_layer.n_in, first_layer.ld_in, rows, x, this.block.memory)
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        a, z = value(net, this.block, A, number), value(net, this.block, A, number + 1)
        if this.steps > 0 and layer.own >= 0:
            own_forward(net, number, this.side, _own_after(run, this.steps), a, z, True)
        else:
            weights = weights_of(layer, run.shared)
            times_transposed(layer, rows, z, weights.b, 0, a, weights)
            subtract_updates(
                net, number, FORWARD, this.steps, run.rates, run.support, run.memory, this.side,
                a, layer.bias >= 0, z, this.products,
            )  # fmt: skip
        if number < net.n_layers:
            d1 = value(net, this.block, D1, number + 1)
            d2 = value(net, this.block, D2, number + 1)
            apply_activation(layer, rows, z, d1, d2, order)


@linked
def losses(net, this, weight, task_values):
    """delta of the outputs; adds the weighted losses to the tasks' values if weight is not 0."""
    side, last_layer = this.side, layer_of(net, net.n_layers)
    n_out, ld_out, start = last_layer.n_out, last_layer.ld_out, side.offsets[side.first]
    f = value(net, this.block, A, net.n_layers + 1)
    delta = value(net, this.block, DELTA, net.n_layers + 1)
    factor = weight if weight != 0 else 1.0
    for task in range(side.first, side.last):
        r0, k = row_of(side, task), count_of(side, task)
        scale = factor * (side.scale / k if side.mean else side.scale)
        y, at = offset(side.y, (start + r0) * n_out), r0 * ld_out
        squares = residual(n_out, ld_out, k, offset(f, at), y, scale, offset(delta, at))
        if weight != 0:
            task_values[task] += 0.5 * scale * squares


@linked
def deltas(net, run, this, order):
    """DELTA of the hidden values of a pass; with order 2, D2 becomes ``(delta W) * phi''``."""
    rows = this.block.rows
    for number in range(net.n_layers, 1, -1):
        layer = layer_of(net, number)
        delta = value(net, this.block, DELTA, number + 1)
        out = value(net, this.block, DELTA, number)
        if this.steps > 0 and layer.own >= 0:
            own_backward(net, number, this.side, _own_after(run, this.steps), delta, out, 0)
        else:
            times(layer, rows, out, 0, delta, weights_of(layer, run.shared))
            subtract_updates(
                net, number, BACKWARD, this.steps, run.rates, run.support, run.memory, this.side,
                delta, 0, out, this.products,
            )  # fmt: skip
        d1, d2 = value(net, this.block, D1, number), value(net, this.block, D2, number)
        below = layer_of(net, number - 1)
        backward_activation(below, rows * layer.ld_in, out, d1, d2, order)


# R-values and R-deltas ---------------------------------------------------------------------------


@linked
def _times_scalar(n, vector, factor):
    for i in range(n):
        vector[i] *= factor


@linked
def _r_forward_own(net, run, number, block, step):
    """Rz of a layer with own weights: ``-alpha a lambda^T + Ra W_s^T``."""
    layer, a = layer_of(net, number), value(net, block, A, number)
    ra, rz = value(net, block, RA, number), value(net, block, RA, number + 1)
    n = block.rows * layer.ld_out
    own_forward(net, number, run.support, _adjoint(run), a, rz, True)
    _times_scalar(n, rz, -run.rates[step * net.n_layers + number - 1])
    if number > 1 and step > 0:
        own_forward(net, number, run.support, _own_after(run, step), ra, rz, False)
    elif number > 1:
        weights = weights_of(layer, run.shared)
        times_transposed(layer, block.rows, rz, rz, layer.ld_out, ra, weights)


@linked
def _r_forward_shared(net, run, number, block, step, later):
    """Rz of any other layer: ``Ra W_s^T - alpha C P``."""
    layer, ra = layer_of(net, number), value(net, block, RA, number)
    rz, n = value(net, block, RA, number + 1), block.rows * layer.ld_out
    for i in range(n):
        rz[i] = 0
    if number > 1:  # the input does not depend on the parameters
        weights = weights_of(layer, run.shared)
        times_transposed(layer, block.rows, rz, rz, layer.ld_out, ra, weights)
        products = support_products(net, run.memory, run.steps, step)
        subtract_updates(
            net, number, R_KINDS + FORWARD, step, run.rates, run.support, run.memory, run.support,
            ra, 0, rz, products,
        )  # fmt: skip
    if run.rates[step * net.n_layers + number - 1] != 0:
        along_adjoint(net, number, FORWARD, step, run.support, run.memory, later, rz)


@linked
def _r_backward_own(net, run, number, block, step):
    """Rdelta of the input of a layer with own weights, before phi'."""
    layer, delta = layer_of(net, number), value(net, block, DELTA, number + 1)
    r_delta, out = value(net, block, R_DELTA, number + 1), value(net, block, R_DELTA, number)
    own_backward(net, number, run.support, _adjoint(run), delta, out, 0)
    _times_scalar(block.rows * layer.ld_in, out, -run.rates[step * net.n_layers + number - 1])
    if step > 0:
        own_backward(net, number, run.support, _own_after(run, step), r_delta, out, 1)
    else:
        times(layer, block.rows, out, 1, r_delta, weights_of(layer, run.shared))


@linked
def _r_backward_shared(net, run, number, block, step, later):
    """Rdelta of the input of any other layer, before phi': ``Rdelta W_s - alpha E Q``."""
    layer, r_delta = layer_of(net, number), value(net, block, R_DELTA, number + 1)
    out = value(net, block, R_DELTA, number)
    times(layer, block.rows, out, 0, r_delta, weights_of(layer, run.shared))
    products = support_products(net, run.memory, run.steps, step)
    subtract_updates(
        net, number, R_KINDS + BACKWARD, step, run.rates, run.support, run.memory, run.support,
        r_delta, 0, out, products,
    )  # fmt: skip
    if run.rates[step * net.n_layers + number - 1] != 0:
        along_adjoint(net, number, BACKWARD, step, run.support, run.memory, later, out)


@linked
def r_pass(net, run, step, later):
    """R-values and R-deltas of the support rows at a step, along ``-alpha lambda``."""
    support = run.support
    block = support_block(net, run.memory, support, step)
    for number in range(1, net.n_layers + 1):
        layer, rz = layer_of(net, number), value(net, block, RA, number + 1)
        if layer.own >= 0:
            _r_forward_own(net, run, number, block, step)
        else:
            _r_forward_shared(net, run, number, block, step, later)
        if number < net.n_layers:
            d1, d2 = value(net, block, D1, number + 1), value(net, block, D2, number + 1)
            r_activation(layer, block.rows * layer.ld_out, rz, d1, d2)
    ld = layer_of(net, net.n_layers).ld_out
    rf = value(net, block, RA, net.n_layers + 1)
    r_delta = value(net, block, R_DELTA, net.n_layers + 1)
    for task in range(support.first, support.last):
        r0, k = row_of(support, task), count_of(support, task)
        scale = support.scale / k if support.mean else support.scale
        for i in range(r0 * ld, (r0 + k) * ld):
            r_delta[i] = scale * rf[i]
    for number in range(net.n_layers, 1, -1):
        layer, out = layer_of(net, number), value(net, block, R_DELTA, number)
        if layer.own >= 0:
            _r_backward_own(net, run, number, block, step)
        else:
            _r_backward_shared(net, run, number, block, step, later)
        d1, d2 = value(net, block, D1, number), value(net, block, D2, number)
        below = layer_of(net, number - 1)
        r_backward_activation(below, block.rows * layer.ld_in, out, d1, d2)
