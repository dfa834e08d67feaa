"""Features and targets are numbers: what NumPy or scikit-learn would silently turn into some.

A date becomes nanoseconds since 1970, a duration a count of its unit, the text "1_5" 15, and a
masked entry whatever lies under the mask.
"""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

__all__ = ["require_numbers"]

NOT_NUMBERS = (
    str, bytes, datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64,
)  # fmt: skip


def require_numbers(name: str, values: Any) -> None:
    """Raise TypeError if `values`, rows of features or targets, hold dates, durations or text.

    What else is no number, or is missing, scikit-learn names itself.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array; accepted are plain arrays (fill or drop what is masked)"
        )
    if hasattr(values, "toarray"):  # sparse, for which scikit-learn has words
        return
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # irregular; scikit-learn has words for that too
        return
    if array.dtype.kind in "fiubc" or array.size == 0:
        return
    where: tuple[int, ...] = (0,) * array.ndim
    if array.dtype.kind == "O":
        found = (i for i, entry in np.ndenumerate(array) if isinstance(entry, NOT_NUMBERS))
        first = next(found, None)
        if first is None:
            return
        where = first
    place = f" in row {where[0]}" if where else ""
    if len(where) > 1:
        columns = getattr(values, "columns", None)
        named = where[1] if columns is None else repr(list(columns)[where[1]])
        place += f", column {named}"
    raise TypeError(
        f"{name} holds {array[where]!r:.60}{place}; accepted are numbers (of a date or a duration "
        "the count of a unit that you choose, of text what an encoder makes of it)"
    )
