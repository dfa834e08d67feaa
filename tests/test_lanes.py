"""Method lanes: against dense, which other tests hold against the reference, and by itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import sympy
from cases import relative_error
from fastmaml.kernels.methods import modes
from fastmaml.kernels.vectors.emitter import LANES
from formulas import LAWS
from test_checks import error
from test_memory import SLACK, allocated, compiled_only, guard_all, planned

import fastmaml as fm
from fastmaml import workspace
from fastmaml.methods.lanes import LANES as METHOD
from fastmaml.methods.stepwise import plan_for
from fastmaml.tasks import as_tasks

DTYPES = ("float64", "float32")
TOLERANCE = {"float64": 1e-11, "float32": 2e-4}
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def tasks_of(law, counts, query_counts, seed=0):
    """Tasks of so many rows, in numbers that float32 can hold; arrays if they are equal."""
    rng = np.random.default_rng(seed)
    sides = [[], [], [], []]
    for pair in zip(counts, query_counts, strict=True):
        for side, rows in enumerate(pair):
            for i, part in enumerate(law.draw(rng, rows)):
                sides[2 * side + i].append(part.astype(np.float32).astype(float))
    return [np.stack(s) if len({len(a) for a in s}) == 1 else s for s in sides]


def hold(model, theta, data, dtype, tolerance=None, weights=None, **options):
    """Compare all results of lanes with those of dense in float64."""
    tolerance = tolerance or TOLERANCE[dtype]
    weights = weights or {}
    want = fm.MAML(model, method="dense", **options).evaluate(theta, *data, **weights)
    maml = fm.MAML(model, method="lanes", **options)
    at = theta.astype(dtype)
    got = maml.evaluate(at, *data, **weights)
    assert got.gradient.dtype == dtype
    assert abs(got.value - want.value) <= tolerance * np.abs(want.task_values).sum()
    assert relative_error(got.task_values, want.task_values) <= tolerance
    assert relative_error(got.gradient, want.gradient) <= tolerance
    scale = max(np.abs(want.inner_lr_gradient).max(initial=0), 1e-300)
    difference = np.abs(got.inner_lr_gradient - want.inner_lr_gradient).max(initial=0)
    assert difference <= tolerance * scale
    value, gradient = maml.value_and_gradient(at, *data, **weights)
    assert (value, maml.value(at, *data, **weights)) == (got.value, got.value)
    np.testing.assert_array_equal(gradient, got.gradient)
    return got


def theta_of(law):
    return law.model.pack(law.values).astype(np.float32).astype(float)


SHAPES = {
    "full groups": ([5] * 32, [3] * 32),
    "one task": ([20], [20]),
    "a part of a group": ([9] * 19, [20] * 19),
    "ragged": ([1, 4, 20, 7, 7, 2, 9, 30, 3, 3, 5], [2, 2, 6, 1, 8, 3, 3, 3, 4, 9, 1]),
    "ragged support": ([3, 4] * 9, [6] * 18),
}
LOSSES = ("half_sse", "half_mse", "mse", "huber", "pseudo_huber", "log_cosh")
WEIGHTS = {
    "unweighted": (False, False), "support": (True, False), "query": (False, True),
    "both": (True, True),
}  # fmt: skip


@every_dtype
@pytest.mark.parametrize("name", LAWS)
def test_every_law(name, dtype):
    law = LAWS[name]
    for i, (counts, steps) in enumerate(product(SHAPES.values(), (0, 1, 3))):
        data = tasks_of(law, *counts, seed=i)
        hold(law.model, theta_of(law), data, dtype, inner_lr=law.rate, steps=steps)


@every_dtype
@pytest.mark.parametrize("shape", ["a part of a group", "ragged"])
@pytest.mark.parametrize("sides", WEIGHTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_weights(loss, sides, shape, dtype):
    law, rng = LAWS["logistic"], np.random.default_rng(3)
    data = tasks_of(law, *SHAPES[shape])
    weights = {}
    for name, wanted, x in zip(
        ("sample_weight", "sample_weight_query"), WEIGHTS[sides], (data[0], data[2]), strict=True
    ):
        if wanted:
            drawn = [rng.integers(0, 4, len(rows)) / 2 for rows in x]
            for each in drawn:
                each[0] = 1
            weights[name] = drawn
    options = {"inner_lr": 0.02, "steps": 2, "loss": loss, "query_loss": "half_mse"}
    hold(law.model, theta_of(law), data, dtype, weights=weights, **options)
    hold(law.model, theta_of(law), data, dtype, weights=weights, inner_lr=0.02, query_loss=loss)


OPTIONS = {
    "rates of steps": {"inner_lr": np.array([[0.01], [0.004], [0.02]]), "steps": 3},
    "rates of layers": {"inner_lr": np.array([[0.01, 0.0, 0.003, 0.02]]), "steps": 2},
    "rates of both": {"inner_lr": np.full((2, 4), 0.01) * [[1], [2]], "steps": 2},
    "momentum": {"inner_lr": 0.01, "steps": 4, "inner_momentum": 0.6},
    "weights": {"inner_lr": 0.01, "steps": 3, "step_weights": [0.2, 0.0, 0.5, 1.0]},
    "first": {"inner_lr": 0.01, "steps": 3, "order": "first", "inner_momentum": 0.3},
    "mean": {"inner_lr": 0.01, "steps": 2, "task_mean": True},
    "no step": {"inner_lr": 0.01, "steps": 0, "step_weights": [2.0]},
}


@every_dtype
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_options(options, dtype):
    law = LAWS["predation"]  # two outputs
    for shape in ("a part of a group", "ragged"):
        hold(law.model, theta_of(law), tasks_of(law, *SHAPES[shape]), dtype, **options)


def test_support_serves_as_query():
    law = LAWS["arrhenius"]
    x, y, *_ = tasks_of(law, *SHAPES["ragged support"])
    hold(law.model, theta_of(law), (x, y), "float64", inner_lr=law.rate, steps=2)


@every_dtype
@pytest.mark.parametrize("loss", ["logistic", "poisson", fm.Quantile(0.8, 0.3), fm.Huber(0.2)])
def test_other_losses(loss, dtype):
    """Of labels and counts, and with parameters."""
    a, b, x = sympy.symbols("a b x")
    model = fm.Formula([a * sympy.sin(b * x), a - b * x], parameters=[a, b], inputs=[x])
    rng = np.random.default_rng(0)
    data = [
        rng.integers(0, 2, (19, 6, width)) if width == 2 else rng.uniform(-2, 2, (19, 6, 1))
        for width in (1, 2, 1, 2)
    ]
    data[0], data[2] = (part.astype(np.float32).astype(float) for part in (data[0], data[2]))
    hold(model, np.array([1.5, 0.75]), data, dtype, inner_lr=0.1, steps=2, loss=loss)


RESIDUALS = (0.0, 1e-9, 1e-4, 0.3, 0.87, 0.88, 1.0, 5.0, 40.0, 800.0)


@pytest.mark.parametrize(
    "loss", ["huber", "pseudo_huber", "log_cosh", fm.Quantile(0.3, 0.1), "logistic", "poisson"]
)
def test_a_loss_is_what_it_is_elsewhere(loss):
    """Value, slope and curvature of single rows, small and large, on either side."""
    a, x = sympy.symbols("a x")
    model = fm.Formula(a + x, parameters=[a], inputs=[x])
    x = np.array([sign * size for size in RESIDUALS for sign in (1, -1)])[:, None, None]
    x = np.minimum(x, 600.0) if loss == "poisson" else x
    for target in (0.0, 1.0):
        y = np.full(x.shape, target)
        for steps in (0, 1):
            want, got = (
                fm.MAML(model, 0.125, steps, loss=loss, method=method).evaluate([0.0], x, y)
                for method in ("dense", "lanes")
            )
            for one, other in zip(got, want, strict=True):
                np.testing.assert_allclose(one, other, rtol=2e-14, atol=1e-300)
            for i in range(len(x)):
                one, other = (
                    fm.MAML(model, 0.125, steps, loss=loss, method=method).evaluate(
                        [0.0], x[i : i + 1], y[i : i + 1]
                    )
                    for method in ("lanes", "dense")
                )
                np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-13, atol=1e-17)


FUNCTIONS = (
    "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh",
    "atanh", "erf", "sec", "sqrt",
)  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function(name):
    """Of parameters, of inputs, and of both; what is made once and what is kept."""
    a, b, c, x, z = sympy.symbols("a b c x z")
    g = getattr(sympy, name)
    f = g(a * x + b) * c + g(z) * a + g(b) * x + sympy.exp(c * g(x * z))
    model = fm.Formula(f, parameters=[a, b, c], inputs=[x, z])
    rng = np.random.default_rng(1)
    data = [
        rng.uniform(0.1, 0.8, (19, 5, width)).astype(np.float32).astype(float)
        for width in (2, 1, 2, 1)
    ]
    hold(model, np.array([0.5, 0.25, 0.375]), data, "float64", inner_lr=0.002, steps=2)


def test_powers():
    """Of an input to a parameter, of a parameter, and of both; two on one logarithm."""
    a, b, x = sympy.symbols("a b x")
    f = x**a + x**b * sympy.log(x) + b ** (a * x) + (a * x) ** b + x**3 + (x + b) ** -2
    model = fm.Formula(f, parameters=[a, b], inputs=[x])
    rng = np.random.default_rng(2)
    data = [rng.uniform(0.2, 1.5, (11, 4, 1)) for _ in range(4)]
    hold(model, np.array([0.75, 1.25]), data, "float64", inner_lr=0.005, steps=3)


def test_outputs_without_parameters_or_inputs():
    a, b, x = sympy.symbols("a b x")
    f = [sympy.exp(a), x, sympy.Integer(3), b * 2 * sympy.pi + x]
    model = fm.Formula(f, parameters=[a, b], inputs=["unused", x])
    rng = np.random.default_rng(3)
    data = [rng.normal(size=(10, 3, width)) for width in (2, 4, 2, 4)]
    hold(model, np.array([0.5, 0.25]), data, "float64", inner_lr=0.01, steps=2)


# What holds whatever the numbers are -------------------------------------------------------------


def take(data, order):
    return [[part[i] for i in order] for part in data]


@every_dtype
@pytest.mark.parametrize("shape", ["a part of a group", "ragged"])
def test_a_task_has_the_same_bits_in_every_lane(shape, dtype):
    law = LAWS["oscillation"]
    data, theta = tasks_of(law, *SHAPES[shape]), theta_of(law).astype(dtype)
    maml = fm.MAML(law.model, law.rate, 2, method="lanes")
    values = maml.evaluate(theta, *data).task_values
    n = len(values)
    for order in (np.random.default_rng(0).permutation(n), np.arange(n)[::-1], [0, *range(n)]):
        moved = maml.evaluate(theta, *take(data, order)).task_values
        np.testing.assert_array_equal(moved, values[order])
    alone = [maml.value(theta, *take(data, [i])) for i in range(n)]
    np.testing.assert_array_equal(alone, values)


@compiled_only
@every_dtype
def test_threads_and_pieces_give_the_same_bits(dtype):
    law = LAWS["pendulum"]
    data, theta = tasks_of(law, [20] * 1500, [20] * 1500), theta_of(law).astype(dtype)
    results = []
    for limit in (None, 60_000, 1):
        maml = fm.MAML(law.model, law.rate, 2, method="lanes", max_memory=limit)
        for n_threads in (1, 2) if limit is None else (1,):
            with fm.threads(n_threads):
                results.append([np.asarray(part).tobytes() for part in maml.evaluate(theta, *data)])
    assert all(each == results[0] for each in results)
    support, query = as_tasks(law.model, *data, theta.dtype)
    plan = plan_for(maml._problem, theta.dtype, support, query, modes.RATES)
    assert plan.split()[:2] == (1, 1)
    assert len(plan.chunks) > 5


@every_dtype
def test_scratch_memory_may_hold_anything(dtype, monkeypatch):
    law = LAWS["arrhenius"]
    data, theta = tasks_of(law, *SHAPES["ragged"]), theta_of(law).astype(dtype)
    options = {"steps": 2, "inner_momentum": 0.5, "step_weights": [0.5, 0, 1]}
    maml = fm.MAML(law.model, law.rate, method="lanes", **options)
    before = maml.evaluate(theta, *data)

    def enter(self):
        self.memory.fill(255)  # NaN in both dtypes
        return self.arrays

    monkeypatch.setattr(workspace.Workspace, "__enter__", enter)
    for got, want in zip(maml.evaluate(theta, *data), before, strict=True):
        np.testing.assert_array_equal(got, want)


@compiled_only
@every_dtype
def test_the_kernel_stays_within_its_memory(dtype, monkeypatch):
    """Bytes before and after each array of a call stay as they are."""
    guard_all(monkeypatch)
    for name in ("arrhenius", "predation"):
        law = LAWS[name]
        for shape, steps in product(SHAPES.values(), (0, 1, 3)):
            maml = fm.MAML(law.model, law.rate, steps, method="lanes")
            maml.evaluate(theta_of(law).astype(dtype), *tasks_of(law, *shape))


@compiled_only
def test_allocations_agree_with_the_formula():
    law, n_tasks = LAWS["oscillation"], 300
    data, theta = tasks_of(law, [60] * n_tasks, [20] * n_tasks), theta_of(law)
    maml = fm.MAML(law.model, law.rate, 9, method="lanes")
    _, _, formula = planned(maml, "evaluate", [theta, *data])
    peak, results = allocated(maml.evaluate, theta, *data)
    assert formula > 3 * SLACK
    assert 0.98 * formula < peak < 1.03 * (formula + results + 8 * n_tasks) + SLACK


def test_what_diverged_is_what_dense_says():
    """A task outside of the domain, among others of its group; and float32 that overflows."""
    a, x = sympy.symbols("a x")
    model = fm.Formula([sympy.log(a * x), sympy.sqrt(a) * x], parameters=[a], inputs=[x])
    rows, y = np.ones((11, 4, 1)), np.zeros((11, 4, 2))
    y[1] = -9.0
    want, got = (
        fm.MAML(model, 0.1, 2, method=method).evaluate([1.0], rows, y)
        for method in ("dense", "lanes")
    )
    assert np.isnan(got.task_values).sum() == 1
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)
    line = fm.Formula(a * x, parameters=[a], inputs=[x])
    theta = np.ones(1, np.float32)
    x, y = np.full((2, 3, 1), 1e15), np.zeros((2, 3))
    far = fm.MAML(line, 1e-32, method="lanes").evaluate(theta, x, y)
    assert np.isfinite(far.gradient).all()
    assert np.isfinite(far.task_values).all()


# Who takes it ------------------------------------------------------------------------------------


@every_dtype
def test_auto_takes_it_unless_groups_are_wasteful(dtype):
    law, lanes = LAWS["logistic"], LANES[np.dtype(dtype)]

    def method_of(counts, query_counts, **options):
        data = tasks_of(law, counts, query_counts)
        maml = fm.MAML(law.model, law.rate, **options)
        theta = theta_of(law).astype(dtype)
        support, query = as_tasks(law.model, *data, theta.dtype)
        return plan_for(maml._problem, theta.dtype, support, query, modes.GRADIENT).method

    assert method_of([5] * 2 * lanes, [5] * 2 * lanes) is METHOD
    assert method_of([5], [5]) is not METHOD
    assert method_of([200] + [2] * (lanes - 1), [1] * lanes) is not METHOD
    assert method_of([5] * lanes, [5] * lanes, loss="huber") is METHOD


def test_errors():
    a, b, x = sympy.symbols("a b x")
    model = fm.Formula([a * x, b * x], parameters=[a, b], inputs=[x])
    accepted = 'accepted are "dense", "explicit" and "auto"'
    error(
        lambda: fm.MAML(fm.Linear(1), method="lanes"), ValueError,
        'method is "lanes", which is for formulas and compiled functions (model is Linear(1, '
        f"n_outputs=1, intercept=True)); {accepted}",
    )  # fmt: skip
    for name in ("loss", "query_loss"):
        error(
            lambda name=name: fm.MAML(model, method="lanes", **{name: "softmax"}), ValueError,
            f'method is "lanes", which is for losses of each output by itself ({name} is ',
        )  # fmt: skip
    error(
        lambda: fm.MAML(model, method="lanes", proximal=1.0), ValueError, "proximal is 1.0, order"
    )


def test_warmup_compiles_the_kernel():
    """On a table without passes."""
    fm.warmup(methods=["lanes"], dtypes=["float64"])
