"""What `fastmaml init` writes, compared with other settings of the command line, on a raw table.

``python -m experiments.command_line_defaults --out FOLDER`` writes the calibration table as a file,
with its missing cells, its lone row and its column of categories, and does with each setting what
a user does: ``init``, ``train``, ``evaluate``, ``adapt``. The starter configuration holds test
devices out, the same for all settings of a seed; ``adapt`` is given five whole rows of each, or
half of them, eight times drawn, and predicts the others. What does not meta-learn, and
`MAMLRegressor`, are given the same training devices (with those that validate), support rows and
judged rows.

The error is the root mean square over all rows judged, in ppm, the mean of draws and seeds.
``FOLDER`` gets a JSON file a seed and contender; one that is there is not made again.
docs/estimator-defaults.md shows the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmaml as fm
from fastmaml.files import write_whole
from fastmaml.learn import MAMLRegressor, defaults

from .baselines import BASELINES, rank
from .command_line import fastmaml
from .estimator_defaults import KNOWN, Errors, path_of, summaries
from .tables import Table, calibration_module

calibration = calibration_module()
Columns = dict[str, NDArray[Any]]
Rows = NDArray[np.intp]
Predict = Callable[[Rows, Rows], NDArray[Any]]

N_INPUTS, TARGET = 6, "concentration_ppm"
DRAWS = 8  # of known rows: with five, one model had 2.2 to 8.0 ppm by the draw alone

# A change is a key of the configuration, but for `hidden`, and `learning_rate`, which is of both
# optimizers: of the rates ten times as much, as `init` writes it. None leaves the key out.
CHANGES: list[dict[str, Any]] = [
    {},
    {"steps": 1}, {"steps": 3}, {"steps": 10},
    {"inner_lr": 0.02}, {"inner_lr": 0.1}, {"inner_lr": 0.2},
    {"hidden": (64, 64)}, {"hidden": (40,)},
    {"activation": "relu"},
    {"learning_rate": 3e-3}, {"learning_rate": 1e-2},
    {"clip_norm": None}, {"clip_norm": 1.0},
    {"iterations": 15000, "patience": 60},
    {"n_validation": 16}, {"n_support": 5},
    {"hidden": (64, 64), "learning_rate": 3e-3},
]  # fmt: skip


def label(change: dict[str, Any]) -> str:
    """Return a setting as text, by what it changes of the starter configuration."""
    return ", ".join(f"{key}={value!r}" for key, value in change.items()) or "as init writes it"


STARTER = label({})
SETTINGS = {label(change): change for change in CHANGES}
REGRESSORS: dict[str, dict[str, Any]] = {
    "MAMLRegressor()": {},
    "MAMLRegressor(hidden_layer_sizes=(64, 64))": {"hidden_layer_sizes": (64, 64)},
}
CONTENDERS = [*SETTINGS, *REGRESSORS, *BASELINES]


def configured(text: str, change: dict[str, Any], seed: int) -> str:
    """Return the text of a starter configuration with some keys changed."""
    change = {"seed": seed, "steps": defaults.STEPS, "inner_lr": defaults.INNER_LR, **change}
    hidden = change.pop("hidden", defaults.HIDDEN_LAYER_SIZES)
    factor = change.pop("learning_rate", defaults.LEARNING_RATE) / defaults.LEARNING_RATE
    change["inner_lr"] = [[change["inner_lr"]] * (len(hidden) + 1)] * change["steps"]
    change["layer_sizes"] = [N_INPUTS, *hidden, 1]
    lines = []
    for line in text.splitlines():
        key, _, rest = line.partition(" = ")
        if key == "learning_rate":
            lines.append(f"{key} = {factor * float(rest)!r}")
        elif key not in change:
            lines.append(line)
        elif (value := change.pop(key)) is not None:
            lines.append(f"{key} = {json.dumps(value)}")
    if change:
        raise ValueError(f"{', '.join(change)}; accepted are keys that fastmaml init writes")
    return "\n".join(lines) + "\n"


# ---- as a user does it


def trained(folder: Path, change: dict[str, Any], seed: int) -> Path:
    """Train on the table of a folder; return the folder of the run."""
    start = folder / "sensors.toml"
    fastmaml("init", folder / "sensors.csv")
    text = start.read_text(encoding="utf-8")
    start.write_text(configured(text, change, seed), encoding="utf-8")
    fastmaml("train", "--config", start)
    return folder / "sensors"


def test_devices(run: Path) -> list[str]:
    """Return the devices that no training saw, as the model's file has them."""
    return sorted(fm.load(run / "model.npz").extra["tasks"]["test"])


def predicted(run: Path, columns: Columns, known: Rows, new: Rows) -> NDArray[Any]:
    """Adapt to some rows of the table, and predict others."""
    files = [run.parent / name for name in ("known.csv", "new.csv", "predicted.csv")]
    for path, rows in zip(files[:2], (known, new), strict=True):
        without = () if rows is known else (TARGET,)
        kept = {name: c[rows] for name, c in columns.items() if name not in without}
        calibration.write_csv(path, kept)
    fastmaml("adapt", run, files[0], files[1], "--out", files[2])
    with files[2].open(encoding="utf-8", newline="") as file:
        return np.array([float(row[f"{TARGET}_predicted"]) for row in csv.DictReader(file)])


def evaluated(run: Path) -> float:
    """Return the root mean square that is printed last, of all steps."""
    return float(fastmaml("evaluate", run).splitlines()[-1].split()[-2])


# ---- compared


def run(name: str, seed: int, tested: list[str] | None) -> dict[str, Any]:
    """Return a contender's errors on the test devices; which those are, the starter says."""
    columns = calibration.calibration_table()
    result: dict[str, Any] = {"failure": "", "evaluate": None, "tested": tested}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        calibration.write_csv(folder / "sensors.csv", columns)
        try:
            if name in SETTINGS:
                made = trained(folder, SETTINGS[name], seed)
                result["tested"] = test_devices(made)
                if tested not in (None, result["tested"]):
                    raise ValueError(f"{name} holds out {result['tested']}, the starter {tested}")
                result["evaluate"] = evaluated(made)
                predict = partial(predicted, made, columns)
            else:
                predict = other(name, columns, tested or [], seed)
            draws = splits(columns, result["tested"], seed)
            result["errors"] = {
                n_known: [rms(columns[TARGET][new] - predict(known, new)) for known, new in each]
                for n_known, each in draws.items()
            }
        except FloatingPointError as error:  # it diverges
            result |= {"failure": str(error), "errors": {n: [np.inf] * DRAWS for n in KNOWN}}
    return result


def rms(residuals: NDArray[Any]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(residuals))))


def splits(columns: Columns, tested: list[str], seed: int) -> dict[str, list[tuple[Rows, Rows]]]:
    """Return known and other rows of the test devices, of those without a missing cell."""
    rows = whole_rows(columns, np.isin(columns["device"], tested))
    device = columns["device"][rows]
    _, code, counts = np.unique(device, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(seed)
    result: dict[str, list[tuple[Rows, Rows]]] = {n_known: [] for n_known in KNOWN}
    for _ in range(DRAWS):
        place = rank(device, rng)
        for n_known, known in zip(KNOWN, (place < 5, place < (counts // 2)[code]), strict=True):
            result[n_known].append((rows[known], rows[~known]))
    return result


def other(name: str, columns: Columns, tested: list[str], seed: int) -> Predict:
    """Return what is not the command line, fitted to the same devices."""
    devices, counts = np.unique(columns["device"], return_counts=True)
    not_trained = [*tested, *devices[counts < 2]]
    train = table(columns, whole_rows(columns, ~np.isin(columns["device"], not_trained)))
    regressor = None
    if name in REGRESSORS:
        regressor = MAMLRegressor(**REGRESSORS[name], random_state=seed)
        regressor.fit(train.x, train.y, train.groups)

    def predict(known: Rows, new: Rows) -> NDArray[Any]:
        given, asked = table(columns, known), table(columns, new)
        if regressor is None:
            return BASELINES[name](train, given, asked.x, asked.groups, seed)
        return regressor.adapt_predict(*given, asked.x, asked.groups)

    return predict


def whole_rows(columns: Columns, wanted: NDArray[Any]) -> Rows:
    """Return the rows of those wanted that miss no cell."""
    measured = [columns[name] for name in calibration.MEASURED]
    return np.flatnonzero(np.isfinite(measured).all(axis=0) & wanted)


def table(columns: Columns, rows: Rows) -> Table:
    """Return some rows in numbers."""
    return Table(*calibration.complete_rows({name: c[rows] for name, c in columns.items()}))


def markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the means of the seeds, least first, and the worst that a seed has over its least."""
    single: Errors = {
        name: {(f"{i}", n): float(np.mean(run["errors"][n])) for i, run in enumerate(runs)
               for n in KNOWN}
        for name, runs in results.items()
    }  # fmt: skip
    mean: Errors = {
        name: {("", n): float(np.mean([e for (_, k), e in each.items() if k == n])) for n in KNOWN}
        for name, each in single.items()
    }
    ratio, of_one = summaries(mean), summaries(single)
    lines = [
        "| | five rows | half | geometric mean | worst | worst of one seed | `evaluate` |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted(results, key=lambda name: (name in BASELINES, ratio[name])):
        errors = [f"{error:.2f}" for error in mean[name].values()]
        over = [f"{value:.2f}" for value in (*ratio[name], of_one[name][1])]
        printed = [run["evaluate"] for run in results[name]]
        said = "" if None in printed else f"{np.mean(printed):.2f}"
        lines.append(f"| {' | '.join([name, *errors, *over, said])} |")
    return "\n".join(lines)


def main() -> None:
    """Run what has no file yet, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    # The starter first: it says which devices are held out.
    for name in dict.fromkeys([STARTER, *options.contenders]):
        for i, seed in enumerate(options.seeds):
            path = path_of(options.out, "command line", seed, name)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                tested = results[STARTER][i]["tested"] if name != STARTER else None
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of settings that do badly
                    text = json.dumps(run(name, seed, tested))
                write_whole(path, lambda file, text=text: file.write(text.encode()))
            results.setdefault(name, []).append(json.loads(path.read_text(encoding="utf-8")))
    print(markdown(results))


if __name__ == "__main__":
    main()
