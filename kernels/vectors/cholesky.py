"""Cholesky factors of matrices ``I + something positive``: factor, solve, take in one more row.

A = R^T R with R upper triangular, so that all that is read and written in a row lies side by side.
Rows are worked a few at a time, by the tiles of ``triangles``: they take what the rows above (or
below) them give, and then what those among them do. Right sides may lie behind A in the same rows,
and are solved on the way.

Each pivot of such a matrix is at least 1: it is a Schur complement, whose inverse is a diagonal
entry of A^-1, and that is at most I. Where rounding leaves less, 1 it is. But a pivot that is so
small beside the matrix is made of rounding, and so is what is divided by it (`is_lost`). Then
A = I + X^T X is factored without being formed, by rotating the rows of X into I (`take_in`) or by
``reflections``, which takes half as many digits.
"""

from __future__ import annotations

import math

from ..compile.jit import helper
from ..compile.link import linked
from .pointers import lanes_of, offset, stack_panel
from .triangles import ACROSS, BLOCK, LOWER, TAKE, UPPER, pivots_tile, reduce_tile


@helper
def whole(n, vector):
    """``n`` rounded up to whole vectors of the dtype of ``vector``."""
    lanes = lanes_of(vector)
    return (n + lanes - 1) // lanes * lanes


@linked
def reduce_rows(rows, width, mode, c, ldc, k, a, row, step, b, ldb, r, ldr):
    """``reduce_tile`` across ``width`` numbers, whole vectors."""
    lanes = lanes_of(c)
    vectors = width // lanes
    while vectors > 0:
        across = min(vectors, ACROSS)
        reduce_tile(rows, across, mode, c, ldc, k, a, row, step, b, ldb, r, ldr)
        c, b = offset(c, across * lanes), offset(b, across * lanes)
        vectors -= across


@linked
def factor(n, a, lda, width):
    """Overwrite the upper triangle of A in [A, X] (n, width) by R, and X by R^-T X.

    On the diagonal is 1 / R[i, i]. ``width`` is of whole vectors, and so is that of A, which must
    be zero beyond n. What is below the diagonal is lost.
    """
    lanes = lanes_of(a)
    r = stack_panel(a, BLOCK)  # BLOCK * BLOCK numbers at least
    for first in range(0, n, BLOCK):
        rows = min(BLOCK, n - first)
        left = first - first % lanes
        near = whole(first + rows - left, a)
        block, above = offset(a, first * lda + left), offset(a, left)
        by = offset(a, first)
        reduce_rows(rows, near, TAKE, block, lda, first, by, 1, lda, above, lda, r, BLOCK)
        pivots_tile(rows, 1, offset(a, first * lda + first), lda, r)
        reduce_rows(rows, near, LOWER, block, lda, 0, by, 1, lda, above, lda, r, BLOCK)
        block, above = offset(block, near), offset(above, near)
        reduce_rows(
            rows, width - left - near, LOWER, block, lda, first, by, 1, lda, above, lda, r, BLOCK
        )
        for i in range(rows):
            a[(first + i) * lda + first + i] = r[i * BLOCK + i]


@linked
def solve_lower(n, r, ldr, x, ldx, width):
    """``X (n, width) = R^-T X``."""
    for first in range(0, n, BLOCK):
        block = offset(x, first * ldx)
        reduce_rows(
            min(BLOCK, n - first), width, LOWER, block, ldx, first, offset(r, first), 1, ldr, x,
            ldx, offset(r, first * ldr + first), ldr,
        )  # fmt: skip


@linked
def solve_upper(n, r, ldr, x, ldx, width):
    """``X (n, width) = R^-1 X``."""
    last = n
    while last > 0:
        first = max(last - BLOCK, 0)
        reduce_rows(
            last - first, width, UPPER, offset(x, first * ldx), ldx, n - last,
            offset(r, first * ldr + last), ldr, 1, offset(x, last * ldx), ldx,
            offset(r, first * ldr + first), ldr,
        )  # fmt: skip
        last = first


#: how small the least pivot may be, beside the largest entry of the diagonal
LOST = 1e-9


@helper
def is_lost(n, r, ldr, largest):
    """Whether a factor, of a matrix with such a largest entry, has lost too much to rounding."""
    root = 0.0
    for i in range(n):
        root = max(root, r[i * ldr + i])
    return largest * root * root > 1 / LOST


@linked
def start_rotations(n, width, r, ldr):
    """R of I (n, n), for `take_in`, and right sides of zero."""
    for i in range(n):
        for j in range(width):
            r[i * ldr + j] = 1 if i == j else 0


@linked
def end_rotations(n, r, ldr):
    """R as `factor` leaves it, with 1 / R[i, i] on the diagonal."""
    for i in range(n):
        r[i * ldr + i] = 1 / r[i * ldr + i]


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
