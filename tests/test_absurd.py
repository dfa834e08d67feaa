"""Absurd numbers and arguments: the same answer from all methods, or an error that names it."""

import itertools
import tracemalloc

import numpy as np
import pytest
from cases import DTYPES, METHODS
from fastmaml.kernels.methods import modes
from test_checks import error

import fastmaml as fm
from fastmaml import checks, learn
from fastmaml.datasets import Pendulum, Sinusoid
from fastmaml.methods import stepwise

MODELS = (
    fm.MLP([1, 5, 1]),
    fm.MLP([3, 9, 2], "relu"),
    fm.MLP([2, 17, 4, 1], "identity"),
    fm.MLP([2, 6, 1], "softplus"),
    fm.Linear(3),
)
MODEL = MODELS[0]
THETA = MODEL.init(0)
X, Y = np.ones((2, 3, 1)), np.ones((2, 3, 1))
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def batch(model, dtype, x_scale, y_scale, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(2, model.n_inputs), (2, model.n_outputs), (3, model.n_inputs), (3, model.n_outputs)]
    scales = (x_scale, y_scale) * 2
    return [
        (rng.normal(size=(3, *s)) * scale).astype(dtype)
        for s, scale in zip(sizes, scales, strict=True)
    ]


def of_all_methods(model, theta, data, **options):
    """What evaluate, value and gradient give, by each method."""
    for ask in ("evaluate", "value", "gradient"):
        found = {
            name: getattr(fm.MAML(model, method=name, **options), ask)(theta, *data)
            for name in METHODS
        }
        yield {
            name: [np.asarray(part) for part in (result if ask == "evaluate" else [result])]
            for name, result in found.items()
        }


# ---- overflow


CASES = {  # scales of theta, x and y; the rate; which of them
    "inputs, tiny rate": (1.0, 1e19, 1.0, 1e-40, "float32"),
    "inputs, small rate and theta": (1e-19, 1e19, 1.0, 1e-38, "float32"),
    "targets, no rate": (1.0, 1.0, 1e20, 0.0, "float32"),
    "inputs, double": (1.0, 1e150, 1.0, 1e-300, "float64"),
    "inputs, double, no rate": (1.0, 1e155, 1.0, 0.0, "float64"),
    "targets, double, no rate": (1.0, 1.0, 1e150, 0.0, "float64"),
    "everything": (1e30, 1e30, 1e30, 1.0, "float32"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_large_numbers_give_the_same_by_all_methods(model, case):
    scale, x_scale, y_scale, rate, dtype = CASES[case]
    theta = (model.init(0) * scale).astype(dtype)
    data = batch(model, dtype, x_scale, y_scale)
    for found in of_all_methods(model, theta, data, inner_lr=rate):
        for name in ("factored", "explicit"):
            for got, want in zip(found[name], found["dense"], strict=True):
                np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
                tolerance = TOLERANCE[dtype] * np.abs(want[np.isfinite(want)]).max(initial=0)
                np.testing.assert_allclose(got, want, TOLERANCE[dtype], tolerance)


@pytest.mark.parametrize("seed", range(150))
def test_any_scale_is_finite_by_all_methods_or_by_none(seed):
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 2]
    most = 38 if dtype == "float32" else 300
    model = MODELS[rng.integers(len(MODELS))]
    scales = [10.0 ** rng.uniform(-most, most) if rng.random() < 0.5 else 1.0 for _ in range(3)]
    with np.errstate(over="ignore"):
        theta = (model.init(rng) * scales[0]).astype(dtype)
        data = batch(model, dtype, *scales[1:], seed)
    if not all(np.isfinite(part).all() for part in (theta, *data)):
        pytest.skip("the data are not finite")
    options = {
        "inner_lr": (0.0, 0.01, 10.0 ** rng.uniform(-38, 38))[rng.integers(3)],
        "steps": int(rng.integers(4)),
        "order": ("exact", "first")[rng.integers(2)],
        "loss": ("mse", "half_sse")[rng.integers(2)],
    }
    with np.errstate(all="ignore"):  # of a sum of losses
        for found in of_all_methods(model, theta, data, **options):
            finite = {name: [np.isfinite(p).all() for p in parts] for name, parts in found.items()}
            assert finite["factored"] == finite["dense"]
            assert finite["explicit"] == finite["dense"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["scalar", "parameter"])
def test_what_diverges_is_the_same_bits_by_all_methods(form, dtype):
    model = MODELS[1]
    theta, data = model.init(0, dtype), batch(model, dtype, 1e3, 1e3)
    rate = 1e30 if form == "scalar" else np.full(model.n_params, 1e30)
    names = [name for name, forms in METHODS.items() if form in forms]
    results = [
        fm.MAML(model, rate, 9, method=name).evaluate(theta, *data) for name in ("dense", *names)
    ]
    assert not np.isfinite(results[0].gradient).any()
    for result in results[1:]:
        for got, want in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, want)


def test_the_copies_in_float64_come_in_runs(monkeypatch):
    """A batch that overflows in float32, worked a task at a time, gives the sum of its tasks."""
    model, dtype = MODELS[1], "float32"
    theta = model.init(0, dtype) * np.float32(1e-19)
    data = batch(model, dtype, 1e19, 1.0)
    maml = fm.MAML(model, 1e-38, method="factored")
    whole = maml.evaluate(theta, *data)
    assert np.isfinite(whole.gradient).all()
    monkeypatch.setattr(stepwise, "ANEW_NUMBERS", 1)
    asked = []
    solve = stepwise._solve
    monkeypatch.setattr(stepwise, "_solve", lambda *a: asked.append(a[1].dtype) or solve(*a))
    for got, want in zip(maml.evaluate(theta, *data), whole, strict=True):
        np.testing.assert_allclose(got, want, 1e-6)
    assert asked == ["f4", "f8", "f8", "f8"]


def test_an_ordinary_result_is_computed_once(monkeypatch):
    asked = []
    solve = stepwise._solve
    monkeypatch.setattr(stepwise, "_solve", lambda *a: asked.append(a[4]) or solve(*a))
    fm.MAML(MODEL).evaluate(THETA, X, Y)
    assert asked == [modes.RATES]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", ["large", "small"])
def test_hessp_along_any_length(scale, dtype):
    length = {
        "float32": {"large": 1e25, "small": 1e-30},
        "float64": {"large": 1e200, "small": 1e-200},
    }
    maml, v = fm.MAML(MODEL), np.ones(MODEL.n_params, dtype)
    theta = THETA.astype(dtype)
    factor = np.array(length[dtype][scale], dtype)
    want = maml.hessp(theta, v, X, Y)
    np.testing.assert_allclose(maml.hessp(theta, factor * v, X, Y) / factor, want, 2e-2, 2e-2)


# ---- arguments


class Mute:
    """Neither an array nor a text."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array")

    def __repr__(self):
        raise RuntimeError("no text")


def _deep():
    nested = 1.0
    for _ in range(5000):
        nested = [nested]
    return nested


def _endless():
    nested = []
    nested.append(nested)
    return nested


STRANGE = {
    "deep": _deep(),
    "endless": _endless(),
    "both": [1.0, [[_deep()]]],
    "mute": Mute(),
    "digits": 10**5000,
    "negative digits": -(10**5000),
    "long text": "x" * 100_000,
}
CALLS = {
    "inner_lr": lambda value: fm.MAML(MODEL, value),
    "steps": lambda value: fm.MAML(MODEL, steps=value),
    "step_weights": lambda value: fm.MAML(MODEL, step_weights=value),
    "order": lambda value: fm.MAML(MODEL, order=value),
    "task_mean": lambda value: fm.MAML(MODEL, task_mean=value),
    "inner_momentum": lambda value: fm.MAML(MODEL, inner_momentum=value),
    "proximal": lambda value: fm.MAML(MODEL, order="implicit", proximal=value),
    "cg_rtol": lambda value: fm.MAML(MODEL, cg_rtol=value),
    "model": lambda value: fm.MAML(value),
    "theta": lambda value: fm.MAML(MODEL).gradient(value, X, Y),
    "x": lambda value: fm.MAML(MODEL).gradient(THETA, value, Y),
    "y": lambda value: fm.MAML(MODEL).gradient(THETA, X, value),
    "x_query": lambda value: fm.MAML(MODEL).gradient(THETA, X, Y, value, Y),
    "x_new": lambda value: fm.MAML(MODEL).predict(THETA, X, Y, value),
    "out": lambda value: fm.MAML(MODEL).gradient(THETA, X, Y, out=value),
    "v": lambda value: fm.MAML(MODEL).hessp(THETA, value, X, Y),
    "alpha": lambda value: fm.equations.adapted_parameters(MODEL, THETA, X, Y, inner_lr=value),
    "outer_lr": lambda value: fm.equations.meta_update(THETA, THETA, value),
    "layer_sizes": fm.MLP,
    "layer_sizes[1]": lambda value: fm.MLP([1, value, 1]),
    "activation": lambda value: fm.MLP([1, 1], value),
    "n_inputs": fm.Linear,
    "rng": lambda value: MODEL.init("x" if value == 10**5000 else value),  # a seed may be large
    "dtype": lambda value: MODEL.init(0, value),
    "n_tasks": lambda value: Sinusoid().sample(value, 2, 2, 0),
    "amplitude_range": lambda value: Sinusoid(amplitude_range=value),
    "learning_rate": learn.Adam,
    "optimizer": lambda value: learn.train(fm.MAML(MODEL), THETA, lambda: (X, Y), value, 1),
}
NAMES = {"alpha": "inner_lr"}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("call", CALLS)
def test_strange_arguments_are_named(call, strange):
    with pytest.raises((TypeError, ValueError), match=r"^.") as caught:
        CALLS[call](STRANGE[strange])
    text = str(caught.value)
    assert text.startswith(NAMES.get(call, call)), text
    assert len(text) < 500


NUMBERS = {
    "inner_lr": lambda value: fm.MAML(MODEL, value),
    "inner_lr ": lambda value: fm.MAML(MODEL, [[0.1, value]]),
    "proximal": lambda value: fm.MAML(MODEL, order="implicit", proximal=value),
    "step_weights": lambda value: fm.MAML(MODEL, step_weights=[0.0, value]),
    "cg_rtol": lambda value: fm.MAML(MODEL, cg_rtol=value),
    "learning_rate": learn.SGD,
    "epsilon": lambda value: learn.Adam(0.1, epsilon=value),
    "outer_lr": lambda value: fm.equations.meta_update(THETA, THETA, value),
    "time_step": lambda value: Pendulum(time_step=value),
    "amplitude_range": lambda value: Sinusoid(amplitude_range=(0, value)),
    "clip_norm": lambda value: learn.train(
        fm.MAML(MODEL), THETA, lambda: (X, Y), learn.SGD(0.1), 1, clip_norm=value
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_float32_cannot_hold(name):
    error(lambda: NUMBERS[name](1e308), ValueError, name.strip(), "1e+308", "up to 3.4e+38")
    NUMBERS[name](3e38 if name != "clip_norm" else 1e38)


def test_counts_beyond_reason():
    most = "integers of at least 0 and at most 1000000"
    error(lambda: fm.MAML(MODEL, steps=10**30), ValueError, f"steps is {10**30}; ", most)
    error(lambda: fm.MAML(MODEL, steps=1_000_001), ValueError, "steps is 1000001; ", most)
    error(lambda: fm.MLP([1, 10**30, 1]), ValueError, "layer_sizes[1] is 1000", "2147483647")
    error(lambda: fm.Linear(2**31), ValueError, "n_inputs is 2147483648", "at most 2147483647")
    error(lambda: fm.MLP(itertools.repeat(3)), ValueError, "layer_sizes has more than 1001 sizes")
    assert fm.MLP([3] * 1001).n_layers == 1000
    for name in ("n_tasks", "n_support", "n_query"):
        sizes = {"n_tasks": 1, "n_support": 1, "n_query": 1, name: 10**30}
        error(lambda sizes=sizes: Sinusoid().sample(**sizes), ValueError, f"{name} is 1000")
    for name in ("max_memory", "cg_maxiter"):
        fm.MAML(MODEL, **{name: 2**63 - 1}).gradient(THETA, X, Y)
        error(lambda name=name: fm.MAML(MODEL, **{name: 10**30}), ValueError, f"{name} is 1000")


def test_memory_that_the_machine_does_not_have():
    large = fm.MLP([2**31 - 1, 2**31 - 1])
    tracemalloc.start()
    error(lambda: large.init(0), MemoryError, "theta of layer_sizes [2147483647, ", "GiB")
    texts = ("n_tasks 1000000, n_support 1000000 and n_query 0", "would take 1.49e+04 GiB")
    error(lambda: Sinusoid().sample(10**6, 10**6, 0), MemoryError, *texts)
    model = fm.MLP([1, 1000, 1000, 1])
    theta = np.zeros(model.n_params)
    for name, call in {
        "dense": fm.MAML(model, steps=10**6).adapt,
        "factored": fm.MAML(model, steps=10**6, method="factored").gradient,
        "explicit": fm.MAML(model, method="explicit").gradient,
    }.items():
        texts = (f"method {name} with steps 1", "MLP([1, 1000, 1000, 1]", "3 rows of a task", "GiB")
        error(lambda call=call: call(theta, X, Y), MemoryError, *texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 28


def test_a_schedule_that_overflows():
    error(
        lambda: learn.Step(0.1, 1, 1e30)(300), OverflowError, "factor is 1e+30: the rate after 300"
    )


def test_depth_of_lists():
    nested = np.ones((1,) * 32).tolist()
    assert checks.real_array("x", nested).shape == (1,) * 32
    for _ in range(33):
        nested = [nested]
    error(lambda: checks.real_array("x", nested), ValueError, "x is nested more than 64 deep")
