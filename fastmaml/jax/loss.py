"""The meta-loss as a function of JAX's: a call back to fastmaml, with a derivative of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import shown
from ..learner import Learner
from ..maml import MAML
from ..parameters import as_theta
from ..row_weights import with_weights_of_both
from ..tasks import as_tasks

__all__ = ["meta_loss"]

#: what an objective calls the data of a batch
NAMES = ("x", "y", "x_query", "y_query", "sample_weight", "sample_weight_query")


def meta_loss(objective: Learner) -> Callable[..., jax.Array]:
    """Return the meta-loss of an objective as a function that JAX can differentiate and compile.

    Parameters
    ----------
    objective : MAML or BayesianLastLayer

    Returns
    -------
    loss : callable
        ``loss(theta, x, y, x_query=None, y_query=None, inner_lr=None, *, sample_weight=None,
        sample_weight_query=None)``, a number in theta's dtype. Data are arrays (n_tasks, rows,
        columns) as the objective takes them, weights of rows (n_tasks, rows); tasks that differ in
        rows are lists of arrays. It has a gradient for theta, and for `inner_lr`, which for a MAML
        replaces its own rates and has one of their shapes. There is none for data and weights:
        their gradient is an error.

    Raises
    ------
    TypeError
        If `objective` is none.

    Notes
    -----
    It works in ``jax.jit``, ``value_and_grad`` and ``lax.scan``. ``vmap`` calls it once for each
    entry, one after the other: there is nothing to gain by it over a loop, for fastmaml is parallel
    over tasks already. ``jax.jvp``, second derivatives and other devices than the CPU are JAX's
    errors. Errors of fastmaml's, such as NaN in the data, are those of the callback: JAX shows
    their text.

    JAX computes in float32 unless ``jax_enable_x64`` is set, and so does fastmaml then.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import fastmaml as fm
    >>> from fastmaml.jax import meta_loss
    >>> model = fm.MLP([1, 40, 1])
    >>> loss = meta_loss(fm.MAML(model, inner_lr=0.01))
    >>> theta = jnp.asarray(model.init(0, "float32"))
    >>> x, y = jnp.ones((4, 10, 1)), jnp.ones((4, 10, 1))
    >>> jax.jit(jax.grad(loss))(theta, x, y).shape
    (121,)
    >>> rate = jnp.float32(0.01)
    >>> by_theta, by_rate = jax.grad(loss, argnums=(0, 5))(theta, x, y, x, y, rate)
    """
    if not isinstance(objective, Learner):
        raise TypeError(
            f"objective is {shown(objective)}; accepted are a fastmaml.MAML and a "
            "fastmaml.BayesianLastLayer"
        )

    def loss(
        theta: Any, x: Any, y: Any, x_query: Any = None, y_query: Any = None, inner_lr: Any = None,
        *, sample_weight: Any = None, sample_weight_query: Any = None,
    ) -> jax.Array:  # fmt: skip
        """Return the meta-loss; see `fastmaml.jax.meta_loss`."""
        if inner_lr is not None and not isinstance(objective, MAML):
            raise ValueError(
                f"inner_lr is given, objective is a {type(objective).__name__}, which has none; "
                "accepted is None"
            )
        theta, rate = jnp.asarray(theta), None if inner_lr is None else jnp.asarray(inner_lr)
        rows = x, y, x_query, y_query, sample_weight, sample_weight_query
        data = jax.tree.map(jnp.asarray, dict(zip(NAMES, rows, strict=True)))
        _require_shapes(objective, theta, data, rate)
        return _loss(objective, theta, data, rate)

    return loss


# What is computed outside of JAX ------------------------------------------------------------------


def _call(host: Callable[..., Any], shapes: Any, *arguments: Any) -> Any:
    return jax.pure_callback(host, shapes, *arguments, vmap_method="sequential")


def _at(objective: Any, rate: Any) -> Any:
    """The objective, with other inner rates unless `rate` is None."""
    return objective if rate is None else objective.with_inner_lr(np.asarray(rate))


def _value(objective: Any, theta: Any, data: Any, rate: Any) -> jax.Array:
    def host(theta: Any, data: Any, rate: Any) -> Any:
        theta, data = jax.tree.map(np.asarray, (theta, data))
        return _in_dtype(_at(objective, rate).value(theta, **data), theta.dtype)

    return _call(host, jax.ShapeDtypeStruct((), theta.dtype), theta, data, rate)


@partial(jax.custom_jvp, nondiff_argnums=(0, 4))
def _value_and_gradients(
    objective: Any, theta: Any, data: Any, rate: Any, rates: bool
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """The value, its gradient for theta, and with `rates` that for the inner rates."""

    def host(theta: Any, data: Any, rate: Any) -> Any:
        theta, data = jax.tree.map(np.asarray, (theta, data))
        at = _at(objective, rate)
        if not rates:
            value, gradient = at.value_and_gradient(theta, **data)
            return _in_dtype(value, theta.dtype), gradient, None
        value, gradient, _, slope, *_ = at.evaluate(theta, **data)
        return _in_dtype(value, theta.dtype), gradient, _in_dtype(slope, np.dtype(rate.dtype))

    shapes = (
        jax.ShapeDtypeStruct((), theta.dtype),
        jax.ShapeDtypeStruct(theta.shape, theta.dtype),
        jax.ShapeDtypeStruct(rate.shape, rate.dtype) if rates else None,
    )
    return _call(host, shapes, theta, data, rate)


@_value_and_gradients.defjvp
def _no_second_derivative(*arguments: Any) -> Any:
    raise TypeError(
        "the gradient of fastmaml.jax.meta_loss is differentiated, which it cannot be; "
        "fastmaml.MAML.hessp has products with the Hessian"
    )


def _in_dtype(value: Any, dtype: np.dtype[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold is inf
        return np.asarray(value).astype(dtype)


# Its derivative -----------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(objective: Any, theta: Any, data: Any, rate: Any) -> jax.Array:
    return _value(objective, theta, data, rate)


def _forward(objective: Any, theta: Any, data: Any, rate: Any) -> Any:
    for name in NAMES:
        tree = data[name]
        if any(leaf.perturbed for leaf in jax.tree.leaves(tree, is_leaf=_is_primal)):
            raise ValueError(
                f"the gradient of fastmaml.jax.meta_loss is asked for {name}, and there is none "
                "for data and weights; accepted are theta and inner_lr (jax.lax.stop_gradient "
                "hides data)"
            )
    rates = rate is not None and rate.perturbed
    theta, data, rate = jax.tree.map(
        lambda leaf: leaf.value, (theta, data, rate), is_leaf=_is_primal
    )
    value, gradient, slope = _value_and_gradients(objective, theta, data, rate, rates)
    return value, (gradient, slope)


def _backward(objective: Any, gradients: Any, change: Any) -> Any:
    gradient, slope = gradients
    by_rate = None if slope is None else slope * change.astype(slope.dtype)
    return gradient * change, None, by_rate


def _is_primal(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


_loss.defvjp(_forward, _backward, symbolic_zeros=True)


# Checks -------------------------------------------------------------------------------------------


def _require_shapes(objective: Any, theta: Any, data: Any, rate: Any) -> None:
    """Raise where the function is traced what the call would raise of shapes and dtypes."""
    if theta.dtype not in (np.float32, np.float64):
        raise TypeError(f"theta has dtype {theta.dtype}; accepted are float32 and float64")
    zeros: Any = jax.tree.map(lambda leaf: np.zeros(leaf.shape), (theta, data, rate))
    ones: Any = jax.tree.map(lambda leaf: np.ones(leaf.shape), data)
    flat, rows, rates = zeros[0], [zeros[1][name] for name in NAMES[:4]], zeros[2]
    weight, weight_query = (ones[name] for name in NAMES[4:])
    as_theta(objective._space, flat, check_finite=False)
    x, y, x_query, y_query = rows
    targets, query_targets = objective._problem.targets
    support, query = as_tasks(
        objective.model, x, y, x_query, y_query, flat.dtype, False, objective._fewest, targets,
        query_targets, mapped=False,
    )  # fmt: skip
    if weight is not None or weight_query is not None:
        with_weights_of_both(support, query, weight, weight_query, objective._averages)
    if rates is not None:
        objective.with_inner_lr(rates)
