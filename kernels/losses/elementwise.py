"""Losses of one output and one target, ``l = sum_j l(f_j, y_j)``, so that G is diagonal.

Their formulas are in ``vectors.loss_formulas``, from where the method ``lanes`` takes them, too.
"""

from __future__ import annotations

from typing import Any

from ..vectors.loss_formulas import LANE_LOSSES
from .passes import Loss
from .rows import Rows, loss_of_rows


def elementwise(kind: str) -> Loss:
    """The two linked functions of a loss, by its word."""
    value_and_slope, curvature, count = LANE_LOSSES[kind]

    def write_slope(rows: Rows) -> None:
        numbers = [rows.number(i) for i in range(count)]

        def body(j: Any, total: list[Any]) -> list[Any]:
            value, slope = value_and_slope(rows.m, numbers, rows.f(j), rows.y(j))
            rows.put(rows.factor * slope, j)
            return [total[0] + value]

        rows.end(rows.each(rows.n, [0.0], body)[0])

    def write_bend(rows: Rows) -> None:
        numbers = [rows.number(i) for i in range(count)]

        def body(j: Any, total: list[Any]) -> list[Any]:
            curved = curvature(rows.m, numbers, rows.f(j), rows.y(j))
            rows.put(rows.factor * curved * rows.rf(j), j)
            return total

        rows.each(rows.n, [], body)

    return loss_of_rows(kind, write_slope, write_bend)


HUBER, PSEUDO_HUBER, LOG_COSH, QUANTILE, LOGISTIC, POISSON = map(
    elementwise, ("huber", "pseudo_huber", "log_cosh", "quantile", "logistic", "poisson")
)
