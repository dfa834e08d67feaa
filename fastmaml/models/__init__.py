"""The models: what f is."""

from .base import Network
from .linear import Linear
from .mlp import MLP

__all__ = ["MLP", "Linear", "Network"]
