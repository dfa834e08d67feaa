"""Sums in a fixed order, whoever computed the parts."""

from __future__ import annotations

from .link import linked


@linked
def sum_of_squares(a, a0, n) -> float:
    """``sum a[a0 : a0 + n]**2``, in eight sums, so that none waits for the one before."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    end = a0 + n // 8 * 8
    for i in range(a0, end, 8):
        s0 += a[i] * a[i]
        s1 += a[i + 1] * a[i + 1]
        s2 += a[i + 2] * a[i + 2]
        s3 += a[i + 3] * a[i + 3]
        s4 += a[i + 4] * a[i + 4]
        s5 += a[i + 5] * a[i + 5]
        s6 += a[i + 6] * a[i + 6]
        s7 += a[i + 7] * a[i + 7]
    for i in range(end, a0 + n):
        s0 += a[i] * a[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@linked
def add_rows(rows, n_rows, size, total):
    """``total += rows[0] + rows[1] + ...``, in this order."""
    for row in range(n_rows):
        for i in range(size):
            total[i] += rows[row * size + i]
