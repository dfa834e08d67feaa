"""Compiled functions with a task in each lane: what they may have, and what is left to dense."""

from __future__ import annotations

import math

import custom_models
import numba
import numpy as np
import pytest
from fastmaml.kernels.methods import modes
from numba import njit
from test_checks import error
from test_lanes import DTYPES, SHAPES, hold

import fastmaml as fm
from fastmaml.methods.lanes import LANES as METHOD
from fastmaml.methods.stepwise import plan_for
from fastmaml.tasks import as_tasks

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="it is for compiled code")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

THREE = fm.Custom(9, 2, 3, **custom_models.FUNCTIONS)
THETA = np.array([0.5, -0.25, 1.0, 0.75, -0.5, 0.25, 0.5, -1.0, 0.125])


def batch(shape, n_inputs=2, n_outputs=3):
    rng = np.random.default_rng(0)
    sides = [[], [], [], []]
    for counts in zip(*SHAPES[shape], strict=True):
        for side, rows in enumerate(counts):
            for i, width in enumerate((n_inputs, n_outputs)):
                part = rng.uniform(0.2, 1.2, (rows, width))
                sides[2 * side + i].append(part.astype(np.float32).astype(float))
    return [np.stack(s) if len({len(a) for a in s}) == 1 else s for s in sides]


@every_dtype
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", ["half_sse", "mse", "pseudo_huber", "logistic"])
def test_meta_gradient(loss, shape, dtype):
    data = batch(shape)
    if loss == "logistic":
        data[1], data[3] = ([np.round(rows / 1.2) for rows in part] for part in (data[1], data[3]))
    for steps in (0, 1, 3):
        hold(THREE, THETA, data, dtype, inner_lr=0.02, steps=steps, loss=loss)
    options = {"inner_momentum": 0.5, "step_weights": [0.5, 0, 1.0]}
    hold(THREE, THETA, data, dtype, inner_lr=0.02, steps=2, loss=loss, **options)
    weights = {"sample_weight": [np.linspace(0.5, 2, len(rows)) for rows in data[0]]}
    hold(THREE, THETA, data, dtype, weights=weights, inner_lr=0.02, steps=2, loss=loss)


def functions_of(expression, head=""):
    """Four functions that compute the same expression of t, u, x: no derivatives, but no less."""
    texts = {
        "forward": ("theta, x, f", "f[j, 0] = {}"),
        "vjp": ("theta, x, delta, g", "g[0] += delta[j, 0] * {}; g[1] -= {}"),
        "jvp": ("theta, x, v, rf", "rf[j, 0] = v[0] * {}"),
        "hvp": ("theta, x, delta, v, h", "h[1] += delta[j, 0] * v[1] * {}"),
    }
    made = {}
    for name, (arguments, text) in texts.items():
        lines = [
            f"def {name}({arguments}):", "    t, u = theta[0], theta[1]",
            "    for j in range(len(x)):", "        y = x[j, 0]", f"        {head or 'pass'}",
            f"        {text.replace('{}', f'({expression})')}",
        ]  # fmt: skip
        scope = {"math": math, "np": np}
        exec("\n".join(lines), scope)
        made[name] = njit(scope[name])
    return made


EXPRESSIONS = (
    "t + y - u", "t * y / (u + 2)", "-t + (+y)", "2 * t - 1 / y", "3.5 / y - u", "abs(t - y)",
    "y**2 + t**3", "y**-2", "t**0 + y", "y**t", "y**2.5", "np.power(y, u)", "math.pow(y, u)",
    "np.square(y - t)", "math.fabs(u) + np.abs(y)",
    *(f"{m}.{name}(t * y)" for name in ("exp", "sin", "cos", "tan", "tanh", "sinh", "cosh")
      for m in ("math", "np")),
    *(f"{m}.{name}(y + 0.5)" for name in ("log", "sqrt", "log1p", "expm1", "log10")
      for m in ("math", "np")),
    *(f"math.{name}(y / 4)" for name in ("asin", "acos", "atan", "asinh", "atanh", "erf")),
    *(f"np.{name}(y / 4)" for name in ("arcsin", "arccos", "arctan", "arcsinh", "arctanh")),
    "math.acosh(y + 1) + np.arccosh(y + 1)",
)  # fmt: skip
STATEMENTS = (
    ("s = 0.0; s += t * y; s -= 1; s *= u; s /= 2", "s + 1"),
    ("p = 0; p = p + y", "p"),
    ("q = 1.0\n        for k in range(3):\n            q = q * y + k\n        pass", "q"),
    ("z = theta[1] * x.shape[1] + len(theta)", "z"),
    ("o = y; o **= 2", "o"),
)


def sum_of(functions):
    """One model of many, for each takes a second to compile."""
    return " + ".join(f"({each})" for each in functions)


@pytest.mark.parametrize("part", range(3))
def test_every_operation(part):
    model = fm.Custom(2, 1, 1, **functions_of(sum_of(EXPRESSIONS[part::3])))
    data = batch("a part of a group", 1, 1)
    hold(model, np.array([0.75, 0.5]), data, "float64", inner_lr=1e-4, steps=1)


def test_statements():
    head = "\n        ".join(f"{head}; r{i} = {r}" for i, (head, r) in enumerate(STATEMENTS))
    results = sum_of(f"r{i}" for i in range(len(STATEMENTS)))
    model = fm.Custom(2, 1, 1, **functions_of(results, head))
    hold(model, np.array([0.75, 0.5]), batch("ragged", 1, 1), "float32", inner_lr=1e-4, steps=2)


def method_of(model, theta, data):
    support, query = as_tasks(model, *data, theta.dtype)
    problem = fm.MAML(model, 0.01)._problem
    return plan_for(problem, theta.dtype, support, query, modes.GRADIENT).method


REFUSED = {
    "a comparison": ("s = 1.0 if t > 0 else 2.0", "s * y"),
    "truth": ("s = 1.0 if t else 2.0", "s * y"),
    "equality": ("s = y if t == u else t", "s"),
    "the larger one": ("", "max(t, y)"),
    "an array of floats": ("s = np.zeros(1); s[0] = t", "s[0] * y"),
    "a sum of an array": ("s = np.sum(theta)", "s * y"),
    "a product of arrays": ("s = np.dot(theta, theta)", "s * y"),
    "arrays": ("s = theta * 2.0", "s[0] * y"),
    "a whole number of it": ("s = int(y)", "s * t"),
    "a float of it": ("s = float(y)", "s * t"),
    "a part of it": ("s = y.real", "s * t"),
    "rounding": ("s = round(y)", "s * t"),
    "an exponent that varies": ("s = y ** j", "s * t"),
    "a remainder": ("s = y % 2.0", "s * t"),
    "whole division": ("s = y // 2.0", "s * t"),
    "a test": ("s = math.isnan(y)", "s * t"),
    "a choice": ("s = np.where(theta > 0, theta, theta)", "s[0] * y"),
    "sorting": ("s = np.sort(theta)", "s[0] * y"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_left_to_dense(case):
    """A function that does not compile for vectors."""
    head, expression = REFUSED[case]
    model = fm.Custom(2, 1, 1, **functions_of(expression, head))
    assert method_of(model, np.array([0.75, 0.5]), batch("full groups", 1, 1)) is not METHOD


def test_auto_is_then_dense():
    model = fm.Custom(9, 2, 3, **custom_models.BRANCHING)
    got, want = (
        fm.MAML(model, 0.01, method=method).evaluate(THETA, *batch("full groups"))
        for method in ("auto", "dense")
    )
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_auto_takes_it_where_all_four_functions_are_given():
    data = batch("full groups")
    assert method_of(THREE, THETA, data) is METHOD
    fewer = fm.Custom(9, 2, 3, forward=custom_models.forward, vjp=custom_models.vjp)
    assert method_of(fewer, THETA, data) is not METHOD


def test_what_raises_is_what_dense_says():
    """A division by zero is an exception in a function of Numba's default, and inf in others."""
    data = batch("full groups", 1, 1)
    data[0][3, 1] = 0.25
    for options in ({}, {"error_model": "numpy"}):
        functions = {
            name: njit(each.py_func, **options)
            for name, each in functions_of("t * y + 1e-3 / (1 + 1 / (y - 0.25))").items()
        }
        model = fm.Custom(2, 1, 1, **functions)
        got, want = (
            fm.MAML(model, 0.01, method=method).evaluate([0.75, 0.5], *data)
            for method in ("lanes", "dense")
        )
        np.testing.assert_allclose(got.task_values, want.task_values, rtol=1e-12)
        np.testing.assert_allclose(got.gradient, want.gradient, rtol=1e-12)


def test_errors():
    model = fm.Custom(9, 2, 3, **custom_models.BRANCHING)
    data = batch("full groups")
    error(
        lambda: fm.MAML(model, method="lanes").gradient(THETA, *data), ValueError,
        'method is "lanes", and forward does not compile for several tasks at once: there is no '
        "gt(lanes(float64), ",
    )  # fmt: skip
    fewer = fm.Custom(9, 2, 3, forward=custom_models.forward, vjp=custom_models.vjp)
    error(
        lambda: fm.MAML(fewer, method="lanes"), ValueError,
        'method is "lanes", which is for formulas and compiled functions (model is Custom(9, 2, 3, '
        "forward=forward, vjp=vjp))",
    )  # fmt: skip
