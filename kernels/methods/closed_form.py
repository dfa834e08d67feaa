"""Method ``closed_form``: the last layer adapts to the minimiser, which is a linear system.

With the prior W ~ N(W_0, sigma^2 diag(s)) of the last layer, a task's posterior given its support
rows is Gaussian too, and its mean is ridge regression on the features [1]_ [2]_. The equations are
those of ``head`` (features, prior), ``dual`` and ``primal`` (a task's system), ``density`` (the
loss). No derivative is a second one of the network: what the systems return goes back through it by
one ordinary backward pass, whose weights all tasks share.

A chunk of tasks is worked in blocks, whose rows take the passes together.

.. [1] J. Harrison, A. Sharma, M. Pavone, Meta-learning priors for efficient online Bayesian
   regression, WAFR 2018, equations 5 to 9.
.. [2] C. M. Bishop, Pattern recognition and machine learning, 2006, section 3.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..compile.jit import helper, kernel
from ..compile.link import linked
from ..compile.records import layer_of, net_of
from ..models.layers import derive, forward
from ..models.padded import gather, spread
from ..models.passes import Block, Point
from ..vectors.emitter import LANES, on_line
from ..vectors.pointers import offset
from ..vectors.reduce import add_rows
from .density import loss_weight, query_loss
from .dual import dual_size, on_edge
from .head import (
    KINDS,
    Head,
    Task,
    add_variances,
    clear,
    load,
    pull_back,
    residuals,
    rows_between,
    scale_features,
    task_of,
    weigh,
    write_deltas,
    write_prior,
)
from .modes import VALUE
from .primal import primal_size
from .systems import solve, solve_back
from .tasks import Chunks, Sums, Tasks, gradient_row


class Room(NamedTuple):
    """What a worker works in: numbers of theta's dtype for passes, float64 for systems."""

    passes: Any  # a row for each worker
    passes_stride: int
    systems: Any
    systems_stride: int
    rows: int  # the most of a block
    longest: int  # query rows, the most of a task
    system: int  # numbers that a task's system takes


class Memory(NamedTuple):
    """Where the numbers of a block of tasks lie."""

    z: Any  # (rows, ld)
    dz: Any  # (rows, ld)
    f: Any  # (rows, ld_out)
    df: Any  # (rows, ld_out)
    h: Any  # (Q,) of one task
    eta: Any  # (Q,)
    noise: Any  # (n_out,) the gradient of the noise
    d_log_s: Any  # (ld,)
    system: Any  # of one task: see ``dual`` and ``primal``
    block: Any  # see ``Block``


#: what the ``sizes`` of a call are, in this order: features and outputs with padding, the limit of
#: the dual form, the numbers of log variances of prior and noise, whether variances are asked for;
#: of ``Room`` the rows, the query rows of a task, and the numbers of its system; and the numbers in
#: a row of y
SIZES = (
    "ld", "ld_out", "limit", "n_prior", "n_noise", "density", "rows", "longest", "system", "ld_y",
    "ld_y_query",
)  # fmt: skip

#: where the addresses of ``systems`` begin, behind these
ADDRESSES = len(SIZES)


def system_size(p: int, n_out: int, sizes: dict[str, int], counts: set[tuple[int, int]]) -> int:
    """Numbers that the system of a task takes, the largest of (support, query) rows."""
    ld, ld_out, lanes = sizes["ld"], sizes["ld_out"], LANES[np.dtype(np.float64)]
    return max(
        dual_size(k, q, ld, n_out, ld_out, lanes)
        if k <= sizes["limit"]
        else primal_size(k, q, p, ld, n_out, ld_out, lanes)
        for k, q in counts
    )


def room_for(net: Any, sizes: dict[str, int]) -> tuple[int, int]:
    """Numbers of a worker: for passes, and for systems; see ``Room``."""
    n_out, rows, ld = net.n_out, sizes["rows"], sizes["ld"]
    of_rows = 2 * on_line(rows * ld) + 2 * on_line(rows * sizes["ld_out"])
    of_task = 2 * on_line(sizes["longest"]) + on_line(n_out) + on_line(ld) + sizes["system"]
    return on_line(KINDS * rows * net.width), on_line(of_rows + of_task)


@helper
def memory_of(head, room, worker):
    """The places of a worker."""
    systems = offset(room.systems, worker * room.systems_stride)
    dz = on_edge(room.rows * head.ld)
    f = dz + on_edge(room.rows * head.ld)
    df = f + on_edge(room.rows * head.ld_out)
    h = df + on_edge(room.rows * head.ld_out)
    eta = h + on_edge(room.longest)
    noise = eta + on_edge(room.longest)
    d_log_s = noise + on_edge(head.n_out)
    return Memory(
        systems, offset(systems, dz), offset(systems, f), offset(systems, df), offset(systems, h),
        offset(systems, eta), offset(systems, noise), offset(systems, d_log_s),
        offset(systems, d_log_s + on_edge(head.ld)),
        offset(room.passes, worker * room.passes_stride),
    )  # fmt: skip


class Start(NamedTuple):
    """What ``prepare`` writes of theta, and the sizes of a call: see ``SIZES``."""

    shared: Any
    prior: Any
    sizes: Any
    scale: float
    mean: bool


@helper
def head_of(net, start):
    """What all tasks start from."""
    layer, sizes = layer_of(net, net.n_layers), start.sizes
    p = layer.n_in + (1 if layer.bias >= 0 else 0)
    return Head(
        p, sizes[0], layer.n_out, sizes[1], start.prior, offset(start.prior, sizes[0]), sizes[4],
        sizes[5], sizes[2], start.scale, start.mean, sizes[9], sizes[10],
    )  # fmt: skip


@linked
def prepare(net, theta, sizes, shared, prior):
    """theta padded, its transposed copy behind it; S^1/2, and the log noise variances."""
    spread(net, theta, shared)
    derive(net, shared, offset(shared, net.n_padded))
    write_prior(net, theta, sizes[3], sizes[4], sizes[0], prior)


@linked
def features(net, head, support, query, first, last, shared, block, memory, order):
    """The scaled features of the rows of some tasks, and what the prior mean predicts."""
    if block.rows == 0:
        return
    load(net, support, query, first, last, block)
    forward(net, block, Point(shared, offset(shared, net.n_padded)), order)
    scale_features(net, head, block, memory.z, memory.f)


@linked
def work_block(net, head, start, support, query, first, last, memory, mode, add, row, values):
    """A block of tasks, from their rows to their sum of gradients, [+] a chunk's row."""
    block, back = Block(rows_between(support, query, first, last), memory.block), mode > VALUE
    shared = start.shared
    features(net, head, support, query, first, last, shared, block, memory, back)
    places = Task(0, 0, memory.z, memory.dz, memory.f, memory.df, memory.d_log_s)
    for j in range(head.n_out):
        memory.noise[j] = 0
    clear(head.ld, memory.d_log_s)
    for number in range(first, last):
        task = task_of(head, support, query, first, number, places)
        residuals(head, task, offset(support.y, support.offsets[number] * head.ld_y))
        solve(head, task, offset(start.sizes, ADDRESSES), memory.system, memory.h)
        y = offset(query.y, query.offsets[number] * head.ld_y_query)
        scale = loss_weight(head, task, y)
        values[number] = query_loss(head, task, y, scale, memory.h, memory.eta, memory.noise)
        if back:
            solve_back(head, task, offset(start.sizes, ADDRESSES), memory.system, memory.eta)
    if back:
        add_variances(head, memory.d_log_s, memory.noise, offset(row, net.n_padded), add)
        for number in range(first, last if head.ld_y > head.n_out else first):
            task = task_of(head, support, query, first, number, places)
            y = offset(support.y, support.offsets[number] * head.ld_y)
            weigh(head, task, y, task.dz, task.df)
        write_deltas(net, head, block, memory.dz, memory.df)
        pull_back(net, block, Point(shared, offset(shared, net.n_padded)), row, add)


@linked
def _work(worker, n_workers, net, start, support, query, chunks, blocks, room, mode, sums):
    """One worker's chunks."""
    head = head_of(net, start)
    memory = memory_of(head, room, worker)
    for chunk in range(chunks.first + worker, chunks.last, n_workers):
        row = gradient_row(sums, chunks, chunk)
        for b in range(chunks.bounds[chunk], chunks.bounds[chunk + 1]):
            work_block(
                net, head, start, support, query, blocks[b], blocks[b + 1], memory, mode,
                b > chunks.bounds[chunk], row, sums.values,
            )  # fmt: skip


@linked
def gather_head(net, start, total, out):
    """Write a sum of gradients as one of theta: the network, log s, log noise variances."""
    head, n_prior = head_of(net, start), start.sizes[3]
    gather(net, total, out)
    g_s, g_noise = offset(total, net.n_padded), offset(total, net.n_padded + head.ld)
    of_s = offset(out, net.n_theta)
    of_noise = offset(of_s, n_prior)
    for j in range(n_prior):
        of_s[j] = 0
    for j in range(head.n_noise):
        of_noise[j] = 0
    for j in range(head.p):
        of_s[j if n_prior > 1 else 0] += g_s[j]
    for j in range(head.n_out):
        of_noise[j if head.n_noise > 1 else 0] += g_noise[j]


@kernel
def closed_form(
    n_workers, table, theta, shared, prior, x, y, offsets, x_query, y_query, query_offsets, chunks,
    first, last, blocks, loss_scale, loss_mean, sizes, mode, passes, systems, gradient_rows, total,
    task_values, gradient,
):  # fmt: skip
    """Work chunks first:last; chunk c is the blocks ``chunks[c] : chunks[c + 1]``.

    Block b is the tasks ``blocks[b] : blocks[b + 1]``. ``sizes`` are those of ``SIZES``, then the
    addresses of ``systems``. ``shared`` and ``prior`` take what ``prepare`` writes, ``passes`` and
    ``systems`` (see ``Room``) have a row per worker, ``gradient_rows`` a row per chunk of the call:
    the padded gradient of the network, (ld,) and (n_out,). ``total`` takes their sum,
    ``task_values`` (n_tasks,) is written, and by the last call ``gradient``.
    """
    if first == 0:
        prepare(net_of(table), theta, sizes, shared, prior)
        for i in range(total.size):
            total[i] = 0
    for worker in prange(n_workers):
        support = Tasks(x, y, offsets, 0)
        query = Tasks(x_query, y_query, query_offsets, 1)
        room = Room(
            passes, passes.shape[1], systems, systems.shape[1], sizes[6], sizes[7], sizes[8]
        )
        sums = Sums(gradient_rows, total.size, gradient_rows, 0, task_values)
        start = Start(shared, prior, sizes, loss_scale, loss_mean)
        _work(
            worker, n_workers, net_of(table), start, support, query, Chunks(chunks, first, last),
            blocks, room, mode, sums,
        )  # fmt: skip
    if mode > VALUE:
        add_rows(gradient_rows, last - first, total.size, total)
        if last == chunks.size - 1:
            gather_head(
                net_of(table),
                Start(shared, prior, sizes, loss_scale, loss_mean),
                total,
                gradient,
            )
