"""Predictions: what f(theta, x) is, for one set of parameters or one for each task.

`predict` is a function of any model, and the method ``predict`` of each: a class of models takes
it as it stands (``docs/decisions/0011-who-knows-whom.md``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import as_array, real_array, require_finite, shape_text
from .family import Compiled, Family, feature_map_of, require_agreement
from .kernels.methods import predict as kernels
from .parameters import as_theta
from .plan import tasks_of_piece, workers_for
from .tasks import NO_Y, as_rows, offsets_of, split
from .workspace import borrow, rows_of

__all__ = ["predict", "predict_rows"]


def predict(model: Family, theta: ArrayLike, x: Any) -> NDArray[Any] | list[NDArray[Any]]:
    """Return f(theta, x).

    Parameters
    ----------
    theta : array_like, shape (P,) or (n_tasks, P)
        One set of parameters for everything, or one for each task. Decides the dtype.
    x : array_like
        (rows, n_inputs); (n_tasks, rows, n_inputs); or a list of arrays (rows_i, n_inputs),
        one for each task. With theta (n_tasks, P), x (rows, n_inputs) is shared by all tasks.

    Returns
    -------
    f : ndarray or list of ndarray
        (rows, n_outputs) if `theta` and `x` have no axis of tasks, (n_tasks, rows, n_outputs)
        if either has; a list of arrays (rows_i, n_outputs) if tasks differ in rows.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If a shape does not fit the model or a number is not finite.
    """
    parameters = as_theta(model, theta, -1)
    n_tasks = len(parameters) if parameters.ndim == 2 else None
    if isinstance(x, list | tuple) and x and real_array("x[0]", x[0]).ndim > 1:
        shared = None
    else:
        x = real_array("x", x)
        shared = _shared_rows(model, x, parameters.dtype) if x.ndim < 3 else None
    if shared is None:
        batch = as_rows(model, x, NO_Y, parameters.dtype)
        if n_tasks not in (None, batch.n_tasks):
            as_theta(model, parameters, batch.n_tasks)  # raises
        return split(predict_rows(model, parameters, batch.x, batch.offsets), batch)
    rows = len(shared)
    every = shared if n_tasks is None else np.tile(shared, (n_tasks, 1))
    f: NDArray[Any] = predict_rows(model, parameters, every, offsets_of(n_tasks or 1, rows))
    return f if n_tasks is None else f.reshape(n_tasks, rows, model.n_outputs)


def _shared_rows(model: Family, x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if x.ndim != 2 or x.shape[1] != model.n_inputs or not len(x):
        hint = "; x[:, None] adds the axis of features" if x.ndim == model.n_inputs == 1 else ""
        raise ValueError(
            f"x has shape {shape_text(x.shape)}; accepted are (rows, {model.n_inputs}) and "
            f"(n_tasks, rows, {model.n_inputs}), rows at least 1 ({model!r}){hint}"
        )
    rows = as_array("x", x, dtype)
    require_finite("x", rows, ("row", "feature"))
    feature_map = feature_map_of(model)
    if feature_map is not None:
        rows = feature_map(rows)
        require_finite("transform(x)", rows, ("row", "feature"))
    return rows


def predict_rows(
    model: Family, theta: NDArray[Any], x: NDArray[Any], offsets: NDArray[np.int64]
) -> NDArray[Any]:
    """Return f (N, n_outputs) for rows x (N, n_inputs) of tasks; theta is (P,) or (n_tasks, P).

    The rows are those that the kernels see: through the model's feature map, if it has one.
    """
    compiled = model.compiled(theta.dtype)
    require_agreement(model, compiled)
    parameters = theta.reshape(-1, model.n_params)
    shared = len(parameters) == 1
    if shared and len(x) > kernels.MAX_ROWS:  # whose row it is does not matter
        offsets = np.append(np.arange(0, len(x), kernels.MAX_ROWS), len(x))
        offsets.flags.writeable = False  # as all others, so that Numba sees one type
    n_tasks = len(offsets) - 1
    work = 2 * len(x) * model.n_params
    workers = workers_for(work, n_tasks)
    longest = len(x) if n_tasks == 1 else int(np.diff(offsets).max())
    out = np.empty((len(x), model.n_outputs), theta.dtype)
    piece = tasks_of_piece(work, n_tasks, workers)
    size = _scratch(compiled, min(longest, kernels.MAX_ROWS))
    with borrow(rows_of(theta.dtype, workers, size)) as (scratch,):
        for first in range(0, n_tasks, piece):
            last = min(first + piece, n_tasks)
            kernels.predict(
                workers, compiled.reaching(0), parameters, x, offsets, first, last, scratch, out
            )
    return out


@lru_cache(maxsize=1024)
def _scratch(compiled: Compiled, rows: int) -> int:
    """Numbers of scratch that a worker needs: to read them in a table takes microseconds."""
    return kernels.scratch_size(compiled.table, rows)
