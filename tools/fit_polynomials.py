"""Fit the polynomials of ``kernels/vectors/polynomials.py`` anew and hold them against the file.

    python tools/fit_polynomials.py            every polynomial (seconds)
    python tools/fit_polynomials.py centre     the best centre of the Mills ratio's (a minute)

Each is the weighted minimax fit by a Remez exchange, with its coefficients then rounded to the
dtype. For the Mills ratio the rounding costs more than the fit itself, by an amount that varies
with the centre of its variable: so the centre was chosen by a scan.
"""

import sys
from typing import NamedTuple

import mpmath as mp
import numpy as np
from fastmaml.kernels.vectors.polynomials import TABLES


class Fit(NamedTuple):
    """A function on an interval, the weight of its error, and the degree for each dtype."""

    function: object
    weight: object
    interval: tuple
    degree: dict


def exp(r):
    """(e**r - 1 - r) / r**2."""
    return (mp.expm1(r) - r) / r**2 if abs(r) > 1e-12 else mp.mpf(1) / 2 + r / 6 + r * r / 24


def atanh(w):
    """(atanh(s) - s) / s**3 in w = s**2."""
    s = mp.sqrt(w)
    return (mp.atanh(s) - s) / s**3 if w > 1e-12 else mp.mpf(1) / 3 + w / 5


def sin(w):
    """(sin(r) - r) / r**3 in w = r**2."""
    r = mp.sqrt(w)
    return (mp.sin(r) - r) / r**3 if w > 1e-12 else -mp.mpf(1) / 6 + w / 120


def cos(w):
    """(cos(r) - 1 + r**2 / 2) / r**4 in w = r**2."""
    return (mp.cos(mp.sqrt(w)) - 1 + w / 2) / w**2 if w > 1e-9 else mp.mpf(1) / 24 - w / 720


def mills(dtype, centre):
    """(e**(u**2 / 2) Phi(-u) (1 + u) - 1/2) / v in x = v - 1, v = 2 u / (u + centre)."""
    centre, far = mp.mpf(centre), TABLES[dtype].far_normal

    def function(x):
        if 1 + x < 1e-15:  # the limit, where the weight is 0
            return (mp.mpf(1) / 2 - 1 / mp.sqrt(2 * mp.pi)) * centre / 2
        u = centre * (1 + x) / (1 - x)
        return (mp.exp(u * u / 2) * mp.erfc(u / mp.sqrt(2)) / 2 * (1 + u) - mp.mpf(1) / 2) / (1 + x)

    interval = mp.mpf(-1), (far - centre) / (far + centre)
    return Fit(function, lambda x: 1 + x, interval, {"float32": 9, "float64": 21})


def fits(dtype):
    """Every polynomial by name. A weight is bounded below where it would vanish."""
    half, eighth = mp.log(2) / 2 * mp.mpf("1.001"), (mp.pi / 4 * mp.mpf("1.006")) ** 2
    small = mp.mpf("0.01")
    return {
        "exp": Fit(exp, lambda r: abs(r) + 2 * small, (-half, half), {"float32": 5, "float64": 10}),
        "atanh": Fit(
            atanh, lambda w: w, (0, mp.mpf(1) / 9 * mp.mpf("1.0001")), {"float32": 3, "float64": 9}
        ),
        "sin": Fit(sin, lambda w: w + small, (0, eighth), {"float32": 2, "float64": 6}),
        "cos": Fit(cos, lambda w: w * w + small, (0, eighth), {"float32": 2, "float64": 5}),
        "mills": mills(dtype, TABLES[dtype].mills_centre),
    }


def remez(fit, degree):
    """The coefficients with the smallest largest weighted error, by Remez's exchange."""
    low, high = map(mp.mpf, fit.interval)
    n = degree + 1

    def at(cosine):
        return (low + high) / 2 + (high - low) / 2 * cosine

    nodes = [at(-mp.cos(mp.pi * (2 * i + 1) / (2 * (n + 1)))) for i in range(n + 1)]
    grid = [at(-mp.cos(mp.pi * i / (40 * (n + 1)))) for i in range(40 * (n + 1) + 1)]
    known = [(x, fit.weight(x), fit.function(x)) for x in grid]
    best = None
    for _ in range(30):
        system, right = mp.matrix(n + 1, n + 1), mp.matrix(n + 1, 1)
        for i, x in enumerate(nodes):
            weight = fit.weight(x)
            for power in range(n):
                system[i, power] = weight * x**power
            system[i, n] = (-1) ** i
            right[i] = weight * fit.function(x)
        *coefficients, level = mp.lu_solve(system, right)
        errors = [w * (f - mp.polyval(coefficients[::-1], x)) for x, w, f in known]
        worst = max(map(abs, errors))
        if best is None or worst < best[0]:
            best = worst, coefficients
        peaks = []  # the place of the largest error in each run of one sign
        for i, error in enumerate(errors):
            if peaks and (errors[peaks[-1]] > 0) == (error > 0):
                if abs(error) > abs(errors[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        if len(peaks) <= n or worst < abs(level) * 1.001:
            break
        while len(peaks) > n + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        nodes = [grid[i] for i in peaks]
    return best[1]


def rounded(fit, dtype):
    """The coefficients in the dtype, and log2 of their largest weighted error."""
    kind = np.dtype(dtype).type
    coefficients = [float(kind(float(c))) for c in remez(fit, fit.degree[dtype])]
    low, high = map(mp.mpf, fit.interval)
    points = [low + (high - low) * i / 1000 for i in range(1001)]
    errors = [fit.weight(x) * (fit.function(x) - mp.polyval(coefficients[::-1], x)) for x in points]
    return coefficients, float(mp.log(max(map(abs, errors)), 2))


def main():
    """Fit and compare, or scan."""
    mp.mp.dps = 50
    for dtype in TABLES:
        if sys.argv[1:] == ["centre"]:
            first, step = {"float32": (3, 1 / 64), "float64": (5.75, 1 / 32)}[dtype]
            for i in range(17):
                centre = first + i * step
                print(dtype, centre, f"2**{rounded(mills(dtype, centre), dtype)[1]:.2f}")
            continue
        for name, fit in fits(dtype).items():
            made, error = rounded(fit, dtype)
            kept = np.array(getattr(TABLES[dtype], name), dtype)
            same = np.array_equal(np.array(made, dtype), kept)
            print(dtype, name, f"2**{error:.2f}", "as in the file" if same else made, flush=True)


if __name__ == "__main__":
    main()
