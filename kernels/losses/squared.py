"""Half the squared error, ``l = 1/2 |f - y|^2``: dl/df is the residual, and G the unit matrix."""

from __future__ import annotations

import numpy as np

from ..compile.link import linked
from .passes import Loss, weight_of


@linked
def squared_slope(numbers, output, scale, delta) -> float:
    """``delta = scale (f - y)``; returns half the sum of squared residuals."""
    n, ld, ld_y, rows = output.n, output.ld, output.ld_y, output.rows
    f, y = output.f, output.y
    for i in range(rows * ld if n < ld else 0):
        delta[i] = 0
    total = 0.0
    for i in range(rows):
        weight = weight_of(output, i)
        for j in range(n):
            r = f[i * ld + j] - y[i * ld_y + j]
            total += weight * (np.float64(r) * np.float64(r))
            delta[i * ld + j] = weight * scale * r
    return 0.5 * total


@linked
def squared_bend(numbers, output, scale, rf, r_delta):
    """``R delta = scale Rf``."""
    ld = output.ld
    if output.n_y == output.ld_y:  # no weights
        for i in range(output.rows * ld):
            r_delta[i] = scale * rf[i]
        return
    for i in range(output.rows):
        weight = weight_of(output, i)
        for j in range(i * ld, (i + 1) * ld):
            r_delta[j] = weight * scale * rf[j]


SQUARED = Loss(squared_slope, squared_bend)
