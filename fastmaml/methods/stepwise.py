"""Methods that differentiate through the inner steps: planned, launched, and where need be anew.

Each is an object that plans for sizes, launches its kernel on a piece of the plan, and brings the
gradient of the rates to its canonical form. What all of them do alike stands here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT32, FLOAT64, all_finite, require_finite, require_memory
from ..kernels.methods.modes import GRADIENT, RATES, VALUE
from ..plan import Plan, Sizes
from ..rates import InnerRate
from ..tasks import Rows
from ..workspace import borrow
from .base import Method, Problem, Result

__all__ = [
    "ByParameter", "Stepwise", "StepwisePlan", "in_float64", "is_finite", "order_of",
    "padded_rates", "plan_for", "rates_by_parameter", "sizes_key",
]  # fmt: skip

#: tasks of different sizes up to which their plan is remembered, and plans of a problem
REMEMBERED_TASKS, REMEMBERED_PLANS = 1000, 64
#: numbers of the data that are copied at a time where float32 overflowed
ANEW_NUMBERS = 1_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class StepwisePlan(Plan):
    """A plan, and what the method that made it hands to its kernel in every call.

    It knows nothing of the rates but their form, and so stays when they are learned.
    """

    method: Stepwise
    table: NDArray[np.int64]
    # boundaries in tasks, of which chunks are made; empty where unused
    blocks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def is_finite(result: Result, mode: int, theta: NDArray[Any] | None = None) -> bool:
    """Whether the result is finite, and theta too if it is given."""
    if mode == VALUE:
        return all_finite(result.task_values) and (theta is None or all_finite(theta))
    # A residual that is not finite is in the gradient, too. The square of a finite one may not be:
    # of the methods, only ``explicit`` can then still have a finite gradient.
    finite = all_finite(result.gradient, theta)
    return finite and (mode == GRADIENT or all_finite(result.rate_gradient))


class Stepwise(Method):
    """A method that takes the inner steps and goes back through them."""

    def refuses(self, problem: Problem) -> str | None:
        """What a problem has that the method has not, as the text of an error, or None."""
        if problem.proximal is None:
            return None
        return (
            f'proximal is {problem.proximal}, order is "{problem.order}"; '
            'accepted is None, or order="implicit"'
        )

    def suits(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes) -> bool:
        """Whether it is faster than the methods that come after it."""
        return True

    @abstractmethod
    def plan(self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes, mode: int) -> StepwisePlan:
        """How a batch of such sizes is worked."""

    @abstractmethod
    def launch(
        self, problem: Problem, plan: StepwisePlan, workers: int, theta: NDArray[Any],
        support: Rows, query: Rows, first: int, last: int, buffers: list[NDArray[Any]],
        result: Result,
    ) -> None:  # fmt: skip
        """Work chunks first:last; `buffers` are those of ``plan.layout``."""

    def canonical(
        self, problem: Problem, plan: StepwisePlan, total: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The gradient of the rates in their canonical form: (S, n_layers) or (P,)."""
        if problem.rate.per_layer is not None:
            return total.reshape(problem.rate.per_layer.shape)
        return total[problem.model.compiled(plan.dtype).padded_index]

    def solve(
        self, problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
        check: bool,
    ) -> Result:  # fmt: skip
        """Compute by the problem's methods, or `_anew` where the result does not stand.

        With `check`, NaN or inf in theta is an error. (That comes after the fact because theta and
        the gradient are looked through in one go.)
        """
        result = _solve(problem, theta, support, query, mode)
        if self.stands(result, mode, theta if check else None):
            return result
        if check:
            require_finite("theta", theta, ("parameter",))
        return _anew(problem, theta, support, query, mode, result)

    #: whether a result stands as it is, and theta is finite if it is given
    stands = staticmethod(is_finite)

    def lengths(self, problem: Problem, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Numbers of the vectors that a plan speaks of: with padding."""
        compiled = problem.model.compiled(dtype)
        rates, parameter_rates = padded_rates(problem, dtype)
        return {
            "n_gradient": compiled.n_padded, "n_total": compiled.n_padded,
            "n_shared": compiled.n_padded + compiled.n_derived,
            "n_rates": parameter_rates.size or rates.size,
        }  # fmt: skip

    def planned(
        self, problem: Problem, dtype: np.dtype[Any], sizes: Sizes, mode: int, scratch: int,
        **others: Any,
    ) -> StepwisePlan:  # fmt: skip
        """The plan of what methods have alike and of the others' fields.

        MemoryError if a worker needs more scratch than the machine has.
        """
        require_memory(
            scratch * dtype.itemsize,
            f"method {self.name} with steps {problem.steps}, {problem.model!r} and "
            f"{sizes.longest} rows of a task",
        )
        return StepwisePlan(
            method=self, mode=mode, dtype=dtype, scratch=scratch, max_memory=problem.max_memory,
            **self.lengths(problem, dtype), **others,
        )  # fmt: skip


class ByParameter(Stepwise):
    """One whose kernel takes a rate for each step and parameter, (S, P), in plain layout.

    It computes tasks' values in another way than gradients, so it looks through both.
    """

    def lengths(self, problem: Problem, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Numbers of the vectors that a plan speaks of: plain ones, of which none is shared."""
        n_params = problem.model.n_params
        n_rates = problem.steps * n_params
        return {"n_gradient": n_params, "n_total": 0, "n_shared": 0, "n_rates": n_rates}

    def canonical(
        self, problem: Problem, plan: StepwisePlan, total: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The gradient of the rates in their canonical form: (S, n_layers) or (P,)."""
        total = total.reshape(problem.steps, problem.model.n_params)
        with np.errstate(all="ignore"):  # no other method warns of tasks that diverged
            if problem.rate.per_layer is None:
                return total.sum(axis=0)
            starts = [layer.start for layer in problem.model.layers().values()]
            return np.add.reduceat(total, starts, axis=1)

    @staticmethod
    def stands(result: Result, mode: int, theta: NDArray[Any] | None = None) -> bool:
        """Whether the result is finite, values too, and theta if it is given."""
        return is_finite(result, mode, theta) and all_finite(result.task_values)


def _anew(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int, result: Result
) -> Result:  # fmt: skip
    """What stands for a result that is not finite: the same whichever method it comes from.

    On numbers near the largest of a dtype, the methods overflow in different places: one forms
    products of inputs, another those of slopes, before a small rate multiplies them. float32 is
    therefore done again in float64, by the first of ``problem.anew``. In float64 the first of
    these counts whose result is finite, and the first if none is: tasks have diverged.

    The choice is made for the whole call, and the tasks are worked in runs that depend on their
    sizes only, so the bits depend on neither threads nor `max_memory`.
    """
    if theta.dtype == FLOAT32:
        return _anew_in_float64(problem, theta, support, query, mode)
    found = {plan_for(problem, theta.dtype, support, query, mode).method: result}
    for method in problem.anew:
        if method.refuses(problem):
            continue
        if method not in found:
            found[method] = _solve(problem, theta, support, query, mode, method)
        if is_finite(found[method], mode):
            return found[method]
    return found[problem.anew[0]]


def _anew_in_float64(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int
) -> Result:  # fmt: skip
    def as_float32(rates: NDArray[Any] | None) -> NDArray[Any] | None:  # where a tiny one is 0
        return None if rates is None else rates.astype(FLOAT32).astype(FLOAT64)

    per_layer, per_parameter, shape = problem.rate
    rate = InnerRate(as_float32(per_layer), as_float32(per_parameter), shape)
    wide = problem.with_rate(rate)

    def solve(theta: NDArray[Any], support: Rows, query: Rows) -> Result:
        return _solve(wide, theta, support, query, mode, problem.anew[0])

    return in_float64(solve, theta, support, query, mode)


def in_float64(
    solve: Callable[[NDArray[Any], Rows, Rows], Result], theta: NDArray[Any], support: Rows,
    query: Rows, mode: int,
) -> Result:  # fmt: skip
    """What `solve` gives for a float32 problem in float64, back in float32.

    The tasks are worked in runs that depend on their sizes only.
    """

    def widened(rows: Rows) -> Rows:
        return rows._replace(x=rows.x.astype(FLOAT64), y=rows.y.astype(FLOAT64))

    n_tasks, wide = support.n_tasks, theta.astype(FLOAT64)
    numbers = support.x.size + support.y.size + query.x.size + query.y.size
    runs = min(n_tasks, -(-numbers // ANEW_NUMBERS))  # as few copies at a time
    ends = np.linspace(0, n_tasks, runs + 1).astype(int).tolist()
    values = []
    gradient = np.zeros(len(theta) if mode > VALUE else 0)
    rate_gradient: Any = 0.0
    for first, last in pairwise(ends):
        part = solve(wide, widened(support.part(first, last)), widened(query.part(first, last)))
        values.append(part.task_values)
        with np.errstate(all="ignore"):
            gradient += part.gradient
            rate_gradient = rate_gradient + part.rate_gradient
    with np.errstate(all="ignore"):  # what float32 cannot hold becomes inf
        return Result(np.concatenate(values), gradient.astype(theta.dtype), rate_gradient)


def _solve(
    problem: Problem, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
    method: Stepwise | None = None,
) -> Result:  # fmt: skip
    """Run a method, by default the one of the problem's that suits, on a batch of tasks."""
    plan = plan_for(problem, theta.dtype, support, query, mode, method)
    workers, piece, layout = plan.split()
    result = Result(
        np.empty(support.n_tasks),
        np.zeros(problem.model.n_params if mode > VALUE else 0, theta.dtype),
        np.zeros(plan.n_rates if mode == RATES else 0),
    )
    launch, n_chunks = plan.method.launch, len(plan.chunks) - 1
    with borrow(layout) as buffers:
        for first in range(0, n_chunks, piece):
            last = min(first + piece, n_chunks)
            launch(problem, plan, workers, theta, support, query, first, last, buffers, result)
    if mode == RATES:
        rates = plan.method.canonical(problem, plan, result.rate_gradient)
        result = result._replace(rate_gradient=rates)
    return result


def plan_for(
    problem: Problem, dtype: np.dtype[Any], support: Rows, query: Rows, mode: int,
    method: Stepwise | None = None,
) -> StepwisePlan:  # fmt: skip
    """The plan for a batch, of a given method or the problem's; remembered unless it is long."""
    if max(len(support.offsets), len(query.offsets)) > REMEMBERED_TASKS and (
        support.ragged or query.ragged
    ):
        return _plan(problem, dtype, support, query, mode, method)
    weighted = support.weighted, query.weighted
    key = dtype, sizes_key(support), sizes_key(query), weighted, mode, method
    plan: StepwisePlan | None = problem._plans.get(key)
    if plan is None:
        plan = _plan(problem, dtype, support, query, mode, method)
        if len(problem._plans) >= REMEMBERED_PLANS:
            problem._plans.clear()
        problem._plans[key] = plan
    return plan


def sizes_key(rows: Rows) -> tuple[int, int] | bytes:
    """A batch's numbers of rows, as a key."""
    n_tasks = rows.n_tasks
    return rows.offsets.tobytes() if rows.ragged else (n_tasks, len(rows.x) // n_tasks)


def _plan(
    problem: Problem, dtype: np.dtype[Any], support: Rows, query: Rows, mode: int,
    method: Stepwise | None,
) -> StepwisePlan:  # fmt: skip
    sizes = Sizes.of(support, query)
    if method is None:
        *others, method = problem.methods
        method = next((each for each in others if each.suits(problem, dtype, sizes)), method)
    assert method is not None
    return method.plan(problem, dtype, sizes, mode)


def rates_by_parameter(problem: Problem, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The rates of each step and parameter, (S, P)."""
    key = rates_by_parameter, dtype
    found: NDArray[Any] | None = problem._rates.get(key)
    if found is None:
        per_layer, per_parameter, _ = problem.rate
        if per_layer is None:
            assert per_parameter is not None
            found = np.tile(per_parameter, (problem.steps, 1)).astype(dtype)
        else:
            widths = [layer.stop - layer.start for layer in problem.model.layers().values()]
            found = np.repeat(per_layer, widths, axis=1).astype(dtype)
        problem._rates[key] = found
    return found


def order_of(problem: Problem, mode: int) -> int:
    """The highest derivative of f that a call takes, in `Compiled.reaching`."""
    return 2 if problem.order == "exact" and mode > VALUE else 1


def padded_rates(problem: Problem, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The rates as kernels that work with padded vectors take them.

    They are (S, n_layers), and padded (P,), or empty unless each parameter has one.
    """
    found: tuple[NDArray[Any], NDArray[Any]] | None = problem._rates.get(dtype)
    if found is None:
        model, (per_layer, per_parameter, _) = problem.model, problem.rate
        if per_layer is not None:
            found = per_layer.astype(dtype), np.zeros(0, dtype)
        else:
            compiled = model.compiled(dtype)
            padded = np.zeros(compiled.n_padded, dtype)
            padded[compiled.padded_index] = per_parameter
            found = np.zeros((problem.steps, model.n_layers), dtype), padded
        problem._rates[dtype] = found
    return found
