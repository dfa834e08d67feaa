"""Files of rows, CSV or Parquet: their columns as numbers and labels, and so as a `TaskTable`."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import TaskTable
from .common import CommandError, require

__all__ = ["guarded", "read_tasks"]


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
    """Refuse a file whose columns would take far more memory than the file has bytes.

    The sizes are those of groups of rows. What the file says of each column is left alone: where it
    is damaged, pyarrow ends the process.
    """
    from pyarrow.types import is_nested

    for name in read:  # lists have more values than rows
        kind = source.schema_arrow.field(name).type
        if is_nested(getattr(kind, "storage_type", kind)):
            raise CommandError(
                f"{path}, column {name!r:.60}, holds {kind!s:.60}; accepted are numbers and texts"
            )
    size, metadata = path.stat().st_size, source.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_values = len(read) * sum(group.num_rows for group in groups)
    n_bytes = sum(group.total_byte_size for group in groups)
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


def numbers(
    path: Path, columns: dict[str, Sequence[Any]], names: Sequence[str], dtype: Any = np.float64
) -> np.ndarray:
    """Return columns as a float64 array (rows, columns) of numbers that are finite in `dtype`."""
    arrays = []
    for name in names:
        values = column(path, columns, name)
        array = np.array([_number(value) for value in values])
        with np.errstate(over="ignore"):
            finite = np.isfinite(array.astype(dtype))
        if not finite.all():
            row = int(np.argmin(finite))
            accepted = f"finite {np.dtype(dtype)} numbers"
            raise _cell_error(path, name, row, values[row], accepted)
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


def read_tasks(
    path: Path,
    task: str | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dtype: Any = np.float64,
) -> TaskTable:
    """Read a CSV or Parquet file; without outputs, y has no columns.

    `task` None: all rows are one task. `dtype` is what the numbers will be used in.
    """
    columns = read_columns(path, [*inputs, *outputs, *([] if task is None else [task])])
    x = numbers(path, columns, inputs, dtype)
    if not len(x):
        raise CommandError(f"{path} has no rows; accepted are one or more")
    y = numbers(path, columns, outputs, dtype) if outputs else None
    try:
        return TaskTable.from_rows(x, y, None if task is None else labels(path, columns, task))
    except (TypeError, ValueError) as error:
        raise CommandError(f"{path}, rows counted from 0: {error}") from error
