"""Every method against the reference: value, gradients, adapted parameters, predictions."""

from itertools import product

import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    DTYPES,
    FORMS,
    LOSSES,
    METHODS,
    MIXED,
    ORDERS,
    TOLERANCE,
    draw,
    draw_for,
    relative_error,
)
from fastmaml.kernels.methods import modes

import fastmaml as fm
from fastmaml import plan, workspace
from fastmaml.methods import factored, stepwise
from fastmaml.tasks import as_tasks

STEPS = (0, 1, 2, 3, 5)


def _grid():
    """Pairs of a test's name and what it pins; the rest is drawn."""
    for activation, steps in product(ACTIVATIONS, STEPS):
        yield f"{activation}-{steps}", {"family": "mlp", "activation": activation, "steps": steps}
    for intercept, n_outputs, steps in product((True, False), (1, 3), STEPS):
        name = f"linear-{n_outputs}-{'affine' if intercept else 'through-0'}-{steps}"
        pins = {"family": "linear", "intercept": intercept, "n_outputs": n_outputs, "steps": steps}
        yield name, pins
    for loss, form in product(LOSSES, FORMS):
        yield f"{loss}-{form}", {"family": "mlp", "loss": loss, "form": form, "steps": 2}
    for order, weighted, task_mean in product(ORDERS, (False, True), (False, True)):
        name = f"{order}-{'all' if weighted else 'last'}-{'mean' if task_mean else 'sum'}"
        pins = {"order": order, "weighted": weighted, "task_mean": task_mean, "steps": 3}
        yield name, {"family": "mlp", "n_tasks": 3, **pins}
    for support, query in product(("equal", "ragged"), ("equal", "ragged", "none")):
        pins = {"n_tasks": 4, "support": support, "query": query, "n_support": 4}
        yield f"support-{support}-query-{query}", {"family": "mlp", "steps": 2, **pins}
    # sizes beside the multiples of a vector's length and of a block's rows
    for hidden, rows in (((8, 16), 8), ((17, 9), 13), ((33, 20), 7), ((5,), 67), ((48,), 3)):
        pins = {"hidden": hidden, "n_support": rows, "n_query": rows + 2, "n_tasks": 2, "steps": 2}
        name = "x".join(map(str, hidden))
        yield f"width-{name}-rows-{rows}", {"family": "mlp", "depth": len(hidden) + 1, **pins}
    for words, steps in product(MIXED, STEPS):
        pins = {"activation": words, "depth": len(words) + 1, "steps": steps}
        yield f"{'-'.join(words)}-{steps}", {"family": "mlp", **pins}


CASES = [pytest.param(seed, pins, id=name) for seed, (name, pins) in enumerate(_grid(), start=1000)]
every_case = pytest.mark.parametrize(("seed", "pins"), CASES)
every_method = pytest.mark.parametrize("method", METHODS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_dtype
@every_method
@every_case
def test_meta_gradient(seed, pins, method, dtype):
    case = draw_for(method, seed, **pins)
    maml, theta = case.maml(method), case.theta.astype(dtype)
    got, want = maml.evaluate(theta, *case.data), case.expected
    assert got.gradient.dtype == got.task_values.dtype == dtype
    assert np.shape(got.inner_lr_gradient) == np.shape(case.inner_lr)
    assert isinstance(got.value, float)
    for name in want._fields:
        error = relative_error(getattr(got, name), getattr(want, name))
        assert error <= TOLERANCE[dtype], name
    # the other ways to ask give the same numbers
    value, gradient = maml.value_and_gradient(theta, *case.data)
    for other in (value, maml.value(theta, *case.data)):
        assert relative_error(other, want.value) <= TOLERANCE[dtype]
    for other in (gradient, maml.gradient(theta, *case.data)):
        assert other.dtype == dtype
        assert relative_error(other, want.gradient) <= TOLERANCE[dtype]


@every_dtype
@every_method
@every_case
def test_adapt_and_predict(seed, pins, method, dtype):
    case = draw_for(method, seed, **pins)
    maml, theta = case.maml(method), case.theta.astype(dtype)
    adapted = maml.adapt(theta, *case.data[:2])
    assert adapted.dtype == dtype
    assert relative_error(adapted, case.adapted) <= TOLERANCE[dtype]
    predicted = maml.predict(theta, *case.data[:2], case.x_new)
    assert predicted.dtype == dtype
    assert relative_error(predicted, case.predicted) <= TOLERANCE[dtype]


@every_method
def test_predict_at_different_numbers_of_rows(method):
    case = draw(0, family="mlp", n_tasks=3, steps=1, form="scalar")
    x_new = [rows[: i + 1] for i, rows in enumerate(case.x_new)]
    predicted = case.maml(method).predict(case.theta, *case.data[:2], x_new)
    assert isinstance(predicted, list)
    for i, (got, want) in enumerate(zip(predicted, case.predicted, strict=True)):
        assert relative_error(got, want[: i + 1]) <= TOLERANCE["float64"]


@every_dtype
@every_method
def test_more_chunks_than_one_piece(method, dtype, monkeypatch):
    """Work that Python cuts into several calls of a kernel, the last one shorter."""
    case = draw_for(method, 2, family="mlp", n_tasks=3, task_mean=False)
    maml, theta = case.maml(method), case.theta.astype(dtype)
    many = [part if part is None else [*part] * 9 for part in case.data]
    monkeypatch.setattr(plan, "PIECE_CHUNKS", 4)
    monkeypatch.setattr(plan, "PIECE_WORK", 1)
    got, want = maml.evaluate(theta, *many), case.expected
    assert relative_error(got.gradient, 9 * want.gradient) <= TOLERANCE[dtype]
    assert relative_error(got.task_values, np.tile(want.task_values, 9)) <= TOLERANCE[dtype]
    assert relative_error(got.inner_lr_gradient, 9 * want.inner_lr_gradient) <= TOLERANCE[dtype]
    adapted = maml.adapt(theta, *many[:2])
    assert relative_error(adapted, np.tile(case.adapted, (9, 1))) <= TOLERANCE[dtype]


@every_dtype
@pytest.mark.parametrize("order", ["exact", "first"])
@pytest.mark.parametrize("own", [True, False])
def test_chunks_of_several_blocks(own, order, dtype, monkeypatch):
    """Blocks that add to the row of their chunk, with own weights of all layers or of none."""
    case = draw(5, family="mlp", n_tasks=3, steps=2, form="step_layer", order=order)
    maml, theta = case.maml("factored"), case.theta.astype(dtype)
    many = [part if part is None else [*part] * 9 for part in case.data]
    monkeypatch.setattr(factored, "own_layers", lambda model, *_: [own] * model.n_layers)
    monkeypatch.setattr(factored, "block_rows_of", lambda *_: 1)
    monkeypatch.setattr(factored, "FACTORED_CHUNKS", 4)
    rows = as_tasks(case.model, *many, theta.dtype)
    found = stepwise.plan_for(maml._problem, theta.dtype, *rows, modes.RATES)
    assert len(found.chunks) - 1 == 4
    assert len(found.blocks) - 1 == found.chunks[-1] > 8
    got, want, share = maml.evaluate(theta, *many), case.expected, 1 if maml.task_mean else 9
    assert relative_error(got.gradient, share * want.gradient) <= TOLERANCE[dtype]
    assert relative_error(got.inner_lr_gradient, share * want.inner_lr_gradient) <= TOLERANCE[dtype]
    assert relative_error(got.task_values, np.tile(want.task_values, 9)) <= TOLERANCE[dtype]


@every_dtype
@every_method
@pytest.mark.parametrize("order", ["exact", "first"])
@pytest.mark.parametrize("own", [True, False, None])
@pytest.mark.parametrize("hidden", [(7, 5), (8, 8), (1, 19)])
def test_scratch_memory_may_hold_anything(hidden, own, order, method, dtype, monkeypatch):
    """With own weights of all layers, of none, and as the plan has it; one layer has no rate."""
    pins = {"hidden": hidden, "n_outputs": 3, "n_inputs": 3, "form": "layer", "steps": 2}
    case = draw_for(method, 3, family="mlp", depth=3, order=order, **pins)
    rates = np.array(case.inner_lr)
    rates[1] = 0
    options = {**case.options, "inner_lr": rates, "method": method}
    maml, theta = fm.MAML(case.model, **options), case.theta.astype(dtype)
    if own is not None:
        monkeypatch.setattr(factored, "own_layers", lambda model, *_: [own] * model.n_layers)

    def compute():
        predicted = maml.predict(theta, *case.data[:2], case.x_new)
        return (*maml.evaluate(theta, *case.data), predicted)

    before = compute()
    empty = np.empty

    def littered(*args, **kwargs):
        array = empty(*args, **kwargs)
        array.fill(np.nan if array.dtype.kind == "f" else 77)
        return array

    def enter(self):
        self.memory.fill(255)  # NaN in both dtypes
        return self.arrays

    monkeypatch.setattr(np, "empty", littered)
    monkeypatch.setattr(workspace.Workspace, "__enter__", enter)
    for got, want in zip(compute(), before, strict=True):
        np.testing.assert_array_equal(got, want)


@every_method
def test_the_function_is_the_method(method):
    case = draw(1, steps=2, form="scalar")
    by_function = fm.meta_gradient(
        case.model, case.theta, *case.data, method=method, **case.options
    )
    np.testing.assert_array_equal(by_function, case.maml(method).gradient(case.theta, *case.data))


@pytest.mark.parametrize("seed", range(10))
def test_auto_is_one_of_the_methods(seed):
    case = draw(seed)
    gradient = case.maml("auto").gradient(case.theta, *case.data)
    assert relative_error(gradient, case.expected.gradient) <= TOLERANCE["float64"]


# ---- a single task, given without an axis of tasks


def without_axis(value):
    return None if value is None else value[0]


@every_dtype
@every_method
@pytest.mark.parametrize("seed", range(6))
def test_a_single_task(seed, method, dtype):
    """The same numbers as a batch of one, without its axis."""
    case = draw_for(method, seed, family="mlp", n_tasks=1)
    maml, theta = case.maml(method), case.theta.astype(dtype)
    single = [without_axis(part) for part in case.data]
    got, want = maml.evaluate(theta, *single), maml.evaluate(theta, *case.data)
    assert got.value == want.value == maml.value(theta, *single)
    assert got.task_values.shape == ()
    assert got.task_values == want.task_values[0]
    np.testing.assert_array_equal(got.gradient, want.gradient)
    np.testing.assert_array_equal(maml.gradient(theta, *single), want.gradient)
    np.testing.assert_array_equal(got.inner_lr_gradient, want.inner_lr_gradient)
    adapted = maml.adapt(theta, *single[:2])
    assert adapted.shape == theta.shape
    np.testing.assert_array_equal(adapted, maml.adapt(theta, *case.data[:2])[0])
    predicted = maml.predict(theta, *single[:2], case.x_new[0])
    assert predicted.shape == (len(case.x_new[0]), *single[1].shape[1:])
    np.testing.assert_array_equal(predicted, maml.predict(theta, *case.data[:2], case.x_new)[0])


def test_one_device_with_one_feature():
    """The shapes that a first user has: five rows of one device are no five tasks."""
    model = fm.MLP([1, 4, 1])
    theta, x = model.init(0), np.linspace(-1, 1, 5)[:, None]
    maml = fm.MAML(model)
    adapted = maml.adapt(theta, x, np.sin(x))
    np.testing.assert_array_equal(adapted, maml.adapt(theta, x[None], np.sin(x)[None])[0])
    assert maml.predict(theta, x, np.sin(x), x[:3]).shape == (3, 1)
    assert maml.predict(theta, x, np.sin(x)[:, 0], x[:3]).shape == (3,)
    assert maml.predict(theta, x.tolist(), np.sin(x)[:, 0].tolist(), [[0.5]]).shape == (1,)
    with pytest.raises(ValueError, match="x_new has 2 tasks, x has 1"):
        maml.predict(theta, x, np.sin(x), [x, x])


def test_predictions_have_the_axes_of_the_targets():
    model = fm.MLP([2, 4, 1])
    x = np.linspace(-1, 1, 24).reshape(3, 4, 2)
    y = x.sum(axis=2)
    maml, theta = fm.MAML(model), model.init(0)
    assert maml.predict(theta, x, y, x[:, :2]).shape == (3, 2)
    assert maml.predict(theta, x, y[..., None], x[:, :2]).shape == (3, 2, 1)
    assert maml.predict(theta, x, y, x[0]).shape == (3, 4)
    ragged = maml.predict(theta, list(x), list(y), [x[0, :1], x[1], x[2]])
    assert [f.shape for f in ragged] == [(1,), (4,), (4,)]


def test_implicit_of_a_single_task():
    model = fm.Linear(1)
    maml = fm.MAML(model, steps=3, order="implicit", proximal=1.0)
    x, y = np.array([[0.5], [1.0]]), np.array([1.0, 2.0])
    got, want = maml.evaluate([0.1, 0.2], x, y), maml.evaluate([0.1, 0.2], x[None], y[None])
    assert got.residuals.shape == ()
    assert got.residuals == want.residuals[0]
    np.testing.assert_array_equal(got.gradient, want.gradient)


# Other inner rates --------------------------------------------------------------------------------

RATES = [0.01, [[0.02], [0.0]], [[0.03, 0.01]], np.linspace(0.0, 0.05, 17)[None], np.array(0.05)]


@every_dtype
@every_method
def test_other_inner_rates(method, dtype):
    """The bits of an objective that is made anew, whatever was computed before."""
    model, rng = fm.MLP([2, 4, 1]), np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 1))
    theta, options = model.init(0, dtype), {"steps": 2, "method": method, "loss": "mse"}
    maml = fm.MAML(model, 0.05, **options)
    for rates in RATES:
        if method == "factored" and np.size(rates) == 17:
            with pytest.raises(ValueError, match='method is "factored", which has no rates per'):
                maml.with_inner_lr(rates)
            continue
        maml, anew = maml.with_inner_lr(rates), fm.MAML(model, rates, **options)
        assert repr(maml) == repr(anew)
        for found, wanted in (
            *zip(maml.evaluate(theta, x, y), anew.evaluate(theta, x, y), strict=True),
            (maml.adapt(theta, x, y), anew.adapt(theta, x, y)),
        ):
            assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()
    with pytest.raises(ValueError, match=r"inner_lr has shape \(5,\); accepted are a scalar"):
        maml.with_inner_lr(np.ones(5))


def test_objectives_that_differ_in_rates_share_plans(monkeypatch):
    plans = []
    plan_of = factored.Factored.plan
    monkeypatch.setattr(
        factored.Factored, "plan", lambda *given: plans.append(given) or plan_of(*given)
    )
    model = fm.MLP([1, 4, 1])
    maml, theta, x, y = fm.MAML(model, 0.05), model.init(0), np.ones((2, 3, 1)), np.ones((2, 3, 1))
    for rates in (0.04, 0.03, [[0.01, 0.02]]):
        maml = maml.with_inner_lr(rates)
        maml.evaluate(theta, x, y)
    assert len(plans) == 1


def test_rates_that_are_written_to_change_no_objective():
    model = fm.MLP([1, 4, 1])
    for rates in (np.full((1, 2), 0.1), np.array(0.1)):
        for maml in (fm.MAML(model, rates), fm.MAML(model).with_inner_lr(rates)):
            rates[...] = 5.0
            np.testing.assert_array_equal(maml.inner_lr, np.full(rates.shape, 0.1))
            rates[...] = 0.1
