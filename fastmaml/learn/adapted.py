"""What adaptation makes of fitted estimators: the regressor of one group, alone or in a pipeline.

Needs scikit-learn, from the extra ``sklearn``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import require_finite
from ..datasets.columns import as_weights
from ..maml import MAML
from ..models import MLP
from .numbers import require_numbers
from .scaling import Scaling

__all__ = ["Adapted", "AdaptedRegressor", "Standardised", "StandardisedRegressor", "adapt"]

DTYPES = (np.float64, np.float32)
TARGETS: dict[str, Any] = {"dtype": DTYPES, "y_numeric": True, "multi_output": True}


class Standardised(BaseEstimator):
    """What all estimators share: data in the user's units outside, standardised inside.

    A fitted one has ``model_``, ``theta_``, ``scaling_``, and ``_flat``, which says whether y has
    one axis. It scales, and scales back, in float64; the network computes in theta's dtype.
    """

    model_: MLP
    theta_: NDArray[Any]
    scaling_: Scaling
    n_outputs_: int
    _flat: bool

    def _inputs(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        require_numbers("X", X)
        return self._scaled_inputs(validate_data(self, X, reset=False, dtype=DTYPES))

    def _rows(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows that are checked against those of ``fit``, not yet scaled."""
        check_is_fitted(self)
        for name, values in (("X", X), ("y", y)):
            require_numbers(name, values)
        X, y = validate_data(self, X, y, reset=False, **TARGETS)
        if y.size // len(y) != self.n_outputs_:
            raise ValueError(
                f"y has {y.size // len(y)} outputs; "
                f"accepted are {self.n_outputs_}, as in the meta-training"
            )
        return X, y

    def _scaled_inputs(self, X: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
        scaled = self.scaling_.scale_x(X, self.theta_.dtype if dtype is None else dtype)
        return _finite("X", scaled, "feature")

    def _scaled_targets(self, y: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
        columns = y.reshape(len(y), -1)
        scaled = self.scaling_.scale_y(columns, self.theta_.dtype if dtype is None else dtype)
        return _finite("y", scaled, "output")

    def _outputs(self, f: Any, dtype: Any) -> NDArray[Any]:
        y: NDArray[Any] = self.scaling_.unscale_y(f, dtype)
        return y.ravel() if self._flat else y

    def _back(self, found: Any, dtype: Any) -> Any:
        """Scaled predictions, or means and standard deviations, in the user's units."""
        if not isinstance(found, tuple):
            return self._outputs(found, dtype)
        std = self.scaling_.unscale_std(found[1], dtype)
        return self._outputs(found[0], dtype), std.ravel() if self._flat else std

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """The score of ``predict(X)``."""
        raise NotImplementedError

    def _to_save(self) -> dict[str, Any]:
        names = getattr(self, "feature_names_in_", None)
        return {
            "theta": self.theta_,
            "scaling": self.scaling_,
            "inputs": None if names is None else names.tolist(),
        }

    def _precision(self, y: NDArray[Any]) -> np.dtype[Any]:
        """The dtype of predictions: that of the network or of y, whichever has more digits."""
        own = y.dtype if y.dtype.kind == "f" else np.float64
        return np.dtype(np.float32 if own == self.theta_.dtype == np.float32 else np.float64)


def _finite(name: str, scaled: NDArray[Any], column: str) -> NDArray[Any]:
    require_finite(f"{name}, standardised,", scaled, ("row", column))
    return scaled


class StandardisedRegressor(MultiOutputMixin, RegressorMixin, Standardised):
    """What all regressors share."""

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """R² of ``predict(X)``; to r2_score a date would be a number."""
        require_numbers("y", y)
        return float(super().score(X, y, sample_weight))


class Adapted(Standardised):
    """The estimator of one task: ``fit`` adapts what `meta`, a frozen estimator, has learned."""

    def __init__(self, meta: FrozenEstimator) -> None:
        self.meta = meta

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Adapt to rows X (rows, n_features) and y as in the meta-training, by their weights."""
        meta = self.meta.estimator
        rows, dtype = self._scaled_rows(X, y)
        if sample_weight is not None:
            sample_weight = as_weights("sample_weight", sample_weight, len(rows[0]))
        self.theta_ = meta._maml().adapt(meta.theta_, *rows, sample_weight=sample_weight)
        self._share(dtype)
        return self

    def _scaled_rows(
        self, X: Any, y: Any, dtype: Any = None
    ) -> tuple[tuple[NDArray[Any], NDArray[Any]], Any]:
        """Checked rows in standardised units, in theta's dtype or another; that of predictions."""
        meta = self.meta.estimator
        X, y = meta._rows(X, y)
        return (meta._scaled_inputs(X, dtype), meta._scaled_targets(y, dtype)), meta._precision(y)

    def _share(self, dtype: Any) -> None:
        """Have what the meta-training has; predictions will be of a dtype."""
        meta = self.meta.estimator
        for name in SHARED:
            if hasattr(meta, name):
                setattr(self, name, getattr(meta, name))
        self._dtype = dtype

    def _found(self, X: Any) -> Any:
        """The outputs at X, in the user's terms."""
        x = self._inputs(X)
        if not np.isfinite(self.theta_).all():
            raise FloatingPointError(
                "the adaptation to the rows of fit diverged, so there is nothing to predict with; "
                "a smaller inner_lr or fewer steps usually help"
            )
        return self._back(self.model_.predict(self.theta_, x), self._dtype)

    def to_save(self) -> dict[str, Any]:
        """Return what ``fastmaml.save`` writes: the adapted network, which adapts no more."""
        check_is_fitted(self)
        loss = self.meta.estimator._loss(self.model_)
        adapted = MAML(self.model_, steps=0, loss=loss, task_mean=True)
        return {**self._to_save(), "objective": adapted}


class AdaptedRegressor(StandardisedRegressor, Adapted):
    """The regressor of one task: ``fit`` adapts meta-learned parameters to its rows.

    :meth:`MAMLRegressor.adapt` makes it and fits it. It can be cloned and fitted again, on other
    rows of the task or in a cross-validation: the meta-parameters stay.

    Parameters
    ----------
    meta : FrozenEstimator
        Of a fitted `MAMLRegressor`, without the rows that it was trained on.

    Attributes
    ----------
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The adapted parameters (equation 8), for standardised data.
    scaling_ : Scaling
        That of the meta-training.
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        As in the meta-training.

    Raises
    ------
    TypeError, ValueError
        In its methods, for data that does not fit that of the meta-training.
    FloatingPointError
        In ``predict`` and ``score``, if the adaptation ended in numbers that are not finite.

    Warns
    -----
    DivergenceWarning
        In ``fit``, if the adaptation diverges.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from fastmaml.learn import MAMLRegressor
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(20), 8)
    >>> X = rng.uniform(-1, 1, (160, 1))
    >>> y = rng.normal(1.0, 0.5, 20)[groups] * X[:, 0]
    >>> quick = {"max_iter": 100, "n_iter_no_change": 2, "random_state": 0}
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # of a training as short as this
    ...     meta = MAMLRegressor((8,), **quick).fit(X, y, groups)
    >>> new = meta.adapt([[-0.8], [0.1], [0.9]], [-1.1, 0.1, 1.2])
    >>> new.predict([[0.5], [0.6]]).shape, new.score([[0.5], [0.6]], [0.6, 0.8]) < 1
    ((2,), True)
    >>> again = new.fit([[-0.8], [0.9]], [1.1, -1.2])  # another group
    >>> sorted(again.to_save())
    ['inputs', 'objective', 'scaling', 'theta']
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedRegressor:
        """Return itself, adapted to X (rows, n_features) and y (rows,) or (rows, n_outputs).

        `sample_weight` (rows,) weighs their squared errors.
        """
        fitted: AdaptedRegressor = super().fit(X, y, sample_weight)
        return fitted

    def predict(self, X: Any) -> NDArray[Any]:
        """Return y (rows,) or (rows, n_outputs) for X (rows, n_features)."""
        predicted: NDArray[Any] = self._found(X)
        return predicted

    def score(self, X: Any, y: Any, *, sample_weight: Any = None) -> float:
        """Return R² of ``predict(X)`` against y; `sample_weight` (rows,) weighs the rows."""
        return self._score(X, y, sample_weight)


SHARED = (
    "model_", "scaling_", "n_outputs_", "classes_", "n_features_in_", "feature_names_in_", "_flat",
)  # fmt: skip


def adapt(estimator: Any, X: Any, y: Any) -> Any:
    """Adapt a fitted estimator that ends in a `MAMLRegressor`, or the like, to one new group.

    Parameters
    ----------
    estimator : estimator
        Fitted: a MAMLRegressor, MAMLClassifier or BayesianLastLayerRegressor, or a Pipeline,
        TransformedTargetRegressor or search of one. A pipeline's last step is any of these, as is
        the regressor of a TransformedTargetRegressor, and the ``best_estimator_`` of a search such
        as GridSearchCV.
    X : array_like or DataFrame, shape (rows, n_features)
        What the estimator as a whole takes.
    y : array_like, shape (rows,) or (rows, n_outputs)

    Returns
    -------
    estimator
        Of the same kind (for a search, for the kind of its best estimator), fitted: the
        transformers are the given ones, frozen, and the last step is an `AdaptedRegressor`, or an
        `AdaptedClassifier`. Like that it can be cloned and fitted again, to other rows.

    Raises
    ------
    TypeError
        For another estimator.
    NotFittedError, ValueError
        If it is not fitted, or for data that does not fit that of ``fit``.

    Warns
    -----
    DivergenceWarning
        If the adaptation diverges.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> from fastmaml.learn import MAMLRegressor, adapt
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(30), 8)
    >>> X = rng.uniform(-1, 1, (240, 1))
    >>> y = rng.normal(1.0, 0.5, 30)[groups] * X[:, 0] ** 2
    >>> maml = MAMLRegressor((8,), learning_rate_init=0.01, n_iter_no_change=2, random_state=0)
    >>> pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), maml)
    >>> pipeline = pipeline.fit(X, y, mamlregressor__groups=groups)
    >>> new = adapt(pipeline, [[-0.8], [0.1], [0.9]], [1.2, 0.0, 1.5])
    >>> new.predict([[0.5]]).shape
    (1,)
    """
    return _adaptable(estimator).fit(X, y)


def _adaptable(estimator: Any) -> Any:
    """The same estimator, not fitted, so that ``fit`` adapts its last step and nothing else."""
    if isinstance(estimator, FrozenEstimator):
        return _adaptable(estimator.estimator)
    if isinstance(estimator, Adapted):
        return clone(estimator)
    if hasattr(estimator, "_adaptable"):
        return estimator._adaptable()
    if isinstance(estimator, Pipeline) and estimator.steps:
        *transformers, (name, last) = estimator.steps
        frozen = [(key, _frozen(transformer)) for key, transformer in transformers]
        adaptable = Pipeline([*frozen, (name, _adaptable(last))], verbose=estimator.verbose)
        adaptable.transform_input = estimator.transform_input
        return adaptable
    if isinstance(estimator, TransformedTargetRegressor):
        check_is_fitted(estimator)
        return TransformedTargetRegressor(
            _adaptable(estimator.regressor_),
            transformer=_FrozenTransformer(estimator.transformer_),
            check_inverse=False,
        )
    if hasattr(estimator, "param_distributions") or hasattr(estimator, "param_grid"):
        check_is_fitted(estimator)
        if hasattr(estimator, "best_estimator_"):
            return _adaptable(estimator.best_estimator_)
    raise TypeError(
        f"estimator is {estimator!r:.60}; accepted are a MAMLRegressor, a MAMLClassifier, a "
        "BayesianLastLayerRegressor, a Pipeline that ends in one, a TransformedTargetRegressor of "
        "one, and a search that has found one with refit=True"
    )


class _FrozenTransformer(FrozenEstimator):
    """One of targets, which TransformedTargetRegressor fits without a y."""

    def fit(self, X: Any, y: Any = None, *args: Any, **kwargs: Any) -> _FrozenTransformer:
        """Do nothing."""
        return self


def _frozen(transformer: Any) -> Any:
    return transformer if transformer in (None, "passthrough") else FrozenEstimator(transformer)
