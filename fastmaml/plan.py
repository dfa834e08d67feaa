"""Decisions: which method, how the tasks are cut into chunks, how much is worked at a time.

A *chunk* is a run of whole tasks whose sums one worker makes. Chunks depend on the problem's sizes
only, never on the number of threads, and are summed one after the other, so results do not depend
on it either. The factored method works a chunk in one or more *blocks*, runs of tasks whose row
blocks are in memory together. A *piece* is the run of chunks that one call of a kernel works;
between pieces Python regains control (Ctrl-C).

Memory of a call, beyond its inputs and outputs, in numbers of theta's dtype:

    workers * scratch + chunks of a piece * row + fixed

(`Plan.layout`), with scratch given by the method's ``scratch_size``. A row is the gradient of one
chunk: P, counted with padding; and that of the rates where it is asked for. Fixed are theta and
the gradient with padding, and the transposed copy of theta's weights: up to 3 P (0 for explicit).
If that exceeds the limit, pieces get shorter and then workers fewer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import FLOAT64, physical_memory, require_memory
from .family import Family
from .kernels import dense, explicit, factored
from .kernels.jit import max_workers
from .kernels.mlp import (
    N_COMMON,
    WIDTH,
)
from .kernels.modes import RATES, VALUE
from .kernels.own_weights import own_table
from .kernels.simd import LANES
from .losses import Loss
from .rates import InnerRate
from .tasks import Rows
from .workspace import Layout

__all__ = [
    "METHODS",
    "Plan",
    "Problem",
    "plan_for",
]

METHODS = ("auto", "explicit", "dense", "factored")

#: floating-point operations below which one thread is faster than waking the others
SERIAL_WORK = 300_000
#: operations after which a piece ends (some hundredths of a second), and the most chunks it has
PIECE_WORK, PIECE_CHUNKS = 4_000_000_000, 64
#: tasks of different sizes up to which their plan is remembered, and plans of a problem
REMEMBERED_TASKS, REMEMBERED_PLANS = 1000, 64
#: numbers in the rows of a piece that are worth another call of the kernel
PIECE_NUMBERS = 1_000_000
#: how many times as long an operation takes in the plain loops of the explicit kernels
PLAIN_LOOPS = 8
#: rows of a chunk of the factored method, and of a block with weights that tasks share: enough for
#: large products
CHUNK_ROWS = 64
#: bytes of a task's row blocks of a step up to which factored is faster than dense, and more for
#: each unit of the layers' mean width
CACHED, CACHED_WIDTH = 1_200_000, 40_000
#: bytes of the row blocks that are worked at a time where tasks share no weights, and the fewest
#: rows
BLOCK_BYTES, MIN_BLOCK_ROWS = 96 << 10, 10
#: chunks of a batch of enough tasks, so that as many threads find work
FACTORED_CHUNKS, DENSE_CHUNKS = 8, 16


@dataclass(frozen=True, eq=False)
class Problem:
    """All that a method needs to know beside theta and the data."""

    model: Family
    rate: InnerRate
    steps: int
    exact: bool
    loss: Loss
    step_weights: NDArray[np.float64]
    method: str
    max_memory: int  # bytes
    momentum: float = 0.0
    proximal: float = 0.0
    # Remembered here and not in a cache of the module: a training that learns the inner rates
    # makes a problem an iteration, and these hold its rates.
    _plans: dict[Any, Plan] = field(default_factory=dict, repr=False)
    _rates: dict[Any, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}, "_rates": {}}

    def rates(self, dtype: np.dtype[Any], method: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """The rates as a method's kernels take them: see `Plan`."""
        key = dtype, method == "explicit"
        if key not in self._rates:
            self._rates[key] = _rates_of(self.model, self.rate, self.steps, *key)
        return self._rates[key]


class Split(NamedTuple):
    """How many workers share a piece of how many chunks, and the arrays that they work in."""

    workers: int
    piece: int
    layout: Layout


@dataclass(frozen=True, eq=False)
class Plan:
    """How a batch of given sizes is worked."""

    method: str
    mode: int
    table: NDArray[np.int64]
    rates: NDArray[Any]  # (S, n_layers), or (S, P) for explicit
    parameter_rates: NDArray[Any]  # padded (P,), or empty
    chunks: NDArray[np.int64]  # boundaries in tasks, but in blocks for factored
    blocks: NDArray[np.int64]  # boundaries in tasks; none but for factored
    work: int
    scratch: int  # numbers a worker
    n_gradient: int  # numbers of a chunk's gradient
    n_shared: int  # numbers of theta in the form that all tasks share
    max_memory: int  # bytes
    _splits: dict[int, Split] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of theta."""
        return self.rates.dtype

    @property
    def n_rates(self) -> int:
        """Numbers in the gradient of the rates, as the kernels give it."""
        return self.parameter_rates.size or self.rates.size

    def layout(self, workers: int, piece: int) -> Layout:
        """Of the arrays of a call: scratch, rows of gradients and of rates, total, shared theta."""
        with_gradient, with_rates = self.mode > VALUE, self.mode == RATES
        total = 0 if self.method == "explicit" else self.n_gradient
        return Layout(
            (self.dtype, (workers, self.scratch)),
            (self.dtype, (piece if with_gradient else 0, self.n_gradient)),
            (FLOAT64, (piece if with_rates else 0, self.n_rates)),
            (self.dtype, (total if with_gradient else 0,)),
            (self.dtype, (self.n_shared,)),
        )

    def memory(self, workers: int, piece: int) -> int:
        """Bytes that a call works in, beyond its inputs and outputs."""
        return sum(self.layout(workers, piece).places)

    def split(self) -> Split:
        """How the work is shared out among the threads that there are now."""
        n_chunks = len(self.chunks) - 1
        # Only a call that may be parallel asks (and so starts) the threading layer.
        threads = 1 if self.work < SERIAL_WORK or n_chunks < 2 else max_workers()
        if threads not in self._splits:
            self._splits[threads] = self._split(min(threads, n_chunks), n_chunks)
        return self._splits[threads]

    def _split(self, workers: int, n_chunks: int) -> Split:
        row = (self.n_gradient if self.mode > VALUE else 0) + 1
        few = PIECE_NUMBERS // row // workers * workers
        by_work = PIECE_WORK * n_chunks // (self.work + 1)
        piece = min(n_chunks, PIECE_CHUNKS, max(workers, few), max(workers, by_work))
        while workers * piece > 1 and self.memory(workers, piece) > self.max_memory:
            if piece > workers:
                piece = max(workers, piece - max(1, piece // 8))
            else:
                workers = piece = workers - 1
        return Split(workers, piece, self.layout(workers, piece))


def plan_for(
    problem: Problem, dtype: np.dtype[Any], support: Rows, query: Rows, mode: int,
    method: str | None = None,
) -> Plan:  # fmt: skip
    """The plan for a batch, of a given method or the problem's; remembered unless it is long."""
    if max(len(support.offsets), len(query.offsets)) > REMEMBERED_TASKS and (
        support.ragged or query.ragged
    ):
        return _plan(problem, dtype, support.offsets, query.offsets, mode, method)
    key = dtype, _sizes(support), _sizes(query), mode, method
    plan = problem._plans.get(key)
    if plan is None:
        plan = _plan(problem, dtype, support.offsets, query.offsets, mode, method)
        if len(problem._plans) >= REMEMBERED_PLANS:
            problem._plans.clear()
        problem._plans[key] = plan
    return plan


def _sizes(rows: Rows) -> tuple[int, int] | bytes:
    """A batch's numbers of rows, as a key."""
    n_tasks = rows.n_tasks
    return rows.offsets.tobytes() if rows.ragged else (n_tasks, len(rows.x) // n_tasks)


def _plan(
    problem: Problem, dtype: np.dtype[Any], offsets: NDArray[np.int64],
    query_offsets: NDArray[np.int64], mode: int, method: str | None,
) -> Plan:  # fmt: skip
    model, steps, n_tasks = problem.model, problem.steps, len(offsets) - 1
    counts, query_counts = np.diff(offsets), np.diff(query_offsets)
    rows, query_rows = int(offsets[-1]), int(query_offsets[-1])
    means = rows / n_tasks, query_rows / n_tasks
    table, n_padded, n_transposed = model.compiled(dtype)
    work = work_of(model, rows, query_rows, steps)
    method = method or choose_method(problem, dtype, *means)
    rates, parameter_rates = problem.rates(dtype, method)
    blocks = np.zeros(0, np.int64)
    n_gradient, n_shared = n_padded, n_padded + n_transposed
    if method == "factored":
        work += pair_work_of(model, rows, n_tasks, steps)
        table = own_table(table, own_layers(model, *means, steps), LANES[dtype])
        blocks, chunks = _blocks_and_chunks(offsets, max(rows, query_rows), table, dtype, steps)
        losses = int(np.count_nonzero(problem.step_weights))
        scratch = factored.scratch_size(
            table, counts, query_counts, blocks, steps, losses, mode == RATES
        )
    else:
        longest = max(int(counts.max()), int(query_counts.max()))
        if method == "dense":
            scratch = dense.scratch_size(table, longest, steps, problem.momentum)
        else:
            work *= PLAIN_LOOPS * model.n_params
            scratch = explicit.scratch_size(table, steps, problem.momentum)
            n_gradient, n_shared = model.n_params, 0
        chunks = chunks_of(offsets, max(DENSE_CHUNKS, work * DENSE_CHUNKS // PIECE_WORK))
    longest = max(int(counts.max()), int(query_counts.max()))
    require_memory(
        scratch * dtype.itemsize,
        f"method {method} with steps {steps}, {model!r} and {longest} rows of a task",
    )
    return Plan(
        method, mode, table, rates, parameter_rates, chunks, blocks, work, scratch, n_gradient,
        n_shared, problem.max_memory,
    )  # fmt: skip


def _rates_of(
    model: Family, rate: InnerRate, steps: int, dtype: np.dtype[Any], explicit: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    rates, parameter_rates = np.zeros((steps, model.n_layers), dtype), np.zeros(0, dtype)
    if explicit and rate.per_layer is not None:
        widths = [part.stop - part.start for part in model.layers().values()]
        rates = np.repeat(rate.per_layer, widths, axis=1).astype(dtype)
    elif explicit:
        rates = np.tile(rate.per_parameter, (steps, 1)).astype(dtype)  # type: ignore[arg-type]
    elif rate.per_layer is not None:
        rates[...] = rate.per_layer
    else:
        parameter_rates = np.zeros(model.compiled(dtype).n_padded, dtype)
        parameter_rates[model.padded_index(dtype)] = rate.per_parameter
    return rates, parameter_rates


def choose_method(
    problem: Problem, dtype: np.dtype[Any], rows: float, query_rows: float
) -> str:  # fmt: skip
    """The method that a call uses, for tasks of about so many support and query rows."""
    if problem.method in ("explicit", "dense"):
        return problem.method
    if problem.rate.per_parameter is not None or problem.momentum:  # which factored cannot have
        return "dense"
    if problem.method == "factored":
        return "factored"
    better = prefers_factored(problem.model, dtype, rows, query_rows)
    return "factored" if better else "dense"


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
    return factored.SUPPORT_BLOCKS * int(table[WIDTH]) * dtype.itemsize


def block_rows_of(table: NDArray[np.int64], dtype: np.dtype[Any], steps: int) -> int:
    """About how many rows the factored method works at a time.

    Enough for large products with the weights that tasks share. Where they share none, few enough
    for the cache.
    """
    if table[N_COMMON]:
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


def work_of(model: Family, rows: int, query_rows: int, steps: int) -> int:
    """About how many floating-point operations a meta-gradient takes."""
    return model.n_params * (24 * steps * rows + 6 * query_rows)


def pair_work_of(model: Family, rows: int, n_tasks: int, steps: int) -> int:
    """About how many operations the factored method takes for the pairs of a task's rows."""
    width = model.n_inputs + 2 * sum(weight_layers(model)[1:-1]) + model.n_outputs
    return 16 * width * steps * steps * rows * rows // n_tasks


def chunks_of(offsets: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Boundaries of runs of whole tasks (or blocks): about equal numbers of rows, none empty."""
    marks = np.linspace(0, offsets[-1], min(len(offsets) - 1, wanted) + 1)
    # The first task that starts at or after each mark; equal marks leave no empty chunk.
    return np.unique(np.searchsorted(offsets, marks)).astype(np.int64)


def workers_for(work: int, n_tasks: int) -> int:
    """How many workers a call without chunks gets."""
    return 1 if work < SERIAL_WORK or n_tasks < 2 else min(max_workers(), n_tasks)


def tasks_of_piece(work: int, n_tasks: int, workers: int) -> int:
    """How many tasks a piece of a call without chunks has."""
    return max(workers, PIECE_WORK * n_tasks // (work + 1))


@lru_cache(maxsize=1)
def default_max_memory() -> int:
    """A quarter of the physical memory, or 2 GiB where that is unknown."""
    return physical_memory() // 4
