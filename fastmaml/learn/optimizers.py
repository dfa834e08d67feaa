"""Meta-updates: theta and a meta-gradient in, a new theta out.

An optimizer is a frozen set of numbers with two pure functions::

    state = optimizer.init(theta)
    theta, state = optimizer.update(theta, gradient, state)

Neither writes to its arguments, so an earlier ``theta`` or ``state`` can be kept without a copy. A
state is a NamedTuple of arrays and integers: ``np.savez(path, **state._asdict())`` saves it without
pickle, and ``AdamState(**np.load(path))`` brings it back, to the very bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..checks import as_number, as_positive

__all__ = ["SGD", "Adam", "AdamState", "Optimizer", "SGDState"]


_set = object.__setattr__  # for __post_init__ of a frozen dataclass


class Optimizer(Protocol):
    """What :func:`fastmaml.learn.train` asks of an optimizer."""

    def init(self, theta: np.ndarray) -> Any:
        """Return the state before the first update."""

    def update(self, theta: np.ndarray, gradient: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Return the parameters and the state after one update."""


class SGDState(NamedTuple):
    """State of :class:`SGD`: the number of updates so far."""

    n_updates: int


@dataclass(frozen=True)
class SGD:
    """Gradient descent, equation 1 of the derivation: theta - beta * gradient.

    Parameters
    ----------
    learning_rate : float
        beta, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.learn import SGD
    >>> optimizer = SGD(learning_rate=0.5)
    >>> theta = np.array([1.0, 2.0])
    >>> theta, state = optimizer.update(theta, np.array([1.0, -1.0]), optimizer.init(theta))
    >>> theta
    array([0.5, 2.5])
    """

    learning_rate: float

    def __post_init__(self) -> None:
        _set(self, "learning_rate", as_positive("learning_rate", self.learning_rate))

    def init(self, theta: np.ndarray) -> SGDState:
        """Return the state before the first update."""
        return SGDState(0)

    def update(
        self, theta: np.ndarray, gradient: np.ndarray, state: SGDState
    ) -> tuple[np.ndarray, SGDState]:
        """Return new parameters, of theta's dtype, and the new state."""
        theta, gradient = _as_pair(theta, gradient)
        return theta - self.learning_rate * gradient, SGDState(int(state.n_updates) + 1)


class AdamState(NamedTuple):
    """State of :class:`Adam`: the number of updates so far and the two running means."""

    n_updates: int
    first_moment: np.ndarray
    second_moment: np.ndarray


@dataclass(frozen=True)
class Adam:
    """Adam [1]_: steps scaled by running means of the gradient and of its square.

    With m and v the running means, corrected for having started from zero, the update is
    theta - learning_rate * m / (sqrt(v) + epsilon). It is the same as PyTorch's and Optax's.

    Parameters
    ----------
    learning_rate : float
        Size of a step, positive.
    beta1, beta2 : float
        Decay of the running means of the gradient and of its square, in [0, 1).
    epsilon : float
        Added to sqrt(v), positive. It matters only where gradients are about as small.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba. Adam: A Method for Stochastic Optimization. ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.learn import Adam
    >>> optimizer = Adam(learning_rate=0.1)
    >>> theta = np.array([1.0, 2.0])
    >>> theta, state = optimizer.update(theta, np.array([3.0, -1e-3]), optimizer.init(theta))
    >>> theta.round(4)
    array([0.9, 2.1])
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon"):
            _set(self, name, as_positive(name, getattr(self, name)))
        for name in ("beta1", "beta2"):
            beta = as_number(name, getattr(self, name))
            if not 0 <= beta < 1:
                raise ValueError(f"{name} is {beta}; accepted are numbers from 0 to below 1")
            _set(self, name, beta)

    def init(self, theta: np.ndarray) -> AdamState:
        """Return the state before the first update: no updates, both means zero."""
        theta, _ = _as_pair(theta, theta)
        return AdamState(0, np.zeros_like(theta), np.zeros_like(theta))

    def update(
        self, theta: np.ndarray, gradient: np.ndarray, state: AdamState
    ) -> tuple[np.ndarray, AdamState]:
        """Return new parameters, of theta's dtype, and the new state."""
        theta, gradient = _as_pair(theta, gradient)
        # From a file the count is a 0-d array; int() keeps what follows in Python's arithmetic.
        n_updates = int(state.n_updates) + 1
        first = self.beta1 * state.first_moment + (1 - self.beta1) * gradient
        second = self.beta2 * state.second_moment + (1 - self.beta2) * (gradient * gradient)
        step = np.sqrt(second)
        step /= math.sqrt(1 - self.beta2**n_updates)
        step += self.epsilon
        np.divide(first, step, out=step)
        step *= self.learning_rate / (1 - self.beta1**n_updates)
        np.subtract(theta, step, out=step)
        return step, AdamState(n_updates, first, second)


def _as_pair(theta: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of theta's dtype, float32 or else float64, as everywhere in the package."""
    theta = np.asarray(theta)
    dtype = np.float32 if theta.dtype == np.float32 else np.float64
    return theta.astype(dtype, copy=False), np.asarray(gradient, dtype)
