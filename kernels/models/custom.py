"""A model of a user's compiled functions: the five passes, and what the functions are called with.

    forward(theta, x, f)            f = f(theta, x)
    vjp(theta, x, delta, g)         g += J^T delta
    jvp(theta, x, v, rf)            rf = J v
    hvp(theta, x, delta, v, h)      h += sum_jo delta_jo d2f_jo v

theta, v, g and h are (P,); x is (rows, n_inputs), and f, delta and rf are (rows, n_outputs). The
rows are of one task, a block of `MAX_ROWS` at most (in predictions of one theta for all: of any).
All are C-contiguous and of one dtype. With the R-operator,

    R(J^T delta) = J^T R delta + sum_jo delta_jo d2f_jo v

Unlike the passes these functions may raise. It comes to NaN in what they were to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, config, types

from ..compile.jit import helper
from ..compile.link import Types, linked
from .passes import Passes, delta_of, f_of, r_delta_of, rf_of

# What the functions are called with --------------------------------------------------------------

#: by name: the words for the arguments
ARGUMENTS = {
    "forward": ("theta", "x", "f"),
    "vjp": ("theta", "x", "delta", "g"),
    "jvp": ("theta", "x", "v", "rf"),
    "hvp": ("theta", "x", "delta", "v", "h"),
}
#: those that have a row for each row of x
_MATRICES = ("x", "f", "delta", "rf")
#: what a complex step makes complex: parameters, and what depends on them
_DEPENDENT = ("theta", "f", "g", "rf", "h")


def types_of(name: str, dtype: np.dtype, by_complex_step: bool = False) -> Types:
    """The types of a function's arguments."""
    real = types.float32 if np.dtype(dtype) == np.float32 else types.float64
    found = []
    for word in ARGUMENTS[name]:
        stepped = by_complex_step and word in _DEPENDENT
        kind = types.complex128 if stepped else types.float64 if by_complex_step else real
        found.append(types.Array(kind, 2 if word in _MATRICES else 1, "C"))
    return tuple(found)


def _plain_run(numbers: Any, n: int) -> Any:
    return numbers[:n]


def _plain_rows(numbers: Any, rows: int, n: int) -> Any:
    return numbers[: rows * n].reshape(rows, n)


@helper
def _emit_run(numbers, n):
    return carray(numbers, (n,))


@helper
def _emit_rows(numbers, rows, n):
    return carray(numbers, (rows, n))


#: numbers behind a pointer as an array (n,), and as one (rows, n)
_run = _plain_run if config.DISABLE_JIT else _emit_run
_rows = _plain_rows if config.DISABLE_JIT else _emit_rows


# The passes --------------------------------------------------------------------------------------


@helper
def _x_of(net, block):
    return _rows(block.memory, block.rows, net.n_in)


@helper
def _fill(numbers, n, value):
    for i in range(n):
        numbers[i] = value


@linked
def custom_derive(net, w, c):
    """Nothing is derived."""


def _forward(function: Any) -> Callable[..., None]:
    def forward(net, block, at, order):
        f, n = f_of(net, block), block.rows * net.n_out
        try:
            function(_run(at.w, net.n_theta), _x_of(net, block), _rows(f, block.rows, net.n_out))
        except Exception:
            _fill(f, n, np.nan)

    return forward


def _backward(vjp: Any) -> Callable[..., None]:
    def backward(net, block, at, order, g, add):
        delta, n = _rows(delta_of(net, block), block.rows, net.n_out), net.n_theta
        _fill(g, 0 if add else net.n_padded, 0)
        try:
            vjp(_run(at.w, n), _x_of(net, block), delta, _run(g, n))
        except Exception:
            _fill(g, n, np.nan)

    return backward


def _r_forward(jvp: Any) -> Callable[..., None]:
    def r_forward(net, block, at, along):
        rf, n = rf_of(net, block), net.n_theta
        try:
            jvp(
                _run(at.w, n), _x_of(net, block), _run(along.w, n),
                _rows(rf, block.rows, net.n_out),
            )  # fmt: skip
        except Exception:
            _fill(rf, block.rows * net.n_out, np.nan)

    return r_forward


def _r_backward(vjp: Any, hvp: Any) -> Callable[..., None]:
    def r_backward(net, block, at, along, hv, add):
        delta = _rows(delta_of(net, block), block.rows, net.n_out)
        r_delta = _rows(r_delta_of(net, block), block.rows, net.n_out)
        theta, x, h = _run(at.w, net.n_theta), _x_of(net, block), _run(hv, net.n_theta)
        _fill(hv, 0 if add else net.n_padded, 0)
        try:
            vjp(theta, x, r_delta, h)
            hvp(theta, x, delta, _run(along.w, net.n_theta), h)
        except Exception:
            _fill(hv, net.n_theta, np.nan)

    return r_backward


def passes_of(forward: Any, vjp: Any, jvp: Any, hvp: Any) -> Passes:
    """The passes of a user's functions.

    The passes that would call one that is None are None too.
    """
    made = [_forward(forward)]
    if vjp is not None:
        made.append(_backward(vjp))
    if vjp is not None and jvp is not None and hvp is not None:
        made += [_r_forward(jvp), _r_backward(vjp, hvp)]
    for each in made:
        each.__module__ = "custom"  # not the package's: what they call its store cannot watch
    absent = [None] * (len(Passes._fields) - 1 - len(made))
    return Passes(custom_derive, *map(linked, made), *absent)
