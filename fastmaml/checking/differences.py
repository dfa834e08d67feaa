"""Derivatives along a line from values alone, each with how far it may be off.

Central differences at steps h = 1/16, 1/64, ... have errors of two kinds: their own, a series in
h², and rounding, which grows as 1/h. Three steps in a row are extrapolated twice (Richardson), and
of all such extrapolations the one is taken whose two errors are least. How large rounding is in the
values themselves is read off five that are next to each other.

Where the function has a kink, wide steps agree on a slope between those on either side of it, and
even well. So an extrapolation is valid only if all smaller steps agree with it, as far as their own
two errors let them. A kink so near that no step is smaller shows in second differences over h,
which are the jump of the slope there, and go to 0 with h elsewhere.

For the second derivative the same is done with second differences, in which rounding is over h².
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEPS", "Estimate", "curvature", "slope", "values_at"]

#: from one step to the next
RATIO = 4.0
#: in units of the direction, which the caller scales as parameters are
STEPS = RATIO ** -np.arange(2.0, 15.0)
#: so near are values in which there is nothing but rounding to be seen
NEAR = 2.0**-36
#: a slope is off by half of a jump that second differences tell, and this part of it is added to
#: the error: whoever trusts errors less than 5-fold is misled
OF_JUMP = 0.1

Array = NDArray[Any]


class Estimate(NamedTuple):
    """A derivative, and how far it may be off (inf where nothing is known)."""

    value: Array
    error: Array


class Values(NamedTuple):
    """A function of t at 0, at plus and minus the steps, (K, ...), and near 0: -2, -1, 1, 2."""

    middle: Array
    above: Array
    below: Array
    near: Array


def values_at(function: Callable[[Array], Array]) -> Values:
    """Ask a function of t (2K + 5,) for its values (2K + 5, ...)."""
    near = NEAR * np.array([-2.0, -1.0, 1.0, 2.0])
    found = np.asarray(function(np.concatenate([[0.0], STEPS, -STEPS, near])), np.float64)
    middle, above, below, around = np.split(found, [1, 1 + len(STEPS), 1 + 2 * len(STEPS)])
    return Values(middle[0], above, below, around)


def slope(values: Values) -> Estimate:
    """The first derivative by t at 0."""
    h = _beside(STEPS, values.above)
    with np.errstate(all="ignore"):
        found = _extrapolated((values.above - values.below) / (2 * h), _rounding(values) / h)
        jumps = np.abs((values.above - values.middle) + (values.below - values.middle)) / h
        jump = np.min(np.where(np.isfinite(jumps), jumps, np.inf), axis=0)
        return Estimate(found.value, found.error + OF_JUMP * jump)


def curvature(values: Values) -> Estimate:
    """The second derivative by t at 0."""
    h = _beside(STEPS, values.above)
    with np.errstate(all="ignore"):
        differences = (values.above - values.middle) + (values.below - values.middle)
        return _extrapolated(differences / h**2, 4 * _rounding(values) / h**2)


def _beside(steps: Array, values: Array) -> Array:
    return steps.reshape(-1, *[1] * (values.ndim - 1))


def _rounding(values: Values) -> Array:
    """How far values may be off by rounding, (...); inf of what has none near 0."""
    sizes = np.abs([values.above, values.below])
    largest = np.max(np.where(np.isfinite(sizes), sizes, 0.0), axis=(0, 1))
    before, last, first, after = values.near
    seen = np.max(
        np.abs([
            first - 2 * values.middle + last, after - 2 * values.middle + before,
            (after - before) - 2 * (first - last),
        ]), axis=0,
    )  # fmt: skip
    found: Array = 4 * np.maximum(np.finfo(np.float64).eps * largest, seen / 2)
    return np.where(np.isfinite(found), found, np.inf)


def _extrapolated(differences: Array, rounding: Array) -> Estimate:
    """Of differences (K, ...) at steps and what rounding may be in each, the best extrapolation."""
    square = RATIO**2
    once = (square * differences[1:] - differences[:-1]) / (square - 1)
    twice = (square**2 * once[1:] - once[:-1]) / (square**2 - 1)
    own = np.abs(twice - once[1:])
    total = own + 2 * rounding[2:]
    # Of a difference itself: its own error is what the first extrapolation takes away.
    loose = 2 * np.abs(differences[:-1] - once) + rounding[:-1]
    for k in range(len(twice)):
        apart = np.abs(differences[k:-1] - twice[k])
        # (Not apart <= ...: of NaN nothing is valid.)
        total[k] = np.where((apart <= loose[k:] + total[k]).all(axis=0), total[k], np.inf)
    total = np.where(np.isfinite(total), total, np.inf)
    best = np.argmin(total, axis=0)[None]
    value = np.take_along_axis(twice, best, axis=0)[0]
    return Estimate(value, np.take_along_axis(total, best, axis=0)[0])
