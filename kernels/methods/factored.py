"""Method ``factored``: the meta-gradient without any task's parameter vector.

A task's gradient for a layer is a sum of outer products over its rows, so its adapted weights
differ from the shared W by a matrix of low rank, and nobody needs to form it. With a bias folded
in (an input that is 1), after t steps

    W_t = W - sum_{u<t} alpha_u delta_u^T a_u

where a_u (inputs of the layer) and delta_u = dL/dz are the row blocks of the task's support set at
step u. The adjoint lambda = dL/dW_t is a pair of row blocks too. So a pass takes products with the
one W of all tasks, for the rows of a whole block of tasks at once, and small products for what
belongs to a task (``passes``, ``products``); lambda gains rows on the way back, and the gradient is
a few larger products of them (``adjoint``).

For S steps of K rows the work that is not shared grows as S^2 K^2 per layer width, and memory does
not depend on P per task. So this is the method for few rows a task.

A layer of few weights, such as one with a single input, is cheaper the other way: each task has
its *own* weights W_1, ..., W_S of it, and the adjoint lambda as a matrix (``own_weights``).
"""

from __future__ import annotations

from numba import prange

from ..compile.jit import kernel
from ..compile.link import linked
from ..compile.records import layer_of, net_of
from ..models.layers import derive
from ..models.padded import spread
from ..vectors.pointers import offset
from ..vectors.reduce import add_rows
from .adjoint import add_gradient, carry_own_adjoint, gather_gradient, rate_gradient
from .blocks import side_of
from .modes import RATES, VALUE
from .own_weights import own_step
from .passes import deltas, losses, r_pass, values
from .run import query_pass, run_of, support_pass
from .tasks import Chunks, Inner, Sums, Tasks, gradient_row, rate_row


@linked
def _forth(net, run, task_values):
    """The passes in the order of the steps: of the query rows of each loss, of the support rows."""
    inner, loss = run.inner, 0
    back = inner.mode > VALUE
    for step in range(inner.steps + 1):
        if inner.weights[step] != 0:
            this = query_pass(net, run, step, loss)
            values(net, run, this, 1 if back else 0)
            losses(net, this, inner.weights[step], task_values)
            if back:
                deltas(net, run, this, 1)
            loss += 1
        if step == inner.steps:
            continue
        this = support_pass(net, run, step)
        order = 2 if back and inner.exact else 1
        values(net, run, this, order)
        losses(net, this, 0.0, task_values)
        deltas(net, run, this, order)
        for number in range(1, net.n_layers + 1):
            if layer_of(net, number).own >= 0:
                own_step(net, run, number, step)


@linked
def _back(net, run, rates):
    """The R-passes, from the last step to the first, and the gradient of the rates."""
    inner, loss = run.inner, run.losses
    for step in range(inner.steps - 1, -1, -1):
        if inner.exact and inner.mode > VALUE:
            if inner.weights[step + 1] != 0:
                loss -= 1
            carry_own_adjoint(net, run, step, loss)
            r_pass(net, run, step)
        if inner.mode == RATES:
            for number in range(1, net.n_layers + 1):
                of_step = rate_gradient(net, run, number, step)
                rates[step * net.n_layers + number - 1] += of_step


@linked
def _block(net, run, add, row, rates, task_values):
    """A block of tasks, from their rows to their sum of gradients, [+] a chunk's row."""
    inner, support, back = run.inner, run.support, run.inner.mode > VALUE
    for task in range(support.first, support.last):
        task_values[task] = 0
    for i in range(inner.steps * net.n_layers if inner.mode == RATES and not add else 0):
        rates[i] = 0
    if run.losses == 0:  # no loss counts: everything is zero
        for i in range(net.n_padded if back and not add else 0):
            row[i] = 0
        return
    _forth(net, run, task_values)
    _back(net, run, rates)
    for number in range(1, net.n_layers + 1 if back else 1):
        add_gradient(net, run, number, add, row)


@linked
def _work(
    worker, n_workers, net, inner, shared, support, query, chunks, blocks, scratch, stride, sums
):
    """One worker's chunks."""
    scratch = offset(scratch, worker * stride)
    for chunk in range(chunks.first + worker, chunks.last, n_workers):
        row, rates = gradient_row(sums, chunks, chunk), rate_row(sums, chunks, chunk)
        for block in range(chunks.bounds[chunk], chunks.bounds[chunk + 1]):
            first, last, add = blocks[block], blocks[block + 1], block > chunks.bounds[chunk]
            sides = side_of(support, first, last), side_of(query, first, last)
            run = run_of(net, inner, shared, sides[0], sides[1], scratch)
            _block(net, run, add, row, rates, sums.values)


@linked
def _prepare(net, theta, shared, total, size):
    """theta padded, and its transposed copy behind it; a total of zero."""
    spread(net, theta, shared)
    derive(net, shared, offset(shared, net.n_padded))
    for i in range(size):
        total[i] = 0


@kernel
def factored(
    n_workers, table, theta, shared, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, exact, rates, step_weights, mode, scratch,
    gradient_rows, total, rate_rows, rate_gradient, task_values, gradient, blocks,
):  # fmt: skip
    """Work chunks first:last; arguments as for ``dense``, with rates (S, L).

    A chunk c is worked in blocks of tasks, ``chunks[c] : chunks[c + 1]``, and block b is the tasks
    ``blocks[b] : blocks[b + 1]``.
    """
    if first == 0:
        _prepare(net_of(table), theta, shared, total, total.size)
    for worker in prange(n_workers):
        inner = Inner(rates, rates, False, 0.0, 0.0, rates.shape[0], step_weights, exact, mode)
        support = Tasks(x, y, offsets, 0)
        query = Tasks(x_query, y_query, query_offsets, 1)
        sums = Sums(gradient_rows, total.size, rate_rows, rate_gradient.size, task_values)
        _work(
            worker, n_workers, net_of(table), inner, shared, support, query,
            Chunks(chunks, first, last), blocks, scratch, scratch.shape[1], sums,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, total.size, total)
        if last == chunks.size - 1:
            gather_gradient(net_of(table), total, gradient)
    if mode == RATES:
        add_rows(rate_rows, last - first, rate_gradient.size, rate_gradient)
