"""Parameters of a formula: their names, and what theta holds of them.

That is a number itself if it can be any; if it is above zero, its logarithm; and if it is between
two numbers, t of ``low + (high - low) / (1 + exp(-t))``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT64, as_array, as_number, real_array, require_finite, shown
from .graph import Graph

__all__ = ["Domain", "as_bounds", "as_names", "domains_of", "require_limits"]


class Domain(NamedTuple):
    """The numbers between two others, of which the upper one or both may be infinite."""

    low: float = -np.inf
    high: float = np.inf

    def hidden(self, name: str, value: Any) -> NDArray[Any]:
        """What theta holds for values of a parameter, which errors call `name`."""
        array = as_array(name, real_array(name, value), FLOAT64)
        require_finite(name, array)
        outside = array[(array <= self.low) | (array >= self.high)]
        if outside.size:
            accepted = f"above {self.low:g}"
            if self.high < np.inf:
                accepted = f"between {self.low} and {self.high}"
            raise ValueError(f"{name} holds {outside[0]}; accepted are numbers {accepted}")
        if self.low == -np.inf:
            return array
        logarithm: NDArray[Any] = np.log(array - self.low)
        return logarithm if self.high == np.inf else logarithm - np.log(self.high - array)

    def values(self, hidden: NDArray[Any]) -> NDArray[Any]:
        """The values that numbers of theta stand for."""
        if self.low == -np.inf:
            return hidden
        with np.errstate(over="ignore"):
            if self.high == np.inf:
                return np.asarray(self.low + np.exp(hidden))
            return np.asarray(self.low + (self.high - self.low) / (1 + np.exp(-hidden)))

    def node(self, graph: Graph, hidden: int) -> int:
        """The node of the value that a node of theta stands for."""
        if self.low == -np.inf:
            return hidden
        share, size = graph.node("exp", hidden), 1.0
        if self.high < np.inf:
            share, size = graph.node("sigmoid", hidden), self.high - self.low
        return graph.add(graph.constant(self.low), graph.multiply(graph.constant(size), share))


def domains_of(
    parameters: tuple[str, ...], positive: tuple[str, ...],
    bounds: tuple[tuple[str, float, float], ...],
) -> dict[str, Domain]:  # fmt: skip
    """The domain of each parameter, in order."""
    limits = {name: Domain(low, high) for name, low, high in bounds}
    limits |= dict.fromkeys(positive, Domain(0.0))
    return {name: limits.get(name, Domain()) for name in parameters}


def require_limits(
    parameters: tuple[str, ...], inputs: tuple[str, ...], positive: tuple[str, ...],
    bounds: tuple[tuple[str, float, float], ...],
) -> None:  # fmt: skip
    """Raise ValueError for a name that is there twice, or a limit of what is no parameter."""
    _require_once("parameters and inputs", (*parameters, *inputs))
    limited = (*positive, *(name for name, _, _ in bounds))
    _require_once("positive and bounds", limited)
    for name in limited:
        if name not in parameters:
            argument = "positive" if name in positive else "bounds"
            raise ValueError(
                f"{argument} has {name!r}; accepted are the parameters, {', '.join(parameters)}"
            )


def as_names(argument: str, given: Any, some: bool = True) -> tuple[str, ...]:
    """The names of symbols, or of texts."""
    kinds = "accepted are sequences of names or of SymPy's symbols"
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"{argument} is {shown(given)}; {kinds}")
    names = []
    for i, each in enumerate(given):
        name = each if isinstance(each, str) else getattr(each, "name", None)
        if not isinstance(name, str) or not name:
            raise TypeError(f"{argument}[{i}] is {shown(each)}; {kinds}")
        names.append(name)
    if some and not names:
        raise ValueError(f"{argument} is empty; accepted is at least one name")
    _require_once(argument, names)
    return tuple(names)


def _require_once(argument: str, names: Iterable[str]) -> None:
    """Raise ValueError if a name is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{argument} has {name!r} twice; accepted is every name once")
        seen.add(name)


def as_bounds(given: Any) -> tuple[tuple[str, float, float], ...]:
    """Parameters between two numbers, in the order of their names."""
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise TypeError(f"bounds is {shown(given)}; accepted are dicts of pairs (low, high)")
    found = []
    names = as_names("bounds", list(given), some=False)
    for name, pair in zip(names, given.values(), strict=True):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(f"bounds[{name!r}] is {shown(pair)}; accepted are pairs (low, high)")
        low, high = (as_number(f"bounds[{name!r}]", each) for each in pair)
        if not low < high:
            raise ValueError(
                f"bounds[{name!r}] is {shown((low, high))}; accepted are pairs with low < high"
            )
        found.append((name, low, high))
    return tuple(sorted(found))
