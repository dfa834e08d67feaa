"""Physical formulas of 2 to 12 parameters, written for any library that has exp, cos and sin.

A law is a function of that library and of its symbols by name, so that SymPy, NumPy and JAX are
given the very same one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Law(NamedTuple):
    """A formula f, where its inputs and parameters usually are, and a rate that adapts it.

    Of parameters that are positive theta holds the logarithm, of those within bounds t, for ``low +
    (high - low) / (1 + exp(-t))``.
    """

    inputs: dict[str, tuple[float, float]]
    values: dict[str, float]
    positive: tuple[str, ...]
    bounds: dict[str, tuple[float, float]]
    rate: float  # for the half_sse loss
    f: Callable[..., Any]

    def of_theta(self, m: Any, theta: Any, inputs: Any) -> Any:
        """f, by the library m, of the numbers in theta and an array for each input."""
        symbols = dict(zip(self.inputs, inputs, strict=True))
        for j, name in enumerate(self.values):
            symbols[name] = theta[j]
            if name in self.positive:
                symbols[name] = m.exp(theta[j])
            elif name in self.bounds:
                low, high = self.bounds[name]
                symbols[name] = low + (high - low) / (1 + m.exp(-theta[j]))
        return self.f(m, **symbols)


def oscillation(m: Any, t: Any, **v: Any) -> Any:
    """Three damped modes."""
    return sum(
        v[f"A{i}"] * m.exp(-v[f"g{i}"] * t) * m.cos(v[f"w{i}"] * t + v[f"p{i}"]) for i in "123"
    )


def michaelis_menten(m: Any, S: Any, Vmax: Any, Km: Any) -> Any:
    return Vmax * S / (Km + S)


def logistic(m: Any, t: Any, K: Any, N0: Any, r: Any) -> Any:
    return K / (1 + (K / N0 - 1) * m.exp(-r * t))


def pendulum(m: Any, angle: Any, speed: Any, torque: Any, g_l: Any, c: Any, u: Any) -> Any:
    return -g_l * m.sin(angle) - c * speed + u * torque


def diode(m: Any, V: Any, I0: Any, n: Any, R: Any, G: Any) -> Any:
    return 1000 * I0 * (m.exp((V - R / 10) / (n * 0.02585)) - 1) + G * V


def arrhenius(m: Any, T: Any, A: Any, b: Any, E: Any) -> Any:
    return A * (T / 300) ** b * m.exp(-E / (8.314e-3 * T))


def antoine(m: Any, T: Any, A: Any, B: Any, C: Any) -> Any:
    return 10 ** (A - B / (C + T))


_MODES = {
    f"{name}{i}": value + 0.4 * i
    for i in (1, 2, 3)
    for name, value in (("A", 0.5), ("g", 0.3), ("w", 1.5), ("p", 0.0))
}
LAWS = {
    "oscillation": Law({"t": (0, 4)}, _MODES, ("g1", "g2", "g3"), {}, 0.01, oscillation),
    "michaelis_menten": Law(
        {"S": (0, 5)}, {"Vmax": 2.0, "Km": 0.8}, ("Vmax", "Km"), {}, 0.01, michaelis_menten
    ),
    "logistic": Law(
        {"t": (0, 6)}, {"K": 3.0, "N0": 0.2, "r": 1.1}, ("K", "N0", "r"), {}, 0.002, logistic
    ),
    "pendulum": Law(
        {"angle": (-3, 3), "speed": (-2, 2), "torque": (-1, 1)},
        {"g_l": 4.0, "c": 0.2, "u": 1.5}, ("g_l", "c"), {}, 0.001, pendulum,
    ),
    "diode": Law(
        {"V": (0.1, 0.7)}, {"I0": 1e-11, "n": 1.4, "R": 0.2, "G": 0.5}, ("I0", "G"),
        {"n": (1.0, 2.0)}, 1e-5, diode,
    ),
    "arrhenius": Law(
        {"T": (280, 400)}, {"A": 40.0, "b": 0.8, "E": 8.0}, ("A", "E"), {}, 0.002, arrhenius
    ),
    "antoine": Law(
        {"T": (0, 60)}, {"A": 3.0, "B": 700.0, "C": 230.0}, ("B", "C"), {}, 1e-5, antoine
    ),
}  # fmt: skip
