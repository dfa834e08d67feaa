"""Tasks whose inner steps diverge: found for next to nothing, and named with the step and the rate.

A kernel that adapts says of each task how long its adapted parameters are. Only where that is not
finite, or far from where the task began, are the steps looked at one by one: a task has diverged
if its support loss is not finite at the end, or `GROWTH` times what it was before the first step.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import run
from .plan import Problem
from .tasks import Rows

__all__ = ["DivergenceWarning", "may_have_diverged", "named_tasks", "warn_of_divergence"]

#: adapted parameters this many times as long as theta (or as 1, if that is longer) are looked into
SUSPICIOUS = 10.0
#: a support loss this many times what it was is a divergence
GROWTH = 100.0
#: how many tasks a message names
SHOWN = 5

_names: ContextVar[Sequence[Any] | None] = ContextVar("names", default=None)


class DivergenceWarning(RuntimeWarning):
    """The inner steps of some tasks diverged: what `adapt` and `predict` give for them is useless.

    The message names the tasks, the step and the rate. To have an error instead:
    ``warnings.simplefilter("error", fastmaml.DivergenceWarning)``.
    """


class Divergence(NamedTuple):
    """One task that diverged: in which step, at which rates, and its support loss."""

    task: int
    step: int  # from 1
    rates: NDArray[np.float64]
    before: float  # the first step
    after: float  # the last step


@contextmanager
def named_tasks(names: Sequence[Any]) -> Iterator[None]:
    """Let warnings inside a ``with`` block call the tasks by their names."""
    token = _names.set(names)
    try:
        yield
    finally:
        _names.reset(token)


def may_have_diverged(squares: NDArray[np.float64]) -> bool:
    """Whether any task is suspicious; `squares` are those of `fastmaml.run.adapt`."""
    # Two microseconds less than a comparison of each; so written that NaN is suspicious, and inf.
    bound = _bound(squares)
    return not np.vdot(squares, squares) < bound * bound


def _bound(squares: NDArray[np.float64]) -> float:
    return SUSPICIOUS**2 * max(squares.item(-1), 1.0)


def warn_of_divergence(
    problem: Problem, theta: NDArray[Any], support: Rows, squares: NDArray[np.float64]
) -> None:
    """Warn of the tasks that diverged, if any of those that are suspicious did."""
    suspects = np.flatnonzero(~(squares[:-1] <= _bound(squares)))
    found = [_looked_at(problem, theta, support, int(task)) for task in suspects]
    diverged = [divergence for divergence in found if divergence is not None]
    if diverged:
        message = _message(diverged, support)
        warnings.warn(message, DivergenceWarning, stacklevel=4)


def _looked_at(
    problem: Problem, theta: NDArray[Any], support: Rows, task: int
) -> Divergence | None:
    rows = support.part(task, task + 1)
    losses = [_loss(problem, theta, rows, steps) for steps in range(problem.steps + 1)]
    limit = GROWTH * losses[0]
    if losses[-1] <= limit:
        return None
    step = next(s for s, loss in enumerate(losses) if not loss <= limit)
    per_layer, per_parameter, _ = problem.rate
    rates = per_parameter if per_layer is None else per_layer[max(step - 1, 0)]
    assert rates is not None
    return Divergence(task, max(step, 1), rates, losses[0], losses[-1])


def _loss(problem: Problem, theta: NDArray[Any], rows: Rows, steps: int) -> float:
    """The support loss of one task after the first `steps` inner steps."""
    rate = problem.rate
    if rate.per_layer is not None:
        rate = rate._replace(per_layer=rate.per_layer[:steps])
    shorter = replace(problem, steps=steps, rate=rate, _plans={}, _rates={})
    adapted = run.adapt(shorter, theta, rows)[0] if steps else theta[None]
    return float(run.hessian_products(problem.model, adapted, None, rows, problem.loss).values[0])


def _message(diverged: Sequence[Divergence], support: Rows) -> str:
    names = _names.get()
    called = [f"{d.task if names is None else names[d.task]!r}" for d in diverged[:SHOWN]]
    first = "the task" if support.single and names is None else f"task {called[0]}"
    _, step, rates, before, after = diverged[0]
    low, high = rates.min(), rates.max()
    rate = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    who = ""
    if support.n_tasks > 1:
        more = ", ..." if len(diverged) > SHOWN else ""
        who = f" ({len(diverged)} of {support.n_tasks} tasks diverged: {', '.join(called)}{more})"
    return (
        f"{first} diverged in inner step {step}, at inner_lr {rate}: its support loss went from "
        f"{before:.3g} to {after:.3g}{who}; a smaller inner_lr, or data scaled to about 1, "
        "usually helps"
    )
