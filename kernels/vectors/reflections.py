"""Householder reflections of ``[I, Phi]``: its factor, and what is orthogonal to its rows.

With Phi (K, p), reflections H_0 ... H_{K-1} of K + p numbers make

    [I, Phi] H_0 ... H_{K-1} = [R^T, 0],    R^T R = I + Phi Phi^T

without that matrix being formed, which would take twice the digits. H_i is ``I - c v v^T``, v a
number at place i and then row i of Phi as the earlier reflections have left it; the number is ``1 +
norm`` and c is ``1 / (norm (1 + norm))`` with the norm of [1, that row].

A vector of K + p numbers is a top of K, ``step`` apart, and a bottom of p side by side.
"""

from __future__ import annotations

import math

from ..compile.link import linked
from .pointers import offset


@linked
def dot(n, x, y) -> float:
    """``x . y``."""
    total = 0.0
    for i in range(n):
        total += x[i] * y[i]
    return total


@linked
def subtract_times(n, factor, x, y):
    """``y = y - factor x``."""
    for i in range(n):
        y[i] -= factor * x[i]


@linked
def reflect(k, p, phi, ldp, first, r, ldr):
    """Overwrite Phi by the reflections, with the numbers at places i in ``first`` (K,); write R.

    As ``cholesky.factor`` leaves it, with 1 / R[i, i] on the diagonal; these are negative.
    """
    for i in range(k):
        v = offset(phi, i * ldp)
        norm = math.sqrt(1.0 + dot(p, v, v))
        first[i] = 1.0 + norm
        r[i * ldr + i] = -1.0 / norm
        for j in range(i + 1, k):
            row = offset(phi, j * ldp)
            along = dot(p, v, row) / norm
            r[i * ldr + j] = -along
            subtract_times(p, along / first[i], v, row)


@linked
def _reflected(p, v, first, top, bottom, i, step):
    along = (first * top[i * step] + dot(p, v, bottom)) / (first - 1.0)
    top[i * step] -= along
    subtract_times(p, along / first, v, bottom)


@linked
def from_reflected(k, p, phi, ldp, first, top, step, bottom):
    """``[top, bottom] = H_0 ... H_{K-1} [top, bottom]``."""
    for back in range(k):
        i = k - 1 - back
        _reflected(p, offset(phi, i * ldp), first[i], top, bottom, i, step)


@linked
def without_rows(k, p, phi, ldp, first, top, step, bottom):
    """Take from [top, bottom] what lies in the span of the rows of [I, Phi]."""
    for i in range(k):
        _reflected(p, offset(phi, i * ldp), first[i], top, bottom, i, step)
    for i in range(k):
        top[i * step] = 0
    from_reflected(k, p, phi, ldp, first, top, step, bottom)
