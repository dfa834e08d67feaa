"""Standardised data: what it does to columns, tasks and dtypes, and that nothing is lost."""

import json

import numpy as np
import pytest

import fastmaml as fm
from fastmaml.datasets import TaskTable
from fastmaml.learn import Adam, Scaling, train

rng = np.random.default_rng(0)
X = rng.normal(3.0, [1e-6, 2.0], (50, 2))
Y = 1e9 + rng.normal(size=(50, 1))


def test_columns_have_mean_0_and_scale_1():
    scaling = Scaling.fit(X, Y)
    for scaled in (scaling.scale_x(X), scaling.scale_y(Y)):
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(scaling.x_mean, X.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(scaling.x_scale, X.std(axis=0), rtol=1e-12)


def test_rows_tasks_and_lists_of_tasks_are_the_same_rows():
    want = Scaling.fit(X, Y)
    assert Scaling.fit(X, Y[:, 0]) == want
    assert Scaling.fit(X.reshape(5, 10, 2), Y.reshape(5, 10, 1)) == want
    assert Scaling.fit(X.reshape(5, 10, 2), Y.reshape(5, 10)) == want
    assert Scaling.fit(list(X.reshape(5, 10, 2)), list(Y.reshape(5, 10))) == want
    ragged = [X[:9], X[9:20], X[20:]], [Y[:9], Y[9:20], Y[20:]]
    assert Scaling.fit(*ragged) == want
    assert Scaling.fit(ragged[0], [y[:, 0] for y in ragged[1]]) == want
    assert Scaling.fit(X.tolist(), Y.tolist()) == want


@pytest.mark.parametrize("form", [lambda a: a, lambda a: a.reshape(5, 10, -1), lambda a: a[0]])
def test_there_and_back(form):
    scaling = Scaling.fit(X, Y)
    x, y = form(X), form(Y)
    assert scaling.scale_x(x).shape == x.shape
    np.testing.assert_allclose(scaling.unscale_y(scaling.scale_y(y)), y, rtol=1e-15)
    assert scaling.unscale_std(np.ones(3)).tolist() == scaling.y_scale.tolist() * 3


def test_lists_stay_lists_and_one_output_needs_no_axis():
    scaling = Scaling.fit(X, Y)
    tasks = scaling.tasks([X[:3], X[3:9]], [Y[:3, 0], Y[3:9, 0]], X[None, :4], Y[None, :4])
    assert [rows.shape for rows in tasks.x] == [(3, 2), (6, 2)]
    assert [rows.shape for rows in tasks.y] == [(3,), (6,)]
    np.testing.assert_array_equal(tasks.y[1], scaling.scale_y(Y[3:9])[:, 0])
    assert tasks.x_query.shape == (1, 4, 2)
    assert scaling.tasks(X[None], Y[None]).x_query is None
    assert scaling.scale_y(1e9).shape == ()


def test_a_large_offset_costs_float32_no_digits():
    scaling = Scaling.fit(X.astype(np.float32), Y)
    scaled = scaling.scale_y(Y, np.float32)
    assert scaled.dtype == np.float32
    back = scaling.unscale_y(scaled)
    assert back.dtype == np.float64
    np.testing.assert_allclose(back - 1e9, Y - 1e9, atol=1e-6)


@pytest.mark.parametrize(
    ("column", "scale"),
    [
        ([5.0, 5.0, 5.0], 1.0),
        ([0.1, 0.1, 0.1], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([0.3, 0.1 + 0.2, 0.3], 1.0),  # rounding is no variation
        ([1e9, 1e9 + 3e-3, 1e9 - 3e-3], 3e-3 * np.sqrt(2 / 3)),
        ([1e-200, 0.0, -1e-200], 1e-200 * np.sqrt(2 / 3)),
        ([1.5e308, 0.0, -1.5e308], 1.5e308 * np.sqrt(2 / 3)),
    ],
)
def test_columns_of_every_size(column, scale):
    column = np.array(column)[:, None]
    scaling = Scaling.fit(column, column)
    np.testing.assert_allclose(scaling.x_scale, [scale], rtol=1e-4)
    assert np.isfinite(scaling.scale_x(column)).all()
    np.testing.assert_allclose(scaling.x_mean, column.mean(), rtol=1e-12)


def test_what_diverged_stays_so_without_a_warning():
    scaling = Scaling([0.0], [1.0], [1.0], [10.0])
    np.testing.assert_array_equal(
        scaling.unscale_y([np.inf, np.nan, 1e308]), [np.inf, np.nan, np.inf]
    )
    assert scaling.unscale_y([1e300], np.float32).tolist() == [np.inf]


def test_it_is_a_value():
    scaling = Scaling.fit(X, Y)
    assert eval(repr(scaling)) == scaling
    assert hash(eval(repr(scaling))) == hash(scaling)
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling
    assert scaling != Scaling.fit(X + 1, Y)
    assert scaling != "scaling"
    with pytest.raises(ValueError, match="read-only"):
        scaling.x_mean[0] = 0
    given = np.ones(1)
    kept = Scaling(given, [1.0], [0.0], [1.0])
    given[0] = 5
    assert kept.x_mean[0] == 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Scaling.fit(X, Y[:3]), ValueError, "y has 3 rows, x has 50; accepted is the same"),
        (
            lambda: Scaling.fit(X[:, 0], Y[:, 0]),
            ValueError,
            r"x has shape \(50,\); .* x\[:, None\]",
        ),
        (lambda: Scaling.fit(X[None], Y[:, 0]), ValueError, "y has 1 axes, x has 3"),
        (lambda: Scaling.fit(X[:0], Y[:0]), ValueError, "x has no rows or no columns"),
        (lambda: Scaling.fit(X[:, :0], Y), ValueError, "x has no rows or no columns"),
        (lambda: Scaling.fit([[[1.0], [1.0, 2.0]]], Y), ValueError, r"x\[0\] is no regular array"),
        (lambda: Scaling.fit(X * np.nan, Y), ValueError, "x holds nan at row 0, column 0"),
        (lambda: Scaling.fit(["a"], Y), TypeError, r"x\[0\] is text, 'a'"),
        (lambda: Scaling.fit(np.zeros((1, 1, 1, 1)), Y), ValueError, r"x has shape \(1, 1, 1, 1\)"),
        (lambda: Scaling.fit([X, X[:3, :1]], Y), ValueError, r"x has tasks of \[1, 2\] columns"),
        (lambda: Scaling.fit([X, X[0]], Y), ValueError, "x holds tasks of different axes"),
        (
            lambda: Scaling.fit(X, Y).scale_x(X[:, :1]),
            ValueError,
            r"x has shape \(50, 1\); .* is 2",
        ),
        (lambda: Scaling.fit(X, Y).scale_x([X, X[:3, :1]]), ValueError, r"x\[1\] has shape \(3, 1"),
        (
            lambda: Scaling.fit(Y, X).scale_y(Y),
            ValueError,
            r"y has shape \(50, 1\); .* is 2, the col",
        ),
        (lambda: Scaling.fit(X, Y).scale_x(X, int), TypeError, "dtype is <class 'int'>"),
        (
            lambda: Scaling([0.0], [0.0], [0.0], [1.0]),
            ValueError,
            "x_scale holds 0.0; accepted are",
        ),
        (lambda: Scaling([0.0], [1.0], [0.0], [np.inf]), ValueError, "y_scale holds inf"),
        (
            lambda: Scaling([0.0, 1.0], [1.0], [0.0], [1.0]),
            ValueError,
            "x_mean has 2 columns, x_sca",
        ),
        (lambda: Scaling(0.0, [1.0], [0.0], [1.0]), ValueError, r"x_mean has shape \(\)"),
        (
            lambda: Scaling.from_dict({"x_mean": [0.0]}),
            ValueError,
            "fields is .*; accepted are dict",
        ),
    ],
)
def test_what_is_not_accepted_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_the_loop_learns_data_in_natural_units():
    draw = np.random.default_rng(1)
    task = np.repeat(np.arange(60), 20)
    x = draw.uniform(500, 700, (1200, 1))
    slope, offset = draw.normal(1.0, 0.2, 60)[task], draw.normal(0.0, 20.0, 60)[task]
    y = slope * (x[:, 0] - 600) + offset + 3000
    training, _, test = TaskTable.from_rows(x, y, task).hold_out(n_test=20)
    scaling = Scaling.fit(training.x, training.y)
    maml = fm.MAML(fm.MLP([1, 16, 1]), inner_lr=0.05, steps=3, loss="mse", task_mean=True)
    result = train(
        maml,
        maml.model.init(0),
        lambda: scaling.tasks(*training.sample(10, 10, 10, draw)),
        Adam(0.01),
        300,
    )
    x, y, x_query, y_query = test.split(10, how="first")
    scaled = scaling.scale_x(x), scaling.scale_y(y), scaling.scale_x(x_query)
    f = scaling.unscale_y(maml.predict(result.theta, *scaled))
    assert np.square(f - y_query).mean() < 0.1 * y_query.var()
