"""Columns of numbers: from arrays, and from tables of whatever library by the names of columns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT64, as_array, as_dtype, real_array, shape_text, shown
from .labels import as_labels, is_missing, list_some, require_length

__all__ = ["as_columns", "as_weights", "column_of", "number_columns", "time_order"]


def as_columns(name: str, rows: Any) -> NDArray[Any]:
    """Return rows as an array (rows, columns) of float32 or float64."""
    given = real_array(name, rows)
    array = as_array(name, given, as_dtype(name, given))
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {shape_text(array.shape)}; accepted are (rows, columns) and (rows,)"
        )
    return array.reshape(len(array), -1) if len(array) else np.empty((0, 1))


def as_weights(name: str, weights: Any, n_rows: int, some: bool = True) -> NDArray[Any]:
    """Return a weight for each row as float64 (rows,), none below 0, and `some` above it."""
    array = as_array(name, weights, FLOAT64)
    require_length(name, array.shape, n_rows)
    bad = ~((array >= 0) & (array < np.inf))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{name} holds {array[row]} in row {row}; accepted are finite numbers of at least 0"
        )
    if some and n_rows and not array.any():
        raise ValueError(f"{name} is zero in every row; accepted are weights above 0 in some")
    return array


def column_of(frame: Any, name: Any) -> Any:
    """Return a column of a table by its name, which must be there."""
    names = getattr(frame, "column_names", getattr(frame, "columns", frame))
    if name not in (list(names) if not callable(names) else []):
        raise ValueError(
            f"frame has no column {name!r}; it has {list_some([*map(repr, names)], 20)}"
        )
    return frame[name]


def length_of(frame: Any, name: Any) -> int:
    """Return how many entries a column of a table has."""
    column = column_of(frame, name)
    try:
        return len(column)
    except TypeError:
        raise TypeError(
            f"column {name!r} is {shown(column)}; accepted are columns of numbers"
        ) from None


def number_columns(frame: Any, names: Sequence[Any], n_rows: int) -> NDArray[Any]:
    """Return columns of a table as an array (rows, columns)."""
    if isinstance(names, str):
        raise TypeError(f"inputs or outputs is the text {names!r}; accepted are lists of columns")
    columns = [_numbers(name, column_of(frame, name), n_rows) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((n_rows, 0))


def _numbers(name: Any, column: Any, n_rows: int) -> NDArray[Any]:
    """A column of numbers, NaN where one is missing; text and dates are no numbers."""
    array = column if isinstance(column, np.ndarray) else None
    if array is None and isinstance(getattr(column, "dtype", None), np.dtype):
        array = np.asarray(column)  # of a Series, which has a dtype of NumPy
    if array is None or array.dtype.kind not in "fiub" or isinstance(array, np.ma.MaskedArray):
        entries = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
        for row, entry in enumerate(entries):
            number = isinstance(entry, Real | Decimal) and not isinstance(entry, np.timedelta64)
            if not number and (isinstance(entry, str | bytes | tuple) or not is_missing(entry)):
                raise TypeError(
                    f"column {name!r} holds {shown(entry)} in row {row}; accepted are numbers"
                )
        array = np.array([np.nan if is_missing(e) else float(e) for e in entries], np.float64)
    require_length(f"column {name!r}", array.shape, n_rows)
    return as_array(f"column {name!r}", array, as_dtype("column", array))


def time_order(time: Any, n_rows: int) -> NDArray[np.intp]:
    """Return the order of rows by numbers, dates or text; a missing one is an error."""
    labels = as_labels("time", time, n_rows)
    return np.argsort(labels.code, kind="stable")
