"""The losses of a task: their names, and what the kernels take for each."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import as_choice
from .family import Compiled
from .kernels.losses import passes
from .kernels.losses.squared import SQUARED

__all__ = ["LOSSES", "Loss", "loss_of", "table_with"]

LOSSES = ("half_sse", "half_mse", "sse", "mse")
#: what the kernels compute of a row, by a word that a loss keeps, so that it can be pickled
KINDS: dict[str, passes.Loss] = {"squared": SQUARED}


class Loss(NamedTuple):
    """Task loss: ``scale`` times the sum of l over its rows, divided by these if ``mean``."""

    kind: str
    scale: float
    mean: bool
    numbers: tuple[float, ...] = ()  # of the kind


def loss_of(name: str, n_outputs: int) -> Loss:
    """The loss as the methods take it."""
    as_choice("loss", name, LOSSES)
    scale = 1.0 if name.startswith("half") else 2.0
    return Loss("squared", scale / n_outputs if name == "mse" else scale, name.endswith("mse"))


@lru_cache(maxsize=256)
def table_with(compiled: Compiled, order: int | None, loss: Loss) -> NDArray[np.int64]:
    """A model's table with a loss, and with what derivatives up to an order take (see `Compiled`).

    Asked in every call, so remembered.
    """
    kind: Any = KINDS[loss.kind]
    return passes.with_loss(
        compiled.reaching(order), kind, compiled.dtype, loss.scale, loss.mean, loss.numbers
    )
