"""Meta-training: a loop with its optimizers and checkpoints, Reptile, scikit-learn estimators."""

from importlib import import_module
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
    from .adapted import AdaptedRegressor as AdaptedRegressor
    from .adapted import adapt as adapt
    from .adapted_last_layer import AdaptedBayesianRegressor as AdaptedBayesianRegressor
    from .classifier import AdaptedClassifier as AdaptedClassifier
    from .classifier import MAMLClassifier as MAMLClassifier
    from .estimator import MAMLRegressor as MAMLRegressor
    from .last_layer import BayesianLastLayerRegressor as BayesianLastLayerRegressor
    from .scorers import few_shot_scorer as few_shot_scorer

# Without the names of NEED_SKLEARN, so that `import *` needs no scikit-learn.
__all__ = [
    "SGD", "Adam", "AdamState", "AdamW", "Best", "CSVLog", "Checkpoint", "Checkpointer", "Cosine",
    "ProgressBar", "Reptile", "SGDState", "Scaling", "Step", "TrainResult", "TrainState", "chain",
    "load_checkpoint", "minimize", "reptile_gradient", "save_checkpoint", "train",
]  # fmt: skip

NEED_SKLEARN = {
    "AdaptedBayesianRegressor": "adapted_last_layer",
    "AdaptedClassifier": "classifier",
    "AdaptedRegressor": "adapted",
    "BayesianLastLayerRegressor": "last_layer",
    "MAMLClassifier": "classifier",
    "MAMLRegressor": "estimator",
    "adapt": "adapted",
    "few_shot_scorer": "scorers",
}


def __getattr__(name: str) -> Any:
    if name not in NEED_SKLEARN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{NEED_SKLEARN[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise ModuleNotFoundError(
            f'{name} needs scikit-learn, which comes with pip install "fastmaml[sklearn]"',
            name="sklearn",
        ) from error
