"""What holds for every problem, whatever its numbers."""

import numpy as np
import pytest
from cases import METHODS, TOLERANCE, draw_for, relative_error
from family_cases import FAMILIES, KINDS, NAMES, draw_family, model_of
from hypothesis import given
from hypothesis import strategies as st
from same import bits

import fastmaml as fm
from fastmaml import equations

CLOSE = TOLERANCE["float64"]
every_method = pytest.mark.parametrize("method", METHODS)
every_family = pytest.mark.parametrize("family", FAMILIES)
every_loss = pytest.mark.parametrize("name", NAMES)
seeds = st.integers(4000, 4999)


def take(data, tasks):
    """The data of some tasks, as lists of per-task arrays."""
    return [part if part is None else [part[i] for i in tasks] for part in data]


def evaluate(case, method, data=None, **changes):
    maml = fm.MAML(case.model, method=method, **{**case.options, **changes})
    return maml.evaluate(case.theta, *(case.data if data is None else data))


def of_family(family, name, **fixed):
    """A problem of a family and a loss, and the methods that it has."""
    at = NAMES.index(name) + 3 * list(FAMILIES).index(family)
    loss = KINDS[NAMES.index(name)]
    fixed = {"query": "ragged", "sides": "", "inner_momentum": 0.0, "form": "layer", **fixed}
    case = draw_family(model_of(family, at, loss), loss, 50_000 + at, **fixed)
    layers = case.model.layer_sizes is not None
    return case, [method for method in METHODS if layers or method != "factored"]


@given(seed=seeds)
def test_hessian_is_symmetric(seed):
    case = draw_for("explicit", seed)
    hessian = equations.task_hessian(case.model, case.theta, *case.data[:2], loss=case.loss)
    assert relative_error(hessian, np.swapaxes(hessian, 1, 2)) <= CLOSE


@every_method
@given(seed=seeds, shuffle=st.integers(0, 99))
def test_order_of_tasks_does_not_matter(method, seed, shuffle):
    order = np.random.default_rng(shuffle).permutation(4)
    hold_in_order(draw_for(method, seed, n_tasks=4), method, order)


@every_family
@every_loss
def test_order_of_tasks_does_not_matter_to_any_family_and_loss(name, family):
    case, methods = of_family(family, name, n_tasks=3)
    for method in methods:
        hold_in_order(case, method, [2, 0, 1])


def hold_in_order(case, method, order):
    moved = take(case.data, order)
    before, after = evaluate(case, method), evaluate(case, method, moved)
    assert relative_error(after.task_values, before.task_values[order]) <= CLOSE
    assert relative_error(after.gradient, before.gradient) <= CLOSE
    assert relative_error(after.inner_lr_gradient, before.inner_lr_gradient) <= CLOSE
    adapted = case.maml(method).adapt(case.theta, *case.data[:2])
    again = case.maml(method).adapt(case.theta, *moved[:2])
    assert relative_error(again, adapted[order]) <= CLOSE


@every_method
@given(seed=seeds, which=st.integers(0, 2))
def test_a_task_given_twice_counts_twice(method, seed, which):
    hold_twice(draw_for(method, seed, n_tasks=3, task_mean=False), method, which)


@every_family
@every_loss
def test_a_task_given_twice_counts_twice_in_any_family_and_loss(name, family):
    case, methods = of_family(family, name, n_tasks=3, task_mean=False)
    for method in methods:
        hold_twice(case, method, 1)


def hold_twice(case, method, which):
    once, alone, twice = (
        evaluate(case, method, take(case.data, tasks))
        for tasks in ([0, 1, 2], [which], [0, 1, 2, which])
    )
    assert relative_error(twice.value, once.value + alone.value) <= CLOSE
    assert relative_error(twice.gradient, once.gradient + alone.gradient) <= 10 * CLOSE
    assert relative_error(twice.task_values, [*once.task_values, *alone.task_values]) <= CLOSE


@every_method
@given(seed=seeds)
def test_mean_over_tasks_is_the_sum_over_their_number(method, seed):
    case = draw_for(method, seed, n_tasks=3)
    total, mean = (evaluate(case, method, task_mean=flag) for flag in (False, True))
    np.testing.assert_array_equal(mean.task_values, total.task_values)
    for name in ("value", "gradient", "inner_lr_gradient"):
        assert relative_error(3 * np.array(getattr(mean, name)), getattr(total, name)) <= CLOSE


@every_method
@given(seed=seeds)
def test_rate_zero_gives_the_plain_gradient(method, seed):
    hold_at_rate_zero(draw_for(method, seed, steps=3, weighted=False, task_mean=False), method)


@every_family
@every_loss
def test_rate_zero_gives_the_plain_gradient_of_any_family_and_loss(name, family):
    case, methods = of_family(family, name, steps=3, step_weights=None, task_mean=False)
    for method in methods:
        hold_at_rate_zero(case, method)


@every_family
@every_loss
def test_threads_give_the_same_bits_in_any_family_and_loss(name, family):
    """On so many tasks that more than one thread finds work."""
    case, methods = of_family(family, name, n_tasks=3)
    data = [part * 70 for part in map(list, case.data)]
    for method in methods:
        several = evaluate(case, method, data)
        with fm.threads(1):
            assert bits(evaluate(case, method, data)) == bits(several), method


def hold_at_rate_zero(case, method):
    x, y, x_query, y_query = case.data
    query = (x, y) if x_query is None else (x_query, y_query)
    plain = equations.task_gradient(case.model, case.theta, *query, loss=case.loss)
    result = evaluate(case, method, inner_lr=0.0, steps=3)
    assert relative_error(result.gradient, plain.sum(axis=0)) <= CLOSE
    maml = fm.MAML(case.model, method=method, inner_lr=0.0, steps=3, loss=case.loss)
    adapted = maml.adapt(case.theta, x, y)
    np.testing.assert_array_equal(adapted, np.tile(case.theta, (len(x), 1)))


@every_method
@given(seed=seeds)
def test_linear_model_has_a_closed_form(method, seed):
    """f = W x + b with a quadratic loss: each step is one affine map of W."""
    pins = {"family": "linear", "form": "scalar", "order": "exact", "weighted": False}
    case = draw_for(method, seed, task_mean=False, **pins)
    model, rate = case.model, case.inner_lr
    weight, bias = model.unpack(case.theta)[0]
    start = weight if bias is None else np.column_stack([weight, bias])
    value, gradient = 0.0, np.zeros_like(start)
    for x, y, x_query, y_query in zip(*case.per_task, strict=True):
        if model.intercept:
            x, x_query = (np.column_stack([rows, np.ones(len(rows))]) for rows in (x, x_query))
        c, c_query = (
            {"half_sse": 1 / 2, "sse": 1, "half_mse": 1 / (2 * len(y)), "mse": 1 / y.size}[
                case.loss
            ]
            for y in (y, y_query)
        )
        step = np.eye(x.shape[1]) - 2 * c * rate * x.T @ x
        adapted = start
        for _ in range(case.steps):
            adapted = adapted @ step + 2 * c * rate * y.T @ x
        residual = x_query @ adapted.T - y_query
        value += c_query * np.sum(residual**2)
        pull = 2 * c_query * residual.T @ x_query
        gradient += pull @ np.linalg.matrix_power(step, case.steps)
    gradient = model.pack(
        [(gradient[:, : model.n_inputs], gradient[:, -1] if model.intercept else None)]
    )
    result = evaluate(case, method)
    assert relative_error(result.value, value) <= CLOSE
    assert relative_error(result.gradient, gradient) <= 10 * CLOSE


@every_method
@given(seed=seeds)
def test_ragged_tasks_are_calls_of_their_own(method, seed):
    pins = {"support": "ragged", "query": "ragged", "n_tasks": 4, "task_mean": False}
    case = draw_for(method, seed, **pins)
    together = evaluate(case, method)
    alone = [evaluate(case, method, take(case.data, [i])) for i in range(4)]
    assert relative_error(together.task_values, [task.value for task in alone]) <= CLOSE
    for name in ("gradient", "inner_lr_gradient"):
        total = sum(np.array(getattr(task, name)) for task in alone)
        assert relative_error(getattr(together, name), total) <= 10 * CLOSE


@every_method
@given(seed=seeds)
def test_lists_and_arrays_are_the_same(method, seed):
    case = draw_for(method, seed, support="equal", query="equal", n_tasks=3)
    from_arrays = evaluate(case, method)
    for kind in (list, tuple, np.ndarray.tolist):
        from_others = evaluate(case, method, [kind(part) for part in case.data])
        for got, want in zip(from_others, from_arrays, strict=True):
            np.testing.assert_array_equal(got, want)


@every_method
@given(seed=seeds)
def test_support_serves_as_query_when_there_is_none(method, seed):
    case = draw_for(method, seed, query="none")
    x, y, _, _ = case.data
    for got, want in zip(evaluate(case, method), evaluate(case, method, (x, y, x, y)), strict=True):
        np.testing.assert_array_equal(got, want)


@every_method
@given(seed=seeds, steps=st.sampled_from([0, 1, 2]))
def test_one_of_everything(method, seed, steps):
    """One task, one row, one input, one hidden unit, one output."""
    pins = {"n_inputs": 1, "n_outputs": 1, "depth": 2, "hidden": (1,), "n_tasks": 1}
    case = draw_for(method, seed, family="mlp", n_support=1, n_query=1, steps=steps, **pins)
    for got, want in zip(evaluate(case, method), case.expected, strict=True):
        assert relative_error(got, want) <= CLOSE


@every_method
@given(seed=seeds)
def test_no_step_is_the_plain_loss(method, seed):
    case = draw_for(method, seed, steps=0, weighted=False, task_mean=False)
    x, y, x_query, y_query = case.data
    query = (x, y) if x_query is None else (x_query, y_query)
    result = evaluate(case, method)
    losses = equations.task_loss(case.model, case.theta, *query, loss=case.loss)
    assert relative_error(result.task_values, losses) <= CLOSE
    assert not np.any(result.inner_lr_gradient)
    adapted = case.maml(method).adapt(case.theta, x, y)
    np.testing.assert_array_equal(adapted, np.tile(case.theta, (len(x), 1)))


@every_method
@given(seed=seeds)
def test_nothing_given_is_written_to(method, seed):
    case = draw_for(method, seed)
    given_arrays = [case.theta, *(rows for part in case.data if part is not None for rows in part)]
    before = [rows.copy() for rows in given_arrays]
    evaluate(case, method)
    case.maml(method).predict(case.theta, *case.data[:2], case.x_new)
    for rows, copy in zip(given_arrays, before, strict=True):
        np.testing.assert_array_equal(rows, copy)
