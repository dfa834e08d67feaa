"""Hessian-vector products of many tasks' losses, by the R-operator (equation 12, times v)."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import prange

from ..compile.jit import kernel
from ..compile.link import linked
from ..compile.records import net_of
from ..models.padded import gather, spread
from ..models.passes import Point, derive
from ..vectors.pointers import offset
from .tasks import Tasks, rows_of, vector_of, vectors_of
from .trajectory import memory_of, point_at, sweep


class Products(NamedTuple):
    """Each task's loss, gradient and Hessian times v; the flags say which are wanted."""

    values: Any
    gradients: Any
    with_gradients: bool
    products: Any
    with_products: bool


@linked
def _products_work(worker, n_workers, net, tasks, n_tasks, theta, v, scratch, stride, out):
    memory = memory_of(net, 0, 0.0, offset(scratch, worker * stride))
    at, along = point_at(net, memory, 0), Point(memory.direction, memory.vc)
    for task in range(worker, n_tasks, n_workers):
        spread(net, vector_of(theta, task), at.w)
        derive(net, at)
        if out.with_products:
            spread(net, vector_of(v, task), along.w)
            derive(net, along)
        order = 2 if out.with_products else 1
        out.values[task] = sweep(net, rows_of(net, tasks, task), at, along, memory, order)
        if out.with_gradients:
            gather(net, memory.g, offset(out.gradients, task * net.n_theta))
        if out.with_products:
            gather(net, memory.hv, offset(out.products, task * net.n_theta))


@kernel
def hessian_products(
    n_workers, table, theta, v, x, y, offsets, scratch, values, gradients, products,
):  # fmt: skip
    """Each task's loss, gradient and Hessian times v; the outputs that are empty are left out.

    ``theta`` is (1, P) or (n_tasks, P), and so is ``v``; ``values`` (n_tasks,) is always written.
    """
    for worker in prange(n_workers):
        out = Products(values, gradients, gradients.size > 0, products, products.size > 0)
        _products_work(
            worker, n_workers, net_of(table), Tasks(x, y, offsets, 0), offsets.size - 1,
            vectors_of(theta), vectors_of(v), scratch, scratch.shape[1], out,
        )  # fmt: skip
