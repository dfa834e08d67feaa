"""Derivatives of a user's function that were left out, made of those that were given.

They have the signatures of ``custom``, and are exact:

* jvp of forward, by the complex step: ``J v = Im f(theta + i h v) / h``, without any difference to
  be cancelled, so h can be so small that its square is nothing [1]_;
* jvp of vjp: row o of J is J^T of the unit vector of output o, for each row of x;
* vjp of jvp: column p of J is J of the unit vector of parameter p;
* hvp of vjp, by the complex step: ``sum_jo delta_jo d2f_jo v = Im [J^T delta](theta + i h v) / h``.

Complex numbers have double precision, whatever that of theta is. Rows of x, directions and delta
stay real. An imaginary part as large as rounding errors was no derivative: it becomes NaN.

References
----------
.. [1] W. Squire and G. Trapp, Using complex variables to estimate derivatives of real functions,
   SIAM Review 40, 1998.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

#: the complex step: a power of two, so that multiplying by it rounds nothing. (NumPy's float64:
#: where the JIT is off, Python's float times a float32 would be a float32, and so 0.)
STEP = np.float64(2.0**-300)
#: an imaginary part beyond this times the size of the number is no step, but a rounding error
LARGEST = 2.0**-60

# Without the entries for calls from Python, which take a third of the time to compile.
_options = {
    "error_model": "numpy", "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip


@njit(**_options)
def _slope(z):
    """Im z / h."""
    return z.imag / STEP if abs(z.imag) <= LARGEST * (abs(z.real) + 1.0) else np.nan


@njit(**_options)
def _stepped(theta, v):
    """``theta + i h v``."""
    at = np.empty(theta.size, np.complex128)
    for p in range(theta.size):
        at[p] = complex(theta[p], STEP * v[p])
    return at


def jvp_of_forward(forward: Any) -> Any:
    """Products with the Jacobian by the complex step, each for one call."""

    @njit(**_options)
    def jvp(theta, x, v, rf):
        f = np.zeros(rf.shape, np.complex128)
        forward(_stepped(theta, v), x.astype(np.float64), f)
        for i in range(rf.shape[0]):
            for o in range(rf.shape[1]):
                rf[i, o] = _slope(f[i, o])

    return jvp


def jvp_of_vjp(vjp: Any) -> Any:
    """Products with the Jacobian, a call for each row and output."""

    @njit(**_options)
    def jvp(theta, x, v, rf):
        delta, g = np.zeros((1, rf.shape[1]), x.dtype), np.empty_like(theta)
        for i in range(rf.shape[0]):
            for o in range(rf.shape[1]):
                g[:] = 0
                delta[0, o] = 1
                vjp(theta, x[i : i + 1], delta, g)
                delta[0, o] = 0
                total = 0.0
                for p in range(theta.size):
                    total += g[p] * v[p]
                rf[i, o] = total

    return jvp


def vjp_of_jvp(jvp: Any) -> Any:
    """Products with the transposed Jacobian, a call for each parameter."""

    @njit(**_options)
    def vjp(theta, x, delta, g):
        v, rf = np.zeros(theta.size, x.dtype), np.empty(delta.shape, g.dtype)
        for p in range(theta.size):
            v[p] = 1
            jvp(theta, x, v, rf)
            v[p] = 0
            for i in range(rf.shape[0]):
                for o in range(rf.shape[1]):
                    g[p] += delta[i, o] * rf[i, o]

    return vjp


def hvp_of_vjp(vjp: Any) -> Any:
    """Products with the second derivative by the complex step, each for one call."""

    @njit(**_options)
    def hvp(theta, x, delta, v, h):
        g = np.zeros(theta.size, np.complex128)
        vjp(_stepped(theta, v), x.astype(np.float64), delta.astype(np.float64), g)
        for p in range(theta.size):
            h[p] += _slope(g[p])

    return hvp
