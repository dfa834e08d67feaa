"""Everything that can compute the meta-gradient of a problem, behind one call.

A problem is of gradient steps, of a last layer that adapts in closed form, or of a formula; each
kind has its own contenders, under the same names. A contender is a function ``(problem, **options)
-> Prepared`` in a file of its own. It imports its library itself, so that a process loads only the
one that it measures, and it does beforehand whatever a user's own training loop would do once:
build the model, compile, move the data.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from ..workloads import FORMULAS, HEADS, FormulaProblem, HeadProblem, Problem
from .base import Prepared

__all__ = [
    "CONTENDERS", "FORMULA_CONTENDERS", "HEAD_CONTENDERS", "Contender", "Prepared",
    "contenders_for",
]  # fmt: skip


class Contender(NamedTuple):
    """Where a contender is, and what must be installed for it."""

    module: str
    function: str
    library: str
    title: str  # in tables and charts
    is_peer: bool = True  # computes the meta-gradient, by other means than this package

    def missing(self) -> bool:
        """Whether the library is not installed; looks without importing it."""
        return find_spec(self.library) is None

    def prepare(self, problem: Problem | HeadProblem | FormulaProblem, **options: Any) -> Prepared:
        """Import the library and make everything ready."""
        return getattr(import_module(f"{__name__}.{self.module}"), self.function)(
            problem, **options
        )


CONTENDERS = {
    "fastmaml": Contender("with_fastmaml", "fastmaml", "fastmaml", "fastmaml", is_peer=False),
    "jax": Contender("with_jax", "jax", "jax", "JAX"),
    "torch": Contender("with_torch", "torch", "torch", "PyTorch"),
    "torch-loop": Contender("with_torch_loop", "torch_loop", "torch", "PyTorch loop"),
    "torch-compile": Contender("with_torch", "torch_compile", "torch", "torch.compile"),
    "numpy": Contender("with_numpy", "numpy", "numpy", "NumPy"),
    "matmul": Contender("with_numpy", "matmul", "numpy", "matrix product", is_peer=False),
}

HEAD_CONTENDERS = {
    "fastmaml": Contender("with_fastmaml", "head", "fastmaml", "fastmaml", is_peer=False),
    "jax": Contender("with_jax_head", "head", "jax", "JAX"),
}


FORMULA_CONTENDERS = {
    "fastmaml": Contender("with_formula", "formula", "fastmaml", "Formula", is_peer=False),
    "custom": Contender("with_formula", "custom", "fastmaml", "Custom", is_peer=False),
    "jax": Contender("with_jax_formula", "formula", "jax", "JAX"),
}


def contenders_for(workload: str) -> dict[str, Contender]:
    """Those of a workload's kind."""
    if workload in FORMULAS:
        return FORMULA_CONTENDERS
    return HEAD_CONTENDERS if workload in HEADS else CONTENDERS
