"""A sum of models, each with its own parameters: the parts' passes, called by address.

A padded vector is the parts' padded vectors, one after the other, and so is what is derived. A row
has x, f, delta, Rf and R delta without padding, then each part's own block; where only values are
wanted, one after the other uses the same one, behind f.

    f = sum f_k,    g = (g_1, g_2, ...),    Rf = sum Rf_k,    hv = (hv_1, hv_2, ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import View, net_at, part_of, table_of, with_parts
from ..vectors.pointers import offset
from .passes import (
    Block,
    Passes,
    Point,
    copy_rows,
    delta_of,
    f_of,
    r_delta_of,
    rf_of,
)
from .passes import backward as part_backward
from .passes import derive as part_derive
from .passes import forward as part_forward
from .passes import r_backward as part_r_backward
from .passes import r_forward as part_r_forward


def sum_table(
    tables: list[np.ndarray], numbers: Sequence[float] = (), columns: Sequence[int] = ()
) -> np.ndarray:
    """The table of a sum of models, which have as many outputs, from theirs.

    It may have numbers of its own. Each part's inputs are x, or begin at a column of it.
    """
    nets = [View(table) for table in tables]
    columns = columns or [0] * len(nets)
    n_in = max(column + net.n_in for column, net in zip(columns, nets, strict=True))
    n_out = nets[0].n_out
    names = "n_theta", "n_padded", "n_derived", "n_layers", "row_size"
    theta, padded, derived, layers, rows = (
        list(accumulate((getattr(net, name) for net in nets), initial=0)) for name in names
    )
    own = n_in + 4 * n_out
    fields = {
        "n_in": n_in, "n_out": n_out, "ld_in": n_in, "ld_out": n_out, "n_theta": theta[-1],
        "n_padded": padded[-1], "n_derived": derived[-1], "n_layers": layers[-1],
        "row_size": own + rows[-1],
        "value_size": n_in + n_out + max(net.value_size for net in nets), "f": n_in,
        "delta": n_in + n_out, "rf": n_in + 2 * n_out, "r_delta": n_in + 3 * n_out,
    }  # fmt: skip
    pieces: list[tuple[int, ...]] = []
    for net, *start in zip(nets, theta, padded, layers, strict=False):
        for piece in net.all_pieces:
            place, at, n_rows, n_cols, ld, layer, last = piece
            pieces.append(
                (place + start[0], at + start[1], n_rows, n_cols, ld, layer + start[2], last)
            )
    begin = zip(padded, derived, rows, columns, strict=False)
    places = [(w, c, own + row, column) for w, c, row, column in begin]
    return with_parts(table_of(fields, [], pieces), tables, places, numbers)


@linked
def _add_outputs(n, ld, rows, add, source, out):
    """``out = [out +] source``, of which the source's rows may be padded."""
    if add:
        for i in range(rows):
            for j in range(n):
                out[i * n + j] += source[i * ld + j]
    else:
        for i in range(rows):
            for j in range(n):
                out[i * n + j] = source[i * ld + j]


@helper
def own_block(block, part):
    """The part's own block, of the same rows."""
    return Block(block.rows, offset(block.memory, block.rows * part.place))


@helper
def _own(at, part):
    """The part's own parameters, or its share of a direction."""
    return Point(offset(at.w, part.padded), offset(at.c, part.derived))


@linked
def _derive(net, w, c):
    for number in range(net.n_parts):
        part = part_of(net, number)
        part_derive(net_at(net, part.net), _own(Point(w, c), part))


@linked
def _forward(net, block, at, order):
    f = f_of(net, block)
    for number in range(net.n_parts):
        part = part_of(net, number)
        sub = net_at(net, part.net)
        place = part.place if order > 0 else net.n_in + net.n_out
        own = Block(block.rows, offset(block.memory, block.rows * place))
        x = offset(block.memory, part.column)
        copy_rows(block.rows, sub.n_in, x, net.n_in, own.memory, sub.ld_in)
        part_forward(sub, own, _own(at, part), order)
        _add_outputs(net.n_out, sub.ld_out, block.rows, number > 0, f_of(sub, own), f)


@linked
def _backward(net, block, at, order, g, add):
    delta = delta_of(net, block)
    for number in range(net.n_parts):
        part = part_of(net, number)
        sub, own = net_at(net, part.net), own_block(block, part)
        copy_rows(block.rows, net.n_out, delta, net.n_out, delta_of(sub, own), sub.ld_out)
        part_backward(sub, own, _own(at, part), order, offset(g, part.padded), add)


@linked
def _r_forward(net, block, at, along):
    rf = rf_of(net, block)
    for number in range(net.n_parts):
        part = part_of(net, number)
        sub, own = net_at(net, part.net), own_block(block, part)
        part_r_forward(sub, own, _own(at, part), _own(along, part))
        _add_outputs(net.n_out, sub.ld_out, block.rows, number > 0, rf_of(sub, own), rf)


@linked
def _r_backward(net, block, at, along, hv, add):
    r_delta = r_delta_of(net, block)
    for number in range(net.n_parts):
        part = part_of(net, number)
        sub, own = net_at(net, part.net), own_block(block, part)
        copy_rows(block.rows, net.n_out, r_delta, net.n_out, r_delta_of(sub, own), sub.ld_out)
        point, direction = _own(at, part), _own(along, part)
        part_r_backward(sub, own, point, direction, offset(hv, part.padded), add)


SUM = Passes(_derive, _forward, _backward, _r_forward, _r_backward)
