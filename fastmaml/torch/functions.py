"""The meta-loss of a network, its adaptation and its predictions: functions on tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..maml import MAML
from .modules import model_of, require_cpu, require_parameters, structure
from .operator import arrays_of, differentiable, theta_of
from .operator import meta_loss as operator
from .problems import problem_of, with_rate

__all__ = ["adapt", "meta_loss", "predict"]

Data: TypeAlias = Tensor | Sequence[Tensor]


def meta_loss(
    module: nn.Module,
    x: Data,
    y: Data,
    x_query: Data | None = None,
    y_query: Data | None = None,
    *,
    inner_lr: float | Sequence[Any] | Tensor,
    sample_weight: Data | None = None,
    sample_weight_query: Data | None = None,
    **options: Any,
) -> Tensor:
    """Return the loss of the adapted networks, over all tasks, to call ``backward()`` of.

    Each task adapts the module's parameters by gradient steps on its rows x, y; the loss is that
    of what comes out on x_query, y_query. ``backward()`` adds its exact gradient, through the
    steps, to ``.grad`` of the module's parameters, and of `inner_lr` if that requires it. No
    gradient goes to the data and their weights.

    Parameters
    ----------
    module : nn.Sequential or nn.Linear
        See `from_module`. Its parameters stay where they are.
    x, y : Tensor or list of Tensor
        Support rows of the tasks: (n_tasks, K, n_inputs) and (n_tasks, K, n_outputs), or
        (n_tasks, K) if there is one output; lists if tasks differ in rows. On the CPU. What a row
        of y is may be up to the loss: a label, say, of any integer dtype.
    x_query, y_query : Tensor or list of Tensor, optional
        Query rows. Without them the support rows serve as both.
    inner_lr : float, sequence or Tensor
        In one of the shapes that `fastmaml.MAML` takes. A tensor that requires grad gets one.
    sample_weight, sample_weight_query : Tensor or list of Tensor, optional
        Of each support and query row: (n_tasks, K), or a list of tensors (K_i,). Without query rows
        the former are for both.
    **options
        The other parameters of `fastmaml.MAML`: ``steps``, ``order``, ``loss`` and so on. The loss
        of a task is ``"half_sse"``, ½ Σ r², unless `loss` says otherwise (``"mse"`` is
        ``nn.MSELoss``), and tasks are summed unless ``task_mean=True``.

    Returns
    -------
    loss : Tensor, shape ()
        In the dtype of the parameters.

    Raises
    ------
    TypeError, ValueError
        For a module, data or options of another kind, shape or value; for NaN and inf.
    RuntimeError
        Where the gradient is itself differentiated.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from fastmaml.torch import meta_loss
    >>> net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1))
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> x, y = torch.rand(25, 10, 1), torch.rand(25, 10, 1)
    >>> x_query, y_query = torch.rand(25, 10, 1), torch.rand(25, 10, 1)
    >>> optimizer.zero_grad()
    >>> loss = meta_loss(net, x, y, x_query, y_query, inner_lr=0.01, steps=5, loss="mse")
    >>> loss.backward()
    >>> optimizer.step()
    """
    parameters, rate, problem = _of_module(module, inner_lr, options)
    data = x, y, x_query, y_query, sample_weight, sample_weight_query
    return loss_of(parameters, rate, data, problem)


def loss_of(
    parameters: list[Tensor], rate: Tensor | None, data: tuple[Any, ...], problem: str
) -> Tensor:
    """Check the data, as `meta_loss` has them, and call the operator."""
    x, y, x_query, y_query, weight, weight_query = data
    if x_query is None and y_query is None:
        query: Any = [], []
    elif x_query is None or y_query is None:
        given, missing = ("y_query", "x_query") if x_query is None else ("x_query", "y_query")
        raise ValueError(f"{given} is given, {missing} is not; accepted are both or neither")
    else:
        query = _rows("x_query", x_query), _rows("y_query", y_query)
    weight = [] if weight is None else _rows("sample_weight", weight)
    weight_query = [] if weight_query is None else _rows("sample_weight_query", weight_query)
    call = operator if torch.compiler.is_compiling() else differentiable
    rows = _rows("x", x), _rows("y", y), *query
    return call(parameters, rate, *rows, weight, weight_query, problem)


def adapt(
    module: nn.Module, x: Data, y: Data, *, inner_lr: float | Sequence[Any] | Tensor,
    sample_weight: Data | None = None, **options: Any,
) -> Tensor:  # fmt: skip
    """Return each task's parameters after it adapted to its rows.

    Parameters
    ----------
    module, x, y, inner_lr, sample_weight, **options
        As for `meta_loss`.

    Returns
    -------
    adapted : Tensor, shape (n_tasks, P)
        (P,) for a single task. ``torch.nn.utils.vector_to_parameters`` puts those of one into a
        network. No gradient goes through it.

    Raises
    ------
    TypeError, ValueError
        As `meta_loss`.

    Examples
    --------
    >>> import torch
    >>> from fastmaml.torch import adapt
    >>> net = torch.nn.Linear(2, 1)
    >>> adapt(net, torch.rand(4, 5, 2), torch.rand(4, 5, 1), inner_lr=0.01).shape
    torch.Size([4, 3])
    """
    objective, theta = _outside(*_of_module(module, inner_lr, options))
    (x, y), weights = arrays(sample_weight, x=x, y=y)
    return as_tensors(objective.adapt(theta, x, y, **weights))


def predict(
    module: nn.Module, x: Data, y: Data, x_new: Data, *, inner_lr: float | Sequence[Any] | Tensor,
    sample_weight: Data | None = None, **options: Any,
) -> Tensor | list[Tensor]:  # fmt: skip
    """Adapt to each task's rows (x, y), then predict at `x_new`.

    Parameters
    ----------
    module, x, y, inner_lr, sample_weight, **options
        As for `meta_loss`.
    x_new : Tensor or list of Tensor
        (n_tasks, rows, n_inputs), a list of tensors (rows_i, n_inputs), or (rows, n_inputs) for all
        tasks.

    Returns
    -------
    f : Tensor, shape (n_tasks, rows, n_outputs), or list of Tensor
        As `fastmaml.MAML.predict` has it. No gradient goes through it.

    Raises
    ------
    TypeError, ValueError
        As `meta_loss`.

    Examples
    --------
    >>> import torch
    >>> from fastmaml.torch import predict
    >>> net = torch.nn.Linear(2, 1)
    >>> x, y, x_new = torch.rand(4, 5, 2), torch.rand(4, 5, 1), torch.rand(7, 2)
    >>> predict(net, x, y, x_new, inner_lr=0.01).shape
    torch.Size([4, 7, 1])
    """
    objective, theta = _outside(*_of_module(module, inner_lr, options))
    rows, weights = arrays(sample_weight, x=x, y=y, x_new=x_new)
    return as_tensors(objective.predict(theta, *rows, **weights))


# What they share ----------------------------------------------------------------------------------


def _of_module(
    module: nn.Module, inner_lr: Any, options: dict[str, Any]
) -> tuple[list[Tensor], Tensor | None, str]:
    """The parameters, the inner rate if that is a tensor, and the text for the operator."""
    sizes, words, bias, parameters = structure(module)
    require_parameters("module", parameters)
    rate, number = None, inner_lr
    if isinstance(inner_lr, Tensor):
        require_parameters("inner_lr", [inner_lr])
        rate, number = inner_lr, 0.0
    elif isinstance(inner_lr, float):
        # One that changes from call to call is none of the constants that make a text, but one
        # that comes again is: a tensor more takes the operator some microseconds.
        if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
            rate, number = torch.full((), inner_lr, dtype=torch.float64, device="cpu"), 0.0
        else:
            number = float(inner_lr)
            if number not in _met:
                _met.append(number)
                rate, number = torch.from_numpy(np.array(inner_lr)), 0.0
    else:
        number = _frozen("inner_lr", inner_lr)
    given = tuple([(name, _frozen(name, options[name])) for name in options]) if options else ()
    return parameters, rate, _problem((sizes, words, bias), number, given)


#: the last inner rates that were numbers
_met: deque[float] = deque(maxlen=8)


@torch.compiler.assume_constant_result
def _problem(layers: Any, inner_lr: Any, options: Any) -> str:
    try:
        return _remembered(layers, inner_lr, options)[0]
    except TypeError:  # what cannot be remembered, or an argument that is wrong
        text, objective = _text_and_objective(layers, inner_lr, options)
        _others.append(objective)
        return text


def _text_and_objective(layers: Any, inner_lr: Any, options: Any) -> tuple[str, MAML]:
    """An objective's text, and the objective, which a text may only be the name of."""
    objective = MAML(model_of(*layers), inner_lr, **dict(options))
    return problem_of(objective), objective


_remembered = lru_cache(maxsize=256, typed=True)(_text_and_objective)
#: objectives that are to be there for a call, though they cannot be remembered
_others: deque[MAML] = deque(maxlen=16)


def _frozen(name: str, value: Any) -> Any:
    """An option as what can be remembered: arrays and lists become tuples."""
    if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{name} {'holds' if name == 'inner_lr' else 'is or holds'} a tensor that requires "
            "grad, and none would go there; accepted are inner_lr as one tensor (torch.stack), and "
            "what does not require grad"
        )
    if isinstance(value, np.ndarray | Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple([_frozen(name, each) for each in value])
    return value


def _outside(parameters: list[Tensor], rate: Tensor | None, problem: str) -> tuple[Any, Any]:
    """The objective and theta of a call that no gradient goes through."""
    return with_rate(problem, None if rate is None else rate.detach().numpy()), theta_of(parameters)


def arrays(sample_weight: Any, **data: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return data as fastmaml takes them, without a copy, by their names; and their weights."""
    with torch.no_grad():
        rows = [arrays_of(_rows(name, given)) for name, given in data.items()]
        if sample_weight is None:
            return rows, {}
        return rows, {"sample_weight": arrays_of(_rows("sample_weight", sample_weight))}


def as_tensors(result: NDArray[Any] | list[NDArray[Any]]) -> Any:
    """Return results as tensors of the same memory."""
    if isinstance(result, list):
        return [torch.from_numpy(each) for each in result]
    return torch.from_numpy(np.asarray(result))


_READABLE = {
    torch.float64, torch.float32, torch.float16, torch.bool, torch.uint8, torch.int8, torch.int16,
    torch.int32, torch.int64,
}  # fmt: skip


def _rows(name: str, given: Any) -> list[Tensor]:
    """The rows of tasks as a list of tensors: of one, or of one for each task."""
    tensors = [given] if isinstance(given, Tensor) or not isinstance(given, list | tuple) else given
    for each in tensors:
        if (
            not isinstance(each, Tensor)
            or not each.is_cpu
            or each.requires_grad
            or each.dtype not in _READABLE
            or each.layout != torch.strided
        ):
            _require_rows(name, each)
    if tensors is not given:
        return [given]
    if not tensors:
        raise ValueError(f"{name} has 0 tasks; accepted are one or more")
    # A list of one is a batch of one task, and a tensor alone must say so by its axes.
    return list(tensors) if len(tensors) > 1 else [tensors[0][None]]


def _require_rows(name: str, given: Any) -> None:
    """Raise an error for what is no tensor of rows that fastmaml can read."""
    if not isinstance(given, Tensor):
        raise TypeError(
            f"{name} is or holds a {type(given).__name__}; accepted are a torch.Tensor, or a list "
            "of them"
        )
    require_cpu(name, given)
    if given.dtype not in _READABLE:
        raise TypeError(
            f"{name} has dtype {given.dtype}; accepted are real numbers that NumPy has, such as "
            f"{name}.float()"
        )
    if given.layout != torch.strided:
        raise TypeError(f"{name} has layout {given.layout}; accepted is {name}.to_dense()")
    if given.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{name} requires grad, and no gradient goes to data and weights; accepted is "
            f"{name}.detach()"
        )
