"""The network in C: what its layers compute there and, for gradient steps, back.

A row is worked at a time, so that memory does not depend on how many there are. Its values lie one
layer behind the other in ``s->a``, beginning with the inputs. Loops over weights run along their
rows and take four of them at once: sums that do not wait for each other, and one load and store of
what they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..checks import FLOAT64
from .activations import slope_takes
from .subject import Subject
from .text import Dialect, rounded

__all__ = [
    "AFFINE", "BACK", "COLLECT", "Layer", "forward", "layers_of", "load", "scaling_tables",
    "target", "unscaled",
]  # fmt: skip


class Layer(NamedTuple):
    """A weight layer: its sizes, and where C finds its numbers."""

    number: int  # from 1
    n_in: int
    n_out: int
    weight: str  # expressions of C
    bias: str
    a_in: int  # where its inputs, and its outputs, begin in s->a
    a_out: int
    activation: str | None  # None: none

    @property
    def title(self) -> str:
        """The layer in words."""
        word = f", {self.activation}" if self.activation else ""
        return f"layer {self.number}: {self.n_in} -> {self.n_out}{word}"


AFFINE = """
/* z = W a + b; the bias b may be NULL */
static void ${p}_affine(size_t n_in, size_t n_out, const $real *restrict w,
                        const $real *restrict b, const $real *restrict a, $real *restrict z)
{
    const size_t whole = n_out - n_out % 4;
    size_t i, j;
    for (j = 0; j < whole; j += 4) { /* four rows, whose sums do not wait for each other */
        const $real *restrict row = w + j * n_in;
        $real z0 = $zero, z1 = $zero, z2 = $zero, z3 = $zero;
        for (i = 0; i < n_in; i++) {
            z0 += row[i] * a[i];
            z1 += row[n_in + i] * a[i];
            z2 += row[2 * n_in + i] * a[i];
            z3 += row[3 * n_in + i] * a[i];
        }
        z[j] = z0;
        z[j + 1] = z1;
        z[j + 2] = z2;
        z[j + 3] = z3;
    }
    for (j = whole; j < n_out; j++) {
        const $real *restrict row = w + j * n_in;
        $real z0 = $zero;
        for (i = 0; i < n_in; i++) {
            z0 += row[i] * a[i];
        }
        z[j] = z0;
    }
    if (b != NULL) {
        for (j = 0; j < n_out; j++) {
            z[j] += b[j];
        }
    }
}
"""

BACK = """
/* before = W^T delta: the loss's derivatives by a layer's inputs, from those by its outputs */
static void ${p}_back(size_t n_in, size_t n_out, const $real *restrict w,
                      const $real *restrict delta, $real *restrict before)
{
    const size_t whole = n_out - n_out % 4;
    size_t i, j;
    for (i = 0; i < n_in; i++) {
        before[i] = $zero;
    }
    for (j = 0; j < whole; j += 4) {
        const $real *restrict row = w + j * n_in;
        const $real d0 = delta[j], d1 = delta[j + 1], d2 = delta[j + 2], d3 = delta[j + 3];
        for (i = 0; i < n_in; i++) {
            before[i] += (d0 * row[i] + d1 * row[n_in + i])
                       + (d2 * row[2 * n_in + i] + d3 * row[3 * n_in + i]);
        }
    }
    for (j = whole; j < n_out; j++) {
        const $real *restrict row = w + j * n_in;
        for (i = 0; i < n_in; i++) {
            before[i] += delta[j] * row[i];
        }
    }
}
"""

COLLECT = """
/* The gradient of a layer's weights, of one row: g += delta a^T, and of its bias (or NULL) */
static void ${p}_collect(size_t n_in, size_t n_out, const $real *restrict delta,
                         const $real *restrict a, $real *restrict g, $real *restrict g_bias)
{
    size_t i, j;
    for (j = 0; j < n_out; j++) {
        $real *restrict row = g + j * n_in;
        const $real d = delta[j];
        for (i = 0; i < n_in; i++) {
            row[i] += d * a[i];
        }
    }
    if (g_bias != NULL) {
        for (j = 0; j < n_out; j++) {
            g_bias[j] += delta[j];
        }
    }
}
"""

LAYER = """
    /* $title */
    ${p}_affine($n_in, $n_out, $weight, $bias, s->a + $a_in, s->a + $a_out);"""

ACTIVATE = """
    for (i = 0; i < $n_out; i++) {
        s->a[$a_out + i] = ${p}_$activation(s->a[$a_out + i]);
    }"""

ACTIVATE_WITH_SLOPE = """
    for (i = 0; i < $n_out; i++) {
        const $real z = s->a[$a_out + i], a = ${p}_$activation(z);
        s->a[$a_out + i] = a;
        s->d[$at + i] = ${p}_${activation}_slope($takes);
    }"""

SLOPE_OF_NONE = """
    for (i = 0; i < $n_out; i++) {
        s->d[$at + i] = $one;
    }"""

FORWARD = """
/* The values of the network, from the inputs that lie in s->a$note */
static void ${p}_$name(${p}_state *s)
{$index$body
}
"""

LOAD = """
/* The inputs of one row$note */
static void ${p}_load(${p}_state *s, const $real *x)
{
    size_t i;
    for (i = 0; i < $n_in; i++) {
        s->a[i] = $scaled;
    }
}
"""


def layers_of(subject: Subject, weights: Sequence[tuple[str, str]]) -> list[Layer]:
    """Return the layers, whose weights and biases stand where the expressions of C say."""
    sizes = subject.model.layer_sizes
    words: list[str | None] = [None if w == "identity" else w for w in subject.activations]
    starts = list(accumulate(sizes, initial=0))
    return [
        Layer(i + 1, sizes[i], sizes[i + 1], *weights[i], starts[i], starts[i + 1], word)
        for i, word in enumerate([*words, None])
    ]


def forward(
    c: Dialect, layers: Sequence[Layer], name: str = "forward", slopes: dict[int, int] | None = None
) -> str:
    """Return the function that computes the values of layers.

    ``slopes`` says of some layers, by their numbers, where in ``s->d`` their slopes go.
    """
    body, places = "", slopes or {}
    for layer in layers:
        words = {n: str(w) for n, w in layer._asdict().items()}
        body += c.fill(LAYER, title=layer.title, **words)
        if layer.number in places:
            at = places[layer.number]
            if layer.activation is None:
                body += c.fill(SLOPE_OF_NONE, at=str(at), **words)
            else:
                takes = ", ".join(slope_takes(layer.activation))
                body += c.fill(ACTIVATE_WITH_SLOPE, at=str(at), takes=takes, **words)
        elif layer.activation is not None:
            body += c.fill(ACTIVATE, **words)
    index = "\n    size_t i;" if "i++" in body else ""
    note = "; slopes into s->d" if places else ""
    return c.fill(FORWARD, name=name, index=index, body=body, note=note)


# ---- the user's units


def scaling_tables(c: Dialect, subject: Subject) -> str:
    """Return the tables of the scaling, if there is one.

    Where float rounds a mean, a second table holds the rest of it. What is subtracted first is
    exact then for inputs near the mean, and a large offset costs no digits.
    """
    text = ""
    for side in "xy":
        scaling = subject.scaling_of(side)
        if scaling is None:
            continue
        mean, scale = (getattr(scaling, f"{side}_{name}") for name in ("mean", "scale"))
        high = rounded(f"scaling.{side}_mean", mean, c.dtype)
        text += "\n" + c.table(f"{side}_mean", high, f"{side} is scaled: less its mean,")
        if _has_rest(c, mean):
            rest = mean - high.astype(FLOAT64)
            text += c.table(f"{side}_rest", rest.astype(c.dtype), "what rounding left of it,")
        spread = rounded(f"scaling.{side}_scale", scale, c.dtype)
        if not spread.all():
            raise ValueError(
                f"scaling.{side}_scale holds {scale.min():.6g}, which is 0 in {c.dtype}; accepted "
                f"are numbers that {c.dtype} can hold"
            )
        text += c.table(f"{side}_scale", spread, "over its scale")
    return text


def _has_rest(c: Dialect, mean: np.ndarray) -> bool:
    high = rounded("mean", mean, c.dtype)
    return bool((mean - high.astype(FLOAT64)).astype(c.dtype).any())


def _scaled(c: Dialect, subject: Subject, side: str, index: str) -> str:
    """An expression: a number of x or y as the network has it."""
    number, scaling = f"{side}[{index}]", subject.scaling_of(side)
    if scaling is None:
        return number
    less = f"{number} - {c.prefix}_{side}_mean[{index}]"
    if _has_rest(c, getattr(scaling, f"{side}_mean")):
        less = f"({less}) - {c.prefix}_{side}_rest[{index}]"
    return f"({less}) / {c.prefix}_{side}_scale[{index}]"


def load(c: Dialect, subject: Subject) -> str:
    """Return the function that takes the inputs of a row."""
    scaled = _scaled(c, subject, "x", "i")
    note = "" if subject.scaling is None else ", scaled"
    return c.fill(LOAD, n_in=str(subject.model.n_inputs), scaled=scaled, note=note)


def target(c: Dialect, subject: Subject, index: str) -> str:
    """Return an expression: target ``y[index]`` as the network has it."""
    return _scaled(c, subject, "y", index)


def unscaled(c: Dialect, subject: Subject, index: str, value: str) -> str:
    """Return an expression: an output of the network in the user's units."""
    scaling = subject.scaling_of("y")
    if scaling is None:
        return value
    scaled = f"{value} * {c.prefix}_y_scale[{index}]"
    if _has_rest(c, scaling.y_mean):
        scaled = f"({scaled} + {c.prefix}_y_rest[{index}])"
    return f"{scaled} + {c.prefix}_y_mean[{index}]"
