"""Every family of models with every loss, against JAX: value, gradients and adapted parameters.

Each problem draws steps, rates, layout, row weights, order and momentum together. JAX compiles a
function for each pair of a model and its losses, whose tasks and rows are padded and whose steps
are five, the last of them with rates of 0; so three problems share one.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import jax_reference
import numpy as np
import pytest
from cases import METHODS, relative_error
from custom_models import BRANCHING, FUNCTIONS
from family_cases import (
    FAMILIES,
    KINDS,
    NAMES,
    PerTask,
    cancels,
    draw_family,
    fits,
    gather_rates,
    model_of,
    pair,
    spread_rates,
    square,
    waves,
)
from formulas import LAWS

import fastmaml as fm

pytestmark = pytest.mark.peers

TOLERANCE = {"float64": 1e-11, "float32": 2e-4}
STEPS, TASKS, ROWS, ROUNDS = 5, 3, 8, 3


# The models in JAX -------------------------------------------------------------------------------


def jax_waves(x):
    return jnp.hstack([jnp.sin(x), jnp.cos(2 * x)])


def jax_pair(theta, x):
    s, c = jnp.sin(theta[1] * x[:, 0]), jnp.cos(theta[1] * x[:, 0])
    return jnp.stack([theta[0] * s, theta[2] * c - theta[0] * x[:, 0]], 1)


def jax_sines(theta, x):
    return theta[:3] * jnp.sin((x @ theta[3:5])[:, None] + theta[5:8]) + theta[8]


LAW_OF = {law.model: law for law in LAWS.values()}
MAPS = {waves: jax_waves, square: lambda x: x * x}
COMPILED = {FUNCTIONS["forward"]: jax_sines, BRANCHING["forward"]: jax_sines, pair: jax_pair}


def outputs(model, theta, x):
    """f (rows, n_outputs) of any model."""
    if model in LAW_OF:
        return jnp.stack(LAW_OF[model].outputs(jnp, theta, x), 1)
    if isinstance(model, fm.Custom):
        return COMPILED[model.forward](theta, x)
    if isinstance(model, fm.Sum):
        parts = zip(model.parts, model.slices.values(), strict=True)
        return sum(outputs(part, theta[at], x) for part, at in parts)
    if isinstance(model, fm.Frozen):
        held = jnp.where(model.mask, jax.lax.stop_gradient(theta), theta)
        return outputs(model.model, held, x)
    if isinstance(model, fm.Scaled):
        n, k = model.n_inputs, model.n_outputs
        a, b, m, s = np.split(np.array(model.numbers), np.cumsum([n, n, k]))
        return m + s * outputs(model.model, theta, (x - a) / b)
    if isinstance(model, fm.Features):
        return jax_reference.network(model.linear, theta, MAPS[model.transform](x))
    return jax_reference.network(model, theta, x)


@functools.lru_cache(maxsize=1)
def reference(model, loss, query_loss):
    """Of each task: (value, adapted), and the value's gradients by theta and rates (STEPS, P)."""

    def of_loss(kind, theta, x, y, weights):
        return jax_reference.loss_of_outputs(kind, outputs(model, theta, x), y, weights)

    def one_task(theta, rates, step_weights, exact, momentum, support, query):
        def step(state, rate_and_weight):
            theta, velocity = state
            rate, weight = rate_and_weight
            value = weight * of_loss(query_loss, theta, *query)
            gradient = jax.grad(of_loss, argnums=1)(loss, theta, *support)
            constant = jax.lax.stop_gradient(gradient)
            velocity = momentum * velocity + jnp.where(exact, gradient, constant)
            return (theta - rate * velocity, velocity), value

        start = theta, jnp.zeros_like(theta)
        (theta, _), values = jax.lax.scan(step, start, (rates, step_weights[:-1]))
        value = jnp.sum(values) + step_weights[-1] * of_loss(query_loss, theta, *query)
        return value, theta

    every = jax.value_and_grad(one_task, argnums=(0, 1), has_aux=True)
    return jax_reference.compiled(jax.vmap(every, in_axes=(None,) * 5 + (0, 0)))


def of_jax(case):
    """What `PerTask` holds, values and adapted parameters of a case."""
    steps = case.steps
    rates, weights = np.zeros((STEPS, case.model.n_params)), np.zeros(STEPS + 1)
    rates[:steps] = spread_rates(case)
    given = np.eye(steps + 1)[-1] if case.step_weights is None else case.step_weights
    weights[: steps + 1] = given
    weights[steps], weights[-1] = 0.0, weights[-1] + given[-1]
    if steps == STEPS:
        weights[-1] = given[-1]
    x, y, x_query, y_query = case.per_task
    sides = [filled(jax_reference.padded(*side)) for side in ((x, y), (x_query, y_query))]
    query_loss = case.loss if case.query_loss is None else case.query_loss
    found = reference(case.model, case.loss, query_loss)(
        case.theta, rates, weights, case.order == "exact", case.inner_momentum, *sides
    )
    (values, adapted), (gradients, by_rate) = jax.tree.map(np.asarray, found)
    n = len(x)
    return values[:n], adapted[:n], PerTask(gradients[:n], by_rate[:n, :steps])


def filled(side):
    """A side padded to as many tasks and rows as all have, with rows that have no weight."""
    x, y, weights = side
    more = (0, TASKS - len(x)), (0, ROWS - x.shape[1])
    weights = np.pad(np.asarray(weights, float), ((0, 0), more[1]))
    weights = np.pad(weights, (more[0], (0, 0)), "edge")
    x, y = (np.pad(each, (*more, (0, 0)), "edge") for each in (x, y))
    without = weights == 0  # there a formula need not have a value
    for each in (x, y):
        each[without] = np.broadcast_to(each[:, :1], each.shape)[without]
    return x, y, weights


# The problems ------------------------------------------------------------------------------------


def problems(family, name):
    """The problems of a family and a loss; of every third pair the query loss is another."""
    at = NAMES.index(name) + 5 * list(FAMILIES).index(family)
    loss, other = KINDS[NAMES.index(name)], KINDS[(7 * at + 3) % len(KINDS)]
    losses = (loss, other) if at % 3 == 2 else (loss,)
    if not any(all(fits(each, m) for each in losses) for m in FAMILIES[family]):
        losses = losses[:1]
    model = model_of(family, at, *losses)
    for number in range(ROUNDS):
        steps = (at + 2 * number) % 6
        yield model, losses, ROUNDS * at + number, steps


def fair(model, losses, number, steps):
    """A problem whose values are finite and whose sums do not cancel, and what JAX makes of it."""
    for attempt in range(100):
        case = draw_family(model, losses[0], 1000 * number + attempt, *losses[1:], steps=steps)
        values, adapted, of_tasks = of_jax(case)
        if np.isfinite(values).all() and not cancels(case, of_tasks):
            return case, values, adapted, of_tasks
    raise RuntimeError(f"no fair problem of {model!r} with {losses}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_a_family_with_a_loss(name, family):
    for problem in problems(family, name):
        case, values, adapted, of_tasks = fair(*problem)
        share = len(values) if case.task_mean else 1
        rates = sum(gather_rates(case, each) for each in of_tasks.by_rate) / share
        want = values.sum() / share, of_tasks.gradients.sum(axis=0) / share, values, rates
        for method, forms in METHODS.items():
            stacks = case.model.layer_sizes is not None
            if case.form not in forms or (
                method == "factored" and (case.inner_momentum or not stacks)
            ):
                continue
            for dtype, tolerance in TOLERANCE.items():
                maml, theta = case.maml(method), case.theta.astype(dtype)
                got = maml.evaluate(theta, *case.data, **case.weights)
                for one, other, field in zip(got, want, got._fields, strict=True):
                    error = relative_error(one, other)
                    assert error <= tolerance, (problem, method, dtype, field)
                found = maml.adapt(theta, *case.data[:2], sample_weight=case.sample_weight)
                assert relative_error(found, adapted) <= tolerance, (problem, method, dtype)


def test_there_are_as_many_problems_as_there_are_to_be():
    drawn = [
        draw_family(model, losses[0], 1000 * number, *losses[1:], steps=steps)
        for family in FAMILIES
        for name in NAMES
        for model, losses, number, steps in problems(family, name)
    ]
    assert len(drawn) >= 300
    assert {case.steps for case in drawn} == set(range(6))
    assert {case.model for case in drawn} == {m for each in FAMILIES.values() for m in each}
    assert {type(case.query_loss) for case in drawn} >= {type(kind) for kind in KINDS}
    sides = {tuple(each is not None for each in case.weights.values()) for case in drawn}
    assert len(sides) == 4
    assert {type(case.data.x) for case in drawn} == {list, np.ndarray}
    assert {case.order for case in drawn} == {"exact", "first"}
    assert {case.inner_momentum > 0 for case in drawn} == {True, False}
