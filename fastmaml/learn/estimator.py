"""MAML as a scikit-learn estimator, for long-format data: rows, and the group that each is from.

Needs scikit-learn, from the extra ``sklearn``; so :mod:`fastmaml.learn` imports this file only when
`MAMLRegressor` is asked for.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import (
    as_choice,
    as_count,
    as_flag,
    as_float_dtype,
    as_number,
    as_positive,
    shown,
)
from ..datasets.base import MOST
from ..datasets.labels import Labels, as_labels, list_some, require_length
from ..datasets.table import TaskTable
from ..divergence import named_tasks
from ..maml import MAML
from ..models import MLP
from ..models.base import MAX_SIZE
from ..rates import as_inner_lr
from . import defaults
from .adapted import TARGETS, AdaptedRegressor, StandardisedRegressor
from .holdout import hold_out
from .loop import TrainState, train
from .numbers import require_numbers
from .optimizers import Adam
from .progress import Progress
from .scaling import Scaling
from .spec import describe

__all__ = ["AdaptedRegressor", "MAMLRegressor"]

SAVED = {"MAMLRegressor", "flat", "dtype", "grouped", "learned"}


class MAMLRegressor(StandardisedRegressor):
    """A multilayer perceptron, meta-learned by MAML [1]_ from rows that come in groups.

    Each group (a device, a person, a country) is a task. ``fit`` finds parameters from which a few
    gradient steps on some rows of a group predict its other rows; ``adapt`` takes these steps on
    the rows of a new group and returns an ordinary regressor.

    Inputs and targets are standardised with mean and standard deviation of the rows that ``fit``
    sees. The loss is ``"mse"`` of the standardised targets, averaged over groups.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Sizes of the hidden layers.
    activation : str or sequence of str
        Of the hidden layers, as for :class:`fastmaml.MLP`: a word for all, or one for each.
    inner_lr : float or array_like
        Learning rate of the inner steps, in the forms of :class:`fastmaml.MAML`.
    learn_rates : bool
        Whether the inner rates are learned too, one for each step and layer (or for each
        parameter, if `inner_lr` has these); `inner_lr` is then where they start.
    steps : int
        Number of inner steps. It may be changed (``set_params``) after ``fit``: adaptation takes
        what is there when it happens. Steps beyond those whose rates were learned have the least
        rate of each layer.
    shots : int, optional
        Support rows of a group: what it adapts to in training and in ``score``. Its other rows are
        the query set; a group of fewer rows keeps one as query. By default half of the group's
        rows are support.
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
    early_stopping : bool
        Whether part of the data is set aside to validate on, and the parameters that did best
        there are kept. Of 10 groups and more, groups are set aside; of fewer, rows of each group
        that has three.
    validation_fraction : float
        How much is set aside; two groups at the least.
    n_iter_no_change : int
        The training ends after so many checks of the loss (one in 50 meta-updates, 20 at the least
        in `max_iter`) in which it has not fallen by `tol`. It is the loss of validation, or without
        `early_stopping` the mean loss of training since the last check.
    tol : float
        What counts as a fall, as a fraction of the lowest loss so far.
    order : {"exact", "first"}
        As for :class:`fastmaml.MAML`.
    random_state : int, RandomState instance or None
        Decides initial parameters, groups and splits. An integer gives the same result each time.
    verbose : bool
        Whether each check of the loss prints a line.
    warm_start : bool
        Whether ``fit`` goes on from the parameters, rates and scaling of the last ``fit``.

    Attributes
    ----------
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The meta-parameters, for standardised data; float32 if X is, else float64.
    inner_lr_ : float or ndarray
        The inner rates: (steps, n_layers) if they were learned.
    scaling_ : Scaling
    groups_ : list
        Labels of the groups that ``predict`` knows.
    loss_curve_ : list of float
        Loss of each iteration after adaptation.
    loss_ : float
        The mean of that since the last check.
    validation_loss_curve_ : list of float or None
        Loss of validation at each check; None if nothing was set aside.
    best_validation_loss_ : float or None
    n_iter_ : int
        Iterations done; those after the best validation count too.
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Names of the columns, if X has names and all are text.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, for a parameter or data that is not accepted.
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
        the mean of the training targets. In ``predict`` and ``score``, once for each model that was
        fitted with groups and is given none.

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
    >>> maml = MAMLRegressor((16,), learning_rate_init=0.01, n_iter_no_change=3, random_state=0)
    >>> maml = maml.fit(X, y, groups)
    >>> new = maml.adapt([[-0.8], [0.1], [0.9]], [-1.6, 0.2, 1.8])
    >>> new.predict([[0.5]]).shape
    (1,)
    >>> x_test = np.linspace(-1, 1, 9)[:, None]
    >>> bool(new.score(x_test, 2 * x_test[:, 0]) > 0.9)
    True
    """

    inner_lr_: Any
    groups_: list[Any]
    _known: TaskTable | None

    # scikit-learn's way to say that groups are wanted wherever they are routed to.
    __metadata_request__fit: ClassVar = {"groups": True}
    __metadata_request__predict: ClassVar = {"groups": True}
    __metadata_request__score: ClassVar = {"groups": True}

    def __init__(
        self,
        hidden_layer_sizes: Any = defaults.HIDDEN_LAYER_SIZES,
        activation: Any = defaults.ACTIVATION,
        *,
        inner_lr: Any = defaults.INNER_LR,
        learn_rates: bool = True,
        steps: int = defaults.STEPS,
        shots: int | None = None,
        shuffle: bool = True,
        meta_batch: int = defaults.META_BATCH,
        learning_rate_init: float = defaults.LEARNING_RATE,
        clip_norm: float | None = defaults.CLIP_NORM,
        max_iter: int = defaults.ITERATIONS,
        early_stopping: bool = True,
        validation_fraction: float = defaults.VALIDATION_FRACTION,
        n_iter_no_change: int = defaults.PATIENCE,
        tol: float = 1e-3,
        order: str = "exact",
        random_state: Any = None,
        verbose: bool = False,
        warm_start: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.inner_lr = inner_lr
        self.learn_rates = learn_rates
        self.steps = steps
        self.shots = shots
        self.shuffle = shuffle
        self.meta_batch = meta_batch
        self.learning_rate_init = learning_rate_init
        self.clip_norm = clip_norm
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.order = order
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, groups: Any = None) -> MAMLRegressor:
        """Meta-train.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        y : array_like, shape (rows,) or (rows, n_outputs)
        groups : array_like, shape (rows,), optional
            Label of the group of each row, in any order: text, numbers, dates or tuples of them.
            Without it all rows are one group.

        Returns
        -------
        MAMLRegressor
            Itself.
        """
        max_iter = as_count("max_iter", self.max_iter, 1)
        every = max(1, min(defaults.CHECK_EVERY, max_iter // 20))
        patience = as_count("n_iter_no_change", self.n_iter_no_change, 1)
        tol = as_number("tol", self.tol)
        verbose = as_flag("verbose", self.verbose)
        fraction = as_number("validation_fraction", self.validation_fraction)
        if not 0 < fraction < 1:
            raise ValueError(
                f"validation_fraction is {fraction}; accepted are numbers between 0 and 1"
            )
        if not 0 <= tol < 1:
            raise ValueError(f"tol is {tol}; accepted are numbers from 0 to below 1")
        fraction = fraction if as_flag("early_stopping", self.early_stopping) else 0.0
        warm = as_flag("warm_start", self.warm_start) and hasattr(self, "theta_")
        learning_rate = as_positive("learning_rate_init", self.learning_rate_init)
        learns = as_flag("learn_rates", self.learn_rates)
        hidden = as_hidden_layer_sizes(self.hidden_layer_sizes)
        shots, shuffle = self._splitting()
        meta_batch = as_count("meta_batch", self.meta_batch, 1)

        for name, values in (("X", X), ("y", y)):
            require_numbers(name, values)
        X, y = validate_data(self, X, y, ensure_min_samples=2, **TARGETS)
        columns = y.reshape(len(y), -1)
        labels = as_labels("groups", np.zeros(len(X), int) if groups is None else groups, len(X))
        if groups is None:
            warnings.warn(
                "groups is None, so all rows are one task and nothing is learned across tasks; "
                "a cross-validation hands groups to fit by metadata routing (docs/estimator.md)",
                stacklevel=2,
            )
        rows = table_of(X, columns, labels)
        used = rows.require_rows(2, "drop")

        rng = self._generator()
        model = MLP([X.shape[1], *hidden, columns.shape[1]], self.activation)
        if warm:
            if model != self.model_:
                raise ValueError(
                    f"warm_start goes on with {self.model_!r}, the parameters and data ask for "
                    f"{model!r}; accepted is the same network"
                )
            theta, scaling, rates = self.theta_.astype(X.dtype), self.scaling_, self._rates()
            model.init(rng)  # so that the same groups are set aside as in the last fit
        else:
            theta, scaling = model.init(rng, X.dtype), Scaling.fit(used.x, used.y)
            rates = self.inner_lr
        maml = self._maml(model, rates)
        learns = learns and maml.steps > 0
        if learns:
            full = as_inner_lr(model, rates, maml.steps).per_layer
            maml = self._maml(model, rates if full is None else full)
            if not np.any(maml.inner_lr):
                raise ValueError(
                    "inner_lr is 0, and learn_rates=True learns its logarithm; accepted are rates "
                    "to start from, and learn_rates=False"
                )
        held = hold_out(_scaled(used, scaling), fraction, shots, rng, shuffle)
        training, validation = held
        drawn = training  # the groups of the batch of the moment

        def sampler() -> Iterable[Any]:
            nonlocal drawn
            n = min(meta_batch, training.n_tasks)
            drawn = training.take(rng.choice(training.n_tasks, n, replace=False))
            return drawn.split(shots, "random" if shuffle else "first", rng)

        progress = Progress(every, patience, tol, validation is not None, verbose)

        def callback(state: TrainState) -> bool:
            if state.diverged:
                names = list_some([repr(drawn.names[i]) for i in state.diverged])
                raise FloatingPointError(
                    f"the loss of group {names} is not finite in iteration {state.iteration}, "
                    f"after {maml.steps} inner steps with {rates_text(state.inner_lr)}; a smaller "
                    "inner_lr, fewer steps or a smaller learning_rate_init usually help"
                )
            return progress(state)

        result = train(
            maml, theta, sampler, Adam(learning_rate), max_iter, callback,
            rate_optimizer=Adam(defaults.RATE_FACTOR * learning_rate) if learns else None,
            clip_norm=self.clip_norm, on_divergence="skip",
            validation=validation, validate_every=every,
        )  # fmt: skip
        best = result if result.best is None else result.best
        if validation is not None and result.best is None:
            raise FloatingPointError(
                f"the loss of the rows that validate was never finite, with {maml.steps} inner "
                f"steps and {rates_text(result.inner_lr)}; a smaller inner_lr, fewer steps or a "
                "smaller learning_rate_init usually help"
            )

        self.model_, self.theta_, self.inner_lr_ = model, best.theta, best.inner_lr
        self.scaling_ = scaling
        self.n_outputs_, self._flat = columns.shape[1], y.ndim == 1
        self._dtype = self._precision(y)
        self._known = _scaled(rows, scaling)
        self.groups_ = list(rows.names)
        self._grouped, self._warned, self._learned = groups is not None, False, learns
        self.loss_curve_ = result.values.tolist()
        self.loss_ = progress.training_loss
        self.validation_loss_curve_ = None if validation is None else progress.losses
        self.best_validation_loss_ = None if result.best is None else result.best.value
        self.n_iter_ = len(self.loss_curve_)
        self._warn_of_the_end(progress, training, validation)
        return self

    def _warn_of_the_end(self, progress: Progress, training: TaskTable, validation: Any) -> None:
        """Warn of a training that was not over, or that came to nothing."""
        if not progress.converged:
            which = "training" if validation is None else "validation"
            warnings.warn(
                f"max_iter={self.max_iter} meta-updates are done, and the {which} loss may still "
                f"fall ({progress.losses[0]:.3g} at first, {progress.losses[-1]:.3g} at last); "
                "more may do better",
                ConvergenceWarning,
                stacklevel=3,
            )
        loss, who = progress.training_loss, "groups it was trained on"
        targets = training.by_task(training.y)
        if self.best_validation_loss_ is not None:
            loss, who, targets = self.best_validation_loss_, "held-out rows", validation[3]
        mean = training.y.mean(axis=0)
        of_mean = float(np.mean([np.square(t - mean).mean() for t in targets]))
        if not loss < of_mean:
            warnings.warn(
                f"the {who} are predicted worse than by the mean of the training targets: the loss "
                f"is {loss:.3g}, that of the mean {of_mean:.3g} (standardised). Other settings may "
                "do better (inner_lr, learning_rate_init), or the groups have nothing to learn",
                stacklevel=3,
            )

    def adapt(self, X: Any, y: Any) -> AdaptedRegressor:
        """Return a regressor for one task, adapted to its rows.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        y : array_like, shape (rows,) or (rows, n_outputs)

        Returns
        -------
        AdaptedRegressor
            Fitted; it has ``predict`` and ``score``. It carries no rows of the training.

        Raises
        ------
        NotFittedError
            Before ``fit``, as from the methods below.
        TypeError, ValueError
            For data that does not fit that of ``fit``, in its columns or outputs.

        Warns
        -----
        DivergenceWarning
            If the adaptation diverges, as from the methods below.
        """
        return self._adaptable().fit(X, y)

    def predict(self, X: Any, groups: Any = None) -> NDArray[Any]:
        """Predict rows of known groups.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        groups : array_like, shape (rows,), optional
            Labels among those of ``fit``: each group adapts to all its rows there. A model that was
            fitted without groups adapts to all rows. One that was fitted with groups and is given
            none predicts by the meta-parameters as they are, and warns of that once.

        Returns
        -------
        y : ndarray, shape (rows,) or (rows, n_outputs)
            Float32 if X and y were in ``fit``, else float64.

        Raises
        ------
        ValueError
            For a group that ``fit`` has not seen, or other columns than there.
        """
        x = self._inputs(X)
        if groups is None and self._grouped:
            if not self._warned:
                warnings.warn(
                    "groups is None, so this is the network before it adapts to any group, seldom "
                    "what is wanted; accepted are predict(X, groups), score(X, y, groups) and "
                    "adapt(X, y).predict(X_new). What calls predict or score for you, such as "
                    "cross_val_predict, scoring='r2' and a pipeline, may not hand groups on: see "
                    "fastmaml.learn.few_shot_scorer and docs/estimator.md",
                    stacklevel=2,
                )
                self._warned = True
            return self._outputs(self.model_.predict(self.theta_, x), self._dtype)
        if self._known is None:
            raise ValueError(
                "this model does not carry the rows that it was trained on, to which predict would "
                "adapt; accepted are adapt and adapt_predict"
            )
        labels = np.zeros(len(x), np.intp) if groups is None else groups
        return self._adapt_predict(self._known, x, labels, "groups", self._dtype)

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
        X, y = self._rows(X, y)
        x, t = self._scaled_inputs(X), self._scaled_targets(y)
        known = table_of(x, t, as_labels("groups", groups, len(x)))
        x_new = self._inputs(X_new)
        return self._adapt_predict(known, x_new, groups_new, "groups_new", self._precision(y))

    def score(self, X: Any, y: Any, groups: Any = None, *, sample_weight: Any = None) -> float:
        """Return R², without `groups` that of ``predict(X)``, with them that after adaptation.

        Parameters
        ----------
        X, y : array_like
            As for ``fit``.
        groups : array_like, shape (rows,), optional
            Labels, known or new. Each group is split as in training (`shots`, `shuffle`,
            `random_state`), adapts to its support rows, and is judged on its query rows. Groups of
            a single row are left out, with a warning.
        sample_weight : array_like, shape (rows,), optional
            Weights in R².

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For data that does not fit that of ``fit``, not one weight and label for each row, or
            if no group has two rows.
        """
        if groups is None:
            return self._r2(X, y, sample_weight)
        rows, predicted = self._few_shot(X, y, groups)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            require_length("sample_weight", sample_weight.shape, len(y))
            sample_weight = sample_weight[rows]
        return float(r2_score(np.asarray(y)[rows], predicted, sample_weight=sample_weight))

    def to_save(self) -> dict[str, Any]:
        """Return what ``fastmaml.save(path, regressor)`` writes; no rows of the training.

        ``fastmaml.load`` reads it, as what predicts in the user's units, and `from_saved` makes a
        regressor of that.
        """
        check_is_fitted(self)
        parameters = self.get_params()
        if not isinstance(self.random_state, int | None):
            parameters["random_state"] = None  # a generator, which was used up in part
        parameters = {name: describe(value) for name, value in parameters.items()}
        extra = {
            "MAMLRegressor": parameters, "flat": self._flat, "dtype": self._dtype.name,
            "grouped": self._grouped, "learned": self._learned,
        }  # fmt: skip
        return {**self._to_save(), "objective": self._maml(), "extra": extra}

    @classmethod
    def from_saved(cls, saved: Any) -> MAMLRegressor:
        """Return the fitted regressor of a file.

        It adapts and scores as the one that was saved. It knows no group of ``fit``.

        Parameters
        ----------
        saved : fastmaml.Saved
            ``fastmaml.load(path)``.

        Returns
        -------
        MAMLRegressor

        Raises
        ------
        ValueError
            If something else was saved.
        """
        extra = saved.extra if isinstance(saved.extra, dict) else {}
        if set(extra) != SAVED or saved.scaling is None:
            raise ValueError(
                "saved holds no MAMLRegressor; accepted is what fastmaml.load reads of a file that "
                "fastmaml.save(path, regressor) wrote"
            )
        regressor = cls(**extra["MAMLRegressor"])
        regressor.model_, regressor.theta_ = saved.maml.model, saved.theta
        regressor.inner_lr_, regressor.scaling_ = saved.maml.inner_lr, saved.scaling
        regressor.n_features_in_ = saved.maml.model.n_inputs
        regressor.n_outputs_ = saved.maml.model.n_outputs
        if saved.inputs is not None:
            regressor.feature_names_in_ = np.array(saved.inputs, object)
        regressor._flat, regressor._dtype = extra["flat"], as_float_dtype("dtype", extra["dtype"])
        regressor._known, regressor.groups_ = None, []
        regressor._grouped, regressor._warned = extra["grouped"], False
        regressor._learned = extra["learned"]
        return regressor

    def _few_shot(self, X: Any, y: Any, groups: Any) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """The query rows of a split of each group, and what is predicted for them."""
        X, y = self._rows(X, y)
        shots, shuffle = self._splitting()
        x, t = self._scaled_inputs(X), self._scaled_targets(y)
        table = table_of(x, t, as_labels("groups", groups, len(x))).require_rows(2, "drop")
        every = np.arange(table.n_tasks)
        part = table.divide(every, shots, None, self._generator() if shuffle else None)
        support = np.cumsum(part.n_support)[:-1]
        with named_tasks(table.names):
            f = self._maml().predict(
                self.theta_,
                np.split(table.x[part.support], support),
                np.split(table.y[part.support], support),
                np.split(table.x[part.query], np.cumsum(part.n_query)[:-1]),
            )
        bad = [repr(table.names[i]) for i, rows in enumerate(f) if not np.isfinite(rows).all()]
        if bad:
            raise FloatingPointError(
                f"the adaptation of {len(bad)} of {table.n_tasks} groups diverged, so there is no "
                f"score: {list_some(bad)}"
            )
        return table.order[part.query], self._outputs(np.concatenate(f), self._precision(y))

    def _adapt_predict(
        self, known: TaskTable, x_new: NDArray[Any], groups_new: Any, name: str, dtype: Any
    ) -> NDArray[Any]:
        """Predict scaled rows of groups that adapt to their rows in a table."""
        nothing = np.empty((len(x_new), 0), x_new.dtype)
        new = table_of(x_new, nothing, as_labels(name, groups_new, len(x_new)))
        place = known.find(new.names)
        if (place < 0).any():
            unknown = new.names[int(np.argmax(place < 0))]
            raise ValueError(
                f"{name} holds {unknown!r:.60}, a group without rows to adapt to "
                f"({np.sum(place < 0)} of {new.n_tasks} are); accepted are the groups of fit, or "
                "of adapt_predict"
            )
        own = known.take(place)
        with named_tasks(own.names):
            f = self._maml().predict(
                self.theta_, own.by_task(own.x), own.by_task(own.y), new.by_task(new.x)
            )
        ordered = np.empty((len(x_new), self.n_outputs_), x_new.dtype)
        ordered[new.order] = np.concatenate(f)
        return self._outputs(ordered, dtype)

    def _maml(self, model: MLP | None = None, rates: Any = None) -> MAML:
        """The objective: with the rates that adaptation takes, or with those given."""
        return MAML(
            self.model_ if model is None else model,
            inner_lr=self._rates() if rates is None else rates,
            steps=self.steps,
            order=as_choice("order", self.order, ("exact", "first")),
            loss="mse",
            task_mean=True,
        )

    def _rates(self) -> Any:
        """The inner rates, of as many steps as are set now."""
        if not (self.learn_rates and self._learned):
            return self.inner_lr
        learned, steps = self.inner_lr_, self.steps
        by_step = np.ndim(learned) == 2 and np.shape(learned)[1] == self.model_.n_layers
        if not by_step or len(learned) == steps:
            return learned
        steps = as_count("steps", steps)
        more = np.repeat(learned.min(axis=0, keepdims=True), max(0, steps - len(learned)), axis=0)
        return np.concatenate([learned[:steps], more])

    def _adaptable(self) -> AdaptedRegressor:
        """An `AdaptedRegressor` that is not fitted, of a copy that carries no rows."""
        check_is_fitted(self)
        meta = copy.copy(self)
        meta._known, meta.groups_ = None, []
        meta.loss_curve_, meta.validation_loss_curve_ = [], None
        return AdaptedRegressor(FrozenEstimator(meta))

    def _splitting(self) -> tuple[int | None, bool]:
        shots = None if self.shots is None else as_count("shots", self.shots, 1, MOST)
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


def table_of(x: NDArray[Any], y: NDArray[Any], labels: Labels) -> TaskTable:
    """Return the table of rows that are checked already."""
    order = np.argsort(labels.code, kind="stable")
    counts = np.bincount(labels.code, minlength=len(labels.names))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return TaskTable(x[order], y[order], offsets, labels.names, order)


def _scaled(table: TaskTable, scaling: Scaling) -> TaskTable:
    """The table in standardised units, in the dtype of its x."""
    dtype = table.x.dtype
    return replace(table, x=scaling.scale_x(table.x, dtype), y=scaling.scale_y(table.y, dtype))


def rates_text(inner_lr: Any) -> str:
    """Return inner rates as text."""
    rates = np.asarray(inner_lr, np.float64)
    low, high = rates.min(), rates.max()
    return f"rate {high:.3g}" if low == high else f"rates from {low:.3g} to {high:.3g}"


def as_hidden_layer_sizes(sizes: Any) -> list[int]:
    """Return the sizes of the hidden layers; a number is one layer."""
    if not np.iterable(sizes):
        return [as_count("hidden_layer_sizes", sizes, 1, MAX_SIZE)]
    return [as_count(f"hidden_layer_sizes[{i}]", size, 1, MAX_SIZE) for i, size in enumerate(sizes)]
