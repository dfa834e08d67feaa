"""The derivation, equation by equation, as functions.

A task is a set of rows (x_j, y_j); the model is f(theta, x) with P parameters; r_j = f(theta, x_j)
- y_j is the residual of row j and df/dtheta (x_j) its Jacobian, one row of P numbers for each
output. With the loss ``"half_sse"``:

The aim (equation 1) is to lower the sum over tasks of the loss after adaptation,

    theta <- theta - beta d/dtheta sum_i L_i(theta'_i)                                        (1)

where a task's loss is half the sum of squared residuals, before and after adaptation (2, 3):

    L(theta) = 1/2 sum_j r_j^2                                                                (2, 3)

theta' is a function of theta, so by the chain rule a task's meta-gradient is a row vector times a
matrix,

    dL(theta')/dtheta = dL/dtheta' . dtheta'/dtheta                                           (4)

The first factor is the gradient of the loss, at theta'; differentiating (2),

    dL/dtheta = sum_j r_j df/dtheta (x_j)                                                 (5, 11)

The second factor is that of the inner step. The step, and its derivative:

    theta' = theta - alpha dL/dtheta                                                          (8)
    dtheta'/dtheta = I - alpha H                                                              (7, 9)

and H = d2L/dtheta2 follows by differentiating (5) once more; the product rule gives a term with the
curvature of f, weighted by the residuals, and one with its slopes:

    H = sum_j [ r_j d2f/dtheta2 (x_j) + (df/dtheta (x_j))^T df/dtheta (x_j) ]             (10, 12)

Put together,

    dL(theta')/dtheta = dL/dtheta' (I - alpha H)                                              (13)

and the meta-gradient is the sum of (13) over the tasks. The other losses multiply L, and so its
gradient and Hessian, by a factor. For a rate per parameter alpha is the diagonal matrix of the
rates: I - diag(alpha) H.

These functions are for reading, teaching and checking. Each returns the very object that its
equation names, with one inner step; for fast gradients and more steps there is `fastmaml.MAML`.
`theta` is (P,), or (n_tasks, P) with a row for each task; the data are given as to `MAML`, and as
there no result has an axis of tasks for a single task; `theta` decides the dtype.

The derivation follows C. Finn, P. Abbeel, S. Levine, Model-agnostic meta-learning for fast
adaptation of deep networks, ICML 2017 (equation 1 and algorithm 2 there), with the second-order
term written out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import (
    as_array,
    as_dtype,
    as_flag,
    as_number,
    real_array,
    shape_text,
)
from .family import Family, as_model
from .learner import in_dtype
from .losses import TaskLoss, loss_of
from .methods.dense import hessian_products
from .methods.explicit import Derivatives, derivatives
from .parameters import as_direction, as_theta
from .rates import as_inner_lr
from .row_weights import with_weights, with_weights_of_both
from .tasks import NO_Y, Rows, as_rows, as_tasks, by_task, split

__all__ = [
    "adaptation_jacobian",
    "adapted_parameters",
    "jacobian",
    "meta_gradient",
    "meta_update",
    "residuals",
    "task_gradient",
    "task_hessian",
    "task_hessp",
    "task_loss",
    "task_meta_gradient",
]


def _prepare(
    model: Family, theta: Any, x: Any, y: Any, loss: TaskLoss, sample_weight: Any = None
) -> tuple[NDArray[Any], Rows]:
    rows = as_rows(model, x, y, as_dtype("theta", theta), targets=loss.targets)
    if sample_weight is not None:
        rows = with_weights(rows, sample_weight, loss.mean)
    return as_theta(model, theta, rows.n_tasks), rows


def _derive(
    model: Family, theta: Any, x: Any, y: Any, loss: Any, *wanted: str, sample_weight: Any = None
) -> tuple[Derivatives, Rows]:
    kind = loss_of(loss, as_model(model).n_outputs)
    parameters, rows = _prepare(model, theta, x, y, kind, sample_weight)
    return derivatives(model, parameters, rows, kind, wanted), rows


def _rates(model: Family, inner_lr: Any) -> NDArray[np.float64]:
    """A scalar rate as it is, or the rates of the parameters (P,)."""
    if real_array("inner_lr", inner_lr).ndim == 0:
        return np.float64(as_number("inner_lr", inner_lr))  # type: ignore[return-value]
    canonical = as_inner_lr(as_model(model), inner_lr, 1)
    rate = canonical.per_parameter
    if rate is None and model.n_params == 1:  # then one rate is a rate for each parameter
        return np.ravel(np.asarray(canonical.per_layer))
    if rate is None:
        raise ValueError(
            f"inner_lr has shape {shape_text(np.shape(inner_lr))}; accepted here are a scalar and "
            f"({model.n_params},) per parameter ({model!r})"
        )
    return rate


def residuals(model: Family, theta: ArrayLike, x: Any, y: Any) -> NDArray[Any] | list[NDArray[Any]]:
    """Return r = f(theta, x) - y.

    Parameters
    ----------
    model : MLP, Formula or any other
    theta : array_like, shape (P,) or (n_tasks, P)
    x, y : array_like or list of array_like
        Rows of each task; see `fastmaml.MAML`.

    Returns
    -------
    r : ndarray, shape (n_tasks, K, n_outputs), or list of ndarray
        A list of arrays (K_i, n_outputs) if tasks differ in rows.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.residuals(line, [1.0, 2.0], [[[3.0]]], [[4.0]])
    array([[1.]])
    """
    found, rows = _derive(model, theta, x, y, "half_sse", "residuals")
    return split(found.residuals, rows, rows.flat)


def jacobian(model: Family, theta: ArrayLike, x: Any) -> NDArray[Any] | list[NDArray[Any]]:
    """Return df/dtheta at every row.

    Parameters
    ----------
    model : MLP, Formula or any other
    theta : array_like, shape (P,) or (n_tasks, P)
    x : array_like or list of array_like
        Rows of each task; see `fastmaml.MAML`.

    Returns
    -------
    J : ndarray, shape (n_tasks, K, n_outputs, P), or list of ndarray
        A list of arrays (K_i, n_outputs, P) if tasks differ in rows.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.jacobian(line, [1.0, 2.0], [[[3.0]]])
    array([[[[3., 1.]]]])
    """
    found, rows = _derive(model, theta, x, NO_Y, "half_sse", "jacobians")
    return split(found.jacobians, rows)


def task_loss(
    model: Family, theta: ArrayLike, x: Any, y: Any, *, loss: Any = "half_sse",
    sample_weight: Any = None,
) -> NDArray[Any]:  # fmt: skip
    """Return the loss of each task (equations 2 and 3).

    Parameters
    ----------
    model : MLP, Formula or any other
    theta : array_like, shape (P,) or (n_tasks, P)
    x, y : array_like or list of array_like
        Rows of each task; see `fastmaml.MAML`.
    loss : {"half_sse", "half_mse", "sse", "mse", ...} or object
        ½ Σ r² (the derivation's own); that divided by K; Σ r²; Σ r² / (K n_outputs). Others are
        those of `fastmaml.MAML`.
    sample_weight : array_like or list of array_like, optional
        Of each row, by which its loss is multiplied; K is then their sum. See `fastmaml.MAML`.

    Returns
    -------
    L : ndarray, shape (n_tasks,)

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.task_loss(line, [1.0, 2.0], [[[3.0]]], [[4.0]])
    array([0.5])
    """
    kind = loss_of(loss, as_model(model).n_outputs)
    parameters, rows = _prepare(model, theta, x, y, kind, sample_weight)
    values = hessian_products(model, parameters, None, rows, kind).values
    return by_task(in_dtype(values, parameters.dtype), rows)


def task_gradient(
    model: Family, theta: ArrayLike, x: Any, y: Any, *, loss: Any = "half_sse",
    sample_weight: Any = None,
) -> NDArray[Any]:  # fmt: skip
    """Return dL/dtheta = sum_j r_j df/dtheta (x_j) of each task (equations 5 and 11).

    Parameters are those of `task_loss`.

    Returns
    -------
    g : ndarray, shape (n_tasks, P)

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.task_gradient(line, [1.0, 2.0], [[[3.0]]], [[4.0]])
    array([[3., 1.]])
    """
    found, rows = _derive(model, theta, x, y, loss, "gradients", sample_weight=sample_weight)
    return by_task(found.gradients, rows)


def task_hessian(
    model: Family, theta: ArrayLike, x: Any, y: Any, *, loss: Any = "half_sse",
    sample_weight: Any = None,
) -> NDArray[Any]:  # fmt: skip
    """Return H = sum_j [r_j d2f/dtheta2 + (df/dtheta)^T df/dtheta] of each task (10 and 12).

    Parameters are those of `task_loss`. At a kink of relu or leaky_relu the curvature counts as 0.

    Returns
    -------
    H : ndarray, shape (n_tasks, P, P)
        Symmetric.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.task_hessian(line, [1.0, 2.0], [[[3.0]]], [[4.0]])
    array([[[9., 3.],
            [3., 1.]]])
    """
    found, rows = _derive(model, theta, x, y, loss, "hessians", sample_weight=sample_weight)
    return by_task(found.hessians, rows)


def task_hessp(
    model: Family, theta: ArrayLike, v: ArrayLike, x: Any, y: Any, *, loss: Any = "half_sse",
    sample_weight: Any = None,
) -> NDArray[Any]:  # fmt: skip
    """Return H v of each task, H as in `task_hessian` but never formed (equations 10 and 12).

    The cost is that of about two gradients, whatever P is.

    Parameters
    ----------
    model, theta, x, y, loss, sample_weight
        As for `task_loss`.
    v : array_like, shape (P,) or (n_tasks, P)
        One direction, or one for each task.

    Returns
    -------
    Hv : ndarray, shape (n_tasks, P)

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    References
    ----------
    B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6, 1994.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.equations.task_hessp(fm.Linear(1), [1.0, 2.0], [1.0, 0.0], [[[3.0]]], [[4.0]])
    array([[9., 3.]])
    """
    kind = loss_of(loss, as_model(model).n_outputs)
    parameters, rows = _prepare(model, theta, x, y, kind, sample_weight)
    direction = as_direction(model, v, parameters.dtype, rows.n_tasks)
    return by_task(hessian_products(model, parameters, direction, rows, kind).products, rows)


def adapted_parameters(
    model: Family, theta: ArrayLike, x: Any, y: Any, *, inner_lr: Any, loss: Any = "half_sse",
    sample_weight: Any = None,
) -> NDArray[Any]:  # fmt: skip
    """Return theta' = theta - alpha dL/dtheta of each task (equation 8).

    Parameters
    ----------
    model, theta, x, y, loss, sample_weight
        As for `task_loss`.
    inner_lr : float or array_like, shape (P,)
        alpha, for all parameters or for each.

    Returns
    -------
    adapted : ndarray, shape (n_tasks, P)

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.adapted_parameters(line, [1.0, 2.0], [[[3.0]]], [[4.0]], inner_lr=0.1)
    array([[0.7, 1.9]])
    """
    alpha = _rates(model, inner_lr)
    gradient = task_gradient(model, theta, x, y, loss=loss, sample_weight=sample_weight)
    return as_theta(model, theta, -1) - (alpha * gradient).astype(gradient.dtype)


def adaptation_jacobian(
    model: Family, theta: ArrayLike, x: Any, y: Any, *, inner_lr: Any, loss: Any = "half_sse",
    sample_weight: Any = None,
) -> NDArray[Any]:  # fmt: skip
    """Return dtheta'/dtheta = I - alpha H of each task (equations 7 and 9).

    Parameters are those of `adapted_parameters`.

    Returns
    -------
    M : ndarray, shape (n_tasks, P, P)
        Row p is the derivative of parameter p of theta'.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.adaptation_jacobian(line, [1.0, 2.0], [[[3.0]]], [[4.0]], inner_lr=0.1)
    array([[[ 0.1, -0.3],
            [-0.3,  0.9]]])
    """
    alpha = _rates(model, inner_lr)
    hessian = task_hessian(model, theta, x, y, loss=loss, sample_weight=sample_weight)
    scaled = alpha * hessian if np.ndim(alpha) == 0 else alpha[:, None] * hessian
    return np.eye(model.n_params, dtype=hessian.dtype) - scaled.astype(hessian.dtype)


def task_meta_gradient(
    model: Family,
    theta: ArrayLike,
    x: Any,
    y: Any,
    x_query: Any = None,
    y_query: Any = None,
    *,
    inner_lr: Any,
    loss: Any = "half_sse",
    query_loss: Any = None,
    sample_weight: Any = None,
    sample_weight_query: Any = None,
) -> NDArray[Any]:
    """Return dL(theta')/dtheta = dL/dtheta' (I - alpha H) of each task (equations 4 and 13).

    Parameters
    ----------
    model, theta, x, y, inner_lr, loss, sample_weight
        As for `adapted_parameters`; x and y are the support rows.
    x_query, y_query : array_like or list of array_like, optional
        Query rows, on which dL/dtheta' is taken, as x and y. By default the support rows.
    query_loss : as loss, optional
        The loss that is taken of them, if it is another.
    sample_weight_query : array_like or list of array_like, optional
        Of each query row. Where the support rows serve as both, so do their weights.

    Returns
    -------
    g : ndarray, shape (n_tasks, P)

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> fm.equations.task_meta_gradient(line, [1.0, 2.0], [[[3.0]]], [[4.0]], inner_lr=0.05)
    array([[0.75, 0.25]])
    """
    # Checks them together.
    n_outputs = as_model(model).n_outputs
    kind = query_kind = loss_of(loss, n_outputs)
    if query_loss is not None:
        query_kind = loss_of(query_loss, n_outputs, "query_loss")
    targets = kind.targets, query_kind.targets
    dtype = as_dtype("theta", theta)
    tasks = as_tasks(model, x, y, x_query, y_query, dtype, True, 1, *targets, mapped=False)
    if sample_weight is not None or sample_weight_query is not None:
        means = kind.mean, query_kind.mean
        with_weights_of_both(*tasks, sample_weight, sample_weight_query, means)
    if x_query is None:
        x_query, y_query, sample_weight_query = x, y, sample_weight
    support: Any = {"inner_lr": inner_lr, "loss": loss, "sample_weight": sample_weight}
    adapted = adapted_parameters(model, theta, x, y, **support)
    outer = task_gradient(
        model, adapted, x_query, y_query, loss=loss if query_loss is None else query_loss,
        sample_weight=sample_weight_query,
    )  # fmt: skip
    inner = adaptation_jacobian(model, theta, x, y, **support)
    return np.einsum("...p,...pq->...q", outer, inner)


def meta_gradient(
    model: Family,
    theta: ArrayLike,
    x: Any,
    y: Any,
    x_query: Any = None,
    y_query: Any = None,
    *,
    inner_lr: Any,
    loss: Any = "half_sse",
    query_loss: Any = None,
    task_mean: bool = False,
    sample_weight: Any = None,
    sample_weight_query: Any = None,
) -> NDArray[Any]:
    """Return the sum over tasks of `task_meta_gradient` (the mean, if `task_mean`).

    Parameters are those of `task_meta_gradient`.

    Returns
    -------
    g : ndarray, shape (P,)

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> line = fm.Linear(1)  # f = theta_1 x + theta_2
    >>> two = [[[3.0]], [[1.0]]], [[4.0], [5.0]]
    >>> fm.equations.meta_gradient(line, [1.0, 2.0], *two, inner_lr=0.1)
    array([-1.28, -1.28])
    """
    mean = as_flag("task_mean", task_mean)
    each = task_meta_gradient(
        model, theta, x, y, x_query, y_query, inner_lr=inner_lr, loss=loss, query_loss=query_loss,
        sample_weight=sample_weight, sample_weight_query=sample_weight_query,
    )  # fmt: skip
    each = each.reshape(-1, each.shape[-1])  # a single task, too
    total: NDArray[Any] = each.mean(axis=0) if mean else each.sum(axis=0)
    return total


def meta_update(theta: ArrayLike, gradient: ArrayLike, outer_lr: float) -> NDArray[Any]:
    """Return theta - beta * gradient (equation 1).

    Parameters
    ----------
    theta, gradient : array_like, shape (P,)
        The meta-parameters and the meta-gradient.
    outer_lr : float
        beta, the learning rate of the meta-update.

    Returns
    -------
    theta : ndarray, shape (P,)
        A new array.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value, or data that is not finite.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.equations.meta_update([1.0, 2.0], [10.0, 0.0], outer_lr=0.01)
    array([0.9, 2. ])
    """
    beta = as_number("outer_lr", outer_lr)
    dtype = as_dtype("theta", theta)
    start, slope = (
        as_array(name, real_array(name, value), dtype)
        for name, value in (("theta", theta), ("gradient", gradient))
    )
    if start.shape != slope.shape:
        raise ValueError(
            f"gradient has shape {shape_text(slope.shape)}; "
            f"accepted is theta's, {shape_text(start.shape)}"
        )
    return start - beta * slope
