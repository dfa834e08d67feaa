"""One task's posterior by a K × K system: for fewer support rows than features.

With the scaled features of the support rows, Phi, and of the query rows, Psi (``head``), targets Y
and what the prior mean predicts, F_0:

    A = Phi Phi^T + I = R^T R,    B = Psi Phi^T,    [U, V] = R^-T [Y - F_0, B^T]
    F = F_0 + V^T U,    h = 1 + |psi|^2 - |v|^2

F is the predictive mean and ``sigma_o^2 h`` the predictive variance of output o. Back, with G and
eta the loss's derivatives by F and h:

    [C, M] = R^-1 [U, V] = A^-1 [Y - F_0, B^T],    D = M G
    dA = -D C^T + M diag(eta) M^T,    dB^T = C G^T - 2 M diag(eta),    dF_0 = [-D; G]
    dPhi = (dA + dA^T) Phi + dB^T Psi,    dPsi = dB Phi + 2 diag(eta) Psi

Where no variance is asked for, eta is zero.
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
    ld_x: int  # of ``x`` and ``y``: n_out numbers with padding, then Q
    square: Any  # (K, K + Q) A, then its factor; at last [dA + dA^T, dB^T]
    x: Any  # (K, n_out + Q) [Y - F_0, B^T], [U, V], [C, M]
    y: Any  # the same of [-D, M diag(eta)]


def dual_size(k: int, q: int, ld_out: int, lanes: int) -> int:
    """Numbers that a task takes."""
    ld, ld_q = (-(-n // lanes) * lanes for n in (k + q, q))
    return k * (ld + 2 * ld_out + 2 * ld_q) + 3 * LINE


@helper
def on_edge(n):
    """``n`` rounded up to whole cache lines."""
    return (n + LINE - 1) // LINE * LINE


@helper
def dual_of(head, task, memory):
    """A task's places in ``memory``."""
    k, ld, ld_x = task.k, whole(task.k + task.q, memory), head.ld_out + whole(task.q, memory)
    x = on_edge(k * ld)
    return Dual(ld, ld_x, memory, offset(memory, x), offset(memory, x + on_edge(k * ld_x)))


@linked
def predict_from(head, task, n, x, ld_x):
    """``F = F_0 + V^T U`` of the query rows, from [U, V] (n, ld_x)."""
    ld, f = head.ld_out, offset(task.f, task.k * head.ld_out)
    outer(task.q, ld, n, f, ld, f, ld, 1, offset(x, ld), 1, ld_x, x, ld_x)


@linked
def dual_forth(head, task, memory, h):
    """The predictive mean, in the place of the prior's, and h (Q,) if it is asked for."""
    k, q, z, ld_z, ld_out = task.k, task.q, task.z, head.ld, head.ld_out
    own = dual_of(head, task, memory)
    ld, ld_x, width, square, x = own.ld, own.ld_x, whole(k, memory), own.square, own.x
    z_query, v = offset(z, k * ld_z), offset(x, ld_out)
    inner(k, k, ld_z, square, ld, 1.0, 0.0, 0, z, ld_z, z, ld_z)
    inner(k, q, ld_z, v, ld_x, 1.0, 0.0, 0, z, ld_z, z_query, ld_z)
    for i in range(k):
        square[i * ld + i] += 1
        for j in range(k, width):
            square[i * ld + j] = 0
        for j in range(ld_out):
            x[i * ld_x + j] = task.df[i * ld_out + j]
        for j in range(ld_out + q, ld_x):
            x[i * ld_x + j] = 0
    factor(k, square, ld)
    solve_lower(k, square, ld, x, ld_x)
    predict_from(head, task, k, x, ld_x)
    if head.density:
        for j in range(q):
            total = 1.0
            for i in range(head.p):
                total += z_query[j * ld_z + i] * z_query[j * ld_z + i]
            h[j] = total
        for i in range(k):
            for j in range(q):
                h[j] -= v[i * ld_x + j] * v[i * ld_x + j]
        for j in range(q):
            if h[j] < 1:  # as rounding may have it, where the prior is wide
                h[j] = 1


@linked
def dual_back(head, task, memory, eta):
    """dz of all rows and df of the support rows, from df of the query rows and eta."""
    k, q, z, ld_z, ld_out = task.k, task.q, task.z, head.ld, head.ld_out
    own = dual_of(head, task, memory)
    ld, ld_x, square, x, y, df, dz = own.ld, own.ld_x, own.square, own.x, own.y, task.df, task.dz
    g, z_query, dz_query = offset(df, k * ld_out), offset(z, k * ld_z), offset(dz, k * ld_z)
    to_query, used = offset(square, k), ld_x if head.density else ld_out
    solve_upper(k, square, ld, x, ld_x)
    outer(k, ld_out, q, df, ld_out, df, ld_out, 0, offset(x, ld_out), ld_x, 1, g, ld_out)
    for i in range(k):
        for j in range(ld_out):
            df[i * ld_out + j] = -df[i * ld_out + j]
            y[i * ld_x + j] = df[i * ld_out + j]
    inner(k, q, ld_out, to_query, ld, 1.0, 0.0, 0, x, ld_x, g, ld_out)
    if head.density:
        for i in range(k):
            for j in range(q):
                of_h = eta[j] * x[i * ld_x + ld_out + j]
                y[i * ld_x + ld_out + j] = of_h
                to_query[i * ld + j] -= of_h + of_h
            for j in range(ld_out + q, ld_x):
                y[i * ld_x + j] = 0
        for j in range(q):
            for i in range(ld_z):
                dz_query[j * ld_z + i] = (eta[j] + eta[j]) * z_query[j * ld_z + i]
    inner(k, k, used, square, ld, 1.0, 0.0, 0, y, ld_x, x, ld_x)
    for i in range(k):
        for j in range(i + 1):
            both = square[i * ld + j] + square[j * ld + i]
            square[i * ld + j] = both
            square[j * ld + i] = both
    outer(k, ld_z, k + q, dz, ld_z, dz, ld_z, 0, square, ld, 1, z, ld_z)
    outer(
        q, ld_z, k, dz_query, ld_z, dz_query, ld_z, head.density, to_query, 1, ld, z, ld_z,
    )  # fmt: skip
