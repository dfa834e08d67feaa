"""The models: what f is."""

from .base import Network
from .custom import Custom
from .linear import Linear
from .mlp import MLP

__all__ = ["MLP", "Custom", "Linear", "Network"]
