"""
A new wave from five points
===========================

Two networks learn from sine waves of all amplitudes and phases how a sine wave is learned: one so
that gradient steps on a few points are enough (MAML), one so that its last layer can be solved for
(the closed form), which also says how sure it is. Then there is a new wave, and five points of it.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.learn import Adam, train

# %%
# A batch is 25 waves, with some points to adapt to and ten to judge by. The loop is the same for
# both; the closed form trains with one to fifteen points, so that it knows what few are worth.


def trained(objective, start, n_support, n_iterations):
    """Meta-parameters after so many batches."""
    rng = np.random.default_rng(0)

    def batch():
        return Sinusoid().sample(25, n_support=n_support, n_query=10, rng=rng)

    optimizer = Adam(0.001)
    return train(objective, start, batch, optimizer, n_iterations, clip_norm=10.0).theta


maml = fm.MAML(fm.MLP([1, 40, 40, 1], "relu"), inner_lr=0.01, loss="mse", task_mean=True)
theta = trained(maml, maml.model.init(0), 10, 10_000)

network = fm.MLP([1, 40, 40, 20, 1], ["tanh", "tanh", "identity"])
head = fm.BayesianLastLayer(network, loss="mean_nll", task_mean=True)
prior = trained(head, head.init(0), (1, 15), 3000)

# %%
# Errors on 1000 new waves. Steps beyond the one that was trained for help.

tasks = Sinusoid().sample(1000, n_support=5, n_query=50, rng=1)
x, y, x_new, y_new = tasks
more = fm.MAML(maml.model, inner_lr=0.01, loss="mse", task_mean=True, steps=10)
print(f"before        {np.mean((maml.model.predict(theta, x_new) - y_new) ** 2):.3f}")
print(f"one step      {np.mean((maml.predict(theta, x, y, x_new) - y_new) ** 2):.3f}")
print(f"ten steps     {np.mean((more.predict(theta, x, y, x_new) - y_new) ** 2):.3f}")
print(f"closed form   {np.mean((head.predict(prior, x, y, x_new) - y_new) ** 2):.5f}")

# %%
# One of them. The band is the mean and twice the standard deviation.

amplitude, phase = 3.5, 0.8
grid = np.linspace(-5.0, 5.0, 201)[:, None]
points = np.array([[-3.6], [-2.2], [-1.0], [0.4], [1.5]])
wave, known = amplitude * np.sin(grid - phase), amplitude * np.sin(points - phase)

figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(11, 3.2), sharey=True, layout="constrained"
)
shown = Sinusoid().sample(6, n_support=10, n_query=300, rng=5)
for one_x, one_y, all_x, all_y in zip(*shown, strict=True):
    order = np.argsort(all_x[:, 0])
    (line,) = left.plot(all_x[order], all_y[order], alpha=0.35)
    left.plot(one_x, one_y, ".", color=line.get_color(), markersize=6)
left.set_title("many tasks, ten points each")
for axes in (middle, right):
    axes.plot(grid, wave, color="0.75", linewidth=4, label="the new wave")
    axes.plot(points, known, "ko", markersize=5, zorder=5)
for label, curve, style in (
    ("before", maml.model.predict(theta, grid), ":"),
    ("one step", maml.predict(theta, points, known, grid), "--"),
    ("ten steps", more.predict(theta, points, known, grid), "-"),
):
    middle.plot(grid, curve, style, color="#c0392b", label=label)
middle.set_title("gradient steps on five points")
mean, std = head.predict(prior, points, known, grid, return_std=True)
low, high = (mean - 2 * std)[:, 0], (mean + 2 * std)[:, 0]
right.fill_between(grid[:, 0], low, high, color="#17407a", alpha=0.25, linewidth=0)
right.plot(grid, mean, color="#17407a", label="closed form")
right.set_title("in closed form")
for axes in (left, middle, right):
    axes.set(xlim=(-5, 5), ylim=(-6.5, 6.5))
    axes.spines[["top", "right"]].set_visible(False)
for axes in (middle, right):
    axes.legend(loc="upper right", fontsize=8, ncols=2, frameon=False)
plt.show()
