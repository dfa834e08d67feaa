"""A family of models as the methods see it: five functions, called through their addresses.

A model f(theta, x) is whatever these compute, for a block of rows. In them a parameter vector is
*padded* (see ``padded``), and comes with what is *derived* from it once: for weight layers, the
transposed copies of the weights; for a formula, nothing.

    derive(net, w, c)                            c of a padded vector w
    forward(net, block, at, order)               x in the block -> f in the block
    backward(net, block, at, order, g, add)      delta of f -> g = [g +] J^T delta
    r_forward(net, block, at, along)             -> Rf = J v, v the direction ``along``
    r_backward(net, block, at, along, hv, add)   R delta of f -> hv = [hv +] R(J^T delta)

R is the derivative along a direction v (Pearlmutter's R-operator). Before ``r_forward`` come a
``forward`` and a ``backward`` of order 2, before ``r_backward`` its ``r_forward``; these may use up
what lies in the block, but for x, f and delta. ``order`` is the highest derivative that will be
needed: 0 for f alone, 1 for g, 2 for hv. After a ``forward`` of order 1 there may be more than one
``backward``. Padding of w, g and hv is zero. They cannot raise: what has no value is NaN.

In a block, x is a (rows, ld_in) matrix at its start; f, delta, Rf and R delta are (rows, ld_out),
and begin at ``rows`` times what the record of the model says. What else lies there is the family's
own; for a ``forward`` of order 0 a row may have only ``value_size`` numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.types import BaseTuple
from numba.np import numpy_support

from ..compile.jit import helper
from ..compile.link import Asked, Types, addresses_of, by_address, linked
from ..compile.records import NET, NET_FIELDS
from ..vectors.pointers import offset

#: rows of a block at most
MAX_ROWS = 64


class Point(NamedTuple):
    """Parameters, or a direction: a padded vector, and what is derived from it."""

    w: Any
    c: Any


class Block(NamedTuple):
    """Some rows, and the memory that holds what is kept of them."""

    rows: int
    memory: Any


class Passes(NamedTuple):
    """A family's five functions, each a linked one."""

    derive: Callable[..., None]
    forward: Callable[..., None]
    backward: Callable[..., None]
    r_forward: Callable[..., None]
    r_backward: Callable[..., None]


#: how many of the five are called where derivatives up to 0, 1 or 2 are wanted
_CALLED = {0: 2, 1: 3, 2: 5}


def _signatures(dtype: types.Float) -> dict[str, Types]:
    """The types of each function's arguments."""
    net, i, p = numpy_support.from_dtype(NET), types.int64, types.CPointer(dtype)
    block, at = BaseTuple.from_types([i, p], Block), BaseTuple.from_types([p, p], Point)
    return {
        "derive": (net, p, p),
        "forward": (net, block, at, i),
        "backward": (net, block, at, i, p, i),
        "r_forward": (net, block, at, at),
        "r_backward": (net, block, at, at, p, i),
    }


_FLOATS = (types.float32, types.float64)
_derive, _forward, _backward, _r_forward, _r_backward = (
    by_address(tuple(_signatures(dtype)[name] for dtype in _FLOATS)) for name in Passes._fields
)


def with_passes(table: np.ndarray, passes: Passes, dtype: np.dtype, order: int) -> np.ndarray:
    """A copy of a model's table with the addresses of what derivatives up to an order take.

    They are addresses of this process.
    """
    table = table.copy()
    signatures = _signatures(numpy_support.from_dtype(np.dtype(dtype)))
    names = Passes._fields[: _CALLED[order]]
    reached = addresses_of([Asked(getattr(passes, name), signatures[name]) for name in names])
    for name, address in zip(names, reached, strict=True):
        table[NET_FIELDS.index(name)] = address
    return table


@helper
def derive(net, at):
    """What is derived from a point's parameters."""
    _derive(net.derive, (net, at.w, at.c))


@helper
def forward(net, block, at, order):
    """f of the inputs that lie in the block."""
    _forward(net.forward, (net, block, at, order))


@helper
def backward(net, block, at, order, g, add):
    """``g = [g +] J^T delta``."""
    _backward(net.backward, (net, block, at, order, g, add))


@helper
def r_forward(net, block, at, along):
    """``Rf = J v``."""
    _r_forward(net.r_forward, (net, block, at, along))


@helper
def r_backward(net, block, at, along, hv, add):
    """``hv = [hv +] R(J^T delta)``."""
    _r_backward(net.r_backward, (net, block, at, along, hv, add))


@helper
def f_of(net, block):
    """f of a block."""
    return offset(block.memory, block.rows * net.f)


@helper
def delta_of(net, block):
    """delta of f."""
    return offset(block.memory, block.rows * net.delta)


@helper
def rf_of(net, block):
    """Rf."""
    return offset(block.memory, block.rows * net.rf)


@helper
def r_delta_of(net, block):
    """R delta of f."""
    return offset(block.memory, block.rows * net.r_delta)


@helper
def kept_of(net, block):
    """What a family of ``padded.plain_table`` has for its passes: so many numbers for each row."""
    return offset(block.memory, block.rows * (net.r_delta + net.ld_out))


@linked
def copy_rows(rows, n, source, ld_source, out, ld):
    """Copy n numbers of each row of ld_source into rows of ld numbers, zero-padded."""
    if n == ld_source and n == ld:
        for i in range(rows * n):
            out[i] = source[i]
        return
    if n < ld:
        for i in range(rows * ld):
            out[i] = 0
    for i in range(rows):
        for j in range(n):
            out[i * ld + j] = source[i * ld_source + j]
