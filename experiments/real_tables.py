"""Ours and others on real repeated measures: docs/real-data.md has the protocol and the results.

``python -m experiments.real_tables --out FOLDER`` goes through the tables of experiments.measures.
The tasks of each are dealt into four folds; every contender of experiments.real_contenders learns
from three of them and predicts the tasks of the fourth from their support rows. ``FOLDER`` gets a
JSON file a table, fold and contender; one that is there is not made again. Printed are the tables
in Markdown, and ``FOLDER/real-data.png`` is the picture.

The error of a task is the root mean square over its query rows, over the standard deviation of the
query targets of all tasks of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmaml.files import write_whole

from .estimator_defaults import path_of
from .measures import MEASURES, Measures, place_in_group
from .real_contenders import CONTENDERS, OURS, split

FOLDS = 4
BOOTSTRAP = 10_000
THREADS = ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

# The error of each task, by contender, of each table; the tasks are in the same order for all.
Errors = dict[str, dict[str, NDArray[Any]]]


def folds(table: Measures) -> list[NDArray[Any]]:
    """Return the labels of the tasks of each fold."""
    names = np.random.default_rng(0).permutation(np.unique(table.table.groups))
    return np.array_split(names, FOLDS)


def unit(table: Measures) -> float:
    """Return the standard deviation of the query targets of all tasks."""
    y, groups = table.table.y, table.table.groups
    return float(np.std(y[place_in_group(groups) >= table.n_known]))


def task_errors(y: NDArray[Any], f: NDArray[Any], groups: NDArray[Any]) -> dict[str, float]:
    """Return the root mean square of each task."""
    return {
        str(name): float(np.sqrt(np.mean((f - y)[groups == name] ** 2)))
        for name in np.unique(groups)
    }


def run(table: str, fold: int, names: list[str], folder: Path) -> None:
    """Write the errors of contenders that have no file yet on the tasks of a fold."""
    paths = {name: path_of(folder, table, fold, name) for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if not missing:
        return
    of = MEASURES[table]()
    part, y = split(of.table, folds(of)[fold], of.n_known, of.forecast, fold)
    for name in missing:
        failure, start = "", time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trainings that do badly; the errors say it
            try:
                f = CONTENDERS[name](part)
            except FloatingPointError as error:
                f, failure = np.full(len(y), np.nan), str(error)
        lost = ~np.isfinite(f)
        result = {
            "errors": task_errors(y, np.where(lost, part.train.y.mean(), f), part.groups_new),
            "lost": len(np.unique(part.groups_new[lost])),
            "failure": failure,
            "seconds": time.perf_counter() - start,
        }
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result)
        write_whole(paths[name], lambda file, text=text: file.write(text.encode()))


# ---- what all runs come to


def load(folder: Path, tables: list[str], names: list[str]) -> tuple[Errors, dict[str, Any]]:
    """Return the errors in units, and of each contender the tasks it lost and its seconds."""
    errors: Errors = {}
    notes: dict[str, Any] = {name: {"lost": 0, "seconds": 0.0} for name in names}
    for table in tables:
        of_table = unit(MEASURES[table]())
        errors[table] = {}
        for name in names:
            own: list[float] = []
            for fold in range(FOLDS):
                path = path_of(folder, table, fold, name)
                result = json.loads(path.read_text(encoding="utf-8"))
                own += result["errors"].values()
                for key in notes[name]:
                    notes[name][key] += result[key]
            errors[table][name] = np.array(own) / of_table
    return errors, notes


def interval(values: NDArray[Any]) -> tuple[float, float]:
    """Return 95 % of the mean, by bootstrap over tasks: the same tasks for all contenders."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(values), size=(BOOTSTRAP, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def best(errors: dict[str, NDArray[Any]]) -> str:
    """Return the contender of the least mean error."""
    return min(errors, key=lambda name: errors[name].mean())


def ratios(errors: Errors) -> dict[str, tuple[float, float, int]]:
    """Return what the errors over the least come to, of each contender.

    Their geometric mean over tables, the most, and on how many tables it is the best or not proven
    worse than that.
    """
    result = {}
    for name in next(iter(errors.values())):
        over, ties = [], 0
        for own in errors.values():
            first = best(own)
            over.append(own[name].mean() / own[first].mean())
            ties += bool(name == first or interval(own[name] - own[first])[0] <= 0)
        result[name] = float(np.exp(np.mean(np.log(over)))), float(max(over)), ties
    return result


def overview(errors: Errors) -> str:
    """Return the mean errors of all tables, the least in bold, best contender first."""
    summary = ratios(errors)
    lines = [
        f"| | geometric mean | worst | best or tied | {' | '.join(errors)} |",
        "|---|" + "---:|" * (3 + len(errors)),
    ]
    for name in sorted(summary, key=summary.__getitem__):
        mean, worst, ties = summary[name]
        cells = []
        for own in errors.values():
            cell = f"{own[name].mean():.3f}"
            cells.append(f"**{cell}**" if name == best(own) else cell)
        lines.append(
            f"| {name} | {mean:.2f} | {worst:.2f} | {ties} of {len(errors)} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def details(table: str, errors: dict[str, NDArray[Any]]) -> str:
    """Return a table's errors with intervals, and the paired differences to the best."""
    first = best(errors)
    n = len(errors[first])
    lines = [
        f"| {table}, {n} tasks | error | 95 % | minus the best | 95 % |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in sorted(errors, key=lambda name: errors[name].mean()):
        low, high = interval(errors[name])
        cells = [f"{errors[name].mean():.3f}", f"{low:.3f} to {high:.3f}", "", ""]
        if name != first:
            off = errors[name] - errors[first]
            low, high = interval(off)
            cells[2:] = [f"{off.mean():+.3f}", f"{low:+.3f} to {high:+.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pairs(errors: Errors, ours: str, others: list[str]) -> str:
    """Return of a contender the tables on which it is proven better or worse than each other."""
    lines = [f"| {ours} against | better | tied | worse |", "|---|---|---|---|"]
    for other in others:
        found: dict[str, list[str]] = {"better": [], "tied": [], "worse": []}
        for table, own in errors.items():
            low, high = interval(own[ours] - own[other])
            found["better" if high < 0 else "worse" if low > 0 else "tied"].append(table)
        cells = [", ".join(tables) or "none" for tables in found.values()]
        lines.append(f"| {other} | {' | '.join(cells)} |")
    return "\n".join(lines)


COLOURS = {"MAML": "#d6301d", "closed form": "#e08214"}


def picture(path: Path, errors: Errors) -> None:
    """Draw a panel a table: mean errors with intervals, ours in colour."""
    from matplotlib.figure import Figure

    order = list(next(iter(errors.values())))
    n_rows = -(-len(errors) // 4)
    figure = Figure(figsize=(13, 1.0 + 2.4 * n_rows), dpi=110, layout="constrained")
    panels = figure.subplots(n_rows, 4, sharey=True, squeeze=False)
    for axes, (table, own) in zip(panels.flat, errors.items(), strict=False):
        least = own[best(own)].mean()
        axes.axvline(least, color="#888888", linewidth=0.8)
        for place, name in enumerate(reversed(order)):
            colour = COLOURS.get(name.partition(",")[0], "#4a6fa5")
            axes.plot(interval(own[name]), [place, place], color=colour, linewidth=2.5)
            axes.plot(own[name].mean(), place, "o", color=colour, markersize=5)
        axes.set_title(f"{table}, {len(own[order[0]])} tasks", fontsize=10)
        # What is off by far would squeeze all others.
        axes.set_xlim(0, min(max(interval(e)[1] for e in own.values()) * 1.05, 4 * least))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(panels.flat)[len(errors) :]:
        axes.set_visible(False)
    panels[0, 0].set_yticks(range(len(order)), list(reversed(order)))
    for axes in panels.flat:
        axes.tick_params(labelsize=8)
    figure.supxlabel(
        "error of a task, in standard deviations of the targets, with 95 % interval; "
        "the line is the best, and what has more than four times its error is cut off",
        fontsize=10,
    )
    write_whole(path, lambda file: figure.savefig(file, format="png"))


def main() -> None:
    """Run what has no file yet, then print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("real-out"))
    parser.add_argument("--tables", nargs="+", default=list(MEASURES), choices=list(MEASURES))
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    options = parser.parse_args()
    work = [(t, fold, options.contenders, options.out) for t in options.tables
            for fold in range(FOLDS)]  # fmt: skip
    if options.jobs > 1:
        os.environ.update(dict.fromkeys(THREADS, "1"))  # of the processes that are started
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            list(pool.map(run, *zip(*work, strict=True)))
    else:
        for each in work:
            run(*each)
    errors, notes = load(options.out, options.tables, options.contenders)
    print(overview(errors))
    for name in options.contenders:
        if name in OURS:
            print("\n" + pairs(errors, name, [o for o in options.contenders if o != name]))
    for table, own in errors.items():
        print("\n" + details(table, own))
    print("\n| | tasks lost | seconds |\n|---|---:|---:|")
    for name, note in notes.items():
        print(f"| {name} | {note['lost']} | {note['seconds']:.0f} |")
    picture(options.out / "real-data.png", errors)


if __name__ == "__main__":
    main()
