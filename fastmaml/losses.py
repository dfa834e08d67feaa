"""The losses of a task: their names, and what the kernels take for each."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import as_choice
from .family import Compiled
from .kernels.losses import passes
from .kernels.losses.squared import SQUARED

__all__ = ["LOSSES", "Loss", "loss_of", "table_with"]

#: what the kernels compute of a row, by a word that a loss keeps, so that it can be pickled
KINDS: dict[str, passes.Loss] = {"squared": SQUARED}


class Loss(NamedTuple):
    """Task loss: ``scale`` times the sum of l over its rows, divided by these if ``mean``."""

    kind: str
    scale: float
    mean: bool
    per_output: bool = False  # whether it is divided by the number of outputs
    numbers: tuple[float, ...] = ()  # of the kind


#: by the name that a user gives
LOSSES: dict[str, Loss] = {
    "half_sse": Loss("squared", 1.0, mean=False),
    "half_mse": Loss("squared", 1.0, mean=True),
    "sse": Loss("squared", 2.0, mean=False),
    "mse": Loss("squared", 2.0, mean=True, per_output=True),
}


def loss_of(name: str, n_outputs: int) -> Loss:
    """The loss of a model with so many outputs, as the methods take it."""
    loss = LOSSES[as_choice("loss", name, LOSSES)]
    return loss._replace(scale=loss.scale / n_outputs) if loss.per_output else loss


def table_with(
    compiled: Compiled,
    order: int | None,
    loss: Loss,
    query_loss: Loss | None = None,
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
    kinds = _kind_of(loss), _kind_of(query_loss)
    return _table_with(compiled, order, (loss, query_loss), kinds, weighted)


def _kind_of(loss: Loss) -> passes.Loss:
    kind = KINDS.get(loss.kind)
    if kind is None:
        raise ValueError(
            f"loss is of the kind {loss.kind!r}; accepted are {', '.join(map(repr, KINDS))}"
        )
    return kind


@lru_cache(maxsize=256)  # asked in every call
def _table_with(
    compiled: Compiled, order: int | None, losses: tuple[Loss, Loss],
    kinds: tuple[passes.Loss, passes.Loss], weighted: tuple[bool, bool],
) -> NDArray[np.int64]:  # fmt: skip
    support, query = (
        passes.OfSide(code, each.scale, each.mean, compiled.sizes[1], has_weights, each.numbers)
        for code, each, has_weights in zip(kinds, losses, weighted, strict=True)
    )
    table, curved = compiled.reaching(order), order in (None, 2)
    return passes.with_losses(table, support, query, compiled.dtype, curved)
