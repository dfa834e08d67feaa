"""Weights of rows: checked, and laid as one more column behind the targets that they belong to.

A row of weight 0 counts as if it were not there, whatever it holds: 0 times the loss of a row that
overflows would be NaN, so such rows are replaced by others of their task before kernels see them.
(To leave them out instead would make tasks of equal size ragged, and a plan for each batch.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import FLOAT64, as_array, shape_text
from .tasks import Rows

__all__ = ["with_weights", "with_weights_of_both"]

#: a mean is divided by the sum of a task's weights: below it the inverse is inf
LEAST = float(np.finfo(np.float64).tiny)


def with_weights(
    rows: Rows, weights: Any, averaged: bool, names: tuple[str, str] = ("sample_weight", "x")
) -> Rows:
    """Return rows whose y ends with a column of weights.

    Parameters
    ----------
    rows : Rows
    weights : array_like or list of array_like
        (n_tasks, rows); a list with (rows_i,) for each task; (rows,) for a single task.
    averaged : bool
        Whether the loss of a task is divided by the sum of its weights.
    names : (str, str)
        What errors call the weights, and the rows.

    Raises
    ------
    TypeError, ValueError
        For weights of another shape, that are negative or not finite, or of a sum that nothing can
        be divided by.
    """
    name, _ = names
    column = _column(rows, weights, names)
    if not (column.min(initial=0) >= 0 and column.max(initial=0) < np.inf):
        row = int(np.argmin((column >= 0) & (column < np.inf)))
        task = int(np.searchsorted(rows.offsets, row, side="right")) - 1
        raise ValueError(
            f"{name} holds {column[row]} in task {task}, row {row - int(rows.offsets[task])}; "
            f"accepted are finite {column.dtype} numbers of at least 0"
        )
    if averaged:
        with np.errstate(over="ignore"):
            sums = np.add.reduceat(column, rows.offsets[:-1], dtype=FLOAT64)
        bad = ~((sums >= LEAST) & (sums < np.inf))
        if bad.any():
            task = int(np.argmax(bad))
            raise ValueError(
                f"{name} sums to {sums[task]:.3g} in task {task}; accepted are finite sums above "
                "0, by which the loss, a mean, is divided"
            )
    x, y = rows.x, np.empty((len(rows.y), rows.y.shape[1] + 1), rows.y.dtype)
    y[:, :-1] = rows.y
    y[:, -1] = column
    if not column.all() and column.any():
        without, instead = _instead(column, rows.offsets)
        x = x.copy()
        x[without], y[without, :-1] = x[instead], y[instead, :-1]
    return rows._replace(x=x, y=y, weighted=True)


def _instead(
    column: NDArray[Any], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows without weight, and for each one that has some: of its task, if there is any."""
    without, having = np.flatnonzero(column == 0), np.flatnonzero(column)
    first = np.searchsorted(having, offsets[:-1])  # in each task
    task = np.searchsorted(offsets, without, side="right") - 1
    return without, having[np.minimum(first, len(having) - 1)[task]]


def with_weights_of_both(
    support: Rows, query: Rows, weights: Any, weights_query: Any, averaged: tuple[bool, bool]
) -> tuple[Rows, Rows]:
    """Return support and query rows, each with its weights if there are some.

    Where the support rows serve as both, so do their weights.
    """
    if query.x is support.x:  # no query set
        if weights_query is not None:
            raise ValueError(
                "sample_weight_query is given, x_query is not; accepted are both or neither "
                "(without a query set sample_weight serves for both)"
            )
        both = with_weights(support, weights, any(averaged))
        if query is support:
            return both, both
        return both, with_weights(query, weights, averaged[1])
    if weights is not None:
        support = with_weights(support, weights, averaged[0])
    if weights_query is not None:
        names = ("sample_weight_query", "x_query")
        query = with_weights(query, weights_query, averaged[1], names)
    return support, query


def _column(rows: Rows, weights: Any, names: tuple[str, str]) -> NDArray[Any]:
    """The weights of all rows, (N,), in the dtype of y."""
    (name, of), dtype = names, rows.y.dtype
    counts = np.diff(rows.offsets).tolist()
    if rows.single or not isinstance(weights, list | tuple):
        array = as_array(name, weights, dtype)
        shape = tuple(counts) if rows.single else (rows.n_tasks, counts[0])
        if rows.ragged or array.shape != shape:
            accepted = f"{shape_text(shape)}, one for each row of {of}"
            if rows.ragged:
                accepted = f"a list of {rows.n_tasks} arrays, as {of} is"
            raise ValueError(f"{name} has shape {shape_text(array.shape)}; accepted is {accepted}")
        return array.reshape(-1)
    if len(weights) != rows.n_tasks:
        raise ValueError(
            f"{name} has {len(weights)} tasks, {of} has {rows.n_tasks}; "
            "accepted is the same number of tasks"
        )
    arrays = [as_array(f"{name}[{i}]", task, dtype) for i, task in enumerate(weights)]
    for i, (array, count) in enumerate(zip(arrays, counts, strict=True)):
        if array.shape != (count,):
            raise ValueError(
                f"{name}[{i}] has shape {shape_text(array.shape)}; accepted is "
                f"{shape_text((count,))}, one for each row of {of} in task {i}"
            )
    return np.concatenate(arrays)
