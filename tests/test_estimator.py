"""The scikit-learn estimator: scikit-learn's own checks, and what it does with groups."""

import copy
import dataclasses
import datetime
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from processes import python
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.metrics import get_scorer, make_scorer, mean_absolute_error, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmaml as fm
from fastmaml.datasets.labels import as_labels
from fastmaml.learn import AdaptedRegressor, MAMLRegressor, adapt, few_shot_scorer
from fastmaml.learn import grouped as grouped_file
from fastmaml.learn.grouped import table_of
from fastmaml.learn.holdout import hold_out

ONE_GROUP = "ignore:groups is None, so all rows"
UNADAPTED = "ignore:groups is None, so this is the network before"
WORSE = "ignore:the .* are predicted worse than by the mean"
BUDGET = "ignore:max_iter=:sklearn.exceptions.ConvergenceWarning"


# Short trainings are what these tests are about; those of the warnings ask for them.
pytestmark = pytest.mark.filterwarnings(WORSE, BUDGET)


#: Rows of weight 0 are left out, so that part would hold.
NOT_EQUIVALENT = {
    "check_sample_weight_equivalence_on_dense_data": "of a row given twice, one may be support and "
    "the other query; a row of weight 2 is either"
}


@pytest.mark.filterwarnings(ONE_GROUP)
@parametrize_with_checks(
    [
        MAMLRegressor((10,), max_iter=100, steps=3, learning_rate_init=0.02),
        MAMLRegressor((10,), max_iter=100, steps=3, learning_rate_init=0.02, shuffle=False),
    ],
    expected_failed_checks=lambda estimator: NOT_EQUIVALENT,
)
def test_scikit_learn(estimator, check):
    check(estimator)


# ---- data: lines through the origin, each group with a slope of its own, rows in any order


def lines(n_groups, rows, seed=0, n_inputs=1):
    """(X, y, groups): what fit takes."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(1.0, 0.7, (n_groups, n_inputs))
    groups = rng.permutation(np.repeat(np.arange(n_groups), rows))
    X = rng.uniform(-1.0, 1.0, (len(groups), n_inputs))
    return X, np.sum(slopes[groups] * X, axis=1), groups


def short(**options):
    """A regressor that takes a moment to train."""
    given = {
        "shots": 3, "max_iter": 20, "learning_rate_init": 0.01, "random_state": 0,
        "early_stopping": False, "n_iter_no_change": 100, **options,
    }  # fmt: skip
    return MAMLRegressor(**{"hidden_layer_sizes": (8,), **given})


@pytest.fixture(scope="module")
def trained():
    return short(max_iter=400).fit(*lines(40, 8))


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# ---- what it computes


def test_it_learns_to_adapt(trained):
    """Three rows of a new group are enough, and the prior alone is not."""
    new = lines(50, 20, seed=1)
    few_shot = trained.score(*new[:2], groups=new[2])
    assert few_shot > 0.95
    with pytest.warns(UserWarning, match="before it adapts to any group"):
        assert copy.deepcopy(trained).score(*new[:2]) < 0.9
    assert few_shot > short(max_iter=1).fit(*lines(40, 8)).score(*new[:2], groups=new[2]) + 0.05
    assert trained.n_iter_ == len(trained.loss_curve_) == 400
    assert trained.loss_ == pytest.approx(np.mean(trained.loss_curve_[-20:]))
    assert np.mean(trained.loss_curve_[-50:]) < np.mean(trained.loss_curve_[:50]) / 2


def test_it_is_maml_on_standardised_rows(trained):
    X, y, groups = lines(40, 8)
    x = (X - X.mean()) / X.std()
    t = (y - y.mean()) / y.std()
    assert trained.inner_lr_.shape == (5, 2)
    maml = fm.MAML(trained.model_, inner_lr=trained.inner_lr_, steps=5, loss="mse")
    grid = np.linspace(-1.0, 1.0, 7)[:, None]
    for group in (0, 17):
        own = groups == group
        f = maml.predict(trained.theta_, x[own][None], t[own][None], (grid - X.mean()) / X.std())
        expected = f.ravel() * y.std() + y.mean()
        np.testing.assert_allclose(trained.predict(grid, [group] * 7), expected, rtol=1e-10)
        adapted = trained.adapt(X[own], y[own])
        np.testing.assert_allclose(adapted.predict(grid), expected, rtol=1e-10)
        assert adapted.theta_.shape == trained.theta_.shape
        assert adapted.score(grid, expected) > 1 - 1e-12
    f = trained.model_.predict(trained.theta_, (grid - X.mean()) / X.std())
    unadapted = f.ravel() * y.std() + y.mean()
    with pytest.warns(UserWarning, match="before it adapts to any group"):
        found = copy.deepcopy(trained).predict(grid)
    np.testing.assert_allclose(found, unadapted, rtol=1e-10)


def test_adapting_many_groups_is_adapting_each(trained):
    X, y, groups = lines(6, 5, seed=2)
    X_new, _, groups_new = lines(6, 4, seed=3)
    keep = groups_new != 2  # not every group need be asked for
    X_new, groups_new = X_new[keep], groups_new[keep]
    predicted = trained.adapt_predict(X, y, groups, X_new, groups_new)
    for group in np.unique(groups_new):
        own, new = groups == group, groups_new == group
        one = trained.adapt(X[own], y[own]).predict(X_new[new])
        np.testing.assert_allclose(predicted[new], one, rtol=1e-12)


def test_score_of_groups_is_that_of_their_query_rows():
    X, y, groups = lines(30, 6)
    groups = np.sort(groups)
    regressor = short(shots=2, shuffle=False).fit(X, y, groups)
    support = np.tile([True, True, False, False, False, False], 30)
    query = ~support
    predicted = regressor.adapt_predict(
        X[support], y[support], groups[support], X[query], groups[query]
    )
    assert regressor.score(X, y, groups=groups) == pytest.approx(r2_score(y[query], predicted))
    weight = np.linspace(0.0, 1.0, len(y))
    expected = r2_score(y[query], predicted, sample_weight=weight[query])
    assert regressor.score(X, y, groups, sample_weight=weight) == pytest.approx(expected)
    shuffled = clone(regressor).set_params(shuffle=True).fit(X, y, groups)
    assert shuffled.score(X, y, groups=groups) == shuffled.score(X, y, groups=groups)


def test_units_do_not_matter():
    X, y, groups = lines(20, 6, n_inputs=2)
    one = short().fit(X, y, groups)
    two = short().fit(1e3 * X - 5.0, 1e-3 * y + 7.0, groups)
    np.testing.assert_allclose(
        two.predict(1e3 * X - 5.0, groups), 1e-3 * one.predict(X, groups) + 7.0, rtol=1e-9
    )


def test_steps_may_change_after_the_training(trained):
    """Steps beyond those whose rates were learned have the least rate of each layer."""
    regressor = copy.deepcopy(trained)
    x, y = np.array([[-1.0], [0.5], [1.0]]), np.array([-3.0, 1.5, 3.0])
    far = {}
    for steps in (0, 2, 5, 50):
        adapted = regressor.set_params(steps=steps).adapt(x, y)
        far[steps] = adapted.score(x, y)
        learned = regressor.inner_lr_
        rates = np.vstack([learned, np.tile(learned.min(axis=0), (45, 1))])[:steps]
        maml = fm.MAML(regressor.model_, rates, steps, loss="mse")
        own = regressor.scaling_.scale_x(x)[None], regressor.scaling_.scale_y(y[:, None])[None]
        np.testing.assert_allclose(adapted.theta_, maml.adapt(regressor.theta_, *own)[0])
    assert far[0] < far[5]
    assert np.isfinite(list(far.values())).all()


def test_rates_that_are_not_learned_may_change_after_the_training():
    regressor = short(learn_rates=False).fit(*lines(15, 6))
    assert regressor.inner_lr_ == 0.05
    x, y = np.array([[-1.0], [0.5], [1.0]]), np.array([-3.0, 1.5, 3.0])
    slow, fast = (regressor.set_params(inner_lr=r).adapt(x, y).score(x, y) for r in (0.01, 0.1))
    assert slow < fast


@pytest.mark.parametrize(
    ("given", "shape"),
    [(0.05, (5, 2)), ([[0.05, 0.0]], (5, 2)), (np.full((1, 25), 0.05), (1, 25))],
)
def test_rates_that_are_learned(given, shape):
    """One a step and layer, or one a parameter; a rate of 0 stays."""
    rates = short(inner_lr=given).fit(*lines(15, 6)).inner_lr_
    assert rates.shape == shape
    assert (rates != 0.05).all()
    if shape == (5, 2) and np.ndim(given):
        assert (rates[:, 1] == 0).all()


def test_without_steps_there_are_no_rates_to_learn():
    assert short(steps=0).fit(*lines(15, 6)).inner_lr_ == 0.05


def test_seeds():
    data = lines(20, 6)
    one, same, other = (short(random_state=seed).fit(*data) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.theta_, same.theta_)
    assert not np.array_equal(one.theta_, other.theta_)
    stream = np.random.RandomState(1)
    first, second = (short(random_state=stream).fit(*data) for _ in range(2))
    np.testing.assert_array_equal(first.theta_, one.theta_)
    assert not np.array_equal(second.theta_, one.theta_)


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("shots", [None, 4])
def test_groups_of_any_size(shots, early_stopping):
    X, y, _ = lines(10, 7)
    groups = np.repeat(np.arange(11), [2, 2, 2, 3, 4, 5, 6, 7, 12, 13, 14])
    regressor = short(shots=shots, meta_batch=5, early_stopping=early_stopping)
    regressor.fit(X, y, groups)
    assert np.isfinite(regressor.predict(X, groups)).all()
    assert np.isfinite(regressor.score(X, y, groups=groups))


class Drawn(MAMLRegressor):
    """It notes how many support rows it draws."""

    def _n_support(self):
        draw = super()._n_support()

        def noted(counts, rng):
            drawn = draw(counts, rng)
            self.seen.append(drawn)
            return drawn

        return noted


def test_known_rows_are_drawn_from_one_to_half():
    X, y, groups = lines(20, 9)
    regressor = Drawn((4,), max_iter=30, random_state=0)
    regressor.seen = []
    with pytest.warns(ConvergenceWarning):
        regressor.fit(X, y, groups)
    assert set(np.concatenate(regressor.seen)) == {1, 2, 3, 4}
    assert set(regressor.seen[0]) == {1, 2, 3, 4}  # of the tasks that validate
    regressor.seen = []
    regressor.score(X, y, groups)
    assert set(regressor.seen[0]) == {1, 2, 3, 4}
    assert MAMLRegressor(shots=4)._n_support() == 4  # and is not drawn


def test_labels_are_integers_or_text():
    X, y, groups = lines(15, 6)
    names = pd.Series(groups).map("device {:02d}".format)
    number, text = short().fit(X, y, groups), short().fit(X, y, names)
    assert number.groups_ == list(range(15))
    assert text.groups_[:2] == ["device 00", "device 01"]
    np.testing.assert_array_equal(number.theta_, text.theta_)
    for labels in (names, names.astype("category"), names.tolist()):
        np.testing.assert_array_equal(text.predict(X, labels), number.predict(X, groups))


def test_float32_stays():
    X, y, groups = lines(15, 6)
    regressor = short().fit(X.astype(np.float32), y, groups)
    assert regressor.theta_.dtype == np.float32
    adapted = regressor.adapt(X, y)
    assert adapted.theta_.dtype == np.float32
    close = short().fit(X, y, groups).predict(X, groups)
    np.testing.assert_allclose(regressor.predict(X.astype(np.float32), groups), close, atol=1e-3)


def test_several_outputs():
    X, y, groups = lines(30, 8)
    both = short(max_iter=150).fit(X, np.column_stack([y, -2 * y]), groups)
    assert both.n_outputs_ == 2
    predicted = both.predict(X, groups)
    assert predicted.shape == (len(y), 2)
    assert r2_score(y, predicted[:, 0]) > 0.9
    assert r2_score(-2 * y, predicted[:, 1]) > 0.9
    assert both.adapt(X[:3], np.column_stack([y, y])[:3]).predict(X).shape == (len(y), 2)
    assert short().fit(X, y[:, None], groups).predict(X, groups).shape == (len(y), 1)


@pytest.mark.parametrize("hidden", [5, (5,), [5, 4], ()])
def test_hidden_layers(hidden):
    regressor = short().set_params(hidden_layer_sizes=hidden, max_iter=1).fit(*lines(5, 4))
    assert regressor.model_.layer_sizes == (1, *np.atleast_1d(hidden).astype(int), 1)


# ---- at home in scikit-learn and pandas


def test_columns_keep_their_names(trained):
    X, y, groups = lines(10, 6, n_inputs=2)
    frame = pd.DataFrame(X, columns=["load", "heat"])
    regressor = short().fit(frame, pd.Series(y), groups)
    assert regressor.feature_names_in_.tolist() == ["load", "heat"]
    adapted = regressor.adapt(frame[:4], y[:4])
    assert adapted.feature_names_in_.tolist() == ["load", "heat"]
    assert adapted.n_features_in_ == 2
    plain = short().fit(X, y, groups).predict(X, groups)
    np.testing.assert_allclose(regressor.predict(frame, groups), plain, rtol=1e-9)
    regressor.score(frame, y, groups=groups)  # without a warning about names
    for use in (
        lambda swapped: regressor.predict(swapped),
        lambda swapped: regressor.adapt(swapped, y),
        lambda swapped: adapted.predict(swapped),
    ):
        with pytest.raises(ValueError, match="feature names should match"):
            use(frame[["heat", "load"]])
    assert not hasattr(trained, "feature_names_in_")
    assert not hasattr(trained.adapt(*lines(1, 3)[:2]), "feature_names_in_")


def test_clone_and_pickle(trained):
    copy = clone(trained)
    assert copy.get_params() == trained.get_params()
    assert not hasattr(copy, "theta_")
    X, _, groups = lines(40, 8)
    again = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(again.predict(X, groups), trained.predict(X, groups))


@pytest.mark.parametrize("words", [["relu", "identity"], ("relu", "identity")])
def test_an_activation_for_each_hidden_layer(words):
    regressor = short(hidden_layer_sizes=(8, 3), activation=words)
    assert regressor.get_params()["activation"] is words
    copy = clone(regressor).fit(*lines(9, 5))
    assert copy.get_params()["activation"] == words
    assert type(copy.activation) is type(words)
    assert copy.model_ == fm.MLP([1, 8, 3, 1], words)
    copy.set_params(warm_start=True, activation=list(words)).fit(*lines(9, 5))
    with pytest.raises(ValueError, match=r"warm_start goes on with MLP\(.*\['relu', 'identity'\]"):
        copy.set_params(activation=["identity", "relu"]).fit(*lines(9, 5))


def test_what_was_adapted_is_an_ordinary_regressor():
    regressor = short(max_iter=150).fit(*lines(40, 8))
    X, y, _ = lines(1, 20, seed=5)
    adapted = regressor.adapt(X[:5], y[:5])
    before = adapted.predict(X)
    again = clone(adapted)
    with pytest.raises(NotFittedError):
        again.predict(X)
    np.testing.assert_array_equal(again.fit(X[:5], y[:5]).predict(X), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(adapted)).predict(X), before)
    assert isinstance(adapted, AdaptedRegressor)
    assert cross_val_score(adapted, X, y, cv=4).min() > 0.8
    regressor.fit(*lines(10, 8, seed=9))  # what was adapted earlier stays
    np.testing.assert_array_equal(adapted.predict(X), before)


def test_cross_validation_scales_by_the_training_groups_and_adapts_to_the_others(routing):
    X, y, groups = lines(30, 6)
    y = y + 100.0 * (groups % 7)  # so that the mean of each fold is another
    options = {"params": {"groups": groups}, "cv": GroupKFold(3), "return_estimator": True}
    found = cross_validate(short(), X, y, return_indices=True, **options)
    for i in range(3):
        training, test = (found["indices"][part][i] for part in ("train", "test"))
        regressor = found["estimator"][i]
        assert not set(groups[training]) & set(groups[test])
        assert regressor.groups_ == np.unique(groups[training]).tolist()
        assert regressor.scaling_.x_mean[0] == pytest.approx(X[training].mean())
        assert regressor.scaling_.y_mean[0] == pytest.approx(y[training].mean())
        assert regressor.scaling_.y_scale[0] == pytest.approx(y[training].std())
        expected = regressor.score(X[test], y[test], groups=groups[test])
        assert found["test_score"][i] == expected


@pytest.mark.filterwarnings(UNADAPTED)  # scikit-learn before 1.8 hands no groups to a score
def test_cross_val_score_of_a_pipeline(routing):
    X, y, groups = lines(40, 8)
    pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), short(max_iter=150))
    scores = cross_val_score(pipeline, X, y, params={"groups": groups}, cv=GroupKFold(3))
    hands_groups = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8)
    assert scores.min() > (0.8 if hands_groups else 0.6)
    pipeline.fit(X, y, groups=groups)
    assert r2_score(y, pipeline.predict(X, groups=groups)) > 0.9


def test_pipeline_without_routing():
    X, y, groups = lines(20, 6)
    pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), short())
    pipeline.fit(X, y, mamlregressor__groups=groups)
    assert pipeline.predict(X, groups=groups).shape == y.shape


def test_frames_as_the_output_of_transformers():
    X, y, groups = lines(20, 6)
    plain = short().fit(X, y, groups).predict(X, groups)
    pipeline = make_pipeline(PolynomialFeatures(1, include_bias=False), short())
    with sklearn.config_context(transform_output="pandas"):
        pipeline.fit(X, y, mamlregressor__groups=groups)
        assert pipeline[-1].feature_names_in_.tolist() == ["x0"]
        np.testing.assert_allclose(pipeline.predict(X, groups=groups), plain, rtol=1e-9)


def test_grid_search(routing):
    X, y, groups = lines(30, 6)
    search = GridSearchCV(short(max_iter=100), {"steps": [0, 5]}, cv=GroupKFold(3))
    search.fit(X, y, groups=groups)
    assert search.best_params_ == {"steps": 5}
    assert search.best_estimator_.groups_ == list(range(30))


# ---- groups of a single row


def test_lone_rows_are_no_groups():
    """A group that cannot give a support and a query row has no place in training or score."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2, 200))
    with pytest.raises(ValueError, match=r"accepted are 2 or more \(200 of 200 tasks"):
        short().fit(X[:, None], y, np.arange(200))
    regressor = short(max_iter=100).fit(X[:, None], y, np.arange(200) // 4)
    with pytest.raises(ValueError, match="accepted are 2 or more"):
        regressor.score(X[:, None], y, np.arange(200))
    X, y = rng.normal(size=(2, 200))
    assert regressor.score(X[:, None], y, np.arange(200) // 4) < 0.2  # it is noise


def test_a_lone_row_changes_nothing_for_the_others():
    X, y, groups = lines(20, 6)
    more = np.append(X, [[50.0]], axis=0), np.append(y, 1e3), np.append(groups, 99)
    one = short().fit(X, y, groups)
    with pytest.warns(UserWarning, match="1 of 21 tasks have fewer than 2 rows .* left out: 99"):
        two = short().fit(*more)
    np.testing.assert_array_equal(one.theta_, two.theta_)
    with pytest.warns(UserWarning, match="1 of 21 tasks have fewer than 2 rows .* left out: 99"):
        assert two.score(*more) == one.score(X, y, groups)
    with pytest.warns(fm.DivergenceWarning, match="task 99 diverged"):  # it is far away
        assert two.predict([[50.0]], [99]).shape == (1,)  # one row is enough to adapt to


# ---- what scikit-learn calls without groups


def test_the_third_argument_is_groups_everywhere(trained):
    new = lines(50, 20, seed=1)
    assert trained.score(*new) == trained.score(*new[:2], groups=new[2]) > 0.95
    with pytest.raises(TypeError, match="positional"):
        trained.adapt(*lines(1, 5)[:2]).score(*lines(1, 5))


def used_without_groups(regressor, X, y, groups):
    yield lambda: regressor.predict(X)
    yield lambda: regressor.score(X, y)
    yield lambda: get_scorer("r2")(regressor, X, y)
    pipeline = make_pipeline(StandardScaler(), short())
    pipeline.fit(X, y, mamlregressor__groups=groups)
    yield lambda: pipeline.score(X, y, groups=groups)
    cv = {"cv": GroupKFold(3)}
    yield lambda: cross_val_score(short(), X, y, groups=groups, **cv)
    yield lambda: cross_val_predict(short(), X, y, groups=groups, **cv)
    yield lambda: cross_val_score(short(), X, y, scoring="r2", groups=groups, **cv)
    yield lambda: GridSearchCV(short(), {"steps": [1]}, **cv).fit(X, y, groups=groups)


@pytest.mark.parametrize("i", range(8))
def test_without_groups_there_is_a_warning(i):
    data = lines(20, 6)
    use = list(used_without_groups(short().fit(*data), *data))[i]
    with pytest.warns(UserWarning, match="groups is None"):
        use()


def used_with_routing(X, y, groups):
    cv = {"cv": GroupKFold(3), "params": {"groups": groups}}
    yield lambda: cross_val_predict(short(), X, y, **cv)
    yield lambda: cross_val_score(short(), X, y, scoring="r2", **cv)
    search = GridSearchCV(short(), {"steps": [1]}, cv=GroupKFold(3), scoring="r2")
    yield lambda: search.fit(X, y, groups=groups)


@pytest.mark.parametrize("i", range(3))
def test_with_routing_to_fit_alone_there_is_a_warning(i, routing):
    with pytest.warns(UserWarning, match="network before it adapts to any group"):
        list(used_with_routing(*lines(20, 6)))[i]()


def test_the_warning_comes_once_for_each_model():
    X, y, groups = lines(20, 6)
    regressor = short().fit(X, y, groups)
    with pytest.warns(UserWarning, match="before it adapts"):
        regressor.predict(X)
    regressor.predict(X)  # where a warning is an error
    regressor.score(X, y)
    with pytest.warns(UserWarning, match="before it adapts"):
        regressor.fit(X, y, groups).predict(X)


@pytest.mark.filterwarnings(ONE_GROUP)
def test_fitted_without_groups_it_adapts_to_all_rows():
    X, y, _ = lines(1, 30)
    regressor = short(max_iter=100).fit(X, y)
    assert regressor.score(X, y) > 0.95
    np.testing.assert_array_equal(regressor.predict(X), regressor.predict(X, np.zeros(30, int)))
    np.testing.assert_allclose(regressor.predict(X), regressor.adapt(X, y).predict(X), rtol=1e-12)


METRIC = "neg_root_mean_squared_error"


def test_few_shot_scorer(trained):
    new = lines(50, 20, seed=1)
    assert few_shot_scorer("r2")(trained, *new) == pytest.approx(trained.score(*new))
    rmse = -few_shot_scorer(METRIC)(trained, *new)
    rows, predicted = trained._few_shot(*new)
    assert rmse == pytest.approx(np.sqrt(np.mean((predicted - new[1][rows]) ** 2)))
    weight = np.linspace(0.0, 1.0, len(new[1]))
    assert few_shot_scorer("r2")(trained, *new, sample_weight=weight) == pytest.approx(
        trained.score(*new, sample_weight=weight)
    )
    own = make_scorer(lambda y, f: float(np.abs(y - f).max()), greater_is_better=False)
    assert few_shot_scorer(own)(trained, *new) == -np.abs(predicted - new[1][rows]).max()
    assert repr(few_shot_scorer("r2")) == "few_shot_scorer('r2')"


def test_few_shot_scorer_of_pipelines_and_targets():
    X, y, groups = lines(20, 6)
    target = TransformedTargetRegressor(short(), transformer=StandardScaler())
    target.fit(X, y, groups=groups)
    pipeline = make_pipeline(StandardScaler(), short()).fit(X, y, mamlregressor__groups=groups)
    both = make_pipeline(StandardScaler(), clone(target))
    both.fit(X, y, transformedtargetregressor__groups=groups)
    plain = few_shot_scorer(METRIC)(short().fit(X, y, groups), X, y, groups)
    for estimator in (target, pipeline, both, FrozenEstimator(both)):
        assert few_shot_scorer(METRIC)(estimator, X, y, groups) == pytest.approx(plain, rel=1e-6)


def test_few_shot_scorer_in_a_search(routing):
    X, y, groups = lines(30, 6)
    options = {"scoring": few_shot_scorer(METRIC), "cv": GroupKFold(3)}
    scores = cross_val_score(short(max_iter=100), X, y, params={"groups": groups}, **options)
    assert (scores > -0.5).all()
    assert (scores < 0).all()
    search = GridSearchCV(short(max_iter=100), {"steps": [0, 5]}, **options)
    search.fit(X, y, groups=groups)
    assert search.best_params_ == {"steps": 5}
    few_shot = few_shot_scorer(METRIC)(search, X, y, groups)
    assert few_shot == few_shot_scorer(METRIC)(search.best_estimator_, X, y, groups)
    several = {"r2": few_shot_scorer("r2"), "rmse": few_shot_scorer(METRIC)}
    found = cross_validate(
        short(), X, y, params={"groups": groups}, scoring=several, cv=GroupKFold(3)
    )
    assert np.isfinite([found["test_r2"], found["test_rmse"]]).all()


@pytest.mark.filterwarnings(ONE_GROUP)
def test_few_shot_scorer_needs_groups(trained):
    X, y, groups = lines(20, 6)
    with pytest.raises(ValueError, match=r"few_shot_scorer\('r2'\) was given no groups; accepted"):
        few_shot_scorer("r2")(trained, X, y)
    with pytest.raises(ValueError, match="was given no groups"):  # nobody hands them on
        cross_val_score(
            short(), X, y, groups=groups, scoring=few_shot_scorer("r2"), cv=GroupKFold(3),
            error_score="raise",
        )  # fmt: skip


def test_few_shot_scorer_of_something_else(trained):
    with pytest.raises(ValueError, match=r"metric is 'none'; accepted are scorers and their names"):
        few_shot_scorer("none")
    with pytest.raises(ValueError, match=r"\(did you mean 'max_error'|'neg_max_error'\?\)"):
        few_shot_scorer("max_eror")
    for several in (None, ["r2", "neg_max_error"]):
        with pytest.raises(TypeError, match=r"metric is .*; accepted are one scorer and the name"):
            few_shot_scorer(several)
    with pytest.raises(ValueError, match="make_scorer"):
        few_shot_scorer(mean_absolute_error)
    with pytest.raises(TypeError, match=r"estimator is Ridge.*; accepted are a MAMLRegressor"):
        few_shot_scorer("r2")(Ridge(), *lines(3, 4))


# ---- labels


@pytest.mark.parametrize(
    ("missing", "shown"),
    [
        ([None], "None"),
        ([float("nan")], "nan"),
        ([np.datetime64("NaT")], "NaT"),
        ([pd.NA], "<NA>"),
        ([""], "''"),
    ],
)
def test_missing_labels_are_no_group(missing, shown, trained):
    X, y, _ = lines(4, 5)
    labels = ["a"] * 10 + ["b"] * 9 + missing
    for use in (
        lambda groups: short().fit(X, y, groups),
        lambda groups: trained.score(X, y, groups),
        lambda groups: trained.predict(X, groups),
    ):
        for given in (labels, np.array(labels, object), pd.Series(labels, dtype=object)):
            text = rf"groups holds .*{shown}.* in row 19; accepted is a label for each row$"
            with pytest.raises(ValueError, match=text):
                use(given)


@pytest.mark.parametrize(
    ("labels", "error", "text"),
    [
        ([1, "1"] * 10, TypeError, "groups holds labels of two kinds, numbers .* and text"),
        (["a", " a"] * 10, ValueError, "groups holds ' a' .* and 'a' .*, text that looks the same"),
    ],
)
def test_labels_that_merge_or_split(labels, error, text):
    X, y, _ = lines(4, 5)
    with pytest.raises(error, match=text):
        short().fit(X, y, labels)


def test_dates_are_the_same_label_in_any_unit():
    X, y, groups = lines(10, 6)
    days = np.datetime64("2020-01-01") + groups
    regressor = short().fit(X, y, days)
    for labels in (days.astype("M8[ns]"), pd.Series(days), days.tolist()):
        np.testing.assert_array_equal(regressor.predict(X, labels), regressor.predict(X, days))


# ---- what is no number


DAY = np.datetime64("2020-01-01")


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (DAY + np.arange(20), "2020-01-01"),
        (np.arange(20) * np.timedelta64(1, "h"), "imedelta"),
        (pd.Series(pd.date_range("2020-01-01", periods=20)), "2020-01-01"),
        (pd.Series(pd.date_range("2020-01-01", periods=20, tz="UTC")), "Timestamp"),
        ([datetime.date(2020, 1, 1)] * 20, "datetime.date"),
        (np.array([datetime.timedelta(1)] * 20, object), "imedelta"),
        (np.array([DAY] * 20, object), "2020-01-01"),
        (["1_5"] * 20, "1_5"),
        (np.array(["1"] * 20, object), "'1'"),
        ([b"1"] * 20, "b'1'"),
        (pd.Series(["1"] * 20, dtype="category"), "'1'"),
    ],
)
def test_what_is_no_number_is_refused(column, shown, trained):
    X, y, groups = lines(4, 5)
    frame = pd.DataFrame({"x": X[:, 0], "when": column})
    for use in (
        lambda: short().fit(frame, y, groups),
        lambda: short().fit(np.asarray(column)[:, None], y, groups),
        lambda: trained.predict(np.asarray(column)[:, None], groups),
    ):
        with pytest.raises(TypeError, match=f"X holds .*{shown}.* in row 0, column .*; accepted"):
            use()
    for use in (
        lambda: short().fit(X, column, groups),
        lambda: trained.adapt(X, column),
        lambda: trained.score(X, column, groups),
        lambda: trained.score(X, column),
        lambda: trained.adapt(X, y).score(X, column),
        lambda: trained.adapt_predict(X, column, groups, X, groups),
    ):
        with pytest.raises(TypeError, match=f"y holds .*{shown}.* in row 0; accepted are numbers"):
            use()


def test_the_column_that_is_no_number_is_named():
    X, y, groups = lines(4, 5)
    frame = pd.DataFrame({"x": X[:, 0], "when": DAY + np.arange(20)})
    with pytest.raises(TypeError, match="in row 0, column 'when'; accepted are numbers"):
        short().fit(frame, y, groups)


def test_masked_arrays_are_refused():
    X, y, groups = lines(4, 5)
    with pytest.raises(TypeError, match="X is a masked array; accepted are plain arrays"):
        short().fit(np.ma.masked_less(X, 0.0), y, groups)
    with pytest.raises(TypeError, match="y is a masked array"):
        short().fit(X, np.ma.masked_less(y, 0.0), groups)
    with pytest.raises(TypeError, match="y is a masked array"):
        short().fit(X, y, groups).adapt(X, y).score(X, np.ma.masked_less(y, 0.0))


def test_complex_numbers_are_refused():
    X, y, groups = lines(4, 5)
    with pytest.raises(ValueError, match="Complex data not supported"):
        short().fit(X + 1j, y, groups)
    with pytest.raises(ValueError, match="Complex data not supported"):
        short().fit(X, y + 1j, groups)


def test_truth_values_and_objects_of_numbers_are_numbers():
    X, y, groups = lines(4, 5)
    plain = short().fit(X > 0, y, groups).predict(X > 0, groups)
    same = short().fit((X > 0).astype(object), y.astype(object), groups).predict(X > 0, groups)
    np.testing.assert_array_equal(plain, same)


# ---- precision


def test_float32_inputs_leave_float64_targets_their_digits():
    X, y, groups = lines(30, 8)
    X = X.astype(np.float32)
    plain = short(max_iter=100).fit(X, y, groups)
    far = short(max_iter=100).fit(X, y + 1e9, groups)
    assert far.theta_.dtype == np.float32
    assert plain.score(X, y, groups) > 0.9
    assert far.score(X, y + 1e9, groups) == pytest.approx(plain.score(X, y, groups), abs=1e-3)
    predicted = far.predict(X, groups) - 1e9
    np.testing.assert_allclose(predicted, plain.predict(X, groups), atol=0.02)
    adapted = far.adapt(X[:8], y[:8] + 1e9).predict(X) - 1e9
    np.testing.assert_allclose(adapted, plain.adapt(X[:8], y[:8]).predict(X), atol=0.02)


@pytest.mark.parametrize(
    ("x_dtype", "y_dtype", "expected"),
    [("f4", "f4", "f4"), ("f4", "f8", "f8"), ("f8", "f4", "f8"), ("f4", "i4", "f8")],
)
def test_predictions_have_the_precision_of_the_targets(x_dtype, y_dtype, expected):
    X, y, groups = lines(6, 5)
    X, y = X.astype(x_dtype), (10 * y).astype(y_dtype)
    regressor = short().fit(X, y, groups)
    found = (
        regressor.predict(X, groups),
        regressor.adapt(X, y).predict(X),
        regressor.adapt_predict(X, y, groups, X, groups),
    )
    assert {f.dtype for f in found} == {np.dtype(expected)}


# ---- training: validation, the end, warnings


def validated(**options):
    """A regressor that validates."""
    given = {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 200, **options}
    return short(**given)


def test_the_best_of_validation_is_kept():
    data = lines(40, 8)
    regressor = validated(n_iter_no_change=100).fit(*data)
    curve = regressor.validation_loss_curve_
    assert len(curve) == 20
    assert regressor.best_validation_loss_ == min(curve)
    rng = regressor._generator()  # as fit draws
    regressor.model_.init(rng)
    rows = table_of(data[0], data[1][:, None], as_labels("groups", data[2], 320))
    x, y = regressor.scaling_.scale_x(rows.x), regressor.scaling_.scale_y(rows.y)
    _, tasks = hold_out(dataclasses.replace(rows, x=x, y=y), 0.2, 3, rng, True)
    assert regressor._maml().value(regressor.theta_, *tasks) == min(curve)
    assert short().fit(*data).validation_loss_curve_ is None


def test_training_ends_when_the_loss_no_longer_falls(recwarn):
    regressor = validated(max_iter=2000, n_iter_no_change=3, tol=0.02).fit(*lines(40, 8))
    assert regressor.n_iter_ < 2000
    curve = regressor.validation_loss_curve_
    assert min(curve[-3:]) > min(curve[:-3]) * 0.98
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]
    plain = short(max_iter=2000, n_iter_no_change=3, tol=0.02).fit(*lines(40, 8))
    assert plain.n_iter_ < 2000
    assert plain.loss_ == pytest.approx(np.mean(plain.loss_curve_[-50:]))


def test_a_budget_that_is_too_small_is_a_warning():
    for regressor in (MAMLRegressor(max_iter=10), short(max_iter=10, n_iter_no_change=10)):
        with pytest.warns(ConvergenceWarning, match="max_iter=10 meta-updates are done, and the"):
            regressor.fit(*lines(20, 6))


def test_a_result_worse_than_the_mean_is_a_warning():
    X, y, groups = lines(20, 6)
    wild = {"inner_lr": 10.0, "learn_rates": False, "learning_rate_init": 1e-6}
    with pytest.warns(UserWarning, match="the held-out rows are predicted worse than by the mean"):
        validated(max_iter=20, **wild).fit(X, y, groups)
    with pytest.warns(UserWarning, match="the groups it was trained on are predicted worse"):
        short(**wild).fit(X, y, groups)


@pytest.mark.filterwarnings(ONE_GROUP)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("sizes", [[30], [3, 4], [2, 9, 3], [6] * 9])
def test_of_few_groups_rows_are_held_out(sizes, shuffle):
    X, y, _ = lines(1, sum(sizes))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    held = hold_out(table_of(X, y[:, None], as_labels("groups", groups, len(X))), 0.1, 2,
                    np.random.default_rng(0), shuffle)  # fmt: skip
    assert held.training.n_tasks == len(sizes)
    large = [n for n in sizes if n >= 3]
    assert (sum(sizes) - len(held.training.x)) == sum(max(1, round(0.1 * n)) for n in large)
    x, _, x_query, y_query = held.validation
    assert len(x) == len(x_query) == len(y_query)
    seen = held.training.x[:, 0]
    for support, query in zip(x, x_query, strict=True):
        assert np.isin(support, seen).all()
        assert not np.isin(query, seen).any()
    if not shuffle:  # a forecast: the last rows
        own = groups == np.flatnonzero(np.array(sizes) >= 3)[0]
        assert x_query[0][-1, 0] == X[own][-1, 0]
    assert np.isfinite(validated().fit(X, y, groups).best_validation_loss_)


def test_held_out_groups_are_not_trained_on():
    X, y, groups = lines(40, 6)
    table = table_of(X, y[:, None], as_labels("groups", groups, len(X)))
    held = hold_out(table, 0.2, None, np.random.default_rng(0), True)
    assert held.training.n_tasks == 32
    seen = held.training.x[:, 0]
    assert not np.isin(np.concatenate(held.validation[0]), seen).any()
    assert not np.isin(np.concatenate(held.validation[2]), seen).any()
    assert hold_out(table, 0.0, None, np.random.default_rng(0), True).validation is None


def test_with_pairs_alone_nothing_can_be_held_out():
    X, y, groups = lines(5, 2)
    regressor = validated(max_iter=20).fit(X, y, groups)
    assert regressor.best_validation_loss_ is None
    assert regressor.validation_loss_curve_ is None


def test_verbose_prints_each_check(capsys):
    regressor = validated(max_iter=40, verbose=True).fit(*lines(20, 6))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 20
    last = regressor.validation_loss_curve_[-1]
    assert printed[-1].startswith("iteration 40: loss ")
    assert printed[-1].endswith(f", validation loss {last:.6g}")
    short(verbose=True).fit(*lines(20, 6))
    assert "validation" not in capsys.readouterr().out


def test_warm_start_goes_on():
    X, y, groups = lines(30, 6)
    regressor = short(warm_start=True, max_iter=100).fit(X, y, groups)
    theta, rates, scaling = regressor.theta_, regressor.inner_lr_, regressor.scaling_
    before = np.median(regressor.loss_curve_[:20])
    regressor.fit(X + 1.0, y, groups)
    assert regressor.scaling_ is scaling
    assert not np.array_equal(regressor.theta_, theta)
    assert not np.array_equal(regressor.inner_lr_, rates)
    again = short(warm_start=True, max_iter=100).fit(X, y, groups).fit(X, y, groups)
    assert np.median(again.loss_curve_[:20]) < before / 2
    with pytest.raises(ValueError, match=r"warm_start goes on with MLP\(\[1, 8, 1\].*same network"):
        regressor.fit(np.hstack([X, X]), y, groups)


def test_a_warm_start_validates_on_the_groups_that_it_did_before(monkeypatch):
    """On others it would have trained already."""
    held = []

    def spy(*arguments):
        held.append(hold_out(*arguments))
        return held[-1]

    monkeypatch.setattr(grouped_file, "hold_out", spy)
    regressor = validated(warm_start=True, max_iter=20)
    X, y, groups = lines(30, 6)
    regressor.fit(X, y, groups).fit(X, y, groups)
    first, second = (set(each.training.names) for each in held)
    assert first == second < set(range(30))


# ---- divergence


@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_training_that_diverges_names_the_group(early_stopping):
    X, y, groups = lines(4, 5)
    names = np.array(["a", "b", "c", "d"])[groups]
    text = r"the loss of group '[abcd]', .* not finite in iteration 1, after 5 inner steps with "
    with pytest.raises(FloatingPointError, match=text + r"rate 1e\+30; a smaller"):
        short(inner_lr=1e30, early_stopping=early_stopping).fit(X, y, names)


def test_a_validation_that_diverges_is_an_error():
    """A network without hidden layers: large inputs of the held-out rows alone overflow."""
    X, y, groups = lines(2, 9)
    X[:] = np.where(np.arange(18)[:, None] % 9 == 8, 1e300, X)
    groups = np.repeat([0, 1], 9)
    regressor = validated(shuffle=False, learn_rates=False, max_iter=20)
    regressor.set_params(hidden_layer_sizes=(), activation="relu", inner_lr=1e30, steps=20)
    with pytest.raises(FloatingPointError):
        regressor.fit(X, y, groups)


def test_an_adaptation_that_diverges_names_the_group_the_step_and_the_rate():
    regressor = short(learn_rates=False, inner_lr=0.05, max_iter=5).fit(*lines(9, 5))
    regressor.set_params(inner_lr=40.0, steps=20)
    X, y, _ = lines(3, 4)
    names = np.repeat(["a", "b", "c"], 4)
    text = (
        r"task 'a' diverged in inner step \d+, at inner_lr 40: .*\(3 of 3 tasks diverged: 'a', 'b'"
    )
    for use in (
        lambda: regressor.adapt_predict(X, y, names, X, names),
        lambda: regressor.score(X, y, names),
        lambda: few_shot_scorer("r2")(regressor, X, y, names),
    ):
        with pytest.warns(fm.DivergenceWarning, match=text):
            use()
    with pytest.warns(fm.DivergenceWarning, match="task 0 diverged in inner step"):
        regressor.predict(X[:1], [0])
    with pytest.warns(fm.DivergenceWarning, match="the task diverged in inner step"):
        regressor.adapt(X, y)


@pytest.mark.filterwarnings("ignore::fastmaml.DivergenceWarning")
def test_what_diverged_predicts_nothing_and_says_why():
    X, y, groups = lines(9, 5)
    regressor = short(activation="relu", learn_rates=False).fit(X, y, groups)
    adapted = regressor.set_params(steps=50).adapt(X[:4], y[:4] * 1e30)
    for use in (adapted.predict, lambda X: adapted.score(X, y[:4])):
        with pytest.raises(FloatingPointError, match=r"the adaptation to the rows of fit diverged"):
            use(X[:4])


@pytest.mark.filterwarnings("ignore::fastmaml.DivergenceWarning")
def test_a_group_that_diverges_spoils_no_other_but_the_score():
    X, y, groups = lines(3, 4)
    y[groups == 1] *= 1e30
    regressor = short(activation="relu", learn_rates=False).fit(*lines(9, 5))
    regressor.set_params(steps=50)
    predicted = regressor.adapt_predict(X, y, groups, X, groups)
    np.testing.assert_array_equal(np.isfinite(predicted), groups != 1)
    with pytest.raises(FloatingPointError, match=r"of 1 of 3 groups diverged, .* no score: 1"):
        regressor.score(X, y, groups)


def test_what_is_far_away_has_not_diverged(trained):
    """A group at an offset that the training never saw is hard, but nothing grows."""
    X, y, _ = lines(3, 4)
    assert np.isfinite(trained.adapt(X, 10 + y).predict(X)).all()


# ---- one group's regressor, alone or in a pipeline


def test_what_was_adapted_does_not_carry_the_training_rows():
    small, large = (
        len(pickle.dumps(short(max_iter=20).fit(*lines(n, 8)).adapt([[0.5]], [1.0])))
        for n in (20, 400)
    )
    assert large == small < 6000


def test_what_does_not_carry_rows_says_so():
    regressor = short().fit(*lines(20, 6)).adapt([[0.5]], [1.0]).meta.estimator
    with pytest.raises(ValueError, match="does not carry the rows that it was trained on"):
        regressor.predict([[0.5]], [3])


def one_more(n=5):
    """Rows of a new group."""
    X, y, _ = lines(1, n, seed=11)
    return X, y


def test_a_pipeline_is_adapted_with_its_transformers_as_they_are(trained):
    data = lines(40, 8)
    X, y = one_more()
    pipeline = make_pipeline(StandardScaler(), "passthrough", short(max_iter=100))
    pipeline.fit(*data[:2], mamlregressor__groups=data[2])
    new = adapt(pipeline, X, y)
    scaled = pipeline[0].transform(X)
    expected = pipeline[-1].adapt(scaled, y).predict(scaled)
    np.testing.assert_array_equal(new.predict(X), expected)
    assert isinstance(new[-1], AdaptedRegressor)
    np.testing.assert_array_equal(new[0].mean_, data[0].mean(axis=0))
    assert new.score(X, y) > 0.9
    again = clone(new).fit(X[:3], y[:3])  # in a cross-validation, on other rows
    np.testing.assert_array_equal(again[0].mean_, data[0].mean(axis=0))
    np.testing.assert_array_equal(adapt(new, X, y).predict(X), expected)
    np.testing.assert_array_equal(adapt(trained, X, y).predict(X), trained.adapt(X, y).predict(X))


def test_pipelines_within_pipelines_and_transformed_targets():
    X, y, groups = lines(30, 8)
    inner = Pipeline([("squares", PolynomialFeatures(2, include_bias=False)), ("maml", short())])
    target = TransformedTargetRegressor(inner, transformer=StandardScaler())
    outer = make_pipeline(StandardScaler(), target)
    outer.fit(X, y, transformedtargetregressor__maml__groups=groups)
    new = adapt(outer, *one_more())
    assert new.predict(X).shape == y.shape
    by_hand = outer[0].transform(one_more()[0])
    targets = outer[1].transformer_.transform(one_more()[1][:, None])[:, 0]
    adapted = adapt(outer[1].regressor_, by_hand, targets)
    expected = outer[1].transformer_.inverse_transform(
        adapted.predict(outer[0].transform(X))[:, None]
    )
    np.testing.assert_array_equal(new.predict(X), expected[:, 0])
    function = TransformedTargetRegressor(short(), func=np.cbrt, inverse_func=lambda t: t**3)
    function.fit(X, y, groups=groups)
    assert adapt(function, *one_more()).predict(X).shape == y.shape


def test_columns_by_name_in_a_pipeline(routing):
    X, y, groups = lines(20, 6, n_inputs=2)
    frame = pd.DataFrame(X, columns=["load", "heat"])
    columns = make_column_transformer((StandardScaler(), ["load"]), ("passthrough", ["heat"]))
    pipeline = make_pipeline(columns, short()).fit(frame, y, groups=groups)
    new = adapt(pipeline, frame[:4], y[:4])
    np.testing.assert_array_equal(new.predict(frame), new.predict(frame[["heat", "load"]]))
    assert new.feature_names_in_.tolist() == ["load", "heat"]


def test_the_best_of_a_search_is_adapted(routing):
    X, y, groups = lines(30, 6)
    search = GridSearchCV(short(), {"steps": [2, 5]}, cv=GroupKFold(3)).fit(X, y, groups=groups)
    new = adapt(search, *one_more())
    assert isinstance(new, AdaptedRegressor)
    expected = search.best_estimator_.adapt(*one_more())
    np.testing.assert_array_equal(new.predict(X), expected.predict(X))
    search = clone(search).set_params(refit=False).fit(X, y, groups=groups)
    with pytest.raises(TypeError, match=r"estimator is GridSearchCV.*refit=True"):
        adapt(search, *one_more())


@pytest.mark.parametrize("other", [Ridge(), make_pipeline(StandardScaler(), Ridge()), None])
def test_what_cannot_be_adapted_is_an_error(other):
    with pytest.raises(TypeError, match=r"estimator is .*; accepted are a MAMLRegressor, a MAMLC"):
        adapt(other, *one_more())


def test_it_is_at_the_top_too():
    assert fm.MAMLRegressor is MAMLRegressor
    assert not hasattr(fm, "Nothing")


# ---- files


def test_saved_and_loaded_it_adapts_the_same(tmp_path):
    X, y, groups = lines(20, 6, n_inputs=2)
    frame = pd.DataFrame(X, columns=["load", "heat"])
    regressor = short(inner_lr=[[0.05, 0.02]]).fit(frame, y, groups)
    fm.save(tmp_path / "m.npz", regressor)
    saved = fm.load(tmp_path / "m.npz")
    again = MAMLRegressor.from_saved(saved)
    assert again.get_params()["hidden_layer_sizes"] == [8]
    known, targets = frame[:4], y[:4]
    expected = regressor.adapt(known, targets).predict(frame)
    np.testing.assert_array_equal(again.adapt(known, targets).predict(frame), expected)
    assert again.score(frame, y, groups) == regressor.score(frame, y, groups)
    np.testing.assert_array_equal(adapt(again, known, targets).predict(frame), expected)
    f = saved.predict(X[None, :4], targets[None, :, None], X[None])
    np.testing.assert_allclose(f[0, :, 0], expected)
    assert saved.inputs == ("load", "heat")
    with pytest.raises(ValueError, match="feature names should match"):
        again.adapt(frame[["heat", "load"]], y)
    with pytest.raises(ValueError, match="does not carry the rows that it was trained on"):
        again.predict(frame, groups)
    with pytest.warns(UserWarning, match="before it adapts to any group"):
        again.predict(frame)


def test_what_was_adapted_is_saved_as_it_is(tmp_path, trained):
    X, y = one_more()
    adapted = trained.adapt(X, y)
    fm.save(tmp_path / "m.npz", adapted)
    saved = fm.load(tmp_path / "m.npz")
    f = saved.predict(X[None], y[None], X[None])[0]
    np.testing.assert_allclose(f, adapted.predict(X))
    with pytest.raises(ValueError, match="saved holds no MAMLRegressor; accepted is what"):
        MAMLRegressor.from_saved(saved)


def test_a_generator_is_not_saved(tmp_path):
    regressor = short(random_state=np.random.RandomState(0)).fit(*lines(5, 4))
    fm.save(tmp_path / "m.npz", regressor)
    assert MAMLRegressor.from_saved(fm.load(tmp_path / "m.npz")).random_state is None


def test_a_file_of_a_regressor_holds_nothing_else(tmp_path, trained):
    with pytest.raises(TypeError, match=r"MAMLRegressor.* is given; accepted is nothing but it"):
        fm.save(tmp_path / "m.npz", trained, extra=1)
    with pytest.raises(NotFittedError):
        fm.save(tmp_path / "m.npz", short())


# ---- errors


def test_one_group_for_all_rows_is_a_warning():
    X, y, _ = lines(4, 5)
    with pytest.warns(UserWarning, match="groups is None, so all rows are one task"):
        regressor = short().fit(X, y)
    assert regressor.groups_ == [0]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"shots": 0}, ValueError, "shots is 0; accepted are integers of at least 1"),
        ({"shots": 2.5}, TypeError, "shots is 2.5"),
        ({"shuffle": 1}, TypeError, "shuffle is 1; accepted are True and False"),
        ({"meta_batch": 0}, ValueError, "meta_batch is 0"),
        ({"max_iter": 0}, ValueError, "max_iter is 0"),
        ({"steps": -1}, ValueError, "steps is -1"),
        ({"learn_rates": 1}, TypeError, "learn_rates is 1; accepted are True and False"),
        ({"clip_norm": 0}, ValueError, "clip_norm is 0"),
        ({"early_stopping": "yes"}, TypeError, "early_stopping is 'yes'"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction is 1.0; accepted are num"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change is 0"),
        ({"tol": -1e-3}, ValueError, "tol is -0.001; accepted are numbers from 0 to below 1"),
        ({"verbose": 2}, TypeError, "verbose is 2"),
        ({"warm_start": None}, TypeError, "warm_start is None"),
        ({"learning_rate_init": 0.0}, ValueError, "learning_rate_init is 0.0"),
        ({"inner_lr": 0.0}, ValueError, "inner_lr is 0, and learn_rates=True learns its logarithm"),
        ({"inner_lr": np.nan}, ValueError, "inner_lr holds nan"),
        ({"order": "second"}, ValueError, "order is 'second'"),
        ({"order": "implicit"}, ValueError, "order is 'implicit'; accepted are 'exact', 'first'"),
        ({"activation": "logistic"}, ValueError, "activation is 'logistic'; accepted are"),
        ({"activation": ["relu", "tanh"]}, ValueError, "activation has length 2; accepted are"),
        ({"activation": ["logistic"]}, ValueError, r"activation\[0\] is 'logistic'; accepted are"),
        ({"activation": 1}, TypeError, "activation is 1; accepted are"),
        ({"hidden_layer_sizes": (0,)}, ValueError, r"hidden_layer_sizes\[0\] is 0"),
        ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes is 2.5"),
        ({"hidden_layer_sizes": "40"}, TypeError, r"hidden_layer_sizes\[0\] is '4'"),
        (
            {"random_state": "x"},
            ValueError,
            "random_state is 'x'; accepted .*cannot be used to seed",
        ),
        ({"random_state": -1}, ValueError, "random_state is -1; accepted are a seed"),
        (
            {"shots": 10**30},
            ValueError,
            "shots is 10+; accepted are integers of at least 1",
        ),
        ({"hidden_layer_sizes": 10**12}, ValueError, "hidden_layer_sizes is 10+; accepted .* most"),
    ],
)
def test_bad_parameters_are_named(options, error, text):
    with pytest.raises(error, match=text):
        short().set_params(**options).fit(*lines(4, 5))


@pytest.mark.parametrize(
    ("groups", "error", "text"),
    [
        (np.zeros((20, 1)), ValueError, r"groups has shape \(20, 1\); accepted is one .* \(20,\)"),
        (np.zeros(19), ValueError, r"groups has shape \(19,\)"),
        (5, TypeError, "groups is 5; accepted is one label for each row"),
    ],
)
def test_bad_groups_are_named(groups, error, text):
    X, y, _ = lines(4, 5)
    with pytest.raises(error, match=text):
        short().fit(X, y, groups)


def test_weights_are_one_a_row(trained):
    X, y, groups = lines(4, 5)
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\); accepted is one entry"):
        trained.score(X, y, groups, sample_weight=np.ones(3))


def test_groups_without_rows_to_adapt_to_are_named(trained):
    with pytest.raises(ValueError, match=r"groups holds 99, .* \(1 of 2 are\); accepted are"):
        trained.predict([[0.0], [1.0]], [3, 99])
    X, y, groups = lines(3, 4)
    with pytest.raises(ValueError, match="groups_new holds 'a', a group without rows"):
        trained.adapt_predict(X, y, groups, X[:1], ["a"])


def test_another_number_of_outputs_is_named(trained):
    with pytest.raises(ValueError, match="y has 2 outputs; accepted are 1, as in the meta-train"):
        trained.adapt([[0.0]], [[1.0, 2.0]])


def test_unfitted():
    for use in (
        lambda: short().predict([[0.0]]),
        lambda: short().adapt([[0.0]], [0.0]),
        lambda: short().adapt_predict([[0.0]], [0.0], [0], [[0.0]], [0]),
        lambda: short().score([[0.0], [1.0]], [0.0, 1.0], groups=[0, 0]),
        lambda: adapt(short(), [[0.0]], [0.0]),
    ):
        with pytest.raises(NotFittedError):
            use()


def test_scikit_learn_is_an_extra():
    """It is imported when asked for; without it the error says what to install."""
    shown = python(
        "import sys, fastmaml.learn\n"
        "assert 'sklearn' not in sys.modules\n"
        "assert not hasattr(fastmaml.learn, 'Nothing')\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'sklearn':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from fastmaml.learn import *\n"
        "try:\n"
        "    from fastmaml.learn import MAMLRegressor\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert shown.strip() == (
        'MAMLRegressor needs scikit-learn, which comes with pip install "fastmaml[sklearn]"'
    )
