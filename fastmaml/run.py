"""From a plan to a result: allocate, call a method's kernel once for each piece, return arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import plan
from .kernels import dense as dense_kernels
from .kernels import explicit as explicit_kernels
from .kernels import factored as factored_kernels
from .kernels import predict as predict_kernels
from .kernels.jit import Kernel
from .kernels.mlp import padded_sizes
from .kernels.modes import ADAPT, GRADIENT, RATES, VALUE

if TYPE_CHECKING:
    from .checks import InnerRate
    from .models.base import Network
    from .tasks import Rows

__all__ = [
    "ADAPT", "GRADIENT", "RATES", "VALUE", "Loss", "Problem", "Result", "derivatives", "predict_rows", "solve",
]  # fmt: skip


class Loss(NamedTuple):
    """Task loss: ``scale / 2`` times the sum of squared residuals, divided by the rows if ``mean``."""

    scale: float
    mean: bool


class Problem(NamedTuple):
    """All that a method needs to know beside theta and the data."""

    model: Network
    rate: InnerRate
    steps: int
    exact: bool
    loss: Loss
    step_weights: NDArray[np.float64]
    method: str


class Result(NamedTuple):
    """What a method computed; what its mode does not include is empty."""

    task_values: NDArray[np.float64]
    gradient: NDArray[Any]
    rate_gradient: NDArray[np.float64]  # (S, n_layers) or (P,), as the rate's canonical form
    adapted: NDArray[Any]


Call = Callable[[int, int], None]


def solve(problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int) -> Result:
    """Run a method on a batch of tasks."""
    model, n_tasks = problem.model, support.n_tasks
    work = plan.work_of(model, len(support.x), len(query.x), problem.steps)
    chunks = plan.chunks_of(support.offsets, work)
    workers = plan.workers_for(work, len(chunks) - 1)
    result = Result(
        np.empty(0 if mode == ADAPT else n_tasks),
        np.empty(model.n_params if mode > VALUE else 0, theta.dtype),
        np.empty(0),
        np.empty((n_tasks if mode == ADAPT else 0, model.n_params), theta.dtype),
    )
    method = plan.choose_method(problem.method, problem.rate.per_parameter is not None)
    if mode == ADAPT and method == "factored":
        method = "dense"  # adapted parameters are what factored never forms
    return _METHODS[method](problem, theta, support, query, mode, chunks, workers, result)


def _rows(mode: int, chunks: NDArray[np.int64], size: int, dtype: Any) -> NDArray[Any]:
    """A row for each chunk of a piece, or none where the mode has no use for them."""
    return np.empty((min(len(chunks) - 1, plan.PIECE_CHUNKS) if mode else 0, size), dtype)


def _dense(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
    chunks: NDArray[np.int64], workers: int, result: Result,
) -> Result:  # fmt: skip
    model, rate, dtype = problem.model, problem.rate, theta.dtype
    table = plan.table_of(model, dtype)
    parameter_rates = np.zeros(0 if rate.per_parameter is None else padded_sizes(table)[0], dtype)
    if rate.per_parameter is not None:
        parameter_rates[plan.padded_index(model, dtype)] = rate.per_parameter
    longest = max(np.diff(support.offsets).max(), np.diff(query.offsets).max())
    scratch = np.empty(
        (workers, dense_kernels.scratch_size(table, int(longest), problem.steps)), dtype
    )
    rate_total = _run_pieces(
        dense_kernels.dense, problem, theta, support, query, mode, chunks, workers, result,
        (parameter_rates,), scratch, parameter_rates.size, (result.adapted,),
    )  # fmt: skip
    if mode == RATES and rate.per_parameter is not None:
        rate_total = rate_total[plan.padded_index(model, dtype)]
    return result._replace(rate_gradient=rate_total)


def _factored(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
    chunks: NDArray[np.int64], workers: int, result: Result,
) -> Result:  # fmt: skip
    table = plan.table_of(problem.model, theta.dtype)
    longest = max(np.diff(support.offsets).max(), np.diff(query.offsets).max())
    size = factored_kernels.scratch_size(
        table,
        int(np.diff(support.offsets[chunks]).max()),
        int(np.diff(query.offsets[chunks]).max()),
        int(longest),
        problem.steps,
        int(np.count_nonzero(problem.step_weights)),
    )
    rate_total = _run_pieces(
        factored_kernels.factored, problem, theta, support, query, mode, chunks, workers, result,
        (), np.empty((workers, size), theta.dtype), 0, (),
    )  # fmt: skip
    return result._replace(rate_gradient=rate_total)


def _run_pieces(
    kernel: Kernel, problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
    chunks: NDArray[np.int64], workers: int, result: Result, own_rates: tuple[NDArray[Any], ...],
    scratch: NDArray[Any], n_parameter_rates: int, own_outputs: tuple[NDArray[Any], ...],
) -> NDArray[np.float64]:  # fmt: skip
    """Call dense or factored, which share most of their arguments; returns the gradient of the rates."""
    model, dtype = problem.model, theta.dtype
    table = plan.table_of(model, dtype)
    n_padded, n_transposed = padded_sizes(table)
    rates = np.zeros((problem.steps, model.n_layers), dtype)
    if problem.rate.per_layer is not None:
        rates[...] = problem.rate.per_layer
    total = np.zeros(n_padded if mode > VALUE else 0, dtype)
    rate_total = np.zeros((n_parameter_rates or rates.size) if mode == RATES else 0)
    shared = np.empty(n_padded + n_transposed, dtype)
    data = (
        table, theta, shared, support.x, support.y, support.offsets, query.x, query.y, query.offsets, chunks,
    )  # fmt: skip
    arguments = (
        problem.loss.scale, problem.loss.mean, problem.exact, rates, *own_rates,
        problem.step_weights, mode, scratch, _rows(mode > VALUE, chunks, total.size, dtype), total,
        _rows(mode == RATES, chunks, rate_total.size, np.float64), rate_total,
        result.task_values, *own_outputs, result.gradient,
    )  # fmt: skip
    for first, last in plan.pieces_of(len(chunks) - 1):
        kernel(workers, *data, first, last, *arguments)
    return rate_total if n_parameter_rates or mode != RATES else rate_total.reshape(rates.shape)


def _explicit(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
    chunks: NDArray[np.int64], workers: int, result: Result,
) -> Result:  # fmt: skip
    model, rate, dtype = problem.model, problem.rate, theta.dtype
    table = plan.table_of(model, dtype)
    starts = plan.layer_starts(model)
    rates = np.empty((problem.steps, model.n_params), dtype)
    if rate.per_layer is None:
        rates[...] = rate.per_parameter
    else:
        rates[...] = np.repeat(rate.per_layer, np.diff([*starts, model.n_params]), axis=1)
    result.gradient[...] = 0
    rate_total = np.zeros(rates.shape if mode == RATES else (0, 0))
    scratch = np.empty((workers, explicit_kernels.scratch_size(table, problem.steps)), dtype)
    arguments = (
        problem.loss.scale, problem.loss.mean, problem.exact, rates, problem.step_weights, mode,
        scratch, _rows(mode > VALUE, chunks, model.n_params, dtype), result.gradient,
        _rows(mode == RATES, chunks, rate_total.size, np.float64), rate_total,
        result.task_values, result.adapted,
    )  # fmt: skip
    for first, last in plan.pieces_of(len(chunks) - 1):
        explicit_kernels.explicit(
            workers, table, theta, support.x, support.y, support.offsets,
            query.x, query.y, query.offsets, chunks, first, last, *arguments,
        )  # fmt: skip
    if mode == RATES and rate.per_layer is None:
        rate_total = rate_total.sum(axis=0)
    elif mode == RATES:
        rate_total = np.add.reduceat(rate_total, starts, axis=1)
    return result._replace(rate_gradient=rate_total)


_METHODS = {"dense": _dense, "explicit": _explicit, "factored": _factored}


class Derivatives(NamedTuple):
    """Per sample: residuals (N, n_out), jacobians (N, n_out, P); per task: gradients, hessians."""

    residuals: NDArray[Any]
    jacobians: NDArray[Any]
    gradients: NDArray[Any]
    hessians: NDArray[Any]


def derivatives(
    model: Network, theta: NDArray[Any], rows: Rows, loss: Loss, wanted: tuple[str, ...]
) -> Derivatives:
    """Compute those derivatives of f and of the task losses that are wanted; the others are empty."""
    p, n_out, n_rows, n_tasks = model.n_params, model.n_outputs, len(rows.x), rows.n_tasks
    shapes = Derivatives((n_rows, n_out), (n_rows, n_out, p), (n_tasks, p), (n_tasks, p, p))
    outputs = [
        np.empty(shape if name in wanted else (0,) * len(shape), theta.dtype)
        for name, shape in zip(Derivatives._fields, shapes, strict=True)
    ]
    y = rows.y if len(rows.y) else np.zeros((n_rows, n_out), theta.dtype)
    table = plan.table_of(model, theta.dtype)
    work = plan.work_of(model, n_rows, 0, 1) * (p if "hessians" in wanted else 1)
    workers = plan.workers_for(work, n_tasks)
    scratch = np.empty((workers, explicit_kernels.scratch_size(table, 0)), theta.dtype)
    explicit_kernels.derivatives(
        workers, table, np.atleast_2d(theta), rows.x, y, rows.offsets, loss.scale, loss.mean,
        scratch, *outputs,
    )  # fmt: skip
    return Derivatives(*outputs)


def predict_rows(
    model: Network, theta: NDArray[Any], x: NDArray[Any], offsets: NDArray[np.int64]
) -> NDArray[Any]:
    """Return f (N, n_outputs) for rows x (N, n_inputs) of tasks; theta is (P,) or (n_tasks, P)."""
    table = plan.table_of(model, theta.dtype)
    n_tasks = len(offsets) - 1
    workers = plan.workers_for(2 * len(x) * model.n_params, n_tasks)
    longest = len(x) if n_tasks == 1 else int(np.diff(offsets).max())
    scratch = np.empty((workers, predict_kernels.scratch_size(table, longest)), theta.dtype)
    out = np.empty((len(x), model.n_outputs), theta.dtype)
    parameters = theta.reshape(-1, model.n_params)
    predict_kernels.predict(workers, table, parameters, x, offsets, scratch, out)
    return out
