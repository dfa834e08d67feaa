"""Weights as libraries of JAX keep them, trees of arrays, and theta, one vector: there and back.

A layer is a node of the tree that has a weight and perhaps a bias, by the names that the libraries
give them: ``kernel`` and ``bias`` (Flax), ``w`` and ``b`` (Haiku), where the weight is (n_in,
n_out); ``weight`` and ``bias`` (Equinox), where it is (n_out, n_in); or a pair (weight, bias), also
(n_out, n_in), as `fastmaml.MLP.unpack` gives them. Layers are in the order of their names, in which
numbers count as numbers: ``Dense_10`` comes after ``Dense_9``.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..checks import shape_text, shown
from ..models import Network

__all__ = ["ravel", "unravel"]

#: names of a weight, and whether it is (n_in, n_out); names of a bias
WEIGHTS = {"kernel": True, "w": True, "weight": False, "0": False}
BIASES = ("bias", "b", "1")
ACCEPTED = (
    "accepted are layers of a kernel (n_in, n_out) and a bias, of w and b alike, of a weight "
    "(n_out, n_in) and a bias, and pairs of these"
)


class Layer(NamedTuple):
    """Where the leaves of a layer lie in the list of all leaves."""

    weight: int
    transposed: bool  # whether the weight is (n_in, n_out)
    bias: int | None


def ravel(model: Network, tree: Any) -> jax.Array:
    """Return the flat parameters of weights in a tree.

    Parameters
    ----------
    model : MLP or Linear
    tree : pytree
        Such as the parameters of a Flax module, an ``eqx.nn.MLP``, or a list of (weight, bias).
        What is no array (Equinox keeps activations in the tree) is passed over.

    Returns
    -------
    theta : jax.Array, shape (P,)
        In the order of ``model.unpack``. It can be traced and differentiated.

    Raises
    ------
    TypeError, ValueError
        For a tree that does not have the model's layers; the text names the place.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import fastmaml as fm
    >>> from fastmaml.jax import ravel, unravel
    >>> model = fm.MLP([2, 16, 1])
    >>> params = {"params": {
    ...     "Dense_0": {"kernel": jnp.ones((2, 16)), "bias": jnp.zeros(16)},
    ...     "Dense_1": {"kernel": jnp.ones((16, 1)), "bias": jnp.zeros(1)},
    ... }}
    >>> theta = ravel(model, params)
    >>> theta.shape
    (65,)
    >>> unravel(model, theta, params)["params"]["Dense_1"]["kernel"].shape
    (16, 1)
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    pieces = []
    for layer in _layers(model, leaves):
        weight = leaves[layer.weight][1]
        pieces.append(jnp.ravel(weight.T if layer.transposed else weight))
        if layer.bias is not None:
            pieces.append(jnp.ravel(leaves[layer.bias][1]))
    return jnp.concatenate(pieces)


def unravel(model: Network, theta: Any, like: Any) -> Any:
    """Return the weights in flat parameters as a tree, in the layout of another.

    Parameters
    ----------
    model : MLP or Linear
    theta : array_like, shape (P,)
    like : pytree
        As `ravel` takes it. Its arrays say nothing but where weights go; what is no array is kept.

    Returns
    -------
    tree : pytree
        As `like`, with arrays of theta's dtype. It can be traced and differentiated.

    Raises
    ------
    TypeError, ValueError
        As `ravel`, and for a theta that does not fit the model.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import fastmaml as fm
    >>> from fastmaml.jax import unravel
    >>> params = {"Dense_0": {"kernel": jnp.zeros((3, 1)), "bias": jnp.zeros(1)}}
    >>> unravel(fm.Linear(3), jnp.arange(4.0), like=params)["Dense_0"]["kernel"].shape
    (3, 1)
    """
    flat = jnp.asarray(theta)
    if flat.shape != (model.n_params,):
        raise ValueError(
            f"theta has shape {shape_text(flat.shape)}, the model takes ({model.n_params},) "
            f"({model!r})"
        )
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = [leaf for _, leaf in paths]
    at = 0
    for layer, (n_in, n_out) in zip(_layers(model, paths), model._layers, strict=True):
        weight = flat[at : at + n_out * n_in].reshape(n_out, n_in)
        at += n_out * n_in
        leaves[layer.weight] = weight.T if layer.transposed else weight
        if layer.bias is not None:
            leaves[layer.bias] = flat[at : at + n_out].reshape(leaves[layer.bias].shape)
            at += n_out
    return jax.tree_util.tree_unflatten(structure, leaves)


def _layers(model: Network, leaves: list[tuple[Any, Any]]) -> list[Layer]:
    """The model's layers in a tree, checked; leaves come with their paths."""
    if not isinstance(model, Network):
        raise TypeError(f"model is {shown(model)}; accepted are MLP and Linear")
    nodes: dict[tuple[str, ...], dict[str, int]] = {}
    for i, (path, leaf) in enumerate(leaves):
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            *parent, name = [_name(key) for key in path] or [""]
            if name == "value" and parent:  # a Param of Flax's nnx is a node of its own
                name = parent.pop()
            nodes.setdefault(tuple(parent), {})[name] = i
    names = sorted(nodes, key=lambda names: [_natural(name) for name in names])
    found = [_layer(where, nodes[where]) for where in names]
    if len(found) != model.n_layers:
        raise ValueError(
            f"the tree has {len(found)} layers, the model has {model.n_layers} ({model!r}); "
            f"{ACCEPTED}"
        )
    for where, layer, (n_in, n_out) in zip(names, found, model._layers, strict=True):
        wanted = (n_in, n_out) if layer.transposed else (n_out, n_in)
        _require_shape(model, where, leaves[layer.weight][1], wanted)
        if (layer.bias is not None) != model.intercept:
            has = "no bias" if layer.bias is None else "a bias"
            raise ValueError(f"{_place(where)} has {has}, the model is {model!r}")
        if layer.bias is not None:
            _require_shape(model, where, leaves[layer.bias][1], (n_out,), (1, n_out))
    return found


def _layer(where: tuple[str, ...], node: dict[str, int]) -> Layer:
    weights = [name for name in node if name in WEIGHTS]
    biases = [name for name in node if name in BIASES]
    if len(weights) != 1 or len(biases) > 1 or len(node) != len(weights) + len(biases):
        raise TypeError(f"{_place(where)} has {', '.join(sorted(node))}; {ACCEPTED}")
    bias = node[biases[0]] if biases else None
    return Layer(node[weights[0]], WEIGHTS[weights[0]], bias)


def _require_shape(
    model: Network, where: tuple[str, ...], array: Any, *accepted: tuple[int, ...]
) -> None:
    if tuple(array.shape) not in accepted:
        raise ValueError(
            f"{_place(where)} has an array of shape {shape_text(array.shape)}, the model takes "
            f"{shape_text(accepted[0])} ({model!r})"
        )


def _place(where: tuple[str, ...]) -> str:
    return f"the layer {'.'.join(where)!r}" if where else "the tree itself"


def _name(key: Any) -> str:
    """The name of a step of a path, whichever kind of node it is in."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key of a name, in which numbers count as numbers."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
