"""What a method is: which problems it has an answer for, and how it comes to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..family import Family
from ..kernels.compile.jit import Kernel
from ..kernels.methods.modes import GRADIENT
from ..losses import TaskLoss
from ..rates import InnerRate
from ..targets import Targets
from ..tasks import Rows

__all__ = ["Method", "Problem", "Result"]


@dataclass(eq=False)
class Problem:
    """All that a method needs to know beside theta and the data. `choose` is the last to change it.

    (It is not frozen, for frozen ones take longer to make.)
    """

    model: Family
    rate: InnerRate
    steps: int
    order: str
    loss: TaskLoss
    query_loss: TaskLoss
    step_weights: NDArray[np.float64]
    weighted: bool  # whether these were given
    method: str  # by what name a method was asked for
    max_memory: int  # bytes
    momentum: float
    proximal: float | None
    rtol: float  # of conjugate gradients
    maxiter: int
    # Of `Method`: those that may be asked, in this order; and those, if they do not refuse, that
    # compute anew what is not finite.
    methods: tuple[Any, ...] = ()
    anew: tuple[Any, ...] = ()
    # Remembered here and not in a cache of the module, to go when the problem goes: plans, which
    # know no rates, and the rates as kernels take them.
    _plans: dict[Any, Any] = field(default_factory=dict, repr=False)
    _rates: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def targets(self) -> tuple[Targets | None, Targets | None]:
        """What a row of y holds on either side."""
        return self.loss.targets, self.query_loss.targets

    def with_rate(self, rate: InnerRate) -> Problem:
        """The same problem at other rates of the same form, with which it shares its plans.

        A training that learns the rates asks for one an iteration.
        """
        other = object.__new__(Problem)
        other.__dict__.update(self.__dict__, rate=rate, _rates={})
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}, "_rates": {}}


class Result(NamedTuple):
    """What a method computed; what its mode does not include is empty."""

    task_values: NDArray[np.float64]
    gradient: NDArray[Any]
    rate_gradient: NDArray[np.float64]  # (S, n_layers) or (P,), as the rate's canonical form
    residuals: NDArray[np.float64] | None = None  # of the implicit gradient's systems


class Method(ABC):
    """A way to compute the meta-gradient. There is one object of each, in capitals the name."""

    name: ClassVar[str]
    #: what it runs; `fastmaml.warmup` compiles them for several threads too
    kernels: ClassVar[tuple[Kernel, ...]] = ()

    @abstractmethod
    def refuses(self, problem: Any) -> str | None:
        """What a problem has that the method has not, as the text of an error, or None."""

    @abstractmethod
    def solve(
        self, problem: Any, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
        check: bool,
    ) -> Result:  # fmt: skip
        """Compute what `mode` says; with `check`, NaN or inf in theta is an error."""

    def warm(self, problem: Any, theta: NDArray[Any], rows: Rows) -> None:
        """Run once what the method's file has, so that it is compiled."""
        self.solve(problem, theta, rows, rows, GRADIENT, False)

    def __reduce__(self) -> str:
        return self.name.upper()  # where it lies: a copy is the object itself
