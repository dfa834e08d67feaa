"""The laws of the benchmarks, and one of two outputs, as the tests of `fm.Formula` share them."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import sympy

import fastmaml as fm


def _benchmarks() -> Any:
    """``benchmarks/laws.py``, which is not on the path of the tests."""
    spec = spec_from_file_location("laws", Path(__file__).parents[1] / "benchmarks/laws.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_laws = _benchmarks()


class Law(_laws.Law):
    """A law as a model, its outputs by any library, and tasks of it."""

    @property
    def model(self) -> fm.Formula:
        """The formula as a model."""
        names = {"parameters": list(self.values), "inputs": list(self.inputs)}
        limits = {"positive": self.positive, "bounds": self.bounds}
        return fm.Formula(lambda **symbols: self.f(sympy, **symbols), **names, **limits)

    def outputs(self, m: Any, theta: Any, x: Any) -> list[Any]:
        """f of theta (P,) at x (rows, n_inputs), by the library m."""
        found = self.of_theta(m, theta, [x[:, c] for c in range(len(self.inputs))])
        return [f + 0 * x[:, 0] for f in (found if isinstance(found, list) else [found])]

    def draw(self, rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a task whose parameters are near the usual ones."""
        x = np.stack([rng.uniform(*limits, rows) for limits in self.inputs.values()], 1)
        theta = self.model.pack(self.values) + rng.normal(0, 0.1, len(self.values))
        y = np.stack(self.outputs(np, theta, x), 1)
        return x, y + rng.normal(0, 0.05, y.shape)


def predation(m, prey, hunters, a, b, c, d):
    return [a * prey - b * prey * hunters, d * prey * hunters - c * hunters]


LAWS = {name: Law(*law) for name, law in _laws.LAWS.items()} | {
    "predation": Law(
        {"prey": (0, 3), "hunters": (0, 2)}, {"a": 1.1, "b": 0.4, "c": 0.4, "d": 0.1},
        ("a", "b", "c", "d"), {}, 0.003, predation,
    )
}  # fmt: skip
