"""Random problems over families of models and losses together; every family has a line here.

As those of ``cases``, they are drawn so that a tolerance relative to the largest entry is fair:
rates are below half the inverse of the sharpest curvature, and numbers representable in single
precision. (Whether sums cancel is left to whoever has a reference: `cancels`.)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import FORMS, SMALLEST_SHARE, Data, _rate_shape, _row_counts, _single, _targets
from custom_models import BRANCHING, FUNCTIONS
from formulas import LAWS
from numba import njit
from weighted_cases import WeightedCase, _weights

import fastmaml as fm


def waves(x):
    return np.hstack([np.sin(x), np.cos(2 * x)])


def square(x):
    return x * x


# A pair of outputs, of which no more is given than what the rest is derived from


@njit
def pair(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] * np.sin(theta[1] * x[j, 0])
        f[j, 1] = theta[2] * np.cos(theta[1] * x[j, 0]) - theta[0] * x[j, 0]


@njit
def pair_vjp(theta, x, delta, g):
    for j in range(len(x)):
        s, c = np.sin(theta[1] * x[j, 0]), np.cos(theta[1] * x[j, 0])
        g[0] += delta[j, 0] * s - delta[j, 1] * x[j, 0]
        g[1] += x[j, 0] * (delta[j, 0] * theta[0] * c - delta[j, 1] * theta[2] * s)
        g[2] += delta[j, 1] * c


PENDULUM, DECAY = LAWS["pendulum"].model, LAWS["logistic"].model
VALUES = {law.model: law.values for law in LAWS.values()}
RANGES = {law.model: list(law.inputs.values()) for law in LAWS.values()}
MASK = np.arange(fm.MLP([3, 4, 4]).n_params) % 3 == 1
# Models of each family, of which that of a problem's number counts among those that its losses fit
FAMILIES = {
    "mlp": (
        fm.MLP([1, 5, 1]), fm.MLP([2, 4, 3, 3], ["silu", "tanh"]), fm.MLP([1, 6, 2], "sin"),
        fm.MLP([3, 3, 4], "softplus"),
    ),
    "linear": (
        fm.Linear(3), fm.Linear(2, 3), fm.Linear(1, 2, intercept=False), fm.Linear(2, 4),
    ),
    "formula": tuple(law.model for law in LAWS.values()),
    "custom": (
        fm.Custom(9, 2, 3, **FUNCTIONS),
        fm.Custom(3, 1, 2, forward=pair, vjp=pair_vjp),
        fm.Custom(9, 2, 3, forward=FUNCTIONS["forward"], jvp=FUNCTIONS["jvp"]),
        fm.Custom(9, 2, 3, **BRANCHING),
    ),
    "sum": (
        fm.Sum(PENDULUM, fm.MLP([3, 4, 1])),
        fm.Sum(fm.Linear(2, 3), fm.MLP([2, 3, 3])),
        fm.Sum(LAWS["predation"].model, fm.Features(waves, 4, 2, 2), fm.Linear(2, 2)),
        fm.Sum(DECAY, fm.Features(square, 1, intercept=False)),
    ),
    "frozen": (
        fm.Frozen(fm.Sum(PENDULUM, fm.MLP([3, 4, 1])), "formula"),
        fm.Frozen(fm.MLP([3, 4, 4]), MASK),
        fm.Frozen(LAWS["predation"].model, ["a", "c"]),
        fm.Frozen(fm.MLP([2, 3, 3]), "layer 1"),
    ),
    "scaled": (
        fm.Scaled(fm.MLP([1, 4, 1]), x_mean=0.5, x_scale=2.0, y_mean=0.25, y_scale=1.5),
        fm.Scaled(fm.MLP([2, 3, 2]), [1.0, -1.0], [2.0, 0.5], y_scale=[0.5, 2.0]),
        fm.Scaled(fm.Features(waves, 4, 3, 2), x_mean=0.5, x_scale=[2.0, 1.0], y_scale=1.5),
        fm.Scaled(DECAY, x_scale=2.0, y_mean=-0.5),
    ),
    "features": (
        fm.Features(waves, 2), fm.Features(waves, 4, 3, 2), fm.Features(square, 2, 2, 2, False),
        fm.Features(waves, 6, 4, 3),
    ),
}  # fmt: skip


@njit
def cauchy(f, y):
    return np.log(1 + (f - y) ** 2)


@njit
def cauchy_slope(f, y):
    return 2 * (f - y) / (1 + (f - y) ** 2)


@njit
def cauchy_curvature(f, y):
    return 2 * (1 - (f - y) ** 2) / (1 + (f - y) ** 2) ** 2


KINDS = (
    "half_sse", "half_mse", "sse", "mse", fm.Huber(0.5), fm.PseudoHuber(0.8, mean=False),
    fm.LogCosh(), fm.Quantile(0.7, 0.4, mean=False), fm.GaussianNLL(), fm.Logistic(mean=False),
    fm.Softmax(), fm.Poisson(), fm.Loss(cauchy, cauchy_slope, cauchy_curvature),
)  # fmt: skip
NAMES = tuple(kind if isinstance(kind, str) else type(kind).__name__ for kind in KINDS)


def fits(loss, model):
    """Whether a model has the outputs that a loss takes."""
    word = type(loss).__name__
    return model.n_outputs % 2 == 0 if word == "GaussianNLL" else (
        model.n_outputs > 1 or word != "Softmax"
    )  # fmt: skip


def model_of(family, number, *losses):
    """A model of the family that the losses fit."""
    fitting = [m for m in FAMILIES[family] if all(fits(loss, m) for loss in losses)]
    return fitting[number % len(fitting)]


def ranges_of(model):
    """Where the inputs of a model usually are."""
    for part in (model, getattr(model, "model", None), *getattr(model, "parts", ())):
        if part is not None and part in RANGES:
            return RANGES[part]
    inside = getattr(model, "model", None)
    if isinstance(inside, fm.Sum):
        return ranges_of(inside)
    return [(-1.5, 1.5)] * model.n_inputs


def theta_of(model, rng):
    """Parameters near the usual ones."""
    if model in VALUES:
        theta = model.init(rng, values=VALUES[model])
    elif isinstance(model, fm.Sum):
        return np.concatenate([theta_of(part, rng) for part in model.parts])
    elif hasattr(model, "model"):
        return theta_of(model.model, rng)
    else:
        theta = 0.7 * model.init(rng)
    return _single(theta + 0.1 * rng.normal(size=theta.shape))


def draw_family(model, loss, number, query_loss=None, **fixed):
    """The problem of a number: the steps, layout, weights and rates of a model and its losses."""
    rng = np.random.default_rng([17, number])

    def pick(name, choices):
        choice = choices[rng.integers(len(choices))]
        return fixed.get(name, choice)

    n_tasks, steps = pick("n_tasks", (1, 2, 3)), pick("steps", range(6))
    support = pick("support", ("equal", "ragged"))
    query = pick("query", ("equal", "ragged", *(("none",) if query_loss is None else ())))
    order, task_mean = pick("order", ("exact", "exact", "first")), pick("task_mean", (False, True))
    form = pick("form", FORMS if steps else ("scalar", "layer", "parameter"))
    momentum, sides = pick("inner_momentum", (0, 0, 0.5)), pick("sides", ("", "s", "q", "sq"))
    ranges, theta = np.array(ranges_of(model)), theta_of(model, rng)
    data, kinds = [], (loss, loss if query_loss is None else query_loss)
    for layout, rows, kind in zip((support, query), ((1, 3, 5), (2, 4, 6)), kinds, strict=True):
        counts = _row_counts(rng, layout, n_tasks, pick("rows", rows))
        x = [_single(rng.uniform(*ranges.T, (n, model.n_inputs))) for n in counts]
        y = []
        for task in x:
            near = theta + 0.1 * rng.normal(size=theta.shape)
            f = model.predict(near, task)
            y.append(_single(_targets(kind, f + 0.3 * rng.normal(size=f.shape))))
        data += [None, None] if layout == "none" else [
            np.array(each) if layout == "equal" else each for each in (x, y)
        ]  # fmt: skip
    data = Data(*data)
    hessians = fm.equations.task_hessian(model, theta, list(data.x), list(data.y), loss=loss)
    curvature = max(1.0, max(np.linalg.norm(each) for each in hessians))
    shape = _rate_shape(model, form, steps, False)
    rates = _single(rng.uniform(0.1, 0.5, shape) / curvature)
    if form == "scalar":
        rates = float(rates)
    drawn = _single(rng.uniform(0.2, 1.0, steps + 1)) if rng.random() < 0.3 else None
    step_weights = fixed.get("step_weights", drawn)
    weights = [
        _weights(rng, part) if letter in sides and part is not None else None
        for letter, part in (("s", data.x), ("q", data.x_query))
    ]
    return WeightedCase(
        number, model, theta, data, form, rates, steps, order, loss, task_mean, step_weights,
        momentum, query_loss, *weights,
    )  # fmt: skip


@dataclass(frozen=True)
class PerTask:
    """What a reference gives for each task: gradients by theta, and by each step's rates."""

    gradients: Any
    by_rate: Any


def cancels(case, of_tasks):
    """Whether a sum over tasks, or of rates, is a small fraction of its terms."""
    rates = np.array([gather_rates(case, each) for each in of_tasks.by_rate])
    sizes = np.array([gather_rates(case, np.abs(each)) for each in of_tasks.by_rate])
    pairs = (of_tasks.gradients, np.abs(of_tasks.gradients)), (rates, sizes)
    return any(
        np.abs(terms.sum(axis=0)).max(initial=0.0)
        < SMALLEST_SHARE * size.sum(axis=0).max(initial=0)
        for terms, size in pairs
    )


def gather_rates(case, by_step_and_parameter):
    """A derivative by each step's rate of each parameter (S, P) in the form of ``inner_lr``."""
    g = np.asarray(by_step_and_parameter)
    if case.form == "scalar":
        return g.sum()
    if case.form == "step":
        return g.sum(axis=1, keepdims=True)
    if case.form == "parameter":
        return g.sum(axis=0, keepdims=True)
    by_layer = np.array([g[:, at].sum(axis=1) for at in case.model.layers().values()]).T
    return by_layer.sum(axis=0, keepdims=True) if case.form == "layer" else by_layer


def spread_rates(case):
    """The rate of each step and parameter, (S, P)."""
    model, rates = case.model, np.asarray(case.inner_lr)
    if case.form in ("layer", "step_layer"):
        sizes = [at.stop - at.start for at in model.layers().values()]
        rates = np.repeat(rates, sizes, axis=1)
    return np.broadcast_to(rates, (case.steps, model.n_params))
