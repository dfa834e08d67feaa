"""Adaptation of named groups, with an error that says which of them diverged, where and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..maml import MAML

__all__ = ["predict_adapted", "rates_text", "require_convergence"]

#: An adapted network that misses the rows it adapted to by so many times their mean square, in
#: standardised units, is looked at: it has diverged if its loss there rose more than tenfold.
MISSED = 1e4
ROSE = 10.0


def predict_adapted(
    maml: MAML,
    theta: NDArray[Any],
    x: Sequence[NDArray[Any]],
    y: Sequence[NDArray[Any]],
    x_new: Sequence[NDArray[Any]],
    names: Sequence[str],
) -> list[NDArray[Any]]:
    """Adapt to rows (x, y) of each task and predict other rows, all in standardised units.

    Raises FloatingPointError if the adaptation of a task diverged; `names` are what it says of
    each task, such as ``"group 'device 7'"``.
    """
    both = [np.concatenate(rows) for rows in zip(x, x_new, strict=True)]
    f = maml.predict(theta, list(x), list(y), both)
    own = [predicted[: len(target)] for predicted, target in zip(f, y, strict=True)]
    require_convergence(maml, theta, x, y, own, names)
    return [predicted[len(target) :] for predicted, target in zip(f, y, strict=True)]


def require_convergence(
    maml: MAML,
    theta: NDArray[Any],
    x: Sequence[NDArray[Any]],
    y: Sequence[NDArray[Any]],
    f: Sequence[NDArray[Any]],
    names: Sequence[str],
) -> None:
    """Raise FloatingPointError unless adapted parameters predict f, not far from y, at x."""
    suspects = [
        i for i, (predicted, target) in enumerate(zip(f, y, strict=True))
        if not _mse(predicted, target) < MISSED * (1 + _mse(target, 0))
    ]  # fmt: skip
    diverged = [(i, step) for i in suspects if (step := _diverges(maml, theta, x[i], y[i]))]
    if diverged:
        i, step = diverged[0]
        others = f" ({len(diverged)} of {len(f)} groups diverged)" if len(f) > 1 else ""
        raise FloatingPointError(
            f"the adaptation of {names[i]} diverged{others}: its loss is "
            f"{_loss(maml, theta, x[i], y[i], step):.3g} after step {step} of {maml.steps} with "
            f"{rates_text(_rates_of(maml, step))}, {_loss(maml, theta, x[i], y[i], 0):.3g} before; "
            "fewer steps or a smaller inner_lr usually help, or rows less unlike those of the "
            "training"
        )


def rates_text(inner_lr: Any) -> str:
    """Return inner rates as text."""
    rates = np.asarray(inner_lr, np.float64)
    low, high = rates.min(), rates.max()
    return f"rate {high:.3g}" if low == high else f"rates from {low:.3g} to {high:.3g}"


def _rates_of(maml: MAML, step: int) -> Any:
    """The rates of a step, from 1."""
    rates = np.asarray(maml.inner_lr)
    return rates[step - 1] if rates.ndim == 2 and len(rates) == maml.steps else rates


def _diverges(maml: MAML, theta: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> int:
    """The step in which the loss of a task left all bounds; 0 if it did not."""
    before = _loss(maml, theta, x, y, 0)
    after = [_loss(maml, theta, x, y, step) for step in range(1, maml.steps + 1)]
    if not after or after[-1] <= ROSE * before:
        return 0
    return 1 + next(i for i, loss in enumerate(after) if not loss <= ROSE * before)


def _loss(maml: MAML, theta: NDArray[Any], x: NDArray[Any], y: NDArray[Any], steps: int) -> float:
    rates = np.asarray(maml.inner_lr)
    by_step = rates.ndim == 2 and len(rates) == maml.steps
    some = replace(maml, steps=steps, inner_lr=rates[:steps] if by_step else maml.inner_lr)
    return _mse(some.predict(theta, x[None], y[None], x[None])[0], y)


def _mse(f: NDArray[Any], y: NDArray[Any] | int) -> float:
    with np.errstate(all="ignore"):
        return float(np.mean(np.square(f - y, dtype=np.float64)))
