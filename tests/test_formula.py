"""`fm.Formula`: laws of physics against SymPy's derivatives and the complex step, and its errors."""

from __future__ import annotations

import builtins
import pickle
import subprocess
import sys
from functools import cache, partial

import numpy as np
import pytest
import sympy
from fastmaml.kernels.models.formula import formula_passes
from formulas import LAWS
from test_checks import error

import fastmaml as fm

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
        value, gradient = of(theta, rates), complex_step(lambda at: of(at, rates), theta)
        by_rates = complex_step(lambda at: of(theta, at), rates)
        for method in ("dense", "explicit"):
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


FUNCTIONS = "exp log sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh erf Abs".split()
FUNCTIONS += "cot sec csc coth sech csch Min Max atan2 sqrt pow".split()


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
