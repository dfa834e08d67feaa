"""`check_model` finds and names planted errors, and accuses nothing that is right."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np
import planted
import pytest
from custom_models import FUNCTIONS, forward, hvp
from fastmaml.kernels.compile.link import linked
from fastmaml.kernels.models.layers import LAYERS
from fastmaml.kernels.models.passes import delta_of, f_of, rf_of
from formulas import LAWS
from numba import njit
from test_checks import error
from test_custom import GIVEN, model_of
from test_family import Decay
from test_own_model import Waves

import fastmaml as fm
from fastmaml.family import Compiled
from fastmaml.predict import predict

ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "softplus", "tanh", "sigmoid", "silu", "gelu", "sin",
)  # fmt: skip


@cache
def planted_model(name, words="vjp jvp hvp"):
    n_params, n_outputs, functions = planted.MODELS[name]
    given = dict(zip(("vjp", "jvp", "hvp"), functions[1:], strict=True))
    given = {word: given[word] for word in words.split()}
    start = [1.2, 0.7, 0.4]
    return fm.Custom(n_params, 2, n_outputs, forward=functions[0], **given, init=start)


def rows(number=0.0):
    x = np.random.default_rng(0).uniform(0.2, 2, (20, 2))
    x[:, 1] = number
    return x


# What is wrong is named --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", planted.KINDS)
@pytest.mark.parametrize("function", planted.FUNCTIONS)
@pytest.mark.parametrize("name", planted.MODELS)
def test_planted_errors_of_custom_models(name, function, kind):
    found = fm.check_model(planted_model(name), x=rows(planted.code(function, kind)))
    assert found.wrong == (function,)
    assert not found.ok
    wrong = [each for each in found.findings if each.verdict == "wrong"]
    assert {each.part for each in wrong} <= {function, "vjp or jvp"}
    assert all(each.error > each.accepted for each in wrong)
    with pytest.raises(AssertionError, match=f": wrong is {function}\n"):
        found.raise_if_wrong()


@pytest.mark.parametrize(
    ("words", "planted_in", "named"),
    [
        ("vjp hvp", "vjp", "vjp"),  # jvp of forward
        ("jvp hvp", "jvp", "jvp"),  # vjp of jvp
        ("vjp jvp", "vjp", "vjp"),  # hvp of vjp
        ("jvp", "jvp", "jvp"),
        ("vjp", "vjp", "vjp"),
    ],
)
def test_what_is_derived_is_not_to_blame(words, planted_in, named):
    model = planted_model("decay", words)
    assert fm.check_model(model, x=rows()).ok
    assert fm.check_model(model, x=rows(planted.code(planted_in, "sign"))).wrong == (named,)


mlp_forward, mlp_backward = LAYERS.forward, LAYERS.backward
mlp_r_forward, mlp_r_backward = LAYERS.r_forward, LAYERS.r_backward


@linked
def wrong_forward(net, block, at, order):
    mlp_forward(net, block, at, order)
    f = f_of(net, block)
    for i in range(block.rows * net.ld_out):
        f[i] *= 1.001


@linked
def rows_forward(net, block, at, order):
    """A row depends on how many there are."""
    mlp_forward(net, block, at, order)
    f = f_of(net, block)
    f[0] += 0.01 * block.rows


@linked
def forgetful_forward(net, block, at, order):
    mlp_forward(net, block, at, order)
    f = f_of(net, block)
    f[0] += 0.01 * order


@linked
def wrong_backward(net, block, at, order, g, add):
    delta = delta_of(net, block)
    delta[0] *= 1.01
    mlp_backward(net, block, at, order, g, add)
    delta[0] /= 1.01


@linked
def overwriting_backward(net, block, at, order, g, add):
    mlp_backward(net, block, at, order, g, 0)


@linked
def wrong_r_forward(net, block, at, along):
    mlp_r_forward(net, block, at, along)
    rf = rf_of(net, block)
    rf[0] *= -1


@linked
def subtle_r_forward(net, block, at, along):
    mlp_r_forward(net, block, at, along)
    rf = rf_of(net, block)
    rf[0] *= 1 + 3e-8


@linked
def wrong_r_backward(net, block, at, along, hv, add):
    mlp_r_backward(net, block, at, along, hv, add)
    hv[0] *= 1.01


@dataclass(frozen=True)
class Tampered:
    """A network of which one pass is another."""

    name: str
    wrong: Any
    of = fm.MLP([1, 5, 1], "tanh")
    n_inputs = n_outputs = 1
    n_layers = 2
    n_params = of.n_params
    layer_sizes = None
    predict = predict

    def layers(self):
        return self.of.layers()

    def init(self, rng=None, dtype="float64"):
        return self.of.init(rng, dtype)

    def compiled(self, dtype):
        return tampered(self.name, self.wrong, dtype)


@cache
def tampered(name, wrong, dtype):
    plain = Tampered.of.compiled(dtype)
    return Compiled(plain.table, LAYERS._replace(**{name: wrong}), dtype)


@pytest.mark.parametrize(
    ("name", "wrong", "named", "check"),
    [
        ("forward", wrong_forward, "forward", "differences of f"),
        ("forward", rows_forward, "forward", "each row alone"),
        ("forward", forgetful_forward, "forward", "whatever is asked besides"),
        ("backward", wrong_backward, "backward", "differences of f"),
        ("backward", overwriting_backward, "backward", "adds to what is there"),
        ("r_forward", wrong_r_forward, "r_forward", "differences of f"),
        ("r_forward", subtle_r_forward, "backward or r_forward", "each is the other's transpose"),
        ("r_backward", wrong_r_backward, "r_backward", "differences of backward"),
    ],
)
def test_planted_errors_of_a_family(name, wrong, named, check):
    found = fm.check_model(Tampered(name, wrong))
    assert found.wrong == (named,)
    assert check in [each.check for each in found.findings if each.verdict == "wrong"]
    if wrong is wrong_backward:
        assert found.notes[0].startswith("r_backward works on what the other passes left, so")


def test_the_untampered_family_is_right():
    assert fm.check_model(Tampered("forward", mlp_forward)).ok


# What is right is not accused --------------------------------------------------------------------

RIGHT = {
    **{f"{a}, one layer": fm.MLP([1, 9, 1], a) for a in ACTIVATIONS},
    **{f"{a}, two layers": fm.MLP([2, 6, 5, 3], a) for a in ACTIVATIONS},
    "linear": fm.Linear(3, 2),
    "linear, no intercept": fm.Linear(2, intercept=False),
    "wide": fm.MLP([1, 40, 40, 1], "relu"),
    "mixed": fm.MLP([4, 8, 3, 2, 1], ["sin", "relu", "gelu"]),
    "one parameter": fm.Linear(1, intercept=False),
    "formula": LAWS["pendulum"].model,
    "sum": fm.Sum(fm.Linear(2), fm.Frozen(fm.MLP([2, 4, 1], "sin"), "layer 2")),
    "scaled": fm.Scaled(fm.MLP([2, 4, 1], "tanh"), x_scale=3.0, y_mean=2.0),
    "frozen": fm.Frozen(fm.Scaled(fm.MLP([2, 4, 1], "tanh"), y_scale=3.0), "layer 1"),
    "decay": Decay(),
    "waves": Waves(),
}  # fmt: skip


def assert_right(found):
    assert found.ok, found
    assert not found.wrong
    found.raise_if_wrong()
    assert str(found).splitlines()[0].endswith(": right")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", RIGHT)
def test_families_that_are_right(name, seed):
    assert_right(fm.check_model(RIGHT[name], rng=seed))


@pytest.mark.parametrize("name", GIVEN)
def test_custom_models_that_are_right(name):
    assert_right(fm.check_model(model_of(name)))


@pytest.mark.parametrize("name", planted.MODELS)
def test_the_planted_models_without_errors(name):
    for seed in range(3):
        assert_right(fm.check_model(planted_model(name), x=rows(), rng=seed))


def test_scales_of_physics():
    """A diode: theta is as small as 1e-12, and f as large as the exponential makes it."""
    model = fm.Custom(2, 1, 1, forward=diode, vjp=diode_vjp, init=[1e-12, 0.026])
    assert_right(fm.check_model(model, x=np.linspace(0, 0.7, 20)[:, None]))


@njit
def diode(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] * (np.exp(x[j, 0] / theta[1]) - 1)


@njit
def diode_vjp(theta, x, delta, g):
    for j in range(len(x)):
        e = np.exp(x[j, 0] / theta[1])
        g[0] += delta[j, 0] * (e - 1)
        g[1] -= delta[j, 0] * theta[0] * e * x[j, 0] / (theta[1] * theta[1])


def test_the_parts_of_a_sum_are_named():
    model = fm.Sum(planted_model("decay"), fm.Linear(2))
    found = fm.check_model(model, x=rows(planted.code("vjp", "sign")))
    assert found.wrong == ("backward",)
    assert " custom/theta[1]: " in str(found)


# Functions that write where they should add, and the other way round; and f that is not all there.


@njit
def adding_forward(theta, x, f):
    for j in range(len(x)):
        f[j, 0] += theta[0] * np.exp(-theta[1] * x[j, 0]) + theta[2]


@njit
def partial_forward(theta, x, f):
    for j in range(len(x) - 1):
        f[j, 0] = theta[0] * np.exp(-theta[1] * x[j, 0]) + theta[2]


@njit
def writing_vjp(theta, x, delta, g):
    g[:] = 0
    planted.decay_vjp(theta, x, delta, g)


@njit
def adding_jvp(theta, x, v, rf):
    for j in range(len(x)):
        rf[j, 0] += (v[0] - v[1] * theta[0] * x[j, 0]) * np.exp(-theta[1] * x[j, 0]) + v[2]


@njit
def writing_hvp(theta, x, delta, v, h):
    h[:] = 0
    planted.decay_hvp(theta, x, delta, v, h)


@pytest.mark.parametrize(
    ("word", "function"),
    [("forward", adding_forward), ("forward", partial_forward), ("vjp", writing_vjp),
     ("jvp", adding_jvp), ("hvp", writing_hvp)],
)  # fmt: skip
def test_what_writes_and_what_adds_is_told_apart(word, function):
    """And no other function is blamed for it."""
    functions = dict(zip(("forward", "vjp", "jvp", "hvp"), planted.MODELS["decay"][2], strict=True))
    model = fm.Custom(3, 2, 1, init=[1.2, 0.7, 0.4], **{**functions, word: function})
    found = fm.check_model(model, x=rows())
    assert found.wrong == (word,), found
    if word == "forward" and {each.part for each in found.findings if each.verdict == "wrong"} > {
        word
    }:
        assert "All others are held against f" in found.notes[0]


def test_rows_at_a_kink_are_not_judged():
    model = fm.MLP([1, 2, 1], "relu")
    theta = model.pack([([[1.0], [2.0]], [-1.0, 0.5]), ([[0.7, -0.4]], [0.1])])
    found = fm.check_model(model, theta, [[1.0], [1.0]])  # 1 * 1 - 1 is the kink
    assert not found.wrong
    notes = [each.note for each in found.findings if each.check == "differences of f"]
    assert any("numbers not judged" in note for note in notes)
    assert_right(fm.check_model(model, theta, [[1.001], [-3.0], [0.4]]))


# Where, and what cannot be checked ---------------------------------------------------------------


@njit
def root(theta, x, f):
    for j in range(len(x)):
        f[j, 0] = theta[0] * np.sqrt(x[j, 0])


@njit
def root_vjp(theta, x, delta, g):
    for j in range(len(x)):
        g[0] += delta[j, 0] * np.sqrt(x[j, 0])


def test_rows_without_a_value_are_left_out():
    model = fm.Custom(1, 1, 1, forward=root, vjp=root_vjp)
    assert_right(fm.check_model(model))  # half the rows that are drawn are negative
    found = fm.check_model(model, x=[[-1.0], [-2.0]])
    assert found.wrong == ("forward",)
    assert "f is NaN or inf wherever it was asked: give theta= and x= where" in str(found)


@njit
def gradient_without_value(theta, x, delta, g):
    for j in range(len(x)):
        g[0] += delta[j, 0] * np.sqrt(-1 - x[j, 0])


def test_a_derivative_without_a_value_is_wrong():
    model = fm.Custom(1, 1, 1, forward=root, vjp=gradient_without_value, hvp=nothing)
    assert fm.check_model(model, x=[[1.0], [2.0]]).wrong[0] == "vjp"


@njit
def nothing(theta, x, delta, v, h):
    pass


@njit
def beyond(theta, x, delta, g):
    g[len(theta)] += delta[0, 0]


@njit
def meddling(theta, x, delta, v, h):
    delta[0, 0] = 1


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_indices_beyond_an_array():
    model = fm.Custom(9, 2, 3, forward=forward, vjp=beyond, hvp=meddling)
    found = fm.check_model(model)
    assert found.wrong == ("vjp", "hvp")
    assert "index 9 is out of bounds for axis 0 with size 9" in str(found)
    assert "it writes to delta" in str(found)


def test_what_is_not_there_is_not_checked():
    model = fm.Custom(9, 2, 3, forward=forward)
    found = fm.check_model(model)
    assert_right(found)
    assert found.notes[0].startswith("Not checked: model has no hvp, and none can be derived: it")
    assert {each.part for each in found.findings} == {"forward"}


def test_forward_and_hvp_alone():
    found = fm.check_model(fm.Custom(9, 2, 3, forward=forward, hvp=hvp))
    assert_right(found)
    assert {each.part for each in found.findings} == {"forward", "hvp"}


def test_the_table():
    found = fm.check_model(planted_model("decay"), x=rows(planted.code("vjp", "sign")))
    lines = str(found).splitlines()
    assert lines[0] == (
        "Custom(3, 2, 1, forward=decay, vjp=decay_vjp, jvp=decay_jvp, hvp=decay_hvp): wrong is vjp"
    )
    assert lines[1].split() == ["part", "check", "error", "accepted"]
    assert lines[2].startswith("vjp ")
    assert re.search(r"  wrong +theta\[1\]: [-.\d]+, expected [-.\d]+$", lines[2])
    assert repr(found) == str(found)


def test_where_it_is_checked():
    """The same seed gives the same numbers, and theta and x are taken as given."""
    model = planted_model("growth")
    found = [fm.check_model(model, x=rows(), rng=seed).findings for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert_right(fm.check_model(model, [[1.0, 2.0, 0.5], [0.3, -1.0, 0.0]], rows()))
    for call, kind, message in (
        (lambda: fm.check_model(3), TypeError, "model is 3; accepted are MLP and Linear"),
        (
            lambda: fm.check_model(model, [1.0]),
            ValueError,
            "theta has shape (1,); accepted are (3,) and (n, 3) (Custom(3, 2, 1, ",
        ),
        (
            lambda: fm.check_model(model, x=[1.0]),
            ValueError,
            "x has shape (1,); accepted is (rows, 2), rows at least 1 (Custom(3, 2, 1, ",
        ),
        (lambda: fm.check_model(model, [1.0, np.nan, 1.0]), ValueError, "theta holds nan"),
        (lambda: fm.check_model(model, x=[[np.inf, 0]]), ValueError, "x holds inf at row 0, feat"),
        (lambda: fm.check_model(model, rng="a"), TypeError, "rng is 'a'; accepted are a seed"),
    ):
        error(call, kind, message)
    assert set(FUNCTIONS) == {"forward", "vjp", "jvp", "hvp"}
