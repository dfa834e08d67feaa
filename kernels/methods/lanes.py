"""Method ``lanes``: a task in each lane of the vector registers, all of its steps as ``dense``.

A *group* is as many tasks as a vector has numbers (the last one may have fewer: its idle lanes
compute nothing that is read). The rows of a group are laid out anew, so that row k of all its tasks
is one vector of each number; a task that has fewer rows than another of its group gets rows of the
weight 0, copies of its first. The model's passes do the rest (``models.lanes``), the loss
included. A task's result does not depend on its lane, nor on the other tasks.

Parameter vectors are P vectors here. Equations and signs are those of ``dense``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..compile.jit import helper, kernel
from ..compile.link import linked
from ..compile.records import loss_of, net_of, numbers_at
from ..models.lanes import LaneRows, prepare, products, query, slopes
from ..vectors.emitter import LINE
from ..vectors.pointers import lanes_of, offset
from ..vectors.reduce import add_rows
from ..vectors.tiles import transpose_tile
from .modes import GRADIENT, RATES, VALUE
from .tasks import Chunks, Inner, Sums, Tasks, clear_sums, gradient_row, rate_row, rows_of


class Sizes(NamedTuple):
    """Of all tasks, and of what a worker needs for a group, in numbers of vectors."""

    tasks: int
    params: int
    steps: int
    rows: int  # the most of a task, support
    n_in: int
    made: int
    kept: int
    width: int  # of a row of targets, with a weight
    query_rows: int
    query_width: int
    room: int


class Memory(NamedTuple):
    """What a worker needs for a group."""

    trajectory: Any  # theta_0 ... theta_S
    moved: Any  # what each step's rates multiply: g_s, or v_{s+1}
    adjoint: Any  # lambda
    direction: Any
    found: Any  # a gradient or a product
    total: Any  # the sum of lambda over the groups of a chunk
    value: Any
    values: Any  # their sum over the steps that count
    ones: Any
    factor: Any  # a number in the dtype of theta, which an argument would not be
    scale: Any
    query_scale: Any
    x: Any
    made: Any
    y: Any
    query_x: Any
    query_made: Any
    query_y: Any
    kept: Any
    room: Any


def _places(s: Sizes) -> tuple[int, ...]:
    """Where each of `Memory` begins, and the end, in vectors."""
    p, steps, rows, query_rows = s.params, s.steps, s.rows, s.query_rows
    moved = (steps + 1) * p
    adjoint = moved + steps * p
    value = adjoint + 4 * p
    x = value + 6
    made = x + rows * s.n_in
    y = made + rows * s.made
    query_x = y + rows * s.width
    query_made = query_x + query_rows * s.n_in
    query_y = query_made + query_rows * s.made
    kept = query_y + query_rows * s.query_width
    room = kept + steps * rows * s.kept
    return (
        0, moved, adjoint, adjoint + p, adjoint + 2 * p, adjoint + 3 * p, value, value + 1,
        value + 2, value + 3, value + 4, value + 5, x, made, y, query_x, query_made, query_y, kept,
        room, room + query_rows * s.room,
    )  # fmt: skip


def scratch_size(sizes: Sizes, lanes: int) -> int:
    """Numbers of scratch that one worker needs."""
    return -(-_places(sizes)[-1] * lanes // LINE) * LINE


_compiled_places = helper(_places)


@helper
def _memory_of(sizes, scratch):
    """A worker's scratch, cut up."""
    p, lanes = _compiled_places(sizes), lanes_of(scratch)
    return Memory(
        offset(scratch, p[0] * lanes), offset(scratch, p[1] * lanes),
        offset(scratch, p[2] * lanes), offset(scratch, p[3] * lanes),
        offset(scratch, p[4] * lanes), offset(scratch, p[5] * lanes),
        offset(scratch, p[6] * lanes), offset(scratch, p[7] * lanes),
        offset(scratch, p[8] * lanes), offset(scratch, p[9] * lanes),
        offset(scratch, p[10] * lanes), offset(scratch, p[11] * lanes),
        offset(scratch, p[12] * lanes), offset(scratch, p[13] * lanes),
        offset(scratch, p[14] * lanes), offset(scratch, p[15] * lanes),
        offset(scratch, p[16] * lanes), offset(scratch, p[17] * lanes),
        offset(scratch, p[18] * lanes), offset(scratch, p[19] * lanes),
    )  # fmt: skip


# Rows --------------------------------------------------------------------------------------------


@linked
def _transpose(count, n, source, out):
    """``out (n, lanes)`` of ``count`` runs of n numbers one behind the other; zeros beyond them."""
    lanes, first = lanes_of(out), 0
    while first < n:
        at = min(first, n - lanes)  # the last tile does some numbers again
        if at >= 0:
            transpose_tile(count, offset(out, at * lanes), lanes, offset(source, at), n)
            first += lanes
        else:
            for i in range(n):
                for lane in range(lanes):
                    out[i * lanes + lane] = source[lane * n + i] if lane < count else 0
            first = n


@linked
def _lay_out(tasks, first, count, most, ld, width, weighted, source, out):
    """``out (most, width, lanes)`` of tasks of different rows of ld numbers.

    Behind a row of fewer numbers than ``width`` comes its weight; if it is ``weighted``, the last
    number is that.
    """
    lanes = lanes_of(out)
    for lane in range(lanes):
        task = first + min(lane, count - 1)
        start, rows = tasks.offsets[task], tasks.offsets[task + 1] - tasks.offsets[task]
        for row in range(most):
            at = (start + (row if row < rows else 0)) * ld
            to = row * width * lanes + lane
            for i in range(ld):
                out[to + i * lanes] = source[at + i]
            if width > ld:
                out[to + ld * lanes] = 1 if row < rows else 0
            elif weighted and row >= rows:
                out[to + (ld - 1) * lanes] = 0


@linked
def _most_rows(tasks, first, count) -> float:
    """The most rows of a task of a group; below 0 if another has fewer."""
    most = least = tasks.offsets[first + 1] - tasks.offsets[first]
    for task in range(first + 1, first + count):
        rows = tasks.offsets[task + 1] - tasks.offsets[task]
        most, least = max(most, rows), min(least, rows)
    return -most if least < most else most


@linked
def _scales(net, tasks, first, count, scale):
    """The scale of each task's loss."""
    for lane in range(lanes_of(scale)):
        scale[lane] = rows_of(net, tasks, first + lane).scale if lane < count else 0


@helper
def _rows_of_group(net, tasks, first, count, x, made, y, scale, ones):
    """The rows of a group, laid out in memory."""
    loss, n_in, lanes = loss_of(net, tasks.side), net.n_in, lanes_of(x)
    most, start = int(_most_rows(tasks, first, count)), tasks.offsets[first]
    source, targets = offset(tasks.x, start * n_in), offset(tasks.y, start * loss.ld_y)
    width, weighted = loss.ld_y, loss.n_y < loss.ld_y
    weights, stride = ones, 0
    if most > 0:
        _transpose(count, most * n_in, source, x)
        _transpose(count, most * width, targets, y)
    else:
        most, width = -most, loss.n_y + 1
        _lay_out(tasks, first, count, most, n_in, n_in, False, tasks.x, x)
        _lay_out(tasks, first, count, most, loss.ld_y, width, weighted, tasks.y, y)
    if width > loss.n_y:
        weights, stride = offset(y, loss.n_y * lanes), width
    _scales(net, tasks, first, count, scale)
    rows = LaneRows(most, x, made, y, width, weights, stride, scale)
    if net.lane_made > 0:
        prepare(net, rows, made)
    return rows


# A group -----------------------------------------------------------------------------------------


@linked
def _adapt(net, inner, rows, memory):
    """Equation 8, S times, from theta_0 at the start of the trajectory."""
    p, lanes = net.n_theta, lanes_of(memory.x)
    numbers, size = numbers_at(net, loss_of(net, 0).numbers), net.n_theta * lanes_of(memory.x)
    memory.factor[0] = inner.momentum
    momentum = memory.factor[0]
    for step in range(inner.steps):
        w, moved = offset(memory.trajectory, step * size), offset(memory.moved, step * size)
        kept = offset(memory.kept, step * rows.n * net.lane_kept * lanes)
        slopes(net, numbers, rows, w, kept, moved)
        if inner.momentum != 0 and step > 0:
            before = offset(memory.moved, (step - 1) * size)
            for i in range(size):
                moved[i] += momentum * before[i]
        after, rates = offset(w, size), offset(inner.rates, step * p)
        for j in range(p):
            rate = rates[j]
            for i in range(j * lanes, (j + 1) * lanes):
                after[i] = w[i] - rate * moved[i]


@linked
def _add_rate_gradient(net, count, adjoint, moved, rates):
    """``-lambda * moved`` of a step, over the tasks of a group."""
    lanes = lanes_of(adjoint)
    for j in range(net.n_theta):
        total = 0.0
        for i in range(j * lanes, j * lanes + count):
            total += np.float64(adjoint[i]) * np.float64(moved[i])
        rates[j] -= total


@linked
def _carry_back(net, inner, count, rows, query_rows, memory, rate_gradient):
    """Equation 13, from the last step to the first; leaves lambda and the tasks' values."""
    p, lanes = net.n_theta, lanes_of(memory.x)
    size, steps = p * lanes, inner.steps
    numbers = numbers_at(net, loss_of(net, 0).numbers)
    query_numbers = numbers_at(net, loss_of(net, 1).numbers)
    adjoint, direction, found = memory.adjoint, memory.direction, memory.found
    for i in range(size):
        adjoint[i] = 0
        direction[i] = 0
    for i in range(lanes):
        memory.values[i] = 0
    memory.factor[0] = inner.momentum
    momentum = memory.factor[0]
    for step in range(steps, -1, -1):
        w = offset(memory.trajectory, step * size)
        if step < steps and (inner.mode == RATES or (inner.exact and inner.mode == GRADIENT)):
            rates = offset(inner.rates, step * p)
            if inner.mode == RATES:
                moved, of_step = offset(memory.moved, step * size), offset(rate_gradient, step * p)
                _add_rate_gradient(net, count, adjoint, moved, of_step)
            for j in range(p):  # nu = mu nu + alpha_s lambda
                rate = rates[j]
                for i in range(j * lanes, (j + 1) * lanes):
                    direction[i] = momentum * direction[i] + rate * adjoint[i]
            if inner.exact:
                kept = offset(memory.kept, step * rows.n * net.lane_kept * lanes)
                products(net, numbers, rows, w, direction, kept, found)
                for i in range(size):
                    adjoint[i] -= found[i]
        if inner.weights[step] != 0:
            memory.factor[0] = inner.weights[step]
            weight = memory.factor[0]
            query(net, query_numbers, query_rows, w, memory.room, memory.value, found)
            for i in range(lanes):
                memory.values[i] += weight * memory.value[i]
            for i in range(size):
                adjoint[i] += weight * found[i]


@linked
def _group(net, inner, support, query, first, count, memory, rates):
    """The tasks first : first + count."""
    rows = _rows_of_group(
        net, support, first, count, memory.x, memory.made, memory.y, memory.scale, memory.ones
    )
    query_rows = _rows_of_group(
        net, query, first, count, memory.query_x, memory.query_made, memory.query_y,
        memory.query_scale, memory.ones,
    )  # fmt: skip
    _adapt(net, inner, rows, memory)
    _carry_back(net, inner, count, rows, query_rows, memory, rates)


@linked
def _work(worker, n_workers, net, inner, support, query, theta, chunks, sizes, scratch, stride,
          sums):  # fmt: skip
    """One worker's chunks."""
    memory = _memory_of(sizes, offset(scratch, worker * stride))
    p, lanes = net.n_theta, lanes_of(scratch)
    total, adjoint = memory.total, memory.adjoint
    for i in range(p * lanes):
        memory.trajectory[i] = theta[i // lanes]
    for i in range(lanes):
        memory.ones[i] = 1
    for chunk in range(chunks.first + worker, chunks.last, n_workers):
        clear_sums(sums, chunks, chunk, inner.mode)
        row, rates = gradient_row(sums, chunks, chunk), rate_row(sums, chunks, chunk)
        for i in range(p * lanes):
            total[i] = 0
        for group in range(chunks.bounds[chunk], chunks.bounds[chunk + 1]):
            first = group * lanes
            count = min(lanes, sizes.tasks - first)
            _group(net, inner, support, query, first, count, memory, rates)
            for i in range(count):
                sums.values[first + i] = memory.values[i]
            for i in range(p * lanes if count == lanes else 0):
                total[i] += adjoint[i]
            for j in range(p if count < lanes else 0):
                for i in range(j * lanes, j * lanes + count):
                    total[i] += adjoint[i]
        for i in range(p * lanes if inner.mode > VALUE else 0):
            row[i // lanes] += total[i]


@kernel
def lanes(
    n_workers, table, theta, x, y, offsets, x_query, y_query, query_offsets, chunks, first, last,
    exact, rates, momentum, step_weights, mode, longest, query_longest, scratch,
    gradient_rows, gradient, rate_rows, rate_gradient, task_values,
):  # fmt: skip
    """Work chunks first:last, of groups; theta and rates (S, P) are in plain layout.

    ``longest`` and ``query_longest`` are the most rows of a task.
    """
    for worker in prange(n_workers):
        net = net_of(table)
        inner = Inner(
            rates, rates, True, momentum, 0.0, rates.shape[0], step_weights, exact, mode
        )  # fmt: skip
        support = Tasks(x, y, offsets, 0)
        query = Tasks(x_query, y_query, query_offsets, 1)
        sizes = Sizes(
            offsets.size - 1, net.n_theta, rates.shape[0], longest, net.n_in, net.lane_made,
            net.lane_kept, loss_of(net, 0).n_y + 1, query_longest, loss_of(net, 1).n_y + 1,
            net.lane_room,
        )  # fmt: skip
        sums = Sums(gradient_rows, gradient.size, rate_rows, rate_rows.shape[1], task_values)
        _work(
            worker, n_workers, net, inner, support, query, theta, Chunks(chunks, first, last),
            sizes, scratch, scratch.shape[1], sums,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, gradient.size, gradient)
    if mode == RATES:
        add_rows(rate_rows, last - first, rate_gradient.size, rate_gradient)
