"""The columns of a file, CSV or Parquet: as numbers, as text, and where each row is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import FLOAT64
from ..datasets import label_text
from ..datasets.labels import is_missing
from .common import CommandError
from .csvfile import Format, no_column, read_csv
from .parquet import is_parquet, read_parquet

__all__ = ["Sheet", "number_reader", "read_sheet"]

#: how files write that a number is missing, in lower case
MISSING_NUMBERS = ("", "na", "n/a", "nan", "null", "none")

#: and a text, which may well be none: only as programs write it
MISSING_TEXTS = ("", "NA", "N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "null", "None")


class Sheet(NamedTuple):
    """The columns of a file: text of CSV, values of Parquet."""

    path: Path
    columns: dict[str, Sequence[Any]]
    n_rows: int
    lines: Sequence[int] | None  # of each row of a CSV file, from 1
    form: Format

    def column(self, name: str) -> Sequence[Any]:
        """Return a column, which must be there."""
        if name not in self.columns:
            raise no_column(self.path, name, list(self.columns))
        return self.columns[name]

    def where(self, row: int) -> str:
        """Where a row is, in the terms of the file."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"

    def error(self, name: str, row: int, accepted: str) -> CommandError:
        """The error for a cell."""
        value = self.columns[name][row]
        return CommandError(
            f"{self.path}, column {name!r:.60}, {self.where(row)}, holds {value!r:.60}; "
            f"accepted are {accepted}"
        )

    def numbers(self, name: str, drop: bool, dtype: np.dtype[Any] = FLOAT64) -> np.ndarray:
        """Return a column as float64 numbers, with `drop` NaN where one is missing.

        All others are finite in `dtype`, too.

        Raises
        ------
        CommandError
            For a cell that is no finite number, and without `drop` for a missing one.
        """
        read = number_reader(self.form)
        cells = self.column(name)
        values = np.array([read(cell) for cell in cells], dtype=np.float64)
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(dtype))
        for row in np.flatnonzero(~finite).tolist():
            gone = missing_number(cells[row])
            if not (gone and drop):
                hint = ' (missing = "drop" leaves such rows out)' if gone else ""
                raise self.error(name, row, f"finite {dtype} numbers{hint}")
        return values

    def texts(self, name: str, drop: bool, what: str) -> list[str | None]:
        """Return a column of categories as text, with `drop` None where one is missing."""
        return [None if gone else label_text(cell) for cell, gone in self._cells(name, drop, what)]

    def labels(self, name: str, drop: bool) -> list[Any]:
        """Return a column that says whose each row is, with `drop` None where that is missing."""
        what = "names of tasks, text or numbers"
        return [None if gone else cell for cell, gone in self._cells(name, drop, what)]

    def _cells(self, name: str, drop: bool, what: str) -> list[tuple[Any, bool]]:
        found = []
        for row, cell in enumerate(self.column(name)):
            gone = missing_text(cell)
            if isinstance(cell, list | dict | set) or (gone and not drop):
                hint = ' (missing = "drop" leaves such rows out)' if gone else ""
                raise self.error(name, row, what + hint)
            found.append((cell, gone))
        return found


def read_sheet(
    path: Path, wanted: Sequence[str], form: Format, optional: Sequence[str] = (), fewest: int = 1
) -> Sheet:
    """Read a file; of Parquet no column is read but those that are wanted, or may be there.

    Raises
    ------
    CommandError
        For a file that cannot be read, has two columns of a name, or has fewer rows than `fewest`,
        1 or 0.
    """
    lines: list[int] | None = None
    if is_parquet(path):
        names, columns = read_parquet(path, [*wanted, *optional])
    else:
        table = read_csv(path, form)
        names, lines = table.names, table.lines
        columns = [[row[i] for row in table.rows] for i in range(len(names))]
    for name, count in Counter(names).items():
        if name and count > 1:  # tables of notes may have several columns without a name
            raise CommandError(f"{path} has {count} columns {name!r:.60}; accepted is one")
    by_name = dict(zip(names, columns, strict=True))
    for name in wanted:
        if name not in by_name:
            raise no_column(path, name, names)
    n_rows = max(map(len, columns), default=0)
    if n_rows < fewest:
        raise CommandError(f"{path} has no rows; accepted are one or more")
    return Sheet(path, by_name, n_rows, lines, form)


# ---- numbers


def missing_number(cell: Any) -> bool:
    """Whether a cell says that its number is missing."""
    if isinstance(cell, str):
        return cell.strip(" \t").lower() in MISSING_NUMBERS
    return is_missing(cell)


def missing_text(cell: Any) -> bool:
    """Whether a cell says that its category, or the name of its task, is missing."""
    return is_missing(cell) or (isinstance(cell, str) and cell.strip() in MISSING_TEXTS)


@lru_cache
def number_reader(form: Format) -> Callable[[Any], float]:
    """Return what reads a cell as a number; NaN for anything else.

    Python reads more texts as numbers than a table means: ``1_5``, digits of other scripts,
    ``infinity``. Those are none here.
    """
    digits = r"\d+"
    if form.thousands:
        digits = rf"(?:\d{{1,3}}(?:{re.escape(form.thousands)}\d{{3}})+|\d+)"
    mark = re.escape(form.decimal)
    number = rf"[ \t]*([-+]?(?:{digits}(?:{mark}\d*)?|{mark}\d+)(?:[eE][-+]?\d+)?)[ \t]*"
    fits = re.compile(number, re.ASCII).fullmatch

    def read(cell: Any) -> float:
        if isinstance(cell, str):
            match = fits(cell)
            if not match:
                return np.nan
            text = match[1]
            if form.thousands:
                text = text.replace(form.thousands, "")
            return float(text.replace(form.decimal, "."))
        if isinstance(cell, Real | Decimal):
            try:
                return float(cell)
            except (ArithmeticError, ValueError):  # an integer too large, a signalling NaN
                return np.nan
        return np.nan

    return read
