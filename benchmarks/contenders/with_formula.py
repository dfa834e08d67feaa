"""This package on a formula: as ``fm.Formula``, and as compiled functions of a user's own.

The functions are what somebody would write who has the derivatives on paper: plain loops over rows,
with common subexpressions named. Here SymPy writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

import fastmaml as fm

from ..laws import LAWS, Law
from ..workloads import FormulaProblem
from .base import Prepared
from .with_fastmaml import versions


def formula(problem: FormulaProblem, method: str = "auto") -> Prepared:
    return _prepared(formula_of(LAWS[problem.law]), problem, method)


def custom(problem: FormulaProblem) -> Prepared:
    return _prepared(custom_of(LAWS[problem.law]), problem, "auto")


def _prepared(model: Any, problem: FormulaProblem, method: str) -> Prepared:
    maml = fm.MAML(model, problem.inner_lr, problem.steps, method=method)
    data = (problem.theta, problem.x, problem.y, problem.x_query, problem.y_query)
    return Prepared(lambda: maml.value_and_gradient(*data), lambda result: result, versions())


def formula_of(law: Law) -> fm.Formula:
    """A law as a formula."""
    import sympy  # here and not above, as in with_jax.py

    return fm.Formula(
        lambda **symbols: law.f(sympy, **symbols), parameters=list(law.values),
        inputs=list(law.inputs), positive=law.positive, bounds=law.bounds,
    )  # fmt: skip


def custom_of(law: Law) -> fm.Custom:
    """A law as four compiled functions."""
    import sympy

    n = len(law.values)
    theta, v = sympy.symbols(f"w:{n}", real=True), sympy.symbols(f"v:{n}", real=True)
    x, delta = sympy.symbols(f"x:{len(law.inputs)}", real=True), sympy.Symbol("d", real=True)
    f = law.of_theta(sympy, theta, x)
    slopes = [f.diff(each) for each in theta]
    along = sum(slope * each for slope, each in zip(slopes, v, strict=True))
    bends = [along.diff(each) for each in theta]
    functions = {
        "forward": _function(("theta", "x", "f"), "f[row, 0] =", [f]),
        "vjp": _function(
            ("theta", "x", "delta", "g"), "g[{}] +=", [delta * slope for slope in slopes]
        ),
        "jvp": _function(("theta", "x", "v", "rf"), "rf[row, 0] =", [along]),
        "hvp": _function(
            ("theta", "x", "delta", "v", "h"), "h[{}] +=", [delta * bend for bend in bends]
        ),
    }
    return fm.Custom(n, len(law.inputs), 1, **functions)


def _function(arguments: tuple[str, ...], target: str, expressions: Sequence[Any]) -> Any:
    """A compiled loop over rows, which writes expressions to a target each."""
    import sympy
    from sympy.printing.numpy import NumPyPrinter

    text = NumPyPrinter().doprint
    named, found = sympy.cse(expressions, symbols=sympy.numbered_symbols("t"))
    of_rows = {"x", "d"}  # what symbols depend on the row begin with
    before, within = [], []
    for symbol, expression in named:
        each = any(s.name in of_rows or s.name[0] in of_rows for s in expression.free_symbols)
        (within if each else before).append(f"{symbol} = {text(expression)}")
        if each:
            of_rows.add(symbol.name)
    sums = "{}" in target
    for j, expression in enumerate(found):
        to = f"sum{j} +=" if sums else target
        within.append(f"{to} {text(expression)}")
    code = "\n".join([*before, *within])
    lines = [f"def function({', '.join(arguments)}):"]
    for letter, array in (("w", "theta"), ("v", "v")):
        used = [j for j in range(len(found) + 40) if f"{letter}{j}" in code]
        lines += [f"    {letter}{j} = {array}[{j}]" for j in used]
    lines += [f"    {line}" for line in before]
    lines += [f"    sum{j} = 0.0" for j in range(len(found)) if sums]
    lines += ["    for row in range(len(x)):"]
    lines += [f"        x{c} = x[row, {c}]" for c in range(9) if f"x{c}" in code]
    lines += ["        d = delta[row, 0]"] if "delta" in arguments else []
    lines += [f"        {line}" for line in within]
    lines += [f"    {target.format(j)} sum{j}" for j in range(len(found)) if sums]
    scope = {"numpy": np}
    exec("\n".join(lines), scope)
    return numba.njit(error_model="numpy")(scope["function"])
