"""
Tasks with different numbers of rows
====================================

Pass lists of arrays, one array a task.

Each task is one sensor: a nonlinear curve that all of them share, seen through a gain and an offset
of its own. Calibration takes effort, so some have three reference points and some have thirty. No
padding and no masks; with the loss "mse" a sensor counts the same, however many rows it has.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmaml as fm
from fastmaml.learn import Adam, train

rng = np.random.default_rng(0)


def sensors(n_sensors):
    """Lists of support inputs and targets (3 to 30 rows a sensor), then of query ones (20 rows)."""
    x, y, x_query, y_query = [], [], [], []
    for _ in range(n_sensors):
        n_rows = rng.integers(3, 31)
        gain, offset = rng.normal(1.0, 0.3), rng.normal(0.0, 0.5)
        true = rng.uniform(-2.0, 2.0, (n_rows + 20, 1))
        reading = gain * (true + 0.5 * np.sin(3.0 * true)) + offset
        x.append(true[:n_rows])
        y.append(reading[:n_rows])
        x_query.append(true[n_rows:])
        y_query.append(reading[n_rows:])
    return x, y, x_query, y_query


maml = fm.MAML(fm.MLP([1, 32, 32, 1]), inner_lr=0.05, steps=3, loss="mse", task_mean=True)
theta = train(maml, maml.model.init(rng), lambda: sensors(10), Adam(5e-3), 600).theta

# %%
# Errors of new sensors, by how many reference points they have.

x, y, x_query, y_query = sensors(400)
predicted = maml.predict(theta, x, y, x_query)  # a list of arrays, as x_query is
errors = np.array([np.mean((p - t) ** 2) for p, t in zip(predicted, y_query, strict=True)])
before = np.mean((maml.model.predict(theta, np.array(x_query)) - y_query) ** 2)
n_rows = np.array([len(rows) for rows in x])

print(f"400 new sensors, mean squared error before calibration: {before:.4f}")
for low, high in ((3, 5), (6, 10), (11, 20), (21, 30)):
    some = (low <= n_rows) & (n_rows <= high)
    print(f"after calibration with {low:2d} to {high:2d} rows: {errors[some].mean():.4f}")

# %%
# Each sensor is a dot.

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.semilogy(n_rows, errors, ".", color="#17407a", alpha=0.5)
axes.axhline(before, color="#c0392b", label="before calibration")
axes.set(xlabel="reference points", ylabel="mean squared error")
axes.legend()
plt.show()
