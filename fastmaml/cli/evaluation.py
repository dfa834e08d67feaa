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
from ..closed_form import BayesianLastLayer
from ..datasets import Tasks
from ..divergence import DivergenceWarning, named_tasks
from ..experiments import error_text
from ..maml import MAML
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
        "--steps", type=count(0), nargs="+", metavar="N",
        help="numbers of inner steps of a MAML to compare",
    )  # fmt: skip
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
    head, judged = _ways(what, arguments.steps, tasks, names)
    n_query = sorted({len(y) for y in _query(tasks)[1]})
    n_support = sorted({len(y) for y in tasks.y})
    print(
        f"Error on {len(tasks.y)} held-out tasks, {_span(n_support)} rows to adapt to, "
        f"{_span(n_query)} to judge by, {run.dtype}"
    )
    truth = [np.asarray(y, np.float64) for y in _query(tasks)[1]]
    for i, output in enumerate(run.outputs):
        rows = {way: _score(truth, each, i) for way, each in judged.items()}
        print(f"\n{output}")
        print(_table(head, rows))
    diverged = [each.message for each in judged.values() if each.message]
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
    std: list[np.ndarray] | None  # if the model says how sure it is
    message: str


def _ways(
    what: runs.Trained, steps: Sequence[int] | None, tasks: Tasks, names: Sequence[Any] | None
) -> tuple[str, dict[str, _Judged]]:
    """Adapt to each task and predict its query rows, in several ways; and what the ways are."""
    x, y, x_new = tasks.x, tasks.y, _query(tasks)[0]
    called = range(len(x)) if names is None else names
    if isinstance(what.objective, MAML):
        steps = steps or sorted({0, what.objective.steps})
    if steps:
        objectives = {f"{s}": runs.with_steps(what.objective, s) for s in steps}
        return "steps", {
            way: _judged(what._replace(objective=each), x, y, x_new, called)
            for way, each in objectives.items()
        }
    # Without a row to adapt to, the prior predicts.
    nothing = [rows[:0] for rows in x], [rows[:0] for rows in y]
    return "adapted", {
        "no": _judged(what, *nothing, x_new, called), "yes": _judged(what, x, y, x_new, called)
    }  # fmt: skip


def _judged(what: runs.Trained, x: Any, y: Any, x_new: Any, names: Sequence[Any]) -> _Judged:
    """Adapt to each task and predict its query rows."""
    objective, scale = what.objective, what.scaling
    if scale is not None:
        x, y, x_new = scale.scale_x(x), scale.scale_y(y), scale.scale_x(x_new)
    std: Any = None
    with warnings.catch_warnings(record=True) as caught, named_tasks(names):
        warnings.simplefilter("always")
        if isinstance(objective, BayesianLastLayer):
            f, std = objective.predict(what.theta, x, y, x_new, return_std=True)
        else:
            adapted = objective.adapt(what.theta, x, y)
            f = [
                objective.model.predict(theta, rows) if np.isfinite(theta).all()
                else np.full((len(rows), objective.model.n_outputs), np.nan)
                for theta, rows in zip(adapted, x_new, strict=True)
            ]  # fmt: skip
    f = [np.asarray(each, np.float64) for each in f]
    std = [np.asarray(each, np.float64) for each in std] if what.has_std else None
    if scale is not None:
        f = [scale.unscale_y(each) for each in f]
        std = std and [scale.unscale_std(each) for each in std]
    found = [str(w.message) for w in caught if issubclass(w.category, DivergenceWarning)]
    return _Judged(f, std, found[0] if found else "")


class _Score(NamedTuple):
    """Errors of one output: each task's mean squared error counts once."""

    mean: float
    half_width: float  # of the mean's 95 % interval, normal approximation
    median: float
    r2: float  # of all rows
    covered: float | None  # share of all rows within their 95 % interval


@np.errstate(over="ignore", invalid="ignore")
def _score(truth: list[np.ndarray], judged: _Judged, output: int) -> _Score:
    pairs = [(y[:, output], f[:, output]) for y, f in zip(truth, judged.predicted, strict=True)]
    errors = np.array([np.mean((f - y) ** 2) for y, f in pairs])
    errors[np.isnan(errors)] = np.inf
    all_y, all_f = (np.concatenate(side) for side in zip(*pairs, strict=True))
    total = float(((all_y - all_y.mean()) ** 2).sum())
    r2 = 1 - float(((all_f - all_y) ** 2).sum()) / total if total else math.nan
    half = 1.96 * errors.std(ddof=1) / math.sqrt(len(errors)) if len(errors) > 1 else math.nan
    covered = None
    if judged.std is not None:
        all_std = np.concatenate([std[:, output] for std in judged.std])
        covered = float(np.mean(np.abs(all_f - all_y) <= 1.96 * all_std))
    return _Score(float(errors.mean()), float(half), float(np.median(errors)), r2, covered)


def _table(head: str, rows: dict[str, _Score]) -> str:
    cells = [[head, "mean squared error ± 95 %", "median", "root", "R²"]]
    for way, score in rows.items():
        mean = f"{error_text(score.mean)} ± {error_text(score.half_width)}"
        root = error_text(math.sqrt(score.mean))
        r2 = f"{score.r2:.4f}" if abs(score.r2) < 100 else f"{score.r2:.2g}"
        cells.append([way, mean, error_text(score.median), root, r2])
    if any(score.covered is not None for score in rows.values()):
        cells[0].append("in 95 % interval")
        for line, score in zip(cells[1:], rows.values(), strict=True):
            line.append(f"{score.covered:.3f}")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in cells
    )
