"""The equations of exact MAML in slow, plain NumPy: what the kernels are held against.

Nothing here is shared with the package, and nothing is clever: one task at a time, one sample at a
time, every matrix formed. A model is read only through ``layer_sizes``, ``activation`` and
``intercept``. The number type is that of ``theta``: ``np.longdouble`` serves to measure the
accuracy of double precision.

For one sample x, with f = z of the last layer,

    z_1 = W_1 x + b_1,    a_l = phi(z_l),    z_(l+1) = W_(l+1) a_l + b_(l+1)

and for one task of K samples, with c from the loss convention and l_j = l(f(theta, x_j), y_j),
which has the slope s_j and the curvature G_j at the outputs (of l = |f - y|^2 twice the residual
and twice the unit matrix),

    L  = c sum_j l_j
    g  = c sum_j s_j . df_j                                        (equations 5 and 11)
    H  = c sum_j [ s_j . d2f_j + df_j^T G_j df_j ]                 (equations 10 and 12)
    theta_(s+1) = theta_s - alpha_s * g(theta_s)                   (equation 8)
    d theta_(s+1) / d theta_s = I - diag(alpha_s) H(theta_s)       (equations 7 and 9)
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Weighted(NamedTuple):
    """The targets of a task, and a weight for each row: each r_j above counts so many times."""

    y: np.ndarray
    weights: np.ndarray


class TaskResult(NamedTuple):
    """The value of one task, its derivative by theta (P,) and by each step's rates (S, P)."""

    value: np.floating
    gradient: np.ndarray
    rate_gradient: np.ndarray


# ---- the model: one sample -----------------------------------------------------------------------


def erf(z):
    """The error function by its all-positive series, to the rounding of z's own number type."""
    x = np.minimum(np.abs(z), 7)  # beyond 7 it is 1, even in long double
    term = total = x
    n = 0
    while np.any(term > np.finfo(x.dtype).eps * total):
        n += 1
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    pi = 4 * np.arctan(z.dtype.type(1))
    return np.sign(z) * 2 / np.sqrt(pi) * np.exp(-x * x) * total


def activation(name, z):
    """phi(z), phi'(z) and phi''(z)."""
    zero, one = np.zeros_like(z), np.ones_like(z)
    if name == "identity":
        return z, one, zero
    if name == "relu":
        return np.where(z > 0, z, zero), np.where(z > 0, one, zero), zero
    if name == "leaky_relu":
        slope = z.dtype.type(0.01)
        return np.where(z > 0, z, slope * z), np.where(z > 0, one, slope), zero
    if name == "elu":
        left = np.exp(np.minimum(z, zero))
        return np.where(z > 0, z, left - 1), np.where(z > 0, one, left), np.where(z > 0, zero, left)
    if name == "tanh":
        t = np.tanh(z)
        return t, 1 - t * t, -2 * t * (1 - t * t)
    if name == "sin":
        return np.sin(z), np.cos(z), -np.sin(z)
    if name == "gelu":
        pi = 4 * np.arctan(z.dtype.type(1))
        below = (1 + erf(z / np.sqrt(z.dtype.type(2)))) / 2  # the normal distribution function
        density = np.exp(-z * z / 2) / np.sqrt(2 * pi)
        return z * below, below + z * density, (2 - z * z) * density
    s = 1 / (1 + np.exp(-z))
    slope, bend = s * (1 - s), s * (1 - s) * (1 - 2 * s)
    if name == "softplus":
        return np.logaddexp(zero, z), s, slope
    if name == "sigmoid":
        return s, slope, bend
    if name == "silu":
        return z * s, s + z * slope, 2 * slope + z * bend
    raise ValueError(name)


def layers(model, theta):
    """For each layer W, b and the places (indices into theta) of W and of b; b is 0 without one."""
    sizes, start = model.layer_sizes, 0
    for n_in, n_out in pairwise(sizes):
        weight_at = start + np.arange(n_out * n_in).reshape(n_out, n_in)
        start += n_out * n_in
        bias_at = start + np.arange(n_out if model.intercept else 0)
        start += bias_at.size
        bias = theta[bias_at] if model.intercept else np.zeros(n_out, theta.dtype)
        yield theta[weight_at], bias, weight_at, bias_at
    assert start == theta.size


def activations(model):
    """The word of each hidden layer, and that of the output layer."""
    words = model.activation
    n_hidden = len(model.layer_sizes) - 2
    return [*([words] * n_hidden if isinstance(words, str) else words), "identity"]


def forward(model, theta, x):
    """One sample through the network: (a_in, da_in, z, dz) of every layer, d being d/dtheta."""
    passes = []
    a, da = x, np.zeros((x.size, theta.size), theta.dtype)
    network = zip(layers(model, theta), activations(model), strict=True)
    for (weight, bias, weight_at, bias_at), word in network:
        z = weight @ a + bias
        dz = weight @ da
        for i, places in enumerate(weight_at):
            dz[i, places] += a
        for i, place in enumerate(bias_at):
            dz[i, place] += 1
        passes.append((a, da, z, dz))
        phi, dphi, _ = activation(word, z)
        a, da = phi, dphi[:, None] * dz
    return passes


def output(model, theta, x):
    """f (n_outputs,) and df/dtheta (n_outputs, P) of one sample."""
    _, _, z, dz = forward(model, theta, x)[-1]
    return z, dz


def second_derivative(model, theta, x, r):
    """r . d2f/dtheta2 (P, P) of one sample.

    Second derivatives arise in two places only: in phi, as phi''(z) dz dz^T, and in the product of
    a weight with the activation it multiplies. Each counts by how much r . f depends on the phi or
    the product that it arises in.
    """
    total = np.zeros((theta.size, theta.size), theta.dtype)
    passes, network = forward(model, theta, x), list(layers(model, theta))
    words = activations(model)
    by_z = r  # d(r . f) / dz, from the last layer to the first
    for here in reversed(range(len(passes))):
        weight, _, weight_at, _ = network[here]
        _, da, _, _ = passes[here]
        for i, places in enumerate(weight_at):
            total[places, :] += by_z[i] * da
            total[:, places] += by_z[i] * da.T
        if here > 0:
            _, _, z, dz = passes[here - 1]
            _, dphi, d2phi = activation(words[here - 1], z)
            by_phi = weight.T @ by_z
            total += dz.T @ ((by_phi * d2phi)[:, None] * dz)
            by_z = by_phi * dphi
    return total


def predict(model, theta, x):
    """f (rows, n_outputs) at every row of x."""
    return np.array([output(model, theta, row)[0] for row in x])


# ---- one task ------------------------------------------------------------------------------------


def targets_of(y):
    """The targets of a task and the weights of its rows, 1 unless they are given."""
    return y if isinstance(y, Weighted) else Weighted(y, np.ones(len(y), y.dtype))


PARAMETERS = {"Huber": {"delta": 1.0}, "PseudoHuber": {"delta": 1.0}}
PARAMETERS["Quantile"] = {"q": 0.5, "smoothing": 0.1}
OF_WORDS = {
    "huber": "Huber",
    "pseudo_huber": "PseudoHuber",
    "log_cosh": "LogCosh",
    "quantile": "Quantile",
    "gaussian_nll": "GaussianNLL",
    "logistic": "Logistic",
    "softmax": "Softmax",
    "poisson": "Poisson",
}


def loss_factor(loss, y):
    """c of L = c sum l: sums over rows and outputs, or means; K is the sum of the weights."""
    y, weights = targets_of(y)
    rows, n_targets = weights.sum(), y.shape[1]
    one = y.dtype.type(1)
    squared = {
        "half_sse": one / 2,
        "half_mse": one / (2 * rows),
        "sse": one,
        "mse": one / (rows * n_targets),
    }
    if isinstance(loss, str) and loss in squared:
        return squared[loss]
    return one / (rows * n_targets) if getattr(loss, "mean", True) else one


def sample_loss(loss, f, y):
    """l, its slope (n_outputs,) and its curvature (n_outputs, n_outputs) at one sample."""
    one = f.dtype.type(1)
    word = loss if isinstance(loss, str) else type(loss).__name__
    word = OF_WORDS.get(word, word)
    given = PARAMETERS.get(word, {}) if isinstance(loss, str) else vars(loss)
    if word == "Softmax":
        p = np.exp(f) / np.exp(f).sum()
        hot = one * (np.arange(f.size) == y[0])
        return -np.log(p @ hot), p - hot, np.diag(p) - np.outer(p, p)
    if word == "GaussianNLL":
        n = y.size
        r, variance = f[:n] - y, np.exp(f[n:])
        pi = 4 * np.arctan(one)
        value = np.sum(np.log(2 * pi * variance) + r * r / variance) / 2
        slope = np.concatenate([r / variance, (1 - r * r / variance) / 2])
        mixed = np.diag(-r / variance)
        parts = [np.diag(1 / variance), mixed], [mixed, np.diag(r * r / variance / 2)]
        return value, slope, np.block([list(row) for row in parts])
    r = f - y
    if word == "Huber":
        delta = given["delta"]
        near = np.abs(r) <= delta
        value = np.where(near, r * r / 2, delta * (np.abs(r) - one * delta / 2))
        slope, bend = np.where(near, r, delta * np.sign(r)), one * near
    elif word == "PseudoHuber":
        delta = one * given["delta"]
        root = np.sqrt(1 + (r / delta) ** 2)
        value, slope, bend = delta**2 * (root - 1), r / root, root**-3
    elif word == "LogCosh":
        value, slope, bend = np.log(np.cosh(r)), np.tanh(r), 1 - np.tanh(r) ** 2
    elif word == "Quantile":
        q, width = given["q"], one * given["smoothing"]
        value = q * -r + width * np.logaddexp(0 * r, r / width)
        above = 1 / (1 + np.exp(-r / width))
        slope, bend = above - q, above * (1 - above) / width
    elif word == "Logistic":
        p = 1 / (1 + np.exp(-f))
        value, slope, bend = np.logaddexp(0 * f, f) - y * f, p - y, p * (1 - p)
    elif word == "Poisson":
        value, slope, bend = np.exp(f) - y * f, np.exp(f) - y, np.exp(f)
    elif word == "Loss":  # of a user's own: three functions of numbers
        value, slope, bend = (
            np.array([function(*pair) for pair in zip(f, y, strict=True)])
            for function in (getattr(each, "py_func", each) for each in list(given.values())[:3])
        )
    else:  # squared
        value, slope, bend = r * r, 2 * r, 2 * np.ones_like(r)
    return value.sum(), slope, np.diag(bend)


def residuals(model, theta, x, y):
    return predict(model, theta, x) - y


def jacobian(model, theta, x):
    return np.array([output(model, theta, row)[1] for row in x])


def task_loss(model, theta, x, y, loss="half_sse"):
    targets, weights = targets_of(y)
    f = predict(model, theta, x)
    terms = [sample_loss(loss, *pair)[0] for pair in zip(f, targets, strict=True)]
    return loss_factor(loss, y) * np.sum(weights * np.array(terms))


def task_gradient(model, theta, x, y, loss="half_sse"):
    total = np.zeros_like(theta)
    for row, target, weight in zip(x, *targets_of(y), strict=True):
        f, df = output(model, theta, row)
        total += weight * (sample_loss(loss, f, target)[1] @ df)
    return loss_factor(loss, y) * total


def task_hessian(model, theta, x, y, loss="half_sse"):
    total = np.zeros((theta.size, theta.size), theta.dtype)
    for row, target, weight in zip(x, *targets_of(y), strict=True):
        f, df = output(model, theta, row)
        _, slope, bend = sample_loss(loss, f, target)
        total += weight * (second_derivative(model, theta, row, slope) + df.T @ bend @ df)
    return loss_factor(loss, y) * total


def adaptation_jacobian(model, theta, x, y, rate, loss="half_sse"):
    """I - diag(alpha) H of one step; rate is (P,)."""
    hessian = task_hessian(model, theta, x, y, loss)
    return np.eye(theta.size, dtype=theta.dtype) - rate[:, None] * hessian


def trajectory(model, theta, x, y, rates, loss="half_sse", momentum=0.0, proximal=0.0):
    """theta_0 ... theta_S, (S + 1, P), and the velocities of the steps, (S, P).

    With momentum mu, theta moves along v <- mu v + g. A proximal weight c adds c (theta_s -
    theta_0) to g.
    """
    points, velocities = [theta], []
    velocity = np.zeros_like(theta)
    for rate in rates:
        slope = task_gradient(model, points[-1], x, y, loss) + proximal * (points[-1] - theta)
        velocity = momentum * velocity + slope
        velocities.append(velocity)
        points.append(points[-1] - rate * velocity)
    return np.array(points), np.array(velocities).reshape(len(rates), theta.size)


def evaluate_task(
    model, theta, x, y, x_query, y_query, rates, weights, loss, order, momentum=0.0,
    query_loss=None,
):  # fmt: skip
    """The exact or first-order derivatives of one task's value sum_s w_s L_query(theta_s).

    Equations 4 and 13, once for every step; rates is (S, P), weights is (S + 1,). With momentum
    the state of a step is (theta, v), and its Jacobian has the four blocks d theta' / d theta =
    I - diag(alpha) H, d theta' / d v = -mu diag(alpha), d v' / d theta = H, d v' / d v = mu I.
    """
    query_loss = loss if query_loss is None else query_loss
    points, velocities = trajectory(model, theta, x, y, rates, loss, momentum)
    value, by_theta, by_rate = theta.dtype.type(0), np.zeros_like(theta), np.zeros_like(rates)
    by_velocity = np.zeros_like(theta)
    for s in reversed(range(len(points))):
        if s < len(rates):  # back through the step from theta_s to theta_(s+1)
            by_rate[s] = -velocities[s] * by_theta
            if order == "exact":  # first order takes its Jacobian for the identity
                step = adaptation_jacobian(model, points[s], x, y, rates[s], loss)
                after = by_theta @ step
                if momentum:
                    after += by_velocity @ task_hessian(model, points[s], x, y, loss)
                    by_velocity = momentum * (by_velocity - rates[s] * by_theta)
                by_theta = after
        if weights[s] != 0:
            value += weights[s] * task_loss(model, points[s], x_query, y_query, query_loss)
            pull = task_gradient(model, points[s], x_query, y_query, query_loss)
            by_theta = by_theta + weights[s] * pull
    return TaskResult(value, by_theta, by_rate)


# ---- all tasks -----------------------------------------------------------------------------------


def entry_used(model, form, steps):
    """Which entry of a flattened ``inner_lr`` each step and parameter uses, (S, P)."""
    sizes = model.layer_sizes
    places = [n_out * (n_in + model.intercept) for n_in, n_out in pairwise(sizes)]
    step = np.arange(steps)[:, None]
    layer = np.repeat(np.arange(len(places)), places)
    used = {
        "scalar": 0 * layer,
        "step": step,
        "layer": layer,
        "step_layer": step * len(places) + layer,
        "parameter": np.arange(sum(places)),
    }[form]
    return np.broadcast_to(used, (steps, sum(places)))


def spread_rate(model, inner_lr, form, steps):
    """The inner learning rate of each step and parameter, (S, P), from any form of ``inner_lr``."""
    return np.asarray(inner_lr).reshape(-1)[entry_used(model, form, steps)]


def gather_rate(model, rate_gradient, form, shape):
    """The derivative by ``inner_lr``, in its shape: each entry sums the places that used it."""
    gathered = np.zeros(int(np.prod(shape)), rate_gradient.dtype)
    np.add.at(gathered, entry_used(model, form, len(rate_gradient)), rate_gradient)
    return gathered.reshape(shape)


def evaluate(
    model, theta, x, y, x_query, y_query, *, rates, loss="half_sse", order="exact", weights=None,
    momentum=0.0, query_loss=None,
):  # fmt: skip
    """A list of each task's result.

    The data are sequences of one (rows, features) array a task; y may be `Weighted`.
    """
    number = theta.dtype.type
    rates = np.asarray(rates, number)
    weights = np.asarray([0] * len(rates) + [1] if weights is None else weights, number)
    options = rates, weights, loss, order, momentum, query_loss
    return [
        evaluate_task(model, theta, *(_in(number, part) for part in task), *options)
        for task in zip(x, y, x_query, y_query, strict=True)
    ]


def _in(number, part):
    if isinstance(part, Weighted):
        return Weighted(*(np.asarray(array, number) for array in part))
    return np.asarray(part, number)


# ---- the meta-update -----------------------------------------------------------------------------


def adam(theta, gradient, first, second, n_updates, rate, beta1, beta2, epsilon):
    """Kingma and Ba 2015, algorithm 1: the new theta and running means, entry by entry."""
    new = []
    for value, g, m, v in zip(theta, gradient, first, second, strict=True):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**n_updates), v / (1 - beta2**n_updates)
        new.append((value - rate * m_hat / (v_hat**0.5 + epsilon), m, v))
    return tuple(np.array(part) for part in zip(*new, strict=True))
