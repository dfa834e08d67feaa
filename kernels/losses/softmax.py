"""Cross-entropy of classes, of which there is an output each.

Of outputs f and the label y of a row, 0 to n - 1,

    l = log sum_j exp f_j - f_y,      dl/df = p - e_y,      G v = p * v - p (p . v)

with p = exp f / sum exp f. The largest output is taken off before exp, so none overflows. What is
no label makes NaN.
"""

from __future__ import annotations

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from .passes import Loss, weight_of


@helper
def _largest(output, row):
    """The largest output of a row."""
    at = row * output.ld
    largest = np.float64(output.f[at])
    for j in range(1, output.n):
        largest = max(largest, np.float64(output.f[at + j]))
    return largest


@linked
def softmax_slope(numbers, output, scale, delta) -> float:
    """``delta = scale (p - e_y)``; returns the sum of l."""
    n, ld, f, y, total = output.n, output.ld, output.f, output.y, 0.0
    for i in range(output.rows):
        factor, largest, z = weight_of(output, i), _largest(output, i), 0.0
        given = np.float64(y[i * output.ld_y])
        label = int(given) if 0 <= given < n else -1
        for j in range(n, ld):
            delta[i * ld + j] = 0
        for j in range(n):
            e = np.exp(np.float64(f[i * ld + j]) - largest)
            z += e
            delta[i * ld + j] = e
        if label < 0:
            z = np.nan
        total += factor * (np.log(z) + largest - f[i * ld + max(label, 0)])
        factor *= scale
        others = 0.0  # what the label's own p lacks of 1, to all its digits
        for j in range(n):
            p = np.float64(delta[i * ld + j]) / z
            others += p if j != label else 0.0
            delta[i * ld + j] = factor * p
        delta[i * ld + max(label, 0)] = -factor * others
    return total


@linked
def softmax_bend(numbers, output, scale, rf, r_delta):
    """``R delta = scale p * (Rf - p . Rf)``."""
    n, ld, f = output.n, output.ld, output.f
    for i in range(output.rows):
        factor, largest, z, mean = weight_of(output, i) * scale, _largest(output, i), 0.0, 0.0
        for j in range(n):
            e = np.exp(np.float64(f[i * ld + j]) - largest)
            z += e
            mean += e * rf[i * ld + j]
            r_delta[i * ld + j] = e
        mean /= z
        for j in range(n):
            p = np.float64(r_delta[i * ld + j]) / z
            r_delta[i * ld + j] = factor * p * (rf[i * ld + j] - mean)
        for j in range(n, ld):
            r_delta[i * ld + j] = 0


SOFTMAX = Loss(softmax_slope, softmax_bend)
