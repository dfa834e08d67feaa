"""The problems that every benchmark runs, made with NumPy only.

This list is append-only: results of different commits and machines can be compared only while a
name means the same sizes and the same numbers. So the arrays come from a seed of the workload's own
and not from ``fastmaml``, and a peer's process builds its problem without importing ``fastmaml``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .laws import LAWS, Law

DTYPES = ("float32", "float64")
ACTIVATIONS = ("relu", "tanh")


class Workload(NamedTuple):
    """The sizes of a problem. Support and query sets have ``n_rows`` rows each."""

    layers: tuple[int, ...]
    n_tasks: int
    n_rows: int
    steps: int
    inner_lr: float  # for the half_sse loss; small enough that the adapted parameters stay finite
    seed: int


WORKLOADS = {
    "sin": Workload((1, 40, 40, 1), 25, 10, 1, 2e-3, 1),
    "sin5": Workload((1, 40, 40, 1), 25, 10, 5, 2e-3, 2),
    "many": Workload((1, 40, 40, 1), 1000, 5, 1, 4e-3, 3),
    "small": Workload((2, 16, 1), 256, 10, 1, 2e-3, 4),
    "wide": Workload((16, 512, 512, 1), 32, 10, 1, 1e-4, 5),
    "control": Workload((6, 32, 32, 3), 1, 20, 3, 2e-3, 6),
}


class HeadWorkload(NamedTuple):
    """The sizes of a problem whose last layer adapts in closed form.

    The activation of a problem is that of the hidden layers but the last, which is linear.
    """

    layers: tuple[int, ...]
    n_tasks: int
    n_support: int  # rows of a task
    n_query: int
    seed: int


HEADS = {
    "head_sin": HeadWorkload((1, 40, 40, 20, 1), 25, 10, 10, 7),
    "head_many": HeadWorkload((1, 40, 40, 20, 1), 1000, 5, 5, 8),
    "head_wide": HeadWorkload((16, 512, 512, 64, 1), 32, 10, 10, 9),
    "head_long": HeadWorkload((4, 64, 64, 32, 2), 16, 200, 50, 10),
}
HEAD_LOSSES = ("mse", "nll")


class FormulaWorkload(NamedTuple):
    """The sizes of a problem whose model is a formula."""

    law: str
    n_tasks: int
    n_rows: int  # of either side
    steps: int
    seed: int


FORMULAS = {
    f"{law}-{steps}": FormulaWorkload(law, 1000, 20, steps, 11 + i)
    for i, law in enumerate(LAWS)
    for steps in (1, 5)
}


class Problem(NamedTuple):
    """One meta-gradient call: the arrays of a workload in one dtype."""

    layers: tuple[int, ...]
    activation: str
    steps: int
    inner_lr: float
    theta: np.ndarray  # (P,): for each layer the weight (n_out, n_in) row-major, then the bias
    x: np.ndarray  # (n_tasks, n_rows, n_inputs)
    y: np.ndarray  # (n_tasks, n_rows, n_outputs)
    x_query: np.ndarray
    y_query: np.ndarray


class HeadProblem(NamedTuple):
    """One such call of a model whose last layer adapts in closed form."""

    layers: tuple[int, ...]
    activations: tuple[str, ...]  # of each hidden layer
    loss: str
    theta: np.ndarray  # (P,) as of ``Problem``, log prior variances (p,), log noise variance (1,)
    x: np.ndarray  # (n_tasks, n_support, n_inputs)
    y: np.ndarray
    x_query: np.ndarray  # (n_tasks, n_query, n_inputs)
    y_query: np.ndarray


class FormulaProblem(NamedTuple):
    """One such call of a model that is a formula."""

    law: str
    steps: int
    inner_lr: float
    theta: np.ndarray  # (P,)
    x: np.ndarray  # (n_tasks, n_rows, n_inputs)
    y: np.ndarray  # (n_tasks, n_rows, 1)
    x_query: np.ndarray
    y_query: np.ndarray


def problem(
    name: str, dtype: str, activation: str = "relu", loss: str | None = None
) -> Problem | HeadProblem | FormulaProblem:
    """Make a workload's arrays; only those of ``HEADS`` have a choice of losses.

    Those of ``FORMULAS`` have no activation.
    """
    if name in FORMULAS:
        return make_formula(FORMULAS[name], dtype)
    if name in HEADS:
        return make_head(HEADS[name], dtype, activation, str(loss))
    return make(WORKLOADS[name], dtype, activation)


def useful_flops(work: Workload) -> int:
    """Floating-point operations of a meta-gradient that count as useful.

    Products of all tasks' rows with a weight matrix that they share, 2 N n_in n_out each. A layer
    takes part in six of them an inner step: forward, backward, their derivatives (R-forward,
    R-backward), and two outer products; and in three for the query set: forward, backward, outer.
    What a method computes beyond that, for what differs between tasks, is its own affair.
    """
    rows = work.n_tasks * work.n_rows
    weights = sum(n_in * n_out for n_in, n_out in pairwise(work.layers))
    return 2 * rows * weights * (6 * work.steps + 3)


def make(work: Workload, dtype: str, activation: str) -> Problem:
    """Make arrays of given sizes: each task is a sine wave along a direction of its own."""
    rng = np.random.default_rng(work.seed)
    rows = _waves(rng, work.n_tasks, work.layers[0], work.layers[-1], dtype)
    gain = 2.0 if activation == "relu" else 1.0
    theta = _parameters(rng, work.layers, [gain] * len(work.layers)).astype(dtype)
    x, y = rows(work.n_rows)
    x_query, y_query = rows(work.n_rows)
    return Problem(
        work.layers, activation, work.steps, work.inner_lr, theta, x, y, x_query, y_query
    )


def make_head(work: HeadWorkload, dtype: str, activation: str, loss: str) -> HeadProblem:
    """The same for a last layer that adapts, with a prior of about 1 and a noise of about 0.1."""
    rng = np.random.default_rng(work.seed)
    rows = _waves(rng, work.n_tasks, work.layers[0], work.layers[-1], dtype)
    activations = (*[activation] * (len(work.layers) - 3), "identity")
    gains = [2.0 if word == "relu" else 1.0 for word in (*activations, "identity")]
    parameters = _parameters(rng, work.layers, gains)
    variances = [*rng.uniform(-1.0, 1.0, work.layers[-2] + 1), np.log(0.01)]
    theta = np.concatenate([parameters, variances]).astype(dtype)
    x, y = rows(work.n_support)
    x_query, y_query = rows(work.n_query)
    return HeadProblem(work.layers, activations, loss, theta, x, y, x_query, y_query)


def make_formula(work: FormulaWorkload, dtype: str) -> FormulaProblem:
    """Each task has parameters near the usual ones of its law, and measurements with noise."""
    law, rng = LAWS[work.law], np.random.default_rng(work.seed)
    theta = np.array([_free(law, name, value) for name, value in law.values.items()])
    at = theta[:, None, None] + rng.normal(0, 0.1, (len(theta), work.n_tasks, 1))

    def rows() -> tuple[np.ndarray, np.ndarray]:
        shape = work.n_tasks, work.n_rows
        inputs = [rng.uniform(*limits, shape) for limits in law.inputs.values()]
        y = law.of_theta(np, at, inputs) + rng.normal(0, 0.05, shape)
        return np.stack(inputs, -1).astype(dtype), y[..., None].astype(dtype)

    x, y = rows()
    x_query, y_query = rows()
    return FormulaProblem(
        work.law, work.steps, law.rate, theta.astype(dtype), x, y, x_query, y_query
    )


def _free(law: Law, name: str, value: float) -> float:
    """What theta holds for a parameter."""
    if name in law.positive:
        return float(np.log(value))
    if name in law.bounds:
        low, high = law.bounds[name]
        return float(np.log((value - low) / (high - value)))
    return value


def _waves(
    rng: np.random.Generator, n_tasks: int, n_inputs: int, n_outputs: int, dtype: str
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Draw a wave for each task; what is returned draws so many rows of each."""
    amplitude = rng.uniform(0.1, 5.0, (n_tasks, 1, n_outputs))
    phase = rng.uniform(0.0, np.pi, (n_tasks, 1, n_outputs))
    direction = rng.standard_normal((n_tasks, n_inputs, n_outputs))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)

    def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.uniform(-5.0, 5.0, (n_tasks, count, n_inputs)) / np.sqrt(n_inputs)
        y = amplitude * np.sin(x @ direction - phase)
        return x.astype(dtype), y.astype(dtype)

    return rows


def _parameters(rng: np.random.Generator, sizes: tuple[int, ...], gains: list[float]) -> np.ndarray:
    layers = []
    for (n_in, n_out), gain in zip(pairwise(sizes), gains, strict=False):
        layers.append(rng.standard_normal(n_out * n_in) * np.sqrt(gain / n_in))
        layers.append(0.1 * rng.standard_normal(n_out))
    return np.concatenate(layers)
