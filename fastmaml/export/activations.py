"""The activations in C: the value from z, and the slope from z and the value a.

Each is a function of one number. A NaN gives NaN, and at a kink z <= 0 counts as left, as in
``kernels.vectors.formulas``; here they are written with ``math.h``, and hold to a few roundings of
the largest value or slope that there is.
"""

from __future__ import annotations

import re

from .text import Dialect

__all__ = ["activation", "slope_takes"]

#: by name: the value as an expression of z, the slope as one of z and a
FORMULAS: dict[str, tuple[str, str]] = {
    "relu": ("z < $zero ? $zero : z", "z > $zero ? $one : $zero"),
    "leaky_relu": ("z < $zero ? $hundredth * z : z", "z > $zero ? $one : $hundredth"),
    "elu": ("z > $zero ? z : $expm1(z)", "z > $zero ? $one : a + $one"),
    "softplus": (
        "(z > $zero ? z : $zero) + $log1p($exp(-$fabs(z)))",
        "z > $zero ? $one / ($one + $exp(-z)) : $exp(z) / ($one + $exp(z))",
    ),
    "tanh": ("$tanh(z)", "$one - a * a"),
    "sigmoid": (
        "z > $zero ? $one / ($one + $exp(-z)) : $exp(z) / ($one + $exp(z))",
        "a * ($one - a)",
    ),
    "silu": (
        "z > $zero ? z / ($one + $exp(-z)) : z * $exp(z) / ($one + $exp(z))",
        "a + (z > $zero ? $one / ($one + $exp(-z)) : $exp(z) / ($one + $exp(z))) * ($one - a)",
    ),
    "gelu": (
        "$half * z * $erfc(-$root_half * z)",
        "$half * $erfc(-$root_half * z) + $density * z * $exp(-$half * z * z)",
    ),
    "sin": ("$sin(z)", "$cos(z)"),
}

NUMBERS = {
    "half": 0.5,
    "hundredth": 0.01,
    "root_half": 0.5**0.5,
    "density": 0.39894228040143267794,  # 1 / sqrt(2 pi)
}

VALUE = """
static $real ${p}_$word($real z)
{
    return $formula;
}
"""
SLOPE = """
static $real ${p}_${word}_slope($parameters)
{
    return $formula;
}
"""


def slope_takes(word: str) -> list[str]:
    """Return what the slope of an activation is a function of: z, a or both."""
    return [name for name in "za" if re.search(rf"\b{name}\b", FORMULAS[word][1])]


def activation(c: Dialect, word: str, slope: bool) -> str:
    """Return the functions of an activation, with the one of its slope if it is asked for."""
    value, slope_of = (c.fill(formula, **NUMBERS) for formula in FORMULAS[word])
    text = c.fill(VALUE, word=word, formula=value)
    if slope:
        parameters = ", ".join(f"{c.real} {name}" for name in slope_takes(word))
        text += c.fill(SLOPE, word=word, parameters=parameters, formula=slope_of)
    return text
