"""fastmaml.torch: losses, adaptation and predictions of a network, to the bits of `evaluate`."""

import copy
import pickle
import threading
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sympy
from processes import python

import fastmaml as fm
from fastmaml.learner import Learner

torch = pytest.importorskip("torch")
nn = torch.nn

from fastmaml import torch as bridge  # noqa: E402

pytestmark = pytest.mark.peers

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def network(dtype=torch.float64, sizes=(2, 7, 5, 1), seed=0):
    torch.manual_seed(seed)
    parts = []
    for n_in, n_out in pairwise(sizes):
        parts += [nn.Linear(n_in, n_out, dtype=dtype), nn.Tanh()]
    return nn.Sequential(*parts[:-1])


def tasks(dtype=torch.float64, n_tasks=4, rows=6, n_in=2, n_out=1, seed=0):
    """x, y, x_query, y_query."""
    torch.manual_seed(seed)
    x, x_query = (torch.randn(n_tasks, rows, n_in, dtype=dtype) for _ in range(2))
    y, y_query = (torch.sin(each.sum(-1, keepdim=True)) * torch.ones(n_out, dtype=dtype)
                  for each in (x, x_query))  # fmt: skip
    return x, y, x_query, y_query


def arrays(data):
    return [
        [t.detach().numpy() for t in each] if isinstance(each, list) else each.resolve_neg().numpy()
        for each in data
    ]


def gradient(module):
    return torch.cat([each.grad.reshape(-1) for each in module.parameters()]).numpy()


def same_bits(got, want):
    got, want = np.asarray(got), np.asarray(want)
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()


# To the bits of evaluate --------------------------------------------------------------------------

FORMS = {
    "all": {"inner_lr": 0.05},
    "mse": {"inner_lr": 0.05, "loss": "mse", "task_mean": True, "steps": 3},
    "first": {"inner_lr": [0.1, 0.05, 0.0], "order": "first"},
    "momentum": {"inner_lr": 0.05, "steps": 3, "inner_momentum": 0.5},
    "multi-step": {"inner_lr": 0.05, "steps": 2, "step_weights": [0.2, 0.3, 0.5]},
    "huber": {"inner_lr": 0.05, "loss": fm.Huber(0.5)},
    "array": {"inner_lr": np.array([[0.1, 0.05, 0.02]]), "steps": 2, "method": "dense"},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradient(form, dtype):
    net, data, options = network(DTYPES[dtype]), tasks(DTYPES[dtype]), FORMS[form]
    model, theta = bridge.from_module(net)
    want = fm.MAML(model, **options).evaluate(theta, *arrays(data))
    loss = bridge.meta_loss(net, *data, **options)
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == DTYPES[dtype]
    assert same_bits(loss.detach(), np.asarray(want.value, dtype))
    assert same_bits(gradient(net), want.gradient)


def test_labels():
    net, (x, *_) = network(sizes=(2, 7, 3)), tasks()
    labels = torch.arange(24).reshape(4, 6) % 3
    model, theta = bridge.from_module(net)
    maml = fm.MAML(model, 0.05, loss="softmax")
    bridge.meta_loss(net, x, labels, inner_lr=0.05, loss="softmax").backward()
    assert same_bits(gradient(net), maml.gradient(theta, x.numpy(), labels.numpy()))


@pytest.mark.parametrize("kind", ["both", "support", "query", "no query", "ragged", "single"])
def test_weights_of_rows(kind):
    net, (x, y, x_query, y_query) = network(), tasks()
    weight, query_weight = torch.rand(2, 4, 6, dtype=torch.float64)
    all_rows = x, y, x_query, y_query
    data, weights = {
        "both": (all_rows, (weight, query_weight)),
        "support": (all_rows, (weight, None)),
        "query": (all_rows, (None, query_weight.float())),
        "no query": ((x, y), (weight, None)),
        "ragged": (([x[0], x[1, :3]], [y[0], y[1, :3]]), ([weight[0], weight[1, :3]], None)),
        "single": ([each[0] for each in all_rows], (weight[0], query_weight[0])),
    }[kind]
    names = "sample_weight", "sample_weight_query"
    given = {n: w for n, w in zip(names, weights, strict=True) if w is not None}
    in_numpy = dict(zip(given, arrays(given.values()), strict=True))
    model, theta = bridge.from_module(net)
    maml = fm.MAML(model, 0.05, loss="mse")
    want = maml.evaluate(theta, *arrays(data), **in_numpy)
    assert want.value != maml.value(theta, *arrays(data))
    rate = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    loss = bridge.meta_loss(net, *data, inner_lr=rate, loss="mse", **given)
    loss.backward()
    assert same_bits(loss.detach(), want.value)
    assert same_bits(gradient(net), want.gradient)
    assert same_bits(rate.grad, want.inner_lr_gradient)
    with torch.no_grad():
        assert bridge.meta_loss(net, *data, inner_lr=rate, loss="mse", **given).item() == want.value
    module = bridge.Objective(maml, theta)
    module(*data, **given).backward()
    assert same_bits(module.theta.grad, want.gradient)
    of_support, options = {n: w for n, w in given.items() if n == names[0]}, {"loss": "mse"}
    in_numpy.pop(names[1], None)
    want = maml.adapt(theta, *arrays(data[:2]), **in_numpy)
    assert same_bits(bridge.adapt(net, *data[:2], inner_lr=0.05, **options, **of_support), want)
    assert same_bits(module.adapt(*data[:2], **of_support), want)
    want = maml.predict(theta, *arrays(data[:2]), x[0].numpy(), **in_numpy)
    found = bridge.predict(net, *data[:2], x[0], inner_lr=0.05, **options, **of_support)
    assert same_bits(found, want)
    assert same_bits(module.predict(*data[:2], x[0], **of_support), want)


def test_a_last_layer_takes_weights_of_rows():
    data, weight = tasks(), torch.rand(4, 6, dtype=torch.float64)
    head = fm.BayesianLastLayer(fm.MLP([2, 7, 1]))
    theta, named = head.init(0), {"sample_weight": weight.numpy()}
    module = bridge.Objective(head, theta)
    module(*data, sample_weight=weight).backward()
    assert same_bits(module.theta.grad, head.gradient(theta, *arrays(data), **named))
    found = module.predict(*data[:3], sample_weight=weight, return_std=True)
    want = head.predict(theta, *arrays(data[:3]), **named, return_std=True)
    assert all(map(same_bits, found, want))


class Own:
    """A loss that has no hash, and that no text describes."""

    __hash__ = None

    def task_loss(self, n_outputs, name):
        return fm.Huber(0.3).task_loss(n_outputs, name)


def test_a_loss_that_cannot_be_remembered():
    net, data = network(), tasks()
    model, theta = bridge.from_module(net)
    bridge.meta_loss(net, *data, inner_lr=0.05, loss=Own()).backward()
    want = fm.MAML(model, 0.05, loss=fm.Huber(0.3)).gradient(theta, *arrays(data))
    assert same_bits(gradient(net), want)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float32])
def test_labels_of_any_dtype_and_another_query_loss(dtype):
    net, (x, y, _, _) = network(), tasks()
    labels = (y[..., 0] > 0).to(dtype)
    options = {"loss": fm.Huber(0.3), "query_loss": "logistic"}
    model, theta = bridge.from_module(net)
    bridge.meta_loss(net, x, y, x, labels, inner_lr=0.05, **options).backward()
    maml = fm.MAML(model, 0.05, **options)
    assert same_bits(gradient(net), maml.gradient(theta, *arrays([x, y, x, labels])))


RATES = {
    "scalar": 0.05,
    "step": [[0.05], [0.02]],
    "layer": [0.05, 0.02, 0.0],
    "both": [[0.05, 0.02, 0.1], [0.0, 0.01, 0.02]],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*RATES, "parameter"])
def test_gradient_of_the_rates(shape, dtype):
    net, data = network(DTYPES[dtype]), tasks(DTYPES[dtype])
    model, theta = bridge.from_module(net)
    rates = RATES.get(shape, np.linspace(0.01, 0.05, len(theta)))
    inner_lr = torch.tensor(rates, dtype=DTYPES[dtype], requires_grad=True)
    maml = fm.MAML(model, inner_lr.detach().numpy(), steps=2)
    want = maml.evaluate(theta, *arrays(data))
    bridge.meta_loss(net, *data, inner_lr=inner_lr, steps=2).backward()
    assert same_bits(inner_lr.grad, np.asarray(want.inner_lr_gradient, dtype))
    assert same_bits(gradient(net), want.gradient)


def test_rates_alone_and_a_tensor_without_gradient():
    net, data = network().requires_grad_(False), tasks()
    inner_lr = torch.tensor(0.05, requires_grad=True)  # of another dtype than the parameters
    bridge.meta_loss(net, *data, inner_lr=inner_lr).backward()
    model, theta = bridge.from_module(net)
    want = fm.MAML(model, np.float32(0.05)).evaluate(theta, *arrays(data))
    assert inner_lr.grad.dtype == torch.float32
    assert inner_lr.grad.item() == np.float32(want.inner_lr_gradient)
    assert net[0].weight.grad is None
    net.requires_grad_(True)
    bridge.meta_loss(net, *data, inner_lr=inner_lr.detach()).backward()
    assert same_bits(gradient(net), want.gradient)


@pytest.mark.parametrize("rate", [0.05, np.float64(0.05), [0.05, 0.04, 0.03]])
def test_fake_tensors_have_a_shape_and_no_more(rate):
    """Under a mode in which nothing is computed, whatever the rate is."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        net, given = network(), tasks()
        loss = bridge.meta_loss(net, *given, inner_lr=rate)
        loss.backward()
        assert loss.shape == ()
        assert net[0].weight.grad.shape == net[0].weight.shape


def test_a_new_number_is_no_new_specification(monkeypatch):
    """A schedule of the inner rate: the bits of `evaluate`, and nothing is planned anew."""
    net, given = network(), tasks()
    model, theta = bridge.from_module(net)
    data = arrays(given)
    wants = {rate: fm.MAML(model, rate, steps=2).evaluate(theta, *data) for rate in (0.05, 0.04)}
    bridge.meta_loss(net, *given, inner_lr=0.06, steps=2)
    for rate, want in wants.items():
        for _ in range(3):  # one that comes again is made once
            assert bridge.meta_loss(net, *given, inner_lr=rate, steps=2).item() == want.value
    new = (0.0301, np.float64(0.0207))  # of no other test
    wants = {rate: fm.MAML(model, rate, steps=2).evaluate(theta, *data) for rate in new}
    monkeypatch.setattr(fm.MAML, "__post_init__", lambda self: pytest.fail("it was made anew"))
    for rate, want in wants.items():
        net.zero_grad()
        loss = bridge.meta_loss(net, *given, inner_lr=rate, steps=2)
        loss.backward()
        assert loss.item() == want.value
        assert same_bits(gradient(net), want.gradient)
    for wrong in (float("nan"), 1e300):
        with pytest.raises(ValueError, match="inner_lr holds"):
            bridge.meta_loss(net, *given, inner_lr=wrong, steps=2)


@pytest.mark.parametrize(
    "kind", ["ragged", "single", "no query", "flat", "transposed", "mixed", "negated", "one", "two"]
)
def test_forms_of_the_data(kind):
    net, (x, y, x_query, y_query) = network(), tasks()
    data = {
        "ragged": [[x[0], x[1, :3], x[2, :1]], [y[0], y[1, :3], y[2, :1]],
                   list(x_query[:3]), list(y_query[:3])],
        "single": [each[0] for each in (x, y, x_query, y_query)],
        "no query": [x, y],
        "flat": [x, y[..., 0], x_query, y_query[..., 0]],
        "transposed": [x.mT.contiguous().mT, y, x_query.flip(0), y_query],
        "mixed": [x.float(), y, x_query.long(), y_query],
        "one": [[x[0]], y[:1], x_query[:1], [y_query[0, :, 0]]],
        "two": [[x[0], x[1]], y[:2], x_query[:2], list(y_query[:2])],
        "negated": [x, torch.complex(x[..., :1], y).conj().imag, x_query, y_query],
    }[kind]  # fmt: skip
    model, theta = bridge.from_module(net)
    want = fm.MAML(model, 0.05).evaluate(theta, *arrays(data))
    bridge.meta_loss(net, *data, inner_lr=0.05).backward()
    assert same_bits(gradient(net), want.gradient)


def test_backward_scales_and_accumulates():
    net, data = network(), tasks()
    loss = bridge.meta_loss(net, *data, inner_lr=0.05)
    (3 * loss).backward(retain_graph=True)
    thrice = gradient(net)
    net.zero_grad()
    loss.backward()
    once = gradient(net)
    assert same_bits(thrice, 3 * once)
    bridge.meta_loss(net, *data, inner_lr=0.05).backward()
    assert same_bits(gradient(net), once + once)


def test_an_optimizer_trains():
    net, data = network(torch.float32), tasks(torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = bridge.meta_loss(net, *data, inner_lr=0.05, loss="mse", task_mean=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_some_parameters_frozen():
    """They are adapted as all others, and get no gradient."""
    net, data = network(), tasks()
    model, theta = bridge.from_module(net)
    net[2].requires_grad_(False)
    bridge.meta_loss(net, *data, inner_lr=0.05).backward()
    want = model.unpack(fm.MAML(model, 0.05).gradient(theta, *arrays(data)))
    assert net[2].weight.grad is None
    assert same_bits(net[0].weight.grad, want[0][0])
    assert same_bits(net[4].bias.grad, want[2][1])


def test_diverged_tasks_are_infinite():
    net, data = network(torch.float32), tasks(torch.float32)
    net[4].weight.data.fill_(1e20)
    loss = bridge.meta_loss(net, *data, inner_lr=1e10, steps=2)
    assert not loss.isfinite()
    with torch.no_grad():  # finite in float64, in which it is summed
        net[4].weight.zero_()
        loss = bridge.meta_loss(net, data[0], 1e25 * data[1], inner_lr=0.0)
    assert loss.item() == float("inf")


def test_through_what_comes_before_the_parameters():
    """Parameters that are themselves computed: gradients go on to what they are computed from."""
    net, data = network(), tasks()
    direct = bridge.meta_loss(net, *data, inner_lr=0.05)
    want = torch.autograd.grad(direct, list(net.parameters()))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    theta = torch.cat([each.detach().reshape(-1) for each in net.parameters()])
    for layer in (net[0], net[2], net[4]):
        for name, own in list(layer._parameters.items()):
            layer._parameters[name] = own.detach() / 2 * scale
    bridge.meta_loss(net, *data, inner_lr=0.05).backward()
    flat = torch.cat([each.reshape(-1) for each in want])
    torch.testing.assert_close(scale.grad, (flat * theta).sum() / 2)


def test_no_grad_computes_the_value_alone(monkeypatch):
    net, data = network(), tasks()
    want = bridge.meta_loss(net, *data, inner_lr=0.05).item()
    monkeypatch.setattr(Learner, "value_and_gradient", None)
    monkeypatch.setattr(fm.MAML, "evaluate", None)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            x = data[0].clone().requires_grad_()  # which is no matter here
            loss = bridge.meta_loss(net, x, *data[1:], inner_lr=0.05)
        assert loss.item() == want
        assert not loss.requires_grad
    frozen = bridge.meta_loss(net.requires_grad_(False), *data, inner_lr=0.05)
    assert frozen.item() == want
    assert not frozen.requires_grad


def test_one_memory(monkeypatch):
    """What the kernels are given is the tensors' own memory; so is what they give back."""
    seen = []
    original = Learner.value_and_gradient

    def spy(self, *arguments, **weights):
        found = original(self, *arguments, **weights)
        seen.append((arguments, found[1]))
        return found

    monkeypatch.setattr(Learner, "value_and_gradient", spy)
    data = tasks()
    model = fm.MLP([2, 7, 1])
    flat = bridge.to_module(model, model.init(0))
    wrapped = bridge.Objective(fm.MAML(model, 0.05), model.init(0))
    bridge.meta_loss(flat, *data, inner_lr=0.05).backward()
    wrapped(*data).backward()
    for module, ((theta, *rows), _) in zip((flat, wrapped), seen, strict=True):
        first = next(module.parameters())
        assert theta.ctypes.data == first.data_ptr()
        assert theta.shape == (model.n_params,)
        assert [row.ctypes.data for row in rows] == [each.data_ptr() for each in data]
    grads = [each.grad for each in flat.parameters()]
    assert len({each.untyped_storage().data_ptr() for each in grads}) == 1


def test_parameters_are_taken_as_they_are_now():
    net, data = network(), tasks()
    bridge.meta_loss(net, *data, inner_lr=0.05)
    with torch.no_grad():
        net[0].weight.mul_(2)
    net[2] = nn.Linear(7, 3, dtype=torch.float64)
    net[4] = nn.Linear(3, 1, dtype=torch.float64)
    net[3] = nn.ReLU()
    bridge.meta_loss(net, *data, inner_lr=0.05).backward()
    model, theta = bridge.from_module(net)
    assert model == fm.MLP([2, 7, 3, 1], ["tanh", "relu"])
    assert same_bits(gradient(net), fm.MAML(model, 0.05).gradient(theta, *arrays(data)))


# Adaptation and predictions -----------------------------------------------------------------------


def test_adapt_and_predict():
    net, (x, y, x_new, _) = network(), tasks()
    model, theta = bridge.from_module(net)
    options = {"steps": 2, "loss": "mse"}
    maml = fm.MAML(model, 0.05, **options)
    adapted = bridge.adapt(net, x, y, inner_lr=0.05, **options)
    assert same_bits(adapted, maml.adapt(theta, *arrays([x, y])))
    one = copy.deepcopy(net)
    nn.utils.vector_to_parameters(adapted[1], one.parameters())
    f = bridge.predict(
        net, x, y, x_new, inner_lr=torch.tensor(0.05, dtype=torch.float64), **options
    )
    assert same_bits(f, maml.predict(theta, *arrays([x, y, x_new])))
    torch.testing.assert_close(one(x_new[1]), f[1])
    ragged = [x[0], x[1, :2]], [y[0], y[1, :2]], [x_new[0], x_new[1, :1]]
    found = bridge.predict(net, *ragged, inner_lr=0.05, **options)
    want = maml.predict(theta, *arrays(ragged))
    assert all(map(same_bits, found, want))
    one = bridge.predict(net, [x[0]], y[:1], [x_new[0]], inner_lr=0.05, **options)
    assert same_bits(one, maml.predict(theta, *arrays([x[:1], y[:1], x_new[:1]])))
    alone = bridge.adapt(net, x[0], y[0], inner_lr=0.05, **options)
    assert same_bits(alone, maml.adapt(theta, *arrays([x[0], y[0]])))


# Objectives ---------------------------------------------------------------------------------------


def test_objective_of_maml():
    data, model = tasks(), fm.MLP([2, 7, 1], "sin")
    maml = fm.MAML(model, [[0.05, 0.02]], steps=2, loss="mse")
    theta = model.init(0)
    module = bridge.Objective(maml, torch.from_numpy(theta), learn_inner_lr=True)
    assert [name for name, _ in module.named_parameters()] == ["theta", "inner_lr"]
    want = maml.evaluate(theta, *arrays(data))
    loss = module(*data)
    loss.backward()
    assert same_bits(loss.detach(), want.value)
    assert same_bits(module.theta.grad, want.gradient)
    assert same_bits(module.inner_lr.grad, want.inner_lr_gradient)
    assert same_bits(module.adapt(*data[:2]), maml.adapt(theta, *arrays(data[:2])))
    assert same_bits(module.predict(*data[:3]), maml.predict(theta, *arrays(data[:3])))
    with torch.no_grad():
        module.inner_lr.mul_(2)
    again = fm.MAML(model, [[0.1, 0.04]], steps=2, loss="mse")
    assert module(*data).item() == again.value(theta, *arrays(data))
    assert same_bits(module.adapt(*data[:2]), again.adapt(theta, *arrays(data[:2])))


def test_objective_of_a_last_layer():
    data = tasks(torch.float32)
    head = fm.BayesianLastLayer(fm.MLP([2, 7, 1]))
    theta = head.init(0, "float32")
    module = bridge.Objective(head, theta)
    want = head.evaluate(theta, *arrays(data))
    loss = module(*data)
    loss.backward()
    assert module.inner_lr is None
    assert same_bits(loss.detach(), np.float32(want.value))
    assert same_bits(module.theta.grad, want.gradient)
    mean, std = module.predict(*data[:3], return_std=True)
    want_mean, want_std = head.predict(theta, *arrays(data[:3]), return_std=True)
    assert same_bits(mean, want_mean)
    assert same_bits(std, want_std)
    posterior = module.adapt(*data[:2])
    assert same_bits(posterior.scale, head.adapt(theta, *arrays(data[:2])).scale)


def test_copies_pickles_and_states():
    a, b, c, d = sympy.symbols("a b c d")
    formula = fm.Formula(c * sympy.sin(a + d * b), parameters=[c, d], inputs=[a, b])
    data = tasks()
    for model in (fm.MLP([2, 7, 1]), formula):  # the second is one that no text describes
        module = bridge.Objective(fm.MAML(model, 0.05), model.init(0))
        want = module(*data).item()
        assert copy.deepcopy(module)(*data).item() == want
        assert pickle.loads(pickle.dumps(module))(*data).item() == want
        other = bridge.Objective(fm.MAML(model, 0.05), model.init(1))
        other.load_state_dict(module.state_dict())
        assert other(*data).item() == want
    assert "MAML(model=Formula(" in repr(module)


def test_threads():
    net, data = network(), tasks(n_tasks=40)
    model, theta = bridge.from_module(net)
    want = fm.MAML(model, 0.05).gradient(theta, *arrays(data))
    found = []

    def work():
        for _ in range(20):
            own = copy.deepcopy(net)
            bridge.meta_loss(own, *data, inner_lr=0.05).backward()
            found.append(gradient(own))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 80
    assert all(same_bits(each, want) for each in found)


class Losses(torch.utils.data.Dataset):
    """Each entry is the gradient of a batch of its own, computed where it is asked for."""

    def __init__(self, net):
        self.net = net

    def __len__(self):
        return 6

    def __getitem__(self, i):
        net, data = copy.deepcopy(self.net), tasks(n_tasks=30, seed=i)
        bridge.meta_loss(net, *data, inner_lr=0.05).backward()
        f = bridge.predict(net, *data[:3], inner_lr=0.05)
        return torch.from_numpy(gradient(net)), f


WORKERS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_torch_loss import Losses, network, same_bits
if __name__ == "__main__":
    dataset = Losses(network())
    here = [dataset[i] for i in range(6)]  # fastmaml's threads run before the workers start
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context=sys.argv[2]
    )
    for got, want in zip(loader, here, strict=True):
        assert same_bits(got[0], want[0]) and same_bits(got[1], want[1])
    print(len(here), "batches")
"""


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader(start):
    # In a process of its own: this one may have JAX, whose threads no fork survives.
    assert python(WORKERS, Path(__file__).parent, start) == "6 batches\n"


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text", "change"),
    [
        (ValueError, r"x is on meta, and fastmaml computes on the CPU; .* x.cpu\(\)",
         lambda c: c.update(x=c["x"].to("meta"))),
        (ValueError, r"module is on meta, .* module.cpu\(\)",
         lambda c: c.update(module=c["module"].to("meta"))),
        (ValueError, r"inner_lr is on meta, .* inner_lr.cpu\(\)",
         lambda c: c.update(inner_lr=torch.tensor(0.1, device="meta"))),
        (TypeError, "inner_lr is of torch.bfloat16; accepted are torch.float32 or torch.float64",
         lambda c: c.update(inner_lr=torch.tensor(0.1, dtype=torch.bfloat16))),
        (ValueError, r"inner_lr has shape \(5,\); accepted are a scalar",
         lambda c: c.update(inner_lr=torch.zeros(5))),
        (TypeError, "module is of torch.float32, torch.float64; accepted",
         lambda c: c["module"][0].float()),
        (TypeError, "module is of torch.bfloat16; accepted", lambda c: c["module"].bfloat16()),
        (ValueError, r"y_query requires grad, .* accepted is y_query.detach\(\)",
         lambda c: c["y_query"].requires_grad_()),
        (TypeError, "x is or holds a ndarray; accepted", lambda c: c.update(x=c["x"].numpy())),
        (TypeError, "y is or holds a float; accepted", lambda c: c.update(y=[1.0])),
        (TypeError, r"x has dtype torch.bfloat16; accepted are real numbers .* x.float\(\)",
         lambda c: c.update(x=c["x"].bfloat16())),
        (TypeError, "y has dtype torch.complex128; accepted are real numbers",
         lambda c: c.update(y=c["y"] + 1j)),
        (TypeError, r"x has layout torch.sparse_coo; accepted is x.to_dense\(\)",
         lambda c: c.update(x=c["x"].to_sparse())),
        (ValueError, "x has 0 tasks; accepted are one or more", lambda c: c.update(x=[])),
        (ValueError, "inner_lr holds a tensor that requires grad, .* inner_lr as one tensor",
         lambda c: c.update(inner_lr=[torch.tensor(0.1, requires_grad=True)])),
        (ValueError, "step_weights is or holds a tensor that requires grad",
         lambda c: c.update(step_weights=torch.ones(2, requires_grad=True))),
        (ValueError, r"sample_weight requires grad, and no gradient goes to data and weights; .*"
         r"sample_weight.detach\(\)",
         lambda c: c.update(sample_weight=torch.ones(4, 6, requires_grad=True))),
        (TypeError, "sample_weight_query is or holds a ndarray; accepted",
         lambda c: c.update(sample_weight_query=np.ones((4, 6)))),
        (ValueError, r"sample_weight has shape \(4, 5\); accepted is \(4, 6\), one for",
         lambda c: c.update(sample_weight=torch.ones(4, 5))),
        (ValueError, "y holds 0.5 in task 0, row 0; 'logistic' accepts|Logistic.* accepts 0 and 1",
         lambda c: c.update(loss="logistic", y=c["y"] * 0 + 0.5)),
        (ValueError, "x_query is given, y_query is not", lambda c: c.pop("y_query")),
        (ValueError, "y_query is given, x_query is not", lambda c: c.pop("x_query")),
        (ValueError, "x has 3 features, the model takes 2",
         lambda c: c.update(x=torch.zeros(4, 6, 3))),
        (ValueError, "y holds nan in task 0, row 0",
         lambda c: c.update(y=c["y"] * float("nan"))),
        (TypeError, "loss is {}; accepted", lambda c: c.update(loss={})),
        (TypeError, "unexpected keyword argument 'losss'", lambda c: c.update(losss="mse")),
    ],
)  # fmt: skip
def test_errors_of_meta_loss(error, text, change):
    call = dict(zip(("x", "y", "x_query", "y_query"), tasks(), strict=True))
    call.update(module=network(), inner_lr=0.05)
    change(call)
    with pytest.raises(error, match=text):
        bridge.meta_loss(**call)


def test_the_gradient_has_no_gradient():
    net, data = network(), tasks()
    inner_lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    sources = [*net.parameters(), inner_lr]
    loss = bridge.meta_loss(net, *data, inner_lr=inner_lr)
    first = torch.autograd.grad(loss, sources, create_graph=True)  # which alone is no harm
    for slope in (first[0], first[-1]):
        with pytest.raises(RuntimeError, match="is differentiated, which it cannot be; accepted"):
            slope.sum().backward()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")  # PyTorch's own use
@pytest.mark.parametrize("kind", ["theta", "rate", "x", "weight", "jvp", "jacfwd", "no grad"])
def test_forward_mode_is_refused(kind):
    """PyTorch takes the derivative of what is below autograd for 0."""
    forward = torch.autograd.forward_ad
    data, model = tasks(), fm.MLP([2, 7, 1])
    module = bridge.Objective(fm.MAML(model, 0.05), model.init(0), learn_inner_lr=True)
    weight = torch.ones(4, 6, dtype=torch.float64)
    theta, one = module.theta.detach(), torch.tensor(1.0, dtype=torch.float64)

    def of(theta):
        return torch.func.functional_call(module, {"theta": theta}, tuple(data))

    def dual(tensor):
        return forward.make_dual(tensor, torch.ones_like(tensor))

    calls = {
        "theta": lambda: of(dual(theta)),
        "rate": lambda: torch.func.functional_call(module, {"inner_lr": dual(one)}, tuple(data)),
        "x": lambda: module(dual(data[0]), *data[1:]),
        "weight": lambda: module(*data, sample_weight=dual(weight)),
        "jvp": lambda: torch.func.jvp(of, (theta,), (theta,)),
        "jacfwd": lambda: torch.func.jacfwd(of)(theta),
        "no grad": lambda: torch.no_grad()(of)(dual(theta)),
    }
    text = "asked for in forward mode .*, in which it has none; accepted is backward"
    levels = nullcontext() if kind.startswith("j") else forward.dual_level()
    with levels, pytest.raises(RuntimeError, match=text):
        calls[kind]()
    with forward.dual_level():  # which alone is no harm
        labels = torch.zeros(4, 6, dtype=torch.int64)
        bridge.meta_loss(network(), data[0], labels, inner_lr=0.05).backward()


def test_errors_of_objective():
    model = fm.MLP([2, 7, 1])
    head = fm.BayesianLastLayer(model)
    with pytest.raises(TypeError, match="objective is 'maml'; accepted are a fastmaml"):
        bridge.Objective("maml", model.init(0))
    with pytest.raises(ValueError, match="learn_inner_lr is True, objective is a BayesianLastL"):
        bridge.Objective(head, head.init(0), learn_inner_lr=True)
    with pytest.raises(TypeError, match="learn_inner_lr is 1; accepted"):
        bridge.Objective(fm.MAML(model), model.init(0), learn_inner_lr=1)
    with pytest.raises(ValueError, match=r"theta has shape \(29,\), the model takes \(38,\)"):
        bridge.Objective(head, model.init(0))
    with pytest.raises(ValueError, match="theta is on meta"):
        bridge.Objective(head, torch.zeros(38, device="meta"))
    module = bridge.Objective(head, head.init(0))
    with pytest.raises(TypeError, match="theta is of torch"):
        module.half()(*tasks())
    with pytest.raises(ValueError, match="theta is on meta"):
        module.to("meta").predict(*tasks()[:3])
