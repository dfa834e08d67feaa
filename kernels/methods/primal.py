"""One task's posterior by a p × p system: for more support rows than features.

With the scaled features of the support rows, Phi, and of the query rows, Psi (``head``), targets Y
and what the prior mean predicts, F_0:

    P = Phi^T Phi + I = R^T R,    [U, V] = R^-T [Phi^T (Y - F_0), Psi^T]
    F = F_0 + V^T U,    h = 1 + |v|^2

P is the precision of the posterior with S^1/2 on both sides. Back, with G and eta the loss's
derivatives by F and h:

    [E, N] = R^-1 [U, V] = P^-1 [Phi^T (Y - F_0), Psi^T]
    H = N G,    D = Phi H,    C = Y - F_0 - Phi E,    dF_0 = [-D; G]
    dPhi = C H^T - D E^T - 2 Phi N diag(eta) N^T,    dPsi = G E^T + 2 diag(eta) N^T

The weights of the posterior mean are those of the prior's plus S^1/2 E. It is the other form
(``dual``) to rounding; C and D are the same matrices there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.cholesky import factor, solve_lower, solve_upper, whole
from ..vectors.emitter import LINE
from ..vectors.matmul import inner, outer
from ..vectors.pointers import offset
from .dual import on_edge, predict_from


class Primal(NamedTuple):
    """Where a task's numbers lie; matrices have rows of whole vectors."""

    ld_x: int  # of ``x`` and ``y``: n_out numbers with padding, then Q
    square: Any  # (p, ld) P, then its factor; at last -2 N diag(eta) N^T
    x: Any  # (p, n_out + Q) [Phi^T (Y - F_0), Psi^T], [U, V], [E, N]
    y: Any  # the same of [-H, N diag(eta)]
    e_t: Any  # (n_out, ld) E^T
    h_t: Any  # (n_out, ld) -H^T
    c: Any  # (K, n_out) -C


def primal_size(k: int, q: int, p: int, ld: int, n_out: int, ld_out: int, lanes: int) -> int:
    """Numbers that a task takes."""
    ld_q = -(-q // lanes) * lanes
    return p * (ld + 2 * ld_out + 2 * ld_q) + 2 * n_out * ld + k * ld_out + 6 * LINE


@helper
def primal_of(head, task, memory):
    """A task's places in ``memory``."""
    p, ld, ld_x = head.p, head.ld, head.ld_out + whole(task.q, memory)
    x = on_edge(p * ld)
    y = x + on_edge(p * ld_x)
    e_t = y + on_edge(p * ld_x)
    h_t = e_t + on_edge(head.n_out * ld)
    c = h_t + on_edge(head.n_out * ld)
    return Primal(
        ld_x, memory, offset(memory, x), offset(memory, y), offset(memory, e_t),
        offset(memory, h_t), offset(memory, c),
    )  # fmt: skip


@linked
def transposed(rows, n, x, ldx, out, ld_out, padded):
    """``out (n, padded) = X^T``, zero beyond the rows of X."""
    for j in range(n):
        for i in range(rows):
            out[j * ld_out + i] = x[i * ldx + j]
        for i in range(rows, padded):
            out[j * ld_out + i] = 0


@linked
def posterior(head, task, own):
    """The factor of P, and [U, V]."""
    k, p, z, ld, ld_out, ld_x = task.k, head.p, task.z, head.ld, head.ld_out, own.ld_x
    square, x = own.square, own.x
    outer(p, ld, k, square, ld, square, ld, 0, z, 1, ld, z, ld)
    for i in range(p):
        square[i * ld + i] += 1
    factor(p, square, ld)
    outer(p, ld_out, k, x, ld_x, x, ld_x, 0, z, 1, ld, task.df, ld_out)
    transposed(task.q, p, offset(z, k * ld), ld, offset(x, ld_out), ld_x, ld_x - ld_out)
    solve_lower(p, square, ld, x, ld_x)


@linked
def primal_forth(head, task, memory, h):
    """The predictive mean, in the place of the prior's, and h (Q,) if it is asked for."""
    q, p, own = task.q, head.p, primal_of(head, task, memory)
    posterior(head, task, own)
    predict_from(head, task, p, own.x, own.ld_x)
    if head.density:
        v, ld_x = offset(own.x, head.ld_out), own.ld_x
        for j in range(q):
            h[j] = 1
        for i in range(p):
            for j in range(q):
                h[j] += v[i * ld_x + j] * v[i * ld_x + j]


@linked
def primal_back(head, task, memory, eta):
    """dz of all rows and df of the support rows, from df of the query rows and eta."""
    k, q, p, m, ld, ld_out = task.k, task.q, head.p, head.n_out, head.ld, head.ld_out
    own = primal_of(head, task, memory)
    z, dz, df, c, square, x, y, ld_x = (
        task.z, task.dz, task.df, own.c, own.square, own.x, own.y, own.ld_x,
    )  # fmt: skip
    g, dz_query, n, en = (
        offset(df, k * ld_out),
        offset(dz, k * ld),
        offset(x, ld_out),
        offset(y, ld_out),
    )
    solve_upper(p, square, ld, x, ld_x)
    outer(p, ld_out, q, y, ld_x, y, ld_x, 0, n, ld_x, 1, g, ld_out)
    for i in range(p):
        for j in range(ld_out):
            y[i * ld_x + j] = -y[i * ld_x + j]  # -H: the tile only adds
    for i in range(k * ld_out):
        c[i] = -df[i]
    outer(k, ld_out, p, c, ld_out, c, ld_out, 1, z, ld, 1, x, ld_x)
    outer(k, ld_out, p, df, ld_out, df, ld_out, 0, z, ld, 1, y, ld_x)
    transposed(p, m, x, ld_x, own.e_t, ld, ld)
    transposed(p, m, y, ld_x, own.h_t, ld, ld)
    outer(k, ld, m, dz, ld, dz, ld, 0, c, ld_out, 1, own.h_t, ld)
    outer(k, ld, m, dz, ld, dz, ld, 1, df, ld_out, 1, own.e_t, ld)
    outer(q, ld, m, dz_query, ld, dz_query, ld, 0, g, ld_out, 1, own.e_t, ld)
    if head.density:
        ld_q = ld_x - ld_out
        for i in range(p):
            for j in range(q):
                of_h = eta[j] * n[i * ld_x + j]
                en[i * ld_x + j] = of_h
                dz_query[j * ld + i] += of_h + of_h
            for j in range(q, ld_q):
                en[i * ld_x + j] = 0
        inner(p, p, ld_q, square, ld, -2.0, 0.0, 0, en, ld_x, n, ld_x)
        outer(k, ld, p, dz, ld, dz, ld, 1, z, ld, 1, square, ld)
