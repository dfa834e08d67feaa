"""The operator of fastmaml.torch, as PyTorch's own tools judge it."""

import shutil

import pytest
from processes import python
from test_torch_loss import arrays, gradient, network, same_bits, tasks

import fastmaml as fm

torch = pytest.importorskip("torch")

from fastmaml import torch as bridge  # noqa: E402
from fastmaml.torch.problems import problem_of  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    # PyTorch's own, of what it calls itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]

loss = torch.ops.fastmaml.meta_loss.default
gradients = torch.ops.fastmaml.meta_gradient.default


def problem(**options):
    return problem_of(fm.MAML(fm.MLP([2, 7, 5, 1]), **options))


def arguments(kind):
    x, y, x_query, y_query = tasks()
    parameters = list(network().parameters())
    inner_lr = torch.tensor([[0.05, 0.02, 0.0]], dtype=torch.float64, requires_grad=True)
    weight, query_weight = torch.rand(2, 4, 6, dtype=torch.float64)
    data = {
        "rates": (inner_lr, [x], [y], [x_query], [y_query], [], []),
        "numbers": (None, [x], [y], [], [], [weight], []),
        "ragged": (
            None,
            [x[0], x[1, :2]],
            [y[0], y[1, :2]],
            list(x_query[:2]),
            list(y_query[:2]),
            [weight[0], weight[1, :2]],
            list(query_weight[:2]),
        ),
    }[kind]
    return parameters, *data, problem(inner_lr=[[0.1, 0.05, 0.02]], steps=2)


def plain(data):
    """The data of the operator, without weights."""
    return *([each] for each in data), [], []


@pytest.mark.parametrize("kind", ["rates", "numbers", "ragged"])
def test_opcheck(kind):
    found = torch.library.opcheck(loss, arguments(kind))
    assert set(found.values()) == {"SUCCESS"}
    parameters, inner_lr, *others = arguments(kind)
    parameters = [each.detach() for each in parameters]
    inner_lr = None if inner_lr is None else inner_lr.detach()
    for rates in {False, inner_lr is not None}:
        found = torch.library.opcheck(gradients, (parameters, inner_lr, *others, rates))
        assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("options", [{}, {"step_weights": [0.2, 0.3, 0.5], "loss": "mse"}], ids=str)
def test_gradcheck(options):
    parameters, inner_lr, *data, _ = arguments("rates")
    text = problem(inner_lr=0.0, steps=2, **options)

    def function(inner_lr, *parameters):
        return loss(parameters, inner_lr, *data, text)

    assert torch.autograd.gradcheck(function, (inner_lr, *parameters), nondet_tol=0.0)


def test_gradcheck_of_a_last_layer():
    head = fm.BayesianLastLayer(fm.MLP([2, 5, 1]))
    module, data = bridge.Objective(head, head.init(0)), tasks()
    assert torch.autograd.gradcheck(lambda theta: loss([theta], None, *plain(data),
                                    module._problem), (module.theta,), nondet_tol=0.0)  # fmt: skip


# The compiler -------------------------------------------------------------------------------------

BACKENDS = [
    "aot_eager",
    pytest.param("inductor", marks=pytest.mark.skipif(
        not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a compiler"
    )),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled(backend):
    net, data = network(), tasks()
    model, theta = bridge.from_module(net)

    @torch.compile(fullgraph=True, backend=backend)
    def compiled(inner_lr, *data):
        return 2 * bridge.meta_loss(net, *data, inner_lr=inner_lr, steps=2, loss="mse")

    for rate in (0.05, 0.02, 0.01):  # a schedule
        net.zero_grad()
        compiled(rate, *data).backward()
        maml = fm.MAML(model, rate, steps=2, loss="mse")
        want = maml.evaluate(theta, *arrays(data))
        assert same_bits(gradient(net), 2 * want.gradient)
        with torch.no_grad():
            assert compiled(rate, *data).item() == 2 * want.value


def test_compiled_with_rates_and_ragged_tasks():
    net, (x, y, _, _) = network(), tasks()
    inner_lr = torch.tensor([0.05, 0.02, 0.0], dtype=torch.float64, requires_grad=True)
    data = [x[0], x[1, :2]], [y[0], y[1, :2]]

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(x, y):
        return bridge.meta_loss(net, x, y, inner_lr=inner_lr)

    compiled(*data).backward()
    model, theta = bridge.from_module(net)
    want = fm.MAML(model, [0.05, 0.02, 0.0]).evaluate(theta, *arrays(data))
    assert same_bits(gradient(net), want.gradient)
    assert same_bits(inner_lr.grad, want.inner_lr_gradient)


def test_compiled_with_weights():
    net, data = network(), tasks()
    weights = torch.rand(2, 4, 6, dtype=torch.float64)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(weight, weight_query, *data):
        return bridge.meta_loss(
            net, *data, inner_lr=0.05, sample_weight=weight, sample_weight_query=weight_query
        )

    compiled(*weights, *data).backward()
    model, theta = bridge.from_module(net)
    named = dict(zip(("sample_weight", "sample_weight_query"), weights.numpy(), strict=True))
    assert same_bits(gradient(net), fm.MAML(model, 0.05).gradient(theta, *arrays(data), **named))


def test_compiled_objective():
    data = tasks()
    head = fm.BayesianLastLayer(fm.MLP([2, 7, 1]))
    module = bridge.Objective(head, head.init(0))
    torch.compile(module, fullgraph=True, backend="aot_eager")(*data).backward()
    assert same_bits(module.theta.grad, head.gradient(head.init(0), *arrays(data)))


def test_compiled_sees_changes():
    net, data = network(), tasks()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(*data):
        return bridge.meta_loss(net, *data, inner_lr=0.05)

    compiled(*data)
    with torch.no_grad():
        net[0].weight.mul_(2)
    net[1] = torch.nn.Sigmoid()
    shorter = [each[:3] for each in data]
    model, theta = bridge.from_module(net)
    want = fm.MAML(model, 0.05).value(theta, *arrays(shorter))
    assert compiled(*shorter).item() == want


def test_a_text_means_the_same_in_every_process():
    """A compiled graph on disk holds it."""
    here = python(
        "import fastmaml as fm; from fastmaml.torch.problems import *;"
        "print(problem_of(fm.MAML(fm.MLP([2, 7, 5, 1]), [[0.1, 0.05, 0.02]], steps=2)), end='')"
    )
    assert here == arguments("rates")[-1]
    net, data = network(), tasks()
    theta = bridge.from_module(net)[1]
    value = loss(list(net.parameters()), None, *plain(data), here).item()
    maml = fm.MAML(fm.MLP([2, 7, 5, 1]), [[0.1, 0.05, 0.02]], steps=2)
    assert value == maml.value(theta, *arrays(data))


def test_an_objective_of_another_process():
    parameters, _, *data, _ = arguments("numbers")
    with pytest.raises(RuntimeError, match="of another process or no longer there; compile anew"):
        loss(parameters, None, *data, "0123456789abcdef")


def test_functorch_is_refused():
    parameters, _, *data, text = arguments("numbers")
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda p: loss(p, None, *data, text))(parameters)


def test_what_looks_on_sees_the_operator():
    """A mode that wants to see operators does, though plain calls take a shorter way."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    net, data = network(), tasks()
    with Mode():
        bridge.meta_loss(net, *data, inner_lr=0.05).backward()
    assert "fastmaml.meta_gradient.default" in seen
    model, theta = bridge.from_module(net)
    assert same_bits(gradient(net), fm.MAML(model, 0.05).gradient(theta, *arrays(data)))
