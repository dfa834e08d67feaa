"""Long-format tables as tasks: one row an observation, one column that says whose it is."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..checks import as_count, as_rng
from ..datasets import Tasks
from .common import CommandError, require

__all__ = ["TaskTable"]


def read_columns(path: Path) -> dict[str, Sequence[Any]]:
    """Return the columns of a CSV file, as text, or of a Parquet file."""
    read = _parquet if path.suffix.lower() in (".parquet", ".pq") else _csv
    try:
        names, columns = read(path)
    except (ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors, or OSErrors
        raise CommandError(f"{path} cannot be read: {error}") from error
    for name in filter(None, names):  # tables of notes may have several columns without a name
        if names.count(name) > 1:
            raise CommandError(f"{path} has {names.count(name)} columns {name!r}; accepted is one")
    return dict(zip(names, columns, strict=True))


def _parquet(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    require(f"{path.name}", "parquet", "pyarrow")
    from pyarrow import parquet

    table = parquet.read_table(path)
    return table.column_names, [column.to_pylist() for column in table.columns]


def _csv(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise CommandError(f"{path} is empty; accepted are tables with a line of column names")
    head, *rows = rows
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise CommandError(
                f"{path}, row {number} below the names, has {len(row)} entries; "
                f"accepted are {len(head)}, as many as names"
            )
    return head, [[row[i] for row in rows] for i in range(len(head))]


def column(path: Path, columns: dict[str, Sequence[Any]], name: str) -> Sequence[Any]:
    """Return a column, which must be there."""
    if name not in columns:
        raise CommandError(f"{path} has no column {name!r}; it has {', '.join(map(repr, columns))}")
    return columns[name]


def numbers(path: Path, columns: dict[str, Sequence[Any]], names: Sequence[str]) -> np.ndarray:
    """Return columns as an array (rows, columns) of finite float64 numbers."""
    arrays = []
    for name in names:
        values = column(path, columns, name)
        array = np.array([_number(value) for value in values])
        if not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array)))
            raise _cell_error(path, name, row, values[row], "finite numbers")
        arrays.append(array)
    return np.stack(arrays, axis=1)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def labels(path: Path, columns: dict[str, Sequence[Any]], name: str) -> Sequence[Any]:
    """Return a column that says whose each row is."""
    values = column(path, columns, name)
    for row, value in enumerate(values):
        missing = value in (None, "") or value != value  # which NaN is
        if missing or not isinstance(value, Hashable):
            raise _cell_error(path, name, row, value, "names of tasks, text or numbers")
    return values


def _cell_error(path: Path, name: str, row: int, value: Any, accepted: str) -> CommandError:
    return CommandError(
        f"{path}, column {name!r}, row {row + 1} below the names, holds {value!r:.60}; "
        f"accepted are {accepted}"
    )


@dataclass(frozen=True)
class TaskTable:
    """The tasks of a table; samples as the families of :mod:`fastmaml.datasets` do.

    Attributes
    ----------
    x, y : ndarray, shape (N, n_inputs), (N, n_outputs)
        Rows, those of a task one after the other.
    offsets : ndarray, shape (n_tasks + 1,)
        Task i has rows ``offsets[i]:offsets[i + 1]``.
    names : tuple
        The tasks, in the order in which they come in the file.
    order : ndarray, shape (N,)
        Which row of the file each row is.
    """

    x: np.ndarray
    y: np.ndarray
    offsets: np.ndarray
    names: tuple[Any, ...]
    order: np.ndarray

    @classmethod
    def read(
        cls, path: Path, task: str | None, inputs: Sequence[str], outputs: Sequence[str]
    ) -> TaskTable:
        """Read a CSV or Parquet file; without outputs, y has no columns.

        `task` None: all rows are one task.
        """
        columns = read_columns(path)
        x = numbers(path, columns, inputs)
        if not len(x):
            raise CommandError(f"{path} has no rows; accepted are one or more")
        y = numbers(path, columns, outputs) if outputs else np.empty((len(x), 0))
        whose = ["all"] * len(x) if task is None else labels(path, columns, task)
        index = {name: i for i, name in enumerate(dict.fromkeys(whose))}
        code = np.array([index[name] for name in whose])
        order = np.argsort(code, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(code))])
        return cls(x[order], y[order], offsets, tuple(index), order)

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.names)

    def require_rows(self, n_rows: int) -> None:
        """Raise CommandError if a task has fewer rows than this."""
        counts = np.diff(self.offsets)
        if counts.min() < n_rows:
            i = int(np.argmin(counts))
            raise CommandError(
                f"task {self.names[i]!r} has {counts[i]} rows; accepted are {n_rows} or more "
                "(n_support + n_query)"
            )

    def take(self, tasks: np.ndarray) -> TaskTable:
        """Return the table of some tasks."""
        rows, counts = self._rows_of(tasks)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        names = tuple(self.names[i] for i in tasks.tolist())
        return TaskTable(self.x[rows], self.y[rows], offsets, names, self.order[rows])

    def by_task(self, rows: np.ndarray) -> list[np.ndarray]:
        """Cut an array of the rows of all tasks into one for each task."""
        return np.split(rows, self.offsets[1:-1])

    def _rows_of(self, tasks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of some tasks, one task after the other, and how many each has."""
        counts = self.offsets[tasks + 1] - self.offsets[tasks]
        skipped = self.offsets[tasks] - (np.cumsum(counts) - counts)
        return np.repeat(skipped, counts) + np.arange(counts.sum()), counts

    def sample(
        self,
        n_tasks: int,
        n_support: int,
        n_query: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> Tasks:
        """Draw tasks, and of each some rows to adapt on and others to judge by; none twice."""
        n_tasks = as_count("n_tasks", n_tasks, 1)
        n_support = as_count("n_support", n_support, 1)
        n_rows = n_support + as_count("n_query", n_query, 0)
        if n_tasks > self.n_tasks:
            raise ValueError(f"n_tasks is {n_tasks}; accepted are up to {self.n_tasks}, the tasks")
        rng = as_rng("rng", rng)
        rows, counts = self._rows_of(rng.choice(self.n_tasks, n_tasks, replace=False))
        if counts.min() < n_rows:
            self.require_rows(n_rows)
        owner = np.repeat(np.arange(n_tasks), counts)
        shuffled = rows[np.lexsort((rng.random(len(rows)), owner))]
        drawn = shuffled[(np.cumsum(counts) - counts)[:, None] + np.arange(n_rows)]
        x, y = self.x[drawn].astype(dtype), self.y[drawn].astype(dtype)
        parts = [np.ascontiguousarray(a[:, :n_support]) for a in (x, y)]
        if n_query:
            parts += [np.ascontiguousarray(a[:, n_support:]) for a in (x, y)]
        return Tasks(*parts)
