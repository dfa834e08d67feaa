"""Negative log-likelihoods of one output: of a yes or no, and of a count.

logistic  y is 0 or 1, its odds exp f:       log(1 + exp f) - y f
poisson   y is a count of the mean exp f:    exp f - y f, which leaves out log y!

Neither forms exp of a large number where the loss is finite.
"""

from __future__ import annotations

import numpy as np

from ..compile.jit import helper
from .elementwise import elementwise


@helper
def _logistic(numbers, f, y):
    e = np.exp(-abs(f))
    p = 1.0 / (1.0 + e) if f > 0.0 else e / (1.0 + e)
    one_minus_p = e / (1.0 + e) if f > 0.0 else 1.0 / (1.0 + e)
    value = np.log1p(e) + (1.0 - y) * max(f, 0.0) + y * max(-f, 0.0)
    return value, (1.0 - y) * p - y * one_minus_p


@helper
def _logistic_curvature(numbers, f, y):
    e = np.exp(-abs(f))
    return e / ((1.0 + e) * (1.0 + e))


@helper
def _poisson(numbers, f, y):
    mean = np.exp(f)
    return mean - y * f, mean - y


@helper
def _poisson_curvature(numbers, f, y):
    return np.exp(f)


LOGISTIC = elementwise("logistic", _logistic, _logistic_curvature)
POISSON = elementwise("poisson", _poisson, _poisson_curvature)
