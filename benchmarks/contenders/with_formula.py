"""This package on a formula: as ``fm.Formula``, and as compiled functions of a user's own.

The functions are what somebody would write who has the derivatives on paper: plain loops over rows,
with common subexpressions named. Here they are written from the formula's program.
"""

from __future__ import annotations

import math
from typing import Any

import numba

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
    program = formula_of(law).program
    slopes, bends = program.slopes[0], program.bends[0]
    n = len(slopes)
    functions = {
        "forward": _function(program, "forward(theta, x, f)", ["f[row, 0] = {}"], program.f),
        "vjp": _function(program, "vjp(theta, x, delta, g)", _sums("g", n), slopes),
        "jvp": _function(program, "jvp(theta, x, v, rf)", [_along(n)], [slopes]),
        "hvp": _function(program, "hvp(theta, x, delta, v, h)", _sums("h", n), bends),
    }
    return fm.Custom(n, len(law.inputs), 1, **functions)


_TEXTS = {
    "add": "{} + {}", "multiply": "{} * {}", "negative": "-{}", "reciprocal": "1.0 / {}",
    "exp": "math.exp({})", "sin": "math.sin({})", "cos": "math.cos({})", "log": "math.log({})",
    "log_or_0": "math.log({})", "sigmoid": "1.0 / (1.0 + math.exp(-{}))", "power": "{} ** {}",
    "constant": "{}", "parameter": "theta[{}]", "direction": "v[{}]", "input": "x[row, {}]",
}  # fmt: skip


def _sums(array: str, n: int) -> list[str]:
    return [f"{array}[{j}] += delta[row, 0] * {{}}" for j in range(n)]


def _along(n: int) -> str:
    return "rf[row, 0] = " + " + ".join(f"{{}} * v[{j}]" for j in range(n))


def _function(program: Any, head: str, targets: list[str], wanted: Any) -> Any:
    """A compiled loop over rows, which writes nodes of a program by their targets' texts."""
    groups = [each if isinstance(each, tuple) else (each,) for each in wanted]
    needed = program.needed([node for group in groups for node in group])
    before, within = [], []
    for node in needed:
        op, *args = program.nodes[node]
        leaf = op in ("constant", "parameter", "direction", "input")
        text = _TEXTS[op].format(*(args if leaf else [f"t{a}" for a in args]))
        (within if program.depends[node] & 1 else before).append(f"t{node} = {text}")
    for target, group in zip(targets, groups, strict=True):
        if group != (None,):
            names = ["0.0" if node is None else f"t{node}" for node in group]
            within.append(target.format(*names))
    lines = [f"def {head}:", *(f"    {line}" for line in before), "    for row in range(len(x)):"]
    scope: dict[str, Any] = {"math": math}
    exec("\n".join([*lines, *(f"        {line}" for line in within)]), scope)
    return numba.njit(error_model="numpy")(scope[head.split("(")[0]])
