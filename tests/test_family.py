"""What is asked of a model is `fastmaml.family.Family`, and nothing else of any class."""

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
from test_checks import error

import fastmaml as fm
from fastmaml.predict import predict

NETWORK = fm.MLP([2, 5, 3], "tanh")


@dataclass(frozen=True)
class Opaque:
    """It has the names of the protocol, describes layers, and is of no class of the package."""

    n_inputs = 2
    n_outputs = 3
    n_params = NETWORK.n_params
    n_layers = 2
    layer_sizes = None
    predict = predict

    def layers(self):
        return NETWORK.layers()

    def init(self, rng=None, dtype="float64"):
        return NETWORK.init(rng, dtype)

    def compiled(self, dtype):
        return NETWORK.compiled(dtype)

    def padded_index(self, dtype):
        return NETWORK.padded_index(dtype)


def data(dtype):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3, 4, width)).astype(dtype) for width in (2, 3, 2, 3)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {"method": "dense", "steps": 2},
        {"method": "explicit", "inner_lr": [0.1, 0.2]},
        {"method": "dense", "inner_lr": np.full(NETWORK.n_params, 0.1)},
        {"order": "implicit", "proximal": 10.0, "cg_rtol": 1e-3},
    ],
    ids=lambda options: "-".join(options),
)
def test_another_family_has_the_same_bits(options, dtype):
    theta, batch = Opaque().init(0, dtype), data(dtype)
    ours, theirs = fm.MAML(NETWORK, **options), fm.MAML(Opaque(), **options)
    for got, want in zip(theirs.evaluate(theta, *batch), ours.evaluate(theta, *batch), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        theirs.predict(theta, *batch[:3]), ours.predict(theta, *batch[:3])
    )
    adapted = theirs.adapt(theta, *batch[:2])
    np.testing.assert_array_equal(
        Opaque().predict(adapted, batch[2]), NETWORK.predict(adapted, batch[2])
    )
    got, want = (fm.equations.task_hessian(m, theta, *batch[:2]) for m in (Opaque(), NETWORK))
    np.testing.assert_array_equal(got, want)


def test_only_weight_layers_run_factored():
    theta, batch = Opaque().init(0), data("float64")
    error(
        lambda: fm.MAML(Opaque(), method="factored"),
        ValueError,
        'method is "factored", which is for weight layers (model is Opaque()); '
        'accepted are "dense", "explicit" and "auto"',
    )
    got = fm.meta_gradient(Opaque(), theta, *batch, inner_lr=0.01)
    want = fm.meta_gradient(NETWORK, theta, *batch, inner_lr=0.01, method="dense")
    np.testing.assert_array_equal(got, want)


def test_the_function_has_the_parameters_of_the_class():
    taken = inspect.signature(fm.meta_gradient).parameters
    for name, option in inspect.signature(fm.MAML).parameters.items():
        assert name in ("model", "inner_lr") or taken[name].default == option.default
    error(
        lambda: fm.meta_gradient(NETWORK, NETWORK.init(0), *data("float64"), inner_lr=0.1, stps=2),
        TypeError,
        "unexpected keyword argument 'stps'",
    )
