"""Adaptation in closed form in plain NumPy, written from the equations: slow, obvious, float64.

It knows nothing of the package but the layout of theta. The gradient is by complex steps, for
activations that have them, or by nothing: JAX is the other judge (``tests/peers``).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: np.where(z.real > 0, z, 0),
    "leaky_relu": lambda z: np.where(z.real > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z.real > 0, z, np.expm1(z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "sin": np.sin,
}


@dataclass(frozen=True)
class Parts:
    """Theta in pieces: hidden weights and biases, and the linear model on their features."""

    layers: list[tuple[Any, Any]]
    prior_mean: Any  # (n_out, p)
    prior_variance: Any  # (p,)
    noise_variance: Any  # (n_out,)


def parts(head, theta):
    """Theta in pieces."""
    model, at, layers = head.model, 0, []
    for n_in, n_out in pairwise(model.layer_sizes):
        weight = theta[at : at + n_in * n_out].reshape(n_out, n_in)
        at += n_in * n_out
        bias = theta[at : at + n_out] if model.intercept else None
        at += n_out if model.intercept else 0
        layers.append((weight, bias))
    weight, bias = layers.pop()
    mean = weight if bias is None else np.concatenate([weight, bias[:, None]], axis=1)
    p, m = mean.shape[1], mean.shape[0]
    n_prior = p if head.prior == "diagonal" else 1
    n_noise = m if head.noise == "per_output" else 1
    prior, noise = np.exp(theta[at : at + n_prior]), np.exp(theta[at + n_prior :])
    assert noise.shape == (n_noise,)
    return Parts(layers, mean, prior * np.ones(p), noise * np.ones(m))


def features(head, of, x):
    """The last hidden values of rows x (K, n_in), and a 1."""
    words = head.model.activation
    for number, (weight, bias) in enumerate(of.layers):
        z = x @ weight.T
        word = words if isinstance(words, str) else words[number]
        x = ACTIVATIONS[word](z if bias is None else z + bias)
    return np.concatenate([x, np.ones((len(x), 1))], axis=1) if head.model.intercept else x


def posterior(head, theta, x, y, weights=None):
    """Mean (n_out, p) and precision in units of the noise (p, p)."""
    of = parts(head, theta)
    phi = features(head, of, x)
    weighed = phi if weights is None else weights[:, None] * phi
    precision = np.diag(1 / of.prior_variance) + weighed.T @ phi
    right = weighed.T @ (y - phi @ of.prior_mean.T)
    return of.prior_mean + np.linalg.solve(precision, right).T, precision


def predict(head, theta, x, y, x_new, weights=None):
    """Mean and variance (rows, n_out) of observations at new rows."""
    of = parts(head, theta)
    mean, precision = posterior(head, theta, x, y, weights)
    psi = features(head, of, x_new)
    h = 1 + np.einsum("qi,iq->q", psi, np.linalg.solve(precision, psi.T))
    return psi @ mean.T, h[:, None] * of.noise_variance


def task_value(head, theta, x, y, x_query, y_query, weights=None, weights_query=None):
    """The loss of one task."""
    f, variance = predict(head, theta, x, y, x_query, weights)
    squares = (f - y_query) ** 2
    of_each = np.ones(len(f)) if weights_query is None else weights_query
    q, m = of_each.sum(), f.shape[1]
    if "nll" in head.loss:
        densities = np.log(2 * np.pi * variance) + squares / variance
        value = np.sum(of_each[:, None] * densities) / 2
        return value / (q * m) if head.loss == "mean_nll" else value
    total = np.sum(of_each[:, None] * squares) * (0.5 if head.loss.startswith("half") else 1.0)
    return total / {"mse": q * m, "half_mse": q}.get(head.loss, 1)


def value(head, theta, *data):
    """The meta-objective; data are lists of (rows, n) arrays, then maybe of weights (rows,)."""
    values = [task_value(head, theta, *task) for task in zip(*data, strict=True)]
    return np.mean(values) if head.task_mean else np.sum(values)


def gradient(head, theta, *data, h=1e-30):
    """The gradient by complex steps: exact to rounding for whatever is analytic."""
    found = np.empty(len(theta))
    for i in range(len(theta)):
        moved = theta.astype(complex)
        moved[i] += 1j * h
        found[i] = value(head, moved, *data).imag / h
    return found
