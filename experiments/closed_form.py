"""The last layer in closed form on the sinusoids of the MAML paper: its errors and its intervals.

``python -m experiments.closed_form --out FOLDER`` trains `BayesianLastLayer` and, beside it, MAML
for 15 000 iterations of 25 tasks with three seeds, without noise and with noise of 0.1 on all
targets. The test is of 2000 new tasks, the same for all, at 3, 5, 10 and 20 support rows and 100
new points each: the squared error of the prediction against the wave, and how many of the new
observations lie in the 95 % interval. ``FOLDER`` gets a JSON file a run; a run that has its file is
not repeated. Printed are tables in Markdown, which docs/experiments.md shows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmaml as fm
from experiments.sinusoid_table import LINEAR, summary_of
from fastmaml.experiments import DATASET, MODEL, SinusoidExperiment, error_text, summarize
from fastmaml.files import write_whole
from fastmaml.learn import Adam, Cosine, train

SHOTS = (3, 5, 10, 20)
NOISES = (0.0, 0.1)
N_TEST_TASKS, N_TEST_POINTS = 2000, 100
MAML_STEPS = (1, 10)
NORMAL = 1.959964  # the 97.5 % quantile


class Contender(NamedTuple):
    """What is trained, and with how many support rows."""

    label: str
    learner: fm.MAML | fm.BayesianLastLayer
    n_support: int | tuple[int, int]
    decays: bool = False  # whether Adam's rate falls to 0 along half a cosine wave


def _contenders() -> dict[str, Contender]:
    maml, rows = SinusoidExperiment().maml(1), (1, 15)
    relu, linear = (
        fm.BayesianLastLayer(model, loss="mean_nll", task_mean=True) for model in (MODEL, LINEAR)
    )
    return {
        "relu": Contender("closed form, 1-40-40-1", relu, rows),
        "linear": Contender("closed form, 1-40-40-20-1", linear, rows),
        "linear-decay": Contender("the same, decaying rate", linear, rows, decays=True),
        "maml": Contender("MAML, trained with 10 rows, {}", maml, 10),
        "maml-range": Contender("MAML, trained with 1 to 15 rows, {}", maml, rows),
    }


CONTENDERS = _contenders()


def test_rows(noise: float) -> Iterator[tuple[np.ndarray, ...]]:
    """Draw for each of ``SHOTS``: x, y to adapt to; x, y to judge by; the wave without noise.

    No seed of a training gives these tasks.
    """
    rng = np.random.default_rng(np.random.SeedSequence(2017, spawn_key=(3,)))
    waves = DATASET.sample_functions(N_TEST_TASKS, rng)
    x_test, wave = DATASET.sample_points(*waves, N_TEST_POINTS, rng)
    observed = wave + noise * rng.normal(size=wave.shape)
    for shots in SHOTS:
        x, y = DATASET.sample_points(*waves, shots, rng)
        yield x, y + noise * rng.normal(size=y.shape), x_test, observed, wave


def judge(contender: Contender, theta: np.ndarray, noise: float) -> list[dict[str, Any]]:
    """Return errors for each number of rows; of MAML after each of its steps, else coverage too."""
    learner, found = contender.learner, []
    for x, y, x_test, observed, wave in test_rows(noise):
        if isinstance(learner, fm.BayesianLastLayer):
            mean, std = learner.predict(theta, x, y, x_test, return_std=True)
            covered = float(np.mean(np.abs(observed - mean) <= NORMAL * std))
            summary = summary_of(mean - wave, x.shape[1], steps=1)
            found.append({**summary._asdict(), "covered": covered})
        else:
            mamls = [replace(learner, steps=steps) for steps in MAML_STEPS]
            found += [each._asdict() for each in summarize(mamls, theta, x, y, x_test, wave)]
    return found


def run(name: str, noise: float, seed: int, iterations: int) -> dict[str, Any]:
    """Train one contender with one seed, and judge its last parameters."""
    contender, rng = CONTENDERS[name], np.random.default_rng(seed)
    learner = contender.learner
    head = isinstance(learner, fm.BayesianLastLayer)

    def batch() -> tuple[np.ndarray, ...]:
        x, y, x_query, y_query = DATASET.sample(25, contender.n_support, 10, rng)
        if noise:
            y, y_query = (each + noise * rng.normal(size=each.shape) for each in (y, y_query))
        return x, y, x_query, y_query

    theta = (learner if head else learner.model).init(rng)
    adam = Adam(Cosine(1e-3, iterations) if contender.decays else 1e-3)
    start = time.perf_counter()
    theta = train(learner, theta, batch, adam, iterations, clip_norm=10.0 if head else None).theta
    seconds = time.perf_counter() - start
    learned = float(np.sqrt(learner.unpack(theta).noise_variance[0])) if head else None
    return {
        "contender": name,
        "noise": noise,
        "seed": seed,
        "iterations": iterations,
        "seconds": seconds,
        "learned_noise": learned,
        "results": judge(contender, theta, noise),
    }


# ---- what all runs come to


def load(folder: Path, iterations: int) -> list[dict[str, Any]]:
    """Return the runs of the folder; all must be of so many iterations."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    for one in found:
        if one["iterations"] != iterations:
            raise SystemExit(
                f"{folder} has a run with --iterations {one['iterations']}, asked for is "
                f"{iterations}; take another folder, or delete the file"
            )
    return found


def table(found: list[dict[str, Any]], entry: str) -> str:
    """Return a Markdown table of one entry of the results: mean of the seeds, least to most."""
    lines = [
        "| contender | " + " | ".join(f"{shots} rows" for shots in SHOTS) + " |",
        "|---|" + "---:|" * len(SHOTS),
    ]
    for name, contender in CONTENDERS.items():
        values: dict[int, dict[int, list[float]]] = {}  # steps -> rows -> one for each seed
        for one in found:
            for each in one["results"] if one["contender"] == name else ():
                if entry in each:
                    by_rows = values.setdefault(each["steps"], {})
                    by_rows.setdefault(each["shots"], []).append(each[entry])
        for steps, by_rows in values.items():
            label = contender.label.format(f"{steps} step{'s' * (steps > 1)}")
            cells = [_cell(by_rows[shots], entry) for shots in SHOTS]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float], entry: str) -> str:
    text = "{:.1%}".format if entry == "covered" else error_text
    return f"{text(float(np.mean(values)))} ({text(min(values))} to {text(max(values))})"


def report(found: list[dict[str, Any]]) -> str:
    """Return all tables, and what the trainings took."""
    parts = []
    for noise in NOISES:
        runs = [one for one in found if one["noise"] == noise]
        parts += [f"Noise {noise}: mean squared error", table(runs, "mean")]
        parts += [f"Noise {noise}: median squared error", table(runs, "median")]
        if noise:
            parts += [f"Noise {noise}: in the 95 % interval", table(runs, "covered")]
    lines = ["| contender | noise | training, s | learned noise |", "|---|---:|---|---|"]
    for name, contender in CONTENDERS.items():
        label = contender.label.removesuffix(", {}")
        for noise in NOISES:
            runs = [one for one in found if (one["contender"], one["noise"]) == (name, noise)]
            if runs:
                seconds = ", ".join(f"{one['seconds']:.1f}" for one in runs)
                learned = ", ".join(
                    f"{one['learned_noise']:.3g}" for one in runs if one["learned_noise"]
                )
                lines.append(f"| {label} | {noise} | {seconds} | {learned} |")
    return "\n\n".join([*parts, "\n".join(lines)])


def main() -> None:
    """Train what has no file yet, then print the tables of all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=15_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    load(options.out, options.iterations)  # what does not fit is refused before the work
    for name in options.contenders:
        for noise in NOISES:
            for seed in options.seeds:
                path = options.out / f"{name}-{noise}-{seed}.json"
                if not path.exists():
                    text = json.dumps(run(name, noise, seed, options.iterations))
                    write_whole(path, lambda file, text=text: file.write(text.encode()))
    print(report(load(options.out, options.iterations)))


if __name__ == "__main__":
    main()
