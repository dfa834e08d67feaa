"""
L-BFGS on a fixed set of tasks
==============================

Hand the meta-objective to SciPy. The meta-gradient is exact, so a quasi-Newton method and its line
search can rely on it. With a smooth activation, and tasks that stay the same, it gets far in few
evaluations.
"""

import matplotlib.pyplot as plt
from scipy.optimize import minimize

import fastmaml as fm
from fastmaml.datasets import Sinusoid

train_tasks = Sinusoid().sample(100, n_support=10, n_query=10, rng=0)
test_tasks = Sinusoid().sample(500, n_support=10, n_query=10, rng=1)

model = fm.MLP([1, 40, 40, 1], activation="tanh")
maml = fm.MAML(model, inner_lr=0.01, loss="mse", task_mean=True)
theta = model.init(0)

print(f"{'':24}  training tasks  new tasks")


def report(label, theta):
    """Print the error after adaptation on both sets of tasks."""
    print(f"{label:24}  {maml.value(theta, *train_tasks):14.3f}  ", end="")
    print(f"{maml.value(theta, *test_tasks):9.3f}")


curve = []


def watch(theta):
    """Keep the errors on both sets of tasks."""
    curve.append((maml.value(theta, *train_tasks), maml.value(theta, *test_tasks)))


report("fresh parameters", theta)
result = minimize(
    maml.value_and_gradient,
    theta,
    args=tuple(train_tasks),
    jac=True,
    method="L-BFGS-B",
    callback=watch,
    options={"maxiter": 250},
)
report(f"after {result.nfev} evaluations", result.x)

# %%
# A hundred tasks are not many: what is learned beyond them levels off.

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.semilogy(curve, label=["training tasks", "new tasks"])
axes.set(xlabel="iteration of L-BFGS", ylabel="error after adaptation")
axes.legend()
plt.show()
