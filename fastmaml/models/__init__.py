"""The models: what f is."""

from .around import Frozen, Scaled
from .base import Network
from .formula import Formula
from .linear import Linear
from .mlp import MLP
from .sum import Sum

__all__ = ["MLP", "Formula", "Frozen", "Linear", "Network", "Scaled", "Sum"]
