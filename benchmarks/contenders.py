"""Everything that can compute the meta-gradient of a problem, behind one call.

A contender is a function ``(problem, **options) -> Prepared``. It imports its library itself, so
that a process loads only the one that it measures, and it does beforehand whatever a user's own
training loop would do once: build the model, compile, move the data.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .workloads import Problem


class Prepared(NamedTuple):
    """A contender that is ready to be timed."""

    call: Callable[[], Any]  # one value and gradient, finished when it returns
    as_numpy: Callable[[Any], tuple[float, np.ndarray]]  # its result as (value, flat gradient)
    versions: str


def fastmaml(problem: Problem, method: str = "auto") -> Prepared:
    """This package."""
    import numba

    import fastmaml as fm

    model = fm.MLP(problem.layers, problem.activation)
    maml = fm.MAML(model, inner_lr=problem.inner_lr, steps=problem.steps, method=method)
    data = (problem.theta, problem.x, problem.y, problem.x_query, problem.y_query)
    versions = f"fastmaml {fm.__version__}, numba {numba.__version__}, NumPy {np.__version__}"
    return Prepared(lambda: maml.value_and_gradient(*data), lambda result: result, versions)


def jax(problem: Problem) -> Prepared:
    """JAX as its users write MAML: ``jit`` of ``value_and_grad`` of ``vmap`` over the tasks."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", problem.theta.dtype == np.float64)
    phi = {"relu": jax.nn.relu, "tanh": jnp.tanh}[problem.activation]

    def predict(params: Any, x: Any) -> Any:
        for weight, bias in params[:-1]:
            x = phi(x @ weight.T + bias)
        weight, bias = params[-1]
        return x @ weight.T + bias

    def loss(params: Any, x: Any, y: Any) -> Any:
        return 0.5 * jnp.sum((predict(params, x) - y) ** 2)

    def task_loss(params: Any, x: Any, y: Any, x_query: Any, y_query: Any) -> Any:
        for _ in range(problem.steps):
            gradient = jax.grad(loss)(params, x, y)
            params = jax.tree.map(lambda p, g: p - problem.inner_lr * g, params, gradient)
        return loss(params, x_query, y_query)

    def meta_loss(params: Any, *data: Any) -> Any:
        return jnp.sum(jax.vmap(task_loss, in_axes=(None, 0, 0, 0, 0))(params, *data))

    run = jax.jit(jax.value_and_grad(meta_loss))
    params = jax.tree.map(jnp.asarray, _layers(problem))
    data = [jnp.asarray(a) for a in (problem.x, problem.y, problem.x_query, problem.y_query)]

    def as_numpy(result: Any) -> tuple[float, np.ndarray]:
        value, gradient = result
        return float(value), np.concatenate(
            [np.ravel(leaf) for layer in gradient for leaf in layer]
        )

    return Prepared(
        lambda: jax.block_until_ready(run(params, *data)), as_numpy, f"JAX {jax.__version__}"
    )


def _layers(problem: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """The flat parameters as one (weight, bias) pair a layer."""
    layers, start = [], 0
    for n_in, n_out in pairwise(problem.layers):
        middle, stop = start + n_out * n_in, start + n_out * n_in + n_out
        layers.append(
            (problem.theta[start:middle].reshape(n_out, n_in), problem.theta[middle:stop])
        )
        start = stop
    return layers


CONTENDERS: dict[str, Callable[..., Prepared]] = {"fastmaml": fastmaml, "jax": jax}
