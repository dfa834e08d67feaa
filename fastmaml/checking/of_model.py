"""`check_model`: a model's five passes, each held against what does not depend on the others.

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

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import FLOAT32, FLOAT64, as_rng, real_array, require_finite, shape_text
from ..family import Compiled, Family, as_model
from ..kernels.methods.probe import probe, scratch_size
from ..models import Custom
from ..workspace import borrow, rows_of
from .bounds import out_of_bounds
from .differences import Estimate, curvature, slope, values_at
from .result import NOT_JUDGED, RIGHT, WRONG, CheckResult, Finding

__all__ = ["check_model"]

Array = NDArray[Any]

#: points at which a model is checked, rows at each, and parameters whose slopes are taken singly
POINTS, ROWS, COLUMNS = 3, 5, 24
#: how many rows are drawn, of which those are kept where f has a value
DRAWN = 64
#: what is accepted between derivatives and differences, and between what should be the same; both
#: relative to the number itself, with a hundredth of it to the largest of its kind
DIFFERENCES, SAME = 1e-6, 1e-9
#: differences may be off by so many times what they say; of single precision, so many roundings
TRUST, ROUNDINGS = 20.0, 256
#: an entry is judged if what is accepted is at most this part of the largest of its kind
JUDGED = 1e-2

PASSES = ("forward", "backward", "r_forward", "r_backward")


class Probed(NamedTuple):
    """What the passes leave at each of n thetas: (n, rows, n_out), (n, P), and these again."""

    f: Array
    g: Array
    rf: Array
    hv: Array


class Point(NamedTuple):
    """Where a model is checked, all float64 numbers that float32 has too."""

    theta: Array  # (P,)
    scale: Array  # (P,), as large as theta's entries
    x: Array  # (rows, n_in)
    v: Array  # (P,), two directions
    u: Array
    delta: Array  # (rows, n_out)
    r_delta: Array


class _Prober:
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


class _Worst(NamedTuple):
    error: float
    accepted: float
    note: str


class _Comparison:
    """All points of one check: the worst entry, and how many could be judged."""

    def __init__(self, part: str, check: str) -> None:
        self.part, self.check = part, check
        self.worst = _Worst(float("nan"), float("nan"), "")
        self.ratio, self.judged, self.given = -1.0, 0, 0

    def add(self, found: Array, want: Array, accepted: Array, where: Any) -> None:
        """Compare arrays of one shape; `accepted` is what they may differ by."""
        found, want, accepted = np.broadcast_arrays(found, want, accepted)
        largest = float(np.max(np.abs(want), initial=0.0, where=np.isfinite(want))) or 1.0
        judged = np.isfinite(want) & (accepted <= JUDGED * largest)
        self.given, self.judged = self.given + want.size, self.judged + int(judged.sum())
        if not judged.any():
            return
        error = np.where(np.isfinite(found), np.abs(found - want), np.inf)
        ratio = np.where(judged, error / np.maximum(accepted, np.finfo(float).tiny), -1.0)
        at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        if ratio[at] > self.ratio:
            self.ratio = float(ratio[at])
            note = f"{where(*map(int, at))}: {found[at]:.6g}, expected {want[at]:.6g}"
            self.worst = _Worst(float(error[at] / largest), float(accepted[at] / largest), note)

    def finding(self) -> Finding:
        """The line of the table."""
        wrong = self.ratio > 1
        verdict = WRONG if wrong else RIGHT if self.judged else NOT_JUDGED
        note = self.worst.note if wrong else ""
        if self.judged < self.given and not wrong:
            note = f"{self.given - self.judged} of {self.given} numbers not judged"
        return Finding(self.part, self.check, self.worst.error, self.worst.accepted, verdict, note)


def check_model(
    model: Family,
    theta: ArrayLike | None = None,
    x: ArrayLike | None = None,
    *,
    rng: int | np.random.Generator | None = 0,
) -> CheckResult:
    """Check a model's derivatives: which of its functions is wrong, and by how much.

    Of a `Custom` model the functions have the names that they were given by. Of any other family
    the parts are its passes: ``backward`` (products with the transposed Jacobian), ``r_forward``
    (with the Jacobian) and ``r_backward`` (with the Hessian).

    Parameters
    ----------
    model : MLP, Linear, Custom or another family
    theta : array_like, shape (P,) or (n, P), optional
        Where to check. By default, at three draws of ``model.init``, each entry changed a little.
    x : array_like, shape (rows, n_inputs), optional
        Rows to check with, of which the first 64 are looked at. By default standard normal draws.
        Rows where f is NaN or inf are left out.
    rng : int, numpy.random.Generator or None
        A seed, a generator, or None for fresh entropy.

    Returns
    -------
    CheckResult
        Prints as a table; ``ok``, ``wrong`` and ``raise_if_wrong()``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or shape.

    Notes
    -----
    What is right is derived from f alone, by differences whose steps are chosen for each number and
    whose own error is known (about 1e-10 of it); 1e-6 is accepted. Where they are not exact enough
    to tell, as near a kink of relu, a number is not judged. A wrong f cannot be found, but if the
    derivatives agree with each other and not with it, ``forward`` is named.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.check_model(fm.MLP([2, 8, 1], "tanh")).ok
    True
    """
    generator = as_rng("rng", rng)
    as_model(model)
    names = _names(model)
    if isinstance(model, Custom):
        start = _points_of(model, theta, generator)[0]
        bounds = out_of_bounds(model, start, _rows_of(model, x, generator)[:ROWS])
        if bounds:  # compiled code would destroy memory
            return CheckResult(repr(model), bounds, tuple(sorted({each.part for each in bounds})))
    prober = _Prober(model, FLOAT64)
    points = _points(model, prober, theta, x, generator)
    if not points:
        note = "f is NaN or inf wherever it was asked: give theta= and x= where it has a value"
        finding = Finding("forward", "has a value", float("inf"), 0.0, WRONG, note)
        return CheckResult(repr(model), (finding,), ("forward",))
    order, notes = _order_of(prober)
    checks = _Checks(model, prober, order, names)
    for point in points:
        checks.derivatives(point)
        checks.same(point)
        checks.single(point)
    findings = tuple(each.finding() for each in checks.all.values())
    return CheckResult(repr(model), findings, _blamed(findings, names), notes)


def _names(model: Family) -> dict[str, str]:
    """What each pass is called."""
    if not isinstance(model, Custom):
        return {name: name for name in PASSES}
    names = dict(zip(PASSES, ("forward", "vjp", "jvp", "hvp"), strict=True))
    derived = model.derived
    for name, word in names.items():
        # The function that something is derived from is to blame.
        while word in derived:
            word = derived[word].split(",")[0]
        names[name] = word
    return names


def _order_of(prober: _Prober) -> tuple[int, tuple[str, ...]]:
    """The highest derivatives that a model has, and what is said of those that it has not."""
    for order in (2, 1):
        try:
            prober.compiled.reaching(order)
        except ValueError as error:
            why = str(error)
            continue
        return (order, ()) if order == 2 else (order, (f"Not checked: {why}",))
    return 0, (f"Not checked: {why}",)


def _blamed(findings: tuple[Finding, ...], names: dict[str, str]) -> tuple[str, ...]:
    wrong = [each for each in findings if each.verdict == WRONG]
    parts = {each.part for each in wrong if " or " not in each.part}
    both = {names["backward"], names["r_forward"]}
    agree = any(" or " in each.part and each.verdict == RIGHT for each in findings)
    if len(both) == 2 and both <= parts and agree and names["forward"] not in parts:
        return ("forward",)  # its derivatives agree with each other
    if not parts:
        parts = {each.part for each in wrong}
    order = [*dict.fromkeys(names.values()), *(each.part for each in wrong)]
    return tuple(dict.fromkeys(part for part in order if part in parts))


# Where a model is checked ------------------------------------------------------------------------


def _points_of(model: Family, theta: Any, rng: np.random.Generator) -> Array:
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


def _rows_of(model: Family, x: Any, rng: np.random.Generator) -> Array:
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


def _points(
    model: Family, prober: _Prober, theta: Any, x: Any, rng: np.random.Generator
) -> list[Point]:
    """Points with rows where f has a value."""

    def single(array: Array) -> Array:
        with np.errstate(all="ignore"):
            return array.astype(FLOAT32).astype(FLOAT64)

    points = []
    for at in single(_points_of(model, theta, rng)):
        rows, n_out = single(_rows_of(model, x, rng)), model.n_outputs
        scale = np.abs(at)
        usual = float(np.median(scale[scale > 0])) if scale.any() else 1.0
        scale = np.where(scale > 0, scale, usual)
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


# The checks --------------------------------------------------------------------------------------


class _Checks:
    """The comparisons of a model, by part and check."""

    def __init__(self, model: Family, prober: _Prober, order: int, names: dict[str, str]) -> None:
        self.model, self.probe, self.order, self.names = model, prober, order, names
        self.single_precision: _Prober | None = None
        self.all: dict[tuple[str, str], _Comparison] = {}
        self.layers = model.layers()
        # What R delta adds is vjp's work in a custom model.
        self.adding = names["backward" if isinstance(model, Custom) else "r_backward"]

    def compare(
        self, part: str, check: str, found: Array, want: Array, accepted: Any, where: Any
    ) -> bool:
        """Add to a comparison; return whether it is right so far."""
        each = self.all.setdefault((part, check), _Comparison(part, check))
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
        value = np.array([(each.value * point.delta).sum() for each in slopes])
        error = np.array([(each.error * np.abs(point.delta)).sum() for each in slopes])
        size = np.array([np.abs(each.value * point.delta).sum() for each in slopes])
        found = columns @ plain.g[0]

        def column(i: int) -> str:
            places = np.flatnonzero(columns[i])
            return "a direction" if len(places) > 1 else self.parameter(int(places[0]))

        right = self.compare(
            names["backward"], "differences of f", found, value,
            DIFFERENCES * (size + size.max() / 100) + TRUST * error, column,
        )  # fmt: skip
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

    def _columns(self, point: Point) -> Array:
        """Directions: unit vectors of parameters as large as they are, and two of all."""
        p = len(point.theta)
        places = np.unique(np.linspace(0, p - 1, min(p, COLUMNS)).round().astype(int))
        return np.vstack([np.eye(p)[places] * point.scale, point.v, point.u])

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
        added = self.probe(at, point, 2).hv[0] - plain.hv[0]
        want = self.probe(at, point, 1, delta=point.r_delta).g[0]
        size = np.abs(want) + np.abs(plain.hv[0])
        self.compare(
            self.adding, "what R delta adds", added * point.scale, want * point.scale,
            SAME * size * point.scale + SAME * (size * point.scale).max(), self.parameter,
        )  # fmt: skip

    def same(self, point: Point) -> None:
        """Whether f and g are the same in whatever way they are asked for."""
        at, names = point.theta[None], self.names
        found = [self.probe(at, point, order) for order in range(self.order + 1)]
        f, g = found[0].f[0], found[-1].g[0]
        alone = [self.probe(at, point, 0, x=point.x[[j]], delta=point.delta[[j]],
                            r_delta=point.r_delta[[j]]).f[0, 0] for j in range(len(point.x))]  # fmt: skip
        self.compare(
            names["forward"], "each row alone", f, np.array(alone),
            SAME * (np.abs(f) + np.abs(f).max()), _row_and_output,
        )  # fmt: skip
        for each in found[1:]:
            self.compare(
                names["forward"], "whatever is asked besides", each.f[0], f,
                SAME * (np.abs(f) + np.abs(f).max()), _row_and_output,
            )  # fmt: skip
        if self.order == 0:
            return
        size = np.abs(g) * point.scale + (np.abs(g) * point.scale).max()
        if self.order == 2:
            self.compare(
                names["backward"], "whatever is asked besides", found[1].g[0] * point.scale,
                g * point.scale, SAME * size, self.parameter,
            )  # fmt: skip
        both = self.probe(at, point, self.order, add=True)
        for part, added, plain in (
            ("backward", both.g[0], g), ("r_backward", both.hv[0], found[-1].hv[0]),
        ):  # fmt: skip
            if part == "backward" or self.order == 2:
                size = (np.abs(plain) + np.abs(point.v)) * point.scale
                self.compare(
                    names[part], "adds to what is there", (added - point.v) * point.scale,
                    plain * point.scale, SAME * (size + size.max()), self.parameter,
                )  # fmt: skip

    def single(self, point: Point) -> None:
        """Whether float32 is near to float64, where rounding theta and x would leave it."""
        if self.single_precision is None:
            self.single_precision = _Prober(self.model, FLOAT32)
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
        wheres = (_row_and_output, self.parameter, _row_and_output, self.parameter)
        calls = (names for names in PASSES)
        for i, (name, where) in enumerate(zip(calls, wheres, strict=True)):
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


def _row_and_output(j: int, o: int) -> str:
    return f"row {j}, output {o}"
