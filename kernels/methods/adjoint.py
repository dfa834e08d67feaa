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

from ..compile.link import linked
from ..compile.records import layer_of
from ..models.layers import DELTA, R_DELTA, RA, A
from ..models.padded import gather
from ..vectors.matmul import outer, sum_rows
from ..vectors.pointers import offset
from .own_weights import (
    add_to_adjoint,
    clear_rest,
    is_summable,
    is_wide,
    own_transpose,
    sum_adjoints,
)
from .products import FORWARD, R_KINDS, add_kept, product_of_products
from .run import (
    adjoint_of,
    pair_of,
    products_with,
    query_block,
    query_products,
    support_block,
    support_products,
    task_pair,
)


@linked
def along_adjoint(net, run, number, kind, step, z):
    """The direction's own part of an R-pass: ``z -= alpha C P``, or, back, ``z -= alpha E Q``.

    The rows (P, Q) of lambda are the query rows of later losses and, of each later step u,
    (Rdelta_u, a_u) and (delta_u, Ra_u); the products with them are those that the later passes
    made with the rows of this step.
    """
    layer, forward, loss = layer_of(net, number), kind == FORWARD, 0
    ld, support = layer.ld_out if forward else layer.ld_in, run.support
    for after in range(run.inner.steps + 1):
        if run.inner.weights[after] == 0:
            continue
        if after > step:
            rows = pair_of(net, query_block(net, run, loss), number, DELTA, A)
            kept = products_with(net, query_products(net, run, loss), number, kind, step)
            add_kept(support, run.query, rows.p if forward else rows.q, ld, z, kept)
        loss += 1
    for after in range(step + 1, run.inner.steps):
        block, products = support_block(net, run, after), support_products(net, run, after)
        of_r_delta = pair_of(net, block, number, R_DELTA, A)
        of_ra = pair_of(net, block, number, DELTA, RA)
        # with C of (Rdelta, a) and of (delta, Ra), or with E of (delta, Ra) and of (Rdelta, a)
        kept = products_with(net, products, number, kind, step)
        add_kept(support, support, of_r_delta.p if forward else of_ra.q, ld, z, kept)
        if number > 1:  # Ra of the input is zero, and so is R of the folded 1
            kept = products_with(net, products, number, R_KINDS + kind, step)
            add_kept(support, support, of_ra.p if forward else of_r_delta.q, ld, z, kept)


@linked
def carry_own_adjoint(net, run, step, loss):
    """lambda at a step, for the layers that have own weights.

    It gains what has come since: the rows of the step after, and of the loss between them.
    """
    adjoint, last = adjoint_of(run), run.inner.steps - 1
    if step == last:
        for i in range(run.memory.own_size):
            adjoint[i] = 0
    for number in range(1, net.n_layers + 1):
        if layer_of(net, number).own < 0:
            continue
        if step < last:
            block = support_block(net, run, step + 1)
            rows = pair_of(net, block, number, R_DELTA, A)
            add_to_adjoint(net, run, number, run.support, rows, True)
            if number > 1:
                rows = pair_of(net, block, number, DELTA, RA)
                add_to_adjoint(net, run, number, run.support, rows, False)
        if run.inner.weights[step + 1] != 0:
            rows = pair_of(net, query_block(net, run, loss), number, DELTA, A)
            add_to_adjoint(net, run, number, run.query, rows, True)
        own_transpose(net, run, number, adjoint)


@linked
def rate_gradient(net, run, number, step) -> float:
    """``-sum C * E`` of one step and layer, over the block's tasks."""
    layer, support, query = layer_of(net, number), run.support, run.query
    one, inner, small = layer.bias >= 0, run.inner, run.memory.small
    updates, total = pair_of(net, support_block(net, run, step), number, DELTA, A), 0.0
    for task in range(support.first, support.last):
        update, loss = task_pair(layer, support, updates, task), 0
        for after in range(inner.steps + 1):
            if inner.weights[after] == 0:
                continue
            if after > step:
                rows = pair_of(net, query_block(net, run, loss), number, DELTA, A)
                pair = task_pair(layer, query, rows, task)
                total -= product_of_products(layer, update, pair, one, small)
            loss += 1
        for after in range(step + 1, inner.steps if inner.exact else 0):
            block = support_block(net, run, after)
            pair = task_pair(layer, support, pair_of(net, block, number, R_DELTA, A), task)
            total -= product_of_products(layer, update, pair, one, small)
            if number > 1:
                pair = task_pair(layer, support, pair_of(net, block, number, DELTA, RA), task)
                total -= product_of_products(layer, update, pair, 0, small)
    return total


# The gradient ------------------------------------------------------------------------------------


@linked
def _add_pair(layer, pair, with_bias, add, g):
    """``P^T Q`` of one pair of row blocks, and the column sums of P for the bias."""
    n_in, n_out, ld_in, ld_out = layer.n_in, layer.n_out, layer.ld_in, layer.ld_out
    g_w, g_b = offset(g, layer.p_weight), offset(g, layer.p_bias)
    rows, p, q = pair.rows, pair.p, pair.q
    if is_wide(layer):
        outer(n_in, ld_out, rows, g_w, ld_out, g_w, ld_out, add, q, 1, ld_in, p, ld_out)
        clear_rest(layer, add, g_w)
    else:
        outer(n_out, ld_in, rows, g_w, ld_in, g_w, ld_in, add, p, 1, ld_out, q, ld_in)
    sum_rows(ld_out, rows if with_bias and layer.bias >= 0 else 0, g_b, g_b, add, p, ld_out)


@linked
def add_gradient(net, run, number, add, g):
    """A layer's ``P^T Q`` at step 0, over all rows of lambda."""
    layer, inner = layer_of(net, number), run.inner
    steps, r_steps = inner.steps, inner.steps if inner.exact else 0
    # lambda at step 0 lacks the rows of this step, and those of a loss before it.
    carried = r_steps > 0 and is_summable(number, layer, g)
    if carried:
        sum_adjoints(net, run, number, add, g)
    loss, more = 0, add or carried
    for step in range(steps + 1):
        if inner.weights[step] == 0:
            continue
        if step == 0 or not carried:
            pair = pair_of(net, query_block(net, run, loss), number, DELTA, A)
            _add_pair(layer, pair, True, more, g)
            more = True
        loss += 1
    for step in range(1 if carried else r_steps):
        block = support_block(net, run, step)
        _add_pair(layer, pair_of(net, block, number, R_DELTA, A), True, more, g)
        more = True
        if number > 1:
            _add_pair(layer, pair_of(net, block, number, DELTA, RA), False, True, g)


@linked
def gather_gradient(net, total, gradient):
    """Write the padded total as a plain parameter vector."""
    gather(net, total, gradient)  # and once more the weights that are not kept as it takes them
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        n_in, n_out, ld_out = layer.n_in, layer.n_out, layer.ld_out
        source, target = offset(total, layer.p_weight), offset(gradient, layer.weight)
        for i in range(n_out if is_wide(layer) else 0):
            for j in range(n_in):
                target[i * n_in + j] = source[i + j * ld_out]
