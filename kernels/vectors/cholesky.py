"""Cholesky factors of matrices ``I + something positive``: factor, solve, take in one more row.

A = R^T R with R upper triangular, so that all that is read and written in a row lies side by side.
Every product is one of ``outer``: a block of rows takes what the rows above (or below) it give it
at once, and then each row what those of its block do. The tile only adds, so a row is worked with
its sign turned.

Each pivot of such a matrix is at least 1: it is a Schur complement, whose inverse is a diagonal
entry of A^-1, and that is at most I. Where rounding leaves less, 1 it is. So nothing finite makes
the factorisation fail.
"""

from __future__ import annotations

import math

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from .matmul import outer
from .pointers import lanes_of, offset

#: rows that take their share of the others together
BLOCK = 8


@helper
def whole(n, vector):
    """``n`` rounded up to whole vectors of the dtype of ``vector``."""
    lanes = lanes_of(vector)
    return (n + lanes - 1) // lanes * lanes


@helper
def negate(n, x):
    """``x (n,) = -x``."""
    for j in range(n):
        x[j] = -x[j]


@helper
def times_minus(n, x, factor):
    """``x (n,) = -factor x``."""
    for j in range(n):
        x[j] *= -factor


@linked
def factor(n, a, lda):
    """Overwrite the upper triangle of A (n, lda) by R, but for 1 / R[i, i] on its diagonal.

    Columns up to a whole vector are worked, and must be zero beyond n.
    """
    lanes, width = lanes_of(a), whole(n, a)
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        left = first - first % lanes
        block = offset(a, first * lda + left)
        for i in range(first, last):
            negate(width - left, offset(a, i * lda + left))
        if first > 0:
            outer(
                last - first, width - left, first, block, lda, block, lda, 1, offset(a, first), 1,
                lda, offset(a, left), lda,
            )  # fmt: skip
        for i in range(first, last):
            row = offset(a, i * lda)
            left = i - i % lanes
            outer(
                1, width - left, i - first, offset(row, left), lda, offset(row, left), lda, 1,
                offset(a, first * lda + i), 1, lda, offset(a, first * lda + left), lda,
            )  # fmt: skip
            pivot = -np.float64(row[i])
            if pivot < 1.0:  # NaN stays
                pivot = 1.0
            row[i] = 1.0 / math.sqrt(pivot)
            times_minus(width - i - 1, offset(row, i + 1), row[i])


@linked
def solve_lower(n, r, ldr, x, width):
    """``X (n, width) = R^-T X``."""
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        block = offset(x, first * width)
        negate((last - first) * width, block)
        if first > 0:
            outer(
                last - first, width, first, block, width, block, width, 1, offset(r, first), 1, ldr,
                x, width,
            )  # fmt: skip
        for i in range(first, last):
            row = offset(x, i * width)
            if i > first:
                outer(
                    1, width, i - first, row, width, row, width, 1, offset(r, first * ldr + i), 1,
                    ldr, block, width,
                )  # fmt: skip
            times_minus(width, row, r[i * ldr + i])


@linked
def solve_upper(n, r, ldr, x, width):
    """``X (n, width) = R^-1 X``."""
    last = n
    while last > 0:
        first = max(last - BLOCK, 0)
        block, below = offset(x, first * width), offset(x, last * width)
        negate((last - first) * width, block)
        if last < n:
            outer(
                last - first, width, n - last, block, width, block, width, 1,
                offset(r, first * ldr + last), ldr, 1, below, width,
            )  # fmt: skip
        for i in range(last - 1, first - 1, -1):
            row = offset(x, i * width)
            if i + 1 < last:
                outer(
                    1, width, last - i - 1, row, width, row, width, 1,
                    offset(r, i * ldr + i + 1), ldr, 1, offset(row, width), width,
                )  # fmt: skip
            times_minus(width, row, r[i * ldr + i])
        last = first


@linked
def take_in(n, width, r, ldr, x):
    """Make R that of ``R^T R + x x^T``, by rotations; here R[i, i] itself is on the diagonal.

    Columns from n to ``width`` go along: right sides ``R^-T b`` become those of ``b + x y``. x is
    used up.
    """
    for i in range(n):
        row = offset(r, i * ldr)
        if x[i] != 0.0:
            length = math.hypot(row[i], x[i])
            c, s = row[i] / length, x[i] / length
            row[i] = length
            for j in range(i + 1, width):
                before = row[j]
                row[j] = c * before + s * x[j]
                x[j] = c * x[j] - s * before


@linked
def forward_row(n, width, r, ldr, x) -> float:
    """``x = R^-T x``, as ``take_in`` has R; returns its squared length.

    Columns from n to ``width``, zero before, become minus the dot products with the right sides.
    """
    total = 0.0
    for i in range(n):
        row = offset(r, i * ldr)
        v = x[i] / row[i]
        x[i] = v
        total += v * v
        for j in range(i + 1, width):
            x[j] -= v * row[j]
    return total
