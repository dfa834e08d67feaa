"""Meta-training: a loop, the optimizers that it takes, and a scikit-learn estimator."""

from typing import TYPE_CHECKING, Any

from .loop import TrainResult, TrainState, train
from .optimizers import SGD, Adam, AdamState, SGDState

if TYPE_CHECKING:
    from .estimator import AdaptedRegressor as AdaptedRegressor
    from .estimator import MAMLRegressor as MAMLRegressor

# Without the two below, so that `import *` needs no scikit-learn.
__all__ = ["SGD", "Adam", "AdamState", "SGDState", "TrainResult", "TrainState", "train"]


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
