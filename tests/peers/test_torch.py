"""fastmaml against PyTorch: autograd through the inner loop, in the layout of nn.Sequential."""

from itertools import pairwise

import numpy as np
import pytest
from cases import ACTIVATIONS, METHODS, draw, relative_error

import fastmaml as fm

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.peers

TOLERANCE = 1e-12


class Sin(nn.Module):
    def forward(self, z):
        return torch.sin(z)


MODULES = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sin": Sin,
}


def sequential(layer_sizes, activation):
    parts = []
    for n_in, n_out in pairwise(layer_sizes):
        parts += [nn.Linear(n_in, n_out, dtype=torch.float64), MODULES[activation]()]
    return nn.Sequential(*parts[:-1])


def meta_gradient(net, tasks, inner_lr, steps):
    """The summed query MSE after the inner steps, and its gradient as parameters_to_vector."""
    theta = dict(net.named_parameters())
    mse = nn.MSELoss()
    total = 0.0
    for task in tasks:
        x, y, x_query, y_query = map(torch.from_numpy, task)
        fast = theta
        for _ in range(steps):
            loss = mse(torch.func.functional_call(net, fast, (x,)), y)
            slopes = torch.autograd.grad(loss, fast.values(), create_graph=True)
            fast = {
                name: value - inner_lr * slope
                for (name, value), slope in zip(fast.items(), slopes, strict=True)
            }
        total = total + mse(torch.func.functional_call(net, fast, (x_query,)), y_query)
    gradient = torch.autograd.grad(total, theta.values())
    return total.item(), nn.utils.parameters_to_vector(gradient).numpy()


@pytest.mark.parametrize("seed", range(12))
def test_meta_gradient_of_a_sequential(seed):
    activation = ACTIVATIONS[seed % len(ACTIVATIONS)]
    pins = {"depth": 2 + seed % 3, "activation": activation, "steps": 1 + seed % 3, "loss": "mse"}
    case = draw(6000 + seed, family="mlp", form="scalar", **pins)
    net = sequential(case.model.layer_sizes, activation)
    nn.utils.vector_to_parameters(torch.from_numpy(case.theta), net.parameters())
    tasks = list(zip(*case.per_task, strict=True))
    value, gradient = meta_gradient(net, tasks, case.inner_lr, case.steps)
    for method in METHODS:
        maml = fm.MAML(case.model, case.inner_lr, case.steps, loss="mse", method=method)
        got_value, got_gradient = maml.value_and_gradient(case.theta, *case.data)
        assert relative_error(got_value, value) <= TOLERANCE, method
        assert relative_error(got_gradient, gradient) <= TOLERANCE, method


def test_weights_move_across_without_permutation():
    torch.manual_seed(0)
    net = sequential((3, 5, 4, 2), "tanh")
    theta = nn.utils.parameters_to_vector(net.parameters()).detach().numpy()
    model = fm.MLP((3, 5, 4, 2), "tanh")
    x = np.random.default_rng(0).normal(size=(6, 3))
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    assert relative_error(model.predict(theta, x), want) <= TOLERANCE
