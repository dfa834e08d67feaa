"""A model that is linear in its parameters, on any feature map: `Features`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..checks import as_count, shown
from ..family import Compiled
from ..predict import predict as predict_of_any_model
from .base import MAX_SIZE
from .initial import DEFAULT
from .linear import Linear
from .maps import Transform

__all__ = ["Features"]


@final
@dataclass(frozen=True, init=False, repr=False)
class Features:
    """The model f(x) = W phi(x) + b: linear in its parameters, on features phi of the user's own.

    Parameters
    ----------
    transform : callable, or object with a method ``transform``
        phi: takes rows (n, n_inputs), returns (n, n_features). It must give each row what it would
        give it alone, and the same in every call. A transformer of scikit-learn must be fitted.
    n_features : int
        Number of features, without the 1 of b.
    n_outputs : int
        Number of outputs.
    n_inputs : int, optional
        Number of columns of x. By default what a transformer was fitted with, and 1 for a callable.
    intercept : bool
        Whether there is a b.

    Attributes
    ----------
    transform : object
        As given.
    n_features, n_params, n_inputs, n_outputs, n_layers : int
    intercept : bool
    layer_sizes : tuple of int
        ``(n_features, n_outputs)``: to all methods it is a `Linear` of as many inputs.

    Raises
    ------
    TypeError
        If the transform is neither, a number is no integer or `intercept` no bool.
    ValueError
        If a number is below 1, the transformer is not fitted, or was fitted with other columns
        than `n_inputs`. In a call, if the transform raises, or what it returns has another shape or
        is not finite.

    Notes
    -----
    In each call the transform is called in Python, once with the support rows of all tasks and once
    with the query rows; with rows in theta's dtype. What is expensive, and the same in every call,
    may be faster computed beforehand, for a `Linear`.

    Two models are equal if their transforms are the same object. Pickles hold the transform, as
    pickle can; files of `fastmaml.save` and exports hold no code, and refuse it.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmaml as fm
    >>> def waves(x):
    ...     return np.hstack([np.sin(x), np.cos(x)])
    >>> model = fm.Features(waves, 2)
    >>> model
    Features(waves, 2)
    >>> model.predict([3.0, 0.0, 1.0], [[0.0], [np.pi / 2]])
    array([[1.],
           [4.]])
    >>> model.pack(model.unpack(model.init(0))).shape
    (3,)

    Bayesian regression on these features, with a prior that is learned:

    >>> head = fm.BayesianLastLayer(model)
    >>> head.predict(head.init(0), [[0.0], [1.0]], [1.0, 2.0], [[0.5]], return_std=True)[1].shape
    (1,)
    """

    n_inputs: int
    linear: Linear = field(repr=False)
    feature_map: Transform

    predict = predict_of_any_model

    def __init__(
        self, transform: Any, n_features: int, n_outputs: int = 1, n_inputs: int | None = None,
        intercept: bool = True,
    ) -> None:  # fmt: skip
        _require_transform(transform)
        width = as_count("n_features", n_features, 1, MAX_SIZE)
        put = object.__setattr__  # frozen from here on
        put(self, "n_inputs", _as_inputs(transform, n_inputs))
        put(self, "linear", Linear(width, n_outputs, intercept))
        put(self, "feature_map", Transform(transform, width))

    def __reduce__(self) -> Any:
        given = self.transform, self.n_features, self.n_outputs, self.n_inputs, self.intercept
        return Features, given

    def __repr__(self) -> str:
        words = [self.feature_map.name, str(self.n_features)]
        if self.n_outputs != 1:
            words.append(f"n_outputs={self.n_outputs}")
        if self.n_inputs != 1:
            words.append(f"n_inputs={self.n_inputs}")
        if not self.intercept:
            words.append("intercept=False")
        return f"Features({', '.join(words)})"

    @property
    def transform(self) -> Any:
        """The feature map, as given."""
        return self.feature_map.given

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.linear.n_inputs

    @property
    def intercept(self) -> bool:
        """Whether there is a b."""
        return self.linear.intercept

    @property
    def n_params(self) -> int:
        """Number of parameters, P."""
        return self.linear.n_params

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.linear.n_outputs

    @property
    def n_layers(self) -> int:
        """Number of layers: 1."""
        return self.linear.n_layers

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """The numbers of features and outputs."""
        return self.linear.layer_sizes

    def layers(self) -> dict[str, slice]:
        """Where each layer's parameters lie in theta, by its name."""
        return self.linear.layers()

    def init(
        self,
        rng: int | np.random.Generator | None = None,
        dtype: DTypeLike = np.float64,
        scheme: str = DEFAULT,
    ) -> NDArray[Any]:
        """Return initial parameters (P,), of as many inputs.

        Parameters and errors are those of `Linear.init`.
        """
        return self.linear.init(rng, dtype, scheme)

    def pack(self, layers: Sequence[tuple[ArrayLike, ArrayLike | None]]) -> NDArray[Any]:
        """Return the flat parameters (P,) of [(W, b)].

        Parameters and errors are those of `Linear.pack`.
        """
        return self.linear.pack(layers)

    def unpack(self, theta: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Return [(W, b)].

        Parameters and errors are those of `Linear.unpack`.
        """
        return self.linear.unpack(theta)

    def compiled(self, dtype: np.dtype[Any]) -> Compiled:
        """The model as the kernels of a dtype take it: a linear one, of features."""
        return self.linear.compiled(dtype)


def _require_transform(transform: Any) -> None:
    accepted = "accepted are callables of rows, and transformers, with a method transform"
    if isinstance(transform, type):
        raise TypeError(f"transform is {shown(transform)}, a class; {accepted}")
    if not (callable(transform) or callable(getattr(transform, "transform", None))):
        raise TypeError(f"transform is {shown(transform)}; {accepted}")


def _as_inputs(transform: Any, n_inputs: Any) -> int:
    """Columns of x, as given or as a transformer was fitted with."""
    fitted = getattr(transform, "n_features_in_", None)
    if n_inputs is not None:
        count = as_count("n_inputs", n_inputs, 1, MAX_SIZE)
        if fitted is not None and fitted != count:
            raise ValueError(f"n_inputs is {count}, transform was fitted with {fitted} columns")
        return count
    if fitted is not None:
        return as_count("transform.n_features_in_", fitted, 1, MAX_SIZE)
    if hasattr(transform, "fit"):
        raise ValueError(
            f"n_inputs is None, and transform {shown(transform)} has no n_features_in_, as it has "
            "when it is fitted; accepted are fitted transformers, or the number of columns of x"
        )
    return 1
