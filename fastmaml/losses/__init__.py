"""Losses: the words and objects that a user gives, and what the methods take for them."""

from __future__ import annotations

from typing import Any

from ..checks import as_choice, shown
from .task import KINDS, SQUARED_LOSSES, TaskLoss, table_with, table_with_numbers

__all__ = [
    "KINDS", "LOSSES", "TaskLoss", "as_loss", "loss_of", "table_with", "table_with_numbers",
]  # fmt: skip

#: what each word stands for: what the methods take, or the class whose default object it means
LOSSES: dict[str, TaskLoss | str] = {
    **SQUARED_LOSSES,
    "huber": "Huber",
    "pseudo_huber": "PseudoHuber",
    "log_cosh": "LogCosh",
    "quantile": "Quantile",
    "gaussian_nll": "GaussianNLL",
    "logistic": "Logistic",
    "softmax": "Softmax",
    "poisson": "Poisson",
}


def as_loss(name: str, value: Any) -> Any:
    """Return `value`, which must be a word for a loss, or an object that is one."""
    if isinstance(value, str):
        return as_choice(name, value, LOSSES)
    if not hasattr(type(value), "task_loss"):
        words = ", ".join(map(repr, LOSSES))
        raise TypeError(
            f"{name} is {shown(value)}; accepted are the words {words}, and objects such as "
            "fastmaml.Huber(delta=0.5)"
        )
    return value


def loss_of(loss: Any, n_outputs: int, name: str = "loss") -> TaskLoss:
    """The loss of a model with so many outputs, as the methods take it.

    Raises
    ------
    TypeError, ValueError
        If it is none, or none of such a model.
    """
    loss = as_loss(name, loss)
    known = LOSSES[loss] if isinstance(loss, str) else None
    if isinstance(known, TaskLoss):
        return known._replace(scale=known.scale / n_outputs) if known.per_output else known
    if known is not None:
        from . import kinds  # its classes take milliseconds to make, and few calls need them

        loss = getattr(kinds, known)()
    found: TaskLoss = loss.task_loss(n_outputs, name)
    return found
