"""Weights of rows in trainings: batches, tables of tasks, the standardisation, the estimators."""

import re

import numpy as np
import pytest
from cases import relative_error

import fastmaml as fm
from fastmaml.datasets import Sinusoid, TaskTable, WeightedTasks
from fastmaml.learn import (
    SGD,
    Adam,
    BayesianLastLayerRegressor,
    MAMLRegressor,
    Reptile,
    Scaling,
    minimize,
    reptile_gradient,
    train,
)

CLOSE = 1e-11
ENDS = "ignore:max_iter=:sklearn.exceptions.ConvergenceWarning"
WORSE = "ignore:the .* are predicted worse than by the mean"


def weighted(seed=0, n_tasks=4):
    """Tasks whose last support and query row count nothing, and the same without these."""
    tasks = Sinusoid().sample(n_tasks, n_support=5, n_query=5, rng=seed)
    rng = np.random.default_rng(seed)
    support, query = rng.uniform(0.5, 2, (2, n_tasks, 5))
    support[:, 4], query[:, 4] = 0, 0
    fewer = WeightedTasks(*(part[:, :4] for part in (*tasks, support, query)))
    return WeightedTasks(*tasks, support, query), fewer


def sampler(part, entries=6):
    """What draws those batches one after the other, their first entries."""
    seeds = iter(range(20))
    return lambda: weighted(next(seeds))[part][:entries]


MAML = fm.MAML(fm.MLP([1, 6, 1], "tanh"), inner_lr=0.05, steps=2, loss="mse", task_mean=True)
HEAD = fm.BayesianLastLayer(fm.MLP([1, 6, 1], "tanh"), loss="mean_nll", task_mean=True)
OBJECTIVES = {"maml": MAML, "reptile": Reptile(MAML), "head": HEAD}


# ---- batches


@pytest.mark.parametrize("name", OBJECTIVES)
def test_train_takes_the_weights(name):
    objective = OBJECTIVES[name]
    theta = HEAD.init(0) if name == "head" else MAML.model.init(0)
    learns = {"rate_optimizer": SGD(0.01)} if name == "maml" else {}
    results = [
        train(
            objective, theta, sampler(part),
            Adam(0.01), 8, validation=weighted(99)[part], validate_every=4, **learns,
        )
        for part in (0, 1)
    ]  # fmt: skip
    got, want = results
    assert relative_error(got.theta, want.theta) <= 1e-9
    assert relative_error(got.values, want.values) <= 1e-9
    assert got.best.value == pytest.approx(want.best.value, rel=1e-9)
    if learns:
        assert got.inner_lr == pytest.approx(want.inner_lr, rel=1e-9)
        assert got.inner_lr != MAML.inner_lr
    # the weights do count
    plain = train(objective, theta, sampler(0, 4), Adam(0.01), 8)
    assert relative_error(plain.theta, want.theta) > 1e-6


def test_each_part_of_a_weighted_batch_may_be_missing():
    batch, _ = weighted()
    theta = MAML.model.init(0)
    x, y, x_query, y_query, support, query = batch
    for given, keywords in (
        ((x, y, None, None, support, None), {"sample_weight": support}),
        ((x, y, x_query, y_query, support, None), {"sample_weight": support}),
        ((x, y, x_query, y_query, None, query), {"sample_weight_query": query}),
        ((x, y, x_query, y_query, None, None), {}),
    ):
        result = train(MAML, theta, lambda given=given: given, SGD(0.1), 1)
        assert result.values[0] == MAML.value(theta, *given[:4], **keywords)


def test_a_batch_of_another_length_is_an_error():
    batch, _ = weighted()
    text = "has 5 entries; accepted are (x, y) and (x, y, x_query, y_query), and with weights"
    with pytest.raises(ValueError, match=re.escape(text)):
        train(MAML, MAML.model.init(0), lambda: batch[:5], SGD(0.1), 1)


def test_an_objective_of_ones_own_takes_what_its_sampler_gives():
    class Own:
        def value_and_gradient(self, theta, *batch):
            return float(len(batch)), np.zeros_like(theta)

    assert train(Own(), np.zeros(2), lambda: range(6), SGD(0.1), 1).values == [6.0]


def test_tasks_that_diverge_are_named_and_skipped_with_their_weights():
    batch, _ = weighted()
    rates = np.full((4, 5), 1.0)
    rates[2] = 1e200
    maml = fm.MAML(fm.MLP([1, 6, 1], "relu"), inner_lr=0.01, steps=40, loss="sse")
    theta = maml.model.init(0)
    given = (*batch[:4], rates, batch[5])
    with pytest.raises(FloatingPointError, match=r"1 of 4 tasks diverged: 2.*diverged in inner"):
        train(maml, theta, lambda: given, SGD(1e-6), 1)
    state = train(maml, theta, lambda: given, SGD(1e-6), 1, on_divergence="skip").state
    assert state.diverged == (2,)
    others = [part[[0, 1, 3]] for part in given]
    want = maml.value(theta, *others[:4], sample_weight=others[4], sample_weight_query=others[5])
    assert state.value == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("learn_rates", [False, True])
def test_minimize_takes_the_weights(learn_rates):
    pytest.importorskip("scipy")
    theta = MAML.model.init(0)
    got, want = (minimize(MAML, theta, part, 3, learn_rates=learn_rates) for part in weighted())
    assert relative_error(got.values, want.values) <= 1e-8
    plain = minimize(MAML, theta, weighted()[0][:4], 3, learn_rates=learn_rates)
    assert relative_error(plain.values, want.values) > 1e-6


def test_reptile_gradient():
    (x, y, *_, support, _), (fewer_x, fewer_y, *_, fewer, _) = weighted()
    theta = MAML.model.init(0)
    got = reptile_gradient(MAML, theta, x, y, sample_weight=support)
    want = reptile_gradient(MAML, theta, fewer_x, fewer_y, sample_weight=fewer)
    assert relative_error(got, want) <= CLOSE


# ---- tables


def rows(seed=0):
    """Rows x, y, tasks and weights, of which some are 0."""
    rng = np.random.default_rng(seed)
    tasks = np.repeat(["a", "b", "c"], [5, 6, 7])[rng.permutation(18)]
    x, y = rng.normal(size=(2, 18))
    weights = rng.integers(0, 4, 18).astype(float)
    weights[tasks == "b"] += 1
    return x, y, tasks, weights


def test_a_table_keeps_the_weight_of_each_row():
    x, y, tasks, weights = rows()
    table = TaskTable.from_rows(x, y, tasks, sample_weight=weights)
    assert len(table.x) == np.count_nonzero(weights)
    np.testing.assert_array_equal(table.sample_weight, weights[table.order])
    np.testing.assert_array_equal(table.x[:, 0], x[table.order])
    frame = {"x": x, "y": y, "task": tasks, "w": weights}
    same = TaskTable.from_frame(frame, "task", ["x"], ["y"], sample_weight="w")
    np.testing.assert_array_equal(same.sample_weight, table.sample_weight)
    taken = table.take([2, 0])
    np.testing.assert_array_equal(taken.sample_weight, weights[taken.order])
    batch = table.split(2, how="first")
    assert isinstance(batch, WeightedTasks)
    assert batch.names == ("a", "b", "c")
    for x_i, w_i in zip([*batch.x, *batch.x_query], [*batch[4], *batch[5]], strict=True):
        for number, weight in zip(x_i[:, 0], w_i, strict=True):
            assert weight == weights[x == number]
    only = table.sample(2, 2, 0, rng=0)
    assert only.x_query is None
    assert only.sample_weight_query is None
    assert only.sample_weight.shape == (2, 2)
    plain = TaskTable.from_rows(x, y, tasks)
    assert plain.sample_weight is None
    assert len(plain.split(2)) == 4


WRONG = {
    "length": (np.ones(5), "sample_weight has shape (5,); accepted is one entry for each row"),
    "negative": (np.full(18, -1.0), "sample_weight holds -1.0 in row 0; accepted are finite"),
    "nan": (np.full(18, np.nan), "sample_weight holds nan in row 0; accepted are finite"),
    "zero": (np.zeros(18), "sample_weight is zero in every row; accepted are weights above 0"),
}


@pytest.mark.parametrize("which", WRONG)
def test_errors_of_tables_scalings_and_estimators(which):
    weights, text = WRONG[which]
    x, y, tasks, _ = rows()
    with pytest.raises(ValueError, match=re.escape(text)):
        TaskTable.from_rows(x, y, tasks, sample_weight=weights)
    with pytest.raises(ValueError, match=re.escape(text)):
        Scaling.fit(x[:, None], y, sample_weight=weights)
    for regressor in (MAMLRegressor((3,)), BayesianLastLayerRegressor((3,))):
        with pytest.raises(ValueError, match=re.escape(text)):
            regressor.fit(x[:, None], y, tasks, sample_weight=weights)
    frame = {"x": x, "y": y, "w": weights if which == "length" else weights.tolist()}
    with pytest.raises(ValueError, match="column 'w'"):
        TaskTable.from_frame(frame, None, ["x"], ["y"], sample_weight="w")


def test_a_scaling_counts_rows_as_often_as_they_weigh():
    rng = np.random.default_rng(0)
    x, y, weights = rng.normal(3, 2, (30, 2)), rng.normal(-1, 5, 30), rng.integers(0, 4, 30)
    got = Scaling.fit(x, y, sample_weight=weights)
    want = Scaling.fit(np.repeat(x, weights, axis=0), np.repeat(y, weights))
    for name in ("x_mean", "x_scale", "y_mean", "y_scale"):
        assert relative_error(getattr(got, name), getattr(want, name)) <= CLOSE
    huge = Scaling.fit(1e300 * x, y, sample_weight=1e300 * weights)
    assert relative_error(huge.x_mean / 1e300, got.x_mean) <= CLOSE


def test_a_scaling_hands_the_weights_on():
    batch, _ = weighted()
    scaling = Scaling.fit(*batch[:2])
    scaled = scaling.tasks(*batch)
    assert isinstance(scaled, WeightedTasks)
    np.testing.assert_array_equal(scaled.x_query, scaling.scale_x(batch.x_query))
    assert scaled.sample_weight is batch.sample_weight
    assert scaled.sample_weight_query is batch.sample_weight_query
    alone = scaling.tasks(*batch[:2], sample_weight=batch.sample_weight)
    assert alone.x_query is None
    assert alone.sample_weight is batch.sample_weight


def test_what_was_saved_takes_weights(tmp_path):
    (x, y, x_query, _, support, _), (fewer_x, fewer_y, *_, fewer, _) = weighted()
    theta, path = MAML.model.init(0), tmp_path / "model.npz"
    fm.save(path, MAML, theta, scaling=Scaling.fit(x, y))
    saved = fm.load(path)
    got = saved.predict(x, y, x_query, sample_weight=support)
    want = saved.predict(fewer_x, fewer_y, x_query, sample_weight=fewer)
    assert relative_error(got, want) <= CLOSE


# ---- estimators


def lines(n_groups=12, n_rows=6, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), n_rows)
    X = rng.uniform(-1, 1, (len(groups), 1))
    y = rng.normal(1.0, 0.5, n_groups)[groups] * X[:, 0]
    counted = (np.arange(len(y)) % n_rows < 4) | (rng.random(len(y)) < 0.5)
    weights = rng.uniform(0.5, 2, len(y)) * counted
    return X, y, groups, weights


REGRESSORS = {
    "maml": MAMLRegressor((6,), max_iter=60, learning_rate_init=0.01, random_state=0),
    "few groups": MAMLRegressor((6,), max_iter=60, learning_rate_init=0.01, random_state=0),
    "head": BayesianLastLayerRegressor((6,), max_iter=60, random_state=0),
}


@pytest.mark.filterwarnings(ENDS, WORSE)
@pytest.mark.parametrize("name", REGRESSORS)
def test_an_estimator_leaves_rows_of_weight_zero_out(name):
    regressor = REGRESSORS[name]
    X, y, groups, weights = lines(6 if name == "few groups" else 12)
    kept = weights > 0
    got = regressor.fit(X, y, groups, sample_weight=weights)
    found = [got.theta_, got.predict(X, groups), got.scaling_]
    want = regressor.fit(X[kept], y[kept], groups[kept], sample_weight=weights[kept])
    np.testing.assert_array_equal(found[0], want.theta_)
    np.testing.assert_array_equal(found[1], want.predict(X, groups))
    assert found[2] == want.scaling_
    assert want.validation_loss_curve_
    # and others count as much as they weigh
    assert relative_error(regressor.fit(X[kept], y[kept], groups[kept]).theta_, found[0]) > 1e-6
    by_ones = regressor.fit(X[kept], y[kept], groups[kept], sample_weight=np.ones(kept.sum()))
    plain = regressor.fit(X[kept], y[kept], groups[kept]).theta_
    assert relative_error(by_ones.theta_, plain) <= 1e-6


@pytest.mark.filterwarnings(ENDS, WORSE)
@pytest.mark.parametrize("name", ["maml", "head"])
def test_adaptation_takes_weights(name):
    X, y, groups, _ = lines()
    regressor = REGRESSORS[name].fit(X, y, groups)
    own, weights = groups == 3, np.array([1, 2, 0, 0.5, 1, 0])
    kept = weights > 0
    x_new = np.linspace(-1, 1, 5)[:, None]
    got = regressor.adapt(X[own], y[own], sample_weight=weights).predict(x_new)
    fewer = X[own][kept], y[own][kept]
    want = regressor.adapt(*fewer, sample_weight=weights[kept]).predict(x_new)
    assert relative_error(got, want) <= 1e-9
    assert relative_error(regressor.adapt(*fewer).predict(x_new), want) > 1e-6
    # of many groups at once
    both = np.isin(groups, (3, 4))
    many = np.concatenate([weights, np.ones(6)])
    news, of_news = np.concatenate([x_new, x_new]), np.repeat([3, 4], 5)
    several = regressor.adapt_predict(
        X[both], y[both], groups[both], news, of_news, sample_weight=many
    )
    assert relative_error(several[:5], want) <= 1e-9
    with pytest.raises(ValueError, match="a group without rows to adapt to"):
        regressor.adapt_predict(
            X[both], y[both], groups[both], news, of_news, sample_weight=many * (groups[both] == 3)
        )
    if name == "head":
        adapted = regressor.adapt()
        for at in range(6):
            row = slice(at, at + 1)
            adapted.partial_fit(X[own][row], y[own][row], sample_weight=weights[row])
        assert relative_error(adapted.predict(x_new), want) <= 1e-8
