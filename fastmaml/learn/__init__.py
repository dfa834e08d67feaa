"""Meta-training: a loop, and the optimizers, schedules, callbacks and checkpoints for it."""

from .callbacks import CSVLog, ProgressBar, chain
from .checkpoint import Checkpoint, Checkpointer, load_checkpoint, save_checkpoint
from .loop import Best, TrainResult, TrainState, train
from .minimizers import minimize
from .optimizers import SGD, Adam, AdamState, AdamW, SGDState
from .schedules import Cosine, Step

__all__ = [
    "SGD", "Adam", "AdamState", "AdamW", "Best", "CSVLog", "Checkpoint", "Checkpointer", "Cosine",
    "ProgressBar", "SGDState", "Step", "TrainResult", "TrainState", "chain", "load_checkpoint",
    "minimize", "save_checkpoint", "train",
]  # fmt: skip
