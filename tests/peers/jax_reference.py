"""The same quantities by JAX: autodiff through the inner loop, in double precision.

Independent of the package and of the NumPy reference: activations, losses and derivatives are JAX's
own. Ragged tasks are padded with rows of zeros that a mask keeps out of the loss. Compiling costs
more than running here: XLA is told not to optimise, and the inner loop is a scan.
"""

import functools
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from reference import Weighted

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)


def _compiler_options():
    """Older code generators of XLA, where there is the choice: they halve the time of a run."""
    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(jnp.negative, compiler_options=options)(0.0)
    except (TypeError, jax.errors.JaxRuntimeError):  # no options, or no such one, in this version
        return {}
    return {"compiler_options": options}


compiled = functools.partial(jax.jit, **_compiler_options())

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "sin": jnp.sin,
}


def network(model, theta, x):
    """f (..., n_outputs) at x (..., n_inputs), from the flat parameters."""
    start = 0
    words = model.activation
    for depth, (n_in, n_out) in enumerate(pairwise(model.layer_sizes)):
        if depth:
            x = ACTIVATIONS[words if isinstance(words, str) else words[depth - 1]](x)
        weight = theta[start : start + n_out * n_in].reshape(n_out, n_in)
        start += n_out * n_in
        x = x @ weight.T
        if model.intercept:
            x = x + theta[start : start + n_out]
            start += n_out
    return x


def row_losses(word, given, f, y):
    """l of each row, and how many terms it is a sum of; `given` are the parameters by name."""
    r = f - y if f.shape == y.shape else None
    if word == "Softmax":
        labels = y[:, 0].astype(int)
        return -jnp.take_along_axis(jax.nn.log_softmax(f), labels[:, None], 1)[:, 0], 1
    if word == "GaussianNLL":
        mean, log_variance = jnp.split(f, 2, axis=1)
        density = jax.scipy.stats.norm.logpdf(y, mean, jnp.exp(log_variance / 2))
        return -density.sum(axis=1), y.shape[1]
    if word == "Huber":
        delta = given["delta"]
        inner = jnp.clip(r, -delta, delta)
        each = inner * (r - inner / 2)
    elif word == "PseudoHuber":
        delta = given["delta"]
        each = delta**2 * (jnp.sqrt(1 + (r / delta) ** 2) - 1)
    elif word == "LogCosh":
        each = jnp.logaddexp(r, -r) - jnp.log(2.0)
    elif word == "Quantile":
        q, width = given["q"], given["smoothing"]
        each = -q * r + width * jax.nn.softplus(r / width)
    elif word == "Logistic":
        each = -(y * jax.nn.log_sigmoid(f) + (1 - y) * jax.nn.log_sigmoid(-f))
    elif word == "Loss":  # of the tests' own: Cauchy's
        each = jnp.log1p(r**2)
    else:
        assert word == "Poisson"
        each = jnp.exp(f) - y * f
    return each.sum(axis=1), y.shape[1]


def loss_of_outputs(kind, f, y, mask):
    """The loss of one task, from the rows that the mask keeps; it may hold weights of rows."""
    if not isinstance(kind, str):  # an object with parameters
        rows, terms = row_losses(type(kind).__name__, vars(kind), f, y)
        total = jnp.sum(mask * rows)
        return total / (jnp.sum(mask) * terms) if kind.mean else total
    squares = mask[:, None] * (f - y) ** 2
    if kind.endswith("sse"):
        loss = jnp.sum(squares)
    elif kind == "mse":
        loss = jnp.sum(squares) / (jnp.sum(mask) * y.shape[1])
    else:
        loss = jnp.sum(squares) / jnp.sum(mask)
    return 0.5 * loss if kind.startswith("half") else loss


def task_loss(model, kind, theta, x, y, mask):
    """The same of a network's outputs."""
    return loss_of_outputs(kind, network(model, theta, x), y, mask)


def rates(case, inner_lr):
    """The inner learning rate of each step and parameter, (S, P)."""
    model, steps = case.model, case.steps
    if case.form == "step":
        inner_lr = inner_lr.reshape(steps, 1)
    if case.form in ("layer", "step_layer"):
        inner_lr = inner_lr.reshape(-1, model.n_layers)
        sizes = [n_out * (n_in + model.intercept) for n_in, n_out in pairwise(model.layer_sizes)]
        inner_lr = jnp.repeat(inner_lr, np.array(sizes), axis=1, total_repeat_length=sum(sizes))
    return jnp.broadcast_to(inner_lr, (steps, model.n_params))


def task_value(case, theta, inner_lr, support, query):
    """sum_s w_s L_query(theta_s) of one task, and its adapted parameters."""
    query_loss = case.loss if case.query_loss is None else case.query_loss
    weights = case.step_weights
    if weights is None:
        weights = np.eye(case.steps + 1)[-1]

    def step(state, rate_and_weight):
        theta, velocity = state
        rate, weight = rate_and_weight
        value = weight * task_loss(case.model, query_loss, theta, *query)
        gradient = jax.grad(task_loss, argnums=2)(case.model, case.loss, theta, *support)
        if case.order == "first":
            gradient = jax.lax.stop_gradient(gradient)
        velocity = case.inner_momentum * velocity + gradient
        return (theta - rate * velocity, velocity), value

    rates_and_weights = rates(case, inner_lr), jnp.asarray(weights[:-1])
    (theta, _), values = jax.lax.scan(step, (theta, jnp.zeros_like(theta)), rates_and_weights)
    last = weights[-1] * task_loss(case.model, query_loss, theta, *query)
    return jnp.sum(values) + last, theta


def padded(x, y):
    """Tasks of any numbers of rows as equal ones: x, y and the mask of true rows, or weights."""
    weights = [part.weights for part in y if isinstance(part, Weighted)]
    y = [part.y if isinstance(part, Weighted) else part for part in y]
    counts = np.array([len(rows) for rows in x])
    mask = np.arange(counts.max()) < counts[:, None]
    full = []
    for part in (x, y):
        rows = np.zeros((*mask.shape, part[0].shape[1]))
        rows[mask] = np.concatenate(part)
        full.append(rows)
    if weights:
        mask = mask.astype(float)
        mask[mask > 0] = np.concatenate(weights)
    return *full, mask


def evaluate(case):
    """value, gradient, task_values, inner_lr_gradient and adapted parameters of a case."""
    x, y, x_query, y_query = case.per_task
    support, query = padded(x, y), padded(x_query, y_query)
    share = len(x) if case.task_mean else 1

    @compiled
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def total(theta, inner_lr):
        def one_task(support, query):
            return task_value(case, theta, inner_lr, support, query)

        task_values, adapted = jax.vmap(one_task)(support, query)
        return jnp.sum(task_values) / share, (task_values, adapted)

    theta, inner_lr = jnp.asarray(case.theta), jnp.asarray(case.inner_lr)
    (value, (task_values, adapted)), (gradient, by_rate) = total(theta, inner_lr)
    return tuple(np.asarray(part) for part in (value, gradient, task_values, by_rate, adapted))


def equations(case):
    """What ``fastmaml.equations`` computes for one inner step, by name, an array for each task."""
    model, kind = case.model, case.loss
    rate = jnp.asarray(case.inner_lr).ravel() if case.form == "parameter" else case.inner_lr
    x, y, x_query, y_query = case.per_task
    support, query = padded(x, y), padded(x_query, y_query)

    def loss(theta, rows):
        return task_loss(model, kind, theta, *rows)

    def adapted(theta, rows):
        return theta - rate * jax.grad(loss)(theta, rows)

    def meta_loss(theta, support, query):
        return loss(adapted(theta, support), query)

    @compiled
    @jax.vmap
    def every(theta, support, query):
        x, y, _ = support
        return {
            "residuals": network(model, theta, x) - y,
            "jacobian": jax.jacobian(network, argnums=1)(model, theta, x),
            "task_loss": loss(theta, support),
            "task_gradient": jax.grad(loss)(theta, support),
            "task_hessian": jax.hessian(loss)(theta, support),
            "adapted_parameters": adapted(theta, support),
            "adaptation_jacobian": jax.jacobian(adapted)(theta, support),
            "task_meta_gradient": jax.grad(meta_loss)(theta, support, query),
        }

    thetas = np.tile(case.theta, (len(x), 1))
    found = {name: np.asarray(array) for name, array in every(thetas, support, query).items()}
    for name in ("residuals", "jacobian"):  # one entry a row, without those that pad
        found[name] = [task[: len(rows)] for task, rows in zip(found[name], x, strict=True)]
    return found


def implicit(case, proximal, adapted):
    """The implicit gradient of each task at given adapted parameters: its Hessian, solved."""
    x, y, x_query, y_query = case.per_task
    support, query = padded(x, y), padded(x_query, y_query)

    @compiled
    @jax.vmap
    def one_task(adapted, support, query):
        def loss(theta, rows):
            return task_loss(case.model, case.loss, theta, *rows)

        system = jnp.eye(adapted.size) + jax.hessian(loss)(adapted, support) / proximal
        return jnp.linalg.solve(system, jax.grad(loss)(adapted, query))

    return np.asarray(one_task(jnp.asarray(adapted), support, query))


def meta_hessian(case):
    """The Hessian (P, P) of the meta-objective by theta."""
    x, y, x_query, y_query = case.per_task
    support, query = padded(x, y), padded(x_query, y_query)
    share = len(x) if case.task_mean else 1

    def total(theta):
        def one_task(support, query):
            return task_value(case, theta, jnp.asarray(case.inner_lr), support, query)[0]

        return jnp.sum(jax.vmap(one_task)(support, query)) / share

    return np.asarray(compiled(jax.hessian(total))(jnp.asarray(case.theta)))
