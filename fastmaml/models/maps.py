"""What rows of x go through before the kernels see them: a user's transform, and maps of maps.

Each is a `fastmaml.family.FeatureMap`, and equal to one that is made alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT64, real_array, shape_text, shown
from ..family import Family, FeatureMap, feature_map_of

__all__ = ["Joined", "Shifted", "Transform", "joined"]


@dataclass(frozen=True, eq=False)
class Transform:
    """A callable of rows, or an object with a method ``transform``; equal for the same object.

    It gets a copy of the rows and is not asked where there are none, and what it returns is copied:
    so it may write to the one, and go on to use the other.
    """

    given: Any
    n_features: int
    key: Any = field(init=False)  # by which it is compared: hash and == of what is given may be any

    def __post_init__(self) -> None:
        method = isinstance(self.given, MethodType)  # which is another object each time
        object.__setattr__(self, "key", self.given if method else id(self.given))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Transform):
            return NotImplemented
        return bool((self.key, self.n_features) == (other.key, other.n_features))

    def __hash__(self) -> int:
        return hash((self.key, self.n_features))

    @property
    def name(self) -> str:
        """What errors call it."""
        own = getattr(self.given, "__qualname__", None)
        return own if isinstance(own, str) else " ".join(shown(self.given).split())

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return features (N, n_features) of rows x (N, n_inputs), in their dtype.

        Raises
        ------
        TypeError
            If what is returned does not hold real numbers.
        ValueError
            If it has another shape, or the transform raised an error, which is the cause.
        """
        if not len(x):
            return np.empty((0, self.n_features), x.dtype)
        function = getattr(self.given, "transform", self.given)
        try:
            found = function(x.copy())
        except Exception as error:
            raise ValueError(
                f"transform {self.name} raised {type(error).__name__} for rows of shape "
                f"{shape_text(x.shape)}: {error}"
            ) from error
        if hasattr(found, "toarray"):
            raise TypeError(
                f"transform {self.name} returned a sparse {type(found).__name__}; accepted are "
                "dense arrays (scikit-learn's transformers return them with sparse_output=False)"
            )
        array = real_array(f"what transform {self.name} returned", found)
        wanted = len(x), self.n_features
        if array.shape != wanted:
            raise ValueError(
                f"transform {self.name} returned shape {shape_text(array.shape)} for rows of shape "
                f"{shape_text(x.shape)}; accepted is {shape_text(wanted)}, n_features numbers a row"
            )
        with np.errstate(all="ignore"):  # what float32 cannot hold is inf, and found where it is
            return np.array(array, x.dtype, order="C")


@dataclass(frozen=True)
class Shifted:
    """A map of scaled rows, ``inside((x - mean) / scale)``."""

    inside: FeatureMap
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def n_features(self) -> int:
        """Number of columns that the kernels see."""
        return self.inside.n_features

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return features (N, n_features) of rows x (N, n_inputs), in their dtype."""
        with np.errstate(all="ignore"):
            scaled = (x.astype(FLOAT64) - self.mean) / self.scale
            return self.inside(scaled.astype(x.dtype))


@dataclass(frozen=True)
class Joined:
    """Maps side by side; None is x as it is."""

    maps: tuple[FeatureMap | None, ...]
    n_inputs: int

    @property
    def widths(self) -> list[int]:
        """Columns of each."""
        return [self.n_inputs if each is None else each.n_features for each in self.maps]

    @property
    def n_features(self) -> int:
        """Number of columns that the kernels see."""
        return sum(self.widths)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return features (N, n_features) of rows x (N, n_inputs), in their dtype."""
        return np.concatenate([x if each is None else each(x) for each in self.maps], axis=1)


def joined(models: Sequence[Family]) -> tuple[FeatureMap | None, list[int]]:
    """The map for models that get the same x, and which of its columns each one's begin at.

    What some of them have in common is computed once.
    """
    maps = [feature_map_of(model) for model in models]
    every = Joined(tuple(dict.fromkeys(maps)), models[0].n_inputs)
    starts = dict(zip(every.maps, np.cumsum([0, *every.widths]).tolist(), strict=False))
    return every if len(every.maps) > 1 else maps[0], [starts[each] for each in maps]
