"""MAML: the specification of a meta-learning problem, frozen, and what can be computed from it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import as_choice, as_count, as_flag, as_number, as_positive, require_finite
from .divergence import SUSPICIOUS, warn_of_divergence
from .family import Family, as_model, is_model
from .learner import Learner, in_dtype
from .losses import loss_of
from .methods.base import Problem
from .methods.choose import METHODS, ORDERS, choose
from .methods.dense import adapt
from .options import option
from .plan import default_max_memory
from .rates import as_inner_lr, as_step_weights, rate_gradient
from .tasks import Rows, by_task

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

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1, intercept=False)  # f = theta x
    >>> result = fm.MAML(line, inner_lr=0.1).evaluate([1.0], [[[1.0]]], [[3.0]], [[[2.0]]], [[4.0]])
    >>> result.gradient, result.inner_lr_gradient
    (array([-2.88]), -6.4)
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

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1, intercept=False)
    >>> maml = fm.MAML(line, inner_lr=0.1, steps=200, order="implicit", proximal=1.0)
    >>> result = maml.evaluate([1.0], [[[1.0]]], [[3.0]], [[[2.0]]], [[4.0]])
    >>> bool(result.residuals[0] <= maml.cg_rtol)
    True
    """

    value: float
    gradient: NDArray[Any]
    task_values: NDArray[Any]
    inner_lr_gradient: float | NDArray[Any]
    residuals: NDArray[Any]


def _kept(value: Any) -> Any:
    """What the user may go on writing to, as an array that does not change."""
    if not np.ndim(value):
        return value[()] if isinstance(value, np.ndarray) else value
    array = np.array(value, np.float64)
    array.flags.writeable = False
    return array


def _as_momentum(name: str, value: Any) -> float:
    momentum = as_number(name, value)
    if not 0 <= momentum < 1:
        raise ValueError(f"{name} is {momentum}; accepted are numbers from 0 to below 1")
    return momentum


@dataclass(frozen=True, eq=False)
class MAML(Learner):
    """Model-agnostic meta-learning [1]_: a frozen specification.

    Each task adapts the meta-parameters by gradient steps on its support rows, ``theta_{s+1} =
    theta_s - inner_lr * dL/dtheta (theta_s)``. The meta-objective is the sum over tasks of the
    loss of the adapted parameters on the query rows, and its gradient is taken through the steps.

    Parameters
    ----------
    model : MLP, Linear, Formula, Sum, Custom or another
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
    loss : {"half_sse", "half_mse", "sse", "mse", "huber", "logistic", ...} or object
        Loss of a task with K rows and residuals r, for the inner steps and, unless `query_loss` is
        given, the meta-objective: ½ Σ r²; ½ Σ r² / K; Σ r²; Σ r² / (K n_outputs), which is
        PyTorch's and scikit-learn's MSE. Others are ``"huber"``, ``"pseudo_huber"``,
        ``"log_cosh"``, ``"quantile"``, ``"gaussian_nll"``, ``"logistic"``, ``"softmax"`` and
        ``"poisson"``, means over rows and outputs (``docs/losses.md``): the defaults of objects
        such as `fastmaml.Huber`, which have parameters. `fastmaml.Loss` is one of your own. The
        loss scales the inner gradient, so the same `inner_lr` means another step size under
        another loss.
    task_mean : bool
        Average over tasks instead of summing.
    method : {"auto", "explicit", "dense", "factored", "lanes"}
        How to compute; all give the same numbers to rounding. ``"auto"`` picks by size.
        ``"factored"`` is for networks, and has neither rates per parameter nor momentum;
        ``"lanes"`` is for a `Formula`, with a loss of each output by itself;
        ``order="implicit"`` is always ``"dense"``.
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
    query_loss : as loss, optional
        Loss of the query rows, if it is another than that of the inner steps.

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
    (n_tasks, K) if the model has one output; predictions then have no axis of outputs either. (Of
    labels and means with variances, `y` has what the loss takes; predictions are the outputs.)
    Tasks with different numbers of rows are given as lists of arrays (K_i, n_inputs) and (K_i,
    n_outputs). A single task is `x` (K, n_inputs) with `y` (K, n_outputs) or (K,), its query rows
    alike; then no result has an axis of tasks. Without a query set the support set serves as both.

    `sample_weight` and `sample_weight_query` multiply each row's share in the loss: (n_tasks, K), a
    list of arrays (K_i,), or (K,) for a single task, of numbers of at least 0. Those of the support
    rows are for the inner steps, those of the query rows for the meta-objective; without a query
    set the former are for both. A mean (``"mse"``) is divided by the sum of the weights in place of
    K. So, to rounding, a row of weight 0 counts as if it were not there, whatever its numbers are,
    and one of weight 2 as if it were there twice. A task whose weights are all 0 has no mean, which
    is an error; under a sum (``"sse"``) it does not adapt, or counts nothing.

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
    >>> maml.evaluate(theta, x, y).task_values.shape, maml.gradient(theta, x, y).shape
    ((4,), (61,))
    >>> maml.adapt(theta, x, y).shape, maml.predict(theta, x, y, [[0.0], [1.0]]).shape
    ((4, 61), (4, 2, 1))
    """

    model: Family
    inner_lr: Any = 0.01
    steps: int = option(1, as_count, 0, MAX_STEPS)
    order: str = option("exact", as_choice, tuple(ORDERS))
    loss: Any = "half_sse"
    task_mean: bool = option(False, as_flag)
    method: str = option("auto", as_choice, tuple(METHODS))
    step_weights: Any = None
    inner_momentum: float = option(0.0, _as_momentum)
    proximal: float | None = option(None, as_positive)
    cg_rtol: float = option(1e-6, as_positive)
    cg_maxiter: int = option(100, as_count, 1)
    check_finite: bool = option(True, as_flag)
    max_memory: int | None = option(None, as_count, 1)
    query_loss: Any = None
    _problem: Problem = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        n_outputs = self.model.n_outputs
        loss = query_loss = loss_of(self.loss, n_outputs)
        if self.query_loss is not None:
            query_loss = loss_of(self.query_loss, n_outputs, "query_loss")
        problem = Problem(
            model=self.model,
            rate=as_inner_lr(self.model, self.inner_lr, self.steps),
            steps=self.steps,
            order=self.order,
            loss=loss,
            query_loss=query_loss,
            step_weights=as_step_weights(self.step_weights, self.steps),
            weighted=self.step_weights is not None,
            method=self.method,
            max_memory=self.max_memory or default_max_memory(),
            momentum=self.inner_momentum,
            proximal=self.proximal,
            rtol=self.cg_rtol,
            maxiter=self.cg_maxiter,
        )
        put = object.__setattr__
        put(self, "_problem", choose(problem))
        for name in ("inner_lr", "step_weights"):
            put(self, name, _kept(getattr(self, name)))

    def with_inner_lr(self, inner_lr: Any) -> MAML:
        """Return the same specification with other inner rates.

        It takes some microseconds, which ``dataclasses.replace`` does not: what is known of the
        sizes of batches stays.

        Parameters
        ----------
        inner_lr : float or array_like
            As for the class.

        Returns
        -------
        MAML

        Raises
        ------
        TypeError, ValueError
            For rates that are not accepted.

        Examples
        --------
        >>> import fastmaml as fm
        >>> fm.MAML(fm.MLP([1, 20, 1]), steps=2).with_inner_lr([[0.1], [0.05]]).inner_lr.shape
        (2, 1)
        """
        rate, problem = as_inner_lr(self.model, inner_lr, self.steps), self._problem
        if (rate.per_layer is None) == (problem.rate.per_layer is None):
            problem = problem.with_rate(rate)
        else:  # not every method takes rates of each parameter
            problem = choose(replace(problem, rate=rate, _plans={}, _rates={}))
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, inner_lr=_kept(inner_lr), _problem=problem)
        return other

    @property
    def _averages(self) -> tuple[bool, bool]:
        return self._problem.loss.mean, self._problem.query_loss.mean

    def _adapt(self, theta: NDArray[Any], support: Rows, new: Rows | None = None) -> NDArray[Any]:
        if not self.check_finite:
            return adapt(self._problem, theta, support, new)[0]
        result, n_beyond = adapt(self._problem, theta, support, new, SUSPICIOUS)
        if n_beyond:  # as always where theta is not finite
            require_finite("theta", theta, ("parameter",))
            warn_of_divergence(self._problem, theta, support)
        return result

    def evaluate(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, sample_weight: Any = None, sample_weight_query: Any = None,
    ) -> MetaGradient | ImplicitMetaGradient:  # fmt: skip
        """Return the meta-objective, per task too, and its gradients for theta and the inner rate.

        Parameters
        ----------
        theta : array_like, shape (P,)
        x, y : array_like or list of array_like
            Support rows of each task; see the class.
        x_query, y_query : array_like or list of array_like, optional
            Query rows of each task. Without them the support rows serve as both.
        sample_weight, sample_weight_query : array_like or list of array_like, optional
            Of each support and query row; see the class.

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
        """  # fmt: skip
        weights = sample_weight, sample_weight_query
        found = self._evaluate(theta, x, y, x_query, y_query, weights)
        value, task_values, result, support = found
        slope = rate_gradient(self._problem.rate, result.rate_gradient)
        if not isinstance(slope, float):
            slope = in_dtype(slope, result.gradient.dtype)
        meta = MetaGradient(value, result.gradient, task_values, slope)
        if result.residuals is not None:
            return ImplicitMetaGradient(*meta, by_task(result.residuals, support))
        return meta


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
    sample_weight: Any = None,
    sample_weight_query: Any = None,
    out: NDArray[Any] | None = None,
    **options: Any,
) -> NDArray[Any]:
    """Return the exact MAML meta-gradient (P,): the gradient of the adapted parameters' loss.

    The drop-in function: ``MAML(model, inner_lr, ...).gradient(theta, x, y, x_query, y_query)``.
    The task loss is ``"half_sse"``, ½ Σ r², unless `loss` says otherwise, and tasks are summed
    unless `task_mean`.

    Parameters
    ----------
    model, inner_lr, loss, steps, order, task_mean, method, step_weights, inner_momentum, proximal
        The specification: the parameters of `MAML`.
    cg_rtol, cg_maxiter, check_finite, max_memory, query_loss
        Likewise.
    theta, x, y, x_query, y_query
        Meta-parameters (P,) and the tasks' rows; see `MAML.evaluate`.
    sample_weight, sample_weight_query : array_like or list of array_like, optional
        Of each support and query row; see `MAML`.
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
    # Only what cannot change behind our back is remembered.
    plain = all(o is None or isinstance(o, str | int | float) for o in options.values())
    fixed = plain and isinstance(inner_lr, int | float) and is_model(model)
    maml = (_remembered if fixed else MAML)(model, inner_lr, **options)
    return maml.gradient(
        theta, x, y, x_query, y_query, sample_weight=sample_weight,
        sample_weight_query=sample_weight_query, out=out,
    )  # fmt: skip


_remembered = lru_cache(maxsize=64, typed=True)(MAML)


def _with_options(function: Any) -> inspect.Signature:
    """The signature of a function with the parameters of `MAML` in the place of ``**options``."""
    own = inspect.signature(function)
    fixed = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = [
        each.replace(kind=each.KEYWORD_ONLY)
        for name, each in inspect.signature(MAML).parameters.items()
        if name not in own.parameters
    ]
    return own.replace(parameters=[*fixed, *options])


meta_gradient.__signature__ = _with_options(meta_gradient)  # type: ignore[attr-defined]
