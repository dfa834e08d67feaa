"""The operators ``fastmaml::meta_loss`` and ``fastmaml::meta_gradient``, and the autograd of them.

Where a gradient will be asked for, ``meta_loss`` is ``meta_gradient``: the gradient comes with the
value, in one call of the kernels, and waits for the way back, which is a product with the gradient
that arrives there. Else it is the value alone. (``torch.library.custom_op`` would write the same,
and adds 60 µs to each call.)

All that is here works on lists of tensors and a text (`problems`): parameters in their order in
theta, and the rows of the tasks and their weights, one tensor for all or one for each, or none for
no query rows and no weights.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..checks import FLOAT32, LARGEST
from .problems import with_rate

__all__ = ["arrays_of", "differentiable", "meta_loss", "theta_of"]

_ARGUMENTS = (
    "Tensor[] parameters, Tensor? inner_lr, Tensor[] x, Tensor[] y, Tensor[] x_query, "
    "Tensor[] y_query, Tensor[] sample_weight, Tensor[] sample_weight_query, str problem"
)
_library = torch.library.Library("fastmaml", "FRAGMENT")
for _schema in (
    f"meta_loss({_ARGUMENTS}) -> Tensor",
    f"meta_gradient({_ARGUMENTS}, bool rates) -> (Tensor, Tensor, Tensor)",
):
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
meta_loss = torch.ops.fastmaml.meta_loss.default
_meta_gradient = torch.ops.fastmaml.meta_gradient.default

Tensors: TypeAlias = Sequence[Tensor]
#: x, y, x_query, y_query, sample_weight, sample_weight_query
_Data: TypeAlias = Sequence[Tensors]


# Tensors as arrays, of the same memory ------------------------------------------------------------


def theta_of(parameters: Tensors) -> NDArray[Any]:
    """Return theta: the memory of the parameters if it is one run, else a copy of their numbers."""
    first = parameters[0]
    if len(parameters) == 1 and first.dim() == 1:
        return first.detach().numpy()
    at, size = first.data_ptr(), first.element_size()
    for each in parameters:
        if each.data_ptr() != at or not each.is_contiguous():
            break
        at += size * each.numel()
    else:
        count = (at - first.data_ptr()) // size
        try:
            return first.detach().as_strided((count,), (1,)).numpy()
        except RuntimeError:  # neighbours by chance, each of memory of its own
            pass
    flat = torch._C._nn.flatten_dense_tensors(parameters)
    return flat.detach().numpy()


def arrays_of(tensors: Tensors) -> Any:
    """Return the rows as fastmaml takes them: one array, a list of several, or None."""
    if not tensors:
        return None
    if len(tensors) == 1:
        return _array(tensors[0])
    return [_array(each) for each in tensors]


def _array(tensor: Tensor) -> NDArray[Any]:
    if tensor.requires_grad:
        tensor = tensor.detach()
    try:
        return tensor.numpy()
    except RuntimeError:  # the imaginary part of a conjugate, whose sign has yet to be turned
        return tensor.resolve_neg().numpy()


def _call(
    parameters: Tensors, inner_lr: Tensor | None, data: _Data, problem: str
) -> tuple[Any, NDArray[Any], list[Any], dict[str, Any]]:
    """The objective, theta, the rows, and their weights."""
    objective = with_rate(problem, None if inner_lr is None else inner_lr.detach().numpy())
    *rows, weight, weight_query = map(arrays_of, data)
    weights = {"sample_weight": weight, "sample_weight_query": weight_query}
    return objective, theta_of(parameters), rows, weights


def _scalar(value: float, dtype: np.dtype[Any]) -> Tensor:
    if dtype == FLOAT32 and abs(value) > LARGEST:  # of which NumPy would warn
        value = math.copysign(math.inf, value)
    return torch.from_numpy(np.array(value, dtype))


def _value_and_gradients(
    parameters: Tensors, inner_lr: Tensor | None, data: _Data, problem: str, rates: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The value, its gradient for theta, and with `rates` that for the inner rates."""
    objective, theta, rows, weights = _call(parameters, inner_lr, data, problem)
    if not rates:
        value, gradient = objective.value_and_gradient(theta, *rows, **weights)
        return _scalar(value, theta.dtype), torch.from_numpy(gradient), None
    assert inner_lr is not None
    value, gradient, _, slope, *_ = objective.evaluate(theta, *rows, **weights)
    by_rate = torch.from_numpy(np.array(slope)).to(inner_lr.dtype)
    return _scalar(value, theta.dtype), torch.from_numpy(gradient), by_rate


@torch.library.impl(_library, "meta_loss", "CPU")
def _value(parameters: Tensors, inner_lr: Tensor | None, *others: Any) -> Tensor:
    *data, problem = others
    objective, theta, rows, weights = _call(parameters, inner_lr, data, problem)
    return _scalar(objective.value(theta, *rows, **weights), theta.dtype)


@torch.library.impl(_library, "meta_gradient", "CPU")
def _all_three(
    parameters: Tensors, inner_lr: Tensor | None, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *data, problem, rates = others
    value, gradient, slope = _value_and_gradients(parameters, inner_lr, data, problem, rates)
    return value, gradient, gradient.new_empty(0) if slope is None else slope


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
    return value, gradient, gradient.new_empty(0)


# Autograd -----------------------------------------------------------------------------------------


class _MetaLoss(torch.autograd.Function):
    """The value, with the gradients for its way back."""

    @staticmethod
    def forward(
        ctx: Any, plain: bool, data: _Data, problem: str, inner_lr: Any, *parameters: Any
    ) -> Tensor:
        rates = ctx.needs_input_grad[3]
        if plain:
            value, gradient, slope = _value_and_gradients(
                parameters, inner_lr, data, problem, rates
            )
        else:
            with torch._C._AutoDispatchBelowAutograd():
                value, gradient, slope = _meta_gradient(parameters, inner_lr, *data, problem, rates)
        ctx.inner_lr, ctx.parameters = inner_lr, parameters
        if rates:
            ctx.save_for_backward(gradient, slope)
        else:
            ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> Any:
        gradients = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            sources = ctx.inner_lr, *ctx.parameters
            gradients = [_Once.apply(each, *sources) for each in gradients]
        gradient, *slope = gradients
        parameters = ctx.parameters
        parts = torch.split_with_sizes(gradient * change, [each.numel() for each in parameters])
        by_parameter = [
            part if each.dim() == 1 else part.view_as(each)
            for part, each in zip(parts, parameters, strict=True)
        ]
        by_rate = slope[0] * change.to(slope[0].dtype) if slope else None
        return None, None, None, by_rate, *by_parameter


def _are_plain(*lists: Tensors) -> bool:
    """Whether nothing stands between the operator and the memory of the tensors.

    Then it need not be called through PyTorch's dispatcher, which with what surrounds it takes
    16 µs. Where a graph is traced it must: there tensors are of other types, or a mode is on that
    wants to see operators.
    """
    return (
        all(map(_PLAIN.issuperset, [map(type, tensors) for tensors in lists]))
        and not is_in_torch_dispatch_mode()
        and not torch._C._are_functorch_transforms_active()
    )


_PLAIN = {Tensor, torch.nn.Parameter}
#: without the Python around it, which looks for functorch in every argument
_apply = super(torch.autograd.Function, _MetaLoss).apply


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


def _refuse_tangents(*lists: Tensors) -> None:
    """Raise RuntimeError in forward mode, where PyTorch itself would take a derivative of 0."""
    for each in chain.from_iterable(lists):
        if forward_ad.unpack_dual(each).tangent is not None:
            raise RuntimeError(
                "the derivative of fastmaml.torch.meta_loss is asked for in forward mode (jvp, "
                "jacfwd, dual tensors), in which it has none; accepted is backward()"
            )


_requires_grad = operator.attrgetter("requires_grad")


@torch.library.impl(_library, "meta_loss", "Autograd")
def differentiable(
    parameters: Tensors, inner_lr: Tensor | None, x: Tensors, y: Tensors, x_query: Tensors,
    y_query: Tensors, sample_weight: Tensors, sample_weight_query: Tensors, problem: str,
) -> Tensor:  # fmt: skip
    """Return the meta-loss: what the operator does where autograd is, and as good as the operator.

    Outside compiled code a call of it is shorter by a way through PyTorch's dispatcher.
    """
    data = x, y, x_query, y_query, sample_weight, sample_weight_query
    if forward_ad._current_level >= 0:
        _refuse_tangents(parameters, [] if inner_lr is None else [inner_lr], *data)
    if torch.is_grad_enabled() and (
        any(map(_requires_grad, parameters)) or (inner_lr is not None and inner_lr.requires_grad)
    ):
        plain = _are_plain(parameters, *data)
        apply = _apply if plain else _MetaLoss.apply
        return apply(plain, data, problem, inner_lr, *parameters)
    with torch._C._AutoDispatchBelowAutograd():
        return meta_loss(parameters, inner_lr, *data, problem)
