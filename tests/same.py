"""Whether two states are the same: kinds, dtypes, shapes and every bit of every number.

Pickles do not tell: those of equal states differ where one state refers twice to an object of which
the other has two copies, and from one Python to the next. ``==`` does not tell either: NaN differs
from itself, 0.0 equals -0.0 and 1 equals 1.0.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np


def bits(state: Any) -> Any:
    """Nested tuples that are equal for the same states, and only for these.

    Parameters
    ----------
    state : object
        Arrays, numbers, text and None, in tuples (named ones too), lists and dictionaries.

    Raises
    ------
    TypeError
        If something else is in it.
    """
    kind = type(state)
    if isinstance(state, (np.ndarray, np.generic)):
        if state.dtype.hasobject:
            raise TypeError(f"state holds objects ({state!r}), whose bits are addresses")
        return kind, state.dtype.str, state.shape, state.tobytes()
    if isinstance(state, dict):
        return kind, tuple((key, bits(value)) for key, value in state.items())
    if isinstance(state, (tuple, list)):
        return kind, tuple(bits(part) for part in state)
    if isinstance(state, float):
        return kind, struct.pack("d", state)
    if state is None or isinstance(state, (bool, int, str)):
        return kind, state
    raise TypeError(f"state holds a {kind.__name__}; accepted are arrays, numbers, text, None")
