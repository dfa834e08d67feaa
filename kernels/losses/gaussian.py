"""The negative log density of a normal distribution, of which the model gives mean and variance.

Of outputs f = (m_1 ... m_k, s_1 ... s_k), means and then log variances, and targets y_1 ... y_k,

    l = sum_j 1/2 (log 2 pi + s_j + u_j^2),     u_j = (m_j - y_j) h_j,   h_j = exp(-s_j / 2)

    dl/dm = u h               d2l/dm2  = h^2
    dl/ds = 1/2 (1 - u^2)     d2l/dmds = -u h       d2l/ds2 = 1/2 u^2

D. A. Nix, A. S. Weigend, Estimating the mean and variance of the target probability distribution,
1994, equation 5.
"""

from __future__ import annotations

from typing import Any

from ..vectors.elementary import exp
from .rows import Rows, loss_of_rows

_LOG_2_PI = 1.8378770664093453


def _of_target(rows: Rows, j: Any) -> tuple[Any, Any, Any, Any]:
    """The log variance s of a target and its column, h and u."""
    column = rows.on.sum(j, rows.n_y)
    s = rows.f(column)
    h = exp(rows.m, -0.5 * s)
    return s, column, h, (rows.f(j) - rows.y(j)) * h


def _slope(rows: Rows) -> None:
    def body(j: Any, total: list[Any]) -> list[Any]:
        s, column, h, u = _of_target(rows, j)
        rows.put(rows.factor * (u * h), j)
        rows.put(rows.factor * (0.5 - 0.5 * u * u), column)
        return [total[0] + 0.5 * (_LOG_2_PI + s + u * u)]

    rows.end(rows.each(rows.n_y, [0.0], body)[0])


def _bend(rows: Rows) -> None:
    def body(j: Any, nothing: list[Any]) -> list[Any]:
        _, column, h, u = _of_target(rows, j)
        rm, rs = rows.rf(j), rows.rf(column)
        rows.put(rows.factor * (h * h * rm - u * h * rs), j)
        rows.put(rows.factor * (0.5 * u * u * rs - u * h * rm), column)
        return nothing

    rows.each(rows.n_y, [], body)


GAUSSIAN = loss_of_rows("gaussian", _slope, _bend)
