"""The sinusoid table of the MAML paper [1]_, with Meta-SGD [2]_ and the last layer in closed form.

``python -m experiments.sinusoid_table --out FOLDER`` trains every method with three seeds, as the
authors of MAML did: 70 000 iterations of 25 tasks, 10 support and 10 query rows, Adam at 0.001.
(In closed form: 1 to 15 support rows.) The parameters that are kept did best on validation tasks,
and are tested on 600 new tasks with 5 support rows after 0 to 10 steps. ``FOLDER`` gets a JSON
file a run and a picture; a run that has its file is not repeated, so ``--methods`` and ``--seeds``
do the work in parts. Printed is a table in Markdown. docs/experiments.md shows both.

References
----------
.. [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast Adaptation of Deep
   Networks. ICML 2017, section 5.1 and appendix C.
.. [2] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD: Learning to Learn Quickly for Few-Shot Learning.
   2017, section 4.1.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import DTypeLike

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.experiments import (
    DATASET,
    MODEL,
    TEST_STEPS,
    ErrorSummary,
    SinusoidExperiment,
    error_text,
    heldout_rows,
    summarize,
)
from fastmaml.files import write_whole
from fastmaml.learn import Adam, TrainState, train
from fastmaml.plots import tidy

N_VALIDATION = 1000
SHOTS, MAX_STEPS = 5, 10
PUBLISHED = {1: 0.67, 5: 0.38, 10: 0.35}

#: A last hidden layer without activation: features that need not be positive.
LINEAR = fm.MLP([1, 40, 40, 20, 1], ["relu", "relu", "identity"])


@dataclass(frozen=True)
class OracleSinusoid(Sinusoid):
    """The same tasks, told apart: amplitude and phase are inputs beside x."""

    n_inputs: ClassVar[int] = 3

    def sample_points(
        self,
        amplitude: np.ndarray,
        phase: np.ndarray,
        n_points: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw points of given waves: x (n_tasks, n_points, 3) and y (n_tasks, n_points, 1)."""
        x, y = super().sample_points(amplitude, phase, n_points, rng, dtype)
        known = np.stack([amplitude, phase], axis=1)[:, None, :]
        known = np.broadcast_to(known, (len(x), n_points, 2)).astype(dtype)
        return np.concatenate([x, known], axis=2), y


class Method(NamedTuple):
    """How a row of the table is trained, and how it adapts."""

    label: str
    training: fm.MAML | fm.BayesianLastLayer  # what is minimised
    dataset: Sinusoid = DATASET
    # Rates of the steps after training, the best of which on the validation tasks is taken; none:
    # those of the training, which Meta-SGD learns.
    rates: tuple[float, ...] = ()
    learned: bool = False
    judged: tuple[int, ...] = tuple(PUBLISHED)  # after how many steps, on the validation tasks
    n_support: int | tuple[int, int] = 10
    clip_norm: float | None = None


def _methods() -> dict[str, Method]:
    # Without inner steps the meta-objective is the plain error of all tasks together.
    pooled, tuned = SinusoidExperiment().maml(0), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    exact = SinusoidExperiment().maml(1)
    return {
        "exact": Method("MAML, exact", exact),
        "first": Method("MAML, first order", SinusoidExperiment(order="first").maml(1)),
        "exact-1": Method("MAML, exact, for one step", exact, judged=(1,)),
        "meta-sgd": Method(
            "Meta-SGD, for one step",
            replace(exact, inner_lr=np.full(MODEL.n_params, 0.01)),
            learned=True,
            judged=(1,),
        ),
        "pretrained": Method("pre-trained", pooled, rates=tuned),
        "oracle": Method(
            "oracle", replace(pooled, model=fm.MLP([3, 40, 40, 1], "relu")), OracleSinusoid(), tuned
        ),
        "closed": closed_form("closed form, 1-40-40-1", MODEL),
        "closed-linear": closed_form("closed form, 1-40-40-20-1", LINEAR),
    }


def closed_form(label: str, model: fm.MLP) -> Method:
    """Return the method that adapts the last layer alone, to its optimum."""
    head = fm.BayesianLastLayer(model, loss="mean_nll", task_mean=True)
    return Method(label, head, n_support=(1, 15), clip_norm=10.0)


METHODS = _methods()


def adapting(maml: fm.MAML, inner_lr: Any, steps: int, step_weights: Any = None) -> fm.MAML:
    """Return the specification of the steps after training."""
    return replace(
        maml, inner_lr=inner_lr if steps else 0.0, steps=steps, step_weights=step_weights
    )


class BestCheckpoint:
    """Callback: every so often the error on validation tasks, and what did best is kept.

    The error is the mean of those after the steps that the method is judged by: a multi-step loss.
    """

    def __init__(self, method: Method, every: int) -> None:
        self.method, self.every = method, every
        # A stream that neither a training nor the test draws from.
        stream = np.random.default_rng(np.random.SeedSequence(2017, spawn_key=(2,)))
        self.tasks = method.dataset.sample(N_VALIDATION, SHOTS, 100, stream)
        self.steps = max(method.judged)
        self.step_weights = np.isin(np.arange(self.steps + 1), method.judged) / len(method.judged)
        self.curve: list[tuple[int, float]] = []
        self.seconds = 0.0
        self.error = np.inf
        self.iteration = 0
        self.theta: np.ndarray
        self.inner_lr: Any

    def __call__(self, state: TrainState) -> None:
        """Validate, if it is time."""
        if state.iteration % self.every:
            return
        start = time.perf_counter()
        rates = self.method.rates or (state.inner_lr,)
        errors = [self._error(state.theta, rate) for rate in rates]
        best = int(np.argmin(errors))
        self.curve.append((state.iteration, errors[best]))
        if errors[best] < self.error:
            self.error, self.iteration = errors[best], state.iteration
            self.theta, self.inner_lr = state.theta, rates[best]
        self.seconds += time.perf_counter() - start

    def _error(self, theta: np.ndarray, inner_lr: Any) -> float:
        learner: Any = self.method.training
        if isinstance(learner, fm.BayesianLastLayer):
            learner = replace(learner, loss="mse")
        else:
            learner = adapting(learner, inner_lr, self.steps, self.step_weights)
        error = learner.value(theta, *self.tasks)
        return error if np.isfinite(error) else np.inf


def judge(method: Method, best: BestCheckpoint) -> list[ErrorSummary]:
    """Return the test errors after 0 to 10 steps; in closed form without and with the rows."""
    rows = next(rows for rows in heldout_rows(method.dataset) if rows[0].shape[1] == SHOTS)
    learner = method.training
    if isinstance(learner, fm.MAML):
        mamls = [adapting(learner, best.inner_lr, steps) for steps in range(MAX_STEPS + 1)]
        return summarize(mamls, best.theta, *rows)
    x, y, x_test, y_test = rows
    return [
        summary_of(learner.predict(best.theta, x[:, :n], y[:, :n], x_test) - y_test, SHOTS, steps)
        for steps, n in enumerate((0, SHOTS))
    ]


def summary_of(residuals: np.ndarray, shots: int, steps: int) -> ErrorSummary:
    """Summarise the residuals (n_tasks, n_points, 1) of what cannot diverge."""
    errors = np.mean(residuals**2, axis=(1, 2))
    half_width = 1.96 * errors.std(ddof=1) / np.sqrt(len(errors))
    return ErrorSummary(
        shots, steps, float(errors.mean()), float(half_width), float(np.median(errors)), 0
    )


def run(name: str, seed: int, iterations: int, validations: int) -> dict[str, Any]:
    """Train one method with one seed, test what did best on the validation tasks."""
    method = METHODS[name]
    rng = np.random.default_rng(seed)
    head = isinstance(method.training, fm.BayesianLastLayer)
    theta = (method.training if head else method.training.model).init(rng)
    best = BestCheckpoint(method, max(iterations // validations, 1))
    start = time.perf_counter()
    train(
        method.training,
        theta,
        lambda: method.dataset.sample(25, method.n_support, 10, rng),
        Adam(1e-3),
        iterations,
        best,
        rate_optimizer=Adam(1e-3) if method.learned else None,
        log_rates=False,
        clip_norm=method.clip_norm,
    )
    seconds = time.perf_counter() - start - best.seconds
    if not best.iteration:
        raise FloatingPointError(f"{name}: no validation error was finite")
    return {
        "method": name,
        "seed": seed,
        "iterations": iterations,
        "validations": validations,
        "iteration": best.iteration,
        "rates": [] if head else np.quantile(best.inner_lr, [0.05, 0.95]).tolist(),
        "seconds": seconds,
        "curve": best.curve,
        "errors": [summary._asdict() for summary in judge(method, best)],
    }


# ---- what all runs come to


Runs = dict[str, list[dict[str, Any]]]


def load(folder: Path, iterations: int, validations: int) -> Runs:
    """Return the runs of each method that has any; all must be of these settings."""
    found: Runs = {name: [] for name in METHODS}
    wanted = {"iterations": iterations, "validations": validations}
    for path in sorted(folder.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        for option, value in wanted.items():
            if one.get(option) != value:
                raise SystemExit(
                    f"{path} is a run with --{option} {one.get(option)}, asked for is {value}; "
                    "take another folder, or delete the file"
                )
        found[one["method"]].append(one)
    return {name: runs for name, runs in found.items() if runs}


def _errors(runs: list[dict[str, Any]], entry: str) -> np.ndarray:
    """One entry of the summaries: (runs, steps)."""
    return np.array([[error[entry] for error in one["errors"]] for one in runs])


def table(found: Runs) -> str:
    """Return a Markdown table: means of the seeds, and each seed's mean."""
    lines = [
        "| method | steps | mean | of each seed | median | diverged |",
        "|---|---:|---:|---|---:|---|",
    ]
    for name, runs in found.items():
        means, medians, diverged = (_errors(runs, e) for e in ("mean", "median", "n_diverged"))
        for steps in TEST_STEPS:
            if steps >= means.shape[1]:
                break  # in closed form there is one step
            cells = [METHODS[name].label, str(steps), error_text(means[:, steps].mean())]
            cells += [", ".join(map(error_text, means[:, steps]))]
            cells += [error_text(medians[:, steps].mean())]
            cells += [", ".join(map(str, diverged[:, steps]))]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| method | best iteration | inner rate | training, s |", "|---|---|---|---|"]
    for name, runs in found.items():
        entries = [", ".join(str(one["iteration"]) for one in runs)]
        entries += [", ".join(_rates(*one["rates"]) for one in runs)]
        entries += [", ".join(f"{one['seconds']:.1f}" for one in runs)]
        lines.append(f"| {METHODS[name].label} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _rates(*bounds: float) -> str:
    """Name the rates (of what is in closed form there are none)."""
    return " to ".join(dict.fromkeys(f"{rate:.2g}" for rate in bounds)) or "none"


# Without the oracle and the closed form, whose errors are a hundredth of the others'.
COLOURS = {
    "exact": "#2166ac",
    "first": "#67a9cf",
    "exact-1": "#1b7837",
    "meta-sgd": "#e08214",
    "pretrained": "#9a9a9a",
}


def picture(found: Runs) -> Figure:
    """Draw the test errors over steps, and the validation error over iterations."""
    figure = Figure(figsize=(11, 4.6), dpi=100, layout="constrained")
    panels = figure.subplots(1, 3)
    for name, colour in COLOURS.items():
        if name not in found:
            continue
        runs = found[name]
        for axes, entry in zip(panels, ("mean", "median"), strict=False):
            errors = _errors(runs, entry)
            axes.plot(errors.T, color=colour, linewidth=0.7, alpha=0.4)
            axes.plot(errors.mean(axis=0), color=colour, linewidth=2)
        curves = np.array([one["curve"] for one in runs])
        label, iterations = METHODS[name].label, curves[0, :, 0] / 1000
        panels[2].plot(iterations, np.median(curves[:, :, 1], axis=0), color=colour, label=label)
    published = list(PUBLISHED.keys()), list(PUBLISHED.values())
    panels[0].plot(*published, "o", color="#b2182b", zorder=5, label="MAML, as published")
    for axes, title in zip(
        panels, ("mean of the test tasks", "median of the test tasks", "validation"), strict=True
    ):
        axes.set_yscale("log")
        axes.set_ylim(0.05, 8)  # where tasks diverge, the mean leaves the picture
        axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(title)
        axes.set_xlabel(f"steps on {SHOTS} points")
        tidy(axes)
    panels[0].set_ylabel("squared error")
    panels[2].set_xlabel("iterations, thousands")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def main() -> None:
    """Train what has no file yet, then print the table and draw the picture of all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=70_000)
    parser.add_argument("--validations", type=int, default=70)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = options.iterations, options.validations
    load(options.out, *settings)  # what does not fit is refused before the work
    for name in options.methods:
        for seed in options.seeds:
            path = options.out / f"{name}-{seed}.json"
            if not path.exists():
                text = json.dumps(run(name, seed, *settings))
                write_whole(path, lambda file, text=text: file.write(text.encode()))
    found = load(options.out, *settings)
    print(table(found))
    picture(found).savefig(options.out / "sinusoid.png")


if __name__ == "__main__":
    main()
