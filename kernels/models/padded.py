"""Padded parameter vectors, in which kernels compute.

A padded vector holds the numbers of a parameter vector in *pieces*: each is a matrix (rows, cols),
row by row, of which every row is padded with zeros to a length that suits the vector registers. The
table of a model lists them (``compile.records``).
"""

from __future__ import annotations

import numpy as np

from ..compile.link import linked
from ..compile.records import View, piece_of, table_of
from ..vectors.emitter import LANES
from ..vectors.pointers import offset


def plain_table(n_in: int, n_out: int, n_theta: int, dtype: np.dtype, kept: int = 0) -> np.ndarray:
    """The table of a model without layers, whose parameters are one piece.

    Nothing is derived from them, and they are one layer. A row of a block has x, f, delta, Rf and R
    delta without padding, and ``kept`` numbers for what the passes leave each other: `kept_of`.
    """
    lanes = LANES[np.dtype(dtype)]
    n_padded = -(-n_theta // lanes) * lanes
    size = n_in + 4 * n_out + kept
    fields = {
        "n_in": n_in, "n_out": n_out, "ld_in": n_in, "ld_out": n_out, "n_theta": n_theta,
        "n_padded": n_padded, "n_layers": 1, "row_size": size, "value_size": size, "f": n_in,
        "delta": n_in + n_out, "rf": n_in + 2 * n_out, "r_delta": n_in + 3 * n_out,
    }  # fmt: skip
    return table_of(fields, [], [(0, 0, 1, n_theta, n_padded, 0, True)])


def padded_index(table: np.ndarray) -> np.ndarray:
    """Where each parameter lies in a padded vector, (P,)."""
    view = View(table)
    index = np.empty(view.n_theta, np.int64)
    for piece in view.all_pieces:
        places = piece.padded + np.arange(piece.rows)[:, None] * piece.ld + np.arange(piece.cols)
        index[piece.theta : piece.theta + places.size] = places.reshape(-1)
    return index


@linked
def spread(net, theta, w):
    """Write a parameter vector as a padded one, padding included."""
    for number in range(net.n_pieces):
        piece = piece_of(net, number)
        rows, cols, ld = piece.rows, piece.cols, piece.ld
        source, target = offset(theta, piece.theta), offset(w, piece.padded)
        for i in range(rows):
            for j in range(cols):
                target[i * ld + j] = source[i * cols + j]
            for j in range(cols, ld):
                target[i * ld + j] = 0


@linked
def gather(net, w, theta):
    """Write a padded vector as a plain parameter vector."""
    for number in range(net.n_pieces):
        piece = piece_of(net, number)
        rows, cols, ld = piece.rows, piece.cols, piece.ld
        source, target = offset(w, piece.padded), offset(theta, piece.theta)
        for i in range(rows):
            for j in range(cols):
                target[i * cols + j] = source[i * ld + j]
