"""docs/coming-from.md: what it shows of higher and TorchOpt gives the gradient of ours."""

import re
from pathlib import Path

import pytest

from fastmaml.datasets import Sinusoid

torch = pytest.importorskip("torch")

from fastmaml.torch import meta_loss  # noqa: E402

pytestmark = pytest.mark.peers
PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"


def block_of(title):
    """The page's block of another library, less the step of its optimizer."""
    section = re.split(rf"^## {title}$", PAGE.read_text("utf-8"), flags=re.M)[1]
    found = re.search(r"^```py\n(.*?)^```$", section, re.M | re.S)
    return found[1].replace("optimizer.step()\n", "")


@pytest.mark.parametrize(("title", "module", "steps"), [("higher", "higher", 5),
                                                       ("TorchOpt", "torchopt", 1)])  # fmt: skip
def test_the_other_side_gives_the_same_gradient(title, module, steps):
    names = {module: pytest.importorskip(module), "torch": torch}
    tasks = Sinusoid().sample(5, n_support=10, n_query=10, rng=0)
    data = dict(zip(("x", "y", "x_query", "y_query"), map(torch.tensor, tasks), strict=True))
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(1, 40), torch.nn.Tanh(), torch.nn.Linear(40, 1)
    ).double()
    optimizer, mse = torch.optim.Adam(net.parameters()), torch.nn.functional.mse_loss
    exec(block_of(title), {**names, **data, "net": net, "optimizer": optimizer, "mse": mse})
    theirs = [each.grad.clone() for each in net.parameters()]
    optimizer.zero_grad()
    how = {"inner_lr": 0.01, "steps": steps, "loss": "mse", "task_mean": True}
    meta_loss(net, *data.values(), **how).backward()
    for parameter, gradient in zip(net.parameters(), theirs, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-14)
