"""JAX on a last layer that adapts in closed form: autodiff through its own Cholesky factorisation.

As its users write it: the smaller of the two systems (as many equations as support rows, or as
features), solved once for all right sides, ``jit`` of ``value_and_grad`` of ``vmap`` over tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workloads import HeadProblem
from .base import Prepared, flat, layers_of


def head(problem: HeadProblem) -> Prepared:
    # Here and not above: asv imports every file of benchmarks/, with or without JAX.
    import jax as library
    import jax.numpy as jnp
    from jax.scipy.linalg import cho_factor, cho_solve

    library.config.update("jax_enable_x64", problem.theta.dtype == np.float64)
    phis = {"relu": library.nn.relu, "tanh": jnp.tanh, "identity": lambda z: z}
    n_support, p = problem.x.shape[1], problem.layers[-2] + 1
    share = problem.y_query[0].size

    def features(layers: Any, x: Any) -> Any:
        for (weight, bias), word in zip(layers[:-1], problem.activations, strict=True):
            x = phis[word](x @ weight.T + bias)
        return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)

    def task_loss(params: Any, x: Any, y: Any, x_query: Any, y_query: Any) -> Any:
        layers, log_s, log_noise = params
        weight, bias = layers[-1]
        prior = jnp.concatenate([weight, bias[:, None]], axis=1).T
        both = features(layers, jnp.concatenate([x, x_query]))
        f, z = both @ prior, both * jnp.exp(0.5 * log_s)
        residual, z, z_query = y - f[:n_support], z[:n_support], z[n_support:]
        if n_support <= p:
            sides = jnp.concatenate([residual, z @ z_query.T], axis=1)
            factor = cho_factor(z @ z.T + jnp.eye(n_support))
        else:
            sides = jnp.concatenate([z.T @ residual, z_query.T], axis=1)
            factor = cho_factor(z.T @ z + jnp.eye(p))
        m = y.shape[1]
        if problem.loss == "mse":
            solved = cho_solve(factor, sides[:, :m])
            mean = f[n_support:] + sides[:, m:].T @ solved
            return jnp.sum((mean - y_query) ** 2) / share
        solved = cho_solve(factor, sides)
        mean = f[n_support:] + sides[:, m:].T @ solved[:, :m]
        known = jnp.sum(sides[:, m:] * solved[:, m:], axis=0)
        own = jnp.sum(z_query**2, axis=1)
        h = 1 + own - known if n_support <= p else 1 + known
        variance = h[:, None] * jnp.exp(log_noise)
        return 0.5 * jnp.sum(jnp.log(2 * jnp.pi * variance) + (mean - y_query) ** 2 / variance)

    def meta_loss(params: Any, *data: Any) -> Any:
        return jnp.sum(library.vmap(task_loss, in_axes=(None, 0, 0, 0, 0))(params, *data))

    run = library.jit(library.value_and_grad(meta_loss))
    theta, n_log = problem.theta, p + 1
    params = library.tree.map(jnp.asarray, (layers_of(problem), theta[-n_log:-1], theta[-1:]))
    data = [jnp.asarray(a) for a in (problem.x, problem.y, problem.x_query, problem.y_query)]

    def as_numpy(result: Any) -> tuple[float, np.ndarray]:
        layers, *logs = result[1]
        return float(result[0]), np.concatenate([flat(layers), *map(np.asarray, logs)])

    return Prepared(
        lambda: library.block_until_ready(run(params, *data)),
        as_numpy,
        f"JAX {library.__version__}",
    )
