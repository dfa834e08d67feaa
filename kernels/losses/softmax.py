"""Cross-entropy of classes, of which there is an output each.

Of outputs f and the label y of a row, 0 to n - 1,

    l = log sum_j exp f_j - f_y,      dl/df = p - e_y,      G v = p * v - p (p . v)

with p = exp f / sum exp f. The largest output is taken off before exp, so none overflows. What is
no label makes NaN.
"""

from __future__ import annotations

from typing import Any

from ..vectors.elementary import exp, log_parts
from .rows import Rows, loss_of_rows


def _largest(rows: Rows) -> Any:
    """The largest output of each row."""

    def body(j: Any, so_far: list[Any]) -> list[Any]:
        f = rows.f(j)
        return [rows.m.where(f > so_far[0], f, so_far[0])]

    return rows.each(rows.n, [-float("inf")], body)[0]


def _slope(rows: Rows) -> None:
    m, label, largest = rows.m, rows.y(0), _largest(rows)

    def exps(j: Any, sums: list[Any]) -> list[Any]:
        z, others, own = sums
        f, here = rows.f(j), label == rows.on.spread(j)
        e = exp(m, f - largest)
        rows.put(e, j)
        return [z + e, others + m.where(here, 0.0, e), m.where(here, f, own)]

    z, others, own = rows.each(rows.n, [0.0, 0.0, float("nan")], exps)
    hi, lo = log_parts(m, z)
    rows.end(hi + lo + (largest - own))
    factor = rows.factor / m.where(own == own, z, own)
    of_label = -(factor * others)  # what its own p lacks of 1, to all its digits

    def slopes(j: Any, nothing: list[Any]) -> list[Any]:
        rows.put(m.where(label == rows.on.spread(j), of_label, factor * rows.kept(j)), j)
        return nothing

    rows.each(rows.n, [], slopes)


def _bend(rows: Rows) -> None:
    largest = _largest(rows)

    def exps(j: Any, sums: list[Any]) -> list[Any]:
        e = exp(rows.m, rows.f(j) - largest)
        rows.put(e, j)
        return [sums[0] + e, sums[1] + e * rows.rf(j)]

    z, total = rows.each(rows.n, [0.0, 0.0], exps)
    mean, factor = total / z, rows.factor / z

    def bends(j: Any, nothing: list[Any]) -> list[Any]:
        rows.put(factor * rows.kept(j) * (rows.rf(j) - mean), j)
        return nothing

    rows.each(rows.n, [], bends)


SOFTMAX = loss_of_rows("softmax", _slope, _bend)
