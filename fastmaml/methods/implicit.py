"""Implicit MAML: the meta-gradient from where the inner steps end, whichever way they went.

The inner problem of task i, with a proximal weight c,

    theta'_i = argmin over phi of  L_i(phi) + c/2 |phi - theta|^2

defines theta'_i by ``dL_i/dphi (theta'_i) + c (theta'_i - theta) = 0``. Differentiated by theta,
that gives ``dtheta'_i/dtheta = (I + H_i / c)^-1``, H_i the Hessian of L_i at theta'_i, and so

    d/dtheta sum_i L_query_i(theta'_i) = sum_i (I + H_i / c)^-1 dL_query_i/dphi (theta'_i)

Conjugate gradients solve the systems of all tasks side by side. H_i only multiplies a vector.

A. Rajeswaran, C. Finn, S. Kakade, S. Levine, Meta-learning with implicit gradients, NeurIPS 2019,
lemma 1 and algorithm 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import require_finite
from ..kernels.methods.modes import VALUE
from ..tasks import Rows
from .base import Method, Problem, Result
from .dense import Products, adapt, hessian_products

__all__ = ["IMPLICIT", "ConvergenceWarning", "Implicit", "conjugate_gradients"]


#: numbers of an array (tasks, P) that are worked at a time; the sum depends on it, so it is fixed
BLOCK = 4_000_000


class ConvergenceWarning(UserWarning):
    """The linear systems of some tasks were not solved to the tolerance.

    The gradient then holds, for these tasks, the last iterate of conjugate gradients.
    `fastmaml.MAML.evaluate` has the residual of each task. To have an error instead:
    ``warnings.simplefilter("error", fastmaml.ConvergenceWarning)``.

    Examples
    --------
    >>> import warnings
    >>> import fastmaml as fm
    >>> line = fm.Linear(2)
    >>> maml = fm.MAML(line, order="implicit", proximal=1e-9, cg_maxiter=1)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", fm.ConvergenceWarning)
    ...     gradient = maml.gradient([1.0, 0.0, 0.0], [[[1.0, 2.0], [3.0, 1.0]]], [[1.0, 2.0]])
    >>> caught[0].category.__name__
    'ConvergenceWarning'
    """


class Implicit(Method):
    """It needs a proximal weight, and knows only the end of the inner steps."""

    name = "implicit"

    def refuses(self, problem: Problem) -> str | None:
        """What a problem has that the method has not, as the text of an error, or None."""
        if problem.proximal is None:
            return 'proximal is None, order is "implicit"; accepted are numbers above 0'
        if problem.method not in ("auto", "dense"):
            return (
                f'method is "{problem.method}", order is "implicit"; '
                'accepted are "auto" and "dense"'
            )
        if problem.weighted:
            return (
                'step_weights is given, order is "implicit", which only knows the end of the '
                "inner steps; accepted is None"
            )
        return None

    def solve(
        self, problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
        check: bool,
    ) -> Result:  # fmt: skip
        """Compute what `mode` says, block of tasks by block; the rates have no gradient."""
        if check:
            require_finite("theta", theta, ("parameter",))
        per_layer, per_parameter, _ = problem.rate
        rate_gradient = np.zeros_like(per_parameter if per_layer is None else per_layer)
        values, residuals = np.empty(support.n_tasks), np.zeros(support.n_tasks)
        gradient = np.zeros(len(theta), theta.dtype)
        block = max(1, BLOCK // len(theta))
        for first in range(0, support.n_tasks, block):
            tasks = slice(first, min(first + block, support.n_tasks))
            of_block = support.part(tasks.start, tasks.stop), query.part(tasks.start, tasks.stop)
            adapted, _ = adapt(problem, theta, of_block[0])
            if mode == VALUE:
                outer = hessian_products(
                    problem.model, adapted, None, of_block[1], problem.query_loss
                )
            else:
                outer, pulled, residuals[tasks] = _pull_back(problem, adapted, *of_block)
                gradient += pulled.sum(axis=0)
            values[tasks] = outer.values
        failed = ~(residuals <= problem.rtol)  # NaN fails
        if failed.any():
            warnings.warn(
                f"conjugate gradients did not reach cg_rtol {problem.rtol:.3g} in {failed.sum()} "
                f"of {len(failed)} tasks: the relative residual is up to {residuals.max():.3g}; a "
                "larger proximal usually helps, a larger cg_maxiter may",
                ConvergenceWarning,
                stacklevel=4,
            )
        return Result(values, gradient, rate_gradient, residuals)


IMPLICIT = Implicit()


def _pull_back(
    problem: Problem, adapted: NDArray[Any], support: Rows, query: Rows
) -> tuple[Products, NDArray[Any], NDArray[np.float64]]:
    """Of each task: query loss and gradient, the gradient pulled back to theta, the residual."""
    model, loss, proximal = problem.model, problem.loss, problem.proximal
    assert proximal is not None

    def product(v: NDArray[Any]) -> NDArray[Any]:
        curved = hessian_products(model, adapted, v, support, loss).products
        curved /= proximal
        curved += v
        return curved

    outer = hessian_products(model, adapted, None, query, problem.query_loss, gradient=True)
    return outer, *conjugate_gradients(product, outer.gradients, problem.rtol, problem.maxiter)


def conjugate_gradients(
    product: Callable[[NDArray[Any]], NDArray[Any]],
    b: NDArray[Any],
    rtol: float,
    maxiter: int,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Solve A_i x_i = b_i for many symmetric positive definite A_i at once.

    Parameters
    ----------
    product : callable
        Of vectors v (n, P): the products A_i v_i, (n, P).
    b : ndarray, shape (n, P)
    rtol : float
        A system is solved when its residual is at most `rtol` times |b|; its x stays as it is once
        the residual that the iteration carries along is at most half of that.
    maxiter : int
        The most iterations; each is one call of `product`, and there is one more at the end.

    Returns
    -------
    x : ndarray, shape (n, P)
        A system that turns out not to be positive definite stays where it is.
    residuals : ndarray, shape (n,)
        |A x - b| / |b|, computed from x; 0 where b is.

    Notes
    -----
    M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems, 1952.
    """
    x = np.zeros_like(b)
    r, d = b.copy(), b.copy()
    squares = _dots(r, r)
    # What the iteration carries along for the residual differs from it by rounding: half of `rtol`
    # leaves room for that.
    scale, goal = squares, (rtol / 2) ** 2 * squares
    going = squares > goal
    with np.errstate(all="ignore"):  # what overflows shows in the residual
        for _ in range(maxiter):
            if not going.any():
                break
            product_d = product(d)
            curvature = _dots(d, product_d)
            going &= curvature > 0
            step = np.where(going, squares / curvature, 0.0).astype(b.dtype)[:, None]
            x += step * d
            r -= step * product_d
            before, squares = squares, _dots(r, r)
            turn = np.where(going, squares / before, 0.0).astype(b.dtype)[:, None]
            d = r + turn * d
            going &= squares > goal
        r = b - product(x)
        squares = _dots(r, r)
        residuals: NDArray[np.float64] = np.sqrt(np.where(scale > 0, squares / scale, 0.0))
    # NaN is neither above the goal nor reached
    return x, np.where(np.isnan(squares), np.nan, residuals)


def _dots(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """The inner product of each pair of rows, summed in float64 in a fixed order."""
    dots: NDArray[np.float64] = np.einsum("tp,tp->t", a, b, dtype=np.float64)
    return dots
