"""Meta-training: a loop, and the optimizers that it takes."""

from .loop import TrainResult, TrainState, train
from .optimizers import SGD, Adam, AdamState, SGDState

__all__ = ["SGD", "Adam", "AdamState", "SGDState", "TrainResult", "TrainState", "train"]
