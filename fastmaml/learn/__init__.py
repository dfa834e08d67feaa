"""Meta-training: a loop with its optimizers and checkpoints, Reptile, a scikit-learn estimator."""

from typing import TYPE_CHECKING, Any

from .callbacks import CSVLog, ProgressBar, chain
from .checkpoint import Checkpoint, Checkpointer, load_checkpoint, save_checkpoint
from .loop import Best, TrainResult, TrainState, train
from .minimizers import minimize
from .optimizers import SGD, Adam, AdamState, AdamW, SGDState
from .reptile import Reptile, reptile_gradient
from .scaling import Scaling
from .schedules import Cosine, Step

if TYPE_CHECKING:
    from .estimator import AdaptedRegressor as AdaptedRegressor
    from .estimator import MAMLRegressor as MAMLRegressor

# Without the two of the estimator, so that `import *` needs no scikit-learn.
__all__ = [
    "SGD", "Adam", "AdamState", "AdamW", "Best", "CSVLog", "Checkpoint", "Checkpointer", "Cosine",
    "ProgressBar", "Reptile", "SGDState", "Scaling", "Step", "TrainResult", "TrainState", "chain",
    "load_checkpoint", "minimize", "reptile_gradient", "save_checkpoint", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in ("AdaptedRegressor", "MAMLRegressor"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import estimator
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise ModuleNotFoundError(
            f'{name} needs scikit-learn, which comes with pip install "fastmaml[sklearn]"',
            name="sklearn",
        ) from error
    return getattr(estimator, name)
