"""A batch of tasks as rows: the one place that normalises the data.

Inside the package a batch is one (N, n_features) array of the rows of all tasks, plus ``offsets``
(n_tasks + 1,): task i has rows ``offsets[i]:offsets[i + 1]``. Tasks of equal size are the special
case that needs no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from .checks import all_finite, as_array, real_array, shape_text

if TYPE_CHECKING:
    from .models.base import Network

__all__ = ["Rows", "as_rows", "as_tasks", "offsets_of", "split"]


class Rows(NamedTuple):
    """A batch of tasks as rows. Its arrays are for reading only and may be the user's own."""

    x: NDArray[Any]  # (N, n_inputs)
    y: NDArray[Any]  # (N, n_outputs); (0, n_outputs) when there is no y
    offsets: NDArray[np.int64]  # (n_tasks + 1,), read-only
    ragged: bool  # whether tasks differ in rows

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.offsets) - 1

    def part(self, first: int, last: int) -> Rows:
        """Tasks first:last alone, as views."""
        ends = self.offsets[first : last + 1]
        rows = slice(ends[0], ends[-1])
        return Rows(self.x[rows], self.y[rows], _frozen(ends - ends[0]), self.ragged)


@lru_cache(maxsize=128)
def offsets_of(n_tasks: int, rows: int) -> NDArray[np.int64]:
    """Return the (read-only) offsets of `n_tasks` tasks that have `rows` rows each."""
    return _frozen(np.arange(n_tasks + 1, dtype=np.int64) * rows)


def _frozen(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    # All offsets are read-only, those of the cache so that nobody changes them, the others so that
    # Numba sees one type.
    offsets.flags.writeable = False
    return offsets


@lru_cache(maxsize=128)
def _no_y(n_outputs: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty((0, n_outputs), dtype)


def split(values: NDArray[Any], rows: Rows) -> NDArray[Any] | list[NDArray[Any]]:
    """Return (N, ...) values as (n_tasks, rows, ...), or as a list of arrays when ragged."""
    if rows.ragged:
        ends = rows.offsets.tolist()
        return [values[a:b] for a, b in pairwise(ends)]
    n_tasks = rows.n_tasks
    return values.reshape(n_tasks, len(values) // n_tasks, *values.shape[1:])


def as_rows(
    model: Network,
    x: Any,
    y: Any,
    dtype: np.dtype[Any],
    *,
    names: tuple[str, str] = ("x", "y"),
    check_finite: bool = True,
) -> Rows:
    """Return a batch of tasks as rows.

    Parameters
    ----------
    model : Network
        Says how many inputs and outputs there are.
    x, y : array_like or sequence of array_like
        x (n_tasks, rows, n_inputs) and y (n_tasks, rows, n_outputs), or (n_tasks, rows) if there is
        one output; or lists (or tuples) of the same per task, without the first axis and with any
        number of rows. y None: only x is given.
    dtype : dtype
        float32 or float64, to convert to.
    names : (str, str)
        What errors call x and y.
    check_finite : bool
        Whether NaN and inf are errors.
    """
    x_rows, x_counts = _rows(model, names[0], x, model.n_inputs, "inputs", dtype)
    if y is None:
        y_rows = _no_y(model.n_outputs, dtype)
    else:
        y_rows, y_counts = _rows(model, names[1], y, model.n_outputs, "outputs", dtype)
        if x_counts != y_counts:
            raise _counts_error(names, x_counts, y_counts)
    ragged = isinstance(x_counts, list)
    offsets = (
        _frozen(np.cumsum([0, *x_counts], dtype=np.int64)) if ragged else offsets_of(*x_counts)
    )
    if check_finite:
        if not all_finite(x_rows):
            raise _finite_error(names[0], x_rows, offsets)
        if not all_finite(y_rows):
            raise _finite_error(names[1], y_rows, offsets)
    return Rows(x_rows, y_rows, offsets, ragged)


def as_tasks(
    model: Network,
    x: Any,
    y: Any,
    x_query: Any,
    y_query: Any,
    dtype: np.dtype[Any],
    check_finite: bool = True,
) -> tuple[Rows, Rows]:
    """Return the support and query rows; without a query set, the same object twice."""
    if y is None:  # which as_rows would take to mean that only x matters
        raise TypeError("y is None; accepted are arrays of real numbers")
    support = as_rows(model, x, y, dtype, check_finite=check_finite)
    if x_query is None and y_query is None:
        return support, support
    if x_query is None or y_query is None:
        given, missing = ("y_query", "x_query") if x_query is None else ("x_query", "y_query")
        raise ValueError(f"{given} is given, {missing} is not; accepted are both or neither")
    names = ("x_query", "y_query")
    query = as_rows(model, x_query, y_query, dtype, names=names, check_finite=check_finite)
    if query.n_tasks != support.n_tasks:
        raise ValueError(
            f"x_query has {query.n_tasks} tasks, x has {support.n_tasks}; "
            "accepted is the same number of tasks"
        )
    return support, query


# One array ---------------------------------------------------------------------------------------

# How many rows each task has: (n_tasks, rows) if all have as many, else the list of the numbers.
Counts = tuple[int, int] | list[int]


def _rows(
    model: Network, name: str, value: Any, width: int, axis: str, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], Counts]:
    """Return one array of all rows, (N, width), and how many of them each task has."""
    # An array that is already right takes this path, of which every microsecond counts.
    if type(value) is ndarray and value.dtype == dtype and value.flags.carray:
        array = value
    elif isinstance(value, list | tuple):
        return _rows_of_list(model, name, value, width, axis, dtype)
    else:
        array = as_array(name, value, dtype)
    shape = array.shape
    full = len(shape) == 3 and shape[2] == width
    if not full and not (len(shape) == 2 and axis == "outputs" and width == 1):
        raise _shape_error(model, name, shape, ("n_tasks", "rows"), width, axis)
    if not array.size:
        raise ValueError(
            f"{name} has shape {shape_text(shape)}; accepted are one or more tasks and rows"
        )
    return array.reshape(-1, width), shape[:2]


def _rows_of_list(
    model: Network, name: str, tasks: Sequence[Any], width: int, axis: str, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], Counts]:
    if not tasks:
        raise ValueError(f"{name} has 0 tasks; accepted are one or more")
    arrays = [
        task if type(task) is ndarray and task.dtype == dtype else real_array(f"{name}[{i}]", task)
        for i, task in enumerate(tasks)
    ]
    flat = width == 1 and axis == "outputs"
    for i, array in enumerate(arrays):
        shape = array.shape
        if flat and len(shape) == 1:
            arrays[i] = array[:, None]
        elif len(shape) != 2 or shape[1] != width:
            raise _shape_error(model, f"{name}[{i}]", shape, ("rows",), width, axis)
        if not shape[0]:
            raise ValueError(f"{name}[{i}] has 0 rows; accepted are tasks of one or more rows")
    counts = [len(array) for array in arrays]
    rows = np.empty((sum(counts), width), dtype)  # without it, Fortran order would stay
    with np.errstate(all="ignore"):  # as in as_array
        np.concatenate(arrays, out=rows, casting="unsafe")
    return rows, (len(counts), counts[0]) if min(counts) == max(counts) else counts


# Errors ------------------------------------------------------------------------------------------


def _shape_error(
    model: Network,
    name: str,
    shape: tuple[int, ...],
    lead: tuple[str, ...],
    width: int,
    axis: str,
) -> ValueError:
    accepted = shape_text((*lead, width))
    if width == 1 and axis == "outputs":
        accepted += f" or {shape_text(lead)}"
    if len(shape) == len(lead) + 1:
        has, gives = ("features", "takes") if axis == "inputs" else ("outputs", "gives")
        return ValueError(f"{name} has {shape[-1]} {has}, the model {gives} {width} ({model!r})")
    text = f"{name} has shape {shape_text(shape)}; accepted is {accepted} ({model!r})"
    if len(shape) == len(lead) and axis == "inputs" and width == 1:
        text += f"; {name}[..., None] adds the axis of features"
    elif len(lead) == 2 and len(shape) == 2 and shape[1] == width:
        text += f"; {name}[None] is a batch of one task"
    return ValueError(text)


def _counts_error(names: tuple[str, str], x_counts: Counts, y_counts: Counts) -> ValueError:
    x_list, y_list = (
        [counts[1]] * counts[0] if isinstance(counts, tuple) else counts
        for counts in (x_counts, y_counts)
    )
    if len(x_list) != len(y_list):
        return ValueError(
            f"{names[1]} has {len(y_list)} tasks, {names[0]} has {len(x_list)}; "
            "accepted is the same number of tasks"
        )
    task = next(i for i, pair in enumerate(zip(x_list, y_list, strict=True)) if pair[0] != pair[1])
    return ValueError(
        f"{names[1]} has {y_list[task]} rows in task {task}, {names[0]} has {x_list[task]}; "
        "accepted is the same number of rows"
    )


def _finite_error(name: str, array: NDArray[Any], offsets: NDArray[np.int64]) -> ValueError:
    row = int(np.argmin(np.isfinite(array).all(axis=1)))
    task = int(np.searchsorted(offsets, row, side="right")) - 1
    value = next(v for v in array[row].tolist() if not np.isfinite(v))
    return ValueError(
        f"{name} holds {value} in task {task}, row {row - int(offsets[task])}; "
        f"accepted are finite {array.dtype} numbers"
    )
