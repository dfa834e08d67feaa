"""The settings of `MAMLRegressor` compared on tables of repeated measures: its defaults.

``python -m experiments.estimator_defaults --out FOLDER`` fits every contender to the training
groups of every table, with each seed, and predicts the test groups: each adapts to five of its
rows, and to half of them, and is judged by its other rows. ``FOLDER`` gets a JSON file a table,
seed and contender; one that is there is not made again, so the options do the work in parts.
Printed are tables in Markdown. docs/estimator-defaults.md shows them.

The error is the root mean square, over all rows judged, divided by that of the mean of the training
targets; the mean of the seeds. A setting's summary is the geometric mean, over tables and numbers
of known rows, of its error over the least that any contender has there.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastmaml.files import write_whole
from fastmaml.learn import MAMLRegressor

from .baselines import BASELINES, rank
from .command_line import CommandLine
from .tables import CHOOSING, HELD_OUT, TABLES, Table

KNOWN = ("5", "half")
TEST_FRACTION = 0.3

# Where the search started: one setting after the other is changed, then what did well together.
START: dict[str, Any] = {
    "hidden_layer_sizes": (40, 40), "activation": "tanh", "inner_lr": 0.05, "learn_rates": True,
    "steps": 5, "meta_batch": 25, "learning_rate_init": 1e-3, "clip_norm": 10.0, "max_iter": 2000,
    "early_stopping": True, "validation_fraction": 0.1, "n_iter_no_change": 10, "tol": 1e-3,
}  # fmt: skip
CHANGES: list[dict[str, Any]] = [
    {},
    {"steps": 1}, {"steps": 3}, {"steps": 10},
    {"inner_lr": 0.01}, {"inner_lr": 0.1}, {"inner_lr": 0.2},
    {"learn_rates": False},
    {"clip_norm": None}, {"clip_norm": 1.0},
    {"hidden_layer_sizes": (40,)}, {"hidden_layer_sizes": (128,)}, {"hidden_layer_sizes": (64, 64)},
    {"activation": "relu"}, {"activation": "silu"},
    {"learning_rate_init": 3e-3}, {"learning_rate_init": 1e-2},
    {"meta_batch": 10}, {"meta_batch": 50},
    {"n_iter_no_change": 20, "max_iter": 5000},
    {"validation_fraction": 0.2}, {"early_stopping": False},
    # What did well alone, together.
    {"max_iter": 5000},
    {"inner_lr": 0.02},
    {"inner_lr": 0.02, "n_iter_no_change": 20, "max_iter": 5000},
    {"inner_lr": 0.02, "n_iter_no_change": 20, "max_iter": 5000, "meta_batch": 10},
    {"inner_lr": 0.02, "validation_fraction": 0.2},
    {"inner_lr": 0.01, "learning_rate_init": 3e-3},
]  # fmt: skip


class HalfKnown(MAMLRegressor):
    """With the default that it had in the search: half of a group is its support, always."""

    def _n_support(self) -> Any:
        return None


def label(change: dict[str, Any]) -> str:
    """Return a setting as text, by what it changes."""
    return ", ".join(f"{name}={value!r}" for name, value in change.items()) or "start"


SETTINGS = {label(change): {**START, **change} for change in CHANGES}
SETTINGS["MAMLRegressor()"] = {}
COMMAND = "fastmaml init, train, adapt"
CONTENDERS = [*SETTINGS, COMMAND, *BASELINES]


def run(name: str, table: Table, seed: int) -> dict[str, Any]:
    """Fit a contender to the training groups, and return its errors on the test groups."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.unique(table.groups))
    tested = np.isin(table.groups, labels[: round(TEST_FRACTION * len(labels))])
    train, test = (Table(*(a[part] for a in table)) for part in (~tested, tested))
    place = rank(test.groups, rng)
    _, code, counts = np.unique(test.groups, return_inverse=True, return_counts=True)
    counts = counts[code]

    start = time.perf_counter()
    failure, regressor = "", None
    command = CommandLine(train, seed) if name == COMMAND else None
    if name in SETTINGS:
        kind = HalfKnown if SETTINGS[name] else MAMLRegressor
        regressor = kind(**SETTINGS[name], random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that do badly; the errors say it
            try:
                regressor.fit(train.x, train.y, train.groups)
            except FloatingPointError as error:
                failure = str(error)
    errors = {}
    for n_known in KNOWN:
        support = place < (counts // 2 if n_known == "half" else int(n_known))
        known, new = (Table(*(a[part] for a in test)) for part in (support, ~support))
        predicted = np.full(len(new.y), np.nan)
        if command is not None:
            predicted = command.predict(known, new.x, new.groups)
        elif regressor is None:
            predicted = BASELINES[name](train, known, new.x, new.groups, seed)
        elif not failure:
            try:
                predicted = regressor.adapt_predict(*known, new.x, new.groups)
            except FloatingPointError as error:
                failure = str(error)
        of_mean = np.sqrt(np.mean(np.square(new.y - train.y.mean())))
        error = np.sqrt(np.mean(np.square(new.y - predicted))) / of_mean
        errors[n_known] = float(error) if np.isfinite(error) else float("inf")
    return {
        "errors": errors,
        "failure": failure,
        "seconds": time.perf_counter() - start,
        "n_iter": getattr(regressor, "n_iter_", 0),
    }


# ---- what all runs come to

# Error of each contender in each column: a table and a number of known rows.
Errors = dict[str, dict[tuple[str, str], float]]


def path_of(folder: Path, table: str, seed: int, name: str) -> Path:
    """Return the file of a run."""
    return folder / table / f"{seed} {re.sub('[^A-Za-z0-9.=,_-]+', ' ', name).strip()}.json"


def load(folder: Path, tables: list[str], seeds: list[int], names: list[str]) -> Errors:
    """Return the errors, mean of the seeds, of contenders that have all their runs."""
    found: Errors = {}
    for name in names:
        runs = {table: [path_of(folder, table, seed, name) for seed in seeds] for table in tables}
        if not all(path.exists() for paths in runs.values() for path in paths):
            continue
        found[name] = {}
        for table, paths in runs.items():
            each = [json.loads(path.read_text(encoding="utf-8"))["errors"] for path in paths]
            for n_known in KNOWN:
                found[name][table, n_known] = float(np.mean([e[n_known] for e in each]))
    return found


def summaries(errors: Errors) -> dict[str, tuple[float, float]]:
    """Return of each contender the geometric mean and the maximum of error over the least."""
    columns = next(iter(errors.values()))
    least = {column: min(each[column] for each in errors.values()) for column in columns}
    result = {}
    for name, each in errors.items():
        ratios = [each[column] / least[column] for column in columns]
        result[name] = float(np.exp(np.mean(np.log(ratios)))), max(ratios)
    return result


def markdown(errors: Errors) -> str:
    """Return the errors, best summary first, baselines last."""
    if not errors:
        return "no contender has all its runs"
    columns = next(iter(errors.values()))
    lines = [
        "| | geometric mean | worst | " + " | ".join(f"{t}, {k}" for t, k in columns) + " |",
        "|---|" + "---:|" * (2 + len(columns)),
    ]
    summary = summaries(errors)
    for name in sorted(errors, key=lambda name: (name in BASELINES, summary[name])):
        cells = [f"{value:.3f}" for value in (*summary[name], *errors[name].values())]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what has no file yet, then print a table of each kind of table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    for seed in options.seeds:
        for name in options.tables:
            table = TABLES[name]()
            for contender in options.contenders:
                path = path_of(options.out, name, seed, contender)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    text = json.dumps(run(contender, table, seed))
                    write_whole(path, lambda file, text=text: file.write(text.encode()))
    kinds = {"chosen on": CHOOSING, "held out": HELD_OUT, "made": ["calibration"]}
    for kind, members in kinds.items():
        tables = [name for name in options.tables if name in members]
        if tables:
            print(f"\nTables {kind}:\n")
            print(markdown(load(options.out, tables, options.seeds, options.contenders)))


if __name__ == "__main__":
    main()
