"""The elementary functions that programs are made of, on the machines that activations run on.

exp, log, sin, cos, tan, tanh and what is made of them are branch-free formulas (see ``formulas``),
within 2 ulp of the truth (tan 4, power 2 and its size times 0.2); inverse functions and erf are the
C library's, one number at a time. What has no value, such as the logarithm of a negative number, is
NaN.
"""

from __future__ import annotations

from typing import Any

from .formulas import exact_sum, fast_sum, polynomial, reduced_exp, sin, tanh, times


def exp(m, x, x_lo=0.0):
    """e**(x + x_lo)."""
    t = m.table
    x = m.where(x < -t.far, -t.far, m.at_most(x, t.far))
    hi, lo, shifted = reduced_exp(m, x, x_lo)
    right = x > 0.0
    power = m.power(shifted - m.where(right, 2.0 * t.bias, 0.0))  # normal, however large x is
    return ((hi + lo) * power) * m.where(right, 2.0**t.bias, 2.0**-t.bias)


def log_parts(m, x):
    """The natural logarithm as hi + lo: k log(2) + 2 atanh(s), s = f / (2 + f), f = x / 2**k - 1.

    The second is f - f*f/2 + s (f*f/2 + R), R = 2 (atanh(s) / s - 1).
    """
    t, infinity = m.table, float("inf")
    small = x < t.tiny
    shift = t.mantissa + 1.0
    k, mantissa = m.parts(m.where(small, x * 2.0**shift, x))
    k = m.where(small, k - shift, k)
    f = mantissa - 1.0
    s = f / (2.0 + f)
    square, half = s * s, 0.5 * (f * f)
    rest = 2.0 * square * polynomial(m, t.atanh, square, square * square)
    hi, lo = exact_sum(k * t.ln2[0], f)
    hi, lo = fast_sum(hi, lo - (half - m.fma(s, half + rest, k * t.ln2[1])))
    special = m.where(x == 0.0, -infinity, float("nan"))  # x < 0 or NaN
    special = m.where(x == infinity, infinity, special)
    inside = m.where(x > 0.0, m.where(x < infinity, 1.0, 0.0), 0.0) > 0.0
    return m.where(inside, hi, special), m.where(inside, lo, 0.0)


def power(m, x, y, parts=None):
    """x**y by the logarithm of x; NaN for a negative x."""
    hi, lo = parts or log_parts(m, x)
    p, p_lo = times(m, m.constant(y), hi, lo)
    return exp(m, p, m.where(abs(p) < m.table.far, p_lo, 0.0))


def sigmoid(m, x):
    """1 / (1 + e**-x)."""
    return 1.0 / (1.0 + exp(m, -x))


def tan(m, x):
    """sin / cos."""
    s, c, _ = sin(m, x)
    return s / c


def cosh(m, x):
    """(e**x + e**-x) / 2, where neither is too large alone."""
    e = exp(m, *exact_sum(abs(x), m.constant(-1.0)))
    return 1.3591409142295225 * e + 0.18393972058572117 / e


def sinh(m, x):
    """tanh cosh."""
    return tanh(m, x)[0] * cosh(m, x)


def sign(m, x):
    """-1, 0 or 1, and NaN for NaN."""
    return m.where(x > 0.0, 1.0, m.where(x < 0.0, -1.0, x))


def greater(m, x, y):
    """1 where x > y, else 0."""
    return m.where(m.constant(x) > y, 1.0, 0.0)


def largest(m, x, y):
    """The larger one; NaN if one is."""
    x = m.constant(x)
    return m.where(x > y, x, m.where(x <= y, y, x + y))


def log_or_0(m, x, parts=None):
    """log, but 0 for 0: the derivative of x**y by y is x**y log(x), which is 0 there."""
    hi, lo = parts or log_parts(m, x)
    return m.where(x == 0.0, 0.0, hi + lo)


def _library(name):
    return lambda m, *args: m.library(name, *args)


#: by the word of a program: a function of a machine and of values on it
FUNCTIONS: dict[str, Any] = {
    "add": lambda m, x, y: x + y,
    "multiply": lambda m, x, y: x * y,
    "negative": lambda m, x: -x,
    "reciprocal": lambda m, x: 1.0 / x,
    "sqrt": lambda m, x: m.sqrt(x),
    "abs": lambda m, x: abs(x),
    "exp": exp,
    "sigmoid": sigmoid,
    "tan": tan,
    "tanh": lambda m, x: tanh(m, x)[0],
    "sinh": sinh,
    "cosh": cosh,
    "sign": sign,
    "greater": greater,
    "max": largest,
    "min": lambda m, x, y: -largest(m, -m.constant(x), -m.constant(y)),
    **{
        name: _library(name)
        for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2", "erf")
    },
}
#: those of which several may share what is made of their first argument first
PREPARED: dict[str, tuple[Any, Any]] = {
    "sin": (sin, lambda m, made, x: made[0]),
    "cos": (sin, lambda m, made, x: made[1]),
    "log": (log_parts, lambda m, made, x: made[0] + made[1]),
    "log_or_0": (log_parts, lambda m, made, x: log_or_0(m, x, made)),
    "power": (log_parts, lambda m, made, x, y: power(m, x, y, made)),
}
