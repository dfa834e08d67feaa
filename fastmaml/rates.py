"""Inner learning rates, in every form that a user gives them, and the weights of the steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import FLOAT64, LARGEST, as_array, require_finite, require_size, shape_text
from .family import Family

__all__ = ["InnerRate", "as_inner_lr", "as_step_weights", "rate_gradient"]


class InnerRate(NamedTuple):
    """The inner learning rate in one of two canonical forms, and the shape it was given in."""

    per_layer: NDArray[Any] | None  # (steps, n_layers) float64, for every form but the next
    per_parameter: NDArray[Any] | None  # (P,) float64
    shape: tuple[int, ...]  # () for a scalar


def as_inner_lr(model: Family, inner_lr: Any, steps: int) -> InnerRate:
    """Return `inner_lr` in canonical form, as fresh arrays.

    Accepted shapes, with S steps, L layers and P parameters: (), (S,), (L,), (S, L), (S, 1),
    (1, L), (P,), (1, P). A shape (k,) that fits two of (S,), (L,), (P,) with different meanings is
    an error that names the forms with two axes, which are never ambiguous.
    """
    layers, size = model.n_layers, model.n_params
    if isinstance(inner_lr, bool | np.bool_):
        raise TypeError(f"inner_lr is {inner_lr}; accepted are real numbers")
    try:
        rate = as_array("inner_lr", inner_lr, FLOAT64)
    except ValueError:  # a nested list that is not regular, or too deep
        raise ValueError(
            f"inner_lr is no regular array; {_rate_choices(layers, size, steps)} ({model!r})"
        ) from None
    shape = rate.shape
    if not np.vdot(rate, rate) <= LARGEST**2:  # else neither can be
        require_finite("inner_lr", rate)
        require_size("inner_lr", rate)
    by_step = shape in ((steps,), (steps, 1))
    by_layer = shape in ((layers,), (1, layers))
    by_parameter = shape in ((size,), (1, size))
    # Length 1 means the same whichever way it is read. No layer has less than one parameter, so
    # n_layers == P also leaves nothing to choose.
    if len(shape) == 1 and shape != (1,) and by_step and (by_layer or by_parameter):
        two = [("n_layers", f"(1, {layers}) per layer")] if by_layer else []
        two += [("n_params", f"(1, {size}) per parameter")] if by_parameter else []
        raise ValueError(
            f"inner_lr has shape {shape_text(shape)}, which is ambiguous: steps"
            f"{''.join(f' == {word}' for word, _ in two)} == {steps} ({model!r}); "
            f"accepted are ({steps}, 1) per step"
            f"{''.join(f', {form}' for _, form in two)}"
        )
    if shape == () or shape == (steps, layers) or by_layer:
        full = rate
    elif by_step:
        full = rate.reshape(steps, 1)
    elif by_parameter:
        return InnerRate(None, rate.reshape(size).copy(), shape)
    else:
        raise ValueError(
            f"inner_lr has shape {shape_text(shape)}; {_rate_choices(layers, size, steps)} "
            f"({model!r})"
        )
    per_layer = np.empty((steps, layers))
    per_layer[...] = full
    return InnerRate(per_layer, None, shape)


def _rate_choices(layers: int, size: int, steps: int) -> str:
    return (
        f"accepted are a scalar, ({steps},) per step, ({layers},) per layer, ({steps}, {layers}) "
        f"per step and layer, ({size},) per parameter, and ({steps}, 1), (1, {layers}), (1, {size})"
    )


def rate_gradient(rate: InnerRate, gradient: NDArray[Any]) -> float | NDArray[Any]:
    """Return the gradient in `rate`'s canonical form, summed to the shape the user gave.

    A number that stands for several canonical entries gets the sum of their gradients.
    """
    if rate.per_layer is None:
        return gradient.reshape(rate.shape)
    if rate.shape == ():
        return float(gradient.sum())
    steps, layers = rate.per_layer.shape
    if rate.shape == (steps, layers):
        return gradient
    axis = 1 if rate.shape in ((steps,), (steps, 1)) else 0
    summed: NDArray[Any] = np.sum(gradient, axis=axis)
    return summed.reshape(rate.shape)


def as_step_weights(step_weights: Any, steps: int) -> NDArray[Any]:
    """Return (steps + 1,) float64 weights; None puts all weight on the last step."""
    if step_weights is None:
        weights = np.zeros(steps + 1)
        weights[-1] = 1.0
        return weights
    weights = as_array("step_weights", step_weights, FLOAT64)
    if weights.shape != (steps + 1,):
        raise ValueError(
            f"step_weights has shape {shape_text(weights.shape)}; accepted are None and "
            f"({steps + 1},), a weight before the first and after each of {steps} steps"
        )
    require_finite("step_weights", weights, ("entry",))
    require_size("step_weights", weights)
    return weights.copy()
