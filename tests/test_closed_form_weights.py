"""Weights of rows where adaptation has a closed form: a weight is a row's precision."""

import closed_form_reference as reference
import numba
import numpy as np
import pytest
from cases import DTYPES, relative_error
from closed_form_cases import FORMS, LOSSES, TOLERANCE, options, single
from test_closed_form import moved, small, tasks

import fastmaml as fm
from fastmaml.methods import closed_form

SEEDS = range(8 if numba.config.DISABLE_JIT else 36)
CLOSE = 1e-11


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    """Each way in which a task's system is solved."""
    monkeypatch.setattr(closed_form, "dual_limit", FORMS[request.param])
    return request.param


def weights_of(rng, x):
    """Some zeros, but not of all rows of a task, unless it has none."""
    parts = [single(rng.uniform(0.2, 3, len(rows))) * (rng.random(len(rows)) < 0.7) for rows in x]
    for part in parts:
        part[:1] = 1.5
    return np.array(parts) if isinstance(x, np.ndarray) else parts


def drawn(seed):
    """A problem, its head with nothing remembered, and the weights as a call takes them."""
    case, rng = small(seed), np.random.default_rng([17, seed])
    support = (
        None if seed % 4 == 1 and case.data.x_query is not None else weights_of(rng, case.data.x)
    )
    query = (
        None if seed % 4 == 2 or case.data.x_query is None else weights_of(rng, case.data.x_query)
    )
    head = fm.BayesianLastLayer(case.head.model, **options(case.head))
    return case, head, {"sample_weight": support, "sample_weight_query": query}


def ones(x):
    return [np.ones(len(rows)) for rows in x]


@pytest.mark.parametrize("seed", SEEDS)
def test_value_and_gradient(seed, form):
    case, head, weights = drawn(seed)
    support, query = weights.values()
    if case.data.x_query is None:
        query = support
    lists = [
        *case.lists,
        ones(case.lists[0]) if support is None else list(support),
        ones(case.lists[2]) if query is None else list(query),
    ]
    want = reference.value(head, case.theta, *lists)
    slope = reference.gradient(head, case.theta, *lists)
    for dtype in DTYPES:
        theta = case.theta.astype(dtype)
        value, gradient = head.value_and_gradient(theta, *case.data, **weights)
        assert relative_error(value, want) <= TOLERANCE[dtype]
        assert relative_error(gradient, slope) <= TOLERANCE[dtype]
        evaluated = head.evaluate(theta, *case.data, **weights)
        assert evaluated.value == value == head.value(theta, *case.data, **weights)
        np.testing.assert_array_equal(evaluated.gradient, gradient)


@pytest.mark.parametrize("seed", SEEDS)
def test_predictions_and_posteriors(seed, form):
    case, head, weights = drawn(seed)
    x, y, x_query, _ = case.lists
    own = weights["sample_weight"]
    each = ones(x) if own is None else own
    for dtype in DTYPES:
        theta, close = case.theta.astype(dtype), TOLERANCE[dtype]
        got = head.predict(theta, *case.data[:2], x_query, return_std=True, sample_weight=own)
        found = head.adapt(theta, *case.data[:2], sample_weight=own)
        for i, (x_i, y_i, new, w) in enumerate(zip(x, y, x_query, each, strict=True)):
            f, variance = reference.predict(head, case.theta, x_i, y_i, new, w)
            mean, std = (part[i].reshape(f.shape) for part in got)
            assert relative_error(mean, f) <= close
            assert relative_error(std, np.sqrt(variance)) <= close
            mean, precision = reference.posterior(head, case.theta, x_i, y_i, w)
            assert relative_error(found.mean[i], mean) <= close
            assert relative_error(found.scale[i] @ found.scale[i].T, precision) <= close


@pytest.mark.parametrize("loss", LOSSES)
def test_zero_is_a_missing_row_and_two_are_two(loss, form):
    head = fm.BayesianLastLayer(fm.MLP([2, 6, 2], "tanh"), loss=loss, noise="per_output")
    theta, data = moved(head), tasks(3, 8, 6, 2, 2)
    support, query = np.ones((3, 8)), np.ones((3, 6))
    support[:, 3], query[:, 1] = 2, 2
    support[:, 5:], query[:, 4] = 0, 0
    x, y, x_query, y_query = data
    wild = [part.copy() for part in data]
    for part, weights in zip(wild, (support, support, query, query), strict=True):
        part[weights == 0] = np.finfo(float).max
    got = head.evaluate(theta, *wild, sample_weight=support, sample_weight_query=query)
    k, q = [0, 1, 2, 3, 3, 4], [0, 1, 1, 2, 3, 5]
    want = head.evaluate(theta, x[:, k], y[:, k], x_query[:, q], y_query[:, q])
    for name in want._fields:
        assert relative_error(getattr(got, name), getattr(want, name)) <= CLOSE, name
    # all weights zero: the prior
    none = head.adapt(theta, x, y, sample_weight=np.zeros((3, 8)))
    prior = head.adapt(theta, x[:, :0], y[:, :0])
    assert relative_error(none.mean, prior.mean) <= CLOSE
    assert relative_error(none.scale, prior.scale) <= CLOSE


def test_weights_of_one_are_none_and_plans_are_kept_apart(form):
    head = fm.BayesianLastLayer(fm.MLP([2, 6, 1]))
    theta, data = moved(head), tasks(3, 5, 6, 2, 1)
    plain = head.evaluate(theta, *data)
    got = head.evaluate(
        theta, *data, sample_weight=np.ones((3, 5)), sample_weight_query=np.ones((3, 6))
    )
    for name in plain._fields:
        assert relative_error(getattr(got, name), getattr(plain, name)) <= CLOSE, name
    np.testing.assert_array_equal(head.evaluate(theta, *data).gradient, plain.gradient)


def test_float32_that_overflows_is_computed_again_with_its_weights():
    head = fm.BayesianLastLayer(fm.MLP([1, 4, 1]), loss="sse")
    theta = moved(head)
    x, y, x_query, y_query = tasks(3, 5, 6)
    weights = {
        "sample_weight": np.linspace(0.5, 1.5, 15).reshape(3, 5),
        "sample_weight_query": np.linspace(1, 2, 18).reshape(3, 6),
    }
    data = [x, 1e18 * y, x_query, 1e18 * y_query]
    small = [part.astype(np.float32) for part in data]
    value, gradient = head.value_and_gradient(theta.astype(np.float32), *small, **weights)
    want, slope = head.value_and_gradient(theta, *data, **weights)
    assert relative_error(value, want) <= TOLERANCE["float32"]
    finite = np.isfinite(gradient)
    assert finite.any()
    np.testing.assert_allclose(
        gradient[finite], slope[finite], rtol=1e-2, atol=1e-4 * np.abs(slope).max()
    )


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NumPy would warn of what overflows")
def test_float32_that_overflows_predicts_with_its_weights():
    """As without weights: features of 1e39, and a prior that is as narrow as they are large."""
    head = fm.BayesianLastLayer(fm.MLP([1, 4, 4, 1], "relu"))
    x, y, x_new, _ = (part.astype("float32") for part in tasks(3, 4, 5))
    layers, *_ = head.unpack(moved(head))
    layers = [*((1e12 * weight, bias) for weight, bias in layers[:2]), (np.zeros((1, 4)), [0.0])]
    theta = head.pack(layers, [1e-78] * 4 + [1.0], 1.0).astype("float32")
    x, x_new = np.float32(1e15) * x, np.float32(1e15) * x_new
    weights = {"sample_weight": np.float32(2) ** np.arange(12).reshape(3, 4)}
    wide = [part.astype("float64") for part in (theta, x, y, x_new)]
    got = head.predict(theta, x, y, x_new, return_std=True, **weights)
    want = head.predict(*wide, return_std=True, **weights)
    with pytest.warns(fm.DivergenceWarning, match="the posterior of task 0 is not finite"):
        got += head.adapt(theta, x, y, **weights)[:2]  # of a precision that float32 cannot hold
    want += head.adapt(*wide[:3], **weights)[:2]
    for mine, other in zip(got, want, strict=True):
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(mine, other.astype("float32"))


def test_errors():
    head = fm.BayesianLastLayer(fm.MLP([1, 4, 1]), loss="mean_nll")
    theta, data = moved(head), tasks(3, 5, 6)
    zeros = np.zeros((3, 6))
    with pytest.raises(ValueError, match="sample_weight_query sums to 0 in task 0"):
        head.value(theta, *data, sample_weight_query=zeros)
    for call in (
        lambda w: head.value(theta, *data, sample_weight=w),
        lambda w: head.adapt(theta, *data[:2], sample_weight=w),
        lambda w: head.predict(theta, *data[:3], sample_weight=w),
    ):
        with pytest.raises(
            ValueError, match=r"sample_weight has shape \(3, 4\); accepted is \(3, 5\)"
        ):
            call(np.ones((3, 4)))
        with pytest.raises(ValueError, match=r"sample_weight holds -1\.0 in task 0, row 0"):
            call(-np.ones((3, 5)))


def test_a_stream_takes_weighted_rows():
    head = fm.BayesianLastLayer(fm.MLP([2, 6, 2]), noise="per_output")
    theta, (x, y, *_) = moved(head), tasks(1, 7, 6, 2, 2)
    weights = np.array([1, 0.25, 0, 3, 1, 2, 0.5])
    stream = head.start(theta)
    for row in zip(x[0], y[0], weights, strict=True):
        stream.update(*row[:2], sample_weight=row[2])
    assert stream.n_rows == 7
    want = head.adapt(theta, x[0], y[0], sample_weight=weights)
    assert relative_error(stream.posterior.mean, want.mean) <= CLOSE
    assert relative_error(stream.posterior.scale, want.scale) <= CLOSE
    before = stream.posterior
    stream.update(np.full(2, 1e300), np.full(2, 1e300), sample_weight=0)
    np.testing.assert_array_equal(stream.posterior.mean, before.mean)
    for wrong, kind in ((-1.0, ValueError), (np.nan, ValueError), ("1", TypeError)):
        with pytest.raises(kind, match="sample_weight is"):
            stream.update(x[0, 0], y[0, 0], sample_weight=wrong)
    np.testing.assert_array_equal(stream.posterior.mean, before.mean)
