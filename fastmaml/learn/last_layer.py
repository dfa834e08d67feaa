"""The Bayesian last layer as a scikit-learn estimator, for rows that come in groups.

Needs scikit-learn, from the extra ``sklearn``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import as_choice, as_flag
from ..closed_form import BayesianLastLayer
from ..datasets.base import as_n_support
from ..models import MLP
from . import defaults
from .adapted_last_layer import AdaptedBayesianRegressor, without_rows
from .grouped import GroupedRegressor, as_hidden_layer_sizes, average_of_tasks
from .holdout import drawn_support

__all__ = ["BayesianLastLayerRegressor"]

#: averages over rows and outputs, so that groups of any size count alike
LOSSES = ("mean_nll", "mse")


class BayesianLastLayerRegressor(GroupedRegressor):
    """A network whose last layer adapts in closed form, meta-learned from rows that come in groups.

    Each group (a device, a person, a country) is a task. ``fit`` finds features, and a prior of the
    last layer on them, from which some rows of a group predict its other rows: by Bayesian linear
    regression [1]_, as `fastmaml.BayesianLastLayer` says. ``adapt`` does this for the rows of a new
    group, and returns an ordinary regressor, which takes more rows by ``partial_fit``. Predictions
    have a standard deviation.

    Inputs and targets are standardised with mean and standard deviation of the rows that ``fit``
    sees. The loss is of the standardised targets, averaged over groups.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Sizes of the hidden layers. The last hidden layer's values are the features.
    activation : str or sequence of str, optional
        Of the hidden layers, as for :class:`fastmaml.MLP`: a word for all, or one for each. None:
        tanh, but for the last one of several, which is linear.
    loss : {"mean_nll", "mse"}
        The negative log density of the query rows, averaged over rows and outputs, or their squared
        error: standard deviations then mean nothing.
    prior : {"diagonal", "shared"}
        Whether each feature's weights have a variance of their own before data, or all the same.
    noise : {"per_output", "shared"}
        Whether observations of each output have a variance of their own. (Of standardised targets.)
    n_support : int, (int, int) or None
        Support rows of a group: what it adapts to in training and in ``score``. Its other rows are
        the query set; a group of fewer rows keeps one as query. A pair (low, high), both included:
        a number is drawn uniformly for each group and iteration. None: likewise, from 1 to half of
        the group's rows. A prior that is learned from one number of rows is worse on others.
    shuffle : bool
        Whether support rows are drawn at random, anew in each iteration. False: they are the first
        rows of each group, as for a forecast.
    meta_batch : int
        Groups in each meta-update, drawn without replacement; all if there are fewer.
    learning_rate_init : float
        Learning rate of Adam, the meta-update.
    clip_norm : float or None
        A meta-gradient of larger norm is scaled down to it.
    max_iter : int
        The most meta-updates.
    early_stopping, validation_fraction
        As for `MAMLRegressor`.
    n_iter_no_change : int
        As for `MAMLRegressor`.
    tol : float
        What counts as a fall of the loss, as a fraction of the lowest so far; of ``"mean_nll"``,
        which may be 0 and less, `tol` itself if that is more.
    random_state : int, RandomState instance or None
        Decides initial parameters, groups and splits. An integer gives the same result each time.
    verbose : bool
        Whether each check of the loss prints a line.
    warm_start : bool
        Whether ``fit`` goes on from the parameters and scaling of the last ``fit``.

    Attributes
    ----------
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The meta-parameters of `fastmaml.BayesianLastLayer`, whose ``unpack`` has their prior and
        noise variances, for standardised data; float32 if X is, else float64.
    scaling_, groups_, loss_curve_, loss_, validation_loss_curve_, best_validation_loss_, n_iter_
        As for `MAMLRegressor`.
    n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns, if X has names and all are text.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, for a parameter or data that is not accepted.
    FloatingPointError
        In ``fit``, if the training diverges; it names the group. In ``score``, if the posterior of
        a group is not finite.

    Warns
    -----
    ConvergenceWarning
        (scikit-learn's.) If `max_iter` ends the training while the loss still falls.
    DivergenceWarning
        In ``adapt``, ``predict``, ``adapt_predict`` and ``score``, if the posterior of a group is
        not finite; it names the group.
    UserWarning
        In ``fit``, for groups of a single row, which are left out, and if the result is worse than
        the mean (and variance) of the training targets. In ``predict`` and ``score``, once for each
        model that was fitted with groups and is given none.

    Notes
    -----
    The defaults are those of `MAMLRegressor` but for the layers and `learning_rate_init`, which
    were compared, as was `n_support`, on families of `fastmaml.datasets`: ``docs/estimator.md`` has
    the figures.

    References
    ----------
    .. [1] J. Harrison, A. Sharma, M. Pavone, Meta-learning priors for efficient online Bayesian
       regression, WAFR 2018.

    Examples
    --------
    Sixty lines, each with a slope of its own and eight rows; then a new one, of which three rows
    are known, and one more that comes later.

    >>> import numpy as np
    >>> from fastmaml.learn import BayesianLastLayerRegressor
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(60), 8)
    >>> X = rng.uniform(-1, 1, (480, 1))
    >>> y = rng.normal(1.0, 0.5, 60)[groups] * X[:, 0] + rng.normal(0.0, 0.1, 480)
    >>> head = BayesianLastLayerRegressor((16, 8), n_iter_no_change=3, random_state=0)
    >>> head = head.fit(X, y, groups)
    >>> new = head.adapt([[-0.8], [0.1], [0.9]], [-1.6, 0.2, 1.8])
    >>> mean, std = new.predict([[0.5]], return_std=True)
    >>> mean.shape, std.shape
    ((1,), (1,))
    >>> after = new.partial_fit([[0.5]], [1.1]).predict([[0.5]], return_std=True)[1]
    >>> bool(after < std)
    True
    >>> known = groups < 2
    >>> head.adapt_predict(X[known], y[known], groups[known], X[:3], groups[:3]).shape
    (3,)
    >>> bool(head.score(X, y, groups) > 0.5)
    True
    >>> import pathlib, tempfile
    >>> import fastmaml as fm
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.npz")
    >>> fm.save(path, head)  # what head.to_save() returns
    >>> again = BayesianLastLayerRegressor.from_saved(fm.load(path))
    """

    _adapted = AdaptedBayesianRegressor

    def __init__(
        self,
        hidden_layer_sizes: Any = defaults.HEAD_LAYER_SIZES,
        activation: Any = None,
        *,
        loss: str = "mean_nll",
        prior: str = "diagonal",
        noise: str = "per_output",
        n_support: Any = None,
        shuffle: bool = True,
        meta_batch: int = defaults.META_BATCH,
        learning_rate_init: float = defaults.HEAD_LEARNING_RATE,
        clip_norm: float | None = defaults.CLIP_NORM,
        max_iter: int = defaults.ITERATIONS,
        early_stopping: bool = True,
        validation_fraction: float = defaults.VALIDATION_FRACTION,
        n_iter_no_change: int = defaults.PATIENCE,
        tol: float = 1e-3,
        random_state: Any = None,
        verbose: bool = False,
        warm_start: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.prior = prior
        self.noise = noise
        self.n_support = n_support
        self.shuffle = shuffle
        self.meta_batch = meta_batch
        self.learning_rate_init = learning_rate_init
        self.clip_norm = clip_norm
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    def adapt(
        self, X: Any = None, y: Any = None, sample_weight: Any = None
    ) -> AdaptedBayesianRegressor:
        """Return a regressor for one task, adapted to its rows.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features), optional
        y : array_like, shape (rows,) or (rows, n_outputs), optional
            Without both there are no rows yet: the prior predicts.
        sample_weight : array_like, shape (rows,), optional
            Weight of each row, 0 or more: its noise variance is divided by it.

        Returns
        -------
        AdaptedBayesianRegressor
            Fitted; it has ``predict``, ``partial_fit`` and ``score``. It carries no rows.

        Raises
        ------
        NotFittedError
            Before ``fit``, as from the methods below.
        TypeError, ValueError
            For data that does not fit that of ``fit``, in its columns or outputs.
        """
        adapted: AdaptedBayesianRegressor = self._adaptable().fit(X, y, sample_weight)
        return adapted

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict rows of known groups.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        groups : array_like, shape (rows,), optional
            Labels among those of ``fit``: each group adapts to all its rows there. A model that was
            fitted without groups adapts to all rows. One that was fitted with groups and is given
            none predicts by the prior, and warns of that once.
        return_std : bool
            Whether to return standard deviations, too.

        Returns
        -------
        y : ndarray, shape (rows,) or (rows, n_outputs)
            Float32 if X and y were in ``fit``, else float64.
        std : as y
            Only with `return_std`: of an observation, its noise included.

        Raises
        ------
        ValueError
            For a group that ``fit`` has not seen, or other columns than there.
        """
        return self._predict(X, groups, return_std=as_flag("return_std", return_std))

    def adapt_predict(
        self, X: Any, y: Any, groups: Any, X_new: Any, groups_new: Any, return_std: bool = False,
        *, sample_weight: Any = None,
    ) -> Any:  # fmt: skip
        """Adapt to the rows of many groups at once, new or known, and predict other rows of them.

        Parameters
        ----------
        X, y, groups : array_like
            Rows to adapt to, as for ``fit``.
        X_new, groups_new : array_like, shape (rows, n_features) and (rows,)
            Rows to predict; their groups are among `groups`.
        return_std : bool
            Whether to return standard deviations, too.
        sample_weight : array_like, shape (rows,), optional
            Weight of each row to adapt to, 0 or more.

        Returns
        -------
        y_new, std : as from ``predict``

        Raises
        ------
        ValueError
            For a group in `groups_new` that `groups` has not, or data that does not fit ``fit``'s.
        """  # fmt: skip
        with_std = as_flag("return_std", return_std)
        return self._adapt_and_predict(
            X, y, groups, X_new, groups_new, sample_weight, return_std=with_std
        )

    # ---- what is trained

    @property
    def _density(self) -> bool:  # type: ignore[override]
        return self.loss == "mean_nll"

    def _objective(self) -> BayesianLastLayer:
        head = self._head(self.model_)
        self._require_parameters(head, "this model is fitted")
        return head

    def _head(self, model: MLP) -> BayesianLastLayer:
        loss = as_choice("loss", self.loss, LOSSES)
        return BayesianLastLayer(model, loss, self.prior, self.noise, task_mean=True)

    def _training(
        self, model: MLP, learning_rate: float, warm: bool
    ) -> tuple[BayesianLastLayer, None]:
        head = self._head(model)
        if warm:
            self._require_parameters(head, "warm_start goes on")
        return head, None

    def _require_parameters(self, head: BayesianLastLayer, who: str) -> None:
        if head.n_params != len(self.theta_):
            raise ValueError(
                f"{who} with {len(self.theta_)} parameters, prior={self.prior!r} and "
                f"noise={self.noise!r} ask for {head.n_params}; accepted are those of the last fit"
            )

    def _n_support(self) -> Any:
        given = None if self.n_support is None else as_n_support(self.n_support)
        return given if isinstance(given, int) else drawn_support(given)

    def _hidden(self) -> tuple[list[int], Any]:
        sizes = as_hidden_layer_sizes(self.hidden_layer_sizes)
        if self.activation is not None:
            return sizes, self.activation
        words = [defaults.ACTIVATION] * len(sizes)
        if len(words) > 1:
            words[-1] = "identity"
        return sizes, words

    def _unadapted(self, x: NDArray[Any], **options: Any) -> Any:
        return self._objective().predict(self.theta_, *without_rows(self.model_), x, **options)

    def _how(self, inner_lr: Any) -> str:
        return "; a smaller learning_rate_init usually helps"

    def _of_mean(
        self, targets: list[NDArray[Any]], known: NDArray[Any], of_targets: Any, of_known: Any
    ) -> float:
        mean = np.average(known, axis=0, weights=of_known)
        errors = [np.square(t - mean) for t in targets]
        if not self._density:
            return average_of_tasks(errors, of_targets)
        variance = np.average(np.square(known - mean), axis=0, weights=of_known)
        variance = np.maximum(variance, np.finfo(np.float64).tiny, dtype=np.float64)
        losses = [0.5 * (np.log(2 * math.pi * variance) + e / variance) for e in errors]
        return average_of_tasks(losses, of_targets)
