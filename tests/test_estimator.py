"""The scikit-learn estimator: scikit-learn's own checks, and what it does with groups."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from processes import python
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmaml as fm
from fastmaml.learn import AdaptedRegressor, MAMLRegressor

ONE_GROUP = "ignore:groups is None"
WORSE = "ignore:the .* are predicted worse than by the mean"
BUDGET = "ignore:max_iter=:sklearn.exceptions.ConvergenceWarning"


@pytest.mark.filterwarnings(ONE_GROUP, WORSE, BUDGET)
@parametrize_with_checks(
    [
        MAMLRegressor((20,), max_iter=300, learning_rate_init=0.02),
        MAMLRegressor((20,), max_iter=300, learning_rate_init=0.02, shuffle=False),
    ]
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
    given = {"shots": 3, "max_iter": 20, "learning_rate_init": 0.01, "random_state": 0, **options}
    return MAMLRegressor((8,), **given)


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
    assert trained.score(*new[:2]) < 0.9
    assert few_shot > short(max_iter=1).fit(*lines(40, 8)).score(*new[:2], groups=new[2]) + 0.05
    assert trained.n_iter_ == len(trained.loss_curve_) == 400
    assert trained.loss_ == trained.loss_curve_[-1]
    assert np.mean(trained.loss_curve_[-50:]) < np.mean(trained.loss_curve_[:50]) / 2


def test_it_is_maml_on_standardised_rows(trained):
    X, y, groups = lines(40, 8)
    x = (X - X.mean()) / X.std()
    t = (y - y.mean()) / y.std()
    maml = fm.MAML(trained.model_, inner_lr=0.05, steps=5, loss="mse")
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
    np.testing.assert_allclose(trained.predict(grid), unadapted, rtol=1e-10)


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
    assert regressor.score(X, y, weight, groups) == pytest.approx(expected)
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
    regressor = clone(trained).fit(*lines(40, 8))
    x, y = np.array([[-1.0], [0.5], [1.0]]), np.array([-3.0, 1.5, 3.0])
    far = {}
    for steps in (0, 5, 50):
        far[steps] = regressor.set_params(steps=steps).adapt(x, y).score(x, y)
    assert far[0] < far[5] < far[50]
    assert far[0] == pytest.approx(regressor.score(x, y))


def test_seeds():
    data = lines(20, 6)
    one, same, other = (short(random_state=seed).fit(*data) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.theta_, same.theta_)
    assert not np.array_equal(one.theta_, other.theta_)
    stream = np.random.RandomState(1)
    first, second = (short(random_state=stream).fit(*data) for _ in range(2))
    np.testing.assert_array_equal(first.theta_, one.theta_)
    assert not np.array_equal(second.theta_, one.theta_)


@pytest.mark.parametrize("shots", [None, 4])
def test_groups_of_any_size(shots):
    X, y, _ = lines(10, 7)
    groups = np.repeat(np.arange(12), [1, 1, 2, 2, 3, 4, 5, 6, 7, 12, 13, 14])
    regressor = short(shots=shots, meta_batch=5).fit(X, y, groups)
    assert np.isfinite(regressor.predict(X, groups)).all()
    assert np.isfinite(regressor.score(X, y, groups=groups))


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
    assert adapted.theta_.dtype == adapted.predict(X).dtype == np.float32
    close = short().fit(X, y, groups).predict(X, groups)
    np.testing.assert_allclose(regressor.predict(X.astype(np.float32), groups), close, atol=1e-3)


def test_several_outputs():
    X, y, groups = lines(30, 8)
    both = short(max_iter=300).fit(X, np.column_stack([y, -2 * y]), groups)
    assert both.n_outputs_ == 2
    predicted = both.predict(X, groups)
    assert predicted.shape == (len(y), 2)
    assert r2_score(y, predicted[:, 0]) > 0.9
    assert r2_score(-2 * y, predicted[:, 1]) > 0.9
    assert both.adapt(X[:3], np.column_stack([y, y])[:3]).predict(X).shape == (len(y), 2)
    assert short().fit(X, y[:, None], groups).predict(X).shape == (len(y), 1)


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


def test_what_was_adapted_is_an_ordinary_regressor():
    regressor = short(max_iter=300).fit(*lines(40, 8))
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
        assert regressor.x_scaler_.mean_[0] == pytest.approx(X[training].mean())
        assert regressor.y_scaler_.mean_[0] == pytest.approx(y[training].mean())
        assert regressor.y_scaler_.scale_[0] == pytest.approx(y[training].std())
        expected = regressor.score(X[test], y[test], groups=groups[test])
        assert found["test_score"][i] == expected


def test_cross_val_score_of_a_pipeline(routing):
    X, y, groups = lines(40, 8)
    pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), short(max_iter=300))
    scores = cross_val_score(pipeline, X, y, params={"groups": groups}, cv=GroupKFold(3))
    assert scores.min() > 0.8
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
    search = GridSearchCV(short(max_iter=200), {"steps": [0, 5]}, cv=GroupKFold(3))
    search.fit(X, y, groups=groups)
    assert search.best_params_ == {"steps": 5}
    assert search.best_estimator_.groups_ == list(range(30))


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
        ({"learning_rate_init": 0.0}, ValueError, "learning_rate_init is 0.0"),
        ({"inner_lr": np.nan}, ValueError, "inner_lr holds nan"),
        ({"order": "second"}, ValueError, "order is 'second'"),
        ({"order": "implicit"}, ValueError, "order is 'implicit'; accepted are 'exact', 'first'"),
        ({"activation": "logistic"}, ValueError, "activation is 'logistic'; accepted are"),
        ({"hidden_layer_sizes": (0,)}, ValueError, r"hidden_layer_sizes\[0\] is 0"),
        ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes is 2.5"),
        ({"hidden_layer_sizes": "40"}, TypeError, r"hidden_layer_sizes\[0\] is '4'"),
        ({"random_state": "x"}, ValueError, "'x' cannot be used to seed"),
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
        (np.array([1, "a"] * 10, object), TypeError, "groups holds labels that have no order"),
        (["a", None] * 10, TypeError, "groups holds labels that have no order"),
        ([np.nan, 1.0] * 10, ValueError, "groups holds nan"),
    ],
)
def test_bad_groups_are_named(groups, error, text):
    X, y, _ = lines(4, 5)
    with pytest.raises(error, match=text):
        short().fit(X, y, groups)


def test_weights_are_one_a_row(trained):
    X, y, groups = lines(4, 5)
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\); accepted is one entry"):
        trained.score(X, y, np.ones(3), groups)


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
    ):
        with pytest.raises(NotFittedError):
            use()


def test_divergence_is_an_error():
    with pytest.raises(FloatingPointError, match="in iteration 1"):
        short(inner_lr=1e200).fit(*lines(4, 5))


def test_a_group_that_diverges_spoils_no_other(trained):
    X, y, groups = lines(3, 4)
    y[groups == 1] *= 1e30
    predicted = clone(trained).set_params(activation="relu", steps=50).fit(*lines(9, 5))
    predicted = predicted.adapt_predict(X, y, groups, X, groups)
    finite = np.isfinite(predicted)
    np.testing.assert_array_equal(finite, groups != 1)


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
