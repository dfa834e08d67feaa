"""What an estimator does at each check of its training: stop, print, remember the losses."""

from __future__ import annotations

import math

import numpy as np

from .loop import TrainState

__all__ = ["Progress"]


class Progress:
    """A callback of `train` that ends the training once the loss has stopped falling.

    The loss of a check is that of the validation tasks, or else the mean over the iterations since
    the last check. It has fallen if it is below the lowest so far by a fraction `tol` of that;
    of a log density, by `tol` times the size of the lowest, or by `tol` if that is more.

    Parameters
    ----------
    every : int
        Iterations from one check to the next.
    patience : int
        Checks without a fall after which the training ends.
    tol : float
    validated : bool
        Whether there are validation tasks.
    verbose : bool
        Whether each check prints a line.
    density : bool
        Whether the loss is the negative logarithm of a density, which may be 0 and less.

    Attributes
    ----------
    losses : list of float
        Of each check.
    training_loss : float
        The mean over the iterations since the last check but one.
    converged : bool
        Whether `patience` ended the training.
    """

    def __init__(
        self, every: int, patience: int, tol: float, validated: bool, verbose: bool,
        *, density: bool = False,
    ) -> None:  # fmt: skip
        self.every, self.patience, self.tol = every, patience, tol
        self.validated, self.verbose, self.density = validated, verbose, density
        self.losses: list[float] = []
        self.training_loss = math.nan
        self.converged = False
        self._window: list[float] = []
        self._lowest, self._since = math.inf, 0

    def __call__(self, state: TrainState) -> bool:
        """Note what an iteration brought; True ends the training."""
        self._window = [*self._window, state.value][-self.every :]
        if state.iteration % self.every:
            return False
        self.training_loss = float(np.mean(self._window))
        loss = self.training_loss
        if self.validated and state.validation_value is not None:
            loss = state.validation_value
        self.losses.append(loss)
        if self.verbose:
            validation = f", validation loss {loss:.6g}" if self.validated else ""
            print(f"iteration {state.iteration}: loss {self.training_loss:.6g}{validation}")
        if loss < self._bound():
            self._lowest, self._since = loss, 0
        else:
            self._since += 1
        self.converged = self._since >= self.patience
        return self.converged

    def _bound(self) -> float:
        """What is a fall is below this."""
        if self.density and math.isfinite(self._lowest):
            return self._lowest - self.tol * max(1.0, abs(self._lowest))
        return self._lowest * (1 - self.tol)
