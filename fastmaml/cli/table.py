"""Files of rows, CSV or Parquet: their columns as numbers and labels, and so as a `TaskTable`."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import TaskTable
from .common import CommandError, require

__all__ = ["read_tasks"]


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


def read_tasks(
    path: Path, task: str | None, inputs: Sequence[str], outputs: Sequence[str]
) -> TaskTable:
    """Read a CSV or Parquet file; without outputs, y has no columns.

    `task` None: all rows are one task.
    """
    columns = read_columns(path)
    x = numbers(path, columns, inputs)
    if not len(x):
        raise CommandError(f"{path} has no rows; accepted are one or more")
    y = numbers(path, columns, outputs) if outputs else None
    try:
        return TaskTable.from_rows(x, y, None if task is None else labels(path, columns, task))
    except (TypeError, ValueError) as error:
        raise CommandError(f"{path}, rows counted from 0: {error}") from error
