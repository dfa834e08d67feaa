"""The loss of predictions that know how sure they are, and its derivatives at the output.

With predictive mean F (Q, m), variance ``sigma_o^2 h_q``, residuals r = F - y and a weight w, the
loss's own times that of the row:

    loss = w sum 1/2 [ log(2 pi sigma_o^2 h_q) + r^2 / (sigma_o^2 h_q) ]
    G = w r / (sigma_o^2 h_q),    eta_q = w sum_o 1/2 [ 1 - r^2 / (sigma_o^2 h_q) ] / h_q
    d / d log sigma_o^2 = w sum_q 1/2 [ 1 - r^2 / (sigma_o^2 h_q) ]

A squared error is ``w/2 sum r^2``, of the mean alone.
"""

from __future__ import annotations

import math

from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.pointers import offset
from .head import clear


@helper
def noise_variance(head, output):
    """sigma_o^2."""
    return math.exp(head.log_noise[output if head.n_noise > 1 else 0])


@linked
def loss_weight(head, task, y) -> float:
    """What the sum over a task's query rows is multiplied by."""
    n, ld_y = head.n_out, head.ld_y_query
    if not head.mean:
        return head.scale
    if n == ld_y:
        return head.scale / task.q
    total = 0.0
    for i in range(task.q):
        total += y[i * ld_y + n]
    return head.scale / total


@linked
def query_loss(head, task, y, scale, h, eta, noise) -> float:
    """The loss of a task's query rows; G goes to their df; ``noise`` (n_out,) gains."""
    n, ld, q, ld_y = head.n_out, head.ld_out, task.q, head.ld_y_query
    f, g = offset(task.f, task.k * ld), offset(task.df, task.k * ld)
    clear(q, eta)
    clear(q * ld, g)
    total = 0.0
    for j in range(n):
        of_noise, log_noise = 0.0, head.log_noise[j if head.n_noise > 1 else 0]
        precision = math.exp(-0.5 * log_noise)
        for i in range(q):
            r = f[i * ld + j] - y[i * ld_y + j]
            weight = scale * y[i * ld_y + n] if n < ld_y else scale
            if not head.density:
                total += 0.5 * weight * r * r
                g[i * ld + j] = weight * r
                continue
            root = precision / math.sqrt(h[i])
            standard = r * root
            half = 0.5 * weight * (1.0 - standard * standard)
            log_variance = math.log(2.0 * math.pi) + log_noise + math.log(h[i])
            total += 0.5 * weight * (log_variance + standard * standard)
            g[i * ld + j] = weight * standard * root
            eta[i] += half / h[i]
            of_noise += half
        noise[j] += of_noise
    return total
