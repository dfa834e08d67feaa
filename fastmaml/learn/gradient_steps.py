"""What the estimators that adapt by gradient steps share: their parameters, objective and rates.

Needs scikit-learn, from the extra ``sklearn``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import as_choice, as_count, as_flag
from ..datasets.base import MOST
from ..maml import MAML
from ..models import MLP
from ..rates import as_inner_lr
from . import defaults
from .grouped import Grouped, as_hidden_layer_sizes
from .optimizers import Adam, Optimizer

__all__ = ["ByGradientSteps"]


class ByGradientSteps(Grouped):
    """An estimator whose groups adapt by MAML; `MAMLRegressor` documents the parameters."""

    _settings = "inner_lr, learning_rate_init"

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

    @abstractmethod
    def _loss(self, model: MLP) -> str:
        """The loss of the network."""

    def _predicted(self, found: NDArray[Any]) -> NDArray[Any]:
        """What is predicted, of the network's outputs in the user's terms."""
        return found

    def adapt_predict(
        self, X: Any, y: Any, groups: Any, X_new: Any, groups_new: Any, sample_weight: Any = None
    ) -> NDArray[Any]:
        """Adapt to the rows of many groups at once, new or known, and predict other rows of them.

        Parameters
        ----------
        X, y, groups : array_like
            Rows to adapt to, as for ``fit``.
        X_new, groups_new : array_like, shape (rows, n_features) and (rows,)
            Rows to predict; their groups are among `groups`.
        sample_weight : array_like, shape (rows,), optional
            Weight of each row to adapt to, 0 or more.

        Returns
        -------
        y_new : ndarray, shape (rows,) or (rows, n_outputs)
            As from ``predict``.

        Raises
        ------
        ValueError
            For a group in `groups_new` that `groups` has not, or data that does not fit ``fit``'s.
        """
        found = self._adapt_and_predict(X, y, groups, X_new, groups_new, sample_weight)
        return self._predicted(found)

    def _objective(self) -> MAML:
        return self._maml()

    def _training(
        self, model: MLP, learning_rate: float, warm: bool
    ) -> tuple[MAML, Optimizer | None]:
        rates = self._rates() if warm else self.inner_lr
        maml = self._maml(model, rates)
        if not (as_flag("learn_rates", self.learn_rates) and maml.steps > 0):
            return maml, None
        full = as_inner_lr(model, rates, maml.steps).per_layer
        maml = self._maml(model, rates if full is None else full)
        if not np.any(maml.inner_lr):
            raise ValueError(
                "inner_lr is 0, and learn_rates=True learns its logarithm; accepted are rates "
                "to start from, and learn_rates=False"
            )
        return maml, Adam(defaults.RATE_FACTOR * learning_rate)

    def _n_support(self) -> int | None:
        return None if self.shots is None else as_count("shots", self.shots, 1, MOST)

    def _hidden(self) -> tuple[list[int], Any]:
        return as_hidden_layer_sizes(self.hidden_layer_sizes), self.activation

    def _unadapted(self, x: NDArray[Any], **options: Any) -> NDArray[Any]:
        predicted: NDArray[Any] = np.asarray(self.model_.predict(self.theta_, x))
        return predicted

    def _how(self, inner_lr: Any) -> str:
        return (
            f", after {self.steps} inner steps with {rates_text(inner_lr)}; a smaller inner_lr, "
            "fewer steps or a smaller learning_rate_init usually help"
        )

    def _maml(self, model: MLP | None = None, rates: Any = None) -> MAML:
        """The objective: with the rates that adaptation takes, or with those given."""
        model = self.model_ if model is None else model
        return MAML(
            model,
            inner_lr=self._rates() if rates is None else rates,
            steps=self.steps,
            order=as_choice("order", self.order, ("exact", "first")),
            loss=self._loss(model),
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


def rates_text(inner_lr: Any) -> str:
    """Return inner rates as text."""
    rates = np.asarray(inner_lr, np.float64)
    low, high = rates.min(), rates.max()
    return f"rate {high:.3g}" if low == high else f"rates from {low:.3g} to {high:.3g}"
