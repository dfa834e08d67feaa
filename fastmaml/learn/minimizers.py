"""SciPy's minimizers on a fixed set of tasks. Needs SciPy, from the extra ``scipy``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..checks import all_finite, as_choice, as_count, as_flag, shown
from ..parameters import as_theta
from .loop import (
    TrainResult,
    TrainState,
    arguments,
    as_batch,
    divergence,
    require_rates,
    with_rates,
)

__all__ = ["minimize"]

METHODS = ("L-BFGS-B", "BFGS", "CG", "Newton-CG", "trust-constr")


def minimize(
    maml: Any,
    theta: np.ndarray,
    tasks: Iterable[Any],
    n_iterations: int = 100,
    callback: Callable[[TrainState], bool | None] | None = None,
    *,
    method: str = "L-BFGS-B",
    learn_rates: bool = False,
    **options: Any,
) -> TrainResult:
    """Meta-train on tasks that stay the same, with a minimizer of SciPy's.

    The meta-gradient is exact and the tasks are fixed, so a quasi-Newton method and its line search
    can rely on both. For theta alone, this is ``scipy.optimize.minimize(maml.value_and_gradient,
    theta, args=tasks, jac=True)``; here the inner rates can be learned too, theta keeps its dtype,
    and the callback is that of :func:`train`.

    Parameters
    ----------
    maml : MAML, BayesianLastLayer or Fleet
        The meta-objective.
    theta : array_like, shape (P,)
        Parameters to start from.
    tasks : tuple
        (x, y) or (x, y, x_query, y_query), or with weights of rows, as for :func:`train`; of a
        `Fleet` its batch, such as ``()``.
    n_iterations : int
        The most iterations; SciPy ends earlier where it finds a minimum.
    callback : callable, optional
        As for :func:`train`.
    method : {"L-BFGS-B", "BFGS", "CG", "Newton-CG", "trust-constr"}
        See ``scipy.optimize.minimize``.
    learn_rates : bool
        Whether to minimize over the logarithms of the inner rates as well: a rate keeps its sign,
        and a rate of 0 stays 0.
    **options
        The method's own, such as ``gtol=1e-8``.

    Returns
    -------
    TrainResult
        As of :func:`train`: ``values`` are those after each iteration, ``optimizer_state`` is what
        SciPy returned.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value.
    FloatingPointError
        If the minimizer goes where nothing is finite; it names the tasks whose inner steps diverge.
    ImportError
        If SciPy is not installed.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import minimize
    >>> tasks = Sinusoid().sample(20, n_support=10, n_query=10, rng=0)
    >>> maml = fm.MAML(fm.MLP([1, 16, 1]), loss="mse", task_mean=True)
    >>> theta = maml.model.init(0)
    >>> result = minimize(maml, theta, tasks, 50, learn_rates=True)
    >>> bool(result.values[-1] < result.values[0])
    True
    """
    try:
        from scipy import optimize
    except ModuleNotFoundError as error:
        raise ImportError(
            'minimize needs SciPy, which comes with pip install "fastmaml[scipy]"', name=error.name
        ) from error
    as_choice("method", method, METHODS)
    n_iterations = as_count("n_iterations", n_iterations, 1)
    learn_rates = as_flag("learn_rates", learn_rates)
    if not hasattr(maml, "_space"):  # a Learner's, and a Fleet's
        raise TypeError(
            f"maml is a {type(maml).__name__}; accepted are a fastmaml.MAML and a "
            "fastmaml.BayesianLastLayer"
        )
    own_rates = getattr(maml, "inner_lr", None)
    if learn_rates:
        if own_rates is None:
            raise TypeError(
                f"learn_rates is True, maml is {shown(maml)}, which has no inner_lr to learn; "
                "accepted is a fastmaml.MAML"
            )
        require_rates("learn_rates", maml, log_rates=True)
    theta = as_theta(maml._space, theta)
    tasks = as_batch("tasks", tasks, maml)
    size, (batch, weights) = len(theta), arguments(maml, tasks)
    first_rates = np.zeros(0) if own_rates is None else np.array(own_rates, np.float64)

    def parts(z: np.ndarray) -> tuple[np.ndarray, Any]:
        """Theta, and the rates: those at the start, times the exponential of the rest of z."""
        if not learn_rates:
            return z[:size].astype(theta.dtype), own_rates
        rates = first_rates * np.exp(z[size:].reshape(first_rates.shape))
        return z[:size].astype(theta.dtype), rates if rates.ndim else float(rates)

    lost: tuple[Any, ...] = ()  # the last evaluation, if it was not finite

    def failure() -> FloatingPointError:
        iteration = len(values) + 1
        if lost:
            here, at, value, gradient = lost
            return divergence(here, at, tasks, value, gradient, learn_rates, iteration)
        return FloatingPointError(
            f"{method} goes from a finite gradient to parameters that are not, in iteration "
            f"{iteration}; data scaled to about 1 usually help"
        )

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal lost
        with np.errstate(over="ignore"):  # of float32
            at, rates = parts(z)
        if not all_finite(at):
            raise failure()
        try:
            here = with_rates(maml, rates) if learn_rates else maml
        except ValueError as error:
            raise FloatingPointError(
                f"the inner rates that {method} tries after iteration {len(values)} are none that "
                f"can be taken ({error}); a smaller inner_lr to start from usually helps"
            ) from error
        if learn_rates:
            result: Any = here.evaluate(at, *batch, **weights)
            slope = np.ravel(result.inner_lr_gradient) * np.ravel(rates)
            value = result.value
            gradient = np.concatenate([result.gradient, slope], dtype="f8")
        else:
            value, gradient = maml.value_and_gradient(at, *batch, **weights)
        finite = math.isfinite(value) and all_finite(gradient)
        lost = () if finite else (here, at, value, gradient)
        return value, gradient.astype(np.float64)

    state = TrainState(0, math.nan, theta, None, own_rates)
    values: list[float] = []

    def hook(intermediate_result: Any) -> None:
        nonlocal state
        value = float(intermediate_result.fun)
        values.append(value)
        at, rates = parts(intermediate_result.x)
        state = TrainState(len(values), value, at, None, rates)
        if callback is not None and callback(state):
            raise StopIteration

    result = optimize.minimize(
        objective,
        np.concatenate([theta, np.zeros(first_rates.size * learn_rates)], dtype=np.float64),
        jac=True,
        method=method,
        callback=hook,
        options={"maxiter": n_iterations, **options},
    )
    if not math.isfinite(result.fun) or not all_finite(result.x):  # some methods end there
        raise failure()
    theta, rates = parts(result.x)
    state = state._replace(theta=theta, inner_lr=rates)
    return TrainResult(theta, result, np.array(values), rates, None, state, with_rates(maml, rates))
