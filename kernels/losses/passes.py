"""A loss as the methods see it: two functions, called through their addresses.

A task's loss is ``scale`` times a sum over its rows of l(f, y), f the model's outputs. It enters at
the outputs alone, with its value, its slope dl/df and its curvature G = d2l/df2 (n_out, n_out):

    slope(numbers, output, scale, delta)      delta = scale dl/df; returns the sum of l
    bend(numbers, output, scale, rf, r_delta) R delta = scale G Rf

``numbers`` are those of the loss, of which the first is the scale without the row count. Padding of
delta and of R delta is set to zero. As all compiled functions that are called by address, they
cannot raise: what has no value is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.types import BaseTuple
from numba.np import numpy_support

from ..compile.jit import helper
from ..compile.link import Types, address_of, by_address
from ..compile.records import NET_FIELDS, View, loss_numbers


class Output(NamedTuple):
    """Outputs of some rows, f (rows, ld), and their targets y (rows, n)."""

    rows: int
    n: int
    ld: int
    f: Any
    y: Any


class Loss(NamedTuple):
    """The two functions of a loss, each a linked one."""

    slope: Callable[..., float]
    bend: Callable[..., None]


def _signatures(dtype: types.Float) -> dict[str, Types]:
    """The types of each function's arguments."""
    i, p, numbers = types.int64, types.CPointer(dtype), types.CPointer(types.float64)
    output = BaseTuple.from_types([i, i, i, p, p], Output)
    return {
        "slope": (numbers, output, types.float64, p),
        "bend": (numbers, output, types.float64, p, p),
    }


_SIGNATURES = tuple(_signatures(dtype) for dtype in (types.float32, types.float64))
_slope = by_address(tuple(each["slope"] for each in _SIGNATURES), types.float64)
_bend = by_address(tuple(each["bend"] for each in _SIGNATURES))


def with_loss(
    table: np.ndarray, loss: Loss, dtype: np.dtype, scale: float, mean: bool,
    numbers: Sequence[float] = (), curved: bool = True,
) -> np.ndarray:  # fmt: skip
    """A copy of a model's table with a loss: its addresses in this process, and its numbers.

    Without ``curved`` nothing asks for the curvature, and `bend` is not compiled.
    """
    begin = View(table).loss_numbers
    table = np.append(table[:begin], np.array([scale, *numbers], np.float64).view(np.int64))
    signatures = _signatures(numpy_support.from_dtype(np.dtype(dtype)))
    results = {"slope": types.float64, "bend": types.void} if curved else {"slope": types.float64}
    for name, result in results.items():
        table[NET_FIELDS.index(name)] = address_of(getattr(loss, name), signatures[name], result)
    table[NET_FIELDS.index("loss_mean")] = mean
    return table


@helper
def scale_of(net, rows):
    """What the sum over a task's rows is multiplied by."""
    scale = loss_numbers(net, 0)[0]
    return scale / rows if net.loss_mean else scale


@helper
def slope(net, output, scale, delta):
    """The sum of l, and ``delta = scale dl/df``."""
    return _slope(net.slope, (loss_numbers(net, 0), output, scale, delta))


@helper
def bend(net, output, scale, rf, r_delta):
    """``R delta = scale G Rf``."""
    _bend(net.bend, (loss_numbers(net, 0), output, scale, rf, r_delta))
