"""Formulas against JAX: autodiff through the inner loop of the very same laws."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import jax_reference
import numpy as np
import pytest
from cases import relative_error
from formulas import LAWS

import fastmaml as fm

pytestmark = pytest.mark.peers


def jax_meta_objective(law, steps, loss_mean, momentum):
    """Value, gradient by theta and by the rates (steps,) of tasks of equal rows, compiled."""

    def loss(theta, x, y):
        squares = jnp.sum((jnp.stack(law.outputs(jnp, theta, x), 1) - y) ** 2)
        return 0.5 * squares / (len(x) if loss_mean else 1)

    def task(theta, rates, x, y, x_query, y_query):
        velocity = jnp.zeros_like(theta)
        for step in range(steps):
            velocity = momentum * velocity + jax.grad(loss)(theta, x, y)
            theta = theta - rates[step] * velocity
        return loss(theta, x_query, y_query)

    def total(theta, rates, *data):
        return jnp.sum(jax.vmap(functools.partial(task, theta, rates))(*data))

    return jax_reference.compiled(jax.value_and_grad(total, argnums=(0, 1)))


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("name", LAWS)
def test_formulas(name, steps):
    law, rng = LAWS[name], np.random.default_rng(steps)
    model, loss_mean, momentum = law.model, steps == 5, 0.3 * (steps == 5)
    rates = law.rate * rng.uniform(0.2, 1, (steps, 1))
    reference = jax_meta_objective(law, steps, loss_mean, momentum)
    drawn = [law.draw(rng, 40) for _ in range(7)]
    tasks = [np.stack(part) for part in zip(*drawn, strict=True)]
    data = [part[:, rows] for rows in (slice(0, 23), slice(23, 40)) for part in tasks]
    theta = model.pack(law.values)
    value, gradients = reference(jnp.asarray(theta), jnp.asarray(rates[:, 0]), *data)
    for method in ("dense", "explicit", "lanes"):
        options = {"loss": "half_mse" if loss_mean else "half_sse", "inner_momentum": momentum}
        maml = fm.MAML(model, rates, steps, method=method, **options)
        found = maml.evaluate(theta, *data)
        assert abs(found.value - float(value)) <= 1e-11 * abs(float(value))
        assert relative_error(found.gradient, gradients[0]) <= 1e-11
        assert relative_error(found.inner_lr_gradient[:, 0], gradients[1]) <= 1e-11
