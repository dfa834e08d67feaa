"""Gradient steps or the closed form, on every family of tasks, to see which is better where.

``python -m experiments.gradient_or_closed --out FOLDER`` meta-trains, with three seeds, MAML as the
estimator's defaults have it (5 steps, learned rates) and `BayesianLastLayer` with the same tanh
layers and a linear one, for 15 000 iterations of 25 tasks with 1 to 15 support and 10 query rows.
Inputs and targets are standardised. Tested are 1000 tasks of the family's test part with 3, 5, 10
and 20 support rows and 50 new rows each. ``FOLDER`` gets a JSON file a run; one that is there is
not repeated. ``--times`` instead measures what a call costs, with the networks of the sinusoids.
Printed are tables in Markdown, which docs/which-method.md shows.
"""

from __future__ import annotations

import argparse
import json
import time
import timeit
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastmaml as fm
from experiments.sinusoid_table import LINEAR
from fastmaml.datasets import FAMILIES, Sinusoid
from fastmaml.experiments import DATASET, MODEL, SinusoidExperiment, error_text
from fastmaml.files import write_whole
from fastmaml.learn import Adam, Scaling, defaults, train

SHOTS = (3, 5, 10, 20)
N_TEST_TASKS, N_TEST_ROWS = 1000, 50
N_FEATURES = 20
TASKS: dict[str, Any] = {
    **FAMILIES,
    "sinusoid, frequency 0.8 to 1.2": partial(Sinusoid, frequency_range=(0.8, 1.2)),
}
METHODS = ("MAML", "closed form")


def learner_of(method: str, n_inputs: int, n_outputs: int) -> fm.MAML | fm.BayesianLastLayer:
    """Return what is trained."""
    hidden, tanh = defaults.HIDDEN_LAYER_SIZES, defaults.ACTIVATION
    if method == "MAML":
        model = fm.MLP([n_inputs, *hidden, n_outputs], tanh)
        rates = np.full((defaults.STEPS, len(hidden) + 1), defaults.INNER_LR)
        return fm.MAML(model, rates, defaults.STEPS, loss="mse", task_mean=True)
    activations = [*[tanh] * len(hidden), "identity"]
    model = fm.MLP([n_inputs, *hidden, N_FEATURES, n_outputs], activations)
    return fm.BayesianLastLayer(model, "mean_nll", noise="per_output", task_mean=True)


def test_errors(learner: Any, theta: np.ndarray, family: Any, scaling: Scaling) -> list[float]:
    """Return the mean squared error in units of the targets' variance, for each of ``SHOTS``.

    A task counts at most as the mean of the targets would: one that diverges does not hide what
    the others have learned.
    """
    learner = replace(learner, loss="mse")
    tasks = family.sample(N_TEST_TASKS, max(SHOTS), N_TEST_ROWS, np.random.default_rng(2017))
    x, y, x_new, y_new = _scaled(tasks, scaling)
    bound, found = np.mean(y_new**2, axis=(1, 2)), []
    for shots in SHOTS:
        errors = learner.evaluate(theta, x[:, :shots], y[:, :shots], x_new, y_new).task_values
        found.append(float(np.where(errors < bound, errors, bound).mean()))  # NaN is not less
    return found


def _scaled(tasks: Any, scaling: Scaling) -> tuple[np.ndarray, ...]:
    x, y, x_query, y_query = tasks
    return (
        scaling.scale_x(x), scaling.scale_y(y), scaling.scale_x(x_query), scaling.scale_y(y_query)
    )  # fmt: skip


def run(method: str, name: str, seed: int, iterations: int) -> dict[str, Any]:
    """Train one method on one family with one seed, and test its last parameters."""
    family, rng = TASKS[name](part="train"), np.random.default_rng(seed)
    scaling = Scaling.fit(*family.sample(1000, 20, 0, rng)[:2])
    learner = learner_of(method, family.n_inputs, family.n_outputs)
    maml = isinstance(learner, fm.MAML)
    rate = defaults.LEARNING_RATE
    start = time.perf_counter()
    result = train(
        learner,
        (learner.model if maml else learner).init(rng),
        lambda: _scaled(family.sample(defaults.META_BATCH, (1, 15), 10, rng), scaling),
        Adam(rate),
        iterations,
        rate_optimizer=Adam(defaults.RATE_FACTOR * rate) if maml else None,
        clip_norm=defaults.CLIP_NORM,
        on_divergence="skip",
    )
    return {
        "method": method,
        "family": name,
        "seed": seed,
        "iterations": iterations,
        "seconds": time.perf_counter() - start,
        "errors": test_errors(result.maml, result.theta, TASKS[name](part="test"), scaling),
    }


def table(found: list[dict[str, Any]]) -> str:
    """Return a Markdown table: geometric means of the seeds, and how much smaller which is."""
    lines = [
        "| family | " + " | ".join(f"{shots} rows: MAML, closed form" for shots in SHOTS) + " |",
        "|---|" + "---:|" * len(SHOTS),
    ]
    for name in TASKS:
        both = [
            [one["errors"] for one in found if (one["method"], one["family"]) == (method, name)]
            for method in METHODS
        ]
        if all(both):
            means = [np.exp(np.log(errors).mean(axis=0)) for errors in both]
            cells = [
                f"{error_text(one)}, {error_text(two)}" for one, two in zip(*means, strict=True)
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def load(folder: Path, iterations: int) -> list[dict[str, Any]]:
    """Return the runs of the folder with so many iterations."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [one for one in found if one["iterations"] == iterations]


ROUNDS, CALLS = 30, 100


def microseconds(call: Callable[[], Any]) -> float:
    """Return the time of a call: of the fastest round, which other work has disturbed least."""
    call()
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def times() -> str:
    """Return a Markdown table of what 25 tasks of 10 + 10 rows cost, and one row of a stream."""
    tasks = DATASET.sample(25, 10, 10, 0)
    x, y, x_query, _ = tasks
    lines = [
        "| | value and gradient, µs | adapt and predict, µs | a row more, and predict, µs |",
        "|---|---:|---:|---:|",
    ]
    for steps in (1, 5, 10):
        maml, theta = SinusoidExperiment().maml(steps), MODEL.init(0)
        gradient = microseconds(partial(maml.value_and_gradient, theta, *tasks))
        predict = microseconds(partial(maml.predict, theta, x, y, x_query))
        words = f"MAML, {steps} step{'s' * (steps > 1)}, 1-40-40-1"
        lines.append(f"| {words} | {gradient:.0f} | {predict:.0f} | |")
    for sizes, model in (("1-40-40-1", MODEL), ("1-40-40-20-1", LINEAR)):
        head = fm.BayesianLastLayer(model, "mean_nll", task_mean=True)
        theta = head.init(0)
        gradient = microseconds(partial(head.value_and_gradient, theta, *tasks))
        predict = microseconds(partial(head.predict, theta, x, y, x_query, return_std=True))
        stream = head.start(theta)

        def row(stream: Any = stream) -> None:
            stream.update(x[0, 0], y[0, 0])
            stream.predict(x[0, 1], return_std=True)

        cells = f"{gradient:.0f} | {predict:.0f} | {microseconds(row):.1f}"
        lines.append(f"| closed form, {sizes} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Train what has no file yet and print the table of all there is; or measure times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("which-method-out"))
    parser.add_argument("--families", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=15_000)
    parser.add_argument("--times", action="store_true")
    options = parser.parse_args()
    if options.times:
        print(times())
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.families:
        for method in METHODS:
            for seed in options.seeds:
                words = f"{options.iterations}-{name}-{method}-{seed}".replace(" ", "_")
                path = options.out / f"{words}.json"
                if not path.exists():
                    text = json.dumps(run(method, name, seed, options.iterations))
                    write_whole(path, lambda file, text=text: file.write(text.encode()))
    found = load(options.out, options.iterations)
    print(table(found))
    for method in METHODS:
        seconds = [one["seconds"] for one in found if one["method"] == method]
        print(f"{method}: {min(seconds):.1f} to {max(seconds):.1f} s a training")


if __name__ == "__main__":
    main()
