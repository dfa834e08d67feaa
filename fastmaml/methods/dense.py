"""The dense method: each task's parameters after every step, and Hessian-vector products.

Its file also has what is computed on such parameters alone: the adapted parameters or predictions
of each task, and Hessian-vector products of the task losses.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..family import Compiled, Family
from ..kernels.methods import adapt as adapt_kernels
from ..kernels.methods import dense as kernels
from ..kernels.methods import hessian as hessian_kernels
from ..kernels.methods.modes import VALUE
from ..kernels.methods.trajectory import scratch_size
from ..losses import TaskLoss, table_with
from ..plan import Sizes, chunks_by_work, tasks_of_piece, work_of, workers_for
from ..tasks import Rows
from ..workspace import borrow, rows_of
from .base import Problem, Result
from .stepwise import Stepwise, StepwisePlan, order_of, padded_rates, plan_for

__all__ = ["DENSE", "Dense", "Products", "adapt", "hessian_products"]


class Dense(Stepwise):
    """It has all that a problem may ask for."""

    name = "dense"
    kernels = (kernels.dense, adapt_kernels.adapt, hessian_kernels.hessian_products)

    def plan(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes, mode: int) -> StepwisePlan:
        """How a batch of such sizes is worked."""
        model, steps = problem.model, problem.steps
        losses = problem.loss, problem.query_loss
        table = table_with(model.compiled(dtype), order_of(problem, mode), *losses, sizes.weighted)
        work = work_of(model, *sizes.rows, steps)
        return self.planned(
            problem, dtype, sizes, mode, table=table, work=work,
            chunks=chunks_by_work(sizes.offsets, work),
            scratch=scratch_size(table, sizes.longest, steps, problem.momentum),
        )  # fmt: skip

    def launch(
        self, problem: Problem, plan: StepwisePlan, workers: int, theta: NDArray[Any],
        support: Rows, query: Rows, first: int, last: int, buffers: list[NDArray[Any]],
        result: Result,
    ) -> None:  # fmt: skip
        """Work chunks first:last; `buffers` are those of ``plan.layout``."""
        scratch, gradient_rows, rate_rows, total, shared = buffers
        rates, parameter_rates = padded_rates(problem, plan.dtype)
        kernels.dense(
            workers, plan.table, theta, shared, support.x, support.y, support.offsets, query.x,
            query.y, query.offsets, plan.chunks, first, last, problem.order == "exact",
            rates, parameter_rates, problem.momentum, problem.step_weights, plan.mode,
            scratch, gradient_rows, total, rate_rows, result.rate_gradient, result.task_values,
            result.gradient,
        )  # fmt: skip

    def warm(self, problem: Problem, theta: NDArray[Any], rows: Rows) -> None:
        """Run once what the method's file has, so that it is compiled."""
        super().warm(problem, theta, rows)
        hessian_products(problem.model, theta, theta, rows, problem.loss)


DENSE = Dense()


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
    plan = plan_for(problem, theta.dtype, support, new or support, VALUE, DENSE)
    rates, parameter_rates = padded_rates(problem, theta.dtype)
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
            n_beyond += adapt_kernels.adapt(
                workers, plan.table, theta, support.x, support.y, support.offsets,
                first, min(first + piece, n_tasks), rates, parameter_rates,
                problem.momentum, problem.proximal or 0.0, scratch, reach, adapted, rows.x,
                rows.offsets, f,
            )  # fmt: skip
    return adapted if new is None else f, n_beyond


@lru_cache(maxsize=2)
def _nothing(dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty((0, 0), dtype)


class Products(NamedTuple):
    """Of each task: loss (n_tasks,), gradient (n_tasks, P), Hessian times v (n_tasks, P)."""

    values: NDArray[np.float64]
    gradients: NDArray[Any]
    products: NDArray[Any]


def hessian_products(
    model: Family, theta: NDArray[Any], v: NDArray[Any] | None, rows: Rows, loss: TaskLoss,
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
    compiled = model.compiled(theta.dtype)
    weighted = rows.weighted, rows.weighted
    table = table_with(compiled, 1 if v is None else 2, loss, None, weighted)
    work = work_of(model, n_rows, 0, 1)
    workers = workers_for(work, n_tasks)
    longest = int(np.diff(rows.offsets).max())
    piece = tasks_of_piece(work, n_tasks, workers)
    size = _scratch_of_products(compiled, longest)
    with borrow(rows_of(theta.dtype, workers, size)) as (scratch,):
        for first in range(0, n_tasks, piece):
            tasks, ends = slice(first, first + piece), slice(first, first + piece + 1)
            hessian_kernels.hessian_products(
                workers, table, theta[tasks] if len(theta) > 1 else theta,
                direction[tasks] if len(direction) > 1 else direction, rows.x, rows.y,
                rows.offsets[ends], scratch, values[tasks], gradients[tasks], products[tasks],
            )  # fmt: skip
    return Products(values, gradients, products)


@lru_cache(maxsize=1024)
def _scratch_of_products(compiled: Compiled, rows: int) -> int:
    """Numbers of scratch that a worker needs: to read them in a table takes microseconds."""
    return scratch_size(compiled.table, rows, 0)
