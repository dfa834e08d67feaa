"""Which initial weights are best to meta-train from: the schemes of ``model.init``, compared.

``python -m experiments.initial_weights --out FOLDER`` trains a network from each scheme in each
cell: an activation, 1 to 4 hidden layers of 40 units, a family of tasks, 1 or 5 inner steps, a
careful or a rough setting. Inputs and targets are standardised by the training tasks, and all
schemes of a cell see the same tasks. The work has five parts: each has every activation and depth,
and deals another family to each. ``--protocol`` trains README's sinusoid network from each scheme
instead. ``FOLDER`` gets a JSON file for each part, setting and number of steps; one that is there
is not made again, so the options do the work in pieces. Printed are tables in Markdown;
docs/initial-weights.md shows them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastmaml.kernels.vectors.activations import CODES

import fastmaml as fm
from fastmaml.datasets import FAMILIES
from fastmaml.experiments import DATASET, MODEL, SinusoidExperiment, heldout_rows, summarize
from fastmaml.files import write_whole
from fastmaml.learn import Adam, train
from fastmaml.models.initial import SCHEMES

DEPTHS, STEPS, WIDTH = (1, 2, 3, 4), (1, 5), 40
N_TASKS, N_ROWS = 10, 10
N_TEST_TASKS, N_TEST_ROWS = 300, 50
OUTER_LR = 1e-3


class Setting(NamedTuple):
    """How careful a training is."""

    inner_lr: float
    clip_norm: float | None


SETTINGS = {"careful": Setting(0.02, 10.0), "rough": Setting(0.05, None)}

#: `model.init` before there was a choice: He's for these activations, Glorot's for the others.
HE = ("relu", "leaky_relu", "elu", "softplus", "silu", "gelu")


class Cell(NamedTuple):
    """What was trained from every scheme, and the test error from each."""

    setting: str
    family: str
    steps: int
    activation: str
    depth: int
    seed: int
    errors: dict[str, float]


class Standardised(NamedTuple):
    """All tasks of a training, and those of its test, in units of the former."""

    training: list[np.ndarray]  # x, y, x_query, y_query: (iterations * N_TASKS, rows, columns)
    test: list[np.ndarray]


def standardised(family: str, iterations: int, seed: int) -> Standardised:
    """Draw the tasks of a family; scale them by mean and deviation of the training rows."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    training = FAMILIES[family](part="train").sample(iterations * N_TASKS, N_ROWS, N_ROWS, rng)
    test = FAMILIES[family](part="test").sample(N_TEST_TASKS, N_ROWS, N_TEST_ROWS, rng)

    def scaled(arrays: Any, which: int) -> np.ndarray:
        array, rows = arrays[which], training[which % 2]
        return ((array - rows.mean((0, 1))) / rows.std((0, 1))).astype(np.float32)

    return Standardised(*([scaled(arrays, i) for i in range(4)] for arrays in (training, test)))


def test_error(
    tasks: Standardised, maml: fm.MAML, clip_norm: float | None, scheme: str, seed: int
) -> float:
    """Train from a scheme; return the squared error of the test tasks after the inner steps.

    A task counts at most as the mean of the targets would: one that diverges does not hide what
    the others have learned.
    """
    theta = maml.model.init(seed, np.float32, scheme)
    iterations = len(tasks.training[0]) // N_TASKS
    batches = zip(*(np.split(array, iterations) for array in tasks.training), strict=True)
    theta = train(
        maml,
        theta,
        lambda: next(batches),
        Adam(OUTER_LR),
        iterations,
        clip_norm=clip_norm,
        on_divergence="skip",
    ).theta
    errors = maml.evaluate(theta, *tasks.test).task_values
    means = (tasks.test[3] ** 2).mean((1, 2))
    return float(np.where(errors < means, errors, means).mean())  # NaN is not less


def run(name: str, part: int, steps: int, iterations: int, seed: int) -> list[Cell]:
    """Train every activation and depth, each with the family that this part deals to it."""
    setting, names = SETTINGS[name], list(FAMILIES)
    tasks = {family: standardised(family, iterations, seed) for family in names}
    cells = []
    for (i, activation), (k, depth) in product(enumerate(CODES), enumerate(DEPTHS)):
        family = names[(i + k + part) % len(names)]
        sizes = [FAMILIES[family].n_inputs, *[WIDTH] * depth, FAMILIES[family].n_outputs]
        model = fm.MLP(sizes, activation)
        maml = fm.MAML(model, setting.inner_lr, steps, loss="mse", task_mean=True)
        errors = {
            scheme: test_error(tasks[family], maml, setting.clip_norm, scheme, seed)
            for scheme in SCHEMES
        }
        cells.append(Cell(name, family, steps, activation, depth, seed, errors))
    return cells


def load(folder: Path, iterations: int) -> list[Cell]:
    """Return the cells of all files, of trainings this long."""
    paths = sorted(folder.glob(f"{iterations}-*.json"))
    return [Cell(*cell) for path in paths for cell in json.loads(path.read_text("utf-8"))]


# ---- what all cells come to

BEFORE = "he_normal or glorot_uniform, by activation"


def ratios(cells: list[Cell]) -> dict[str, np.ndarray]:
    """Return for each scheme the error of each cell over the least of the cell."""
    found: dict[str, list[float]] = {scheme: [] for scheme in (*SCHEMES, BEFORE)}
    for cell in cells:
        before = "he_normal" if cell.activation in HE else "glorot_uniform"
        best = min(cell.errors.values())
        for name, error in {**cell.errors, BEFORE: cell.errors[before]}.items():
            found[name].append(error / best)
    return {name: np.array(values) for name, values in found.items()}


def geometric(values: np.ndarray) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.log(values).mean()))


def table(cells: list[Cell]) -> str:
    """Return a Markdown table: one row a scheme, over all cells."""
    found = ratios(cells)
    lines = [
        "| scheme | geometric mean | ± | above 1.5 × the best | above 2 × | above 5 × | worst |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, values in sorted(found.items(), key=lambda item: geometric(item[1])):
        logs = np.log(values)
        error = geometric(values) * 1.96 * logs.std(ddof=1) / np.sqrt(len(logs))
        shares = [f"{100 * np.mean(values > bound):.0f} %" for bound in (1.5, 2, 5)]
        row = [f"{geometric(values):.2f}", f"{error:.2f}", *shares, f"{values.max():.3g}"]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines)


def parts(cells: list[Cell]) -> str:
    """Return a Markdown table: geometric means over the cells of each kind."""
    schemes = [*SCHEMES, BEFORE]
    lines = [f"| cells | {' | '.join(schemes)} |", f"|---|{'---:|' * len(schemes)}"]
    for entries in (("setting", "steps"), ("depth",), ("family",), ("activation",)):
        kinds: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in cells:
            kinds.setdefault(tuple(getattr(cell, entry) for entry in entries), []).append(cell)
        for kind, some in kinds.items():
            found = ratios(some)
            name = ", ".join(f"{e} {value}" for e, value in zip(entries, kind, strict=True))
            row = " | ".join(f"{geometric(found[scheme]):.2f}" for scheme in schemes)
            lines.append(f"| {name} | {row} |")
    return "\n".join(lines)


# ---- README's sinusoid experiment


def protocol(activation: str, scheme: str, iterations: int, seed: int) -> float:
    """Return the mean test error after one step on 5 rows, trained as the demo is."""
    experiment, rng = SinusoidExperiment(iterations), np.random.default_rng(seed)
    maml = replace(experiment.maml(1), model=fm.MLP(MODEL.layer_sizes, activation))
    theta = train(
        maml,
        maml.model.init(rng, scheme=scheme),
        lambda: DATASET.sample(experiment.meta_batch, experiment.shots, experiment.shots, rng),
        Adam(experiment.outer_lr),
        experiment.iterations,
    ).theta
    return summarize([maml], theta, *next(iter(heldout_rows())))[0].mean


def protocol_table(iterations: int, seeds: list[int]) -> str:
    """Return a Markdown table: the demo's error from each scheme, for relu and tanh."""
    activations = ("relu", "tanh")
    lines = [f"| scheme | {' | '.join(activations)} |", "|---|---|---|"]
    for scheme in SCHEMES:
        row = []
        for activation in activations:
            errors = [protocol(activation, scheme, iterations, seed) for seed in seeds]
            row.append(", ".join(f"{e:.3f}" for e in errors) + f"; mean {np.mean(errors):.2f}")
        lines.append(f"| {scheme} | {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what has no file yet, then print the tables of all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("initial-out"))
    parser.add_argument("--parts", type=int, nargs="+", default=list(range(len(FAMILIES))))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--protocol", action="store_true", help="README's sinusoid experiment")
    options = parser.parse_args()
    if options.protocol:
        print(protocol_table(options.iterations or 15_000, options.seeds))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    iterations = options.iterations or 1500
    kinds = product(options.seeds, options.parts, options.settings, options.steps)
    for seed, part, setting, steps in kinds:
        path = options.out / f"{iterations}-{setting}-{steps}-{part}-{seed}.json"
        if not path.exists():
            text = json.dumps(run(setting, part, steps, iterations, seed))
            write_whole(path, lambda file, text=text: file.write(text.encode()))
    cells = load(options.out, iterations)
    print(f"{len(cells)} cells\n\n{table(cells)}\n\n{parts(cells)}")


if __name__ == "__main__":
    main()
