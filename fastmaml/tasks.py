"""A batch of tasks as rows: the one place that normalises the data.

Inside the package a batch is one (N, n_features) array of the rows of all tasks, plus ``offsets``
(n_tasks + 1,): task i has rows ``offsets[i]:offsets[i + 1]``. Tasks of equal size are the special
case that needs no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from .checks import all_finite, as_array, real_array, shape_text
from .family import Family, feature_map_of
from .targets import Targets

__all__ = [
    "NO_Y", "Rows", "as_rows", "as_tasks", "by_task", "offsets_of", "require_same_tasks", "split",
]  # fmt: skip

#: in the place of y where there is none. Not None: a kernel that needs y must never go without.
NO_Y: Any = object()


class Rows(NamedTuple):
    """A batch of tasks as rows. Its arrays are for reading only and may be the user's own."""

    x: NDArray[Any]  # (N, n_inputs), or what the model's feature map makes of them
    # (N, n_outputs), one column more if rows have weights; (0, n_outputs) when there is no y
    y: NDArray[Any]
    offsets: NDArray[np.int64]  # (n_tasks + 1,), read-only
    ragged: bool  # whether tasks differ in rows
    single: bool = False  # whether it is one task, given without an axis of tasks
    flat: bool = False  # whether y was given without an axis of outputs
    weighted: bool = False  # whether the last column of y is the weights of the rows

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.offsets) - 1

    def part(self, first: int, last: int) -> Rows:
        """Tasks first:last alone, as views."""
        ends = self.offsets[first : last + 1]
        rows = slice(ends[0], ends[-1])
        x, y, offsets = self.x[rows], self.y[rows], _frozen(ends - ends[0])
        return Rows(x, y, offsets, self.ragged, weighted=self.weighted)

    def repeated(self, n_tasks: int) -> Rows:
        """The rows of a single task as those of each of `n_tasks`."""
        return Rows(
            np.tile(self.x, (n_tasks, 1)), self.y, offsets_of(n_tasks, len(self.x)), ragged=False
        )


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


def split(
    values: NDArray[Any], rows: Rows, flat: bool = False
) -> NDArray[Any] | list[NDArray[Any]]:
    """Return (N, ...) values as (n_tasks, rows, ...), or as a list of arrays when ragged.

    Those of a single task stay (rows, ...). `flat`: values (N, 1) lose their axis of outputs.
    """
    if flat:
        values = values[:, 0]
    if rows.single:
        return values
    if rows.ragged:
        ends = rows.offsets.tolist()
        return [values[a:b] for a, b in pairwise(ends)]
    n_tasks = rows.n_tasks
    return values.reshape(n_tasks, len(values) // n_tasks, *values.shape[1:])


def by_task(values: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Return (n_tasks, ...) values; without the axis of tasks if the data have none."""
    only: NDArray[Any] = values[0]
    return only if rows.single else values


def as_rows(
    model: Family,
    x: Any,
    y: Any,
    dtype: np.dtype[Any],
    *,
    names: tuple[str, str] = ("x", "y"),
    check_finite: bool = True,
    fewest: int = 1,
    targets: Targets | None = None,
    mapped: bool = True,
) -> Rows:
    """Return a batch of tasks as rows.

    Parameters
    ----------
    model : Family
        Says how many inputs and outputs there are.
    x, y : array_like or sequence of array_like
        x (n_tasks, rows, n_inputs) and y (n_tasks, rows, n_outputs), or (n_tasks, rows) if there is
        one output; or lists (or tuples) of the same per task, without the first axis and with any
        number of rows; or a single task, both without the first axis. y `NO_Y`: only x is given.
    dtype : dtype
        float32 or float64, to convert to.
    names : (str, str)
        What errors call x and y.
    check_finite : bool
        Whether NaN and inf are errors.
    fewest : int
        Rows that a task may have, 1 or 0.
    targets : Targets, optional
        What a row of y holds, if not a number for each output.
    mapped : bool
        Whether x goes through the feature map that a model may have. (Else it is only checked.)
    """
    x_rows, x_counts, single, flat = _rows(model, names[0], x, model.n_inputs, dtype, fewest)
    if y is NO_Y:
        y_rows = _no_y(model.n_outputs, dtype)
    else:
        width = model.n_outputs if targets is None else targets.width_of(y, single)
        y_rows, y_counts, _, flat = _rows(model, names[1], y, width, dtype, fewest, single, targets)
        flat &= model.n_outputs == 1
        if x_counts != y_counts:
            raise _counts_error(names, x_counts, y_counts)
    ragged = isinstance(x_counts, list)
    offsets = (
        _frozen(np.cumsum([0, *x_counts], dtype=np.int64)) if ragged else offsets_of(*x_counts)
    )
    if check_finite and not all_finite(x_rows, y_rows if len(y_rows) else None):
        wrong = 1 if all_finite(x_rows) else 0
        raise _finite_error(names[wrong], (x_rows, y_rows)[wrong], offsets)
    feature_map = feature_map_of(model) if mapped else None
    if feature_map is not None:
        x_rows = feature_map(x_rows)
        if check_finite and not all_finite(x_rows):
            raise _finite_error(f"transform({names[0]})", x_rows, offsets)
    if targets is not None and y is not NO_Y:
        y_rows = targets.as_labels(names[1], y_rows, offsets, check_finite)
    return Rows(x_rows, y_rows, offsets, ragged, single, flat)


def as_tasks(
    model: Family,
    x: Any,
    y: Any,
    x_query: Any,
    y_query: Any,
    dtype: np.dtype[Any],
    check_finite: bool = True,
    fewest: int = 1,
    targets: Targets | None = None,
    query_targets: Targets | None = None,
    mapped: bool = True,
) -> tuple[Rows, Rows]:
    """Return the support and query rows; without a query set, the same object twice.

    (But for targets that differ: then the support rows must have what both losses take.)

    A task may have `fewest` support rows, 1 or 0, if there is a query set.
    """
    if x_query is None and y_query is None:
        fewest = 1
    support = as_rows(
        model, x, y, dtype, check_finite=check_finite, fewest=fewest, targets=targets,
        mapped=mapped,
    )  # fmt: skip
    if x_query is None and y_query is None:
        if query_targets == targets:
            return support, support
        again = as_rows(
            model, x, y, dtype, check_finite=check_finite, targets=query_targets, mapped=False
        )
        return support, again._replace(x=support.x)
    if x_query is None or y_query is None:
        given, missing = ("y_query", "x_query") if x_query is None else ("x_query", "y_query")
        raise ValueError(f"{given} is given, {missing} is not; accepted are both or neither")
    names = ("x_query", "y_query")
    query = as_rows(
        model, x_query, y_query, dtype, names=names, check_finite=check_finite,
        targets=query_targets, mapped=mapped,
    )  # fmt: skip
    require_same_tasks("x_query", query, support)
    return support, query


def require_same_tasks(name: str, rows: Rows, support: Rows) -> None:
    """Raise ValueError unless `rows`, of the argument `name`, are of as many tasks as support."""
    if rows.n_tasks != support.n_tasks:
        raise ValueError(
            f"{name} has {rows.n_tasks} tasks, x has {support.n_tasks}; "
            "accepted is the same number of tasks"
        )


# One array ---------------------------------------------------------------------------------------

# How many rows each task has: (n_tasks, rows) if all have as many, else the list of the numbers.
Counts = tuple[int, int] | list[int]


def _rows(
    model: Family, name: str, value: Any, width: int, dtype: np.dtype[Any], fewest: int,
    single: bool | None = None, targets: Targets | None = None,
) -> tuple[NDArray[Any], Counts, bool, bool]:  # fmt: skip
    """Return one array of all rows, (N, width), and how many of them each task has.

    Third comes whether it is a single task, which inputs decide and outputs are told by `single`;
    fourth whether an axis of outputs was left out.
    """
    # An array that is already right takes this path, of which every microsecond counts.
    if type(value) is ndarray and value.dtype == dtype and value.flags.carray:
        array = value
    elif isinstance(value, list | tuple) and not (
        _is_a_row(name, value, width) if single is None else single
    ):
        return _rows_of_list(model, name, value, width, dtype, fewest, single, targets)
    else:
        array = as_array(name, value, dtype)
    shape = array.shape
    inputs, axes = single is None, len(shape)
    if inputs:
        single = axes == 2
    lead = 1 if single else 2
    flat = not inputs and axes == lead and width == 1
    if not flat and (axes != lead + 1 or shape[-1] != width):
        raise _shape_error(model, name, shape, lead, width, inputs, targets)
    if not array.size and (fewest or not (single or shape[0])):
        rows = " and rows" if fewest else ""
        raise ValueError(
            f"{name} has shape {shape_text(shape)}; accepted are one or more tasks{rows}"
        )
    return array.reshape(-1, width), (1, shape[0]) if single else shape[:2], bool(single), flat


def _is_a_row(name: str, tasks: Sequence[Any], width: int) -> bool:
    """Whether the first entry of a list is a row of inputs, so that the list is a single task."""
    return bool(tasks) and real_array(f"{name}[0]", tasks[0]).shape == (width,)


def _rows_of_list(
    model: Family, name: str, tasks: Sequence[Any], width: int, dtype: np.dtype[Any], fewest: int,
    single: bool | None, targets: Targets | None = None,
) -> tuple[NDArray[Any], Counts, bool, bool]:  # fmt: skip
    if not tasks:
        raise ValueError(f"{name} has 0 tasks; accepted are one or more")
    arrays = [
        task if type(task) is ndarray and task.dtype == dtype else real_array(f"{name}[{i}]", task)
        for i, task in enumerate(tasks)
    ]
    inputs, flat = single is None, True
    for i, array in enumerate(arrays):
        shape = array.shape
        if not inputs and width == 1 and len(shape) == 1:
            arrays[i] = array[:, None]
        elif len(shape) != 2 or shape[1] != width:
            raise _shape_error(model, f"{name}[{i}]", shape, 1, width, inputs, targets)
        else:
            flat = False
        if shape[0] < fewest:
            raise ValueError(f"{name}[{i}] has 0 rows; accepted are tasks of one or more rows")
    counts = [len(array) for array in arrays]
    rows = np.empty((sum(counts), width), dtype)  # without it, Fortran order would stay
    with np.errstate(all="ignore"):  # as in as_array
        np.concatenate(arrays, out=rows, casting="unsafe")
    equal = min(counts) == max(counts)
    return rows, (len(counts), counts[0]) if equal else counts, False, flat


# Errors ------------------------------------------------------------------------------------------


def _shape_error(
    model: Family, name: str, shape: tuple[int, ...], lead: int, width: int, inputs: bool,
    targets: Targets | None,
) -> ValueError:  # fmt: skip
    """What is wrong with a shape that should have `lead` axes and then `width` columns."""
    array = inputs and "[" not in name  # not the entry of a list
    if len(shape) == (3 if array else lead + 1):
        if targets is not None:
            return targets.width_error(name, shape[-1], model)
        has, gives = ("features", "takes") if inputs else ("outputs", "gives")
        return ValueError(f"{name} has {shape[-1]} {has}, the model {gives} {width} ({model!r})")
    axes = ("n_tasks", "rows")[-lead:]
    accepted, hint = f"is {shape_text((*axes, width))}", ""
    if array:
        one, many = shape_text(("rows", width)), shape_text(("n_tasks", "rows", width))
        accepted = f"are {many}, and {one} for a single task"
    elif not inputs and width == 1:
        accepted += f" or {shape_text(axes)}"
    if inputs and width == 1 and 1 <= len(shape) <= (2 if array else 1):
        hint = f"; {name}[..., None] adds the axis of features"
    elif not inputs and lead == 2 and shape[1:] == (width,):
        hint = f"; {name}[None] is a batch of one task"
    return ValueError(
        f"{name} has shape {shape_text(shape)}; accepted {accepted} ({model!r}){hint}"
    )


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
