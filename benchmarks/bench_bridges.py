"""asv: what a meta-gradient costs in PyTorch and JAX beyond ``MAML.evaluate`` on the same arrays.

``python -m benchmarks.bench_bridges`` prints the same. Calls of the one and of the other take
turns, and both get the same arrays; what is told is the difference of their medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
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


def in_torch(work: Problem) -> Callable[[], Any]:
    """A loss of an ``nn.Sequential`` and its ``backward``, as in a training loop."""
    import torch

    from fastmaml.torch import meta_loss, to_module

    net = to_module(fm.MLP(work.layers, work.activation), work.theta)
    data = [torch.from_numpy(each) for each in (work.x, work.y, work.x_query, work.y_query)]
    parameters = list(net.parameters())

    def call() -> None:
        for each in parameters:
            each.grad = None
        meta_loss(net, *data, inner_lr=work.inner_lr, steps=work.steps).backward()

    return call


def in_jax(work: Problem) -> Callable[[], Any]:
    """``jit`` of ``value_and_grad``."""
    import jax
    import jax.numpy as jnp

    from fastmaml.jax import meta_loss

    jax.config.update("jax_enable_x64", work.theta.dtype == "float64")
    maml = fm.MAML(fm.MLP(work.layers, work.activation), work.inner_lr, work.steps)
    function = jax.jit(jax.value_and_grad(meta_loss(maml)))
    arrays = [
        jnp.asarray(each) for each in (work.theta, work.x, work.y, work.x_query, work.y_query)
    ]
    return lambda: jax.block_until_ready(function(*arrays))


BRIDGES = {"torch": in_torch, "jax": in_jax}


class Overhead:
    """Beyond ``evaluate``, on ``sin``."""

    params = (tuple(BRIDGES), DTYPES)
    param_names = ("library", "dtype")
    unit = "us"

    def setup(self, library: str, dtype: str) -> None:
        work = problem("sin", dtype, "relu")
        assert isinstance(work, Problem)
        maml = fm.MAML(fm.MLP(work.layers, work.activation), work.inner_lr, work.steps)
        data = (work.theta, work.x, work.y, work.x_query, work.y_query)
        self.bare = lambda: maml.evaluate(*data)
        try:
            self.ours = BRIDGES[library](work)
        except ImportError as error:
            raise NotImplementedError from error  # asv's word for a cell to skip
        self.ours()  # compiled

    def track_overhead(self, *cell: str) -> float:
        return overhead(self.ours, self.bare)

    def time_value_and_gradient(self, *cell: str) -> None:
        self.ours()


def main() -> None:
    """Print the overheads of both."""
    for library in BRIDGES:
        for dtype in DTYPES:
            case = Overhead()
            case.setup(library, dtype)
            print(f"{library:6} sin {dtype}: {case.track_overhead():.0f} µs beyond evaluate")


if __name__ == "__main__":
    main()
