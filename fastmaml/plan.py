"""What all plans share: chunks, pieces, workers and memory, as functions of sizes alone.

A *chunk* is a run of whole tasks whose sums one worker makes. Chunks depend on the problem's sizes
only, never on the number of threads, and are summed one after the other, so results do not depend
on it either. The factored method works a chunk in one or more *blocks*, runs of tasks whose row
blocks are in memory together. A *piece* is the run of chunks that one call of a kernel works;
between pieces Python regains control (Ctrl-C).

Memory of a call, beyond its inputs and outputs, in numbers of theta's dtype:

    workers * scratch + chunks of a piece * row + fixed

(`Plan.layout`), with scratch given by the method's ``scratch_size``. A row is the gradient of one
chunk: P, counted with padding; and that of the rates where it is asked for. Fixed are theta and
the gradient with padding, and what is derived from theta (for weight layers, transposed copies): up
to 3 P (0 for explicit). If that exceeds the limit, pieces get shorter and then workers fewer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import FLOAT64, physical_memory
from .family import Family
from .kernels.compile.jit import max_workers
from .kernels.methods.modes import RATES, VALUE
from .tasks import Rows
from .workspace import Layout

__all__ = [
    "Plan",
    "Sizes",
    "Split",
    "chunks_by_work",
    "chunks_of",
    "default_max_memory",
    "tasks_of_piece",
    "work_of",
    "workers_for",
]

#: floating-point operations below which one thread is faster than waking the others
SERIAL_WORK = 300_000
#: operations after which a piece ends (some hundredths of a second), and the most chunks it has
PIECE_WORK, PIECE_CHUNKS = 4_000_000_000, 64
#: numbers in the rows of a piece that are worth another call of the kernel
PIECE_NUMBERS = 1_000_000
#: chunks of a batch of enough tasks, so that as many threads find work
CHUNKS = 16


class Sizes(NamedTuple):
    """How many rows the tasks of a batch have, and whether these have weights."""

    offsets: NDArray[np.int64]  # (n_tasks + 1,), of the support rows
    query_offsets: NDArray[np.int64]
    counts: NDArray[np.int64]  # (n_tasks,)
    query_counts: NDArray[np.int64]
    weighted: tuple[bool, bool]  # the support rows, the query rows

    @classmethod
    def of(cls, support: Rows, query: Rows) -> Sizes:
        """The sizes of a batch."""
        at, query_at = support.offsets, query.offsets
        weighted = support.weighted, query.weighted
        return cls(at, query_at, np.diff(at), np.diff(query_at), weighted)

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.counts)

    @property
    def rows(self) -> tuple[int, int]:
        """Support and query rows of all tasks."""
        return int(self.offsets[-1]), int(self.query_offsets[-1])

    @property
    def means(self) -> tuple[float, float]:
        """Support and query rows of a task, about."""
        rows, query_rows = self.rows
        return rows / self.n_tasks, query_rows / self.n_tasks

    @property
    def longest(self) -> int:
        """The most support or query rows that a task has."""
        return max(int(self.counts.max()), int(self.query_counts.max()))


class Split(NamedTuple):
    """How many workers share a piece of how many chunks, and the arrays that they work in."""

    workers: int
    piece: int
    layout: Layout


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """How a batch of given sizes is worked."""

    mode: int
    dtype: np.dtype[Any]  # that of theta
    chunks: NDArray[np.int64]  # boundaries in tasks, or in what the method makes of them
    work: int
    scratch: int  # numbers a worker
    n_gradient: int  # numbers of a chunk's gradient
    n_total: int  # numbers of the sum of these, where the gradient itself is not it
    n_shared: int  # numbers of theta in the form that all tasks share
    n_rates: int  # numbers in the gradient of the rates, as the kernels give it
    max_memory: int  # bytes
    longest: tuple[int, int] = (0, 0)  # rows of a task, support and query, where it is asked for
    _splits: dict[int, Split] = field(default_factory=dict)

    def layout(self, workers: int, piece: int) -> Layout:
        """Of the arrays of a call: scratch, rows of gradients and of rates, total, shared theta."""
        with_gradient, with_rates = self.mode > VALUE, self.mode == RATES
        return Layout(
            (self.dtype, (workers, self.scratch)),
            (self.dtype, (piece if with_gradient else 0, self.n_gradient)),
            (FLOAT64, (piece if with_rates else 0, self.n_rates)),
            (self.dtype, (self.n_total if with_gradient else 0,)),
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


def work_of(model: Family, rows: int, query_rows: int, steps: int) -> int:
    """About how many floating-point operations a meta-gradient takes."""
    return model.n_params * (24 * steps * rows + 6 * query_rows)


def chunks_of(offsets: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Boundaries of runs of whole tasks (or blocks): about equal numbers of rows, none empty."""
    marks = np.linspace(0, offsets[-1], min(len(offsets) - 1, wanted) + 1)
    # The first task that starts at or after each mark; equal marks leave no empty chunk. (np.unique
    # imports a module at its first call, whose lock a child that is forked then would never get.)
    found = np.searchsorted(offsets, marks).astype(np.int64)
    return found[np.append(True, found[1:] != found[:-1])]


def chunks_by_work(offsets: NDArray[np.int64], work: int) -> NDArray[np.int64]:
    """Chunks of tasks, as many as threads find work in, and more where a piece would take long."""
    return chunks_of(offsets, max(CHUNKS, work * CHUNKS // PIECE_WORK))


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
