"""MAML as a scikit-learn classifier, for long-format data: rows, and the group that each is from.

Needs scikit-learn, from the extra ``sklearn``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ..checks import shown
from ..datasets.table import TaskTable
from ..models import MLP
from .adapted import DTYPES, Adapted, Standardised
from .gradient_steps import ByGradientSteps
from .grouped import Targets, average_of_tasks
from .numbers import require_numbers
from .scaling import Scaling

__all__ = ["AdaptedClassifier", "MAMLClassifier"]


class Classes(ClassifierMixin, Standardised):
    """What both classifiers share: labels outside, their numbers and probabilities inside.

    Inputs are standardised; the network has one output, the logarithm of the odds of the second
    class, or one for each of three and more.
    """

    classes_: NDArray[Any]

    def _rows(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows that are checked against those of ``fit``, not yet scaled."""
        check_is_fitted(self)
        require_numbers("X", X)
        X, y = validate_data(self, X, y, reset=False, dtype=DTYPES)
        y = column_or_1d(y)
        check_classification_targets(y)
        known = self.classes_.tolist()
        try:
            unknown = np.setdiff1d(y, self.classes_).tolist()
        except TypeError:  # they cannot be sorted together, as texts and numbers
            unknown = [label for label in y.tolist() if label not in known]
        if unknown:
            raise ValueError(
                f"y holds {shown(unknown[0])}, no class of the meta-training; accepted are "
                f"{shown(known)}"
            )
        return X, y

    def _scaled_targets(self, y: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
        codes = np.searchsorted(self.classes_, y)[:, None]
        return codes.astype(self.theta_.dtype if dtype is None else dtype)

    def _back(self, found: Any, dtype: Any) -> NDArray[Any]:
        """The probabilities (rows, n_classes) that outputs stand for."""
        f = np.asarray(found, np.float64)
        if f.shape[1] == 1:
            f = np.hstack([np.zeros_like(f), f])
        with np.errstate(all="ignore"):  # of a task that diverged
            e = np.exp(f - f.max(axis=1, keepdims=True))
            return (e / e.sum(axis=1, keepdims=True)).astype(dtype)

    def _outputs(self, f: Any, dtype: Any) -> NDArray[Any]:
        return self._labels(self._back(f, dtype))

    def _labels(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        labels: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def _precision(self, y: NDArray[Any]) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.theta_.dtype
        return dtype

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        return float(super().score(X, y, sample_weight))


class AdaptedClassifier(Classes, Adapted):
    """The classifier of one task: ``fit`` adapts meta-learned parameters to its rows.

    :meth:`MAMLClassifier.adapt` makes it and fits it. It can be cloned and fitted again, on other
    rows of the task or in a cross-validation: the meta-parameters stay.

    Parameters
    ----------
    meta : FrozenEstimator
        Of a fitted `MAMLClassifier`, without the rows that it was trained on.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels of the meta-training, sorted: the columns of probabilities.
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The adapted parameters (equation 8), for standardised inputs.
    scaling_ : Scaling
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        As in the meta-training.

    Raises
    ------
    TypeError, ValueError
        In its methods, for data that does not fit that of the meta-training, and for a label that
        it did not have.
    FloatingPointError
        In ``predict``, ``predict_proba`` and ``score``, if the adaptation ended in numbers that are
        not finite.

    Warns
    -----
    DivergenceWarning
        In ``fit``, if the adaptation diverges.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from fastmaml.learn import MAMLClassifier
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(20), 8)
    >>> X = rng.uniform(-1, 1, (160, 1))
    >>> y = np.where(rng.uniform(-0.5, 0.5, 20)[groups] < X[:, 0], "on", "off")
    >>> quick = {"max_iter": 100, "n_iter_no_change": 2, "random_state": 0}
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # of a training as short as this
    ...     meta = MAMLClassifier((8,), **quick).fit(X, y, groups)
    >>> new = meta.adapt([[-0.8], [0.1], [0.9]], ["off", "off", "on"])
    >>> new.predict([[0.5], [0.6]]).shape, new.predict_proba([[0.5], [0.6]]).shape
    ((2,), (2, 2))
    >>> 0 <= new.score([[0.5], [0.6]], ["on", "on"]) <= 1
    True
    >>> again = new.fit([[-0.8], [0.9]], ["on", "off"])  # another group
    >>> sorted(again.to_save())
    ['inputs', 'objective', 'scaling', 'theta']
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedClassifier:
        """Return itself, adapted to rows X (rows, n_features) and labels y (rows,).

        `sample_weight` (rows,) weighs them.
        """
        fitted: AdaptedClassifier = super().fit(X, y, sample_weight)
        return fitted

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities (rows, n_classes) of the classes at X (rows, n_features)."""
        found: NDArray[Any] = self._found(X)
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the labels (rows,) of the greatest probability at X (rows, n_features)."""
        return self._labels(self._found(X))

    def score(self, X: Any, y: Any, *, sample_weight: Any = None) -> float:
        """Return the accuracy of ``predict(X)`` against y; `sample_weight` (rows,) weighs rows."""
        return self._score(X, y, sample_weight)


class MAMLClassifier(ByGradientSteps, Classes):
    """A multilayer perceptron that tells classes apart, meta-learned by MAML [1]_ from groups.

    Each group (a device, a person, a writer) is a task. ``fit`` finds parameters from which a few
    gradient steps on some rows of a group tell the classes of its other rows; ``adapt`` takes these
    steps on the rows of a new group and returns an ordinary classifier.

    Inputs are standardised as in `MAMLRegressor`. The loss is the cross-entropy, ``"logistic"`` for
    two classes and ``"softmax"`` for more, averaged over groups. The labels mean the same in all
    groups, or not: the first class of a group may be another thing than that of the next (n-way
    classification).

    Parameters
    ----------
    hidden_layer_sizes, activation, inner_lr, learn_rates, steps, shuffle, meta_batch
        As for `MAMLRegressor`.
    shots : int, optional
        Support rows of a group, as for `MAMLRegressor`. By default half of the group's rows.
    learning_rate_init, clip_norm, max_iter, early_stopping, validation_fraction, n_iter_no_change
        As for `MAMLRegressor`.
    tol, order, random_state, verbose, warm_start
        As for `MAMLRegressor`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels of ``fit``, sorted: the columns of probabilities.
    model_ : MLP
        With one output for two classes, else with one for each.
    theta_ : ndarray, shape (P,)
        The meta-parameters, for standardised inputs; float32 if X is, else float64.
    inner_lr_, scaling_, groups_, loss_curve_, loss_, validation_loss_curve_, best_validation_loss_
        As of `MAMLRegressor`; the losses are cross-entropies.
    n_iter_, n_features_in_, feature_names_in_
        As of `MAMLRegressor`.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, for a parameter or data that is not accepted, and for labels of one class alone.
        In the other methods for a label that ``fit`` has not seen.
    FloatingPointError
        In ``fit``, if the training diverges; it names the group. In ``score``, if the adaptation
        of a group ends in numbers that are not finite.

    Warns
    -----
    ConvergenceWarning
        (scikit-learn's.) If `max_iter` ends the training while the loss still falls.
    DivergenceWarning
        In ``adapt``, ``predict``, ``adapt_predict`` and ``score``, if the adaptation of a group
        diverges; it names the group, the step and the rate.
    UserWarning
        In ``fit``, for groups of a single row, which are left out, and if the result is worse than
        the shares of the classes in the training. In ``predict`` and ``score``, once for each
        model that was fitted with groups and is given none.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine, Model-agnostic meta-learning for fast adaptation of deep
       networks, ICML 2017, algorithm 2 and section 5.2.

    Examples
    --------
    Eighty groups of points that a line through the origin parts, each group by a line of its own;
    then a new one, of which six points are known.

    >>> import numpy as np
    >>> from fastmaml.learn import MAMLClassifier
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(80), 12)
    >>> X, angles = rng.normal(size=(960, 2)), rng.uniform(0, 3, 80)[groups]
    >>> above = X[:, 0] * np.cos(angles) + X[:, 1] * np.sin(angles) > 0
    >>> y = np.where(above, "above", "below")
    >>> maml = MAMLClassifier((16,), learning_rate_init=0.01, n_iter_no_change=3, random_state=0)
    >>> maml = maml.fit(X, y, groups)
    >>> x_new = [[1, 0.1], [2, -1], [0.5, 2], [-1, 0.2], [-2, 1], [-0.4, -1]]
    >>> new = maml.adapt(x_new, ["above"] * 3 + ["below"] * 3)
    >>> new.predict([[3.0, 0.5], [-3.0, 0.5]]).tolist()
    ['above', 'below']
    >>> new.predict_proba([[3.0, 0.5]]).shape
    (1, 2)
    >>> known = groups < 2
    >>> maml.adapt_predict(X[known], y[known], groups[known], X[:3], groups[:3]).shape
    (3,)
    >>> bool(maml.score(X, y, groups) > 0.5)
    True
    >>> import pathlib, tempfile
    >>> import fastmaml as fm
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.npz")
    >>> fm.save(path, maml)  # what maml.to_save() returns
    >>> again = MAMLClassifier.from_saved(fm.load(path))
    """

    _adapted = AdaptedClassifier
    _also_saved = ("classes",)
    _metric = accuracy_score
    _means = "shares of the classes", "the shares {:.3g}"

    def predict_proba(self, X: Any, groups: Any = None) -> NDArray[Any]:
        """Return the probabilities of the classes in rows of known groups.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        groups : array_like, shape (rows,), optional
            Labels among those of ``fit``: each group adapts to all its rows there. A model that was
            fitted without groups adapts to all rows. One that was fitted with groups and is given
            none predicts by the meta-parameters as they are, and warns of that once.

        Returns
        -------
        p : ndarray, shape (rows, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        ValueError
            For a group that ``fit`` has not seen, or other columns than there.
        """
        found: NDArray[Any] = self._predict(X, groups)
        return found

    def predict(self, X: Any, groups: Any = None) -> NDArray[Any]:
        """Return the labels (rows,) of the greatest probability.

        Parameters and errors are those of `predict_proba`.
        """
        return self._labels(self._predict(X, groups))

    def adapt(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedClassifier:
        """Return a classifier for one task, adapted to its rows.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        y : array_like, shape (rows,)
            Labels among those of ``fit``; not all need be there.
        sample_weight : array_like, shape (rows,), optional
            Weight of each row.

        Returns
        -------
        AdaptedClassifier
            Fitted; it has ``predict``, ``predict_proba`` and ``score``. It carries no rows of the
            training.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            For data that does not fit that of ``fit``, in its columns or labels.

        Warns
        -----
        DivergenceWarning
            If the adaptation diverges.
        """
        adapted: AdaptedClassifier = self._adaptable().fit(X, y, sample_weight)
        return adapted

    def to_save(self) -> dict[str, Any]:
        """Return what ``fastmaml.save(path, classifier)`` writes; no rows of the training.

        ``fastmaml.load`` reads it, as what predicts the outputs of the network, and `from_saved`
        makes a fitted estimator of that. Labels must be text, numbers or truth values.
        """
        found = super().to_save()
        labels = self.classes_.tolist()
        if not all(isinstance(label, str | int | float | bool) for label in labels):
            raise TypeError(
                f"classes_ holds {shown(labels)}; accepted to save are text, numbers and booleans"
            )
        return {**found, "extra": {**found["extra"], "classes": labels}}

    def _fit_rows(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any], Targets]:
        require_numbers("X", X)
        X, y = validate_data(self, X, y, ensure_min_samples=2, dtype=DTYPES)
        y = column_or_1d(y, warn=True)
        try:
            check_classification_targets(y)
            classes, codes = np.unique(y, return_inverse=True)
        except TypeError as error:
            raise TypeError(
                f"y holds labels that cannot be sorted ({error}); accepted are labels of one kind, "
                "none missing"
            ) from error
        if len(classes) < 2:
            raise ValueError(
                f"y has one class alone, {shown(classes.tolist()[0])}; accepted are two or more"
            )
        n_outputs = 1 if len(classes) == 2 else len(classes)
        return X, y, Targets(codes.reshape(-1, 1).astype(X.dtype), n_outputs, classes)

    def _scaling_of(self, rows: TaskTable) -> Scaling:
        scaling = Scaling.fit(rows.x, rows.y, sample_weight=rows.sample_weight)
        return Scaling(scaling.x_mean, scaling.x_scale, [0.0], [1.0])  # numbers of classes stay

    def _predicted(self, found: NDArray[Any]) -> NDArray[Any]:
        return self._labels(found)

    def _loss(self, model: MLP) -> str:
        return "logistic" if model.n_outputs == 1 else "softmax"

    def _of_mean(
        self, targets: list[NDArray[Any]], known: NDArray[Any], of_targets: Any, of_known: Any
    ) -> float:
        """The cross-entropy if each prediction is the share of the classes among known targets."""
        codes = known[:, 0].astype(np.intp)
        counts = np.bincount(codes, of_known, minlength=len(self.classes_))
        with np.errstate(divide="ignore"):  # of a class that is in no group of the training
            costs = -np.log(counts / counts.sum())
        return average_of_tasks([costs[t.astype(np.intp)] for t in targets], of_targets)
