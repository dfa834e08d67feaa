"""A loss of a user's own: compiled functions of one output and one target, value, slope, curvature.

They are compiled anew, so that a division by zero gives inf as everywhere here, and called number
by number, in float64 whatever the outputs are. Where one raises an exception, NaN stands for what
it was to compute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, njit, types

from ..compile.link import linked
from .passes import Loss, weight_of


@functools.lru_cache(maxsize=64)
def _compiled(function: Any) -> Any:
    if config.DISABLE_JIT:
        return function
    return njit(error_model="numpy")(function.py_func)


def gives_number(function: Any) -> bool:
    """Whether a function that numba compiled gives one number of two.

    Raises
    ------
    numba.core.errors.NumbaError
        If it cannot be compiled for two float64 numbers.
    """
    compiled = _compiled(function)
    compiled.compile((types.float64, types.float64))
    result = compiled.nopython_signatures[0].return_type
    return isinstance(result, types.Float | types.Integer | types.Boolean)


def own_loss(
    value: Callable[..., Any], slope: Callable[..., Any], curvature: Callable[..., Any]
) -> Loss:
    """The linked functions of such a loss; each is a function of two float64 numbers."""
    own_value, own_slope, own_curvature = map(_compiled, (value, slope, curvature))

    def slope_of_rows(numbers, output, scale, delta) -> float:
        n, ld, ld_y, f, y = output.n, output.ld, output.ld_y, output.f, output.y
        total = 0.0
        for i in range(output.rows * ld):
            delta[i] = np.nan
        for i in range(output.rows):
            weight = weight_of(output, i)
            for j in range(n):
                at, to = np.float64(f[i * ld + j]), np.float64(y[i * ld_y + j])
                total += weight * np.float64(own_value(at, to))
                delta[i * ld + j] = weight * scale * np.float64(own_slope(at, to))
            for j in range(n, ld):
                delta[i * ld + j] = 0
        return total

    def bend_of_rows(numbers, output, scale, rf, r_delta):
        n, ld, ld_y, f, y = output.n, output.ld, output.ld_y, output.f, output.y
        for i in range(output.rows * ld):
            r_delta[i] = np.nan
        for i in range(output.rows):
            factor = weight_of(output, i) * scale
            for j in range(n):
                at, to = np.float64(f[i * ld + j]), np.float64(y[i * ld_y + j])
                curved = np.float64(own_curvature(at, to))
                r_delta[i * ld + j] = factor * curved * rf[i * ld + j]
            for j in range(n, ld):
                r_delta[i * ld + j] = 0

    for function in (slope_of_rows, bend_of_rows):
        function.__module__ = "own"  # of this process, not of the package's cache
    return Loss(linked(slope_of_rows), linked(bend_of_rows))
