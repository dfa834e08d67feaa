"""Blocks of tasks, whose rows are worked together, and where in a worker's memory they lie.

Of each step the support rows keep all six kinds of `layers` (values ... R-deltas); of each loss
that counts, the query rows keep the first four. Beside them lie the small products that later
passes read again (``products``), the own weights of small layers (``own_weights``) and room for one
product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compile.jit import helper
from ..compile.records import View, layer_of
from ..models.layers import KINDS
from ..models.passes import Block
from ..vectors.emitter import LINE, on_line
from ..vectors.pointers import offset

QUERY_KINDS = 4  # A, D1, D2, DELTA
#: kinds of small products: of a pass forward and backward, and of an R-pass forward and backward
SUPPORT_PRODUCTS, QUERY_PRODUCTS = 4, 2


class Side(NamedTuple):
    """The rows of the tasks first:last, support or query."""

    x: Any
    y: Any
    offsets: Any  # of all tasks
    first: int
    last: int


@helper
def side_of(tasks, first, last):
    """The rows of some tasks."""
    return Side(tasks.x, tasks.y, tasks.offsets, first, last)


@helper
def n_rows(side):
    """How many rows the tasks have."""
    return side.offsets[side.last] - side.offsets[side.first]


@helper
def row_of(side, task):
    """A task's first row, counted from the first of the block."""
    return side.offsets[task] - side.offsets[side.first]


@helper
def count_of(side, task):
    """How many rows a task has."""
    return side.offsets[task + 1] - side.offsets[task]


class Memory(NamedTuple):
    """Where the parts of a worker's memory begin, for one block of tasks."""

    support: Any  # S row blocks
    query: Any  # a row block for each loss that counts
    kept: Any  # small products of support rows with those of each step
    q_kept: Any  # and of query rows
    pairs: int  # numbers in one kind of the former
    q_pairs: int  # and of the latter
    own: Any  # own weights: a set after each step, and the adjoint's
    own_size: int  # numbers in a set
    small: Any  # room for one product


def _places(
    n_common: int, width: int, own_size: int, steps: int, losses: int, rows: int, q_rows: int,
    pairs: int, q_pairs: int,
) -> tuple[int, ...]:  # fmt: skip
    """Where query blocks, the small products, own weights and the rest begin."""
    query = KINDS * steps * rows * width
    kept = query + QUERY_KINDS * losses * q_rows * width
    q_kept = kept + n_common * steps * SUPPORT_PRODUCTS * steps * pairs
    own = q_kept + n_common * steps * QUERY_PRODUCTS * losses * q_pairs
    own = (own + LINE - 1) // LINE * LINE  # as on_line
    return query, kept, q_kept, own, own + (steps + 1) * own_size


_compiled_places = helper(_places)


@helper
def memory_of(net, steps, losses, support, query, scratch):
    """A worker's scratch, cut up for a block of tasks."""
    pairs, q_pairs = 0, 0
    for task in range(support.first, support.last):
        pairs += count_of(support, task) * count_of(support, task)
        q_pairs += count_of(query, task) * count_of(support, task)
    own_size = (support.last - support.first) * net.own_size
    p = _compiled_places(
        net.n_common, net.width, own_size, steps, losses, n_rows(support), n_rows(query), pairs,
        q_pairs,
    )  # fmt: skip
    return Memory(
        scratch, offset(scratch, p[0]), offset(scratch, p[1]), offset(scratch, p[2]), pairs,
        q_pairs, offset(scratch, p[3]), own_size, offset(scratch, p[4]),
    )  # fmt: skip


def scratch_size(
    table: np.ndarray, rows: np.ndarray, query_rows: np.ndarray, blocks: np.ndarray,
    steps: int, losses: int, with_rates: bool,
) -> int:  # fmt: skip
    """Numbers of scratch that one worker needs, for the numbers of rows of each task.

    ``losses`` is the number of steps with a weight, ``with_rates`` whether the gradient of the
    rates is wanted; block b is the tasks ``blocks[b] : blocks[b + 1]``.
    """

    def most(counts: np.ndarray) -> int:
        return int(np.add.reduceat(counts, blocks[:-1]).max())

    net = View(table)
    own_size = int(np.diff(blocks).max()) * net.own_size
    small = _places(
        net.n_common, net.width, own_size, steps, losses, most(rows), most(query_rows),
        most(rows * rows), most(rows * query_rows),
    )[-1]  # fmt: skip
    pairs = int((rows * np.maximum(rows, query_rows)).max()) if with_rates else 0
    layers = net.layers[: net.n_layers]
    widest = int(layers.ld_out[layers.own >= 0].max(initial=0))
    return on_line(small + max(2 * pairs, most(rows) * widest))


@helper
def support_block(net, memory, support, step):
    """The row block of the support rows at a step."""
    rows = n_rows(support)
    return Block(rows, offset(memory.support, step * KINDS * rows * net.width))


@helper
def query_block(net, memory, query, loss):
    """The row block of the query rows of a loss, counted from the first that counts."""
    rows = n_rows(query)
    return Block(rows, offset(memory.query, loss * QUERY_KINDS * rows * net.width))


class Products(NamedTuple):
    """The small products of one pass with the rows of every step."""

    numbers: Any
    kinds: int
    steps: int
    stride: int


@helper
def support_products(net, memory, steps, after):
    """Those of the support rows of step ``after``."""
    start = after * net.n_common * SUPPORT_PRODUCTS * steps * memory.pairs
    return Products(offset(memory.kept, start), SUPPORT_PRODUCTS, steps, memory.pairs)


@helper
def query_products(net, memory, steps, loss):
    """Those of the query rows of a loss."""
    start = loss * net.n_common * QUERY_PRODUCTS * steps * memory.q_pairs
    return Products(offset(memory.q_kept, start), QUERY_PRODUCTS, steps, memory.q_pairs)


@helper
def products_with(net, products, number, kind, step):
    """Those of one layer and kind, with the rows of one step: one task after the other."""
    place = (layer_of(net, number).common * products.kinds + kind) * products.steps + step
    return offset(products.numbers, place * products.stride)
