"""Adaptation alone: equation 8 for many tasks, and predictions from where it ends."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import prange

from ..compile.jit import kernel
from ..compile.link import linked
from ..compile.records import net_of
from ..models.padded import gather, spread
from ..models.passes import derive
from ..vectors.pointers import offset
from ..vectors.reduce import count_beyond, squares
from .modes import VALUE
from .predict import predict_rows
from .tasks import Inner, Tasks, rows_of
from .trajectory import adapt_task, memory_of, point_at


class New(NamedTuple):
    """Where adapted parameters or predictions go; the rows of the latter."""

    adapted: Any  # (n_tasks, P)
    with_adapted: bool
    x: Any
    offsets: Any
    f: Any  # (N, n_out)
    with_f: bool


@linked
def _adapt_work(
    worker, n_workers, net, inner, support, theta, first, last, scratch, stride, limit, new
):
    """Leave how many parameters are beyond the limit at the start of the worker's scratch."""
    scratch, n_beyond = offset(scratch, worker * stride), 0
    memory = memory_of(net, inner.steps, inner.momentum, scratch)
    at = point_at(net, memory, inner.steps)
    spread(net, theta, memory.trajectory)
    derive(net, point_at(net, memory, 0))
    for task in range(first + worker, last, n_workers):
        adapt_task(net, inner, rows_of(net, support, task), memory)
        memory.g[0] = limit  # the gradient has done its service
        n_beyond += count_beyond(at.w, net.n_padded, memory.g)
        if new.with_adapted:
            gather(net, at.w, offset(new.adapted, task * net.n_theta))
        if new.with_f:
            if inner.steps > 0:
                derive(net, at)
            first_row, n_rows = new.offsets[task], new.offsets[task + 1] - new.offsets[task]
            x, f = offset(new.x, first_row * net.n_in), offset(new.f, first_row * net.n_out)
            predict_rows(net, x, n_rows, at, memory.rows, f)
    scratch[0] = n_beyond


@kernel
def adapt(
    n_workers, table, theta, x, y, offsets, first, last, rates,
    parameter_rates, momentum, proximal, scratch, reach, adapted, x_new, new_offsets, f,
) -> float:  # fmt: skip
    """Equation 8 alone: parameters into ``adapted`` (n_tasks, P), or predictions into ``f``.

    Of the tasks first:last. The one of the two outputs that is empty is left out. Returns how many
    adapted parameters are NaN, or larger than `reach` times the length of theta (or than `reach`):
    where there are some, a task may have diverged.
    """
    limit = reach * max(1.0, math.sqrt(squares(theta, theta.size)))
    for worker in prange(n_workers):
        inner = Inner(
            rates, parameter_rates, parameter_rates.size > 0, momentum, proximal, rates.shape[0],
            rates, True, VALUE,
        )  # fmt: skip
        new = New(adapted, adapted.size > 0, x_new, new_offsets, f, f.size > 0)
        _adapt_work(
            worker, n_workers, net_of(table), inner, Tasks(x, y, offsets, 0), theta, first, last,
            scratch, scratch.shape[1], limit, new,
        )  # fmt: skip
    n_beyond = 0.0
    for worker in range(n_workers):
        n_beyond += scratch[worker, 0]
    return n_beyond
