"""The scikit-learn estimator of the Bayesian last layer: what it has beside that of MAML."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from processes import python
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_estimator import NOT_EQUIVALENT

import fastmaml as fm
from fastmaml.learn import (
    AdaptedBayesianRegressor,
    BayesianLastLayerRegressor,
    adapt,
    few_shot_scorer,
)
from fastmaml.learn.progress import Progress
from fastmaml.streaming import Stream

ONE_GROUP = "ignore:groups is None, so all rows"
WORSE = "ignore:the .* are predicted worse than by the mean"
BUDGET = "ignore:max_iter=:sklearn.exceptions.ConvergenceWarning"

# Short trainings are what these tests are about.
pytestmark = pytest.mark.filterwarnings(WORSE, BUDGET)

LOSSES = ("mean_nll", "mse")


@pytest.mark.filterwarnings(ONE_GROUP)
@parametrize_with_checks(
    [
        BayesianLastLayerRegressor((10, 5), max_iter=100, learning_rate_init=0.02),
        BayesianLastLayerRegressor((10,), max_iter=100, learning_rate_init=0.02, shuffle=False),
    ],
    expected_failed_checks=lambda estimator: NOT_EQUIVALENT,
)
def test_scikit_learn(estimator, check):
    check(estimator)


def lines(n_groups, rows, seed=0, n_outputs=1, noise=0.1):
    """(X, y, groups): lines through the origin, each group with slopes of its own, and noise."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(1.0, 0.7, (n_groups, n_outputs))
    groups = rng.permutation(np.repeat(np.arange(n_groups), rows))
    X = rng.uniform(-1.0, 1.0, (len(groups), 1))
    y = slopes[groups] * X + rng.normal(0.0, noise, (len(groups), n_outputs))
    return X, y[:, 0] if n_outputs == 1 else y, groups


def short(**options):
    """A regressor that takes a moment to train."""
    given = {
        "max_iter": 20, "learning_rate_init": 0.01, "random_state": 0, "early_stopping": False,
        "n_iter_no_change": 100, **options,
    }  # fmt: skip
    return BayesianLastLayerRegressor(**{"hidden_layer_sizes": (8, 4), **given})


@pytest.fixture(scope="module")
def trained():
    return short(max_iter=600).fit(*lines(60, 10))


GRID = np.linspace(-1.0, 1.0, 7)[:, None]


# ---- what it computes


def test_it_learns_to_adapt_and_how_sure_it_is(trained):
    X, y, groups = lines(200, 13, seed=1)
    place = pd.Series(groups).groupby(groups).cumcount().to_numpy()
    known, new = place < 3, place >= 3
    f, std = trained.adapt_predict(
        X[known], y[known], groups[known], X[new], groups[new], return_std=True
    )
    assert np.mean((f - y[new]) ** 2) < 0.02  # the noise alone is 0.01, the slopes 0.16
    inside = np.abs(f - y[new]) < 1.96 * std
    assert 0.9 < inside.mean() < 0.99
    assert trained.score(X, y, groups) > 0.9


def test_it_is_the_last_layer_on_standardised_rows(trained):
    X, y, groups = lines(60, 10)
    own = groups == 17
    x, t, grid = ((a - b.mean()) / b.std() for a, b in ((X[own], X), (y[own], y), (GRID, X)))
    head = fm.BayesianLastLayer(trained.model_, "mean_nll", task_mean=True)
    f, s = head.predict(trained.theta_, x, t, grid, return_std=True)
    expected = f * y.std() + y.mean(), s * y.std()
    adapted = trained.adapt(X[own], y[own])
    for found in (
        trained.predict(GRID, [17] * 7, return_std=True),
        adapted.predict(GRID, return_std=True),
        trained.adapt_predict(X, y, groups, GRID, [17] * 7, return_std=True),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_array_equal(adapted.predict(GRID), adapted.predict(GRID, return_std=True)[0])
    posterior = head.adapt(trained.theta_, x, t)
    for a, b in zip(adapted.posterior_, posterior, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(trained.model_.predict(adapted.theta_, grid), f[:, None], rtol=1e-10)


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_shapes_are_those_of_a_gaussian_process(shape):
    X, y, groups = lines(9, 6)
    y = np.stack([y] * shape[0], axis=1) if shape else y
    regressor = short().fit(X, y, groups)
    expected = [(7,)] * 2 if shape != (2,) else [(7, 2)] * 2
    found = GaussianProcessRegressor(alpha=0.1).fit(X, y).predict(GRID, return_std=True)
    assert [part.shape for part in found] == expected
    own = [(7, *shape)] * 2  # it keeps the axis of one output, as MAMLRegressor does
    for found in (
        regressor.predict(GRID, [3] * 7, return_std=True),
        regressor.adapt(X, y).predict(GRID, return_std=True),
        regressor.adapt().predict(GRID, return_std=True),
    ):
        assert [part.shape for part in found] == own
    assert regressor.adapt(X, y).predict(GRID).shape == own[0]


def test_units_do_not_matter():
    """The deviation of each output is in its units."""
    X, y, groups = lines(20, 6, n_outputs=2)
    a, b = np.array([1e-3, 1e4]), np.array([7.0, -3.0])
    one = short().fit(X, y, groups)
    two = short().fit(1e3 * X - 5.0, a * y + b, groups)
    for first, second in (
        (one.predict(X, groups, True), two.predict(1e3 * X - 5.0, groups, True)),
        (
            one.adapt(X[:4], y[:4]).predict(X, True),
            two.adapt(1e3 * X[:4] - 5.0, a * y[:4] + b).predict(1e3 * X - 5.0, True),
        ),
    ):
        np.testing.assert_allclose(second[0], a * first[0] + b, rtol=1e-7)
        np.testing.assert_allclose(second[1], a * first[1], rtol=1e-7)


def test_deviations_of_outputs_that_differ_in_noise():
    X, y, groups = lines(60, 10, n_outputs=2, noise=0.0)
    y = y + np.random.default_rng(5).normal(0.0, [0.05, 0.5], y.shape)
    regressor = short(max_iter=600).fit(X, y, groups)
    std = regressor.predict(X, groups, return_std=True)[1]
    assert (std[:, 1] > 4 * std[:, 0]).all()
    shared = short(noise="shared").fit(X, y, groups)
    assert len(shared.theta_) == len(regressor.theta_) - 1


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss):
    X, y, groups = lines(40, 8)
    regressor = short(loss=loss, max_iter=300).fit(X, y, groups)
    assert regressor.score(X, y, groups) > 0.9
    assert np.mean(regressor.loss_curve_[-50:]) < np.mean(regressor.loss_curve_[:50])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_precision_of_predictions(dtype):
    X, y, groups = (a.astype(dtype) for a in lines(9, 6))
    regressor = short().fit(X, y, groups)
    assert regressor.theta_.dtype == dtype
    parts = [
        *regressor.predict(X, groups, return_std=True),
        *regressor.adapt(X, y).predict(X, return_std=True),
        *regressor.adapt().predict(X, return_std=True),
        *clone(regressor.adapt(X, y)).partial_fit(X, y).predict(X, return_std=True),
    ]
    assert {part.dtype for part in parts} == {np.dtype(dtype)}
    tolerance = 1e-4 if dtype == "f4" else 1e-9
    own = groups == 3
    for a, b in zip(
        regressor.predict(X[own], groups[own], return_std=True),
        regressor.adapt(X[own], y[own]).predict(X[own], return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ---- numbers of support rows


class Drawn(BayesianLastLayerRegressor):
    """It notes how many support rows it draws."""

    def _n_support(self):
        draw = super()._n_support()

        def noted(counts, rng):
            drawn = draw(counts, rng)
            self.seen.append((counts, drawn))
            return drawn

        return noted


@pytest.mark.parametrize(
    ("n_support", "low", "high"), [(None, 1, 4), ((2, 5), 2, 5), ([3, 100], 3, 8), ((4, 4), 4, 4)]
)
def test_numbers_of_support_rows_are_drawn(n_support, low, high):
    regressor = Drawn((4,), n_support=n_support, max_iter=30, random_state=0)
    regressor.seen = []
    regressor.fit(*lines(20, 9))
    drawn = np.concatenate([numbers for _, numbers in regressor.seen])
    assert set(drawn) == set(range(low, high + 1))
    regressor.seen = []
    X, y, _ = lines(1, 9)
    regressor.score(X, y, np.repeat([0, 1], [2, 7]))
    ((counts, drawn),) = regressor.seen
    assert counts.tolist() == [2, 7]
    assert drawn[0] == 1  # a row is left to be judged


def test_one_number_of_support_rows():
    X, y, groups = lines(20, 6)
    groups = np.sort(groups)
    regressor = short(n_support=2, shuffle=False).fit(X, y, groups)
    known = np.arange(len(y)) % 6 < 2
    f = regressor.adapt_predict(X[known], y[known], groups[known], X[~known], groups[~known])
    rows, predicted = regressor._few_shot(X, y, groups)
    np.testing.assert_array_equal(rows, np.flatnonzero(~known))
    np.testing.assert_array_equal(predicted, f)


# ---- rows as they come


def test_rows_one_at_a_time_are_the_batch(trained):
    X, y, _ = lines(1, 30, seed=7)
    whole = trained.adapt(X, y)
    single, some = trained.adapt(), trained.adapt(X[:11], y[:11]).partial_fit(X[11:], y[11:])
    for i in range(30):
        assert single.partial_fit(X[i : i + 1], y[i : i + 1]) is single
    fresh = clone(whole).partial_fit(X, y)
    for other in (single, some, fresh):
        assert other.n_rows_ == whole.n_rows_ == 30
        for a, b in zip(
            other.predict(GRID, return_std=True), whole.predict(GRID, return_std=True), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9)
        for a, b in zip(other.posterior_, whole.posterior_, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    again = single.fit(X[:3], y[:3])  # from the prior anew
    np.testing.assert_array_equal(again.predict(GRID), trained.adapt(X[:3], y[:3]).predict(GRID))


def test_before_any_row_the_prior_predicts(trained):
    found = trained.adapt().predict(GRID, return_std=True)
    none = np.empty((0, 1)), np.empty((0, 1))
    x = trained.scaling_.scale_x(GRID)
    f, std = trained._objective().predict(trained.theta_, *none, x, return_std=True)
    expected = trained.scaling_.unscale_y(f)[:, 0], trained.scaling_.unscale_std(std)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    with pytest.warns(UserWarning, match="before it adapts to any group"):
        unadapted = pickle.loads(pickle.dumps(trained)).predict(GRID, return_std=True)
    np.testing.assert_allclose(unadapted, expected, rtol=1e-10)
    after = trained.adapt([[0.9]], [0.9]).predict(GRID, return_std=True)[1]
    assert (after < found[1]).all()


def test_several_outputs_one_at_a_time():
    X, y, groups = lines(20, 6, n_outputs=2)
    regressor = short().fit(X, y, groups)
    one = regressor.adapt(X[:5], y[:5]).partial_fit(X[5:9], y[5:9]).predict(GRID, return_std=True)
    np.testing.assert_allclose(one, regressor.adapt(X[:9], y[:9]).predict(GRID, True), rtol=1e-8)


def test_what_was_adapted_is_an_ordinary_regressor(trained):
    X, y, _ = lines(1, 20, seed=5)
    adapted = trained.adapt(X[:5], y[:5])
    assert isinstance(adapted, AdaptedBayesianRegressor)
    with pytest.raises(NotFittedError):
        clone(adapted).predict(X)
    expected = adapted.predict(X, return_std=True)
    np.testing.assert_array_equal(clone(adapted).fit(X[:5], y[:5]).predict(X, True), expected)
    copy = pickle.loads(pickle.dumps(adapted.partial_fit(X[5:], y[5:])))
    np.testing.assert_array_equal(copy.predict(X, True), adapted.predict(X, True))
    copy.partial_fit(X, y)
    assert (copy.predict(X, True)[1] < adapted.predict(X, True)[1]).all()
    assert cross_val_score(adapted, X, y, cv=4).min() > 0.5
    small, large = (
        len(pickle.dumps(short().fit(*lines(n, 8)).adapt([[0.5]], [1.0]))) for n in (20, 400)
    )
    assert large == small


# ---- at home in scikit-learn and pandas


def test_clone_pickle_and_seeds(trained):
    data = lines(15, 6)
    copy = clone(trained)
    assert copy.get_params() == trained.get_params()
    assert not hasattr(copy, "theta_")
    one, same, other = (short(random_state=seed).fit(*data) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.theta_, same.theta_)
    assert not np.array_equal(one.theta_, other.theta_)
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(
        again.predict(data[0], data[2], True), one.predict(data[0], data[2], True)
    )


def test_columns_keep_their_names():
    X, y, groups = lines(10, 6)
    frame = pd.DataFrame({"load": X[:, 0], "heat": X[:, 0] ** 2})
    regressor = short().fit(frame, pd.Series(y), groups)
    adapted = regressor.adapt(frame[:4], y[:4])
    assert adapted.feature_names_in_.tolist() == ["load", "heat"]
    assert adapted.n_features_in_ == regressor.n_features_in_ == 2
    adapted.partial_fit(frame[4:6], y[4:6]).predict(frame)
    for use in (adapted.predict, regressor.adapt().predict, lambda f: adapted.partial_fit(f, y)):
        with pytest.raises(ValueError, match="feature names should match"):
            use(frame[["heat", "load"]])


def test_in_a_pipeline_and_a_search():
    X, y, groups = lines(30, 6)
    pipeline = make_pipeline(StandardScaler(), short(max_iter=100))
    pipeline.fit(X, y, bayesianlastlayerregressor__groups=groups)
    new = adapt(pipeline, X[:4], y[:4])
    scaled = pipeline[0].transform(X)
    expected = pipeline[-1].adapt(scaled[:4], y[:4]).predict(scaled, return_std=True)
    np.testing.assert_array_equal(new.predict(X, return_std=True), expected)
    assert few_shot_scorer("r2")(pipeline, X, y, groups) > 0.5
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(short(), {"n_support": [2, (1, 4)]}, cv=GroupKFold(3))
        search.fit(X, y, groups=groups)
    assert isinstance(adapt(search, X[:4], y[:4]), AdaptedBayesianRegressor)


@pytest.mark.parametrize(
    ("hidden", "words"),
    [
        ((), "identity"),
        ((5,), "tanh"),
        ((5, 4), ("tanh", "identity")),
        ((5, 4, 3), ("tanh", "tanh", "identity")),
    ],
)
def test_the_last_of_several_hidden_layers_is_linear(hidden, words):
    regressor = short(hidden_layer_sizes=hidden, max_iter=2).fit(*lines(5, 4))
    assert regressor.model_ == fm.MLP([1, *hidden, 1], words)
    X, y, _ = lines(1, 4)
    adapted = regressor.adapt(X[:2], y[:2]).partial_fit(X[2:], y[2:])
    expected = regressor.adapt(X, y).predict(GRID, return_std=True)
    np.testing.assert_allclose(adapted.predict(GRID, return_std=True), expected, rtol=1e-8)
    relu = short(hidden_layer_sizes=hidden, activation="relu", max_iter=2).fit(*lines(5, 4))
    assert relu.model_ == fm.MLP([1, *hidden, 1], "relu")


def test_defaults():
    regressor = BayesianLastLayerRegressor(max_iter=1).fit(*lines(5, 4))
    assert regressor.model_ == fm.MLP([1, 40, 40, 20, 1], ["tanh", "tanh", "identity"])


def test_it_is_at_the_top_too():
    assert fm.BayesianLastLayerRegressor is BayesianLastLayerRegressor
    assert "BayesianLastLayerRegressor" in dir(fm)
    code = "import sys, fastmaml\nfastmaml.BayesianLastLayer\nprint('sklearn' in sys.modules)"
    assert python(code).strip() == "False"


# ---- files


def test_saved_and_loaded_it_adapts_the_same(tmp_path):
    X, y, groups = lines(20, 6)
    frame = pd.DataFrame({"load": X[:, 0]})
    regressor = short(n_support=(1, 4), loss="mse", prior="shared").fit(frame, y, groups)
    fm.save(tmp_path / "m.npz", regressor)
    saved = fm.load(tmp_path / "m.npz")
    again = BayesianLastLayerRegressor.from_saved(saved)
    expected = regressor.adapt(frame[:4], y[:4]).predict(frame, return_std=True)
    np.testing.assert_array_equal(again.adapt(frame[:4], y[:4]).predict(frame, True), expected)
    assert again.score(frame, y, groups) == regressor.score(frame, y, groups)
    assert again.get_params()["n_support"] == [1, 4]
    found = saved.predict(X[None, :4], y[None, :4], X[None], return_std=True)
    np.testing.assert_allclose([part[0] for part in found], expected)
    with pytest.raises(ValueError, match="saved holds no MAMLRegressor; accepted is what"):
        fm.MAMLRegressor.from_saved(saved)
    fm.save(tmp_path / "maml.npz", fm.MAMLRegressor((4,), max_iter=1).fit(X, y, groups))
    with pytest.raises(ValueError, match="saved holds no BayesianLastLayerRegressor; accepted"):
        BayesianLastLayerRegressor.from_saved(fm.load(tmp_path / "maml.npz"))


def test_what_was_adapted_is_saved_with_its_posterior(tmp_path, trained):
    """A file goes on from there: rows that it is given are further ones."""
    X, y, _ = lines(1, 9, seed=3)
    adapted = trained.adapt(X[:5], y[:5])
    fm.save(tmp_path / "m.npz", adapted)
    saved = fm.load(tmp_path / "m.npz")
    none = np.empty((0, 1)), np.empty((0, 1))
    found = saved.predict(*none, GRID, return_std=True)
    np.testing.assert_allclose(np.squeeze(found), adapted.predict(GRID, True), rtol=1e-10)
    found = saved.predict(X[5:], y[5:], GRID, return_std=True)
    adapted.partial_fit(X[5:], y[5:])
    np.testing.assert_allclose(found, adapted.predict(GRID, return_std=True), rtol=1e-8)
    with pytest.raises(NotFittedError):
        fm.save(tmp_path / "m.npz", clone(adapted))


# ---- training: the end, warnings, divergence


@pytest.mark.parametrize("loss", LOSSES)
def test_a_result_worse_than_the_mean_is_a_warning(loss):
    """Targets that are noise: nothing is better than their mean and variance."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 1)), rng.normal(size=200)
    wild = short(loss=loss, learning_rate_init=0.5, clip_norm=None, max_iter=30)
    with pytest.warns(UserWarning, match="groups it was trained on are predicted worse than by"):
        wild.fit(X, y, np.arange(200) // 4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_that_a_result_is_compared_with(loss):
    """The loss of predictions with the mean of all, and of the density with their variance."""
    rng = np.random.default_rng(0)
    known, targets = rng.normal(size=(50, 2)), [rng.normal(size=(n, 2)) for n in (3, 7)]
    means, variances = known.mean(axis=0), known.var(axis=0)
    model = fm.MLP([1, 3, 2])
    head = fm.BayesianLastLayer(model, loss, "shared", "per_output", task_mean=True)
    layers = [(np.zeros((3, 1)), np.zeros(3)), (np.zeros((2, 3)), means)]
    theta = head.pack(layers, 1e-20, variances)
    queries = [np.zeros((len(t), 1)) for t in targets]
    support = [np.empty((0, 1))] * 2, [np.empty((0, 2))] * 2
    expected = head.value(theta, *support, queries, targets)
    assert short(loss=loss)._of_mean(targets, known, None, None) == pytest.approx(expected)
    # and of rows that have weights
    weights = [rng.uniform(0.5, 2, n) for n in (3, 7)]
    expected = head.value(theta, *support, queries, targets, sample_weight_query=weights)
    assert short(loss=loss)._of_mean(targets, known, weights, None) == pytest.approx(expected)


def test_a_log_density_has_fallen_by_an_amount():
    """Below 0 a fraction of it would be no fall at all."""
    relative, density = (
        Progress(1, 100, 0.1, False, False, density=flag) for flag in (False, True)
    )
    assert relative._bound() == density._bound() == math.inf
    for lowest, fraction, amount in ((2.0, 1.8, 1.8), (0.5, 0.45, 0.4), (-3.0, -2.7, -3.3)):
        relative._lowest = density._lowest = lowest
        assert relative._bound() == pytest.approx(fraction)
        assert density._bound() == pytest.approx(amount)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_training_ends_when_the_loss_no_longer_falls():
    regressor = short(early_stopping=True, max_iter=5000, n_iter_no_change=3, tol=0.02)
    regressor.fit(*lines(60, 10))
    assert regressor.n_iter_ < 5000
    assert regressor.best_validation_loss_ == min(regressor.validation_loss_curve_) < 0


def test_warm_start_goes_on():
    data = lines(30, 6)
    regressor = short(warm_start=True, max_iter=100).fit(*data)
    theta, before = regressor.theta_, np.mean(regressor.loss_curve_[:20])
    assert np.mean(regressor.fit(*data).loss_curve_[:20]) < before
    assert not np.array_equal(regressor.theta_, theta)
    with pytest.raises(ValueError, match=r"warm_start goes on with \d+ parameters, prior='shared'"):
        regressor.set_params(prior="shared").fit(*data)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_training_that_diverges_says_so():
    X, y, groups = lines(8, 5)
    names = np.array(list("abcdefgh"))[groups]
    wild = short(learning_rate_init=1e38, hidden_layer_sizes=(4, 4), activation="identity")
    with pytest.raises(FloatingPointError, match=r"a smaller learning_rate(_init)? usually"):
        wild.fit(X, y, names)


def test_a_posterior_that_is_not_finite_predicts_nothing(tmp_path, trained):
    """Features that overflow, of a row that is unlike all others."""
    regressor = pickle.loads(pickle.dumps(trained))
    regressor.model_ = fm.MLP([1, 8, 4, 1], "identity")
    with pytest.warns(fm.DivergenceWarning, match="the posterior of the task is not finite"):
        adapted = regressor.adapt([[1e300], [-1e300]], [1.0, 2.0])
    for use in (adapted.predict, lambda X: adapted.score(X, [1.0])):
        with pytest.raises(FloatingPointError, match="the posterior given the rows of fit is not"):
            use([[0.5]])
    with pytest.raises(FloatingPointError, match="accepted to save is one that is"):
        fm.save(tmp_path / "m.npz", adapted)


# ---- errors


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"n_support": 0}, ValueError, "n_support is 0; accepted are integers of at least 1"),
        ({"n_support": 0.5}, TypeError, r"n_support is 0.5.*, and pairs \(low, high\) of them"),
        ({"n_support": (5, 2)}, ValueError, r"n_support is \(5, 2\); accepted are pairs"),
        ({"loss": "nll"}, ValueError, "loss is 'nll'; accepted are 'mean_nll', 'mse'"),
        ({"prior": "full"}, ValueError, "prior is 'full'; accepted are"),
        ({"noise": 0.1}, TypeError, "noise is 0.1; accepted are"),
        ({"activation": ["relu"]}, ValueError, "activation has length 1; accepted are"),
        ({"hidden_layer_sizes": (0,)}, ValueError, r"hidden_layer_sizes\[0\] is 0"),
        ({"tol": 1.0}, ValueError, "tol is 1.0; accepted are numbers from 0 to below 1"),
        ({"shuffle": 1}, TypeError, "shuffle is 1; accepted are True and False"),
    ],
)
def test_bad_parameters_are_named(options, error, text):
    with pytest.raises(error, match=text):
        short().set_params(**options).fit(*lines(4, 5))


def test_bad_rows_are_named(trained):
    adapted = trained.adapt()
    for use in (
        lambda: trained.predict(GRID, [0] * 7, return_std=1),
        lambda: trained.adapt_predict(GRID, GRID, [0] * 7, GRID, [0] * 7, return_std=1),
        lambda: adapted.predict(GRID, return_std=1),
    ):
        with pytest.raises(TypeError, match="return_std is 1; accepted are True and False"):
            use()
    with pytest.raises(ValueError, match="y is None, X is not; accepted are rows of both, and nei"):
        trained.adapt(GRID)
    with pytest.raises(ValueError, match="X is None, y is not; accepted are rows of both"):
        trained.adapt(y=[1.0])
    with pytest.raises(ValueError, match="y has 2 outputs; accepted are 1, as in the meta-train"):
        adapted.partial_fit(GRID, np.zeros((7, 2)))
    with pytest.raises(ValueError, match="groups holds 99, a group without rows to adapt to"):
        trained.predict(GRID[:1], [99], return_std=True)


def test_unfitted():
    for use in (
        lambda: short().predict(GRID, return_std=True),
        lambda: short().adapt(),
        lambda: short().adapt(GRID, GRID[:, 0]),
        lambda: short().adapt_predict(GRID, GRID, [0] * 7, GRID, [0] * 7),
    ):
        with pytest.raises(NotFittedError):
            use()


# ---- all rows or none


FAR = 1.79e308


@pytest.fixture(scope="module")
def narrow():
    """Fitted to rows whose spread is below 1, so that what is far overflows when it is scaled."""
    X, y, groups = lines(10, 6, n_outputs=1)
    return short().fit(0.1 * X, 0.1 * y, groups)


def test_rows_that_are_refused_change_nothing(narrow):
    X, y, _ = lines(1, 6, seed=2)
    adapted = narrow.adapt(X[:3], y[:3]).partial_fit(X[3:4], y[3:4])
    for bad, name in (
        (([[0.5], [FAR]], [0.5, 0.1]), "X, standardised, holds inf at row 1, feature 0; accepted"),
        (([[0.5], [0.1]], [FAR, 0.1]), "y, standardised, holds inf at row 0, output 0; accepted"),
    ):
        with pytest.raises(ValueError, match=name):
            adapted.partial_fit(*bad)
        with pytest.raises(ValueError, match=name):
            narrow.adapt(*bad)
        with pytest.raises(ValueError, match=name):
            clone(adapted).partial_fit(*bad)
    for use in (adapted.predict, narrow.adapt().predict):
        with pytest.raises(ValueError, match="X, standardised, holds inf at row 0, feature 0"):
            use([[FAR]])
    assert adapted.n_rows_ == 4
    adapted.partial_fit(X[4:5], y[4:5])
    expected = narrow.adapt(X[:5], y[:5]).predict(GRID, return_std=True)
    np.testing.assert_allclose(adapted.predict(GRID, return_std=True), expected, rtol=1e-9)


@pytest.mark.parametrize("so_far", [0, 2])
def test_rows_that_are_interrupted_change_nothing(trained, monkeypatch, so_far):
    X, y, _ = lines(1, 9, seed=2)
    adapted = trained.adapt(X[:4], y[:4])
    if so_far:
        adapted.partial_fit(X[2:4], y[2:4])
    before, n_rows = adapted.predict(GRID, return_std=True), adapted.n_rows_
    update, calls = Stream.update, []

    def interrupted(self, *row, **weight):
        calls.append(row)
        if len(calls) == 3:
            raise KeyboardInterrupt
        update(self, *row, **weight)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapted.partial_fit(X[4:], y[4:])
    assert adapted.n_rows_ == n_rows
    np.testing.assert_array_equal(adapted.predict(GRID, return_std=True), before)
    whole = trained.adapt(np.r_[X[:4], X[4 - so_far :]], np.r_[y[:4], y[4 - so_far :]])
    adapted.partial_fit(X[4:], y[4:])
    np.testing.assert_allclose(
        adapted.predict(GRID, True), whole.predict(GRID, return_std=True), rtol=1e-9
    )


def test_the_first_rows_say_the_precision():
    X, y, groups = (part.astype("f4") for part in lines(9, 6))
    regressor = short().fit(X, y, groups)
    adapted = regressor.adapt()
    assert adapted.predict(X).dtype == np.float32
    adapted.partial_fit(X[:3].astype("f8"), y[:3].astype("f8"))
    assert adapted.predict(X).dtype == np.float64
    assert adapted.partial_fit(X[:3], y[:3]).predict(X).dtype == np.float64
    assert regressor.adapt(X, y).partial_fit(X, y.astype("f8")).predict(X).dtype == np.float32


def test_other_parameters_than_those_of_the_fit_are_named():
    X, y, groups = lines(10, 6, n_outputs=2)
    for options in ({"prior": "shared"}, {"noise": "shared"}):
        regressor = short().fit(X, y, groups).set_params(**options)
        (word,) = options.items()
        for use in (
            lambda: regressor.predict(X, groups),  # noqa: B023
            lambda: regressor.adapt(X, y),  # noqa: B023
            lambda: regressor.score(X, y, groups),  # noqa: B023
        ):
            with pytest.raises(ValueError, match="this model is fitted with") as error:
                use()
            assert f"{word[0]}={word[1]!r}" in str(error.value)
            assert str(error.value).endswith("; accepted are those of the last fit")


def test_a_posterior_that_is_not_finite_is_said_when_it_is_used(tmp_path):
    X, y, groups = lines(10, 6)
    regressor = short(activation="identity").fit(X, y, groups)
    with pytest.warns(fm.DivergenceWarning, match="is not finite"):
        adapted = regressor.adapt([[1e300], [1.0]], [1.0, 1.0])
    text = "the posterior given the rows of fit is not finite"
    with pytest.raises(FloatingPointError, match=f"{text}, so there is nothing to predict with; r"):
        adapted.predict(X)
    with pytest.raises(FloatingPointError, match=f"{text}; accepted to save is one that is"):
        fm.save(tmp_path / "m.npz", adapted)
