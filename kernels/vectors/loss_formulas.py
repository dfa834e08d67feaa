"""Losses of one output and one target, on the machines that programs run on.

The passes of ``kernels/losses`` compute them in float64, those that take a loss in
(``models.lanes``) in the dtype of theta. Each is two functions of a machine m, the loss's numbers,
f and y:

    value_and_slope(m, numbers, f, y)    l and dl/df
    curvature(m, numbers, f, y)          d2l/df2, None for 1

squared       1/2 r^2, r = f - y
huber         1/2 r^2 where |r| <= delta, beyond it delta (|r| - delta / 2)
pseudo_huber  delta^2 (sqrt(1 + (r / delta)^2) - 1), which is the same but smooth
log_cosh      log cosh r
quantile      with e = -r = y - f:  q e + s log(1 + exp(-e / s)), the check function q e +
              max(-e, 0) with its kink made round over the width s
logistic      y is 0 or 1, its odds exp f:       log(1 + exp f) - y f
poisson       y is a count of the mean exp f:    exp f - y f, which leaves out log y!

Neither of the last two forms exp of a large number where the loss is finite.

P. J. Huber, Robust estimation of a location parameter, 1964. P. Charbonnier et al., Deterministic
edge-preserving regularization in computed imaging, 1997 (pseudo_huber). S. Zheng, Gradient descent
algorithms for quantile regression with smooth approximation, 2011 (quantile).
"""

from __future__ import annotations

from typing import Any

from .elementary import exp
from .formulas import polynomial, softplus, tanh

#: |r| up to which log cosh r is computed as -log(1 - tanh(r)^2) / 2, which is exact near 0
_NEAR = 0.875
#: |q| from which sqrt(1 + q^2) is |q|, so that no square overflows
_STEEP = 1e9
_LOG_2 = 0.6931471805599453


def _squared(m, numbers, f, y):
    r = f - y
    return 0.5 * (r * r), r


def _one(m, numbers, f, y):
    return None


def _huber(m, numbers, f, y):
    r, (_, delta) = f - y, numbers
    clipped = m.where(r > delta, delta, m.where(r < -delta, -delta, r))
    return clipped * (r - 0.5 * clipped), clipped


def _huber_curvature(m, numbers, f, y):
    return m.where(abs(f - y) <= numbers[1], 1.0, 0.0)


def _root(m, r, delta):
    q = r / delta
    size = abs(q)
    inside = m.where(size < _STEEP, q, 0.0)
    return m.where(size < _STEEP, m.sqrt(m.fma(inside, inside, m.constant(1.0))), size)


def _pseudo_huber(m, numbers, f, y):
    r = f - y
    root = _root(m, r, numbers[1])
    return r * (r / (1.0 + root)), r / root


def _pseudo_huber_curvature(m, numbers, f, y):
    inverse = 1.0 / _root(m, f - y, numbers[1])
    return inverse * inverse * inverse


def _log_cosh(m, numbers, f, y):
    r = f - y
    size, t = abs(r), tanh(m, r)[0]
    # -log(1 - t^2) / 2 = atanh(s)
    square = m.where(size < _NEAR, t * t, 0.0)
    s = square / (2.0 - square)
    s2 = s * s
    near = s * (1.0 + s2 * polynomial(m, m.table.atanh, s2, s2 * s2))
    far = softplus(m, -2.0 * size)[0] + (size - _LOG_2)
    return m.where(size < _NEAR, near, far), t


def _log_cosh_curvature(m, numbers, f, y):
    return tanh(m, f - y)[1]


def _quantile(m, numbers, f, y):
    r, (_, q, width) = f - y, numbers
    steps = r / width  # of which many may be infinitely many
    log = softplus(m, -abs(steps))[0]
    return m.where(r > 0.0, r, 0.0) + width * log - q * r, softplus(m, steps)[1] - q


def _quantile_curvature(m, numbers, f, y):
    width = numbers[2]
    return softplus(m, (f - y) / width)[2] / width


def _logistic(m, numbers, f, y):
    right = f > 0.0
    value, small, _ = softplus(m, -abs(f))
    p, q = m.where(right, 1.0 - small, small), m.where(right, small, 1.0 - small)
    wrong = 1.0 - y
    return value + m.where(right, wrong * f, -(y * f)), wrong * p - y * q


def _logistic_curvature(m, numbers, f, y):
    return softplus(m, f)[2]


def _poisson(m, numbers, f, y):
    mean = exp(m, f)
    return mean - y * f, mean - y


def _poisson_curvature(m, numbers, f, y):
    return exp(m, f)


#: by the word of a loss: its two functions, and how many numbers it has
LANE_LOSSES: dict[str, tuple[Any, Any, int]] = {
    "squared": (_squared, _one, 1),
    "huber": (_huber, _huber_curvature, 2),
    "pseudo_huber": (_pseudo_huber, _pseudo_huber_curvature, 2),
    "log_cosh": (_log_cosh, _log_cosh_curvature, 1),
    "quantile": (_quantile, _quantile_curvature, 3),
    "logistic": (_logistic, _logistic_curvature, 1),
    "poisson": (_poisson, _poisson_curvature, 1),
}
