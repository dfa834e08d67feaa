"""Arguments: good ones, the same in other clothes, and all that people hand over by mistake."""

from __future__ import annotations

import decimal
import fractions
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastmaml as fm

from .oracle import Refusal
from .own import CAUCHY, fits, model_of, targets_of

ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "softplus", "tanh", "sigmoid", "silu", "gelu", "sin",
)  # fmt: skip
SQUARED = ("half_sse", "half_mse", "sse", "mse")
OTHERS = (
    "huber", "pseudo_huber", "log_cosh", "quantile", "gaussian_nll", "logistic", "softmax",
    "poisson", fm.Huber(0.3, mean=False), fm.Quantile(0.9, 0.2), fm.Softmax(mean=False), CAUCHY,
)  # fmt: skip
LOSSES = (*SQUARED, *SQUARED, *OTHERS)
#: the losses that a few large outputs make infinite
STEEP = ("gaussian_nll", "poisson")
OF_NETWORKS = ("explicit", "dense", "factored")
METHODS = ("auto", *OF_NETWORKS, "lanes")
#: what no machine has room for: the answer is an error, at once
TOO_MANY = (10**12, 2**62, 2**63, 10**30)


class Foreign:
    """An array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype)


class Guarded:
    """An array of another library that does not let itself be converted."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise Refusal("call detach first")


class Subclass(np.ndarray):
    """An ndarray in other clothes."""


def deep(levels: int) -> list[Any]:
    """A list in a list in a list."""
    nested: list[Any] = [1.0]
    for _ in range(levels):
        nested = [nested]
    return nested


class Draw:
    """Draws arguments from one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    # ---- choices

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high, endpoint=True))

    def choice(self, among: Sequence[Any]) -> Any:
        return among[int(self.rng.integers(len(among)))]

    # ---- good arguments

    def model(self, own: float = 0.25) -> Any:
        """A model, with some chance of another family than the weight layers."""
        if self.chance(own):
            return model_of(self)
        if self.chance(0.2):
            return fm.Linear(self.integer(1, 3), self.integer(1, 2), self.chance(0.7))
        hidden = [self.integer(1, 6) for _ in range(self.integer(0, 2))]
        sizes = [self.integer(1, 3), *hidden, self.integer(1, 2)]
        return fm.MLP(sizes, self.activation(len(hidden)))

    def activation(self, n_hidden: int) -> Any:
        """A word, or one for each hidden layer."""
        if self.chance(0.7):
            return self.choice(ACTIVATIONS)
        return [self.choice(ACTIVATIONS) for _ in range(n_hidden)]

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape)

    def theta(self, model: Any) -> np.ndarray:
        theta = 0.5 * self.normal(model.n_params)
        return theta.astype("f4") if self.chance(0.25) else theta

    def rows(self, model: Any, counts: list[int]) -> tuple[Any, Any]:
        """x and y: arrays if all tasks have as many rows, else lists."""
        x = [self.normal(n, model.n_inputs) for n in counts]
        y = [self.normal(n, model.n_outputs) for n in counts]
        if model.n_outputs == 1 and self.chance(0.3):
            y = [rows[:, 0] for rows in y]
        if len(set(counts)) > 1 or self.chance(0.1):
            return x, y
        return np.stack(x), np.stack(y)

    def counts(self, n_tasks: int) -> list[int]:
        if self.chance(0.25):
            return [self.integer(1, 5) for _ in range(n_tasks)]
        return [self.integer(1, 6)] * n_tasks

    def tasks(
        self, model: Any, query: bool = True, losses: Sequence[Any] = (), weights: float = 0.0
    ) -> dict[str, Any]:
        """Rows, with the targets that the losses take of each side, some of them with weights."""
        n_tasks = self.integer(1, 4)
        x, y = self.rows(model, self.counts(n_tasks))
        found = {"x": x, "y": y}
        if query and self.chance(0.7):
            found["x_query"], found["y_query"] = self.rows(model, self.counts(n_tasks))
        for name, loss in zip(("y", "y_query"), losses, strict=False):
            if name in found:
                found[name] = targets_of(loss, found[name])
        for name, of in (("sample_weight", "x"), ("sample_weight_query", "x_query")):
            if of in found and self.chance(weights):
                found[name] = self.weights(found[of])
        if n_tasks == 1 and self.chance(0.4):  # a task alone needs no axis of tasks
            found = {name: rows[0] for name, rows in found.items()}
        return found

    def weights(self, x: Any) -> Any:
        """A weight for each row, some of them 0."""
        parts = [self.rng.random(len(rows)) * (self.rng.random(len(rows)) < 0.8) for rows in x]
        return np.stack(parts) if isinstance(x, np.ndarray) else parts

    def inner_lr(self, model: Any, steps: int) -> Any:
        shape = self.choice(
            [(), (), (steps, 1), (1, model.n_layers), (steps, model.n_layers), (1, model.n_params)]
        )
        rates = 0.05 * self.rng.random(shape)
        return rates if shape else float(rates)

    # ---- spoiled ones

    def spoil(self, arguments: dict[str, Any], share: float = 0.6) -> dict[str, Any]:
        """The arguments, with a share of cases in which one or two of them are spoiled."""
        arguments = dict(arguments)
        if arguments and self.chance(share):
            for _ in range(1 + self.chance(0.2)):
                name = self.choice(list(arguments))
                try:
                    arguments[name] = self.other(arguments[name])
                except Exception:  # not every way fits what an earlier one has left
                    arguments[name] = self.anything()
        return arguments

    def other(self, value: Any) -> Any:
        """Something in the place of a value: like it, or not at all."""
        if self.chance(0.15):
            return self.anything()
        if isinstance(value, np.ndarray) and value.ndim:
            return self.choice(CLOTHES if self.chance(0.4) else DAMAGES)(self, value)
        if isinstance(value, bool | np.bool_):
            return self.choice([not value, np.bool_(value), 1, 0, "yes", None, np.array(value)])
        if isinstance(value, str):
            return self.choice([value.upper(), value + " ", value.encode(), "", None, [value]])
        if isinstance(value, int | np.integer):
            return self.count(value)
        if isinstance(value, float | np.floating):
            return self.number(value)
        if isinstance(value, list | tuple) and value:
            return self._other_sequence(value)
        return self.anything()

    def _other_sequence(self, value: Any) -> Any:
        items = list(value)
        at = self.integer(0, len(items) - 1)
        way = self.integer(0, 3)
        if way == 0:
            del items[at]
        elif way == 1:
            items.append(items[at])
        elif way == 2:
            return iter(items)
        else:
            items[at] = self.other(items[at]) if len(items) < 1000 else None
        return items if self.chance(0.5) else tuple(items)

    def count(self, value: int) -> Any:
        value = min(int(value), 100)  # a second spoiling starts from a number of the first
        good = [value, np.int8(value), np.uint64(max(value, 0)), value + 1]
        bad = [
            0, -1, -value, float(value), float("nan"), str(value), None, 1j, np.array([value]),
            np.array(value), *TOO_MANY, -(10**30), fractions.Fraction(value), True,
        ]  # fmt: skip
        return self.choice(good if self.chance(0.3) else bad)

    def number(self, value: float) -> Any:
        good = [value / 2, np.float32(value), np.array(value), fractions.Fraction(1, 7), 0, 1]
        bad = [
            float("nan"), float("inf"), -float("inf"), -value, 0.0, 1e308, -1e308, 5e-324, 1e-320,
            10**400, str(value), None, 1j, [value], np.array([value]), np.ma.masked, True,
            decimal.Decimal("0.1"), np.float16(value), np.longdouble(value), b"1", 1e150, 1e20,
        ]  # fmt: skip
        return self.choice(good if self.chance(0.3) else bad)

    def anything(self) -> Any:
        made: Callable[[], Any] = self.choice(ANYTHING)
        return made()


ANYTHING: list[Callable[[], Any]] = [
    lambda: None,
    lambda: "text",
    lambda: b"bytes",
    lambda: "",
    lambda: float("nan"),
    lambda: 10**400,
    lambda: 1j,
    list,
    lambda: (),
    dict,
    lambda: {"x": 1},
    lambda: {1, 2},
    lambda: object(),
    lambda: object,
    lambda: range(3),
    lambda: (i for i in range(3)),
    lambda: iter([]),
    lambda: [[1.0], [1.0, 2.0]],
    lambda: [[[1.0]], [[[1.0]]]],
    lambda: [None, 1.0],
    lambda: [1, [2, [3, [4]]]],
    lambda: deep(40),
    lambda: deep(70),
    lambda: deep(3000),
    lambda: deep(100000),
    lambda: np.array(None),
    lambda: np.array(["a", "b"]),
    lambda: np.array([object(), 1], object),
    lambda: np.zeros(0),
    lambda: np.zeros((0, 3)),
    lambda: np.zeros((3, 0, 1)),
    lambda: np.zeros((1,) * 32),
    lambda: np.zeros(2, [("a", "f8"), ("b", "i4")]),
    lambda: np.array(["2020-01-01"], "M8[D]"),
    lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    lambda: [np.ma.masked_array([[1.0]], [[True]])],
    lambda: np.array([1 + 1j]),
    lambda: np.float64(0.1),
    lambda: np.ma.masked,
    lambda: Guarded(),
    lambda: [Guarded()],
    lambda: np.nan * np.ones((2, 3, 1)),
    lambda: memoryview(b"abcdefgh"),
    lambda: np.random.default_rng(0),
    lambda: np.random.RandomState(0),
    lambda: fm.Linear(1),
    lambda: fm.MLP,
    lambda: np,
    lambda: NotImplemented,
    lambda: Ellipsis,
    lambda: slice(3),
    lambda: decimal.Decimal("NaN"),
    lambda: "\udcff",
    lambda: 10**5000,
]


def options(draw: Draw, model: Any) -> dict[str, Any]:
    """Arguments of MAML that go together, mostly."""
    steps = draw.choice([0, 1, 1, 2, 3])
    found: dict[str, Any] = {"inner_lr": draw.inner_lr(model, steps), "steps": steps}
    losses = [loss for loss in LOSSES if fits(loss, model)]
    some = {
        "loss": draw.choice(losses),
        "query_loss": draw.choice([None, None, draw.choice(losses)]),
        "task_mean": draw.chance(0.5),
        "order": draw.choice(["exact", "exact", "first"]),
        "method": draw.choice(METHODS),
        "check_finite": draw.chance(0.8),
        "max_memory": draw.choice([None, 1, 10**5, 10**8]),
        "step_weights": draw.choice([None, draw.rng.random(steps + 1)]),
        "inner_momentum": draw.choice([0.0, 0.0, 0.5]),
    }
    found |= {name: value for name, value in some.items() if draw.chance(0.4)}
    if draw.chance(0.1):
        found |= {"order": "implicit", "proximal": 0.1 + 3 * float(draw.rng.random())}
        found.pop("step_weights", None)
        found |= {"cg_rtol": 1e-5, "cg_maxiter": draw.integer(1, 20)} if draw.chance(0.5) else {}
    return found


# ---- arrays with the same numbers


def _strided(_: Draw, array: np.ndarray) -> Any:
    wide = np.full((*array.shape, 3), -7.0, array.dtype)
    wide[..., 1] = array
    return wide[..., 1]


def _misaligned(_: Draw, array: np.ndarray) -> Any:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    shifted = raw[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    return shifted


def _frozen(_: Draw, array: np.ndarray) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def _cast(draw: Draw, array: np.ndarray) -> Any:
    return array.astype(draw.choice(["f2", "f4", ">f4", ">f8", "g", "i1", "u8", ">i2", "?"]))


CLOTHES: list[Callable[[Draw, np.ndarray], Any]] = [
    _strided,
    _misaligned,
    _frozen,
    _cast,
    lambda _, array: np.asfortranarray(array),
    lambda _, array: np.flip(np.flip(array).copy()),
    lambda _, array: array.tolist(),
    lambda _, array: tuple(array),
    lambda _, array: list(array),
    lambda _, array: array.view(Subclass),
    lambda _, array: Foreign(array),
    lambda _, array: np.broadcast_to(array[:1], array.shape),
    lambda _, array: array.copy().view(np.matrix) if array.ndim == 2 else array,
]


# ---- arrays with others


def _with(value: float) -> Callable[[Draw, np.ndarray], Any]:
    """One number is another."""

    def damage(draw: Draw, array: np.ndarray) -> Any:
        array = array.copy()
        if array.size:
            with np.errstate(all="ignore"):
                array.flat[draw.integer(0, array.size - 1)] = value
        return array

    return damage


def _scaled(draw: Draw, array: np.ndarray) -> Any:
    factor = draw.choice([1e3, 1e10, 1e19, 1e38, 1e100, 1e150, 1e300, 1e-30, 1e-160, 1e-310])
    with np.errstate(all="ignore"):
        return array * factor


def _cut(draw: Draw, array: np.ndarray) -> Any:
    axis = draw.integer(0, array.ndim - 1)
    return array.take(range(draw.integer(0, max(array.shape[axis] - 1, 0))), axis)


def _masked(draw: Draw, array: np.ndarray) -> Any:
    return np.ma.masked_array(array, draw.rng.random(array.shape) < 0.3)


def _ragged(draw: Draw, array: np.ndarray) -> Any:
    rows = list(array)
    at = draw.integer(0, max(len(rows) - 1, 0))
    if rows:
        rows[at] = draw.choice([rows[at][None], rows[at].tolist(), [], None, rows[at].ravel()[:1]])
    return rows


DAMAGES: list[Callable[[Draw, np.ndarray], Any]] = [
    *map(_with, (np.nan, np.inf, -np.inf, 0.0, 1e30, 1e200, 1e308, 1e-320)),
    _scaled,
    _scaled,
    _cut,
    _cut,
    _masked,
    _ragged,
    _ragged,
    lambda _, array: array[..., None],
    lambda _, array: array[None],
    lambda _, array: array[0],
    lambda _, array: array.ravel(),
    lambda _, array: np.concatenate([array, array], axis=-1),
    lambda _, array: array.T,
    lambda _, array: np.zeros_like(array),
    lambda _, array: array.astype(object),
    lambda _, array: array.astype(complex),
    lambda _, array: array.astype(str),
    lambda _, array: array.astype("S"),
    lambda _, array: {"theta": array},
    lambda _, array: iter(array),
    lambda _, array: [array, None],
]
