"""What a method is handed: the rows of all tasks, the inner steps, and where a chunk's sums go.

Kernels make these tuples of their arguments, once, and hand them on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.records import loss_of
from ..losses.passes import scale_of
from ..vectors.pointers import offset
from .modes import RATES, VALUE


class Tasks(NamedTuple):
    """One side of all tasks, support or query: their rows."""

    x: Any  # (N, n_in)
    y: Any  # (N, ld_y)
    offsets: Any  # (n_tasks + 1,): task i has the rows offsets[i] : offsets[i + 1]
    side: int  # 0 support, 1 query


class Rows(NamedTuple):
    """The rows of one task on one side, and the scale of its loss."""

    x: Any
    y: Any
    n: int
    scale: float
    side: int
    ld_y: int  # numbers in a row of y


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
def rows_of(net, tasks, task):
    """The rows of one task."""
    first, last = tasks.offsets[task], tasks.offsets[task + 1]
    ld_y = loss_of(net, tasks.side).ld_y
    x, y = offset(tasks.x, first * net.n_in), offset(tasks.y, first * ld_y)
    return Rows(x, y, last - first, scale_of(net, tasks.side, last - first, y), tasks.side, ld_y)


@helper
def scaled_rows(rows, factor):
    """The rows of a task, whose loss is multiplied by a factor."""
    return Rows(rows.x, rows.y, rows.n, factor * rows.scale, rows.side, rows.ld_y)


@helper
def clear_sums(sums, chunks, chunk, mode):
    """Set to zero what a mode sums up in a chunk."""
    row, rates = gradient_row(sums, chunks, chunk), rate_row(sums, chunks, chunk)
    for i in range(sums.gradient_size if mode > VALUE else 0):
        row[i] = 0
    for i in range(sums.rate_size if mode == RATES else 0):
        rates[i] = 0


@helper
def gradient_row(sums, chunks, chunk):
    """Where the gradient of a chunk goes."""
    return offset(sums.gradients, (chunk - chunks.first) * sums.gradient_size)


@helper
def rate_row(sums, chunks, chunk):
    """Where the gradient of the rates of a chunk goes."""
    return offset(sums.rates, (chunk - chunks.first) * sums.rate_size)
