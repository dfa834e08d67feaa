"""Losses on whole registers: as many rows at once as a register has numbers, one in each lane.

What a loss does with some `Rows` is written once, for both machines of ``vectors.loops``. It is
computed in float64, whatever the outputs are, and for each lane by itself: the result of a row does
not depend on where it stands. Where fewer rows are left than there are lanes, the others do what
the last one does once more, and write the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..compile.jit import helper
from ..compile.link import linked
from ..vectors.loops import operation
from ..vectors.pointers import lanes_of, offset, stack_panel
from .passes import Loss

#: what an operation on some rows takes
_OPERANDS = "numbers value count n f ld n_y y ld_y weights apart scale rf out"


class Rows:
    """Some rows: what they hold is read, and what is found of them written, by its column."""

    def __init__(self, on: Any, operands: tuple[Any, ...]) -> None:
        self.on, self.m, self._given = on, on.m, dict(zip(_OPERANDS.split(), operands, strict=True))
        of = self._given
        self.n, self.n_y = of["n"], of["n_y"]
        #: the scale times a row's weight
        weight = on.gather(of["weights"], of["count"], of["apart"])
        self.factor = weight * on.spread(of["scale"])

    def _column(self, array: str, stride: str, j: Any) -> Any:
        return self.on.gather(self._given[array], self._given["count"], self._given[stride], j)

    def number(self, index: int) -> Any:
        """One of the loss."""
        return self.on.number(self._given["numbers"], index)

    def f(self, j: Any) -> Any:
        """An output."""
        return self._column("f", "ld", j)

    def y(self, j: Any) -> Any:
        """A target."""
        return self._column("y", "ld_y", j)

    def rf(self, j: Any) -> Any:
        """The derivative of an output."""
        return self._column("rf", "ld", j)

    def kept(self, j: Any) -> Any:
        """What was put into a column."""
        return self._column("out", "ld", j)

    def put(self, value: Any, j: Any) -> None:
        """Write a column of delta, or of R delta, in the dtype of the outputs."""
        of = self._given
        self.on.scatter(value, of["out"], of["count"], of["ld"], j)

    def each(self, count: Any, start: list[float], body: Callable[..., list[Any]]) -> list[Any]:
        """``totals = body(j, totals)`` for each j below a count."""
        return list(self.on.rows(count, [self.m.constant(each) for each in start], body))

    def end(self, value: Any) -> None:
        """Hand the values of l to the loop over rows."""
        self.on.store(value, self._given["value"], 0, 0, 0)


def _operation(write: Callable[[Rows], None]) -> Any:
    def write_rows(on: Any, *operands: Any) -> None:
        write(Rows(on, operands))

    return operation(_OPERANDS, write_rows, of="numbers")


@helper
def _from_row(output, first, one, out):
    """From a row on: outputs, targets, what is written, and weights with how far apart they are.

    Where rows have no weights they share a 1.
    """
    n_y, ld_y, at = output.n_y, output.ld_y, first * output.ld
    y = offset(output.y, first * ld_y)
    weights, apart = (offset(y, n_y), ld_y) if n_y < ld_y else (one, 0)
    return offset(output.f, at), y, offset(out, at), weights, apart


@helper
def _clear_padding(output, delta):
    for i in range(output.rows * output.ld if output.n < output.ld else 0):
        delta[i] = 0


def loss_of_rows(
    kind: str, write_slope: Callable[[Rows], None], write_bend: Callable[[Rows], None]
) -> Loss:
    """The two linked functions of a loss, which a kind names.

    ``write_slope`` puts ``factor dl/df`` into the columns and ends with l, ``write_bend`` puts
    ``factor G Rf``.
    """
    of_rows, bend_rows = _operation(write_slope), _operation(write_bend)

    def slope(numbers, output, scale, delta) -> float:
        n, n_y, ld, ld_y, lanes = output.n, output.n_y, output.ld, output.ld_y, lanes_of(numbers)
        value, one, total = stack_panel(numbers, 1), stack_panel(output.y, 1), 0.0
        one[0] = 1
        _clear_padding(output, delta)
        for first in range(0, output.rows, lanes):
            count = min(lanes, output.rows - first)
            f, y, out, weights, apart = _from_row(output, first, one, delta)
            of_rows(
                numbers, value, count, n, f, ld, n_y, y, ld_y, weights, apart, scale, f, out
            )  # fmt: skip
            for k in range(count):
                total += weights[k * apart] * value[k]
        return total

    def bend(numbers, output, scale, rf, r_delta):
        n, n_y, ld, ld_y, lanes = output.n, output.n_y, output.ld, output.ld_y, lanes_of(numbers)
        one = stack_panel(output.y, 1)
        one[0] = 1
        _clear_padding(output, r_delta)
        for first in range(0, output.rows, lanes):
            count = min(lanes, output.rows - first)
            f, y, out, weights, apart = _from_row(output, first, one, r_delta)
            bend_rows(
                numbers, numbers, count, n, f, ld, n_y, y, ld_y, weights, apart, scale,
                offset(rf, first * ld), out,
            )  # fmt: skip

    for function in (slope, bend):
        function.__module__ = __name__
        function.__name__ = function.__qualname__ = f"{kind}_{function.__name__}"
    return Loss(linked(slope), linked(bend))
