"""MAML: the specification of a meta-learning problem, frozen, and what can be computed from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import (
    as_choice,
    as_count,
    as_flag,
    as_number,
    as_positive,
    require_finite,
)
from .divergence import SUSPICIOUS, warn_of_divergence
from .family import Family, as_model, is_model
from .kernels.modes import GRADIENT, RATES, VALUE
from .losses import loss_of
from .methods.base import Problem, Result
from .methods.choose import METHODS, ORDERS, choose
from .methods.dense import adapt
from .parameters import as_direction, as_out, as_theta
from .plan import default_max_memory
from .rates import as_inner_lr, as_step_weights, rate_gradient
from .tasks import NO_Y, Rows, as_rows, as_tasks, by_task, require_same_tasks, split

__all__ = ["MAML", "ImplicitMetaGradient", "MetaGradient", "anil_inner_lr", "meta_gradient"]

#: more steps are a mistake; each takes memory for its rates and, in a call, for its parameters
MAX_STEPS = 1_000_000


class MetaGradient(NamedTuple):
    """What `MAML.evaluate` returns.

    Attributes
    ----------
    value : float
        The meta-objective.
    gradient : ndarray, shape (P,)
        Its gradient with respect to theta.
    task_values : ndarray, shape (n_tasks,)
        The query loss of each task after adaptation; `value` is its sum (or mean). Of a single
        task given without an axis of tasks it is a number, as `residuals` below.
    inner_lr_gradient : float or ndarray
        The gradient with respect to `inner_lr`, in the shape that `inner_lr` was given in.
    """

    value: float
    gradient: NDArray[Any]
    task_values: NDArray[Any]
    inner_lr_gradient: float | NDArray[Any]


class ImplicitMetaGradient(NamedTuple):
    """What `MAML.evaluate` returns with ``order="implicit"``.

    Attributes
    ----------
    value, gradient, task_values
        As in `MetaGradient`.
    inner_lr_gradient : float or ndarray
        Zero: the minimiser of the inner problem does not depend on how it is found.
    residuals : ndarray, shape (n_tasks,)
        |(I + H / c) x - b| / |b| of the linear system of each task, where conjugate gradients
        ended. Those above `cg_rtol` (or NaN) have not converged.
    """

    value: float
    gradient: NDArray[Any]
    task_values: NDArray[Any]
    inner_lr_gradient: float | NDArray[Any]
    residuals: NDArray[Any]


@dataclass(frozen=True, eq=False)
class MAML:
    """Model-agnostic meta-learning for squared-error regression [1]_: a frozen specification.

    Each task adapts the meta-parameters by gradient steps on its support rows, ``theta_{s+1} =
    theta_s - inner_lr * dL/dtheta (theta_s)``. The meta-objective is the sum over tasks of the
    loss of the adapted parameters on the query rows, and its gradient is taken through the steps.

    Parameters
    ----------
    model : MLP or Linear
        The model f(theta, x).
    inner_lr : float or array_like
        Inner learning rate, with S steps, L layers, P parameters: a scalar; (S,) per step; (L,)
        per layer; (S, L) per step and layer; (P,) per parameter (Meta-SGD [2]_). The forms (S, 1),
        (1, L), (1, P) resolve lengths that are ambiguous. Zero for a layer leaves it as it is.
    steps : int
        Number of inner gradient steps, 0 to 1 000 000.
    order : {"exact", "first", "implicit"}
        ``"exact"`` differentiates through the inner gradients. ``"first"`` takes them as constants:
        first-order MAML, whose gradient is an approximation. ``"implicit"`` takes the adapted
        parameters for the minimiser of the inner problem (implicit MAML [4]_, see Notes).
    loss : {"half_sse", "half_mse", "sse", "mse"}
        Loss of a task with K rows and residuals r, for the inner steps and the meta-objective: ½ Σ
        r²; ½ Σ r² / K; Σ r²; Σ r² / (K n_outputs), which is PyTorch's and scikit-learn's MSE. The
        loss scales the inner gradient, so the same `inner_lr` means another step size under
        another loss.
    task_mean : bool
        Average over tasks instead of summing.
    method : {"auto", "explicit", "dense", "factored"}
        How to compute; all give the same numbers to rounding. ``"auto"`` picks by size.
        ``"factored"`` has neither rates per parameter nor momentum; ``order="implicit"`` is
        always ``"dense"``.
    step_weights : array_like, shape (steps + 1,), optional
        Multi-step loss [3]_: the weights of the query loss after 0, 1, ..., S steps. By default
        only the loss after the last step counts.
    inner_momentum : float
        mu of the heavy-ball inner steps [5]_, as in PyTorch's SGD: v <- mu v + dL/dtheta, theta <-
        theta - inner_lr * v, with v = 0 before the first step. From 0 to below 1.
    proximal : float, optional
        c of ``order="implicit"``, which needs it: the inner steps then descend L(theta') + c/2
        |theta' - theta|², where theta is the task's starting point.
    cg_rtol, cg_maxiter : float, int
        When conjugate gradients have converged, with ``order="implicit"``: a residual relative to
        the right side; and the most iterations.
    check_finite : bool
        Whether NaN or inf in theta or the data is an error, and divergence in `adapt` and `predict`
        a warning. Without the check it spreads into the result.
    max_memory : int, optional
        Bytes that a meta-gradient tries not to exceed while it works, by default a quarter of the
        machine's. The result is the same bits; see ``docs/memory.md``.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, or with a value or shape that is not accepted. Rates,
        weights and other numbers are accepted up to 3.4e38, which float32 can hold too.
    MemoryError
        In a call, if one task takes more memory than the machine has.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine, Model-agnostic meta-learning for fast adaptation of deep
       networks, ICML 2017, equation 1 and algorithm 2.
    .. [2] Z. Li et al., Meta-SGD: learning to learn quickly for few-shot learning, 2017.
    .. [3] A. Antoniou, H. Edwards, A. Storkey, How to train your MAML, ICLR 2019, section 4.
    .. [4] A. Rajeswaran, C. Finn, S. Kakade, S. Levine, Meta-learning with implicit gradients,
       NeurIPS 2019, lemma 1 and algorithm 2.
    .. [5] B. T. Polyak, Some methods of speeding up the convergence of iteration methods, 1964.

    Notes
    -----
    With ``order="implicit"`` the gradient of a task is (I + H/c)⁻¹ dL_query/dtheta', H the Hessian
    of its support loss at theta'. It is the exact gradient of the query loss at the minimiser of
    the inner problem. `steps` inner steps only come near that minimiser, and `value` is taken
    where they end; so as long as more steps still change theta', `gradient` is not the slope of
    `value`: it is off by about as much as theta' is (theorem 1 of [4]_). A task whose system is
    not solved to `cg_rtol`, because I + H/c is not positive definite, `cg_maxiter` is too small or
    the dtype has not so many digits, causes a `fastmaml.ConvergenceWarning`; `evaluate` returns
    the residuals.

    In every method, `x` is (n_tasks, K, n_inputs) and `y` is (n_tasks, K, n_outputs), or
    (n_tasks, K) if the model has one output; predictions then have no axis of outputs either.
    Tasks with different numbers of rows are given as lists of arrays (K_i, n_inputs) and (K_i,
    n_outputs). A single task is `x` (K, n_inputs) with `y` (K, n_outputs) or (K,), its query rows
    alike; then no result has an axis of tasks. Without a query set the support set serves as both.
    `theta` (P,) decides the dtype: float32 is computed in float32, everything else in float64.

    `adapt` and `predict` warn (`fastmaml.DivergenceWarning`) of tasks whose parameters ran away and
    whose support loss is then a hundred times what it was, or not finite.

    A task whose inner steps diverge makes `value` and the gradients inf or NaN, without an error;
    `fastmaml.learn.train` has ``on_divergence`` for it. Before that comes about, a float32 call
    that overflowed on its way is computed again in float64, and a float64 call by the other
    method. So every `method` gives the same finite numbers, or the same inf and NaN. (But for two
    ends of what floats hold: nothing tells of products that are too small, and what underflows
    counts as 0 where each method forms it; and on float64 numbers beyond about 1e60 ``"explicit"``
    may still be finite where the others are not.)

    Examples
    --------
    >>> import numpy as np
    >>> import fastmaml as fm
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-5, 5, (4, 10, 1))
    >>> y = np.sin(x + rng.uniform(0, 3, (4, 1, 1)))
    >>> model = fm.MLP([1, 20, 1])
    >>> theta = model.init(0)
    >>> maml = fm.MAML(model, inner_lr=0.01, steps=2)
    >>> value, gradient = maml.value_and_gradient(theta, x[:, :5], y[:, :5], x[:, 5:], y[:, 5:])
    >>> gradient.shape
    (61,)
    >>> maml.value(theta - 1e-3 * gradient, x[:, :5], y[:, :5], x[:, 5:], y[:, 5:]) < value
    True
    """

    model: Family
    inner_lr: Any = 0.01
    steps: int = 1
    order: str = "exact"
    loss: str = "half_sse"
    task_mean: bool = False
    method: str = "auto"
    step_weights: Any = None
    inner_momentum: float = 0.0
    proximal: float | None = None
    cg_rtol: float = 1e-6
    cg_maxiter: int = 100
    check_finite: bool = True
    max_memory: int | None = None
    _problem: Problem = field(init=False, repr=False)

    def __post_init__(self) -> None:
        as_model(self.model)
        steps = as_count("steps", self.steps, 0, MAX_STEPS)
        put = object.__setattr__  # frozen from here on
        put(self, "steps", steps)
        put(self, "task_mean", as_flag("task_mean", self.task_mean))
        put(self, "check_finite", as_flag("check_finite", self.check_finite))
        put(self, "inner_momentum", _as_momentum(self.inner_momentum))
        put(self, "cg_rtol", as_positive("cg_rtol", self.cg_rtol))
        put(self, "cg_maxiter", as_count("cg_maxiter", self.cg_maxiter, 1))
        if self.proximal is not None:
            put(self, "proximal", as_positive("proximal", self.proximal))
        order = as_choice("order", self.order, tuple(ORDERS))
        problem = Problem(
            self.model,
            as_inner_lr(self.model, self.inner_lr, steps),
            steps,
            order,
            loss_of(self.loss, self.model.n_outputs),
            as_step_weights(self.step_weights, steps),
            self.step_weights is not None,
            as_choice("method", self.method, tuple(METHODS)),
            default_max_memory()
            if self.max_memory is None
            else as_count("max_memory", self.max_memory, 1),
            self.inner_momentum,
            self.proximal,
            self.cg_rtol,
            self.cg_maxiter,
        )
        put(self, "_problem", choose(problem))
        # What the user may go on writing to must not change a frozen specification.
        for name in ("inner_lr", "step_weights"):
            value = getattr(self, name)
            if value is not None and np.ndim(value):
                put(self, name, np.array(value, np.float64))
                getattr(self, name).flags.writeable = False

    def adapt(self, theta: ArrayLike, x: Any, y: Any) -> NDArray[Any]:
        """Return each task's parameters after the inner steps (equation 8).

        Parameters
        ----------
        theta : array_like, shape (P,)
        x, y : array_like or list of array_like
            Support rows of each task; see the class.

        Returns
        -------
        adapted : ndarray, shape (n_tasks, P)
            (P,) for a single task.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        parameters = as_theta(self.model, theta, check_finite=False)  # _adapt does it
        support = as_rows(self.model, x, y, parameters.dtype, check_finite=self.check_finite)
        return by_task(self._adapt(parameters, support), support)

    def predict(
        self, theta: ArrayLike, x: Any, y: Any, x_new: Any
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
        check = self.check_finite
        parameters = as_theta(self.model, theta, check_finite=False)  # _adapt does it
        dtype = parameters.dtype
        support = as_rows(self.model, x, y, dtype, check_finite=check)
        new = as_rows(self.model, x_new, NO_Y, dtype, names=("x_new", ""), check_finite=check)
        if new.single and not support.single:  # the same rows for all tasks
            new = new.repeated(support.n_tasks)
        require_same_tasks("x_new", new, support)
        return split(self._adapt(parameters, support, new), new, support.flat)

    def _adapt(self, theta: NDArray[Any], support: Rows, new: Rows | None = None) -> NDArray[Any]:
        if not self.check_finite:
            return adapt(self._problem, theta, support, new)[0]
        result, n_beyond = adapt(self._problem, theta, support, new, SUSPICIOUS)
        if n_beyond:  # as always where theta is not finite
            require_finite("theta", theta, ("parameter",))
            warn_of_divergence(self._problem, theta, support)
        return result

    def value(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None
    ) -> float:
        """Return the meta-objective: the loss of the adapted parameters, over all tasks.

        Parameters are those of `evaluate`.
        """
        return self._total(self._solve(VALUE, theta, x, y, x_query, y_query)[0])

    def gradient(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:  # fmt: skip
        """Return the meta-gradient (P,), the gradient of `value` (equation 13, over all tasks).

        Parameters
        ----------
        theta, x, y, x_query, y_query
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
        return self._solve(GRADIENT, theta, x, y, x_query, y_query, out)[0].gradient

    def value_and_gradient(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, out: NDArray[Any] | None = None,
    ) -> tuple[float, NDArray[Any]]:  # fmt: skip
        """Return `value` and `gradient`; fits ``scipy.optimize.minimize(..., jac=True)``.

        Parameters are those of `gradient`.
        """
        result, _ = self._solve(GRADIENT, theta, x, y, x_query, y_query, out)
        return self._total(result), result.gradient

    def evaluate(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None
    ) -> MetaGradient | ImplicitMetaGradient:
        """Return the meta-objective, per task too, and its gradients for theta and the inner rate.

        Parameters
        ----------
        theta : array_like, shape (P,)
        x, y : array_like or list of array_like
            Support rows of each task; see the class.
        x_query, y_query : array_like or list of array_like, optional
            Query rows of each task. Without them the support rows serve as both.

        Returns
        -------
        MetaGradient or ImplicitMetaGradient
            (value, gradient, task_values, inner_lr_gradient). With ``order="first"`` the inner
            gradients count as constants in both gradients. With ``order="implicit"`` the
            residuals of the tasks' linear systems come fifth.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        result, support = self._solve(RATES, theta, x, y, x_query, y_query)
        slope = rate_gradient(self._problem.rate, result.rate_gradient)
        with np.errstate(over="ignore"):  # inf stands for what float32 cannot hold
            if not isinstance(slope, float):
                slope = slope.astype(result.gradient.dtype, copy=False)
            task_values = result.task_values.astype(result.gradient.dtype, copy=False)
        task_values = by_task(task_values, support)
        found = MetaGradient(self._total(result), result.gradient, task_values, slope)
        if result.residuals is not None:
            return ImplicitMetaGradient(*found, by_task(result.residuals, support))
        return found

    def hessp(
        self, theta: ArrayLike, v: ArrayLike, x: Any, y: Any, x_query: Any = None,
        y_query: Any = None,
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
        x, y, x_query, y_query
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
        point = as_theta(self.model, theta, check_finite=self.check_finite)
        direction = as_direction(self.model, v, point.dtype)
        length = _norm(direction)
        if length == 0:
            return np.zeros_like(point)
        h = np.cbrt(np.finfo(point.dtype).eps) * (1 + _norm(point)) / length
        step = (h * direction).astype(point.dtype)
        data = (x, y, x_query, y_query)
        change = self.gradient(point + step, *data) - self.gradient(point - step, *data)
        return (change / (2 * h)).astype(point.dtype)

    def _solve(
        self, mode: int, theta: Any, x: Any, y: Any, x_query: Any, y_query: Any, out: Any = None
    ) -> tuple[Result, Rows]:
        """What was computed, and the support rows, which say what form the data had."""
        check, problem = self.check_finite, self._problem
        parameters = as_theta(self.model, theta, check_finite=False)  # the method does it
        if out is not None:
            out = as_out(self.model, out, parameters.dtype)
        support, query = as_tasks(self.model, x, y, x_query, y_query, parameters.dtype, check)
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


def _norm(vector: NDArray[Any]) -> float:
    with np.errstate(all="ignore"):
        norm = float(np.linalg.norm(vector))
    if norm > 0 and math.isfinite(norm):
        return norm
    largest = float(np.abs(vector).max())  # in units of it no square overflows, nor do all vanish
    return largest * float(np.linalg.norm(vector / largest)) if largest else 0.0


def _as_momentum(inner_momentum: Any) -> float:
    momentum = as_number("inner_momentum", inner_momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"inner_momentum is {momentum}; accepted are numbers from 0 to below 1")
    return momentum


def anil_inner_lr(model: Family, inner_lr: float) -> NDArray[np.float64]:
    """Return the rates of ANIL: `inner_lr` for the last layer, zero for all others [1]_.

    Parameters
    ----------
    model : MLP or Linear
    inner_lr : float
        The rate of the last layer, the head.

    Returns
    -------
    ndarray, shape (1, n_layers)
        For `MAML`: all layers but the last stay as they are in the inner steps, and are learned
        by the meta-gradient.

    Raises
    ------
    TypeError, ValueError
        If `model` is no model or `inner_lr` no finite number.

    References
    ----------
    .. [1] A. Raghu, M. Raghu, S. Bengio, O. Vinyals, Rapid learning or feature reuse? Towards
       understanding the effectiveness of MAML, ICLR 2020, section 4.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.MLP([1, 40, 40, 1])
    >>> maml = fm.MAML(model, inner_lr=fm.anil_inner_lr(model, 0.01))
    >>> maml.inner_lr
    array([[0.  , 0.  , 0.01]])
    """
    rates = np.zeros((1, as_model(model).n_layers))
    rates[0, -1] = as_number("inner_lr", inner_lr)
    return rates


def meta_gradient(
    model: Family,
    theta: ArrayLike,
    x: Any,
    y: Any,
    x_query: Any = None,
    y_query: Any = None,
    *,
    inner_lr: Any,
    steps: int = 1,
    order: str = "exact",
    loss: str = "half_sse",
    task_mean: bool = False,
    method: str = "auto",
    step_weights: Any = None,
    inner_momentum: float = 0.0,
    proximal: float | None = None,
    cg_rtol: float = 1e-6,
    cg_maxiter: int = 100,
    check_finite: bool = True,
    max_memory: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the exact MAML meta-gradient (P,): the gradient of the adapted parameters' loss.

    The drop-in function: ``MAML(model, inner_lr, ...).gradient(theta, x, y, x_query, y_query)``.
    The task loss is ``"half_sse"``, ½ Σ r², unless `loss` says otherwise, and tasks are summed
    unless `task_mean`.

    Parameters
    ----------
    model, inner_lr, steps, order, loss, task_mean, method, step_weights
        The specification; see `MAML`.
    inner_momentum, proximal, cg_rtol, cg_maxiter, check_finite, max_memory
        More of it.
    theta, x, y, x_query, y_query
        Meta-parameters (P,) and the tasks' rows; see `MAML.evaluate`.
    out : ndarray, shape (P,), optional
        Receives the gradient; see `MAML.gradient`.

    Returns
    -------
    gradient : ndarray, shape (P,)

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Linear(1, intercept=False)  # f = theta x
    >>> fm.meta_gradient(model, [1.0], [[[1.0]]], [[3.0]], [[[2.0]]], [[4.0]], inner_lr=0.1)
    array([-2.88])
    """
    options = (
        order, loss, task_mean, method, step_weights, inner_momentum, proximal, cg_rtol, cg_maxiter,
        check_finite, max_memory,
    )  # fmt: skip
    # Only what cannot change behind our back is remembered.
    plain = all(o is None or isinstance(o, str | int | float) for o in (steps, *options))
    fixed = plain and isinstance(inner_lr, int | float) and is_model(model)
    maml = (_remembered if fixed else MAML)(model, inner_lr, steps, *options)
    return maml.gradient(theta, x, y, x_query, y_query, out=out)


_remembered = lru_cache(maxsize=64, typed=True)(MAML)
