"""From SymPy's expressions to a graph of operations. Needs SymPy, from the extra ``formula``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..checks import shown
from .graph import Graph

__all__ = ["FUNCTIONS", "as_expressions", "place", "require_sympy"]

#: SymPy's functions of one argument, and the operation of each
FUNCTIONS = {
    "exp": "exp", "log": "log", "sin": "sin", "cos": "cos", "tan": "tan", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "asin": "asin", "acos": "acos", "atan": "atan",
    "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "erf": "erf", "Abs": "abs",
    "sign": "sign",
}  # fmt: skip
#: those whose reciprocal is of another name
_RECIPROCAL = {
    "cot": "tan", "sec": "cos", "csc": "sin", "coth": "tanh", "sech": "cosh", "csch": "sinh",
}  # fmt: skip


def require_sympy() -> Any:
    """SymPy, which is an extra."""
    try:
        import sympy
    except ImportError as error:
        raise ImportError(
            'fastmaml.Formula needs SymPy: pip install "fastmaml[formula]"'
        ) from error
    return sympy


def as_expressions(expression: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The expressions that a user gave: one, a sequence, or what a function makes of symbols."""
    sympy = require_sympy()
    if callable(expression) and not isinstance(expression, sympy.Basic):
        expression = _traced(expression, {name: sympy.Symbol(name, real=True) for name in names})
    many = isinstance(expression, list | tuple | sympy.MatrixBase | sympy.Tuple)
    given = list(expression) if many else [expression]
    if not given:
        raise ValueError("expression is empty; accepted are one or more expressions of SymPy")
    for i, each in enumerate(given):
        if not isinstance(each, sympy.Expr | int | float) or isinstance(each, bool):
            name = f"expression[{i}]" if many else "expression"
            raise TypeError(
                f"{name} is {shown(each)}; accepted are expressions of SymPy, sequences of them, "
                "and functions of symbols that return such"
            )
    return tuple(sympy.sympify(each) for each in given)


def _traced(function: Callable[..., Any], symbols: dict[str, Any]) -> Any:
    name = getattr(function, "__name__", type(function).__name__)
    try:
        return function(**symbols)
    except Exception as error:
        raise TypeError(
            f"expression is {name}, which cannot be called with the symbols "
            f"{', '.join(symbols)} by name ({error}); accepted are functions that compute with "
            "operators and SymPy's functions"
        ) from error


def place(graph: Graph, expression: Any, leaves: dict[str, int]) -> int:
    """The node of an expression; `leaves` are the nodes of its symbols.

    Raises
    ------
    ValueError
        For a function that there is no operation for, and for what is no real number.
    """
    return _Placing(graph, leaves).place(expression)


class _Placing:
    """Expressions that are nodes already, each once."""

    def __init__(self, graph: Graph, leaves: dict[str, int]) -> None:
        self.graph, self.leaves, self.sympy = graph, leaves, require_sympy()
        self.known: dict[Any, int] = {}

    def place(self, expression: Any) -> int:
        """The node of an expression."""
        if expression not in self.known:
            self.known[expression] = self._place(expression)
        return self.known[expression]

    def _place(self, expression: Any) -> int:
        graph, sympy = self.graph, self.sympy
        if expression.is_Symbol:
            return self.leaves[expression.name]
        if not expression.free_symbols:
            return graph.constant(_number(expression))
        if isinstance(expression, sympy.Pow):
            base, exponent = expression.args
            if base == sympy.E:
                return graph.node("exp", self.place(exponent))
            return graph.power(self.place(base), self.place(exponent))
        if expression.is_Add or expression.is_Mul:
            return self._combined(expression)
        name = type(expression).__name__
        args = [self.place(each) for each in expression.args if name in _KNOWN]
        if name in FUNCTIONS and len(args) == 1:
            return graph.node(FUNCTIONS[name], args[0])
        if name in _RECIPROCAL:
            return graph.reciprocal(graph.node(_RECIPROCAL[name], args[0]))
        if name == "atan2":
            return graph.node("atan2", *args)
        if name in ("Min", "Max"):
            found = args[0]
            for each in args[1:]:
                found = graph.node(name.lower(), found, each)
            return found
        raise ValueError(
            f"expression has {shown(expression)}, and {name} is not known; accepted are sums, "
            f"products, powers and {', '.join(sorted(_KNOWN))}"
        )

    def _combined(self, expression: Any) -> int:
        """A sum or product: numbers and parameters first, which are the same for all rows."""
        graph = self.graph
        join = graph.add if expression.is_Add else graph.multiply
        groups: list[int | None] = [None, None]
        inputs = {name for name, node in self.leaves.items() if graph.nodes[node][0] == "input"}
        for each in expression.args:
            group = any(symbol.name in inputs for symbol in each.free_symbols)
            node, before = self.place(each), groups[group]
            groups[group] = node if before is None else join(before, node)
        found = [node for node in groups if node is not None]
        return found[0] if len(found) == 1 else join(*found)


_KNOWN = {*FUNCTIONS, *_RECIPROCAL, "atan2", "Min", "Max"}


def _number(expression: Any) -> float:
    try:
        number = float(expression)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"expression has {shown(expression)}, which is no finite real number; accepted are "
            "such numbers"
        )
    return number
