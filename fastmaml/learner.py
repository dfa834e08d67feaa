"""What every objective shares: checked options, data in, results out, sums and means over tasks.

An objective says how a task adapts, and what is computed of the adapted tasks: it is a frozen
dataclass on top of `Learner`, one file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .family import Family, Space, as_model
from .kernels.methods.modes import GRADIENT, RATES, VALUE
from .methods.base import Result
from .options import check_options
from .parameters import as_direction, as_out, as_theta
from .row_weights import with_weights, with_weights_of_both
from .tasks import NO_Y, Rows, as_rows, as_tasks, by_task, require_same_tasks, split

__all__ = ["Learner", "in_dtype"]


class Learner:
    """Base of the objectives, which are frozen dataclasses.

    An objective has the fields ``model``, ``task_mean`` and ``check_finite``, other options as it
    needs, and ``_problem``: what its methods are given. The ``solve`` of ``_problem.methods[0]``
    picks the one that suits. It defines ``_averages``, ``evaluate`` on top of `_evaluate`, and
    ``_adapt``; or ``adapt`` and ``predict``, if a task adapts to something else than parameters of
    the model. What theta is, the model says, unless the objective has another ``_space``.
    """

    model: Family
    task_mean: bool
    check_finite: bool
    _problem: Any
    _space: Space  # the space of theta
    _fewest: int = 1  # support rows that a task may have

    def __post_init__(self) -> None:
        object.__setattr__(self, "_space", as_model(self.model))
        check_options(self)

    @property
    def _n_targets(self) -> int:
        """Numbers in a row of y."""
        targets = self._problem.targets[0]
        return self.model.n_outputs if targets is None else targets.width

    @property
    def _predicts_y(self) -> bool:
        """Whether outputs are predictions of y, in its units; else they are parameters of one."""
        return bool(self._problem.targets == (None, None))

    def adapt(self, theta: ArrayLike, x: Any, y: Any, *, sample_weight: Any = None) -> NDArray[Any]:
        """Return each task's parameters after it adapted to its rows.

        Parameters
        ----------
        theta : array_like, shape (P,)
        x, y : array_like or list of array_like
            Support rows of each task; see the class.
        sample_weight : array_like or list of array_like, optional
            Of each support row; see the class.

        Returns
        -------
        adapted : ndarray, shape (n_tasks, P)
            (P,) for a single task.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        parameters = as_theta(self._space, theta, check_finite=False)  # _adapt does it
        support = as_rows(
            self.model, x, y, parameters.dtype, check_finite=self.check_finite,
            targets=self._problem.targets[0],
        )  # fmt: skip
        if sample_weight is not None:
            support = with_weights(support, sample_weight, self._averages[0])
        return by_task(self._adapt(parameters, support), support)

    def predict(
        self, theta: ArrayLike, x: Any, y: Any, x_new: Any, *, sample_weight: Any = None
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """Adapt to each task's support rows (x, y), then predict at `x_new`.

        Parameters
        ----------
        theta : array_like, shape (P,)
        x, y : array_like or list of array_like
            Support rows of each task; see the class.
        x_new : array_like or list of array_like
            (n_tasks, rows, n_inputs), a list of arrays (rows_i, n_inputs), or (rows, n_inputs) for
            all tasks.
        sample_weight : array_like or list of array_like, optional
            Of each support row; see the class.

        Returns
        -------
        f : ndarray, shape (n_tasks, rows, n_outputs), or list of ndarray
            A list if the tasks of `x_new` differ in rows. It has the axes that `y` has: none of
            outputs if `y` has none, none of tasks for a single task.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        parameters, support, new = self._to_predict(theta, x, y, x_new, sample_weight)
        return split(self._adapt(parameters, support, new), new, support.flat)

    def _to_predict(
        self, theta: ArrayLike, x: Any, y: Any, x_new: Any, sample_weight: Any
    ) -> tuple[NDArray[Any], Rows, Rows]:
        """Theta, the support rows and the new ones, of as many tasks; theta may hold NaN."""
        check = self.check_finite
        parameters = as_theta(self._space, theta, check_finite=False)  # _adapt does it
        dtype = parameters.dtype
        support = as_rows(
            self.model, x, y, dtype, check_finite=check, fewest=self._fewest,
            targets=self._problem.targets[0],
        )  # fmt: skip
        if sample_weight is not None:
            support = with_weights(support, sample_weight, self._averages[0])
        new = as_rows(self.model, x_new, NO_Y, dtype, names=("x_new", ""), check_finite=check)
        if new.single and not support.single:  # the same rows for all tasks
            new = new.repeated(support.n_tasks)
        require_same_tasks("x_new", new, support)
        return parameters, support, new

    @property
    def _averages(self) -> tuple[bool, bool]:
        """Whether support and query loss are means, so that weights must not sum to 0."""
        raise NotImplementedError

    def _adapt(self, theta: NDArray[Any], support: Rows, new: Rows | None = None) -> NDArray[Any]:
        """Each task's parameters (n_tasks, P), or its predictions at the rows of `new`.

        It looks for NaN and inf in theta, if ``check_finite``.
        """
        raise NotImplementedError

    def value(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, sample_weight: Any = None, sample_weight_query: Any = None,
    ) -> float:  # fmt: skip
        """Return the meta-objective: the loss of the adapted parameters, over all tasks.

        Parameters and errors are those of `evaluate`.
        """  # fmt: skip
        weights = sample_weight, sample_weight_query
        return self._total(self._solve(VALUE, theta, x, y, x_query, y_query, weights)[0])

    def gradient(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, sample_weight: Any = None, sample_weight_query: Any = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:  # fmt: skip
        """Return the meta-gradient (P,), the gradient of `value`.

        Parameters
        ----------
        theta, x, y, x_query, y_query, sample_weight, sample_weight_query
            As for `evaluate`.
        out : ndarray, shape (P,), optional
            Receives the gradient, and is returned. C-contiguous and of theta's dtype. It is
            written to at the very end, so it may be (a part of) any argument, and after an error
            or Ctrl-C it is as before.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite, and for another `out`.
        """  # fmt: skip
        weights = sample_weight, sample_weight_query
        return self._solve(GRADIENT, theta, x, y, x_query, y_query, weights, out)[0].gradient

    def value_and_gradient(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, sample_weight: Any = None, sample_weight_query: Any = None,
        out: NDArray[Any] | None = None,
    ) -> tuple[float, NDArray[Any]]:  # fmt: skip
        """Return `value` and `gradient`; fits ``scipy.optimize.minimize(..., jac=True)``.

        Parameters and errors are those of `gradient`.
        """
        weights = sample_weight, sample_weight_query
        result, _ = self._solve(GRADIENT, theta, x, y, x_query, y_query, weights, out)
        return self._total(result), result.gradient

    def _evaluate(
        self, theta: Any, x: Any, y: Any, x_query: Any, y_query: Any, weights: tuple[Any, Any]
    ) -> tuple[float, NDArray[Any], Result, Rows]:
        """Value and task values, all that was computed, and the support rows."""
        result, support = self._solve(RATES, theta, x, y, x_query, y_query, weights)
        task_values = in_dtype(result.task_values, result.gradient.dtype)
        return self._total(result), by_task(task_values, support), result, support

    def hessp(
        self, theta: ArrayLike, v: ArrayLike, x: Any, y: Any, x_query: Any = None,
        y_query: Any = None, *, sample_weight: Any = None, sample_weight_query: Any = None,
    ) -> NDArray[Any]:  # fmt: skip
        """Return the Hessian of the meta-objective times a vector, by a central difference.

        ``(gradient(theta + h v) - gradient(theta - h v)) / 2h`` with h = ε^(1/3) (1 + |theta|) /
        |v|, ε the rounding of theta's dtype. Where `gradient` is exact and smooth along v, about
        two thirds of its digits are right. The kinks of relu count as the difference meets them;
        with ``order="first"`` the result belongs to no symmetric matrix.

        Parameters
        ----------
        theta, v : array_like, shape (P,)
            The point and the direction.
        x, y, x_query, y_query, sample_weight, sample_weight_query
            As for `evaluate`.

        Returns
        -------
        ndarray, shape (P,)
            Of theta's dtype.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.

        Notes
        -----
        The order of the arguments is that of ``scipy.optimize.minimize(..., hessp=maml.hessp,
        args=(x, y, x_query, y_query))``. The Hessian of a task's own loss, not differentiated
        numerically, is `fastmaml.equations.task_hessp`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastmaml as fm
        >>> maml = fm.MAML(fm.Linear(1, intercept=False), inner_lr=0.1)
        >>> maml.hessp([1.0], [1.0], [[[1.0]]], [[3.0]], [[[2.0]]], [[4.0]]).round(6)
        array([3.24])
        """  # fmt: skip
        point = as_theta(self._space, theta, check_finite=self.check_finite)
        direction = as_direction(self._space, v, point.dtype)
        length = _norm(direction)
        if length == 0:
            return np.zeros_like(point)
        h = np.cbrt(np.finfo(point.dtype).eps) * (1 + _norm(point)) / length
        step = (h * direction).astype(point.dtype)
        data: Any = (x, y, x_query, y_query)
        weights = {"sample_weight": sample_weight, "sample_weight_query": sample_weight_query}
        change = self.gradient(point + step, *data, **weights)
        change -= self.gradient(point - step, *data, **weights)
        return (change / (2 * h)).astype(point.dtype)

    def _solve(
        self, mode: int, theta: Any, x: Any, y: Any, x_query: Any, y_query: Any,
        weights: tuple[Any, Any], out: Any = None,
    ) -> tuple[Result, Rows]:  # fmt: skip
        """What was computed, and the support rows, which say what form the data had."""
        check, problem = self.check_finite, self._problem
        parameters = as_theta(self._space, theta, check_finite=False)  # the method does it
        if out is not None:
            out = as_out(self._space, out, parameters.dtype)
        support, query = as_tasks(
            self.model, x, y, x_query, y_query, parameters.dtype, check, self._fewest,
            *problem.targets,
        )  # fmt: skip
        if weights[0] is not None or weights[1] is not None:
            support, query = with_weights_of_both(support, query, *weights, self._averages)
        solve = problem.methods[0].solve
        result: Result = solve(problem, parameters, support, query, mode, check)
        if self.task_mean:
            result = result._replace(
                gradient=result.gradient / support.n_tasks,
                rate_gradient=result.rate_gradient / support.n_tasks,
            )
        if out is not None:
            out[...] = result.gradient
            result = result._replace(gradient=out)
        return result, support

    def _total(self, result: Result) -> float:
        values = result.task_values
        total = float(np.add.reduce(values))  # values.sum(), without its Python
        return total / len(values) if self.task_mean else total


def in_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return float64 values in the dtype of a result; inf stands for what float32 cannot hold."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _norm(vector: NDArray[Any]) -> float:
    with np.errstate(all="ignore"):
        norm = float(np.linalg.norm(vector))
    if norm > 0 and math.isfinite(norm):
        return norm
    largest = float(np.abs(vector).max())  # in units of it no square overflows, nor do all vanish
    return largest * float(np.linalg.norm(vector / largest)) if largest else 0.0
