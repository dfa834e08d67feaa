"""NumPy alone: the derivation by hand, on all tasks at once; and its plain matrix product.

Every task has weights of its own after the first step, stacks of shape (n_tasks, n_out, n_in), on
which ``matmul`` works. The way back multiplies by I - αH step by step; Hv is Pearlmutter's
R-operator, a derivative of the forward and the backward pass in direction v.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workloads import Problem
from .base import Prepared, flat, layers_of

Layers = list[tuple[np.ndarray, np.ndarray]]

SIZE = 1536  # of the matrix product: large enough for BLAS to reach its full speed

#: φ, φ′ and φ″ from z; φ″ is None where it is zero
PHI = {
    "relu": lambda z: (np.maximum(z, 0), (z > 0).astype(z.dtype), None),
    "tanh": lambda z: (a := np.tanh(z), d := 1 - a * a, -2 * a * d),
}


def times(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """rows (n_tasks, K, n) @ weight (n, m), shared, or (n_tasks, n, m), one a task."""
    if weight.ndim == 3:
        return rows @ weight
    return (rows.reshape(-1, rows.shape[-1]) @ weight).reshape(*rows.shape[:-1], -1)


def turned(a: np.ndarray) -> np.ndarray:
    return a.swapaxes(-1, -2)


def passes(layers: Layers, phi: Any, x: np.ndarray, y: np.ndarray) -> tuple[list, ...]:
    """Inputs a, derivatives of φ, errors δ, and δW before φ′ multiplies it: forward, backward."""
    inputs, slopes = [x], []
    for weight, bias in layers[:-1]:
        z = times(inputs[-1], turned(weight)) + bias[..., None, :]
        a, *slope = phi(z)
        inputs.append(a)
        slopes.append(slope)
    weight, bias = layers[-1]
    errors = [times(inputs[-1], turned(weight)) + bias[..., None, :] - y]
    sent = []
    for (weight, _), (first, _) in zip(layers[:0:-1], slopes[::-1], strict=True):
        sent.insert(0, times(errors[0], weight))
        errors.insert(0, sent[0] * first)
    return inputs, slopes, errors, sent


def gradient(inputs: list, errors: list) -> Layers:
    return [(turned(d) @ a, d.sum(axis=1)) for a, d in zip(inputs, errors, strict=True)]


def hessian_times(layers: Layers, kept: tuple, direction: Layers) -> Layers:
    """Hv of each task, from what its passes kept."""
    inputs, slopes, errors, sent = kept
    last = len(layers) - 1
    r_inputs, r_z = [None], []
    for i, ((weight, _), (v, v_bias)) in enumerate(zip(layers, direction, strict=True)):
        rz = inputs[i] @ turned(v) + v_bias[:, None, :]
        if i > 0:
            rz += times(r_inputs[i], turned(weight))
        r_z.append(rz)
        if i < last:
            r_inputs.append(slopes[i][0] * rz)
    r_error, result = r_z[last], []
    for i in range(last, -1, -1):
        weight = turned(r_error) @ inputs[i]
        if i > 0:
            weight += turned(errors[i]) @ r_inputs[i]
        result.insert(0, (weight, r_error.sum(axis=1)))
        if i > 0:
            first, second = slopes[i - 1]
            r_sent = times(r_error, layers[i][0]) + errors[i] @ direction[i][0]
            r_error = r_sent * first
            if second is not None:
                r_error += sent[i - 1] * second * r_z[i - 1]
    return result


def step(layers: Layers, rate: float, by: Layers) -> Layers:
    return [
        (weight - rate * w, bias - rate * b)
        for (weight, bias), (w, b) in zip(layers, by, strict=True)
    ]


def numpy(problem: Problem) -> Prepared:
    shared, phi = layers_of(problem), PHI[problem.activation]
    # A rate of theta's dtype: a float64 array scalar would make everything float64.
    rate = float(problem.inner_lr)

    def run() -> tuple[float, np.ndarray]:
        layers, steps = shared, []
        for _ in range(problem.steps):
            kept = passes(layers, phi, problem.x, problem.y)
            steps.append((layers, kept))
            layers = step(layers, rate, gradient(kept[0], kept[2]))
        inputs, _, errors, _ = passes(layers, phi, problem.x_query, problem.y_query)
        value = 0.5 * float(np.sum(errors[-1] ** 2))
        direction = gradient(inputs, errors)
        for layers, kept in reversed(steps):
            direction = step(direction, rate, hessian_times(layers, kept, direction))
        return value, flat([(w.sum(axis=0), b.sum(axis=0)) for w, b in direction])

    return Prepared(run, lambda result: result, f"NumPy {np.__version__}")


def matmul(problem: Problem) -> Prepared:
    """A large product of two square matrices: the machine's own speed at such work."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIZE, SIZE)).astype(problem.theta.dtype) for _ in range(2))
    out = np.empty_like(a)
    return Prepared(lambda: np.matmul(a, b, out=out), None, f"NumPy {np.__version__}")
