"""Stacks of weight layers: their sizes, the flat layout of their parameters, initial values.

To the kernels such a model is a table that describes it (``layer_sizes``, the activation of each
hidden layer, whether the layers have intercepts), and the passes of ``kernels.models.layers``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..checks import (
    FLOAT64,
    as_array,
    as_choice,
    as_count,
    as_dtype,
    as_flag,
    as_float_dtype,
    as_rng,
    real_array,
    require_memory,
    shape_text,
    shown,
)
from ..family import Compiled
from ..kernels.models.layers import LAYERS, layer_table
from ..kernels.vectors.activations import CODES
from ..parameters import as_thetas
from ..predict import predict as predict_of_any_model
from .initial import DEFAULT, SCHEMES

__all__ = ["MAX_SIZE", "Network"]

#: sizes and layers beyond which a model is a mistake (and an endless sequence of sizes ends)
MAX_SIZE, MAX_LAYERS = 2**31 - 1, 1000


@dataclass(frozen=True, init=False, repr=False)
class Network:
    """Base of the models: immutable, hashable, picklable; equal when all that is given is equal.

    Attributes
    ----------
    layer_sizes : tuple of int
        Sizes from the input to the output.
    activation : str or tuple of str
        Of the hidden layers: a word if it is the same for all, else one for each. The output layer
        is linear.
    intercept : bool
        Whether each layer adds a bias.
    n_layers, n_params, n_inputs, n_outputs : int
        Number of weight layers, of parameters (P), of input features, of outputs.

    Raises
    ------
    TypeError, ValueError
        For sizes that are no sequence of integers from 1 up, an unknown activation, and in its
        methods for parameters or rows of another kind or shape.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.models import Network
    >>> model = fm.MLP([2, 16, 1])
    >>> isinstance(model, Network), isinstance(fm.Linear(2), Network)
    (True, True)
    >>> theta = model.init(0)
    >>> model.pack(model.unpack(theta)).shape, model.predict(theta, [[0.0, 1.0]]).shape
    ((65,), (1, 1))
    """

    layer_sizes: tuple[int, ...]
    activation: str | tuple[str, ...]
    intercept: bool
    n_layers: int = field(compare=False)
    n_params: int = field(compare=False)
    n_inputs: int = field(compare=False)
    n_outputs: int = field(compare=False)

    def __init__(
        self, layer_sizes: Iterable[int], activation: str | Iterable[str], intercept: bool
    ) -> None:
        try:
            given = None if isinstance(layer_sizes, str | bytes) else iter(layer_sizes)
        except TypeError:
            given = None
        if given is None:
            raise TypeError(
                f"layer_sizes is {shown(layer_sizes)}; accepted are sequences of integers"
            )
        sizes = tuple(
            as_count(f"layer_sizes[{i}]", size, 1, MAX_SIZE)
            for i, size in enumerate(islice(given, MAX_LAYERS + 2))
        )
        if len(sizes) > MAX_LAYERS + 1:
            raise ValueError(f"layer_sizes has more than {MAX_LAYERS + 1} sizes, which is too many")
        if len(sizes) < 2:
            raise ValueError(
                f"layer_sizes is {list(sizes)}; accepted are two or more sizes, "
                "from the inputs to the outputs"
            )
        put = object.__setattr__  # frozen from here on
        put(self, "layer_sizes", sizes)
        put(self, "activation", _as_activation(activation, len(sizes) - 2))
        put(self, "intercept", as_flag("intercept", intercept))
        put(self, "n_layers", len(sizes) - 1)
        put(self, "n_params", sum(n_out * (n_in + self.intercept) for n_in, n_out in self._layers))
        put(self, "n_inputs", sizes[0])
        put(self, "n_outputs", sizes[-1])

    @property
    def _layers(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of each weight layer."""
        return list(pairwise(self.layer_sizes))

    def init(
        self,
        rng: int | np.random.Generator | None = None,
        dtype: DTypeLike = np.float64,
        scheme: str = DEFAULT,
    ) -> NDArray[Any]:
        """Draw initial parameters.

        Parameters
        ----------
        rng : int, numpy.random.Generator or None
            A seed, a generator to draw from, or None for fresh entropy.
        dtype : dtype
            float64 or float32. The float32 numbers are the float64 numbers of that seed, rounded.
        scheme : str
            How the weights of a layer (n_out, n_in) are drawn; biases are zero but for
            ``"pytorch"``.

            * ``"fan_in_uniform"``, the default: within ±1 / sqrt(n_in) [2]_.
            * ``"pytorch"``: the same, and so are the biases, as in ``torch.nn.Linear``.
            * ``"lecun_normal"``, ``"lecun_uniform"``: with variance 1 / n_in [1]_.
            * ``"glorot_normal"``, ``"glorot_uniform"``: with variance 2 / (n_in + n_out) [2]_.
            * ``"he_normal"``, ``"he_uniform"``: with variance 2 / n_in [3]_.

            docs/initial-weights.md compares what is learned from them.

        Returns
        -------
        theta : ndarray, shape (P,)

        Raises
        ------
        TypeError
            If an argument is of another kind.
        ValueError
            If the seed is negative or the scheme unknown.

        References
        ----------
        .. [1] Y. LeCun et al., Efficient BackProp, 1998, section 4.6.
        .. [2] X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward
           neural networks, AISTATS 2010, equations 1 and 16.
        .. [3] K. He et al., Delving deep into rectifiers, ICCV 2015, equation 10.
        """
        wanted = as_float_dtype("dtype", dtype)
        chosen = SCHEMES[as_choice("scheme", scheme, tuple(SCHEMES))]
        generator = as_rng("rng", rng)
        require_memory(8 * self.n_params, f"theta of layer_sizes {list(self.layer_sizes)}")
        theta = np.zeros(self.n_params)
        for (n_in, n_out), (weight, bias) in zip(self._layers, self._split(theta), strict=True):
            weight[...] = chosen.draw(generator, n_in, n_out, weight.shape)
            if bias is not None and chosen.biases:
                bias[...] = chosen.draw(generator, n_in, n_out, bias.shape)
        return theta.astype(wanted, copy=False)

    def pack(self, layers: Sequence[tuple[ArrayLike, ArrayLike | None]]) -> NDArray[Any]:
        """Return the flat parameters of the given weights and biases.

        Parameters
        ----------
        layers : sequence of (weight, bias)
            One pair a layer: weight (n_out, n_in) and bias (n_out,), or None without intercept.

        Returns
        -------
        theta : ndarray, shape (P,)
            For each layer the weight row-major, then the bias: the order of PyTorch's
            ``parameters_to_vector``. float32 if every array is float32, else float64.

        Raises
        ------
        TypeError
            If an array does not hold real numbers, or a bias is missing or too many.
        ValueError
            If the number of layers or a shape is not the model's.
        """
        if not isinstance(layers, Iterable) or (isinstance(layers, np.ndarray) and not layers.ndim):
            raise TypeError(
                f"layers is a {type(layers).__name__}; accepted are sequences of (weight, bias)"
            )
        pairs = list(layers)
        if len(pairs) != self.n_layers:
            raise ValueError(
                f"layers has {len(pairs)} entries, the model has {self.n_layers} layers ({self!r})"
            )
        pieces: list[NDArray[Any]] = []
        for i, (pair, (n_in, n_out)) in enumerate(zip(pairs, self._layers, strict=True)):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise TypeError(
                    f"layers[{i}] is a {type(pair).__name__}; accepted are pairs (weight, bias)"
                )
            weight, bias = pair
            pieces.append(self._piece(f"layers[{i}] weight", weight, (n_out, n_in)))
            if self.intercept:
                pieces.append(self._piece(f"layers[{i}] bias", bias, (n_out,)))
            elif bias is not None:
                raise TypeError(
                    f"layers[{i}] has a bias, the model has no intercept; accepted is None"
                )
        dtypes = {as_dtype("layers", piece) for piece in pieces}
        dtype = dtypes.pop() if len(dtypes) == 1 else FLOAT64
        return np.concatenate([as_array("layers", piece, dtype).reshape(-1) for piece in pieces])

    def _piece(self, name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        array = real_array(name, value)
        if array.shape != shape:
            raise ValueError(
                f"{name} has shape {shape_text(array.shape)}, "
                f"the model takes {shape_text(shape)} ({self!r})"
            )
        return array

    def unpack(self, theta: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Return the weights and biases that lie in the flat parameters, as views.

        Parameters
        ----------
        theta : array_like, shape (..., P)
            Parameters; leading axes, such as one of tasks, are kept.

        Returns
        -------
        layers : list of (weight, bias)
            One pair a layer: weight (..., n_out, n_in) and bias (..., n_out), or None without
            intercept. Writing to them writes to `theta` if that is an ndarray.

        Raises
        ------
        TypeError
            If `theta` does not hold real numbers.
        ValueError
            If its last axis is not P long.
        """
        array = as_thetas(self, theta)
        return self._split(array)

    def _split(self, theta: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        layers: list[tuple[NDArray[Any], NDArray[Any] | None]] = []
        lead = theta.shape[:-1]
        at = 0
        for n_in, n_out in self._layers:
            weight = theta[..., at : at + n_out * n_in].reshape(*lead, n_out, n_in)
            at += n_out * n_in
            if self.intercept:
                layers.append((weight, theta[..., at : at + n_out]))
                at += n_out
            else:
                layers.append((weight, None))
        return layers

    predict = predict_of_any_model

    # What the package asks of a model besides (`fastmaml.family.Family`) -------------------------

    def layers(self) -> dict[str, slice]:
        """Where each layer's parameters lie in theta, by its name."""
        sizes = (n_out * (n_in + self.intercept) for n_in, n_out in self._layers)
        ends = list(accumulate(sizes, initial=0))
        return {f"layer {i}": slice(*pair) for i, pair in enumerate(pairwise(ends), start=1)}

    def compiled(self, dtype: np.dtype[Any]) -> Compiled:
        """The model as the kernels of a dtype take it."""
        return _compiled(self.layer_sizes, self.activation, self.intercept, dtype)


def _as_activation(activation: Any, n_hidden: int) -> str | tuple[str, ...]:
    """Return a word that holds for all hidden layers, or else a tuple of one for each."""
    words = tuple(CODES)
    if isinstance(activation, str):
        return as_choice("activation", activation, words)
    try:  # of a set or a mapping the order would be chance
        given = None if isinstance(activation, bytes | Set | Mapping) else iter(activation)
    except TypeError:
        given = None
    if given is None:
        raise TypeError(
            f"activation is {shown(activation)}; accepted are the words "
            f"{', '.join(map(repr, words))}, or a sequence of them, one for each hidden layer"
        )
    entries = list(islice(given, MAX_LAYERS))  # more than there can be hidden layers
    if len(entries) != n_hidden:
        count = len(entries) if len(entries) < MAX_LAYERS else f"{MAX_LAYERS} or more"
        raise ValueError(
            f"activation has length {count}; accepted are a word for all hidden layers, or a "
            f"sequence of one for each, of which there are {n_hidden}"
        )
    each = tuple(as_choice(f"activation[{i}]", word, words) for i, word in enumerate(entries))
    if not each:  # of no layer, as in `Linear`
        return "identity"
    return each[0] if len(set(each)) == 1 else each


@lru_cache(maxsize=64)
def _compiled(
    layer_sizes: tuple[int, ...],
    activation: str | tuple[str, ...],
    intercept: bool,
    dtype: np.dtype[Any],
) -> Compiled:
    n_hidden = len(layer_sizes) - 2
    activations = (activation,) * n_hidden if isinstance(activation, str) else activation
    return Compiled(layer_table(layer_sizes, activations, intercept, dtype), LAYERS, dtype)
