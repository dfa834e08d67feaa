"""Formulas that the tests of `fm.Formula` share, written for any library that has exp, cos, sin.

A formula is a function of that library and of its symbols by name, so that SymPy, NumPy (with
complex numbers too) and JAX are given the very same one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sympy

import fastmaml as fm


class Law(NamedTuple):
    """A formula, where its inputs and parameters usually are, and a rate that adapts it."""

    name: str
    inputs: dict[str, tuple[float, float]]
    values: dict[str, float]
    positive: tuple[str, ...]
    bounds: dict[str, tuple[float, float]]
    rate: float
    f: Callable[..., list[Any]]

    @property
    def model(self) -> fm.Formula:
        """The formula as a model."""
        names = {"parameters": list(self.values), "inputs": list(self.inputs)}
        limits = {"positive": self.positive, "bounds": self.bounds}
        return fm.Formula(lambda **symbols: self.f(sympy, **symbols), **names, **limits)

    def outputs(self, m: Any, theta: Any, x: Any) -> list[Any]:
        """f of theta (P,) at x (rows, n_inputs), by the library m."""
        symbols = {name: x[:, c] for c, name in enumerate(self.inputs)}
        for j, name in enumerate(self.values):
            symbols[name] = theta[j]
            if name in self.positive:
                symbols[name] = m.exp(theta[j])
            elif name in self.bounds:
                low, high = self.bounds[name]
                symbols[name] = low + (high - low) / (1 + m.exp(-theta[j]))
        return [f + 0 * x[:, 0] for f in self.f(m, **symbols)]

    def draw(self, rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a task whose parameters are near the usual ones."""
        x = np.stack([rng.uniform(*limits, rows) for limits in self.inputs.values()], 1)
        theta = self.model.pack(self.values) + rng.normal(0, 0.1, len(self.values))
        y = np.stack(self.outputs(np, theta, x), 1)
        return x, y + rng.normal(0, 0.05, y.shape)


def oscillation(m, t, **v):
    return [
        sum(v[f"A{i}"] * m.exp(-v[f"g{i}"] * t) * m.cos(v[f"w{i}"] * t + v[f"p{i}"]) for i in "123")
    ]


def michaelis_menten(m, S, Vmax, Km):
    return [Vmax * S / (Km + S)]


def logistic(m, t, K, N0, r):
    return [K / (1 + (K / N0 - 1) * m.exp(-r * t))]


def pendulum(m, angle, speed, torque, g_l, c, u):
    return [-g_l * m.sin(angle) - c * speed + u * torque]


def diode(m, V, I0, n, R, G):
    return [1000 * I0 * (m.exp((V - R / 10) / (n * 0.02585)) - 1) + G * V]


def arrhenius(m, T, A, b, E):
    return [A * (T / 300) ** b * m.exp(-E / (8.314e-3 * T))]


def antoine(m, T, A, B, C):
    return [10 ** (A - B / (C + T))]


def predation(m, prey, hunters, a, b, c, d):
    return [a * prey - b * prey * hunters, d * prey * hunters - c * hunters]


_MODES = {
    f"{name}{i}": value + 0.4 * i
    for i in (1, 2, 3)
    for name, value in (("A", 0.5), ("g", 0.3), ("w", 1.5), ("p", 0.0))
}
LAWS = {
    law.name: law
    for law in (
        Law("oscillation", {"t": (0, 4)}, _MODES, ("g1", "g2", "g3"), {}, 0.01, oscillation),
        Law("michaelis_menten", {"S": (0, 5)}, {"Vmax": 2.0, "Km": 0.8}, ("Vmax", "Km"), {}, 0.01,
            michaelis_menten),
        Law("logistic", {"t": (0, 6)}, {"K": 3.0, "N0": 0.2, "r": 1.1}, ("K", "N0", "r"), {}, 0.002,
            logistic),
        Law("pendulum", {"angle": (-3, 3), "speed": (-2, 2), "torque": (-1, 1)},
            {"g_l": 4.0, "c": 0.2, "u": 1.5}, ("g_l", "c"), {}, 0.001, pendulum),
        Law("diode", {"V": (0.1, 0.7)}, {"I0": 1e-11, "n": 1.4, "R": 0.2, "G": 0.5},
            ("I0", "G"), {"n": (1.0, 2.0)}, 1e-5, diode),
        Law("arrhenius", {"T": (280, 400)}, {"A": 40.0, "b": 0.8, "E": 8.0}, ("A", "E"), {}, 0.002,
            arrhenius),
        Law("antoine", {"T": (0, 60)}, {"A": 3.0, "B": 700.0, "C": 230.0}, ("B", "C"), {}, 1e-5,
            antoine),
        Law("predation", {"prey": (0, 3), "hunters": (0, 2)},
            {"a": 1.1, "b": 0.4, "c": 0.4, "d": 0.1}, ("a", "b", "c", "d"), {}, 0.003, predation),
    )
}  # fmt: skip
