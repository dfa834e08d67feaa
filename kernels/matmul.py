"""Products of small row blocks, in flat buffers.

``outer`` computes ``C = D + A B``, reading A one number at a time and the rows of B and C as vectors; with
A's strides swapped it is ``C = D + A^T B``. ``inner`` computes ``C = scale A B^T + shift [+ C]``, reading the rows of A and B as
vectors. Every operand is an array with an offset to its first number. ``n`` in ``outer`` and ``k`` in ``inner``
are padded lengths: multiples of the vector's lanes, with zeros in the padding.
"""

from __future__ import annotations

from .link import linked
from .simd import inner_tile, lanes_of, outer_tile

_outer_8x2, _outer_8x1 = outer_tile(8, 2), outer_tile(8, 1)
_outer_4x2, _outer_4x1 = outer_tile(4, 2), outer_tile(4, 1)
_outer_2x2, _outer_2x1 = outer_tile(2, 2), outer_tile(2, 1)
_outer_1x2, _outer_1x1 = outer_tile(1, 2), outer_tile(1, 1)
_inner_4x4, _inner_4x2, _inner_4x1 = inner_tile(4, 4), inner_tile(4, 2), inner_tile(4, 1)
_inner_2x4, _inner_2x1 = inner_tile(2, 4), inner_tile(2, 1)
_inner_1x4, _inner_1x1 = inner_tile(1, 4), inner_tile(1, 1)


@linked
def outer(m, n, k, c, ci, ldc, d, di, ldd, add, a, ai, row, step, b, bi, ldb):
    """``C (m, n) = D + A (m, k) B (k, n)``, with A[i, p] at ``ai + i * row + p * step``; see ``outer_tile``."""
    lanes = lanes_of(c)
    j = 0
    while j < n:
        pair = j + 2 * lanes <= n
        cj, dj, bj = ci + j, di + j, bi + j
        i = 0
        if pair:
            while i + 8 <= m:
                _outer_8x2(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
                i += 8
            if i + 4 <= m:
                _outer_4x2(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
                i += 4
            if i + 2 <= m:
                _outer_2x2(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
                i += 2
            if i < m:
                _outer_1x2(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
            j += 2 * lanes
        else:
            while i + 8 <= m:
                _outer_8x1(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
                i += 8
            if i + 4 <= m:
                _outer_4x1(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
                i += 4
            if i + 2 <= m:
                _outer_2x1(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
                i += 2
            if i < m:
                _outer_1x1(c, cj + i * ldc, ldc, d, dj + i * ldd, ldd, add, a, ai + i * row, row, step, b, bj, ldb, k)
            j += lanes


@linked
def inner(m, n, k, c, ci, ldc, scale, shift, add, a, ai, lda, b, bi, ldb):
    """``C (m, n) = scale A (m, k) B (n, k)^T + shift [+ C]``; see ``inner_tile``."""
    i = 0
    while i + 4 <= m:
        at, ct = ai + i * lda, ci + i * ldc
        j = 0
        while j + 4 <= n:
            _inner_4x4(c, ct + j, ldc, scale, shift, add, a, at, lda, b, bi + j * ldb, ldb, k)
            j += 4
        if j + 2 <= n:
            _inner_4x2(c, ct + j, ldc, scale, shift, add, a, at, lda, b, bi + j * ldb, ldb, k)
            j += 2
        if j < n:
            _inner_4x1(c, ct + j, ldc, scale, shift, add, a, at, lda, b, bi + j * ldb, ldb, k)
        i += 4
    while i + 2 <= m:
        at, ct = ai + i * lda, ci + i * ldc
        j = 0
        while j + 4 <= n:
            _inner_2x4(c, ct + j, ldc, scale, shift, add, a, at, lda, b, bi + j * ldb, ldb, k)
            j += 4
        while j < n:
            _inner_2x1(c, ct + j, ldc, scale, shift, add, a, at, lda, b, bi + j * ldb, ldb, k)
            j += 1
        i += 2
    if i < m:
        at, ct = ai + i * lda, ci + i * ldc
        j = 0
        while j + 4 <= n:
            _inner_1x4(c, ct + j, ldc, scale, shift, add, a, at, lda, b, bi + j * ldb, ldb, k)
            j += 4
        while j < n:
            _inner_1x1(c, ct + j, ldc, scale, shift, add, a, at, lda, b, bi + j * ldb, ldb, k)
            j += 1
