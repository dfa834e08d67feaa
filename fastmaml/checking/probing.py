"""Where a model is checked, and what its passes leave there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT32, FLOAT64, real_array, require_finite, shape_text
from ..family import Compiled, Family, feature_map_of
from ..kernels.methods.probe import probe, scratch_size
from ..models import Frozen, Scaled, Sum
from ..workspace import borrow, rows_of

__all__ = ["ROWS", "Point", "Probed", "Prober", "frozen_of", "points_of", "thetas_of", "x_of"]

Array = NDArray[Any]

#: points at which a model is checked, and rows at each
POINTS, ROWS = 3, 5
#: how many rows are drawn, of which those are kept where f has a value
DRAWN = 64


class Probed(NamedTuple):
    """What the passes leave at each of n thetas: (n, rows, n_out), (n, P), and these again."""

    f: Array
    g: Array
    rf: Array
    hv: Array


class Point(NamedTuple):
    """Where a model is checked, all float64 numbers that float32 has too."""

    theta: Array  # (P,)
    scale: Array  # (P,), as large as theta's entries; 0 for what is frozen
    x: Array  # (rows, n_in), as the passes take them
    v: Array  # (P,), two directions
    u: Array
    delta: Array  # (rows, n_out)
    r_delta: Array


class Prober:
    """The passes of a model in one dtype."""

    def __init__(self, model: Family, dtype: np.dtype[Any]) -> None:
        self.compiled: Compiled = model.compiled(dtype)
        self.dtype, self.shape = dtype, (model.n_params, model.n_outputs)

    def __call__(
        self, theta: Array, point: Point, order: int, add: bool = False, **other: Array
    ) -> Probed:
        """Run the passes up to an order at theta (n, P), the rest as in the point or as given."""
        given = point._replace(**other)
        v, x, delta, r_delta, theta = (
            np.ascontiguousarray(each, self.dtype)
            for each in (given.v, given.x, given.delta, given.r_delta, theta)
        )
        n, (p, n_out) = len(theta), self.shape
        outputs = [
            np.full(shape, np.nan, self.dtype)
            for shape in ((n, len(x), n_out), (n, p), (n, len(x), n_out), (n, p))
        ]
        table = self.compiled.reaching(order)
        with borrow(rows_of(self.dtype, 1, scratch_size(table, len(x)))) as (scratch,):
            probe(table, theta, order, add, v, x, delta, r_delta, scratch[0], *outputs)
        return Probed(*(each.astype(FLOAT64) for each in outputs))


def thetas_of(model: Family, theta: Any, rng: np.random.Generator) -> Array:
    """Thetas (n, P)."""
    if theta is not None:
        array = real_array("theta", theta)
        if array.ndim not in (1, 2) or array.shape[-1] != model.n_params or not array.size:
            raise ValueError(
                f"theta has shape {shape_text(array.shape)}; accepted are ({model.n_params},) and "
                f"(n, {model.n_params}) ({model!r})"
            )
        given = array.reshape(-1, model.n_params).astype(FLOAT64)
        require_finite("theta", given)
        return given
    drawn = np.array([model.init(rng) for _ in range(POINTS)])
    changed = drawn * (1 + 0.2 * rng.uniform(-1, 1, drawn.shape))
    return np.where(drawn == 0, 0.3 * rng.standard_normal(drawn.shape), changed)


def x_of(model: Family, x: Any, rng: np.random.Generator) -> Array:
    """Rows (n, n_in), as given or drawn."""
    if x is None:
        return rng.standard_normal((DRAWN, model.n_inputs))
    array = real_array("x", x)
    if array.ndim != 2 or array.shape[1] != model.n_inputs or not len(array):
        raise ValueError(
            f"x has shape {shape_text(array.shape)}; accepted is (rows, {model.n_inputs}), rows at "
            f"least 1 ({model!r})"
        )
    rows = array[:DRAWN].astype(FLOAT64)
    require_finite("x", rows, ("row", "feature"))
    return rows


def frozen_of(model: Family) -> NDArray[np.bool_]:
    """Which parameters (P,) count as constants, whose derivatives are 0."""
    if isinstance(model, Sum):
        return np.concatenate([frozen_of(part) for part in model.parts])
    if isinstance(model, Frozen):
        return model.mask | frozen_of(model.model)
    if isinstance(model, Scaled):
        return frozen_of(model.model)
    return np.zeros(model.n_params, bool)


def points_of(
    model: Family, prober: Prober, theta: Any, x: Any, rng: np.random.Generator
) -> list[Point]:
    """Points with rows where f has a value."""

    def single(array: Array) -> Array:
        with np.errstate(all="ignore"):
            return array.astype(FLOAT32).astype(FLOAT64)

    points, feature_map = [], feature_map_of(model)
    for at in single(thetas_of(model, theta, rng)):
        rows, n_out = single(x_of(model, x, rng)), model.n_outputs
        if feature_map is not None:
            rows = single(feature_map(rows))
        scale = np.abs(at)
        usual = float(np.median(scale[scale > 0])) if scale.any() else 1.0
        scale = np.where(scale > 0, scale, usual) * ~frozen_of(model)
        v, u = (single(scale * rng.standard_normal(at.shape)) for _ in range(2))
        empty = np.zeros((1, n_out))
        kept = []
        for row in rows:
            point = Point(at, scale, row[None], v, u, empty, empty)
            near = at + 1e-3 * np.outer([-1, 0, 1], v)
            if np.isfinite(prober(near, point, 0).f).all():
                kept.append(row)
            if len(kept) == ROWS:
                break
        if kept:
            deltas = (single(rng.standard_normal((len(kept), n_out))) for _ in range(2))
            points.append(Point(at, scale, np.array(kept), v, u, *deltas))
    return points
