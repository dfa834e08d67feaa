"""Models and losses of one's own: other families than weight layers, and what losses take as y."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import sympy

import fastmaml as fm


@numba.njit
def _value(f: float, y: float) -> float:
    return np.log(1 + (f - y) ** 2)


@numba.njit
def _slope(f: float, y: float) -> float:
    return 2 * (f - y) / (1 + (f - y) ** 2)


@numba.njit
def _curvature(f: float, y: float) -> float:
    return 2 * (1 - (f - y) ** 2) / (1 + (f - y) ** 2) ** 2


CAUCHY = fm.Loss(_value, _slope, _curvature)


@numba.njit
def _forward(theta: Any, x: Any, f: Any) -> None:
    for j in range(len(x)):
        f[j, 0] = theta[0] * np.sin(theta[1] * x[j, 0])


@numba.njit
def _vjp(theta: Any, x: Any, delta: Any, g: Any) -> None:
    for j in range(len(x)):
        g[0] += delta[j, 0] * np.sin(theta[1] * x[j, 0])
        g[1] += delta[j, 0] * theta[0] * np.cos(theta[1] * x[j, 0]) * x[j, 0]


def waves(x: np.ndarray) -> np.ndarray:
    """A feature map."""
    return np.hstack([np.sin(x), np.cos(x)])


@cache
def models() -> list[Any]:
    """One or two of each family."""
    a, k, x, z = sympy.symbols("a k x z")
    decay = fm.Formula(a * sympy.exp(-(k**2) * x**2), parameters=[a, k], inputs=[x])
    limits = {"positive": [a], "bounds": {k: (0.5, 2)}}
    pair = fm.Formula([a * x + z, sympy.sin(k * z)], parameters=[a, k], inputs=[x, z], **limits)
    features = fm.Features(waves, 4, 2, 2)
    return [
        decay, pair, fm.Custom(2, 1, 1, forward=_forward, vjp=_vjp), features,
        fm.Features(waves, 2, intercept=False), fm.Sum(decay, fm.MLP([1, 3, 1])),
        fm.Sum(pair, features), fm.Frozen(fm.MLP([2, 3, 1]), "layer 1"),
        fm.Frozen(fm.Sum(pair, fm.MLP([2, 2, 2])), "formula"),
        fm.Scaled(fm.MLP([1, 3, 2]), x_scale=2.0, y_mean=0.5),
        fm.Scaled(features, x_mean=1.0, y_scale=[2.0, 0.5]),
    ]  # fmt: skip


def model_of(draw: Any) -> Any:
    """One of them."""
    return draw.choice(models())


def fits(loss: Any, model: Any) -> bool:
    """Whether a model has the outputs that a loss takes."""
    word = loss if isinstance(loss, str) else type(loss).__name__.lower()
    if word == "gaussian_nll":
        return bool(model.n_outputs % 2 == 0)
    return bool(word != "softmax" or model.n_outputs > 1)


def targets_of(loss: Any, y: Any) -> Any:
    """What a loss takes, made of a normal number for each output."""
    if isinstance(y, list):
        return [targets_of(loss, rows) for rows in y]
    word = loss if isinstance(loss, str) else type(loss).__name__.lower()
    if word == "logistic":
        return 1.0 * (y > 0)
    if word == "poisson":
        return np.floor(np.abs(y))
    if word in ("softmax", "gaussian_nll") and y.shape[-1] > 1:
        return np.argmax(y, axis=-1)[..., None] if word == "softmax" else y[..., :1]
    return y
