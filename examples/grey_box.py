"""
A grey box
==========

Pendulums in a field that the formula does not know, and a network that learns it.

The acceleration of a pendulum is ``-g/l sin(angle) - c speed``; below these there is a magnet, and
the air drags at them. Each has its own g/l and c, and ten measurements to adapt to it. Three models
learn from the same pendulums: the formula, a network, and their sum.
"""

import matplotlib.pyplot as plt
import numpy as np
import sympy

import fastmaml as fm

angle, speed, g_l, c = sympy.symbols("angle speed g_l c")
formula = fm.Formula(
    -g_l * sympy.sin(angle) - c * speed,
    parameters=[g_l, c],
    inputs=[angle, speed],
    positive=[g_l, c],
)
network = fm.MLP([2, 8, 8, 1])
both = fm.Sum(formula, network)

# %%
# The pendulums. What they do is the formula and something more.


def measure(n_pendulums, rows, seed, angles=1.5, speeds=2.0):
    """Draw pendulums, and (angle, speed) and acceleration of each, with noise of 0.05."""
    rng = np.random.default_rng(seed)
    gravity, friction = (
        rng.lognormal(1.2, 0.3, (n_pendulums, 1)),
        rng.lognormal(-1, 0.3, (n_pendulums, 1)),
    )
    a, s = (rng.uniform(-far, far, (n_pendulums, rows)) for far in (angles, speeds))
    y = -gravity * np.sin(a) - friction * s + unknown(a, s)
    return np.stack([a, s], -1), y + rng.normal(0, 0.05, y.shape)


def unknown(a, s):
    """What the formula does not have: a magnet and drag."""
    return 6.0 * a * np.exp(-4 * a**2) - 0.3 * s * abs(s)


def split(x, y, n_support=10):
    """Support and query rows."""
    return x[:, :n_support], y[:, :n_support], x[:, n_support:], y[:, n_support:]


train = split(*measure(40, 30, seed=0))
new = split(*measure(100, 60, seed=1))
far = (*new[:2], *measure(100, 60, seed=1, angles=3.0, speeds=2.0))

# %%
# All three learn in the same way; only the rates of the formula's two parameters differ.

start = formula.init(values={"g_l": 3.0, "c": 0.3})
models = {
    "formula": (formula, start),
    "network": (network, network.init(0)),
    "sum": (both, both.init(0, formula=start)),
}
learned = {}
print(f"{'root of mean squared error':28} new pendulums   at larger angles")
for name, (model, theta) in models.items():
    rates = np.full((1, model.n_layers), 0.1 if name == "formula" else 0.05)
    maml = fm.MAML(model, rates, steps=5, loss="half_mse", task_mean=True)
    learned[name] = fm.learn.minimize(maml, theta, train, 100)
    errors = [
        np.sqrt(2 * learned[name].maml.value(learned[name].theta, *data)) for data in (new, far)
    ]
    print(f"{name:28} {errors[0]:13.3f}  {errors[1]:16.3f}")

# %%
# A new pendulum: the network cannot know what is beyond the angles that it has seen.

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
x, y = measure(1, 10, seed=3)
gravity = np.random.default_rng(3).lognormal(1.2, 0.3)
angles = np.linspace(-3, 3, 121)
grid = np.stack([angles, np.zeros(121)], -1)
truth = -gravity * np.sin(angles) + unknown(angles, 0.0)
axes.axvspan(-1.5, 1.5, color="0.93", label="angles of all measurements")
axes.plot(angles, truth, "k", label="truth, at speed 0")
for name, result in learned.items():
    axes.plot(angles, result.maml.predict(result.theta, x, y, grid[None])[0], label=name)
axes.set(xlabel="angle", ylabel="acceleration", title="A new pendulum, after ten measurements")
axes.legend()
plt.show()
