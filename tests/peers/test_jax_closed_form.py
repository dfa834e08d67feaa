"""Adaptation in closed form against JAX: autodiff through the solve, in double precision.

Numbers are representable in single precision, so that what is left in float32 is fastmaml's own
rounding.
"""

from functools import cache, partial
from itertools import pairwise

import closed_form_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, relative_error
from closed_form_cases import FORMS, LOSSES, TOLERANCE, draw
from jax_reference import ACTIVATIONS, compiled

import fastmaml as fm
from fastmaml.methods import closed_form

pytestmark = pytest.mark.peers

SEEDS = range(210)
WEIGHTED_SEEDS = range(300, 340)


def task_value(head, theta, x, y, mask, x_query, y_query, mask_query):
    """The loss of one task, from the normal equations; masks keep rows, or are their weights."""
    model, at = head.model, 0
    both = jnp.concatenate([x, x_query])
    for number, (n_in, n_out) in enumerate(pairwise(model.layer_sizes), start=1):
        weight = theta[at : at + n_in * n_out].reshape(n_out, n_in)
        at += n_in * n_out
        bias = theta[at : at + n_out] if model.intercept else jnp.zeros(n_out)
        at += n_out if model.intercept else 0
        if number < model.n_layers:
            words = model.activation
            word = words if isinstance(words, str) else words[number - 1]
            both = ACTIVATIONS[word](both @ weight.T + bias)
    mean = weight
    if model.intercept:
        both = jnp.concatenate([both, jnp.ones((len(both), 1))], axis=1)
        mean = jnp.concatenate([weight, bias[:, None]], axis=1)
    p, m = mean.shape[1], mean.shape[0]
    n_prior = p if head.prior == "diagonal" else 1
    variance = jnp.exp(theta[at : at + n_prior]) * jnp.ones(p)
    noise = jnp.exp(theta[at + n_prior :]) * jnp.ones(m)
    phi, psi = both[: len(x)], both[len(x) :]
    kept = mask[:, None] * phi
    precision = jnp.diag(1 / variance) + kept.T @ phi
    weights = mean.T + jnp.linalg.solve(precision, kept.T @ (y - phi @ mean.T))
    kept, n = mask_query[:, None], jnp.sum(mask_query)
    squares = kept * (psi @ weights - y_query) ** 2
    if "nll" in head.loss:
        h = 1 + jnp.sum(psi.T * jnp.linalg.solve(precision, psi.T), axis=0)
        of_each = h[:, None] * noise
        value = jnp.sum(kept * jnp.log(2 * jnp.pi * of_each) + squares / of_each) / 2
        return value / (n * m) if head.loss == "mean_nll" else value
    share = {"mse": n * m, "half_mse": 2 * n, "sse": 1, "half_sse": 2}
    return jnp.sum(squares) / share[head.loss]


def padded(rows):
    """(n_tasks, most, n) with zeros, and which rows are kept (n_tasks, most)."""
    most = max(map(len, rows))
    whole, mask = np.zeros((len(rows), most, rows[0].shape[1])), np.zeros((len(rows), most))
    for i, part in enumerate(rows):
        whole[i, : len(part)], mask[i, : len(part)] = part, 1
    return whole, mask


@cache
def by_jax(seed, weigh=False):
    case = draw(seed)
    (x, mask), (y, _), (x_query, mask_query), (y_query, _) = map(padded, case.lists)
    for side, weights in zip((mask, mask_query), weights_of(seed) if weigh else (), strict=False):
        for row, own in zip(side, weights, strict=True):
            row[: len(own)] = own
    of_task = jax.value_and_grad(partial(task_value, case.head))
    of_all = compiled(jax.vmap(of_task, in_axes=(None, 0, 0, 0, 0, 0, 0)))
    found = of_all(jnp.asarray(case.theta), x, y, mask, x_query, y_query, mask_query)
    values, gradients = map(np.array, found)
    share = len(values) if case.head.task_mean else 1
    return values.sum() / share, gradients.sum(axis=0) / share, values


@pytest.mark.parametrize("seed", SEEDS)
def test_value_and_gradient(seed, monkeypatch):
    case = draw(seed)
    want = by_jax(seed)
    for form, limit in FORMS.items():
        monkeypatch.setattr(closed_form, "dual_limit", limit)
        head = fm.BayesianLastLayer(case.head.model, **cases.options(case.head))
        for dtype in DTYPES:
            got = head.evaluate(case.theta.astype(dtype), *case.data)
            for name, mine, other in zip(got._fields, got, want, strict=False):
                if name == "value":
                    mine, other = [mine], [other]
                error = relative_error(mine, other)
                assert error <= TOLERANCE[dtype], (form, dtype, name)


def weights_of(seed):
    """Weights of support and query rows, lists of arrays; the same list without a query set."""
    case, rng = draw(seed), np.random.default_rng([19, seed])
    sides = [
        [cases.single(rng.uniform(0.2, 3, len(rows))) * (rng.random(len(rows)) < 0.7) for rows in x]
        for x in (case.lists[0], case.lists[2])
    ]
    for part in (*sides[0], *sides[1]):
        part[:1] = 1.5
    return (sides[0], sides[0]) if case.data.x_query is None else sides


@pytest.mark.parametrize("seed", WEIGHTED_SEEDS)
def test_weights_of_rows(seed, monkeypatch):
    case = draw(seed)
    want = by_jax(seed, weigh=True)
    support, query = weights_of(seed)
    weights = {"sample_weight": support}
    if case.data.x_query is not None:
        weights["sample_weight_query"] = query
    for form, limit in FORMS.items():
        monkeypatch.setattr(closed_form, "dual_limit", limit)
        head = fm.BayesianLastLayer(case.head.model, **cases.options(case.head))
        for dtype in DTYPES:
            got = head.evaluate(case.theta.astype(dtype), *case.data, **weights)
            for name, mine, other in zip(got._fields, got, want, strict=False):
                error = relative_error(np.atleast_1d(mine), np.atleast_1d(other))
                assert error <= TOLERANCE[dtype], (form, dtype, name)


def test_the_configurations_cover_what_there_is():
    drawn = [draw(seed) for seed in SEEDS]
    heads = [case.head for case in drawn]
    assert {head.loss for head in heads} == set(LOSSES)
    assert {(head.prior, head.noise) for head in heads} == {
        (p, n) for p in ("diagonal", "shared") for n in ("shared", "per_output")
    }
    assert {head.task_mean for head in heads} == {True, False}
    words = [head.model.activation for head in heads]
    assert {word for word in words if isinstance(word, str)} == set(ACTIVATIONS)
    assert any(isinstance(word, tuple) for word in words)
    assert {head.model.n_layers for head in heads} == {1, 2, 3, 4}
    assert {head.model.n_outputs for head in heads} == {1, 2, 3}
    assert {head.model.intercept for head in heads} == {True, False}
    support = {len(x) for case in drawn for x in case.lists[0]}
    query = {len(x) for case in drawn for x in case.lists[2]}
    assert min(support) == 0
    assert min(query) == 1
    assert max(support) > 50 < max(query)
    sizes = [(len(x), case.head.n_features) for case in drawn for x in case.lists[0]]
    assert {k > p for k, p in sizes} == {True, False}
    assert {case.data.x_query is None for case in drawn} == {True, False}
