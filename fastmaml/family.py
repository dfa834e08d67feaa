"""What the package asks of a model, whichever family it is of: a protocol, and no class.

What checks, plans and launches knows this alone. The kernels still take every model for a stack of
weight layers (``kernels/models``), which `Family.compiled` describes; so a new family is, so far,
another description of such layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .checks import shown

__all__ = ["Compiled", "Family", "Space", "as_model", "is_model"]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A model as the kernels of one dtype take it."""

    table: NDArray[np.int64]
    n_padded: int  # numbers of a padded parameter vector
    n_transposed: int  # numbers that are prepared from it: the transposed copy of its weights


class Space(Protocol):
    """What says how long theta is; its ``repr`` is what errors call it."""

    @property
    def n_params(self) -> int:
        """Number of parameters, P."""


class Family(Protocol):
    """A model f(theta, x): immutable and hashable, and equal to one that is made alike.

    Its ``repr`` is what errors call it.
    """

    def __hash__(self) -> int:
        """Return a hash of all that makes the model."""

    @property
    def n_inputs(self) -> int:
        """Number of input features."""

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""

    @property
    def n_params(self) -> int:
        """Number of parameters, P."""

    @property
    def n_layers(self) -> int:
        """Number of layers: of runs of theta that have a rate of their own."""

    @property
    def layer_sizes(self) -> tuple[int, ...] | None:
        """Sizes from the inputs to the outputs of a stack of weight layers; None for others."""

    def layers(self) -> dict[str, slice]:
        """Where each layer's parameters lie in theta, by its name: in order, without gaps."""

    def init(
        self, rng: int | np.random.Generator | None = None, dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Draw initial parameters (P,)."""

    def predict(self, theta: ArrayLike, x: Any) -> NDArray[Any] | list[NDArray[Any]]:
        """Return f(theta, x); `fastmaml.predict.predict` is the method of every family."""

    def compiled(self, dtype: np.dtype[Any]) -> Compiled:
        """What the kernels of a dtype are given. Asked in every call, so remembered."""

    def padded_index(self, dtype: np.dtype[Any]) -> NDArray[np.int64]:
        """Where each parameter lies in a padded parameter vector, (P,)."""


def is_model(value: Any) -> TypeGuard[Family]:
    """Whether `value` is a model."""
    # One name stands for the whole protocol, which would take microseconds to go through.
    return hasattr(type(value), "compiled")


def as_model(model: Any) -> Family:
    """Return `model`, which must be one."""
    if not is_model(model):
        raise TypeError(f"model is {shown(model)}; accepted are MLP and Linear")
    return model
