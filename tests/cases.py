"""Random problems, one for each seed, that the tests of the meta-gradient share.

A problem is drawn so that a tolerance relative to the largest entry is fair in single precision
too: the inner steps contract (rate times curvature below one), no pre-activation lies near a kink
of its activation, and the sums over tasks and steps do not cancel to a small fraction of their
terms. A draw that breaks one of these is dropped for the next. All numbers are representable in
single precision, so that both dtypes work on the very same problem and share one reference.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import reference

import fastmaml as fm

ACTIVATIONS = (
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "softplus",
    "tanh",
    "sigmoid",
    "silu",
    "gelu",
    "sin",
)
# A word for each hidden layer: curved above and below straight, and phi(0) != 0 beside phi(0) = 0
MIXED = (
    ("relu", "tanh"),
    ("tanh", "relu"),
    ("sigmoid", "identity"),
    ("leaky_relu", "softplus"),
    ("relu", "relu", "identity"),
    ("identity", "gelu", "relu"),
    ("sin", "relu", "elu"),
    ("softplus", "sin", "sigmoid"),
)
SMOOTH = tuple(name for name in ACTIVATIONS if name not in ("relu", "leaky_relu", "elu"))
LOSSES = ("half_sse", "half_mse", "sse", "mse")
# Other losses, and how many outputs they take: each is a line here
OTHER_LOSSES = {
    "huber": (1, 3),
    "pseudo_huber": (1, 2),
    "log_cosh": (1, 3),
    "quantile": (1, 2),
    "gaussian_nll": (2, 4),
    "logistic": (1, 3),
    "softmax": (2, 4),
    "poisson": (1, 2),
}
ORDERS = ("exact", "first")
FORMS = ("scalar", "step", "layer", "step_layer", "parameter")
DTYPES = ("float64", "float32")
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}

# Each method, and the forms of inner_lr that it takes. A new method is one line here.
METHODS = {
    "explicit": FORMS,
    "dense": FORMS,
    "factored": tuple(form for form in FORMS if "parameter" not in form),
}

KINK_MARGIN = 1e-4  # how near a pre-activation may come to the kink of its activation
SMALLEST_SHARE = 0.05  # the least that may be left of a sum, as a share of its terms' sizes


def relative_error(got, want):
    """The largest difference as a share of the largest wanted entry."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    difference = np.abs(got.astype(want.dtype) - want).max(initial=0.0)
    largest = np.abs(want).max(initial=0.0)
    return float(difference / largest) if largest > 0 else float(difference)


class Data(NamedTuple):
    """What a call takes after theta; a missing query set is None."""

    x: Any
    y: Any
    x_query: Any = None
    y_query: Any = None


@dataclass(frozen=True, eq=False)
class Case:
    """A model, a batch of tasks, and the options of a meta-gradient."""

    seed: int
    model: Any
    theta: np.ndarray
    data: Data
    form: str
    inner_lr: Any
    steps: int
    order: str
    loss: str
    task_mean: bool
    step_weights: np.ndarray | None
    inner_momentum: float = 0.0
    query_loss: Any = None

    @property
    def options(self):
        return {
            "inner_lr": self.inner_lr,
            "steps": self.steps,
            "order": self.order,
            "loss": self.loss,
            "task_mean": self.task_mean,
            "step_weights": self.step_weights,
            "inner_momentum": self.inner_momentum,
            "query_loss": self.query_loss,
        }

    def maml(self, method="auto"):
        return fm.MAML(self.model, method=method, **self.options)

    @cached_property
    def per_task(self):
        """The data as four lists of one (rows, features) array a task, the query set filled in."""
        x, y, x_query, y_query = self.data
        if x_query is None:
            x_query, y_query = x, y
        targets = [[rows.reshape(len(rows), -1) for rows in side] for side in (y, y_query)]
        return list(x), targets[0], list(x_query), targets[1]

    @cached_property
    def x_new(self):
        """Three new rows for every task, to predict at."""
        return np.array([rows[:1] * np.array([[1.0], [0.5], [-2.0]]) for rows in self.per_task[0]])

    @cached_property
    def rates(self):
        return reference.spread_rate(self.model, self.inner_lr, self.form, self.steps)

    @cached_property
    def task_results(self):
        """The reference's answer for each task."""
        return reference.evaluate(
            self.model,
            self.theta,
            *self.per_task,
            rates=self.rates,
            loss=self.loss,
            order=self.order,
            weights=self.step_weights,
            momentum=self.inner_momentum,
            query_loss=self.query_loss,
        )

    def gather_rate(self, by_step_and_parameter):
        shape = np.shape(self.inner_lr)
        return reference.gather_rate(self.model, by_step_and_parameter, self.form, shape)

    @cached_property
    def expected(self):
        """The reference's answer for all tasks."""
        task_values, gradients, by_rate = map(np.array, zip(*self.task_results, strict=True))
        share = len(task_values) if self.task_mean else 1
        return fm.MetaGradient(
            task_values.sum() / share,
            gradients.sum(axis=0) / share,
            task_values,
            self.gather_rate(by_rate.sum(axis=0)) / share,
        )

    @cached_property
    def trajectories(self):
        """Every task's parameters before, between and after the steps, (n_tasks, S + 1, P)."""
        x, y, _, _ = self.per_task
        options = self.rates, self.loss, self.inner_momentum
        return np.array(
            [
                reference.trajectory(self.model, self.theta, *task, *options)[0]
                for task in zip(x, y, strict=True)
            ]
        )

    @property
    def adapted(self):
        """Every task's parameters after the steps, (n_tasks, P)."""
        return self.trajectories[:, -1]

    @property
    def flat(self):
        """Whether the targets have no axis of outputs; then predictions have none."""
        return np.ndim(self.data.y[0]) == 1

    @cached_property
    def predicted(self):
        """Every task's predictions at ``x_new``."""
        pairs = zip(self.adapted, self.x_new, strict=True)
        f = np.array([reference.predict(self.model, theta, rows) for theta, rows in pairs])
        return f[..., 0] if self.flat else f


@cache
def draw(seed, **fixed):
    """The problem of this seed; ``fixed`` pins what is not to be left to chance."""
    for attempt in range(1000):
        case = _draw_once(seed, np.random.default_rng([seed, attempt]), fixed)
        if _is_fair(case):
            return case
    raise RuntimeError(f"no fair problem for seed {seed} and {fixed}")


def draw_for(method, seed, **fixed):
    """The problem of this seed, with a scalar rate if the method cannot take the one drawn."""
    case = draw(seed, **fixed)
    return case if case.form in METHODS[method] else draw(seed, **{**fixed, "form": "scalar"})


def _draw_once(seed, rng, fixed):
    def pick(name, choices):
        choice = choices[rng.integers(len(choices))]  # drawn even if pinned: the rest stays alike
        return fixed.get(name, choice)

    family = pick("family", ("mlp", "mlp", "mlp", "mlp", "linear"))
    n_inputs = pick("n_inputs", (1, 1, 2, 3))
    n_outputs = pick("n_outputs", (1, 1, 2, 3))
    depth = pick("depth", (1, 2, 2, 3, 3, 4))
    hidden = tuple(rng.choice((1, 3, 4, 7), depth - 1).tolist())
    hidden = fixed.get("hidden", hidden)
    activation = pick("activation", ACTIVATIONS)
    apart = np.random.default_rng(rng.bit_generator.seed_seq.spawn(1)[0])  # so the rest stays alike
    if "activation" not in fixed and len(hidden) > 1 and apart.random() < 0.5:
        activation = [str(word) for word in apart.choice(ACTIVATIONS, len(hidden))]
    intercept = pick("intercept", (True, False))
    if family == "linear":
        model = fm.Linear(n_inputs, n_outputs, intercept=intercept)
    else:
        model = fm.MLP((n_inputs, *hidden, n_outputs), activation)

    n_tasks = pick("n_tasks", (1, 2, 3))
    support = pick("support", ("equal", "equal", "ragged"))
    query = pick("query", ("equal", "equal", "ragged", "none"))
    flat_targets = n_outputs == 1 and pick("flat_targets", (False, True))
    n_support = _row_counts(rng, support, n_tasks, pick("n_support", (1, 2, 4, 5)))
    n_query = _row_counts(rng, query, n_tasks, pick("n_query", (1, 3, 6)))
    steps = pick("steps", (0, 1, 1, 2, 3, 5))
    # without steps there is no step to have a rate of its own
    forms = FORMS if steps else ("scalar", "layer", "parameter")
    form = pick("form", forms)
    plain_shape = pick("plain_shape", (True, True, False))
    weighted = pick("weighted", (False, False, True))
    order = pick("order", ("exact", "exact", "first"))
    loss = pick("loss", LOSSES)
    task_mean = pick("task_mean", (False, True))

    theta = _theta(rng, model)
    # what a few-shot method is for: every task has its own function, plus a little noise
    waves, shifts = rng.normal(size=(2, n_tasks, n_outputs, n_inputs))
    data, query_loss = [], fixed.get("query_loss")
    of_sides = loss, loss if query_loss is None else query_loss
    for side, counts, of_side in zip((support, query), (n_support, n_query), of_sides, strict=True):
        x = [rng.normal(size=(rows, n_inputs)) for rows in counts]
        y = [
            2 * np.sin(rows @ wave.T + shift.sum(axis=1)) + 0.1 * rng.normal(size=(len(rows), 1))
            for rows, wave, shift in zip(x, waves, shifts, strict=True)
        ]
        y = [_targets(of_side, rows) for rows in y]
        y = [rows[:, 0] if flat_targets else rows for rows in y]
        x, y = ([_single(rows) for rows in part] for part in (x, y))
        if side == "equal":
            x, y = np.array(x), np.array(y)
        data += [None, None] if side == "none" else [x, y]
    data = Data(*data)

    # rates below half the inverse of the sharpest curvature
    curvature = max(
        np.linalg.norm(reference.task_hessian(model, theta, x, y.reshape(len(y), -1), loss))
        for x, y in zip(data.x, data.y, strict=True)
    )
    shape = _rate_shape(model, form, steps, plain_shape)
    # (of a loss that is straight far out, the curvature elsewhere counts as well)
    least = 1e-3 if loss in LOSSES else 1.0
    inner_lr = _single(rng.uniform(0.1, 0.5, shape) / max(curvature, least))
    if form == "layer" and model.n_layers > 1 and rng.random() < 0.3:
        inner_lr[..., :-1] = 0.0  # ANIL: only the head adapts
    if form == "scalar":
        inner_lr = float(inner_lr)
    step_weights = _single(rng.uniform(0.2, 1.0, steps + 1)) if weighted else None
    if weighted and steps:
        step_weights[rng.integers(steps)] = 0.0
    return Case(
        seed, model, theta, data, form, inner_lr, steps, order, loss, task_mean, step_weights,
        fixed.get("inner_momentum", 0.0), query_loss,
    )  # fmt: skip


def _targets(loss, y):
    """What a loss takes, made of a number for each output."""
    word = loss if isinstance(loss, str) else type(loss).__name__
    word = reference.OF_WORDS.get(word, word)
    if word == "GaussianNLL":
        return y[:, : y.shape[1] // 2]
    if word == "Softmax":
        return np.argmax(y, axis=1)[:, None]
    if word == "Logistic":
        return 1.0 * (y > 0)
    return np.floor(np.abs(2 * y)) if word == "Poisson" else y


def _single(values):
    """The nearest single-precision numbers, as doubles."""
    return np.asarray(values, np.float32).astype(np.float64)


def _row_counts(rng, layout, n_tasks, rows):
    if layout == "ragged":
        return rng.integers(1, rows + 2, n_tasks)
    return np.full(n_tasks, rows)


def _theta(rng, model):
    parts = []
    for n_in, n_out in zip(model.layer_sizes[:-1], model.layer_sizes[1:], strict=True):
        parts.append(rng.normal(size=n_out * n_in) / np.sqrt(n_in))
        parts.append(0.5 * rng.normal(size=n_out if model.intercept else 0))
    return _single(np.concatenate(parts))


def _rate_shape(model, form, steps, plain):
    """The shape of an ``inner_lr``: if ``plain``, with one axis where that is clear."""
    lengths = {"step": steps, "layer": model.n_layers, "parameter": model.n_params}
    if form not in lengths:
        return {"scalar": (), "step_layer": (steps, model.n_layers)}[form]
    length = lengths.pop(form)
    if plain and length not in lengths.values():
        return (length,)
    return (length, 1) if form == "step" else (1, length)


def _is_fair(case):
    return _far_from_kinks(case) and _well_conditioned(case)


def _far_from_kinks(case):
    words = reference.activations(case.model)
    bent = [number for number, word in enumerate(words) if word not in SMOOTH]
    if not bent:
        return True
    x, _, x_query, _ = case.per_task
    nearest = min(
        np.abs(z).min()
        for i, trajectory in enumerate(case.trajectories)
        for theta in trajectory
        for row in (*x[i], *x_query[i])
        for passes in [reference.forward(case.model, theta, row)]
        for _, _, z, _ in [passes[number] for number in bent]
    )
    return nearest >= KINK_MARGIN


def _well_conditioned(case):
    _, gradients, by_rate = map(np.array, zip(*case.task_results, strict=True))
    sums_and_sizes = [
        (gradients.sum(axis=0), np.abs(gradients).sum(axis=0)),
        (case.gather_rate(by_rate.sum(axis=0)), case.gather_rate(np.abs(by_rate).sum(axis=0))),
    ]
    return all(
        np.abs(left).max(initial=0.0) >= SMALLEST_SHARE * sizes.max(initial=0.0)
        for left, sizes in sums_and_sizes
    )
