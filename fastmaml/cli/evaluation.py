"""``fastmaml evaluate``: the error on tasks that the training never saw, in the user's units."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import experiments
from ..datasets import Tasks
from ..divergence import DivergenceWarning, named_tasks
from ..experiments import error_text
from . import config, runs
from .common import CommandError, count, say
from .held import Tables

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = runs.add_command(
        commands, "evaluate", _evaluate, "print the error on tasks that the training never saw"
    )
    runs.add_folder(parser)
    parser.add_argument(
        "--steps", type=count(0), nargs="+", metavar="N", help="numbers of inner steps to compare"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="where the table is now, or another of new tasks"
    )
    runs.add_last(parser)


def _evaluate(arguments: argparse.Namespace) -> None:
    before = runs.read_run(arguments.folder)
    configuration = config.with_data(before.configuration, arguments.data)
    run = config.build(configuration, before.record, training=False)
    what = runs.trained(before, arguments.last)
    _say_of_changes(run)
    tasks, names = run.test_tasks(experiments.N_TEST_POINTS)
    steps = arguments.steps or sorted({0, what.maml.steps})
    mamls = [runs.with_steps(what.maml, s) for s in steps]
    judged = [_judged(what._replace(maml=maml), tasks, names) for maml in mamls]
    n_query = sorted({len(y) for y in _query(tasks)[1]})
    n_support = sorted({len(y) for y in tasks.y})
    print(
        f"Error on {len(tasks.y)} held-out tasks, {_span(n_support)} rows to adapt to, "
        f"{_span(n_query)} to judge by, {run.dtype}"
    )
    truth = [np.asarray(y, np.float64) for y in _query(tasks)[1]]
    for i, output in enumerate(run.outputs):
        rows = [_score(truth, each, i) for each in judged]
        print(f"\n{output}")
        print(_table(steps, rows))
    diverged = [each.message for each in judged if each.message]
    if diverged:
        raise CommandError(diverged[0])


def _say_of_changes(run: config.Run) -> None:
    if not run.changes:
        return
    assert isinstance(run.source, Tables)
    parts = run.source.parts
    if parts.test.n_tasks and not parts.training.n_tasks + parts.validation.n_tasks:
        say("the table has no task of the training: all are tested on")
    else:
        say(
            f"warning: the table is not what it was: {run.changes}. Tested is on those that were "
            "held out, and on no other"
        )


def _span(numbers: Sequence[int]) -> str:
    low, high = numbers[0], numbers[-1]
    return f"{low}" if low == high else f"{low} to {high}"


def _query(tasks: Tasks) -> tuple[Any, Any]:
    return (tasks.x, tasks.y) if tasks.x_query is None else (tasks.x_query, tasks.y_query)


# ---- adapted, and compared


class _Judged(NamedTuple):
    """What is predicted for each task, NaN after a divergence, and what there is to say of it."""

    predicted: list[np.ndarray]
    message: str


def _judged(what: runs.Trained, tasks: Tasks, names: Sequence[Any] | None) -> _Judged:
    """Adapt to each task and predict its query rows."""
    x, y, x_new = tasks.x, tasks.y, _query(tasks)[0]
    scale = what.scaling
    if scale is not None:
        x, y, x_new = scale.scale_x(x), scale.scale_y(y), scale.scale_x(x_new)
    called = range(len(x)) if names is None else names
    with warnings.catch_warnings(record=True) as caught, named_tasks(called):
        warnings.simplefilter("always")
        adapted = what.maml.adapt(what.theta, x, y)
    predicted = []
    for theta, rows in zip(adapted, x_new, strict=True):
        if np.isfinite(theta).all():
            f = np.asarray(what.maml.model.predict(theta, rows), np.float64)
            predicted.append(f if scale is None else scale.unscale_y(f))
        else:
            predicted.append(np.full((len(rows), what.maml.model.n_outputs), np.nan))
    found = [str(w.message) for w in caught if issubclass(w.category, DivergenceWarning)]
    return _Judged(predicted, found[0] if found else "")


class _Score(NamedTuple):
    """Errors of one output: each task's mean squared error counts once."""

    mean: float
    half_width: float  # of the mean's 95 % interval, normal approximation
    median: float
    r2: float  # of all rows


@np.errstate(over="ignore", invalid="ignore")
def _score(truth: list[np.ndarray], judged: _Judged, output: int) -> _Score:
    pairs = [(y[:, output], f[:, output]) for y, f in zip(truth, judged.predicted, strict=True)]
    errors = np.array([np.mean((f - y) ** 2) for y, f in pairs])
    errors[np.isnan(errors)] = np.inf
    all_y, all_f = (np.concatenate(side) for side in zip(*pairs, strict=True))
    total = float(((all_y - all_y.mean()) ** 2).sum())
    r2 = 1 - float(((all_f - all_y) ** 2).sum()) / total if total else math.nan
    half = 1.96 * errors.std(ddof=1) / math.sqrt(len(errors)) if len(errors) > 1 else math.nan
    return _Score(float(errors.mean()), float(half), float(np.median(errors)), r2)


def _table(steps: Sequence[int], rows: Sequence[_Score]) -> str:
    cells = [("steps", "mean squared error ± 95 %", "median", "root", "R²")]
    for step, score in zip(steps, rows, strict=True):
        mean = f"{error_text(score.mean)} ± {error_text(score.half_width)}"
        root = error_text(math.sqrt(score.mean))
        r2 = f"{score.r2:.4f}" if abs(score.r2) < 100 else f"{score.r2:.2g}"
        cells.append((f"{step}", mean, error_text(score.median), root, r2))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in cells
    )
