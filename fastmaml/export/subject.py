"""What is exported: how tasks adapt, from which parameters, in which units, under which names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import shown
from ..closed_form import BayesianLastLayer
from ..learn import Scaling
from ..learn.spec import learner_of
from ..maml import MAML
from ..models import Frozen, Network
from ..parameters import as_theta
from ..saving import Saved, require_columns

__all__ = ["Subject", "subject_of"]


class Subject(NamedTuple):
    """A learned model, checked."""

    learner: MAML | BayesianLastLayer
    theta: NDArray[Any]
    scaling: Scaling | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def model(self) -> Network:
        """The network f."""
        model: Any = self.learner.model  # as `subject_of` has found
        return model

    def scaling_of(self, side: str) -> Scaling | None:
        """What "x" or "y" is scaled by; not y, where outputs are no predictions of it."""
        return self.scaling if side == "x" or self.learner._predicts_y else None

    @property
    def activations(self) -> list[str]:
        """Of each hidden layer."""
        words = self.model.activation
        return [words] * (self.model.n_layers - 1) if isinstance(words, str) else list(words)


def subject_of(objective: Any, theta: Any = None, scaling: Any = None) -> Subject:
    """Return what is to be exported.

    Parameters
    ----------
    objective : MAML, BayesianLastLayer or Reptile
        Or, alone, what holds all of it: a `Saved`, or a fitted regressor.
    theta : array_like, shape (P,)
    scaling : Scaling, optional
    """
    names: dict[str, Any] = {"inputs": None, "outputs": None}
    whole = objective._asdict() if isinstance(objective, Saved) else None
    if whole is None and hasattr(objective, "to_save"):
        whole = {**names, **objective.to_save()}
    if whole is not None:
        given = [n for n, v in (("theta", theta), ("scaling", scaling)) if v is not None]
        if given:
            raise TypeError(
                f"{given[0]} is given beside a {type(objective).__name__}, which has its own; "
                "accepted is None"
            )
        objective, theta, scaling = whole["objective"], whole["theta"], whole["scaling"]
        names = whole
    learner: Any = learner_of(objective)
    if isinstance(learner.model, Frozen) and isinstance(learner.model.model, Network):
        learner = _with_rates_of_0(learner)
    if not isinstance(learner.model, Network):
        raise TypeError(
            f"objective has the model {shown(learner.model)}, a {type(learner.model).__name__}; "
            "accepted are stacks of weight layers, an MLP or a Linear, of which parts may be Frozen"
        )
    if theta is None:
        raise TypeError(f"theta is None; accepted are the parameters of {shown(learner)}")
    parameters = as_theta(learner._space, theta)
    if scaling is not None:
        require_columns(scaling, learner)
    model = learner.model
    inputs = _names(names["inputs"], "x", model.n_inputs)
    return Subject(
        learner, parameters, scaling, inputs, _names(names["outputs"], "y", learner._n_targets)
    )


def _with_rates_of_0(maml: MAML) -> MAML:
    """A MAML without the `Frozen`, whose frozen parameters do not adapt at a rate of 0 either."""
    frozen: Any = maml.model
    mask, (per_layer, rates, _) = frozen.mask, maml._problem.rate
    of_layers = [mask[place] for place in frozen.layers().values()]
    if per_layer is None:
        assert rates is not None
        rates = rates[None] * ~mask
    elif maml.steps == 0:
        rates = np.zeros((1, len(mask)))
    elif all(each.all() or not each.any() for each in of_layers):
        rates = per_layer * ~np.array([each.all() for each in of_layers])
    elif (per_layer == per_layer[0]).all():
        rates = np.repeat(per_layer[:1], [len(each) for each in of_layers], axis=1) * ~mask
    else:
        raise ValueError(
            f"objective has the model {shown(frozen)}, which freezes parts of layers, and rates of "
            "each step; accepted are whole layers, or the same rates in all steps"
        )
    return replace(maml, model=frozen.model, inner_lr=rates)


def _names(given: Sequence[str] | None, letter: str, width: int) -> tuple[str, ...]:
    """The names of columns, made up if there are none."""
    if given is not None:
        return tuple(given)
    return (letter,) if width == 1 else tuple(f"{letter}{i}" for i in range(1, width + 1))
