"""BayesianLastLayer: adaptation in closed form, and its exact meta-gradient."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .checks import (
    FLOAT64,
    all_finite,
    as_array,
    as_choice,
    as_count,
    as_flag,
    require_finite,
    shape_text,
    shown,
)
from .divergence import DivergenceWarning, called
from .family import Family, is_model
from .learner import Learner
from .losses import LOSSES, loss_of
from .losses.task import SQUARED_LOSSES
from .methods.closed_form import (
    CLOSED_FORM,
    HeadProblem,
    features_of,
    not_finite,
    posterior,
    predict,
)
from .options import option
from .parameters import as_theta, as_thetas
from .plan import default_max_memory
from .row_weights import with_weights
from .streaming import Posterior, Stream
from .tasks import Rows, as_rows, by_task, offsets_of, split

__all__ = ["BayesianLastLayer", "HeadMetaGradient", "HeadParameters", "Posterior"]

#: the losses that need the predictive variance
DENSITIES = ("nll", "mean_nll")
PRIORS, NOISES = ("diagonal", "shared"), ("shared", "per_output")


def _as_head_loss(name: str, value: Any) -> str:
    accepted = (*DENSITIES, *SQUARED_LOSSES)
    known = value in LOSSES if isinstance(value, str) else hasattr(type(value), "task_loss")
    if known and value not in accepted:
        raise ValueError(
            f"{name} is {shown(value)}, a closed form is there for squared errors alone; accepted "
            f"are {', '.join(map(repr, accepted))} (fastmaml.MAML takes the others)"
        )
    return as_choice(name, value, accepted)


class HeadMetaGradient(NamedTuple):
    """What `BayesianLastLayer.evaluate` returns.

    Attributes
    ----------
    value : float
        The meta-objective.
    gradient : ndarray, shape (n_params,)
        Its gradient with respect to theta.
    task_values : ndarray, shape (n_tasks,)
        The query loss of each task; `value` is its sum (or mean). Of a single task given without
        an axis of tasks it is a number.

    Examples
    --------
    >>> import fastmaml as fm
    >>> head = fm.BayesianLastLayer(fm.Linear(1))
    >>> result = head.evaluate(head.init(0), [[[1.0], [2.0]]], [[3.0, 4.0]], [[[3.0]]], [[5.0]])
    >>> result.gradient.shape, result.task_values.shape
    ((5,), (1,))
    """

    value: float
    gradient: NDArray[Any]
    task_values: NDArray[Any]


class HeadParameters(NamedTuple):
    """What `BayesianLastLayer.unpack` returns.

    Attributes
    ----------
    layers : list of (weight, bias)
        Of the model, as ``model.unpack`` gives them; the last layer is the prior mean.
    prior_variance : ndarray, shape (..., p) or (..., 1)
        Variance of each feature's weights before data, in units of the noise variance.
    noise_variance : ndarray, shape (..., 1) or (..., n_outputs)
        Variance of an observation.
    """

    layers: list[tuple[NDArray[Any], NDArray[Any] | None]]
    prior_variance: NDArray[Any]
    noise_variance: NDArray[Any]


@dataclass(frozen=True)
class HeadSpace:
    """The space of theta: the model's parameters, log prior variances, log noise variances."""

    model: Family
    prior: str
    noise: str
    n_prior: int
    n_noise: int
    n_params: int

    def __repr__(self) -> str:
        return f"BayesianLastLayer({self.model!r}, prior={self.prior!r}, noise={self.noise!r})"


@dataclass(frozen=True, eq=False)
class BayesianLastLayer(Learner):
    """Adaptation of the last layer in closed form, with a meta-learned prior [1]_: a specification.

    Only the last layer adapts, and at once to its optimum: it is Bayesian linear regression [2]_ on
    the features that the other layers compute, which is ridge regression towards a prior mean. The
    meta-objective is the loss of the predictions on the query rows, over all tasks; its gradient is
    exact, and is for the network, the prior and the noise together.

    Parameters
    ----------
    model : MLP or Linear
        The features phi are the values of its last hidden layer (after the activation), or the
        inputs if it has none; and a 1, unless it is without intercept.
    loss : {"nll", "mean_nll", "half_sse", "half_mse", "sse", "mse"}
        Of a task with Q query rows, m outputs, and residuals r of the predictive mean. ``"nll"``:
        the negative log density of the targets under the prediction, summed over rows and outputs;
        ``"mean_nll"``: divided by Q m. (Outputs count as independent, and so do query rows.) The
        squared errors are those of `MAML`: ½ Σ r²; ½ Σ r² / Q; Σ r²; Σ r² / (Q m). They are of the
        mean alone, so the noise variance has no effect on them, and no gradient: intervals are
        then not calibrated.
    prior : {"diagonal", "shared"}
        Whether each feature's weights have a variance of their own before data, or all the same.
    noise : {"shared", "per_output"}
        Whether observations of all outputs have the same variance.
    task_mean : bool
        Average over tasks instead of summing.
    check_finite : bool
        Whether NaN or inf in theta or the data is an error, and in `adapt` and `predict` a result
        that is not finite a warning.
    max_memory : int, optional
        Bytes that a call tries not to exceed while it works, by default a quarter of the
        machine's. The result is the same bits; see ``docs/memory.md``.

    Attributes
    ----------
    n_params : int
        Numbers of theta: the model's parameters, whose last layer is the prior mean; the log prior
        variances, one or p of them; the log noise variances, one or n_outputs of them.
    n_features : int
        p: features, the 1 included.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, or with a value that is not accepted.
    MemoryError
        In a call, if one task takes more memory than the machine has.

    References
    ----------
    .. [1] J. Harrison, A. Sharma, M. Pavone, Meta-learning priors for efficient online Bayesian
       regression, WAFR 2018.
    .. [2] C. M. Bishop, Pattern recognition and machine learning, 2006, section 3.3.

    Notes
    -----
    With the prior W ~ N(W_0, σ² diag(s)) of an output's weights (s is in units of the noise
    variance σ²), features Φ (K, p) and targets y of the support rows, Λ = diag(s)⁻¹ + ΦᵀΦ:

    * the posterior is N(w, σ² Λ⁻¹) with w = W_0 + Λ⁻¹ Φᵀ (y - Φ W_0)
    * the prediction at features ψ is normal with mean wᵀψ and variance σ² (1 + ψᵀ Λ⁻¹ ψ)

    w minimises ½ Σ (φᵀw - y)² + ½ Σ (w - W_0)² / s, which is where gradient steps on the last layer
    alone would end. Tasks with fewer rows than features are solved by a K × K system instead.

    With `sample_weight`, given as to `MAML`, a support row of weight w is an observation of noise
    variance σ² / w: as good as w rows. With `sample_weight_query` a query row's share in the loss
    is multiplied by its weight, and the means are divided by the sum of these in place of Q. A row
    of weight 0 counts as if it were not there, to rounding, whatever its numbers are. Without a
    query set the weights of the support rows are for both. Predictions are those of observations of
    weight 1.

    Data are given as for `MAML`. Here a task may also have no support rows: then the prior
    predicts. Without a query set the support set serves as both, which is seldom wanted: a prior
    that is learned so need only explain rows that it has seen. float32 that overflowed on its way
    is computed again in float64. What is not finite even then is returned so, by `adapt` and
    `predict` with a `fastmaml.DivergenceWarning`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmaml as fm
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-5, 5, (4, 10, 1))
    >>> y = np.sin(x + rng.uniform(0, 3, (4, 1, 1)))
    >>> head = fm.BayesianLastLayer(fm.MLP([1, 20, 1]))
    >>> theta = head.init(0)
    >>> head.n_params  # 61 of the model, 21 prior variances, 1 of the noise
    83
    >>> value, gradient = head.value_and_gradient(theta, x[:, :5], y[:, :5], x[:, 5:], y[:, 5:])
    >>> head.value(theta - 1e-3 * gradient, x[:, :5], y[:, :5], x[:, 5:], y[:, 5:]) < value
    True
    >>> mean, std = head.predict(theta, x[:, :5], y[:, :5], x[:, 5:], return_std=True)
    >>> mean.shape, std.shape
    ((4, 5, 1), (4, 5, 1))
    >>> head.evaluate(theta, x, y).task_values.shape, head.gradient(theta, x, y).shape
    ((4,), (83,))
    >>> head.adapt(theta, x, y).mean.shape  # of the weights of each task
    (4, 1, 21)
    >>> layers, variances, noise = head.unpack(theta)
    >>> bool((head.pack(layers, variances, noise) == theta).all())
    True
    >>> stream = head.start(theta)  # rows one at a time
    >>> stream.update(x[0, 0], y[0, 0])
    """

    model: Family
    loss: str = option("nll", _as_head_loss)
    prior: str = option("diagonal", as_choice, PRIORS)
    noise: str = option("shared", as_choice, NOISES)
    task_mean: bool = option(False, as_flag)
    check_finite: bool = option(True, as_flag)
    max_memory: int | None = option(None, as_count, 1)
    _problem: HeadProblem = field(init=False, repr=False)

    _fewest = 0

    def __post_init__(self) -> None:
        if not is_model(self.model):  # of those, refuses() says which do
            raise TypeError(f"model is {shown(self.model)}; accepted are MLP and Linear")
        super().__post_init__()
        model, n_outputs = self.model, self.model.n_outputs
        density = self.loss in DENSITIES
        mean = self.loss == "mean_nll"
        scale = 1.0 / n_outputs if mean else 1.0
        if not density:
            loss = loss_of(self.loss, n_outputs)
            scale, mean = loss.scale, loss.mean
        problem = HeadProblem(
            model=model, scale=scale, mean=mean, density=density, n_prior=1,
            n_noise=n_outputs if self.noise == "per_output" else 1,
            max_memory=self.max_memory or default_max_memory(), methods=(CLOSED_FORM,),
        )  # fmt: skip
        if refusal := CLOSED_FORM.refuses(problem):
            raise ValueError(refusal)
        if self.prior == "diagonal":
            problem.n_prior = features_of(model)
        n_params = model.n_params + problem.n_prior + problem.n_noise
        space = HeadSpace(model, self.prior, self.noise, problem.n_prior, problem.n_noise, n_params)
        object.__setattr__(self, "_problem", problem)
        object.__setattr__(self, "_space", space)

    @property
    def _averages(self) -> tuple[bool, bool]:
        return False, self._problem.mean

    @property
    def n_params(self) -> int:
        """Numbers of theta."""
        return self._space.n_params

    @property
    def n_features(self) -> int:
        """Features that the last layer works on, the 1 of its bias included."""
        return features_of(self.model)

    def init(
        self, rng: int | np.random.Generator | None = None, dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Draw initial parameters: the model's, and variances of 1.

        Parameters
        ----------
        rng : int, numpy.random.Generator or None
            A seed, a generator to draw from, or None for fresh entropy.
        dtype : dtype
            float64 or float32.

        Returns
        -------
        theta : ndarray, shape (n_params,)

        Raises
        ------
        TypeError, ValueError
            For another dtype, or what is no seed.
        """
        theta = self.model.init(rng, dtype)
        return np.concatenate([theta, np.zeros(self.n_params - len(theta), theta.dtype)])

    def pack(self, layers: Any, prior_variance: ArrayLike, noise_variance: ArrayLike) -> Any:
        """Return the flat parameters of the given weights, biases and variances.

        Parameters
        ----------
        layers : sequence of (weight, bias)
            As ``model.pack`` takes them; the last layer is the prior mean.
        prior_variance : float or array_like
            Variance of the weights before data, in units of the noise variance: one number, or
            one for each feature, the 1 of the bias last, with ``prior="diagonal"``.
        noise_variance : float or array_like
            Variance of an observation: one number, or one for each output with
            ``noise="per_output"``.

        Returns
        -------
        theta : ndarray, shape (n_params,)
            float32 if every layer is float32, else float64.

        Raises
        ------
        TypeError, ValueError
            For what does not fit the model, and variances that are not above 0 and finite.
        """
        packed = self.model.pack(layers)  # type: ignore[attr-defined]
        problem = self._problem
        logs = [
            _logs("prior_variance", prior_variance, problem.n_prior, packed.dtype),
            _logs("noise_variance", noise_variance, problem.n_noise, packed.dtype),
        ]
        return np.concatenate([packed, *logs])

    def unpack(self, theta: ArrayLike) -> HeadParameters:
        """Return the weights, biases and variances that the flat parameters stand for.

        Parameters
        ----------
        theta : array_like, shape (..., n_params)

        Returns
        -------
        HeadParameters
            (layers, prior_variance, noise_variance). The layers are views of `theta` if that is
            an ndarray.

        Raises
        ------
        TypeError
            If `theta` does not hold real numbers.
        ValueError
            If its last axis is not n_params long.
        """
        array = as_thetas(self._space, theta)
        ends = self.model.n_params, self.model.n_params + self._problem.n_prior
        layers = self.model.unpack(array[..., : ends[0]])  # type: ignore[attr-defined]
        with np.errstate(all="ignore"):
            prior, noise = np.exp(array[..., ends[0] : ends[1]]), np.exp(array[..., ends[1] :])
        return HeadParameters(layers, prior, noise)

    def adapt(  # type: ignore[override]
        self, theta: ArrayLike, x: Any, y: Any, *, sample_weight: Any = None
    ) -> Posterior:
        """Return the posterior of each task's last layer, given its rows.

        Parameters
        ----------
        theta : array_like, shape (n_params,)
        x, y : array_like or list of array_like
            Support rows of each task, none or more; see the class.
        sample_weight : array_like or list of array_like, optional
            Of each support row; see the class.

        Returns
        -------
        Posterior
            (mean, scale, noise_variance).

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """
        check = self.check_finite
        parameters = as_theta(self._space, theta, check_finite=check)
        dtype = parameters.dtype
        support = as_rows(self.model, x, y, dtype, check_finite=check, fewest=0)
        if sample_weight is not None:
            support = with_weights(support, sample_weight, averaged=False)
        return self._posterior(parameters, support, check)

    def predict(
        self, theta: ArrayLike, x: Any, y: Any, x_new: Any, return_std: bool = False,
        *, sample_weight: Any = None,
    ) -> Any:  # fmt: skip
        """Predict at `x_new` from each task's support rows (x, y).

        Parameters
        ----------
        theta : array_like, shape (n_params,)
        x, y : array_like or list of array_like
            Support rows of each task, none or more; see the class.
        x_new : array_like or list of array_like
            (n_tasks, rows, n_inputs), a list of arrays (rows_i, n_inputs), or (rows, n_inputs) for
            all tasks.
        return_std : bool
            Whether to return standard deviations, too.
        sample_weight : array_like or list of array_like, optional
            Of each support row; see the class.

        Returns
        -------
        mean : ndarray, shape (n_tasks, rows, n_outputs), or list of ndarray
            A list if the tasks of `x_new` differ in rows. It has the axes that `y` has: none of
            outputs if `y` has none, none of tasks for a single task.
        std : as mean
            Only with `return_std`: the standard deviation of an observation, its noise included.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """  # fmt: skip
        with_std = as_flag("return_std", return_std)
        parameters, support, new = self._to_predict(theta, x, y, x_new, sample_weight)
        if self.check_finite:
            as_theta(self._space, parameters)
        f, std = predict(self._problem, parameters, support, new, with_std)
        if self.check_finite and not (all_finite(f) and all_finite(std)):
            noise = np.sqrt(self._noise_variance(parameters.astype(FLOAT64)))
            with np.errstate(over="ignore"):
                noise = noise.astype(parameters.dtype)
            self._warn_of_overflow(parameters, new, (f, std), new.offsets, noise, 3)
        if not with_std:
            return split(f, new, support.flat)
        return split(f, new, support.flat), split(std, new, support.flat)

    def evaluate(
        self, theta: ArrayLike, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, sample_weight: Any = None, sample_weight_query: Any = None,
    ) -> HeadMetaGradient:  # fmt: skip
        """Return the meta-objective, per task too, and its gradient.

        Parameters
        ----------
        theta : array_like, shape (n_params,)
        x, y : array_like or list of array_like
            Support rows of each task; see the class.
        x_query, y_query : array_like or list of array_like, optional
            Query rows of each task, one or more. Without them the support rows serve as both.
        sample_weight, sample_weight_query : array_like or list of array_like, optional
            Of each support and query row; see the class.

        Returns
        -------
        HeadMetaGradient
            (value, gradient, task_values).

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite.
        """  # fmt: skip
        weights = sample_weight, sample_weight_query
        value, task_values, result, _ = self._evaluate(theta, x, y, x_query, y_query, weights)
        return HeadMetaGradient(value, result.gradient, task_values)

    def start(self, theta: ArrayLike, posterior: Posterior | None = None) -> Stream:
        """Return what takes the rows of one task one at a time.

        Parameters
        ----------
        theta : array_like, shape (n_params,)
        posterior : Posterior, optional
            Of a single task, to go on from: without an axis of tasks. By default the prior.

        Returns
        -------
        Stream

        Raises
        ------
        TypeError, ValueError
            For another theta, or a posterior of another shape; and with ``check_finite`` for one
            that is not finite, or whose factor or noise variance is none.
        """
        parameters = as_theta(self._space, theta)
        check = self.check_finite
        if posterior is None:
            x, y = np.empty((0, self.model.n_inputs)), np.empty((0, self.model.n_outputs))
            rows = as_rows(self.model, x, y, parameters.dtype, fewest=0)
            posterior = self._posterior(parameters, rows, check)
        else:
            posterior = self._single(posterior)
        return Stream(self.model, parameters, posterior, check)

    def _posterior(self, theta: NDArray[Any], support: Rows, check: bool) -> Posterior:
        mean, scale = posterior(self._problem, theta, support)
        noise = self._noise_variance(theta)
        if check and not (all_finite(mean) and all_finite(scale) and all_finite(noise)):
            ends = offsets_of(support.n_tasks, 1)
            self._warn_of_overflow(theta, support, (mean, scale), ends, noise, 4)
        return Posterior(by_task(mean, support), by_task(scale, support), noise)

    def _single(self, given: Any) -> Posterior:
        """The posterior of one task, in float64; checked."""
        if not isinstance(given, Posterior):
            raise TypeError(
                f"posterior is a {type(given).__name__}; accepted is a Posterior, as adapt returns"
            )
        m, p = self.model.n_outputs, self.n_features
        parts = []
        for name, shape in zip(Posterior._fields, ((m, p), (p, p), (m,)), strict=True):
            parts.append(as_array(f"posterior.{name}", getattr(given, name), FLOAT64))
            found = parts[-1].shape
            if found != shape:
                hint = ""
                if found[1:] == shape:
                    hint = "; of task i it is Posterior(p.mean[i], p.scale[i], p.noise_variance)"
                raise ValueError(
                    f"posterior.{name} has shape {shape_text(found)}; accepted is "
                    f"{shape_text(shape)} ({self._space!r}){hint}"
                )
        if self.check_finite:
            _require_posterior(*parts)
        return Posterior(*parts)

    def _warn_of_overflow(
        self, theta: NDArray[Any], rows: Rows, results: tuple[NDArray[Any], ...],
        ends: NDArray[np.int64], noise: NDArray[Any], stacklevel: int,
    ) -> None:  # fmt: skip
        """Warn of tasks, whose results are ``ends[i]:ends[i + 1]``, or of the noise of all."""
        if all_finite(results[0]) and not all_finite(noise):
            log = theta[self.n_params - self._problem.n_noise :].max()
            what = f"the noise variance is inf: theta holds its logarithm, {log:.3g}"
            advice = "targets scaled to about 1, or a smaller learning rate, usually help"
        else:
            first, who = called(not_finite(results, ends).tolist(), rows, "are not finite")
            what = f"the posterior of {first} is not finite{who}"
            advice = "data scaled to about 1, or prior variances nearer to 1, usually help"
        warnings.warn(f"{what}; {advice}", DivergenceWarning, stacklevel=stacklevel)

    def _noise_variance(self, theta: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            noise = np.exp(theta[self.n_params - self._problem.n_noise :])
        return np.broadcast_to(noise, (self.model.n_outputs,)).copy()


def _logs(name: str, variances: ArrayLike, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    given = as_array(name, variances, FLOAT64)
    if given.shape not in ((), (count,)):
        raise ValueError(
            f"{name} has shape {shape_text(given.shape)}; accepted are a number and "
            f"{shape_text((count,))}"
        )
    require_finite(name, given)
    if not (given > 0).all():
        raise ValueError(f"{name} holds {given.min()}; accepted are numbers above 0")
    return np.broadcast_to(np.log(given), (count,)).astype(dtype)


def _require_posterior(
    mean: NDArray[Any], scale: NDArray[Any], noise_variance: NDArray[Any]
) -> None:
    """Raise ValueError for numbers that are no posterior of one task."""
    require_finite("posterior.mean", mean, ("output", "feature"))
    require_finite("posterior.scale", scale, ("row", "column"))
    require_finite("posterior.noise_variance", noise_variance, ("output",))
    if (above := np.argwhere(np.triu(scale, 1))).size:
        i, j = above[0]
        raise ValueError(
            f"posterior.scale holds {scale[i, j]} at row {i}, column {j}; accepted are lower "
            "Cholesky factors, zero above the diagonal"
        )
    for name, numbers, place in (
        ("scale", np.diagonal(scale), "on the diagonal, at row"),
        ("noise_variance", noise_variance, "at output"),
    ):
        if not (numbers > 0).all():
            i = int(np.argmin(numbers > 0))
            raise ValueError(
                f"posterior.{name} holds {numbers[i]} {place} {i}; accepted are numbers above 0"
            )
