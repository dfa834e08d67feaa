"""asv: time and memory of one meta-gradient, by workload, dtype, activation and method or loss."""

from __future__ import annotations

from itertools import product

import fastmaml as fm

from .contenders.with_formula import custom_of, formula_of
from .laws import LAWS
from .workloads import ACTIVATIONS, DTYPES, HEAD_LOSSES, HEADS, WORKLOADS, problem

METHODS = ("auto", "factored", "dense", "explicit")


def too_large(*params: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Cells to leave out: ``explicit`` forms P × P numbers a task, so it is for ``small`` only."""
    return [cell for cell in product(*params) if cell[-1] == "explicit" and cell[0] != "small"]


class Call:
    """One cell, called once in ``setup`` so that no compiling is in what is measured."""

    param_names = ("workload", "dtype", "activation", "method")
    timeout = 300

    def setup(self, workload: str, dtype: str, activation: str, method: str) -> None:
        work = problem(workload, dtype, activation)
        model = fm.MLP(work.layers, activation)
        self.maml = fm.MAML(model, inner_lr=work.inner_lr, steps=work.steps, method=method)
        self.arguments = (work.theta, work.x, work.y, work.x_query, work.y_query)
        self.maml.value_and_gradient(*self.arguments)


class Speed(Call):
    params = (tuple(WORKLOADS), DTYPES, ACTIVATIONS, METHODS)
    skip_params = too_large(*params)

    def time_value_and_gradient(self, *cell: str) -> None:
        self.maml.value_and_gradient(*self.arguments)


class Memory(Call):
    """Of the whole process: ``peakmem_import_fastmaml`` in bench_startup.py is the ground level."""

    params = (tuple(WORKLOADS), DTYPES, ("relu",), METHODS)
    skip_params = too_large(*params)

    def setup_cache(self) -> None:
        """Compile in a process whose memory is not counted; ours then loads from the disk."""
        for dtype in DTYPES:
            for method in METHODS:
                self.setup("small", dtype, "relu", method)

    def peakmem_value_and_gradient(self, *cell: str) -> None:
        self.maml.value_and_gradient(*self.arguments)


class Head:
    """The last layer in closed form, whose losses differ in work: a density needs variances."""

    params = (tuple(HEADS), DTYPES, ACTIVATIONS, HEAD_LOSSES)
    param_names = ("workload", "dtype", "activation", "loss")
    timeout = 300

    def setup(self, workload: str, dtype: str, activation: str, loss: str) -> None:
        work = problem(workload, dtype, activation, loss)
        model = fm.MLP(work.layers, work.activations)
        self.head = fm.BayesianLastLayer(model, loss=work.loss)
        self.arguments = (work.theta, work.x, work.y, work.x_query, work.y_query)
        self.head.value_and_gradient(*self.arguments)

    def time_value_and_gradient(self, *cell: str) -> None:
        self.head.value_and_gradient(*self.arguments)


class Formula:
    """Two of the formulas, and the same as compiled functions of a user's own; compare has all.

    Each process compiles its own, which takes some seconds a cell.
    """

    params = (("michaelis_menten-1", "oscillation-5"), DTYPES, ("Formula", "Custom"))
    param_names = ("formula and steps", "dtype", "model")
    timeout = 300

    def setup(self, workload: str, dtype: str, model: str) -> None:
        work = problem(workload, dtype)
        make = {"Formula": formula_of, "Custom": custom_of}[model]
        self.maml = fm.MAML(make(LAWS[work.law]), inner_lr=work.inner_lr, steps=work.steps)
        self.arguments = (work.theta, work.x, work.y, work.x_query, work.y_query)
        self.maml.value_and_gradient(*self.arguments)

    def time_value_and_gradient(self, *cell: str) -> None:
        self.maml.value_and_gradient(*self.arguments)
