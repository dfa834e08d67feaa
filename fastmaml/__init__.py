"""The exact MAML meta-gradient, from NumPy arrays.

>>> import fastmaml as fm
>>> model = fm.MLP([1, 40, 40, 1], activation="relu")
>>> maml = fm.MAML(model, inner_lr=0.01)

`MAML` is a specification with methods, `meta_gradient` the one-call form, `BayesianLastLayer`
adaptation in closed form, `equations` the derivation as functions; `learn` trains, `datasets`
samples tasks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import clone as clone  # before whatever needs the kernels

# isort: split
from . import models as models
from .closed_form import BayesianLastLayer as BayesianLastLayer
from .closed_form import HeadMetaGradient as HeadMetaGradient
from .closed_form import Posterior as Posterior
from .divergence import DivergenceWarning as DivergenceWarning
from .maml import MAML as MAML
from .maml import ImplicitMetaGradient as ImplicitMetaGradient
from .maml import MetaGradient as MetaGradient
from .maml import anil_inner_lr as anil_inner_lr
from .maml import meta_gradient as meta_gradient
from .methods.implicit import ConvergenceWarning as ConvergenceWarning
from .models import MLP as MLP
from .models import Frozen as Frozen
from .models import Linear as Linear
from .models import Scaled as Scaled
from .models import Sum as Sum
from .runtime import set_num_threads as set_num_threads
from .runtime import threads as threads
from .runtime import warmup as warmup
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import checking as checking
    from . import datasets as datasets
    from . import distributed as distributed
    from . import equations as equations
    from . import export as export
    from . import learn as learn
    from .checking import check_gradient as check_gradient
    from .checking import check_model as check_model
    from .learn import BayesianLastLayerRegressor as BayesianLastLayerRegressor
    from .learn import MAMLClassifier as MAMLClassifier
    from .learn import MAMLRegressor as MAMLRegressor
    from .losses.kinds import GaussianNLL as GaussianNLL
    from .losses.kinds import Huber as Huber
    from .losses.kinds import LogCosh as LogCosh
    from .losses.kinds import Logistic as Logistic
    from .losses.kinds import Loss as Loss
    from .losses.kinds import Poisson as Poisson
    from .losses.kinds import PseudoHuber as PseudoHuber
    from .losses.kinds import Quantile as Quantile
    from .losses.kinds import Softmax as Softmax
    from .models.custom import Custom as Custom
    from .models.features import Features as Features
    from .models.formula import Formula as Formula
    from .saving import load as load
    from .saving import save as save

__all__ = [
    "MAML", "MLP", "BayesianLastLayer", "ConvergenceWarning", "Custom", "DivergenceWarning",
    "Features", "Formula", "Frozen", "GaussianNLL", "HeadMetaGradient", "Huber",
    "ImplicitMetaGradient", "Linear", "LogCosh", "Logistic", "Loss", "MetaGradient", "Poisson",
    "Posterior", "PseudoHuber", "Quantile", "Scaled", "Softmax", "Sum", "anil_inner_lr",
    "check_gradient", "check_model",
    "datasets", "distributed", "equations", "export", "learn", "load", "meta_gradient", "models",
    "save", "set_num_threads", "threads", "warmup",
]  # fmt: skip


_LOSSES = (
    "GaussianNLL", "Huber", "LogCosh", "Logistic", "Loss", "Poisson", "PseudoHuber", "Quantile",
    "Softmax",
)  # fmt: skip
#: imported when they are asked for: few gradients need any of them, and a regressor scikit-learn
_LATER = {
    **dict.fromkeys(_LOSSES, ".losses.kinds"),
    "BayesianLastLayerRegressor": ".learn", "MAMLClassifier": ".learn", "MAMLRegressor": ".learn",
    "Custom": ".models.custom", "Features": ".models.features", "Formula": ".models.formula",
    "check_gradient": ".checking", "check_model": ".checking", "checking": ".checking",
    "datasets": ".datasets", "distributed": ".distributed", "equations": ".equations",
    "export": ".export", "learn": ".learn", "load": ".saving", "save": ".saving",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_LATER[name], __name__)
    value = module if _LATER[name] == f".{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
