"""A block of tasks at work: what the functions of the factored method hand on, and where it lies.

`Run` is the block, `Pass` one pass over the rows of a side, `Pair` the rows of which a layer's
``P^T Q`` is made: an update, or a part of the adjoint.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.records import layer_of
from ..models.layers import KINDS, value
from ..models.passes import Block, Point
from ..vectors.pointers import offset
from .blocks import (
    QUERY_KINDS,
    QUERY_PRODUCTS,
    SUPPORT_PRODUCTS,
    BlockMemory,
    Side,
    count_of,
    losses_of,
    memory_of,
    n_rows,
    row_of,
)
from .tasks import Inner


class Run(NamedTuple):
    """A block of tasks: theta, the rows of both sides, and what the steps have left of them."""

    shared: Point
    support: Side
    query: Side
    memory: BlockMemory
    inner: Inner
    losses: int  # those that count


class KeptProducts(NamedTuple):
    """The small products of one pass with the rows of every step."""

    numbers: Any
    kinds: int
    steps: int
    stride: int


class Pass(NamedTuple):
    """A pass of the rows of a side, with the weights after so many steps."""

    side: Side
    block: Block
    products: KeptProducts
    steps: int


@helper
def run_of(net, inner, shared, support, query, scratch):
    """A block of tasks, of their rows, theta padded and transposed, and a worker's scratch."""
    losses = losses_of(inner.steps, inner.weights)
    memory = memory_of(net, inner.steps, losses, support, query, scratch)
    at = Point(shared, offset(shared, net.n_padded))
    return Run(at, support, query, memory, inner, losses)


@helper
def rate_of(net, run, step, number):
    """alpha of a step and layer."""
    return run.inner.rates[step * net.n_layers + number - 1]


# Row blocks --------------------------------------------------------------------------------------


@helper
def support_block(net, run, step):
    """The row block of the support rows at a step."""
    rows = n_rows(run.support)
    return Block(rows, offset(run.memory.support, step * KINDS * rows * net.width))


@helper
def query_block(net, run, loss):
    """The row block of the query rows of a loss, counted from the first that counts."""
    rows = n_rows(run.query)
    return Block(rows, offset(run.memory.query, loss * QUERY_KINDS * rows * net.width))


@helper
def support_pass(net, run, step):
    """The pass of the support rows at a step."""
    products = support_products(net, run, step)
    return Pass(run.support, support_block(net, run, step), products, step)


@helper
def query_pass(net, run, step, loss):
    """The pass of the query rows of a loss, which is that after so many steps."""
    return Pass(run.query, query_block(net, run, loss), query_products(net, run, loss), step)


class Pair(NamedTuple):
    """Rows p (rows, ld_out) and q (rows, ld_in), of a layer's ``P^T Q``."""

    rows: int
    p: Any
    q: Any


@helper
def pair_of(net, block, number, p_kind, q_kind):
    """The rows of a block that are of one kind behind a layer, and of another before it."""
    p, q = value(net, block, p_kind, number + 1), value(net, block, q_kind, number)
    return Pair(block.rows, p, q)


@helper
def task_pair(layer, side, pair, task):
    """One task's rows of a pair."""
    first = row_of(side, task)
    p, q = offset(pair.p, first * layer.ld_out), offset(pair.q, first * layer.ld_in)
    return Pair(count_of(side, task), p, q)


# Small products ----------------------------------------------------------------------------------


@helper
def support_products(net, run, after):
    """Those of the support rows of step ``after``."""
    steps, memory = run.inner.steps, run.memory
    start = after * net.n_common * SUPPORT_PRODUCTS * steps * memory.pairs
    return KeptProducts(offset(memory.kept, start), SUPPORT_PRODUCTS, steps, memory.pairs)


@helper
def query_products(net, run, loss):
    """Those of the query rows of a loss."""
    steps, memory = run.inner.steps, run.memory
    start = loss * net.n_common * QUERY_PRODUCTS * steps * memory.q_pairs
    return KeptProducts(offset(memory.q_kept, start), QUERY_PRODUCTS, steps, memory.q_pairs)


@helper
def products_with(net, products, number, kind, step):
    """Those of one layer and kind, with the rows of one step: one task after the other."""
    place = (layer_of(net, number).common * products.kinds + kind) * products.steps + step
    return offset(products.numbers, place * products.stride)


# Sets of own weights -----------------------------------------------------------------------------


@helper
def own_after(run, steps):
    """The own weights after one or more steps."""
    return offset(run.memory.own, (steps - 1) * run.memory.own_size)


@helper
def adjoint_of(run):
    """The adjoint of the own weights, which lies behind those after the last step."""
    return own_after(run, run.inner.steps + 1)
