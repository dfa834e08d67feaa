"""Tasks whose inner steps diverge: found for next to nothing, and named with the step and the rate.

A kernel that adapts counts the parameters that are far larger than all of theta, or NaN. Only
where there are some are tasks looked into: one has diverged if its support loss is not finite at
the end, or `GROWTH` times what it was before the first step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .methods import dense
from .methods.base import Problem
from .tasks import Rows

__all__ = ["SUSPICIOUS", "DivergenceWarning", "called", "named_tasks", "warn_of_divergence"]

#: an adapted parameter this many times as large as theta is long (or as 1) is looked into
SUSPICIOUS = 30.0
#: numbers of an array (tasks, P) that are looked into at a time
BLOCK = 4_000_000
#: a support loss this many times what it was is a divergence
GROWTH = 100.0
#: how many tasks a message names
SHOWN = 5

_names: ContextVar[Sequence[Any] | None] = ContextVar("names", default=None)


class DivergenceWarning(RuntimeWarning):
    """The inner steps of some tasks diverged: what `adapt` and `predict` give for them is useless.

    Or, in closed form, the numbers overflowed. The message names the tasks, the step and the rate.
    To have an error instead: ``warnings.simplefilter("error", fastmaml.DivergenceWarning)``.

    Examples
    --------
    >>> import warnings
    >>> import fastmaml as fm
    >>> maml = fm.MAML(fm.Linear(1), inner_lr=10.0, steps=20)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", fm.DivergenceWarning)
    ...     adapted = maml.adapt([1.0, 2.0], [[[3.0]]], [[4.0]])
    >>> caught[0].category.__name__
    'DivergenceWarning'
    """


class Divergence(NamedTuple):
    """One task that diverged: in which step, at which rates, and its support loss."""

    task: int
    step: int  # from 1
    rates: NDArray[np.float64]
    before: float  # the first step
    after: float  # the last step


@contextmanager
def named_tasks(names: Sequence[Any] | None) -> Iterator[None]:
    """Let warnings inside a ``with`` block call the tasks by their names; None: by numbers."""
    token = _names.set(names)
    try:
        yield
    finally:
        _names.reset(token)


def warn_of_divergence(problem: Problem, theta: NDArray[Any], support: Rows) -> None:
    """Warn of the tasks that diverged, if any did."""
    block = max(1, BLOCK // len(theta))
    diverged: list[tuple[int, float, float]] = []
    for first in range(0, support.n_tasks, block):
        tasks = range(support.n_tasks)[first : first + block]
        rows = support.part(tasks.start, tasks.stop)
        before, after = _losses(problem, theta, rows, 0, problem.steps)
        pairs = zip(before, after, strict=True)
        found = np.flatnonzero([_grew(*pair, problem.loss.signed) for pair in pairs])
        diverged += [(tasks[int(i)], float(before[i]), float(after[i])) for i in found]
    if diverged:
        task, before_first, after_first = diverged[0]
        step = _first_step(problem, theta, support.part(task, task + 1))
        per_layer, per_parameter, _ = problem.rate
        rates = per_parameter if per_layer is None else per_layer[step - 1]
        assert rates is not None
        worst = Divergence(task, step, rates, before_first, after_first)
        message = _message(worst, [found[0] for found in diverged], support)
        warnings.warn(message, DivergenceWarning, stacklevel=4)


def _grew(before: float, after: float, signed: bool) -> bool:
    if signed:  # what may be below 0 has no ratio; it is of the size of 1 a row
        return not (math.isfinite(after) and (after - before) / GROWTH <= max(1.0, abs(before)))
    return not (math.isfinite(after) and after / GROWTH <= before)


def _first_step(problem: Problem, theta: NDArray[Any], task: Rows) -> int:
    """The step after which a task that diverged had done so, from 1.

    By doubling and halving: each look takes all steps until there.
    """

    def grown_after(steps: int) -> bool:
        before, after = _losses(problem, theta, task, 0, steps)[:, 0].tolist()
        return _grew(before, after, problem.loss.signed)

    low, high = 0, 1
    while high < problem.steps and not grown_after(high):
        low, high = high, min(2 * high, problem.steps)
    while high - low > 1:
        middle = (low + high) // 2
        if grown_after(middle):
            high = middle
        else:
            low = middle
    return high


def _losses(problem: Problem, theta: NDArray[Any], rows: Rows, *steps: int) -> NDArray[np.float64]:
    """The support losses (len(steps), n_tasks) of tasks after the first so many inner steps."""
    return np.array([_loss(problem, theta, rows, n) for n in steps])


def _loss(problem: Problem, theta: NDArray[Any], rows: Rows, steps: int) -> NDArray[np.float64]:
    rate = problem.rate
    if rate.per_layer is not None:
        rate = rate._replace(per_layer=rate.per_layer[:steps])
    shorter = replace(problem, steps=steps, rate=rate, _plans={}, _rates={})
    adapted = dense.adapt(shorter, theta, rows)[0] if steps else theta[None]
    return dense.hessian_products(problem.model, adapted, None, rows, problem.loss).values


def called(tasks: Sequence[int], rows: Rows, what: str) -> tuple[str, str]:
    """Return the first task by its name, and how many of all did what, the first of them by name.

    The second is empty for a single task.
    """
    names = _names.get()
    called = [f"{task if names is None else names[task]!r}" for task in tasks[:SHOWN]]
    first = "the task" if rows.single and names is None else f"task {called[0]}"
    who = ""
    if rows.n_tasks > 1:
        more = ", ..." if len(tasks) > SHOWN else ""
        who = f" ({len(tasks)} of {rows.n_tasks} tasks {what}: {', '.join(called)}{more})"
    return first, who


def _message(first: Divergence, tasks: Sequence[int], support: Rows) -> str:
    the_first, who = called(tasks, support, "diverged")
    low, high = first.rates.min(), first.rates.max()
    rate = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return (
        f"{the_first} diverged in inner step {first.step}, at inner_lr {rate}: its support loss "
        f"went from {first.before:.3g} to {first.after:.3g}{who}; a smaller inner_lr, or data "
        "scaled to about 1, usually helps"
    )
