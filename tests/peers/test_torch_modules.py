"""Networks of PyTorch and models of fastmaml: which is which, and what is neither."""

import collections

import numpy as np
import pytest
from cases import ACTIVATIONS, relative_error

import fastmaml as fm

torch = pytest.importorskip("torch")
nn = torch.nn

from fastmaml import torch as bridge  # noqa: E402

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_there_and_back(activation, dtype):
    model = fm.MLP([3, 6, 4, 2], activation)
    theta = model.init(0, dtype)
    module = bridge.to_module(model, theta)
    again, numbers = bridge.from_module(module)
    assert again == model
    assert numbers.dtype == dtype
    assert np.array_equal(numbers, theta)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    with torch.no_grad():
        f = module(torch.from_numpy(x)).numpy()
    assert relative_error(f, model.predict(theta, x)) <= {"float32": 2e-6, "float64": 1e-12}[dtype]


@pytest.mark.parametrize(
    "model",
    [fm.Linear(3), fm.Linear(3, 2, intercept=False), fm.MLP([2, 5, 4, 3, 1], ["relu", "identity",
     "sin"])],
    ids=str,
)  # fmt: skip
def test_other_models(model):
    theta = model.init(0)
    again, numbers = bridge.from_module(bridge.to_module(model, theta))
    assert again == model
    assert np.array_equal(numbers, theta)


def test_sizes_are_those_of_the_weights():
    net = pruned([0, 2])
    model, theta = bridge.from_module(net)
    assert model == fm.MLP([2, 3, 1], "tanh")
    x = torch.randn(5, 2)
    with torch.no_grad():
        assert relative_error(net(x).numpy(), model.predict(theta, x.numpy())) < 2e-6


def test_to_module_draws_nothing_and_copies():
    model = fm.MLP([2, 5, 1])
    theta = torch.from_numpy(model.init(0))
    state = torch.get_rng_state()
    module = bridge.to_module(model, theta)
    assert torch.equal(torch.get_rng_state(), state)
    theta.zero_()
    assert module[0].weight.abs().max() > 0
    assert all(each.requires_grad for each in module.parameters())
    assert module.training


def test_forms_of_a_module():
    linear = nn.Linear(2, 3)
    assert bridge.from_module(linear)[0] == fm.Linear(2, 3)
    named = nn.Sequential(collections.OrderedDict(first=linear, phi=nn.ReLU(),
                                                  last=nn.Linear(3, 1)))  # fmt: skip
    nested = nn.Sequential(
        nn.Sequential(linear, nn.Identity(), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 1)),
        nn.Identity(),
    )

    class Mine(nn.Sequential):
        """Adds nothing to what it computes."""

    for module in (named, nested, Mine(linear, nn.ReLU(), nn.Linear(3, 1))):
        assert bridge.from_module(module)[0] == fm.MLP([2, 3, 1], "relu")
    two = nn.Sequential(linear, nn.Linear(3, 1))
    assert bridge.from_module(two)[0] == fm.MLP([2, 3, 1], "identity")


class Other(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


class Subclass(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def pruned(rows):
    """A layer with another weight than its in_features say, as pruning leaves it."""
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    net[0].weight = nn.Parameter(net[0].weight[:, rows].detach())
    return net


def without_parameter(name):
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    tensor = getattr(net[0], name).detach()
    delattr(net[0], name)
    setattr(net[0], name, tensor)
    return net


def forwarded(net):
    net.forward = lambda x: x
    return net


def hooked(register):
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    getattr(net[1], register)(lambda *arguments: None)
    return net


def tied():
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.Tanh(), layer)


SUPPORTED = "is not supported; accepted are nn.Linear, nn.Sequential, and the activations nn.Ident"


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1), nn.Linear(3, 1)), TypeError,
         r"layer '1' \(Dropout\(p=0.1, inplace=False\)\) " + SUPPORTED),
        (lambda: nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), nn.Linear(3, 1)),
         TypeError, r"layer '0.1' \(BatchNorm1d.* " + SUPPORTED),
        (lambda: nn.Conv1d(1, 1, 3), TypeError, r"layer Conv1d\(.* " + SUPPORTED),
        (lambda: Other(nn.Linear(2, 1)), TypeError, "layer Other is not supported"),
        (lambda: nn.Sequential(Subclass(2, 1)), TypeError, r"layer '0' \(Subclass\(.* is not"),
        (lambda: nn.Sequential(nn.LazyLinear(2)), TypeError, r"layer '0' \(LazyLinear\(.* is not"),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))), TypeError,
         r"layer '0' \(ParametrizedLinear\) is not supported"),
        (lambda: "net", TypeError, "layer a str is not supported"),
        (lambda: nn.Sequential(), TypeError, r"module is Sequential\(\), which has no nn.Linear"),
        (lambda: nn.Sequential(nn.Tanh(), nn.Linear(2, 1)), ValueError,
         r"layer '0' \(Tanh\(\)\) comes before any nn.Linear; accepted is one activation"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.ReLU(), nn.Linear(3, 1)), ValueError,
         r"layer '2' \(ReLU\(\)\) comes after another activation"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Identity()), ValueError,
         r"layer '1' \(Sigmoid\(\)\) comes after the last nn.Linear; accepted is a linear output"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 1)), ValueError,
         r"layer '1' \(Linear\(.* takes 4 features, the layer before it gives 3"),
        (lambda: nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 1)), ValueError,
         "1 of 2 nn.Linear have bias=False; accepted are biases in all, or a single nn.Linear"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.2), nn.Linear(3, 1)), ValueError,
         r"layer '1' \(LeakyReLU\(.* has another negative_slope than .*'leaky_relu'.* is 0.01"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.ELU(2.0), nn.Linear(3, 1)), ValueError,
         "has another alpha than fastmaml's 'elu'; accepted is 1.0"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Softplus(2.0), nn.Linear(3, 1)), ValueError,
         "has another beta than fastmaml's 'softplus'"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.GELU("tanh"), nn.Linear(3, 1)), ValueError,
         "has another approximate than fastmaml's 'gelu'; accepted is 'none'"),
        (lambda: hooked("register_forward_hook"), ValueError,
         r"layer '1' \(Tanh\(\)\) has hooks, which would not be called"),
        (lambda: hooked("register_forward_pre_hook"), ValueError, "has hooks"),
        (lambda: hooked("register_full_backward_hook"), ValueError, "has hooks"),
        (lambda: without_parameter("weight"), TypeError,
         r"layer '0' \(Linear\(.* has a weight or bias that is no parameter; accepted are "),
        (lambda: without_parameter("bias"), TypeError, "has a weight or bias that is no parameter"),
        (lambda: forwarded(nn.Sequential(nn.Linear(2, 1))), ValueError,
         "layer Sequential has a forward of its own, which would not be called"),
        (lambda: nn.Sequential(forwarded(nn.Linear(2, 1))), ValueError,
         r"layer '0' \(Linear\(.* has a forward of its own, which"),
        (tied, ValueError, "module has a parameter in two places, which would be adapted apart"),
        (lambda: nn.Linear(2, 1, device="meta"), ValueError, "module is on meta"),
        (lambda: nn.Linear(2, 1, dtype=torch.float16), TypeError, "module is of torch.float16"),
    ],
)  # fmt: skip
def test_modules_that_are_no_model(make, error, text):
    with pytest.raises(error, match=text):
        bridge.from_module(make())


@pytest.mark.parametrize(
    ("model", "theta", "error", "text"),
    [
        ("model", [0.0], TypeError, "model is 'model'; accepted are MLP and Linear"),
        (fm.MLP([2, 3, 1]), np.zeros(5), ValueError, r"theta has shape \(5,\), the model takes"),
        (fm.Linear(1), [0.0, np.nan], ValueError, "theta holds nan at parameter 1"),
        (fm.Linear(1), torch.zeros(2, device="meta"), ValueError, "theta is on meta"),
    ],
)
def test_errors_of_to_module(model, theta, error, text):
    with pytest.raises(error, match=text):
        bridge.to_module(model, theta)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.SiLU, nn.ELU, nn.LeakyReLU])
def test_in_place_activations_are_the_same(kind):
    z = torch.linspace(-3, 3, 50)[:, None]
    net = nn.Sequential(nn.Linear(1, 3), kind(inplace=True), nn.Linear(3, 1))
    model, theta = bridge.from_module(net)
    with torch.no_grad():
        want = net(z).numpy()
    assert relative_error(model.predict(theta, z.numpy()), want) < 2e-6
