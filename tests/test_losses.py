"""Losses beside the squared errors: their mathematics in every method, and what they accept."""

import copy
import pickle
import re
from itertools import product

import mpmath
import numba
import numpy as np
import pytest
import reference
import sympy
from cases import DTYPES, METHODS, OTHER_LOSSES, draw, draw_for, relative_error
from same import bits
from test_checks import error

import fastmaml as fm
from fastmaml import learn
from fastmaml.losses import LOSSES

TOLERANCE = {"float64": 1e-11, "float32": 2e-4}


@numba.njit
def cauchy(f, y):
    return np.log(1 + (f - y) ** 2)


@numba.njit
def cauchy_slope(f, y):
    return 2 * (f - y) / (1 + (f - y) ** 2)


@numba.njit
def cauchy_curvature(f, y):
    return 2 * (1 - (f - y) ** 2) / (1 + (f - y) ** 2) ** 2


OWN = fm.Loss(cauchy, cauchy_slope, cauchy_curvature)
KINDS = {**{word: word for word in OTHER_LOSSES}, "own": OWN}
OUTPUTS = {**OTHER_LOSSES, "own": (1, 2)}


def hold(case, method, dtype):
    """Hold all that a method computes against the reference."""
    maml, theta = case.maml(method), case.theta.astype(dtype)
    got = maml.evaluate(theta, *case.data)
    for name, one, other in zip(got._fields, got, case.expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE[dtype], name
    x, y, _, _ = case.data
    assert relative_error(maml.adapt(theta, x, y), case.adapted) <= TOLERANCE[dtype]
    predicted = maml.predict(theta, x, y, case.x_new)
    assert relative_error(predicted, case.predicted) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_in_every_method(name, steps, method, dtype):
    seed = 20_000 + 10 * list(KINDS).index(name) + steps
    n_outputs = OUTPUTS[name][steps % 2]
    fixed = {"loss": KINDS[name], "n_outputs": n_outputs, "steps": steps}
    hold(draw_for(method, seed, **fixed), method, dtype)


PAIRS = {
    "huber, then mse": (fm.Huber(delta=0.4), "mse"),
    "mse, then huber": ("mse", fm.Huber(delta=0.7, mean=False)),
    "half_sse, then gaussian_nll": ("half_sse", fm.GaussianNLL(mean=False)),
    "gaussian_nll, then log_cosh": ("gaussian_nll", fm.LogCosh(mean=False)),
    "softmax, then logistic": ("softmax", "logistic"),
    "logistic, then softmax": (fm.Logistic(mean=False), fm.Softmax(mean=False)),
    "poisson, then pseudo_huber": ("poisson", fm.PseudoHuber(delta=2.0)),
    "quantiles": (fm.Quantile(0.9, 0.3), fm.Quantile(q=0.2, smoothing=0.2, mean=False)),
    "own, then half_mse": (OWN, "half_mse"),
    "half_mse, then own": ("half_mse", fm.Loss(*list(vars(OWN).values())[:3], mean=False)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pair", PAIRS)
def test_another_loss_of_the_query_rows(pair, method, dtype):
    loss, query_loss = PAIRS[pair]
    seed = 21_000 + list(PAIRS).index(pair)
    fixed = {"loss": loss, "query_loss": query_loss, "weighted": True, "steps": 2}
    fixed |= {"n_outputs": 2, "support": "ragged", "query": "ragged", "n_tasks": 3}
    hold(draw_for(method, seed, **fixed), method, dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", KINDS)
def test_weights_of_rows_in_every_kind(name, method):
    """A row of weight 2 is two rows, and one of weight 0 is none."""
    model, rng = fm.MLP([2, 5, 2], "tanh"), np.random.default_rng(0)
    theta, x = model.init(0), rng.normal(size=(3, 6, 2))
    width = {"softmax": 1, "gaussian_nll": 1}.get(name, 2)
    y = rng.integers(0, 2, (3, 6, width)).astype(float)
    weights = rng.integers(0, 3, (3, 6))
    weights[:, 0] = 1
    maml = fm.MAML(model, 0.1, 2, loss=KINDS[name], method=method, step_weights=[0.3, 0, 0.7])
    several = [
        [np.repeat(rows, times, axis=0) for rows, times in zip(part, weights, strict=True)]
        for part in (x, y)
    ]
    got = maml.evaluate(theta, x, y, sample_weight=weights)
    want = maml.evaluate(theta, *several)
    for one, other in zip(got, want, strict=True):
        assert relative_error(one, other) <= 1e-12
    query = maml.evaluate(theta, x, y, x, y, sample_weight_query=weights)
    want = maml.evaluate(theta, x, y, *several)
    for one, other in zip(query, want, strict=True):
        assert relative_error(one, other) <= 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", KINDS)
def test_a_row_of_weight_zero_is_missing_whatever_it_holds(name, method, dtype):
    """Its outputs and its loss overflow, and it is the first, the last, or all of a task."""
    model, rng = fm.MLP([2, 5, 2], "softplus"), np.random.default_rng(0)
    theta, x = model.init(0, dtype), rng.normal(size=(4, 6, 2)).astype(dtype)
    width = {"softmax": 1, "gaussian_nll": 1}.get(name, 2)
    y, weights = rng.integers(0, 2, (4, 6, width)).astype(dtype), np.ones((4, 6))
    weights[0, 0] = weights[1, -1] = weights[2, 1:5] = 0
    x[weights == 0] = np.finfo(dtype).max * np.array([1, -1])
    if name not in ("softmax", "logistic"):
        y[weights == 0] = np.finfo(dtype).max
    for mean in (True, False):
        if not mean:  # under a sum, a task may have no weight at all
            weights[3], x[3], y[3] = 0, np.finfo(dtype).max, y.max()
        loss = KINDS[name]
        if isinstance(loss, str):
            loss = {"huber": fm.Huber, "pseudo_huber": fm.PseudoHuber, "log_cosh": fm.LogCosh,
                    "quantile": fm.Quantile, "gaussian_nll": fm.GaussianNLL,
                    "logistic": fm.Logistic, "softmax": fm.Softmax,
                    "poisson": fm.Poisson}[loss](mean=mean)  # fmt: skip
        elif not mean:
            loss = fm.Loss(cauchy, cauchy_slope, cauchy_curvature, mean=False)
        maml = fm.MAML(model, 0.1, 2, loss=loss, method=method)
        n = 4 if mean else 3
        kept = [[rows[w > 0] for rows, w in zip(part, weights, strict=True)][:n] for part in (x, y)]
        want = maml.evaluate(theta, *kept)
        for sides in ({"sample_weight": weights}, {"sample_weight_query": weights}):
            if "sample_weight_query" in sides:
                tame = np.nan_to_num(np.where(weights[..., None] > 0, x, 1)), y * (y <= 1)
                got = maml.evaluate(theta, *tame, x, y, **sides)
                want = maml.evaluate(theta, *(part[:n] for part in tame), *kept)
            else:
                got = maml.evaluate(theta, x, y, **sides)
            np.testing.assert_array_equal(got.task_values[n:], 0)
            got = got._replace(task_values=got.task_values[:n])
            for one, other in zip(got, want, strict=True):
                assert np.isfinite(one).all()
                assert relative_error(one, other) <= TOLERANCE[dtype]


def test_weights_serve_for_both_losses_without_a_query_set():
    model, rng = fm.MLP([1, 3, 2]), np.random.default_rng(0)
    theta, x = model.init(0), rng.normal(size=(3, 6, 1))
    y, weights = rng.integers(0, 2, (3, 6, 2)), rng.uniform(0.5, 2, (3, 6))
    maml = fm.MAML(model, loss="half_sse", query_loss="logistic")
    want = maml.gradient(theta, x, y, x, y, sample_weight=weights, sample_weight_query=weights)
    np.testing.assert_array_equal(maml.gradient(theta, x, y, sample_weight=weights), want)
    error(
        lambda: maml.gradient(theta, x, y, sample_weight=weights, sample_weight_query=weights),
        ValueError,
        "sample_weight_query is given, x_query is not",
    )


@pytest.mark.parametrize("seed", range(18))
def test_momentum_and_first_order(seed):
    names = list(KINDS)
    name = names[seed % len(names)]
    fixed = {"loss": KINDS[name], "n_outputs": OUTPUTS[name][1], "steps": 1 + seed % 3}
    fixed |= {"inner_momentum": 0.5, "order": ("exact", "first")[seed // 9]}
    case = draw(22_000 + seed, **fixed)
    for method in ("dense", "explicit"):
        hold(case, method, "float64")


@pytest.mark.parametrize("name", KINDS)
def test_the_equations(name):
    n_outputs = OUTPUTS[name][1]
    case = draw(23_000, loss=KINDS[name], n_outputs=n_outputs, steps=1, order="exact")
    theta, (x, y, x_query, y_query) = case.theta, case.per_task
    v, options = np.linspace(-1, 1, len(theta)), {"loss": KINDS[name]}
    for of in ("task_loss", "task_gradient", "task_hessian"):
        got = getattr(fm.equations, of)(case.model, theta, x, y, **options)
        of_task = getattr(reference, of)
        want = [of_task(case.model, theta, *task, KINDS[name]) for task in zip(x, y, strict=True)]
        assert relative_error(got, want) <= 1e-11, of
    got = fm.equations.task_hessp(case.model, theta, v, x, y, **options)
    assert relative_error(got, np.array(want) @ v) <= 1e-11
    data = (x, y, x_query, y_query)
    got = fm.equations.meta_gradient(case.model, theta, *data, inner_lr=0.02, **options)
    want = fm.meta_gradient(case.model, theta, *data, inner_lr=0.02, **options)
    assert relative_error(got, want) <= 1e-11


def test_the_equations_with_two_losses():
    case = draw(23_100, loss="logistic", query_loss="softmax", n_outputs=2, steps=1)
    losses = {"loss": "logistic", "query_loss": "softmax", "inner_lr": 0.1}
    got = fm.equations.meta_gradient(case.model, case.theta, *case.per_task, **losses)
    want = fm.meta_gradient(case.model, case.theta, *case.per_task, **losses)
    assert relative_error(got, want) <= 1e-11


# Numbers -----------------------------------------------------------------------------------------


def exactly(loss, f, y):
    """l, slope and curvature of one output, with as many digits as it takes."""
    with mpmath.workdps(1000):
        f, y = mpmath.mpf(f), mpmath.mpf(y)
        of = {
            "pseudo_huber": lambda f: mpmath.sqrt(1 + (f - y) ** 2) - 1,
            "log_cosh": lambda f: mpmath.log(mpmath.cosh(f - y)),
            "quantile": lambda f: (y - f) / 2 + mpmath.log(1 + mpmath.exp(10 * (f - y))) / 10,
            "logistic": lambda f: mpmath.log(1 + mpmath.exp(f)) - y * f,
            "poisson": lambda f: mpmath.exp(f) - y * f,
        }[loss]
        h = mpmath.mpf(10) ** -300
        ends = [of(f + k * h) for k in (-1, 0, 1)]
        bend = (ends[0] - 2 * ends[1] + ends[2]) / h**2
        return [float(each) for each in (ends[1], (ends[2] - ends[0]) / (2 * h), bend)]


@pytest.mark.parametrize("f", [-700.0, -40.0, -3.0, -1e-4, 0.0, 1e-4, 0.3, 3.0, 40.0, 300.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
@pytest.mark.parametrize("loss", ["pseudo_huber", "log_cosh", "quantile", "logistic", "poisson"])
def test_no_digit_is_lost(loss, y, f):
    model, data = fm.Linear(1, intercept=False), ([f], [[1.0]], [y])
    with np.errstate(all="ignore"):  # of plain Python, where exp of -1400 is 0
        got = [
            float(np.ravel(of(model, *data, loss=loss))[0])
            for of in (
                fm.equations.task_loss,
                fm.equations.task_gradient,
                fm.equations.task_hessian,
            )
        ]
    for one, other in zip(got, exactly(loss, f, y), strict=True):
        assert one == pytest.approx(other, rel=1e-13, abs=2e-16), (got, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_outputs(dtype):
    model, x = fm.Linear(1, 3, intercept=False), np.ones((1, 1), dtype)
    theta = np.array([1e5, -1e5, 0.0], dtype)
    of = fm.equations
    for label, value, slope in ((0, 0.0, [0, 0, 0]), (1, 2e5, [1, -1, 0]), (2, 1e5, [1, 0, -1])):
        y = np.array([[label]], dtype)
        assert of.task_loss(model, theta, x, y, loss="softmax") == value
        np.testing.assert_array_equal(of.task_gradient(model, theta, x, y, loss="softmax"), slope)
        assert np.isfinite(of.task_hessian(model, theta, x, y, loss="softmax")).all()
    one = fm.Linear(1, intercept=False)
    for loss, wanted in (
        ("huber", 1e5 - 0.5), ("pseudo_huber", 1e5 - 1), ("log_cosh", 1e5 - np.log(2)),
        ("quantile", 5e4), (fm.Quantile(0.5, smoothing=1e-304), 5e4), ("logistic", 1e5),
    ):  # fmt: skip
        got = of.task_loss(one, theta[:1], x, np.zeros((1, 1), dtype), loss=loss)
        assert got == pytest.approx(wanted, rel=1e-6)
        y = np.zeros((1, 1), dtype)
        assert abs(of.task_gradient(one, theta[:1], x, y, loss=loss)) == pytest.approx(
            0.5 if wanted == 5e4 else 1.0, rel=1e-6
        )
    two, far = fm.Linear(1, 2, intercept=False), np.array([0.0, 500.0], dtype)
    got = of.task_loss(two, far, x, np.zeros((1, 1), dtype), loss="gaussian_nll")
    assert got == pytest.approx(250 + np.log(2 * np.pi) / 2, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KINDS)
def test_an_output_without_a_value_has_no_slope(name, dtype):
    """As the logarithm of a negative number, whose own slope is a number."""
    a, b, x = sympy.symbols("a b x")
    model = fm.Formula([sympy.log(a) * x, b * x], parameters=[a, b], inputs=[x])
    rows, y = np.ones((2, 3, 1)), np.ones((2, 3, {"softmax": 1, "gaussian_nll": 1}.get(name, 2)))
    with np.errstate(all="ignore"):  # of plain Python
        theta = np.array([-1.0, 0.5], dtype)
        gradient = fm.equations.task_gradient(model, theta, rows, y, loss=KINDS[name])
        assert np.isnan(gradient[:, 0]).all()
        coupled = name in ("gaussian_nll", "softmax", "own")
        for method in ("dense", "explicit") if coupled else ("dense", "explicit", "lanes"):
            maml = fm.MAML(model, steps=0, loss=KINDS[name], method=method)
            assert np.isnan(maml.gradient(theta, rows, y)[0]), method
        with pytest.warns(fm.DivergenceWarning, match="task 0 diverged in inner step 1"):
            fm.MAML(model, loss=KINDS[name]).adapt(theta, rows, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KINDS)
def test_a_row_has_the_same_bits_wherever_it_stands(name, dtype):
    """Vectors take several rows at once, of which the last has too few. Each row has parameters
    of its own here, and is the input 1 of these."""
    n, rng = 19, np.random.default_rng(0)
    model, x = fm.Linear(n, 2, intercept=False), np.eye(n)
    theta, weights = rng.normal(size=2 * n).astype(dtype), rng.uniform(0.5, 2, n)
    y = rng.integers(0, 2, (n, {"softmax": 1, "gaussian_nll": 1}.get(name, 2)))
    loss = fm.Loss(cauchy, cauchy_slope, cauchy_curvature, mean=False)
    if name != "own":
        loss = getattr(fm, LOSSES[name])(mean=False)
    maml = fm.MAML(model, 0.1, 1, loss=loss, method="dense")
    want = maml.gradient(theta, x, y, sample_weight=weights).reshape(2, n)
    for rows in (np.roll(range(n), 1), np.roll(range(n), 5), range(3), [7], range(10, 19)):
        rows = list(rows)
        got = maml.gradient(theta, x[rows], y[rows], sample_weight=weights[rows]).reshape(2, n)
        np.testing.assert_array_equal(got[:, rows], want[:, rows])


def test_means_and_sums():
    """As in PyTorch, a mean is over rows and targets, but of classes over rows."""
    model, rng = fm.Linear(2, 4), np.random.default_rng(0)
    theta, x = model.init(0), rng.normal(size=(1, 6, 2))
    for kind, width in (
        (fm.Huber, 4), (fm.PseudoHuber, 4), (fm.LogCosh, 4), (fm.Quantile, 4), (fm.Logistic, 4),
        (fm.Poisson, 4), (fm.GaussianNLL, 2), (fm.Softmax, 1),
    ):  # fmt: skip
        y = rng.integers(0, 2, (1, 6, width))
        total, mean = (
            fm.equations.task_loss(model, theta, x, y, loss=kind(mean=mean))
            for mean in (False, True)
        )
        np.testing.assert_allclose(total, 6 * width * mean, rtol=1e-13)


def test_smoothing_to_the_check_function():
    r = np.linspace(-2, 2, 9)
    data = fm.Linear(1, intercept=False), [1.0], r[:, None, None], np.zeros((9, 1, 1))
    got = fm.equations.task_loss(*data, loss=fm.Quantile(0.8, 1e-6))
    np.testing.assert_allclose(got, np.maximum(-0.8 * r, 0.2 * r), atol=1e-6)


def test_one_hot_rows_are_labels():
    model, rng = fm.MLP([2, 5, 3], "tanh"), np.random.default_rng(0)
    theta, x = model.init(0), [rng.normal(size=(n, 2)) for n in (4, 2)]
    labels = [rng.integers(0, 3, n) for n in (4, 2)]
    maml = fm.MAML(model, loss="softmax", steps=2)
    want = maml.gradient(theta, x, labels)
    for form in (lambda y: y[:, None], lambda y: np.eye(3)[y], lambda y: np.eye(3, dtype=bool)[y]):
        given = [form(y) for y in labels]
        np.testing.assert_array_equal(maml.gradient(theta, x, given), want)
        one = maml.gradient(theta, x[0], given[0])
        np.testing.assert_array_equal(one, maml.gradient(theta, x[0], labels[0]))
        whole = np.array([given[1]] * 3)
        np.testing.assert_array_equal(
            maml.gradient(theta, np.array([x[1]] * 3), whole),
            maml.gradient(theta, np.array([x[1]] * 3), [labels[1]] * 3),
        )
    assert maml.predict(theta, x, labels, x[0]).shape == (2, 4, 3)  # of the outputs, always
    assert maml.predict(theta, x[0], labels[0], x[0]).shape == (4, 3)


# What users give ---------------------------------------------------------------------------------


def test_words_are_default_objects():
    classes = (
        fm.Huber, fm.PseudoHuber, fm.LogCosh, fm.Quantile, fm.GaussianNLL, fm.Logistic, fm.Softmax,
        fm.Poisson,
    )  # fmt: skip
    for word, kind in zip(OTHER_LOSSES, classes, strict=True):
        case = draw(24_000, loss=word, n_outputs=2)
        other = fm.MAML(case.model, **{**case.options, "loss": kind()})
        want = case.maml().gradient(case.theta, *case.data)
        np.testing.assert_array_equal(other.gradient(case.theta, *case.data), want)
    assert repr(fm.Quantile(0.9)) == "Quantile(q=0.9, smoothing=0.1, mean=True)"
    assert fm.Huber(1) == fm.Huber(delta=np.float32(1.0))
    assert hash(fm.Huber()) == hash(fm.Huber())
    assert repr(OWN) == "Loss(cauchy, cauchy_slope, cauchy_curvature, mean=True)"


def test_objects_are_frozen():
    with pytest.raises(AttributeError):
        fm.Huber().delta = 2.0


PARAMETERS = [
    (lambda: fm.Huber(0.0), ValueError, "delta is 0.0; accepted are numbers above 0"),
    (lambda: fm.Huber("x"), TypeError, "delta is 'x'; accepted is one real number"),
    (lambda: fm.PseudoHuber(-1), ValueError, "delta is -1.0; accepted are numbers above 0"),
    (lambda: fm.Quantile(1.0), ValueError, "q is 1.0; accepted are numbers between 0 and 1"),
    (lambda: fm.Quantile(0.5, 0), ValueError, "smoothing is 0.0; accepted are numbers above 0"),
    *(
        (lambda kind=kind: kind(mean=1), TypeError, "mean is 1; accepted are True and False")
        for kind in (fm.Huber, fm.PseudoHuber, fm.LogCosh, fm.Quantile, fm.GaussianNLL,
                     fm.Logistic, fm.Softmax, fm.Poisson)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), PARAMETERS)
def test_parameters(call, kind, text):
    error(call, kind, text)


def test_a_loss_must_be_one():
    model = fm.Linear(1)
    words = "'half_sse', 'half_mse', 'sse', 'mse', 'huber'"
    error(lambda: fm.MAML(model, loss="l2"), ValueError, f"loss is 'l2'; accepted are {words}")
    error(lambda: fm.MAML(model, query_loss="l2"), ValueError, "query_loss is 'l2'; accepted")
    for wrong in (3, None, fm.Huber):
        message = f"loss is {wrong!r:.40}"
        error(lambda wrong=wrong: fm.MAML(model, loss=wrong), TypeError, message)
    accepted = "and objects such as fastmaml.Huber(delta=0.5)"
    error(lambda: fm.MAML(model, query_loss=3), TypeError, accepted)
    error(lambda: fm.equations.task_loss(model, [0, 0], [[1]], [1], loss=3), TypeError, accepted)


def test_models_that_a_loss_does_not_fit():
    one, three = fm.Linear(1), fm.MLP([1, 4, 3])
    error(
        lambda: fm.MAML(one, loss="softmax"), ValueError,
        "loss is Softmax(mean=True), which takes an output for each class; the model has 1, "
        'accepted are 2 or more (with 1 output, "logistic" tells two classes apart)',
    )  # fmt: skip
    error(
        lambda: fm.MAML(three, query_loss="gaussian_nll"), ValueError,
        "query_loss is GaussianNLL(mean=True), which takes as many log variances as means; the "
        "model has 3 outputs, accepted are even numbers",
    )  # fmt: skip
    error(lambda: fm.MAML(one, loss="gaussian_nll"), ValueError, "the model has 1 output, accepted")


X = [[[0.0], [1.0], [2.0]], [[3.0], [4.0], [5.0]]]
WRONG = [
    ("logistic", 1, [[0, 1, 1], [0, 0.5, 1]],
     "y holds 0.5 in task 1, row 1; Logistic(mean=True) accepts 0 and 1"),
    ("softmax", 3, [[0, 1, 3], [0, 1, 1]],
     "y holds 3.0 in task 0, row 2; Softmax(mean=True) accepts labels from 0 to 2, whole numbers"),
    ("softmax", 3, [[0, 1, 1], [0, -1, 1]], "y holds -1.0 in task 1, row 1; Softmax"),
    ("softmax", 3, [[0, 1, 1], [0, 0.5, 1]], "y holds 0.5 in task 1, row 1; Softmax"),
    ("softmax", 2, [[[1, 0], [0, 1], [1, 0]], [[1, 1], [0, 1], [1, 0]]],
     "y holds [1.0, 1.0] in task 1, row 0; Softmax(mean=True) accepts rows of zeros with one 1"),
    ("softmax", 2, [[[1, 0], [0, 2], [1, 0]], [[1, 0], [0, 1], [1, 0]]],
     "y holds [0.0, 2.0] in task 0, row 1; Softmax"),
    ("softmax", 3, [[[1, 0], [0, 1], [1, 0]]] * 2,
     "y[0] has 2 columns, Softmax(mean=True) takes 1, a label, or 3 with a 1 in its place (MLP"),
    ("softmax", 3, [[0, 1, 2], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]],
     "y[1] has 3 columns, Softmax(mean=True) takes 1, a label, or 3 with a 1 in its place, but not "
     "both (MLP"),
    ("poisson", 1, [[0, 1, 1], [0, -2, 1]],
     "y holds -2.0 in task 1, row 1; Poisson(mean=True) accepts numbers of at least 0"),
    ("gaussian_nll", 2, [[[1, 0], [0, 1], [1, 0]]] * 2,
     "y[0] has 2 columns, GaussianNLL(mean=True) takes 1 (MLP"),
    ("huber", 2, [[[1], [0], [1]]] * 2, "y[0] has 1 outputs, the model gives 2 (MLP"),
    ("logistic", 1, [[0, 1, np.nan], [0, 1, 1]], "y holds nan in task 0, row 2; accepted are"),
    ("softmax", 3, [[0, 1], [0, 1, 1]], "y has 2 rows in task 0, x has 3"),
    ("softmax", 3, [], "y has 0 tasks"),
    ("softmax", 3, 3, "y has shape (); accepted"),
    ("logistic", 1, {"y": 1}, "y has dtype object"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "n_outputs", "y", "text"), WRONG)
def test_targets(loss, n_outputs, y, text):
    model = fm.MLP([1, 3, n_outputs])
    maml, theta = fm.MAML(model, loss=loss), model.init(0)
    for call in (
        lambda: maml.gradient(theta, X, y),
        lambda: maml.adapt(theta, X, y),
        lambda: maml.predict(theta, X, y, X),
        lambda: fm.equations.task_hessian(model, theta, X, y, loss=loss),
    ):
        with pytest.raises((TypeError, ValueError), match=re.escape(text)):
            call()
    right = [[[1.0, 0.0]] * 3] * 2 if n_outputs == 2 else [[1.0] * 3] * 2
    if loss == "gaussian_nll":
        right = [[1.0] * 3] * 2
    query = f"y_query{text[1:]}".replace(", x has", ", x_query has")
    with pytest.raises((TypeError, ValueError), match=re.escape(query)):
        maml.gradient(theta, X, right, X, y)


def test_support_rows_that_serve_as_query_rows_fit_both_losses():
    model = fm.MLP([1, 3, 2])
    maml, theta = fm.MAML(model, loss="half_sse", query_loss="logistic"), model.init(0)
    wrong = np.full((2, 3, 2), 0.5)
    error(lambda: maml.gradient(theta, X, wrong), ValueError, "y holds 0.5 in task 0, row 0")
    right = np.round(wrong + np.array([0.1, -0.1]))
    want = maml.gradient(theta, X, right, X, right)
    np.testing.assert_array_equal(maml.gradient(theta, X, right), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_label_is_nan_where_nobody_checks(dtype):
    model = fm.MLP([1, 3, 2])
    for label in (-1.0, 2.0, 1e30, np.nan, np.inf):
        maml = fm.MAML(model, loss="softmax", check_finite=False)
        y = np.zeros((2, 3, 1), dtype)
        y[1, 2] = label
        with np.errstate(all="ignore"):  # of plain Python
            assert np.isnan(maml.value(model.init(0, dtype), X, y))
    for wrong in ([0, 0], [1, 1], [0, np.nan], [0, 2]):
        y = np.tile(np.eye(2, dtype=dtype)[0], (2, 3, 1))
        assert np.isfinite(maml.value(model.init(0, dtype), X, y))
        y[1, 2] = wrong
        with np.errstate(all="ignore"):
            assert np.isnan(maml.value(model.init(0, dtype), X, y))


def test_the_closed_form_is_of_squared_errors():
    model = fm.MLP([1, 4, 1])
    for loss in ("huber", fm.Huber(), OWN):
        error(
            lambda loss=loss: fm.BayesianLastLayer(model, loss), ValueError,
            f"loss is {loss!r:.20}",
        )  # fmt: skip
    error(
        lambda: fm.BayesianLastLayer(model, "huber"), ValueError,
        "loss is 'huber', a closed form is there for squared errors alone; accepted are 'nll', "
        "'mean_nll', 'half_sse', 'half_mse', 'sse', 'mse' (fastmaml.MAML takes the others)",
    )  # fmt: skip


# A loss of one's own -----------------------------------------------------------------------------

jit = not numba.config.DISABLE_JIT
ACCEPTED = "accepted are functions of one output and one target, compiled with numba.njit"


@pytest.mark.skipif(not jit, reason="nothing is compiled")
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda f, y: f - y, "is <function <lambda> at"),
        (3, f"is 3; {ACCEPTED}"),
        (numba.njit(lambda f: f), f"cannot be compiled for two float64 numbers; {ACCEPTED}"),
        (numba.njit(lambda f, y: f.shape), "cannot be compiled for two float64 numbers"),
        (numba.njit(lambda f, y: None), f"gives no real number; {ACCEPTED}, which gives one"),
        (numba.njit(lambda f, y: (f, y)), "gives no real number"),
        (numba.njit(lambda f, y: 1j * f), "gives no real number"),
    ],
)
def test_functions_that_are_no_loss(function, text):
    functions = {"value": cauchy, "slope": cauchy_slope, "curvature": cauchy_curvature}
    for name in functions:
        error(
            lambda name=name: fm.Loss(**{**functions, name: function}), TypeError, f"{name} {text}"
        )


@pytest.mark.skipif(not jit, reason="the exception comes through")
def test_a_function_that_raises_makes_nan():
    @numba.njit
    def careful(f, y):
        if y > 4:
            raise ValueError("y is too large")
        return f - y

    model, x, y = fm.Linear(1), [[[0.0], [1.0]]], [[[1.0], [5.0]]]
    for functions in ((careful, cauchy_slope), (cauchy, careful)):
        maml = fm.MAML(model, loss="mse", query_loss=fm.Loss(*functions, cauchy_curvature))
        assert np.isnan(maml.value([0.0, 0.0], x, y))
    maml = fm.MAML(model, loss=fm.Loss(cauchy, careful, cauchy_curvature), query_loss="mse")
    assert np.isnan(maml.value([0.0, 0.0], x, y))
    maml = fm.MAML(model, loss=fm.Loss(cauchy, cauchy_slope, careful), query_loss="mse")
    assert np.isnan(maml.gradient([0.0, 0.0], x, y)).all()


def test_integers_are_numbers_too():
    loss = fm.Loss(
        numba.njit(lambda f, y: 0.5 * (f - y) ** 2), numba.njit(lambda f, y: f - y),
        numba.njit(lambda f, y: 1), mean=False,
    )  # fmt: skip
    case = draw(25_000, loss="half_sse", n_outputs=2)
    own = fm.MAML(case.model, **{**case.options, "loss": loss})
    got = own.gradient(case.theta, *case.data)
    assert relative_error(got, case.expected.gradient) <= 1e-12


# Around it ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not jit, reason="it takes long in plain Python")
@pytest.mark.parametrize("name", KINDS)
def test_threads_and_copies_give_the_same_bits(name):
    model = fm.MLP([2, 6, 2], "tanh")
    rng, theta = np.random.default_rng(0), model.init(0)
    x, y = rng.normal(size=(400, 5, 2)), rng.integers(0, 2, (400, 5, 2))
    y = y[..., 0] if name in ("softmax", "gaussian_nll") else y
    maml = fm.MAML(model, 0.05, 2, loss=KINDS[name])
    want = maml.evaluate(theta, x, y)
    with fm.threads(1):
        assert bits(maml.evaluate(theta, x, y)) == bits(want)
    for other in (copy.deepcopy(maml), pickle.loads(pickle.dumps(maml))):
        assert bits(other.evaluate(theta, x, y)) == bits(want)
        assert repr(other) == repr(maml)
    assert fm.MAML(model, 0.05, 2, loss=KINDS[name], order="first").value(theta, x, y) == want.value


@pytest.mark.parametrize("name", KINDS)
def test_the_implicit_gradient(name):
    n_outputs = OUTPUTS[name][0]
    case = draw(26_000, loss=KINDS[name], n_outputs=n_outputs, family="linear", steps=2, n_tasks=2)
    proximal = 30.0
    options = {"steps": 300, "inner_lr": 0.02, "proximal": proximal, "cg_rtol": 1e-11}
    maml = fm.MAML(case.model, order="implicit", loss=KINDS[name], **options)
    x, y, x_query, y_query = case.per_task
    want = np.zeros_like(case.theta)
    for at, *task in zip(maml.adapt(case.theta, x, y), x, y, x_query, y_query, strict=True):
        h = reference.task_hessian(case.model, at, *task[:2], KINDS[name])
        outer = reference.task_gradient(case.model, at, *task[2:], KINDS[name])
        want += np.linalg.solve(np.eye(len(at)) + h / proximal, outer)
    got = maml.gradient(case.theta, x, y, x_query, y_query)
    assert relative_error(got, want) <= 1e-9


def test_files_and_checkpoints_hold_losses(tmp_path):
    model = fm.MLP([1, 4, 2])
    maml = fm.MAML(model, loss=fm.Huber(0.3), query_loss=fm.Quantile(0.9, mean=False))
    fm.save(tmp_path / "model.npz", maml, model.init(0))
    loaded = fm.load(tmp_path / "model.npz").objective
    assert (loaded.loss, loaded.query_loss) == (maml.loss, maml.query_loss)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5, 1)), rng.normal(size=(8, 5, 2))
    path = tmp_path / "checkpoint.npz"
    result = learn.train(maml, model.init(0), lambda: (x, y, x, y), learn.Adam(0.01), 4)
    learn.save_checkpoint(path, result.state, maml=maml)
    again = learn.load_checkpoint(path).maml
    assert (again.loss, again.query_loss) == (maml.loss, maml.query_loss)
    assert result.values[-1] < result.values[0]
    with pytest.raises(
        TypeError, match=r"objective.loss is Loss\(cauchy, .* which cannot be saved"
    ):
        fm.save(tmp_path / "own.npz", fm.MAML(model, loss=OWN), model.init(0))


def test_what_is_saved_scales_no_classes_and_counts(tmp_path):
    model, rng = fm.MLP([1, 4, 2]), np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5, 1)), rng.integers(0, 3, (3, 5))
    moving = learn.Scaling([1.0], [2.0], [1.0], [2.0])
    still = learn.Scaling([1.0], [2.0], [0.0], [1.0])
    maml, theta, path = fm.MAML(model, loss="gaussian_nll"), model.init(0), tmp_path / "a.npz"
    error(
        lambda: fm.save(path, maml, theta, scaling=moving), ValueError,
        "scaling changes y, and with the loss 'gaussian_nll' outputs are not in units of y",
    )  # fmt: skip
    fm.save(path, maml, theta, scaling=still, outputs=["count"])
    saved = fm.load(path)
    assert saved.outputs == ("count",)
    want = maml.predict(theta, (x - 1) / 2, y, (x - 1) / 2)
    np.testing.assert_array_equal(saved.predict(x, y, x), want)
    weights = {"sample_weight": rng.uniform(size=(3, 5))}
    want = maml.predict(theta, (x - 1) / 2, y, (x - 1) / 2, **weights)
    np.testing.assert_array_equal(saved.predict(x, y, x, **weights), want)


@pytest.mark.skipif(not jit, reason="it takes long in plain Python")
def test_a_training_with_classes():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 3, 2))
    labels = rng.integers(0, 3, (40, 20))
    x = centres[np.arange(40)[:, None], labels] + 0.2 * rng.normal(size=(40, 20, 2))
    data = x[:, :10], labels[:, :10], x[:, 10:], labels[:, 10:]
    maml = fm.MAML(fm.MLP([2, 16, 3], "tanh"), 0.5, 3, loss="softmax", task_mean=True)
    result = learn.train(maml, maml.model.init(0), lambda: data, learn.Adam(0.02), 60)
    f = maml.predict(result.theta, *data[:3])
    assert (f.argmax(-1) == data[3]).mean() > 0.8
    assert result.values[-1] < 0.5 < result.values[0]


def test_divergence_is_told_of_losses_that_may_be_negative():
    model, theta = fm.MLP([1, 6, 2], "tanh"), fm.MLP([1, 6, 2], "tanh").init(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5, 1)), 0.01 * rng.normal(size=(3, 5, 1))
    # a loss below 0 that falls is none, however far parameters go
    fm.MAML(model, 0.05, 200, loss="gaussian_nll").adapt(1e-3 * theta, x, y)
    diverges = pytest.warns(fm.DivergenceWarning, match=r"task 0 diverged in inner step \d")
    with diverges, np.errstate(all="ignore"):  # plain Python overflows with a warning
        fm.MAML(model, 50.0, 30, loss="gaussian_nll").adapt(theta, x, 100 * y)


@pytest.mark.parametrize(("loss", "query_loss"), [*product(["half_sse", "huber"], [None, "mse"])])
def test_meta_gradient_remembers_by_losses(loss, query_loss):
    model = fm.Linear(1)
    data = [1.0, 0.5], [[[1.0], [2.0]]], [[3.0, 1.0]]
    got = fm.meta_gradient(model, *data, inner_lr=0.1, loss=loss, query_loss=query_loss)
    want = fm.MAML(model, 0.1, loss=loss, query_loss=query_loss).gradient(*data)
    np.testing.assert_array_equal(got, want)
    of_objects = {"loss": fm.Huber(), "query_loss": query_loss}
    if loss == "huber":
        got = fm.meta_gradient(model, *data, inner_lr=0.1, **of_objects)
        np.testing.assert_array_equal(got, want)
