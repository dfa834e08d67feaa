"""``fastmaml adapt``: adapt to the rows of a table, and predict other rows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..closed_form import BayesianLastLayer
from ..datasets import TaskTable, label_text
from ..datasets.labels import list_some
from ..divergence import named_tasks
from ..saving import predicted
from . import runs
from .common import CommandError, count, say, write
from .config import Learner
from .csvfile import Format, as_format, csv_text
from .held import require_finite
from .parquet import is_parquet, require_parquet, write_parquet
from .sheet import Sheet, read_sheet
from .table import Layout, say_of_missing, tasks_of

__all__ = ["add", "add_layout", "layout_of"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    text = "adapt to the rows of a table, and predict other rows"
    parser = runs.add_command(commands, "adapt", _adapt, text)
    runs.add_folder(parser)
    parser.add_argument("support", type=Path, help="CSV or Parquet with inputs and outputs")
    parser.add_argument("new", type=Path, help="CSV or Parquet with inputs to predict at")
    parser.add_argument("--steps", type=count(0), metavar="N", help="inner steps of a MAML")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="CSV or Parquet (default: standard output)"
    )
    add_layout(parser)
    runs.add_last(parser)


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how files of rows are read."""
    parser.add_argument(
        "--task", action="append", metavar="COLUMN",
        help="says whose a row is; may be given several times (default: the configuration's, if "
        "the support has it; else all rows are of one task)",
    )  # fmt: skip
    group = parser.add_argument_group("how the files are written (default: as in training)")
    group.add_argument("--missing", choices=("error", "drop"), help="rows with missing cells")
    for name in Format._fields:
        group.add_argument(f"--{name}", metavar="TEXT")


def _adapt(arguments: argparse.Namespace) -> None:
    run = runs.read_run(arguments.folder)
    what = runs.trained(run, arguments.last)
    if arguments.steps is not None:
        what = what._replace(objective=runs.with_steps(what.objective, arguments.steps))
    if arguments.out is not None and is_parquet(arguments.out):
        require_parquet(arguments.out)
    layout = layout_of(arguments, run.learner, what)
    categories = {} if run.record is None else run.record.categories
    # Of a head, the prior predicts tasks without support rows.
    fewest = 0 if isinstance(what.objective, BayesianLastLayer) else 1
    support_sheet = _read(arguments.support, [*layout.inputs, *layout.outputs], layout, fewest)
    new_sheet = _read(arguments.new, layout.inputs, layout)
    task = _task(layout.task, support_sheet, new_sheet, arguments.task is not None)
    named = bool(task) and all(name in new_sheet.columns for name in task)
    support = _support(support_sheet, layout._replace(task=task), categories, what, named)
    new_layout = layout._replace(task=task if named else (), outputs=())
    new = tasks_of(new_sheet, new_layout, categories)
    say_of_missing(support_sheet, support, "left out")
    say_of_missing(new_sheet, new, "not predicted")
    if named:
        support = _of_tasks(support, new.names, support_sheet.path, new_sheet.path, fewest)
    columns = _columns(new_sheet, layout, support, task, named)
    # Without names in the new file, all its rows are predicted for each task.
    for sheet, table in ((support_sheet, support), (new_sheet, new)):
        require_finite(sheet.path, table, what.scaling, what.theta.dtype)
    x_new = new.by_task(new.x) if named else [new.x] * support.n_tasks
    starts = [0] if named else new_sheet.n_rows * np.arange(support.n_tasks)[:, None]
    kinds = ["predicted", "std"] if what.has_std else ["predicted"]
    written = [f"{name}_{kind}" for kind in kinds for name in layout.outputs]
    results = np.full((len(columns[0][1]), len(written)), np.nan)
    results[(new.order + starts).reshape(-1)] = np.concatenate(_predict(what, support, x_new))
    for name, column in zip(written, results.T, strict=True):
        columns.append((name, [None if v != v else v for v in column.tolist()]))
    _write(arguments.out, columns)


def layout_of(arguments: argparse.Namespace, learner: Learner, what: runs.Trained) -> Layout:
    """How the files are to be read: as in training, but for what the command line says."""
    layout = learner.layout or Layout((), tuple(learner.inputs), tuple(learner.outputs))
    given = {name: getattr(arguments, name) for name in Format._fields}
    changed = {name: text for name, text in given.items() if text is not None}
    form = as_format({**layout.form._asdict(), **changed}, "--")
    dtype = what.theta.dtype if what.scaling is None else layout.dtype
    task = layout.task if arguments.task is None else tuple(dict.fromkeys(arguments.task))
    missing = arguments.missing or layout.missing
    # A task of which no row is whole has no prediction, which is said of its rows.
    return layout._replace(form=form, missing=missing, dtype=dtype, task=task, short_tasks="drop")


def _read(path: Path, wanted: Sequence[str], layout: Layout, fewest: int = 1) -> Sheet:
    """Read a file, with the columns that name tasks if it has them."""
    return read_sheet(path, wanted, layout.form, layout.task, fewest)


def _task(names: tuple[str, ...], support: Sheet, new: Sheet, asked: bool) -> tuple[str, ...]:
    """The columns that name tasks; none if the support has none, unless they were asked for."""
    for name in names if asked else ():
        support.column(name)
    if all(name in support.columns for name in names):
        return names
    if there := [name for name in names if name in new.columns]:
        raise CommandError(
            f"{new.path} has the column {there[0]!r}, which says whose a row is, {support.path} "
            "has not; accepted are both with it, neither, and the support alone"
        )
    return ()


def _support(
    sheet: Sheet, layout: Layout, categories: Mapping[str, Sequence[str]], what: runs.Trained,
    named: bool,
) -> TaskTable:  # fmt: skip
    """The support rows as tasks; a file without rows is one task, or none if rows have names."""
    if sheet.n_rows:
        return tasks_of(sheet, layout, categories)
    if layout.task and not named:
        raise CommandError(
            f"{sheet.path} has no rows, so it names no task; accepted are rows, and both files "
            "with or without a column of the task"
        )
    model, names = what.objective.model, () if named else ("all",)
    none = np.zeros(len(names) + 1, np.intp)
    x, y = np.empty((0, model.n_inputs)), np.empty((0, model.n_outputs))
    return TaskTable(x, y, none, names, np.empty(0, np.intp))


def _of_tasks(
    support: TaskTable, names: Sequence[Any], where: Path, new: Path, fewest: int
) -> TaskTable:
    """The support rows of some tasks, none of those that it has not."""
    # By their texts, as the one file may be CSV, the other Parquet with integers.
    place = {label_text(name): i for i, name in enumerate(support.names)}
    missing = [name for name in names if label_text(name) not in place]
    if missing and fewest:
        raise CommandError(f"{new} has task {missing[0]!r}, {where} has not")
    if missing:
        say(
            f"warning: of {new}, {len(missing)} of {len(names)} tasks have no rows in {where}, and "
            f"the prior predicts them: {list_some([repr(name) for name in missing])}"
        )
    at = [place.get(label_text(name), -1) for name in names]
    rows = [range(*support.offsets[i : i + 2]) if i >= 0 else range(0) for i in at]
    order = np.array([row for task in rows for row in task], np.intp)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.intp)
    return TaskTable(
        support.x[order], support.y[order], offsets, tuple(names), support.order[order]
    )


def _predict(what: runs.Trained, support: TaskTable, x_new: list[np.ndarray]) -> list[np.ndarray]:
    """Adapt to each task and predict its new rows, all in the user's units.

    The columns are the outputs, and then their standard deviations if there are some.
    """
    x, y = support.by_task(support.x), support.by_task(support.y)
    with named_tasks(support.names):
        if not what.has_std:
            return list(predicted(*what, x, y, x_new))
        pairs = zip(*predicted(*what, x, y, x_new, True), strict=True)
        return [np.hstack(pair) for pair in pairs]


Columns = list[tuple[str, list[Any]]]


def _columns(
    sheet: Sheet, layout: Layout, support: TaskTable, task: tuple[str, ...], named: bool
) -> Columns:
    """The columns of the result but for the predictions: whose each row is, and the inputs."""
    columns: Columns = []
    for name in layout.inputs:
        if name in layout.categorical:
            cells = sheet.texts(name, True, "categories")
        else:
            cells = [None if v != v else v for v in sheet.numbers(name, True).tolist()]
        columns.append((name, list(cells)))
    if named:
        return [(name, sheet.labels(name, True)) for name in task] + columns
    n = support.n_tasks
    whose = [support.names[i] for i in np.repeat(np.arange(n), sheet.n_rows).tolist()]
    labels = [[name[i] for name in whose] if len(task) > 1 else whose for i in range(len(task))]
    return [*zip(task, labels, strict=True), *((name, cells * n) for name, cells in columns)]


def _write(path: Path | None, columns: Columns) -> None:
    names, cells = [name for name, _ in columns], [column for _, column in columns]
    if path is not None and is_parquet(path):
        write(path, lambda file: write_parquet(file, dict(columns)))
        return
    text = csv_text(names, zip(*cells, strict=True))
    if path is None:
        sys.stdout.write(text)
    else:
        write(path, lambda file: file.write(text.encode()))
