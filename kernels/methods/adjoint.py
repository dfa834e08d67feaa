"""The adjoint lambda = dL/dW_s of the factored method, and the gradients that are made of it.

lambda is a pair of row blocks, ``lambda = P^T Q``. It starts as the query rows, (P, Q) =
(delta_query, a_query). Going back through step s, ``lambda <- lambda - H_s (alpha_s lambda)``: it
gains the rows (Rdelta, a_s) and (delta_s, Ra), whose R-values are along ``-alpha_s lambda``. A
weight on the query loss after step t appends that step's query rows when the way back arrives
there. With C = a_s Q^T and E = delta_s P^T,

* rates       ``d/d alpha_s = -sum C * E``
* gradient    ``dL/dW = P^T Q`` at the end, over the rows of a block of tasks

Of a layer with own weights, lambda is a matrix for each task.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.link import linked
from ..compile.records import layer_of
from ..models.layers import DELTA, R_DELTA, RA, A, value
from ..vectors.matmul import outer, sum_rows
from ..vectors.pointers import offset
from .blocks import (
    Side,
    count_of,
    products_with,
    query_block,
    query_products,
    row_of,
    support_block,
    support_products,
)
from .own_weights import is_summable, is_wide, own_adjoint, own_transpose, sum_adjoints
from .products import FORWARD, R_KINDS, add_kept, product_of_products


class Later(NamedTuple):
    """What comes after a step: the query rows of later losses, and how many steps there are."""

    query: Side
    weights: Any  # (S + 1,)
    steps: int  # S
    exact: bool  # whether lambda gains rows on its way back


@linked
def along_adjoint(net, number, kind, step, support, memory, later, z):
    """The direction's own part of an R-pass: ``z -= alpha C P``, or, back, ``z -= alpha E Q``.

    The rows (P, Q) of lambda are the query rows of later losses and, of each later step u,
    (Rdelta_u, a_u) and (delta_u, Ra_u); the products with them are those that the later passes
    made with the rows of this step.
    """
    layer, forward, loss = layer_of(net, number), kind == FORWARD, 0
    ld = layer.ld_out if forward else layer.ld_in
    for after in range(later.steps + 1):
        if later.weights[after] == 0:
            continue
        if after > step:
            block = query_block(net, memory, later.query, loss)
            p, q = value(net, block, DELTA, number + 1), value(net, block, A, number)
            products = query_products(net, memory, later.steps, loss)
            kept = products_with(net, products, number, kind, step)
            add_kept(support, later.query, p if forward else q, ld, z, kept)
        loss += 1
    for after in range(step + 1, later.steps):
        block = support_block(net, memory, support, after)
        a, ra = value(net, block, A, number), value(net, block, RA, number)
        delta = value(net, block, DELTA, number + 1)
        r_delta = value(net, block, R_DELTA, number + 1)
        products = support_products(net, memory, later.steps, after)
        # with C of (Rdelta, a) and of (delta, Ra), or with E of (delta, Ra) and of (Rdelta, a)
        kept = products_with(net, products, number, kind, step)
        add_kept(support, support, r_delta if forward else ra, ld, z, kept)
        if number > 1:  # Ra of the input is zero, and so is R of the folded 1
            kept = products_with(net, products, number, R_KINDS + kind, step)
            add_kept(support, support, delta if forward else a, ld, z, kept)


@linked
def carry_own_adjoint(net, step, support, memory, later, loss):
    """lambda at a step, for the layers that have own weights.

    It gains what has come since: the rows of the step after, and of the loss between them.
    """
    n_tasks = support.last - support.first
    adjoint = offset(memory.own, later.steps * memory.own_size)
    if step == later.steps - 1:
        for i in range(memory.own_size):
            adjoint[i] = 0
    for number in range(1, net.n_layers + 1):
        if layer_of(net, number).own < 0:
            continue
        if step < later.steps - 1:
            block = support_block(net, memory, support, step + 1)
            a, delta = value(net, block, A, number), value(net, block, DELTA, number + 1)
            ra, r_delta = value(net, block, RA, number), value(net, block, R_DELTA, number + 1)
            own_adjoint(net, number, support, adjoint, r_delta, a, True)
            if number > 1:
                own_adjoint(net, number, support, adjoint, delta, ra, False)
        if later.weights[step + 1] != 0:
            block = query_block(net, memory, later.query, loss)
            a, delta = value(net, block, A, number), value(net, block, DELTA, number + 1)
            own_adjoint(net, number, later.query, adjoint, delta, a, True)
        own_transpose(net, number, n_tasks, adjoint)


@linked
def rate_gradient(net, number, step, support, memory, later) -> float:
    """``-sum C * E`` of one step and layer, over the block's tasks."""
    layer, query, small = layer_of(net, number), later.query, memory.small
    ld_in, ld_out, one = layer.ld_in, layer.ld_out, layer.bias >= 0
    this, total = support_block(net, memory, support, step), 0.0
    for task in range(support.first, support.last):
        r0, m = row_of(support, task), count_of(support, task)
        q0, k = row_of(query, task), count_of(query, task)
        a = offset(value(net, this, A, number), r0 * ld_in)
        delta = offset(value(net, this, DELTA, number + 1), r0 * ld_out)
        loss = 0
        for after in range(later.steps + 1):
            if later.weights[after] == 0:
                continue
            if after > step:
                block = query_block(net, memory, query, loss)
                q = offset(value(net, block, A, number), q0 * ld_in)
                p = offset(value(net, block, DELTA, number + 1), q0 * ld_out)
                total -= product_of_products(layer, m, k, a, q, one, delta, p, small)
            loss += 1
        for after in range(step + 1, later.steps if later.exact else 0):
            block = support_block(net, memory, support, after)
            q = offset(value(net, block, A, number), r0 * ld_in)
            p = offset(value(net, block, R_DELTA, number + 1), r0 * ld_out)
            total -= product_of_products(layer, m, m, a, q, one, delta, p, small)
            if number > 1:
                q = offset(value(net, block, RA, number), r0 * ld_in)
                p = offset(value(net, block, DELTA, number + 1), r0 * ld_out)
                total -= product_of_products(layer, m, m, a, q, 0, delta, p, small)
    return total


# The gradient ------------------------------------------------------------------------------------


@linked
def _add_gradient(layer, rows, p, q, with_bias, add, g):
    """``P^T Q`` of one pair of row blocks, and the column sums of P for the bias."""
    n_in, n_out, ld_in, ld_out = layer.n_in, layer.n_out, layer.ld_in, layer.ld_out
    g_w, g_b = offset(g, layer.p_weight), offset(g, layer.p_bias)
    if is_wide(layer):
        outer(n_in, ld_out, rows, g_w, ld_out, g_w, ld_out, add, q, 1, ld_in, p, ld_out)
        if not add:  # the rest of the place
            for j in range(n_in * ld_out, n_out * ld_in):
                g_w[j] = 0
    else:
        outer(n_out, ld_in, rows, g_w, ld_in, g_w, ld_in, add, p, 1, ld_out, q, ld_in)
    sum_rows(ld_out, rows if with_bias and layer.bias >= 0 else 0, g_b, g_b, add, p, ld_out)


@linked
def add_gradient(net, number, support, memory, later, add, g):
    """A layer's ``P^T Q`` at step 0, over all rows of lambda."""
    layer, query, steps = layer_of(net, number), later.query, later.steps
    # lambda at step 0 lacks the rows of this step, and those of a loss before it.
    carried = steps > 0 and later.exact and is_summable(number, layer, g)
    if carried:
        adjoint = offset(memory.own, steps * memory.own_size)
        sum_adjoints(net, number, support.last - support.first, adjoint, add, g)
    loss, more = 0, add or carried
    for step in range(steps + 1):
        if later.weights[step] == 0:
            continue
        if step == 0 or not carried:
            block = query_block(net, memory, query, loss)
            p, q = value(net, block, DELTA, number + 1), value(net, block, A, number)
            _add_gradient(layer, block.rows, p, q, True, more, g)
            more = True
        loss += 1
    for step in range((1 if carried else steps) if later.exact and steps > 0 else 0):
        block = support_block(net, memory, support, step)
        p, q = value(net, block, R_DELTA, number + 1), value(net, block, A, number)
        _add_gradient(layer, block.rows, p, q, True, more, g)
        more = True
        if number > 1:
            p, q = value(net, block, DELTA, number + 1), value(net, block, RA, number)
            _add_gradient(layer, block.rows, p, q, False, True, g)


@linked
def gather_gradient(net, total, gradient):
    """Write the padded total as a plain parameter vector."""
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        n_in, n_out = layer.n_in, layer.n_out
        down = 1 if is_wide(layer) else layer.ld_in
        across = layer.ld_out if is_wide(layer) else 1
        source, target = offset(total, layer.p_weight), offset(gradient, layer.weight)
        for i in range(n_out):
            for j in range(n_in):
                target[i * n_in + j] = source[i * down + j * across]
        given = n_out if layer.bias >= 0 else 0
        source, target = offset(total, layer.p_bias), offset(gradient, max(layer.bias, 0))
        for i in range(given):
            target[i] = source[i]
