"""Models around another one: `fm.Scaled` and `fm.Frozen`, held against models that are the same."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import sympy
from test_checks import error
from test_sum import TOLERANCE, agree, tasks

import fastmaml as fm
from fastmaml.learn import SGD, Adam, train

A, K, T = sympy.symbols("a k t")
DECAY = fm.Formula(A * sympy.exp(-K * T), parameters=[A, K], inputs=[T], positive=[K])
NETWORK = fm.MLP([2, 4, 2])
SCALES = {"x_mean": [1.0, -2.0], "x_scale": [4.0, 0.5], "y_mean": [3.0, 1.0], "y_scale": 8.0}


def scaled(data):
    """The same tasks in the units of the model inside."""
    (x_mean, x_scale, y_mean, y_scale) = (np.array(each) for each in SCALES.values())
    x, y, x_query, y_query = data
    return [
        [(rows - mean) / scale for rows in side]
        for side, mean, scale in (
            (x, x_mean, x_scale), (y, y_mean, y_scale), (x_query, x_mean, x_scale),
            (y_query, y_mean, y_scale),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", ["dense", "explicit"])
def test_a_scaled_model_learns_as_the_one_inside_on_scaled_data(method, dtype):
    """Errors are 8 times as large, so losses are 64 times, and rates 64 times as small."""
    model, theta = fm.Scaled(NETWORK, **SCALES), NETWORK.init(0)
    data = tasks(2, 2)
    inside = fm.MAML(NETWORK, 0.064, 3).evaluate(theta, *scaled(data))
    inputs = [[rows.astype(dtype) for rows in side] for side in data]
    found = fm.MAML(model, 0.001, 3, method=method).evaluate(theta.astype(dtype), *inputs)
    want = [64 * inside.value, 64 * inside.gradient, 64 * inside.task_values]
    agree([found.value, found.gradient, found.task_values], want, dtype)
    f = model.predict(theta.astype(dtype), inputs[0])
    want = [8.0 * rows + SCALES["y_mean"] for rows in NETWORK.predict(theta, scaled(data)[0])]
    agree(f, want, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", ["dense", "explicit"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_frozen_parameter_is_a_constant(steps, method, dtype):
    constant = fm.Formula(A * sympy.exp(-0.75 * T), parameters=[A], inputs=[T])
    theta, data = DECAY.pack({"a": 1.5, "k": 0.75}).astype(dtype), tasks(1, 1, dtype)
    options = {"steps": steps, "inner_momentum": 0.5, "method": method}
    frozen = fm.Frozen(DECAY, "k")
    found = fm.MAML(frozen, 0.01, **options).evaluate(theta, *data)
    want = fm.MAML(constant, 0.01, **options).evaluate(theta[:1], *data)
    agree([found.value, found.gradient[:1]], [want.value, want.gradient], dtype)
    assert found.gradient[1] == 0
    adapted = fm.MAML(frozen, 0.01, **options).adapt(theta, *data[:2])
    assert (adapted[:, 1] == theta[1]).all()


def test_derivatives_of_a_frozen_model():
    """The Hessian and its products have zeros, and are symmetric."""
    mask = np.random.default_rng(0).uniform(size=NETWORK.n_params) < 0.5
    model, theta, (x, y, _, _) = fm.Frozen(NETWORK, mask), NETWORK.init(1), tasks(2, 2)
    hessians = fm.equations.task_hessian(model, theta, x, y)
    whole = fm.equations.task_hessian(NETWORK, theta, x, y)
    whole[:, mask] = 0
    whole[:, :, mask] = 0
    np.testing.assert_allclose(hessians, whole, rtol=1e-12, atol=1e-13)
    v = np.random.default_rng(2).normal(size=model.n_params)
    products = fm.equations.task_hessp(model, theta, v, x, y)
    np.testing.assert_allclose(products, whole @ v, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.01, momentum=0.9)])
def test_training_leaves_a_frozen_part_alone(optimizer):
    model = fm.Frozen(fm.Sum(DECAY, fm.MLP([1, 3, 1])), "formula")
    theta = model.init(0, formula={"a": 1.5, "k": 0.75})
    data = [np.stack([rows] * 3) for rows in (tasks(1, 1)[0][1], tasks(1, 1)[1][1])]
    result = train(fm.MAML(model, 0.01), theta, lambda: data, optimizer, 4)
    np.testing.assert_array_equal(result.theta[:2], theta[:2])
    assert (result.theta[2:] != theta[2:]).all()


def test_models_around_others():
    """A scaled sum with a frozen part, and a frozen one of it, are what they are made of."""
    model = fm.Sum(fm.Scaled(DECAY, x_scale=2.0), fm.Frozen(fm.MLP([1, 3, 1]), "layer 2"))
    outer = fm.Frozen(fm.Scaled(model, y_scale=3.0), ["scaled/k", "frozen/layer 1"])
    theta = outer.init(0, scaled={"a": 1.0, "k": 2.0})
    np.testing.assert_array_equal(outer.mask, [False, True, *[True] * 6, *[False] * 4])
    data, maml = tasks(1, 1), fm.MAML(outer, 0.01, 2)
    gradient = maml.gradient(theta, *data)
    np.testing.assert_array_equal(gradient == 0, [False, *[True] * 11])
    np.testing.assert_allclose(
        gradient, fm.MAML(outer, 0.01, 2, method="explicit").gradient(theta, *data), rtol=1e-11
    )
    for other in (copy.deepcopy(outer), pickle.loads(pickle.dumps(outer))):
        assert other == outer
        assert hash(other) == hash(outer)
        np.testing.assert_array_equal(fm.MAML(other, 0.01, 2).gradient(theta, *data), gradient)
    with fm.threads(1):
        np.testing.assert_array_equal(maml.gradient(theta, *data), gradient)
    assert outer != model
    assert outer.layers() == model.layers()
    np.testing.assert_array_equal(outer.pack(outer.unpack(theta)), theta)


def test_frozen_twice_is_frozen_once():
    model = fm.MLP([1, 2, 3, 1])
    twice = fm.Frozen(fm.Frozen(model, "layer 1"), "layer 3")
    assert twice == fm.Frozen(model, ["layer 1", "layer 3"])
    assert twice.mask.sum() == 8
    assert twice.model == model
    error(
        lambda: fm.Frozen(twice, "layer 2"), ValueError,
        f"frozen has all 17 parameters; accepted are some of them, not all ({twice!r})",
    )  # fmt: skip


def test_what_they_are_called():
    assert repr(fm.Frozen(DECAY, [True, False])) == f"Frozen({DECAY!r}, 'a')"
    network = fm.MLP([1, 2, 3, 1])
    two = fm.Frozen(network, ["layer 1", "layer 3"])
    assert repr(two) == f"Frozen({network!r}, ['layer 1', 'layer 3'])"
    mask = np.arange(network.n_params) < 6
    assert repr(fm.Frozen(network, mask)) == f"Frozen({network!r}, 6 of 17 parameters)"
    assert repr(fm.Scaled(DECAY)) == f"Scaled({DECAY!r})"
    model = fm.Scaled(NETWORK, **SCALES)
    assert repr(model).endswith("x_mean=[1.0, -2.0], x_scale=[4.0, 0.5], "
                                "y_mean=[3.0, 1.0], y_scale=8.0)")  # fmt: skip


ERRORS = {
    "model": (lambda: fm.Scaled("mlp"), TypeError, "model is 'mlp'; accepted are MLP"),
    "shape": (lambda: fm.Scaled(NETWORK, x_mean=[1.0]), ValueError,
              "x_mean has shape (1,); accepted are a number and (2,)"),
    "scale": (lambda: fm.Scaled(NETWORK, y_scale=0), ValueError,
              "y_scale holds 0.0; accepted are numbers above 0"),
    "nan": (lambda: fm.Scaled(NETWORK, y_mean=np.nan), ValueError, "y_mean holds nan"),
    "text": (lambda: fm.Scaled(NETWORK, y_mean="1"), TypeError, "y_mean is text"),
    "name": (lambda: fm.Frozen(NETWORK, "layer"), ValueError,
             "frozen has 'layer'; accepted are 'layer 1', 'layer 2', and what they begin with"),
    "mask": (lambda: fm.Frozen(DECAY, [True]), ValueError,
             "frozen has shape (1,), the model takes (2,)"),
    "numbers": (lambda: fm.Frozen(DECAY, [1, 0]), TypeError, "frozen is [1, 0]; accepted are na"),
    "set": (lambda: fm.Frozen(DECAY, {"a"}), TypeError,
            "frozen is {'a'}; accepted are names, in a list if they are several, and masks of"),
    "texts": (lambda: fm.Frozen(DECAY, np.array(["a"])), TypeError, "frozen is array(['a'], dtype"),
    "nothing": (lambda: fm.Frozen(DECAY, []), ValueError, "frozen has no parameter; accepted"),
    "all": (lambda: fm.Frozen(DECAY, ["a", "k"]), ValueError, "frozen has all 2 parameters; acc"),
    "factored": (lambda: fm.MAML(fm.Frozen(NETWORK, "layer 1"), method="factored"), ValueError,
                 "is for weight layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    error(*ERRORS[case])
