"""The exact MAML meta-gradient for squared-error regression, from NumPy arrays.

>>> import fastmaml as fm
>>> model = fm.MLP([1, 40, 40, 1], activation="relu")
>>> maml = fm.MAML(model, inner_lr=0.01)

`MAML` is a specification with methods, `meta_gradient` the one-call form, `equations` the
derivation as functions; `learn` trains, `datasets` samples tasks.
"""

from typing import TYPE_CHECKING, Any

from . import clone as clone  # before whatever needs the kernels

# isort: split
from . import datasets as datasets
from . import equations as equations
from . import learn as learn
from . import models as models
from .divergence import DivergenceWarning as DivergenceWarning
from .implicit import ConvergenceWarning as ConvergenceWarning
from .maml import MAML as MAML
from .maml import ImplicitMetaGradient as ImplicitMetaGradient
from .maml import MetaGradient as MetaGradient
from .maml import anil_inner_lr as anil_inner_lr
from .maml import meta_gradient as meta_gradient
from .models import MLP as MLP
from .models import Linear as Linear
from .runtime import set_num_threads as set_num_threads
from .runtime import threads as threads
from .runtime import warmup as warmup
from .saving import load as load
from .saving import save as save
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .learn import MAMLRegressor as MAMLRegressor

__all__ = [
    "MAML", "MLP", "ConvergenceWarning", "DivergenceWarning", "ImplicitMetaGradient", "Linear",
    "MetaGradient", "anil_inner_lr", "datasets", "equations", "learn", "load", "meta_gradient",
    "models", "save",
    "set_num_threads", "threads", "warmup",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "MAMLRegressor":  # which needs scikit-learn
        return learn.MAMLRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
