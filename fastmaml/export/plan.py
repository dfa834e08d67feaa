"""Which layers of a MAML adapt, at which rates, and where their parameters lie in C.

A layer whose rates are all zero stays as it is: its weights are read from the constant table, and
the way back ends at the first layer that adapts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..maml import MAML

__all__ = ["Plan", "Run", "plan_of"]


class Run(NamedTuple):
    """A run of parameters that adapt, with nothing between them: in theta, and in s->w."""

    first: int
    at: int
    size: int


class Plan(NamedTuple):
    """Which layers adapt, and how."""

    rates: NDArray[Any] | None  # (steps, n_layers), or (1, n_layers) if all steps have the same
    parameter_rates: NDArray[Any] | None  # (P,)
    adapts: list[bool]
    own: list[int]  # where the parameters of a layer begin: in s->w if it adapts, else in theta
    runs: list[Run]

    @property
    def size(self) -> int:
        """Parameters that adapt."""
        return sum(run.size for run in self.runs)

    @property
    def lowest(self) -> int:
        """The first layer that adapts, from 0."""
        return self.adapts.index(True) if any(self.adapts) else len(self.adapts)


def plan_of(maml: MAML) -> Plan:
    """Return which layers adapt, and the rates of those."""
    rate, steps, places = maml._problem.rate, maml.steps, maml.model.layers().values()
    per_layer, per_parameter = rate.per_layer, rate.per_parameter
    if steps == 0:
        adapts = [False for _ in places]
    elif per_layer is not None:
        adapts = [bool(column.any()) for column in per_layer.T]
        if (per_layer == per_layer[0]).all():
            per_layer = per_layer[:1]
    else:
        assert per_parameter is not None
        adapts = [bool(per_parameter[place].any()) for place in places]
    runs: list[Run] = []
    own, at = [], 0
    for place, moves in zip(places, adapts, strict=True):
        own.append(at if moves else place.start)
        size = place.stop - place.start
        if moves and runs and runs[-1].first + runs[-1].size == place.start:
            runs[-1] = runs[-1]._replace(size=runs[-1].size + size)
        elif moves:
            runs.append(Run(place.start, at, size))
        at += size if moves else 0
    return Plan(per_layer, per_parameter, adapts, own, runs)
