"""Weights of rows: against the reference, and what holds for them whatever the numbers are."""

import re
import warnings
from itertools import product

import numpy as np
import pytest
from cases import DTYPES, LOSSES, METHODS, TOLERANCE, draw_for, relative_error
from hypothesis import given
from hypothesis import strategies as st
from weighted_cases import draw_weighted

import fastmaml as fm
from fastmaml import equations

CLOSE = TOLERANCE["float64"]
seeds = st.integers(7000, 7999)
every_method = pytest.mark.parametrize("method", METHODS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def _grid():
    """Pairs of a test's name and what it pins; the rest is drawn."""
    layouts = product(("equal", "ragged"), ("equal", "ragged", "none"))
    for loss, (support, query) in product(LOSSES, layouts):
        pins = {"loss": loss, "support": support, "query": query, "n_tasks": 3, "n_support": 4}
        yield f"{loss}-{support}-{query}", pins
    for sides, steps in product(("support", "query", "both"), (0, 1, 2, 5)):
        pins = {"sides": sides, "steps": steps, "query": "equal", "n_tasks": 2}
        yield f"{sides}-{steps}", {"family": "mlp", **pins}
    for hidden, rows in (((17, 9), 13), ((5,), 67)):
        pins = {"hidden": hidden, "n_support": rows, "n_query": rows + 2, "n_tasks": 2, "steps": 2}
        yield f"width-{hidden[0]}-rows-{rows}", {"family": "mlp", "depth": len(hidden) + 1, **pins}
    yield "flat-single-output", {"n_outputs": 1, "flat_targets": True, "query": "ragged"}
    yield "momentum", {"inner_momentum": 0.5, "steps": 3, "form": "scalar"}


CASES = [pytest.param(seed, pins, id=name) for seed, (name, pins) in enumerate(_grid(), start=6000)]


def pins_for(method, pins):
    return {
        name: value
        for name, value in pins.items()
        if method != "factored" or name != "inner_momentum"
    }


@every_dtype
@every_method
@pytest.mark.parametrize(("seed", "pins"), CASES)
def test_meta_gradient(seed, pins, method, dtype):
    case = draw_weighted(seed, method, **pins_for(method, pins))
    maml, theta = case.maml(method), case.theta.astype(dtype)
    got, want = maml.evaluate(theta, *case.data, **case.weights), case.expected
    for name in want._fields:
        error = relative_error(getattr(got, name), getattr(want, name))
        assert error <= TOLERANCE[dtype], name
    value, gradient = maml.value_and_gradient(theta, *case.data, **case.weights)
    assert (value, maml.value(theta, *case.data, **case.weights)) == (got.value, got.value)
    np.testing.assert_array_equal(gradient, maml.gradient(theta, *case.data, **case.weights))
    assert relative_error(gradient, want.gradient) <= TOLERANCE[dtype]
    own = {"sample_weight": case.sample_weight}
    adapted = maml.adapt(theta, *case.data[:2], **own)
    assert relative_error(adapted, case.adapted) <= TOLERANCE[dtype]
    predicted = maml.predict(theta, *case.data[:2], case.x_new, **own)
    assert relative_error(predicted, case.predicted) <= TOLERANCE[dtype]


@every_dtype
@pytest.mark.parametrize("seed", range(6100, 6116))
def test_equations(seed, dtype):
    case = draw_weighted(seed, steps=1, form="scalar", order="exact", weighted=False)
    model, theta = case.model, case.theta.astype(dtype)
    x, y = case.data[:2]
    own = {"loss": case.loss, "sample_weight": case.sample_weight}
    step = {**own, "inner_lr": case.inner_lr}
    both = {**case.weights, "loss": case.loss, "inner_lr": case.inner_lr}
    close = TOLERANCE[dtype]
    got = equations.task_meta_gradient(model, theta, *case.data, **both)
    assert relative_error(got, [task.gradient for task in case.task_results]) <= close
    got = equations.meta_gradient(model, theta, *case.data, **both, task_mean=case.task_mean)
    assert relative_error(got, case.expected.gradient) <= close
    assert (
        relative_error(equations.adapted_parameters(model, theta, x, y, **step), case.adapted)
        <= close
    )
    at_theta = fm.MAML(model, steps=0, loss=case.loss).evaluate(
        theta, x, y, sample_weight=case.sample_weight
    )
    losses = equations.task_loss(model, theta, x, y, **own)
    assert relative_error(losses, at_theta.task_values) <= close
    gradients = equations.task_gradient(model, theta, x, y, **own)
    assert relative_error(gradients.sum(axis=0), at_theta.gradient) <= 10 * close
    hessians = equations.task_hessian(model, theta, x, y, **own)
    v = np.linspace(-1, 1, model.n_params).astype(dtype)
    assert relative_error(equations.task_hessp(model, theta, v, x, y, **own), hessians @ v) <= close
    jacobians = equations.adaptation_jacobian(model, theta, x, y, **step)
    unit = np.eye(model.n_params)
    assert relative_error(jacobians, unit - case.inner_lr * hessians) <= close


def kept(part, weights):
    """The rows of each task that have a weight, as lists."""
    if part is None or weights is None:
        return part
    return [rows[w > 0] for rows, w in zip(part, weights, strict=True)]


@every_method
@given(seed=seeds)
def test_weight_zero_is_a_missing_row(method, seed):
    case = draw_weighted(seed, method, task_mean=False)
    maml, (x, y, x_query, y_query) = case.maml(method), case.data
    support, query = case.sample_weight, case.sample_weight_query
    fewer = [kept(x, support), kept(y, support), kept(x_query, query), kept(y_query, query)]
    weights = {"sample_weight": kept(support, support), "sample_weight_query": kept(query, query)}
    want = maml.evaluate(case.theta, *case.data, **case.weights)
    got = maml.evaluate(case.theta, *fewer, **weights)
    for name in want._fields:
        assert relative_error(getattr(got, name), getattr(want, name)) <= CLOSE, name


@every_method
@given(seed=seeds, repeats=st.integers(1, 3))
def test_weight_of_a_whole_number_is_a_row_as_often(method, seed, repeats):
    case = draw_for(method, seed, query="none", task_mean=False)
    maml, (x, y, *_) = case.maml(method), case.data
    weights = [np.where(np.arange(len(rows)) == 0, repeats, 1) for rows in x]
    more = [
        [np.repeat(rows, w, axis=0) for rows, w in zip(part, weights, strict=True)]
        for part in (x, y)
    ]
    got = maml.evaluate(case.theta, x, y, sample_weight=weights)
    want = maml.evaluate(case.theta, *more)
    for name in want._fields:
        assert relative_error(getattr(got, name), getattr(want, name)) <= 100 * CLOSE, name


@every_method
@given(seed=seeds)
def test_weights_of_one_are_none(method, seed):
    case = draw_for(method, seed)
    sides = (case.data.x, case.data.x_query)
    ones = [None if x is None else [np.ones(len(rows)) for rows in x] for x in sides]
    got = case.maml(method).evaluate(
        case.theta, *case.data, sample_weight=ones[0], sample_weight_query=ones[1]
    )
    want = case.maml(method).evaluate(case.theta, *case.data)
    for name in want._fields:
        assert relative_error(getattr(got, name), getattr(want, name)) <= CLOSE, name


@every_method
@pytest.mark.parametrize("loss", ["half_mse", "mse"])
def test_a_mean_knows_no_unit_of_weight(method, loss):
    case = draw_weighted(6200, method, loss=loss, query="equal")
    want = case.maml(method).evaluate(case.theta, *case.data, **case.weights)
    more = {name: 1024.0 * np.asarray(weights) for name, weights in case.weights.items()}
    got = case.maml(method).evaluate(case.theta, *case.data, **more)
    for name in want._fields:
        assert relative_error(getattr(got, name), getattr(want, name)) <= CLOSE, name


@every_method
def test_under_a_sum_a_task_without_weight_does_not_adapt(method):
    case = draw_for(
        method, 6201, loss="sse", n_tasks=3, support="equal", query="equal", n_support=4
    )
    maml, theta = case.maml(method), case.theta
    weights = np.ones((3, 4))
    weights[1] = 0
    adapted = maml.adapt(theta, *case.data[:2], sample_weight=weights)
    np.testing.assert_array_equal(adapted[1], theta)
    assert not np.array_equal(adapted[0], theta)
    # and one whose query rows have none counts nothing
    query = np.ones(case.data.y_query.shape[:2])
    query[2] = 0
    got = maml.evaluate(theta, *case.data, sample_weight_query=query)
    others = [part[:2] for part in case.data]
    want = maml.evaluate(theta, *others)
    assert got.task_values[2] == 0
    share = 2 / 3 if case.task_mean else 1
    assert relative_error(got.gradient, share * want.gradient) <= CLOSE
    assert relative_error(got.value, share * want.value) <= CLOSE


@every_dtype
@pytest.mark.parametrize("loss", LOSSES)
def test_implicit_order(loss, dtype):
    case = draw_weighted(6202, loss=loss, family="mlp", query="ragged", n_tasks=3, n_support=5)
    maml = fm.MAML(
        case.model, inner_lr=1e-3, steps=3, loss=loss, order="implicit", proximal=200.0,
        cg_rtol=1e-4 if dtype == "float32" else 1e-13,
    )  # fmt: skip
    support, query = case.sample_weight, case.sample_weight_query
    x, y, x_query, y_query = case.data
    fewer = [kept(x, support), kept(y, support), kept(x_query, query), kept(y_query, query)]
    weights = {"sample_weight": kept(support, support), "sample_weight_query": kept(query, query)}
    got = maml.evaluate(case.theta.astype(dtype), *case.data, **case.weights)
    want = maml.evaluate(case.theta, *fewer, **weights) if dtype == "float64" else None
    # the equation itself, of each task
    pulled = []
    for task in range(3):
        own = {"loss": loss, "sample_weight": support[task]}
        adapted = maml.adapt(case.theta, x[task], y[task], sample_weight=support[task])
        hessian = equations.task_hessian(case.model, adapted, x[task], y[task], **own)
        outer = equations.task_gradient(
            case.model, adapted, x_query[task], y_query[task], loss=loss, sample_weight=query[task]
        )
        pulled.append(np.linalg.solve(np.eye(len(outer)) + hessian / 200.0, outer))
    assert relative_error(got.gradient, np.sum(pulled, axis=0)) <= (
        1e-3 if dtype == "float32" else 1e-10
    )
    if want is not None:
        assert relative_error(got.gradient, want.gradient) <= 1e-10


def test_hessp_and_the_function():
    case = draw_weighted(6203, order="exact", steps=2, query="equal")
    maml, v = case.maml(), np.linspace(-1, 1, case.model.n_params)
    h = 1e-5
    above, below = (
        maml.gradient(case.theta + s * h * v, *case.data, **case.weights) for s in (1, -1)
    )
    got = maml.hessp(case.theta, v, *case.data, **case.weights)
    assert relative_error(got, (above - below) / (2 * h)) <= 1e-5
    options = {**case.options, **case.weights}
    out = np.empty(case.model.n_params)
    got = fm.meta_gradient(case.model, case.theta, *case.data, **options, out=out)
    assert got is out
    np.testing.assert_array_equal(got, maml.gradient(case.theta, *case.data, **case.weights))


def test_weights_in_any_form_are_the_same_weights():
    rng = np.random.default_rng(0)
    model = fm.MLP([2, 5, 1])
    theta = model.init(0)
    x, y = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4, 1))
    maml = fm.MAML(model, loss="mse", steps=2)
    keep = rng.random((3, 4)) < 0.7
    keep[:, 0] = True
    want = maml.gradient(theta, x, y, sample_weight=keep.astype(float))
    forms = (
        keep,
        keep.astype(np.int8),
        keep.tolist(),
        list(keep.astype(np.float32)),
        tuple(map(tuple, keep.tolist())),
        np.asfortranarray(keep.astype(float)),
    )
    for form in forms:
        np.testing.assert_array_equal(maml.gradient(theta, x, y, sample_weight=form), want)
        listed = maml.gradient(theta, list(x), list(y), sample_weight=form)
        np.testing.assert_array_equal(listed, want)
    # a single task
    one = maml.adapt(theta, x[1], y[1], sample_weight=keep[1].tolist())
    np.testing.assert_array_equal(one, maml.adapt(theta, x, y, sample_weight=keep)[1])
    # what was given stays as it was
    weights = np.full((3, 4), 0.5)
    maml.gradient(theta, x, y, sample_weight=weights)
    assert (weights == 0.5).all()


def test_weights_come_and_go_between_calls():
    """A plan is made for sizes, and for which sides have weights."""
    case = draw_weighted(6204, query="equal", support="equal", n_tasks=2)
    maml, theta, (support, query) = case.maml(), case.theta, case.weights.values()
    chosen = [(None, None), (support, None), (None, query), (support, query)]

    def asked(objective, weights):
        names = ("sample_weight", "sample_weight_query")
        return objective.gradient(theta, *case.data, **dict(zip(names, weights, strict=True)))

    for weights in chosen * 2:
        np.testing.assert_array_equal(asked(maml, weights), asked(case.maml(), weights))


@every_method
def test_float32_that_overflows_is_computed_again(method):
    """In float64, where the column of weights goes along."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 3, 5, 1)).astype(np.float32)
    model = fm.MLP([1, 6, 1])
    theta = model.init(0, np.float32)
    maml = fm.MAML(model, inner_lr=1e-24, steps=2, method=method)
    y = y * np.float32(1e12)
    # a slope of some 1e24 times a weight of 1e16 is too large for float32
    weights = rng.uniform(0.5, 1.5, (3, 5)).astype(np.float32) * np.float32(1e27)
    got = maml.evaluate(theta, x, y, sample_weight=weights)
    wide = [part.astype(np.float64) for part in (theta, x, y)]
    want = maml.evaluate(*wide, sample_weight=weights.astype(np.float64))
    with np.errstate(over="ignore"):
        expected = want.gradient.astype(np.float32)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(got.gradient), finite)
    assert relative_error(got.value, want.value) <= 1e-5


def test_divergence_counts_the_weights():
    rng = np.random.default_rng(2)
    model = fm.MLP([1, 8, 1])
    theta, (x, y) = model.init(0), rng.normal(size=(2, 3, 5, 1))
    maml = fm.MAML(model, inner_lr=0.02, steps=20, loss="sse")
    weights = np.ones((3, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maml.adapt(theta, x, y, sample_weight=weights)
    weights[2] = 1e4
    with pytest.warns(fm.DivergenceWarning, match="task 2 diverged.*1 of 3 tasks diverged: 2"):
        maml.adapt(theta, x, y, sample_weight=weights)
    # a task that has no weight cannot
    x[2] *= 1e6
    weights[2] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maml.adapt(theta, x, y, sample_weight=weights)


# ---- errors --------------------------------------------------------------------------------------


X, Y = np.zeros((3, 4, 1)), np.zeros((3, 4, 1))
RAGGED = [np.zeros((k, 1)) for k in (2, 3, 4)]
ONES = np.ones((3, 4))


def changed(value, task=1, row=2):
    weights = ONES.copy()
    weights[task, row] = value
    return weights


def asked(weights, data=(X, Y), loss="half_sse", name="sample_weight", dtype=float):
    model = fm.MLP([1, 3, 1])
    return fm.MAML(model, loss=loss).value(model.init(0, dtype), *data, **{name: weights})


WRONG = {
    "negative": (
        changed(-0.5),
        "sample_weight holds -0.5 in task 1, row 2; accepted are finite float64 numbers",
    ),
    "nan": (
        changed(np.nan),
        "sample_weight holds nan in task 1, row 2; accepted are finite float64 numbers",
    ),
    "inf": (changed(np.inf), "sample_weight holds inf in task 1, row 2; accepted"),
    "rows": (
        np.ones((3, 5)),
        "sample_weight has shape (3, 5); accepted is (3, 4), one for each row of x",
    ),
    "axes": (np.ones(4), "sample_weight has shape (4,); accepted is (3, 4), one for each row of x"),
    "more axes": (np.ones((3, 4, 1)), "sample_weight has shape (3, 4, 1); accepted is (3, 4)"),
    "number": (2.0, "sample_weight has shape (); accepted is (3, 4)"),
    "tasks": (
        [np.ones(4)] * 2,
        "sample_weight has 2 tasks, x has 3; accepted is the same number of tasks",
    ),
    "list": (
        [np.ones(4), np.ones(3), np.ones(4)],
        "sample_weight[1] has shape (3,); accepted is (4,), one for each row of x in task 1",
    ),
}


@pytest.mark.parametrize("which", WRONG)
def test_errors(which):
    weights, text = WRONG[which]
    with pytest.raises(ValueError, match=re.escape(text)):
        asked(weights)


def test_errors_name_the_weights_of_the_query():
    data = (X, Y, np.zeros((3, 2, 1)), np.zeros((3, 2, 1)))
    text = "sample_weight_query has shape (3, 4); accepted is (3, 2), one for each row of x_query"
    with pytest.raises(ValueError, match=re.escape(text)):
        asked(ONES, data, name="sample_weight_query")
    text = "sample_weight_query is given, x_query is not; accepted are both or neither"
    with pytest.raises(ValueError, match=text):
        asked(ONES, name="sample_weight_query")


def test_errors_of_ragged_and_single_tasks():
    text = "sample_weight has shape (3, 4); accepted is a list of 3 arrays, as x is"
    with pytest.raises(ValueError, match=re.escape(text)):
        asked(ONES, (RAGGED, RAGGED))
    text = "sample_weight[2] has shape (3,); accepted is (4,), one for each row of x in task 2"
    with pytest.raises(ValueError, match=re.escape(text)):
        asked([np.ones(2), np.ones(3), np.ones(3)], (RAGGED, RAGGED))
    text = "sample_weight holds -1.0 in task 1, row 0; accepted"
    with pytest.raises(ValueError, match=re.escape(text)):
        asked([np.ones(2), -np.ones(3), np.ones(4)], (RAGGED, RAGGED))
    text = "sample_weight has shape (1, 4); accepted is (4,), one for each row of x"
    with pytest.raises(ValueError, match=re.escape(text)):
        asked(np.ones((1, 4)), (X[0], Y[0]))


@pytest.mark.parametrize("bad", ["text", [["a"] * 4] * 3, ONES * 1j, [None] * 3])
def test_errors_of_kind(bad):
    with pytest.raises(TypeError, match="sample_weight"):
        asked(bad)


@pytest.mark.parametrize("loss", ["half_mse", "mse"])
def test_a_mean_needs_weight(loss):
    weights = ONES.copy()
    weights[1] = 0
    text = "sample_weight sums to 0 in task 1; accepted are finite sums above 0"
    with pytest.raises(ValueError, match=text):
        asked(weights, loss=loss)
    data = (X, Y, X, Y)
    with pytest.raises(ValueError, match="sample_weight_query sums to 0 in task 1"):
        asked(weights, data, loss, "sample_weight_query")
    weights[1] = 1e308
    with pytest.raises(ValueError, match="sample_weight sums to inf in task 1"):
        asked(weights, loss=loss)
    weights[1] = 1e-320
    with pytest.raises(ValueError, match="sample_weight sums to 4e-320 in task 1"):
        asked(weights, loss=loss)
    assert asked(np.zeros((3, 4))) == 0


def test_what_float32_cannot_hold():
    with pytest.raises(
        ValueError, match="sample_weight holds inf in task 1, row 2; accepted are finite float32"
    ):
        asked(changed(1e39), dtype=np.float32)
