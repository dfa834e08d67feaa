"""Meta-training: a loop, the optimizers that it takes, and Reptile."""

from .loop import TrainResult, TrainState, train
from .optimizers import SGD, Adam, AdamState, SGDState
from .reptile import Reptile, reptile_gradient

__all__ = [
    "SGD", "Adam", "AdamState", "Reptile", "SGDState", "TrainResult", "TrainState",
    "reptile_gradient", "train",
]  # fmt: skip
