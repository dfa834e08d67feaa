"""The explicit method: the Jacobian, the Hessian and I - αH of each task, all of them formed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..family import Family
from ..kernels.methods import derivatives as derivative_kernels
from ..kernels.methods import explicit as kernels
from ..losses import TaskLoss, table_with
from ..plan import Sizes, chunks_by_work, tasks_of_piece, work_of, workers_for
from ..tasks import Rows
from ..workspace import borrow, rows_of
from .base import Problem, Result
from .stepwise import ByParameter, StepwisePlan, order_of, rates_by_parameter

__all__ = ["EXPLICIT", "Derivatives", "Explicit", "derivatives"]

#: how many times as long an operation takes: passes are of few numbers, and matrices in plain loops
SLOWER = 8


class Explicit(ByParameter):
    """It has all that a problem may ask for, and takes P² memory."""

    name = "explicit"
    kernels = (kernels.explicit, derivative_kernels.derivatives)

    def plan(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes, mode: int) -> StepwisePlan:
        """How a batch of such sizes is worked."""
        model, steps = problem.model, problem.steps
        losses = problem.loss, problem.query_loss
        table = table_with(model.compiled(dtype), order_of(problem, mode), *losses, sizes.weighted)
        work = work_of(model, *sizes.rows, steps) * SLOWER * model.n_params
        return self.planned(
            problem, dtype, sizes, mode, table=table, work=work,
            chunks=chunks_by_work(sizes.offsets, work),
            scratch=kernels.scratch_size(table, sizes.longest, steps, problem.momentum),
        )  # fmt: skip

    def launch(
        self, problem: Problem, plan: StepwisePlan, workers: int, theta: NDArray[Any],
        support: Rows, query: Rows, first: int, last: int, buffers: list[NDArray[Any]],
        result: Result,
    ) -> None:  # fmt: skip
        """Work chunks first:last; `buffers` are those of ``plan.layout``."""
        scratch, gradient_rows, rate_rows, _, _ = buffers
        kernels.explicit(
            workers, plan.table, theta, support.x, support.y, support.offsets, query.x, query.y,
            query.offsets, plan.chunks, first, last, problem.order == "exact",
            rates_by_parameter(problem, plan.dtype), problem.momentum, problem.step_weights,
            plan.mode, scratch, gradient_rows, result.gradient, rate_rows, result.rate_gradient,
            result.task_values,
        )  # fmt: skip

    def warm(self, problem: Problem, theta: NDArray[Any], rows: Rows) -> None:
        """Run once what the method's file has, so that it is compiled."""
        super().warm(problem, theta, rows)
        derivatives(problem.model, theta, rows, problem.loss, ("hessians",))


EXPLICIT = Explicit()


class Derivatives(NamedTuple):
    """Per sample: residuals (N, n_out), jacobians (N, n_out, P); per task: gradients, hessians."""

    residuals: NDArray[Any]
    jacobians: NDArray[Any]
    gradients: NDArray[Any]
    hessians: NDArray[Any]


def derivatives(
    model: Family, theta: NDArray[Any], rows: Rows, loss: TaskLoss, wanted: tuple[str, ...]
) -> Derivatives:
    """Compute those derivatives of f and of the task losses that are wanted."""
    p, n_out, n_rows, n_tasks = model.n_params, model.n_outputs, len(rows.x), rows.n_tasks
    shapes = ((n_rows, n_out), (n_rows, n_out, p), (n_tasks, p), (n_tasks, p, p))
    outputs = [
        np.empty(shape if name in wanted else (0,) * len(shape), theta.dtype)
        for name, shape in zip(Derivatives._fields, shapes, strict=True)
    ]
    y = rows.y if len(rows.y) else np.zeros((n_rows, n_out), theta.dtype)
    order, weighted = 2 if "hessians" in wanted else 1, (rows.weighted, rows.weighted)
    table = table_with(model.compiled(theta.dtype), order, loss, None, weighted)
    work = work_of(model, n_rows, 0, 1) * SLOWER * (p if "hessians" in wanted else 1)
    workers = workers_for(work, n_tasks)
    by_row, by_task = outputs[:2], outputs[2:]
    piece = tasks_of_piece(work, n_tasks, workers)
    size = derivative_kernels.scratch_size(table, int(np.diff(rows.offsets).max()))
    with borrow(rows_of(theta.dtype, workers, size)) as (scratch,):
        for first in range(0, n_tasks, piece):
            tasks, ends = slice(first, first + piece), slice(first, first + piece + 1)
            derivative_kernels.derivatives(
                workers, table, theta[None] if theta.ndim == 1 else theta[tasks], rows.x, y,
                rows.offsets[ends], scratch, *by_row, *(a[tasks] for a in by_task),
            )  # fmt: skip
    return Derivatives(*outputs)
