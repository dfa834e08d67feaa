"""A loss as the methods see it: two functions, called through their addresses.

A task's loss is ``scale`` times a sum over its rows of l(f, y), f the model's outputs. It enters at
the outputs alone, with its value, its slope dl/df and its curvature G = d2l/df2 (n_out, n_out):

    slope(numbers, output, scale, delta)      delta = scale dl/df; returns the sum of l
    bend(numbers, output, scale, rf, r_delta) R delta = scale G Rf

Where rows have weights, each l is multiplied by that of its row (`weight_of`). ``numbers`` are
those of the loss, of which the first is the scale without the row count. Padding of delta and of
R delta is set to zero. As all compiled functions that are called by address, they cannot raise:
what has no value is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.types import BaseTuple
from numba.np import numpy_support

from ..compile.jit import helper
from ..compile.link import Asked, Types, addresses_of, by_address
from ..compile.records import LOSS_FIELDS, View, loss_of, numbers_at


class Output(NamedTuple):
    """Outputs of some rows, f (rows, ld), and their targets y (rows, ld_y).

    Of a row of f the first ``n`` count, of y the first ``n_y``. If there is one number more, it is
    the weight of the row.
    """

    rows: int
    n: int
    ld: int
    n_y: int
    ld_y: int
    f: Any
    y: Any


class Loss(NamedTuple):
    """The two functions of a loss, each a linked one."""

    slope: Callable[..., float]
    bend: Callable[..., None]


#: in the place of one that a method takes into its own passes, and so never calls
UNCALLED = Loss(None, None)  # type: ignore[arg-type]


def _signatures(dtype: types.Float) -> dict[str, Types]:
    """The types of each function's arguments."""
    i, p, numbers = types.int64, types.CPointer(dtype), types.CPointer(types.float64)
    output = BaseTuple.from_types([i, i, i, i, i, p, p], Output)
    return {
        "slope": (numbers, output, types.float64, p),
        "bend": (numbers, output, types.float64, p, p),
    }


_SIGNATURES = tuple(_signatures(dtype) for dtype in (types.float32, types.float64))
_slope = by_address(tuple(each["slope"] for each in _SIGNATURES), types.float64)
_bend = by_address(tuple(each["bend"] for each in _SIGNATURES))


class OfSide(NamedTuple):
    """The loss of a side of the tasks, as a table holds it."""

    loss: Loss
    scale: float
    mean: bool
    n_y: int  # targets of a row
    weighted: bool = False  # whether each row of y has its weight behind them
    numbers: tuple[float, ...] = ()  # of the loss


def with_losses(
    table: np.ndarray, support: OfSide, query: OfSide, dtype: np.dtype, curved: bool = True
) -> np.ndarray:
    """A copy of a model's table with two losses: their addresses in this process, and numbers.

    Without ``curved`` nothing asks for a curvature, and `bend` is not compiled. Nothing ever asks
    for that of the query loss. A loss that is `UNCALLED` has its numbers there, but no address.
    """
    place = View(table).losses
    records: list[int] = []
    numbers: list[float] = []
    signatures = _signatures(numpy_support.from_dtype(np.dtype(dtype)))
    first = place + 2 * len(LOSS_FIELDS)
    asked: list[Asked | None] = []
    for side, with_bend in ((support, curved), (query, False)):
        called = side.loss is not UNCALLED
        asked += [
            Asked(side.loss.slope, signatures["slope"], types.float64) if called else None,
            Asked(side.loss.bend, signatures["bend"]) if called and with_bend else None,
        ]
    reached = addresses_of(asked)
    for side in (support, query):
        slope_at, bend_at = reached.pop(0), reached.pop(0)
        ld_y = side.n_y + side.weighted
        records += [slope_at, bend_at, side.mean, side.n_y, ld_y, first + len(numbers)]
        numbers += [side.scale, *side.numbers]
    return np.concatenate(
        [table[:place], np.array(records, np.int64), np.array(numbers, np.float64).view(np.int64)]
    )


@helper
def output_of(net, side, rows, f, y):
    """The outputs of rows of a side, and their targets."""
    loss = loss_of(net, side)
    return Output(rows, net.n_out, net.ld_out, loss.n_y, loss.ld_y, f, y)


@helper
def weight_of(output, row):
    """What l of a row is multiplied by."""
    n_y, ld_y = output.n_y, output.ld_y
    return output.y[row * ld_y + n_y] if n_y < ld_y else 1.0


@helper
def scale_of(net, side, rows, y):
    """What the sum over a task's rows, with targets y, is multiplied by."""
    loss = loss_of(net, side)
    scale, n_y, ld_y = numbers_at(net, loss.numbers)[0], loss.n_y, loss.ld_y
    if not loss.averaged:
        return scale
    if n_y == ld_y:
        return scale / rows
    total = 0.0
    for row in range(rows):
        total += y[row * ld_y + n_y]
    return scale / total


@helper
def slope(net, side, output, scale, delta):
    """The sum of l, and ``delta = scale dl/df``."""
    loss = loss_of(net, side)
    return _slope(loss.slope, (numbers_at(net, loss.numbers), output, scale, delta))


@helper
def bend(net, side, output, scale, rf, r_delta):
    """``R delta = scale G Rf``."""
    loss = loss_of(net, side)
    _bend(loss.bend, (numbers_at(net, loss.numbers), output, scale, rf, r_delta))
