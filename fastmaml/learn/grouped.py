"""What the scikit-learn estimators share: rows that come in groups, and the training on them.

Needs scikit-learn, from the extra ``sklearn``.
"""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import as_count, as_flag, as_float_dtype, as_number, as_positive, shown
from ..datasets.columns import as_weights
from ..datasets.labels import Labels, as_labels, list_some, require_length
from ..datasets.table import TaskTable
from ..divergence import named_tasks
from ..models import MLP
from ..models.base import MAX_SIZE
from . import defaults
from .adapted import TARGETS, Adapted, AdaptedRegressor, Standardised, StandardisedRegressor
from .holdout import hold_out, of_counts
from .loop import TrainState, train
from .numbers import require_numbers
from .optimizers import Adam, Optimizer
from .progress import Progress
from .scaling import Scaling
from .spec import describe

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Grouped",
    "GroupedRegressor",
    "Targets",
    "as_hidden_layer_sizes",
    "average_of_tasks",
    "table_of",
]

SAVED = {"flat", "dtype", "grouped", "learned"}


class Targets(NamedTuple):
    """The targets of ``fit``, as the network is trained on them."""

    columns: NDArray[Any]  # (rows, n), not yet scaled
    n_outputs: int  # of the network
    classes: NDArray[Any] | None = None


class Grouped(Standardised):
    """An estimator that is meta-trained on groups of rows, and adapts to others.

    A subclass has the parameters that `fit` names, and says what is trained, and how many rows of a
    group are support.
    """

    hidden_layer_sizes: Any
    activation: Any
    shuffle: bool
    meta_batch: int
    learning_rate_init: float
    clip_norm: float | None
    max_iter: int
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    random_state: Any
    verbose: bool
    warm_start: bool

    classes_: NDArray[Any]
    inner_lr_: Any
    groups_: list[Any]
    _known: TaskTable | None
    _learned = False
    _adapted: ClassVar[type[Adapted]] = AdaptedRegressor

    # scikit-learn's way to say that groups are wanted wherever they are routed to.
    __metadata_request__fit: ClassVar = {"groups": True}
    __metadata_request__predict: ClassVar = {"groups": True}
    __metadata_request__score: ClassVar = {"groups": True}

    # ---- what a subclass says

    @abstractmethod
    def _objective(self) -> Any:
        """The objective of the fitted parameters, by which groups adapt."""

    @abstractmethod
    def _training(
        self, model: MLP, learning_rate: float, warm: bool
    ) -> tuple[Any, Optimizer | None]:
        """The objective that is trained, and the optimizer of its inner rates if they are."""

    @abstractmethod
    def _n_support(self) -> Any:
        """Support rows of groups, as `hold_out` takes them."""

    @abstractmethod
    def _hidden(self) -> tuple[list[int], Any]:
        """Sizes and activation of the hidden layers."""

    @abstractmethod
    def _unadapted(self, x: NDArray[Any], **options: Any) -> Any:
        """What is predicted at scaled rows before any adaptation."""

    @abstractmethod
    def _how(self, inner_lr: Any) -> str:
        """How a training that diverged adapted, and what helps; the end of a message."""

    @abstractmethod
    def _of_mean(
        self, targets: list[NDArray[Any]], known: NDArray[Any], of_targets: Any, of_known: Any
    ) -> float:
        """The loss of tasks if each prediction is the mean of known targets.

        Last come the weights of the rows of each task, and of those that are known; or None.
        """

    @abstractmethod
    def _fit_rows(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any], Targets]:
        """The rows of ``fit``, checked, and the targets that they make."""

    @abstractmethod
    def _scaling_of(self, rows: TaskTable) -> Scaling:
        """The scaling of the rows of a training."""

    #: "classes", of a classifier
    _also_saved: ClassVar[tuple[str, ...]] = ()
    #: the score of predictions: of y, what is predicted, and weights
    _metric: ClassVar[Callable[..., float]]
    #: what `_of_mean` is called, and its loss in short, with units
    _means: ClassVar[tuple[str, str]]

    #: the parameters that may be to blame for a bad result
    _settings = "learning_rate_init"
    #: by what the loss falls: a log density, which is not above 0, by an amount
    _density = False

    # ---- what all do

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Meta-train.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        y : array_like, shape (rows,) or (rows, n_outputs)
        groups : array_like, shape (rows,), optional
            Label of the group of each row, in any order: text, numbers, dates or tuples of them.
            Without it all rows are one group.
        sample_weight : array_like, shape (rows,), optional
            Weight of each row, 0 or more: in the losses, when a group adapts and is judged, and in
            the mean and standard deviation of the standardisation. The loss of a group is divided
            by the sum of its weights, so groups count alike whatever their weights. Rows of weight
            0 are left out.

        Returns
        -------
        Grouped
            Itself.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that is not accepted.
        FloatingPointError
            If the training diverges; it names the group.
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
        hidden, activation = self._hidden()
        n_support, shuffle = self._splitting()
        meta_batch = as_count("meta_batch", self.meta_batch, 1)

        X, y, targets = self._fit_rows(X, y)
        labels = as_labels("groups", np.zeros(len(X), int) if groups is None else groups, len(X))
        if groups is None:
            warnings.warn(
                "groups is None, so all rows are one task and nothing is learned across tasks; "
                "a cross-validation hands groups to fit by metadata routing (docs/estimator.md)",
                stacklevel=2,
            )
        weights = None
        if sample_weight is not None:
            weights = as_weights("sample_weight", sample_weight, len(X))
        rows = table_of(X, targets.columns, labels, weights)
        used = rows.require_rows(2, "drop")

        rng = self._generator()
        model = MLP([X.shape[1], *hidden, targets.n_outputs], activation)
        if warm and targets.classes is not None:
            require_classes(targets.classes, self.classes_)
        if warm and model != self.model_:
            raise ValueError(
                f"warm_start goes on with {self.model_!r}, the parameters and data ask for "
                f"{model!r}; accepted is the same network"
            )
        objective, rate_optimizer = self._training(model, learning_rate, warm)
        if warm:
            theta, scaling = self.theta_.astype(X.dtype), self.scaling_
            model.init(rng)  # so that the same groups are set aside as in the last fit
        else:
            # of the objective, if it has more parameters than the model
            init = getattr(objective, "init", model.init)
            theta, scaling = init(rng, X.dtype), self._scaling_of(used)
        held = hold_out(_scaled(used, scaling), fraction, n_support, rng, shuffle)
        training, validation = held
        drawn = training  # the groups of the batch of the moment

        def sampler() -> Iterable[Any]:
            nonlocal drawn
            n = min(meta_batch, training.n_tasks)
            drawn = training.take(rng.choice(training.n_tasks, n, replace=False))
            support = of_counts(n_support, drawn.n_rows, rng)
            return drawn.split(support, "random" if shuffle else "first", rng)

        progress = Progress(
            every, patience, tol, validation is not None, verbose, density=self._density
        )

        def callback(state: TrainState) -> bool:
            if state.diverged:
                names = list_some([repr(drawn.names[i]) for i in state.diverged])
                raise FloatingPointError(
                    f"the loss of group {names} is not finite in iteration {state.iteration}"
                    f"{self._how(state.inner_lr)}"
                )
            return progress(state)

        result = train(
            objective, theta, sampler, Adam(learning_rate), max_iter, callback,
            rate_optimizer=rate_optimizer, clip_norm=self.clip_norm, on_divergence="skip",
            validation=validation, validate_every=every,
        )  # fmt: skip
        best = result if result.best is None else result.best
        if validation is not None and result.best is None:
            raise FloatingPointError(
                f"the loss of the rows that validate was never finite{self._how(result.inner_lr)}"
            )

        self.model_, self.theta_ = model, best.theta
        if best.inner_lr is not None:
            self.inner_lr_ = best.inner_lr
        self.scaling_ = scaling
        self.n_outputs_, self._flat = targets.columns.shape[1], y.ndim == 1
        if targets.classes is not None:
            self.classes_ = targets.classes
        self._dtype = self._precision(y)
        self._known = _scaled(rows, scaling)
        self.groups_ = list(rows.names)
        self._grouped, self._warned = groups is not None, False
        self._learned = rate_optimizer is not None
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
        known, weights = training.y, training.sample_weight
        targets = training.by_task(known)
        own = None if weights is None else training.by_task(weights)
        if self.best_validation_loss_ is not None:
            loss, who, targets = self.best_validation_loss_, "held-out rows", validation[3]
            own = None if weights is None else validation[5]
        of_mean = self._of_mean([np.asarray(t) for t in targets], known, own, weights)
        if not loss < of_mean:
            means, short = self._means
            warnings.warn(
                f"the {who} are predicted worse than by the {means} of the training targets: the "
                f"loss is {loss:.3g}, that of {short.format(of_mean)}. Other settings may "
                f"do better ({self._settings}), or the groups have nothing to learn",
                stacklevel=3,
            )

    def _predict(self, X: Any, groups: Any, **options: Any) -> Any:
        """``predict``, as the objective's own takes options."""
        x = self._inputs(X)
        if groups is None and self._grouped:
            if not self._warned:
                warnings.warn(
                    "groups is None, so this is the network before it adapts to any group, seldom "
                    "what is wanted; accepted are predict(X, groups), score(X, y, groups) and "
                    "adapt(X, y).predict(X_new). What calls predict or score for you, such as "
                    "cross_val_predict, scoring='r2' and a pipeline, may not hand groups on: see "
                    "fastmaml.learn.few_shot_scorer and docs/estimator.md",
                    stacklevel=3,
                )
                self._warned = True
            return self._back(self._unadapted(x, **options), self._dtype)
        if self._known is None:
            raise ValueError(
                "this model does not carry the rows that it was trained on, to which predict would "
                "adapt; accepted are adapt and adapt_predict"
            )
        labels = np.zeros(len(x), np.intp) if groups is None else groups
        return self._adapt_predict(self._known, x, labels, "groups", self._dtype, options)

    def _adapt_and_predict(
        self, X: Any, y: Any, groups: Any, X_new: Any, groups_new: Any, sample_weight: Any,
        **options: Any,
    ) -> Any:  # fmt: skip
        """``adapt_predict``, as the objective's own ``predict`` takes options."""
        X, y = self._rows(X, y)
        x, t = self._scaled_inputs(X), self._scaled_targets(y)
        weights = None
        if sample_weight is not None:
            weights = as_weights("sample_weight", sample_weight, len(x))
        known = table_of(x, t, as_labels("groups", groups, len(x)), weights)
        x_new = self._inputs(X_new)
        dtype = self._precision(y)
        return self._adapt_predict(known, x_new, groups_new, "groups_new", dtype, options)

    def score(self, X: Any, y: Any, groups: Any = None, *, sample_weight: Any = None) -> float:
        """Return R² (of classes: accuracy), with `groups` after adaptation, else of ``predict(X)``.

        Parameters
        ----------
        X, y : array_like
            As for ``fit``.
        groups : array_like, shape (rows,), optional
            Labels, known or new. Each group is split as in training (by the parameter that says how
            many rows are support, `shuffle` and `random_state`), adapts to its support rows, and is
            judged on its query rows. Groups of a single row are left out, with a warning.
        sample_weight : array_like, shape (rows,), optional
            Weights in the score.

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
            return self._score(X, y, sample_weight)
        rows, predicted = self._few_shot(X, y, groups)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            require_length("sample_weight", sample_weight.shape, len(y))
            sample_weight = sample_weight[rows]
        metric = type(self)._metric
        return float(metric(np.asarray(y)[rows], predicted, sample_weight=sample_weight))

    def to_save(self) -> dict[str, Any]:
        """Return what ``fastmaml.save(path, regressor)`` writes; no rows of the training.

        ``fastmaml.load`` reads it, as what predicts in the user's units, and `from_saved` makes a
        fitted estimator of that.
        """
        check_is_fitted(self)
        parameters = self.get_params()
        if not isinstance(self.random_state, int | None):
            parameters["random_state"] = None  # a generator, which was used up in part
        parameters = {name: describe(value) for name, value in parameters.items()}
        extra = {
            type(self).__name__: parameters, "flat": self._flat, "dtype": self._dtype.name,
            "grouped": self._grouped, "learned": self._learned,
        }  # fmt: skip
        return {**self._to_save(), "objective": self._objective(), "extra": extra}

    @classmethod
    def from_saved(cls, saved: Any) -> Self:
        """Return the fitted estimator of a file.

        It adapts and scores as the one that was saved. It knows no group of ``fit``.

        Parameters
        ----------
        saved : fastmaml.Saved
            ``fastmaml.load(path)``.

        Returns
        -------
        Grouped

        Raises
        ------
        ValueError
            If something else was saved.
        """
        extra, name = saved.extra if isinstance(saved.extra, dict) else {}, cls.__name__
        if set(extra) != {name, *SAVED, *cls._also_saved} or saved.scaling is None:
            raise ValueError(
                f"saved holds no {name}; accepted is what fastmaml.load reads of a file that "
                "fastmaml.save(path, regressor) wrote"
            )
        regressor = cls(**extra[name])
        if cls._also_saved:
            regressor.classes_ = np.array(extra["classes"])
        model = regressor.model_ = saved.objective.model
        regressor.theta_, regressor.scaling_ = saved.theta, saved.scaling
        if hasattr(saved.objective, "inner_lr"):
            regressor.inner_lr_ = saved.objective.inner_lr
        regressor.n_features_in_, regressor.n_outputs_ = model.n_inputs, len(saved.scaling.y_mean)
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
        n_support, shuffle = self._splitting()
        x, t = self._scaled_inputs(X), self._scaled_targets(y)
        table = table_of(x, t, as_labels("groups", groups, len(x))).require_rows(2, "drop")
        every = np.arange(table.n_tasks)
        rng = self._generator()
        support_of = of_counts(n_support, table.n_rows, rng)
        part = table.divide(every, support_of, None, rng if shuffle else None)
        support = np.cumsum(part.n_support)[:-1]
        with named_tasks(table.names):
            f = self._objective().predict(
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
        self, known: TaskTable, x_new: NDArray[Any], groups_new: Any, name: str, dtype: Any,
        options: dict[str, Any],
    ) -> Any:  # fmt: skip
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
        if own.sample_weight is not None:
            options = {**options, "sample_weight": own.by_task(own.sample_weight)}
        with named_tasks(own.names):
            found = self._objective().predict(
                self.theta_, own.by_task(own.x), own.by_task(own.y), new.by_task(new.x), **options
            )
        parts = []
        for part in found if isinstance(found, tuple) else (found,):
            parts.append(np.empty((len(x_new), self.model_.n_outputs), x_new.dtype))
            parts[-1][new.order] = np.concatenate(part)
        return self._back(tuple(parts) if isinstance(found, tuple) else parts[0], dtype)

    def _adaptable(self) -> Any:
        """The regressor of one group that is not fitted, of a copy that carries no rows."""
        check_is_fitted(self)
        meta = copy.copy(self)
        meta._known, meta.groups_ = None, []
        meta.loss_curve_, meta.validation_loss_curve_ = [], None
        return self._adapted(FrozenEstimator(meta))

    def _splitting(self) -> tuple[Any, bool]:
        return self._n_support(), as_flag("shuffle", self.shuffle)

    def _generator(self) -> np.random.Generator:
        try:
            state = check_random_state(self.random_state)
        except ValueError as error:
            raise ValueError(
                f"random_state is {shown(self.random_state)}; accepted are a seed, a RandomState "
                f"and None ({error})"
            ) from error
        return np.random.default_rng(state.randint(2**31 - 1))


class GroupedRegressor(Grouped, StandardisedRegressor):
    """A regressor that is meta-trained on groups of rows, and adapts to others."""

    _metric = r2_score
    _means = "mean", "the mean {:.3g} (standardised)"

    def _fit_rows(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any], Targets]:
        for name, values in (("X", X), ("y", y)):
            require_numbers(name, values)
        X, y = validate_data(self, X, y, ensure_min_samples=2, **TARGETS)
        columns = y.reshape(len(y), -1)
        return X, y, Targets(columns, columns.shape[1])

    def _scaling_of(self, rows: TaskTable) -> Scaling:
        return Scaling.fit(rows.x, rows.y, sample_weight=rows.sample_weight)


def require_classes(classes: NDArray[Any], known: NDArray[Any]) -> None:
    """Raise ValueError unless a training goes on with the classes that it had."""
    if not np.array_equal(classes, known):
        raise ValueError(
            f"warm_start goes on with the classes {shown(known.tolist())}, y has "
            f"{shown(classes.tolist())}; accepted are the same"
        )


def table_of(
    x: NDArray[Any], y: NDArray[Any], labels: Labels, weights: NDArray[Any] | None = None
) -> TaskTable:
    """Return the table of rows that are checked already; those of weight 0 are left out."""
    order = np.argsort(labels.code, kind="stable")
    if weights is not None:
        order = order[weights[order] > 0]
        weights = weights[order]
    counts = np.bincount(labels.code[order], minlength=len(labels.names))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    table = TaskTable(x[order], y[order], offsets, labels.names, order, weights)
    return table if counts.all() else table.take(np.flatnonzero(counts))


def average_of_tasks(losses: list[NDArray[Any]], weights: Any) -> float:
    """Return the mean over tasks of losses (rows, outputs), averaged by the weights of the rows."""
    own = [None] * len(losses) if weights is None else weights
    pairs = zip(losses, own, strict=True)
    return float(np.mean([np.average(rows.mean(axis=1), weights=w) for rows, w in pairs]))


def _scaled(table: TaskTable, scaling: Scaling) -> TaskTable:
    """The table in standardised units, in the dtype of its x."""
    dtype = table.x.dtype
    return replace(table, x=scaling.scale_x(table.x, dtype), y=scaling.scale_y(table.y, dtype))


def as_hidden_layer_sizes(sizes: Any) -> list[int]:
    """Return the sizes of the hidden layers; a number is one layer."""
    if not np.iterable(sizes):
        return [as_count("hidden_layer_sizes", sizes, 1, MAX_SIZE)]
    return [as_count(f"hidden_layer_sizes[{i}]", size, 1, MAX_SIZE) for i, size in enumerate(sizes)]
