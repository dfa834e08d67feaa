"""A MAML in C: gradient steps from the learned parameters, then predictions.

Layers that do not adapt are left out, see ``plan``. The sum of a step's gradients is kept in
``s->g``, which is its velocity, too: with momentum mu it is multiplied by mu before a step's rows
are added, otherwise cleared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..maml import MAML
from . import network
from .activations import activation
from .losses import LossInC, loss_in_c
from .network import Layer
from .parts import Member, Parts
from .plan import Plan, plan_of
from .subject import Subject
from .text import Dialect, rounded

__all__ = ["steps_parts"]

START = """
void ${p}_start(${p}_state *s)
{
    size_t i;$body
}
"""

COPY = """
    for (i = 0; i < $size; i++) {
        s->w[$at + i] = ${p}_theta[$first + i];
    }"""

NO_WEIGHTS = """
void ${p}_start(${p}_state *s)
{
    s->a[0] = $zero; /* nothing adapts: the network is a constant table */
}
"""

ADD_ROW = """
/* Add the gradient of the loss of one row to s->g */
static void ${p}_add_row(${p}_state *s, const $real *x, const $real *y, $real scale)
{$index
    ${p}_load(s, x);
    ${p}_$forward(s);$slopes$body
}
"""

COLLECT_LAYER = """
    /* $title */
    ${p}_collect($n_in, $n_out, $delta, s->a + $a_in, s->g + $g, $g_bias);"""

BACK_THROUGH = """
    ${p}_back($n_in, $n_out, $weight, $delta, s->before);
    for (i = 0; i < $n_in; i++) {
        s->d[$at + i] *= s->before[i];
    }"""

ADAPT = """
int ${p}_adapt(${p}_state *s, size_t n_rows, const $real *x, const $real *y)
{
    size_t i, row, step;
    $real scale, sum = $zero;
    ${p}_start(s);
    if (n_rows == 0) {
        return 0;
    }
    scale = $scale;
    for (step = 0; step < $steps; step++) {$begin
        for (row = 0; row < n_rows; row++) {
            ${p}_add_row(s, x + row * $n_inputs, y + row * $n_targets, scale);
        }$proximal$move
    }
    for (i = 0; i < $size; i++) { /* NaN as soon as one of them is NaN or inf */
        sum += s->w[i] * $zero;
    }
    if (!(sum == $zero)) {
        ${p}_start(s);
        return -1;
    }
    return 0;
}
"""

CLEAR = """
        for (i = 0; i < $size; i++) {
            s->g[i] = $zero;
        }"""

FADE = """
        for (i = 0; i < $size; i++) {
            s->g[i] = step == 0 ? $zero : $momentum * s->g[i];
        }"""

PROXIMAL = """
        for (i = 0; step > 0 && i < $size; i++) {
            s->g[$at + i] += $proximal * (s->w[$at + i] - ${p}_theta[$first + i]);
        }"""

MOVE_LAYER = """
        for (i = 0; i < $size; i++) { /* layer $number */
            s->w[$at + i] -= $rate * s->g[$at + i];
        }"""

MOVE_ALL = """
        for (i = 0; i < $size; i++) {
            s->w[i] -= ${p}_rate[i] * s->g[i];
        }"""

ADAPT_NOTHING = """
int ${p}_adapt(${p}_state *s, size_t n_rows, const $real *x, const $real *y)
{
    (void)n_rows;
    (void)x;
    (void)y;
    ${p}_start(s);
    return 0;
}
"""

PREDICT = """
void ${p}_predict(${p}_state *s, const $real *x, $real *f)
{
    size_t i;
    ${p}_load(s, x);
    ${p}_forward(s);
    for (i = 0; i < $n_outputs; i++) {
        f[i] = $output;
    }
}
"""

PROTOTYPES = """
/* Back to what was learned, as before any rows. Call it, or ${p}_adapt, before anything else. */
void ${p}_start(${p}_state *s);

/* Adapt to n_rows rows: x has $n_inputs and y $n_targets numbers a row, one row behind the other.
   Always from what was learned, whatever the state was. Returns 0; or -1 if the rows held NaN or
   inf$others, or the steps ran away, and the state is then that of ${p}_start. */
int ${p}_adapt(${p}_state *s, size_t n_rows, const $real *x, const $real *y);

/* Predict at one row: x has $n_inputs numbers, f takes $n_outputs$meaning. */
void ${p}_predict(${p}_state *s, const $real *x, $real *f);
"""


def steps_parts(c: Dialect, subject: Subject) -> Parts:
    """Return the C code of a MAML.

    Raises
    ------
    ValueError
        For a loss that there is no C code for, and numbers that the dtype cannot hold.
    """
    maml: Any = subject.learner
    model, plan = subject.model, plan_of(maml)
    intercept = model.intercept
    weights = []
    for (n_in, n_out), moves, at in zip(model._layers, plan.adapts, plan.own, strict=True):
        array = "s->w" if moves else f"{c.prefix}_theta"
        bias = f"{array} + {at + n_in * n_out}" if intercept else "NULL"
        weights.append((f"{array} + {at}", bias))
    layers = network.layers_of(subject, weights)
    a_out = layers[-1].a_out
    target = network.target(c, subject, "i")
    loss = loss_in_c(c, maml, target if subject.scaling_of("y") is None else f"({target})", a_out)
    tables = c.table("theta", rounded("theta", subject.theta, c.dtype), "What was learned")
    tables += _rates_table(c, plan) + network.scaling_tables(c, subject)
    way_back = layers[plan.lowest :]
    used = {word for word in subject.activations if word != "identity"}
    with_slope = {layer.activation for layer in way_back if layer.activation}
    functions = c.fill(network.AFFINE)
    for word in sorted(used):
        functions += activation(c, word, word in with_slope)
    functions += network.load(c, subject) + network.forward(c, layers)
    functions += _adapt(c, subject, plan, layers, way_back, loss)
    sizes = _sizes(maml)
    targets = maml._problem.targets[0]
    others = "" if targets is None or targets.kind == "any" else ", or targets that are none"
    output = network.unscaled(c, subject, "i", f"s->a[{a_out} + i]")
    functions += c.fill(PREDICT, output=output, **sizes)
    return Parts(
        members=_members(plan, layers, way_back),
        tables=tables,
        functions=functions,
        prototypes=c.fill(PROTOTYPES, meaning=loss.meaning, others=others, **sizes),
        usage=[
            f"{c.prefix}_adapt(&state, 5, x, y);",
            f"{c.prefix}_predict(&state, x_new, f);",
        ],
        costs=_costs(maml, plan, layers, way_back),
    )


def _rates_table(c: Dialect, plan: Plan) -> str:
    """The table of rates, where they are not plain numbers in the code."""
    if not plan.runs:
        return ""
    if plan.parameter_rates is not None:
        own = np.concatenate([plan.parameter_rates[r.first : r.first + r.size] for r in plan.runs])
        return "\n" + c.table("rate", rounded("inner_lr", own, c.dtype), "Rate of each parameter")
    assert plan.rates is not None
    if len(plan.rates) == 1:
        return ""
    rates = rounded("inner_lr", plan.rates, c.dtype)
    return "\n" + c.table("rate", rates, "Rate of each step and, in it, of each layer")


def _sizes(maml: Any) -> dict[str, str]:
    """How many numbers x, y and f have, as words for templates."""
    model = maml.model
    sizes = {"n_inputs": model.n_inputs, "n_targets": maml._n_targets, "n_outputs": model.n_outputs}
    return _texts(sizes)


def _adapt(
    c: Dialect, subject: Subject, plan: Plan, layers: list[Layer], way_back: list[Layer],
    loss: LossInC,
) -> str:  # fmt: skip
    """The functions that start, and adapt."""
    if not plan.runs:
        return c.fill(NO_WEIGHTS) + c.fill(ADAPT_NOTHING)
    copies = "".join(c.fill(COPY, **_texts(run._asdict())) for run in plan.runs)
    text = c.fill(START, body=copies) + c.fill(network.COLLECT)
    if len(way_back) > 1:
        text += c.fill(network.BACK)
    text += loss.functions + _add_row(c, subject, plan, layers, way_back, loss.slopes)
    return text + _adapt_function(c, subject, plan)


def _add_row(
    c: Dialect, subject: Subject, plan: Plan, layers: list[Layer], way_back: list[Layer],
    slopes: str,
) -> str:  # fmt: skip
    """The gradient of one row."""
    places, at = {}, 0
    for layer in way_back[:-1]:
        places[layer.number] = at
        at += layer.n_out
    text, forward = "", "forward"
    if places:
        forward = "forward_with_slopes"
        text = network.forward(c, layers, forward, places)
    body, delta, intercept = "", "s->delta", subject.model.intercept
    for layer in reversed(way_back):
        words = _texts(layer._asdict())
        if plan.adapts[layer.number - 1]:
            g = plan.own[layer.number - 1]
            g_bias = f"s->g + {g + layer.n_in * layer.n_out}" if intercept else "NULL"
            body += c.fill(
                COLLECT_LAYER, title=layer.title, delta=delta, g=str(g), g_bias=g_bias, **words
            )
        if layer.number - 1 in places:
            before = str(places[layer.number - 1])
            body += c.fill(BACK_THROUGH, delta=delta, at=before, **words)
            delta = f"s->d + {before}"
    index = "\n    size_t i;" if "i++" in slopes + body else ""
    return text + c.fill(ADD_ROW, forward=forward, index=index, slopes=slopes, body=body)


def _adapt_function(c: Dialect, subject: Subject, plan: Plan) -> str:
    """The function that adapts."""
    maml: Any = subject.learner
    loss = maml._problem.loss
    scale = c.number(loss.scale) + (f" / ({c.real})n_rows" if loss.mean else "")
    begin, proximal = c.fill(CLEAR, size=str(plan.size)), ""
    if maml.inner_momentum:
        begin = c.fill(FADE, size=str(plan.size), momentum=float(maml.inner_momentum))
    for run in plan.runs if maml.proximal else ():
        texts = _texts(run._asdict())
        proximal += c.fill(PROXIMAL, proximal=float(maml.proximal), **texts)
    move = ""
    if plan.parameter_rates is not None:
        move = c.fill(MOVE_ALL, size=str(plan.size))
    else:
        assert plan.rates is not None
        for i, (n_in, n_out) in enumerate(subject.model._layers):
            if not plan.adapts[i]:
                continue
            rate = f"{c.prefix}_rate[step * {len(plan.adapts)} + {i}]"
            if len(plan.rates) == 1:
                rate = c.number(rounded("inner_lr", plan.rates[0, i], c.dtype)[()])
            size = n_out * (n_in + subject.model.intercept)
            words = {"size": str(size), "at": str(plan.own[i]), "number": str(i + 1)}
            move += c.fill(MOVE_LAYER, rate=rate, **words)
    return c.fill(
        ADAPT, scale=scale, steps=str(maml.steps), begin=begin, proximal=proximal, move=move,
        size=str(plan.size), **_sizes(maml),
    )  # fmt: skip


def _texts(fields: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items()}


def _members(plan: Plan, layers: list[Layer], way_back: list[Layer]) -> list[Member]:
    """What the state holds."""
    members = []
    if plan.runs:
        members += [
            Member("w", plan.size, "parameters that adapt"),
            Member("g", plan.size, "their gradient, or velocity"),
        ]
    members.append(Member("a", sum(x.n_in for x in layers) + layers[-1].n_out, "values of layers"))
    if plan.runs:
        members.append(Member("delta", layers[-1].n_out, "the loss's derivatives by the outputs"))
    if len(way_back) > 1:
        hidden = [layer.n_out for layer in way_back[:-1]]
        members.append(Member("d", sum(hidden), "slopes of activations, then such derivatives"))
        members.append(Member("before", max(hidden), "derivatives on their way back"))
    return members


def _costs(maml: MAML, plan: Plan, layers: list[Layer], way_back: list[Layer]) -> list[str]:
    """What calls take, in words."""
    forth = sum(2 * layer.n_in * layer.n_out for layer in layers)
    units = sum(layer.n_out for layer in layers if layer.activation)
    lines = [f"predict: {forth} flops, {units} activations"]
    if plan.runs:
        collect = sum(2 * x.n_in * x.n_out for x in way_back if plan.adapts[x.number - 1])
        back = sum(2 * layer.n_in * layer.n_out for layer in way_back[1:])
        slopes = sum(layer.n_out for layer in way_back[:-1] if layer.activation)
        lines.append(
            f"adapt: for each of {maml.steps} steps {2 * plan.size} flops, and for each row of it "
            f"{forth + back + collect} flops, {units} activations, {slopes} slopes of them"
        )
    return lines
