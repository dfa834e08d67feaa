"""JAX as its users write MAML: ``jit`` of ``value_and_grad`` of ``vmap`` over the tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workloads import Problem
from .base import Prepared, flat, layers_of


def jax(problem: Problem, max_bytes: int | None = None) -> Prepared:
    """``MemoryError`` if the compiled program says that it needs more than ``max_bytes``."""
    # Here and not above: asv imports every file of benchmarks/, with or without JAX.
    import jax as library
    import jax.numpy as jnp

    library.config.update("jax_enable_x64", problem.theta.dtype == np.float64)
    phi = {"relu": library.nn.relu, "tanh": jnp.tanh}[problem.activation]

    def predict(params: Any, x: Any) -> Any:
        for weight, bias in params[:-1]:
            x = phi(x @ weight.T + bias)
        weight, bias = params[-1]
        return x @ weight.T + bias

    def loss(params: Any, x: Any, y: Any) -> Any:
        return 0.5 * jnp.sum((predict(params, x) - y) ** 2)

    def task_loss(params: Any, x: Any, y: Any, x_query: Any, y_query: Any) -> Any:
        for _ in range(problem.steps):
            gradient = library.grad(loss)(params, x, y)
            params = library.tree.map(lambda p, g: p - problem.inner_lr * g, params, gradient)
        return loss(params, x_query, y_query)

    def meta_loss(params: Any, *data: Any) -> Any:
        return jnp.sum(library.vmap(task_loss, in_axes=(None, 0, 0, 0, 0))(params, *data))

    run = library.jit(library.value_and_grad(meta_loss))
    params = library.tree.map(jnp.asarray, layers_of(problem))
    data = [jnp.asarray(a) for a in (problem.x, problem.y, problem.x_query, problem.y_query)]
    if max_bytes is not None:
        needed = run.lower(params, *data).compile().memory_analysis().temp_size_in_bytes
        if needed > max_bytes:
            raise MemoryError(f"JAX would need {needed / 1e9:.1f} GB")

    def as_numpy(result: Any) -> tuple[float, np.ndarray]:
        return float(result[0]), flat(result[1])

    return Prepared(
        lambda: library.block_until_ready(run(params, *data)),
        as_numpy,
        f"JAX {library.__version__}",
    )
