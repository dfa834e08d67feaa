"""Derivatives along a line from values alone, each with how far it may be off.

Central differences at steps h = 1/16, 1/64, ... have errors of two kinds: their own, a series in
h², and rounding, which grows as 1/h. Three steps in a row are extrapolated twice (Richardson), and
of all such extrapolations the one is taken whose two errors are least. Where the function has a
kink, wide steps would agree on a slope between those on either side of it, and even well: so one is
valid only if all smaller steps agree with it, as far as their own two errors let them. How large
rounding is in the values themselves is read off the smallest steps.

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
#: how many of the smallest steps tell what rounding there is
SMALLEST = 6

Array = NDArray[Any]


class Estimate(NamedTuple):
    """A derivative, and how far it may be off (inf where nothing is known)."""

    value: Array
    error: Array


class Values(NamedTuple):
    """A function of t at 0, and at plus and minus the steps, (K, ...)."""

    middle: Array
    above: Array
    below: Array


def values_at(function: Callable[[Array], Array]) -> Values:
    """Ask a function of t (2K + 1,) for its values (2K + 1, ...)."""
    found = np.asarray(function(np.concatenate([[0.0], STEPS, -STEPS])), np.float64)
    n = len(STEPS)
    return Values(found[0], found[1 : n + 1], found[n + 1 :])


def slope(values: Values) -> Estimate:
    """The first derivative by t at 0."""
    h = _beside(STEPS, values.above)
    with np.errstate(all="ignore"):
        return _extrapolated((values.above - values.below) / (2 * h), _rounding(values) / h)


def curvature(values: Values) -> Estimate:
    """The second derivative by t at 0."""
    h = _beside(STEPS, values.above)
    with np.errstate(all="ignore"):
        differences = (values.above - values.middle) + (values.below - values.middle)
        return _extrapolated(differences / h**2, 4 * _rounding(values) / h**2)


def _beside(steps: Array, values: Array) -> Array:
    return steps.reshape(-1, *[1] * (values.ndim - 1))


def _rounding(values: Values) -> Array:
    """How far values may be off by rounding, (...)."""
    sizes = np.abs([values.above, values.below])
    largest = np.max(np.where(np.isfinite(sizes), sizes, 0.0), axis=(0, 1))
    change = (values.above - values.below)[-SMALLEST:] / 2
    h = _beside(STEPS[-SMALLEST:], change)
    apart = np.abs(np.diff(change / h, axis=0)) * h[1:]  # what rounding there is, over h, times h
    seen = np.median(np.where(np.isfinite(apart), apart, np.inf), axis=0)
    found: Array = 4 * np.maximum(np.finfo(np.float64).eps * largest, seen)
    return found


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
