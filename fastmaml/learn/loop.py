"""The meta-training loop: sample tasks, take the meta-gradient, update theta, again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..checks import as_count
from .optimizers import Optimizer

__all__ = ["TrainResult", "TrainState", "train"]


class Objective(Protocol):
    """What :func:`train` asks of a meta-learner; :class:`fastmaml.MAML` has it."""

    @property
    def value_and_gradient(self) -> Callable[..., tuple[float, np.ndarray]]:
        """Of (theta, *batch): the meta-objective on a batch of tasks and its gradient."""


class TrainState(NamedTuple):
    """What the callback of :func:`train` sees after each iteration.

    Nothing in it is written to later, so a callback may keep it without a copy.

    Attributes
    ----------
    iteration : int
        Iterations done in this call: 1 after the first.
    value : float
        Meta-objective on this iteration's tasks, at the parameters before the update.
    theta : ndarray, shape (P,)
        Parameters after the update.
    optimizer_state : NamedTuple
        State of the optimizer after the update.
    """

    iteration: int
    value: float
    theta: np.ndarray
    optimizer_state: Any


class TrainResult(NamedTuple):
    """What :func:`train` returns.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Parameters after the last update.
    optimizer_state : NamedTuple
        State of the optimizer after the last update.
    values : ndarray, shape (iterations done,)
        Meta-objective of each iteration, before its update.
    """

    theta: np.ndarray
    optimizer_state: Any
    values: np.ndarray


def train(
    maml: Objective,
    theta: np.ndarray,
    sampler: Callable[[], Iterable[Any]],
    optimizer: Optimizer,
    n_iterations: int,
    callback: Callable[[TrainState], bool | None] | None = None,
    *,
    optimizer_state: Any = None,
) -> TrainResult:
    """Meta-train: in each iteration one batch of tasks, one meta-gradient, one update.

    Parameters
    ----------
    maml : MAML
        The meta-objective: anything with ``value_and_gradient(theta, *batch)``.
    theta : array_like, shape (P,)
        Parameters to start from; float32 stays float32, anything else computes in float64.
    sampler : callable
        Called without arguments once an iteration; returns (x, y) or (x, y, x_query, y_query).
    optimizer : SGD or Adam
        The meta-update.
    n_iterations : int
        How many iterations; 0 returns what was given.
    callback : callable, optional
        Called with a :class:`TrainState` after each iteration. Returning True ends the training
        there. (A progress bar's ``update`` may return True for its own reasons: do not pass that
        on.)
    optimizer_state : NamedTuple, optional
        Where an earlier training left the optimizer. With the ``theta`` of the same moment, and a
        sampler whose Generator goes on from there, the result has the bits of one uninterrupted
        training.

    Returns
    -------
    TrainResult
        theta, optimizer_state and the values of all iterations.

    Raises
    ------
    FloatingPointError
        The meta-objective or its gradient is not finite. The message names the iteration; the last
        good parameters are those that the callback saw last.

    Notes
    -----
    An exception, KeyboardInterrupt included, passes through. A callback that keeps its last state
    has all that was reached until then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import Adam, train
    >>> maml = fm.MAML(fm.MLP([1, 16, 1]), inner_lr=0.01, loss="mse", task_mean=True)
    >>> rng = np.random.default_rng(0)
    >>> result = train(
    ...     maml,
    ...     maml.model.init(rng),
    ...     lambda: Sinusoid().sample(25, n_support=10, n_query=10, rng=rng),
    ...     Adam(learning_rate=0.01),
    ...     n_iterations=200,
    ... )
    >>> bool(result.values[-20:].mean() < result.values[:20].mean())
    True
    """
    n_iterations = as_count("n_iterations", n_iterations, 0)
    theta = np.asarray(theta)
    theta = theta.astype(np.float32 if theta.dtype == np.float32 else np.float64)
    state = optimizer.init(theta) if optimizer_state is None else optimizer_state
    values: list[float] = []
    for iteration in range(1, n_iterations + 1):
        value, gradient = maml.value_and_gradient(theta, *sampler())
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            raise FloatingPointError(
                f"the meta-objective is {value:.6g} and its gradient "
                f"{_describe(gradient)} in iteration {iteration}; "
                "a smaller inner_lr or learning_rate usually helps"
            )
        theta, state = optimizer.update(theta, gradient, state)
        values.append(value)
        if callback is not None and callback(TrainState(iteration, value, theta, state)):
            break
    return TrainResult(theta, state, np.array(values, dtype=np.float64))


def _describe(gradient: np.ndarray) -> str:
    n_bad = int(np.count_nonzero(~np.isfinite(gradient)))
    return f"is not finite in {n_bad} of {gradient.size} entries" if n_bad else "is finite"
