"""One task's posterior by a K × K system: for fewer support rows than features.

With the scaled features of the support rows, Phi, and of the query rows, Psi (``head``), targets Y
and what the prior mean predicts, F_0:

    A = Phi Phi^T + I = R^T R,    [C, M] = A^-1 [Y - F_0, Phi Psi^T],    E = Psi - M^T Phi
    w = C^T Phi,    F = F_0 + Psi w^T,    h = 1 + |e|^2 + |m|^2

w is the posterior mean of the weights less the prior's, up to S^1/2; F is the predictive mean and
``sigma_o^2 h`` the predictive variance of output o. E is Psi P^-1 in the terms of ``primal``, so
``h - 1 = psi P^-1 psi^T`` is a sum of squares. Back, with G and eta the loss's derivatives by F and
h:

    v = G^T Psi,    D = A^-1 Phi v^T = M G,    dF_0 = [-D; G]
    dPhi = C (v - D^T Phi) - D w - 2 M diag(eta) E,    dPsi = G w + 2 diag(eta) E

    d log s = sum_o (v - D^T Phi)_o * w_o + sum_q eta_q e_q^2

These are the derivatives through A and Phi Psi^T, with what is of low rank left in factors: dA is
``-D C^T + M diag(eta) M^T``. Where no variance is asked for, eta is zero, and neither M nor E is
formed. What is added is negative where the tiles only add: -M and -D are kept.

With a wide prior, and rows whose features nearly depend on each other, A takes more digits than
there are. Then it is not formed (``reflections``): [C, w] is the shortest solution of ``[I, Phi]
[C, w] = Y - F_0``, and [-M, E] is what is orthogonal to the rows of [I, Phi] in [0, Psi]; so is
[-D, v - D^T Phi] in [0, v].
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.cholesky import factor, is_lost, solve_lower, solve_upper, whole
from ..vectors.emitter import LINE
from ..vectors.matmul import inner, outer
from ..vectors.pointers import offset
from ..vectors.reflections import from_reflected, reflect, without_rows
from .head import clear


class Dual(NamedTuple):
    """Where a task's numbers lie; matrices have rows of whole vectors."""

    width: int  # of the columns of A
    ld: int  # of ``square`` and what is in its rows
    square: Any  # (K, width) A, then its factor
    x: Any  # (K, n_out) Y - F_0, then C, behind A in its rows
    m: Any  # (K, Q) -Phi Psi^T, then -M, behind that
    w: Any  # (n_out, ld)
    v: Any  # (n_out, ld) v, then v - D^T Phi
    e: Any  # (Q, ld)
    lost: Any  # (1,) whether A has lost too many digits
    first: Any  # (K,) of the reflections, which are in the place of dPhi


def dual_size(k: int, q: int, ld: int, n_out: int, ld_out: int, lanes: int) -> int:
    """Numbers that a task takes."""
    ld_k, ld_q = (-(-n // lanes) * lanes for n in (k, q))
    return k * (ld_k + ld_out + ld_q) + (2 * n_out + q) * ld + 1 + k + 5 * LINE


@helper
def on_edge(n):
    """``n`` rounded up to whole cache lines."""
    return (n + LINE - 1) // LINE * LINE


@helper
def dual_of(head, task, memory):
    """A task's places in ``memory``."""
    k, width = task.k, whole(task.k, memory)
    ld = width + head.ld_out + (whole(task.q, memory) if head.density else 0)
    w = on_edge(k * ld)
    v = w + on_edge(head.n_out * head.ld)
    e = v + on_edge(head.n_out * head.ld)
    lost = e + on_edge(task.q * head.ld)
    return Dual(
        width, ld, memory, offset(memory, width), offset(memory, width + head.ld_out),
        offset(memory, w), offset(memory, v), offset(memory, e), offset(memory, lost),
        offset(memory, lost + 1),
    )  # fmt: skip


@linked
def _solve_lost(head, task, own):
    """C, w, -M and E, without A."""
    k, q, p, ld_z, ld_out, ld = task.k, task.q, head.p, head.ld, head.ld_out, own.ld
    for i in range(k * ld_z):
        task.dz[i] = task.z[i]
    reflect(k, p, task.dz, ld_z, own.first, own.square, ld)
    for i in range(k):
        for j in range(ld_out):
            own.x[i * ld + j] = task.df[i * ld_out + j]
    solve_lower(k, own.square, ld, own.x, ld, ld_out)
    clear(head.n_out * ld_z, own.w)
    for j in range(head.n_out):
        c, w = offset(own.x, j), offset(own.w, j * ld_z)
        from_reflected(k, p, task.dz, ld_z, own.first, c, ld, w)
    for j in range(q if head.density else 0):
        m, e, z = offset(own.m, j), offset(own.e, j * ld_z), offset(task.z, (k + j) * ld_z)
        for i in range(k):
            m[i * ld] = 0
        for i in range(ld_z):
            e[i] = z[i]
        without_rows(k, p, task.dz, ld_z, own.first, m, ld, e)


@linked
def dual_forth(head, task, memory, h):
    """The predictive mean, in the place of the prior's, and h (Q,) if it is asked for."""
    k, q, z, ld_z, n_out, ld_out = task.k, task.q, task.z, head.ld, head.n_out, head.ld_out
    own = dual_of(head, task, memory)
    width, ld, square, x, m, e = own.width, own.ld, own.square, own.x, own.m, own.e
    z_query = offset(z, k * ld_z)
    clear(k * ld, square)
    inner(k, k, ld_z, square, ld, 1.0, 0.0, 0, z, ld_z, z, ld_z)
    inner(k, q if head.density else 0, ld_z, m, ld, -1.0, 0.0, 0, z, ld_z, z_query, ld_z)
    for i in range(k):
        square[i * ld + i] += 1
        for j in range(n_out):
            x[i * ld + j] = task.df[i * ld_out + j]
    largest = 0.0
    for i in range(k):
        largest = max(largest, square[i * ld + i])
    factor(k, square, ld, ld)
    lost = is_lost(k, square, ld, largest)
    own.lost[0] = lost
    if lost:
        _solve_lost(head, task, own)
    else:
        solve_upper(k, square, ld, x, ld, ld - width)
        outer(n_out, ld_z, k, own.w, ld_z, own.w, ld_z, 0, x, 1, ld, z, ld_z)
        if head.density:
            outer(q, ld_z, k, e, ld_z, z_query, ld_z, 1, m, 1, ld, z, ld_z)
    f = offset(task.f, k * ld_out)
    inner(q, n_out, ld_z, f, ld_out, 1.0, 0.0, 1, z_query, ld_z, own.w, ld_z)
    if head.density:
        for j in range(q):
            even, odd = 1.0, 0.0
            for i in range(0, ld_z, 2):
                even += e[j * ld_z + i] * e[j * ld_z + i]
                odd += e[j * ld_z + i + 1] * e[j * ld_z + i + 1]
            h[j] = even + odd
        for i in range(k):
            for j in range(q):
                h[j] += m[i * ld + j] * m[i * ld + j]


@linked
def dual_back(head, task, memory, eta):
    """dz of all rows and df of the support rows, from df of the query rows and eta."""
    k, q, z, ld_z, n_out, ld_out = task.k, task.q, task.z, head.ld, head.n_out, head.ld_out
    own = dual_of(head, task, memory)
    ld, square, x, m, w, v, e = own.ld, own.square, own.x, own.m, own.w, own.v, own.e
    df, dz = task.df, task.dz
    g, z_query, dz_query = offset(df, k * ld_out), offset(z, k * ld_z), offset(dz, k * ld_z)
    outer(n_out, ld_z, q, v, ld_z, v, ld_z, 0, g, 1, ld_out, z_query, ld_z)
    if head.density:
        outer(k, ld_out, q, df, ld_out, df, ld_out, 0, m, ld, 1, g, ld_out)
        outer(n_out, ld_z, k, v, ld_z, v, ld_z, 1, df, 1, ld_out, z, ld_z)
    elif own.lost[0] != 0:
        clear(k * ld_out, df)
        for j in range(n_out):
            column, row = offset(df, j), offset(v, j * ld_z)
            without_rows(k, head.p, dz, ld_z, own.first, column, ld_out, row)
    else:
        inner(k, n_out, ld_z, df, ld_out, -1.0, 0.0, 0, z, ld_z, v, ld_z)
        solve_lower(k, square, ld, df, ld_out, ld_out)
        solve_upper(k, square, ld, df, ld_out, ld_out)
        outer(n_out, ld_z, k, v, ld_z, v, ld_z, 1, df, 1, ld_out, z, ld_z)
    for o in range(n_out):
        for i in range(ld_z):
            task.d_log_s[i] += v[o * ld_z + i] * w[o * ld_z + i]
    outer(k, ld_z, n_out, dz, ld_z, dz, ld_z, 0, x, ld, 1, v, ld_z)
    outer(k, ld_z, n_out, dz, ld_z, dz, ld_z, 1, df, ld_out, 1, w, ld_z)
    if head.density:
        for j in range(q):
            for i in range(ld_z):
                of_e = e[j * ld_z + i]
                e[j * ld_z + i] = (eta[j] + eta[j]) * of_e
                task.d_log_s[i] += eta[j] * of_e * of_e
        outer(k, ld_z, q, dz, ld_z, dz, ld_z, 1, m, ld, 1, e, ld_z)
    outer(q, ld_z, n_out, dz_query, ld_z, e, ld_z, head.density, g, ld_out, 1, w, ld_z)
