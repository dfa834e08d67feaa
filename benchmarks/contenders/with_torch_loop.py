"""PyTorch as most people write MAML in it: task by task, in the manner of learn2learn and higher.

The network is an ``nn.Sequential``. Each task gets weights of its own by gradient steps with
``create_graph=True``, and its query loss goes back through them into ``.grad``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ..workloads import Problem
from .base import Prepared


def torch_loop(problem: Problem) -> Prepared:
    # Here and not above: asv imports every file of benchmarks/, with or without PyTorch.
    import torch as library
    from torch import nn
    from torch.func import functional_call

    phi = {"relu": nn.ReLU, "tanh": nn.Tanh}[problem.activation]
    theta = library.tensor(problem.theta)
    parts: list[nn.Module] = []
    for n_in, n_out in pairwise(problem.layers):
        parts += [nn.Linear(n_in, n_out, dtype=theta.dtype), phi()]
    network = nn.Sequential(*parts[:-1])
    with library.no_grad():
        nn.utils.vector_to_parameters(theta, network.parameters())
    weights = dict(network.named_parameters())
    arrays = problem.x, problem.y, problem.x_query, problem.y_query
    tasks = list(zip(*(library.tensor(a) for a in arrays), strict=True))

    def loss_of(weights: dict[str, Any], x: Any, y: Any) -> Any:
        return 0.5 * ((functional_call(network, weights, (x,)) - y) ** 2).sum()

    def run() -> Any:
        network.zero_grad()
        total = library.zeros((), dtype=theta.dtype)
        for x, y, x_query, y_query in tasks:
            fast = weights
            for _ in range(problem.steps):
                gradient = library.autograd.grad(
                    loss_of(fast, x, y), list(fast.values()), create_graph=True
                )
                fast = {
                    name: weight - problem.inner_lr * slope
                    for (name, weight), slope in zip(fast.items(), gradient, strict=True)
                }
            loss = loss_of(fast, x_query, y_query)
            loss.backward()
            total += loss.detach()
        return total

    def as_numpy(total: Any) -> tuple[float, np.ndarray]:
        gradient = [each.grad.reshape(-1).numpy() for each in network.parameters()]
        return float(total), np.concatenate(gradient)

    return Prepared(run, as_numpy, f"PyTorch {library.__version__}")
