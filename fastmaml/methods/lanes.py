"""The lanes method: as many tasks at a time as a vector register has numbers, one in each lane."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT64
from ..family import Compiled
from ..kernels.compile.records import View
from ..kernels.methods import lanes as kernels
from ..kernels.methods.modes import GRADIENT
from ..kernels.models.lanes import with_lanes
from ..kernels.vectors import emitter
from ..kernels.vectors.loss_formulas import LANE_LOSSES
from ..losses import TaskLoss, table_with_numbers
from ..plan import Sizes, chunks_by_work, work_of
from ..tasks import Rows
from ..workspace import borrow
from .base import Problem, Result
from .stepwise import ByParameter, StepwisePlan, order_of, rates_by_parameter

__all__ = ["LANES", "Lanes"]

#: how many rows a vector of them must hold on average, so that lanes is faster than dense
FILLED = 3
#: how many times as fast as elsewhere an operation is
FASTER = 4
#: bytes of a group of tasks up to which it is taken by itself
MOST = 16 << 20


class Lanes(ByParameter):
    """It is for models that have passes for it, and for losses that such passes take in."""

    name = "lanes"
    kernels = (kernels.lanes,)

    def refuses(self, problem: Problem) -> str | None:
        """What a problem has that the method has not, as the text of an error, or None."""
        lacks = None
        if problem.model.compiled(FLOAT64).lanes is None:
            lacks = f"is for formulas and compiled functions (model is {problem.model!r})"
        for name in ("loss", "query_loss"):
            kind = getattr(problem, name).kind
            if lacks is None and kind not in LANE_LOSSES:
                lacks = f"is for losses of each output by itself ({name} is {kind})"
        if lacks is None:
            return super().refuses(problem)
        return f'method is "lanes", which {lacks}; accepted are "dense", "explicit" and "auto"'

    def suits(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes) -> bool:
        """Whether it is faster than the methods that come after it."""
        lanes, vectors = emitter.LANES[dtype], 0
        starts = np.arange(0, sizes.n_tasks, lanes)
        for counts in (sizes.counts, sizes.query_counts):
            vectors += int(np.maximum.reduceat(counts, starts).sum())
        if FILLED * vectors > sum(sizes.rows):
            return False
        try:
            table = _table(problem, dtype, sizes.weighted, 0)
        except ValueError:  # a user's functions are not fit
            return False
        size = kernels.scratch_size(_sizes_of(table, problem, sizes), lanes) * dtype.itemsize
        return size <= MOST

    def plan(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes, mode: int) -> StepwisePlan:
        """How a batch of such sizes is worked."""
        model, lanes = problem.model, emitter.LANES[dtype]
        table = _table(problem, dtype, sizes.weighted, order_of(problem, mode))
        work = work_of(model, *sizes.rows, problem.steps) // FASTER
        groups = np.append(sizes.offsets[:-1:lanes], sizes.offsets[-1])
        return self._plan(problem, dtype, sizes, mode, table, work, chunks_by_work(groups, work))

    def _plan(
        self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes, mode: int,
        table: NDArray[np.int64], work: int, chunks: NDArray[np.int64],
    ) -> StepwisePlan:  # fmt: skip
        sizes_of = _sizes_of(table, problem, sizes)
        return self.planned(
            problem, dtype, sizes, mode, table=table, work=work, chunks=chunks,
            scratch=kernels.scratch_size(sizes_of, emitter.LANES[dtype]),
            longest=(int(sizes.counts.max()), int(sizes.query_counts.max())),
        )  # fmt: skip

    def launch(
        self, problem: Problem, plan: StepwisePlan, workers: int, theta: NDArray[Any],
        support: Rows, query: Rows, first: int, last: int, buffers: list[NDArray[Any]],
        result: Result,
    ) -> None:  # fmt: skip
        """Work chunks first:last, of groups; `buffers` are those of ``plan.layout``."""
        scratch, gradient_rows, rate_rows, _, _ = buffers
        kernels.lanes(
            workers, plan.table, theta, support.x, support.y, support.offsets, query.x, query.y,
            query.offsets, plan.chunks, first, last, problem.order == "exact",
            rates_by_parameter(problem, plan.dtype), problem.momentum, problem.step_weights,
            plan.mode, *plan.longest, scratch, gradient_rows, result.gradient, rate_rows,
            result.rate_gradient, result.task_values,
        )  # fmt: skip

    def warm(self, problem: Problem, theta: NDArray[Any], rows: Rows) -> None:
        """Compile the kernel, of which any model has a table, by working no chunk."""
        dtype, sizes = theta.dtype, Sizes.of(rows, rows)
        compiled = problem.model.compiled(dtype)
        table = table_with_numbers(compiled, problem.loss, problem.query_loss, sizes.weighted)
        plan = self._plan(problem, dtype, sizes, GRADIENT, table, 0, np.zeros(1, np.int64))
        result = Result(
            np.empty(rows.n_tasks), np.zeros(problem.model.n_params, dtype), np.empty(0)
        )
        with borrow(plan.layout(1, 0)) as buffers:
            self.launch(problem, plan, 1, theta, rows, rows, 0, 0, buffers, result)


LANES = Lanes()


def _table(
    problem: Problem, dtype: np.dtype[Any], weighted: tuple[bool, bool], order: int
) -> NDArray[np.int64]:
    """The model's table with the losses and the passes that derivatives up to an order take."""
    compiled = problem.model.compiled(dtype)
    return _table_of(compiled, problem.loss, problem.query_loss, weighted, order)


@lru_cache(maxsize=256)
def _table_of(
    compiled: Compiled, loss: TaskLoss, query_loss: TaskLoss, weighted: tuple[bool, bool],
    order: int,
) -> NDArray[np.int64]:  # fmt: skip
    assert compiled.lanes is not None
    passes = compiled.lanes(loss.kind, query_loss.kind)
    table = table_with_numbers(compiled, loss, query_loss, weighted)
    return with_lanes(table, passes, compiled.dtype, order)


def _sizes_of(table: NDArray[np.int64], problem: Problem, sizes: Sizes) -> kernels.Sizes:
    """Of what the kernel needs for a group."""
    net = View(table)
    return kernels.Sizes(
        sizes.n_tasks, net.n_theta, problem.steps, int(sizes.counts.max()), net.n_in, net.lane_made,
        net.lane_kept, net.all_losses[0].n_y + 1, int(sizes.query_counts.max()),
        net.all_losses[1].n_y + 1, net.lane_room,
    )  # fmt: skip
