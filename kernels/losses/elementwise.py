"""Losses of one output and one target: the loop over rows and outputs that they have in common.

Such a loss is ``l = sum_j l(f_j, y_j)``, so G is diagonal. It is written as two functions of
numbers, which are inlined, and computed in float64 whatever the outputs are:

    value_and_slope(numbers, f, y)    l and dl/df
    curvature(numbers, f, y)          d2l/df2
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..compile.link import linked
from .passes import Loss, weight_of


def elementwise(
    kind: str, value_and_slope: Callable[..., Any], curvature: Callable[..., Any], own: bool = False
) -> Loss:
    """The two linked functions of a loss; of the package, a kind names one.

    A user's ``own`` are known to this process only. They may raise, which leaves NaN behind.
    """

    def slope(numbers, output, scale, delta) -> float:
        n, ld, ld_y, f, y = output.n, output.ld, output.ld_y, output.f, output.y
        total = 0.0
        for i in range(output.rows * ld if own else 0):
            delta[i] = np.nan
        for i in range(output.rows):
            weight = weight_of(output, i)
            for j in range(n):
                at = np.float64(f[i * ld + j])
                value, of_f = value_and_slope(numbers, at, np.float64(y[i * ld_y + j]))
                total += weight * value
                delta[i * ld + j] = weight * scale * of_f
            for j in range(n, ld):
                delta[i * ld + j] = 0
        return total

    def bend(numbers, output, scale, rf, r_delta):
        n, ld, ld_y, f, y = output.n, output.ld, output.ld_y, output.f, output.y
        for i in range(output.rows * ld if own else 0):
            r_delta[i] = np.nan
        for i in range(output.rows):
            factor = weight_of(output, i) * scale
            for j in range(n):
                at = np.float64(f[i * ld + j])
                curved = curvature(numbers, at, np.float64(y[i * ld_y + j]))
                r_delta[i * ld + j] = factor * curved * rf[i * ld + j]
            for j in range(n, ld):
                r_delta[i * ld + j] = 0

    for function in (slope, bend):
        function.__module__ = "own" if own else __name__
        function.__name__ = function.__qualname__ = f"{kind}_{function.__name__}"
    return Loss(linked(slope), linked(bend))
