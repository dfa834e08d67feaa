"""The losses in C: the derivatives of a row's loss by its outputs, as ``kernels.losses`` has them.

An inner step needs nothing else of a loss. Targets that a loss does not accept make slopes that are
not finite, and so steps that are told to have run away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..checks import shown
from ..losses import LOSSES
from .text import Dialect, rounded

__all__ = ["LossInC", "loss_in_c"]

#: of losses of one output f and target y: the names of their numbers, and the slope; r is f - y
EACH: dict[str, tuple[tuple[str, ...], str]] = {
    "huber": (
        ("width",),
        """
    const $real r = f - y;
    return r > $width ? $width : r < -$width ? -$width : r;""",
    ),
    "pseudo_huber": (
        ("width",),
        """
    const $real r = f - y;
    return r / $hypot($one, r / $width);""",
    ),
    "log_cosh": (
        (),
        """
    return $tanh(f - y);""",
    ),
    "quantile": (
        ("q", "width"),
        """
    const $real r = f - y, e = $exp(-$fabs(r) / $width);
    return (r > $zero ? $one : e) / ($one + e) - $q;""",
    ),
    "logistic": (
        (),
        """
    const $real e = $exp(-$fabs(f)), all = $one + e;
    if (y == $zero) {
        return (f > $zero ? $one : e) / all;
    }
    return y == $one ? -(f > $zero ? e : $one) / all : $huge; /* other targets are none */""",
    ),
    "poisson": (
        (),
        """
    return y >= $zero ? $exp(f) - y : $huge; /* there is no count below 0 */""",
    ),
}

SLOPE = """
/* The derivative of the loss of one output f, whose target is y: $loss */
static $real ${p}_loss_slope($real f, $real y)
{$formula
}
"""

#: of losses that couple outputs: their slopes by all of them
ALL: dict[str, str] = {
    "softmax": """
/* The derivatives of the loss of one row by its outputs f; y is a label: $loss */
static void ${p}_loss_slopes(const $real *f, const $real *y, $real scale, $real *delta)
{
    size_t i, label = $n_outputs;
    $real largest = f[0], sum = $zero, others = $zero;
    for (i = 0; i < $n_outputs; i++) {
        largest = f[i] > largest ? f[i] : largest;
        label = y[0] == ($real)i ? i : label;
    }
    if (label == $n_outputs) { /* there is no such label */
        label = 0;
        scale = $huge;
    }
    for (i = 0; i < $n_outputs; i++) {
        delta[i] = $exp(f[i] - largest);
        sum += delta[i];
    }
    for (i = 0; i < $n_outputs; i++) {
        delta[i] *= scale / sum;
        others += i == label ? $zero : delta[i];
    }
    delta[label] = -others;
}
""",
    "gaussian": """
/* The derivatives of the loss of one row by its means and log variances f: $loss */
static void ${p}_loss_slopes(const $real *f, const $real *y, $real scale, $real *delta)
{
    size_t i;
    for (i = 0; i < $n_targets; i++) {
        const $real h = $exp(-$half * f[$n_targets + i]), u = (f[i] - y[i]) * h;
        delta[i] = scale * (u * h);
        delta[$n_targets + i] = scale * ($half - $half * u * u);
    }
}
""",
}

FOR_EACH = """
    for (i = 0; i < $n_outputs; i++) { /* the loss's derivatives by the outputs */
        const $real f = s->a[$a_out + i];
        s->delta[i] = scale * ($delta);
    }"""

OF_ALL = """
    ${p}_loss_slopes(s->a + $a_out, y, scale, s->delta);"""

#: what the outputs are, where they are no predictions of y
MEANINGS = {
    "gaussian": ": the means, then the logarithms of the variances",
    "logistic": ": the logarithm of the odds of 1",
    "softmax": ": the logarithms of the probabilities, but for a number that is the same for all",
    "poisson": ": the logarithm of the mean",
}


class LossInC(NamedTuple):
    """A loss of the inner steps."""

    functions: str
    slopes: str  # statements that leave scale times the slopes in s->delta
    meaning: str  # of the outputs, for a comment


def loss_in_c(c: Dialect, maml: Any, target: str, a_out: int) -> LossInC:
    """Return the C code of the loss of a MAML.

    Parameters
    ----------
    c : Dialect
    maml : MAML
    target : str
        The expression of C for target ``y[i]`` as the network has it.
    a_out : int
        Where in ``s->a`` the outputs lie.

    Raises
    ------
    ValueError
        For a loss that there is no C code for, or whose numbers the dtype cannot hold.
    """
    kind, numbers = maml._problem.loss.kind, maml._problem.loss.numbers
    words = {
        "n_outputs": str(maml.model.n_outputs), "n_targets": str(maml._n_targets),
        "a_out": str(a_out), "loss": shown(maml.loss),
    }  # fmt: skip
    if kind == "squared":
        return LossInC("", c.fill(FOR_EACH, delta=f"f - {target}", **words), "")
    if not isinstance(kind, str) or kind not in {*EACH, *ALL}:
        accepted = ", ".join(map(repr, LOSSES))
        raise ValueError(
            f"objective has the loss {shown(maml.loss)}, which is not written in C; accepted are "
            f"{accepted}, and the objects that these words mean"
        )
    meaning = MEANINGS.get(kind, "")
    if kind in ALL:
        return LossInC(c.fill(ALL[kind], half=0.5, **words), c.fill(OF_ALL, **words), meaning)
    names, formula = EACH[kind]
    values = rounded("loss", numbers, c.dtype)
    if not values.all():
        raise ValueError(
            f"objective has the loss {shown(maml.loss)}, of which a number is 0 in {c.dtype}; "
            f"accepted are numbers that {c.dtype} can hold"
        )
    body = c.fill(formula, **{name: float(v) for name, v in zip(names, values, strict=True)})
    functions = c.fill(SLOPE, formula=body, **words)
    delta = c.fill("${p}_loss_slope(f, $y)", y=target)
    return LossInC(functions, c.fill(FOR_EACH, delta=delta, **words), meaning)
