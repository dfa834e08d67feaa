"""Files of rows as a `TaskTable`: which columns mean what, and categories as columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import FLOAT64, as_choice
from ..datasets import TaskTable
from ..datasets.labels import MISSING
from ..datasets.table import SHORT_TASKS
from .common import CommandError, aloud, meant, say
from .csvfile import Format, as_format
from .sheet import Sheet, read_sheet

__all__ = [
    "LAYOUT_KEYS", "Layout", "as_layout", "encoded_names", "read_tasks", "say_of_missing",
    "tasks_of",
]  # fmt: skip

#: what [tasks] says of a file's columns and cells
LAYOUT_KEYS = ("task", "inputs", "outputs", "categorical", "missing", "short_tasks",
               *Format._fields)  # fmt: skip


class Layout(NamedTuple):
    """How to read a file of rows."""

    task: tuple[str, ...]  # columns that say together whose a row is; none: all are one task's
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    categorical: tuple[str, ...] = ()  # those inputs that are categories
    missing: str = "error"
    short_tasks: str = "error"
    form: Format = Format()
    dtype: np.dtype[Any] = FLOAT64  # in which numbers must be finite

    @property
    def drop(self) -> bool:
        """Whether rows with missing cells are left out."""
        return self.missing == "drop"

    def columns(self) -> list[str]:
        """The columns that are read."""
        return [*self.task, *self.inputs, *self.outputs]


def as_layout(table: Mapping[str, Any]) -> Layout:
    """Return the layout that [tasks] describes.

    Raises
    ------
    CommandError
        For what is missing or not accepted.
    """
    task = table.get("task")
    sides: dict[str, Any] = {"task": [task] if isinstance(task, str) else task}
    sides |= {name: table.get(name) for name in ("inputs", "outputs")}
    sides["categorical"] = table.get("categorical", [])
    for name, given in sides.items():
        texts = isinstance(given, list) and all(isinstance(entry, str) for entry in given)
        if not texts or not (given or name == "categorical"):
            accepted = "the name of a column, or a list" if name == "task" else "a list of names"
            shown = f"[tasks] {name} is {table.get(name)!r:.200}"
            raise CommandError(f"{shown}; accepted is {accepted}")
    used = [*sides["task"], *sides["inputs"], *sides["outputs"]]
    for name in used:
        if used.count(name) > 1:
            raise CommandError(f"[tasks] names column {name!r} twice; accepted is once")
    for name in sides["categorical"]:
        if name not in sides["inputs"]:
            raise CommandError(
                f"[tasks] categorical has {name!r}; accepted are columns that inputs has"
                f"{meant(name, sides['inputs'])}"
            )
    choices = {"missing": MISSING, "short_tasks": SHORT_TASKS}
    try:
        chosen = {n: as_choice(n, table.get(n, "error"), choices[n]) for n in choices}
    except (TypeError, ValueError) as error:
        raise CommandError(f"[tasks] {error}") from error
    form = as_format({n: table[n] for n in Format._fields if n in table}, "[tasks] ")
    columns: dict[str, Any] = {name: tuple(given) for name, given in sides.items()}
    missing, short = chosen["missing"], chosen["short_tasks"]
    return Layout(**columns, missing=missing, short_tasks=short, form=form)


# ---- categories


Categories = Mapping[str, Sequence[str]]


def categories_of(sheet: Sheet, layout: Layout) -> dict[str, list[str]]:
    """Return the categories of each categorical column, in order."""
    found = {}
    for name in layout.categorical:
        texts = sheet.texts(name, layout.drop, "categories, text or numbers")
        found[name] = sorted({text for text in texts if text is not None})
    return found


def encoded_names(layout: Layout, categories: Categories) -> list[str]:
    """Return the names of the columns of x: a category has one of its own, such as plant=A."""
    names: list[str] = []
    for name in layout.inputs:
        several = name in layout.categorical
        names += [f"{name}={category}" for category in categories[name]] if several else [name]
    return names


def inputs_of(sheet: Sheet, layout: Layout, categories: Categories) -> np.ndarray:
    """Return x (rows, columns), with NaN where a cell is missing."""
    blocks = []
    for name in layout.inputs:
        if name not in layout.categorical:
            blocks.append(sheet.numbers(name, layout.drop, layout.dtype)[:, None])
            continue
        texts = sheet.texts(name, layout.drop, "categories, text or numbers")
        place = {category: i for i, category in enumerate(categories[name])}
        for row, text in enumerate(texts):
            if text is not None and text not in place:
                known = ", ".join(map(repr, place))
                raise sheet.error(name, row, f"the categories of the training, {known:.300}")
        code = np.array([-1 if text is None else place[text] for text in texts])
        block = np.zeros((len(texts), len(place)))
        block[code >= 0, code[code >= 0]] = 1.0
        block[code < 0] = np.nan
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


# ---- tables


def read_tasks(
    path: Path, layout: Layout, categories: Categories | None = None
) -> tuple[TaskTable, dict[str, Sequence[str]]]:
    """Return the rows of a file as tasks, and the categories; by default those that it has.

    Rows of a task are in an order of their own, whatever that in the file. So nothing that is
    computed depends on how the file is sorted.

    Raises
    ------
    CommandError
        For a file or cells that are not accepted, and if no row is left.
    """
    sheet = read_sheet(path, layout.columns(), layout.form)
    known = categories_of(sheet, layout) if categories is None else categories
    table = tasks_of(sheet, layout, known)
    say_of_missing(sheet, table, "left out")
    keys = (*table.y.T[::-1], *table.x.T[::-1])
    owner = np.repeat(np.arange(table.n_tasks), table.n_rows)
    order = np.lexsort((*keys, owner))
    rows = table.x[order], table.y[order], table.offsets, table.names, table.order[order]
    return TaskTable(*rows), dict(known)


def tasks_of(sheet: Sheet, layout: Layout, categories: Categories) -> TaskTable:
    """Return a sheet as tasks, rows in the order of the file; without outputs, y has no columns."""
    x = inputs_of(sheet, layout, categories)
    y = np.empty((sheet.n_rows, 0))
    if layout.outputs:
        columns = [sheet.numbers(name, layout.drop, layout.dtype) for name in layout.outputs]
        y = np.stack(columns, axis=1)
    frame: dict[Any, Any] = {name: sheet.labels(name, layout.drop) for name in layout.task}
    gone = np.isnan(x).any(axis=1) | np.isnan(y).any(axis=1)
    for labels in frame.values():
        gone |= [label is None for label in labels]
    if gone.all():
        raise CommandError(f"{sheet.path} has a missing cell in every row; accepted are whole rows")
    task = list(frame) if len(layout.task) > 1 else next(iter(frame), None)
    frame |= dict(enumerate([*x.T, *y.T]))
    sides = [*range(x.shape[1])], [*range(x.shape[1], x.shape[1] + y.shape[1])]
    try:
        with aloud():
            return TaskTable.from_frame(
                frame, task, *sides, missing=layout.missing, short_tasks=layout.short_tasks
            )
    except (TypeError, ValueError) as error:
        raise CommandError(f"{sheet.path}, rows counted from 0: {error}") from error


def say_of_missing(sheet: Sheet, table: TaskTable, what: str) -> None:
    """Say how many rows of a sheet are not in the table, and `what` they are."""
    n = sheet.n_rows - len(table.x)
    if n:
        say(f"warning: of {sheet.path}, {n} of {sheet.n_rows} rows miss a cell and are {what}")
