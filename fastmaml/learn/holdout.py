"""What a training sets aside to validate on, once: groups, or, where they are few, rows of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..datasets.table import TaskTable

__all__ = ["Held", "hold_out"]

#: With fewer groups than this, rows of each are set aside.
FEW = 10
#: Where splits are random, so many tasks are made of the held-out groups, by splitting each again,
#: but none more often than that.
TASKS, REPEATS = 32, 8


class Held(NamedTuple):
    """What is left for the training, and the tasks (x, y, x_query, y_query) to validate on."""

    training: TaskTable
    validation: tuple[Any, ...] | None


def hold_out(
    table: TaskTable, fraction: float, shots: int | None, rng: np.random.Generator, shuffle: bool
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
        return Held(parts.training, tuple(several.split(shots, how, rng)))
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
    support = _repeated(training.take(large), shuffle).split(shots, how, rng)
    return Held(training, (support.x, support.y, query.by_task(query.x), query.by_task(query.y)))


def _repeated(table: TaskTable, shuffle: bool) -> TaskTable:
    times = min(REPEATS, -(-TASKS // table.n_tasks)) if shuffle else 1
    return table.take(np.tile(np.arange(table.n_tasks), times))


def _rows(table: TaskTable, keep: Any) -> TaskTable:
    """The table with some of its rows; all tasks stay."""
    offsets = np.concatenate([[0], np.cumsum(keep)])[table.offsets]
    return TaskTable(table.x[keep], table.y[keep], offsets, table.names, table.order[keep])
