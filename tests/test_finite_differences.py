"""The derivatives of ``MAML.value`` against its own differences, without any other derivative."""

from functools import cache

import numpy as np
import pytest
from cases import LOSSES, METHODS, SMOOTH, draw_for, relative_error

import fastmaml as fm

# Fourth order, h = 1e-3: truncation about h^4 = 1e-12 times the fifth derivative, rounding about
# eps / h = 2e-13 times the value.
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
TOLERANCE = 1e-8


def difference(function, point, h):
    """The gradient of a function of an array, entry by entry; h may differ between entries."""
    flat = np.ravel(point).astype(np.float64)
    steps = np.broadcast_to(h, flat.shape)
    slopes = []
    for i, size in enumerate(steps):
        total = 0.0
        for offset, weight in STENCIL:
            moved = flat.copy()
            moved[i] += offset * size
            total += weight * function(moved.reshape(np.shape(point)))
        slopes.append(total / size)
    return np.reshape(slopes, np.shape(point))


@cache
def problem(method, activation, loss, steps):
    seed = 3000 + SMOOTH.index(activation) + 10 * LOSSES.index(loss) + 100 * steps
    pins = {"activation": activation, "loss": loss, "steps": steps, "hidden": (4, 3)}
    return draw_for(method, seed, family="mlp", depth=3, order="exact", n_tasks=2, **pins)


@cache
def expected(case):
    """The gradients by theta and by inner_lr, from values alone."""
    by_theta = difference(lambda p: case.maml().value(p, *case.data), case.theta, 1e-3)
    if not case.steps:
        return by_theta, np.zeros(np.shape(case.inner_lr))

    def value_at_rate(inner_lr):
        maml = fm.MAML(case.model, **{**case.options, "inner_lr": inner_lr})
        return maml.value(case.theta, *case.data)

    # of the size of the rates: they are small, and what they multiply is large
    h = 1e-2 * np.max(case.inner_lr)
    return by_theta, difference(value_at_rate, case.inner_lr, h)


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("method", METHODS)
def test_gradient_is_the_slope_of_the_value(method, activation, loss, steps):
    case = problem(method, activation, loss, steps)
    result = case.maml(method).evaluate(case.theta, *case.data)
    by_theta, by_rate = expected(case)
    assert relative_error(result.gradient, by_theta) <= TOLERANCE
    assert relative_error(result.inner_lr_gradient, by_rate) <= TOLERANCE
