"""The linear model, which is a network of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ..checks import as_count
from .base import MAX_SIZE, Network

__all__ = ["Linear"]


@final
@dataclass(frozen=True, init=False, repr=False)
class Linear(Network):
    """The model f(x) = W x + b, with parameters W (n_outputs, n_inputs), then b (n_outputs,).

    Parameters
    ----------
    n_inputs : int
        Number of input features.
    n_outputs : int
        Number of outputs.
    intercept : bool
        Whether there is a b.

    Attributes
    ----------
    layer_sizes : tuple of int
        ``(n_inputs, n_outputs)``.
    activation : str
        Always ``"identity"``.
    intercept : bool
    n_layers, n_params, n_inputs, n_outputs : int

    Raises
    ------
    TypeError
        If a number is not an integer or `intercept` is not a bool.
    ValueError
        If a number is below 1.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Linear(3, n_outputs=2)
    >>> model
    Linear(3, n_outputs=2, intercept=True)
    >>> theta = model.pack([([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]], [0.5, 0.0])])
    >>> theta
    array([1. , 0. , 0. , 0. , 0. , 2. , 0.5, 0. ])
    >>> model.predict(theta, [[1.0, 10.0, 100.0]])
    array([[  1.5, 200. ]])
    >>> model.init(0).shape
    (8,)
    >>> model.unpack(theta)[0][1]
    array([0.5, 0. ])
    """

    def __init__(self, n_inputs: int, n_outputs: int = 1, intercept: bool = True) -> None:
        sizes = (
            as_count("n_inputs", n_inputs, 1, MAX_SIZE),
            as_count("n_outputs", n_outputs, 1, MAX_SIZE),
        )
        super().__init__(sizes, "identity", intercept)

    def __repr__(self) -> str:
        return f"Linear({self.n_inputs}, n_outputs={self.n_outputs}, intercept={self.intercept})"
