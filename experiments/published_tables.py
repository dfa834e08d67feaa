"""Two published tables of few-shot regression: Meta-SGD's sinusoids [1]_, ARML's six families [2]_.

``python -m experiments.published_tables --out FOLDER`` meta-trains every method on each protocol
with each seed, keeps the parameters that did best on validation tasks, and tests them on others.
``FOLDER`` gets a JSON file a run; one that is there is not repeated. Printed are the tables in
Markdown that docs/experiments.md shows.

References
----------
.. [1] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD: Learning to Learn Quickly for Few-Shot Learning.
   2017, section 4.1: trained with 5 rows, tested with 5, 10 and 20.
.. [2] H. Yao, X. Wu, Z. Tao, Y. Li, B. Ding, R. Li, Z. Li. Automated Relational Meta-learning. ICLR
   2020, section 5.1.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastmaml as fm
from fastmaml.datasets import Sinusoid, Tasks
from fastmaml.experiments import error_text
from fastmaml.files import write_whole
from fastmaml.learn import Adam, train

N_VALIDATION, N_TEST = 1000, 2000
VALIDATIONS = 60
WAVES = Sinusoid(phase_range=(-math.pi, 0.0), frequency_range=(0.8, 1.2))

# ---- the tasks

Sample = Callable[[int, int, int, np.random.Generator], Tasks]


def waves(n_tasks: int, n_support: int, n_query: int, rng: np.random.Generator) -> Tasks:
    """Draw tasks of Meta-SGD's: a sin(w x + b)."""
    return WAVES.sample(n_tasks, n_support, n_query, rng)


def waves_on_a_grid(n_tasks: int, n_support: int, n_query: int, rng: np.random.Generator) -> Tasks:
    """Draw such tasks to test on, whose query rows are spaced evenly."""
    amplitude, phase, frequency = WAVES.sample_functions(n_tasks, rng)
    x, y = WAVES.sample_points(amplitude, phase, frequency, n_support, rng)
    grid = np.linspace(*WAVES.x_range, n_query)[None, :, None]
    grid = np.repeat(grid, n_tasks, axis=0)
    of_grid = amplitude[:, None, None] * np.sin(
        frequency[:, None, None] * grid - phase[:, None, None]
    )
    return Tasks(x, y, grid, of_grid)


def surface(kind: NDArray[Any], p: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """Return ARML's function of each task, without noise, at u and v (n_tasks, rows).

    The kinds 0 to 5 are a wave, a line, a parabola, a cubic, a surface and a ripple; p (n_tasks, 4)
    has uniform numbers from 0 to 1, from which come their coefficients.
    """

    def uniform(i: int, low: float, high: float) -> NDArray[Any]:
        return (low + (high - low) * p[:, i])[:, None]

    functions = [
        uniform(0, 0.1, 5.0) * np.sin(uniform(1, 0.8, 1.2) * u + uniform(2, 0.0, 2 * np.pi)),
        uniform(0, -3, 3) * u + uniform(1, -3, 3),
        uniform(0, -0.2, 0.2) * u**2 + uniform(1, -2, 2) * u + uniform(2, -3, 3),
        uniform(0, -0.1, 0.1) * u**3
        + uniform(1, -0.2, 0.2) * u**2
        + uniform(2, -2, 2) * u
        + uniform(3, -3, 3),
        uniform(0, -1, 1) * u**2 + uniform(1, -1, 1) * v**2,
        np.sin(-uniform(0, -0.2, 0.2) * (u**2 + v**2)) + uniform(1, -3, 3),
    ]
    value: NDArray[Any] = np.choose(kind[:, None], functions)
    return value


def surfaces(low: float, high: float, noise: float = 0.3) -> Sample:
    """Return ARML's tasks: of one of six kinds, with noise on all targets.

    The first four kinds do not depend on the second input, which is 1 there.
    """

    def sample(n_tasks: int, n_support: int, n_query: int, rng: np.random.Generator) -> Tasks:
        kind, p = rng.integers(6, size=n_tasks), rng.uniform(size=(n_tasks, 4))
        x = rng.uniform(low, high, (n_tasks, n_support + n_query, 2))
        x[kind < 4, :, 1] = 1.0
        y = surface(kind, p, x[..., 0], x[..., 1])
        y = (y + noise * rng.standard_normal(y.shape))[..., None]
        return Tasks(*(part for at in (slice(n_support), slice(n_support, None))
                       for part in (x[:, at], y[:, at])))  # fmt: skip

    return sample


# ---- the protocols and methods


class Protocol(NamedTuple):
    """What a table is made by."""

    sample: Sample
    test: Sample
    n_inputs: int
    shots: int
    test_shots: tuple[int, ...]
    n_query: int
    n_test_query: int
    meta_batch: int
    iterations: int
    steps: int
    inner_lr: float
    published: dict[str, tuple[float, ...]]


def _of_surfaces(low: float) -> Protocol:
    sample = surfaces(low, 5.0)
    published = {"MAML": (2.29,), "Meta-SGD": (2.91,), "HSML": (0.49,), "ARML": (0.44,)}
    return Protocol(sample, sample, 2, 10, (10,), 10, 100, 25, 70_000, 5, 0.001, published)


PROTOCOLS = {
    "waves": Protocol(
        waves, waves_on_a_grid, 1, 5, (5, 10, 20), 5, 100, 4, 60_000, 1, 0.01,
        {"MAML": (1.13, 0.85, 0.71), "Meta-SGD": (0.90, 0.63, 0.50)},
    ),
    "surfaces, 0 to 5": _of_surfaces(0.0),
    "surfaces, -5 to 5": _of_surfaces(-5.0),
}  # fmt: skip


class Method(NamedTuple):
    """What is trained, and whether its inner rates are learned, and their logarithms."""

    learner: fm.MAML | fm.BayesianLastLayer
    learned: bool = False
    log_rates: bool = False


def methods(protocol: Protocol) -> dict[str, Method]:
    """Return the methods of this package, as a protocol has their steps and rates."""
    model = fm.MLP([protocol.n_inputs, 40, 40, 1], "relu")
    linear = fm.MLP([protocol.n_inputs, 40, 40, 20, 1], ["relu", "relu", "identity"])
    exact = fm.MAML(model, protocol.inner_lr, protocol.steps, loss="mse", task_mean=True)
    last = np.zeros(3)
    last[-1] = protocol.inner_lr
    each = np.full((protocol.steps, 3), protocol.inner_lr)
    return {
        "MAML": Method(exact),
        "MAML, first order": Method(replace(exact, order="first")),
        "MAML, learned rates of steps and layers": Method(
            replace(exact, inner_lr=each), learned=True, log_rates=True
        ),
        "ANIL": Method(replace(exact, inner_lr=last)),
        "Meta-SGD": Method(
            replace(exact, inner_lr=np.full(model.n_params, protocol.inner_lr)), learned=True
        ),
        "closed form": Method(fm.BayesianLastLayer(model, "mean_nll", task_mean=True)),
        "closed form, a linear layer more": Method(
            fm.BayesianLastLayer(linear, "mean_nll", task_mean=True)
        ),
    }


METHODS = list(methods(PROTOCOLS["waves"]))


def stream(key: int) -> np.random.Generator:
    """Return a generator that no seed of a training gives."""
    return np.random.default_rng(np.random.SeedSequence(2017, spawn_key=(key,)))


def run(name: str, method: str, seed: int, iterations: int) -> dict[str, Any]:
    """Train a method, and test the parameters that did best on the validation tasks."""
    protocol, rng = PROTOCOLS[name], np.random.default_rng(seed)
    learner, learned, log_rates = methods(protocol)[method]
    head = isinstance(learner, fm.BayesianLastLayer)
    start = time.perf_counter()
    result = train(
        learner,
        (learner if head else learner.model).init(rng),
        lambda: protocol.sample(protocol.meta_batch, protocol.shots, protocol.n_query, rng),
        Adam(1e-3),
        iterations,
        rate_optimizer=Adam(1e-2 if log_rates else 1e-3) if learned else None,
        log_rates=log_rates,
        clip_norm=10.0,
        on_divergence="skip",
        validation=protocol.sample(N_VALIDATION, protocol.shots, protocol.n_test_query, stream(4)),
        validate_every=max(1, iterations // VALIDATIONS),
    )
    seconds = time.perf_counter() - start
    if result.best is None:
        raise FloatingPointError(f"{method}: no validation error was finite")
    errors = []
    for shots in protocol.test_shots:
        x, y, x_new, y_new = protocol.test(N_TEST, shots, protocol.n_test_query, stream(5))
        f = result.best.maml.predict(result.best.theta, x, y, x_new)
        of_tasks = np.mean((np.asarray(f) - y_new) ** 2, axis=(1, 2))
        half = 1.96 * of_tasks.std(ddof=1) / math.sqrt(N_TEST)
        errors.append({"mean": float(of_tasks.mean()), "half": float(half),
                       "median": float(np.median(of_tasks))})  # fmt: skip
    return {
        "protocol": name, "method": method, "seed": seed, "iterations": iterations,
        "iteration": result.best.iteration, "seconds": seconds, "errors": errors,
    }  # fmt: skip


def table(name: str, found: list[dict[str, Any]]) -> str:
    """Return a protocol's table: what was published, and each method's mean error and median.

    Means of the seeds, of the mean from least to most. One task that diverges decides a mean.
    """
    protocol = PROTOCOLS[name]
    head = [f"{shots} rows" for shots in protocol.test_shots]
    lines = [
        f"| {name} | {' | '.join(head)} | training, s |", "|---|" + "---:|" * (len(head) + 1)
    ]  # fmt: skip
    for method, errors in protocol.published.items():
        lines.append(f"| {method}, published | {' | '.join(f'{e:.2f}' for e in errors)} | |")
    for method in METHODS:
        runs = [r for r in found if (r["protocol"], r["method"]) == (name, method)]
        if not runs:
            continue
        cells = []
        for i in range(len(head)):
            means = [r["errors"][i]["mean"] for r in runs]
            ends = f"{error_text(min(means))} to {error_text(max(means))}"
            mean = error_text(float(np.mean(means)))
            median = error_text(float(np.mean([r["errors"][i]["median"] for r in runs])))
            ends = f" ({ends})" if len(runs) > 1 else ""
            cells.append(f"{mean}{ends}, median {median}")
        seconds = np.mean([r["seconds"] for r in runs])
        lines.append(f"| {method} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Train what has no file yet, and print the tables of all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("published-out"))
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, help="fewer than the protocol has, for a test")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name in options.protocols:
            for number, method in enumerate(METHODS):
                path = options.out / f"{name}-{number}-{seed}.json"
                if method in options.methods and not path.exists():
                    iterations = options.iterations or PROTOCOLS[name].iterations
                    text = json.dumps(run(name, method, seed, iterations))
                    write_whole(path, lambda file, text=text: file.write(text.encode()))
    found = [json.loads(path.read_text("utf-8")) for path in sorted(options.out.glob("*.json"))]
    for name in options.protocols:
        print(table(name, found) + "\n")


if __name__ == "__main__":
    main()
