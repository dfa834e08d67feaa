"""`check_gradient`, and the differences that it and `check_model` stand on."""

from __future__ import annotations

import numpy as np
import pytest
from test_checks import error

import fastmaml as fm
from fastmaml.checking.differences import STEPS, curvature, slope, values_at

# Differences -------------------------------------------------------------------------------------

SMOOTH = {
    "exp": (np.exp, 1.0, 1.0),
    "sine, fast": (lambda t: np.sin(30 * t + 1), 30 * np.cos(1), -900 * np.sin(1)),
    "large beside": (lambda t: 1e8 + np.sin(t), 1.0, 0.0),
    "constant": (lambda t: 0 * t + 3, 0.0, 0.0),
    "line": (lambda t: 5 * t - 2, 5.0, 0.0),
    "root, not below": (lambda t: np.sqrt(t + 0.01), 5.0, -250.0),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_smooth_functions(name):
    function, first, second = SMOOTH[name]
    values = values_at(function)
    known = 1e2 if name == "large beside" else 1.0  # of its digits eight are lost
    for found, want, least in (
        (slope(values), first, 1e-6 * known), (curvature(values), second, 1e-2 * known),
    ):  # fmt: skip
        assert abs(found.value - want) <= 3 * found.error
        assert found.error <= least * max(1, abs(want))


@pytest.mark.parametrize("distance", [0.0, *(STEPS * 0.7), 0.3])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_kink_never_misleads(distance, sign):
    """Of |t - d| beside a curved function: the slope is right, or said to be unknown."""
    found = slope(values_at(lambda t: np.exp(t) + np.abs(t - sign * distance)))
    want = 1 - sign if distance else 0  # (or 2: at the kink there is none)
    assert abs(found.value - want) <= 20 * found.error
    if distance > 1e-5:
        assert found.error <= 1e-6


@pytest.mark.parametrize("distance", STEPS * 0.7)
def test_a_jump_never_misleads(distance):
    found = slope(values_at(lambda t: np.exp(t) + 0.01 * (t > distance)))
    assert abs(found.value - 1) <= 20 * found.error


def test_each_entry_has_its_own_steps():
    found = slope(values_at(lambda t: np.stack([np.exp(t), np.abs(t - 1e-3), np.nan * t], -1)))
    np.testing.assert_allclose(found.value[:2], [1, -1], rtol=1e-9)
    assert np.isfinite(found.error).tolist() == [True, True, False]


# Gradients that are right ------------------------------------------------------------------------


def batch(n_tasks=5, n_inputs=1, n_outputs=1, rows=10):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n_tasks, rows, n)) for n in (n_inputs, n_outputs) * 2]


TANH, RELU = fm.MLP([1, 8, 8, 1], "tanh"), fm.MLP([1, 8, 8, 1], "relu")

EXACT = {
    "one step": fm.MAML(TANH, 0.01),
    "relu": fm.MAML(RELU, 0.01),
    "three steps": fm.MAML(TANH, 0.01, 3, step_weights=[0.1, 0.2, 0.3, 0.4], inner_momentum=0.5),
    "mse, mean": fm.MAML(TANH, 0.1, loss="mse", task_mean=True),
    "no step": fm.MAML(TANH, 0.01, 0),
    "first order without a step": fm.MAML(TANH, 0.01, 0, order="first"),
    "frozen": fm.MAML(fm.Frozen(TANH, "layer 2"), 0.01),
    "huber": fm.MAML(TANH, 0.01, loss="huber", query_loss="log_cosh"),
    "linear": fm.MAML(fm.Linear(1), 0.01),
    "closed form": fm.BayesianLastLayer(TANH),
    "closed form, isotropic": fm.BayesianLastLayer(RELU, loss="half_sse"),
}


@pytest.mark.parametrize("name", EXACT)
def test_gradients_that_are_right(name):
    objective = EXACT[name]
    found = fm.check_gradient(objective, objective.init(0) if "closed" in name else
                              objective.model.init(0), *batch())  # fmt: skip
    assert found.ok, found
    assert not found.notes
    found.raise_if_wrong()


def test_the_support_rows_alone_and_float32():
    x, y, *_ = batch()
    found = fm.check_gradient(EXACT["one step"], TANH.init(0, "float32"), x, y)
    assert found.ok, found
    assert max(each.error for each in found.findings) > 1e-9  # it was asked in float32


def test_further_arguments_are_the_objectives():
    x, y, *_ = batch()
    weights = np.linspace(0, 1, x.shape[0] * x.shape[1]).reshape(x.shape[:2])
    given = EXACT["one step"], TANH.init(0), x, y
    assert fm.check_gradient(*given, sample_weight=weights).ok
    error(lambda: fm.check_gradient(*given, weight=weights), TypeError, "argument 'weight'")


def test_every_layer_has_a_direction():
    found = fm.check_gradient(EXACT["closed form"], EXACT["closed form"].init(0), *batch())
    assert [each.part for each in found.findings] == [
        *["gradient"] * 4, "gradient of layer 1", "gradient of layer 2", "gradient of layer 3",
        "gradient of what follows the layers",
    ]  # fmt: skip


# Gradients that are wrong ------------------------------------------------------------------------


class Quadratic:
    """An objective of a user's own, with ``value_and_gradient`` alone, and an error."""

    def __init__(self, change):
        self.change = change

    def value_and_gradient(self, theta, x, y):
        r = x[:, :, 0] @ theta - y
        return 0.5 * (r**2).sum(), self.change(np.einsum("tj,tjp->p", r, x[:, :, 0, :]))


def quadratic(change):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 4, 1, 2)), rng.normal(size=(3, 4))
    return fm.check_gradient(Quadratic(change), [0.5, -1.0], x, y)


def test_objectives_of_a_users_own():
    assert quadratic(lambda g: g).ok
    Quadratic.value = 3.0
    assert quadratic(lambda g: g).ok
    del Quadratic.value
    twice = quadratic(lambda g: 2 * g)
    assert twice.wrong == ("gradient",)
    assert twice.notes == ("The gradient is 2 times what it should be.",)
    assert str(twice).startswith("Quadratic(): wrong is gradient\n")
    one = quadratic(lambda g: g * [1, 1.001])
    assert one.wrong == ("gradient",)
    assert not one.notes
    assert " along it, expected " in str(one)
    nan = quadratic(lambda g: g * [1, np.nan])
    assert nan.wrong == ("gradient",)
    assert "1 entries are NaN or inf" in str(nan)


class OneLayerWrong:
    """MAML whose gradient of one layer has another sign."""

    def __init__(self, maml):
        self.maml, self.model = maml, maml.model

    def value_and_gradient(self, theta, *data):
        value, gradient = self.maml.value_and_gradient(theta, *data)
        gradient[self.model.layers()["layer 2"]] *= -1
        return value, gradient


def test_the_wrong_layer_is_named():
    found = fm.check_gradient(OneLayerWrong(EXACT["one step"]), TANH.init(0), *batch())
    assert found.wrong == ("gradient of layer 2",)
    with pytest.raises(
        AssertionError, match=r"^OneLayerWrong\(MLP\(.*wrong is gradient of layer 2"
    ):
        found.raise_if_wrong()


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"order": "first"}, 'order is "first": the gradient leaves out the derivative of the inn'),
        (
            {"order": "implicit", "proximal": 1.0, "steps": 2},
            'order is "implicit": the gradient is that of the minimum of the inner problem, and',
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::fastmaml.ConvergenceWarning")
def test_approximations_are_found_wrong_and_explained(options, note):
    found = fm.check_gradient(fm.MAML(TANH, 0.01, **options), TANH.init(0), *batch())
    assert found.wrong
    assert not found.ok
    assert found.notes[0].startswith(note)


def test_implicit_gradients_of_a_minimum_are_right():
    model = fm.Linear(1)
    maml = fm.MAML(model, 0.02, 2000, order="implicit", proximal=2.0, cg_rtol=1e-10)
    assert fm.check_gradient(maml, [0.3, -0.2], *batch()).ok


# What cannot be judged ---------------------------------------------------------------------------


class Steps:
    """A value that jumps everywhere."""

    def value_and_gradient(self, theta, x, y):
        return float(np.floor(1e12 * theta[0]) % 7), np.ones(1)


def test_jumps_are_not_judged():
    found = fm.check_gradient(Steps(), [0.5], 0, 0)
    assert not found.wrong
    assert not found.ok
    assert {each.verdict for each in found.findings} == {"not judged"}
    assert str(found).startswith("Steps(): could not be judged\n")
    with pytest.raises(AssertionError, match="kinks or jumps too near"):
        found.raise_if_wrong()


class Infinite:
    def value_and_gradient(self, theta, x, y):
        return np.inf, np.ones(1)


def test_a_value_that_is_none():
    found = fm.check_gradient(Infinite(), [0.5], 0, 0)
    assert not found.ok
    assert "the value is inf: there is nothing to differentiate" in str(found)


def test_arguments_that_are_refused():
    maml, data = EXACT["one step"], batch()
    for call, kind, message in (
        (
            lambda: fm.check_gradient(TANH, TANH.init(0), *data),
            TypeError,
            "objective is MLP([1, 8, 8, 1], activation='tanh'); accepted are objects with the meth",
        ),
        (
            lambda: fm.check_gradient(maml, [[0.0]], *data),
            ValueError,
            "theta has shape (1, 1); accepted is (P,)",
        ),
        (lambda: fm.check_gradient(maml, [np.nan], *data), ValueError, "theta holds nan at param"),
        (
            lambda: fm.check_gradient(maml, TANH.init(0), *data, directions=0),
            ValueError,
            "directions is 0; accepted are integers of at least 1",
        ),
        (
            lambda: fm.check_gradient(Infinite(), [0.5, 1.0], 0, 0),
            ValueError,
            "objective gives a gradient of shape (1,); accepted is theta's, (2,)",
        ),
    ):
        error(call, kind, message)
