"""Vectors in the space of parameters: theta, directions, and the array that takes a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import (
    FLOAT32,
    FLOAT64,
    as_array,
    as_dtype,
    holds_masked,
    real_array,
    require_finite,
    shape_text,
)
from .family import Space

__all__ = ["as_direction", "as_out", "as_theta", "as_thetas"]


def as_theta(
    model: Space,
    theta: Any,
    n_tasks: int | None = None,
    *,
    check_finite: bool = True,
    name: str = "theta",
) -> NDArray[Any]:
    """Return parameters of shape (P,) or, when `n_tasks` is given, (n_tasks, P).

    Parameters
    ----------
    model : Family or other Space
        Says what P is.
    theta : array_like
        The parameters: float32 stays float32, every other real dtype becomes float64.
    n_tasks : int, optional
        None: only (P,) is accepted. A number: (P,) and (n_tasks, P) are. -1: (P,) and any number
        of tasks are.
    check_finite : bool
        Whether NaN and inf are errors.
    name : str
        What errors call theta.
    """
    size = model.n_params
    if type(theta) is np.ndarray and theta.dtype in (FLOAT64, FLOAT32) and theta.flags.carray:
        array = theta  # as the next lines would find, but faster
    else:
        given = real_array(name, theta)
        array = as_array(name, given, as_dtype(name, given))
    shape = array.shape
    if shape != (size,):
        accepted = shape_text((size,))
        if n_tasks is not None:
            accepted += f" or {shape_text(('n_tasks' if n_tasks == -1 else n_tasks, size))}"
        if n_tasks is None or len(shape) != 2 or shape[1] != size or not shape[0]:
            raise ValueError(
                f"{name} has shape {shape_text(shape)}, the model takes {accepted} ({model!r})"
            )
        if n_tasks not in (-1, shape[0]):
            raise ValueError(
                f"{name} has {shape[0]} tasks, x has {n_tasks}; accepted is shape {accepted}"
            )
    if check_finite:
        require_finite(name, array, ("task", "parameter")[-array.ndim :])
    return array


def as_thetas(model: Space, theta: Any) -> NDArray[Any]:
    """Return parameters (..., P), with any leading axes, of whatever dtype; the array itself."""
    array = real_array("theta", theta)
    if not array.ndim or array.shape[-1] != model.n_params:
        raise ValueError(
            f"theta has shape {shape_text(array.shape)}, "
            f"the model takes (..., {model.n_params}) ({model!r})"
        )
    return array


def as_direction(
    model: Space, v: Any, dtype: np.dtype[Any], n_tasks: int | None = None
) -> NDArray[Any]:
    """Return a direction in the space of parameters: as `as_theta`, in a given dtype."""
    return as_theta(model, as_array("v", v, dtype), n_tasks, name="v")


def as_out(model: Space, out: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `out` itself, which must be an array that a result (P,) can be written to as it is."""
    accepted = f"accepted are ndarrays of {dtype}, shape {shape_text((model.n_params,))}"
    if not isinstance(out, np.ndarray) or holds_masked("out", out):
        raise TypeError(f"out is a {type(out).__name__}; {accepted}")
    if out.dtype != dtype:
        raise TypeError(f"out holds {out.dtype} numbers, theta {dtype}; {accepted}")
    if out.shape != (model.n_params,):
        raise ValueError(f"out has shape {shape_text(out.shape)}; {accepted} ({model!r})")
    if not out.flags.carray:
        flaw = "not C-contiguous" if not out.flags.c_contiguous else "read-only"
        flaw = flaw if out.flags.aligned else "not aligned"
        raise ValueError(f"out is {flaw}; {accepted}, C-contiguous, aligned and writeable")
    return out
