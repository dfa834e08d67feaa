"""MAML as a scikit-learn estimator, for long-format data: rows, and the group that each is from.

Needs scikit-learn, from the extra ``sklearn``; so :mod:`fastmaml.learn` imports this file only when
`MAMLRegressor` is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import all_finite, as_choice, as_count, as_flag, as_positive, require_finite, shown
from ..maml import MAML
from ..models import MLP
from ..models.base import MAX_SIZE
from .groups import Groups, as_column, as_groups, blocks, split
from .loop import train
from .optimizers import Adam

__all__ = ["AdaptedRegressor", "MAMLRegressor"]


DTYPES = (np.float64, np.float32)
TARGETS: dict[str, Any] = {"dtype": DTYPES, "y_numeric": True, "multi_output": True}


class _Scaled(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """What both regressors share: data in the user's units outside, standardised inside.

    A fitted one has ``model_``, ``theta_``, ``x_scaler_``, ``y_scaler_`` and ``_flat``, which says
    whether y has one axis.
    """

    def _inputs(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        return self._scaled_inputs(validate_data(self, X, reset=False, dtype=DTYPES))

    def _scaled_inputs(self, X: NDArray[Any]) -> NDArray[Any]:
        return self._standardised("X", self.x_scaler_, X, ("row", "feature"))

    def _scaled_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        columns = y.reshape(len(y), -1)
        if columns.shape[1] != self.model_.n_outputs:
            raise ValueError(
                f"y has {columns.shape[1]} outputs; "
                f"accepted are {self.model_.n_outputs}, as in the meta-training"
            )
        return self._standardised("y", self.y_scaler_, columns, ("row", "output"))

    def _standardised(
        self, name: str, scaler: StandardScaler, rows: NDArray[Any], axes: tuple[str, str]
    ) -> NDArray[Any]:
        with np.errstate(all="ignore"):  # what overflows is named below
            scaled: NDArray[Any] = scaler.transform(rows).astype(self.theta_.dtype, copy=False)
        require_finite(f"{name}, standardised,", scaled, axes)
        return scaled

    def _outputs(self, f: Any) -> NDArray[Any]:
        # Not inverse_transform, which refuses the inf of a group whose adaptation diverged.
        y: NDArray[Any] = f * self.y_scaler_.scale_ + self.y_scaler_.mean_
        y = y.astype(f.dtype, copy=False)
        return y.ravel() if self._flat else y


class MAMLRegressor(_Scaled):
    """A multilayer perceptron, meta-learned by MAML [1]_ from rows that come in groups.

    Each group (a device, a person, a country) is a task. ``fit`` finds parameters from which a few
    gradient steps on some rows of a group predict its other rows; ``adapt`` takes these steps on
    the rows of a new group and returns an ordinary regressor.

    Inputs and targets are standardised with mean and standard deviation of all rows that ``fit``
    sees. The loss is ``"mse"`` of the standardised targets, averaged over groups.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Sizes of the hidden layers.
    activation : str
        Of the hidden layers, as for :class:`fastmaml.MLP`.
    inner_lr : float or array_like
        Learning rate of the inner steps, in the forms of :class:`fastmaml.MAML`.
    steps : int
        Number of inner steps. Like `inner_lr` it may be changed (``set_params``) after ``fit``:
        adaptation takes what is there when it happens.
    shots : int, optional
        Support rows of a group: what it adapts to in training and in ``score``. Its other rows are
        the query set; a group of fewer rows keeps one as query, and a lone row is both. By default
        half of the group's rows are support.
    shuffle : bool
        Whether support rows are drawn at random, anew in each iteration. False: they are the first
        rows of each group, as for a forecast.
    meta_batch : int
        Groups in each meta-update, drawn without replacement; all if there are fewer.
    learning_rate_init : float
        Learning rate of Adam, the meta-update.
    max_iter : int
        Number of meta-updates.
    order : {"exact", "first"}
        As for :class:`fastmaml.MAML`.
    random_state : int, RandomState instance or None
        Decides initial parameters, groups and splits. An integer gives the same result each time.

    Attributes
    ----------
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The meta-parameters, for standardised data; float32 if X is, else float64.
    x_scaler_, y_scaler_ : StandardScaler
    groups_ : list
        Labels of the groups that ``predict`` knows.
    loss_curve_ : list of float
        Loss of each iteration after adaptation; ``loss_`` is the last.
    n_iter_ : int
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Names of the columns, if X has names and all are text.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, for a parameter or data that is not accepted.
    FloatingPointError
        In ``fit``, if the training diverges.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine, Model-agnostic meta-learning for fast adaptation of deep
       networks, ICML 2017, algorithm 2.

    Notes
    -----
    With scikit-learn's metadata routing on, `groups` reach ``fit``, ``predict`` and ``score``
    without further requests; see ``docs/estimator.md``.

    Examples
    --------
    Sixty lines, each with a slope of its own and eight rows; then a new one, of which three are
    known.

    >>> import numpy as np
    >>> from fastmaml.learn import MAMLRegressor
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(60), 8)
    >>> X = rng.uniform(-1, 1, (480, 1))
    >>> y = rng.normal(1.0, 0.5, 60)[groups] * X[:, 0]
    >>> maml = MAMLRegressor((16,), shots=3, max_iter=300, learning_rate_init=0.01, random_state=0)
    >>> maml = maml.fit(X, y, groups)
    >>> new = maml.adapt([[-0.8], [0.1], [0.9]], [-1.6, 0.2, 1.8])
    >>> new.predict([[0.5]]).shape
    (1,)
    >>> x_test = np.linspace(-1, 1, 9)[:, None]
    >>> bool(new.score(x_test, 2 * x_test[:, 0]) > maml.score(x_test, 2 * x_test[:, 0]))
    True
    """

    # scikit-learn's way to say that groups are wanted wherever they are routed to.
    __metadata_request__fit: ClassVar = {"groups": True}
    __metadata_request__predict: ClassVar = {"groups": True}
    __metadata_request__score: ClassVar = {"groups": True}

    def __init__(
        self,
        hidden_layer_sizes: Any = (40, 40),
        activation: str = "tanh",
        *,
        inner_lr: Any = 0.05,
        steps: int = 5,
        shots: int | None = None,
        shuffle: bool = True,
        meta_batch: int = 25,
        learning_rate_init: float = 1e-3,
        max_iter: int = 1000,
        order: str = "exact",
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.inner_lr = inner_lr
        self.steps = steps
        self.shots = shots
        self.shuffle = shuffle
        self.meta_batch = meta_batch
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.order = order
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> MAMLRegressor:
        """Meta-train.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        y : array_like, shape (rows,) or (rows, n_outputs)
        groups : array_like, shape (rows,), optional
            Label of the group of each row, in any order. Without it all rows are one group.

        Returns
        -------
        MAMLRegressor
            Itself.
        """
        shots, shuffle = self._splitting()
        meta_batch = as_count("meta_batch", self.meta_batch, 1)
        max_iter = as_count("max_iter", self.max_iter, 1)
        optimizer = Adam(as_positive("learning_rate_init", self.learning_rate_init))
        hidden = as_hidden_layer_sizes(self.hidden_layer_sizes)
        X, y = validate_data(self, X, y, **TARGETS)
        known = as_groups("groups", groups, len(X))
        if groups is None:
            warnings.warn(
                "groups is None, so all rows are one task and nothing is learned across tasks; "
                "a cross-validation hands groups to fit by metadata routing (docs/estimator.md)",
                stacklevel=2,
            )

        columns = y.reshape(len(y), -1)
        self._flat = y.ndim == 1
        self.n_outputs_ = columns.shape[1]
        self.model_ = MLP([X.shape[1], *hidden, self.n_outputs_], self.activation)
        maml = self._maml()
        rng = self._generator()
        self.theta_ = self.model_.init(rng, X.dtype)
        # Arrays, whatever sklearn.set_config(transform_output=...) says.
        self.x_scaler_, self.y_scaler_ = (
            StandardScaler().set_output(transform="default").fit(rows) for rows in (X, columns)
        )
        x, y = self._scaled_inputs(X), self._scaled_targets(columns)
        self._known, self._x, self._y = known, x, y
        self.groups_ = known.labels

        n_groups = len(known.labels)

        def sampler() -> Iterator[Any]:
            some = rng.choice(n_groups, min(meta_batch, n_groups), replace=False)
            part = split(known, some, shots, rng if shuffle else None)
            for rows, counts in ((part.support, part.n_support), (part.query, part.n_query)):
                yield blocks(x[rows], counts)
                yield blocks(y[rows], counts)

        result = train(maml, self.theta_, sampler, optimizer, max_iter)
        if not all_finite(result.theta):
            raise FloatingPointError(
                f"the parameters are not finite after {max_iter} iterations; a smaller "
                "learning_rate_init usually helps"
            )
        self.theta_ = result.theta
        self.loss_curve_ = result.values.tolist()
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)
        return self

    def adapt(self, X: Any, y: Any) -> AdaptedRegressor:
        """Return a regressor for one task, adapted to its rows.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        y : array_like, shape (rows,) or (rows, n_outputs)

        Returns
        -------
        AdaptedRegressor
            Fitted; it has ``predict`` and ``score``.

        Raises
        ------
        NotFittedError
            Before ``fit``, as from the methods below.
        ValueError
            For data that does not fit that of ``fit``, in its columns or outputs.
        """
        return AdaptedRegressor(FrozenEstimator(self)).fit(X, y)

    def predict(self, X: Any, groups: Any = None) -> NDArray[Any]:
        """Predict, for known groups or with the meta-parameters as they are.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        groups : array_like, shape (rows,), optional
            Labels among those of ``fit``: each group adapts to all its rows there. Without labels
            nothing is adapted.

        Returns
        -------
        y : ndarray, shape (rows,) or (rows, n_outputs)

        Raises
        ------
        ValueError
            For a group that ``fit`` has not seen, or other columns than there.
        """
        x = self._inputs(X)
        if groups is None:
            return self._outputs(self.model_.predict(self.theta_, x))
        return self._adapt_predict(self._known, self._x, self._y, x, groups, "groups")

    def adapt_predict(
        self, X: Any, y: Any, groups: Any, X_new: Any, groups_new: Any
    ) -> NDArray[Any]:
        """Adapt to the rows of many groups at once, new or known, and predict other rows of them.

        Parameters
        ----------
        X, y, groups : array_like
            Rows to adapt to, as for ``fit``.
        X_new, groups_new : array_like
            Rows to predict; their groups are among `groups`.

        Returns
        -------
        y_new : ndarray, shape (rows,) or (rows, n_outputs)

        Raises
        ------
        ValueError
            For a group in `groups_new` that `groups` has not, or data that does not fit ``fit``'s.
        """
        check_is_fitted(self)
        X, y = validate_data(self, X, y, reset=False, **TARGETS)
        x, y = self._scaled_inputs(X), self._scaled_targets(y)
        known = as_groups("groups", groups, len(x))
        return self._adapt_predict(known, x, y, self._inputs(X_new), groups_new, "groups_new")

    def score(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
    ) -> float:
        """Return R², without `groups` that of ``predict(X)``, with them that after adaptation.

        Parameters
        ----------
        X, y : array_like
            As for ``fit``.
        sample_weight : array_like, shape (rows,), optional
            Weights in R².
        groups : array_like, shape (rows,), optional
            Labels, known or new. Each group is split as in training (`shots`, `shuffle`,
            `random_state`), adapts to its support rows, and is judged on its query rows.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For data that does not fit that of ``fit``, or not one weight and label for each row.
        """
        if groups is None:
            return float(super().score(X, y, sample_weight))
        check_is_fitted(self)
        shots, shuffle = self._splitting()
        X, y = validate_data(self, X, y, reset=False, **TARGETS)
        x, targets = self._scaled_inputs(X), self._scaled_targets(y)
        known = as_groups("groups", groups, len(x))
        rng = self._generator() if shuffle else None
        part = split(known, np.arange(len(known.labels)), shots, rng)
        f = self._maml().predict(
            self.theta_,
            blocks(x[part.support], part.n_support),
            blocks(targets[part.support], part.n_support),
            blocks(x[part.query], part.n_query),
        )
        if sample_weight is not None:
            sample_weight = as_column("sample_weight", sample_weight, len(x))[part.query]
        predicted = self._outputs(np.concatenate(f))
        return float(r2_score(y[part.query], predicted, sample_weight=sample_weight))

    def _adapt_predict(
        self,
        known: Groups,
        x: NDArray[Any],
        y: NDArray[Any],
        x_new: NDArray[Any],
        groups_new: Any,
        name: str,
    ) -> NDArray[Any]:
        """Predict scaled rows of groups that adapt to their scaled rows in x and y."""
        new = as_groups(name, groups_new, len(x_new))
        place = {label: i for i, label in enumerate(known.labels)}
        unknown = [label for label in new.labels if label not in place]
        if unknown:
            raise ValueError(
                f"{name} holds {unknown[0]!r:.60}, a group without rows to adapt to "
                f"({len(unknown)} of {len(new.labels)} are); accepted are the groups of fit, or of "
                "adapt_predict"
            )
        own = [slice(*known.offsets[i : i + 2]) for i in map(place.__getitem__, new.labels)]
        f = self._maml().predict(
            self.theta_,
            [x[known.order[rows]] for rows in own],
            [y[known.order[rows]] for rows in own],
            [x_new[new.order[a:b]] for a, b in pairwise(new.offsets)],
        )
        ordered = np.empty((len(x_new), self.n_outputs_), x.dtype)
        ordered[new.order] = np.concatenate(f)
        return self._outputs(ordered)

    def _maml(self) -> MAML:
        return MAML(
            self.model_,
            inner_lr=self.inner_lr,
            steps=self.steps,
            order=as_choice("order", self.order, ("exact", "first")),
            loss="mse",
            task_mean=True,
        )

    def _splitting(self) -> tuple[int | None, bool]:
        shots = None if self.shots is None else as_count("shots", self.shots, 1)
        return shots, as_flag("shuffle", self.shuffle)

    def _generator(self) -> np.random.Generator:
        try:
            state = check_random_state(self.random_state)
        except ValueError as error:
            raise ValueError(
                f"random_state is {shown(self.random_state)}; accepted are a seed, a RandomState "
                f"and None ({error})"
            ) from error
        return np.random.default_rng(state.randint(2**31 - 1))


class AdaptedRegressor(_Scaled):
    """The regressor of one task: ``fit`` adapts meta-learned parameters to its rows.

    :meth:`MAMLRegressor.adapt` makes it and fits it. It can be cloned and fitted again, on other
    rows of the task or in a cross-validation: the meta-parameters stay.

    Parameters
    ----------
    meta : FrozenEstimator
        Of a fitted `MAMLRegressor`.

    Attributes
    ----------
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The adapted parameters (equation 8), for standardised data.
    x_scaler_, y_scaler_ : StandardScaler
        Those of the meta-training.
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        As in the meta-training.

    Raises
    ------
    ValueError
        In its methods, for data that does not fit that of the meta-training.
    """

    def __init__(self, meta: FrozenEstimator) -> None:
        self.meta = meta

    def fit(self, X: Any, y: Any) -> AdaptedRegressor:
        """Adapt to rows X (rows, n_features) and y (rows,) or (rows, n_outputs)."""
        meta = self.meta.estimator
        check_is_fitted(meta)
        X, y = validate_data(meta, X, y, reset=False, **TARGETS)
        x, targets = meta._scaled_inputs(X), meta._scaled_targets(y)
        self.theta_ = meta._maml().adapt(meta.theta_, x[None], targets[None])[0]
        for name in SHARED:
            if hasattr(meta, name):
                setattr(self, name, getattr(meta, name))
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return y (rows,) or (rows, n_outputs) for X (rows, n_features)."""
        x = self._inputs(X)
        return self._outputs(self.model_.predict(self.theta_, x))


SHARED = (
    "model_", "x_scaler_", "y_scaler_", "n_outputs_", "n_features_in_", "feature_names_in_", "_flat"
)  # fmt: skip


def as_hidden_layer_sizes(sizes: Any) -> list[int]:
    """Return the sizes of the hidden layers; a number is one layer."""
    if not np.iterable(sizes):
        return [as_count("hidden_layer_sizes", sizes, 1, MAX_SIZE)]
    return [as_count(f"hidden_layer_sizes[{i}]", size, 1, MAX_SIZE) for i, size in enumerate(sizes)]
