"""The passes of the factored method, for the rows of a block of tasks.

After t steps a task's weights are ``W_t = W - sum_{u<t} alpha_u delta_u^T a_u``. Products with W
are made with the one W of all tasks, for all rows at once; what belongs to a task is small ones:

* forward    ``z = x W^T - sum_u alpha_u (x a_u^T) delta_u``
* backward   ``delta_prev = (delta W - sum_u alpha_u (delta delta_u^T) a_u) * phi'``

and along ``-alpha_s lambda``, lambda = P^T Q, with C = a_s Q^T and E = delta_s P^T,

* R-forward   ``Rz = Ra W_s^T - alpha_s C P``,                 ``Ra' = phi' * Rz``
* R-backward  ``Rdelta_prev = (Rdelta W_s - alpha_s E Q) * phi' + (delta_s W_s) * phi'' * Rz_prev``
* output      ``Rdelta = c G Rz``, c the scale and G the curvature of the loss

A layer with own weights has them in place of W, and lambda itself in place of P and Q.
"""

from __future__ import annotations

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import layer_of, loss_of
from ..losses.passes import bend, output_of, scale_of, slope
from ..models.layers import (
    D1,
    D2,
    DELTA,
    R_DELTA,
    RA,
    A,
    apply_activation,
    backward_activation,
    r_activation,
    r_backward_activation,
    times,
    times_transposed,
    value,
    weights_of,
)
from ..models.passes import copy_rows
from ..vectors.pointers import offset
from .adjoint import along_adjoint
from .blocks import count_of, row_of
from .own_weights import own_backward, own_forward
from .products import BACKWARD, FORWARD, R_KINDS, subtract_updates
from .run import adjoint_of, own_after, rate_of, support_pass

# Values and deltas -------------------------------------------------------------------------------


@linked
def values(net, run, this, order):
    """A, and by the order D1 and D2, of a pass."""
    rows, first = this.block.rows, this.side.offsets[this.side.first]
    x = offset(this.side.x, first * net.n_in)
    copy_rows(rows, net.n_in, x, net.n_in, this.block.memory, net.ld_in)
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        a, z = value(net, this.block, A, number), value(net, this.block, A, number + 1)
        if this.steps > 0 and layer.own >= 0:
            own_forward(net, number, this.side, own_after(run, this.steps), a, z, True)
        else:
            weights = weights_of(layer, run.shared)
            times_transposed(layer, rows, z, weights.b, 0, a, weights)
            subtract_updates(net, run, this, number, FORWARD, a, z)
        if number < net.n_layers:
            d1 = value(net, this.block, D1, number + 1)
            d2 = value(net, this.block, D2, number + 1)
            apply_activation(layer, rows, z, d1, d2, order)


@helper
def _output_of(net, side, block, task):
    """The outputs of a task of a side."""
    first, rows = row_of(side, task), count_of(side, task)
    y = offset(side.y, side.offsets[task] * loss_of(net, side.side).ld_y)
    f = offset(value(net, block, A, net.n_layers + 1), first * net.ld_out)
    return output_of(net, side.side, rows, f, y)


@linked
def losses(net, this, weight, task_values):
    """delta of the outputs; adds the weighted losses to the tasks' values if weight is not 0."""
    side, factor = this.side, weight if weight != 0 else 1.0
    delta = value(net, this.block, DELTA, net.n_layers + 1)
    for task in range(side.first, side.last):
        output = _output_of(net, side, this.block, task)
        scale = factor * scale_of(net, side.side, output.rows, output.y)
        delta_task = offset(delta, row_of(side, task) * net.ld_out)
        loss = slope(net, side.side, output, scale, delta_task)
        if weight != 0:
            task_values[task] += scale * loss


@linked
def deltas(net, run, this, order):
    """DELTA of the hidden values of a pass; with order 2, D2 becomes ``(delta W) * phi''``."""
    rows = this.block.rows
    for number in range(net.n_layers, 1, -1):
        layer = layer_of(net, number)
        delta = value(net, this.block, DELTA, number + 1)
        out = value(net, this.block, DELTA, number)
        if this.steps > 0 and layer.own >= 0:
            own_backward(net, number, this.side, own_after(run, this.steps), delta, out, 0)
        else:
            times(layer, rows, out, 0, delta, weights_of(layer, run.shared))
            subtract_updates(net, run, this, number, BACKWARD, delta, out)
        d1, d2 = value(net, this.block, D1, number), value(net, this.block, D2, number)
        before = layer_of(net, number - 1)
        backward_activation(before, rows * layer.ld_in, out, d1, d2, order)


# R-values and R-deltas ---------------------------------------------------------------------------


@linked
def _times_scalar(n, vector, factor):
    for i in range(n):
        vector[i] *= factor


@linked
def _r_forward_own(net, run, this, number):
    """Rz of a layer with own weights: ``-alpha a lambda^T + Ra W_s^T``."""
    layer, block, step = layer_of(net, number), this.block, this.steps
    a, ra = value(net, block, A, number), value(net, block, RA, number)
    rz, n = value(net, block, RA, number + 1), block.rows * layer.ld_out
    own_forward(net, number, this.side, adjoint_of(run), a, rz, True)
    _times_scalar(n, rz, -rate_of(net, run, step, number))
    if number > 1 and step > 0:
        own_forward(net, number, this.side, own_after(run, step), ra, rz, False)
    elif number > 1:
        weights = weights_of(layer, run.shared)
        times_transposed(layer, block.rows, rz, rz, layer.ld_out, ra, weights)


@linked
def _r_forward_shared(net, run, this, number):
    """Rz of any other layer: ``Ra W_s^T - alpha C P``."""
    layer, block, step = layer_of(net, number), this.block, this.steps
    ra, rz = value(net, block, RA, number), value(net, block, RA, number + 1)
    n = block.rows * layer.ld_out
    for i in range(n):
        rz[i] = 0
    if number > 1:  # the input does not depend on the parameters
        weights = weights_of(layer, run.shared)
        times_transposed(layer, block.rows, rz, rz, layer.ld_out, ra, weights)
        subtract_updates(net, run, this, number, R_KINDS + FORWARD, ra, rz)
    if rate_of(net, run, step, number) != 0:
        along_adjoint(net, run, number, FORWARD, step, rz)


@linked
def _r_backward_own(net, run, this, number):
    """Rdelta of the input of a layer with own weights, before phi'."""
    layer, block, step = layer_of(net, number), this.block, this.steps
    delta, r_delta = value(net, block, DELTA, number + 1), value(net, block, R_DELTA, number + 1)
    out, n = value(net, block, R_DELTA, number), block.rows * layer.ld_in
    own_backward(net, number, this.side, adjoint_of(run), delta, out, 0)
    _times_scalar(n, out, -rate_of(net, run, step, number))
    if step > 0:
        own_backward(net, number, this.side, own_after(run, step), r_delta, out, 1)
    else:
        times(layer, block.rows, out, 1, r_delta, weights_of(layer, run.shared))


@linked
def _r_backward_shared(net, run, this, number):
    """Rdelta of the input of any other layer, before phi': ``Rdelta W_s - alpha E Q``."""
    layer, block, step = layer_of(net, number), this.block, this.steps
    r_delta, out = value(net, block, R_DELTA, number + 1), value(net, block, R_DELTA, number)
    times(layer, block.rows, out, 0, r_delta, weights_of(layer, run.shared))
    subtract_updates(net, run, this, number, R_KINDS + BACKWARD, r_delta, out)
    if rate_of(net, run, step, number) != 0:
        along_adjoint(net, run, number, BACKWARD, step, out)


@linked
def r_pass(net, run, step):
    """R-values and R-deltas of the support rows at a step, along ``-alpha lambda``."""
    support, this = run.support, support_pass(net, run, step)
    block = this.block
    for number in range(1, net.n_layers + 1):
        layer, rz = layer_of(net, number), value(net, block, RA, number + 1)
        if layer.own >= 0:
            _r_forward_own(net, run, this, number)
        else:
            _r_forward_shared(net, run, this, number)
        if number < net.n_layers:
            d1, d2 = value(net, block, D1, number + 1), value(net, block, D2, number + 1)
            r_activation(layer, block.rows * layer.ld_out, rz, d1, d2)
    rf = value(net, block, RA, net.n_layers + 1)
    r_delta = value(net, block, R_DELTA, net.n_layers + 1)
    for task in range(support.first, support.last):
        output, at = _output_of(net, support, block, task), row_of(support, task) * net.ld_out
        scale = scale_of(net, support.side, output.rows, output.y)
        bend(net, support.side, output, scale, offset(rf, at), offset(r_delta, at))
    for number in range(net.n_layers, 1, -1):
        layer, out = layer_of(net, number), value(net, block, R_DELTA, number)
        if layer.own >= 0:
            _r_backward_own(net, run, this, number)
        else:
            _r_backward_shared(net, run, this, number)
        d1, d2 = value(net, block, D1, number), value(net, block, D2, number)
        before = layer_of(net, number - 1)
        r_backward_activation(before, block.rows * layer.ld_in, out, d1, d2)
