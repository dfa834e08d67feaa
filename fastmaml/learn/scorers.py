"""Few-shot scores by any metric of scikit-learn, for cross-validation and search.

Needs scikit-learn, from the extra ``sklearn``.
"""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest

from ..checks import shown
from ..datasets.labels import require_length

__all__ = ["few_shot_scorer"]


def few_shot_scorer(metric: Any) -> FewShotScorer:
    """Return a scorer that adapts to a part of each group's rows and judges the others.

    What ``MAMLRegressor.score(X, y, groups=...)`` does for R², for any metric of what is predicted.

    Parameters
    ----------
    metric : str or callable
        The name of a scorer of scikit-learn, such as ``"neg_root_mean_squared_error"`` or, for
        labels, ``"balanced_accuracy"``; or a scorer, as from ``sklearn.metrics.make_scorer``.

    Returns
    -------
    FewShotScorer
        Called as ``scorer(estimator, X, y, groups, sample_weight=None)``, of a fitted
        MAMLRegressor, MAMLClassifier or BayesianLastLayerRegressor, or a Pipeline,
        TransformedTargetRegressor or search of one. It asks for `groups` by itself where
        scikit-learn's metadata routing is on; without groups it is an error.

    Raises
    ------
    TypeError, ValueError
        For a metric that scikit-learn does not know, several of them, or a metric function in place
        of a scorer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.learn import MAMLRegressor, few_shot_scorer
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(30), 8)
    >>> X = rng.uniform(-1, 1, (240, 1))
    >>> y = rng.normal(1.0, 0.5, 30)[groups] * X[:, 0]
    >>> maml = MAMLRegressor((8,), learning_rate_init=0.01, n_iter_no_change=2, random_state=0)
    >>> maml = maml.fit(X, y, groups)
    >>> few_shot_scorer("neg_root_mean_squared_error")(maml, X, y, groups) < 0
    True
    """
    names = get_scorer_names()
    if isinstance(metric, str) and metric not in names:
        near = difflib.get_close_matches(metric, [*names], 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"metric is {metric!r:.60}; accepted are scorers and their names, which "
            f"sklearn.metrics.get_scorer_names() lists{hint}"
        )
    if not isinstance(metric, str) and not callable(metric):
        raise TypeError(
            f"metric is {shown(metric)}; accepted are one scorer and the name of one, such as "
            "'neg_root_mean_squared_error'"
        )
    check_scoring(_Known(np.zeros(0)), metric)
    return FewShotScorer(metric)


class FewShotScorer:
    """What `few_shot_scorer` returns."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric

    def __repr__(self) -> str:
        return f"few_shot_scorer({self.metric!r})"

    def __call__(
        self, estimator: Any, X: Any, y: Any, groups: Any = None, *, sample_weight: Any = None
    ) -> float:
        """Return the score of all query rows."""
        if groups is None:
            raise ValueError(
                f"{self!r} was given no groups; accepted is a label for each row. "
                "cross_val_score(..., params={'groups': groups}) and GridSearchCV.fit(..., "
                "groups=groups) hand them on with sklearn.set_config(enable_metadata_routing=True)"
            )
        rows, predicted = _few_shot(estimator, X, y, groups)
        options = {}
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            require_length("sample_weight", sample_weight.shape, len(y))
            options["sample_weight"] = sample_weight[rows]
        known = _Known(predicted)
        score = check_scoring(known, self.metric)
        return float(score(known, rows[:, None], np.asarray(y)[rows], **options))

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what scikit-learn hands on to the scorer."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="groups", alias=True)
        request.score.add_request(param="sample_weight", alias=None)
        return request


class _Known(RegressorMixin, BaseEstimator):
    """A regressor that predicts what is known already, for scorers, which ask a regressor."""

    def __init__(self, predicted: NDArray[Any]) -> None:
        self.predicted = predicted

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any) -> _Known:
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        return self.predicted


def _few_shot(estimator: Any, X: Any, y: Any, groups: Any) -> tuple[NDArray[np.intp], Any]:
    """The query rows, and what the estimator predicts for them after adaptation."""
    if isinstance(estimator, FrozenEstimator):
        return _few_shot(estimator.estimator, X, y, groups)
    if isinstance(estimator, Pipeline):
        if len(estimator.steps) > 1:
            X = estimator[:-1].transform(X)
        return _few_shot(estimator.steps[-1][1], X, y, groups)
    if isinstance(estimator, TransformedTargetRegressor):
        flat = np.ndim(y) == 1
        columns = np.asarray(y).reshape(len(y), -1)
        targets = np.asarray(estimator.transformer_.transform(columns))
        if flat and targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        rows, predicted = _few_shot(estimator.regressor_, X, targets, groups)
        back = estimator.transformer_.inverse_transform(predicted.reshape(len(predicted), -1))
        return rows, back[:, 0] if flat else back
    if hasattr(estimator, "best_estimator_"):
        return _few_shot(estimator.best_estimator_, X, y, groups)
    if not hasattr(estimator, "_few_shot"):
        raise TypeError(
            f"estimator is {estimator!r:.60}; accepted are a MAMLRegressor, a "
            "BayesianLastLayerRegressor, and a Pipeline, TransformedTargetRegressor or search of "
            "one"
        )
    return estimator._few_shot(X, y, groups)
