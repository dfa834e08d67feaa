"""Custom models with errors planted in one function each, which a feature of x chooses.

The last feature of a row is a number: 0 for no error; then, of vjp, jvp and hvp in turn, one with
another sign, one with another factor, one that lacks a term, and one that takes another index.
(Each model is compiled once, for all its errors.)
"""

import numpy as np
from numba import njit

FUNCTIONS = ("vjp", "jvp", "hvp")
KINDS = ("sign", "factor", "missing term", "wrong index")


def code(function, kind):
    """The number of an error."""
    return 1.0 + 4 * FUNCTIONS.index(function) + KINDS.index(kind)


FACTOR = 1.001


@njit
def planted(x, function):
    """What a function multiplies by, of the first three kinds, and whether it has the last."""
    kind = x[0, x.shape[1] - 1] - (1.0 + 4 * function)
    sign = -1.0 if kind == 0 else 1.0
    factor = FACTOR if kind == 1 else 1.0
    term = 0.0 if kind == 2 else 1.0
    return sign, factor, term, kind == 3


# f = a exp(-b x) + c -----------------------------------------------------------------------------


@njit
def decay(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] * np.exp(-theta[1] * x[j, 0]) + theta[2]


@njit
def decay_vjp(theta, x, delta, g):
    sign, factor, term, astray = planted(x, 0)
    index = 1 if astray else 2
    for j in range(len(x)):
        e = np.exp(-theta[1] * x[j, 0])
        g[0] += delta[j, 0] * e * factor
        g[1] -= delta[j, 0] * theta[0] * x[j, 0] * e * sign
        g[index] += delta[j, 0] * term


@njit
def decay_jvp(theta, x, v, rf):
    sign, factor, term, astray = planted(x, 1)
    index = 0 if astray else 1
    for j in range(len(x)):
        e = np.exp(-theta[1] * x[j, 0])
        rf[j, 0] = (v[0] * factor - sign * v[index] * theta[0] * x[j, 0]) * e + v[2] * term


@njit
def decay_hvp(theta, x, delta, v, h):
    sign, factor, term, astray = planted(x, 2)
    index = 0 if astray else 1
    for j in range(len(x)):
        d, e = delta[j, 0], np.exp(-theta[1] * x[j, 0])
        h[0] -= d * v[1] * x[j, 0] * e * sign
        h[1] -= d * v[0] * x[j, 0] * e * factor
        h[1] += d * theta[0] * x[j, 0] ** 2 * e * v[index] * term


# f_1 = a b x, f_2 = a x^2 + b c ------------------------------------------------------------------


@njit
def products(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] * theta[1] * x[j, 0]
        f[j, 1] = theta[0] * x[j, 0] * x[j, 0] + theta[1] * theta[2]


@njit
def products_vjp(theta, x, delta, g):
    sign, factor, term, astray = planted(x, 0)
    index = 0 if astray else 1
    for j in range(len(x)):
        g[0] += delta[j, 0] * theta[1] * x[j, 0] + delta[j, index] * x[j, 0] ** 2
        g[1] += sign * delta[j, 0] * theta[0] * x[j, 0] + delta[j, 1] * theta[2] * term
        g[2] += delta[j, 1] * theta[1] * factor


@njit
def products_jvp(theta, x, v, rf):
    sign, factor, term, astray = planted(x, 1)
    index = 1 if astray else 0
    for j in range(len(x)):
        rf[j, 0] = (v[0] * theta[1] * sign + theta[0] * v[1] * factor) * x[j, 0]
        rf[j, 1] = v[index] * x[j, 0] ** 2 + v[1] * theta[2] + theta[1] * v[2] * term


@njit
def products_hvp(theta, x, delta, v, h):
    sign, factor, term, astray = planted(x, 2)
    index = 1 if astray else 0
    for j in range(len(x)):
        h[0] += delta[j, 0] * x[j, 0] * v[1] * sign
        h[1] += delta[j, index] * x[j, 0] * v[0] + delta[j, 1] * v[2] * term
        h[2] += delta[j, 1] * v[1] * factor


# f = k / (1 + exp(-r (x - m))), growth that ends at k --------------------------------------------


@njit
def growth(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] / (1 + np.exp(-theta[1] * (x[j, 0] - theta[2])))


@njit
def growth_vjp(theta, x, delta, g):
    sign, factor, term, astray = planted(x, 0)
    index = 0 if astray else 2
    for j in range(len(x)):
        s = 1 / (1 + np.exp(-theta[1] * (x[j, 0] - theta[2])))
        t = delta[j, 0] * theta[0] * s * (1 - s * term)
        g[0] += delta[j, 0] * s * factor
        g[1] += t * (x[j, 0] - theta[index])
        g[2] -= t * theta[1] * sign


@njit
def growth_jvp(theta, x, v, rf):
    sign, factor, term, astray = planted(x, 1)
    index = 1 if astray else 2
    for j in range(len(x)):
        s = 1 / (1 + np.exp(-theta[1] * (x[j, 0] - theta[2])))
        ru = v[1] * (x[j, 0] - theta[2]) - sign * theta[1] * v[index]
        rf[j, 0] = v[0] * s * term + factor * theta[0] * s * (1 - s) * ru


@njit
def growth_hvp(theta, x, delta, v, h):
    sign, factor, term, astray = planted(x, 2)
    index = 0 if astray else 2
    for j in range(len(x)):
        d, z = delta[j, 0], x[j, 0] - theta[2]
        s = 1 / (1 + np.exp(-theta[1] * z))
        one, two = s * (1 - s), s * (1 - s) * (1 - 2 * s)
        ru = v[1] * z - theta[1] * v[index]
        change = v[0] * one + theta[0] * two * ru * factor
        h[0] += d * one * ru
        h[1] += d * (change * z - theta[0] * one * v[2] * term)
        h[2] -= d * (change * theta[1] * sign + theta[0] * one * v[1])


#: by name: n_params, n_outputs, functions; each has two inputs, x and the number of an error
MODELS = {
    "decay": (3, 1, (decay, decay_vjp, decay_jvp, decay_hvp)),
    "products": (3, 2, (products, products_vjp, products_jvp, products_hvp)),
    "growth": (3, 1, (growth, growth_vjp, growth_jvp, growth_hvp)),
}
