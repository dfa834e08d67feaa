"""Tasks whose inner steps diverge are named, with the step and the rate; others are let be."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numba import config

import fastmaml as fm
from fastmaml import divergence
from fastmaml.divergence import named_tasks

if config.DISABLE_JIT:  # then NumPy does the kernels' arithmetic, and says what it thinks of it
    pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) enc:RuntimeWarning")

MODEL = fm.MLP([1, 8, 1])
THETA = MODEL.init(0)
X = np.linspace(-1, 1, 20).reshape(4, 5, 1)
Y = np.sin(X)
USUAL = r"; a smaller inner_lr, or data scaled to about 1, usually helps$"


LINEAR = fm.Linear(1)


def wild(dtype=np.float64):
    """Theta of a linear model, and four tasks of which 1 and 3 diverge."""
    x = X.astype(dtype)
    x[[1, 3]] *= 1e4
    return np.array([0.5, 0.0], dtype), x, Y.astype(dtype)


def calls(maml, theta, x, y):
    return {
        "adapt": lambda: maml.adapt(theta, x, y),
        "predict": lambda: maml.predict(theta, x, y, x),
    }


@pytest.mark.parametrize("name", ["adapt", "predict"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_tasks_the_step_and_the_rate_are_named(name, dtype):
    maml = fm.MAML(LINEAR, [[0.1], [0.5]], 2, loss="mse")
    call = calls(maml, *wild(dtype))[name]
    text = r"task 1 diverged in inner step 1, at inner_lr 0\.1: its support loss went from .* to "
    with pytest.warns(fm.DivergenceWarning, match=text) as caught:
        result = call()
    assert "(2 of 4 tasks diverged: 1, 3)" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert np.isfinite(result[[0, 2]]).all()


def test_tasks_are_called_by_their_names():
    maml = fm.MAML(LINEAR, 0.1, 2, loss="mse")
    with (
        pytest.warns(fm.DivergenceWarning, match=r"^task 'b' .*\(2 of 4 tasks diverged: 'b', 7\)"),
        named_tasks(["a", "b", "c", 7]),
    ):
        maml.adapt(*wild())
    with pytest.warns(fm.DivergenceWarning, match=r"^task 1 "):  # as without the block
        maml.adapt(*wild())


def test_a_single_task_has_no_number():
    with pytest.warns(fm.DivergenceWarning, match=r"^the task diverged in inner step 1.*" + USUAL):
        fm.MAML(MODEL, 1e9).adapt(THETA, X[0], Y[0])


def test_five_names_are_enough():
    x, y = np.tile(X, (2, 1, 1)), np.tile(Y, (2, 1, 1))
    text = r"\(8 of 8 tasks diverged: 0, 1, 2, 3, 4, \.\.\.\)"
    with pytest.warns(fm.DivergenceWarning, match=text):
        fm.MAML(MODEL, 1e9).adapt(THETA, x, y)


def test_a_later_step_and_the_range_of_its_rates():
    maml = fm.MAML(MODEL, [[0.01, 0.02], [5.0, 1e9]], 2, loss="mse")
    text = r"in inner step 2, at inner_lr 5 to 1e\+09: its"
    with pytest.warns(fm.DivergenceWarning, match=text):
        maml.adapt(THETA, X[0], Y[0])


@pytest.mark.parametrize(
    "options",
    [
        {"inner_lr": np.full(MODEL.n_params, 1e9)},
        {"inner_lr": 1e9, "inner_momentum": 0.9, "steps": 3},
        {"inner_lr": 1e9, "order": "implicit", "proximal": 1.0},
        {"inner_lr": 1e9, "order": "first"},
        {"inner_lr": 1e38, "steps": 5},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_every_way_to_adapt(options):
    with pytest.warns(fm.DivergenceWarning, match="diverged in inner step 1"):
        fm.MAML(MODEL, **options).adapt(THETA, X, Y)


def test_nan_is_a_divergence():
    with pytest.warns(fm.DivergenceWarning, match="to (nan|inf)"):
        f = fm.MAML(fm.MLP([1, 8, 1], "relu"), 1e38, 9).predict(THETA, X, Y, X)
    assert not np.isfinite(f).all()


@pytest.mark.parametrize("size", [1e80, 1e150])
def test_parameters_whose_squares_overflow(size):
    theta = np.array([size, 0.0])
    adapted = fm.MAML(LINEAR, 0.0).adapt(theta, X, Y)
    np.testing.assert_array_equal(adapted, np.tile(theta, (4, 1)))


def test_ragged_tasks():
    x, y = [X[0], 1e4 * X[1, :2], X[2]], [Y[0], Y[1, :2], Y[2]]
    with pytest.warns(fm.DivergenceWarning, match=r"^task 1 .*\(1 of 3 tasks diverged: 1\)"):
        fm.MAML(LINEAR, 0.1, 2, loss="mse").predict([0.5, 0.0], x, y, x)


def test_large_parameters_that_fit_are_no_divergence():
    """Targets in units of their own: the steps go far, and to the right place."""
    model = fm.Linear(1)
    x = np.array([[-1.0], [1.0]])
    adapted = fm.MAML(model, 0.5, 1).adapt([0.0, 0.0], x, 1e9 * x)
    np.testing.assert_allclose(adapted, [1e9, 0.0])


def test_without_checks_nothing_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.MAML(MODEL, 1e9, check_finite=False).adapt(THETA, X, Y)


def test_as_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", fm.DivergenceWarning)
        with pytest.raises(fm.DivergenceWarning, match="diverged in inner step 1"):
            fm.MAML(MODEL, 1e9).adapt(THETA, X, Y)
    fm.MAML(MODEL, 0.01).adapt(THETA, X, Y)


@pytest.mark.parametrize("steps", [1, 5, 14, 16])
def test_what_was_infinite_at_first_is_no_excuse(steps):
    """A loss that overflows before the first step, and parameters that run away."""
    with pytest.warns(fm.DivergenceWarning, match="to inf"):
        fm.MAML(LINEAR, 1e10, steps).adapt([0.0, 0.0], [[[1.0]]], [[1e154]])


def test_many_steps_are_not_taken_one_by_one_again():
    """The step is found by doubling and halving: the first whose loss is too large."""
    rates = np.full((3000, 1), 1e-6)
    rates[1234] = 1e9
    text = r"in inner step 1235, at inner_lr 1e\+09:"
    with pytest.warns(fm.DivergenceWarning, match=text):
        fm.MAML(LINEAR, rates, 3000).adapt([0.5, 0.0], X[0], Y[0])


def test_tasks_far_away_are_looked_at_together(monkeypatch):
    """Data in units of their own make every task suspicious: two kernel calls for all of them."""
    seen = []
    original = divergence.dense.hessian_products
    monkeypatch.setattr(
        divergence.dense, "hessian_products", lambda *args: seen.append(1) or original(*args)
    )
    x = np.linspace(-1, 1, 3000).reshape(300, 10, 1)
    fm.MAML(LINEAR, 0.1, 20).predict([0.0, 0.0], x, 1e4 * x, x)
    assert len(seen) == 2


def test_many_tasks():
    x = np.tile(X, (3000, 1, 1))
    x[7] *= 1e4
    with pytest.warns(fm.DivergenceWarning, match=r"^task 7 .*\(1 of 12000 tasks diverged: 7\)"):
        fm.MAML(LINEAR, 0.1, 2, loss="mse").adapt([0.5, 0.0], x, np.tile(Y, (3000, 1, 1)))
