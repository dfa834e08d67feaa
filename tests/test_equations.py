"""Each function of ``fastmaml.equations`` against the reference, and what ties them together."""

import inspect

import numpy as np
import pytest
import reference
from cases import ACTIVATIONS, DTYPES, LOSSES, METHODS, MIXED, TOLERANCE, draw, relative_error

import fastmaml as fm
from fastmaml import equations

SEEDS = range(2000, 2020)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(seed, dtype="float64", own_theta=False, **pins):
    """A case of one step, theta (P,) or one for each task, and the keywords of the step."""
    case = draw(seed, **{"form": ("scalar", "parameter")[seed % 2], **pins, "steps": 1})
    theta = case.adapted if own_theta else case.theta
    rate = np.reshape(case.inner_lr, -1) if case.form == "parameter" else case.inner_lr
    return case, theta.astype(dtype), {"inner_lr": rate, "loss": case.loss}


def per_task(case, theta):
    """For each task: its own theta in double precision, x, y, x_query and y_query."""
    thetas = np.broadcast_to(np.float64(theta), (len(case.per_task[0]), case.model.n_params))
    return list(zip(thetas, *case.per_task, strict=True))


def check(got, want, dtype):
    if isinstance(got, list):  # ragged
        got, want = (np.concatenate([task.ravel() for task in part]) for part in (got, want))
    assert got.dtype == dtype
    assert relative_error(got, np.array(want)) <= TOLERANCE[dtype]


@every_dtype
@pytest.mark.parametrize("own_theta", [False, True], ids=["shared", "per-task"])
@pytest.mark.parametrize("seed", SEEDS)
def test_residuals_and_jacobian(seed, own_theta, dtype):
    case, theta, _ = problem(seed, dtype, own_theta)
    x, y = case.data[:2]
    tasks = per_task(case, theta)
    r = equations.residuals(case.model, theta, x, y)
    jacobian = equations.jacobian(case.model, theta, x)
    ragged = len({len(rows) for rows in x}) > 1
    assert isinstance(r, list) == isinstance(jacobian, list) == ragged
    expected = [reference.residuals(case.model, t, x, y) for t, x, y, _, _ in tasks]
    check(r, [rows[:, 0] for rows in expected] if case.flat else expected, dtype)
    check(jacobian, [reference.jacobian(case.model, t, x) for t, x, _, _, _ in tasks], dtype)


@every_dtype
@pytest.mark.parametrize("own_theta", [False, True], ids=["shared", "per-task"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["task_loss", "task_gradient", "task_hessian"])
def test_loss_and_its_derivatives(name, seed, own_theta, dtype):
    case, theta, _ = problem(seed, dtype, own_theta)
    got = getattr(equations, name)(case.model, theta, *case.data[:2], loss=case.loss)
    by_hand = getattr(reference, name)
    want = [by_hand(case.model, t, x, y, case.loss) for t, x, y, _, _ in per_task(case, theta)]
    check(got, want, dtype)


@every_dtype
@pytest.mark.parametrize("own_theta", [False, True], ids=["shared", "per-task"])
@pytest.mark.parametrize("seed", SEEDS)
def test_one_step(seed, own_theta, dtype):
    case, theta, step = problem(seed, dtype, own_theta)
    model, loss, rate = case.model, case.loss, case.rates[0]
    data = case.data[:2]
    tasks = per_task(case, theta)
    check(
        equations.adapted_parameters(model, theta, *data, **step),
        [t - rate * reference.task_gradient(model, t, x, y, loss) for t, x, y, _, _ in tasks],
        dtype,
    )
    check(
        equations.adaptation_jacobian(model, theta, *data, **step),
        [reference.adaptation_jacobian(model, t, x, y, rate, loss) for t, x, y, _, _ in tasks],
        dtype,
    )


@every_dtype
@pytest.mark.parametrize("own_theta", [False, True], ids=["shared", "per-task"])
@pytest.mark.parametrize("seed", SEEDS)
def test_meta_gradients(seed, own_theta, dtype):
    case, theta, step = problem(seed, dtype, own_theta)
    last = np.array([0.0, 1.0])
    want = np.array(
        [
            reference.evaluate_task(case.model, *task, case.rates, last, case.loss, "exact")[1]
            for task in per_task(case, theta)
        ]
    )
    of_tasks = equations.task_meta_gradient(case.model, theta, *case.data, **step)
    check(of_tasks, want, dtype)
    for task_mean, share in ((False, 1), (True, len(want))):
        of_all = equations.meta_gradient(case.model, theta, *case.data, **step, task_mean=task_mean)
        assert of_all.dtype == dtype
        # a sum over tasks, so relative to what it sums
        error = np.abs(of_all - want.sum(axis=0) / share).max()
        assert error <= TOLERANCE[dtype] * np.abs(want).sum(axis=0).max() / share


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, *MIXED], ids=str)
def test_every_activation_and_loss(activation, loss):
    depth = 3 if isinstance(activation, str) else len(activation) + 1
    pins = {"family": "mlp", "depth": depth, "activation": activation, "loss": loss}
    case, theta, step = problem(7, **pins)
    tasks = per_task(case, theta)
    got = equations.task_hessian(case.model, theta, *case.data[:2], loss=loss)
    want = [reference.task_hessian(case.model, t, x, y, loss) for t, x, y, _, _ in tasks]
    check(got, want, "float64")
    got = equations.meta_gradient(case.model, theta, *case.data, **step, task_mean=case.task_mean)
    order_exact, _, _ = problem(7, **pins, order="exact", weighted=False)
    check(got, order_exact.expected.gradient, "float64")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", SEEDS)
def test_identities(seed, method):
    """Two names for the same thing give the same numbers."""
    case, theta, step = problem(seed, form="scalar")
    model, (x, y, x_query, y_query) = case.model, case.data
    tolerance = TOLERANCE["float64"]

    hessian = equations.task_hessian(model, theta, x, y, loss=case.loss)
    assert relative_error(hessian, hessian.transpose(0, 2, 1)) <= tolerance
    adaptation = equations.adaptation_jacobian(model, theta, x, y, **step)
    identity = np.eye(model.n_params)
    assert relative_error(adaptation, identity - case.inner_lr * hessian) <= tolerance

    adapted = equations.adapted_parameters(model, theta, x, y, **step)
    gradient = equations.task_gradient(model, theta, x, y, loss=case.loss)
    assert relative_error(adapted, theta - case.inner_lr * gradient) <= tolerance
    query = (x, y) if x_query is None else (x_query, y_query)
    pull = equations.task_gradient(model, adapted, *query, loss=case.loss)
    of_tasks = equations.task_meta_gradient(model, theta, *case.data, **step)
    assert relative_error(of_tasks, np.einsum("tp,tpq->tq", pull, adaptation)) <= tolerance

    of_all = equations.meta_gradient(model, theta, *case.data, **step)
    maml = fm.MAML(model, method=method, **step)
    assert relative_error(of_all, of_tasks.sum(axis=0)) <= tolerance
    assert relative_error(maml.gradient(theta, *case.data), of_all) <= tolerance
    assert relative_error(maml.adapt(theta, x, y), adapted) <= tolerance
    losses = equations.task_loss(model, adapted, *query, loss=case.loss)
    assert relative_error(maml.evaluate(theta, *case.data).task_values, losses) <= tolerance


@pytest.mark.parametrize("rate", [0.1, [0.1]], ids=["scalar", "its-own"])
def test_a_single_parameter(rate):
    """f = theta x with one sample: everything is a number, and theta' = theta - rate (r x)."""
    model = fm.Linear(1, intercept=False)
    theta, x, y = np.array([2.0]), np.array([[[3.0]]]), np.array([[[1.0]]])
    one = (model, theta, x, y)
    assert relative_error(equations.adapted_parameters(*one, inner_lr=rate), [[0.5]]) <= 1e-15
    assert relative_error(equations.adaptation_jacobian(*one, inner_lr=rate), [[[0.1]]]) <= 1e-15
    # the residual after the step is 1/2, times x, times the Jacobian 1/10
    assert relative_error(equations.meta_gradient(*one, inner_lr=rate), [0.15]) <= 1e-14


@pytest.mark.parametrize("name", [name for name in equations.__all__ if name != "meta_update"])
@pytest.mark.parametrize("model", [None, "MLP", fm.MLP])
def test_what_is_no_model_is_named(name, model):
    function = getattr(equations, name)
    given = {"theta": np.ones(2), "x": np.ones((1, 1, 1)), "y": np.ones((1, 1))}
    given |= {"v": np.ones(2), "inner_lr": np.ones(2)}
    taken = inspect.signature(function).parameters
    with pytest.raises(TypeError, match=r"model is .*; accepted are MLP and Linear"):
        function(model, **{key: value for key, value in given.items() if key in taken})


@every_dtype
def test_meta_update(dtype):
    theta = np.arange(3, dtype=dtype)
    updated = equations.meta_update(theta, np.ones(3, dtype), 0.5)
    assert updated.dtype == dtype
    np.testing.assert_array_equal(updated, [-0.5, 0.5, 1.5])
    np.testing.assert_array_equal(theta, [0, 1, 2])


def test_a_single_task_has_no_axis_of_tasks():
    model = fm.MLP([2, 3, 1])
    theta, x = model.init(0), np.linspace(-1, 1, 8).reshape(4, 2)
    y = x[:, 0]
    one, many = (model, theta, x, y), (model, theta, x[None], y[None])
    for name in ("residuals", "task_loss", "task_gradient", "task_hessian"):
        function = getattr(equations, name)
        np.testing.assert_array_equal(function(*one), function(*many)[0])
    np.testing.assert_array_equal(
        equations.jacobian(model, theta, x), equations.jacobian(model, theta, x[None])[0]
    )
    np.testing.assert_array_equal(
        equations.task_hessp(model, theta, theta, x, y),
        equations.task_hessp(model, theta, theta, x[None], y[None])[0],
    )
    for name in ("adapted_parameters", "adaptation_jacobian", "task_meta_gradient"):
        function = getattr(equations, name)
        got, want = function(*one, inner_lr=0.1), function(*many, inner_lr=0.1)[0]
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-14)
    total = equations.meta_gradient(*one, inner_lr=0.1)
    np.testing.assert_allclose(total, equations.meta_gradient(*many, inner_lr=0.1), rtol=1e-14)
