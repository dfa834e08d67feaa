"""`fm.Features`, held against a linear model of the features, and against one formula."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import sympy
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from test_checks import error
from test_sum import agree, tasks

import fastmaml as fm
from fastmaml.learn import Adam, train


def waves(x):
    return np.hstack([np.sin(x), np.cos(2 * x), x**2])


def root(x):
    return np.sqrt(x)


MODEL = fm.Features(waves, 3, n_outputs=2)
LINEAR = fm.Linear(3, n_outputs=2)
A, K, V, W, B, T = sympy.symbols("a k v w b t")
DECAY = fm.Formula(A * sympy.exp(-K * T), parameters=[A, K], inputs=[T])


def mapped(sides):
    """The same tasks, with the features in the place of x."""
    return [
        side if i % 2 else [waves(rows).astype(rows.dtype) for rows in side]
        for i, side in enumerate(sides)
    ]


def same(found, want):
    for one, other in zip(found, want, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["dense", "explicit", "factored"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_it_is_a_linear_model_of_the_features_to_the_bit(steps, method, dtype):
    theta, data = LINEAR.init(0, dtype), tasks(1, 2, dtype)
    options = {"inner_lr": 0.003, "steps": steps, "method": method}
    maml, linear = fm.MAML(MODEL, **options), fm.MAML(LINEAR, **options)
    same(maml.evaluate(theta, *data), linear.evaluate(theta, *mapped(data)))
    same(maml.evaluate(theta, *data[:2]), linear.evaluate(theta, *mapped(data[:2])))
    x, y, x_new, _ = data
    same(maml.adapt(theta, x, y), linear.adapt(theta, *mapped([x, y])))
    same(maml.predict(theta, x, y, x_new), linear.predict(theta, *mapped([x, y, x_new])))
    shared = maml.predict(theta, x, y, x_new[0])
    same(shared, linear.predict(theta, *mapped([x, y]), waves(x_new[0]).astype(dtype)))
    same(
        [maml.value(theta, x[1], y[1]), *maml.adapt(theta, x[1], y[1])],
        [linear.value(theta, waves(x[1]), y[1]), *linear.adapt(theta, *mapped([x, y]))[1]],
    )


def test_predictions_of_any_form():
    theta, (x, *_) = LINEAR.init(0), tasks(1, 2)
    same(MODEL.predict(theta, x), LINEAR.predict(theta, mapped([x])[0]))
    many = np.stack([theta, 2 * theta])
    for parameters in (theta, many):
        same(MODEL.predict(parameters, x[1]), LINEAR.predict(parameters, waves(x[1])))
    batch = np.stack([x[1][:5], x[2][:5]])
    phi = waves(batch.reshape(-1, 1)).reshape(2, 5, 3)
    same(MODEL.predict(many, batch), LINEAR.predict(many, phi))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bayesian_regression_on_features(dtype):
    """Batches, tasks without rows, and rows as they come."""
    head, linear = fm.BayesianLastLayer(MODEL), fm.BayesianLastLayer(LINEAR)
    assert (head.n_params, head.n_features) == (linear.n_params, 4)
    theta, data = head.init(0, dtype), tasks(1, 2, dtype)
    same(head.evaluate(theta, *data), linear.evaluate(theta, *mapped(data)))
    x, y, x_new, _ = data
    same(head.adapt(theta, x, y), linear.adapt(theta, *mapped([x, y])))
    for rows, targets in ((x, y), ([x[0][:0], *x[1:]], [y[0][:0], *y[1:]])):
        found = head.predict(theta, rows, targets, x_new, return_std=True)
        want = linear.predict(theta, *mapped([rows, targets, x_new]), return_std=True)
        for one, other in zip(found, want, strict=True):
            same(one, other)
    stream, other = head.start(theta), linear.start(theta)
    for x_row, y_row in zip(x[1], y[1], strict=True):
        stream.update(x_row, y_row)
        other.update(waves(x_row[None]).astype(dtype)[0], y_row)
    same(stream.posterior, other.posterior)
    found = stream.predict(x_new[0][0], return_std=True)
    same(found, other.predict(waves(x_new[0][:1]).astype(dtype)[0], return_std=True))
    same(pickle.loads(pickle.dumps(stream)).predict(x_new[0][0], return_std=True), found)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["dense", "explicit"])
def test_a_sum_with_a_formula_and_a_network(method, dtype):
    """Each part sees its own columns: x, or its features."""
    features = V * sympy.sin(T) + W * sympy.cos(2 * T) + sympy.Symbol("u") * T**2 + B
    formula = fm.Formula(features, parameters=[V, W, "u", B], inputs=[T])
    square = fm.Formula(A * sympy.sqrt(T), parameters=[A], inputs=[T])
    network = fm.MLP([1, 3, 1])
    parts = fm.Features(waves, 3), DECAY, fm.Features(root, 1, intercept=False), network
    model, whole = fm.Sum(*parts), fm.Sum(formula, DECAY, square, network)
    theta, data = model.init(0, dtype=dtype, formula=[1.0, 0.5]), tasks(1, 1, dtype)
    found = fm.MAML(model, 0.003, 3, method=method).evaluate(theta, *data)
    want = fm.MAML(whole, 0.003, 3, method=method).evaluate(theta, *data)
    agree(found[:3], want[:3], dtype)
    agree(model.predict(theta, data[0]), whole.predict(theta, data[0]), dtype)
    nested = fm.Sum(fm.Sum(*parts[:2]), fm.Sum(*parts[2:]))
    again = fm.MAML(nested, 0.003, 3, method=method).evaluate(theta, *data)
    agree(again[:3], want[:3], dtype)


@pytest.mark.parametrize("method", ["dense", "explicit"])
def test_scaled_and_frozen(method):
    """Inputs are scaled before the transform, and the mask is that of a linear model."""
    model = fm.Scaled(MODEL, x_mean=-1.0, x_scale=2.0, y_mean=3.0, y_scale=[2.0, 0.5])
    outer = fm.Frozen(model, np.arange(8) % 3 == 0)
    linear = fm.Frozen(fm.Scaled(LINEAR, y_mean=3.0, y_scale=[2.0, 0.5]), outer.mask)
    theta, data = LINEAR.init(1), tasks(1, 2)
    shifted = mapped([side if i % 2 else [(rows + 1) / 2 for rows in side]
                      for i, side in enumerate(data)])  # fmt: skip
    options = {"inner_lr": 0.002, "steps": 3, "method": method}
    found, want = (
        fm.MAML(each, **options).evaluate(theta, *rows)
        for each, rows in ((outer, data), (linear, shifted))
    )
    same(found, want)
    assert outer == fm.Frozen(fm.Scaled(MODEL, -1.0, 2.0, 3.0, [2.0, 0.5]), outer.mask)


def test_the_transform_is_called_once_for_the_rows_of_all_tasks():
    calls = []

    def counted(x):
        calls.append(x.shape)
        return waves(x)

    model, (x, y, x_query, y_query) = fm.Features(counted, 3), tasks(1, 1)
    theta, maml = model.init(0), fm.MAML(model, 0.01, 3)
    maml.value_and_gradient(theta, x, y, x_query, y_query)
    assert calls == [(94, 1), (74, 1)]
    calls.clear()
    maml.value_and_gradient(theta, x, y)
    assert calls == [(94, 1)]
    calls.clear()
    maml.predict(theta, x, y, x_query[1])
    assert calls == [(94, 1), (2, 1)]
    calls.clear()
    fm.Sum(model, fm.Frozen(model, [True, False, True, False])).predict(np.tile(theta, 2), x)
    assert calls == [(94, 1)]
    calls.clear()
    head = fm.BayesianLastLayer(model)
    head.adapt(head.init(0), x[0][:0], y[0][:0])
    head.start(head.init(0))
    assert calls == []


def test_a_transform_may_write_to_its_rows_and_return_the_same_memory_again():
    memory = np.empty((200, 3))

    def reuses(x):
        out = memory[: len(x)]
        out[...] = waves(x)
        x[...] = np.nan
        return out

    model, data = fm.Features(reuses, 3), tasks(1, 1)
    theta = model.init(0)
    found = fm.MAML(model, 0.01, 2).evaluate(theta, *data)
    same(found, fm.MAML(fm.Features(waves, 3), 0.01, 2).evaluate(theta, *data))
    same(data[0], tasks(1, 1)[0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_transformers_of_scikit_learn(dtype):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 2))
    fitted = make_pipeline(
        StandardScaler(), RBFSampler(n_components=20, random_state=0), PolynomialFeatures(1)
    ).fit(rows)
    model = fm.Features(fitted, 21, intercept=False)
    assert model.n_inputs == 2
    assert repr(model).startswith("Features(Pipeline(steps=[(")
    assert repr(model).endswith(", 21, n_inputs=2, intercept=False)")
    theta, (x, y, x_query, y_query) = model.init(0, dtype), tasks(2, 1, dtype)
    found = fm.MAML(model, 0.01, 2).evaluate(theta, x, y, x_query, y_query)
    phi = [[fitted.transform(task).astype(dtype) for task in side] for side in (x, x_query)]
    linear = fm.MAML(fm.Linear(21, intercept=False), 0.01, 2)
    want = linear.evaluate(theta, phi[0], y, phi[1], y_query)
    agree(found[:3], want[:3], dtype)
    assert found.gradient.dtype == dtype


def test_it_learns_and_is_right():
    model = fm.Sum(fm.Features(waves, 3), fm.MLP([1, 4, 1]))
    data = [np.stack([rows[:2]] * 3) for rows in (tasks(1, 1)[0][1], tasks(1, 1)[1][1])]
    maml, theta = fm.MAML(model, 0.01, 2), model.init(0)
    assert fm.check_model(model).ok
    assert fm.check_gradient(maml, theta, *data).ok
    head = fm.BayesianLastLayer(fm.Features(waves, 3))
    assert fm.check_gradient(head, head.init(0), *data).ok
    learned = train(maml, theta, lambda: data, Adam(0.01), 20).theta
    assert maml.value(learned, *data) < maml.value(theta, *data)
    jacobian = fm.equations.jacobian(fm.Features(waves, 3), np.ones(4), data[0])
    np.testing.assert_allclose(jacobian[..., 0, :3], waves(data[0][0])[None].repeat(3, 0))
    found = fm.equations.meta_gradient(model, theta, *data, inner_lr=0.01)
    np.testing.assert_allclose(found, fm.MAML(model, 0.01).gradient(theta, *data), rtol=1e-10)


class Degree:
    """A transformer of nobody's, which compares as an array does."""

    __hash__ = None

    def __init__(self, degree):
        self.degree = degree

    def __eq__(self, other):
        return np.array([True, False])

    def __repr__(self):
        return f"Degree({self.degree})"

    def transform(self, x):
        return x ** np.arange(1, self.degree + 1)


def test_it_is_what_it_is_made_of():
    again = fm.Features(waves, 3, n_outputs=2, n_inputs=1)
    assert again == MODEL
    assert hash(again) == hash(MODEL)
    assert MODEL not in (fm.Features(root, 3, 2), fm.Features(waves, 3), fm.Linear(3, 2))
    assert pickle.loads(pickle.dumps(MODEL)) == MODEL
    degree = Degree(3)
    for given in (degree, degree.transform):
        model = fm.Features(given, 3)
        assert model == fm.Features(given, 3)
        assert model != fm.Features(Degree(3), 3)
        same(model.predict([1.0, 1.0, 1.0, 0.0], [[2.0]]), [[14.0]])
        other = pickle.loads(pickle.dumps(fm.MAML(model, 0.01)))
        same(other.gradient(np.ones(4), [[[2.0]]], [[1.0]]),
             fm.MAML(model, 0.01).gradient(np.ones(4), [[[2.0]]], [[1.0]]))  # fmt: skip
    assert fm.Features(degree.transform, 3) == fm.Features(degree.transform, 3)
    assert repr(fm.Features(degree, 3)) == "Features(Degree(3), 3)"
    assert repr(MODEL) == "Features(waves, 3, n_outputs=2)"
    assert copy.copy(MODEL) == MODEL
    assert MODEL.transform is waves
    assert MODEL.layer_sizes == (3, 2)
    sizes = MODEL.n_inputs, MODEL.n_outputs, MODEL.n_params, MODEL.n_layers, MODEL.n_features
    assert sizes == (1, 2, 8, 1, 3)
    theta = MODEL.init(3, "float32", scheme="he_normal")
    same([theta], [LINEAR.init(3, "float32", scheme="he_normal")])
    same([MODEL.pack(MODEL.unpack(theta))], [theta])


def test_without_check_finite_it_spreads():
    model = fm.Features(np.log, 1)
    maml = fm.MAML(model, 0.01, check_finite=False)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert not np.isfinite(maml.value([1.0, 0.0], [[[0.0]]], [[0.0]]))


def predicts(transform, n_features=2, dtype="float64", **options):
    model = fm.Features(transform, n_features, **options)
    return lambda: model.predict(model.init(0, dtype), [[1.0], [2.0], [3.0]])


def fails(x):
    raise KeyError("no such row")


def overflows(x):
    return np.hstack([x, 1e39 * x.astype(float)])


def holds_nan(x):
    return np.where(x == 2.0, np.nan, x) * [1, 1]


HOT = OneHotEncoder().fit([[1.0], [2.0], [3.0]])
DATA = [[[1.0], [2.0]]], [[1.0, 1.0]]
ERRORS = {
    "no callable": (lambda: fm.Features(3, 3), TypeError,
                    "transform is 3; accepted are callables of rows, and transformers, with a"),
    "class": (lambda: fm.Features(StandardScaler, 1), TypeError, "transform is <class 'sklearn"),
    "n_features": (lambda: fm.Features(waves, 0), ValueError, "n_features is 0; accepted are int"),
    "n_outputs": (lambda: fm.Features(waves, 1, 0), ValueError, "n_outputs is 0; accepted are"),
    "n_inputs": (lambda: fm.Features(waves, 1, n_inputs=1.5), TypeError, "n_inputs is 1.5; acce"),
    "intercept": (lambda: fm.Features(waves, 1, intercept=1), TypeError, "intercept is 1; acce"),
    "not fitted": (lambda: fm.Features(StandardScaler(), 1), ValueError,
                   "n_inputs is None, and transform StandardScaler() has no n_features_in_, as it"),
    "fitted with others": (lambda: fm.Features(HOT, 3, n_inputs=2), ValueError,
                           "n_inputs is 2, transform was fitted with 1 columns"),
    "not fitted, later": (predicts(StandardScaler(), 1, n_inputs=1), ValueError,
                          "transform StandardScaler() raised NotFittedError for rows of shape "
                          "(3, 1): This StandardScaler instance is not fitted yet"),
    "raises": (predicts(fails), ValueError,
               "transform fails raised KeyError for rows of shape (3, 1): 'no such row'"),
    "sparse": (predicts(HOT, 3), TypeError, "transform OneHotEncoder() returned a sparse csr_"),
    "none": (predicts(lambda x: None), TypeError, "what transform <lambda> returned is None; ac"),
    "complex": (predicts(lambda x: 1j * x), TypeError, "returned has dtype complex128; accepted"),
    "width": (predicts(waves), ValueError, "transform waves returned shape (3, 3) for rows of "
              "shape (3, 1); accepted is (3, 2), n_features numbers a row"),
    "rows": (predicts(lambda x: x[:1]), ValueError, "returned shape (1, 1) for rows of shape"),
    "flat": (predicts(np.ravel, 1), ValueError, "transform ravel returned shape (3,) for rows"),
    "nan": (predicts(holds_nan), ValueError, "transform(x) holds nan at row 1, feature 0; accep"),
    "float32": (predicts(overflows, dtype="float32"), ValueError,
                "transform(x) holds inf at row 0, feature 1; accepted are finite float32 numbers"),
    "task": (lambda: NAN.value(np.ones(3), *DATA, *DATA), ValueError,
             "transform(x) holds nan in task 0, row 1; accepted are finite float64 numbers"),
    "query": (lambda: NAN.value(np.ones(3), [[[1.0]]], [[1.0]], *DATA), ValueError,
              "transform(x_query) holds nan in task 0, row 1; accepted"),
    "row": (lambda: HEAD.start(HEAD.init(0)).update([2.0], 1.0), ValueError,
            "transform(x_row) holds nan at feature 0; accepted"),
    "columns": (lambda: fm.MAML(MODEL).value(MODEL.init(0), [[[1.0, 2.0]]], [[[1.0, 1.0]]]),
                ValueError, "has 2 features, the model takes 1 (Features(waves, 3, n_outputs=2))"),
    "save": (lambda: fm.save("x.npz", fm.MAML(MODEL), MODEL.init(0)), TypeError,
             "objective.model is Features(waves, 3, n_outputs=2), a Features, which cannot be sa"),
    "export": (lambda: fm.export.to_c(fm.MAML(MODEL), MODEL.init(0), path="x.c"), TypeError,
               "objective has the model Features(waves, 3, n_outputs=2), a Features; accepted are"),
}  # fmt: skip
NAN = fm.MAML(fm.Features(holds_nan, 2))
HEAD = fm.BayesianLastLayer(fm.Features(holds_nan, 2))


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    error(*ERRORS[case])
