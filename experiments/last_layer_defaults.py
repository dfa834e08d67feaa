"""The settings of `BayesianLastLayerRegressor` compared on families of tasks: its defaults.

``python -m experiments.last_layer_defaults --out FOLDER`` fits it with each setting and seed to 100
groups of 20 rows of a family's training part, and lets 300 groups of the test part adapt to 1, 3, 5
and 10 of their rows; 20 others judge. All targets carry noise of 0.05 of their standard deviation.
``FOLDER`` gets a JSON file a run; one that is there is not repeated. Printed is the table of
docs/estimator.md.
"""

from __future__ import annotations

import argparse
import json
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmaml as fm
from fastmaml.datasets import FAMILIES
from fastmaml.files import write_whole

SHOTS = (1, 3, 5, 10)
N_GROUPS, N_ROWS, N_TEST_GROUPS, N_NEW = 100, 20, 300, 20
NOISE = 0.05
NAMES = ("sinusoid", "pendulum", "sensor", "linear-system")
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "`learning_rate_init=1e-3`, as in `MAMLRegressor`": {"learning_rate_init": 1e-3},
    "`learning_rate_init=1e-2`": {"learning_rate_init": 1e-2},
    "`n_support=10`: half of the rows, always": {"n_support": 10},
    "`n_support=(1, 19)`": {"n_support": (1, 19)},
    "`(40, 40)`, both tanh: no linear layer": {
        "hidden_layer_sizes": (40, 40), "activation": "tanh",
    },
    "`(40, 20)`, tanh and linear": {"hidden_layer_sizes": (40, 20)},
    "relu, relu and linear": {"activation": ["relu", "relu", "identity"]},
}  # fmt: skip


def _rows(family: Any, n: int, k: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of n groups, one group after the other, k each."""
    x, y, _, _ = family.sample(n, k, 0, rng=seed)
    return x.reshape(n * k, -1), y.reshape(n * k, -1)


def run(name: str, setting: str, seed: int) -> dict[str, Any]:
    """Fit one setting to a family, and judge it with each number of known rows."""
    x, y = _rows(FAMILIES[name](part="train"), N_GROUPS, N_ROWS, 1)
    k = max(SHOTS) + N_NEW
    x_test, y_test = _rows(FAMILIES[name](part="test"), N_TEST_GROUPS, k, 2)
    rng, unit = np.random.default_rng(9), y.std()
    y = y + rng.normal(0, NOISE * unit, y.shape)
    y_test = y_test + rng.normal(0, NOISE * unit, y_test.shape)
    groups, test_groups = np.repeat(np.arange(N_GROUPS), N_ROWS), np.repeat(range(N_TEST_GROUPS), k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of a training that max_iter ends
        learner = fm.BayesianLastLayerRegressor(random_state=seed, **SETTINGS[setting])
        learner.fit(x, y, groups)
    place = np.arange(len(y_test)) % k
    new = place >= max(SHOTS)
    errors, covered = [], []
    for shots in SHOTS:
        known = place < shots
        f, std = learner.adapt_predict(
            x_test[known], y_test[known], test_groups[known], x_test[new], test_groups[new],
            return_std=True,
        )  # fmt: skip
        off = f.reshape(-1, y.shape[1]) - y_test[new]
        errors.append(float(np.mean((off / y.std(axis=0)) ** 2)))
        covered.append(float(np.mean(np.abs(off) < 1.96 * std.reshape(off.shape))))
    return {
        "family": name, "setting": setting, "seed": seed, "errors": errors, "covered": covered
    }  # fmt: skip


def table(found: list[dict[str, Any]]) -> str:
    """Return the Markdown table of those settings that all families have been fitted with."""
    of = {
        (name, setting): [r for r in found if (r["family"], r["setting"]) == (name, setting)]
        for name, setting in product(NAMES, SETTINGS)
    }
    head = ["changed", *NAMES, "1 row, relative", "3 to 10 rows, relative", "covered"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    whole = [s for s in SETTINGS if all(of[name, s] for name in NAMES)]
    errors = {  # (families, shots), the mean of the seeds
        s: np.array([np.mean([r["errors"] for r in of[name, s]], axis=0) for name in NAMES])
        for s in whole
    }
    five = SHOTS.index(5)
    for s in whole:
        ratio = np.log(errors[s] / errors[whole[0]])
        one, more = np.exp(ratio[:, 0].mean()), np.exp(ratio[:, 1:].mean())
        covered = [100 * r["covered"][five] for name in NAMES for r in of[name, s]]
        cells = [f"{error:.3g}" for error in errors[s][:, five]]
        ends = f"{min(covered):.1f} to {max(covered):.1f} %"
        lines.append(f"| {s} | {' | '.join(cells)} | {one:.2f} | {more:.2f} | {ends} |")
    return "\n".join(lines)


def main() -> None:
    """Fit what has no file yet, and print the table of all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("last-layer-defaults-out"))
    parser.add_argument("--families", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (number, setting), seed in product(
        options.families, enumerate(SETTINGS), options.seeds
    ):
        path = options.out / f"{name}-{number}-{seed}.json"
        if not path.exists():
            text = json.dumps(run(name, setting, seed))
            write_whole(path, lambda file, text=text: file.write(text.encode()))
    print(table([json.loads(path.read_text("utf-8")) for path in sorted(options.out.iterdir())]))


if __name__ == "__main__":
    main()
