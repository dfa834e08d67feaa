"""The operators ``fastmaml::meta_loss`` and ``fastmaml::meta_gradient``, and the autograd of them.

Where a gradient will be asked for, ``meta_loss`` is ``meta_gradient``: the gradient comes with the
value, in one call of the kernels, and waits for the way back, which is a product with the gradient
that arrives there. Else it is the value alone. (``torch.library.custom_op`` would write the same,
and adds 60 µs to each call.)

All that is here works on lists of tensors and a text (`problems`): parameters in their order in
theta, and the rows of the tasks, one tensor for all or one for each; no query rows are an empty list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .problems import with_rate

__all__ = ["arrays_of", "differentiable", "meta_loss", "theta_of"]

_ARGUMENTS = (
    "Tensor[] parameters, Tensor? inner_lr, Tensor[] x, Tensor[] y, Tensor[] x_query, "
    "Tensor[] y_query, str problem"
)
_library = torch.library.Library("fastmaml", "FRAGMENT")
for _schema in (
    f"meta_loss({_ARGUMENTS}) -> Tensor",
    f"meta_gradient({_ARGUMENTS}, bool rates) -> (Tensor, Tensor, Tensor)",
):
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
meta_loss = torch.ops.fastmaml.meta_loss.default
_meta_gradient = torch.ops.fastmaml.meta_gradient.default

Tensors = Sequence[Tensor]


# Tensors as arrays, of the same memory ------------------------------------------------------------


def theta_of(parameters: Tensors) -> NDArray[Any]:
    """Return theta: the memory of a single tensor (P,), or the numbers of several, one by one."""
    if len(parameters) == 1 and parameters[0].dim() == 1:
        return parameters[0].detach().numpy()  # type: ignore[no-any-return]
    flat = torch._C._nn.flatten_dense_tensors(parameters)
    return flat.detach().numpy()  # type: ignore[no-any-return]


def arrays_of(tensors: Tensors) -> Any:
    """Return the rows as fastmaml takes them: one array, a list of several, or None."""
    if len(tensors) == 1:
        return tensors[0].detach().numpy()
    return [each.detach().numpy() for each in tensors] or None


def _call(
    parameters: Tensors, inner_lr: Tensor | None, x: Tensors, y: Tensors, x_query: Tensors,
    y_query: Tensors, problem: str,
) -> tuple[Any, NDArray[Any], tuple[Any, ...]]:  # fmt: skip
    """The objective, theta, and the data."""
    objective = with_rate(problem, None if inner_lr is None else inner_lr.detach().numpy())
    data = (arrays_of(x), arrays_of(y), arrays_of(x_query), arrays_of(y_query))
    return objective, theta_of(parameters), data


def _scalar(value: float, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(value)).to(dtype)  # inf where float32 cannot hold it


# What they compute --------------------------------------------------------------------------------


@torch.library.impl(_library, "meta_loss", "CPU")
def _value(*arguments: Any) -> Tensor:
    objective, theta, data = _call(*arguments)
    return _scalar(objective.value(theta, *data), arguments[0][0].dtype)


@torch.library.impl(_library, "meta_gradient", "CPU")
def _value_and_gradients(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, rates = arguments  # type: ignore[assignment]
    objective, theta, data = _call(*arguments)
    dtype = arguments[0][0].dtype
    if not rates:
        value, gradient = objective.value_and_gradient(theta, *data)
        return _scalar(value, dtype), torch.from_numpy(gradient), torch.empty(0)
    value, gradient, _, slope, *_ = objective.evaluate(theta, *data)
    by_rate = torch.from_numpy(np.array(slope)).to(arguments[1].dtype)
    return _scalar(value, dtype), torch.from_numpy(gradient), by_rate


@torch.library.register_fake("fastmaml::meta_loss", lib=_library)
def _value_shape(parameters: Tensors, *others: Any) -> Tensor:
    return parameters[0].new_empty(())


@torch.library.register_fake("fastmaml::meta_gradient", lib=_library)
def _gradient_shapes(parameters: Tensors, inner_lr: Tensor | None, *others: Any) -> Any:
    value, gradient = (
        parameters[0].new_empty(shape) for shape in ((), (sum(p.numel() for p in parameters),))
    )
    if others[-1]:
        assert inner_lr is not None
        return value, gradient, torch.empty_like(inner_lr)
    return value, gradient, torch.empty(0)


# Autograd -----------------------------------------------------------------------------------------


class _MetaLoss(torch.autograd.Function):
    """The value, with the gradients for its way back."""

    @staticmethod
    def forward(ctx: Any, data: Any, problem: str, inner_lr: Any, *parameters: Any) -> Tensor:
        rates = ctx.needs_input_grad[2]
        with torch._C._AutoDispatchBelowAutograd():
            value, gradient, slope = _meta_gradient(parameters, inner_lr, *data, problem, rates)
        ctx.inner_lr, ctx.parameters = inner_lr, parameters
        ctx.save_for_backward(gradient, slope)
        return value  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> Any:
        gradient, slope = ctx.saved_tensors
        parameters = ctx.parameters
        if torch.is_grad_enabled():  # create_graph=True
            sources = (ctx.inner_lr, *parameters)
            gradient, slope = _Once.apply(gradient, *sources), _Once.apply(slope, *sources)
        sizes = [each.numel() for each in parameters]
        parts = torch.split_with_sizes(gradient * change, sizes)
        shaped = [
            part if each.dim() == 1 else part.view(each.shape)
            for part, each in zip(parts, parameters, strict=True)
        ]
        rates = (slope * change.to(slope.dtype)) if ctx.needs_input_grad[2] else None
        return None, None, rates, *shaped


class _Once(torch.autograd.Function):
    """A gradient, tied to what it is computed from, so that its own derivative is refused."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Any) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *changes: Any) -> Any:
        raise RuntimeError(
            "the gradient of fastmaml.torch.meta_loss is differentiated, which it cannot be; "
            "accepted is one backward. fastmaml.MAML.hessp has products with the Hessian"
        )


@torch.library.impl(_library, "meta_loss", "Autograd")
def differentiable(
    parameters: Tensors, inner_lr: Tensor | None, x: Tensors, y: Tensors, x_query: Tensors,
    y_query: Tensors, problem: str,
) -> Tensor:  # fmt: skip
    """Return the meta-loss: what the operator does where autograd is, and as good as the operator.

    Outside compiled code a call of it is shorter by a way through PyTorch's dispatcher.
    """
    if torch.is_grad_enabled() and (
        any(each.requires_grad for each in parameters)
        or (inner_lr is not None and inner_lr.requires_grad)
    ):
        data = x, y, x_query, y_query
        return _MetaLoss.apply(data, problem, inner_lr, *parameters)  # type: ignore[no-any-return]
    with torch._C._AutoDispatchBelowAutograd():
        return meta_loss(parameters, inner_lr, x, y, x_query, y_query, problem)  # type: ignore[no-any-return]
