"""Learning-rate schedules: the rate of an update from the number of updates before it.

A schedule is a frozen callable that goes where an optimizer takes ``learning_rate``. It reads the
optimizer's own count, so a resumed training goes on at the right place. A constant rate is a plain
number, and any function of one integer will do as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..checks import as_count, as_number, as_positive, shown

__all__ = ["Cosine", "LearningRate", "Step", "as_learning_rate", "rate_at"]

LearningRate = float | Callable[[int], float]

_set = object.__setattr__  # for __post_init__ of a frozen dataclass


@dataclass(frozen=True)
class Cosine:
    """From ``initial`` to ``final`` along half a cosine wave [1]_, and ``final`` from then on.

    Parameters
    ----------
    initial : float
        Rate of the first update, positive.
    n_updates : int
        The update from which on the rate is ``final``.
    final : float
        0 or more.

    Raises
    ------
    TypeError, ValueError
        For another number.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts. ICLR
       2017, equation 5.

    Examples
    --------
    >>> from fastmaml.learn import Cosine
    >>> rate = Cosine(initial=0.1, n_updates=100)
    >>> [round(rate(n), 3) for n in (0, 50, 100, 150)]
    [0.1, 0.05, 0.0, 0.0]
    """

    initial: float
    n_updates: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _set(self, "initial", as_positive("initial", self.initial))
        _set(self, "n_updates", as_count("n_updates", self.n_updates, 1))
        final = as_number("final", self.final)
        if final < 0:
            raise ValueError(f"final is {final}; accepted are numbers of at least 0")
        _set(self, "final", final)

    def __call__(self, n_updates: int) -> float:
        """Return the rate of the update that comes after ``n_updates`` others."""
        share = min(as_count("n_updates", n_updates), self.n_updates) / self.n_updates
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Step:
    """``initial``, multiplied by ``factor`` after every so many updates.

    Parameters
    ----------
    initial : float
        Rate of the first updates, positive.
    every : int
        Updates between two changes.
    factor : float
        Positive.

    Raises
    ------
    TypeError, ValueError
        For another number.

    Examples
    --------
    >>> from fastmaml.learn import Step
    >>> rate = Step(initial=0.1, every=100, factor=0.5)
    >>> [rate(n) for n in (0, 99, 100, 200)]
    [0.1, 0.1, 0.05, 0.025]
    """

    initial: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _set(self, "initial", as_positive("initial", self.initial))
        _set(self, "every", as_count("every", self.every, 1))
        _set(self, "factor", as_positive("factor", self.factor))

    def __call__(self, n_updates: int) -> float:
        """Return the rate of the update that comes after ``n_updates`` others."""
        n_updates = as_count("n_updates", n_updates)
        try:
            return self.initial * self.factor ** (n_updates // self.every)
        except OverflowError:
            raise OverflowError(
                f"factor is {self.factor}: the rate after {shown(n_updates)} updates is too large"
            ) from None


def as_learning_rate(name: str, value: Any) -> LearningRate:
    """Return a positive number as a float, and a schedule as it is."""
    if isinstance(value, type):
        raise TypeError(f"{name} is {shown(value)}; accepted are numbers and schedules, as objects")
    return value if callable(value) else as_positive(name, value)


def rate_at(learning_rate: LearningRate, n_updates: int) -> float:
    """Return the rate of the update that comes after ``n_updates`` others."""
    if not callable(learning_rate):
        return learning_rate
    # A NumPy scalar from somebody's schedule would turn float32 parameters into float64.
    return as_number(f"learning_rate({shown(n_updates)})", learning_rate(n_updates))
