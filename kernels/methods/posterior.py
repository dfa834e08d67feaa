"""What is known of the last layer after a task's support rows: predictions, mean and precision.

In the form of ``primal``, R^T R = P = I + S^1/2 Phi^T Phi S^1/2, the posterior of the weights of
output o is normal with

    mean  W_0 + S^1/2 E,    precision  S^-1/2 P S^-1/2 / sigma_o^2

so ``L = S^-1/2 R^T`` is the lower Cholesky factor of the precision in units of the noise's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import prange

from ..compile.jit import kernel
from ..compile.link import linked
from ..compile.records import layer_of, net_of
from ..models.passes import Block
from ..vectors.cholesky import solve_upper
from ..vectors.pointers import offset
from .closed_form import ADDRESSES, Room, Start, features, head_of, memory_of, prepare
from .density import noise_variance
from .head import Task, residuals, rows_between, task_of
from .primal import posterior, primal_of
from .systems import solve
from .tasks import Tasks


class Out(NamedTuple):
    """What a call works, blocks first:last, and where results go."""

    first: int
    last: int
    predict: bool  # else mean and scale are written
    f: Any  # (N, n_out)
    std: Any  # (N, n_out), if variances are asked for
    mean: Any  # (n_tasks, n_out, p)
    scale: Any  # (n_tasks, p, p)


@linked
def write_predictions(head, task, h, f, std):
    """Mean of the query rows and, if it is asked for, the standard deviation of an observation."""
    n, ld, source = head.n_out, head.ld_out, offset(task.f, task.k * head.ld_out)
    for i in range(task.q):
        for j in range(n):
            f[i * n + j] = source[i * ld + j]
    for j in range(n if head.density else 0):
        of_noise = math.sqrt(noise_variance(head, j))
        for i in range(task.q):
            std[i * n + j] = of_noise * math.sqrt(h[i])


@linked
def write_posterior(net, head, task, own, shared, mean, scale):
    """Mean (n_out, p) and L (p, p) of a task."""
    p, n_out, ld, roots = head.p, head.n_out, own.ld, head.roots
    layer, square = layer_of(net, net.n_layers), own.square
    weight, bias = offset(shared, layer.p_weight), offset(shared, layer.p_bias)
    posterior(head, task, own)
    solve_upper(p, square, ld, own.x, ld, head.ld_out)
    for o in range(n_out):
        for j in range(layer.n_in):
            mean[o * p + j] = weight[o * layer.ld_in + j] + roots[j] * own.x[j * ld + o]
        for j in range(layer.n_in, p):
            mean[o * p + j] = bias[o] + roots[j] * own.x[j * ld + o]
    for i in range(p):
        for j in range(i):
            scale[i * p + j] = square[j * ld + i] / roots[i]
        scale[i * p + i] = 1.0 / (square[i * ld + i] * roots[i])
        for j in range(i + 1, p):
            scale[i * p + j] = 0


@linked
def _work(worker, n_workers, net, start, support, new, blocks, room, out):
    """One worker's blocks."""
    head, shared = head_of(net, start), start.shared
    memory = memory_of(head, room, worker)
    p, n_out, ld_y = head.p, head.n_out, head.ld_y
    for b in range(out.first + worker, out.last, n_workers):
        first, last = blocks[b], blocks[b + 1]
        block = Block(rows_between(support, new, first, last), memory.block)
        features(net, head, support, new, first, last, shared, block, memory, 0)
        places = Task(0, 0, memory.z, memory.dz, memory.f, memory.df, memory.d_log_s)
        for number in range(first, last):
            task = task_of(head, support, new, first, number, places)
            residuals(head, task, offset(support.y, support.offsets[number] * ld_y))
            if out.predict:
                at = new.offsets[number] * n_out
                solve(head, task, offset(start.sizes, ADDRESSES), memory.system, memory.h)
                write_predictions(head, task, memory.h, offset(out.f, at), offset(out.std, at))
            else:
                write_posterior(
                    net, head, task, primal_of(head, task, memory.system), shared,
                    offset(out.mean, number * n_out * p), offset(out.scale, number * p * p),
                )  # fmt: skip


@kernel
def posteriors(
    n_workers, table, theta, shared, prior, x, y, offsets, x_new, new_offsets, blocks, first, last,
    sizes, passes, systems, f, std, mean, scale,
):  # fmt: skip
    """Work blocks of tasks first:last: predictions f at new rows, or mean and scale if f is empty.

    Other arguments are those of ``closed_form``.
    """
    if first == 0:
        prepare(net_of(table), theta, sizes, shared, prior)
    for worker in prange(n_workers):
        room = Room(
            passes, passes.shape[1], systems, systems.shape[1], sizes[6], sizes[7], sizes[8]
        )
        _work(
            worker, n_workers, net_of(table), Start(shared, prior, sizes, 1.0, False),
            Tasks(x, y, offsets, 0), Tasks(x_new, x_new, new_offsets, 1), blocks,
            room,
            Out(first, last, f.size > 0, f, std, mean, scale),
        )  # fmt: skip
