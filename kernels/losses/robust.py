"""Losses of the residual r = f - y that grow more slowly than its square: robust ones.

huber         1/2 r^2 where |r| <= delta, beyond it delta (|r| - delta / 2)
pseudo_huber  delta^2 (sqrt(1 + (r / delta)^2) - 1), which is the same but smooth
log_cosh      log cosh r
quantile      with e = -r = y - f:  q e + s log(1 + exp(-e / s)), the check function q e +
              max(-e, 0) with its kink made round over the width s

P. J. Huber, Robust estimation of a location parameter, 1964. P. Charbonnier et al., Deterministic
edge-preserving regularization in computed imaging, 1997 (pseudo_huber). S. Zheng, Gradient descent
algorithms for quantile regression with smooth approximation, 2011 (quantile).
"""

from __future__ import annotations

import numpy as np

from ..compile.jit import helper
from .elementwise import elementwise


@helper
def _huber(numbers, f, y):
    r, delta = f - y, numbers[1]
    clipped = delta if r > delta else -delta if r < -delta else r  # NaN, where r is
    return clipped * (r - 0.5 * clipped), clipped


@helper
def _huber_curvature(numbers, f, y):
    return 0.0 if abs(f - y) > numbers[1] else 1.0


@helper
def _pseudo_huber(numbers, f, y):
    r = f - y
    root = np.hypot(1.0, r / numbers[1])
    return r * (r / (1.0 + root)), r / root


@helper
def _pseudo_huber_curvature(numbers, f, y):
    root = np.hypot(1.0, (f - y) / numbers[1])
    return 1.0 / root / root / root


@helper
def _log_cosh(numbers, f, y):
    r = f - y
    size = abs(r)
    e = np.exp(-2.0 * size)
    slope = -np.expm1(-2.0 * size) / (1.0 + e)  # tanh
    if size < 1.0:  # exact near 0, too
        sinh = 0.5 * np.expm1(2.0 * size) * np.exp(-size)
        value = 0.5 * np.log1p(sinh * sinh)
    else:
        value = size + np.log1p(e) - 0.6931471805599453
    return value, slope if r > 0.0 else -slope


@helper
def _log_cosh_curvature(numbers, f, y):
    e = np.exp(-2.0 * abs(f - y))
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


@helper
def _quantile(numbers, f, y):
    q, width = numbers[1], numbers[2]
    r = f - y
    e = np.exp(-abs(r) / width)
    above = 1.0 / (1.0 + e) if r > 0.0 else e / (1.0 + e)  # the logistic function of r / width
    return max(r, 0.0) - q * r + width * np.log1p(e), above - q


@helper
def _quantile_curvature(numbers, f, y):
    e = np.exp(-abs(f - y) / numbers[2])
    return e / ((1.0 + e) * (1.0 + e)) / numbers[2]


HUBER = elementwise("huber", _huber, _huber_curvature)
PSEUDO_HUBER = elementwise("pseudo_huber", _pseudo_huber, _pseudo_huber_curvature)
LOG_COSH = elementwise("log_cosh", _log_cosh, _log_cosh_curvature)
QUANTILE = elementwise("quantile", _quantile, _quantile_curvature)
