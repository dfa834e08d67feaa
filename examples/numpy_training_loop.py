"""
A loop of your own
==================

fastmaml gives the meta-gradient, NumPy does the rest.

Each task is the step response 1 - exp(-t / tau) of a device with its own time constant tau. After
meta-training, eight measurements and five gradient steps are enough to know a new device.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmaml as fm

STEPS, INNER_LR = 5, 0.1
rng = np.random.default_rng(0)


def devices(n_tasks, n_rows):
    """Times and responses of n_tasks devices: two arrays (n_tasks, n_rows, 1)."""
    tau = rng.uniform(0.3, 3.0, (n_tasks, 1, 1))
    t = rng.uniform(0.0, 4.0, (n_tasks, 2 * n_rows, 1))
    response = 1 - np.exp(-t / tau)
    support, query = np.s_[:, :n_rows], np.s_[:, n_rows:]
    return t[support], response[support], t[query], response[query]


model = fm.MLP([1, 24, 24, 1], activation="tanh")
options = {"inner_lr": INNER_LR, "steps": STEPS, "loss": "mse", "task_mean": True}
maml = fm.MAML(model, **options)
test_tasks = devices(500, 8)

# %%
# Gradient descent with momentum, on 20 new devices each time.

theta = model.init(rng)
velocity = np.zeros_like(theta)
print("iteration  test error after adaptation")
for iteration in range(601):
    if iteration % 100 == 0:
        print(f"{iteration:9d}  {maml.value(theta, *test_tasks):.6f}")
    gradient = fm.meta_gradient(model, theta, *devices(20, 8), **options)
    velocity = 0.9 * velocity - 0.01 * gradient
    theta += velocity

# %%
# New devices, before and after.

x, y, x_query, y_query = test_tasks
before = np.mean((model.predict(theta, x_query) - y_query) ** 2)
after = np.mean((maml.predict(theta, x, y, x_query) - y_query) ** 2)
print(f"new devices: {before:.6f} before adaptation, {after:.6f} after {STEPS} steps on 8 rows")

# %%
# Three of them: the eight measurements, and the response that is predicted from them.

grid = np.linspace(0.0, 4.0, 81)[:, None]
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.plot(grid, model.predict(theta, grid), ":", color="0.5", label="before adaptation")
for task, colour in enumerate(("#17407a", "#c0392b", "#1b7837")):
    axes.plot(x[task], y[task], "o", color=colour)
    axes.plot(grid, maml.predict(theta, x[task], y[task], grid), color=colour)
axes.set(xlabel="time", ylabel="response")
axes.legend()
plt.show()
