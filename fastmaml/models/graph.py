"""A formula as a graph of operations, and its derivatives by the chain rule on that graph.

Equal operations on equal nodes are one node, so whatever a formula, its slopes and its curvature
have in common is computed once. The slopes of an output are found backward, from the output to the
parameters; the bends, which are the slopes' derivatives along a direction v, forward
(``kernels.models.programs`` says what is made of them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..kernels.models.programs import Node, Program

__all__ = ["ARITY", "Graph"]

#: the derivative of each function of one node a, by what it is worth, y
_SLOPES = {
    "exp": lambda g, y, a: y,
    "sin": lambda g, y, a: g.node("cos", a),
    "cos": lambda g, y, a: g.negative(g.node("sin", a)),
    "tan": lambda g, y, a: g.add(g.one, g.multiply(y, y)),
    "sinh": lambda g, y, a: g.node("cosh", a),
    "cosh": lambda g, y, a: g.node("sinh", a),
    "tanh": lambda g, y, a: g.minus(g.one, g.multiply(y, y)),
    "sigmoid": lambda g, y, a: g.multiply(y, g.node("sigmoid", g.negative(a))),
    "log": lambda g, y, a: g.reciprocal(a),
    "log_or_0": lambda g, y, a: g.reciprocal(a),
    "sqrt": lambda g, y, a: g.multiply(g.constant(0.5), g.reciprocal(y)),
    "abs": lambda g, y, a: g.node("sign", a),
    "asin": lambda g, y, a: g.reciprocal(g.node("sqrt", g.minus(g.one, g.square(a)))),
    "acos": lambda g, y, a: g.negative(g.slope("asin", y, a)),
    "atan": lambda g, y, a: g.reciprocal(g.add(g.one, g.square(a))),
    "asinh": lambda g, y, a: g.reciprocal(g.node("sqrt", g.add(g.one, g.square(a)))),
    "acosh": lambda g, y, a: g.reciprocal(g.node("sqrt", g.minus(g.square(a), g.one))),
    "atanh": lambda g, y, a: g.reciprocal(g.minus(g.one, g.square(a))),
    "erf": lambda g, y, a: g.multiply(
        g.constant(2 / math.sqrt(math.pi)), g.node("exp", g.negative(g.square(a)))
    ),
    "reciprocal": lambda g, y, a: g.negative(g.multiply(y, y)),
    "negative": lambda g, y, a: g.constant(-1.0),
}
#: those whose derivative is zero everywhere
_STEPS = ("sign", "greater")
_OF_TWO = ("add", "atan2", "greater", "max", "min", "multiply", "power")
#: how many nodes each operation is of
ARITY = {**dict.fromkeys((*_SLOPES, "sign"), 1), **dict.fromkeys(_OF_TWO, 2)}


class Graph:
    """Nodes, each once, in an order in which what a node is made of comes first."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._places: dict[Node, int] = {}
        self.one = self.constant(1.0)

    # Nodes ---------------------------------------------------------------------------------------

    def node(self, op: str, *args: int) -> int:
        """The node of an operation, or of a leaf (``parameter``, ``input``, ``direction``)."""
        return self._placed((op, *args))

    def constant(self, value: float) -> int:
        """The node of a number."""
        return self._placed(("constant", float(value)))

    def _placed(self, node: Node) -> int:
        if node not in self._places:
            self._places[node] = len(self.nodes)
            self.nodes.append(node)
        return self._places[node]

    def value(self, a: int) -> float | None:
        """The number that a node is, or None."""
        op, *args = self.nodes[a]
        return args[0] if op == "constant" else None

    def negative(self, a: int) -> int:
        """``-a``."""
        op, *args = self.nodes[a]
        if op == "constant":
            return self.constant(-args[0])
        return int(args[0]) if op == "negative" else self.node("negative", a)

    def add(self, a: int, b: int) -> int:
        """``a + b``."""
        x, y = self.value(a), self.value(b)
        if x is not None and y is not None:
            return self.constant(x + y)
        if x == 0 or y == 0:
            return b if x == 0 else a
        return self.node("add", *sorted((a, b)))

    def minus(self, a: int, b: int) -> int:
        """``a - b``."""
        return self.add(a, self.negative(b))

    def multiply(self, a: int, b: int) -> int:
        """``a b``, with a sign before it all."""
        x, y = self.value(a), self.value(b)
        if x is not None and y is not None:
            return self.constant(x * y)
        for number, other in ((x, b), (y, a)):
            if number in (1.0, -1.0):
                return other if number == 1 else self.negative(other)
        positive = [
            self.nodes[each][1] if self.nodes[each][0] == "negative" else each for each in (a, b)
        ]
        product = self.node("multiply", *sorted(positive))
        flipped = (positive[0] != a) != (positive[1] != b)
        return self.negative(product) if flipped else product

    def square(self, a: int) -> int:
        """``a a``."""
        return self.multiply(a, a)

    def reciprocal(self, a: int) -> int:
        """``1 / a``; division by zero is left to run time."""
        number = self.value(a)
        return self.constant(1 / number) if number else self.node("reciprocal", a)

    def power(self, a: int, b: int) -> int:
        """``a**b``: products for a small whole exponent, a root for halves."""
        exponent, base = self.value(b), self.value(a)
        if exponent is not None and 2 * exponent == int(2 * exponent) and abs(exponent) <= 64:
            if exponent < 0:
                return self.reciprocal(self.power(a, self.constant(-exponent)))
            if exponent != int(exponent):
                return self._whole_power(self.node("sqrt", a), int(2 * exponent))
            return self._whole_power(a, int(exponent))
        if base is not None and base > 0:
            return self.node("exp", self.multiply(self.constant(math.log(base)), b))
        if exponent is not None and exponent == int(exponent):  # a negative base has it, too
            size = self.node("power", self.node("abs", a), b)
            return self.multiply(self.node("sign", a), size) if exponent % 2 else size
        return self.node("power", a, b)

    def _whole_power(self, a: int, n: int) -> int:
        if n == 0:
            return self.one
        half = self._whole_power(a, n // 2)
        return self.multiply(self.square(half), a) if n % 2 else self.square(half)

    # Derivatives ---------------------------------------------------------------------------------

    def slope(self, op: str, y: int, a: int) -> int:
        """The derivative of a function of one node."""
        return _SLOPES[op](self, y, a)

    def partials(self, y: int) -> list[tuple[int, int]]:
        """The nodes that a node is made of, each with the node's derivative by it."""
        op, *args = self.nodes[y]
        if op in ("constant", "input", "parameter", "direction", *_STEPS):
            return []
        if op in _SLOPES:
            return [(args[0], self.slope(op, y, args[0]))]
        a, b = args
        if op == "add":
            return [(a, self.one), (b, self.one)]
        if op == "multiply":
            return [(a, b), (b, a)]
        if op == "power":
            below = self.power(a, self.minus(b, self.one))
            return [(a, self.multiply(b, below)), (b, self.multiply(y, self.node("log_or_0", a)))]
        if op == "atan2":
            share = self.reciprocal(self.add(self.square(a), self.square(b)))
            return [(a, self.multiply(b, share)), (b, self.negative(self.multiply(a, share)))]
        first = self.node("greater", *((a, b) if op == "max" else (b, a)))  # or min
        return [(a, first), (b, self.minus(self.one, first))]

    def _varying(self) -> list[bool]:
        """Whether each node depends on a parameter."""
        found: list[bool] = []
        for op, *args in self.nodes:
            leaf = op in ("constant", "input", "direction")
            found.append(op == "parameter" or (not leaf and any(found[each] for each in args)))
        return found

    def slopes(self, f: int, n_params: int) -> tuple[int | None, ...]:
        """The derivatives of a node by each parameter; None for zero."""
        varying = self._varying()
        adjoint, found = {f: self.one}, dict[int, int]()
        for y in range(f, -1, -1):
            if y not in adjoint or not varying[y]:
                continue
            if self.nodes[y][0] == "parameter":
                found[self.nodes[y][1]] = adjoint[y]
            for a, slope in self.partials(y):
                if varying[a]:
                    share = self.multiply(adjoint[y], slope)
                    adjoint[a] = self.add(adjoint[a], share) if a in adjoint else share
        return tuple(found.get(j) for j in range(n_params))

    def bend(self, y: int, known: dict[int, int | None]) -> int | None:
        """The derivative of a node along the direction; None for zero."""
        for node in self._below(y, known):
            if self.nodes[node][0] == "parameter":
                known[node] = self.node("direction", self.nodes[node][1])
                continue
            total = None
            for a, slope in self.partials(node):
                along = known[a]
                if along is not None:
                    share = self.multiply(slope, along)
                    total = share if total is None else self.add(total, share)
            known[node] = total
        return known[y]

    def _below(self, y: int, known: dict[int, int | None]) -> list[int]:
        found, pending = set(), [y]
        while pending:
            node = pending.pop()
            if node not in known and node not in found:
                found.add(node)
                op, *args = self.nodes[node]
                leaf = op in ("constant", "input", "direction", "parameter")
                pending.extend(() if leaf else args)
        return sorted(found)

    def program(self, n_inputs: int, n_params: int, f: Sequence[int]) -> Program:
        """The program of outputs, without the nodes that nobody needs."""
        slopes = tuple(self.slopes(each, n_params) for each in f)
        known: dict[int, int | None] = {}
        bends = tuple(
            tuple(None if y is None else self.bend(y, known) for y in row) for row in slopes
        )
        kept = Program(n_inputs, n_params, tuple(self.nodes), tuple(f), slopes, bends)
        needed = kept.needed([*f, *(y for row in (*slopes, *bends) for y in row)])
        places = {node: i for i, node in enumerate(needed)}
        leaves = ("constant", "input", "direction", "parameter")
        nodes = tuple(
            (op, *args) if op in leaves else (op, *(places[each] for each in args))
            for op, *args in (self.nodes[node] for node in needed)
        )
        tables = [
            tuple(tuple(None if y is None else places[y] for y in row) for row in table)
            for table in (slopes, bends)
        ]
        return Program(n_inputs, n_params, nodes, tuple(places[y] for y in f), *tables)
