"""Random problems for adaptation in closed form, one for each seed; see ``cases``."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import ACTIVATIONS, Data

import fastmaml as fm

LOSSES = ("nll", "mean_nll", "half_sse", "half_mse", "sse", "mse")
TOLERANCE = {"float64": 1e-11, "float32": 2e-4}
#: where the K × K system ends: by size, always, never
FORMS = {"by size": lambda p: p, "dual": lambda p: 10**9, "primal": lambda p: -1}


@dataclass(frozen=True, eq=False)
class Case:
    """An objective, theta and a batch of tasks."""

    head: Any
    theta: np.ndarray
    data: Data

    @property
    def lists(self):
        """The data as four lists of one (rows, n) array a task, the query set filled in."""
        x, y, x_query, y_query = self.data
        if x_query is None:
            x_query, y_query = x, y
        m = self.head.model.n_outputs
        targets = [[rows.reshape(len(rows), m) for rows in side] for side in (y, y_query)]
        return list(x), targets[0], list(x_query), targets[1]


def single(values):
    """The nearest single-precision numbers, as doubles."""
    return np.asarray(values, np.float32).astype(np.float64)


def draw(seed, activations=ACTIVATIONS, most_rows=60, **options):
    """The problem of this seed."""
    rng = np.random.default_rng([11, seed])
    depth = int(rng.integers(1, 5))
    n_in, n_out = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    hidden = rng.choice((1, 3, 7, 16, 21), depth - 1).tolist()
    activation = activations[seed % len(activations)]
    if depth == 1 and rng.random() < 0.5:
        model = fm.Linear(n_in, n_out, intercept=bool(rng.random() < 0.5))
    else:
        if len(hidden) > 1 and seed % 3 == 0:
            activation = [str(word) for word in rng.choice(activations, len(hidden))]
        model = fm.MLP([n_in, *hidden, n_out], activation)
    chosen = {
        "loss": LOSSES[seed % len(LOSSES)],
        "prior": ("diagonal", "shared")[rng.integers(2)],
        "noise": ("shared", "per_output")[rng.integers(2)],
        "task_mean": bool(rng.integers(2)),
        **options,
    }
    head = fm.BayesianLastLayer(model, **chosen)
    theta = head.init(rng)
    theta[: model.n_params] += 0.1 * rng.normal(size=model.n_params)
    theta[model.n_params :] += 0.5 * rng.normal(size=head.n_params - model.n_params)
    n_tasks = int(rng.integers(1, 4))
    with_query = rng.random() < 0.8
    flat = n_out == 1 and rng.random() < 0.5
    sides = []
    for fewest in (0 if with_query else 1, 1):
        most = int(rng.choice((1, 5, most_rows)))
        counts = np.full(n_tasks, rng.integers(fewest, most + 1))
        if ragged := rng.random() < 0.5:
            counts = rng.integers(fewest, most + 1, n_tasks)
        x = [single(rng.normal(size=(k, n_in))) for k in counts]
        y = [single(np.sin(rows @ rng.normal(size=(n_in, n_out))) + 0.1) for rows in x]
        y = [rows[:, 0] if flat else rows for rows in y]
        sides += [x, y] if ragged else [np.array(x), np.array(y)]
    return Case(head, single(theta), Data(*(sides if with_query else sides[:2])))


def options(head):
    """The options that make such a head again, so that nothing is remembered of its plans."""
    return {name: getattr(head, name) for name in ("loss", "prior", "noise", "task_mean")}
