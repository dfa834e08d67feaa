"""`Custom`: a model of compiled functions, whichever of them are given."""

from __future__ import annotations

import copy
import pickle
from functools import cache, partial

import numba
import numpy as np
import pytest
from custom_models import BRANCHING, FUNCTIONS, forward, jvp, vjp
from fastmaml.kernels.compile.given import hides
from fastmaml.kernels.models.custom import types_of
from numba import njit
from test_checks import error
from test_own_model import CASES, batch, complex_step, meta_objective, slopes, waves

import fastmaml as fm

compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

#: what is given besides forward, what is derived from what, and whether with branches
GIVEN = {
    "all": ("vjp jvp hvp", {}, False),
    "no jvp": ("vjp hvp", {"jvp": "forward, by the complex step"}, False),
    "no hvp": ("vjp jvp", {"hvp": "vjp, by the complex step"}, False),
    "no vjp": ("jvp hvp", {"vjp": "jvp, a call for each parameter"}, False),
    "only vjp": (
        "vjp",
        {"jvp": "forward, by the complex step", "hvp": "vjp, by the complex step"},
        False,
    ),
    "only jvp": (
        "jvp",
        {
            "vjp": "jvp, a call for each parameter",
            "hvp": "jvp, by the complex step, a call for each parameter",
        },
        False,
    ),
    "only hvp": (
        "hvp",
        {"jvp": "forward, by the complex step", "vjp": "jvp, a call for each parameter"},
        False,
    ),
    "branches, no jvp": ("vjp hvp", {"jvp": "vjp, a call for each row and output"}, True),
    "branches, no vjp": ("jvp hvp", {"vjp": "jvp, a call for each parameter"}, True),
}


@cache
def model_of(name):
    words, _, branches = GIVEN[name]
    functions = BRANCHING if branches and not numba.config.DISABLE_JIT else FUNCTIONS
    given = {each: functions[each] for each in ["forward", *words.split()]}
    return fm.Custom(9, 2, 3, **given, init=lambda rng: rng.normal(size=9))


@compiled_only
@pytest.mark.parametrize("name", GIVEN)
def test_what_is_derived(name):
    assert model_of(name).derived == GIVEN[name][1]


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("case", [*CASES, "no step"])
def test_the_meta_gradient(case, name):
    rates, weights, momentum = CASES.get(case, ([], [1.0], 0.0))
    loss = {"one step": "half_sse", "weights": "mse"}.get(case, "half_sse")
    theta, data, rates = model_of("all").init(1), batch(), np.array(rates)
    of = partial(meta_objective, loss, list(zip(*data, strict=True)), weights, momentum)
    value, gradient = of(theta, rates), complex_step(lambda at: of(at, rates), theta)
    by_rates = complex_step(lambda at: of(theta, at), rates)
    options = {"steps": len(rates), "step_weights": weights, "inner_momentum": momentum}
    for method, dtype, tolerance in (
        ("dense", "float64", 1e-12), ("explicit", "float64", 1e-12),
        ("dense", "float32", 2e-5), ("explicit", "float32", 2e-5),
    ):  # fmt: skip
        if dtype == "float32" and name not in ("all", "only vjp", "only jvp"):
            continue  # derived by the same functions; to compile takes a second
        given = rates[:, None] if len(rates) else 0.1
        maml = fm.MAML(model_of(name), given, loss=loss, method=method, **options)
        found = maml.evaluate(theta.astype(dtype), *batch(dtype))
        pairs = [(found.value, value), (found.gradient, gradient)]
        if len(rates):
            pairs.append((found.inner_lr_gradient[:, 0], by_rates))
        for got, want in pairs:
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def test_rates_of_parameters():
    theta, (x, y, *_) = model_of("all").init(1), batch()
    rates = np.linspace(0.001, 0.005, 9)
    maml = fm.MAML(model_of("only vjp"), rates)
    for adapted, rows, targets in zip(maml.adapt(theta, x, y), x, y, strict=True):
        slope = np.einsum("jo,jop->p", waves(theta, rows) - targets, slopes(theta, rows))
        np.testing.assert_allclose(adapted, theta - rates * slope, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_predictions_and_equations(dtype):
    model, (x, y, *_) = model_of("only jvp"), batch(dtype)
    theta, tolerance = model.init(1, dtype), {"float64": 1e-13, "float32": 1e-5}[dtype]
    jacobians = fm.equations.jacobian(model, theta, x)
    hessians = fm.equations.task_hessian(model, theta, x, y)
    products = fm.equations.task_hessp(model, theta, np.arange(9.0), x, y)
    for i, rows in enumerate(x):
        at, wide = theta.astype(float), rows.astype(float)
        f = model.predict(theta, rows)
        assert f.dtype == dtype
        np.testing.assert_allclose(f, waves(at, wide), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(jacobians[i], slopes(at, wide), rtol=0, atol=5 * tolerance)
        want = hessians[i] @ np.arange(9.0)
        np.testing.assert_allclose(products[i], want, atol=tolerance * 10 * np.abs(want).max())
        np.testing.assert_allclose(hessians[i], hessians[i].T, atol=tolerance * 1e3)


def test_threads_copies_and_pickles_give_the_same_bits():
    model = model_of("only vjp")
    maml, theta, many = fm.MAML(model, 0.003, 2), model.init(1), [side * 60 for side in batch()]
    want = maml.gradient(theta, *many)
    with fm.threads(1):
        np.testing.assert_array_equal(maml.gradient(theta, *many), want)
    np.testing.assert_array_equal(copy.deepcopy(maml).gradient(theta, *many), want)


@compiled_only
def test_equality_and_pickles():
    given = {"forward": forward, "vjp": vjp}
    model = fm.Custom(9, 2, 3, **given, init=np.arange(9))
    alike = fm.Custom(9, 2, 3, **given, init=range(9))
    assert model == alike
    assert hash(model) == hash(alike)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other == model  # Numba finds the functions of this process
        assert hash(other) == hash(model)
    for other in (
        fm.Custom(9, 2, 3, **given), fm.Custom(9, 2, 3, **given, jvp=jvp, init=range(9)),
        fm.Custom(10, 2, 3, **given, init=range(10)), fm.Linear(2),
    ):  # fmt: skip
        assert other != model
    assert repr(model) == "Custom(9, 2, 3, forward=forward, vjp=vjp)"
    assert model.layers() == {"theta": slice(0, 9)}


def test_initial_parameters():
    given = {"forward": forward}
    assert fm.Custom(9, 2, 3, **given, init=range(9)).init(dtype="float32").dtype == "float32"
    np.testing.assert_array_equal(fm.Custom(9, 2, 3, **given, init=range(9)).init(), np.arange(9))
    draws = np.random.default_rng(3).standard_normal(9)
    np.testing.assert_array_equal(fm.Custom(9, 2, 3, **given).init(3), draws)
    np.testing.assert_array_equal(model_of("all").init(3), draws)
    error(
        lambda: fm.Custom(9, 2, 3, **given, init=[1.0]),
        ValueError,
        "init has shape (1,); accepted is (9,)",
    )
    error(
        lambda: fm.Custom(9, 2, 3, **given, init=lambda rng: 1.0).init(),
        ValueError,
        "init(rng) has shape (); accepted is (9,)",
    )
    error(
        lambda: fm.Custom(2, 2, 3, **given, init=[0.0, np.inf]),
        ValueError,
        "init holds inf at parameter 1",
    )


# What is refused ---------------------------------------------------------------------------------


@njit
def two_arguments(theta, f):
    pass


@njit
def returns(theta, x, f):
    return theta[0] * x


@njit
def wrong_axes(theta, x, f):
    for j in range(len(x)):
        f[j] = theta[0] + x[j, 0, 0]


def plain(theta, x, f):
    pass


@njit("void(float64[::1], float64[:, ::1], float64[:, ::1])")
def only_double(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0]


@njit
def powers(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] ** 2 + theta[1] ** 3 * x[j, 0]


@njit
def sizes(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = np.abs(theta[0]) * x[j, 0]


@njit
def callee(z):
    return np.conj(z)


@njit
def conjugates(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = callee(theta[0]) * x[j, 0]


@njit
def ufunc_powers(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = np.power(theta[0], j)


@njit
def products_of_conjugates(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = np.vdot(theta, theta)


@njit
def powers_that_keep(theta, x, f):
    for j in range(len(x)):
        branch = theta[1] if theta[0].real > 0 else theta[0]
        f[j, 0] = theta[0] ** 2 * branch**0.5 + x[j, 0] ** 3 + abs(x[j, 0])


def custom(**given):
    return fm.Custom(9, 2, 3, **{"forward": forward, **given})


@compiled_only
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: custom(forward=None), "forward is None; accepted are functions that numba.njit"),
        (lambda: custom(forward=plain), "forward(theta, x, f); put @numba.njit above it"),
        (lambda: custom(vjp=3), "vjp is 3; accepted are functions that numba.njit compiled, vjp("),
        (
            lambda: custom(forward=two_arguments),
            "forward is two_arguments(theta, f); accepted is forward(theta, x, f)",
        ),
        (lambda: custom(hvp=jvp), "hvp is jvp(theta, x, v, rf); accepted is hvp(theta, x, delta,"),
        (lambda: custom(forward=returns), "forward returns array(float64, 2d, C); accepted is not"),
        (
            lambda: custom(forward=wrong_axes),
            "forward does not compile for arrays of float64: there is no",
        ),
        (
            lambda: fm.Custom(1, 1, 1, forward=only_double).predict(np.float32([1]), [[1.0]]),
            "forward does not compile for arrays of float32: it was compiled for (Array(float64, 1",
        ),
        (lambda: fm.Custom("1", 1, 1, forward=forward), "n_params is '1'; accepted are integers"),
    ],
)  # fmt: skip
def test_functions_that_are_refused(make, message):
    error(make, TypeError, message)


def test_sizes_that_are_refused():
    error(lambda: fm.Custom(0, 1, 1, forward=forward), ValueError, "n_params is 0; accepted are")


def hessian(model):
    theta, (x, y, *_) = np.ones(9), batch()
    return fm.equations.task_hessian(model, theta, x, y)


@compiled_only
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: hessian(custom()),
            "model has no hvp, and none can be derived: it takes vjp or jvp, forward is not enough;"
            " accepted are models with hvp(theta, x, delta, v, h) (Custom(9, 2, 3, forward=forw",
        ),
        (
            lambda: hessian(custom(vjp=BRANCHING["vjp"])),
            "model has no hvp, and none can be derived: vjp does not compile for complex "
            "parameters: there is no lt(complex128, float64)",
        ),
        (
            lambda: hessian(custom(vjp=BRANCHING["vjp"], jvp=BRANCHING["jvp"])),
            "; jvp does not compile for complex parameters: there is no lt(complex128, float64)",
        ),
        (
            lambda: hessian(fm.Custom(9, 2, 3, forward=BRANCHING["forward"])),
            "model has no vjp, and none can be derived: forward does not compile for complex "
            "parameters: there is no gt(complex128, float64)",
        ),
        (
            lambda: hessian(custom(forward=powers)),
            "none can be derived: of forward, a complex step would lose an integer power (line ",
        ),
        (
            lambda: hessian(custom(forward=ufunc_powers)),
            "a complex step would lose an integer power (line ",
        ),
        (
            lambda: hessian(custom(forward=products_of_conjugates)),
            "a complex step would lose a conjugate (line ",
        ),
        (
            lambda: hessian(custom(forward=sizes)),
            "none can be derived: of forward, a complex step would lose absolute of a complex num",
        ),
        (
            lambda: hessian(custom(forward=conjugates)),
            "none can be derived: of forward, a complex step would lose a conjugate (line ",
        ),
    ],
)
def test_derivatives_that_are_not_to_be_had(call, message):
    error(call, ValueError, message)


def test_first_order_needs_no_hvp():
    theta, data = model_of("all").init(1), batch()
    found = [
        fm.MAML(model, 0.003, 2, order="first").gradient(theta, *data)
        for model in (model_of("all"), custom())
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)


@compiled_only
def test_what_a_complex_step_sees():
    stepped = types_of("forward", np.float64, by_complex_step=True)
    for function in (powers_that_keep, forward):
        function.compile(stepped)
        assert hides(function, stepped) is None
    theta, x = np.array([0.7, 1.3]), np.array([[0.4], [-0.3]])
    found = fm.equations.jacobian(fm.Custom(2, 1, 1, forward=powers_that_keep), theta, [x, x])
    want = [2 * 0.7 * np.sqrt(1.3), 0.49 / 2 / np.sqrt(1.3)]
    np.testing.assert_allclose(found[0, :, 0], [want, want], rtol=1e-15)


@njit
def steep(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] * (np.exp(x[j, 0] / theta[1]) - 1)


def test_steep_slopes_are_no_rounding_errors():
    """The current of a diode by its saturation current is 1e15 here."""
    model = fm.Custom(2, 1, 1, forward=steep)
    found = fm.equations.jacobian(model, [1e-12, 0.026], [[[0.9]]])
    e = np.exp(0.9 / 0.026)
    want = [e - 1, -1e-12 * e * 0.9 / 0.026**2]
    np.testing.assert_allclose(np.ravel(found), want, rtol=1e-13)


# What raises -------------------------------------------------------------------------------------


@njit
def raising(theta, x, f):
    for j in range(len(x)):
        if x[j, 0] > 10:
            raise ValueError("too far")
        f[j, 0] = theta[0] * x[j, 0]


@njit
def dividing(theta, x, delta, g):
    for j in range(len(x)):
        g[0] += delta[j, 0] * x[j, 0] / (x[j, 0] - 5)  # njit raises ZeroDivisionError


def test_a_function_that_raises():
    """It comes to NaN, in the rows that it was called with."""
    model = fm.Custom(1, 1, 1, forward=raising)
    np.testing.assert_array_equal(model.predict([2.0], [[1.0], [3.0]]), [[2.0], [6.0]])
    rows = np.array([[[1.0], [2.0]], [[11.0], [1.0]]])
    f = model.predict([[2.0], [3.0]], rows)
    np.testing.assert_array_equal(f, [[[2.0], [4.0]], [[np.nan], [np.nan]]])
    wrong = fm.Custom(1, 1, 1, forward=raising, vjp=dividing)
    gradients = fm.equations.task_gradient(wrong, [1.0], [[[1.0]], [[5.0]]], [[0.0], [0.0]])
    assert np.isfinite(gradients).tolist() == [[True], [False]]


def test_a_task_that_raises_is_named():
    x, y = np.array([[[1.0], [2.0]], [[11.0], [1.0]]]), np.zeros((2, 2))
    maml = fm.MAML(fm.Custom(1, 1, 1, forward=raising, vjp=dividing), 0.01)
    with pytest.warns(fm.DivergenceWarning, match="task 1"):
        adapted = maml.adapt([1.0], x, y)
    assert np.isfinite(adapted).tolist() == [[True], [False]]


def test_functions_of_no_module():
    """Such as those of a doctest or a notebook's string."""
    scope = {"njit": njit}
    exec("def forward(theta, x, f):\n    f[:] = theta[0]", scope)
    assert scope["forward"].__module__ in (None, "builtins")
    model = fm.Custom(1, 1, 1, forward=njit(scope["forward"]))
    np.testing.assert_array_equal(model.predict([2.0], [[1.0], [3.0]]), [[2.0], [2.0]])


def test_training_and_saving(tmp_path):
    model, (x, y, *_) = model_of("only vjp"), batch()
    maml, theta = fm.MAML(model, 0.003), model.init(1)
    found = fm.learn.train(maml, theta, lambda: (x, y), fm.learn.Adam(0.01), 30)
    assert maml.value(found.theta, x, y) < maml.value(theta, x, y)
    error(
        lambda: fm.save(tmp_path / "custom.npz", maml, theta),
        TypeError,
        "objective.model is Custom(9, 2, 3, forward=forward, vjp=vjp), a Custom, which cannot be",
    )
