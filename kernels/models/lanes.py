"""Passes of whole tasks, one in each lane of a vector: what a family may offer beside its five.

A *group* is as many tasks as a vector has lanes. Whatever differs between tasks is then a vector:
row k of all of them, their parameters, their gradients. A parameter vector of a group is P vectors
one after the other, without padding. A pass goes through all rows of the group and does there all
that there is to do, in registers, the loss included:

    prepare(rows, made)                           what depends on inputs alone, once
    slopes(numbers, rows, w, kept, g)             g = dL/dw; leaves what ``products`` takes up
    query(numbers, rows, w, room, value, g)       the same of another loss, with its value
    products(numbers, rows, w, v, kept, hv)       hv = d2L/dw2 v

``numbers`` are those of the loss. L is ``rows.scale`` times the sum over rows, each lane by its
own. They are reached by their addresses, as the five are, and cannot raise.
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
from ..compile.records import NET_FIELDS


class LaneRows(NamedTuple):
    """Rows of a group, one side of its tasks. Each number of them is a vector."""

    n: int
    x: Any  # (n, n_in)
    made: Any  # (n, n_made), what ``prepare`` leaves
    y: Any  # (n, width): the targets, and what else lies behind them
    width: int
    weights: Any  # (n, stride), of which the first count; one for all rows if the stride is 0
    stride: int
    scale: Any


class LanePasses(NamedTuple):
    """The four functions of a model and its losses, and how many vectors they leave of a row."""

    prepare: Callable[..., None]
    slopes: Callable[..., None]
    query: Callable[..., None]
    products: Callable[..., None]
    n_made: int
    n_kept: int
    n_room: int = 0  # what ``query`` works in


def _signatures(dtype: types.Float) -> dict[str, Types]:
    """The types of each function's arguments."""
    i, p, numbers = types.int64, types.CPointer(dtype), types.CPointer(types.float64)
    rows = BaseTuple.from_types([i, p, p, p, i, p, i, p], LaneRows)
    return {
        "prepare": (rows, p),
        "slopes": (numbers, rows, p, p, p),
        "query": (numbers, rows, p, p, p, p),
        "products": (numbers, rows, p, p, p, p),
    }


_FLOATS = (types.float32, types.float64)
_prepare, _slopes, _query, _products = (
    by_address(tuple(_signatures(dtype)[name] for dtype in _FLOATS))
    for name in LanePasses._fields[:4]
)


def with_lanes(table: np.ndarray, passes: LanePasses, dtype: np.dtype, order: int) -> np.ndarray:
    """A copy of a model's table with the addresses of what derivatives up to an order take.

    They are addresses of this process; of order 0 there are none.
    """
    table = table.copy()
    signatures = _signatures(numpy_support.from_dtype(np.dtype(dtype)))
    called = {
        "prepare": order > 0 and passes.n_made > 0, "slopes": order > 0, "query": order > 0,
        "products": order > 1,
    }  # fmt: skip
    asked = [
        Asked(getattr(passes, name), signatures[name]) if wanted else None
        for name, wanted in called.items()
    ]
    reached = zip(called, addresses_of(asked), strict=True)
    fields = {f"lane_{name}": at for name, at in reached}
    fields |= {"lane_made": passes.n_made, "lane_kept": passes.n_kept, "lane_room": passes.n_room}
    for name, number in fields.items():
        table[NET_FIELDS.index(name)] = number
    return table


@helper
def prepare(net, rows, made):
    """What depends on inputs alone."""
    _prepare(net.lane_prepare, (rows, made))


@helper
def slopes(net, numbers, rows, w, kept, g):
    """``g = dL/dw`` of the support loss."""
    _slopes(net.lane_slopes, (numbers, rows, w, kept, g))


@helper
def query(net, numbers, rows, w, room, value, g):
    """``value = L`` and ``g = dL/dw`` of the query loss."""
    _query(net.lane_query, (numbers, rows, w, room, value, g))


@helper
def products(net, numbers, rows, w, v, kept, hv):
    """``hv = d2L/dw2 v`` of the support loss."""
    _products(net.lane_products, (numbers, rows, w, v, kept, hv))
