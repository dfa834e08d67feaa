"""Networks of PyTorch and models of fastmaml: which is which, and the way between them.

A module is known by what it is made of: ``nn.Linear`` layers with activations between them, in
``nn.Sequential``, which may be nested. Whatever would compute something else than the model does
(other layers, other settings, hooks) is an error that names the layer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ..checks import shown
from ..models import MLP, Linear, Network
from ..parameters import as_theta
from .operator import theta_of

__all__ = ["Sin", "from_module", "to_module"]


class Sin(nn.Module):
    """The activation ``"sin"``, which PyTorch has no module of.

    Raises
    ------
    TypeError
        When it is called, PyTorch's, for what is no tensor.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from fastmaml.torch import Sin, from_module
    >>> from_module(nn.Sequential(nn.Linear(1, 8), Sin(), nn.Linear(8, 1)))[0]
    MLP([1, 8, 1], activation='sin')
    """

    def forward(self, z: Tensor) -> Tensor:
        """Return sin(z), of the shape of z.

        Raises
        ------
        TypeError
            PyTorch's, for what is no tensor.

        Examples
        --------
        >>> import torch
        >>> from fastmaml.torch import Sin
        >>> Sin().forward(torch.zeros(2))
        tensor([0., 0.])
        """
        return torch.sin(z)


#: by the word for an activation: its module, and the settings of that under which it is the same
_ACTIVATIONS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "identity": (nn.Identity, {}),
    "relu": (nn.ReLU, {}),
    "leaky_relu": (nn.LeakyReLU, {"negative_slope": 0.01}),
    "elu": (nn.ELU, {"alpha": 1.0}),
    "softplus": (nn.Softplus, {"beta": 1.0, "threshold": 20.0}),
    "tanh": (nn.Tanh, {}),
    "sigmoid": (nn.Sigmoid, {}),
    "silu": (nn.SiLU, {}),
    "gelu": (nn.GELU, {"approximate": "none"}),
    "sin": (Sin, {}),
}
_KNOWN = {nn.Linear, *(kind for kind, _ in _ACTIVATIONS.values())}
_WORDS = {kind: (word, tuple(settings.items())) for word, (kind, settings) in _ACTIVATIONS.items()}


def structure(module: Any) -> tuple[tuple[int, ...], tuple[str, ...], bool, list[Tensor]]:
    """Return sizes, activations, whether there are biases, and the parameters in theta's order.

    It is asked in every call, and by the compiler of PyTorch, which goes through it.
    """
    sizes: list[int] = []
    words: list[str] = []
    parameters: list[Tensor] = []
    biases = 0
    layers: list[Any] = []
    _gather(module, layers)
    for layer in layers:
        kind = type(layer)
        if kind is nn.Linear:
            own = layer._parameters  # layer.weight takes five times as long
            if "weight" not in own or "bias" not in own:
                raise TypeError(
                    f"layer {_called(module, layer)} has a weight or bias that is no parameter; "
                    "accepted are those that nn.Linear makes"
                )
            weight, bias = own["weight"], own["bias"]
            n_out, n_in = weight.shape  # which count: a pruned layer keeps its in_features
            if not sizes:
                sizes.append(n_in)
            elif len(words) < len(sizes) - 1:
                words.append("identity")
            if n_in != sizes[-1]:
                raise ValueError(
                    f"layer {_called(module, layer)} takes {n_in} features, "
                    f"the layer before it gives {sizes[-1]}"
                )
            sizes.append(n_out)
            parameters.append(weight)
            if bias is not None:
                parameters.append(bias)
                biases += 1
            continue
        word, settings = _WORDS[kind]
        for setting, value in settings:
            if getattr(layer, setting) != value:
                raise ValueError(
                    f"layer {_called(module, layer)} has another {setting} than fastmaml's "
                    f"{word!r}; accepted is {value!r}"
                )
        if word == "identity":
            continue
        if not sizes or len(words) == len(sizes) - 1:
            raise ValueError(
                f"layer {_called(module, layer)} comes "
                f"{'after another activation' if sizes else 'before any nn.Linear'}; "
                "accepted is one activation between two nn.Linear"
            )
        words.append(word)
    if not sizes:
        raise TypeError(f"module is {shown(module)}, which has no nn.Linear; {_ACCEPTED}")
    if len(words) == len(sizes) - 1:
        activation = next(each for each in reversed(layers) if type(each) is not nn.Identity)
        raise ValueError(
            f"layer {_called(module, activation)} comes after the last nn.Linear; accepted is a "
            "linear output"
        )
    if biases not in (0, len(sizes) - 1) or (not biases and len(sizes) > 2):
        raise ValueError(
            f"{len(sizes) - 1 - biases} of {len(sizes) - 1} nn.Linear have bias=False; accepted "
            "are biases in all, or a single nn.Linear without"
        )
    if len(set(map(id, parameters))) < len(parameters):
        raise ValueError(
            "module has a parameter in two places, which would be adapted apart; accepted are "
            "layers with parameters of their own"
        )
    return tuple(sizes), tuple(words), biases > 0, parameters


_ACCEPTED = (
    "accepted are nn.Linear, nn.Sequential, and the activations "
    + ", ".join(f"nn.{kind.__name__}" for kind, _ in _ACTIVATIONS.values() if kind is not Sin)
    + " and fastmaml.torch.Sin"
)


def _gather(module: Any, layers: list[Any], root: Any = None) -> None:
    """Append the layers in the order of their calls."""
    root = module if root is None else root
    kind = type(module)
    known = kind in _KNOWN
    if not known and not (
        isinstance(module, nn.Sequential) and kind.forward is nn.Sequential.forward
    ):
        raise TypeError(f"layer {_called(root, module)} is not supported; {_ACCEPTED}")
    # before anything else is asked: weights that hooks compute are no parameters
    if (
        module._forward_hooks or module._forward_pre_hooks
        or module._backward_hooks or module._backward_pre_hooks
    ):  # fmt: skip
        raise ValueError(
            f"layer {_called(root, module)} has hooks, which would not be called; accepted are "
            "layers without"
        )
    if "forward" in module.__dict__:
        raise ValueError(
            f"layer {_called(root, module)} has a forward of its own, which would not be called; "
            "accepted are layers without"
        )
    if known:
        layers.append(module)
        return
    for child in module._modules.values():
        _gather(child, layers, root)


def _called(root: Any, layer: Any) -> str:
    """A layer as errors call it: its name, and what it is."""
    if not isinstance(layer, nn.Module):
        return f"a {type(layer).__name__}"
    name = next((name for name, each in root.named_modules() if each is layer), "")
    text = shown(layer)
    text = type(layer).__name__ if "\n" in text else text
    return f"{name!r} ({text})" if name else text


@lru_cache(maxsize=256)
def model_of(sizes: tuple[int, ...], words: tuple[str, ...], bias: bool) -> Network:
    """Return the model that has such layers."""
    if len(sizes) == 2:
        return Linear(*sizes, intercept=bias)
    return MLP(sizes, words)


def from_module(module: nn.Module) -> tuple[Network, NDArray[Any]]:
    """Return the model of a network, and its parameters.

    Parameters
    ----------
    module : nn.Sequential or nn.Linear
        ``nn.Linear`` layers and activations: nn.Identity, ReLU, LeakyReLU, ELU, Softplus, Tanh,
        Sigmoid, SiLU, GELU (all with their default settings) and `Sin`. No activation after the
        last layer.

    Returns
    -------
    model : MLP or Linear
    theta : ndarray, shape (P,)
        A copy, in the order of ``torch.nn.utils.parameters_to_vector`` and in the module's dtype.

    Raises
    ------
    TypeError, ValueError
        For a layer that fastmaml has not, which the text names; and for parameters that are
        neither all float32 nor all float64, or not on the CPU.

    Examples
    --------
    >>> from torch import nn
    >>> from fastmaml.torch import from_module
    >>> model, theta = from_module(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)))
    >>> model, theta.shape
    (MLP([2, 16, 1], activation='tanh'), (65,))
    >>> from_module(nn.Sequential(nn.Linear(2, 16), nn.Dropout(), nn.Linear(16, 1)))
    Traceback (most recent call last):
    TypeError: layer '1' (Dropout(p=0.5, inplace=False)) is not supported; accepted are ...
    """
    sizes, words, bias, parameters = structure(module)
    require_parameters("module", parameters)
    return model_of(sizes, words, bias), theta_of(parameters).copy()


def to_module(model: Network, theta: ArrayLike) -> nn.Sequential:
    """Return the network that a model with such parameters is.

    Parameters
    ----------
    model : MLP or Linear
    theta : array_like, shape (P,)
        Its numbers are copied. float32 stays float32, everything else becomes float64.

    Returns
    -------
    module : nn.Sequential

    Raises
    ------
    TypeError, ValueError
        For another model, or a theta that does not fit it.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.torch import to_module
    >>> model = fm.MLP([1, 40, 1], "relu")
    >>> to_module(model, model.init(0))
    Sequential(
      (0): Linear(in_features=1, out_features=40, bias=True)
      (1): ReLU()
      (2): Linear(in_features=40, out_features=1, bias=True)
    )
    """
    if not isinstance(model, Network):
        raise TypeError(f"model is {shown(model)}; accepted are MLP and Linear")
    if isinstance(theta, Tensor):
        require_cpu("theta", theta)
        theta = theta.detach().numpy()
    packed = as_theta(model, theta)
    dtype = torch.float32 if packed.dtype == np.float32 else torch.float64
    given = model.activation
    words = (given,) * (model.n_layers - 1) if isinstance(given, str) else given
    parts: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(zip(model.layer_sizes, model.layer_sizes[1:], strict=False)):
        if i:
            parts.append(_ACTIVATIONS[words[i - 1]][0]())
        # of no memory, which is filled below, and without a draw from PyTorch's generator
        parts.append(nn.Linear(n_in, n_out, model.intercept, device="meta", dtype=dtype))
    module = nn.Sequential(*parts).to_empty(device="cpu")
    nn.utils.vector_to_parameters(torch.from_numpy(packed.copy()), module.parameters())
    return module


# Checks -------------------------------------------------------------------------------------------


def require_cpu(name: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor on another device."""
    if not tensor.is_cpu:
        raise ValueError(
            f"{name} is on {tensor.device}, and fastmaml computes on the CPU; accepted are "
            f"tensors of the CPU: {name}.cpu()"
        )


def require_parameters(name: str, parameters: list[Tensor]) -> None:
    """Raise an error unless all are on the CPU, and all float32 or all float64."""
    dtype = parameters[0].dtype
    for each in parameters:
        if not each.is_cpu:
            require_cpu(name, each)
        if each.dtype != dtype or dtype not in _DTYPES:
            found = sorted({str(each.dtype) for each in parameters})
            raise TypeError(
                f"{name} is of {', '.join(found)}; accepted are torch.float32 or torch.float64, "
                "one for all parameters"
            )


_DTYPES = (torch.float32, torch.float64)
