"""Exported C, compiled and called from Python: what the tests of ``fastmaml.export`` share."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmaml as fm
from fastmaml.export.c import sources_of
from fastmaml.export.subject import subject_of
from fastmaml.export.text import Dialect

#: what must compile without a warning: the promise, and a few that embedded projects turn on
STRICT = [
    "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-Wshadow",
    "-Wdouble-promotion", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wundef",
]  # fmt: skip


def compiler(name: str = "gcc") -> str:
    """The path of a compiler; the test is skipped if there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name}")
    return path


def run(command: Sequence[Any], **options: Any) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Exported:
    """A model in a shared library, called with arrays."""

    def __init__(self, library: ctypes.CDLL, prefix: str, subject: Any, dtype: Any) -> None:
        self.subject, self.dtype = subject, np.dtype(dtype)
        self._library, self._prefix = library, prefix
        self.n_bytes = self._function("bytes", ctypes.c_size_t)()
        self.state = np.full(self.n_bytes // self.dtype.itemsize, np.nan, dtype)
        self._real = ctypes.c_float if self.dtype == np.float32 else ctypes.c_double

    def _function(self, name: str, returns: Any = None) -> Any:
        function = getattr(self._library, f"{self._prefix}_{name}")
        function.restype = returns
        return function

    def _array(self, values: Any) -> Any:
        array = np.ascontiguousarray(values, self.dtype)
        return array.ctypes.data_as(ctypes.c_void_p), array  # which must stay alive

    @property
    def _state(self) -> Any:
        return self._array(self.state)[0]

    def start(self) -> None:
        self._function("start")(self._state)

    def adapt(self, x: Any, y: Any) -> int:
        (x_at, x), (y_at, _y) = self._array(x), self._array(y)
        function = self._function("adapt", ctypes.c_int)
        returned: int = function(self._state, ctypes.c_size_t(len(x)), x_at, y_at)
        return returned

    def update(self, x: Any, y: Any, forget: float = 1.0) -> int:
        (x_at, _x), (y_at, _y) = self._array(x), self._array(y)
        function = self._function("update", ctypes.c_int)
        returned: int = function(self._state, x_at, y_at, self._real(forget))
        return returned

    def predict(self, x: Any, std: bool = False) -> Any:
        """At rows; a BayesianLastLayer's is the mean, or the mean and std."""
        found = np.full((2, len(x), self.subject.model.n_outputs), np.nan, self.dtype)
        head = isinstance(self.subject.learner, fm.BayesianLastLayer)
        for i, row in enumerate(x):
            x_at, _row = self._array(row)
            outs = [self._array(found[0, i])[0]]
            if head:
                outs.append(self._array(found[1, i])[0] if std else None)
            self._function("predict")(self._state, x_at, *outs)
        return (found[0], found[1]) if std else found[0]


def exported(
    folder: Path, subjects: Sequence[Any], dtypes: Sequence[Any], flags: Sequence[str] = ("-O1",)
) -> list[Exported]:
    """Compile subjects, each in a dtype, as one library, and return what calls each."""
    text = []
    for i, (subject, dtype) in enumerate(zip(subjects, dtypes, strict=True)):
        header, source = sources_of(subject, Dialect(f"m{i}", np.dtype(dtype)))
        text += [header, source.replace(f'#include "m{i}.h"', "")]
        text.append(f"size_t m{i}_bytes(void);\nsize_t m{i}_bytes(void)")
        text.append(f"{{\n    return sizeof(m{i}_state);\n}}\n")
    (folder / "all.c").write_text("\n".join(text), encoding="ascii")
    run([compiler(), *STRICT, *flags, "-shared", "-fPIC", "all.c", "-o", "all.so", "-lm"],
        cwd=folder)  # fmt: skip
    library = ctypes.CDLL(str(folder / "all.so"))
    return [Exported(library, f"m{i}", s, d)
            for i, (s, d) in enumerate(zip(subjects, dtypes, strict=True))]  # fmt: skip


def random_subject(rng: np.random.Generator) -> Any:
    """What a user may have learned: any sizes, activations, rates, loss, prior and scaling."""
    words = ["identity", "relu", "leaky_relu", "elu", "softplus", "tanh", "sigmoid", "silu", "gelu",
             "sin"]  # fmt: skip
    n_in, n_out = rng.integers(1, 5), rng.integers(1, 4)
    if rng.random() < 0.15:
        model: Any = fm.Linear(n_in, n_out, intercept=bool(rng.random() < 0.5))
    else:
        hidden = rng.integers(1, 14, rng.integers(1, 4)).tolist()
        model = fm.MLP([n_in, *hidden, n_out], rng.choice(words, len(hidden)).tolist())
    dtype = rng.choice(["float32", "float64"])
    scaled = rng.random() < 0.5
    if rng.random() < 0.4:
        head = fm.BayesianLastLayer(
            model,
            prior=rng.choice(["diagonal", "shared"]),
            noise=rng.choice(["shared", "per_output"]),
        )
        theta = head.init(rng, dtype)
        theta += rng.normal(0, 0.5, len(theta)).astype(dtype)
        return subject_of(head, theta, random_scaling(rng, head) if scaled else None)
    steps, layers, size = int(rng.integers(0, 6)), model.n_layers, model.n_params
    rates = [(), (steps, 1), (1, layers), (steps, layers), (1, size)]
    shape = rates[rng.integers(len(rates))]
    inner_lr = rng.uniform(0, 0.02, shape) * (rng.random(shape) < 0.8)
    maml = fm.MAML(
        model,
        inner_lr=inner_lr,
        steps=steps,
        loss=random_loss(rng, n_out),
        inner_momentum=float(rng.choice([0.0, 0.5, 0.9])),
    )
    if rng.random() < 0.2:
        maml = fm.MAML(model, inner_lr=0.01, steps=steps, order="implicit", proximal=0.5)
    theta = model.init(rng, dtype) + rng.normal(0, 0.1, size).astype(dtype)
    return subject_of(maml, theta, random_scaling(rng, maml) if scaled else None)


def random_loss(rng: np.random.Generator, n_out: int) -> Any:
    """One of the losses that a model with so many outputs may have."""
    losses = ["half_sse", "half_mse", "sse", "mse", "log_cosh", "logistic", "poisson"]
    losses += [fm.Huber(0.5), fm.PseudoHuber(0.7), fm.Quantile(0.3, 0.2), fm.LogCosh(mean=False)]
    losses += ["gaussian_nll"] if n_out % 2 == 0 else []
    losses += ["softmax"] if n_out > 1 else []
    return losses[rng.integers(len(losses))]


def random_scaling(rng: np.random.Generator, learner: Any) -> Any:
    """One that fits; it leaves y as it is where outputs are no predictions of it."""
    n_in, n_y = learner.model.n_inputs, learner._n_targets
    y = (rng.normal(0, 10, n_y), rng.uniform(0.5, 20, n_y))
    if not learner._predicts_y:
        y = np.zeros(n_y), np.ones(n_y)
    return fm.learn.Scaling(rng.normal(0, 100, n_in), rng.uniform(0.5, 20, n_in), *y)


def random_rows(rng: np.random.Generator, subject: Any, n_rows: int) -> tuple[Any, Any]:
    """Rows of a task in the user's units, rounded to float32, so that both dtypes take the same."""
    x = rng.normal(size=(n_rows, subject.model.n_inputs))
    y = random_targets(rng, subject.learner, n_rows)
    if subject.scaling is not None:
        x = x * subject.scaling.x_scale + subject.scaling.x_mean
        y = y * subject.scaling.y_scale + subject.scaling.y_mean
    return x.astype(np.float32).astype(np.float64), y.astype(np.float32).astype(np.float64)


def random_targets(rng: np.random.Generator, learner: Any, n_rows: int) -> Any:
    """What the loss of the inner steps takes."""
    targets, shape = learner._problem.targets[0], (n_rows, learner._n_targets)
    kind = "any" if targets is None else targets.kind
    if kind == "any":
        return rng.normal(size=shape)
    if kind == "counts":
        return rng.poisson(2.0, shape).astype(float)
    return rng.integers(0, targets.n_classes if kind == "class" else 2, shape).astype(float)
