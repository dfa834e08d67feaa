"""The error of the meta-gradient, in roundings of the terms that it is summed from.

    figure = |got - exact| / (eps |terms|)

with Euclidean norms. ``exact`` is the reference in long double. ``terms`` is what the same
equations give when nothing cancels: every term of a sum is taken by its size, and a residual f - y
counts as abs(f) + abs(y). So a figure is the error in units of one rounding of everything that is
summed, however badly the sums of a problem cancel. docs/accuracy.md keeps the worst figures; this
prints them anew:

    pytest tests/test_precision.py -s
"""

import re
from functools import cache
from itertools import product
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
import reference
from cases import ACTIVATIONS, DTYPES, FORMS, LOSSES, METHODS, ORDERS, draw_for
from test_activations import truth

ROOT = Path(__file__).parents[1]
RESULTS = ("value", "gradient", "inner_lr_gradient")
#: room for other processors, libraries and versions above the recorded figures
MARGIN = 2.0
#: problems for each place of the grid
DRAWS = 2
STEPS, DEPTHS = (0, 1, 2, 5), (1, 2, 3, 4)

longer_than_double = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double is no longer than double here"
)
every_method_and_dtype = pytest.mark.parametrize(
    ("method", "dtype"),
    [
        pytest.param(method, dtype, marks=longer_than_double if dtype == "float64" else ())
        for method, dtype in product(METHODS, DTYPES)
    ],
)


def grid():
    """What each problem pins; the rest is drawn."""
    for activation, steps in product(ACTIVATIONS, STEPS):
        yield {"activation": activation, "steps": steps}
    for depth, loss in product(DEPTHS, LOSSES):
        yield {"depth": depth, "loss": loss}
    for form, order, weighted in product(FORMS, ORDERS, (False, True)):
        yield {"form": form, "order": order, "weighted": weighted, "steps": 3}
    for hidden, rows, n_tasks in (((12, 9), 8, 2), ((17,), 5, 3), ((8, 8), 40, 1), ((6,), 3, 30)):
        sizes = {"hidden": hidden, "n_support": rows, "n_query": rows + 2, "n_tasks": n_tasks}
        for activation in ("tanh", "relu"):
            yield {"activation": activation, "depth": len(hidden) + 1, "steps": 2, **sizes}
    for n_outputs, steps in product((1, 3), (1, 5)):
        yield {"family": "linear", "n_outputs": n_outputs, "steps": steps}


def problems(method):
    for seed, pins in enumerate([*grid()] * DRAWS, start=5000):
        yield draw_for(method, seed, **{"family": "mlp", **pins})


@cache
def exact(case):
    """The sums over tasks of value, gradient and derivative by the inner rate, in long double."""
    results = reference.evaluate(
        case.model,
        case.theta.astype(np.longdouble),
        *case.per_task,
        rates=case.rates,
        loss=case.loss,
        order=case.order,
        weights=case.step_weights,
    )
    value, gradient, by_rate = (sum(part) for part in zip(*results, strict=True))
    return value, gradient, case.gather_rate(by_rate)


@cache
def terms(case):
    """The same three sums with every term taken by its size."""
    tasks = zip(case.trajectories, *case.per_task, strict=True)
    results = [task_terms(case, *task) for task in tasks]
    value, gradient, by_rate = (sum(part) for part in zip(*results, strict=True))
    return value, gradient, case.gather_rate(by_rate)


def task_terms(case, points, x, y, x_query, y_query):
    """``reference.evaluate_task`` with a plus for every minus, and sizes for terms."""
    model, rates, loss = case.model, np.asarray(case.rates, float), case.loss
    weights = np.eye(len(points))[-1] if case.step_weights is None else case.step_weights
    value, by_theta, by_rate = 0.0, np.zeros_like(case.theta), np.zeros_like(rates)
    for s in reversed(range(len(points))):
        if s < len(rates):
            by_rate[s] = loss_terms(model, points[s], x, y, loss)[1] * by_theta
            if case.order == "exact":
                hessian = hessian_terms(model, points[s], x, y, loss)
                by_theta = by_theta + (rates[s] * by_theta) @ hessian
        if weights[s] != 0:
            loss_size, pull = loss_terms(model, points[s], x_query, y_query, loss)
            value += weights[s] * loss_size
            by_theta = by_theta + weights[s] * pull
    return value, by_theta, by_rate


def loss_terms(model, theta, x, y, loss):
    """c sum r^2 and 2c sum r . df, of sizes."""
    value, gradient = 0.0, np.zeros(theta.size)
    for row, target in zip(x, y, strict=True):
        f, df = reference.output(model, theta, row)
        r = abs(f) + abs(target)
        value += r @ r
        gradient += r @ abs(df)
    c = reference.loss_factor(loss, y)
    return c * value, 2 * c * gradient


def hessian_terms(model, theta, x, y, loss):
    """2c sum [ r . d2f + df^T df ], of sizes."""
    total = np.zeros((theta.size, theta.size))
    for row, target in zip(x, y, strict=True):
        f, df = reference.output(model, theta, row)
        total += abs(df).T @ abs(df)
        for r, unit in zip(abs(f) + abs(target), np.eye(f.size), strict=True):
            total += r * abs(reference.second_derivative(model, theta, row, unit))
    return 2 * reference.loss_factor(loss, y) * total


def figures(case, method, dtype):
    """The error of each result, in roundings of its terms."""
    got = case.maml(method).evaluate(case.theta.astype(dtype), *case.data)
    share = len(got.task_values) if case.task_mean else 1
    eps = np.finfo(dtype).eps
    for name, want, size in zip(RESULTS, exact(case), terms(case), strict=True):
        result = np.ravel(getattr(got, name)).astype(np.longdouble) * share
        error = np.linalg.norm(result - np.ravel(want))
        rounding = eps * np.linalg.norm(np.ravel(size))
        assert rounding > 0 or error == 0
        yield float(error / rounding) if rounding > 0 else 0.0


def recorded():
    """The figures in docs/accuracy.md, by method and dtype."""
    text = (ROOT / "docs/accuracy.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (float\d\d) \| (.*) \|$", text, re.MULTILINE)
    return {(m, d): [float(n) for n in numbers.split(" | ")] for m, d, numbers in rows}


@every_method_and_dtype
def test_worst_figures(method, dtype):
    worst = np.max([list(figures(case, method, dtype)) for case in problems(method)], axis=0)
    print("\n|", " | ".join([method, dtype, *(f"{figure:.2f}" for figure in worst)]), "|")
    assert (worst <= MARGIN * np.array(recorded()[method, dtype])).all(), worst


@longer_than_double
@pytest.mark.parametrize("name", sorted({*ACTIVATIONS} - {"leaky_relu"}))
def test_the_reference_has_digits_to_spare(name):
    """Its activations in long double are off by a small part of one rounding of a double."""
    z = np.linspace(-9, 9, 37)
    phi = np.stack(reference.activation(name, z.astype(np.longdouble)), axis=1)
    high = phi.astype(float)
    low = (phi - high).astype(float)
    with mp.workprec(200):
        for i, point in enumerate(z):
            for order, want in enumerate(truth(name, point)):
                error = abs(mp.mpf(high[i, order]) + mp.mpf(low[i, order]) - want)
                assert error <= 0.02 * np.finfo(float).eps, (point, order)
