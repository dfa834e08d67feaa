"""What is exported: how tasks adapt, from which parameters, in which units, under which names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..checks import shown
from ..closed_form import BayesianLastLayer
from ..learn import Scaling
from ..learn.spec import learner_of
from ..maml import MAML
from ..models import Network
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
    if not isinstance(learner.model, Network):
        raise TypeError(
            f"objective has the model {shown(learner.model)}, a {type(learner.model).__name__}; "
            "accepted are stacks of weight layers, an MLP or a Linear"
        )
    if theta is None:
        raise TypeError(f"theta is None; accepted are the parameters of {shown(learner)}")
    parameters = as_theta(learner._space, theta)
    if scaling is not None:
        require_columns(scaling, learner)
    model = learner.model
    inputs = _names(names["inputs"], "x", model.n_inputs)
    return Subject(
        learner, parameters, scaling, inputs, _names(names["outputs"], "y", model.n_outputs)
    )


def _names(given: Sequence[str] | None, letter: str, width: int) -> tuple[str, ...]:
    """The names of columns, made up if there are none."""
    if given is not None:
        return tuple(given)
    return (letter,) if width == 1 else tuple(f"{letter}{i}" for i in range(1, width + 1))
