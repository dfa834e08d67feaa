"""
The line that makes a PyTorch loop fast
=======================================

A MAML loop in PyTorch: a network, Adam, a batch of sine waves an iteration, and a loss of which
``backward()`` is called. In ``task_by_task`` autograd goes through the inner step of one task after
the other, as with learn2learn or higher. ``meta_loss`` is the same number with the same gradient.

Needs PyTorch: ``pip install "fastmaml[torch]"``, and docs/pytorch.md for a build without CUDA.
"""

import sys
import time

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.func import functional_call

from fastmaml.torch import meta_loss, predict

INNER_LR, TASKS, ROWS = 0.01, 25, 10
# How many iterations: the number on the command line, if there is one.
named = len(sys.argv) == 2 and "__file__" in globals()
ITERATIONS = int(sys.argv[1]) if named else 200


def sine_waves(n_tasks, generator):
    """Support and query rows: four tensors (n_tasks, ROWS, 1)."""
    amplitude = 0.1 + 4.9 * torch.rand(n_tasks, 1, 1, generator=generator)
    phase = torch.pi * torch.rand(n_tasks, 1, 1, generator=generator)
    x = 10 * torch.rand(n_tasks, 2 * ROWS, 1, generator=generator) - 5
    y = amplitude * torch.sin(x - phase)
    return x[:, :ROWS], y[:, :ROWS], x[:, ROWS:], y[:, ROWS:]


def task_by_task(net, x, y, x_query, y_query):
    """The mean loss of the adapted networks, by autograd."""
    weights, total = dict(net.named_parameters()), 0.0
    for task in range(len(x)):
        loss = nn.functional.mse_loss(net(x[task]), y[task])
        slopes = torch.autograd.grad(loss, weights.values(), create_graph=True)
        adapted = {
            name: weight - INNER_LR * slope
            for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        }
        f = functional_call(net, adapted, (x_query[task],))
        total = total + nn.functional.mse_loss(f, y_query[task])
    return total / len(x)


def train(fast):
    """Return the network, the last loss and the seconds an iteration."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    for iteration in range(ITERATIONS + 1):
        if iteration == 1:  # the first one may have to compile
            start = time.perf_counter()
        batch = sine_waves(TASKS, generator)
        optimizer.zero_grad()
        if fast:
            loss = meta_loss(net, *batch, inner_lr=INNER_LR, loss="mse", task_mean=True)
        else:
            loss = task_by_task(net, *batch)
        loss.backward()
        optimizer.step()
    return net, loss.item(), (time.perf_counter() - start) / ITERATIONS


# %%
# The same training, twice.

_, loss, before = train(fast=False)
print(f"autograd, task by task: loss {loss:.4f}, {1e3 * before:.2f} ms an iteration")
net, loss, after = train(fast=True)
print(f"fastmaml.torch:         loss {loss:.4f}, {1e3 * after:.2f} ms an iteration")
print(f"{before / after:.1f} times as fast, batches and Adam included")

# %%
# What was learned, on new waves.

x, y, x_query, y_query = sine_waves(500, torch.Generator().manual_seed(1))
f = predict(net, x, y, x_query, inner_lr=INNER_LR, loss="mse")
error = nn.functional.mse_loss(f, y_query).item()
print(f"new waves: error {error:.4f} after one step on {ROWS} rows")

# %%
# One of them: ten points, and the prediction after one step.

grid = torch.linspace(-5.0, 5.0, 101)[:, None]
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.plot(x[0], y[0], "ko", label="ten points")
axes.plot(grid, predict(net, x[0], y[0], grid, inner_lr=INNER_LR, loss="mse"), label="prediction")
axes.legend()
plt.show()
