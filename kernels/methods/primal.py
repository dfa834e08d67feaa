"""One task's posterior by a p × p system: for more support rows than features.

With the scaled features of the support rows, Phi, and of the query rows, Psi (``head``), targets Y
and what the prior mean predicts, F_0:

    P = Phi^T Phi + I = R^T R,    [U, V] = R^-T [Phi^T (Y - F_0), Psi^T]
    F = F_0 + Psi E,    h = 1 + |v|^2

P is the precision of the posterior with S^1/2 on both sides. Back, with G and eta the loss's
derivatives by F and h:

    [E, N] = R^-1 [U, V] = P^-1 [Phi^T (Y - F_0), Psi^T]
    H = N G,    D = Phi H,    C = Y - F_0 - Phi E,    dF_0 = [-D; G]
    dPhi = C H^T - D E^T - 2 Phi N diag(eta) N^T,    dPsi = G E^T + 2 diag(eta) N^T

    d log s_j = sum_o H_jo E_jo + sum_q eta_q N_jq^2

Where no variance is asked for, neither V nor N is formed: H = P^-1 Psi^T G.

With a wide prior, and more directions than the rows tell apart, P has too many digits. Then R and U
come of [I; Phi] and the right sides [0; Y - F_0] by rotations.

The weights of the posterior mean are those of the prior's plus S^1/2 E. It is the other form
(``dual``) to rounding; C and D are the same matrices there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.cholesky import (
    end_rotations,
    factor,
    is_lost,
    solve_lower,
    solve_upper,
    start_rotations,
    take_in,
    whole,
)
from ..vectors.emitter import LINE
from ..vectors.matmul import outer
from ..vectors.pointers import lanes_of, offset
from .dual import on_edge
from .head import clear

#: rows of P that are made at once, by its width
NARROW, WIDE = 8, 64


class Primal(NamedTuple):
    """Where a task's numbers lie; matrices have rows of whole vectors."""

    ld: int  # of ``square`` and what is in its rows
    square: Any  # (p, head.ld) P, then its factor
    x: Any  # (p, n_out) Phi^T (Y - F_0), U, E, behind P in its rows
    n: Any  # (p, Q) Psi^T, V, N, behind that
    y: Any  # (p, n_out) -H
    e_t: Any  # (n_out, head.ld) E^T
    h_t: Any  # (n_out, head.ld) -H^T
    c: Any  # (K, n_out) -C
    n_t: Any  # (Q, head.ld) -2 diag(eta) N^T
    spread: Any  # (p, head.ld) -2 N diag(eta) N^T


def primal_size(k: int, q: int, p: int, ld: int, n_out: int, ld_out: int, lanes: int) -> int:
    """Numbers that a task takes."""
    ld_q = -(-q // lanes) * lanes
    return p * (2 * ld + 2 * ld_out + ld_q) + (2 * n_out + q) * ld + k * ld_out + 7 * LINE


@helper
def primal_of(head, task, memory):
    """A task's places in ``memory``."""
    p, width = head.p, head.ld
    ld = width + head.ld_out + (whole(task.q, memory) if head.density else 0)
    y = on_edge(p * ld)
    e_t = y + on_edge(p * head.ld_out)
    h_t = e_t + on_edge(head.n_out * width)
    c = h_t + on_edge(head.n_out * width)
    n_t = c + on_edge(task.k * head.ld_out)
    return Primal(
        ld, memory, offset(memory, width), offset(memory, width + head.ld_out), offset(memory, y),
        offset(memory, e_t), offset(memory, h_t), offset(memory, c), offset(memory, n_t),
        offset(memory, n_t + on_edge(task.q * width)),
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
def _by_rotations(head, task, own):
    """What `factor` leaves of [P, Phi^T (Y - F_0), Psi^T], made of Phi and Y - F_0 themselves."""
    k, p, width, ld_out, ld = task.k, head.p, head.ld, head.ld_out, own.ld
    q, row = task.q if head.density else 0, own.y  # written later
    start_rotations(p, ld, own.square, ld)
    for i in range(k):
        clear(ld, row)
        for j in range(p):
            row[j] = task.z[i * width + j]
        for j in range(head.n_out):
            row[width + j] = task.df[i * ld_out + j]
        take_in(p, ld, own.square, ld, row)
    end_rotations(p, own.square, ld)
    across = ld - width - ld_out
    transposed(q, p if q > 0 else 0, offset(task.z, k * width), width, own.n, ld, across)
    solve_lower(p, own.square, ld, own.n, ld, across)


@linked
def posterior(head, task, own):
    """The factor of P, and [U, V]."""
    k, p, z, width, ld_out, ld = task.k, head.p, task.z, head.ld, head.ld_out, own.ld
    square, x, q = own.square, own.x, task.q if head.density else 0
    # Only the upper triangle, but in blocks that are large enough for a wide one.
    down = NARROW if width < WIDE else WIDE
    for i in range(0, p, down):
        left = i - i % lanes_of(z)
        block = offset(square, i * ld + left)
        outer(
            min(down, p - i), width - left, k, block, ld, block, ld, 0, offset(z, i), 1, width,
            offset(z, left), width,
        )  # fmt: skip
    for i in range(p):
        square[i * ld + i] += 1
    outer(p, ld_out, k, x, ld, x, ld, 0, z, 1, width, task.df, ld_out)
    transposed(q, p if q > 0 else 0, offset(z, k * width), width, own.n, ld, ld - width - ld_out)
    largest = 0.0
    for i in range(p):
        largest = max(largest, square[i * ld + i])
    factor(p, square, ld, ld)
    if is_lost(p, square, ld, largest):
        _by_rotations(head, task, own)


@linked
def primal_forth(head, task, memory, h):
    """The predictive mean, in the place of the prior's, and h (Q,) if it is asked for."""
    k, q, p, ld_out, own = task.k, task.q, head.p, head.ld_out, primal_of(head, task, memory)
    ld, f = own.ld, offset(task.f, k * ld_out)
    posterior(head, task, own)
    if head.density:
        for j in range(q):
            h[j] = 1
        for i in range(p):
            for j in range(q):
                h[j] += own.n[i * ld + j] * own.n[i * ld + j]
    solve_upper(p, own.square, ld, own.x, ld, ld_out)
    z_query = offset(task.z, k * head.ld)
    outer(q, ld_out, p, f, ld_out, f, ld_out, 1, z_query, head.ld, 1, own.x, ld)


@linked
def primal_back(head, task, memory, eta):
    """dz of all rows and df of the support rows, from df of the query rows and eta."""
    k, q, p, m, width, ld_out = task.k, task.q, head.p, head.n_out, head.ld, head.ld_out
    own = primal_of(head, task, memory)
    z, dz, df, c, square, x, y, n, ld = (
        task.z, task.dz, task.df, own.c, own.square, own.x, own.y, own.n, own.ld,
    )  # fmt: skip
    g, z_query, dz_query = offset(df, k * ld_out), offset(z, k * width), offset(dz, k * width)
    if head.density:
        solve_upper(p, square, ld, n, ld, ld - width - ld_out)
        outer(p, ld_out, q, y, ld_out, y, ld_out, 0, n, ld, 1, g, ld_out)
    else:
        outer(p, ld_out, q, y, ld_out, y, ld_out, 0, z_query, 1, width, g, ld_out)
        solve_lower(p, square, ld, y, ld_out, ld_out)
        solve_upper(p, square, ld, y, ld_out, ld_out)
    for i in range(p * ld_out):
        y[i] = -y[i]  # -H: the tile only adds
    for i in range(k * ld_out):
        c[i] = -df[i]
    outer(k, ld_out, p, c, ld_out, c, ld_out, 1, z, width, 1, x, ld)
    outer(k, ld_out, p, df, ld_out, df, ld_out, 0, z, width, 1, y, ld_out)
    transposed(p, m, x, ld, own.e_t, width, width)
    transposed(p, m, y, ld_out, own.h_t, width, width)
    for o in range(m):
        for i in range(width):
            task.d_log_s[i] -= own.h_t[o * width + i] * own.e_t[o * width + i]
    outer(k, width, m, dz, width, dz, width, 0, c, ld_out, 1, own.h_t, width)
    outer(k, width, m, dz, width, dz, width, 1, df, ld_out, 1, own.e_t, width)
    outer(q, width, m, dz_query, width, dz_query, width, 0, g, ld_out, 1, own.e_t, width)
    if head.density:
        n_t, spread = own.n_t, own.spread
        transposed(p, q, n, ld, n_t, width, width)
        for j in range(q):
            for i in range(width):
                of_n = n_t[j * width + i]
                n_t[j * width + i] = -(eta[j] + eta[j]) * of_n
                task.d_log_s[i] += eta[j] * of_n * of_n
                dz_query[j * width + i] -= n_t[j * width + i]
        outer(p, width, q, spread, width, spread, width, 0, n, ld, 1, n_t, width)
        outer(k, width, p, dz, width, dz, width, 1, z, width, 1, spread, width)
