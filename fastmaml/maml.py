"""MAML: the specification of a meta-learning problem, frozen, and what can be computed from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import run
from .checks import (
    as_choice,
    as_count,
    as_flag,
    as_inner_lr,
    as_out,
    as_step_weights,
    as_theta,
    rate_gradient,
    real_array,
)
from .models.base import Network
from .plan import METHODS, Loss, Problem, default_max_memory
from .run import GRADIENT, RATES, VALUE, Result
from .tasks import as_rows, as_tasks, split

__all__ = ["LOSSES", "MAML", "MetaGradient", "meta_gradient"]

LOSSES = ("half_sse", "half_mse", "sse", "mse")
ORDERS = ("exact", "first")


def loss_of(name: str, n_outputs: int) -> Loss:
    """The loss as the kernels take it."""
    as_choice("loss", name, LOSSES)
    scale = 1.0 if name.startswith("half") else 2.0
    return Loss(scale / n_outputs if name == "mse" else scale, name.endswith("mse"))


class MetaGradient(NamedTuple):
    """What `MAML.evaluate` returns.

    Attributes
    ----------
    value : float
        The meta-objective.
    gradient : ndarray, shape (P,)
        Its gradient with respect to theta.
    task_values : ndarray, shape (n_tasks,)
        The query loss of each task after adaptation; `value` is its sum (or mean).
    inner_lr_gradient : float or ndarray
        The gradient with respect to `inner_lr`, in the shape that `inner_lr` was given in.
    """

    value: float
    gradient: NDArray[Any]
    task_values: NDArray[Any]
    inner_lr_gradient: float | NDArray[Any]


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
        Number of inner gradient steps, 0 or more.
    order : {"exact", "first"}
        ``"exact"`` differentiates through the inner gradients. ``"first"`` takes them as constants:
        first-order MAML, whose gradient is an approximation.
    loss : {"half_sse", "half_mse", "sse", "mse"}
        Loss of a task with K rows and residuals r, for the inner steps and the meta-objective: ½ Σ
        r²; ½ Σ r² / K; Σ r²; Σ r² / (K n_outputs), which is PyTorch's and scikit-learn's MSE. The
        loss scales the inner gradient, so the same `inner_lr` means another step size under
        another loss.
    task_mean : bool
        Average over tasks instead of summing.
    method : {"auto", "explicit", "dense", "factored"}
        How to compute; all give the same numbers to rounding. ``"auto"`` picks by size.
        ``"factored"`` has no rates per parameter.
    step_weights : array_like, shape (steps + 1,), optional
        Multi-step loss [3]_: the weights of the query loss after 0, 1, ..., S steps. By default
        only the loss after the last step counts.
    check_finite : bool
        Whether NaN or inf in theta or the data is an error. Without the check it spreads into the
        result.
    max_memory : int, optional
        Bytes that a meta-gradient tries not to exceed while it works, by default a quarter of the
        machine's. The result is the same bits; see ``docs/memory.md``.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, or with a value or shape that is not accepted.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine, Model-agnostic meta-learning for fast adaptation of deep
       networks, ICML 2017, equation 1 and algorithm 2.
    .. [2] Z. Li et al., Meta-SGD: learning to learn quickly for few-shot learning, 2017.
    .. [3] A. Antoniou, H. Edwards, A. Storkey, How to train your MAML, ICLR 2019, section 4.

    Notes
    -----
    In every method, `x` is (n_tasks, K, n_inputs) and `y` is (n_tasks, K, n_outputs), or
    (n_tasks, K) if the model has one output. Tasks with different numbers of rows are given as
    lists of arrays (K_i, n_inputs) and (K_i, n_outputs). Without a query set the support set
    serves as both. `theta` (P,) decides the dtype: float32 is computed in float32, everything else
    in float64.

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

    model: Network
    inner_lr: Any = 0.01
    steps: int = 1
    order: str = "exact"
    loss: str = "half_sse"
    task_mean: bool = False
    method: str = "auto"
    step_weights: Any = None
    check_finite: bool = True
    max_memory: int | None = None
    _problem: Problem = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, Network):
            raise TypeError(f"model is {self.model!r:.60}; accepted are MLP and Linear")
        steps = as_count("steps", self.steps)
        put = object.__setattr__  # frozen from here on
        put(self, "steps", steps)
        put(self, "task_mean", as_flag("task_mean", self.task_mean))
        put(self, "check_finite", as_flag("check_finite", self.check_finite))
        problem = Problem(
            self.model,
            as_inner_lr(self.model, self.inner_lr, steps),
            steps,
            as_choice("order", self.order, ORDERS) == "exact",
            loss_of(self.loss, self.model.n_outputs),
            as_step_weights(self.step_weights, steps),
            as_choice("method", self.method, METHODS),
            default_max_memory()
            if self.max_memory is None
            else as_count("max_memory", self.max_memory, 1),
        )
        if problem.method == "factored" and problem.rate.per_parameter is not None:
            raise ValueError(
                'method is "factored", which has no rates per parameter (inner_lr has shape '
                f'{problem.rate.shape}); accepted are "dense", "explicit" and "auto"'
            )
        put(self, "_problem", problem)
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

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        parameters = as_theta(self.model, theta, check_finite=self.check_finite)
        support = as_rows(self.model, x, y, parameters.dtype, check_finite=self.check_finite)
        return run.adapt(self._problem, parameters, support)

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
            A list if the tasks of `x_new` differ in rows.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        check = self.check_finite
        parameters = as_theta(self.model, theta, check_finite=check)
        dtype = parameters.dtype
        support = as_rows(self.model, x, y, dtype, check_finite=check)
        if not (isinstance(x_new, list | tuple) and x_new and np.ndim(x_new[0]) > 1):
            x_new = real_array("x_new", x_new)
            if x_new.ndim == 2:  # the same rows for all tasks
                x_new = np.tile(x_new, (support.n_tasks, 1, 1))
        new = as_rows(self.model, x_new, None, dtype, names=("x_new", ""), check_finite=check)
        if new.n_tasks != support.n_tasks:
            raise ValueError(
                f"x_new has {new.n_tasks} tasks, x has {support.n_tasks}; "
                "accepted is the same number of tasks"
            )
        return split(run.adapt(self._problem, parameters, support, new), new)

    def value(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None
    ) -> float:
        """Return the meta-objective: the loss of the adapted parameters, over all tasks.

        Parameters are those of `evaluate`.
        """
        return self._total(self._solve(VALUE, theta, x, y, x_query, y_query))

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
        return self._solve(GRADIENT, theta, x, y, x_query, y_query, out).gradient

    def value_and_gradient(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, out: NDArray[Any] | None = None,
    ) -> tuple[float, NDArray[Any]]:  # fmt: skip
        """Return `value` and `gradient`; fits ``scipy.optimize.minimize(..., jac=True)``.

        Parameters are those of `gradient`.
        """
        result = self._solve(GRADIENT, theta, x, y, x_query, y_query, out)
        return self._total(result), result.gradient

    def evaluate(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None
    ) -> MetaGradient:
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
        MetaGradient
            (value, gradient, task_values, inner_lr_gradient). With ``order="first"`` the inner
            gradients count as constants in both gradients.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        result = self._solve(RATES, theta, x, y, x_query, y_query)
        slope = rate_gradient(self._problem.rate, result.rate_gradient)
        if not isinstance(slope, float):
            slope = slope.astype(result.gradient.dtype, copy=False)
        task_values = result.task_values.astype(result.gradient.dtype, copy=False)
        return MetaGradient(self._total(result), result.gradient, task_values, slope)

    def _solve(
        self, mode: int, theta: Any, x: Any, y: Any, x_query: Any, y_query: Any, out: Any = None
    ) -> Result:
        check = self.check_finite
        parameters = as_theta(self.model, theta, check_finite=check)
        if out is not None:
            out = as_out(self.model, out, parameters.dtype)
        support, query = as_tasks(self.model, x, y, x_query, y_query, parameters.dtype, check)
        result = run.solve(self._problem, parameters, support, query, mode)
        if self.task_mean:
            result = result._replace(
                gradient=result.gradient / support.n_tasks,
                rate_gradient=result.rate_gradient / support.n_tasks,
            )
        if out is not None:
            out[...] = result.gradient
            result = result._replace(gradient=out)
        return result

    def _total(self, result: Result) -> float:
        values = result.task_values
        return float(values.mean() if self.task_mean else values.sum())


def meta_gradient(
    model: Network,
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
    model, inner_lr, steps, order, loss, task_mean, method, step_weights, check_finite, max_memory
        The specification; see `MAML`.
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
    options = (order, loss, task_mean, method, step_weights, check_finite, max_memory)
    # Only what cannot change behind our back is remembered.
    plain = all(o is None or isinstance(o, str | int) for o in (steps, *options))
    fixed = plain and isinstance(inner_lr, int | float) and isinstance(model, Network)
    maml = (_remembered if fixed else MAML)(model, inner_lr, steps, *options)
    return maml.gradient(theta, x, y, x_query, y_query, out=out)


_remembered = lru_cache(maxsize=64, typed=True)(MAML)
