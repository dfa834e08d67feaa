"""fastmaml against JAX on random configurations: value, gradients, adapted parameters, equations.

JAX computes in double precision for both dtypes. The numbers of a configuration are representable
in single precision, so that what is left in float32 is fastmaml's own rounding.
"""

from functools import cache

import jax_reference
import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    DTYPES,
    FORMS,
    LOSSES,
    METHODS,
    ORDERS,
    TOLERANCE,
    draw,
    relative_error,
)
from weighted_cases import draw_weighted

from fastmaml import MetaGradient, equations

pytestmark = pytest.mark.peers

SEEDS = range(205)
EQUATION_SEEDS = range(5000, 5030)
WEIGHTED_SEEDS = range(8000, 8040)


@cache
def by_jax(case):
    return jax_reference.evaluate(case)


@pytest.mark.parametrize("seed", SEEDS)
def test_meta_gradient(seed):
    case = draw(seed)
    *parts, adapted = by_jax(case)
    want = MetaGradient(*parts)
    for method, forms in METHODS.items():
        if case.form not in forms:
            continue
        for dtype in DTYPES:
            maml, theta = case.maml(method), case.theta.astype(dtype)
            got = maml.evaluate(theta, *case.data)
            for name in want._fields:
                error = relative_error(getattr(got, name), getattr(want, name))
                assert error <= TOLERANCE[dtype], (method, dtype, name)
            error = relative_error(maml.adapt(theta, *case.data[:2]), adapted)
            assert error <= TOLERANCE[dtype], (method, dtype, "adapt")


@pytest.mark.parametrize("seed", WEIGHTED_SEEDS)
def test_weights_of_rows(seed):
    case = draw_weighted(seed, sides=("both", "support", "query")[seed % 3])
    *parts, adapted = by_jax(case)
    want = MetaGradient(*parts)
    for method, forms in METHODS.items():
        if case.form not in forms:
            continue
        for dtype in DTYPES:
            maml, theta = case.maml(method), case.theta.astype(dtype)
            got = maml.evaluate(theta, *case.data, **case.weights)
            for name in want._fields:
                error = relative_error(getattr(got, name), getattr(want, name))
                assert error <= TOLERANCE[dtype], (method, dtype, name)
            own = maml.adapt(theta, *case.data[:2], sample_weight=case.sample_weight)
            assert relative_error(own, adapted) <= TOLERANCE[dtype], (method, dtype, "adapt")


def test_the_configurations_cover_what_there_is():
    cases = [draw(seed) for seed in SEEDS]
    activations = {case.model.activation for case in cases}
    assert {word for word in activations if isinstance(word, str)} == set(ACTIVATIONS)
    mixed = {word for words in activations if isinstance(words, tuple) for word in words}
    assert mixed == set(ACTIVATIONS)
    assert {case.form for case in cases} == set(FORMS)
    assert {case.loss for case in cases} == set(LOSSES)
    assert {case.order for case in cases} == set(ORDERS)
    assert {case.steps for case in cases} >= {0, 1, 2, 3, 5}
    assert {case.model.n_layers for case in cases} == {1, 2, 3, 4}
    assert {case.model.n_outputs for case in cases} == {1, 2, 3}
    assert {case.model.intercept for case in cases} == {True, False}
    assert {case.task_mean for case in cases} == {True, False}
    assert {case.step_weights is None for case in cases} == {True, False}
    layouts = {(type(case.data.x), type(case.data.x_query)) for case in cases}
    assert layouts == {(x, q) for x in (list, np.ndarray) for q in (list, np.ndarray, type(None))}


@pytest.mark.parametrize("seed", EQUATION_SEEDS)
def test_equations(seed):
    case = draw(seed, form=("scalar", "parameter")[seed % 2], steps=1)
    x, y = case.data[:2]
    rate = np.ravel(case.inner_lr) if case.form == "parameter" else case.inner_lr
    found = jax_reference.equations(case)
    loss = {"loss": case.loss}
    step = {"inner_lr": rate, **loss}
    for dtype in DTYPES:
        theta = case.theta.astype(dtype)
        got = {
            "residuals": equations.residuals(case.model, theta, x, y),
            "jacobian": equations.jacobian(case.model, theta, x),
            "task_loss": equations.task_loss(case.model, theta, x, y, **loss),
            "task_gradient": equations.task_gradient(case.model, theta, x, y, **loss),
            "task_hessian": equations.task_hessian(case.model, theta, x, y, **loss),
            "adapted_parameters": equations.adapted_parameters(case.model, theta, x, y, **step),
            "adaptation_jacobian": equations.adaptation_jacobian(case.model, theta, x, y, **step),
            "task_meta_gradient": equations.task_meta_gradient(
                case.model, theta, *case.data, **step
            ),
        }
        assert got.keys() == found.keys()
        if case.flat:  # targets without an axis of outputs, and so residuals
            got["residuals"] = [rows[:, None] for rows in got["residuals"]]
        for name, want in found.items():
            if isinstance(want, list):
                error = relative_error(np.concatenate(got[name]), np.concatenate(want))
            else:
                error = relative_error(got[name], want)
            assert error <= TOLERANCE[dtype], (name, dtype)
