"""Calls of what trains: optimizers, schedules, the loop, minimizers, the estimator."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastmaml as fm
from fastmaml import learn

from .oracle import Call
from .values import Draw, options


def schedule(draw: Draw) -> Call:
    kind, names = draw.choice([
        (learn.Cosine, {"initial": 0.1, "n_updates": 10, "final": 0.01}),
        (learn.Step, {"initial": 0.1, "every": 5, "factor": 0.5}),
    ])  # fmt: skip
    given = draw.spoil(names, 0.7)
    at = draw.spoil({"n_updates": draw.integer(0, 30)}, 0.3)
    return Call(kind.__name__, lambda: kind(**given)(**at), {**at, **given})


def optimizer(draw: Draw) -> Any:
    return draw.choice([
        learn.SGD(0.1), learn.SGD(0.1, 0.9), learn.Adam(), learn.Adam(learn.Cosine(0.1, 5)),
        learn.AdamW(learn.Step(0.1, 2)), learn.AdamW(0.01, weight_decay=0.1),
    ])  # fmt: skip


def construct_optimizer(draw: Draw) -> Call:
    kind, names = draw.choice([
        (learn.SGD, {"learning_rate": 0.1, "momentum": 0.5}),
        (learn.Adam, {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.9, "epsilon": 1e-6}),
        (learn.AdamW, {"learning_rate": 0.1, "weight_decay": 0.5}),
    ])  # fmt: skip
    given = draw.spoil(names, 0.9)

    def make() -> Any:
        made, theta = kind(**given), np.ones(3)
        return made.update(theta, theta, made.init(theta))

    return Call(kind.__name__, make, given)


def use_optimizer(draw: Draw) -> Call:
    made = optimizer(draw)
    theta = draw.normal(draw.integer(1, 6)).astype(draw.choice(["f4", "f8"]))
    _, state = made.update(theta, theta, made.init(theta))
    if draw.chance(0.2):
        arguments = draw.spoil({"theta": theta})
        return Call("init", lambda: made.init(**arguments), arguments)
    arguments = draw.spoil({"theta": theta, "gradient": theta + 1, "state": state})
    if draw.chance(0.2):
        field = draw.choice(state._fields)
        arguments["state"] = state._replace(**draw.spoil({field: getattr(state, field)}, 1.0))
    return Call("update", lambda: made.update(**arguments), arguments)


def _is_long(n: Any) -> bool:
    return isinstance(n, int) and n > 100


def head(draw: Draw, model: Any) -> fm.BayesianLastLayer:
    return fm.BayesianLastLayer(
        model, draw.choice(["nll", "mean_nll", "sse"]), draw.choice(["diagonal", "shared"]),
        draw.choice(["shared", "per_output"]), draw.chance(0.5),
    )  # fmt: skip


def train(draw: Draw) -> Call:
    model = draw.model()
    settings = {name: value for name, value in options(draw, model).items() if name != "order"}
    for name in ("proximal", "cg_rtol", "cg_maxiter"):
        settings.pop(name, None)
    settings["method"] = "auto"
    maml: Any = fm.MAML(model, **settings)
    if draw.chance(0.2):
        maml = learn.Reptile(maml)
    theta = draw.theta(model)
    if draw.chance(0.2) and model.layer_sizes is not None:
        maml = head(draw, model)
        theta = np.concatenate([theta, draw.normal(maml.n_params - len(theta))], dtype=theta.dtype)
    losses = [settings.get("loss"), settings.get("query_loss") or settings.get("loss")]
    if not isinstance(maml, fm.MAML):
        losses = []
    tasks = draw.tasks(model, losses=losses)
    good = {
        "maml": maml, "theta": theta, "optimizer": optimizer(draw),
        "n_iterations": draw.integer(0, 4),
    }  # fmt: skip
    more = {
        "clip_norm": draw.choice([None, 0.5]), "on_divergence": draw.choice(["raise", "skip"]),
        "validation": tuple(tasks.values()), "validate_every": draw.integer(1, 2),
        "callback": lambda state: state.iteration == 3,
    }  # fmt: skip
    good |= {name: value for name, value in more.items() if draw.chance(0.3)}
    if "validation" in good and draw.chance(0.3):
        good["patience"] = 1
    if isinstance(maml, fm.MAML) and draw.chance(0.3):
        good |= {"rate_optimizer": optimizer(draw), "log_rates": draw.chance(0.5)}
    given = draw.spoil(good, 0.5)
    batch = tuple(draw.spoil(tasks, 0.1).values())
    wrong = draw.anything()
    given["sampler"] = wrong if draw.chance(0.05) and not callable(wrong) else lambda: batch
    # No function with another purpose, and no endless training that was asked for.
    if callable(given.get("callback")) or _is_long(given["n_iterations"]):
        given["callback"] = lambda state: state.iteration == 3

    def make() -> Any:
        result = learn.train(**given)
        return result.theta, result.values, result.optimizer_state[1:]

    return Call("train", make, {**given, **tasks, "x": 0, "inner_lr": 0}, finite=False)


def reptile(draw: Draw) -> Call:
    model = draw.model()
    steps = draw.integer(0, 3)
    maml = fm.MAML(model, draw.inner_lr(model, steps), steps, task_mean=draw.chance(0.5))
    good = {"maml": maml, "theta": draw.theta(model), **draw.tasks(model, query=False)}
    given = draw.spoil(good)
    return Call(
        "reptile_gradient", lambda: learn.reptile_gradient(**given), given, finite=steps < 3
    )


def minimize(draw: Draw) -> Call:
    model = draw.model()
    good = {
        "maml": fm.MAML(model, draw.inner_lr(model, 1)), "theta": draw.theta(model),
        "tasks": tuple(draw.tasks(model).values()), "n_iterations": draw.integer(1, 3),
        "method": draw.choice(["L-BFGS-B", "BFGS", "CG"]), "learn_rates": draw.chance(0.3),
    }  # fmt: skip
    given = draw.spoil(good)

    def make() -> Any:
        result = learn.minimize(**given)
        return result.theta, result.values

    names = {**given, "x": 0, "y": 0, "x_query": 0, "y_query": 0, "inner_lr": 0}
    return Call("minimize", make, names, finite=False, foreign=("scipy",))


# ---- the estimator


def estimator(draw: Draw) -> Call:
    n = draw.integer(4, 20)
    hidden = draw.choice([[3], (2,), [2, 3], ()])
    good = {
        "hidden_layer_sizes": 3 if hidden == [3] else hidden,
        "activation": draw.activation(len(hidden)),
        "inner_lr": 0.05, "steps": draw.integer(0, 2), "shots": draw.choice([None, 1, 2]),
        "shuffle": draw.chance(0.5), "meta_batch": draw.integer(1, 4),
        "learning_rate_init": 0.01, "max_iter": draw.integer(1, 3), "order": "exact",
        "random_state": draw.integer(0, 9),
    }  # fmt: skip
    settings = draw.spoil(good, 0.4)
    if _is_long(settings["max_iter"]):
        settings["max_iter"] = 2  # a training that long is what was asked for
    y = draw.normal(n, 2) if draw.chance(0.3) else draw.normal(n)
    data = {"X": draw.normal(n, draw.integer(1, 3)), "y": y}
    data["groups"] = draw.rng.integers(0, 4, n)
    data = draw.spoil(data, 0.4)
    new = draw.spoil({"X": data["X"], "groups": data["groups"]}, 0.4)
    way = draw.choice(["predict", "adapt", "score", "score", "adapt_predict"])

    def make() -> Any:
        fitted = learn.MAMLRegressor(**settings).fit(**data)
        if way == "predict":
            return fitted.predict(**new)
        if way == "adapt":
            return fitted.adapt(new["X"], data["y"]).predict(new["X"])
        if way == "adapt_predict":
            return fitted.adapt_predict(**data, X_new=new["X"], groups_new=new["groups"])
        return fitted.score(new["X"], data["y"], groups=new["groups"])

    names = {**settings, **data, **new, "groups_new": 0, "X_new": 0, "theta": 0, "task": 0}
    return Call("MAMLRegressor", make, names, foreign=("sklearn", "scipy", "numpy"), finite=False)
