"""``fastmaml init``: a configuration to begin with, guessed from a table.

What is guessed is printed and stands in the file, to be put right there.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..datasets import label_text
from ..datasets.labels import is_missing
from ..learn import defaults
from . import runs
from .common import CommandError, write
from .csvfile import DELIMITERS, Format
from .parquet import flat_columns, is_parquet
from .sheet import Sheet, missing_number, number_reader, read_sheet

__all__ = ["add"]

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


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = runs.add_command(commands, "init", _init, "write a configuration to begin with")
    parser.add_argument("table", type=Path, help="CSV or Parquet: a row an observation")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the TOML file (default: the table's name, .toml)"
    )


class Guess(NamedTuple):
    """What the columns of a table seem to be."""

    task: str
    inputs: list[str]
    categorical: dict[str, int]  # and how many categories each has
    outputs: list[str]
    others: list[str]
    missing: bool
    counts: list[int]  # rows of each task that have all cells


def _init(arguments: argparse.Namespace) -> None:
    table: Path = arguments.table
    out: Path = arguments.out or table.with_suffix(".toml")
    if out.exists() or out.is_symlink():
        raise CommandError(f"{out} is there; accepted are new names: --out says another")
    form = Format() if is_parquet(table) else guessed_format(table)
    names = flat_columns(table) if is_parquet(table) else []
    sheet = read_sheet(table, names, form)
    guess = guessed(sheet)
    text = configuration(sheet, guess, out)
    write(out, lambda file: file.write(text.encode()))
    print(f"task      {guess.task} ({len(guess.counts)} tasks)")
    for kind, columns in (
        ("inputs", guess.inputs), ("of these categories", list(guess.categorical)),
        ("outputs", guess.outputs), ("not used", guess.others),
    ):  # fmt: skip
        if columns:
            print(f"{kind:<9} {', '.join(columns)}")
    print(f"These are guesses; {out} is the place to put them right. Then:")
    print(f"fastmaml train --config {out}")


# ---- how a CSV file is written


def guessed_format(path: Path) -> Format:
    """Return the format that the beginning of a CSV file seems to have."""
    with path.open("rb") as file:
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
    lines = [re.sub(r'"[^"]*"', "", line) for line in lines if line.strip()]
    if len(content) == SAMPLE:
        lines = lines[:-1]
    regular = [
        mark for mark in DELIMITERS
        if lines and lines[0].count(mark) and len({line.count(mark) for line in lines[:50]}) == 1
    ]  # fmt: skip
    counted = regular or [mark for mark in DELIMITERS if lines and mark in lines[0]]
    # A decimal comma is in the rows, not in the head.
    delimiter = max(counted, key=lambda m: lines[0].count(m), default=",")
    decimal = "."
    if delimiter != ",":
        cells = [cell.strip() for line in lines[1:] for cell in line.split(delimiter)]
        commas = sum(bool(re.fullmatch(r"[-+]?\d*,\d+", cell)) for cell in cells)
        points = sum(bool(re.fullmatch(r"[-+]?\d*\.\d+", cell)) for cell in cells)
        decimal = "," if commas > points else "."
    return Format(delimiter, decimal, "", encoding)


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
    whole = [label_text(sheet.columns[task][row]) for row in np.flatnonzero(~gone).tolist()]
    counts = dict.fromkeys(columns[task].distinct, 0)
    for name in whole:
        counts[name] += 1
    found = list(counts.values())
    return Guess(task, inputs, categorical, outputs, others, bool(gone.any()), found)


def _column(sheet: Sheet, name: str) -> _Column:
    read = number_reader(sheet.form)
    cells = sheet.columns[name]
    values = np.array([read(cell) for cell in cells])
    gone = np.array([missing_number(cell) for cell in cells])
    number = bool((np.isfinite(values) | gone).all() and not gone.all())
    if not number:
        gone = np.array([is_missing(cell) for cell in cells])
    try:
        there = [cell for cell, missing in zip(cells, gone.tolist(), strict=True) if not missing]
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


# ---- the file


def configuration(sheet: Sheet, guess: Guess, out: Path) -> str:
    """Return the text of a configuration, with comments."""
    short = sum(count < 2 for count in guess.counts)
    n = len(guess.counts) - short
    n_test = round(0.2 * n)
    n_validation = max(2, round(defaults.VALIDATION_FRACTION * n)) if n >= 10 else 0
    width = len(guess.inputs) - len(guess.categorical) + sum(guess.categorical.values())
    layers = [width, *defaults.HIDDEN_LAYER_SIZES, len(guess.outputs)]
    rates = [[defaults.INNER_LR] * (len(layers) - 1)] * defaults.STEPS
    every = max(1, min(defaults.CHECK_EVERY, defaults.ITERATIONS // 20))
    comment = {
        "file": "beside this file; a row an observation",
        "task": "the column that says whose a row is; or several, as a list",
        "categorical": "inputs that are categories: a column of 0 and 1 for each",
        "missing": 'rows with missing cells: "drop" leaves them out, "error" refuses them',
        "short_tasks": "tasks with too few rows, likewise",
        "delimiter": "how the file is written; also: thousands",
        "n_tasks": "of a meta-batch",
        "n_support": "share of a task's rows to adapt to, or a number; the others judge",
        "n_validation": "tasks held out to choose the best parameters by",
        "n_test": "tasks held out for fastmaml evaluate",
    }
    tasks: dict[str, Any] = {
        "file": _beside(sheet.path, out), "task": guess.task, "inputs": guess.inputs,
        "categorical": list(guess.categorical), "outputs": guess.outputs,
        "missing": "drop" if guess.missing else "error",
        "short_tasks": "drop" if short else "error",
    }  # fmt: skip
    plain = Format()._asdict()
    tasks |= {name: mark for name, mark in sheet.form._asdict().items() if mark != plain[name]}
    tasks |= {
        "n_tasks": max(min(defaults.META_BATCH, n - n_test - n_validation), 1), "n_support": 0.5,
        "n_validation": n_validation, "n_test": n_test,
    }  # fmt: skip
    if not guess.categorical:
        del tasks["categorical"]
    lines = [
        "# Written by fastmaml init. docs/cli.md says what else there is; what is guessed wrong,",
        "# put right here. The error of fastmaml evaluate is in the units of the table.",
        "",
        "[tasks]",
        *(_line(key, value, comment.get(key)) for key, value in tasks.items()),
    ]
    if guess.others:
        lines.append(f"# not used: {', '.join(map(_toml, guess.others))}")
    lines += [
        "",
        "[model]",
        "# first the number of inputs, where each category counts; last that of outputs",
        _line("layer_sizes", layers, None),
        _line("activation", defaults.ACTIVATION, None),
        "",
        "[maml]",
        _line("steps", defaults.STEPS, "of adaptation"),
        "# a rate for each step and layer, to start from",
        _line("inner_lr", rates, None),
        _line("loss", "mse", None),
        "task_mean = true",
        "",
        "[optimizer]",
        _line("name", "Adam", None),
        _line("learning_rate", defaults.LEARNING_RATE, None),
        "",
        "[rate_optimizer]                  # the inner rates are learned, too",
        _line("name", "Adam", None),
        _line("learning_rate", defaults.RATE_FACTOR * defaults.LEARNING_RATE, None),
        "",
        "[train]",
        _line("iterations", defaults.ITERATIONS, "at most"),
        "seed = 0",
        _line("clip_norm", defaults.CLIP_NORM, "longer gradients are scaled down"),
        *([
            _line("validate_every", every, None),
            _line("patience", defaults.PATIENCE, "validations without a new best end it"),
        ] if n_validation else ()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _beside(table: Path, out: Path) -> str:
    """The path of the table from the folder of the configuration."""
    try:
        return table.resolve().relative_to(out.parent.resolve()).as_posix()
    except ValueError:
        return table.resolve().as_posix()


def _line(key: str, value: Any, comment: str | None) -> str:
    line = f"{key} = {_toml(value)}"
    return line if comment is None else f"{line:<33} # {comment}"


def _toml(value: Any) -> str:
    if isinstance(value, str):  # TOML escapes as JSON does, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
