"""Blocks of tasks, whose rows are worked together, and where in a worker's memory they lie.

Of each step the support rows keep all six kinds of `layers` (values ... R-deltas); of each loss
that counts, the query rows keep the first three. Beside them lie the small products that later
passes read again (``products``), the own weights of small layers (``own_weights``) and room for one
product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compile.jit import helper
from ..compile.records import View
from ..models.layers import KINDS
from ..vectors.emitter import LINE, on_line
from ..vectors.pointers import offset

QUERY_KINDS = 3  # A, D1, DELTA: no pass of query rows is of order 2
#: kinds of small products: of a pass forward and backward, and of an R-pass forward and backward
SUPPORT_PRODUCTS, QUERY_PRODUCTS = 4, 2


class Side(NamedTuple):
    """The rows of the tasks first:last, support or query."""

    x: Any
    y: Any
    offsets: Any  # of all tasks
    first: int
    last: int
    side: int  # 0 support, 1 query


@helper
def side_of(tasks, first, last):
    """The rows of some tasks."""
    return Side(tasks.x, tasks.y, tasks.offsets, first, last, tasks.side)


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


# Memory ------------------------------------------------------------------------------------------


class BlockMemory(NamedTuple):
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


class Counts(NamedTuple):
    """What a block has to hold: its tasks, their rows, and pairs of a support row and another."""

    tasks: int
    rows: int
    q_rows: int
    pairs: int
    q_pairs: int


def count_losses(steps: int, weights: Any) -> int:
    """How many of the losses after 0 ... S steps count: those with a weight."""
    losses = 0
    for step in range(steps + 1):
        losses += 1 if weights[step] != 0 else 0
    return losses


def _places(net: Any, steps: int, losses: int, counts: Counts) -> tuple[int, ...]:
    """Where query blocks, the small products, own weights and the rest begin."""
    query = KINDS * steps * counts.rows * net.width
    kept = query + QUERY_KINDS * losses * counts.q_rows * net.width
    q_kept = kept + net.n_common * steps * SUPPORT_PRODUCTS * steps * counts.pairs
    own = q_kept + net.n_common * steps * QUERY_PRODUCTS * losses * counts.q_pairs
    own = (own + LINE - 1) // LINE * LINE  # as on_line
    return query, kept, q_kept, own, own + (steps + 1) * counts.tasks * net.own_size


losses_of, _compiled_places = helper(count_losses), helper(_places)


@helper
def memory_of(net, steps, losses, support, query, scratch):
    """A worker's scratch, cut up for a block of tasks."""
    pairs, q_pairs = 0, 0
    for task in range(support.first, support.last):
        pairs += count_of(support, task) * count_of(support, task)
        q_pairs += count_of(query, task) * count_of(support, task)
    n_tasks = support.last - support.first
    counts = Counts(n_tasks, n_rows(support), n_rows(query), pairs, q_pairs)
    p = _compiled_places(net, steps, losses, counts)
    return BlockMemory(
        scratch, offset(scratch, p[0]), offset(scratch, p[1]), offset(scratch, p[2]), pairs,
        q_pairs, offset(scratch, p[3]), n_tasks * net.own_size, offset(scratch, p[4]),
    )  # fmt: skip


def scratch_size(
    table: np.ndarray, rows: np.ndarray, query_rows: np.ndarray, blocks: np.ndarray,
    weights: np.ndarray, with_rates: bool,
) -> int:  # fmt: skip
    """Numbers of scratch that one worker needs, for the numbers of rows of each task.

    ``weights`` (S + 1,) are those of the losses, ``with_rates`` says whether the gradient of the
    rates is wanted; block b is the tasks ``blocks[b] : blocks[b + 1]``.
    """

    def most(counts: np.ndarray) -> int:
        return int(np.add.reduceat(counts, blocks[:-1]).max())

    net, steps = View(table), len(weights) - 1
    counts = Counts(
        int(np.diff(blocks).max()), most(rows), most(query_rows), most(rows * rows),
        most(rows * query_rows),
    )  # fmt: skip
    small = _places(net, steps, count_losses(steps, weights), counts)[-1]
    pairs = int((rows * np.maximum(rows, query_rows)).max()) if with_rates else 0
    layers = net.layers[: net.n_layers]
    widest = int(layers.ld_out[layers.own >= 0].max(initial=0))
    return on_line(small + max(2 * pairs, counts.rows * widest))
