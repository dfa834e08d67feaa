"""The loss of predictions that know how sure they are, and its derivatives at the output.

With predictive mean F (Q, m), variance ``sigma_o^2 h_q``, residuals r = F - y and a weight w:

    loss = w sum 1/2 [ log(2 pi sigma_o^2 h_q) + r^2 / (sigma_o^2 h_q) ]
    G = w r / (sigma_o^2 h_q),    eta_q = w sum_o 1/2 [ 1 - r^2 / (sigma_o^2 h_q) ] / h_q
    d / d log sigma_o^2 = w sum_q 1/2 [ 1 - r^2 / (sigma_o^2 h_q) ]

A squared error is ``w/2 sum r^2``, of the mean alone.
"""

from __future__ import annotations

import math

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..models.layers import residual
from ..vectors.pointers import offset


@helper
def noise_variance(head, output):
    """sigma_o^2."""
    return math.exp(head.log_noise[output if head.n_noise > 1 else 0])


@linked
def query_loss(head, task, y, weight, h, eta, g_noise) -> float:
    """The loss of a task's query rows; G goes to their delta, ``g_noise`` (n_out,) gains."""
    n, ld, q = head.n_out, head.ld_out, task.q
    f, delta = offset(task.f, task.k * ld), offset(task.delta, task.k * ld)
    if not head.density:
        return 0.5 * weight * residual(n, ld, q, f, y, weight, delta)
    total = 0.0
    for i in range(q):
        eta[i] = 0
        for j in range(n, ld):
            delta[i * ld + j] = 0
    for j in range(n):
        of_noise, log_noise = 0.0, np.float64(head.log_noise[j if head.n_noise > 1 else 0])
        for i in range(q):
            r, h_i = np.float64(f[i * ld + j]) - np.float64(y[i * n + j]), np.float64(h[i])
            # not the variance itself, which may be too small or too large for a float
            standard = r * math.exp(-0.5 * log_noise) / math.sqrt(h_i)
            half = 0.5 * weight * (1.0 - standard * standard)
            total += (
                0.5
                * weight
                * (math.log(2.0 * math.pi) + log_noise + math.log(h_i) + standard * standard)
            )
            delta[i * ld + j] = weight * standard * math.exp(-0.5 * log_noise) / math.sqrt(h_i)
            eta[i] += half / h_i
            of_noise += half
        g_noise[j] += of_noise
    return total
