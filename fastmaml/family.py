"""What the package asks of a model, whichever family it is of: a protocol, and no class.

What checks, plans and launches knows this alone, and the kernels know a table of numbers and five
functions that they call by address (``kernels/models/passes.py``). The method ``factored`` asks for
more: it is for stacks of weight layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .checks import FLOAT64, shown
from .kernels.compile.records import View
from .kernels.models.lanes import LanePasses
from .kernels.models.padded import padded_index
from .kernels.models.passes import Passes, with_passes

__all__ = [
    "Compiled", "Family", "FeatureMap", "Space", "as_model", "feature_map_of", "is_model",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Compiled:
    """A model as the kernels of one dtype take it.

    Parameters
    ----------
    table : ndarray of int64
        What ``kernels.compile.records.table_of`` makes, or a function that is built on it.
    passes : Passes
        The model's five functions.
    dtype : dtype
    parts : tuple of Compiled
        Models whose passes these call, and whose tables are in this one.
    table_of : callable, optional
        Makes the table from the list of theirs.
    lanes : callable, optional
        Makes the passes of the method ``lanes``, of the words of two losses.
    """

    table: NDArray[np.int64]
    passes: Passes
    dtype: np.dtype[Any]
    parts: tuple[Compiled, ...] = ()
    table_of: Callable[[list[NDArray[np.int64]]], NDArray[np.int64]] | None = None
    lanes: Callable[[str, str], LanePasses] | None = None

    @cached_property
    def n_padded(self) -> int:
        """Numbers of a padded parameter vector."""
        return View(self.table).n_padded

    @cached_property
    def n_derived(self) -> int:
        """Numbers that are derived from one."""
        return View(self.table).n_derived

    @cached_property
    def padded_index(self) -> NDArray[np.int64]:
        """Where each parameter lies in a padded vector, (P,)."""
        return padded_index(self.table)

    @cached_property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of inputs, of outputs, of parameters and of layers, as the kernels know them."""
        view = View(self.table)
        return view.n_in, view.n_out, view.n_theta, view.n_layers

    def reaching(self, order: int | None) -> NDArray[np.int64]:
        """The table with the addresses of the passes that derivatives up to an order take.

        These are compiled, or loaded. Order 0 is for predictions, 1 for gradients, 2 for products
        with a Hessian; None is for a kernel that calls none by address.
        """
        if order is None:
            return self.table
        if order not in self._reaching:
            table = self.table
            if self.table_of is not None:
                table = self.table_of([part.reaching(order) for part in self.parts])
            self._reaching[order] = with_passes(table, self.passes, self.dtype, order)
        return self._reaching[order]

    @cached_property
    def _reaching(self) -> dict[int, NDArray[np.int64]]:
        return {}


class Space(Protocol):
    """What says how long theta is; its ``repr`` is what errors call it."""

    @property
    def n_params(self) -> int:
        """Number of parameters, P."""


class FeatureMap(Protocol):
    """What the rows of x go through, in Python, before the kernels see them."""

    @property
    def n_features(self) -> int:
        """Number of columns that the kernels see."""

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return a new array (N, n_features) for rows (N, n_inputs), of their dtype."""


class Family(Protocol):
    """A model f(theta, x): immutable and hashable, and equal to one that is made alike.

    Its ``repr`` is what errors call it. A model may have a ``feature_map``, too: a `FeatureMap`, or
    None for what the others have, kernels that see x as it is (`feature_map_of`).
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
        """What the kernels of a dtype are given. Asked in every call, so remembered.

        (In a cache of a module: it has addresses of this process, and is not pickled.)
        """


def is_model(value: Any) -> TypeGuard[Family]:
    """Whether `value` is a model."""
    # One name stands for the whole protocol, which would take microseconds to go through.
    return hasattr(type(value), "compiled")


def feature_map_of(model: Family) -> FeatureMap | None:
    """What the rows of x go through before the kernels see them, if anything."""
    return getattr(model, "feature_map", None)


def as_model(model: Any) -> Family:
    """Return `model`, which must be one."""
    if not is_model(model):
        raise TypeError(
            f"model is {shown(model)}; accepted are MLP and Linear, other models of "
            "fastmaml.models, and what has the names of fastmaml.family.Family"
        )
    require_agreement(model, model.compiled(FLOAT64))
    return model


def require_agreement(model: Family, compiled: Compiled) -> None:
    """Raise ValueError if a model and its table, by which kernels write, differ in their sizes."""
    feature_map = feature_map_of(model)
    n_inputs = model.n_inputs if feature_map is None else feature_map.n_features
    sizes = n_inputs, model.n_outputs, model.n_params, model.n_layers
    if compiled.sizes != sizes:
        names = "n_inputs, n_outputs, n_params, n_layers"
        raise ValueError(
            f"model has ({names}) {sizes}, and its table {compiled.sizes}; they must be equal "
            f"({model!r})"
        )
