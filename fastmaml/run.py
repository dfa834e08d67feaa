"""From a plan to a result: allocate, call a method's kernel once for each piece, return arrays."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import FLOAT32, FLOAT64, all_finite, require_finite
from .family import Family
from .kernels import dense as dense_kernels
from .kernels import explicit as explicit_kernels
from .kernels import factored as factored_kernels
from .kernels.modes import GRADIENT, RATES, VALUE
from .losses import Loss
from .plan import (
    PLAIN_LOOPS,
    Plan,
    Problem,
    plan_for,
    tasks_of_piece,
    work_of,
    workers_for,
)  # fmt: skip
from .rates import InnerRate
from .tasks import Rows
from .workspace import borrow, rows_of

__all__ = [
    "GRADIENT", "RATES", "VALUE", "Result", "adapt", "derivatives", "hessian_products",
    "solve",
]  # fmt: skip


#: numbers of the data that are copied at a time where float32 overflowed
ANEW_NUMBERS = 1_000_000


class Result(NamedTuple):
    """What a method computed; what its mode does not include is empty."""

    task_values: NDArray[np.float64]
    gradient: NDArray[Any]
    rate_gradient: NDArray[np.float64]  # (S, n_layers) or (P,), as the rate's canonical form
    residuals: NDArray[np.float64] | None = None  # of the implicit gradient's systems


def solve(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int, check: bool
) -> Result:  # fmt: skip
    """The result of the problem's method, or `_anew` where that is not finite.

    With `check`, NaN or inf in theta is an error. (That comes after the fact because theta and the
    gradient are looked through in one go.)
    """
    result = _solve(problem, theta, support, query, mode)
    explicit = problem.method == "explicit"
    finite = _is_finite(result, mode, theta if check else None)
    if finite and not (explicit and not all_finite(result.task_values)):
        return result
    if check:
        require_finite("theta", theta, ("parameter",))
    return _anew(problem, theta, support, query, mode, result)


def _is_finite(result: Result, mode: int, theta: NDArray[Any] | None = None) -> bool:
    """Whether the result is finite, and theta too if it is given."""
    if mode == VALUE:
        return all_finite(result.task_values) and (theta is None or all_finite(theta))
    # A residual that is not finite is in the gradient, too. The square of a finite one may not be:
    # of the methods, only ``explicit`` can then still have a finite gradient.
    finite = all_finite(result.gradient, theta)
    return finite and (mode == GRADIENT or all_finite(result.rate_gradient))


def _anew(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int, result: Result
) -> Result:  # fmt: skip
    """What stands for a result that is not finite: the same whichever method it comes from.

    On numbers near the largest of a dtype, the methods overflow in different places: one forms
    products of inputs, another those of slopes, before a small rate multiplies them. float32 is
    therefore done again in float64, by ``dense``. In float64 the first of ``dense`` and
    ``factored`` counts whose result is finite, and ``dense`` if none is: tasks have diverged.

    The choice is made for the whole call, and the tasks are worked in runs that depend on their
    sizes only, so the bits depend on neither threads nor `max_memory`.
    """
    if theta.dtype == FLOAT32:
        return _anew_in_float64(problem, theta, support, query, mode)
    own = plan_for(problem, theta.dtype, support, query, mode).method
    found = {own: result}
    for method in ("dense", "factored"):
        if method == "factored" and (problem.rate.per_parameter is not None or problem.momentum):
            continue
        if method not in found:
            found[method] = _solve(problem, theta, support, query, mode, method)
        if _is_finite(found[method], mode):
            return found[method]
    return found["dense"]


def _anew_in_float64(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int
) -> Result:  # fmt: skip
    def as_float32(rates: NDArray[Any] | None) -> NDArray[Any] | None:  # where a tiny one is 0
        return None if rates is None else rates.astype(FLOAT32).astype(FLOAT64)

    def widened(rows: Rows) -> Rows:
        return rows._replace(x=rows.x.astype(FLOAT64), y=rows.y.astype(FLOAT64))

    per_layer, per_parameter, shape = problem.rate
    rate = InnerRate(as_float32(per_layer), as_float32(per_parameter), shape)
    problem = replace(problem, rate=rate, _plans={}, _rates={})
    n_tasks, wide = support.n_tasks, theta.astype(FLOAT64)
    numbers = support.x.size + support.y.size + query.x.size + query.y.size
    runs = min(n_tasks, -(-numbers // ANEW_NUMBERS))  # as few copies at a time
    ends = np.linspace(0, n_tasks, runs + 1).astype(int).tolist()
    values = []
    gradient = np.zeros(len(theta) if mode > VALUE else 0)
    rate_gradient: Any = 0.0
    for first, last in pairwise(ends):
        rows = widened(support.part(first, last)), widened(query.part(first, last))
        part = _solve(problem, wide, *rows, mode, "dense")
        values.append(part.task_values)
        with np.errstate(all="ignore"):
            gradient += part.gradient
            rate_gradient = rate_gradient + part.rate_gradient
    with np.errstate(all="ignore"):  # what float32 cannot hold becomes inf
        return Result(np.concatenate(values), gradient.astype(theta.dtype), rate_gradient)


def _solve(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
    method: str | None = None,
) -> Result:  # fmt: skip
    """Run a method, by default the problem's own, on a batch of tasks."""
    plan = plan_for(problem, theta.dtype, support, query, mode, method)
    workers, piece, layout = plan.split()
    task_values = np.empty(support.n_tasks)
    gradient = np.zeros(problem.model.n_params if mode > VALUE else 0, theta.dtype)
    rate_gradient = np.zeros(plan.n_rates if mode == RATES else 0)
    loss = problem.loss
    data = (support.x, support.y, support.offsets, query.x, query.y, query.offsets, plan.chunks)
    options: tuple[Any, ...] = (loss.scale, loss.mean, problem.exact, plan.rates)
    with borrow(layout) as (scratch, gradient_rows, rate_rows, total, shared):
        buffers = problem.step_weights, mode, scratch, gradient_rows
        results: tuple[Any, ...] = rate_rows, rate_gradient, task_values
        parameters: tuple[Any, ...] = (plan.table, theta)
        if plan.method == "explicit":
            kernel = explicit_kernels.explicit
            options = (*options, problem.momentum, *buffers, gradient, *results)
        else:
            parameters, results = (*parameters, shared), (total, *results, gradient)
            if plan.method == "dense":
                kernel = dense_kernels.dense
                options = (*options, plan.parameter_rates, problem.momentum, *buffers, *results)
            else:
                kernel = factored_kernels.factored
                options = (*options, *buffers, *results, plan.blocks)
        n_chunks = len(plan.chunks) - 1
        for first in range(0, n_chunks, piece):
            kernel(workers, *parameters, *data, first, min(first + piece, n_chunks), *options)
    if mode == RATES:
        rate_gradient = _canonical(problem, plan, rate_gradient)
    return Result(task_values, gradient, rate_gradient)


def adapt(
    problem: Problem,
    theta: NDArray[Any],
    support: Rows,
    new: Rows | None = None,
    reach: float = math.inf,
) -> tuple[NDArray[Any], float]:
    """Each task's parameters after the inner steps, or its predictions at new rows.

    Second comes how many adapted parameters are NaN, or larger than `reach` times the length of
    theta (or than `reach`).
    """
    plan = plan_for(problem, theta.dtype, support, new or support, VALUE, "dense")
    n_tasks = support.n_tasks
    in_memory = problem.max_memory // (plan.scratch * theta.itemsize)
    workers = min(workers_for(plan.work, n_tasks), max(1, in_memory))
    nothing = _nothing(theta.dtype)
    adapted, f, rows, n_beyond = nothing, nothing, new or support, 0.0
    if new is None:
        adapted = np.empty((n_tasks, problem.model.n_params), theta.dtype)
    else:
        f = np.empty((len(new.x), problem.model.n_outputs), theta.dtype)
    piece = tasks_of_piece(plan.work, n_tasks, workers)
    with borrow(rows_of(theta.dtype, workers, plan.scratch)) as (scratch,):
        for first in range(0, n_tasks, piece):
            n_beyond += dense_kernels.adapt(
                workers, plan.table, theta, support.x, support.y, support.offsets,
                first, min(first + piece, n_tasks), problem.loss.scale, problem.loss.mean,
                plan.rates, plan.parameter_rates, problem.momentum, problem.proximal, scratch,
                reach, adapted, rows.x, rows.offsets, f,
            )  # fmt: skip
    return adapted if new is None else f, n_beyond


@lru_cache(maxsize=2)
def _nothing(dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty((0, 0), dtype)


def _canonical(problem: Problem, plan: Plan, total: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gradient of the rates in their canonical form: (S, n_layers) or (P,)."""
    model, per_parameter = problem.model, problem.rate.per_parameter is not None
    if plan.method != "explicit":
        index = model.padded_index(plan.rates.dtype) if per_parameter else None
        return total.reshape(plan.rates.shape) if index is None else total[index]
    total = total.reshape(plan.rates.shape)
    with np.errstate(all="ignore"):  # no other method warns of tasks that diverged
        if per_parameter:
            return total.sum(axis=0)
        return np.add.reduceat(total, [part.start for part in model.layers().values()], axis=1)


class Derivatives(NamedTuple):
    """Per sample: residuals (N, n_out), jacobians (N, n_out, P); per task: gradients, hessians."""

    residuals: NDArray[Any]
    jacobians: NDArray[Any]
    gradients: NDArray[Any]
    hessians: NDArray[Any]


def derivatives(
    model: Family, theta: NDArray[Any], rows: Rows, loss: Loss, wanted: tuple[str, ...]
) -> Derivatives:
    """Compute those derivatives of f and of the task losses that are wanted."""
    p, n_out, n_rows, n_tasks = model.n_params, model.n_outputs, len(rows.x), rows.n_tasks
    shapes = ((n_rows, n_out), (n_rows, n_out, p), (n_tasks, p), (n_tasks, p, p))
    outputs = [
        np.empty(shape if name in wanted else (0,) * len(shape), theta.dtype)
        for name, shape in zip(Derivatives._fields, shapes, strict=True)
    ]
    y = rows.y if len(rows.y) else np.zeros((n_rows, n_out), theta.dtype)
    table, _, _ = model.compiled(theta.dtype)
    work = work_of(model, n_rows, 0, 1) * PLAIN_LOOPS * (p if "hessians" in wanted else 1)
    workers = workers_for(work, n_tasks)
    by_row, by_task = outputs[:2], outputs[2:]
    piece = tasks_of_piece(work, n_tasks, workers)
    size = explicit_kernels.scratch_size(table, 0)
    with borrow(rows_of(theta.dtype, workers, size)) as (scratch,):
        for first in range(0, n_tasks, piece):
            tasks, ends = slice(first, first + piece), slice(first, first + piece + 1)
            explicit_kernels.derivatives(
                workers, table, theta[None] if theta.ndim == 1 else theta[tasks], rows.x, y,
                rows.offsets[ends], loss.scale, loss.mean, scratch, *by_row,
                *(a[tasks] for a in by_task),
            )  # fmt: skip
    return Derivatives(*outputs)


class Products(NamedTuple):
    """Of each task: loss (n_tasks,), gradient (n_tasks, P), Hessian times v (n_tasks, P)."""

    values: NDArray[np.float64]
    gradients: NDArray[Any]
    products: NDArray[Any]


def hessian_products(
    model: Family, theta: NDArray[Any], v: NDArray[Any] | None, rows: Rows, loss: Loss,
    *, gradient: bool = False,
) -> Products:  # fmt: skip
    """Compute the task losses, and their gradients and Hessians times v where asked.

    theta and v are (P,) or (n_tasks, P); without v there are no products.
    """
    p, n_rows, n_tasks = model.n_params, len(rows.x), rows.n_tasks
    theta = theta.reshape(-1, p)
    direction = theta[:1] if v is None else v.reshape(-1, p)
    values = np.empty(n_tasks)
    gradients = np.empty((n_tasks if gradient else 0, p), theta.dtype)
    products = np.empty((0 if v is None else n_tasks, p), theta.dtype)
    table, _, _ = model.compiled(theta.dtype)
    work = work_of(model, n_rows, 0, 1)
    workers = workers_for(work, n_tasks)
    longest = int(np.diff(rows.offsets).max())
    piece = tasks_of_piece(work, n_tasks, workers)
    size = dense_kernels.scratch_size(table, longest, 0)
    with borrow(rows_of(theta.dtype, workers, size)) as (scratch,):
        for first in range(0, n_tasks, piece):
            tasks, ends = slice(first, first + piece), slice(first, first + piece + 1)
            dense_kernels.hessian_products(
                workers, table, theta[tasks] if len(theta) > 1 else theta,
                direction[tasks] if len(direction) > 1 else direction, rows.x, rows.y,
                rows.offsets[ends], loss.scale, loss.mean, scratch, values[tasks],
                gradients[tasks], products[tasks],
            )  # fmt: skip
    return Products(values, gradients, products)
