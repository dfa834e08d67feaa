"""asv: what a meta-gradient costs in PyTorch and JAX beyond ``MAML.evaluate`` on the same arrays.

``python -m benchmarks.bench_bridges`` prints the same. Calls of the one and of the other take
turns, and both get the same arrays; what is told is the difference of their medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import fastmaml as fm

from .workloads import DTYPES, Problem, problem

CALLS = 1000


def overhead(ours: Callable[[], Any], bare: Callable[[], Any]) -> float:
    """The median time of one call beyond that of another, in µs."""
    functions, times = (ours, bare), ([], [])
    for i in range(CALLS + 50):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if i >= 50:
                taken.append(time.perf_counter() - start)
    return 1e6 * (statistics.median(times[0]) - statistics.median(times[1]))


def in_torch(work: Problem, learned: bool) -> Callable[[], Any]:
    """A loss of an ``nn.Sequential`` and its ``backward``, as in a training loop."""
    import torch

    from fastmaml.torch import meta_loss, to_module

    net = to_module(fm.MLP(work.layers, work.activation), work.theta)
    data = [torch.from_numpy(each) for each in (work.x, work.y, work.x_query, work.y_query)]
    parameters, inner_lr = list(net.parameters()), work.inner_lr
    if learned:
        inner_lr = torch.tensor(work.inner_lr, dtype=data[0].dtype, requires_grad=True)
        parameters.append(inner_lr)

    def call() -> None:
        for each in parameters:
            each.grad = None
        meta_loss(net, *data, inner_lr=inner_lr, steps=work.steps).backward()

    return call


def in_jax(work: Problem, learned: bool) -> Callable[[], Any]:
    """``jit`` of ``value_and_grad``."""
    import jax
    import jax.numpy as jnp

    from fastmaml.jax import meta_loss

    jax.config.update("jax_enable_x64", work.theta.dtype == "float64")
    maml = fm.MAML(fm.MLP(work.layers, work.activation), work.inner_lr, work.steps)
    function = jax.jit(jax.value_and_grad(meta_loss(maml), (0, 5) if learned else 0))
    given = work.theta, work.x, work.y, work.x_query, work.y_query
    arrays = [jnp.asarray(each) for each in (*given, work.inner_lr)[: 6 if learned else 5]]
    return lambda: jax.block_until_ready(function(*arrays))


BRIDGES = {"torch": in_torch, "jax": in_jax}
RATES = ("given", "learned")


class Overhead:
    """Beyond ``evaluate``, on ``sin``; with learned rates, also their gradient is asked for."""

    params = (tuple(BRIDGES), DTYPES, RATES)
    param_names = ("library", "dtype", "rates")
    unit = "us"

    def setup(self, library: str, dtype: str, rates: str) -> None:
        work = problem("sin", dtype, "relu")
        assert isinstance(work, Problem)
        maml = fm.MAML(fm.MLP(work.layers, work.activation), work.inner_lr, work.steps)
        data = (work.theta, work.x, work.y, work.x_query, work.y_query)
        self.bare = lambda: maml.evaluate(*data)
        try:
            self.ours = BRIDGES[library](work, rates == "learned")
        except ImportError as error:
            raise NotImplementedError from error  # asv's word for a cell to skip
        self.ours()  # compiled

    def track_overhead(self, *cell: str) -> float:
        return overhead(self.ours, self.bare)

    def time_value_and_gradient(self, *cell: str) -> None:
        self.ours()


def main() -> None:
    """Print the overheads of both."""
    for cell in product(*Overhead.params):
        case = Overhead()
        case.setup(*cell)
        library, dtype, rates = cell
        beyond = case.track_overhead()
        print(f"{library:6} sin {dtype}, rates {rates}: {beyond:.0f} µs beyond evaluate")


if __name__ == "__main__":
    main()
