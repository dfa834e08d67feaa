"""A loss of a user's own: compiled functions of one output and one target, value, slope, curvature.

They are compiled anew, so that a division by zero gives inf as everywhere here, and called in the
loop of ``elementwise``. Where one raises an exception, NaN stands for what it was to compute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, njit, types

from ..compile.jit import helper
from .elementwise import elementwise
from .passes import Loss


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

    @helper
    def value_and_slope(numbers, f, y):
        return np.float64(own_value(f, y)), np.float64(own_slope(f, y))

    @helper
    def curved(numbers, f, y):
        return np.float64(own_curvature(f, y))

    return elementwise("own", value_and_slope, curved, own=True)
