"""Where the numbers of a formula lie: its table, and the places of a block of rows.

A row has x, f, delta, Rf and R delta without padding. Behind them lies what forward keeps, whole
vectors; and since whole vectors are stored, there is room to spill.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compile.records import table_of
from ..vectors.emitter import LANES
from .programs import Program


class Places(NamedTuple):
    """Where the rows' numbers begin: so many for each row, and what is kept so many further."""

    f: int
    delta: int
    rf: int
    r_delta: int
    kept: int
    spill: int


def places_of(program: Program, lanes: int) -> Places:
    """Those of a program, for vectors of so many numbers."""
    n_in, n_out = program.n_inputs, program.n_outputs
    f, spill = n_in, lanes * max(n_in, n_out)
    return Places(f, f + n_out, f + 2 * n_out, f + 3 * n_out, f + 4 * n_out, spill)


def formula_table(program: Program, dtype: np.dtype) -> np.ndarray:
    """The table of a formula, of which each parameter is a layer."""
    lanes = LANES[np.dtype(dtype)]
    n_in, n_out, n_theta = program.n_inputs, program.n_outputs, program.n_params
    places, n_padded = places_of(program, lanes), -(-n_theta // lanes) * lanes
    fields = {
        "n_in": n_in, "n_out": n_out, "ld_in": n_in, "ld_out": n_out, "n_theta": n_theta,
        "n_padded": n_padded, "n_derived": len(program.slots), "n_layers": n_theta,
        "row_size": places.kept + places.spill + len(program.kept) * lanes,
        "value_size": places.delta + places.spill, "f": places.f, "delta": places.delta,
        "rf": places.rf, "r_delta": places.r_delta,
    }  # fmt: skip
    last = n_theta - 1
    pieces: list[tuple[int, ...]] = [
        (j, j, 1, 1, 1 if j < last else n_padded - j, j, 1) for j in range(n_theta)
    ]
    return table_of(fields, [], pieces)
