"""Losses with parameters: small frozen objects, one class a kind; ``docs/losses.md`` has them all.

A loss of a task is the sum of l over its rows and, where l is of one output, over the outputs. It
is divided by their number unless ``mean=False``, as in PyTorch; row weights count in it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from numba import config
from numba.core.errors import NumbaError

from ..checks import as_flag, as_number, as_positive, shown
from ..kernels.losses import passes
from ..options import check_options, option
from ..targets import Targets
from .task import TaskLoss

__all__ = [
    "GaussianNLL", "Huber", "LogCosh", "Logistic", "Loss", "Poisson", "PseudoHuber", "Quantile",
    "Softmax",
]  # fmt: skip


class _Checked:
    """What all have: their parameters are checked, the last of which is ``mean``."""

    mean: bool

    def __post_init__(self) -> None:
        check_options(self)


class _OfOutputs(_Checked):
    """A loss of one output and its target, which a row has the sum of."""

    #: a word of `fastmaml.losses.task`; which targets are accepted; whether l may be below 0
    _kind: ClassVar[str]
    _of: ClassVar[str] = "any"
    _signed: ClassVar[bool] = False

    def task_loss(self, n_outputs: int, name: str) -> TaskLoss:
        """The loss of a model with so many outputs, as methods take it."""
        scale = 1.0 / n_outputs if self.mean else 1.0
        targets = None if self._of == "any" else Targets(repr(self), n_outputs, self._of)
        kind, numbers = self._what()
        return TaskLoss(kind, scale, self.mean, False, numbers, targets, self._signed)

    def _what(self) -> tuple[Any, tuple[float, ...]]:
        """The kind and its numbers."""
        own = fields(self)[:-1]  # type: ignore[arg-type]
        return self._kind, tuple(getattr(self, each.name) for each in own)


def _as_share(name: str, value: Any) -> float:
    share = as_number(name, value)
    if not 0 < share < 1:
        raise ValueError(f"{name} is {share}; accepted are numbers between 0 and 1")
    return share


@dataclass(frozen=True)
class Huber(_OfOutputs):
    """Huber's loss: ½ r² where |r| ≤ delta, beyond it delta (|r| − delta / 2).

    Parameters
    ----------
    delta : float
        Residual from which on the loss grows in proportion to it; above 0.
    mean : bool
        Whether the loss of a task is divided by its rows times outputs, or their sum.

    Raises
    ------
    TypeError, ValueError
        For a parameter that is not accepted.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35,
    1964.

    Examples
    --------
    >>> import fastmaml as fm
    >>> maml = fm.MAML(fm.MLP([1, 20, 1]), loss=fm.Huber(delta=0.5), query_loss="mse")
    >>> maml.loss
    Huber(delta=0.5, mean=True)
    """

    delta: float = option(1.0, as_positive)
    mean: bool = option(True, as_flag)
    _kind = "huber"


@dataclass(frozen=True)
class PseudoHuber(_OfOutputs):
    """A smooth Huber loss: delta² (√(1 + (r / delta)²) − 1).

    Parameters
    ----------
    delta : float
        About where it goes over from ½ r² to delta |r|; above 0.
    mean : bool
        Whether the loss of a task is divided by its rows times outputs, or their sum.

    Raises
    ------
    TypeError, ValueError
        For a parameter that is not accepted.

    Examples
    --------
    >>> import fastmaml as fm
    >>> loss = fm.PseudoHuber(delta=1.0)
    >>> fm.equations.task_loss(fm.Linear(1), [1.0, 0.0], [[[3.0]]], [[3.0]], loss=loss)
    array([0.])
    """

    delta: float = option(1.0, as_positive)
    mean: bool = option(True, as_flag)
    _kind = "pseudo_huber"


@dataclass(frozen=True)
class LogCosh(_OfOutputs):
    """The logarithm of cosh r: ½ r² near 0, |r| − log 2 far from it.

    Parameters
    ----------
    mean : bool
        Whether the loss of a task is divided by its rows times outputs, or their sum.

    Raises
    ------
    TypeError
        For a parameter that is not accepted.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.equations.task_loss(fm.Linear(1), [1.0, 0.0], [[[3.0]]], [[3.0]], loss=fm.LogCosh())
    array([0.])
    """

    mean: bool = option(True, as_flag)
    _kind = "log_cosh"


@dataclass(frozen=True)
class Quantile(_OfOutputs):
    """The check function of a quantile, made smooth: q e + s log(1 + exp(−e / s)), e = y − f.

    Parameters
    ----------
    q : float
        Which quantile of y the model is to give, between 0 and 1.
    smoothing : float
        s, the width of the kink in units of y; above 0. For s → 0 it is max(q e, (q − 1) e). The
        loss is at most s log 2 above that, and the curvature up to 1 / (4 s).
    mean : bool
        Whether the loss of a task is divided by its rows times outputs, or their sum.

    Raises
    ------
    TypeError, ValueError
        For a parameter that is not accepted.

    References
    ----------
    R. Koenker, G. Bassett, Regression quantiles, Econometrica 46, 1978.

    Examples
    --------
    >>> import fastmaml as fm
    >>> loss = fm.Quantile(q=0.9)
    >>> x, y = [[[1.0]], [[1.0]]], [[-1.0], [1.0]]
    >>> low, high = fm.equations.task_loss(fm.Linear(1), [0.0, 0.0], x, y, loss=loss)
    >>> round(high / low)  # to be too low costs nine times as much
    9
    """

    q: float = option(0.5, _as_share)
    smoothing: float = option(0.1, as_positive)
    mean: bool = option(True, as_flag)
    _kind = "quantile"


@dataclass(frozen=True)
class GaussianNLL(_Checked):
    """The negative log density of a normal distribution whose mean and variance the model gives.

    The first half of the outputs are the means of the targets, the second half the logarithms of
    their variances: a row of y is half as wide as the outputs. The term ½ log 2π is in it.

    Parameters
    ----------
    mean : bool
        Whether the loss of a task is divided by its rows times targets, or their sum.

    Raises
    ------
    TypeError
        For a parameter that is not accepted.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Linear(1, 2)  # a mean and a log variance
    >>> fm.equations.task_loss(model, [0.0] * 4, [[[1.0]]], [[0.0]], loss=fm.GaussianNLL()).round(3)
    array([0.919])
    """

    mean: bool = option(True, as_flag)

    def task_loss(self, n_outputs: int, name: str) -> TaskLoss:
        """The loss of a model with so many outputs, as methods take it."""
        if n_outputs % 2:
            raise ValueError(
                f"{name} is {self!r}, which takes as many log variances as means; the model has "
                f"{n_outputs} output{'s' if n_outputs > 1 else ''}, accepted are even numbers"
            )
        n = n_outputs // 2
        scale = 1.0 / n if self.mean else 1.0
        return TaskLoss("gaussian", scale, self.mean, targets=Targets(repr(self), n), signed=True)


@dataclass(frozen=True)
class Logistic(_OfOutputs):
    """Cross-entropy of yes and no: log(1 + exp f) − y f, y 0 or 1, f the logarithm of the odds.

    The probability of 1 is 1 / (1 + exp(−f)). Each of several outputs has its own target.

    Parameters
    ----------
    mean : bool
        Whether the loss of a task is divided by its rows times outputs, or their sum.

    Raises
    ------
    TypeError
        For a parameter that is not accepted.

    Examples
    --------
    >>> import fastmaml as fm
    >>> loss = fm.Logistic()
    >>> fm.equations.task_loss(fm.Linear(1), [0.0, 0.0], [[[1.0]]], [[1.0]], loss=loss).round(3)
    array([0.693])
    """

    mean: bool = option(True, as_flag)
    _kind, _of = "logistic", "binary"


@dataclass(frozen=True)
class Softmax(_Checked):
    """Cross-entropy of n classes, of which the model has an output each: log Σ exp f − f of y.

    Targets are labels 0 to n − 1, one a row, or rows (n,) of zeros with a 1 in the label's place.
    The probabilities of the classes are exp f / Σ exp f.

    Parameters
    ----------
    mean : bool
        Whether the loss of a task is divided by its rows, or their sum.

    Raises
    ------
    TypeError
        For a parameter that is not accepted.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Linear(1, 3)  # three classes
    >>> fm.equations.task_loss(model, [0.0] * 6, [[[1.0]]], [[2]], loss=fm.Softmax()).round(3)
    array([1.099])
    """

    mean: bool = option(True, as_flag)

    def task_loss(self, n_outputs: int, name: str) -> TaskLoss:
        """The loss of a model with so many outputs, as methods take it."""
        if n_outputs < 2:
            raise ValueError(
                f"{name} is {self!r}, which takes an output for each class; the model has 1, "
                'accepted are 2 or more (with 1 output, "logistic" tells two classes apart)'
            )
        targets = Targets(repr(self), 1, "class", n_outputs)
        return TaskLoss("softmax", 1.0, self.mean, targets=targets)


@dataclass(frozen=True)
class Poisson(_OfOutputs):
    """The negative log-likelihood of counts with the mean exp f: exp f − y f, without log y!.

    Parameters
    ----------
    mean : bool
        Whether the loss of a task is divided by its rows times outputs, or their sum.

    Raises
    ------
    TypeError
        For a parameter that is not accepted.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.equations.task_loss(fm.Linear(1), [0.0, 0.0], [[[1.0]]], [[3.0]], loss=fm.Poisson())
    array([1.])
    """

    mean: bool = option(True, as_flag)
    _kind, _of, _signed = "poisson", "counts", True


@dataclass(frozen=True, repr=False)
class Loss(_OfOutputs):
    """A loss of your own: compiled functions of one output f and one target y.

    The loss of a row is the sum over its outputs. The functions are given float64 numbers whatever
    dtype is computed in, and compiled for that. Where one raises an exception, it makes NaN.

    Parameters
    ----------
    value, slope, curvature : functions with ``numba.njit``
        l(f, y), dl/df and d²l/df², each a real number.
    mean : bool
        Whether the loss of a task is divided by its rows times outputs, or their sum.

    Raises
    ------
    TypeError
        For a function that is not compiled by numba, or not for two numbers, and the like.

    Notes
    -----
    `fastmaml.equations.task_gradient` and `task_hessian` show whether they belong together. It can
    be pickled, but not saved: a file holds no code.

    Examples
    --------
    >>> import numba, numpy as np
    >>> import fastmaml as fm
    >>> loss = fm.Loss(
    ...     value=numba.njit(lambda f, y: (f - y) ** 4),
    ...     slope=numba.njit(lambda f, y: 4 * (f - y) ** 3),
    ...     curvature=numba.njit(lambda f, y: 12 * (f - y) ** 2),
    ... )
    >>> fm.equations.task_loss(fm.Linear(1), [1.0, 0.0], [[[3.0]]], [[1.0]], loss=loss)
    array([16.])
    """

    value: Any
    slope: Any
    curvature: Any
    mean: bool = option(True, as_flag)
    _signed = True

    def __post_init__(self) -> None:
        for name in ("value", "slope", "curvature"):
            _require_compiled(name, getattr(self, name))
        super().__post_init__()

    def _what(self) -> tuple[Any, tuple[float, ...]]:
        return self, ()

    @cached_property
    def code(self) -> passes.Loss:
        """What the kernels take for it, in this process."""
        from ..kernels.losses.own import own_loss

        return own_loss(self.value, self.slope, self.curvature)

    def __repr__(self) -> str:
        functions = (self.value, self.slope, self.curvature)
        names = (getattr(each, "__name__", "function") for each in functions)
        return f"Loss({', '.join(names)}, mean={self.mean})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: kept for name, kept in self.__dict__.items() if name != "code"}


def _require_compiled(name: str, function: Any) -> None:
    """Raise TypeError unless it is a compiled function of two numbers that gives one."""
    accepted = "accepted are functions of one output and one target, compiled with numba.njit"
    if not callable(function) or not (config.DISABLE_JIT or hasattr(function, "py_func")):
        raise TypeError(f"{name} is {shown(function)}; {accepted}")
    if config.DISABLE_JIT:
        return
    from ..kernels.losses.own import gives_number

    try:
        right = gives_number(function)
    except (NumbaError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise TypeError(
            f"{name} cannot be compiled for two float64 numbers; {accepted} ({reason})"
        ) from error
    if not right:
        raise TypeError(f"{name} gives no real number; {accepted}, which gives one")
