"""A user's four compiled functions with a task in each lane (``lanes``).

They are compiled once more, for arrays of vectors (``vectors.numbers``). Between them stands the
loss:

* slopes     f, ``delta = dL/df``, then ``g = J^T delta``; f and delta are kept
* query      the same with the loss of the query rows, without keeping them
* products   ``Rf = J v``, ``R delta``, then ``hv = J^T R delta + sum delta d2f v``

A user's function may raise, which leaves NaN behind in all lanes: the results are then not finite,
and computed anew by the functions themselves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..compile.given import result_for
from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.loops import operation
from ..vectors.loss_formulas import LANE_LOSSES
from ..vectors.numbers import array_type, lane_rows, lane_run
from ..vectors.pointers import lanes_of, offset
from .custom import ARGUMENTS
from .lanes import LanePasses

#: those that have a row for each row of x
_MATRICES = ("x", "f", "delta", "rf")


def require_lanes(name: str, function: Any, dtype: np.dtype) -> None:
    """Raise TypeError, with a reason, if a function does not compile for arrays of vectors."""
    axes = [2 if word in _MATRICES else 1 for word in ARGUMENTS[name]]
    result_for(function, tuple(array_type(dtype, n) for n in axes))


# The loss between them ---------------------------------------------------------------------------


def _loss(on: Any, kind: str, numbers: Any) -> list[Any]:
    return [on.number(numbers, i) for i in range(LANE_LOSSES[kind][2])]


def _write_slope(on: Any, kind: str, n_out: int, *operands: Any) -> None:
    numbers, n, _, y, width, weights, stride, scale, f, delta, value = operands
    m, of_loss, factor = on.m, _loss(on, kind, numbers), on.load(scale, 0, 0, 0)

    def body(row: Any, totals: list[Any]) -> list[Any]:
        weight = on.load(weights, row, stride, 0)
        scaled, total = weight * factor, totals[0]
        for o in range(n_out):
            at, target = on.load(f, row, n_out, o), on.load(y, row, width, o)
            of_row, slope = LANE_LOSSES[kind][0](m, of_loss, at, target)
            on.store(scaled * slope, delta, row, n_out, o)
            total = m.fma(weight, of_row, total)
        return [total]

    (total,) = on.rows(n, [m.constant(0.0)], body)
    on.store(total * factor, value, 0, 0, 0)


def _write_bend(on: Any, kind: str, n_out: int, *operands: Any) -> None:
    """R delta in the place of Rf."""
    numbers, n, _, y, width, weights, stride, scale, f, rf = operands
    m, of_loss, factor = on.m, _loss(on, kind, numbers), on.load(scale, 0, 0, 0)

    def body(row: Any, totals: list[Any]) -> list[Any]:
        scaled = on.load(weights, row, stride, 0) * factor
        for o in range(n_out):
            at, target = on.load(f, row, n_out, o), on.load(y, row, width, o)
            curvature = LANE_LOSSES[kind][1](m, of_loss, at, target)
            along = on.load(rf, row, n_out, o)
            r_delta = scaled * (along if curvature is None else curvature * along)
            on.store(r_delta, rf, row, n_out, o)
        return totals

    on.rows(n, [], body)


_ROWS = "numbers n x y width weights stride scale f"


# The passes --------------------------------------------------------------------------------------


@helper
def _fill(numbers, n, value):
    for i in range(n):
        numbers[i] = value


def _prepare() -> Any:
    def prepare(rows, made):
        """Nothing is made."""

    return prepare


def _query(sizes: tuple[int, int, int], forward: Any, vjp: Any, kind: str) -> Any:
    p, n_in, n_out = sizes
    slope = operation(f"{_ROWS} delta value", _write_slope, kind, n_out)

    def query(numbers, rows, w, room, value, g):
        lanes, n = lanes_of(g), rows.n
        f, delta = room, offset(room, n * n_out * lanes)
        theta, x = lane_run(w, p), lane_rows(rows.x, n, n_in)
        _fill(g, p * lanes, 0)
        try:
            forward(theta, x, lane_rows(f, n, n_out))
            slope(
                numbers, n, rows.x, rows.y, rows.width, rows.weights, rows.stride, rows.scale, f,
                delta, value,
            )  # fmt: skip
            vjp(theta, x, lane_rows(delta, n, n_out), lane_run(g, p))
        except Exception:
            _fill(g, p * lanes, np.nan)
            _fill(value, lanes, np.nan)

    return query


def _slopes(n_out: int, query: Any) -> Any:
    """``query`` of the support loss: it leaves f and delta."""

    def slopes(numbers, rows, w, kept, g):
        value = offset(kept, 2 * rows.n * n_out * lanes_of(g))  # of no use
        query(numbers, rows, w, kept, value, g)

    return slopes


def _products(sizes: tuple[int, int, int], vjp: Any, jvp: Any, hvp: Any, kind: str) -> Any:
    p, n_in, n_out = sizes
    bend = operation(f"{_ROWS} rf", _write_bend, kind, n_out)

    def products(numbers, rows, w, v, kept, hv):
        lanes, n = lanes_of(hv), rows.n
        f, delta = kept, offset(kept, n * n_out * lanes)
        rf = offset(kept, 2 * n * n_out * lanes)
        theta, x, along = lane_run(w, p), lane_rows(rows.x, n, n_in), lane_run(v, p)
        h = lane_run(hv, p)
        _fill(hv, p * lanes, 0)
        try:
            jvp(theta, x, along, lane_rows(rf, n, n_out))
            bend(
                numbers, n, rows.x, rows.y, rows.width, rows.weights, rows.stride, rows.scale, f,
                rf,
            )  # fmt: skip
            vjp(theta, x, lane_rows(rf, n, n_out), h)
            hvp(theta, x, lane_rows(delta, n, n_out), along, h)
        except Exception:
            _fill(hv, p * lanes, np.nan)

    return products


@lru_cache(maxsize=64)
def custom_lanes(
    sizes: tuple[int, int, int], functions: tuple[Any, Any, Any, Any], kind: str, query_kind: str
) -> LanePasses:
    """The passes of a model of (parameters, inputs, outputs), of its functions and two losses."""
    forward, vjp, jvp, hvp = functions

    def made(function: Any) -> Any:
        function.__module__ = "custom"  # not the package's: what it calls its store cannot watch
        return linked(function)

    query = made(_query(sizes, forward, vjp, query_kind))
    of_support = query if kind == query_kind else made(_query(sizes, forward, vjp, kind))
    return LanePasses(
        made(_prepare()), made(_slopes(sizes[2], of_support)), query,
        made(_products(sizes, vjp, jvp, hvp, kind)), 0, 3 * sizes[2], 2 * sizes[2],
    )  # fmt: skip
