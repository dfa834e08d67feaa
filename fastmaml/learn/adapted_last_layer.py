"""The regressor of one group whose last layer is Bayesian: it is sure or not, and takes more rows.

Needs scikit-learn, from the extra ``sklearn``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ..checks import as_flag
from ..closed_form import BayesianLastLayer
from ..datasets.columns import as_weights
from ..models import MLP
from ..streaming import Posterior, Stream
from .adapted import AdaptedRegressor

__all__ = ["AdaptedBayesianRegressor", "as_prior", "without_rows"]

#: variance of a weight that a posterior has no use for: it stays what it is
NONE = 1e-30


class AdaptedBayesianRegressor(AdaptedRegressor):
    """The regressor of one task: a posterior of the last layer, which more rows update.

    :meth:`BayesianLastLayerRegressor.adapt` makes it and fits it. ``fit`` starts from the
    meta-learned prior; ``partial_fit`` goes on, and after any rows is what ``fit`` of all of them
    would be, to rounding: see `fastmaml.streaming.Stream`. It computes in float64.

    Parameters
    ----------
    meta : FrozenEstimator
        Of a fitted `BayesianLastLayerRegressor`, without the rows that it was trained on.

    Attributes
    ----------
    posterior_ : Posterior
        Of the last layer, for standardised data.
    n_rows_ : int
        Rows that it has adapted to.
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The model's parameters, whose last layer is the posterior mean.
    scaling_, n_outputs_, n_features_in_, feature_names_in_
        As in the meta-training.

    Raises
    ------
    TypeError, ValueError
        In its methods, for data that does not fit that of the meta-training.
    FloatingPointError
        In ``predict`` and ``score``, if the posterior is not finite.

    Warns
    -----
    DivergenceWarning
        In ``fit``, if the posterior is not finite.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from fastmaml.learn import BayesianLastLayerRegressor
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(20), 8)
    >>> X = rng.uniform(-1, 1, (160, 1))
    >>> y = rng.normal(1.0, 0.5, 20)[groups] * X[:, 0]
    >>> quick = {"max_iter": 100, "n_iter_no_change": 2, "random_state": 0}
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # of a training as short as this
    ...     meta = BayesianLastLayerRegressor((8,), **quick).fit(X, y, groups)
    >>> new = meta.adapt([[-0.8]], [-1.1]).partial_fit([[0.1], [0.9]], [0.1, 1.2])
    >>> mean, std = new.predict([[0.5], [0.6]], return_std=True)
    >>> mean.shape, std.shape, new.score([[0.5], [0.6]], [0.6, 0.8]) < 1
    ((2,), (2,), True)
    >>> again = new.fit([[-0.8], [0.9]], [1.1, -1.2])  # another group
    >>> sorted(again.to_save())
    ['inputs', 'objective', 'scaling', 'theta']
    """

    posterior_: Posterior
    n_rows_: int
    _prior: tuple[BayesianLastLayer, NDArray[Any]] | None  # of predictions, None until there is one
    _stream: Stream | None

    def fit(
        self, X: Any = None, y: Any = None, sample_weight: Any = None
    ) -> AdaptedBayesianRegressor:
        """Return itself, adapted to X (rows, n_features) and y (rows,) or (rows, n_outputs).

        Without both there are no rows: the prior predicts. The noise variance of each row is
        divided by its `sample_weight` (rows,).
        """
        meta = self.meta.estimator
        if (X is None) != (y is None):
            missing, given = ("X", "y") if X is None else ("y", "X")
            raise ValueError(
                f"{missing} is None, {given} is not; accepted are rows of both, and neither: then "
                "the prior predicts"
            )
        check_is_fitted(meta)
        rows = without_rows(meta.model_)
        dtype = meta._dtype
        if X is not None:
            rows, dtype = self._scaled_rows(X, y, np.float64)
        head, theta = meta._objective(), meta.theta_.astype(np.float64)
        weights = None
        if sample_weight is not None:
            weights = as_weights("sample_weight", sample_weight, len(rows[0]), some=False)
        posterior = head.adapt(theta, *rows, sample_weight=weights)
        self._share(dtype)
        self._keep(posterior, None, len(rows[0]))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedBayesianRegressor:
        """Return itself, adapted to more rows X and y: to all of them or, in an error, none.

        `sample_weight` is as for ``fit``.

        A row takes some microseconds, however many there were before. Each call takes more than
        that, for its checks and `posterior_`, and so does the first ``predict`` after it: many rows
        in one call are faster than many calls.
        """
        rows, dtype = self._scaled_rows(X, y, np.float64)
        weights = np.ones(len(rows[0]))
        if sample_weight is not None:
            weights = as_weights("sample_weight", sample_weight, len(rows[0]), some=False)
        if not hasattr(self, "posterior_"):
            self.fit()
        meta = self.meta.estimator
        if self._stream is None:
            theta = meta.theta_.astype(np.float64)
            stream = meta._objective().start(theta, self.posterior_)
        else:
            stream = self._stream.copy()
        for x_row, y_row, weight in zip(*rows, weights.tolist(), strict=True):
            stream.update(x_row, y_row, sample_weight=weight)
        if not self.n_rows_:
            self._dtype = dtype
        self._keep(stream.posterior, stream, self.n_rows_ + len(rows[0]))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return y (rows,) or (rows, n_outputs) for X (rows, n_features).

        With `return_std` also, of the same shape, the standard deviation of an observation, its
        noise included.
        """
        with_std = as_flag("return_std", return_std)
        x = self._inputs(X)
        head, theta = self._as_prior(
            ", so there is nothing to predict with; rows like those of the meta-training usually "
            "help"
        )
        found = head.predict(theta, *without_rows(self.model_), x, return_std=with_std)
        return self._back(found, self._dtype)

    def to_save(self) -> dict[str, Any]:
        """Return what ``fastmaml.save`` writes: a `BayesianLastLayer` whose prior is the posterior.

        So ``fastmaml.load(path).predict`` takes further rows to adapt to, or none.
        """
        check_is_fitted(self)
        head, theta = self._as_prior("; accepted to save is one that is")
        return {**self._to_save(), "objective": head, "theta": theta}

    def _hidden(self) -> list[Any]:
        meta = self.meta.estimator
        model, theta = meta.model_, meta.theta_.astype(np.float64)
        hidden: list[Any] = model.unpack(theta[: model.n_params])[:-1]
        return hidden

    def _keep(self, posterior: Posterior, stream: Stream | None, n_rows: int) -> None:
        mean = posterior.mean
        theta = self.model_.pack([*self._hidden(), (mean[:, :-1], mean[:, -1])])
        # All at once: what interrupts leaves the one or the other.
        self.__dict__.update(
            posterior_=posterior, theta_=theta, n_rows_=n_rows, _stream=stream, _prior=None
        )

    def _as_prior(self, advice: str) -> tuple[BayesianLastLayer, NDArray[Any]]:
        """The posterior as a prior, when it is first asked for; an error if it is not finite."""
        check_is_fitted(self)
        if self._prior is None:
            if not all(np.isfinite(part).all() for part in self.posterior_):
                raise FloatingPointError(
                    f"the posterior given the rows of fit is not finite{advice}"
                )
            self._prior = as_prior(
                self.model_, self._hidden(), self.posterior_, self.meta.estimator.loss
            )
        return self._prior


def without_rows(model: MLP) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows x and y of a task that has none yet."""
    return np.empty((0, model.n_inputs)), np.empty((0, model.n_outputs))


def as_prior(
    model: MLP, hidden: list[Any], posterior: Posterior, loss: str
) -> tuple[BayesianLastLayer, NDArray[Any]]:
    """Return a posterior as the prior of a `BayesianLastLayer`, and its parameters.

    With L the factor of the precision, the features psi = inv(L) @ phi of one more, linear layer
    have independent weights of the noise's variance: L.T @ w, for the weights w of phi.
    """
    mean, scale, noise = posterior
    p = len(scale)
    rotation = np.linalg.solve(scale, np.eye(p))
    sizes, words = model.layer_sizes, model.activation
    if isinstance(words, str):
        words = (words,) * len(hidden)
    deeper = MLP([*sizes[:-1], p, sizes[-1]], [*words, "identity"])
    head = BayesianLastLayer(deeper, loss, noise="per_output", task_mean=True)
    layers = [*hidden, (rotation[:, :-1], rotation[:, -1]), (mean @ scale, np.zeros(len(mean)))]
    theta: NDArray[Any] = head.pack(layers, [*[1.0] * p, NONE], noise)
    return head, theta
