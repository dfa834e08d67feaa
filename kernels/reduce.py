"""Sums in a fixed order, whoever computed the parts."""

from __future__ import annotations

from .link import linked


@linked
def count_beyond(a, a0, n, limit) -> float:
    """How many of ``a[a0 : a0 + n]`` are beyond the limit, or NaN; a sum that may be vectors."""
    count = 0
    for i in range(a0, a0 + n):
        count += not abs(a[i]) <= limit
    return count


@linked
def add_rows(rows, n_rows, size, total):
    """``total += rows[0] + rows[1] + ...``, in this order."""
    for row in range(n_rows):
        for i in range(size):
            total[i] += rows[row * size + i]
