"""Variants of MAML against the reference and against what defines them."""

import warnings

import numpy as np
import pytest
import reference
from cases import DTYPES, FORMS, LOSSES, METHODS, MIXED, ORDERS, TOLERANCE, draw, relative_error
from scipy.optimize import minimize

import fastmaml as fm
from fastmaml.learn import SGD, Reptile, reptile_gradient, train
from fastmaml.methods import implicit
from fastmaml.methods.implicit import conjugate_gradients

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
WITH_MOMENTUM = ("dense", "explicit")

# Momentum ----------------------------------------------------------------------------------------

MOMENTUM_CASES = [
    pytest.param(
        {
            "form": form,
            "order": order,
            "steps": steps,
            "loss": LOSSES[i % 4],
            "weighted": bool(i % 2),
            "inner_momentum": (0.9, 0.5, 0.1)[i % 3],
        },
        id=f"{form}-{order}-{steps}",
    )
    for i, (form, order, steps) in enumerate(
        (form, order, steps) for form in FORMS for order in ORDERS for steps in (1, 2, 4)
    )
]


@every_dtype
@pytest.mark.parametrize("method", WITH_MOMENTUM)
@pytest.mark.parametrize("pins", MOMENTUM_CASES)
def test_momentum(pins, method, dtype):
    case = draw(7000 + 10 * pins["steps"], family="mlp", n_tasks=2, **pins)
    maml, theta = case.maml(method), case.theta.astype(dtype)
    got, want = maml.evaluate(theta, *case.data), case.expected
    for name in want._fields:
        error = relative_error(getattr(got, name), getattr(want, name))
        assert error <= TOLERANCE[dtype], name
    assert relative_error(maml.adapt(theta, *case.data[:2]), case.adapted) <= TOLERANCE[dtype]
    predicted = maml.predict(theta, *case.data[:2], case.x_new)
    assert relative_error(predicted, case.predicted) <= TOLERANCE[dtype]


def test_momentum_of_zero_leaves_every_bit():
    case = draw(7, family="mlp", form="step_layer", steps=3)
    for method in METHODS:
        options = {**case.options, "inner_momentum": 0}
        plain = {k: v for k, v in case.options.items() if k != "inner_momentum"}
        maml, same = (fm.MAML(case.model, method=method, **given) for given in (options, plain))
        pair = maml.evaluate(case.theta, *case.data), same.evaluate(case.theta, *case.data)
        for got, want in zip(*pair, strict=True):
            np.testing.assert_array_equal(got, want)


def test_momentum_on_many_tasks_is_the_sum_over_tasks():
    """More chunks than workers, so that scratch is used again."""
    case = draw(7020, family="mlp", form="scalar", steps=3, inner_momentum=0.5, task_mean=False)
    copies = 40
    many = [part if part is None else [*part] * copies for part in case.data]
    for method in WITH_MOMENTUM:
        got = case.maml(method).evaluate(case.theta, *many)
        assert relative_error(got.gradient, copies * case.expected.gradient) <= 1e-12
        want = copies * case.expected.inner_lr_gradient
        assert relative_error(got.inner_lr_gradient, want) <= 1e-12


def test_auto_does_without_factored_where_there_is_momentum():
    model = fm.MLP([1, 40, 40, 1])
    theta, x = model.init(0), np.linspace(-1, 1, 10).reshape(2, 5, 1)
    gradients = [
        fm.MAML(model, 0.01, 2, method=method, inner_momentum=0.9).gradient(theta, x, np.sin(x))
        for method in ("auto", "dense")
    ]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2])
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match=rf"inner_momentum is {momentum:.1f}; accepted .* below 1"):
        fm.MAML(fm.Linear(1), inner_momentum=momentum)


def test_factored_has_no_momentum():
    text = r'method is "factored", which has no momentum \(inner_momentum is 0.5\); accepted are'
    with pytest.raises(ValueError, match=text):
        fm.MAML(fm.Linear(1), method="factored", inner_momentum=0.5)


# ANIL --------------------------------------------------------------------------------------------


def test_anil_adapts_the_head_alone():
    case = draw(7100, family="mlp", depth=3, form="scalar", steps=3, activation="tanh")
    inner_lr = fm.anil_inner_lr(case.model, 0.05)
    assert inner_lr.tolist() == [[0.0, 0.0, 0.05]]
    head = case.model.layer_sizes[-1] * (case.model.layer_sizes[-2] + 1)
    rates = np.zeros((3, case.model.n_params))
    rates[:, -head:] = 0.05
    options = {"rates": rates, "loss": case.loss}
    want = sum(
        task.gradient
        for task in reference.evaluate(case.model, case.theta, *case.per_task, **options)
    )
    for method in METHODS:
        maml = fm.MAML(case.model, inner_lr, 3, loss=case.loss, method=method)
        assert relative_error(maml.gradient(case.theta, *case.data), want) <= 1e-12
        moved = maml.adapt(case.theta, *case.data[:2]) - case.theta
        assert not moved[:, :-head].any()
        assert moved[:, -head:].all()


def test_anil_takes_a_model_and_a_number():
    with pytest.raises(TypeError, match="model is 3; accepted are MLP and Linear"):
        fm.anil_inner_lr(3, 0.1)
    with pytest.raises(TypeError, match=r"inner_lr is \[0.1\]; accepted is one real number"):
        fm.anil_inner_lr(fm.Linear(1), [0.1])


# Reptile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_mean", [False, True])
def test_reptile(task_mean):
    case = draw(7200, family="mlp", n_tasks=3, steps=3, form="layer", task_mean=task_mean)
    difference = case.theta - case.adapted
    want = difference.mean(axis=0) if task_mean else difference.sum(axis=0)
    maml = case.maml()
    got = reptile_gradient(maml, case.theta, *case.data[:2])
    assert relative_error(got, want) <= 1e-12
    value, gradient = Reptile(maml).value_and_gradient(case.theta, *case.data)
    np.testing.assert_array_equal(gradient, got)
    assert value == maml.value(case.theta, *case.data)
    # a whole step to the only task's adapted parameters
    one = [part if part is None else part[:1] for part in case.data]
    result = train(Reptile(maml), case.theta, lambda: one, SGD(1.0), n_iterations=1)
    assert relative_error(result.theta, case.adapted[0]) <= 1e-12


def test_reptile_keeps_the_dtype_and_takes_a_maml():
    maml = fm.MAML(fm.Linear(1))
    data = [[[1.0]]], [[3.0]]
    assert reptile_gradient(maml, np.zeros(2, np.float32), *data).dtype == np.float32
    with pytest.raises(TypeError, match="maml is a Linear; accepted is a fastmaml"):
        reptile_gradient(maml.model, [0.0, 0.0], *data)
    for other in (fm.BayesianLastLayer(maml.model), Reptile(maml), None):
        kind = type(other).__name__
        with pytest.raises(TypeError, match=f"maml is a {kind}; accepted is a fastmaml.MAML"):
            Reptile(other)


# Implicit ----------------------------------------------------------------------------------------


def implicit_case(seed, dtype="float64", **pins):
    """A case, its implicit MAML, and the reference's value and gradient of each task."""
    pins = {"family": "mlp", "form": "scalar", "steps": 3, "weighted": False, **pins}
    case = draw(seed, **pins)
    x, y, x_query, y_query = case.per_task
    curvature = max(
        np.abs(np.linalg.eigvalsh(reference.task_hessian(case.model, p, *task, case.loss))).max()
        for p, *task in zip(case.adapted, x, y, strict=True)
    )
    proximal = float(2 * curvature)  # so that every system is positive definite
    rtol = 1e-13 if dtype == "float64" else 1e-6
    inner_lr = case.inner_lr / 3
    options = {
        **case.options, "inner_lr": inner_lr, "order": "implicit", "proximal": proximal,
        "cg_rtol": rtol,
    }  # fmt: skip
    values, gradients, adapted = [], [], []
    rates = np.full((case.steps, case.model.n_params), inner_lr)
    path = rates, case.loss, case.inner_momentum, proximal
    for task in zip(x, y, x_query, y_query, strict=True):
        end = reference.trajectory(case.model, case.theta, *task[:2], *path)[0][-1]
        system = reference.task_hessian(case.model, end, *task[:2], case.loss) / proximal
        pull = reference.task_gradient(case.model, end, *task[2:], case.loss)
        values.append(reference.task_loss(case.model, end, *task[2:], case.loss))
        gradients.append(np.linalg.solve(np.eye(len(end)) + system, pull))
        adapted.append(end)
    return case, options, np.array(values), np.array(gradients), np.array(adapted)


IMPLICIT = [(seed, {}) for seed in range(7300, 7306)]
IMPLICIT += [(7310 + i, {"activation": w, "depth": len(w) + 1}) for i, w in enumerate(MIXED)]


@every_dtype
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize(("seed", "pins"), IMPLICIT)
def test_implicit(seed, pins, momentum, dtype):
    pins = {"inner_momentum": momentum, **pins}
    case, options, values, gradients, adapted = implicit_case(seed, dtype, **pins)
    maml, theta = fm.MAML(case.model, **options), case.theta.astype(dtype)
    got = maml.evaluate(theta, *case.data)
    share = len(values) if case.task_mean else 1
    tolerance = TOLERANCE[dtype]
    assert got.gradient.dtype == dtype
    assert relative_error(got.task_values, values) <= tolerance
    assert relative_error(got.value, values.sum() / share) <= tolerance
    assert relative_error(got.gradient, gradients.sum(axis=0) / share) <= 10 * tolerance
    assert got.inner_lr_gradient == 0.0
    assert got.residuals.shape == values.shape
    assert got.residuals.max() <= options["cg_rtol"]
    assert relative_error(maml.adapt(theta, *case.data[:2]), adapted) <= tolerance
    # the other ways to ask give the same numbers
    assert relative_error(maml.value(theta, *case.data), got.value) <= tolerance
    value, gradient = maml.value_and_gradient(theta, *case.data)
    assert value == got.value
    np.testing.assert_array_equal(gradient, got.gradient)
    function = fm.meta_gradient(case.model, theta, *case.data, **options)
    np.testing.assert_array_equal(function, gradient)


def test_implicit_at_the_minimum_is_the_slope_of_the_value():
    """With enough inner steps, both orders have one gradient."""
    model = fm.MLP([1, 4, 1], "tanh")
    rng = np.random.default_rng(0)
    x, x_query = rng.normal(size=(2, 2, 5, 1))
    theta = model.init(0)
    data = x, np.sin(2 * x), x_query, np.sin(2 * x_query)
    options = {"proximal": 3.0, "cg_rtol": 1e-12, "inner_momentum": 0.5}
    maml = fm.MAML(model, 0.05, 120, order="implicit", **options)
    gradient = maml.gradient(theta, *data)
    slopes = [
        (maml.value(theta + h, *data) - maml.value(theta - h, *data)) / 2e-5
        for h in 1e-5 * np.eye(model.n_params)
    ]
    assert relative_error(gradient, slopes) <= 1e-8


@pytest.mark.parametrize("support", ["equal", "ragged"])
def test_implicit_in_blocks_of_tasks(support, monkeypatch):
    case, options, *_ = implicit_case(7310, n_tasks=3, support=support, query="ragged")
    maml = fm.MAML(case.model, **options)
    whole = maml.evaluate(case.theta, *case.data)
    monkeypatch.setattr(implicit, "BLOCK", 2 * case.model.n_params)  # two tasks, and one
    blocks = maml.evaluate(case.theta, *case.data)
    for got, want in zip(blocks, whole, strict=True):
        assert relative_error(got, want) <= (1e-12 if got is not blocks.residuals else 1)
    assert maml.value(case.theta, *case.data) == blocks.value


def test_implicit_rates_have_no_gradient_whatever_their_form():
    model = fm.MLP([1, 3, 1])
    x = np.ones((1, 2, 1))
    for inner_lr in (0.01, [[0.01], [0.02]], [[0.01, 0.02]], np.full((1, model.n_params), 0.01)):
        maml = fm.MAML(model, inner_lr, 2, order="implicit", proximal=100.0)
        slope = maml.evaluate(model.init(0), x, x).inner_lr_gradient
        assert np.shape(slope) == np.shape(inner_lr)
        assert not np.any(slope)


def test_the_residual_is_that_of_the_solution():
    """What conjugate gradients carry along for it goes on falling where float32 has ended."""
    case, options, *_ = implicit_case(7320, "float32")
    maml = fm.MAML(case.model, **{**options, "cg_rtol": 1e-10})
    with pytest.warns(fm.ConvergenceWarning):
        result = maml.evaluate(case.theta.astype("float32"), *case.data)
    assert 1e-8 < result.residuals.max() < 1e-6


def test_what_does_not_converge_is_said():
    """Unfitted tanh units have negative curvature, which so small a proximal weight leaves."""
    model = fm.MLP([1, 4, 1], "tanh")
    x = np.linspace(-1, 1, 10).reshape(2, 5, 1)
    theta = model.init(1)
    options = {"inner_lr": 0.0, "order": "implicit"}
    maml = fm.MAML(model, proximal=1e-3, **options)
    with pytest.warns(fm.ConvergenceWarning, match=r"cg_rtol 1e-06 in 2 of 2 tasks.* larger prox"):
        result = maml.evaluate(theta, x, 5 * np.sin(3 * x))
    assert (result.residuals > 1e-6).all()
    assert np.isfinite(result.gradient).all()
    # too few iterations for a system that is solvable
    short = fm.MAML(model, proximal=50.0, cg_maxiter=1, **options)
    with pytest.warns(fm.ConvergenceWarning, match="2 of 2"):
        short.gradient(theta, x, np.sin(x))
    long = fm.MAML(model, proximal=50.0, **options)
    assert long.evaluate(theta, x, np.sin(x)).residuals.max() <= 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short.value(theta, x, np.sin(x))  # which solves nothing


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"order": "implicit"}, 'proximal is None, order is "implicit"; accepted are numbers'),
        ({"proximal": 1.0}, 'proximal is 1.0, order is "exact"; accepted is None, or order="impl'),
        ({"order": "implicit", "proximal": 0}, "proximal is 0.0; accepted are numbers above 0"),
        (
            {"order": "implicit", "proximal": 1, "method": "explicit"},
            'method is "explicit", order is "implicit"; accepted are "auto" and "dense"',
        ),
        (
            {"order": "implicit", "proximal": 1, "step_weights": [0, 1]},
            'step_weights is given, order is "implicit"',
        ),
        ({"cg_rtol": -1}, "cg_rtol is -1.0; accepted are numbers above 0"),
        ({"cg_maxiter": 0}, "cg_maxiter is 0; accepted are integers of at least 1"),
    ],
)
def test_what_implicit_does_not_take(options, text):
    with pytest.raises(ValueError, match=text):
        fm.MAML(fm.Linear(1), **options)


# Conjugate gradients -----------------------------------------------------------------------------


def test_conjugate_gradients():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(4, 6, 6))
    matrices = np.eye(6) + roots @ roots.swapaxes(1, 2)
    matrices[1] = np.eye(6)  # done after one iteration, and then left alone
    matrices[2] = -np.eye(6)  # never begins
    b = rng.normal(size=(4, 6))
    b[3] = 0.0
    x, residuals = conjugate_gradients(lambda v: np.einsum("npq,nq->np", matrices, v), b, 1e-13, 30)
    want = np.linalg.solve(matrices[:2], b[:2, :, None])[..., 0]
    assert relative_error(x[:2], want) <= 1e-12
    np.testing.assert_array_equal(x[1], b[1])
    np.testing.assert_array_equal(x[2:], 0.0)
    assert residuals[0] <= 1e-13
    assert residuals[1:].tolist() == [0.0, 1.0, 0.0]


def test_conjugate_gradients_of_nan():
    b = np.array([[1.0, 2.0], [np.nan, 1.0]])
    x, residuals = conjugate_gradients(lambda v: 2 * v, b, 1e-6, 5)
    np.testing.assert_array_equal(x[0], [0.5, 1.0])
    assert residuals[0] == 0.0
    assert np.isnan(residuals[1])


# Hessian-vector products -------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("seed", range(7400, 7412))
def test_task_hessp(seed, own, dtype):
    case = draw(seed)
    x, y, _, _ = case.per_task
    rng = np.random.default_rng(seed)
    theta = case.adapted if own else case.theta
    v = rng.normal(size=(len(x), case.model.n_params) if own else case.model.n_params)
    theta, v = (np.asarray(a, np.float32).astype(np.float64) for a in (theta, v))
    thetas, directions = (np.broadcast_to(a, (len(x), case.model.n_params)) for a in (theta, v))
    want = [
        reference.task_hessian(case.model, *task, case.loss) @ direction
        for direction, *task in zip(directions, thetas, x, y, strict=True)
    ]
    got = fm.equations.task_hessp(
        case.model, theta.astype(dtype), v, *case.data[:2], loss=case.loss
    )
    assert got.dtype == dtype
    assert relative_error(got, want) <= TOLERANCE[dtype]


def test_task_hessp_arguments():
    model, data = fm.Linear(1), ([[[1.0]]] * 2, [[3.0]] * 2)
    hessp = fm.equations.task_hessp
    with pytest.raises(ValueError, match=r"v has shape \(3,\), the model takes \(2,\) or \(2, 2\)"):
        hessp(model, [0.0, 0.0], [1.0, 2.0, 3.0], *data)
    with pytest.raises(ValueError, match="v has 3 tasks, x has 2"):
        hessp(model, [0.0, 0.0], np.ones((3, 2)), *data)
    with pytest.raises(ValueError, match="v holds nan at parameter 1"):
        hessp(model, [0.0, 0.0], [1.0, np.nan], *data)
    with pytest.raises(TypeError, match="model is 3"):
        hessp(3, [0.0, 0.0], [1.0, 2.0], *data)


@pytest.mark.parametrize("seed", range(7500, 7504))
def test_hessp_of_the_meta_objective(seed):
    case = draw(seed, activation="tanh", order="exact")
    maml, p = case.maml(), case.model.n_params
    columns = np.array([maml.hessp(case.theta, e, *case.data) for e in np.eye(p)])
    # gradients by finite differences of another order and step
    h = 1e-3
    want = np.array(
        [
            sum(
                w * maml.gradient(case.theta + k * h * e, *case.data)
                for k, w in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
            )
            / h
            for e in np.eye(p)
        ]
    )
    assert relative_error(columns, want) <= 1e-8
    assert relative_error(columns, columns.T) <= 1e-8
    v = np.random.default_rng(seed).normal(size=p)
    assert relative_error(maml.hessp(case.theta, v, *case.data), want @ v) <= 1e-8
    # a direction's length matters only as a factor
    tiny = maml.hessp(case.theta, 1e-30 * v, *case.data)
    assert relative_error(1e30 * tiny, want @ v) <= 1e-8
    single = maml.hessp(case.theta.astype(np.float32), v, *case.data)
    assert single.dtype == np.float32
    assert relative_error(single, want @ v) <= 5e-3


def test_hessp_fits_scipy():
    model = fm.Linear(2)
    rng = np.random.default_rng(0)
    x, x_query = rng.normal(size=(2, 3, 4, 2))
    data = (x, np.sin(x[..., 0]), x_query, np.sin(x_query[..., 0]))
    maml = fm.MAML(model, 0.05, 2)
    fit = minimize(
        maml.value_and_gradient, np.ones(3), args=data, jac=True, hessp=maml.hessp,
        method="trust-ncg", options={"gtol": 1e-10},
    )  # fmt: skip
    assert fit.success
    assert fit.nit <= 10  # a quadratic, to a Newton method
    assert np.abs(maml.gradient(fit.x, *data)).max() <= 1e-10


def test_hessp_of_no_direction_and_its_errors():
    maml, data = fm.MAML(fm.Linear(1)), ([[[1.0]]], [[3.0]])
    np.testing.assert_array_equal(maml.hessp([1.0, 2.0], [0.0, 0.0], *data), [0.0, 0.0])
    with pytest.raises(ValueError, match=r"v has shape \(1, 2\), the model takes \(2,\)"):
        maml.hessp([1.0, 2.0], [[1.0, 2.0]], *data)
    with pytest.raises(ValueError, match="v holds inf"):
        maml.hessp([1.0, 2.0], [np.inf, 0.0], *data)
