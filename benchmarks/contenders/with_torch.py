"""PyTorch with ``torch.func``: the gradient of a ``vmap`` over tasks, ``grad`` in every step."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workloads import Problem
from .base import Prepared, flat, layers_of


def torch(problem: Problem, compiled: bool = False) -> Prepared:
    # Here and not above: asv imports every file of benchmarks/, with or without PyTorch.
    import torch as library
    from torch.func import grad, grad_and_value, vmap

    phi = {"relu": library.relu, "tanh": library.tanh}[problem.activation]
    # torch.compile fails on a closure that holds the problem's NumPy arrays, so it holds numbers.
    steps, rate = problem.steps, problem.inner_lr

    def loss(params: Any, x: Any, y: Any) -> Any:
        for weight, bias in params[:-1]:
            x = phi(x @ weight.T + bias)
        weight, bias = params[-1]
        return 0.5 * ((x @ weight.T + bias - y) ** 2).sum()

    def task_loss(params: Any, x: Any, y: Any, x_query: Any, y_query: Any) -> Any:
        for _ in range(steps):
            gradient = grad(loss)(params, x, y)
            params = [
                (weight - rate * g, bias - rate * h)
                for (weight, bias), (g, h) in zip(params, gradient, strict=True)
            ]
        return loss(params, x_query, y_query)

    def meta_loss(params: Any, *data: Any) -> Any:
        return vmap(task_loss, in_dims=(None, 0, 0, 0, 0))(params, *data).sum()

    run = grad_and_value(meta_loss)
    if compiled:
        run = library.compile(run, fullgraph=True, dynamic=False)
    params = [tuple(library.tensor(p) for p in layer) for layer in layers_of(problem)]
    data = [library.tensor(a) for a in (problem.x, problem.y, problem.x_query, problem.y_query)]

    def as_numpy(result: Any) -> tuple[float, np.ndarray]:
        return float(result[1]), flat(result[0])

    return Prepared(lambda: run(params, *data), as_numpy, f"PyTorch {library.__version__}")


def torch_compile(problem: Problem) -> Prepared:
    """The same through ``torch.compile``, which needs a C++ compiler."""
    return torch(problem, compiled=True)
