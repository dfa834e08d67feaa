"""Weights in the layouts of Flax, Haiku and Equinox, and theta."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastmaml as fm
from fastmaml.jax import ravel, unravel

pytestmark = pytest.mark.peers

MODEL = fm.MLP([2, 5, 4, 1], "relu")
THETA = np.arange(MODEL.n_params, dtype=np.float32)
LAYERS = MODEL.unpack(THETA)


class Linear(NamedTuple):
    """As Equinox has it: attributes are the names."""

    weight: jax.Array
    bias: jax.Array | None


class Value(NamedTuple):
    """As a Param of Flax's nnx lies in its State."""

    value: jax.Array


def transposed(weight, bias, names=("kernel", "bias"), wrap=lambda leaf: leaf):
    return {names[0]: wrap(jnp.asarray(weight.T)), names[1]: wrap(jnp.asarray(bias))}


TREES = {
    "flax": {"params": {f"Dense_{i}": transposed(*pair) for i, pair in enumerate(LAYERS)}},
    "nnx": {"layers": {i: transposed(*pair, wrap=Value) for i, pair in enumerate(LAYERS)}},
    "haiku": {f"mlp/~/linear_{i}": transposed(*pair, ("w", "b")) for i, pair in enumerate(LAYERS)},
    "equinox": {"layers": tuple(Linear(*pair) for pair in LAYERS), "activation": jax.nn.relu},
    "pairs": LAYERS,
}


@pytest.mark.parametrize("layout", TREES)
def test_there_and_back(layout):
    tree = TREES[layout]
    assert np.array_equal(ravel(MODEL, tree), THETA)
    again = unravel(MODEL, 2 * THETA, tree)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert np.array_equal(ravel(MODEL, again), 2 * THETA)
    arrays = [leaf for leaf in jax.tree.leaves(again) if hasattr(leaf, "shape")]
    assert all(leaf.dtype == np.float32 for leaf in arrays)
    # traced and differentiated
    numbers = jax.jit(lambda theta: ravel(MODEL, unravel(MODEL, theta, tree)))(THETA)
    assert np.array_equal(numbers, THETA)
    slope = jax.grad(lambda theta: (ravel(MODEL, unravel(MODEL, theta, tree)) ** 2).sum())(THETA)
    assert np.array_equal(slope, 2 * THETA)


def test_numbers_in_names_count_as_numbers():
    model = fm.MLP([1] * 13)
    theta = np.arange(model.n_params, dtype=np.float32)
    layers = enumerate(model.unpack(theta))
    tree = {f"Dense_{i}": transposed(weight, bias) for i, (weight, bias) in layers}
    assert np.array_equal(ravel(model, tree), theta)
    own = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
    assert not np.array_equal(own[1::2], theta[0::2])  # of Dense_1 then Dense_10, Dense_11, ...


def test_without_biases():
    model = fm.Linear(3, 2, intercept=False)
    theta = np.arange(6, dtype=np.float32)
    tree = {"kernel": jnp.zeros((3, 2))}
    assert np.array_equal(ravel(model, unravel(model, theta, tree)), theta)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    model = fm.MLP([2, 5, 1], "relu")
    net = eqx.nn.MLP(2, 1, 5, 1, key=jax.random.key(0))
    theta = model.init(0, "float32")
    x = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    f = jax.vmap(unravel(model, theta, net))(x)
    np.testing.assert_allclose(f, model.predict(theta, x), rtol=1e-5, atol=1e-6)


def test_flax():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            for width in (5, 4):
                x = linen.relu(linen.Dense(width)(x))
            return linen.Dense(1)(x)

    theta = MODEL.init(0, "float32")
    x = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    like = Net().init(jax.random.key(0), x)
    f = Net().apply(unravel(MODEL, theta, like), x)
    np.testing.assert_allclose(f, MODEL.predict(theta, x), rtol=1e-5, atol=1e-6)


KERNEL = jnp.zeros((2, 1))
LINEAR = fm.Linear(2)


@pytest.mark.parametrize(
    ("tree", "error", "text"),
    [
        ({}, ValueError, "the tree has 0 layers, the model has 1 .*; accepted are layers of a ker"),
        (LAYERS, ValueError, "the tree has 3 layers, the model has 1"),
        ({"a": {"kernel": KERNEL}}, ValueError, "the layer 'a' has no bias, the model is Linear"),
        ({"a": {"kernel": KERNEL, "scale": KERNEL}}, TypeError,
         "the layer 'a' has kernel, scale; accepted are layers of a kernel"),
        ({"a": {"bias": jnp.zeros(1)}}, TypeError, "the layer 'a' has bias; accepted"),
        ({"a": {"kernel": KERNEL.T, "bias": jnp.zeros(1)}}, ValueError,
         r"the layer 'a' has an array of shape \(1, 2\), the model takes \(2, 1\)"),
        ({"kernel": KERNEL, "bias": jnp.zeros(2)}, ValueError,
         r"the tree itself has an array of shape \(2,\), the model takes \(1,\)"),
        (KERNEL, TypeError, "the tree itself has ; accepted are layers"),
    ],
)  # fmt: skip
def test_errors_of_trees(tree, error, text):
    with pytest.raises(error, match=text):
        ravel(LINEAR, tree)
    with pytest.raises(error, match=text):
        unravel(LINEAR, np.zeros(3), tree)


def test_other_errors():
    tree = {"kernel": KERNEL, "bias": jnp.zeros(1)}
    with pytest.raises(ValueError, match=r"theta has shape \(4,\), the model takes \(3,\)"):
        unravel(LINEAR, np.zeros(4), tree)
    with pytest.raises(TypeError, match="model is 'linear'; accepted are MLP and Linear"):
        ravel("linear", tree)
    biased = fm.Linear(2, intercept=False)
    with pytest.raises(ValueError, match="the tree itself has a bias, the model is Linear"):
        ravel(biased, tree)
