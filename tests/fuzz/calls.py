"""Calls of the public API: each function of `CALLS` draws one, good or spoiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastmaml as fm

from .data import family, saved, scaling, table
from .learning import (
    construct_optimizer,
    estimator,
    minimize,
    reptile,
    schedule,
    train,
    use_optimizer,
)
from .oracle import Call, Failure
from .own import fits, model_of, targets_of, waves
from .values import LOSSES, OF_NETWORKS, STEEP, Draw, options

SMOOTH = ("identity", "tanh", "sigmoid", "softplus", "silu", "gelu", "sin")

# ---- models


def construct_model(draw: Draw) -> Call:
    if draw.chance(0.3):
        size = {"n_inputs": draw.integer(1, 4), "n_outputs": draw.integer(1, 3)}
        arguments = draw.spoil({**size, "intercept": draw.chance(0.5)})
        return Call("Linear", lambda: repr(fm.Linear(**arguments)), arguments)
    sizes = [draw.integer(1, 5) for _ in range(draw.integer(2, 4))]
    arguments = draw.spoil({"layer_sizes": sizes, "activation": draw.activation(len(sizes) - 2)})
    return Call("MLP", lambda: repr(fm.MLP(**arguments)), arguments)


def construct_own(draw: Draw) -> Call:
    """A model of another family, of which most arguments are models or texts."""
    kind, names = draw.choice([
        (fm.Scaled, {"x_mean": 0.5, "x_scale": 2.0, "y_mean": np.zeros(2), "y_scale": np.ones(2)}),
        (fm.Frozen, {"frozen": draw.choice(["layer 1", ["layer 2"], np.arange(22) < 3])}),
        (fm.Features, {"n_features": 2, "n_outputs": 2, "n_inputs": 1, "intercept": True}),
        (fm.Sum, {"names": ["one", "two"]}),
    ])  # fmt: skip
    first: dict[str, Any] = {"model": fm.MLP([1, 5, 2])}
    if kind is fm.Features:
        first = {"transform": draw.choice([np.sin, waves])}
    given = draw.spoil({**first, **names}, 0.8)
    if kind is fm.Sum:
        parts = given.pop("model"), draw.model(0.0)
        return Call("Sum", lambda: repr(fm.Sum(*parts, **given)), {"parts": 0, "model": 0, **given})
    return Call(kind.__name__, lambda: repr(kind(**given)), given)


def construct_loss(draw: Draw) -> Call:
    kind, names = draw.choice([
        (fm.Huber, {"delta": 1.0}), (fm.PseudoHuber, {"delta": 0.5}), (fm.LogCosh, {}),
        (fm.Quantile, {"q": 0.5, "smoothing": 0.1}), (fm.GaussianNLL, {}), (fm.Logistic, {}),
        (fm.Softmax, {}), (fm.Poisson, {}),
    ])  # fmt: skip
    given = draw.spoil({**names, "mean": draw.chance(0.5)}, 0.8)
    return Call(kind.__name__, lambda: repr(kind(**given)), given)


def use_model(draw: Draw) -> Call:
    model = draw.model()
    theta = draw.theta(model)
    x = draw.tasks(model, query=False)["x"]
    way = draw.choice(["init", "pack", "unpack", "predict", "predict", "predict"])
    if way == "init":
        arguments = draw.spoil({"rng": draw.integer(0, 9), "dtype": draw.choice(["f4", "f8"])})
        if draw.chance(0.1):  # fresh entropy
            arguments["rng"] = None
        return Call("init", lambda: model.init(**arguments), arguments)
    if way == "pack":
        if not hasattr(model, "pack"):
            return construct_own(draw)
        arguments = draw.spoil({"layers": model.unpack(theta)})
        names = {**arguments, "values": 0, "parts": 0}
        return Call("pack", lambda: model.pack(arguments["layers"]), names)
    if way == "unpack":
        if not hasattr(model, "unpack"):
            return construct_own(draw)
        lead = draw.choice([(), (2,), (2, 3)])
        arguments = draw.spoil({"theta": np.broadcast_to(theta, (*lead, len(theta))).copy()})
        return Call("unpack", lambda: model.unpack(**arguments), arguments)
    x = x[0] if draw.chance(0.4) else x
    theta = np.tile(theta, (len(x), 1)) if draw.chance(0.2) else theta
    arguments = draw.spoil({"theta": theta, "x": x})
    return Call("predict", lambda: model.predict(**arguments), arguments)


# ---- MAML


def construct_maml(draw: Draw) -> Call:
    arguments = draw.spoil({"model": draw.model()} | options(draw, draw.model()), 0.8)
    if draw.chance(0.1):
        rate = draw.spoil({"model": draw.model(), "inner_lr": 0.1})
        return Call("anil_inner_lr", lambda: fm.anil_inner_lr(**rate), rate)
    return Call("MAML", lambda: repr(fm.MAML(**arguments)), arguments)


def use_maml(draw: Draw) -> Call:
    model = draw.model()
    settings = options(draw, model)
    losses = [settings.get("loss"), settings.get("query_loss") or settings.get("loss")]
    data = {"theta": draw.theta(model), **draw.tasks(model, losses=losses, weights=0.2)}
    way = draw.choice([
        "adapt", "predict", "value", "gradient", "value_and_gradient", "evaluate", "hessp",
        "meta_gradient",
    ])  # fmt: skip
    if way in ("adapt", "predict"):
        data = {name: data[name] for name in ("theta", "x", "y", "sample_weight") if name in data}
    if way == "predict":
        n_tasks = len(data["x"])
        data["x_new"] = draw.choice([
            draw.normal(3, model.n_inputs), draw.rows(model, draw.counts(n_tasks))[0],
        ])  # fmt: skip
    if way == "hessp":
        data["v"] = draw.normal(model.n_params)
    if way in ("gradient", "meta_gradient") and draw.chance(0.3):
        data["out"] = np.full(model.n_params, 7.0, data["theta"].dtype)
    given = draw.spoil({**settings, **data}, 0.5)
    settings = {name: given[name] for name in settings}
    data = {name: given[name] for name in data}
    if way == "meta_gradient":
        return Call(way, lambda: fm.meta_gradient(model, **settings, **data), given)
    return Call(
        way, lambda: getattr(fm.MAML(model, **settings), way)(**data), {"model": model, **given},
        finite=_checked(given) and _is_plain(model, losses),
    )  # fmt: skip


def _checked(given: dict[str, Any]) -> bool:
    """Whether arguments that are finite must give what is finite: not after many steeper steps."""
    steps = given["steps"]
    return isinstance(steps, int) and steps <= 2 and _is_small(given["inner_lr"])


def _is_plain(model: Any, losses: list[Any]) -> bool:
    """Whether nothing grows as exp does."""
    words = [each if isinstance(each, str) else "" for each in losses]
    return isinstance(model, fm.models.Network) and not set(words) & set(STEEP)


def _is_small(rate: Any) -> bool:
    if isinstance(rate, np.ndarray) and rate.dtype.kind != "f":
        return False
    return isinstance(rate, float | np.ndarray) and bool(np.all(np.abs(rate) <= 0.1))


def agree(draw: Draw) -> Call:
    """All methods and all numbers of threads, on tasks large enough for more than one."""
    sizes = [draw.integer(1, 3), *[draw.integer(1, 8) for _ in range(draw.integer(0, 2))]]
    model = fm.MLP([*sizes, draw.integer(1, 2)], draw.choice(SMOOTH))
    if draw.chance(0.3):
        model = model_of(draw)
    steps = draw.integer(0, 2)
    losses = [loss for loss in LOSSES if loss not in STEEP and fits(loss, model)]
    loss, query_loss = draw.choice(losses), draw.choice([None, draw.choice(losses)])
    settings = {
        "inner_lr": draw.inner_lr(model, steps), "steps": steps, "loss": loss,
        "query_loss": query_loss,
        "order": draw.choice(["exact", "first"]), "task_mean": draw.chance(0.5),
    }  # fmt: skip
    n_tasks = draw.choice([1, 2, 5, 5, 60])
    theta = draw.theta(model)
    data: dict[str, Any] = {"theta": theta}
    for names, of in ((("x", "y"), loss), (("x_query", "y_query"), query_loss or loss)):
        x, y = draw.rows(model, draw.counts(n_tasks))
        data |= dict(zip(names, (x, targets_of(of, y)), strict=True))
    if draw.chance(0.3) and all(loss in ("sse", "half_sse") for loss in (loss, query_loss or loss)):
        data["sample_weight"] = draw.weights(data["x"])
    per_parameter = np.shape(settings["inner_lr"]) == (1, model.n_params) and model.n_params > 1
    methods = [m for m in OF_NETWORKS if not (per_parameter and m == "factored")]
    if model.layer_sizes is None:
        methods = ["explicit", "dense"]

    def make() -> list[Any]:
        return [fm.MAML(model, method=m, **settings).evaluate(**data) for m in methods]

    def hold(results: list[Any]) -> None:
        tolerance = 1e-9 if theta.dtype == np.float64 else 2e-3
        for method, result in zip(methods[1:], results[1:], strict=True):
            for name, one, other in zip(result._fields, results[0], result, strict=True):
                one, other = np.asarray(one, "f8"), np.asarray(other, "f8")
                largest = np.abs(one).max(initial=1.0)
                if not np.allclose(one, other, rtol=0, atol=tolerance * largest):
                    raise Failure(f"{name} differs: {methods[0]} {one}, {method} {other}")
        with fm.threads(1):
            alone = make()
        for method, one, other in zip(methods, results, alone, strict=True):
            for name, a, b in zip(one._fields, one, other, strict=True):
                if np.asarray(a).tobytes() != np.asarray(b).tobytes():
                    raise Failure(f"{method}: the bits of {name} depend on the threads")

    return Call("methods agree", make, {"model": model, **settings, **data}, hold)


def absurd(draw: Draw) -> Call:
    """Numbers of any size: the methods are finite together or not at all."""
    model = fm.MLP([1, draw.integer(1, 4), 1], draw.choice(SMOOTH))
    theta = draw.theta(model)
    data = {"theta": theta, "x": draw.normal(2, 3, 1), "y": draw.normal(2, 3, 1)}
    settings = {"inner_lr": draw.choice([0.0, 1e-30, 0.01]), "steps": draw.integer(0, 2)}
    limit = 300 if theta.dtype == np.float64 else 38
    for name in ("theta", "x", "y", "inner_lr"):
        if draw.chance(0.4):
            given = settings if name in settings else data
            factor = np.asarray(10.0 ** draw.integer(-limit, limit)).astype(theta.dtype)
            scaled = given[name] * factor
            given[name] = float(scaled) if name == "inner_lr" else scaled

    def make() -> list[Any]:
        with np.errstate(all="ignore"):
            return [fm.MAML(model, method=m, **settings).evaluate(**data) for m in OF_NETWORKS]

    def hold(results: list[Any]) -> None:
        finite = [
            [bool(np.isfinite(part).all()) for part in (r.value, r.gradient)] for r in results
        ]
        if any(answer != finite[0] for answer in finite):
            raise Failure(f"finite (value, gradient) by method {OF_NETWORKS}: {finite}")

    return Call("methods are finite together", make, settings | data, hold, finite=False)


# ---- equations


def equation(draw: Draw) -> Call:
    name = draw.choice(fm.equations.__all__)
    model = draw.model()
    theta = draw.theta(model)
    if name == "meta_update":
        arguments = draw.spoil({"theta": theta, "gradient": theta * 2, "outer_lr": 0.1})
        return Call(name, lambda: fm.equations.meta_update(**arguments), arguments)
    query = name in ("task_meta_gradient", "meta_gradient")
    losses = [loss for loss in LOSSES if fits(loss, model)]
    loss = draw.choice(losses) if draw.chance(0.5) else None
    if name in ("residuals", "jacobian"):
        loss = None
    tasks = draw.tasks(model, query, [loss] * 2, 0.0 if name in ("residuals", "jacobian") else 0.2)
    given: dict[str, Any] = {"model": model, "theta": theta, **tasks}
    if name == "jacobian":
        del given["y"]
    if name == "task_hessp":
        given["v"] = draw.normal(model.n_params)
    if query or name in ("adapted_parameters", "adaptation_jacobian"):
        given["inner_lr"] = draw.choice([0.05, np.full(model.n_params, 0.05)])
    if loss is not None:
        given["loss"] = loss
    if name == "meta_gradient":
        given["task_mean"] = draw.chance(0.5)
    arguments = draw.spoil(given)
    function = getattr(fm.equations, name)
    plain = _is_plain(model, [loss])
    return Call(f"equations.{name}", lambda: function(**arguments), arguments, finite=plain)


# ---- the process


def process(draw: Draw) -> Call:
    way = draw.choice(["set_num_threads", "threads", "warmup"])
    if way == "warmup":
        words = draw.spoil({"methods": ["factored"], "dtypes": ["float64"]})
        return Call(way, lambda: fm.warmup(**words), words)
    given = draw.spoil({"n": draw.integer(1, 2)})

    def make() -> None:
        before = fm.threads(2)
        with before:
            if way == "threads":
                with fm.threads(**given):
                    pass
            else:
                fm.set_num_threads(**given)

    return Call(way, make, given)


def quietly(function: Callable[[Draw], Call]) -> Callable[[Draw], Call]:
    def drawn(draw: Draw) -> Call:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what NumPy says while values are being spoiled
            return function(draw)

    return drawn


#: what is called, and how often
CALLS: dict[Callable[[Draw], Call], int] = {
    construct_model: 6,
    construct_own: 5,
    construct_loss: 3,
    use_model: 14,
    construct_maml: 12,
    use_maml: 30,
    agree: 4,
    absurd: 3,
    equation: 12,
    schedule: 4,
    construct_optimizer: 4,
    use_optimizer: 6,
    train: 6,
    reptile: 4,
    minimize: 2,
    family: 10,
    table: 8,
    scaling: 6,
    saved: 3,
    estimator: 2,
    process: 1,
}
_FUNCTIONS = [quietly(function) for function, n in CALLS.items() for _ in range(n)]


def draw_call(draw: Draw) -> Call:
    """Draw a function, and the arguments that it is called with."""
    return draw.choice(_FUNCTIONS)(draw)
