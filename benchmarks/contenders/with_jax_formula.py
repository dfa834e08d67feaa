"""JAX on a formula: ``jit`` of ``value_and_grad`` of ``vmap`` over the tasks, as with_jax.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..laws import LAWS
from ..workloads import FormulaProblem
from .base import Prepared


def formula(problem: FormulaProblem) -> Prepared:
    # Here and not above: asv imports every file of benchmarks/, with or without JAX.
    import jax as library
    import jax.numpy as jnp

    library.config.update("jax_enable_x64", problem.theta.dtype == np.float64)
    law = LAWS[problem.law]

    def loss(theta: Any, x: Any, y: Any) -> Any:
        return 0.5 * jnp.sum((law.of_theta(jnp, theta, x.T) - y[:, 0]) ** 2)

    def task_loss(theta: Any, x: Any, y: Any, x_query: Any, y_query: Any) -> Any:
        for _ in range(problem.steps):
            theta = theta - problem.inner_lr * library.grad(loss)(theta, x, y)
        return loss(theta, x_query, y_query)

    def meta_loss(theta: Any, *data: Any) -> Any:
        return jnp.sum(library.vmap(task_loss, in_axes=(None, 0, 0, 0, 0))(theta, *data))

    run = library.jit(library.value_and_grad(meta_loss))
    arrays = problem.theta, problem.x, problem.y, problem.x_query, problem.y_query
    given = [jnp.asarray(array) for array in arrays]
    return Prepared(
        lambda: library.block_until_ready(run(*given)),
        lambda result: (float(result[0]), np.asarray(result[1])),
        f"JAX {library.__version__}",
    )
