"""The loss of predictions that know how sure they are, and its derivatives at the output.

With predictive mean F (Q, m), variance ``sigma_o^2 h_q``, residuals r = F - y and a weight w:

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
def query_loss(head, task, y, weight, h, eta, noise) -> float:
    """The loss of a task's query rows; G goes to their df; ``noise`` (n_out,) gains."""
    n, ld, q = head.n_out, head.ld_out, task.q
    f, g = offset(task.f, task.k * ld), offset(task.df, task.k * ld)
    clear(q, eta)
    clear(q * ld, g)
    total = 0.0
    for j in range(n):
        of_noise, log_noise = 0.0, head.log_noise[j if head.n_noise > 1 else 0]
        precision = math.exp(-0.5 * log_noise)
        for i in range(q):
            r = f[i * ld + j] - y[i * n + j]
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
