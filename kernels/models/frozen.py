"""A model of which some parameters stay as they are: ``g``, v and ``hv`` are zero there.

Its own numbers are 1 where a padded vector may change, and else 0. What is derived is that of the
model; then a vector without its frozen numbers, and what is derived from that: a direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compile.link import linked
from ..compile.records import NET_FIELDS, View, net_at, own_numbers, part_of, with_parts
from ..vectors.pointers import offset
from .passes import Passes, Point
from .passes import backward as part_backward
from .passes import derive as part_derive
from .passes import forward as part_forward
from .passes import r_backward as part_r_backward
from .passes import r_forward as part_r_forward


def frozen_table(table: np.ndarray, free: Sequence[float]) -> np.ndarray:
    """The table of a model of which the padded numbers with 0 in ``free`` stay as they are.

    It is the model's own table, whose rows are the same, with other passes.
    """
    net = View(table)
    outer = table[: net.losses].copy()
    outer[NET_FIELDS.index("n_derived")] = 2 * net.n_derived + net.n_padded
    return with_parts(outer, [table], [(0, 0, 0, 0)], free)


@linked
def _clear(net, vector):
    """Zero what is frozen."""
    free = own_numbers(net, 0)
    for i in range(net.n_padded):
        if free[i] == 0:
            vector[i] = 0


@linked
def _derive(net, w, c):
    sub = net_at(net, part_of(net, 0).net)
    cleared = offset(c, sub.n_derived)
    for i in range(net.n_padded):
        cleared[i] = w[i]
    _clear(net, cleared)
    part_derive(sub, Point(w, c))
    part_derive(sub, Point(cleared, offset(cleared, net.n_padded)))


@linked
def _forward(net, block, at, order):
    part_forward(net_at(net, part_of(net, 0).net), block, at, order)


@linked
def _backward(net, block, at, order, g, add):
    part_backward(net_at(net, part_of(net, 0).net), block, at, order, g, add)
    _clear(net, g)


@linked
def _r_forward(net, block, at, along):
    sub = net_at(net, part_of(net, 0).net)
    cleared = offset(along.c, sub.n_derived)
    part_r_forward(sub, block, at, Point(cleared, offset(cleared, net.n_padded)))


@linked
def _r_backward(net, block, at, along, hv, add):
    sub = net_at(net, part_of(net, 0).net)
    cleared = offset(along.c, sub.n_derived)
    part_r_backward(sub, block, at, Point(cleared, offset(cleared, net.n_padded)), hv, add)
    _clear(net, hv)


FROZEN = Passes(_derive, _forward, _backward, _r_forward, _r_backward)
