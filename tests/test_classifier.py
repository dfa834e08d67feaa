"""The scikit-learn classifier: scikit-learn's own checks, and what it does with groups."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_estimator import NOT_EQUIVALENT

import fastmaml as fm
from fastmaml.learn import AdaptedClassifier, MAMLClassifier, adapt, few_shot_scorer

ONE_GROUP = "ignore:groups is None, so all rows"
UNADAPTED = "ignore:groups is None, so this is the network before"
WORSE = "ignore:the .* are predicted worse than by the shares"
BUDGET = "ignore:max_iter=:sklearn.exceptions.ConvergenceWarning"
pytestmark = pytest.mark.filterwarnings(WORSE, BUDGET)


@pytest.mark.filterwarnings(ONE_GROUP)
@parametrize_with_checks(
    [
        MAMLClassifier((10,), max_iter=100, steps=3, learning_rate_init=0.02),
        MAMLClassifier((10,), max_iter=100, steps=3, learning_rate_init=0.02, shuffle=False),
    ],
    expected_failed_checks=lambda estimator: NOT_EQUIVALENT,
)
def test_scikit_learn(estimator, check):
    check(estimator)


WORDS = {2: ["no", "yes"], 3: ["bad", "good", "middle"]}


def sectors(n_groups, rows, n_classes=2, seed=0):
    """(X, y, groups): points in the plane, whose classes are sectors that each group turns."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(n_groups), rows))
    X = rng.normal(size=(len(groups), 2))
    angles = np.arctan2(X[:, 1], X[:, 0]) + rng.uniform(0, 2 * np.pi, n_groups)[groups]
    classes = np.floor(angles * n_classes / (2 * np.pi)).astype(int) % n_classes
    return X, np.array(WORDS[n_classes])[classes], groups


def short(**options):
    """A classifier that takes a moment to train."""
    given = {
        "shots": 8, "max_iter": 20, "learning_rate_init": 0.01, "random_state": 0, "steps": 3,
        "early_stopping": False, "n_iter_no_change": 100, **options,
    }  # fmt: skip
    return MAMLClassifier(**{"hidden_layer_sizes": (16,), **given})


@pytest.fixture(scope="module", params=[2, 3])
def trained(request):
    n_classes = request.param
    return short(max_iter=400).fit(*sectors(60, 20, n_classes)), n_classes


def test_it_learns_to_adapt(trained):
    """Eight rows of a new group are enough, and the prior alone is not."""
    maml, n_classes = trained
    X, y, groups = sectors(50, 30, n_classes, seed=1)
    few_shot = maml.score(X, y, groups)
    assert few_shot > {2: 0.85, 3: 0.75}[n_classes]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "groups is None")
        assert pickle.loads(pickle.dumps(maml)).score(X, y) < few_shot - 0.2
    untrained = short(max_iter=1).fit(*sectors(60, 20, n_classes))
    assert few_shot > untrained.score(X, y, groups) + 0.05
    assert maml.classes_.tolist() == WORDS[n_classes]
    assert maml.model_.n_outputs == {2: 1, 3: 3}[n_classes]
    assert is_classifier(maml)


def test_it_is_maml_on_standardised_inputs(trained):
    maml, n_classes = trained
    X, y, groups = sectors(60, 20, n_classes)
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    loss = {2: "logistic", 3: "softmax"}[n_classes]
    inner = fm.MAML(maml.model_, maml.inner_lr_, 3, loss=loss)
    own = groups == 7
    codes = np.searchsorted(WORDS[n_classes], y)
    f = inner.predict(maml.theta_, x[own], codes[own], x[:9]).reshape(9, -1)
    if n_classes == 2:
        f = np.hstack([0 * f, f])
    want = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    adapted = maml.adapt(X[own], y[own])
    np.testing.assert_allclose(adapted.predict_proba(X[:9]), want, rtol=1e-9, atol=1e-12)
    found = maml.predict_proba(X[:9], [7] * 9)
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)
    labels = np.array(WORDS[n_classes])[want.argmax(axis=1)]
    assert maml.predict(X[:9], [7] * 9).tolist() == labels.tolist()
    assert adapted.predict(X[:9]).tolist() == labels.tolist()
    assert adapted.score(X[:9], labels) == 1.0
    assert adapted.score(X[:9], labels, sample_weight=np.arange(9)) == 1.0
    at_once = maml.adapt_predict(X[own], y[own], groups[own], X[:9], [7] * 9)
    assert at_once.tolist() == labels.tolist()


def test_the_score_of_groups_is_that_of_their_query_rows():
    X, y, groups = sectors(12, 10)
    maml = short(shuffle=False, shots=4).fit(X, y, groups)
    right, weights = [], []
    weight = np.linspace(1, 2, len(y))
    for group in range(12):
        own = np.flatnonzero(groups == group)
        adapted = maml.adapt(X[own[:4]], y[own[:4]])
        right.append(adapted.predict(X[own[4:]]) == y[own[4:]])
        weights.append(weight[own[4:]])
    right, weights = np.concatenate(right), np.concatenate(weights)
    assert maml.score(X, y, groups) == pytest.approx(right.mean())
    got = maml.score(X, y, groups, sample_weight=weight)
    assert got == pytest.approx(np.average(right, weights=weights))
    assert few_shot_scorer("accuracy")(maml, X, y, groups) == pytest.approx(right.mean())


def test_a_group_need_not_have_all_classes():
    X, y, groups = sectors(20, 12, 3)
    maml = short().fit(X, y, groups)
    some = y != "middle"
    adapted = maml.adapt(X[some][:5], y[some][:5])
    assert isinstance(adapted, AdaptedClassifier)
    assert adapted.predict_proba(X).shape == (240, 3)
    good, bad = (maml.adapt(X[:3], [label] * 3).predict_proba(X[:3]) for label in ("good", "bad"))
    assert (good[:, 1] > bad[:, 1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities(dtype, trained):
    _, n_classes = trained
    X, y, groups = sectors(20, 12, n_classes)
    maml = short().fit(X.astype(dtype), y, groups)
    p = maml.predict_proba(X.astype(dtype), groups)
    assert (p.dtype, maml.theta_.dtype) == (dtype, dtype)
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    far = maml.adapt(X[:9] * 1e6, y[:9]).predict_proba(1e6 * X)
    assert np.isfinite(far).all()


@pytest.mark.parametrize("labels", [[3, 7], [False, True], [0.5, 1.5], ["a", "b"]])
def test_labels_of_any_kind(labels):
    X, y, groups = sectors(12, 10)
    given = np.array(labels)[(y == "yes").astype(int)]
    if isinstance(labels[0], float):
        with pytest.raises(ValueError, match="continuous"):
            short().fit(X, given, groups)
        return
    maml = short().fit(X, given, groups)
    found = maml.predict(X, groups)
    assert found.dtype == given.dtype
    assert set(found) <= set(labels)
    want = short().fit(X, y, groups).predict(X, groups)
    assert (found == labels[1]).tolist() == (want == "yes").tolist()
    series = short().fit(pd.DataFrame(X, columns=["u", "v"]), pd.Series(given), pd.Series(groups))
    assert series.predict(pd.DataFrame(X, columns=["u", "v"]), groups).tolist() == found.tolist()


def test_in_a_pipeline_and_a_cross_validation():
    X, y, groups = sectors(20, 12)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), short())
        options = {"cv": GroupKFold(3), "params": {"groups": groups}}
        scores = cross_val_score(
            pipeline, X, y, scoring=few_shot_scorer("balanced_accuracy"), **options
        )
        assert len(scores) == 3
        assert np.isfinite(scores).all()
    pipeline = make_pipeline(StandardScaler(), short()).fit(X, y, mamlclassifier__groups=groups)
    new = adapt(pipeline, X[:8], y[:8])
    assert isinstance(new[-1], AdaptedClassifier)
    want = pipeline[-1].adapt(pipeline[:-1].transform(X[:8]), y[:8])
    got = new.predict_proba(X)
    np.testing.assert_array_equal(got, want.predict_proba(pipeline[:-1].transform(X)))
    again = clone(new).fit(X[:8], y[:8])
    np.testing.assert_array_equal(again.predict_proba(X), got)


def test_saved_and_loaded_it_adapts_the_same(tmp_path, trained):
    maml, n_classes = trained
    X, y, _ = sectors(3, 12, n_classes, seed=5)
    fm.save(tmp_path / "a.npz", maml)
    saved = fm.load(tmp_path / "a.npz")
    again = MAMLClassifier.from_saved(saved)
    assert again.classes_.tolist() == maml.classes_.tolist()
    for each in (again, pickle.loads(pickle.dumps(maml))):
        want = maml.adapt(X[:8], y[:8]).predict_proba(X)
        np.testing.assert_array_equal(each.adapt(X[:8], y[:8]).predict_proba(X), want)
    codes = np.searchsorted(maml.classes_, y)
    f = saved.predict(X[:8], codes[:8], X)  # of the network
    assert f.reshape(len(X), -1).shape[1] == maml.model_.n_outputs
    fm.save(tmp_path / "b.npz", maml.adapt(X[:8], y[:8]))
    adapted = fm.load(tmp_path / "b.npz")
    model = adapted.objective.model
    f = model.predict(adapted.theta, adapted.scaling.scale_x(X))
    f = np.hstack([np.zeros_like(f), f]) if n_classes == 2 else f
    found = np.array(WORDS[n_classes])[f.argmax(axis=1)]
    assert found.tolist() == maml.adapt(X[:8], y[:8]).predict(X).tolist()
    with pytest.raises(ValueError, match="saved holds no MAMLRegressor"):
        fm.MAMLRegressor.from_saved(saved)
    with pytest.raises(ValueError, match="saved holds no MAMLClassifier"):
        MAMLClassifier.from_saved(adapted)


def test_numbers_are_labels_that_a_file_holds(tmp_path):
    X, y, groups = sectors(12, 10)
    maml = short(max_iter=1).fit(X, np.array([1.0, 2.0])[(y == "yes").astype(int)], groups)
    fm.save(tmp_path / "a.npz", maml)
    again = MAMLClassifier.from_saved(fm.load(tmp_path / "a.npz"))
    assert again.classes_.dtype == float
    assert again.classes_.tolist() == [1.0, 2.0]


def test_labels_that_no_file_holds(tmp_path):
    X, y, groups = sectors(12, 10)
    days = np.array(["2024-01-01", "2025-01-01"], "datetime64[D]")[(y == "yes").astype(int)]
    maml = short().fit(X, days, groups)
    with pytest.raises(TypeError, match=r"classes_ holds .*; accepted to save are text, numbers"):
        fm.save(tmp_path / "a.npz", maml)


def test_bad_labels_are_named():
    X, y, groups = sectors(12, 10)
    with pytest.raises(ValueError, match="y has one class alone, 'no'; accepted are two or more"):
        short().fit(X, ["no"] * len(X), groups)
    maml = short().fit(X, y, groups)
    for call in (
        lambda: maml.adapt(X[:2], ["yes", "maybe"]),
        lambda: maml.score(X[:2], ["yes", "maybe"], [0, 0]),
        lambda: maml.adapt_predict(X[:2], ["yes", "maybe"], [0, 0], X[:1], [0]),
    ):
        message = r"y holds 'maybe', no class of the meta-training; accepted are \['no', 'yes'\]"
        with pytest.raises(ValueError, match=message):
            call()
    for other in (None, 1):
        mixed = y.astype(object)
        mixed[-1] = other
        with pytest.raises(TypeError, match=r"y holds labels that cannot be sorted \('<' not supp"):
            short().fit(X, mixed, groups)
    texts = short(max_iter=1).fit(X, pd.Series(y, dtype=object), groups)
    with pytest.raises(ValueError, match=r"y holds 3, no class of the meta-training"):
        texts.adapt(X[:2], [3, 4])
    with pytest.raises(ValueError, match="y should be a 1d array"):
        short().fit(X, np.stack([y, y], axis=1), groups)
    going_on = maml.set_params(warm_start=True)
    message = (
        r"warm_start goes on with the classes \['no', 'yes'\], y has \['n', 'y'\]; accepted are "
        "the same"
    )
    with pytest.raises(ValueError, match=message):
        going_on.fit(X, [label[0] for label in y], groups)
    assert going_on.fit(X, y, groups).classes_.tolist() == ["no", "yes"]


@pytest.mark.filterwarnings("default")
def test_a_result_worse_than_the_shares_is_a_warning():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(200, 2)), np.repeat(np.arange(20), 10)
    maml = short(max_iter=3, inner_lr=1.0, learn_rates=False)
    message = "predicted worse than by the shares of the classes of the training targets: the loss"
    with (
        pytest.warns(UserWarning, match=message),
        pytest.warns(ConvergenceWarning, match="max_iter=3"),
    ):
        maml.fit(X, rng.integers(0, 2, 200), groups)


def test_the_loss_of_shares():
    maml = short()
    maml.classes_ = np.array([0, 1, 2])
    known = np.array([0, 0, 1, 2])[:, None]
    targets = [np.array([[0], [1]]), np.array([[2]])]
    want = np.mean([-np.log([1 / 2, 1 / 4]).mean(), -np.log(1 / 4)])
    assert maml._of_mean(targets, known, None, None) == pytest.approx(want)
    weights = [np.array([3.0, 1.0]), np.array([1.0])], np.array([2.0, 2.0, 2.0, 4.0])
    want = np.mean([-(3 * np.log(4 / 10) + np.log(2 / 10)) / 4, -np.log(4 / 10)])
    assert maml._of_mean(targets, known, *weights) == pytest.approx(want)


def test_it_is_at_the_top_too():
    assert fm.MAMLClassifier is MAMLClassifier
