"""Compiled functions for `fastmaml.Custom`, right ones; f of three outputs and of two inputs.

f_o = a_o sin(b . x + c_o) + d, theta = (a_1, a_2, a_3, b_1, b_2, c_1, c_2, c_3, d): the model of
test_own_model, whose reference it has.
"""

import numpy as np
from numba import njit


@njit
def forward(theta, x, f):
    for j in range(len(x)):
        s = theta[3] * x[j, 0] + theta[4] * x[j, 1]
        for o in range(3):
            f[j, o] = theta[o] * np.sin(s + theta[5 + o]) + theta[8]


@njit
def vjp(theta, x, delta, g):
    for j in range(len(x)):
        s = theta[3] * x[j, 0] + theta[4] * x[j, 1]
        for o in range(3):
            d, t = delta[j, o], delta[j, o] * theta[o] * np.cos(s + theta[5 + o])
            g[o] += d * np.sin(s + theta[5 + o])
            g[3] += t * x[j, 0]
            g[4] += t * x[j, 1]
            g[5 + o] += t
            g[8] += d


@njit
def jvp(theta, x, v, rf):
    for j in range(len(x)):
        s = theta[3] * x[j, 0] + theta[4] * x[j, 1]
        for o in range(3):
            rs = v[3] * x[j, 0] + v[4] * x[j, 1] + v[5 + o]
            rf[j, o] = v[o] * np.sin(s + theta[5 + o]) + v[8]
            rf[j, o] += theta[o] * np.cos(s + theta[5 + o]) * rs


@njit
def hvp(theta, x, delta, v, h):
    for j in range(len(x)):
        s = theta[3] * x[j, 0] + theta[4] * x[j, 1]
        for o in range(3):
            d, sin, cos = delta[j, o], np.sin(s + theta[5 + o]), np.cos(s + theta[5 + o])
            rs = v[3] * x[j, 0] + v[4] * x[j, 1] + v[5 + o]
            t = d * (v[o] * cos - theta[o] * sin * rs)
            h[o] += d * cos * rs
            h[3] += t * x[j, 0]
            h[4] += t * x[j, 1]
            h[5 + o] += t


# The same with branches on parameters, which no complex number takes


@njit
def branching_forward(theta, x, f):
    if theta[0] > 1e9:
        f[:] = 0
    else:
        forward(theta, x, f)


@njit
def branching_vjp(theta, x, delta, g):
    if theta[0] < 1e9:
        vjp(theta, x, delta, g)


@njit
def branching_jvp(theta, x, v, rf):
    if theta[0] < 1e9:
        jvp(theta, x, v, rf)


FUNCTIONS = {"forward": forward, "vjp": vjp, "jvp": jvp, "hvp": hvp}
BRANCHING = {"forward": branching_forward, "vjp": branching_vjp, "jvp": branching_jvp, "hvp": hvp}
