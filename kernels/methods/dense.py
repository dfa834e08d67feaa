"""Method ``dense``: every task has its own parameters theta_0 ... theta_S.

Per task, with g_s = dL/dtheta at theta_s on the support rows and H_s the Hessian there:

* equation 8    ``theta_{s+1} = theta_s - alpha_s * g_s``
* equation 13   ``lambda <- w_S dL_query/dtheta (theta_S)``, then for s = S-1 ... 0
  ``lambda <- (I - H_s diag(alpha_s)) lambda + w_s dL_query/dtheta (theta_s)``

so H_s only ever multiplies a vector, which the R-operator does without forming it (equation 12).
The gradient of the rates is ``d/d alpha_s = -lambda * g_s``, with lambda as it stands before step
s is undone.

With momentum mu (see ``trajectory``), the adjoint of the velocity is a second vector on the way
back:

    nu <- mu nu + alpha_s lambda,        lambda <- lambda - H_s nu

(nu with its sign turned, so that without momentum it is the direction of equation 13), and the
gradient of the rates is ``-lambda * v_{s+1}``.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..compile.jit import kernel
from ..compile.link import linked
from ..compile.records import net_of, piece_of
from ..models.padded import gather, spread
from ..models.passes import Point, derive
from ..vectors.pointers import offset
from ..vectors.reduce import add_rows
from .modes import GRADIENT, RATES, VALUE
from .tasks import (
    Chunks,
    Inner,
    Sums,
    Tasks,
    clear_sums,
    gradient_row,
    rate_row,
    rows_of,
    scaled_rows,
)
from .trajectory import adapt_task, memory_of, point_at, rate_times, sweep


@linked
def add_rate_gradient(net, inner, step, adjoint, moved, rates):
    """Add ``-lambda * g``, g what the step's rate multiplies: per parameter, or for each layer."""
    if inner.per_parameter:
        for i in range(net.n_padded):
            rates[i] -= np.float64(adjoint[i]) * np.float64(moved[i])
        return
    total = 0.0
    for number in range(net.n_pieces):
        piece = piece_of(net, number)
        for i in range(piece.padded, piece.padded + piece.rows * piece.ld):
            total += np.float64(adjoint[i]) * np.float64(moved[i])
        if piece.last:
            rates[step * net.n_layers + piece.layer] -= total
            total = 0.0


@linked
def carry_back(net, inner, rows, query, memory, rates) -> float:
    """Equation 13, from the last step to the first; returns the task's value."""
    size, total = net.n_padded, 0.0
    adjoint, direction, g, hv = memory.adjoint, memory.direction, memory.g, memory.hv
    for i in range(size):
        adjoint[i] = 0
    for i in range(size if inner.momentum != 0 else 0):
        direction[i] = 0
    for step in range(inner.steps, -1, -1):
        at = point_at(net, memory, step)
        if step > 0:
            derive(net, at)
        if step < inner.steps and (inner.mode == RATES or (inner.exact and inner.mode == GRADIENT)):
            moved, scaled = g, direction
            if inner.momentum != 0:
                moved, scaled = offset(memory.velocities, step * size), hv
            rate_times(net, inner, step, adjoint, scaled)
            for i in range(size if inner.momentum != 0 else 0):  # nu = mu nu + alpha_s lambda
                direction[i] = inner.momentum * direction[i] + hv[i]
            along = Point(direction, memory.vc)
            derive(net, along)
            sweep(net, rows, at, along, memory, 2 if inner.exact else 1)
            if inner.mode == RATES:
                add_rate_gradient(net, inner, step, adjoint, moved, rates)
            if inner.exact:
                for i in range(size):
                    adjoint[i] -= hv[i]
        weight = inner.weights[step]
        if weight != 0:
            weighted = scaled_rows(query, weight)
            total += sweep(net, weighted, at, at, memory, 1 if inner.mode > VALUE else 0)
            if inner.mode > VALUE:
                for i in range(size):
                    adjoint[i] += g[i]
    return total


@linked
def _work(worker, n_workers, net, inner, support, query, shared, chunks, scratch, stride, sums):
    """One worker's chunks."""
    size = net.n_padded
    memory = memory_of(net, inner.steps, inner.momentum, offset(scratch, worker * stride))
    for i in range(size):
        memory.trajectory[i] = shared[i]
    for i in range(net.n_derived):
        memory.c_first[i] = shared[size + i]
    for chunk in range(chunks.first + worker, chunks.last, n_workers):
        clear_sums(sums, chunks, chunk, inner.mode)
        row, rates = gradient_row(sums, chunks, chunk), rate_row(sums, chunks, chunk)
        for task in range(chunks.bounds[chunk], chunks.bounds[chunk + 1]):
            rows, query_rows = rows_of(net, support, task), rows_of(net, query, task)
            adapt_task(net, inner, rows, memory)
            sums.values[task] = carry_back(net, inner, rows, query_rows, memory, rates)
            for i in range(size if inner.mode > VALUE else 0):
                row[i] += memory.adjoint[i]


@linked
def _prepare(net, theta, shared, total, size):
    """theta padded, and what is derived from it behind it; a total of zero."""
    spread(net, theta, shared)
    derive(net, Point(shared, offset(shared, net.n_padded)))
    for i in range(size):
        total[i] = 0


@kernel
def dense(
    n_workers, table, theta, shared, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, exact, rates, parameter_rates, momentum,
    step_weights, mode, scratch, gradient_rows, total, rate_rows, rate_gradient,
    task_values, out,
):  # fmt: skip
    """Work chunks first:last; chunk c is the tasks ``chunks[c] : chunks[c + 1]``.

    ``rates`` is (S, L), ``parameter_rates`` padded, or empty. ``shared`` takes the padded theta
    with what is derived from it, ``scratch`` has a row per worker, ``gradient_rows`` (padded) and
    ``rate_rows`` a row per chunk of the call; ``total`` (padded) and ``rate_gradient``, which
    starts as zero, take their sums. ``task_values`` (n_tasks,) is written; the last call writes
    ``out``, the gradient (P,).
    """
    if first == 0:
        _prepare(net_of(table), theta, shared, total, total.size)
    for worker in prange(n_workers):
        inner = Inner(
            rates, parameter_rates, parameter_rates.size > 0, momentum, 0.0, rates.shape[0],
            step_weights, exact, mode,
        )  # fmt: skip
        support = Tasks(x, y, offsets, 0)
        query = Tasks(x_query, y_query, query_offsets, 1)
        sums = Sums(gradient_rows, total.size, rate_rows, rate_rows.shape[1], task_values)
        _work(
            worker, n_workers, net_of(table), inner, support, query, shared,
            Chunks(chunks, first, last), scratch, scratch.shape[1], sums,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, total.size, total)
        if last == chunks.size - 1:
            gather(net_of(table), total, out)
    if mode == RATES:
        add_rows(rate_rows, last - first, rate_gradient.size, rate_gradient)
