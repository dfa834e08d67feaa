"""What a table seems to be: how a file is written, what names its tasks, what is in and out."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..datasets import label_text
from ..files import open_file
from .common import CommandError
from .csvfile import DELIMITERS, Format
from .sheet import Sheet, missing_number, missing_text, number_reader

__all__ = ["Guess", "guessed", "guessed_format"]

#: a column of text with up to so many different ones, if it does not name tasks, is a category
CATEGORIES = 20
#: rows of a task, at least and on average, for a column to name tasks
ROWS_PER_TASK = 3
#: names that a column of tasks often has
TASK_NAMES = re.compile(
    r"(?i)(^|[^a-z])(device|unit|subject|patient|person|participant|group|task|id|sensor|user|"
    r"animal|plant|site|station|serial|machine|sample|batch|lot|country|school|tree|cell)([^a-z]|$)"
)
#: and one of outputs
OUTPUT_NAMES = re.compile(r"(?i)^(y|target|output|response|label|outcome)\d*$")

SAMPLE = 100_000  # characters of a CSV file to guess its format from


class Guess(NamedTuple):
    """What the columns of a table seem to be."""

    task: str
    inputs: list[str]
    categorical: dict[str, int]  # and how many categories each has
    outputs: list[str]
    others: list[str]
    missing: bool
    counts: list[int]  # rows of each task that have all cells


# ---- how a CSV file is written


def guessed_format(path: Path) -> Format:
    """Return the format that the beginning of a CSV file seems to have."""
    with open_file(path) as file:
        content = file.read(SAMPLE)
    encoding = "utf-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        try:
            content[:-4].decode(encoding)  # which may end within a character
        except UnicodeDecodeError as error:
            if error.start < len(content) - 8:
                encoding = "cp1252"
    lines = content.decode(encoding, "replace").splitlines()
    whole = [line for line in lines if line.strip()]
    if len(content) == SAMPLE:
        whole = whole[:-1]
    lines = [re.sub(r'"[^"]*"', "", line) for line in whole]
    regular = [
        mark for mark in DELIMITERS
        if lines and lines[0].count(mark) and len({line.count(mark) for line in lines[:50]}) == 1
    ]  # fmt: skip
    counted = regular or [mark for mark in DELIMITERS if lines and mark in lines[0]]
    delimiter = max(counted, key=lambda m: lines[0].count(m), default=",")
    return Format(delimiter, *_guessed_marks(whole, delimiter), encoding)


def _guessed_marks(lines: Sequence[str], delimiter: str) -> tuple[str, str]:
    """The decimal mark and that of thousands with which the most cells are numbers."""
    try:
        rows = list(csv.reader(lines[1:], delimiter=delimiter))  # no comma of a name
    except csv.Error:  # which reading it names
        return ".", ""
    cells = [cell.strip() for row in rows for cell in row]

    def numbers(marks: tuple[str, str]) -> int:
        decimal, thousands = map(re.escape, marks)
        whole = rf"\d*|[1-9]\d{{0,2}}(?:{thousands}\d{{3}})+" if thousands else r"\d*"
        fits = re.compile(rf"[-+]?(?:{whole})(?:{decimal}\d*)?", re.ASCII).fullmatch
        return sum(bool(fits(cell)) for cell in cells)

    # Of 1,234 nobody knows; where the comma parts cells, it is seldom that of a decimal.
    choices = [(".", ""), (",", ""), (".", ","), (",", ".")]
    if delimiter == ",":
        choices[1:3] = choices[2:0:-1]
    return max(choices, key=numbers)


# ---- what the columns are


class _Column(NamedTuple):
    number: bool
    whole: bool  # numbers without a fraction
    missing: np.ndarray  # (rows,)
    distinct: list[str]


def guessed(sheet: Sheet) -> Guess:
    """Return what the columns seem to be.

    Raises
    ------
    CommandError
        If none can name tasks, or no number is left to predict.
    """
    columns = {
        name: _column(sheet, name) for name, cells in sheet.columns.items() if name and len(cells)
    }
    task = _guessed_task(columns, sheet)
    used = {name: c for name, c in columns.items() if name != task and len(c.distinct) > 1}
    numbers = [name for name, c in used.items() if c.number and not _counts_rows(c, sheet)]
    if not numbers:
        raise CommandError(f"{sheet.path} has no column of numbers that vary; accepted is one")
    named = [name for name in numbers if OUTPUT_NAMES.search(name)]
    outputs = named or numbers[-1:]
    categorical = {
        name: len(c.distinct) for name, c in used.items()
        if not c.number and len(c.distinct) <= CATEGORIES
    }  # fmt: skip
    inputs = [n for n in used if (n in numbers and n not in outputs) or n in categorical]
    if not inputs:
        raise CommandError(f"{sheet.path} has no column beside {outputs[0]!r} to predict it from")
    others = [name for name in columns if name not in (task, *inputs, *outputs)]
    gone = np.any([columns[n].missing for n in (task, *inputs, *outputs)], axis=0)
    counts: dict[str, int] = {}
    for cell, lone, whole in zip(sheet.columns[task], columns[task].missing, ~gone, strict=True):
        if not lone:
            counts[label_text(cell)] = counts.get(label_text(cell), 0) + int(whole)
    found = list(counts.values())
    return Guess(task, inputs, categorical, outputs, others, bool(gone.any()), found)


def _column(sheet: Sheet, name: str) -> _Column:
    read = number_reader(sheet.form)
    cells = sheet.columns[name]
    values = np.array([read(cell) for cell in cells])
    gone = np.array([missing_number(cell) for cell in cells])
    number = bool((np.isfinite(values) | gone).all() and not gone.all())
    if not number:
        gone = np.array([missing_text(cell) for cell in cells])
    try:
        known = values.tolist() if number else cells
        there = [cell for cell, missing in zip(known, gone.tolist(), strict=True) if not missing]
        distinct = sorted({label_text(cell) for cell in there})
    except TypeError:  # lists, say
        distinct = []
    whole = number and bool((np.mod(values[~gone], 1) == 0).all())
    return _Column(number, whole, gone, distinct)


def _guessed_task(columns: dict[str, _Column], sheet: Sheet) -> str:
    """The text, or the integers, with the most different values of several rows each."""

    def fits(column: _Column) -> bool:
        n_rows = int(np.count_nonzero(~column.missing))
        several = 1 < len(column.distinct) <= n_rows / ROWS_PER_TASK
        return several and (column.whole or not column.number)

    fitting = {name: column for name, column in columns.items() if fits(column)}
    if not fitting:
        raise CommandError(
            f"{sheet.path} has no column that says whose a row is, with {ROWS_PER_TASK} rows for "
            "each; accepted are tables with one"
        )

    def rank(name: str) -> tuple[bool, bool, int]:
        column = fitting[name]
        return bool(TASK_NAMES.search(name)), not column.number, len(column.distinct)

    return max(fitting, key=rank)


def _counts_rows(column: _Column, sheet: Sheet) -> bool:
    """Whether a column is the numbers of the rows, which say nothing."""
    if not column.whole or len(column.distinct) != sheet.n_rows:
        return False
    numbers = [float(text) for text in column.distinct]
    return max(numbers) - min(numbers) == sheet.n_rows - 1
