"""A model and a loss of a user's own, larger than those of test_family, and what can go wrong.

The model has two inputs, three outputs and parameters that fill no whole vector; the loss couples
the outputs. The reference differentiates the meta-objective by the complex step.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from functools import cache, partial

import numba
import numpy as np
import pytest
from fastmaml.kernels.compile import link
from fastmaml.kernels.compile.link import linked
from fastmaml.kernels.compile.records import NET_FIELDS
from fastmaml.kernels.losses.passes import Loss
from fastmaml.kernels.losses.squared import SQUARED
from fastmaml.kernels.models import passes
from fastmaml.kernels.models.padded import plain_table
from fastmaml.kernels.models.passes import Passes, delta_of, f_of, kept_of, r_delta_of, rf_of

import fastmaml as fm
from fastmaml import losses
from fastmaml.family import Compiled
from fastmaml.predict import predict

# f_o = a_o sin(b . x + c_o) + d, theta = (a_1, a_2, a_3, b_1, b_2, c_1, c_2, c_3, d) -------------


@linked
def waves_derive(net, w, c):
    """Nothing is derived."""


@linked
def waves_forward(net, block, at, order):
    x, f, w, kept = block.memory, f_of(net, block), at.w, kept_of(net, block)
    for i in range(block.rows):
        for o in range(3):
            s = w[3] * x[2 * i] + w[4] * x[2 * i + 1] + w[5 + o]
            f[3 * i + o] = w[o] * np.sin(s) + w[8]
            if order > 0:
                kept[6 * i + o], kept[6 * i + 3 + o] = np.sin(s), np.cos(s)


@linked
def waves_backward(net, block, at, order, g, add):
    x, delta, w, kept = block.memory, delta_of(net, block), at.w, kept_of(net, block)
    for i in range(0 if add else net.n_padded):
        g[i] = 0
    for i in range(block.rows):
        for o in range(3):
            d = delta[3 * i + o]
            t = d * w[o] * kept[6 * i + 3 + o]
            g[o] += d * kept[6 * i + o]
            g[3] += t * x[2 * i]
            g[4] += t * x[2 * i + 1]
            g[5 + o] += t
            g[8] += d


@linked
def waves_r_forward(net, block, at, along):
    x, rf, w, v, kept = block.memory, rf_of(net, block), at.w, along.w, kept_of(net, block)
    for i in range(block.rows):
        for o in range(3):
            rs = v[3] * x[2 * i] + v[4] * x[2 * i + 1] + v[5 + o]
            sin, cos = kept[6 * i + o], kept[6 * i + 3 + o]
            rf[3 * i + o] = v[o] * sin + w[o] * cos * rs + v[8]


@linked
def waves_r_backward(net, block, at, along, hv, add):
    x, w, v, kept = block.memory, at.w, along.w, kept_of(net, block)
    delta, r_delta = delta_of(net, block), r_delta_of(net, block)
    for i in range(0 if add else net.n_padded):
        hv[i] = 0
    for i in range(block.rows):
        for o in range(3):
            d, rd = delta[3 * i + o], r_delta[3 * i + o]
            sin, cos = kept[6 * i + o], kept[6 * i + 3 + o]
            rs = v[3] * x[2 * i] + v[4] * x[2 * i + 1] + v[5 + o]
            t = rd * w[o] * cos + d * (v[o] * cos - w[o] * sin * rs)
            hv[o] += rd * sin + d * cos * rs
            hv[3] += t * x[2 * i]
            hv[4] += t * x[2 * i + 1]
            hv[5 + o] += t
            hv[8] += rd


WAVES = Passes(waves_derive, waves_forward, waves_backward, waves_r_forward, waves_r_backward)


@cache
def compiled(dtype):
    return Compiled(plain_table(2, 3, 9, dtype, kept=6), WAVES, dtype)


@dataclass(frozen=True)
class Waves:
    """See above; its sizes can be given wrong."""

    n_params: int = 9
    n_layers: int = 1
    n_inputs = 2
    n_outputs = 3
    layer_sizes = None
    predict = predict

    def layers(self):
        return {"waves": slice(0, self.n_params)}

    def init(self, rng=None, dtype="float64"):
        return np.random.default_rng(rng).normal(size=self.n_params).astype(dtype)

    def compiled(self, dtype):
        return compiled(dtype)


def waves(theta, x):
    return theta[:3] * np.sin((x @ theta[3:5])[:, None] + theta[5:8]) + theta[8]


def slopes(theta, x):
    """df/dtheta (rows, 3, 9)."""
    s = (x @ theta[3:5])[:, None] + theta[5:8]
    found = np.zeros((len(x), 3, 9), theta.dtype)
    for o in range(3):
        cos = theta[o] * np.cos(s[:, o])
        found[:, o, o] = np.sin(s[:, o])
        found[:, o, 3], found[:, o, 4], found[:, o, 5 + o] = cos * x[:, 0], cos * x[:, 1], cos
    found[:, :, 8] = 1
    return found


# Softmax cross-entropy, whose curvature is p * v - p (p . v) -------------------------------------


@linked
def softmax_slope(numbers, output, scale, delta) -> float:
    n, ld, f, y, total = output.n, output.ld, output.f, output.y, 0.0
    for i in range(output.rows):
        z = 0.0
        for j in range(n):
            z += np.exp(f[i * ld + j])
        total += np.log(z)
        for j in range(ld):
            delta[i * ld + j] = 0
        for j in range(n):
            total -= y[i * n + j] * f[i * ld + j]
            delta[i * ld + j] = scale * (np.exp(f[i * ld + j]) / z - y[i * n + j])
    return total


@linked
def softmax_bend(numbers, output, scale, rf, r_delta):
    n, ld, f = output.n, output.ld, output.f
    for i in range(output.rows):
        z = pv = 0.0
        for j in range(n):
            e = np.exp(f[i * ld + j])
            z += e
            pv += e * rf[i * ld + j]
        for j in range(ld):
            r_delta[i * ld + j] = 0
        for j in range(n):
            p = np.exp(f[i * ld + j]) / z
            r_delta[i * ld + j] = scale * p * (rf[i * ld + j] - pv / z)


@pytest.fixture(autouse=True)
def with_softmax(monkeypatch):
    monkeypatch.setitem(losses.KINDS, "cross_entropy", Loss(softmax_slope, softmax_bend))
    monkeypatch.setitem(
        losses.LOSSES, "cross_entropy", losses.TaskLoss("cross_entropy", 1.0, mean=True)
    )


def loss(name, f, y):
    """A task's loss and its slope at the outputs."""
    if name == "half_sse":
        return 0.5 * ((f - y) ** 2).sum(), f - y
    if name == "mse":
        return ((f - y) ** 2).mean(), 2 * (f - y) / y.size
    e = np.exp(f)
    total = (np.log(e.sum(1)) - (y * f).sum(1)).sum() / len(y)
    return total, (e / e.sum(1, keepdims=True) - y) / len(y)


def meta_objective(name, tasks, weights, momentum, theta, rates):
    total = 0.0
    for x, y, x_query, y_query in tasks:
        at, v = theta, 0.0
        for step, weight in enumerate(weights):
            if weight:
                total = total + weight * loss(name, waves(at, x_query), y_query)[0]
            if step < len(rates):
                slope = loss(name, waves(at, x), y)[1]
                v = momentum * v + np.einsum("jo,jop->p", slope, slopes(at, x))
                at = at - rates[step] * v
    return total


def complex_step(function, at):
    return np.array([function(at + 1e-30j * unit).imag / 1e-30 for unit in np.eye(len(at))])


def batch(dtype="float64", counts=((1, 3), (65, 2), (130, 5), (3, 70))):
    rng = np.random.default_rng(0)
    sides = [[n[side] for n in counts] for side in (0, 1)]
    return [
        [draw(n).astype(dtype) for n in side]
        for side in sides
        for draw in (lambda n: rng.normal(size=(n, 2)), lambda n: rng.dirichlet(np.ones(3), n))
    ]


CASES = {
    "one step": ([0.003], [0, 1.0], 0.0),
    "weights": ([0.004, 0.001, 0.002], [0.1, 0.2, 0, 0.7], 0.0),
    "momentum": ([0.002, 0.001], [0, 0, 1.0], 0.6),
}


@pytest.mark.parametrize("name", ["half_sse", "mse", "cross_entropy"])
@pytest.mark.parametrize("case", CASES)
def test_methods_agree_with_the_complex_step(case, name):
    rates, weights, momentum = CASES[case]
    theta, data = Waves().init(1), batch()
    rates = np.array(rates)
    of = partial(meta_objective, name, list(zip(*data, strict=True)), weights, momentum)
    value, gradient = of(theta, rates), complex_step(lambda at: of(at, rates), theta)
    by_rates = complex_step(lambda at: of(theta, at), rates)
    options = {"steps": len(rates), "step_weights": weights, "inner_momentum": momentum}
    for method, dtype, tolerance in (
        ("dense", "float64", 1e-12), ("explicit", "float64", 1e-12),
        ("dense", "float32", 2e-5), ("explicit", "float32", 2e-5),
    ):  # fmt: skip
        maml = fm.MAML(Waves(), rates[:, None], loss=name, method=method, **options)
        found = maml.evaluate(theta.astype(dtype), *batch(dtype))
        for got, want in (
            (found.value, value), (found.gradient, gradient),
            (found.inner_lr_gradient[:, 0], by_rates),
        ):  # fmt: skip
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def test_first_order_and_predictions_call_no_other_passes():
    theta, data = Waves().init(1), batch()
    options = {"loss": "cross_entropy", "order": "first"}
    found = [
        fm.MAML(Waves(), 0.003, 2, method=method, **options).evaluate(theta, *data)
        for method in ("dense", "explicit")
    ]
    np.testing.assert_allclose(found[0].gradient, found[1].gradient, rtol=1e-12)
    f = fm.MAML(Waves(), 0.003, 2, loss="cross_entropy").predict(theta, *data[:3])
    assert [rows.shape for rows in f] == [(3, 3), (2, 3), (5, 3), (70, 3)]


def test_threads_copies_and_pickles_give_the_same_bits():
    maml, theta = fm.MAML(Waves(), 0.003, 2, loss="cross_entropy"), Waves().init(1)
    many = [side * 60 for side in batch()]
    want = maml.gradient(theta, *many)
    with fm.threads(1):
        np.testing.assert_array_equal(maml.gradient(theta, *many), want)
    for other in (copy.deepcopy(maml), pickle.loads(pickle.dumps(maml))):
        np.testing.assert_array_equal(other.gradient(theta, *many), want)


@pytest.mark.parametrize("wrong", [{"n_params": 5}, {"n_layers": 2}])
def test_a_model_must_agree_with_its_table(wrong):
    model = Waves(**wrong)
    sizes = (2, 3, model.n_params, model.n_layers)
    message = rf"has \(n_inputs, n_outputs, n_params, n_layers\) \({', '.join(map(str, sizes))}\)"
    for call in (
        lambda: fm.MAML(model),
        lambda: model.predict(np.zeros(model.n_params), np.zeros((4, 2))),
        lambda: fm.equations.task_loss(model, np.zeros(model.n_params), *batch()[:2]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_loss_that_is_replaced_or_gone(monkeypatch):
    maml, theta, data = fm.MAML(Waves(), loss="cross_entropy"), Waves().init(1), batch()
    before = maml.value(theta, *data)
    monkeypatch.setitem(losses.KINDS, "cross_entropy", SQUARED)
    again = fm.MAML(Waves(), loss="cross_entropy")
    assert again.value(theta, *data) != before
    monkeypatch.delitem(losses.KINDS, "cross_entropy")
    stored = pickle.loads(pickle.dumps(again))
    with pytest.raises(
        ValueError, match="loss is of the kind 'cross_entropy'; accepted are 'squared'"
    ):
        stored.value(theta, *data)


def plain(net, w, c):
    """It is not linked."""


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_passes_must_be_linked():
    table = plain_table(2, 3, 9, np.float64)
    with pytest.raises(TypeError, match="plain is not a linked function"):
        passes.with_passes(table, WAVES._replace(derive=plain), np.dtype("float64"), 0)


def test_an_address_that_was_not_asked_for_is_none():
    """Where the JIT is off, that is an error."""
    places = [NET_FIELDS.index(name) for name in Passes._fields]
    table = compiled(np.dtype("float64")).reaching(0)
    assert [address > 0 for address in table[places]] == [True, True, False, False, False]
    with pytest.raises(LookupError, match="was not asked for"):
        link._called[0]()
