"""A BayesianLastLayer in C: its posterior, a row at a time, and predictions with deviations.

The state is that of ``kernels.methods.stream``: the upper triangle of [L^T, u], L the Cholesky
factor of the posterior's precision in units of the noise's. To adapt to rows is to start from the
prior and take in each, which gives the posterior of all of them to rounding, in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import FLOAT32
from . import network
from .activations import activation
from .network import Layer
from .parts import Member, Parts
from .subject import Subject
from .text import Dialect, rounded

__all__ = ["last_layer_parts"]

FEATURES = """
/* The features of a row, from its inputs */
static void ${p}_features(${p}_state *s, const $real *x)
{
    size_t i;
    ${p}_load(s, x);$forward
    for (i = 0; i < $width; i++) {
        s->phi[i] = s->a[$a_in + i];
    }$bias
}
"""

ROTATE = """
/* Turn two rows of n numbers so that v[0] becomes 0 */
static void ${p}_rotate(size_t n, $real *restrict r, $real *restrict v)
{
    const $real length = $sqrt(r[0] * r[0] + v[0] * v[0]);
    const $real cosine = r[0] / length, sine = v[0] / length;
    size_t i;
    r[0] = length;
    for (i = 1; i < n; i++) {
        const $real before = r[i];
        r[i] = cosine * before + sine * v[i];
        v[i] = cosine * v[i] - sine * before;
    }
}
"""

START = """
void ${p}_start(${p}_state *s)
{
    size_t i, j;
    $real *row = s->r;
    for (i = 0; i < $n_features; i++) { /* the prior: a diagonal precision */
        row[0] = ${p}_root[i];
        for (j = 1; j < $n_features - i; j++) {
            row[j] = $zero;
        }
        for (j = 0; j < $n_outputs; j++) {
            row[$n_features - i + j] = ${p}_root[i] * ${p}_mean[j * $n_features + i];
        }
        row += $length - i;
    }
}
"""

UPDATE = """
int ${p}_update(${p}_state *s, const $real *x, const $real *y, $real forget)
{
    size_t i, j;
    $real sum = $zero, *row = s->r;
    for (i = 0; i < $n_inputs; i++) { /* NaN as soon as one of them is NaN or inf */
        sum += x[i] * $zero;
    }
    for (i = 0; i < $n_outputs; i++) {
        sum += y[i] * $zero;
    }
    if (!(sum == $zero && forget > $zero && forget <= $one)) {
        return -1;
    }
    ${p}_features(s, x);
    for (i = 0; i < $n_outputs; i++) {
        s->phi[$n_features + i] = $target;
    }
    for (i = 0; i < $length; i++) { /* what overflows is refused as well */
        sum += s->phi[i] * s->phi[i];
    }
    if (!(sum * $zero == $zero)) {
        return -1;
    }
    if (forget < $one) {
        const $real root = $sqrt(forget);
        for (i = 0; i < $n_features; i++) {
            $real by = root;
            if (row[0] * root < $least) { /* further down, its square would be no number */
                by = row[0] > $least ? $least / row[0] : $one;
            }
            for (j = 0; j < $length - i; j++) {
                row[j] *= by;
            }
            row += $length - i;
        }
        row = s->r;
    }
    for (i = 0; i < $n_features; i++) {
        if (s->phi[i] < $zero || s->phi[i] > $zero) {
            ${p}_rotate($length - i, row, s->phi + i);
        }
        row += $length - i;
    }
    return 0;
}
"""

ADAPT = """
int ${p}_adapt(${p}_state *s, size_t n_rows, const $real *x, const $real *y)
{
    size_t row;
    ${p}_start(s);
    for (row = 0; row < n_rows; row++) {
        if (${p}_update(s, x + row * $n_inputs, y + row * $n_outputs, $one) != 0) {
            ${p}_start(s);
            return -1;
        }
    }
    return 0;
}
"""

ELIMINATE = """
/* The squared length of v = L^-1 phi; behind phi, minus the products with the right sides u */
static $real ${p}_solve(const $real *restrict r, $real *restrict phi)
{
    size_t i, j;
    $real total = $zero;
    for (i = 0; i < $n_features; i++) {
        const $real v = phi[i] / r[0];
        total += v * v;
        for (j = 1; j < $length - i; j++) {
            phi[i + j] -= v * r[j];
        }
        r += $length - i;
    }
    return total;
}
"""

PREDICT = """
void ${p}_predict(${p}_state *s, const $real *x, $real *mean, $real *std)
{
    size_t i;
    $real root;
    ${p}_features(s, x);
    for (i = 0; i < $n_outputs; i++) {
        s->phi[$n_features + i] = $zero;
    }
    root = $sqrt($one + ${p}_solve(s->r, s->phi));
    for (i = 0; i < $n_outputs; i++) {
        mean[i] = $output;
        if (std != NULL) {
            std[i] = root * ${p}_noise[i];
        }
    }
}
"""

PROTOTYPES = """
/* To the prior, as before any rows. Call it, or ${p}_adapt, before anything else. */
void ${p}_start(${p}_state *s);

/* Take in one row: x has $n_inputs numbers, y $n_outputs. All that was known counts `forget` of
   before, above 0, at most 1: 1 forgets nothing, 0.99 remembers about 100 rows. Returns 0; or -1
   for NaN, inf, numbers so large that features overflow, or another `forget`; what is known is then
   as it was. */
int ${p}_update(${p}_state *s, const $real *x, const $real *y, $real forget);

/* Start, and take in n_rows rows, which lie one behind the other. Returns 0; or -1 for rows
   that ${p}_update refuses, and the state is then the prior. */
int ${p}_adapt(${p}_state *s, size_t n_rows, const $real *x, const $real *y);

/* Predict at one row: x has $n_inputs numbers, mean takes $n_outputs; and so does std, the standard
   deviation of an observation, its noise included, unless it is NULL. */
void ${p}_predict(${p}_state *s, const $real *x, $real *mean, $real *std);
"""


def last_layer_parts(c: Dialect, subject: Subject) -> Parts:
    """Return the C code of a BayesianLastLayer.

    Raises
    ------
    ValueError
        For numbers that the dtype cannot hold.
    """
    head: Any = subject.learner
    model, p = subject.model, head.n_features
    m, sizes = model.n_outputs, model._layers
    intercept = model.intercept
    starts = [place.start for place in model.layers().values()]
    weights = [
        (
            f"{c.prefix}_theta + {at}",
            f"{c.prefix}_theta + {at + n_in * n_out}" if intercept else "NULL",
        )
        for (n_in, n_out), at in zip(sizes, starts, strict=True)
    ]
    *hidden, last = network.layers_of(subject, weights)
    tables = _tables(c, subject, starts[-1])
    functions = c.fill(network.AFFINE) if hidden else ""
    for word in sorted({layer.activation for layer in hidden if layer.activation}):
        functions += activation(c, word, slope=False)
    functions += network.load(c, subject)
    if hidden:
        functions += network.forward(c, hidden)
    words = {
        "n_features": str(p), "n_outputs": str(m), "n_inputs": str(model.n_inputs),
        "length": str(p + m), "a_in": str(last.a_in), "width": str(last.n_in),
        "forward": f"\n    {c.prefix}_forward(s);" if hidden else "",
        "bias": f"\n    s->phi[{last.n_in}] = {c.number(1.0)};" if intercept else "",
        "target": network.target(c, subject, "i"),
        "output": network.unscaled(c, subject, "i", f"-s->phi[{p} + i]"),
        "least": c.number(1e-17 if c.dtype == FLOAT32 else 1e-140),
    }  # fmt: skip
    for template in (FEATURES, ROTATE, START, UPDATE, ADAPT, ELIMINATE, PREDICT):
        functions += c.fill(template, **words)
    return Parts(
        members=[
            Member("r", p * (p + 1) // 2 + p * m, "[L^T, u], its upper triangle row by row"),
            Member("phi", p + m, "features of a row, and its targets"),
            Member("a", last.a_in + last.n_in, "values of layers"),
        ],
        tables=tables,
        functions=functions,
        prototypes=c.fill(PROTOTYPES, **words),
        usage=[
            f"{c.prefix}_start(&state);",
            f"{c.prefix}_predict(&state, x, mean, std);",
            f"{c.prefix}_update(&state, x, y, {c.number(1.0)});",
        ],
        costs=_costs(p, m, hidden),
    )


def _tables(c: Dialect, subject: Subject, last: int) -> str:
    """The tables."""
    head: Any = subject.learner
    theta, p, m = subject.theta.astype(np.float64), head.n_features, subject.model.n_outputs
    layers, prior, _ = head.unpack(theta)
    weight, bias = layers[-1]
    mean = weight if bias is None else np.hstack([weight, bias[:, None]])
    n_model = subject.model.n_params
    with np.errstate(all="ignore"):
        root = np.broadcast_to(np.exp(-0.5 * theta[n_model : n_model + len(prior)]), (p,))
        deviation = np.broadcast_to(np.exp(0.5 * theta[n_model + len(prior) :]), (m,))
    if subject.scaling is not None:
        deviation = deviation * subject.scaling.y_scale
    text = ""
    if last:
        text = c.table("theta", rounded("theta", theta[:last], c.dtype), "The network's weights")
    text += c.table("mean", rounded("theta", mean, c.dtype), "Prior mean of each output's weights")
    root = rounded("exp(-theta / 2) of the prior", root, c.dtype)
    if not (root * root > np.finfo(c.dtype).tiny).all():
        raise ValueError(
            f"theta has a prior variance of {prior.max():.6g}; accepted are those whose inverse "
            f"{c.dtype} can hold"
        )
    text += c.table("root", root, "Roots of the prior precisions, in units of the noise's")
    deviation = rounded("exp(theta / 2) of the noise", deviation, c.dtype)
    text += c.table("noise", deviation, "Standard deviations of the noise")
    return text + network.scaling_tables(c, subject)


def _costs(p: int, m: int, hidden: list[Layer]) -> list[str]:
    """What calls take, in words."""
    forth = sum(2 * layer.n_in * layer.n_out for layer in hidden)
    units = sum(layer.n_out for layer in hidden if layer.activation)
    pairs = p * (p - 1) // 2 + p * m
    return [
        f"predict: {forth + 2 * pairs + 3 * p} flops, {units} activations",
        f"update, and each row of adapt: {forth + 6 * pairs + 6 * p} flops, {p} square roots, "
        f"{units} activations",
    ]
