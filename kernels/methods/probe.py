"""What each of a model's five passes leaves, for a block of rows at many parameters: for checks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compile.jit import serial_kernel
from ..compile.link import linked
from ..compile.records import View, net_of
from ..models.padded import gather, spread
from ..models.passes import (
    Block,
    Point,
    backward,
    copy_rows,
    delta_of,
    derive,
    f_of,
    forward,
    r_backward,
    r_delta_of,
    r_forward,
    rf_of,
)
from ..vectors.emitter import on_line
from ..vectors.pointers import offset
from .tasks import vector_of, vectors_of


class Inputs(NamedTuple):
    """A direction (P,), and rows: x (rows, n_in), delta and R delta of f (rows, n_out)."""

    v: Any
    x: Any
    delta: Any
    r_delta: Any


class Outputs(NamedTuple):
    """f and Rf (n, rows, n_out), g and hv (n, P): of each of n parameter vectors."""

    f: Any
    g: Any
    rf: Any
    hv: Any


def scratch_size(table: np.ndarray, rows: int) -> int:
    """Numbers of scratch."""
    net = View(table)
    return on_line(3 * net.n_padded + 2 * net.n_derived + rows * net.row_size)


@linked
def _probe(net, theta, n_rows, order, add, given, scratch, out):
    n_out, ld_out = net.n_out, net.ld_out
    n_padded, n_derived = net.n_padded, net.n_derived
    at = Point(scratch, offset(scratch, n_padded))
    along = Point(offset(at.c, n_derived), offset(at.c, n_derived + n_padded))
    padded = offset(along.c, n_derived)
    block = Block(n_rows, offset(padded, n_padded))
    spread(net, theta, at.w)
    derive(net, at)
    spread(net, given.v, along.w)
    derive(net, along)
    copy_rows(n_rows, net.n_in, given.x, net.n_in, block.memory, net.ld_in)
    forward(net, block, at, order)
    copy_rows(n_rows, n_out, f_of(net, block), ld_out, out.f, n_out)
    if order > 0:
        copy_rows(n_rows, n_out, given.delta, n_out, delta_of(net, block), ld_out)
        spread(net, given.v, padded)
        backward(net, block, at, order, padded, add)
        gather(net, padded, out.g)
    if order > 1:
        r_forward(net, block, at, along)
        copy_rows(n_rows, n_out, rf_of(net, block), ld_out, out.rf, n_out)
        copy_rows(n_rows, n_out, given.r_delta, n_out, r_delta_of(net, block), ld_out)
        spread(net, given.v, padded)
        r_backward(net, block, at, along, padded, add)
        gather(net, padded, out.hv)


@linked
def _probe_each(net, vectors, n, n_rows, order, add, given, scratch, out):
    size, p = n_rows * net.n_out, net.n_theta
    for i in range(n):
        own = Outputs(
            offset(out.f, i * size), offset(out.g, i * p), offset(out.rf, i * size),
            offset(out.hv, i * p),
        )  # fmt: skip
        _probe(net, vector_of(vectors, i), n_rows, order, add, given, scratch, own)


@serial_kernel
def probe(table, theta, order, add, v, x, delta, r_delta, scratch, f, g, rf, hv):
    """Run the passes up to an order at each theta (n, P), for ``MAX_ROWS`` rows at most.

    With ``add`` they add g and hv to the direction v, else they write over it.
    """
    _probe_each(
        net_of(table), vectors_of(theta), theta.shape[0], x.shape[0], order, add,
        Inputs(v, x, delta, r_delta), scratch, Outputs(f, g, rf, hv),
    )  # fmt: skip
