"""What a training sets aside to validate on, once: groups, or, where they are few, rows of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..datasets.table import TaskTable

__all__ = ["Held", "NSupport", "drawn_support", "hold_out", "of_counts"]

#: With fewer groups than this, rows of each are set aside.
FEW = 10
#: Where splits are random, so many tasks are made of the held-out groups, by splitting each again,
#: but none more often than that.
TASKS, REPEATS = 32, 8


class Held(NamedTuple):
    """What is left for the training, and the tasks, as `train` takes them, to validate on."""

    training: TaskTable
    validation: tuple[Any, ...] | None


#: Support rows of tasks: as ``TaskTable.split`` takes them, or a function of their numbers of rows.
NSupport = int | None | Callable[[NDArray[np.intp], np.random.Generator], NDArray[np.intp]]


def of_counts(n_support: NSupport, counts: NDArray[np.intp], rng: np.random.Generator) -> Any:
    """Return support rows as ``TaskTable.split`` takes them, for tasks of so many rows."""
    return n_support(counts, rng) if callable(n_support) else n_support


def drawn_support(bounds: tuple[int, int] | None = None) -> NSupport:
    """Return what draws support rows of each task, uniformly within bounds, or from 1 to half."""

    def draw(counts: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
        low, high = (np.minimum(bound, counts - 1) for bound in bounds or (1, counts // 2))
        return rng.integers(low, high, endpoint=True)

    return draw


def hold_out(
    table: TaskTable, fraction: float, n_support: NSupport, rng: np.random.Generator, shuffle: bool
) -> Held:
    """Set aside a fraction of the groups, or of the rows of each that has three; of 0, nothing."""
    how = "random" if shuffle else "first"
    n = table.n_tasks
    if not fraction:
        return Held(table, None)
    if n >= FEW:
        n_validation = min(max(2, round(fraction * n)), n - 1)
        parts = table.hold_out(n_validation, seed=int(rng.integers(2**31)))
        several = _repeated(parts.validation, shuffle)
        support_of = of_counts(n_support, several.n_rows, rng)
        return Held(parts.training, tuple(several.split(support_of, how, rng)))
    counts = table.n_rows
    (large,) = np.nonzero(counts >= 3)
    if not len(large):
        return Held(table, None)
    n_held = np.clip(np.rint(fraction * counts), 1, np.maximum(counts - 2, 1)).astype(np.intp)
    aside = table.take(large)
    division = aside.divide(
        np.arange(len(large)), (counts - n_held)[large], None, rng if shuffle else None
    )
    held = np.zeros(len(table.x), bool)
    held[np.isin(table.order, aside.order[division.query])] = True
    training, query = _rows(table, ~held), _repeated(_rows(table, held).take(large), shuffle)
    several = _repeated(training.take(large), shuffle)
    support = several.split(of_counts(n_support, several.n_rows, rng), how, rng)
    tasks = (*support[:2], query.by_task(query.x), query.by_task(query.y))
    if query.sample_weight is not None:
        tasks += (support.sample_weight, query.by_task(query.sample_weight))
    return Held(training, tasks)


def _repeated(table: TaskTable, shuffle: bool) -> TaskTable:
    times = min(REPEATS, -(-TASKS // table.n_tasks)) if shuffle else 1
    return table.take(np.tile(np.arange(table.n_tasks), times))


def _rows(table: TaskTable, keep: Any) -> TaskTable:
    """The table with some of its rows; all tasks stay."""
    offsets = np.concatenate([[0], np.cumsum(keep)])[table.offsets]
    weights = None if table.sample_weight is None else table.sample_weight[keep]
    return TaskTable(table.x[keep], table.y[keep], offsets, table.names, table.order[keep], weights)
