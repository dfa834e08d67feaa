"""fastmaml.jax: the meta-loss under JAX's own transformations, to the bits of `evaluate`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fastmaml as fm
from fastmaml.jax import meta_loss

pytestmark = pytest.mark.peers

MODEL = fm.MLP([2, 7, 5, 1])


@pytest.fixture(autouse=True, params=[True, False], ids=["x64", "x32"])
def x64(request):
    """Each test runs with JAX's doubles and without."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def dtype(x64):
    return np.dtype("float64" if x64 else "float32")


def tasks(dtype, n_tasks=4, rows=6, seed=0):
    rng = np.random.default_rng(seed)
    x, x_query = (rng.normal(size=(n_tasks, rows, 2)).astype(dtype) for _ in range(2))
    y, y_query = (np.sin(each.sum(axis=-1, keepdims=True)) for each in (x, x_query))
    return x, y, x_query, y_query


def same_bits(got, want):
    got, want = np.asarray(got), np.asarray(want)
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()


FORMS = {
    "all": {"inner_lr": 0.05},
    "mse": {"inner_lr": 0.05, "loss": "mse", "task_mean": True, "steps": 3},
    "first": {"inner_lr": [0.1, 0.05, 0.0], "order": "first"},
    "huber": {"inner_lr": 0.05, "loss": fm.Huber(0.5)},
    "multi-step": {"inner_lr": 0.05, "steps": 2, "step_weights": [0.2, 0.3, 0.5]},
}


@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradient(form, dtype):
    maml, theta, data = fm.MAML(MODEL, **FORMS[form]), MODEL.init(0, dtype), tasks(dtype)
    want = maml.evaluate(theta, *data)
    loss = meta_loss(maml)
    for function in (jax.value_and_grad(loss), jax.jit(jax.value_and_grad(loss)),
                     jax.value_and_grad(jax.jit(loss))):  # fmt: skip
        value, gradient = function(jnp.asarray(theta), *data)
        assert same_bits(value, np.asarray(want.value, dtype))
        assert same_bits(gradient, want.gradient)
    assert same_bits(jax.jit(loss)(theta, *data), np.asarray(maml.value(theta, *data), dtype))


def test_labels(dtype):
    model, labels = fm.MLP([2, 7, 3]), np.arange(24).reshape(4, 6) % 3
    theta, x = model.init(0, dtype), tasks(dtype)[0]
    maml = fm.MAML(model, 0.05, loss="softmax")
    gradient = jax.jit(jax.grad(meta_loss(maml)))(theta, x, labels)
    assert same_bits(gradient, maml.gradient(theta, x, labels))
    with pytest.raises(ValueError, match="y has 2 columns, Softmax"):
        jax.jit(meta_loss(maml))(theta, x, np.zeros((4, 6, 2), dtype))


def test_weights_of_rows(dtype):
    theta, data, rng = MODEL.init(0, dtype), tasks(dtype), np.random.default_rng(1)
    named = {name: rng.random((4, 6)).astype(dtype)
             for name in ("sample_weight", "sample_weight_query")}  # fmt: skip
    rate = np.asarray([0.05, 0.02, 0.0], dtype)
    maml = fm.MAML(MODEL, rate, loss="mse")
    want = maml.evaluate(theta, *data, **named)
    loss = meta_loss(maml)
    function = jax.jit(jax.value_and_grad(loss, argnums=(0, 5)))
    value, (gradient, by_rate) = function(theta, *data, rate, **named)
    assert same_bits(value, np.asarray(want.value, dtype))
    assert same_bits(gradient, want.gradient)
    assert same_bits(by_rate, np.asarray(want.inner_lr_gradient, dtype))
    assert same_bits(loss(theta, *data, **named), value)
    x, y, *_ = data
    weight = named["sample_weight"]
    alone = jax.grad(loss)(theta, x, y, sample_weight=weight)
    assert same_bits(alone, maml.gradient(theta, x, y, sample_weight=weight))
    ragged = [x[0], x[1, :2]], [y[0], y[1, :2]]
    named = {"sample_weight": [weight[0], weight[1, :2]]}
    found = jax.jit(jax.grad(loss))(theta, *ragged, **named)
    assert same_bits(found, maml.gradient(theta, *ragged, **named))
    with pytest.raises(ValueError, match=r"sample_weight has shape \(4, 5\); accepted is \(4, 6\)"):
        jax.jit(loss)(theta, *data, sample_weight=weight[:, :5])
    with pytest.raises(ValueError, match="sample_weight_query is given, x_query is not"):
        jax.jit(loss)(theta, x, y, sample_weight_query=weight)
    with pytest.raises(ValueError, match="is asked for sample_weight, and there is none for data"):
        jax.grad(lambda weight: loss(theta, *data, sample_weight=weight))(weight)


def test_losses_of_support_and_query_rows(dtype):
    theta, (x, y, *_) = MODEL.init(0, dtype), tasks(dtype)
    labels = (y[..., 0] > 0).astype(int)
    maml = fm.MAML(MODEL, 0.05, loss=fm.Huber(0.3), query_loss="logistic")
    gradient = jax.jit(jax.grad(meta_loss(maml)))(theta, x, y, x, labels)
    assert same_bits(gradient, maml.gradient(theta, x, y, x, labels))


RATES = {
    "scalar": 0.05,
    "layer": [0.05, 0.02, 0.0],
    "both": [[0.05, 0.02, 0.1], [0.0, 0.01, 0.02]],
    "parameter": np.linspace(0.01, 0.05, MODEL.n_params),
}


@pytest.mark.parametrize("shape", RATES)
def test_gradient_of_the_rates(shape, dtype):
    theta, data, rates = MODEL.init(0, dtype), tasks(dtype), np.asarray(RATES[shape], dtype)
    want = fm.MAML(MODEL, rates, steps=2).evaluate(theta, *data)
    loss = meta_loss(fm.MAML(MODEL, steps=2))
    both = jax.jit(jax.grad(loss, argnums=(0, 5)))(theta, *data, rates)
    assert same_bits(both[0], want.gradient)
    assert same_bits(both[1], np.asarray(want.inner_lr_gradient, dtype))
    alone = jax.grad(lambda rates: loss(theta, *data, inner_lr=rates))(jnp.asarray(rates))
    assert same_bits(alone, both[1])
    plain = jax.grad(loss)(theta, *data, rates)
    assert same_bits(plain, want.gradient)


def test_last_layer(dtype):
    head, data = fm.BayesianLastLayer(MODEL), tasks(dtype)
    theta = head.init(0, dtype)
    want = head.evaluate(theta, *data)
    value, gradient = jax.jit(jax.value_and_grad(meta_loss(head)))(theta, *data)
    assert same_bits(value, np.asarray(want.value, dtype))
    assert same_bits(gradient, want.gradient)


def test_forms_of_the_data(dtype):
    maml, theta, (x, y, x_query, y_query) = fm.MAML(MODEL, 0.05), MODEL.init(0, dtype), tasks(dtype)
    gradient = jax.jit(jax.grad(meta_loss(maml)))
    for data in (
        (x, y),
        (x[0], y[0], x_query[0], y_query[0]),
        (x, y[..., 0], x_query, y_query[..., 0]),
        ([x[0], x[1, :2]], [y[0], y[1, :2]], list(x_query[:2]), list(y_query[:2])),
    ):
        assert same_bits(gradient(theta, *data), maml.gradient(theta, *data))


def test_precision_follows_jax(x64):
    """Doubles become singles before they are computed with, unless JAX has doubles."""
    maml, theta, data = fm.MAML(MODEL, 0.05), MODEL.init(0), tasks("float64")
    value, gradient = jax.value_and_grad(meta_loss(maml))(theta, *data)
    used = "float64" if x64 else "float32"
    assert value.dtype == gradient.dtype == used
    arrays = [each.astype(used) for each in (theta, *data)]
    assert same_bits(gradient, maml.gradient(*arrays))


def test_scan_with_optax(dtype):
    maml, theta, data = fm.MAML(MODEL, 0.05, loss="mse"), MODEL.init(0, dtype), tasks(dtype)
    loss, optimizer = meta_loss(maml), optax.sgd(0.01)
    batches = [jnp.stack([each, each[::-1]]) for each in data]

    def update(carry, batch):
        theta, state = carry
        value, gradient = jax.value_and_grad(loss)(theta, *batch)
        updates, state = optimizer.update(gradient, state, theta)
        return (optax.apply_updates(theta, updates), state), value

    start = (jnp.asarray(theta), optimizer.init(jnp.asarray(theta)))
    (end, _), values = jax.jit(partial(jax.lax.scan, update))(start, batches)
    tolerance = 1e-5 if dtype == "float32" else 1e-12  # the steps round differently
    for i in range(2):
        value, gradient = maml.value_and_gradient(theta, *(np.asarray(each[i]) for each in batches))
        np.testing.assert_allclose(values[i], value, rtol=tolerance)
        theta = theta - np.asarray(0.01, dtype) * gradient
    np.testing.assert_allclose(end, theta, atol=tolerance)


def test_gradient_of_a_scan(dtype):
    maml, theta, data = fm.MAML(MODEL, 0.05), MODEL.init(0, dtype), tasks(dtype)
    loss = meta_loss(maml)

    def total(theta):
        add = lambda sum_, batch: (sum_ + loss(theta, *batch), None)  # noqa: E731
        return jax.lax.scan(add, jnp.zeros((), dtype), [jnp.stack([each] * 3) for each in data])[0]

    gradient = jax.jit(jax.grad(total))(jnp.asarray(theta))
    once = maml.gradient(theta, *data)
    np.testing.assert_allclose(gradient, 3 * once, rtol=1e-6)


def test_vmap_over_theta(dtype):
    maml, data = fm.MAML(MODEL, 0.05), tasks(dtype)
    thetas = np.stack([MODEL.init(seed, dtype) for seed in range(3)])
    rates = np.asarray([0.1, 0.05, 0.02], dtype)
    loss = meta_loss(maml)
    none = (None,) * 4
    found = jax.jit(jax.vmap(jax.grad(loss), (0, *none)))(thetas, *data)
    assert same_bits(found, np.stack([maml.gradient(theta, *data) for theta in thetas]))
    found = jax.vmap(jax.grad(loss, 5), (0, *none, 0))(thetas, *data, rates)
    want = [fm.MAML(MODEL, rate).evaluate(theta, *data).inner_lr_gradient
            for theta, rate in zip(thetas, rates, strict=True)]  # fmt: skip
    assert same_bits(found, np.asarray(want, dtype))


def test_chain_rule(dtype):
    maml, theta, data = fm.MAML(MODEL, 0.05), MODEL.init(0, dtype), tasks(dtype)
    loss = meta_loss(maml)
    found = jax.grad(lambda scale: 2 * loss(scale * theta, *data))(jnp.ones((), dtype))
    want = 2 * float(np.dot(maml.gradient(theta, *data), theta))
    assert abs(float(found) - want) <= 1e-5 * abs(want)


def test_large_batches_do_not_wait_for_themselves(dtype):
    maml, data = fm.MAML(MODEL, 0.001), tasks(dtype, n_tasks=5000, rows=20)
    theta = MODEL.init(0, dtype)
    gradient = jax.jit(jax.grad(meta_loss(maml)))(theta, *map(jnp.asarray, data))
    assert same_bits(gradient, maml.gradient(theta, *data))


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text", "change"),
    [
        (ValueError, r"theta has shape \(3,\), the model takes \(67,\)",
         lambda c: c.update(theta=jnp.zeros(3))),
        (TypeError, "theta has dtype float16; accepted are float32 and float64",
         lambda c: c.update(theta=jnp.zeros(67, "float16"))),
        (ValueError, "x has 3 features, the model takes 2",
         lambda c: c.update(x=jnp.zeros((4, 6, 3)))),
        (ValueError, "y has 3 tasks, x has 4", lambda c: c.update(y=c["y"][:3])),
        (ValueError, "x_query is given, y_query is not", lambda c: c.pop("y_query")),
        (ValueError, r"inner_lr has shape \(4,\); accepted are a scalar",
         lambda c: c.update(inner_lr=jnp.zeros(4))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_errors_where_it_is_traced(transform, error, text, change, dtype):
    call = dict(zip(("x", "y", "x_query", "y_query"), tasks(dtype), strict=True))
    call.update(theta=MODEL.init(0, dtype))
    change(call)
    with pytest.raises(error, match=text):
        transform(meta_loss(fm.MAML(MODEL)))(**call)


def test_other_errors(dtype):
    theta, (x, y, x_query, y_query) = MODEL.init(0, dtype), tasks(dtype)
    loss = meta_loss(fm.MAML(MODEL))
    with pytest.raises(Exception, match="y holds nan in task 0, row 0; accepted are finite"):
        jax.block_until_ready(jax.jit(loss)(theta, x, y * np.nan))
    for i, name in enumerate(("x", "y", "x_query", "y_query"), start=1):
        with pytest.raises(ValueError, match=f"is asked for {name}, and there is none for data"):
            jax.grad(loss, argnums=i)(theta, x, y, x_query, y_query)
    gradient = jax.grad(loss)
    for second in (jax.hessian(loss), jax.grad(lambda *arguments: gradient(*arguments).sum())):
        with pytest.raises(TypeError, match="is differentiated, which it cannot be"):
            second(theta, x, y)
    with pytest.raises(TypeError, match="objective is 'maml'; accepted are a fastmaml"):
        meta_loss("maml")
    with pytest.raises(ValueError, match="inner_lr is given, objective is a BayesianLastLayer"):
        meta_loss(fm.BayesianLastLayer(MODEL))(theta, x, y, inner_lr=0.1)


def test_tracing_asks_no_transform():
    """That of a `Features` is called with the rows of a call, never with what stands for them."""
    seen = []

    def waves(x):
        seen.append(x.copy())
        return np.hstack([np.sin(x), np.cos(x)])

    model = fm.Features(waves, 2)
    maml, theta = fm.MAML(model, 0.01, 2), model.init(0, "float32")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 4, 1)).astype("float32")
    gradient = jax.jit(jax.grad(meta_loss(maml)))
    lowered = gradient.lower(theta, x, y)
    assert not seen
    found = lowered.compile()(theta, x, y)
    np.testing.assert_array_equal(found, maml.gradient(theta, x, y))
    for rows in seen:
        np.testing.assert_array_equal(rows, x.reshape(-1, 1))
