"""The small products of a task's rows with those of its inner steps.

After t steps a layer has the weights ``W_t = W - sum_{u<t} alpha_u delta_u^T a_u`` (a bias folded
in as an input that is 1), so a pass for other rows x of the task needs

* forward    ``x a_u^T + 1``, of x the inputs,
* backward   ``x delta_u^T``, of x the deltas,

times -alpha_u. They are kept: those that the way back needs are transposes of them.
"""

from __future__ import annotations

import numpy as np

from ..compile.link import linked
from ..compile.records import layer_of
from ..models.layers import DELTA, A, value
from ..vectors.matmul import inner, outer
from ..vectors.pointers import offset
from .blocks import count_of, row_of
from .run import products_with, rate_of, support_block

#: kinds of products: of a pass, and of an R-pass, which are R_KINDS further
FORWARD, BACKWARD, R_KINDS = 0, 1, 2


@linked
def subtract_updates(net, run, this, number, kind, x, z):
    """Subtract what the tasks' updates before a pass change of the rows z that it made of rows x.

    ``z -= sum_u alpha_u (x a_u^T + one) delta_u``, one the folded input of the bias; on the way
    back a_u and delta_u change places.
    """
    layer, forward = layer_of(net, number), kind % R_KINDS == FORWARD
    one = 1 if kind == FORWARD and layer.bias >= 0 else 0  # R of it is 0
    ld_x = layer.ld_in if forward else layer.ld_out
    ld_z = layer.ld_out if forward else layer.ld_in
    support, side = run.support, this.side
    for step in range(this.steps):
        rate = rate_of(net, run, step, number)
        if rate == 0:
            continue
        block = support_block(net, run, step)
        a, delta = value(net, block, A, number), value(net, block, DELTA, number + 1)
        left, right = (a, delta) if forward else (delta, a)
        small = products_with(net, this.products, number, kind, step)
        for task in range(side.first, side.last):
            r0, k = row_of(support, task), count_of(support, task)
            x0, m = row_of(side, task), count_of(side, task)
            zt, a_t = offset(z, x0 * ld_z), offset(left, r0 * ld_x)
            xt, delta_t = offset(x, x0 * ld_x), offset(right, r0 * ld_z)
            inner(m, k, ld_x, small, k, -rate, -rate * one, 0, xt, ld_x, a_t, ld_x)
            outer(m, ld_z, k, zt, ld_z, zt, ld_z, 1, small, k, 1, delta_t, ld_z)
            small = offset(small, m * k)


@linked
def add_kept(support, side, p, ld, z, kept):
    """``z += T^T p`` for every task, T a product that the pass of a side has kept."""
    for task in range(side.first, side.last):
        r0, m = row_of(support, task), count_of(support, task)
        p0, k = row_of(side, task), count_of(side, task)
        zt = offset(z, r0 * ld)
        outer(m, ld, k, zt, ld, zt, ld, 1, kept, 1, m, offset(p, p0 * ld), ld)
        kept = offset(kept, m * k)


@linked
def product_of_products(layer, update, pair, one, small) -> float:
    """``sum C * E`` for C = a Q^T + one and E = delta P^T, of an update's rows (delta, a)."""
    ld_in, ld_out, m, k = layer.ld_in, layer.ld_out, update.rows, pair.rows
    c, e = small, offset(small, m * k)
    inner(m, k, ld_in, c, k, 1.0, 1.0 * one, 0, update.q, ld_in, pair.q, ld_in)
    inner(m, k, ld_out, e, k, 1.0, 0.0, 0, update.p, ld_out, pair.p, ld_out)
    total = 0.0
    for i in range(m * k):
        total += np.float64(c[i]) * np.float64(e[i])
    return total
