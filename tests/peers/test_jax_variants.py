"""Variants of MAML against JAX: autodiff through the variant's own definition.

MAML, first-order MAML, rates of every form (Meta-SGD, per step and layer) and multi-step loss are
in ``test_jax.py``.
"""

from dataclasses import replace

import jax_reference
import numpy as np
import pytest
from cases import METHODS, draw, relative_error

import fastmaml as fm
from fastmaml.learn import reptile_gradient

pytestmark = pytest.mark.peers

TOLERANCE = 1e-11


@pytest.mark.parametrize("seed", range(8000, 8040))
def test_momentum(seed):
    momentum = (0.9, 0.5)[seed % 2]
    case = draw(seed, inner_momentum=momentum, steps=1 + seed % 4)
    *want, adapted = jax_reference.evaluate(case)
    for method in ("dense", "explicit"):
        maml = case.maml(method)
        got = maml.evaluate(case.theta, *case.data)
        for one, other, name in zip(got, want, got._fields, strict=True):
            assert relative_error(one, other) <= TOLERANCE, (method, name)
        assert relative_error(maml.adapt(case.theta, *case.data[:2]), adapted) <= TOLERANCE


@pytest.mark.parametrize("seed", range(8100, 8106))
def test_anil(seed):
    case = draw(seed, family="mlp", form="layer")
    case = replace(case, inner_lr=fm.anil_inner_lr(case.model, float(case.inner_lr.max())))
    _, gradient, *_ = jax_reference.evaluate(case)
    for method in METHODS:
        got = case.maml(method).gradient(case.theta, *case.data)
        assert relative_error(got, gradient) <= TOLERANCE, method


@pytest.mark.parametrize("seed", range(8200, 8206))
def test_reptile(seed):
    case = draw(seed, inner_momentum=0.5 * (seed % 2), steps=1 + seed % 3)
    *_, adapted = jax_reference.evaluate(case)
    want = (case.theta - adapted).sum(axis=0) / (len(adapted) if case.task_mean else 1)
    got = reptile_gradient(case.maml(), case.theta, *case.data[:2])
    assert relative_error(got, want) <= TOLERANCE


@pytest.mark.parametrize("rtol", [1e-6, 1e-13])
@pytest.mark.parametrize("seed", range(8300, 8310))
def test_implicit(seed, rtol):
    case = draw(seed, form="scalar", weighted=False)
    x, y, _, _ = case.per_task
    hessians = [
        fm.equations.task_hessian(case.model, case.theta, [rows], [targets], loss=case.loss)[0]
        for rows, targets in zip(x, y, strict=True)
    ]
    proximal = 3 * max(np.linalg.norm(hessian) for hessian in hessians)
    options = {**case.options, "inner_lr": case.inner_lr / 4, "order": "implicit"}
    maml = fm.MAML(case.model, proximal=proximal, cg_rtol=rtol, **options)
    got = maml.evaluate(case.theta, *case.data)
    assert got.residuals.max() <= rtol
    want = jax_reference.implicit(case, proximal, maml.adapt(case.theta, *case.data[:2]))
    share = len(want) if case.task_mean else 1
    # |x - x*| <= |A^-1| |b| rtol in each task, and A's condition is below 2 here
    error = np.linalg.norm(got.gradient - want.sum(axis=0) / share)
    bound = max(4 * rtol, TOLERANCE) * np.linalg.norm(want, axis=1).sum() / share
    assert error <= bound


@pytest.mark.parametrize("seed", range(8400, 8406))
def test_hessp_of_the_meta_objective(seed):
    case = draw(seed, family="mlp", activation="tanh", order="exact")
    want = jax_reference.meta_hessian(case)
    got = [case.maml().hessp(case.theta, e, *case.data) for e in np.eye(case.model.n_params)]
    assert relative_error(got, want) <= 1e-8
