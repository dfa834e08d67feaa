"""The sinusoid experiment of the MAML paper: meta-train, then test on tasks never seen.

The command line's ``fastmaml sinusoid`` is this file with a progress bar, a table and pictures.
Everything is computed in float64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO, NamedTuple

import numpy as np

from .datasets import Sinusoid
from .learn import Adam, TrainState, train
from .maml import MAML
from .models import MLP

__all__ = [
    "ErrorSummary",
    "Heldout",
    "SinusoidExperiment",
    "error_table",
    "error_text",
    "heldout_errors",
    "heldout_rows",
    "heldout_table",
    "heldout_tasks",
    "meta_train",
    "save_parameters",
    "summarize",
]

DATASET = Sinusoid()
MODEL = MLP([1, 40, 40, 1], "relu")

TEST_SHOTS = (5, 10, 20)
TEST_STEPS = (0, 1, 5, 10)
N_TEST_TASKS = 600
N_TEST_POINTS = 100

# A task has diverged when adapting made it this many times worse than tasks are before adapting.
DIVERGED = 100.0


@dataclass(frozen=True)
class SinusoidExperiment:
    """What can be changed about the experiment; the defaults are the paper's, but for iterations.

    The loss is "mse", averaged over tasks; support and query both have ``shots`` rows.
    """

    iterations: int = 15_000
    seed: int = 0
    order: str = "exact"
    shots: int = 10
    meta_batch: int = 25
    inner_lr: float = 0.01
    inner_steps: int = 1
    outer_lr: float = 1e-3

    def maml(self, steps: int) -> MAML:
        """Return the specification with this many inner steps."""
        return MAML(
            MODEL,
            inner_lr=self.inner_lr,
            steps=steps,
            order=self.order,
            loss="mse",
            task_mean=True,
        )


def meta_train(
    experiment: SinusoidExperiment, callback: Callable[[TrainState], bool | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Meta-train from fresh parameters; return theta (P,) and the values (iterations,)."""
    rng = np.random.default_rng(experiment.seed)
    result = train(
        experiment.maml(experiment.inner_steps),
        MODEL.init(rng),
        lambda: DATASET.sample(experiment.meta_batch, experiment.shots, experiment.shots, rng),
        Adam(experiment.outer_lr),
        experiment.iterations,
        callback,
    )
    return result.theta, result.values


def save_parameters(
    file: IO[bytes], experiment: SinusoidExperiment, theta: np.ndarray, values: np.ndarray
) -> None:
    """Write an npz, readable without pickle: theta, values, and the configuration as JSON text."""
    configuration = {
        "layer_sizes": MODEL.layer_sizes,
        "activation": MODEL.activation,
        "loss": "mse",
        **asdict(experiment),
        "iterations_done": len(values),
    }
    np.savez(file, theta=theta, values=values, configuration=json.dumps(configuration))


def _test_generator() -> np.random.Generator:
    """A stream of its own, which no seed of a training gives: the same test tasks for all."""
    return np.random.default_rng(np.random.SeedSequence(2017, spawn_key=(1,)))


class ErrorSummary(NamedTuple):
    """Test error for one number of shots and steps, over all test tasks.

    A task's error is the mean squared error over its test points. ``mean`` and ``half_width`` (of
    its 95 % interval, normal approximation) include the diverged tasks, and after many steps a few
    of those can dominate both; ``median`` hardly sees them. A task has diverged when its error is
    not finite, or above 100 times the mean error of all test tasks before adaptation.
    """

    shots: int
    steps: int
    mean: float
    half_width: float
    median: float
    n_diverged: int


def heldout_errors(experiment: SinusoidExperiment, theta: np.ndarray) -> list[ErrorSummary]:
    """Adapt theta to held-out tasks, for every number of test shots and steps."""
    mamls = [experiment.maml(steps) for steps in TEST_STEPS]
    return [s for rows in heldout_rows() for s in summarize(mamls, theta, *rows)]


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def heldout_rows(dataset: Sinusoid = DATASET) -> Iterator[Rows]:
    """Draw the test tasks for each of ``TEST_SHOTS``: x and y to adapt to, x and y to judge by.

    All share the same waves and test points; no seed of a training changes them. So a difference,
    be it between steps or between trained parameters, is not chance of the draw.
    """
    rng = _test_generator()
    waves = dataset.sample_functions(N_TEST_TASKS, rng)
    x_test, y_test = dataset.sample_points(*waves, N_TEST_POINTS, rng)
    for shots in TEST_SHOTS:
        yield (*dataset.sample_points(*waves, shots, rng), x_test, y_test)


def summarize(
    mamls: Sequence[MAML],
    theta: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
) -> list[ErrorSummary]:
    """Adapt theta to the tasks (x, y) by each specification, and judge by (x_test, y_test)."""
    bound = DIVERGED * _errors(np.asarray(mamls[0].model.predict(theta, x_test)), y_test).mean()
    return [
        _summary(
            x.shape[1], maml.steps, _errors(_predict(maml, theta, x, y, x_test), y_test), bound
        )
        for maml in mamls
    ]


def _predict(
    maml: MAML, theta: np.ndarray, x: np.ndarray, y: np.ndarray, x_new: np.ndarray
) -> np.ndarray:
    """Adapt, then predict, with NaN for a task whose parameters have left the finite numbers."""
    # Tasks that diverge are counted here, and need no warning.
    adapted = replace(maml, check_finite=False).adapt(theta, x, y)
    alive = np.isfinite(adapted).all(axis=1)
    predicted = np.full((*x_new.shape[:2], maml.model.n_outputs), np.nan)
    if alive.any():
        predicted[alive] = maml.model.predict(adapted[alive], x_new[alive])
    return predicted


# Diverging tasks overflow; they are counted, not warned about.
_quiet = np.errstate(over="ignore", invalid="ignore")


@_quiet
def _errors(predicted: np.ndarray, y_test: np.ndarray) -> np.ndarray:
    errors = np.mean((predicted - y_test) ** 2, axis=(1, 2))
    return np.where(np.isnan(errors), np.inf, errors)


@_quiet
def _summary(shots: int, steps: int, errors: np.ndarray, bound: float) -> ErrorSummary:
    return ErrorSummary(
        shots,
        steps,
        mean=float(errors.mean()),
        half_width=float(1.96 * errors.std(ddof=1) / math.sqrt(len(errors))),
        median=float(np.median(errors)),
        n_diverged=int(np.count_nonzero(~(errors <= bound))),
    )


def heldout_table(summaries: Sequence[ErrorSummary]) -> str:
    """Return the summaries of :func:`heldout_errors` as a table of plain text, with a heading."""
    return error_table(
        summaries,
        f"Mean squared error on {N_TEST_TASKS} held-out tasks, {N_TEST_POINTS} points each, "
        "float64",
    )


def error_table(summaries: Sequence[ErrorSummary], heading: str) -> str:
    """Return summaries as a table of plain text under a heading."""
    head = ("shots", "steps", "mean ± 95 %", "median", "diverged")
    rows = [head]
    for s in summaries:
        mean = f"{error_text(s.mean)} ± {error_text(s.half_width)}"
        rows.append((f"{s.shots}", f"{s.steps}", mean, error_text(s.median), f"{s.n_diverged}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [heading]
    shots = None
    for row in rows:
        if row[0] != shots:
            lines.append("")  # a gap before each number of shots
            shots = row[0]
        lines.append("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)))
    return "\n".join(lines)


def error_text(value: float) -> str:
    """Return an error with three decimals; what is small with three digits, huge with two."""
    if 0 < value < 0.1:
        return f"{value:.3g}"
    return f"{value:.3f}" if value < 1e4 else f"{value:.1e}"


class Heldout(NamedTuple):
    """A few held-out tasks on a grid, for the picture."""

    x: np.ndarray  # (n_tasks, shots, 1), support
    y: np.ndarray
    grid: np.ndarray  # (n_points,)
    truth: np.ndarray  # (n_tasks, n_points)
    predicted: dict[int, np.ndarray]  # steps -> (n_tasks, n_points)


def heldout_tasks(
    experiment: SinusoidExperiment, theta: np.ndarray, n_tasks: int = 6, n_points: int = 201
) -> Heldout:
    """Draw held-out tasks and predict them before, after one and after ten steps."""
    rng = _test_generator()
    amplitude, phase = DATASET.sample_functions(n_tasks, rng)
    x, y = DATASET.sample_points(amplitude, phase, experiment.shots, rng)
    grid = np.linspace(*DATASET.x_range, n_points)
    everywhere = np.broadcast_to(grid[None, :, None], (n_tasks, n_points, 1))
    predicted = {
        steps: _predict(experiment.maml(steps), theta, x, y, everywhere)[:, :, 0]
        for steps in (0, 1, 10)
    }
    truth = DATASET.evaluate(amplitude, phase, everywhere)[:, :, 0]
    return Heldout(x, y, grid, truth, predicted)
