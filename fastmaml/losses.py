"""The losses of a task: their names, and what each multiplies the sum of squares by."""

from __future__ import annotations

from typing import NamedTuple

from .checks import as_choice

__all__ = ["LOSSES", "Loss", "loss_of"]

LOSSES = ("half_sse", "half_mse", "sse", "mse")


class Loss(NamedTuple):
    """Task loss: ``scale / 2`` times the sum of squares, divided by the rows if ``mean``."""

    scale: float
    mean: bool


def loss_of(name: str, n_outputs: int) -> Loss:
    """The loss as the kernels take it."""
    as_choice("loss", name, LOSSES)
    scale = 1.0 if name.startswith("half") else 2.0
    return Loss(scale / n_outputs if name == "mse" else scale, name.endswith("mse"))
