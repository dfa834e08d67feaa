"""The negative log density of a normal distribution, of which the model gives mean and variance.

Of outputs f = (m_1 ... m_k, s_1 ... s_k), means and then log variances, and targets y_1 ... y_k,

    l = sum_j 1/2 (log 2 pi + s_j + u_j^2),     u_j = (m_j - y_j) h_j,   h_j = exp(-s_j / 2)

    dl/dm = u h               d2l/dm2  = h^2
    dl/ds = 1/2 (1 - u^2)     d2l/dmds = -u h       d2l/ds2 = 1/2 u^2

D. A. Nix, A. S. Weigend, Estimating the mean and variance of the target probability distribution,
1994, equation 5.
"""

from __future__ import annotations

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from .passes import Loss, weight_of


@helper
def _of_target(output, row, j):
    """The log variance s of a target, h and u."""
    at = row * output.ld + j
    s = np.float64(output.f[at + output.n_y])
    h = np.exp(-0.5 * s)
    u = (np.float64(output.f[at]) - np.float64(output.y[row * output.ld_y + j])) * h
    return s, h, u


@linked
def gaussian_slope(numbers, output, scale, delta) -> float:
    """``delta = scale (u h, 1/2 (1 - u^2))``; returns the sum of l."""
    k, ld, total = output.n_y, output.ld, 0.0
    for i in range(output.rows):
        weight = weight_of(output, i)
        for j in range(2 * k, ld):
            delta[i * ld + j] = 0
        for j in range(k):
            s, h, u = _of_target(output, i, j)
            total += weight * (0.5 * (1.8378770664093453 + s + u * u))  # log 2 pi
            delta[i * ld + j] = weight * scale * (u * h)
            delta[i * ld + j + k] = weight * scale * (0.5 - 0.5 * u * u)
    return total


@linked
def gaussian_bend(numbers, output, scale, rf, r_delta):
    """``R delta = scale (h^2 Rm - u h Rs, 1/2 u^2 Rs - u h Rm)``."""
    k, ld = output.n_y, output.ld
    for i in range(output.rows):
        factor = weight_of(output, i) * scale
        for j in range(2 * k, ld):
            r_delta[i * ld + j] = 0
        for j in range(k):
            _, h, u = _of_target(output, i, j)
            rm, rs = np.float64(rf[i * ld + j]), np.float64(rf[i * ld + j + k])
            r_delta[i * ld + j] = factor * (h * h * rm - u * h * rs)
            r_delta[i * ld + j + k] = factor * (0.5 * u * u * rs - u * h * rm)


GAUSSIAN = Loss(gaussian_slope, gaussian_bend)
