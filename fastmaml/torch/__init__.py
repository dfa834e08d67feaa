"""PyTorch: the meta-loss as an operator with its own autograd. Needs PyTorch: extra ``torch``.

>>> import torch
>>> from torch import nn
>>> from fastmaml.torch import meta_loss
>>> net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 1))
>>> x, y = torch.rand(4, 10, 1), torch.rand(4, 10, 1)
>>> loss = meta_loss(net, x[:, :5], y[:, :5], x[:, 5:], y[:, 5:], inner_lr=0.01, loss="mse")
>>> loss.backward()
>>> net[0].weight.grad.shape
torch.Size([40, 1])
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(
        'fastmaml.torch needs PyTorch, which comes with pip install "fastmaml[torch]"'
    ) from error

from .functions import adapt as adapt
from .functions import meta_loss as meta_loss
from .functions import predict as predict
from .modules import Sin as Sin
from .modules import from_module as from_module
from .modules import to_module as to_module
from .objective import Objective as Objective

__all__ = ["Objective", "Sin", "adapt", "from_module", "meta_loss", "predict", "to_module"]
