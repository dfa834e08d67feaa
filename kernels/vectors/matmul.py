"""Products of small row blocks.

``outer`` computes ``C = D + A B``, reading A one number at a time and the rows of B and C as
vectors; with A's strides swapped it is ``C = D + A^T B``. ``inner`` computes ``C = scale A B^T +
shift [+ C]``, reading the rows of A and B as vectors. ``sum_rows`` is the product with a row of
ones. Every operand is a pointer to its first number and a stride, as BLAS takes them. ``n`` in
``outer`` and ``k`` in ``inner`` are padded lengths: multiples of the vector's lanes, with zeros in
the padding.
"""

from __future__ import annotations

from ..compile.link import linked
from .emitter import DOT_ROWS, TILE_COLUMNS, TILE_ROWS
from .pointers import lanes_of, offset, stack_panel
from .tiles import inner_tile, outer_tile, sum_tile

#: rows of a packed panel (it fits the first-level cache), and the stride in vectors and the rows
#: from which packing pays
PANEL, PACK_WIDTH, PACK_ROWS = 192, 8, 24


@linked
def outer(m, n, k, c, ldc, d, ldd, add, a, row, step, b, ldb):
    """``C (m, n) = D + A (m, k) B (k, n)``, with A[i, p] at ``i * row + p * step``.

    What remains of two tiles or less is halved, so that none is left with a single row while
    others are full (and without a division, which costs as much as a small tile). A column of a
    wide B lies on as many pages of memory as B has rows, so a panel of it is copied before all rows
    of A use it.
    """
    lanes = lanes_of(c)
    packed = ldb >= PACK_WIDTH * lanes and m >= PACK_ROWS
    copy = stack_panel(c, PANEL)
    vectors = n // lanes
    while vectors > 0:
        across = vectors
        if across > TILE_COLUMNS:
            across = min(TILE_COLUMNS, (vectors + 1) >> 1)
        width = across * lanes
        k0 = 0
        while k0 < k or k0 == 0:  # once even for k = 0, which copies D
            depth, panel, stride = k, b, ldb
            source, lds = d, ldd
            if packed:
                depth, panel, stride = min(PANEL, k - k0), copy, width
                for p in range(depth):
                    for q in range(width):
                        copy[p * width + q] = b[(k0 + p) * ldb + q]
            if k0 > 0:
                source, lds = c, ldc
            i = 0
            while i < m:
                down = m - i
                if down > TILE_ROWS:
                    down = min(TILE_ROWS, (down + 1) >> 1)
                outer_tile(
                    down, across, offset(c, i * ldc), ldc, offset(source, i * lds), lds,
                    add or k0 > 0, offset(a, i * row + k0 * step), row, step, panel, stride, depth,
                )  # fmt: skip
                i += down
            k0 += max(depth, 1)
        c, d, b = offset(c, width), offset(d, width), offset(b, width)
        vectors -= across


@linked
def inner(m, n, k, c, ldc, scale, shift, add, a, lda, b, ldb):
    """``C (m, n) = scale A (m, k) B (n, k)^T + shift [+ C]``; see ``inner_tile``."""
    i = 0
    while i < m:
        down = m - i
        if down > DOT_ROWS:
            down = min(DOT_ROWS, (down + 1) >> 1)
        j = 0
        while j < n:
            across = n - j
            if across > DOT_ROWS:
                across = min(DOT_ROWS, (across + 1) >> 1)
            inner_tile(
                down, across, offset(c, i * ldc + j), ldc, scale, shift, add,
                offset(a, i * lda), lda, offset(b, j * ldb), ldb, k,
            )  # fmt: skip
            j += across
        i += down


@linked
def sum_rows(n, k, c, d, add, a, lda):
    """``C (n,) = [D +] A[0] + A[1] + ...`` for the k rows of A, one after the other."""
    lanes = lanes_of(c)
    for j in range(0, n, lanes):
        sum_tile(k, add, offset(c, j), offset(d, j), offset(a, j), lda)
