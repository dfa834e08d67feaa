"""A loss as the methods take it: what it is of a row, its scale, and what a row of y holds."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..family import Compiled
from ..kernels.losses import passes
from ..kernels.losses.squared import SQUARED
from ..targets import Targets

__all__ = ["KINDS", "SQUARED_LOSSES", "TaskLoss", "table_with", "table_with_numbers"]

#: what the kernels compute of a row, by a word that a loss keeps, so that it can be pickled
KINDS: dict[str, passes.Loss] = {"squared": SQUARED}

#: where those lie that are imported only when a loss is of them
_MODULES = {
    "huber": "elementwise",
    "pseudo_huber": "elementwise",
    "log_cosh": "elementwise",
    "quantile": "elementwise",
    "gaussian": "gaussian",
    "logistic": "elementwise",
    "poisson": "elementwise",
    "softmax": "softmax",
}


class TaskLoss(NamedTuple):
    """Task loss: ``scale`` times the sum of l over its rows, divided by these if ``mean``."""

    kind: Any  # a word, or a user's own `fastmaml.Loss`
    scale: float
    mean: bool
    per_output: bool = False  # whether it is divided by the number of outputs
    numbers: tuple[float, ...] = ()  # of the kind
    targets: Targets | None = None  # None: as many as outputs, any numbers
    signed: bool = False  # whether it may be below 0


SQUARED_LOSSES: dict[str, TaskLoss] = {
    "half_sse": TaskLoss("squared", 1.0, mean=False),
    "half_mse": TaskLoss("squared", 1.0, mean=True),
    "sse": TaskLoss("squared", 2.0, mean=False),
    "mse": TaskLoss("squared", 2.0, mean=True, per_output=True),
}


def table_with(
    compiled: Compiled,
    order: int | None,
    loss: TaskLoss,
    query_loss: TaskLoss | None = None,
    weighted: tuple[bool, bool] = (False, False),
) -> NDArray[np.int64]:
    """A model's table with the losses of support and query rows, one for both unless two are given.

    It has what derivatives up to an order take, see `Compiled`. `weighted` says on which
    of both sides the rows have weights.

    Raises
    ------
    ValueError
        If the loss is of a kind that this process does not know.
    """
    query_loss = loss if query_loss is None else query_loss
    codes = _code_of(loss), _code_of(query_loss)
    return _table_with(compiled, order, (loss, query_loss), codes, weighted)


def table_with_numbers(
    compiled: Compiled, loss: TaskLoss, query_loss: TaskLoss, weighted: tuple[bool, bool]
) -> NDArray[np.int64]:
    """The same for a kernel that calls neither a pass of the model nor the losses by address."""
    uncalled = passes.UNCALLED, passes.UNCALLED
    return _table_with(compiled, None, (loss, query_loss), uncalled, weighted)


def _code_of(loss: TaskLoss) -> passes.Loss:
    kind = loss.kind
    if not isinstance(kind, str):
        own: passes.Loss = kind.code
        return own
    if kind not in KINDS:
        if kind not in _MODULES:
            raise ValueError(
                f"loss is of the kind {kind!r}; accepted are "
                f"{', '.join(map(repr, dict.fromkeys((*KINDS, *_MODULES))))}"
            )
        module = import_module(f"{passes.__package__}.{_MODULES[kind]}")
        KINDS[kind] = getattr(module, kind.upper())
    return KINDS[kind]


@lru_cache(maxsize=256)  # asked in every call
def _table_with(
    compiled: Compiled, order: int | None, losses: tuple[TaskLoss, TaskLoss],
    codes: tuple[passes.Loss, passes.Loss], weighted: tuple[bool, bool],
) -> NDArray[np.int64]:  # fmt: skip
    support, query = (
        passes.OfSide(
            code, each.scale, each.mean,
            each.targets.width if each.targets else compiled.sizes[1], has_weights, each.numbers,
        )
        for code, each, has_weights in zip(codes, losses, weighted, strict=True)
    )  # fmt: skip
    table, curved = compiled.reaching(order), order in (None, 2)
    return passes.with_losses(table, support, query, compiled.dtype, curved)
