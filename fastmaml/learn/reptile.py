"""Reptile: move the meta-parameters towards the adapted ones; no gradient of a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..maml import MAML

__all__ = ["Reptile", "reptile_gradient"]


def reptile_gradient(
    maml: MAML, theta: ArrayLike, x: Any, y: Any, *, sample_weight: Any = None
) -> NDArray[Any]:
    """Return Σ_i (theta - theta'_i), the mean if ``maml.task_mean``, as a gradient for theta [1]_.

    A gradient step with learning rate ε is then Reptile's update, theta + ε Σ_i (theta'_i -
    theta). It is the gradient of no function; with one inner step and the rate as a number, it is
    `inner_lr` times the gradient of the support loss.

    Parameters
    ----------
    maml : MAML
        Says how a task adapts; `order` and `step_weights` play no part.
    theta : array_like, shape (P,)
    x, y : array_like or list of array_like
        All rows of each task, as for `fastmaml.MAML.adapt`. Reptile has no query set.
    sample_weight : array_like or list of array_like, optional
        Of each row, as for `fastmaml.MAML.adapt`.

    Returns
    -------
    ndarray, shape (P,)

    Raises
    ------
    TypeError, ValueError
        For a `maml` that is none, or data of the wrong kind or shape, or that is not finite.

    References
    ----------
    .. [1] A. Nichol, J. Achiam, J. Schulman, On first-order meta-learning algorithms, 2018,
       algorithm 2.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.learn import reptile_gradient
    >>> maml = fm.MAML(fm.Linear(1, intercept=False), inner_lr=0.1, steps=2)
    >>> reptile_gradient(maml, [1.0], [[[1.0]]], [[3.0]])
    array([-0.38])
    """
    _require_maml(maml)
    adapted = np.atleast_2d(maml.adapt(theta, x, y, sample_weight=sample_weight))
    moved: NDArray[Any] = np.asarray(theta, adapted.dtype) - adapted
    return moved.mean(axis=0) if maml.task_mean else moved.sum(axis=0)


@dataclass(frozen=True)
class Reptile:
    """Reptile [1]_ as an objective for `fastmaml.learn.train`.

    Parameters
    ----------
    maml : MAML
        Says how a task adapts, and how the values are taken.

    Raises
    ------
    TypeError
        For another objective: what adapts in closed form has no adapted parameters to move to.

    References
    ----------
    .. [1] A. Nichol, J. Achiam, J. Schulman, On first-order meta-learning algorithms, 2018.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import SGD, Reptile, train
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), inner_lr=0.02, steps=5, loss="mse", task_mean=True)
    >>> sampler = lambda: Sinusoid().sample(10, n_support=10, n_query=10, rng=0)
    >>> result = train(Reptile(maml), maml.model.init(0), sampler, SGD(0.1), n_iterations=50)
    >>> bool(result.values[-1] < result.values[0])
    True
    >>> tasks = sampler()
    >>> value, gradient = Reptile(maml).value_and_gradient(result.theta, *tasks)
    >>> value == Reptile(maml).value(result.theta, *tasks)
    True
    """

    maml: MAML

    def __post_init__(self) -> None:
        _require_maml(self.maml)

    def value(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        **weights: Any,
    ) -> float:  # fmt: skip
        """Return ``maml.value``, for validation tasks; arguments as of `MAML.value`."""
        return self.maml.value(theta, x, y, x_query, y_query, **weights)

    def value_and_gradient(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        **weights: Any,
    ) -> tuple[float, NDArray[Any]]:  # fmt: skip
        """Return `value` and `reptile_gradient` of the support rows.

        Arguments and errors are those of `MAML.value`; `weights` as for `value`.
        """
        own = weights.get("sample_weight")
        gradient = reptile_gradient(self.maml, theta, x, y, sample_weight=own)
        return self.value(theta, x, y, x_query, y_query, **weights), gradient


def _require_maml(maml: Any) -> None:
    if not isinstance(maml, MAML):
        raise TypeError(f"maml is a {type(maml).__name__}; accepted is a fastmaml.MAML")
