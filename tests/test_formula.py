"""`fm.Formula`: laws against SymPy's derivatives and the complex step, and what can go wrong."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
from functools import cache, partial

import numba
import numpy as np
import pytest
import sympy
from fastmaml.kernels.models.formula import formula_passes
from fastmaml.kernels.models.passes import MAX_ROWS
from formulas import LAWS
from processes import python
from test_cache import COUNT
from test_checks import error

import fastmaml as fm
from fastmaml.models.graph import Graph

ROWS = ((1, 3), (20, 2), (70, 5), (3, 64))  # of the support and query sets: partial vectors, blocks


@cache
def batch(name):
    """The tasks of a law, in numbers that float32 can hold."""
    rng = np.random.default_rng(len(name))
    sides = [[], [], [], []]
    for counts in ROWS:
        for side, rows in enumerate(counts):
            for i, part in enumerate(LAWS[name].draw(rng, rows)):
                sides[2 * side + i].append(part.astype(np.float32).astype(float))
    return sides


class Columns(tuple):
    """Symbols as the columns of one row."""

    def __getitem__(self, at):
        return tuple.__getitem__(self, at[1])


@cache
def slopes_of(name):
    """SymPy's derivatives of the outputs by theta, as a function of theta and x."""
    law = LAWS[name]
    theta = sympy.symbols(f"theta:{len(law.values)}")
    x = sympy.symbols(f"x:{len(law.inputs)}")
    outputs = law.outputs(sympy, theta, Columns(x))
    found = sympy.lambdify([theta, x], [[f.diff(t) for t in theta] for f in outputs], cse=True)

    def slopes(at, rows):
        out = np.zeros((len(rows), len(outputs), len(theta)), at.dtype)
        for o, of_output in enumerate(found(at, rows.T)):
            for j, column in enumerate(of_output):
                out[:, o, j] = column
        return out

    return slopes


def meta_objective(name, options, theta, rates):
    """The sum of the tasks' weighted query losses, which may be complex."""
    law, slopes, total = LAWS[name], slopes_of(name), 0.0
    for x, y, x_query, y_query in zip(*batch(name), strict=True):
        at, v = theta, 0.0
        for step, weight in enumerate(options["step_weights"]):
            f = np.stack(law.outputs(np, at, x_query), 1)
            total = total + weight * 0.5 * ((f - y_query) ** 2).sum()
            if step < options["steps"]:
                residuals = np.stack(law.outputs(np, at, x), 1) - y
                g = np.einsum("io,iop->p", residuals, slopes(at, x))
                v = options["inner_momentum"] * v + g
                at = at - rates[step] * v
    return total


def complex_step(function, at):
    """The gradient of a function of a vector."""
    return np.array([function(at + 1e-30j * unit).imag / 1e-30 for unit in np.eye(len(at))])


def options_of(steps, rate):
    rng = np.random.default_rng(steps)
    weights = np.eye(steps + 1)[-1] if steps % 2 else rng.dirichlet(np.ones(steps + 1))
    return {
        "inner_lr": rate * rng.uniform(0.2, 1.0, (steps, 1)), "steps": steps,
        "step_weights": weights, "inner_momentum": 0.5 * (steps == 3),
    }  # fmt: skip


@pytest.mark.parametrize("name", LAWS)
def test_methods_agree_with_the_complex_step(name):
    law = LAWS[name]
    model = law.model
    theta = model.pack(law.values).astype(np.float32).astype(float)
    for steps in range(6):
        options = options_of(steps, law.rate)
        rates = options["inner_lr"][:, 0]
        of = partial(meta_objective, name, options)
        value, gradient = of(theta, rates), complex_step(partial(of, rates=rates), theta)
        by_rates = complex_step(partial(of, theta), rates)
        for method in ("dense", "explicit", "lanes"):
            for dtype, tolerance in (("float64", 1e-11), ("float32", 2e-4)):
                maml = fm.MAML(model, method=method, **options)
                data = [[part.astype(dtype) for part in side] for side in batch(name)]
                found = maml.evaluate(theta.astype(dtype), *data)
                for got, want in (
                    (found.value, value), (found.gradient, gradient),
                    (found.inner_lr_gradient[:, 0], by_rates),
                ):  # fmt: skip
                    atol = tolerance * np.abs(want).max(initial=0.0)
                    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


FUNCTIONS = (
    "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh",
    "acosh", "atanh", "erf", "Abs", "cot", "sec", "csc", "coth", "sech", "csch", "Min", "Max",
    "atan2", "sqrt", "pow",
)  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_and_its_derivatives(name):
    """f, its Jacobian and its curvature, each against SymPy's in 40 digits."""
    a, b, x, r = sympy.symbols("a b x r", real=True)
    inside = a * x + b
    if name == "acosh":
        inside = inside + 1
    binary = {
        "Min": sympy.Min(inside, 0.5), "Max": sympy.Max(inside, x, 0.3),
        "atan2": sympy.atan2(inside, a - x), "pow": inside ** (a + b),
    }  # fmt: skip
    f = binary[name] if name in binary else getattr(sympy, name)(inside)
    model = fm.Formula(f, parameters=[a, b], inputs=[x])
    theta, rows = np.array([0.6, 0.21]), np.array([0.13, 0.5, 0.9, 1.2])
    if name in ("Max", "Min"):  # Heaviside and DiracDelta are not what a kink's slope is here
        wanted = {"Min": [1, 0, 0, 0], "Max": [0, 1, 0, 0]}[name]
        jacobian = fm.equations.jacobian(model, theta, [rows[:, None]])[0][:, 0]
        np.testing.assert_array_equal(
            jacobian, np.outer(wanted, [0, 1]) + np.outer(wanted * rows, [1, 0])
        )
        return
    y = np.array([0.1, -0.3, 0.2, 0.5])
    loss, hessian = (f - r) ** 2 / 2, np.zeros((2, 2))
    slopes, values = np.zeros((4, 2)), np.zeros(4)
    for i, (row, target) in enumerate(zip(rows, y, strict=True)):
        at = {a: theta[0], b: theta[1], x: row, r: target}
        values[i] = f.evalf(40, subs=at)
        for j, one in enumerate((a, b)):
            slopes[i, j] = f.diff(one).doit().evalf(40, subs=at)
            for k, other in enumerate((a, b)):
                second = loss.diff(one).diff(other)
                second = second.replace(sympy.DiracDelta, lambda *_: sympy.Integer(0))
                hessian[j, k] += second.evalf(40, subs=at)
    np.testing.assert_allclose(model.predict(theta, rows[:, None])[:, 0], values, rtol=1e-14)
    jacobian = fm.equations.jacobian(model, theta, [rows[:, None]])[0][:, 0]
    np.testing.assert_allclose(jacobian, slopes, rtol=1e-13, atol=1e-15)
    found = fm.equations.task_hessian(model, theta, [rows[:, None]], [y[:, None]])[0]
    np.testing.assert_allclose(found, hessian, rtol=1e-12, atol=1e-13)


# The model ---------------------------------------------------------------------------------------

A, K, T = sympy.symbols("A k t")
DECAY = fm.Formula(
    A * sympy.exp(-K * T), parameters=[A, K], inputs=[T], positive=[K], bounds={A: (-1, 3)}
)


def decay(t, A, k):
    return A * sympy.exp(-k * t)


def test_a_formula_is_what_it_is_made_of():
    limits = {"positive": ["k"], "bounds": {"A": (-1.0, 3.0)}}
    same = fm.Formula(decay, parameters=["A", "k"], inputs=["t"], **limits)
    text = "Formula(A*exp(-k*t), parameters=['A', 'k'], inputs=['t'], positive=['k'], "
    assert repr(same) == text + "bounds={'A': (-1.0, 3.0)})"
    for other in (same, copy.deepcopy(same), pickle.loads(pickle.dumps(same))):
        assert other == DECAY
        assert hash(other) == hash(DECAY)
        assert formula_passes(other.program) is formula_passes(DECAY.program)
    assert same != fm.Formula(decay, parameters=["A", "k"], inputs=["t"])
    assert same != fm.Formula(decay, parameters=["k", "A"], inputs=["t"], **limits)
    assert same.program != fm.Linear(1)
    assert (same.n_params, same.n_inputs, same.n_outputs, same.n_layers) == (2, 1, 1, 2)
    assert same.layers() == {"A": slice(0, 1), "k": slice(1, 2)}
    two = fm.Formula([A * T, T], parameters=[A], inputs=["unused", T])
    assert repr(two) == "Formula([A*t, t], parameters=['A'], inputs=['unused', 't'])"
    np.testing.assert_array_equal(two.predict([2.0], [[9.0, 3.0]]), [[6.0, 3.0]])


def test_theta_holds_what_is_free():
    theta = DECAY.pack({"A": [0.0, 1.0], "k": 2.0})
    np.testing.assert_allclose(theta, [[math.log(1 / 3), math.log(2)], [0, math.log(2)]])
    values = DECAY.unpack(theta)
    np.testing.assert_allclose(values["A"], [0, 1], atol=1e-15)
    np.testing.assert_allclose(values["k"], [2, 2])
    x = np.array([[0.5], [0.7]])
    want = [a * np.exp(-2 * x) for a in (0, 1)]
    np.testing.assert_allclose(DECAY.predict(theta, x), want, atol=1e-15)
    single = DECAY.pack({"A": np.float32(1), K: np.float32(2)})
    assert single.dtype == DECAY.unpack(single)["k"].dtype == np.float32
    assert DECAY.unpack(np.array([0.0, 1e4]))["k"] == np.inf
    drawn = DECAY.init(3, "float32", values={"k": 2.0})
    assert drawn.dtype == np.float32
    assert drawn[1] == np.float32(math.log(2))
    np.testing.assert_array_equal(drawn[0], DECAY.init(3, "float32")[0])


def test_rates_of_named_parameters():
    """An entry of a rate for each layer is that of a parameter."""
    data = batch("michaelis_menten")
    model = LAWS["michaelis_menten"].model
    theta = model.pack(LAWS["michaelis_menten"].values)
    adapted = fm.MAML(model, [[0.01, 0.0]], 2).adapt(theta, *data[:2])
    assert (adapted[:, 0] != theta[0]).all()
    assert (adapted[:, 1] == theta[1]).all()


def test_a_task_outside_of_the_domain_has_diverged():
    """Its log has no value after a step."""
    a, x = sympy.symbols("a x")
    model = fm.Formula([sympy.log(a * x), sympy.sqrt(a) * x], parameters=[a], inputs=[x])
    rows = np.ones((3, 4, 1))
    y = np.zeros((3, 4, 2))
    y[1] = -9.0
    maml = fm.MAML(model, 0.1, 2)
    for method in ("dense", "explicit", "lanes"):
        found = fm.MAML(model, 0.1, 2, method=method).evaluate([1.0], rows, y)
        np.testing.assert_array_equal(np.isfinite(found.task_values), [True, False, True])
        assert np.isnan(found.gradient).all()
    with pytest.warns(fm.DivergenceWarning, match="task 1 diverged in inner step 1"):
        adapted = maml.adapt([1.0], rows, y)
    np.testing.assert_array_equal(np.isnan(adapted[:, 0]), [False, True, False])
    assert np.isnan(model.predict([-1.0], [[1.0]])).all()


def test_a_power_of_zero_has_the_slope_zero():
    """Where 0**n log(0) is the limit 0, as in a Hill equation without any substance."""
    S, n, c = sympy.symbols("S n c")
    model = fm.Formula(S**n / (c**n + S**n), parameters=[n, c], inputs=[S])
    jacobian = fm.equations.jacobian(model, [2.0, 0.5], [[[0.0], [0.5]]])[0][:, 0]
    np.testing.assert_allclose(jacobian, [[0, 0], [0, -1]], atol=1e-15)
    hessian = fm.equations.task_hessian(model, [2.0, 0.5], [[[0.0]]], [[[1.0]]])
    np.testing.assert_array_equal(hessian, np.zeros((1, 2, 2)))


@pytest.mark.parametrize("n", [3, -4, 64, 65, 66, -65, -66, 1001])
def test_whole_powers_of_negative_numbers(n):
    a, x = sympy.symbols("a x")
    model = fm.Formula((a * x) ** n, parameters=[a], inputs=[x])
    rows, at = np.array([-1.01, -0.99, 0.98, 1.02]), 0.995
    f = (at * rows) ** n
    data = [at], rows[None, :, None]
    np.testing.assert_allclose(model.predict(*data)[0, :, 0], f, rtol=1e-12)
    jacobian = fm.equations.jacobian(model, *data)[0, :, 0, 0]
    np.testing.assert_allclose(jacobian, n * f / at, rtol=1e-12)
    hessian = fm.equations.task_hessian(model, *data, np.zeros((1, 4)))[0, 0, 0]
    want = ((2 * n - 1) * n * (f / at) ** 2).sum()
    np.testing.assert_allclose(hessian, want, rtol=1e-12)


def test_threads_and_blocks_give_the_same_bits():
    law = LAWS["pendulum"]
    theta, many = law.model.pack(law.values), [side * 80 for side in batch("pendulum")]
    maml = fm.MAML(law.model, law.rate, 2)
    want = maml.gradient(theta, *many)
    with fm.threads(1):
        np.testing.assert_array_equal(maml.gradient(theta, *many), want)
    x = np.concatenate(many[0][:4])
    assert len(x) > MAX_ROWS
    one_by_one = np.concatenate([law.model.predict(theta, row[None]) for row in x])
    np.testing.assert_array_equal(law.model.predict(theta, x), one_by_one)


def test_a_formula_without_rows_or_with_constants():
    """An output of parameters alone, one of inputs alone, a constant, and slopes that are none."""
    a, b, x = sympy.symbols("a b x")
    f = [sympy.exp(a), x, sympy.Integer(3), b * 2 * sympy.pi + x]
    model = fm.Formula(f, parameters=[a, b], inputs=[x])
    want = [[math.e**0.5, 4.0, 3.0, 2 * math.pi * 0.25 + 4.0]]
    np.testing.assert_allclose(model.predict([0.5, 0.25], [[4.0]]), want, rtol=1e-15)
    jacobian = fm.equations.jacobian(model, [0.5, 0.25], [[[4.0]]])[0][0]
    want = [[math.e**0.5, 0], [0, 0], [0, 0], [0, 2 * math.pi]]
    np.testing.assert_allclose(jacobian, want, rtol=1e-15)


KEPT = f"""{COUNT}
import json, pickle, sys
sys.modules["sympy"] = None
model = pickle.load(open(sys.argv[1], "rb"))
f = model.predict([0.0, 0.0], [[2.0]]).item()
print(json.dumps([compiled, f]))
"""


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.usefixtures("usual_umask")
def test_passes_are_kept_on_disk_by_their_formula(tmp_path):
    """What another process compiled is loaded, and a pickled formula needs no SymPy."""
    other = fm.Formula(A * T - K + 2, parameters=[A, K], inputs=[T])
    for name, model in (("one", DECAY), ("other", other)):
        (tmp_path / name).write_bytes(pickle.dumps(model))
    found = {}
    for run, name in (("first", "one"), ("again", "one"), ("other", "other"), ("last", "one")):
        output = python(KEPT, tmp_path / name, FASTMAML_CACHE_DIR=str(tmp_path / "cache"))
        found[run] = json.loads(output)
    assert {"derive", "forward", "predict"} <= set(found["first"][0])
    assert found["again"] == found["last"] == [[], found["first"][1]]
    assert sorted(found["other"][0]) == ["derive", "forward"]
    assert found["first"][1] == pytest.approx(math.exp(-2), rel=1e-15)
    assert found["other"][1] == 2.0


WARMED = f"""{COUNT}
import sys, pickle
import fastmaml as fm
objectives = pickle.load(open(sys.argv[1], "rb"))
fm.warmup([], ["float64"], objectives)
compiled.clear()
for maml in objectives:
    theta = maml.model.init(0)
    x = [[[0.5] * maml.model.n_inputs] * 2] * 3
    y = [[[1.0] * (1 if maml.loss == "gaussian_nll" else maml.model.n_outputs)] * 2] * 3
    maml.evaluate(theta, x, y)
    maml.adapt(theta, x, y)
    maml.predict(theta, x, y, x)
    maml.model.predict(theta, x)
print(compiled)
"""


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.usefixtures("usual_umask")
def test_after_warmup_an_objective_compiles_nothing(tmp_path):
    """Of formulas, sums, features, losses of either side and the implicit order."""
    two = fm.Formula([A * T, K * T**2], parameters=[A, K], inputs=[T])
    objectives = [
        fm.MAML(DECAY, 0.01, loss="log_cosh", query_loss="mse", inner_momentum=0.5),
        fm.MAML(fm.Sum(DECAY, fm.Features(np.sin, 1)), 0.01, method="explicit"),
        fm.MAML(two, 0.01, loss="gaussian_nll"),
        fm.MAML(fm.MLP([1, 3, 1]), 0.01, order="implicit", proximal=1.0),
    ]
    (tmp_path / "objectives").write_bytes(pickle.dumps(objectives))
    cache = str(tmp_path / "cache")
    assert python(WARMED, tmp_path / "objectives", FASTMAML_CACHE_DIR=cache) == "[]\n"


def test_the_graph_knows_what_is_one():
    g = Graph()
    a, b = g.node("parameter", 0), g.node("parameter", 1)
    assert g.multiply(a, b) == g.multiply(b, a)
    assert g.add(a, g.constant(0)) == g.multiply(g.one, a) == g.negative(g.negative(a)) == a
    assert g.multiply(g.negative(a), g.negative(b)) == g.multiply(a, b)
    assert g.power(a, g.constant(3)) == g.multiply(g.square(a), a)
    assert g.power(a, g.constant(0)) == g.one
    assert g.value(g.multiply(g.constant(2), g.constant(3))) == 6


# Errors ------------------------------------------------------------------------------------------


def formula(expression=A * T, parameters=(A,), inputs=(T,), **options):
    return lambda: fm.Formula(expression, parameters=parameters, inputs=inputs, **options)


NAMES = "accepted are sequences of names or of SymPy's symbols"
ERRORS = {
    "text": (formula("A * t"), TypeError, "expression is 'A * t'; accepted are expressions of"),
    "entry": (formula([A * T, None]), TypeError, "expression[1] is None; accepted are expr"),
    "truth": (formula(A < T), TypeError, "expression is A < t; accepted are expressions of"),
    "none": (formula([]), ValueError, "expression is empty; accepted are one or more"),
    "symbols": (formula(A * T + K), ValueError,
                "expression has the symbols k, which are neither parameters (A) nor inputs (t)"),
    "unused": (formula(A * T, (A, K)), ValueError,
               "parameters has 'k', and no output depends on it (A*t); accepted are parameters"),
    "step": (formula(sympy.sign(A) * T), ValueError, "parameters has 'A', and no output depends"),
    "function": (formula(A * sympy.gamma(A * T)), ValueError,
                 "expression has gamma(A*t), and gamma is not known; accepted are sums, products"),
    "own function": (formula(sympy.Function("g")(T) * A), ValueError, "g is not known"),
    "complex": (formula(A * T * sympy.I), ValueError,
                "expression has I, which is no finite real number"),
    "infinite": (formula(A * T + sympy.oo * T), ValueError, "expression has oo, which is no"),
    "call": (formula(math.exp), TypeError, "expression is exp, which cannot be called with the "
             "symbols A, t by name ("),
    "numpy": (formula(lambda A, t: np.exp(A * t)), TypeError, "expression is <lambda>, which",
              "operators and SymPy's functions"),
    "signature": (formula(lambda A: A), TypeError, "cannot be called with the symbols A, t by"),
    "returned": (formula(lambda A, t: None), TypeError, "expression is None; accepted"),
    "word": (formula(parameters="A"), TypeError, "parameters is 'A'; " + NAMES),
    "number": (formula(inputs=[3]), TypeError, "inputs[0] is 3; " + NAMES),
    "kind": (formula(parameters=5), TypeError, "parameters is 5; " + NAMES),
    "no parameters": (formula(parameters=[]), ValueError, "parameters is empty; accepted is at"),
    "twice": (formula(parameters=[A, "A"]), ValueError, "parameters has 'A' twice; accepted is"),
    "both": (formula(inputs=[A, T]), ValueError, "parameters and inputs has 'A' twice"),
    "positive": (formula(positive=[T]), ValueError,
                 "positive has 't'; accepted are the parameters, A"),
    "bounds": (formula(bounds={"B": (0, 1)}), ValueError,
               "bounds has 'B'; accepted are the parameters, A"),
    "limited twice": (formula(positive=[A], bounds={A: (0, 1)}), ValueError,
                      "positive and bounds has 'A' twice"),
    "no dict": (formula(bounds=[(0, 1)]), TypeError, "bounds is [(0, 1)]; accepted are dicts"),
    "no pair": (formula(bounds={A: 1}), TypeError, "bounds['A'] is 1; accepted are pairs"),
    "no number": (formula(bounds={A: (0, "1")}), TypeError, "bounds['A'] is '1'; accepted is one"),
    "order": (formula(bounds={A: (1, 1)}), ValueError,
              "bounds['A'] is (1.0, 1.0); accepted are pairs with low < high"),
    "values": (lambda: DECAY.pack([1, 2]), TypeError, "values is [1, 2]; accepted are dicts"),
    "unknown": (lambda: DECAY.pack({"B": 2}), ValueError, "values has 'B'; accepted are A, k"),
    "missing": (lambda: DECAY.pack({"A": 2}), ValueError, "values lacks k; accepted is a value"),
    "negative": (lambda: DECAY.init(values={"k": -1.0}), ValueError,
                 "values['k'] holds -1.0; accepted are numbers above 0"),
    "outside": (lambda: DECAY.init(values={"A": 3.0}), ValueError,
                "values['A'] holds 3.0; accepted are numbers between -1.0 and 3.0"),
    "below": (lambda: DECAY.init(values={"A": [2, -4.0]}), ValueError, "values['A'] holds -4.0"),
    "not finite": (lambda: DECAY.init(values={"A": np.nan}), ValueError, "values['A'] holds nan"),
    "many": (lambda: DECAY.init(values={"A": [1.0, 2.0]}), ValueError,
             "values['A'] has shape (2,); accepted is one number"),
    "shapes": (lambda: DECAY.pack({"A": [0.0, 1.0], "k": [1.0] * 3}), ValueError,
               "values has shapes that do not go together"),
    "theta": (lambda: DECAY.unpack([1.0]), ValueError, "theta has shape (1,), the model takes"),
    "factored": (lambda: fm.MAML(DECAY, method="factored"), ValueError, "is for weight layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    error(*ERRORS[case])


def test_sympy_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    error(formula(), ImportError, 'fastmaml.Formula needs SymPy: pip install "fastmaml[formula]"')
