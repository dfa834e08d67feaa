"""A family of models is `fastmaml.family.Family` and five functions, and nothing else of any class.

`Decay` is such a family, of a formula, as CONTRIBUTING says how to add one. Its reference is plain
NumPy: the formula, its slopes and its curvature, and equations 8 to 13 with them.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from fastmaml.kernels.compile.link import linked
from fastmaml.kernels.losses.passes import Loss
from fastmaml.kernels.models.padded import plain_table
from fastmaml.kernels.models.passes import Passes, delta_of, f_of, r_delta_of, rf_of
from test_checks import error

import fastmaml as fm
from fastmaml import losses
from fastmaml.family import Compiled
from fastmaml.predict import predict

# The formula f(x) = a exp(-b x) + c --------------------------------------------------------------


@linked
def decay_derive(net, w, c):
    """Nothing is derived from a, b and c."""


@linked
def decay_forward(net, block, at, order):
    x, f, (a, b, c) = block.memory, f_of(net, block), (at.w[0], at.w[1], at.w[2])
    for i in range(block.rows):
        f[i] = a * np.exp(-b * x[i]) + c


@linked
def decay_backward(net, block, at, order, g, add):
    x, delta, (a, b) = block.memory, delta_of(net, block), (at.w[0], at.w[1])
    for i in range(0 if add else net.n_padded):
        g[i] = 0
    for i in range(block.rows):
        e = np.exp(-b * x[i])
        g[0] += delta[i] * e
        g[1] -= delta[i] * a * x[i] * e
        g[2] += delta[i]


@linked
def decay_r_forward(net, block, at, along):
    x, rf, (a, b), v = block.memory, rf_of(net, block), (at.w[0], at.w[1]), along.w
    for i in range(block.rows):
        rf[i] = (v[0] - v[1] * a * x[i]) * np.exp(-b * x[i]) + v[2]


@linked
def decay_r_backward(net, block, at, along, hv, add):
    x, (a, b), v = block.memory, (at.w[0], at.w[1]), along.w
    delta, r_delta = delta_of(net, block), r_delta_of(net, block)
    for i in range(0 if add else net.n_padded):
        hv[i] = 0
    for i in range(block.rows):
        e = np.exp(-b * x[i])
        re = -v[1] * x[i] * e
        hv[0] += r_delta[i] * e + delta[i] * re
        hv[1] -= x[i] * (r_delta[i] * a * e + delta[i] * (v[0] * e + a * re))
        hv[2] += r_delta[i]


DECAY = Passes(decay_derive, decay_forward, decay_backward, decay_r_forward, decay_r_backward)


@cache
def compiled(dtype):
    return Compiled(plain_table(n_in=1, n_out=1, n_theta=3, dtype=dtype), DECAY, dtype)


@dataclass(frozen=True)
class Decay:
    """f(x) = a exp(-b x) + c, with theta = (a, b, c)."""

    n_inputs = n_outputs = n_layers = 1
    n_params = 3
    layer_sizes = None
    predict = predict

    def layers(self):
        return {"decay": slice(0, 3)}

    def init(self, rng=None, dtype="float64"):
        return np.array([1.0, 0.7, 0.1], dtype)

    def compiled(self, dtype):
        return compiled(dtype)


def formula(theta, x):
    """f (rows,), its slopes (rows, 3) and its curvature (rows, 3, 3)."""
    a, b, c = theta
    e, zero = np.exp(-b * x), np.zeros_like(x)
    curvature = [[zero, -x * e, zero], [-x * e, a * x**2 * e, zero], [zero, zero, zero]]
    slopes = np.stack([e, -a * x * e, np.ones_like(x)], -1)
    return a * e + c, slopes, np.moveaxis(np.array(curvature), -1, 0)


# Losses ------------------------------------------------------------------------------------------


@linked
def log_cosh_slope(numbers, output, scale, delta) -> float:
    n, ld, total, width = output.n, output.ld, 0.0, numbers[1]
    for i in range(output.rows):
        for j in range(ld):
            r = (output.f[i * ld + j] - output.y[i * n + j]) / width if j < n else 0.0
            total += width * width * np.log(np.cosh(r))
            delta[i * ld + j] = scale * width * np.tanh(r)
    return total


@linked
def log_cosh_bend(numbers, output, scale, rf, r_delta):
    n, ld = output.n, output.ld
    for i in range(output.rows):
        for j in range(ld):
            r = (output.f[i * ld + j] - output.y[i * n + j]) / numbers[1] if j < n else 0.0
            r_delta[i * ld + j] = scale * (1 - np.tanh(r) ** 2) * rf[i * ld + j]


WIDTH = 0.3


def squared(r):
    """Value, slope and curvature of the loss of a row."""
    return r**2 / 2, r, np.ones_like(r)


def log_cosh(r):
    t = np.tanh(r / WIDTH)
    return WIDTH**2 * np.log(np.cosh(r / WIDTH)), WIDTH * t, 1 - t**2


@pytest.fixture
def with_log_cosh(monkeypatch):
    """``loss="wide_log_cosh"`` is twice the sum of log cosh, added as CONTRIBUTING says."""
    monkeypatch.setitem(losses.KINDS, "wide_log_cosh", Loss(log_cosh_slope, log_cosh_bend))
    ours = losses.TaskLoss("wide_log_cosh", 2.0, mean=False, numbers=(WIDTH,))
    monkeypatch.setitem(losses.LOSSES, "wide_log_cosh", ours)


# The reference -----------------------------------------------------------------------------------


def derivatives(loss, scale, theta, x, y):
    """A task's loss, gradient and Hessian."""
    f, slopes, curvature = formula(theta, x[:, 0])
    value, slope, bend = loss(f - y[:, 0])
    hessian = np.einsum("j,jkl->kl", slope, curvature)
    hessian += np.einsum("j,jk,jl->kl", bend, slopes, slopes)
    return scale * value.sum(), scale * slope @ slopes, scale * hessian


def meta(loss, scale, theta, x, y, x_query, y_query, rates, weights, momentum=0.0):
    """Value, meta-gradient and gradient of the rates (S, 3) of all tasks."""
    value, gradient, of_rates = 0.0, np.zeros(3), np.zeros(rates.shape)
    for task in zip(x, y, x_query, y_query, strict=True):
        at, jacobian, v, dv = theta, np.eye(3), np.zeros(3), np.zeros((3, 3))
        by_rates = np.zeros((rates.size, 3))  # of the parameters, by each rate
        v_by_rates = np.zeros((rates.size, 3))
        for step in range(len(rates) + 1):
            outer, g, _ = derivatives(loss, scale, at, *task[2:])
            value += weights[step] * outer
            gradient += weights[step] * g @ jacobian
            of_rates += weights[step] * (by_rates @ g).reshape(rates.shape)
            if step < len(rates):
                _, g, h = derivatives(loss, scale, at, *task[:2])
                v, dv = momentum * v + g, momentum * dv + h @ jacobian
                v_by_rates = momentum * v_by_rates + by_rates @ h
                at = at - rates[step] * v
                jacobian = jacobian - rates[step][:, None] * dv
                by_rates = by_rates - rates[step] * v_by_rates
                for k in range(3):
                    by_rates[3 * step + k, k] -= v[k]
    return value, gradient, of_rates


def data(dtype, widths=(1, 1)):
    rng = np.random.default_rng(0)
    sides = [(4, 70, 2), (3, 5, 90)]  # more rows than a block has, too
    return [
        [rng.uniform(0, 2, (rows, width)).astype(dtype) for rows in counts]
        for counts in sides
        for width in widths
    ]


OPTIONS = {
    "one rate": {"inner_lr": 0.005, "steps": 2},
    "rates of steps": {"inner_lr": np.array([[0.005], [0.002], [0.003]]), "steps": 3},
    "rates of parameters": {"inner_lr": np.array([[0.005, 0.002, 0.003]]), "steps": 2},
    "weights": {"inner_lr": 0.005, "steps": 2, "step_weights": [0.2, 0.3, 0.5]},
    "momentum": {"inner_lr": 0.004, "steps": 3, "inner_momentum": 0.5},
    "no step": {"inner_lr": 0.005, "steps": 0},
}


def check(options, method, dtype, loss, scale, name="half_sse"):
    """Hold a method against the reference."""
    model, tolerance = Decay(), {"float64": 1e-12, "float32": 2e-5}[dtype]
    theta, batch = model.init(dtype=dtype), data(dtype)
    maml = fm.MAML(model, **options, method=method, loss=name)
    found = maml.evaluate(theta, *batch)
    steps = options["steps"]
    given = np.asarray(options["inner_lr"], float)
    rates = np.broadcast_to(given, (steps, 3))
    value, gradient, by_rates = meta(
        loss, scale, theta.astype(float), *([a.astype(float) for a in side] for side in batch),
        rates, options.get("step_weights", [0.0] * steps + [1.0]),
        options.get("inner_momentum", 0.0),
    )  # fmt: skip
    alike = [axis for axis in (0, 1) if given.ndim == 0 or given.shape[axis] == 1]
    by_given = by_rates.sum(tuple(alike)).reshape(given.shape)  # a rate that stands for several
    for got, want in ((found.value, value), (found.gradient, gradient)):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())
    atol = tolerance * max(np.abs(by_given).max(), np.abs(gradient).max())
    np.testing.assert_allclose(found.inner_lr_gradient, by_given, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["auto", "dense", "explicit"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_a_formula_runs_through_every_method(options, method, dtype):
    check(options, method, dtype, squared, 1.0)


@pytest.mark.parametrize("method", ["dense", "explicit"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_another_loss_runs_through_every_method(with_log_cosh, options, method):
    check(options, method, "float64", log_cosh, 2.0, name="wide_log_cosh")


@pytest.mark.parametrize("options", [OPTIONS["one rate"], OPTIONS["weights"]])
def test_another_loss_of_weight_layers(with_log_cosh, options):
    model = fm.MLP([1, 4, 5, 1], "tanh")
    theta, batch = model.init(0), data("float64")
    found = [
        fm.MAML(model, **options, loss="wide_log_cosh", method=m) for m in ("factored", "dense")
    ]
    factored, dense = (maml.evaluate(theta, *batch) for maml in found)
    np.testing.assert_allclose(factored.gradient, dense.gradient, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(factored.inner_lr_gradient, dense.inner_lr_gradient, rtol=1e-11)
    h, direction = 1e-5, np.random.default_rng(1).normal(size=model.n_params)
    ends = [found[0].value(theta + sign * h * direction, *batch) for sign in (1, -1)]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), dense.gradient @ direction, rtol=1e-7)


def test_the_implicit_gradient_of_a_formula():
    """At the minimum of the inner problem it is the gradient of the minimum's query loss."""
    theta, proximal = Decay().init(), 30.0
    x, y, x_query, y_query = data("float64")
    options = {"inner_lr": 0.005, "steps": 400, "proximal": proximal}
    maml = fm.MAML(Decay(), order="implicit", cg_rtol=1e-10, **options)
    adapted = maml.adapt(theta, x, y)
    want = np.zeros(3)
    for at, *task in zip(adapted, x, y, x_query, y_query, strict=True):
        _, g, h = derivatives(squared, 1.0, at, *task[:2])
        np.testing.assert_allclose(g + proximal * (at - theta), 0, atol=1e-9)
        _, outer, _ = derivatives(squared, 1.0, at, *task[2:])
        want += np.linalg.solve(np.eye(3) + h / proximal, outer)
    np.testing.assert_allclose(maml.gradient(theta, x, y, x_query, y_query), want, rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_predictions_of_a_formula(dtype):
    model, tolerance = Decay(), {"float64": 1e-13, "float32": 1e-6}[dtype]
    theta, (x, y, x_new, _) = model.init(dtype=dtype), data(dtype)
    maml = fm.MAML(model, inner_lr=0.005, steps=2)
    adapted = maml.adapt(theta, x, y)
    at_once = maml.predict(theta, x, y, x_new)
    for each, found, f, rows in zip(
        adapted, at_once, model.predict(adapted, x_new), x_new, strict=True
    ):
        want, _, _ = formula(each.astype(float), rows[:, 0].astype(float))
        np.testing.assert_allclose(f[:, 0], want, rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(found, f)


def test_the_equations_of_a_formula():
    theta, (x, y, _, _) = Decay().init(), data("float64")
    hessians = fm.equations.task_hessian(Decay(), theta, x, y)
    gradients = fm.equations.task_gradient(Decay(), theta, x, y)
    products = fm.equations.task_hessp(Decay(), theta, np.arange(3.0), x, y)
    jacobians = fm.equations.jacobian(Decay(), theta, x)
    for i, task in enumerate(zip(x, y, strict=True)):
        _, g, h = derivatives(squared, 1.0, theta, *task)
        np.testing.assert_allclose(gradients[i], g, rtol=1e-12)
        np.testing.assert_allclose(hessians[i], h, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(products[i], h @ np.arange(3.0), rtol=1e-12)
        slopes = formula(theta, x[i][:, 0])[1]
        np.testing.assert_allclose(jacobians[i][:, 0], slopes, rtol=1e-13)


def test_only_weight_layers_run_factored():
    error(
        lambda: fm.MAML(Decay(), method="factored"),
        ValueError,
        'method is "factored", which is for weight layers (model is Decay()); '
        'accepted are "dense", "explicit" and "auto"',
    )


def test_the_function_has_the_parameters_of_the_class():
    network = fm.MLP([2, 5, 3])
    taken = inspect.signature(fm.meta_gradient).parameters
    for name, option in inspect.signature(fm.MAML).parameters.items():
        assert name in ("model", "inner_lr") or taken[name].default == option.default
    batch = data("float64", (2, 3))
    error(
        lambda: fm.meta_gradient(network, network.init(0), *batch, inner_lr=0.1, stps=2),
        TypeError,
        "unexpected keyword argument 'stps'",
    )
