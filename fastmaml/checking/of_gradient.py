"""`check_gradient`: a gradient against differences of the values that it is the gradient of."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import (
    FLOAT32,
    FLOAT64,
    as_count,
    as_dtype,
    as_rng,
    real_array,
    require_finite,
    shape_text,
    shown,
)
from ..family import is_model
from .differences import Estimate, slope, values_at
from .probing import frozen_of
from .result import NOT_JUDGED, RIGHT, WRONG, CheckResult, Finding

__all__ = ["check_gradient"]

#: what is accepted of the error of a derivative along a direction, for theta of each dtype,
#: relative to the root of the sum of the squares of its terms
ACCEPTED = {FLOAT64: 1e-6, FLOAT32: 1e-3}
#: differences may be off by so many times what they say, and tell nothing if that is more than this
#: part of the derivative's size
TRUST, JUDGED = 20.0, 1e-2
#: layers that get a direction of their own at most
MOST_LAYERS = 24

#: why the gradient of MAML is not that of its values, by ``order``
APPROXIMATE = {
    "first": 'order is "first": the gradient leaves out the derivative of the inner steps, so it '
    "is not the gradient of the values.",
    "implicit": 'order is "implicit": the gradient is that of the minimum of the inner problem, '
    "and of the values only where the inner steps have come close to it.",
}


def check_gradient(
    objective: Any,
    theta: ArrayLike,
    x: Any,
    y: Any,
    x_query: Any = None,
    y_query: Any = None,
    *,
    directions: int = 4,
    rng: int | np.random.Generator | None = 0,
    **options: Any,
) -> CheckResult:
    """Check the gradient of an objective against differences of its values.

    Parameters
    ----------
    objective : MAML, BayesianLastLayer or any other object
        It has ``value_and_gradient(theta, x, y, x_query, y_query)``, and is called without the last
        two where they are None. Where it has ``value``, that is asked for values.
    theta : array_like, shape (P,)
        Where to check. The gradient is asked for in its dtype, values always in float64.
    x, y, x_query, y_query
        As for the objective.
    directions : int
        How many random directions of all parameters. Besides there is one for each layer of the
        objective's model (the first 24), in which only its parameters change.
    rng : int, numpy.random.Generator or None
        A seed, a generator, or None for fresh entropy.
    **options
        Further arguments of the objective's methods, such as ``sample_weight``.

    Returns
    -------
    CheckResult
        Prints as a table; ``ok``, ``wrong`` and ``raise_if_wrong()``. ``error`` is that of the
        derivative along the direction, relative to the root of the sum of squares of its terms,
        ``|g * v|``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or shape, and whatever the objective raises.

    Notes
    -----
    A direction is a standard normal draw for each parameter, times its size. Central differences
    are taken with 13 steps from 1/16 to 4e-9 of that, extrapolated (Richardson), and the best of
    them is chosen as in Ridders [1]_, if smaller steps agree with it. It takes 31 values a
    direction. Differences are right to about 1e-10, if the values are smooth; with relu they have
    jumps and kinks, the more the more rows there are, and a direction that has one closer than the
    steps can tell is not judged.

    The gradient of `MAML` with ``order="first"`` or ``"implicit"`` is an approximation: it is found
    wrong, and a note says why. An error in a few of many parameters can hide in a direction of all.

    References
    ----------
    .. [1] C. J. F. Ridders, Accurate computation of F'(x) and F'(x) F''(x), Advances in Engineering
       Software 4, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmaml as fm
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(2, 5, 10, 1))
    >>> model = fm.MLP([1, 8, 1], "tanh")
    >>> fm.check_gradient(fm.MAML(model, inner_lr=0.01), model.init(0), x, y).ok
    True
    """
    if not callable(getattr(objective, "value_and_gradient", None)):
        raise TypeError(
            f"objective is {shown(objective)}; accepted are objects with the method "
            "value_and_gradient"
        )
    generator, count = as_rng("rng", rng), as_count("directions", directions, 1)
    dtype, array = as_dtype("theta", theta), real_array("theta", theta)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"theta has shape {shape_text(array.shape)}; accepted is (P,)")
    at = array.astype(dtype).astype(FLOAT64)
    require_finite("theta", at, ("parameter",))
    data = (x, y) if x_query is None and y_query is None else (x, y, x_query, y_query)
    value, found = objective.value_and_gradient(at.astype(dtype), *data, **options)
    gradient = real_array("the gradient", found).astype(FLOAT64)
    if gradient.shape != at.shape:
        raise ValueError(
            f"objective gives a gradient of shape {shape_text(gradient.shape)}; accepted is "
            f"theta's, {shape_text(at.shape)}"
        )
    model = getattr(objective, "model", None)
    subject = f"{type(objective).__name__}({'' if model is None else repr(model)})"
    if not np.isfinite(float(value)):
        note = f"the value is {float(value)}: there is nothing to differentiate"
        finding = Finding("gradient", "has a value", float("nan"), 0.0, NOT_JUDGED, note)
        return CheckResult(subject, (finding,), ())

    def values(points: NDArray[Any]) -> NDArray[Any]:
        ask = getattr(objective, "value", None)  # which an objective may have for a number
        if not callable(ask):
            ask = lambda *given, **further: objective.value_and_gradient(*given, **further)[0]  # noqa: E731
        with warnings.catch_warnings():  # wide steps may diverge
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.array([float(ask(point, *data, **options)) for point in points])

    findings, ratios = [], []
    for name, direction in _directions(objective, at, count, generator):
        estimate = slope(values_at(lambda t, v=direction: values(at + np.outer(t, v))))  # type: ignore[misc]
        finding, ratio = _judged(name, gradient * direction, estimate, ACCEPTED[dtype])
        findings.append(finding)
        ratios.append(ratio)
    wrong = tuple(dict.fromkeys(each.part for each in findings if each.verdict == WRONG))
    wrong = wrong[1:] if wrong[:1] == ("gradient",) and len(wrong) > 1 else wrong  # layers say more
    notes = _notes(objective, ratios) if wrong else ()
    return CheckResult(subject, tuple(findings), wrong, notes)


def _directions(
    objective: Any, theta: NDArray[Any], count: int, rng: np.random.Generator
) -> list[tuple[str, NDArray[Any]]]:
    """Directions as large as theta, each with the name of what it changes."""
    scale = np.abs(theta)
    usual = float(np.median(scale[scale > 0])) if scale.any() else 1.0
    scale = np.where(scale > 0, scale, usual)
    model = getattr(objective, "model", None)
    layers = model.layers() if is_model(model) else {}
    if is_model(model) and theta.size >= model.n_params:  # what is frozen counts as a constant
        scale[: model.n_params] *= ~frozen_of(model)
    free = {name: place for name, place in layers.items() if scale[place].any()}
    parts = dict(list(free.items())[:MOST_LAYERS])
    end = max((place.stop for place in layers.values()), default=0)
    if end < theta.size and layers:  # variances, as of BayesianLastLayer
        parts["what follows the layers"] = slice(end, theta.size)
    found = [("gradient", scale * rng.standard_normal(theta.size)) for _ in range(count)]
    for name, place in parts.items() if len(parts) > 1 else ():
        only = np.zeros_like(theta)
        only[place] = (scale * rng.standard_normal(theta.size))[place]
        found.append((f"gradient of {name}", only))
    return found


def _judged(
    part: str, terms: NDArray[Any], estimate: Estimate, relative: float
) -> tuple[Finding, float]:
    """Compare ``g . v`` with the slope of the values along v; and how many times it that is."""
    got, want, off = float(terms.sum()), float(estimate.value), float(estimate.error)
    check = "differences along a direction"
    size = float(np.sqrt((terms**2).sum()))
    if not np.isfinite(size):
        note = f"{int((~np.isfinite(terms)).sum())} entries are NaN or inf"
        return Finding(part, check, float("inf"), relative, WRONG, note), float("nan")
    size = max(size, abs(want) if np.isfinite(off) else 0.0) or 1.0
    accepted = relative * size + TRUST * off
    if not accepted <= max(JUDGED, 2 * relative) * size:
        note = "the values have kinks or jumps too near, or too little precision"
        return Finding(part, check, float("nan"), float("nan"), NOT_JUDGED, note), float("nan")
    error = abs(got - want)
    wrong = error > accepted
    note = f"{got:.6g} along it, expected {want:.6g}" if wrong else ""
    verdict = WRONG if wrong else RIGHT
    return Finding(part, check, error / size, accepted / size, verdict, note), got / (want or 1.0)


def _notes(objective: Any, ratios: list[float]) -> tuple[str, ...]:
    """Why a gradient may be wrong."""
    order = getattr(objective, "order", "exact")
    if order in APPROXIMATE:
        return (APPROXIMATE[order],)
    known = np.array([ratio for ratio in ratios if np.isfinite(ratio)])
    if len(known) > 1 and np.ptp(known) <= 1e-4 * np.abs(known).max():
        return (f"The gradient is {np.median(known):.6g} times what it should be.",)
    return ()
