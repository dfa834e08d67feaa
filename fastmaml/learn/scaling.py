"""Standardisation of data: the mean and the scale of each column, as one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..checks import (
    FLOAT64,
    as_array,
    as_float_dtype,
    real_array,
    require_finite,
    shape_text,
    shown,
)
from ..datasets import Tasks, WeightedTasks
from ..datasets.columns import as_weights

__all__ = ["Scaling"]

FIELDS = ("x_mean", "x_scale", "y_mean", "y_scale")

#: a column that varies by less than this many roundings of its mean does not vary
ROUNDINGS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Scaling:
    """Data in the user's units outside, standardised inside; fitted to the training tasks.

    Inner rates, initial weights and learning rates that are usual suppose columns of mean 0 and
    standard deviation 1. All arithmetic is in float64: the large offset of a column is gone before
    anything is rounded to float32.

    Parameters
    ----------
    x_mean, x_scale : array_like, shape (n_inputs,)
    y_mean, y_scale : array_like, shape (n_outputs,)
        Scaled is ``(x - x_mean) / x_scale``.

    Raises
    ------
    TypeError, ValueError
        For arrays of another kind or shape, that are not finite, or a scale that is not above 0; in
        its methods, for columns that are not those of the scaling.

    Notes
    -----
    The methods take rows (rows, columns), tasks (n_tasks, rows, columns) and lists of tasks that
    differ in rows; with one output, y may lack its last axis. What comes back has the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.learn import Scaling
    >>> scaling = Scaling.fit([[0.0, 5.0], [2.0, 5.0]], [1e9, 1e9 + 4])
    >>> scaling
    Scaling(x_mean=[1.0, 5.0], x_scale=[1.0, 1.0], y_mean=[1000000002.0], y_scale=[2.0])
    >>> scaling.scale_x([[3.0, 5.0]])
    array([[2., 0.]])
    >>> scaling.unscale_y([[0.5]])
    array([[1.e+09]])
    >>> scaling.scale_y([1e9 + 4]), scaling.unscale_std([0.5])
    (array([1.]), array([1.]))
    >>> scaling.tasks([[[2.0, 5.0]]], [[1e9]]).y
    array([[-1.]])
    >>> Scaling.from_dict(scaling.to_dict()) == scaling
    True
    """

    x_mean: Any
    x_scale: Any
    y_mean: Any
    y_scale: Any

    def __post_init__(self) -> None:
        for name in FIELDS:
            array = np.array(as_array(name, getattr(self, name), FLOAT64))
            if array.ndim != 1 or not array.size:
                raise ValueError(
                    f"{name} has shape {shape_text(array.shape)}; accepted is (columns,)"
                )
            require_finite(name, array, ("column",))
            if name.endswith("scale") and array.min() <= 0:
                raise ValueError(f"{name} holds {array.min()}; accepted are numbers above 0")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for mean, scale in (FIELDS[:2], FIELDS[2:]):
            if len(getattr(self, mean)) != len(getattr(self, scale)):
                raise ValueError(
                    f"{mean} has {len(getattr(self, mean))} columns, {scale} has "
                    f"{len(getattr(self, scale))}; accepted is the same number"
                )

    @classmethod
    def fit(cls, x: Any, y: Any, *, sample_weight: Any = None) -> Scaling:
        """Return the mean and standard deviation of the columns of all rows.

        A column that does not vary gets the scale 1.

        Parameters
        ----------
        x : array_like, shape (rows, n_inputs) or (n_tasks, rows, n_inputs), or list of tasks
        y : array_like, as x, with or without the axis of one output
        sample_weight : array_like, shape (rows,), optional
            How often each row counts; of the rows of all tasks, one task after the other.

        Raises
        ------
        TypeError, ValueError
            For data of another kind or shape, that is not finite, or not as many rows of both.
        """
        x_rows, x_axes = _rows("x", x)
        y_rows, y_axes = _rows("y", y)
        if y_axes == x_axes - 1:  # y without the axis of outputs
            y_rows = [rows.reshape(-1, 1) for rows in y_rows]
        elif y_axes != x_axes:
            raise ValueError(
                f"y has {y_axes} axes, x has {x_axes}; accepted are as many, or one less"
            )
        x_all, y_all = (
            _flat(name, rows) for name, rows in (("x", x_rows), ("y", y_rows))
        )  # fmt: skip
        if len(x_all) != len(y_all):
            raise ValueError(
                f"y has {len(y_all)} rows, x has {len(x_all)}; accepted is the same number"
            )
        if sample_weight is None:
            return cls(*_moments(x_all), *_moments(y_all))
        weights = as_weights("sample_weight", sample_weight, len(x_all))
        kept = weights > 0
        shares = weights[kept] / weights.max()
        return cls(*_moments(x_all[kept], shares), *_moments(y_all[kept], shares))

    # ---- there and back

    def scale_x(self, x: Any, dtype: DTypeLike = np.float64, *, name: str = "x") -> Any:
        """Return inputs x (errors call them `name`) scaled; dtype is float64 or float32."""
        return _each(name, x, self.x_mean, dtype, lambda a: (a - self.x_mean) / self.x_scale)

    def scale_y(self, y: Any, dtype: DTypeLike = np.float64) -> Any:
        """Return targets y scaled; dtype is float64 or, rounded at the end, float32."""
        return _each("y", y, self.y_mean, dtype, lambda a: (a - self.y_mean) / self.y_scale)

    def unscale_y(self, y: Any, dtype: DTypeLike = np.float64) -> Any:
        """Return scaled targets or predictions y in the user's units and a dtype."""
        return _each("y", y, self.y_mean, dtype, lambda a: a * self.y_scale + self.y_mean)

    def unscale_std(self, std: Any, dtype: DTypeLike = np.float64) -> Any:
        """Return std (or differences) of scaled targets in the user's units and a dtype."""
        return _each("std", std, self.y_mean, dtype, lambda a: a * self.y_scale)

    def tasks(
        self, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        sample_weight: Any = None, sample_weight_query: Any = None, *,
        dtype: DTypeLike = np.float64,
    ) -> Any:  # fmt: skip
        """Return a batch of tasks scaled, and its weights as they are: Tasks, or WeightedTasks.

        x, y, x_query and y_query are as for `fastmaml.MAML`; sample_weight and sample_weight_query
        their weights, or None; dtype is float64 or float32.
        """
        tasks = Tasks(self.scale_x(x, dtype), self.scale_y(y, dtype))
        if x_query is not None or y_query is not None:
            queries = self.scale_x(x_query, dtype, name="x_query"), self.scale_y(y_query, dtype)
            tasks = Tasks(*tasks[:2], *queries)
        if sample_weight is None and sample_weight_query is None:
            return tasks
        return WeightedTasks(*tasks, sample_weight, sample_weight_query)

    # ---- as a value

    def to_dict(self) -> dict[str, list[float]]:
        """Return lists of numbers, as JSON has them; `from_dict` has the same bits again."""
        return {name: getattr(self, name).tolist() for name in FIELDS}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Scaling:
        """Return the scaling that `to_dict` wrote."""
        if not isinstance(fields, Mapping) or set(fields) != set(FIELDS):
            raise ValueError(
                f"fields is {shown(fields)}; accepted are dicts of {', '.join(FIELDS)}"
            )
        return cls(**fields)

    def __repr__(self) -> str:
        return f"Scaling({', '.join(f'{name}={v}' for name, v in self.to_dict().items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scaling) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(repr(self))


def _rows(name: str, value: Any) -> tuple[list[NDArray[Any]], int]:
    """The tasks of a list that differ in rows, or one array of all; and how many axes in all."""
    if isinstance(value, list | tuple) and value and real_array(f"{name}[0]", value[0]).ndim:
        tasks = [real_array(f"{name}[{i}]", task) for i, task in enumerate(value)]
        if len({task.shape for task in tasks}) > 1:
            if len({task.ndim for task in tasks}) > 1:
                raise ValueError(f"{name} holds tasks of different axes; accepted are as many")
            return tasks, tasks[0].ndim + 1
    array = real_array(name, value)
    if array.ndim not in (1, 2, 3):
        raise ValueError(
            f"{name} has shape {shape_text(array.shape)}; "
            "accepted are (rows, columns), (n_tasks, rows, columns) and lists of tasks"
        )
    return [array], array.ndim


def _flat(name: str, tasks: list[NDArray[Any]]) -> NDArray[Any]:
    """All rows, (N, columns) float64."""
    if tasks[0].ndim == 1:
        raise ValueError(
            f"{name} has shape {shape_text(tasks[0].shape)}; "
            f"accepted is (rows, columns): {name}[:, None] adds the axis of columns"
        )
    widths = {task.shape[-1] for task in tasks}
    if len(widths) > 1:
        raise ValueError(f"{name} has tasks of {sorted(widths)} columns; accepted is one number")
    width = widths.pop()
    if not width:
        raise ValueError(f"{name} has no rows or no columns; accepted are one or more")
    rows = np.concatenate([as_array(name, task, FLOAT64).reshape(-1, width) for task in tasks])
    if not rows.size:
        raise ValueError(f"{name} has no rows or no columns; accepted are one or more")
    require_finite(name, rows, ("row", "column"))
    return rows


def _moments(
    rows: NDArray[Any], weights: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of the columns, in units in which nothing overflows."""
    mean = _mean(rows, weights)
    rest = rows / 2 - mean / 2  # the halves, as the difference of two huge numbers may overflow
    mean = mean + 2 * _mean(rest, weights)
    rest = rows / 2 - mean / 2
    largest = np.abs(rest).max(axis=0)
    largest[largest == 0] = 1
    half = largest * np.sqrt(_average(np.square(rest / largest), weights))
    constant = half <= ROUNDINGS * np.finfo(np.float64).eps * np.abs(mean / 2)
    constant |= rows.min(axis=0) == rows.max(axis=0)
    mean = np.where(rows.min(axis=0) == rows.max(axis=0), rows[0], mean)
    return mean, np.where(constant, 1.0, np.minimum(2 * half, np.finfo(np.float64).max))


def _mean(rows: NDArray[Any], weights: NDArray[Any] | None) -> NDArray[Any]:
    largest = np.abs(rows).max(axis=0)
    largest[largest == 0] = 1
    mean: NDArray[Any] = largest * _average(rows / largest, weights)
    return mean


def _average(rows: NDArray[Any], weights: NDArray[Any] | None) -> NDArray[Any]:
    average: NDArray[Any] = (
        rows.mean(axis=0) if weights is None else np.average(rows, axis=0, weights=weights)
    )
    return average


def _each(name: str, value: Any, like: NDArray[Any], dtype: DTypeLike, change: Any) -> Any:
    """Change an array, or each task of a list of them."""
    wanted = as_float_dtype("dtype", dtype)
    if isinstance(value, list | tuple) and value and real_array(f"{name}[0]", value[0]).ndim:
        tasks = [_checked(f"{name}[{i}]", task, like) for i, task in enumerate(value)]
        if len({task.shape for task in tasks}) > 1:
            return [_changed(task, change, wanted) for task in tasks]
    return _changed(_checked(name, value, like), change, wanted)


def _changed(array: NDArray[Any], change: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # to inf, as predictions of a task that diverged may be
        changed: NDArray[Any] = change(array).reshape(array.shape).astype(dtype, copy=False)
    return changed


def _checked(name: str, value: Any, like: NDArray[Any]) -> NDArray[Any]:
    array = as_array(name, value, FLOAT64)
    width = len(like)
    # With one column every number is scaled alike, whether or not there is an axis of columns.
    if (array.ndim == 0 or array.shape[-1] != width) and not (name[0] != "x" and width == 1):
        raise ValueError(
            f"{name} has shape {shape_text(array.shape)}; "
            f"accepted are arrays whose last axis is {width}, the columns of the scaling"
        )
    return array
