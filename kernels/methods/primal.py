"""One task's posterior by a p × p system: for more support rows than features.

With the scaled features of the support rows, Phi, and of the query rows, Psi (``head``), targets Y
and what the prior mean predicts, F_0:

    P = Phi^T Phi + I,    E = P^-1 Phi^T (Y - F_0),    F = F_0 + Psi E,    h = 1 + |P^-1/2 psi|^2

The weights are those of the prior mean plus S^1/2 E, and P is the precision of the posterior with
S^1/2 on both sides. Back, with G and eta the loss's derivatives by F and h:

    H = P^-1 Psi^T G,    N = P^-1 Psi^T,    D = Phi H,    C = Y - F_0 - Phi E,    dF_0 = [-D; G]
    dPhi = C H^T - D E^T - 2 Phi N diag(eta) N^T,    dPsi = G E^T + 2 diag(eta) N^T

It is the other form (``dual``) to rounding; C, D are the same matrices there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.cholesky import factor, solve_lower, solve_upper, whole
from ..vectors.emitter import LINE
from ..vectors.matmul import inner, outer
from ..vectors.pointers import offset
from .dual import on_edge


class Primal(NamedTuple):
    """Where a task's numbers lie; matrices have rows of whole vectors."""

    ld_q: int  # of Q numbers
    square: Any  # (p, ld) P, then its factor; at last -2 N diag(eta) N^T
    e: Any  # (p, n_out)
    h: Any  # (p, n_out)
    e_t: Any  # (n_out, ld) the same transposed
    h_t: Any  # (n_out, ld)
    c: Any  # (K, n_out)
    n: Any  # (p, Q) P^-1/2 Psi^T, then N
    en: Any  # (p, Q) N diag(eta)


def primal_size(k: int, q: int, p: int, ld: int, n_out: int, ld_out: int, lanes: int) -> int:
    """Numbers that a task takes."""
    ld_q = -(-q // lanes) * lanes
    return p * (ld + 2 * ld_out + 2 * ld_q) + 2 * n_out * ld + k * ld_out + 8 * LINE


@helper
def primal_of(head, task, memory):
    """A task's places in ``memory``."""
    p, ld, ld_q = head.p, head.ld, whole(task.q, memory)
    e = on_edge(p * ld)
    h = e + on_edge(p * head.ld_out)
    e_t = h + on_edge(p * head.ld_out)
    h_t = e_t + on_edge(head.n_out * ld)
    c = h_t + on_edge(head.n_out * ld)
    n = c + on_edge(task.k * head.ld_out)
    return Primal(
        ld_q, memory, offset(memory, e), offset(memory, h), offset(memory, e_t),
        offset(memory, h_t), offset(memory, c), offset(memory, n),
        offset(memory, n + on_edge(p * ld_q)),
    )  # fmt: skip


@linked
def posterior(head, task, own):
    """The factor of P, and E: all that the support rows have to say."""
    k, p, z, ld, ld_out, square = task.k, head.p, task.z, head.ld, head.ld_out, own.square
    outer(p, ld, k, square, ld, square, ld, 0, z, 1, ld, z, ld)
    for i in range(p):
        square[i * ld + i] += 1
    factor(p, square, ld)
    for i in range(k * ld_out):
        own.c[i] = task.df[i]
    outer(p, ld_out, k, own.e, ld_out, own.e, ld_out, 0, z, 1, ld, own.c, ld_out)
    solve_lower(p, square, ld, own.e, ld_out)
    solve_upper(p, square, ld, own.e, ld_out)


@linked
def transposed(rows, n, x, ldx, out, ld_out):
    """``out (n, rows) = X^T``, zero in the padding."""
    for j in range(n):
        for i in range(rows):
            out[j * ld_out + i] = x[i * ldx + j]
        for i in range(rows, ld_out):
            out[j * ld_out + i] = 0


@linked
def primal_forth(head, task, memory, h):
    """The predictive mean, in the place of the prior's, and h (Q,) if it is asked for."""
    k, q, p, ld, ld_out = task.k, task.q, head.p, head.ld, head.ld_out
    own = primal_of(head, task, memory)
    z_query, f_query = offset(task.z, k * ld), offset(task.f, k * ld_out)
    posterior(head, task, own)
    outer(q, ld_out, p, f_query, ld_out, f_query, ld_out, 1, z_query, ld, 1, own.e, ld_out)
    if head.density:
        n, ld_q = own.n, own.ld_q
        transposed(q, p, z_query, ld, n, ld_q)
        solve_lower(p, own.square, ld, n, ld_q)
        for j in range(q):
            h[j] = 1
        for i in range(p):
            for j in range(q):
                h[j] += n[i * ld_q + j] * n[i * ld_q + j]


@linked
def primal_back(head, task, memory, eta):
    """dz of all rows and df of the support rows, from df of the query rows and eta."""
    k, q, p, m, ld, ld_out = task.k, task.q, head.p, head.n_out, head.ld, head.ld_out
    own = primal_of(head, task, memory)
    z, dz, df, c, h, square = task.z, task.dz, task.df, own.c, own.h, own.square
    z_query, dz_query, g = offset(z, k * ld), offset(dz, k * ld), offset(df, k * ld_out)
    outer(p, ld_out, q, h, ld_out, h, ld_out, 0, z_query, 1, ld, g, ld_out)
    solve_lower(p, square, ld, h, ld_out)
    solve_upper(p, square, ld, h, ld_out)
    for i in range(p * ld_out):
        h[i] = -h[i]  # the tile only adds
    outer(k, ld_out, p, df, ld_out, df, ld_out, 0, z, ld, 1, h, ld_out)  # -D
    for i in range(k * ld_out):
        c[i] = -c[i]
    outer(k, ld_out, p, c, ld_out, c, ld_out, 1, z, ld, 1, own.e, ld_out)  # -C
    transposed(p, m, own.e, ld_out, own.e_t, ld)
    transposed(p, m, h, ld_out, own.h_t, ld)  # -H
    outer(k, ld, m, dz, ld, dz, ld, 0, c, ld_out, 1, own.h_t, ld)
    outer(k, ld, m, dz, ld, dz, ld, 1, df, ld_out, 1, own.e_t, ld)
    outer(q, ld, m, dz_query, ld, dz_query, ld, 0, g, ld_out, 1, own.e_t, ld)
    if head.density:
        n, en, ld_q = own.n, own.en, own.ld_q
        solve_upper(p, square, ld, n, ld_q)
        for i in range(p):
            for j in range(q):
                en[i * ld_q + j] = eta[j] * n[i * ld_q + j]
                dz_query[j * ld + i] += en[i * ld_q + j] + en[i * ld_q + j]
            for j in range(q, ld_q):
                en[i * ld_q + j] = 0
        inner(p, p, ld_q, square, ld, -2.0, 0.0, 0, en, ld_q, n, ld_q)
        outer(k, ld, p, dz, ld, dz, ld, 1, z, ld, 1, square, ld)
