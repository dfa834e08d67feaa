"""Meta-updates: theta and a meta-gradient in, a new theta out.

An optimizer is a frozen set of numbers with two pure functions::

    state = optimizer.init(theta)
    theta, state = optimizer.update(theta, gradient, state)

Neither writes to its arguments, so an earlier ``theta`` or ``state`` can be kept without a copy. A
state is a NamedTuple of arrays and integers: ``np.savez(path, **state._asdict())`` saves it without
pickle, and ``AdamState(**np.load(path))`` brings it back, to the very bits.

theta decides the dtype: float32 is updated in float32, every other real dtype in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..checks import as_array, as_count, as_dtype, as_number, as_positive, shape_text
from ..kernels.adam import adam
from .schedules import LearningRate, as_learning_rate, rate_at

__all__ = ["SGD", "Adam", "AdamState", "AdamW", "Optimizer", "SGDState"]


_set = object.__setattr__  # for __post_init__ of a frozen dataclass


class Optimizer(Protocol):
    """What :func:`fastmaml.learn.train` asks of an optimizer."""

    def init(self, theta: np.ndarray) -> Any:
        """Return the state before the first update of theta (P,)."""

    def update(self, theta: np.ndarray, gradient: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Return the parameters and the state after one update."""


class SGDState(NamedTuple):
    """State of :class:`SGD`: the number of updates so far, and the velocity.

    The velocity is (P,), or (0,) without momentum.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.learn import SGD
    >>> SGD(0.1, momentum=0.9).init(np.zeros(2))
    SGDState(n_updates=0, velocity=array([0., 0.]))
    """

    n_updates: int
    velocity: np.ndarray


@dataclass(frozen=True)
class SGD:
    """Gradient descent, equation 1 of the derivation: theta - beta * gradient.

    With momentum, the gradient's place takes velocity = momentum * velocity + gradient, as in
    PyTorch and Optax.

    Parameters
    ----------
    learning_rate : float or callable
        beta, positive; or a schedule, such as :class:`Cosine`.
    momentum : float
        In [0, 1).

    Raises
    ------
    TypeError, ValueError
        For another number; in its methods, for arrays that are not real or not of one shape.

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

    learning_rate: LearningRate
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _set(self, "learning_rate", as_learning_rate("learning_rate", self.learning_rate))
        _set(self, "momentum", _as_decay("momentum", self.momentum))

    def init(self, theta: np.ndarray) -> SGDState:
        """Return the state before the first update of theta (P,)."""
        theta, _ = _as_pair(theta, theta)
        return SGDState(0, np.zeros_like(theta) if self.momentum else np.zeros(0, theta.dtype))

    def update(
        self, theta: np.ndarray, gradient: np.ndarray, state: SGDState
    ) -> tuple[np.ndarray, SGDState]:
        """Return new parameters (P,) and state, of theta (P,), its gradient and the state."""
        theta, gradient = _as_pair(theta, gradient)
        n_updates, velocity = _updates_of(SGDState, state), state.velocity
        if self.momentum:
            velocity = _as_twin("state.velocity", velocity, theta)
            gradient = velocity = self.momentum * velocity + gradient
        rate = rate_at(self.learning_rate, n_updates)
        return theta - rate * gradient, SGDState(n_updates + 1, velocity)


class AdamState(NamedTuple):
    """State of :class:`Adam`: the number of updates so far and the two running means.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.learn import Adam
    >>> Adam().init(np.zeros(2)).first_moment
    array([0., 0.])
    """

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
    learning_rate : float or callable
        Size of a step, positive; or a schedule, such as :class:`Cosine`.
    beta1, beta2 : float
        Decay of the running means of the gradient and of its square, in [0, 1).
    epsilon : float
        Added to sqrt(v), positive. It matters only where gradients are about as small.

    Raises
    ------
    TypeError, ValueError
        For another number; in its methods, for arrays that are not real or not of one shape.

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

    learning_rate: LearningRate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _set(self, "learning_rate", as_learning_rate("learning_rate", self.learning_rate))
        _set(self, "epsilon", as_positive("epsilon", self.epsilon))
        for name in ("beta1", "beta2"):
            _set(self, name, _as_decay(name, getattr(self, name)))

    def init(self, theta: np.ndarray) -> AdamState:
        """Return the state before the first update of theta (P,): both means zero."""
        theta, _ = _as_pair(theta, theta)
        return AdamState(0, np.zeros_like(theta), np.zeros_like(theta))

    def update(
        self, theta: np.ndarray, gradient: np.ndarray, state: AdamState
    ) -> tuple[np.ndarray, AdamState]:
        """Return new parameters (P,) and state, of theta (P,), its gradient and the state."""
        theta, gradient = _as_pair(theta, gradient)
        n_updates = _updates_of(AdamState, state)
        first = _as_twin("state.first_moment", state.first_moment, theta)
        second = _as_twin("state.second_moment", state.second_moment, theta)
        rate = rate_at(self.learning_rate, n_updates)
        n_updates += 1
        numbers = np.array(
            [
                self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2,
                math.sqrt(1 - self.beta2**n_updates), self.epsilon,
                rate / (1 - self.beta1**n_updates),
            ],
            theta.dtype,
        )  # fmt: skip
        new = np.empty_like(theta), np.empty_like(theta), np.empty_like(theta)
        arrays = (theta, gradient, first, second, *new)
        adam(numbers, *[array.ravel() for array in arrays])
        return new[0], AdamState(n_updates, *new[1:])


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay [1]_: theta also shrinks by learning_rate * weight_decay.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon
        As for :class:`Adam`.
    weight_decay : float
        0 or more. Before the step of Adam, theta becomes (1 - learning_rate * weight_decay) *
        theta, as in PyTorch.

    Raises
    ------
    TypeError, ValueError
        As for :class:`Adam`, in its methods, too.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter. Decoupled Weight Decay Regularization. ICLR 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.learn import AdamW
    >>> optimizer = AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> theta = np.array([1.0, 2.0])
    >>> theta, state = optimizer.update(theta, np.array([3.0, 0.0]), optimizer.init(theta))
    >>> theta.round(4)
    array([0.85, 1.9 ])
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        decay = as_number("weight_decay", self.weight_decay)
        if decay < 0:
            raise ValueError(f"weight_decay is {decay}; accepted are numbers of at least 0")
        _set(self, "weight_decay", decay)

    def update(
        self, theta: np.ndarray, gradient: np.ndarray, state: AdamState
    ) -> tuple[np.ndarray, AdamState]:
        """Return new parameters (P,) and state, of theta (P,), its gradient and the state."""
        theta, gradient = _as_pair(theta, gradient)
        shrink = 1 - rate_at(self.learning_rate, _updates_of(AdamState, state)) * self.weight_decay
        return super().update(shrink * theta, gradient, state)


def _updates_of(kind: type, state: Any) -> int:
    """The number of updates that a state of this kind has seen."""
    if not isinstance(state, kind):
        raise TypeError(
            f"state is a {type(state).__name__}; accepted is what init and update return, "
            f"an {kind.__name__}"
        )
    # From a file it is a 0-d array; an int keeps what follows in Python's arithmetic.
    return as_count("state.n_updates", state.n_updates)  # type: ignore[attr-defined]


def _as_decay(name: str, value: Any) -> float:
    decay = as_number(name, value)
    if not 0 <= decay < 1:
        raise ValueError(f"{name} is {decay}; accepted are numbers from 0 to below 1")
    return decay


def _as_pair(theta: Any, gradient: Any) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of theta's dtype, float32 or else float64, and of one shape."""
    theta = as_array("theta", theta, as_dtype("theta", theta))
    return theta, _as_twin("gradient", gradient, theta)


def _as_twin(name: str, value: Any, theta: np.ndarray) -> np.ndarray:
    """An array of theta's dtype and shape."""
    array = as_array(name, value, theta.dtype)
    if array.shape != theta.shape:
        raise ValueError(
            f"{name} has shape {shape_text(array.shape)}, theta has {shape_text(theta.shape)}; "
            "accepted is one shape"
        )
    return array
