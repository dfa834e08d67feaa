"""The same bits for every number of threads, on every threading layer, from run to run.

Numba fixes its threads when a process starts, so each number of threads has a process of its own:
run as a script, this file computes everything and prints digests, which the tests compare.
"""

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from itertools import product
from typing import NamedTuple

import numba
import numpy as np
import pytest
from cases import DTYPES, METHODS

import fastmaml as fm


class Problem(NamedTuple):
    layer_sizes: tuple[int, ...]
    activation: str
    n_tasks: int
    rows: tuple[int, int]  # the fewest and the most of a task
    steps: int


PROBLEMS = {
    "too little work to share": Problem((1, 3, 1), "tanh", 3, (2, 2), 1),
    "many chunks": Problem((1, 9, 1), "relu", 700, (5, 5), 1),
    "ragged": Problem((2, 6, 5, 2), "sin", 60, (1, 12), 2),
    "fewer tasks than threads": Problem((3, 8, 2), "gelu", 2, (150, 200), 1),
    "deep": Problem((2, 7, 9, 4, 1), "silu", 70, (3, 3), 3),
}
# Losses of the support rows, each with another of the query rows; and targets where not 4
LOSSES = {"huber": "softmax", "softmax": "gaussian_nll", "gaussian_nll": "logistic"}
LOSSES |= {"logistic": "quantile", "poisson": "log_cosh", "pseudo_huber": "poisson"}
WIDTHS = {"softmax": 1, "gaussian_nll": 2}
RUNS = {
    "2 threads": {"NUMBA_NUM_THREADS": "2"},
    "1 thread": {"NUMBA_NUM_THREADS": "1"},
    "3 threads": {"NUMBA_NUM_THREADS": "3"},
    "4 threads": {"NUMBA_NUM_THREADS": "4"},
    "2 of 4 threads": {"NUMBA_NUM_THREADS": "4", "TEST_MASK": "2"},
    "2 threads of workqueue": {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": "workqueue"},
}


def results(method, dtype, name):
    """Every array that the method computes on one problem."""
    problem = PROBLEMS[name]
    rng = np.random.default_rng(0)
    model = fm.MLP(problem.layer_sizes, problem.activation)
    theta = model.init(rng, dtype)
    fewest, most = problem.rows
    counts = rng.integers(fewest, most, problem.n_tasks, endpoint=True)
    x = [rng.normal(size=(rows, model.n_inputs)) for rows in counts]
    y = [rng.normal(size=(rows, model.n_outputs)) for rows in counts]
    rate = np.full((problem.steps, model.n_layers), 0.01)
    maml = fm.MAML(model, rate, problem.steps, loss="mse", method=method)
    yield from maml.evaluate(theta, x, y, x[::-1], y[::-1])
    yield from maml.value_and_gradient(theta, x, y)
    yield maml.adapt(theta, x, y)
    yield from maml.predict(theta, x, y, x[::-1])
    if method != "factored":
        heavy = fm.MAML(model, rate, problem.steps, loss="mse", method=method, inner_momentum=0.5)
        yield from heavy.evaluate(theta, x, y, x[::-1], y[::-1])
    if method == "dense":
        options = {"order": "implicit", "proximal": 1e3, "loss": "mse"}
        yield from fm.MAML(model, rate / 100, problem.steps, **options).evaluate(theta, x, y)
        yield fm.equations.task_hessp(model, theta, theta, x, y)


def closed_form_results(loss, dtype, name):
    """The same of adaptation in closed form."""
    problem = PROBLEMS[name]
    rng = np.random.default_rng(1)
    model = fm.MLP(problem.layer_sizes, problem.activation)
    head = fm.BayesianLastLayer(model, loss)
    theta = head.init(rng, dtype)
    counts = rng.integers(*problem.rows, problem.n_tasks, endpoint=True)
    x = [rng.normal(size=(rows, model.n_inputs)) for rows in counts]
    y = [rng.normal(size=(rows, model.n_outputs)) for rows in counts]
    yield from head.evaluate(theta, x, y, x[::-1], y[::-1])
    yield from head.adapt(theta, x, y)
    for side in head.predict(theta, x, y, x[::-1], return_std=True):
        yield from side


def loss_results(loss, dtype, name):
    """The same of losses that are no squared errors, other ones of the query rows."""
    problem = PROBLEMS[name]
    rng = np.random.default_rng(2)
    *inner, _ = problem.layer_sizes
    model = fm.MLP((*inner, 4), problem.activation)
    theta = model.init(rng, dtype)
    counts = rng.integers(*problem.rows, problem.n_tasks, endpoint=True)
    x = [rng.normal(size=(rows, model.n_inputs)) for rows in counts]
    other = LOSSES[loss]
    y, y_query = (
        [rng.integers(0, 2, (rows, WIDTHS.get(word, 4))) for rows in counts]
        for word in (loss, other)
    )
    maml = fm.MAML(model, 0.01, problem.steps, loss=loss, query_loss=other)
    yield from maml.evaluate(theta, x, y, x, y_query)
    yield maml.adapt(theta, x, y)


def digests():
    """A digest of the results for each method, dtype and problem."""
    found = {}
    for method, dtype, name in product([*METHODS, "nll", "sse", *LOSSES], DTYPES, PROBLEMS):
        digest = hashlib.sha256()
        of = results if method in METHODS else closed_form_results
        of = loss_results if method in LOSSES else of
        for part in of(method, dtype, name):
            assert np.all(np.isfinite(part))
            digest.update(np.ascontiguousarray(part).tobytes())
        found[f"{method} {dtype} {name}"] = digest.hexdigest()
    return found


@cache
def run(name):
    """The digests that a process of its own computes."""
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, **RUNS[name]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", list(RUNS)[1:])
def test_number_of_threads_does_not_matter(name):
    first, other = run("2 threads")["once"], run(name)["once"]
    assert [key for key in first if other[key] != first[key]] == []


@pytest.mark.parametrize("name", ["2 threads", "4 threads"])
def test_a_second_call_gives_the_same(name):
    both = run(name)
    assert both["again"] == both["once"]


def test_this_process_gives_the_same():
    assert digests() == run("2 threads")["once"]


if __name__ == "__main__":
    if "TEST_MASK" in os.environ:
        numba.set_num_threads(int(os.environ["TEST_MASK"]))
    print(json.dumps({"once": digests(), "again": digests()}))
