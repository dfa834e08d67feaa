"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from .base import Network

__all__ = ["MLP"]


@final
@dataclass(frozen=True, init=False, repr=False)
class MLP(Network):
    """A fully connected network with biases and a linear output layer.

    Parameters
    ----------
    layer_sizes : sequence of int
        Sizes from the input features to the outputs, ``[1, 40, 40, 1]`` for two hidden layers.
    activation : str or sequence of str
        Of the hidden layers, a word for all or a sequence of one for each: ``"identity"``,
        ``"relu"``, ``"leaky_relu"`` (slope 0.01), ``"elu"`` (alpha 1), ``"softplus"``, ``"tanh"``,
        ``"sigmoid"``, ``"silu"``, ``"gelu"`` (the exact one, with erf) or ``"sin"``. The derivative
        of relu at 0 is 0. Without hidden layers no word changes anything, and an empty sequence is
        ``"identity"``.

    Attributes
    ----------
    layer_sizes : tuple of int
    activation : str or tuple of str
        A tuple if hidden layers differ; a sequence of equal words is that word.
    intercept : bool
        Always True.
    n_layers, n_params, n_inputs, n_outputs : int

    Raises
    ------
    TypeError
        If a size is not an integer, or the activation neither a word nor a sequence of words.
    ValueError
        If there are less than two sizes, a size is below 1, an activation is unknown, or there are
        more or less of them than hidden layers.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.MLP([2, 16, 1], activation="relu")
    >>> model
    MLP([2, 16, 1], activation='relu')
    >>> theta = model.init(rng=0)
    >>> theta.shape == (model.n_params,) == (65,)
    True
    >>> [(weight.shape, bias.shape) for weight, bias in model.unpack(theta)]
    [((16, 2), (16,)), ((1, 16), (1,))]
    >>> model.predict(theta, [[0.0, 0.0], [1.0, -1.0]]).shape
    (2, 1)

    Two hidden layers with an activation, then one without:

    >>> fm.MLP([1, 40, 40, 20, 1], ["relu", "relu", "identity"])
    MLP([1, 40, 40, 20, 1], activation=['relu', 'relu', 'identity'])
    >>> bool((model.pack(model.unpack(theta)) == theta).all())
    True
    """

    def __init__(
        self, layer_sizes: Iterable[int], activation: str | Iterable[str] = "tanh"
    ) -> None:
        super().__init__(layer_sizes, activation, True)

    def __repr__(self) -> str:
        words = self.activation
        shown = words if isinstance(words, str) else list(words)
        return f"MLP({list(self.layer_sizes)}, activation={shown!r})"
