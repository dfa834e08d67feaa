"""The models: what f is."""

from .around import Frozen, Scaled
from .base import Network
from .linear import Linear
from .mlp import MLP
from .sum import Sum

__all__ = ["MLP", "Frozen", "Linear", "Network", "Scaled", "Sum"]
