"""Sums in a fixed order, whoever computed the parts."""

from __future__ import annotations

from ..compile.link import linked


@linked
def count_beyond(a, n, limits) -> float:
    """How many of ``a[:n]`` are not below ``limits[0]``; a sum that may be vectors.

    Infinite ones and NaN are not, whatever the limit is.
    """
    limit = limits[0]  # of the dtype of a, which a number as an argument would not be
    count = 0
    for i in range(n):
        count += not abs(a[i]) < limit
    return count


@linked
def squares(a, n) -> float:
    """The sum of squares of ``a[:n]``, in four sums, so that one needs not wait for another."""
    s0 = s1 = s2 = s3 = 0.0
    end = n - n % 4
    for i in range(0, end, 4):
        s0 += a[i] * a[i]
        s1 += a[i + 1] * a[i + 1]
        s2 += a[i + 2] * a[i + 2]
        s3 += a[i + 3] * a[i + 3]
    for i in range(end, n):
        s0 += a[i] * a[i]
    return (s0 + s1) + (s2 + s3)


@linked
def add_rows(rows, n_rows, size, total):
    """``total += rows[0] + rows[1] + ...``, in this order."""
    for row in range(n_rows):
        for i in range(size):
            total[i] += rows[row * size + i]
