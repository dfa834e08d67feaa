"""Calls of what holds data: families, tables of tasks, scalings, saved models."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

import fastmaml as fm
from fastmaml import learn
from fastmaml.datasets import TaskTable

from .oracle import Call
from .values import Draw


def family(draw: Draw) -> Call:
    kind = draw.choice(list(fm.datasets.FAMILIES.values()))
    defaults = {field.name: field.default for field in fields(kind)}
    some = {name: value for name, value in defaults.items() if draw.chance(0.4)}
    if draw.chance(0.3):
        some["part"] = draw.choice(["all", "train", "test"])
    given = draw.spoil(some, 0.4)
    sizes = {
        "n_tasks": draw.integer(1, 5), "n_support": draw.integer(1, 6),
        "n_query": draw.integer(0, 6), "rng": draw.integer(0, 99),
        "dtype": draw.choice(["f4", "f8", np.float64]),
    }  # fmt: skip
    sizes = draw.spoil(sizes, 0.4)
    if draw.chance(0.3):
        return _points(draw, kind)
    return Call(kind.__name__, lambda: kind(**given).sample(**sizes), {**given, **sizes})


def _points(draw: Draw, kind: Any) -> Call:
    made = kind()
    if draw.chance(0.2):
        some = draw.spoil({"n_tasks": draw.integer(1, 4), "rng": draw.integer(0, 9)}, 0.8)
        return Call(
            f"{kind.__name__}.sample_functions", lambda: made.sample_functions(**some), some
        )
    functions = made.sample_functions(draw.integer(1, 4), draw.integer(0, 99))
    names = list(made.sample_points.__annotations__)[: len(functions)]
    good: dict[str, Any] = dict(zip(names, functions, strict=True))
    given = draw.spoil({**good, "n_points": draw.integer(1, 5), "rng": 0, "dtype": "f8"})
    return Call(f"{kind.__name__}.sample_points", lambda: made.sample_points(**given), given)


def table(draw: Draw) -> Call:
    """Make a table, and draw from it."""
    n = draw.integer(4, 24)
    labels = draw.choice(
        [draw.rng.integers(0, 3, n), np.array(["a", "b"])[draw.rng.integers(0, 2, n)]]
    )
    rows = {"x": draw.normal(n, draw.integer(1, 2)), "y": draw.normal(n), "tasks": labels}
    if draw.chance(0.3):
        rows["time"] = draw.normal(n)
    if draw.chance(0.3):
        rows |= {"missing": draw.choice(["error", "drop"]), "short_tasks": "drop", "min_rows": 2}
    rows = draw.spoil(rows, 0.4)
    sizes = {"n_support": draw.choice([1, 0.5, None]), "n_query": draw.choice([None, 0, 1])}
    way = draw.choice(["split", "sample", "hold_out", "from_dict", "from_frame"])
    if way == "sample":
        sizes |= {"n_tasks": draw.integer(1, 2), "dtype": draw.choice(["f4", "f8"])}
    if way == "hold_out":
        sizes = {"n_validation": draw.integer(0, 1), "n_test": draw.integer(0, 1), "seed": 3}
    elif way in ("split", "sample"):
        sizes |= {"rng": draw.integer(0, 9), "how": draw.choice(["random", "first"])}
    sizes = draw.spoil(sizes, 0.4)

    def make() -> Any:
        if way == "from_dict":
            return TaskTable.from_dict({"a": (rows["x"], rows["y"]), "b": (rows["x"], rows["y"])}).x
        if way == "from_frame":
            frame = {"t": rows["y"], "u": rows["y"], "whose": rows["tasks"]}
            return TaskTable.from_frame(frame, "whose", ["t"], ["u"]).x
        made = TaskTable.from_rows(**rows)
        found = getattr(made, way)(**sizes)
        return tuple(found.training.split(1)) if way == "hold_out" else tuple(found)

    names = {**rows, **sizes, "task": 0, "column": 0, "known": 0, "table": 0}
    return Call(f"TaskTable.{way}", make, names, says="are left out")


def scaling(draw: Draw) -> Call:
    """Fit or make a scaling, and scale with it."""
    model = fm.MLP([draw.integer(1, 3), draw.integer(1, 2)])
    data = draw.spoil(draw.tasks(model), 0.5)
    if draw.chance(0.4):
        n_in, n_out = model.n_inputs, model.n_outputs
        given = {"x_mean": draw.normal(n_in), "x_scale": 1 + draw.rng.random(n_in)}
        given |= {"y_mean": draw.normal(n_out), "y_scale": 1 + draw.rng.random(n_out)}
        given = draw.spoil(given, 0.5)
        return Call("Scaling", lambda: learn.Scaling(**given).tasks(**data), {**given, **data})

    def make() -> Any:
        made = learn.Scaling.fit(data["x"], data["y"])
        back = made.unscale_y(made.scale_y(data["y"]))
        return tuple(made.tasks(**data)), back

    return Call("Scaling.fit", make, data)


def saved(draw: Draw) -> Call:
    """Save a model and load it again."""
    model = draw.model()
    n_in, n_out = model.n_inputs, model.n_outputs
    good = {
        "objective": fm.MAML(model, draw.inner_lr(model, 1)), "theta": draw.theta(model),
        "inputs": [f"x{i}" for i in range(model.n_inputs)], "extra": {"seed": [1, None, "a"]},
        "scaling": learn.Scaling(*(np.ones(n) for n in 2 * [n_in] + 2 * [n_out])),
    }  # fmt: skip
    given = draw.spoil(good, 0.7)

    def make() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.npz")
            fm.save(path, **given)
            return fm.load(path).theta

    return Call("save", make, given)
