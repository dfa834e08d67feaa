"""Method ``explicit``: the objects of the derivation themselves, one matrix for each inner step.

Per task, with the gradient g_s and the Hessian H_s of ``derivatives`` at theta_s on the support
rows:

* 8       ``theta_{s+1} = theta_s - alpha_s * g_s``
* 7, 9    Jacobian of the step   ``M_s = I - diag(alpha_s) H_s``
* 4, 13   ``lambda <- w_S dL_query/dtheta (theta_S)``, then for s = S-1 ... 0
  ``lambda <- lambda M_s + w_s dL_query/dtheta (theta_s)``, lambda a row vector

The gradient of the rates is ``d/d alpha_s = -lambda * g_s``, with lambda as it stands before step
s is undone.

With momentum mu the step is that of a velocity, ``v_{s+1} = mu v_s + g_s``, in place of g_s, so
lambda is carried back together with the row vector of the velocity, nu: ``lambda <- lambda M_s -
mu nu H_s`` and ``nu <- mu nu + alpha_s * lambda`` (see ``dense``, whose signs these are).

H costs P passes for a block of rows, and P * P numbers for each worker: a method for tens of
parameters, and for reading. Parameters lie in their plain layout here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..compile.jit import helper, kernel
from ..compile.link import linked
from ..compile.records import View, net_of
from ..vectors.emitter import LINE
from ..vectors.pointers import offset
from ..vectors.reduce import add_rows
from .derivatives import Derived, derived_of, differentiate, size_of
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


class Memory(NamedTuple):
    """What a worker needs for a task."""

    derived: Derived
    trajectory: Any  # theta_0 ... theta_S
    adjoint: Any  # lambda
    product: Any  # lambda M
    nu: Any  # if there is momentum,
    velocities: Any  # and v_1 ... v_S


def _places(p: int, steps: int, momentum: float) -> tuple[int, ...]:
    """Where the Hessian begins behind a gradient, then each of `Memory`, and what is derived."""
    trajectory = p + p * p
    adjoint = trajectory + (steps + 1) * p
    nu = adjoint + 2 * p
    end = nu + ((steps + 1) * p if momentum != 0 else 0)
    return p, trajectory, adjoint, adjoint + p, nu, nu + p, (end + LINE - 1) // LINE * LINE


def scratch_size(table: np.ndarray, max_rows: int, steps: int, momentum: float = 0.0) -> int:
    """Numbers of scratch that one worker needs, for tasks of up to ``max_rows`` rows."""
    return int(_places(View(table).n_theta, steps, momentum)[-1]) + size_of(table, max_rows)


_compiled_places = helper(_places)


@helper
def memory_of(net, steps, momentum, scratch):
    """A worker's scratch, cut up."""
    p = _compiled_places(net.n_theta, steps, momentum)
    return Memory(
        derived_of(net, offset(scratch, p[6]), scratch, offset(scratch, p[0])),
        offset(scratch, p[1]), offset(scratch, p[2]), offset(scratch, p[3]), offset(scratch, p[4]),
        offset(scratch, p[5]),
    )  # fmt: skip


@linked
def _adapt(net, inner, rows, memory):
    """Equation 8, S times, from theta_0 at the start of the trajectory."""
    p, g = net.n_theta, memory.derived.gradient
    for step in range(inner.steps):
        here = offset(memory.trajectory, step * p)
        after, rates = offset(here, p), offset(inner.rates, step * p)
        differentiate(net, here, rows, 1, memory.derived)
        if inner.momentum != 0:  # g becomes v_{s+1} = mu v_s + g_s
            velocity = offset(memory.velocities, step * p)
            before = offset(memory.velocities, max(step - 1, 0) * p)
            for i in range(p if step > 0 else 0):
                g[i] += inner.momentum * before[i]
            for i in range(p):
                velocity[i] = g[i]
        for i in range(p):
            after[i] = here[i] - rates[i] * g[i]


@linked
def _times_jacobian(p, momentum, rates, h, memory):
    """``lambda <- lambda M - mu nu H``, where M is made of H in its place; and nu."""
    adjoint, product, nu = memory.adjoint, memory.product, memory.nu
    for j in range(p):
        product[j] = 0
    for i in range(p if momentum != 0 else 0):
        nu[i] *= momentum
        for j in range(p):
            product[j] -= nu[i] * h[i * p + j]
        nu[i] += rates[i] * adjoint[i]
    m = h
    for i in range(p):  # M = I - diag(alpha) H
        for j in range(p):
            m[i * p + j] *= -rates[i]
        m[i * p + i] += 1
    for i in range(p):
        for j in range(p):
            product[j] += adjoint[i] * m[i * p + j]
    for j in range(p):
        adjoint[j] = product[j]


@linked
def _carry_back(net, inner, rows, query, memory, rate_gradient) -> float:
    """Equation 13, from the last step to the first; returns the task's value."""
    p, total, derived, adjoint = net.n_theta, 0.0, memory.derived, memory.adjoint
    g = derived.gradient
    for i in range(p):
        adjoint[i] = 0
    for i in range(p if inner.momentum != 0 else 0):
        memory.nu[i] = 0
    for step in range(inner.steps, -1, -1):
        here = offset(memory.trajectory, step * p)
        if step < inner.steps and (inner.mode == RATES or (inner.exact and inner.mode == GRADIENT)):
            differentiate(net, here, rows, 2 if inner.exact else 1, derived)
            if inner.mode == RATES:
                moved = offset(memory.velocities, step * p) if inner.momentum != 0 else g
                of_step = offset(rate_gradient, step * p)
                for i in range(p):
                    of_step[i] -= np.float64(adjoint[i]) * np.float64(moved[i])
            if inner.exact:
                rates = offset(inner.rates, step * p)
                _times_jacobian(p, inner.momentum, rates, derived.hessian, memory)
        weight = inner.weights[step]
        if weight != 0:
            weighted = scaled_rows(query, weight)
            total += differentiate(net, here, weighted, 1 if inner.mode > VALUE else 0, derived)
            for i in range(p if inner.mode > VALUE else 0):
                adjoint[i] += g[i]
    return total


@linked
def _work(worker, n_workers, net, inner, support, query, theta, chunks, scratch, stride, sums):
    """One worker's chunks."""
    p = net.n_theta
    memory = memory_of(net, inner.steps, inner.momentum, offset(scratch, worker * stride))
    for i in range(p):
        memory.trajectory[i] = theta[i]
    for chunk in range(chunks.first + worker, chunks.last, n_workers):
        clear_sums(sums, chunks, chunk, inner.mode)
        row, rates = gradient_row(sums, chunks, chunk), rate_row(sums, chunks, chunk)
        for task in range(chunks.bounds[chunk], chunks.bounds[chunk + 1]):
            rows, query_rows = rows_of(net, support, task), rows_of(net, query, task)
            _adapt(net, inner, rows, memory)
            sums.values[task] = _carry_back(net, inner, rows, query_rows, memory, rates)
            for i in range(p if inner.mode > VALUE else 0):
                row[i] += memory.adjoint[i]


@kernel
def explicit(
    n_workers, table, theta, x, y, offsets, x_query, y_query, query_offsets,
    chunks, first, last, exact, rates, momentum,
    step_weights, mode, scratch, gradient_rows, gradient, rate_rows, rate_gradient,
    task_values,
):  # fmt: skip
    """Work chunks first:last, as ``dense`` does, with theta and rates (S, P) in plain layout."""
    for worker in prange(n_workers):
        inner = Inner(
            rates, rates, True, momentum, 0.0, rates.shape[0], step_weights, exact, mode
        )  # fmt: skip
        support = Tasks(x, y, offsets, 0)
        query = Tasks(x_query, y_query, query_offsets, 1)
        sums = Sums(gradient_rows, gradient.size, rate_rows, rate_rows.shape[1], task_values)
        _work(
            worker, n_workers, net_of(table), inner, support, query, theta,
            Chunks(chunks, first, last), scratch, scratch.shape[1], sums,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, gradient.size, gradient)
    if mode == RATES:
        add_rows(rate_rows, last - first, rate_gradient.size, rate_gradient)
