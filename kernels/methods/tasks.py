"""What a method is handed: the rows of all tasks, the inner steps, and where a chunk's sums go.

Kernels make these tuples of their arguments, once, and hand them on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.records import layer_of
from ..vectors.pointers import offset


class Tasks(NamedTuple):
    """One side of all tasks, support or query: their rows, and the scale of the loss."""

    x: Any  # (N, n_in)
    y: Any  # (N, n_out)
    offsets: Any  # (n_tasks + 1,): task i has the rows offsets[i] : offsets[i + 1]
    scale: float
    mean: bool  # whether the scale is divided by a task's number of rows


class Rows(NamedTuple):
    """The rows of one task on one side. Its loss is ``scale / 2`` times the sum of squares."""

    x: Any
    y: Any
    n: int
    scale: float


class Inner(NamedTuple):
    """The inner steps, and what is wanted of them.

    Where a method has no use for a field, it holds anything of the type.
    """

    rates: Any  # (S, L); (S, P) for explicit
    parameter_rates: Any  # a padded vector, if each parameter has its own rate
    per_parameter: bool
    momentum: float
    proximal: float
    steps: int  # S
    weights: Any  # (S + 1,) of the query loss after each step
    exact: bool
    mode: int


class Chunks(NamedTuple):
    """The chunks that a call works: chunk c is the tasks ``bounds[c] : bounds[c + 1]``."""

    bounds: Any
    first: int
    last: int


class Sums(NamedTuple):
    """Where sums go: for each chunk of the call a row of gradients and one of rate gradients."""

    gradients: Any
    gradient_size: int
    rates: Any
    rate_size: int
    values: Any  # (n_tasks,)


class Vectors(NamedTuple):
    """One vector for all tasks (stride 0), or one for each."""

    numbers: Any
    stride: int


@helper
def vectors_of(array):
    """Vectors from (1, P) or (n_tasks, P)."""
    return Vectors(array, array.shape[1] if array.shape[0] > 1 else 0)


@helper
def vector_of(vectors, task):
    """The vector of one task."""
    return offset(vectors.numbers, task * vectors.stride)


@helper
def scale_of(tasks, task):
    """The scale of a task's loss, as its gradient has it."""
    n = tasks.offsets[task + 1] - tasks.offsets[task]
    return tasks.scale / n if tasks.mean else tasks.scale


@helper
def rows_of(net, tasks, task):
    """The rows of one task."""
    first = tasks.offsets[task]
    n_in, n_out = layer_of(net, 1).n_in, layer_of(net, net.n_layers).n_out
    return Rows(
        offset(tasks.x, first * n_in), offset(tasks.y, first * n_out),
        tasks.offsets[task + 1] - first, scale_of(tasks, task),
    )  # fmt: skip


@helper
def gradient_row(sums, chunks, chunk):
    """Where the gradient of a chunk goes."""
    return offset(sums.gradients, (chunk - chunks.first) * sums.gradient_size)


@helper
def rate_row(sums, chunks, chunk):
    """Where the gradient of the rates of a chunk goes."""
    return offset(sums.rates, (chunk - chunks.first) * sums.rate_size)
