"""The factored method: only row blocks of each task, and products with the theta that all share."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..family import Family
from ..kernels.compile.records import View
from ..kernels.methods import factored as kernels
from ..kernels.methods.blocks import scratch_size
from ..kernels.methods.modes import RATES
from ..kernels.methods.own_weights import own_table
from ..kernels.models.layers import KINDS
from ..kernels.vectors.emitter import LANES
from ..losses import table_with
from ..plan import Sizes, chunks_of, work_of
from ..tasks import Rows
from .base import Problem, Result
from .stepwise import Stepwise, StepwisePlan, padded_rates

__all__ = ["FACTORED", "Factored", "prefers_factored"]

#: rows of a chunk, and of a block with weights that tasks share: enough for large products
CHUNK_ROWS = 64
#: chunks of a batch of enough tasks, so that as many threads find work
FACTORED_CHUNKS = 8
#: bytes of a task's row blocks of a step up to which factored is faster than dense, and more for
#: each unit of the layers' mean width
CACHED, CACHED_WIDTH = 1_200_000, 40_000
#: bytes of the row blocks that are worked at a time where tasks share no weights, and the fewest
#: rows
BLOCK_BYTES, MIN_BLOCK_ROWS = 96 << 10, 10


class Factored(Stepwise):
    """It has neither rates per parameter nor momentum, and is for stacks of weight layers."""

    name = "factored"
    kernels = (kernels.factored,)

    def refuses(self, problem: Problem) -> str | None:
        """What a problem has that the method has not, as the text of an error, or None."""
        lacks = None
        if problem.model.layer_sizes is None:
            lacks = f"is for weight layers (model is {problem.model!r})"
        elif problem.rate.per_parameter is not None:
            lacks = f"has no rates per parameter (inner_lr has shape {problem.rate.shape})"
        elif problem.momentum:
            lacks = f"has no momentum (inner_momentum is {problem.momentum})"
        if lacks is None:
            return super().refuses(problem)
        return f'method is "factored", which {lacks}; accepted are "dense", "explicit" and "auto"'

    def suits(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes) -> bool:
        """Whether it is faster than the methods that come after it."""
        return prefers_factored(problem.model, dtype, *sizes.means)

    def plan(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes, mode: int) -> StepwisePlan:
        """How a batch of such sizes is worked."""
        model, steps, n_tasks = problem.model, problem.steps, sizes.n_tasks
        losses = problem.loss, problem.query_loss
        table = table_with(model.compiled(dtype), None, *losses, sizes.weighted)
        rows, query_rows = sizes.rows
        work = work_of(model, rows, query_rows, steps) + pair_work_of(model, rows, n_tasks, steps)
        table = own_table(table, own_layers(model, *sizes.means, steps), LANES[dtype])
        blocks, chunks = _blocks_and_chunks(
            sizes.offsets, max(rows, query_rows), table, dtype, steps
        )
        scratch = scratch_size(
            table, sizes.counts, sizes.query_counts, blocks, problem.step_weights, mode == RATES
        )
        return self.planned(
            problem, dtype, sizes, mode, table=table, work=work, chunks=chunks, blocks=blocks,
            scratch=scratch,
        )  # fmt: skip

    def launch(
        self, problem: Problem, plan: StepwisePlan, workers: int, theta: NDArray[Any],
        support: Rows, query: Rows, first: int, last: int, buffers: list[NDArray[Any]],
        result: Result,
    ) -> None:  # fmt: skip
        """Work chunks first:last; `buffers` are those of ``plan.layout``."""
        scratch, gradient_rows, rate_rows, total, shared = buffers
        rates, _ = padded_rates(problem, plan.dtype)
        kernels.factored(
            workers, plan.table, theta, shared, support.x, support.y, support.offsets, query.x,
            query.y, query.offsets, plan.chunks, first, last, problem.order == "exact",
            rates, problem.step_weights, plan.mode, scratch, gradient_rows, total, rate_rows,
            result.rate_gradient, result.task_values, result.gradient, plan.blocks,
        )  # fmt: skip


FACTORED = Factored()


def prefers_factored(
    model: Family, dtype: np.dtype[Any], rows: float, query_rows: float
) -> bool:  # fmt: skip
    """Whether factored is the faster method: unless tasks have so many rows.

    It takes all rows of a task at once. If a step's row blocks are larger than the cache, dense is
    faster, which takes some at a time, unless products with large matrices outweigh it. The rule
    is fitted to a grid of widths, rows and steps (``benchmarks/method_choice.py``).
    """
    shapes = list(pairwise(weight_layers(model)))
    width = 2 * sum(a * b for a, b in shapes) / sum(a + b for a, b in shapes)
    most = max(rows, query_rows)
    return most * bytes_a_row(model.compiled(dtype).table, dtype) <= CACHED + CACHED_WIDTH * width


def weight_layers(model: Family) -> tuple[int, ...]:
    """Sizes of a model that is a stack of weight layers, as all are that factored is asked for."""
    sizes = model.layer_sizes
    assert sizes is not None
    return sizes


def own_layers(model: Family, rows: float, query_rows: float, steps: int) -> list[bool]:
    """Of which layers the factored method gives each task its own weights.

    They cost some products of S K rows with n_in n_out weights; what they save is the products of
    row blocks, those of S K rows with as many and with the query rows. How many of each was fitted
    to measurements (``docs/decisions/0007-register-tiles.md``).
    """
    shapes = pairwise(weight_layers(model))
    partners = 2 * query_rows + 4 * steps * rows
    return [7 * n_in * n_out <= (n_in + n_out) * partners for n_in, n_out in shapes]


def bytes_a_row(table: NDArray[np.int64], dtype: np.dtype[Any]) -> int:
    """What the factored method keeps of one support row in one step."""
    return KINDS * View(table).width * dtype.itemsize


def block_rows_of(table: NDArray[np.int64], dtype: np.dtype[Any], steps: int) -> int:
    """About how many rows the factored method works at a time.

    Enough for large products with the weights that tasks share. Where they share none, few enough
    for the cache.
    """
    if View(table).n_common:
        return CHUNK_ROWS
    of_row = bytes_a_row(table, dtype) * max(steps, 1)
    return max(MIN_BLOCK_ROWS, min(CHUNK_ROWS, BLOCK_BYTES // of_row))


def _blocks_and_chunks(
    offsets: NDArray[np.int64], rows: int, table: NDArray[np.int64], dtype: np.dtype[Any],
    steps: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Blocks of tasks, and chunks of blocks, of the factored method."""
    wanted = -(-rows // (CHUNK_ROWS * FACTORED_CHUNKS)) * FACTORED_CHUNKS
    of_chunk = -(-rows // (wanted * block_rows_of(table, dtype, steps)))
    blocks = chunks_of(offsets, wanted * of_chunk)
    return blocks, chunks_of(np.arange(len(blocks)), wanted)


def pair_work_of(model: Family, rows: int, n_tasks: int, steps: int) -> int:
    """About how many operations the factored method takes for the pairs of a task's rows."""
    sizes = weight_layers(model)
    width = sizes[0] + 2 * sum(sizes[1:-1]) + sizes[-1]
    return 16 * width * steps * steps * rows * rows // n_tasks
