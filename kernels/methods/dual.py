"""One task's posterior by a K × K system: for fewer support rows than features.

With the scaled features of the support rows, Phi, and of the query rows, Psi (``head``), targets Y
and what the prior mean predicts, F_0:

    A = Phi Phi^T + I,    B = Psi Phi^T,    C = A^-1 (Y - F_0),    F = F_0 + B C
    h = 1 + |psi|^2 - |A^-1/2 b|^2

F is the predictive mean and ``sigma_o^2 h`` the predictive variance of output o. Back, with G and
eta the loss's derivatives by F and h:

    M = A^-1 B^T,    D = A^-1 B^T G
    dA = -D C^T + M diag(eta) M^T,    dB^T = C G^T - 2 M diag(eta),    dF_0 = [-D; G]
    dPhi = (dA + dA^T) Phi + dB^T Psi,    dPsi = dB Phi + 2 diag(eta) Psi

Where no variance is asked for, eta is zero and M is not computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.cholesky import factor, solve_lower, solve_upper, whole
from ..vectors.emitter import LINE
from ..vectors.matmul import inner, outer
from ..vectors.pointers import offset


class Dual(NamedTuple):
    """Where a task's numbers lie; matrices have rows of whole vectors."""

    ld: int  # of ``square``
    ld_q: int  # of Q numbers
    square: Any  # (K, K + Q) A, then its factor; at last [dA + dA^T, dB^T]
    cross: Any  # (K, Q) B^T
    c: Any  # (K, n_out)
    d: Any  # (K, n_out)
    m: Any  # (K, Q) A^-1/2 B^T, then M
    em: Any  # (K, Q) M diag(eta)


def dual_size(k: int, q: int, ld_out: int, lanes: int) -> int:
    """Numbers that a task takes."""
    ld, ld_q = (-(-n // lanes) * lanes for n in (k + q, q))
    return k * (ld + 3 * ld_q + 2 * ld_out) + 6 * LINE


@helper
def on_edge(n):
    """``n`` rounded up to whole cache lines."""
    return (n + LINE - 1) // LINE * LINE


@helper
def dual_of(head, task, memory):
    """A task's places in ``memory``."""
    k, ld, ld_q = task.k, whole(task.k + task.q, memory), whole(task.q, memory)
    cross = on_edge(k * ld)
    c = cross + on_edge(k * ld_q)
    d = c + on_edge(k * head.ld_out)
    m = d + on_edge(k * head.ld_out)
    return Dual(
        ld, ld_q, memory, offset(memory, cross), offset(memory, c), offset(memory, d),
        offset(memory, m), offset(memory, m + on_edge(k * ld_q)),
    )  # fmt: skip


@linked
def dual_forth(head, task, memory, h):
    """The predictive mean, in the place of the prior's, and h (Q,) if it is asked for."""
    k, q, z, ld_z, own = task.k, task.q, task.z, head.ld, dual_of(head, task, memory)
    ld, ld_q, width, square = own.ld, own.ld_q, whole(k, memory), own.square
    z_query, f_query = offset(z, k * ld_z), offset(task.f, k * head.ld_out)
    inner(k, k, ld_z, square, ld, 1.0, 0.0, 0, z, ld_z, z, ld_z)
    for i in range(k):
        square[i * ld + i] += 1
        for j in range(k, width):
            square[i * ld + j] = 0
    factor(k, square, ld)
    inner(k, q, ld_z, own.cross, ld_q, 1.0, 0.0, 0, z, ld_z, z_query, ld_z)
    for i in range(k * head.ld_out):
        own.c[i] = task.df[i]
    solve_lower(k, square, ld, own.c, head.ld_out)
    solve_upper(k, square, ld, own.c, head.ld_out)
    outer(
        q, head.ld_out, k, f_query, head.ld_out, f_query, head.ld_out, 1, own.cross, 1, ld_q,
        own.c, head.ld_out,
    )  # fmt: skip
    if head.density:
        m, cross = own.m, own.cross
        for i in range(k):
            for j in range(q):
                m[i * ld_q + j] = cross[i * ld_q + j]
            for j in range(q, ld_q):
                m[i * ld_q + j] = 0
        solve_lower(k, square, ld, m, ld_q)
        for j in range(q):
            total = 1.0
            for i in range(head.p):
                total += z_query[j * ld_z + i] * z_query[j * ld_z + i]
            h[j] = total
        for i in range(k):
            for j in range(q):
                h[j] -= m[i * ld_q + j] * m[i * ld_q + j]
        for j in range(q):
            if h[j] < 1:  # as rounding may have it, where the prior is wide
                h[j] = 1


@linked
def dual_back(head, task, memory, eta):
    """dz of all rows and df of the support rows, from df of the query rows and eta."""
    k, q, z, ld_z, own = task.k, task.q, task.z, head.ld, dual_of(head, task, memory)
    ld, ld_q, ld_out, square = own.ld, own.ld_q, head.ld_out, own.square
    c, d, m, em, df, dz = own.c, own.d, own.m, own.em, task.df, task.dz
    g, z_query, dz_query = offset(df, k * ld_out), offset(z, k * ld_z), offset(dz, k * ld_z)
    outer(k, ld_out, q, d, ld_out, d, ld_out, 0, own.cross, ld_q, 1, g, ld_out)
    solve_lower(k, square, ld, d, ld_out)
    solve_upper(k, square, ld, d, ld_out)
    for i in range(k * ld_out):
        df[i] = -d[i]
    if head.density:
        solve_upper(k, square, ld, m, ld_q)
        for i in range(k):
            for j in range(q):
                em[i * ld_q + j] = eta[j] * m[i * ld_q + j]
            for j in range(q, ld_q):
                em[i * ld_q + j] = 0
    inner(k, k, ld_out, square, ld, -1.0, 0.0, 0, d, ld_out, c, ld_out)
    to_query = offset(square, k)
    inner(k, q, ld_out, to_query, ld, 1.0, 0.0, 0, c, ld_out, g, ld_out)
    if head.density:
        inner(k, k, ld_q, square, ld, 1.0, 0.0, 1, em, ld_q, m, ld_q)
        for i in range(k):
            for j in range(q):
                to_query[i * ld + j] -= em[i * ld_q + j] + em[i * ld_q + j]
        for j in range(q):
            for i in range(ld_z):
                dz_query[j * ld_z + i] = (eta[j] + eta[j]) * z_query[j * ld_z + i]
    for i in range(k):
        for j in range(i + 1):
            both = square[i * ld + j] + square[j * ld + i]
            square[i * ld + j] = both
            square[j * ld + i] = both
    outer(k, ld_z, k + q, dz, ld_z, dz, ld_z, 0, square, ld, 1, z, ld_z)
    outer(
        q, ld_z, k, dz_query, ld_z, dz_query, ld_z, head.density, to_query, 1, ld, z, ld_z,
    )  # fmt: skip
