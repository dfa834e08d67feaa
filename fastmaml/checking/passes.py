"""A model's five passes, each held against what does not depend on the others.

f is what the others are held against. Its slopes come of differences (``differences``), and so do
its second derivatives: as slopes of g where ``backward`` was found right, else of f's second
differences. So an error in one pass is not taken for one of another:

* ``r_forward``     Rf along a direction against the slope of f
* ``backward``      g against ``sum_jo delta_jo df_jo``, parameter by parameter
* ``r_backward``    hv with no R delta against the second derivative of ``delta . f``; what R delta
  adds, against g of it; and ``u . H v = v . H u``

What has no other explanation: ``delta . Rf = g . v`` to rounding, which differences could not see;
the passes of each order, of single rows, and those that add, give the same; and float32 is
near to float64, as far as rounding of theta and x lets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import FLOAT32
from ..family import Family
from ..models.custom import Custom
from .comparison import Comparison
from .differences import Array, Estimate, curvature, slope, values_at
from .probing import Point, Probed, Prober

__all__ = ["PASSES", "SAME_F", "Checks"]

#: parameters whose slopes are taken singly, at most
COLUMNS = 24
#: what is accepted between derivatives and differences, and between what should be the same; both
#: relative to the number itself, with a hundredth of it to the largest of its kind
DIFFERENCES, SAME = 1e-6, 1e-9
#: differences may be off by so many times what they say; of single precision, so many roundings
TRUST, ROUNDINGS = 20.0, 256

PASSES = ("forward", "backward", "r_forward", "r_backward")
#: of f, what no derivative can be held against unless it is right
SAME_F = ALONE, BESIDES = "each row alone", "whatever is asked besides"


class Checks:
    """The comparisons of a model, by part and check."""

    def __init__(self, model: Family, prober: Prober, order: int, names: dict[str, str]) -> None:
        self.model, self.probe, self.order, self.names = model, prober, order, names
        self.single_precision: Prober | None = None
        self.all: dict[tuple[str, str], Comparison] = {}
        self.layers = model.layers()
        self.custom = isinstance(model, Custom)

    def compare(
        self,
        part: str,
        check: str,
        found: Array,
        want: Array,
        accepted: Array,
        where: Callable[..., str],
    ) -> bool:
        """Add to a comparison; return whether it is right so far."""
        each = self.all.setdefault((part, check), Comparison(part, check))
        each.add(np.asarray(found), np.asarray(want), np.asarray(accepted), where)
        return each.ratio <= 1

    def parameter(self, p: int) -> str:
        """What a parameter is called in a note."""
        for name, place in self.layers.items():
            if place.start <= p < place.stop:
                return f"{name}[{p - place.start}]"
        return f"theta[{p}]"

    def derivatives(self, point: Point) -> None:
        """Against differences."""
        if self.order == 0:
            return
        names, at, zero = self.names, point.theta, np.zeros_like(point.delta)
        plain = self.probe(at[None], point, self.order, r_delta=zero)
        columns = self._columns(point)
        slopes = [self._slope_of_f(point, direction) for direction in columns]
        value, accepted = _sums(slopes, point.delta)

        def column(i: int) -> str:
            places = np.flatnonzero(columns[i])
            return "a direction" if len(places) > 1 else self.parameter(int(places[0]))

        right = self.compare(
            names["backward"], "differences of f", columns @ plain.g[0], value, accepted, column
        )
        if self.order < 2:
            return
        along = self._slope_of_f(point, point.v)
        self.compare(
            names["r_forward"], "differences of f", plain.rf[0], along.value,
            DIFFERENCES * (np.abs(along.value) + np.abs(along.value).max() / 100)
            + TRUST * along.error, _row_and_output,
        )  # fmt: skip
        second = self._second(point, columns, right)
        self.compare(
            names["r_backward"], f"differences of {names['backward'] if right else 'f'}",
            columns @ plain.hv[0], second.value,
            DIFFERENCES * (np.abs(second.value) + np.abs(second.value).max())
            + TRUST * second.error, column,
        )  # fmt: skip
        self._identities(point, plain)
        added = self.probe(point.theta[None], point, 2).hv[0] - plain.hv[0]
        if right:  # so in a custom model hvp does not add to what vjp left
            want = self.probe(point.theta[None], point, 1, delta=point.r_delta).g[0]
            size = np.abs(want) + np.abs(plain.hv[0])
            self.compare(
                names["r_backward"], "what R delta adds", added * point.scale, want * point.scale,
                SAME * (size * point.scale + (size * point.scale).max()), self.parameter,
            )  # fmt: skip
        else:
            value, accepted = _sums(slopes, point.r_delta)
            part = names["backward" if self.custom else "r_backward"]  # vjp, called with R delta
            self.compare(part, "what R delta adds", columns @ added, value, accepted, column)

    def _columns(self, point: Point) -> Array:
        """Directions: unit vectors of parameters as large as they are, and two of all."""
        free = np.flatnonzero(point.scale)
        picked = np.linspace(0, len(free) - 1, min(len(free), COLUMNS)).round().astype(int)
        single = np.eye(len(point.theta))[free[np.unique(picked)]]
        return np.vstack([single * point.scale, point.v, point.u])

    def _slope_of_f(self, point: Point, direction: Array) -> Estimate:
        return slope(
            values_at(lambda t: self.probe(point.theta + np.outer(t, direction), point, 0).f)
        )

    def _second(self, point: Point, columns: Array, trusted: bool) -> Estimate:
        """``w . H v`` for the directions w, H of ``delta . f``."""
        at, v = point.theta, point.v
        if trusted:
            return slope(
                values_at(lambda t: self.probe(at + np.outer(t, v), point, 1).g @ columns.T)
            )
        value, error = np.empty(len(columns)), np.empty(len(columns))
        for i, w in enumerate(columns):
            # 4 w . H v is the second derivative along w + v less that along w - v.
            sums = [
                curvature(
                    values_at(
                        lambda t, d=d: (  # type: ignore[misc]
                            self.probe(at + np.outer(t, d), point, 0).f * point.delta
                        ).sum(axis=(1, 2))
                    )
                )
                for d in (w + v, w - v)
            ]
            value[i] = (sums[0].value - sums[1].value) / 4
            error[i] = (sums[0].error + sums[1].error) / 4
        return Estimate(value, error)

    def _identities(self, point: Point, plain: Probed) -> None:
        """What holds to rounding."""
        names, at = self.names, point.theta[None]
        products, terms = point.delta * plain.rf[0], plain.g[0] * point.v
        if names["backward"] != names["r_forward"]:
            size = np.abs(products).sum() + np.abs(terms).sum()
            self.compare(
                f"{names['backward']} or {names['r_forward']}", "each is the other's transpose",
                terms.sum(), products.sum(), SAME * size, lambda: "along a direction",
            )  # fmt: skip
        zero = np.zeros_like(point.delta)
        other = self.probe(at, point, 2, r_delta=zero, v=point.u).hv[0]
        one, two = point.u * plain.hv[0], point.v * other
        self.compare(
            names["r_backward"], "symmetry", one.sum(), two.sum(),
            SAME * (np.abs(one).sum() + np.abs(two).sum()), lambda: "along two directions",
        )  # fmt: skip

    def same(self, point: Point) -> None:
        """Whether f and g are the same in whatever way they are asked for."""
        at, names = point.theta[None], self.names
        found = [self.probe(at, point, order) for order in range(self.order + 1)]
        f, g = found[0].f[0], found[-1].g[0]
        alone = [self._alone(point, j) for j in range(len(point.x))]
        self.compare(
            names["forward"], ALONE, f, np.array(alone),
            SAME * (np.abs(f) + np.abs(f).max()), _row_and_output,
        )  # fmt: skip
        for each in found[1:]:
            self.compare(
                names["forward"], BESIDES, each.f[0], f,
                SAME * (np.abs(f) + np.abs(f).max()), _row_and_output,
            )  # fmt: skip
        if self.order == 0:
            return
        size = np.abs(g) * point.scale + (np.abs(g) * point.scale).max()
        if self.order == 2:
            self.compare(
                names["backward"], BESIDES, found[1].g[0] * point.scale,
                g * point.scale, SAME * size, self.parameter,
            )  # fmt: skip
        both, adds = self.probe(at, point, self.order, add=True), True
        for part, added, plain in (
            ("backward", both.g[0], g), ("r_backward", both.hv[0], found[-1].hv[0]),
        ):  # fmt: skip
            # (In a custom model vjp is called before hvp: if it does not add, neither does.)
            if part == "backward" or (self.order == 2 and (adds or not self.custom)):
                size = (np.abs(plain) + np.abs(point.v)) * point.scale
                adds = self.compare(
                    names[part], "adds to what is there", (added - point.v) * point.scale,
                    plain * point.scale, SAME * (size + size.max()), self.parameter,
                )  # fmt: skip

    def _alone(self, point: Point, j: int) -> Array:
        """f of row j, without the others."""
        of_row: dict[str, Any] = {
            "x": point.x[[j]], "delta": point.delta[[j]], "r_delta": point.r_delta[[j]],
        }  # fmt: skip
        return self.probe(point.theta[None], point, 0, **of_row).f[0, 0]

    def single(self, point: Point) -> None:
        """Whether float32 is near to float64, where rounding theta and x would leave it."""
        if self.single_precision is None:
            self.single_precision = Prober(self.model, FLOAT32)
        at, eps = point.theta[None], float(np.finfo(np.float32).eps)
        near = self.single_precision(at, point, self.order)
        exact = self.probe(at, point, self.order)
        rng = np.random.default_rng(0)
        moved = []
        for _ in range(4):
            signs = [rng.choice([-eps, eps], a.shape) for a in (at, point.x)]
            moved.append(
                self.probe(at * (1 + signs[0]), point, self.order, x=point.x * (1 + signs[1]))
            )
        wheres: list[Callable[..., str]] = [_row_and_output, self.parameter] * 2
        for i, (name, where) in enumerate(zip(PASSES, wheres, strict=True)):
            if self.order < (0, 1, 2, 2)[i]:
                continue
            unit = point.scale if i in (1, 3) else 1.0
            want, got = exact[i][0] * unit, near[i][0] * unit
            change = np.max([np.abs(each[i][0] * unit - want) for each in moved], axis=0)
            size = np.abs(want).max()
            if size < 3e38 and np.isfinite(change).all():  # else float32 cannot hold it
                self.compare(
                    self.names[name], "float32 and float64", got, want,
                    ROUNDINGS * (change.max() + eps * size), where,
                )  # fmt: skip


def _sums(slopes: list[Estimate], delta: Array) -> tuple[Array, Array]:
    """``sum_jo delta_jo df_jo`` along each direction, and what it may be off by."""
    value = np.array([(each.value * delta).sum() for each in slopes])
    size = np.array([np.abs(each.value * delta).sum() for each in slopes])
    error = np.array([(each.error * np.abs(delta)).sum() for each in slopes])
    return value, DIFFERENCES * (size + size.max() / 100) + TRUST * error


def _row_and_output(j: int, o: int) -> str:
    return f"row {j}, output {o}"
