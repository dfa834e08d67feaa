"""Long-format tables as tasks: one row an observation, one column that says whose it is."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..checks import as_count, as_rng
from ..datasets import Tasks
from .common import CommandError, require

__all__ = ["TaskTable", "guarded"]


#: What a Parquet file of any size may unfold to, and what for each byte that it has: values, and
#: bytes that are not compressed. A value takes some hundred bytes while it is read.
VALUES, VALUES_PER_BYTE = 100_000, 4
UNPACKED, UNPACKED_PER_BYTE = 1_000_000, 100

#: what a spreadsheet takes for a formula, but for numbers; and such a text behind a quote
FORMULA = re.compile(r"(?![-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\Z)[=+\-@\t\r\n＝＋－＠]")


def guarded(cell: Any) -> Any:
    """A cell for a CSV file; a text that a spreadsheet would run gets a quote before it."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The cell that `guarded` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell, 1) else cell


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Return the columns of a CSV file, as text, or of a Parquet file.

    `wanted` names those that will be used: of a Parquet file no other is read, and its sequence
    is empty.
    """
    parquet = path.suffix.lower() in (".parquet", ".pq")
    names, columns = _parquet(path, wanted) if parquet else _csv(path)
    for name, count in Counter(names).items():
        if name and count > 1:  # tables of notes may have several columns without a name
            raise CommandError(f"{path} has {count} columns {name!r:.60}; accepted is one")
    return dict(zip(names, columns, strict=True))


def _parquet(path: Path, wanted: Sequence[str]) -> tuple[list[str], list[Sequence[Any]]]:
    require(f"{path.name}", "parquet", "pyarrow")
    from pyarrow import parquet

    with path.open("rb") as file:
        try:
            source = parquet.ParquetFile(file)
            names = list(source.schema_arrow.names)
            read = [name for name in dict.fromkeys(wanted) if names.count(name) == 1]
            _require_sizes(path, source, read)
            table = source.read(columns=read)
            columns = {name: table.column(name).to_pylist() for name in read}
        except CommandError:
            raise
        except Exception as error:  # pyarrow has an error of its own beside each of Python's
            raise CommandError(
                f"{path} cannot be read: it is damaged, or no Parquet file ({error!s:.200})"
            ) from error
    return names, [columns.get(name, ()) for name in names]


def _require_sizes(path: Path, source: Any, read: list[str]) -> None:
    """Refuse a file whose columns would take far more memory than the file has bytes."""
    size, metadata = path.stat().st_size, source.metadata
    n_values = n_bytes = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            if {chunk.path_in_schema, chunk.path_in_schema.partition(".")[0]} & set(read):
                n_values += max(group.num_rows, chunk.num_values)  # lists have more than rows
                n_bytes += chunk.total_uncompressed_size
    for what, found, accepted in (
        ("values", n_values, max(VALUES, VALUES_PER_BYTE * size)),
        ("bytes", n_bytes, max(UNPACKED, UNPACKED_PER_BYTE * size)),
    ):
        if found > accepted:
            raise CommandError(
                f"{path} unfolds from {size} bytes to {found} {what}; accepted are up to {accepted}"
            )


def _csv(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} cannot be read: it is no text in UTF-8") from error
    except csv.Error as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise CommandError(f"{path} is empty; accepted are tables with a line of column names")
    head, *rows = rows
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise CommandError(
                f"{path}, row {number} below the names, has {len(row)} entries; "
                f"accepted are {len(head)}, as many as names"
            )
    columns: list[Sequence[Any]] = [
        _unguarded_column(path, head[i], [row[i] for row in rows]) for i in range(len(head))
    ]
    return [unguarded(name) for name in head], columns


def _unguarded_column(path: Path, name: str, cells: list[str]) -> list[str]:
    quoted = {cell: unguarded(cell) for cell in cells if cell.startswith("'")}
    if quoted and (both := {cell for cell in quoted.values() if cell not in quoted} & set(cells)):
        raise CommandError(
            f"{path}, column {name!r:.60}, holds {min(both)!r:.60} with and without a quote before "
            "it; accepted is one of the two"
        )
    return [quoted.get(cell, cell) for cell in cells]


def column(path: Path, columns: dict[str, Sequence[Any]], name: str) -> Sequence[Any]:
    """Return a column, which must be there."""
    if name not in columns:
        known = ", ".join(map(repr, columns))
        raise CommandError(f"{path} has no column {name!r:.60}; it has {known:.500}")
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
    except (TypeError, ValueError, ArithmeticError):
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
        columns = read_columns(path, [*inputs, *outputs, *([] if task is None else [task])])
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
