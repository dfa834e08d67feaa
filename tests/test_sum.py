"""Models that are made of others: `fm.Sum`, held against one model that is the same function."""

from __future__ import annotations

import copy
import pickle

import numba
import numpy as np
import pytest
import sympy
from formulas import LAWS
from test_checks import error

import fastmaml as fm

A, K, W, C, T = sympy.symbols("a k w c t")
FIRST = fm.Formula(A * sympy.exp(-K * T), parameters=[A, K], inputs=[T], positive=[K])
SECOND = fm.Formula(sympy.sin(W * T) + C, parameters=[W, C], inputs=[T])
WHOLE = fm.Formula(
    A * sympy.exp(-K * T) + sympy.sin(W * T) + C,
    parameters=[A, K, W, C], inputs=[T], positive=[K],
)  # fmt: skip
FORMULAS = fm.Sum(FIRST, SECOND)
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}


@numba.njit
def line(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] * x[j, 0]


COMPILED = fm.Custom(1, 1, 1, forward=line)


def tasks(n_inputs, n_outputs, dtype="float64"):
    rng = np.random.default_rng(0)
    counts = ((1, 3), (20, 2), (70, 5), (3, 64))
    return [
        [rng.uniform(0, 2, (count[side], width)).astype(dtype) for count in counts]
        for side in (0, 1)
        for width in (n_inputs, n_outputs)
    ]


def agree(found, want, dtype):
    for one, other in zip(found, want, strict=True):
        atol = TOLERANCE[dtype] * np.abs(other).max(initial=0)
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", ["dense", "explicit"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_sum_of_formulas_is_the_formula_of_the_sum(steps, method, dtype):
    theta, data = WHOLE.pack({A: 1.2, K: 0.6, W: 1.5, C: 0.1}).astype(dtype), tasks(1, 1, dtype)
    rates = 0.01 * np.linspace(0.5, 1, 4 * steps).reshape(steps, 4)
    options = {"steps": steps, "method": method, "inner_momentum": 0.3}
    options["step_weights"] = np.linspace(1, 2, steps + 1)
    agree(
        fm.MAML(FORMULAS, rates, **options).evaluate(theta, *data),
        fm.MAML(WHOLE, rates, **options).evaluate(theta, *data),
        dtype,
    )
    maml, whole = fm.MAML(FORMULAS, rates, **options), fm.MAML(WHOLE, rates, **options)
    agree(maml.adapt(theta, *data[:2]), whole.adapt(theta, *data[:2]), dtype)
    agree(maml.predict(theta, *data[:3]), whole.predict(theta, *data[:3]), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", ["dense", "explicit"])
def test_a_sum_of_networks_is_one_with_all_their_units(method, dtype):
    """Their last biases are one bias, which then moves as far as both together."""
    parts, whole = (fm.MLP([2, 3, 2]), fm.MLP([2, 4, 2])), fm.MLP([2, 7, 2])
    model, rate = fm.Sum(*parts), 0.05
    theta = model.init(0).astype(dtype)
    (one, last), (other, final) = model.unpack(theta).values()
    one, other = (one, last), (other, final)

    def joined(first, second):
        (w, b), (v, c) = first
        (x, d), (y, e) = second
        return whole.pack([
            (np.concatenate([w, x]), np.concatenate([b, d])), (np.concatenate([v, y], 1), c + e)
        ])  # fmt: skip

    rates = np.full((1, whole.n_params), rate)
    rates[0, -2:] *= 2
    data = tasks(2, 2, dtype)
    found = fm.MAML(model, rate, 3, method=method).evaluate(theta, *data)
    want = fm.MAML(whole, rates, 3, method="dense").evaluate(joined(one, other), *data)
    agree([found.value, found.task_values], [want.value, want.task_values], dtype)
    g = [model.unpack(found.gradient)[name] for name in model.names]
    both = joined(*g)
    both[-2:] /= 2  # each has the gradient of the one
    agree([both], [want.gradient], dtype)


def test_a_grey_box():
    """A formula and a network, against differences of the meta-objective; and its copies."""
    law = LAWS["pendulum"]
    model = fm.Sum(law.model, fm.MLP([3, 5, 1]), names=["physics", "rest"])
    theta, data = model.init(0, physics=law.values), tasks(3, 1)
    np.testing.assert_array_equal(theta[:3], law.model.pack(law.values))
    np.testing.assert_array_equal(theta, model.pack(model.unpack(theta)))
    direction = np.random.default_rng(1).normal(size=model.n_params)
    for method in ("dense", "explicit"):
        maml = fm.MAML(model, 0.002, 2, method=method)
        h = 1e-5 * direction
        difference = (maml.value(theta + h, *data) - maml.value(theta - h, *data)) / 2e-5
        gradient = maml.gradient(theta, *data)
        np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-7)
        for other in (copy.deepcopy(maml), pickle.loads(pickle.dumps(maml))):
            np.testing.assert_array_equal(other.gradient(theta, *data), gradient)
        with fm.threads(1):
            np.testing.assert_array_equal(maml.gradient(theta, *data), gradient)


def test_sums_of_sums():
    model = fm.Sum(FORMULAS, fm.Linear(1))
    theta = model.init(0, sum={"formula": {"a": 1.0, "k": 2.0}}, linear=[0.5, 0.25])
    x = np.array([[0.5], [1.5]])
    want = FORMULAS.predict(theta[:4], x) + 0.5 * x + 0.25
    np.testing.assert_allclose(model.predict(theta, x), want, rtol=1e-15)
    assert list(model.layers()) == [
        "sum/formula/a", "sum/formula/k", "sum/formula 2/w", "sum/formula 2/c", "linear/layer 1",
    ]  # fmt: skip
    data = tasks(1, 1)
    found = [
        fm.MAML(model, 0.01, 2, method=method).gradient(theta, *data)
        for method in ("dense", "explicit")
    ]
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_a_sum_is_what_it_is_made_of():
    same = fm.Sum(FIRST, SECOND, names=["formula", "formula 2"])
    assert same == FORMULAS
    assert hash(same) == hash(FORMULAS)
    assert same != fm.Sum(SECOND, FIRST)
    assert same != fm.Sum(FIRST, SECOND, names=["a", "b"])
    assert same != FIRST
    assert pickle.loads(pickle.dumps(same)) == same
    assert repr(same) == f"Sum({FIRST!r}, {SECOND!r})"
    assert repr(fm.Sum(FIRST, SECOND, names=["a", "b"])).endswith(", names=['a', 'b'])")
    assert (same.n_params, same.n_inputs, same.n_outputs, same.n_layers) == (4, 1, 1, 4)
    assert same.unpack(same.init(0)).keys() == {"formula", "formula 2"}
    theta = same.pack({"formula": [[1.0, 2.0], [3.0, 4.0]], "formula 2": [5.0, 6.0]})
    np.testing.assert_array_equal(theta, [[1, 2, 5, 6], [3, 4, 5, 6]])
    assert same.init(0, "float32").dtype == np.float32


def test_parts_around_sums_and_of_compiled_functions():
    """A part around a sum takes its names, and one that cannot unpack has flat parameters."""
    inner = fm.Sum(FIRST, SECOND, names=["self", "b"])
    model = fm.Sum(fm.Frozen(fm.Scaled(inner, y_scale=2.0), "b"), fm.Scaled(COMPILED))
    theta = model.init(0, frozen={"self": {"a": 1.0, "k": 2.0}}, scaled=[5.0])
    np.testing.assert_array_equal(theta[[0, 1, 4]], [1.0, np.log(2.0), 5.0])
    parts = model.unpack(theta)
    assert parts["scaled"].tolist() == [5.0]
    assert parts["frozen"]["self"]["k"] == pytest.approx(2.0)
    np.testing.assert_allclose(model.pack(parts), theta, rtol=1e-15)
    error(lambda: fm.Sum(COMPILED, FIRST).pack({"custom": {"a": 1}, "formula": [1, 1]}), TypeError,
          "parts['custom'] has dtype object")  # fmt: skip


GREY = fm.Sum(FIRST, fm.MLP([1, 2, 1]))
ERRORS = {
    "one": (lambda: fm.Sum(FIRST), ValueError, "parts has 1 models; accepted are two or more"),
    "no model": (lambda: fm.Sum(FIRST, "mlp"), TypeError, "model is 'mlp'; accepted are MLP"),
    "inputs": (lambda: fm.Sum(FIRST, fm.MLP([2, 1])), ValueError,
               "parts[1] has 2 inputs, parts[0] 1; they must be equal (MLP([2, 1]"),
    "outputs": (lambda: fm.Sum(FIRST, fm.MLP([1, 2])), ValueError, "parts[1] has 2 outputs, par"),
    "text": (lambda: fm.Sum(FIRST, SECOND, names="ab"), TypeError, "names is 'ab'; accepted"),
    "entry": (lambda: fm.Sum(FIRST, SECOND, names=["a", 2]), TypeError, "names[1] is 2; accept"),
    "twice": (lambda: fm.Sum(FIRST, SECOND, names=["a", "a"]), ValueError,
              "names is ('a', 'a'); accepted are 2 that differ, one for each part"),
    "slash": (lambda: fm.Sum(FIRST, SECOND, names=["a/b", "a"]), ValueError,
              "names[0] is 'a/b'; accepted are texts without a '/', which parts the names of"),
    "argument": (lambda: fm.Sum(FIRST, SECOND, names=["a", "rng"]), ValueError,
                 "names[1] is 'rng'; accepted are texts without a '/', which parts the names of "
                 "layers, and neither 'rng' nor 'dtype', which init has"),
    "few": (lambda: fm.Sum(FIRST, SECOND, names=["a"]), ValueError, "names is ('a',); accepted"),
    "unknown": (lambda: GREY.init(0, net=[1.0]), ValueError,
                "parts has 'net'; accepted are formula, mlp"),
    "size": (lambda: GREY.init(0, mlp=[1.0]), ValueError, "parts['mlp'] has shape (1,), the mod"),
    "values": (lambda: GREY.init(0, mlp={"a": 1.0}), TypeError,
               "parts['mlp'] is {'a': 1.0}; accepted are parameters (7,) (MLP("),
    "formula": (lambda: GREY.init(0, formula={"k": "1"}), TypeError, "values['k'] is text"),
    "no dict": (lambda: GREY.pack([1.0]), TypeError, "parts is [1.0]; accepted are dicts"),
    "missing": (lambda: GREY.pack({"mlp": np.zeros(7)}), ValueError,
                "parts lacks formula; accepted are all of formula, mlp"),
    "length": (lambda: GREY.pack({"mlp": np.zeros(6), "formula": [1.0, 1.0]}), ValueError,
               "parts['mlp'] has shape (6,), the part takes (..., 7)"),
    "shapes": (lambda: GREY.pack({"mlp": np.zeros((2, 7)), "formula": np.ones((3, 2))}), ValueError,
               "parts has shapes that do not go together"),
    "theta": (lambda: GREY.unpack(np.zeros(3)), ValueError, "theta has shape (3,), the model tak"),
    "factored": (lambda: fm.MAML(GREY, method="factored"), ValueError, "is for weight layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    error(*ERRORS[case])
