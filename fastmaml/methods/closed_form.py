"""The last layer in closed form: planned, launched, and computed anew where float32 overflowed.

The mathematics is that of ``kernels/methods/closed_form.py``. A call is a loss with its gradient,
or what is known after the support rows: predictions at new rows, or the posterior itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT32, FLOAT64, all_finite, require_finite, require_memory
from ..family import Family
from ..kernels.compile.records import View
from ..kernels.methods import closed_form as kernels
from ..kernels.methods import posterior as posterior_kernels
from ..kernels.methods.modes import GRADIENT, RATES, VALUE
from ..kernels.methods.systems import addresses
from ..kernels.models.layers import _padded as padded
from ..kernels.vectors.emitter import LANES, on_line
from ..plan import Plan, Sizes, chunks_of
from ..tasks import Rows, offsets_of
from ..workspace import Layout, borrow
from .base import Method, Result
from .stepwise import (
    ANEW_NUMBERS,
    REMEMBERED_PLANS,
    REMEMBERED_TASKS,
    in_float64,
    is_finite,
    sizes_key,
)

__all__ = [
    "CLOSED_FORM", "ClosedForm", "HeadProblem", "Posteriors", "not_finite", "posterior", "predict",
]  # fmt: skip

#: rows of a block, enough for large products with the weights that tasks share
BLOCK_ROWS = 128
#: chunks of a batch of enough tasks, so that as many threads find work
CHUNKS = 8
#: what a plan is for, beside the modes: predictions, with their variances, and posteriors
PREDICT, PREDICT_STD, ADAPT = "predict", "predict with std", "adapt"


@dataclass(eq=False)
class HeadProblem:
    """All that the method needs to know beside theta and the data."""

    model: Family
    scale: float  # of the loss
    mean: bool  # whether it is divided by a task's number of query rows
    density: bool  # whether the loss is a negative log density
    n_prior: int  # log prior variances, 1 or one for each feature
    n_noise: int  # log noise variances, 1 or one for each output
    max_memory: int  # bytes
    methods: tuple[Any, ...] = ()
    targets: ClassVar[tuple[None, None]] = (None, None)  # a number for each output, on both sides
    _plans: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadPlan(Plan):
    """A plan, and what is handed to the kernel in every call."""

    table: NDArray[np.int64]
    sizes: NDArray[np.int64]  # see SIZES of the kernel, and the addresses of this process
    blocks: NDArray[np.int64]  # boundaries in tasks, of which chunks are made
    systems: int  # float64 numbers a worker
    n_prior: int  # float64 numbers of the prior and the noise

    def layout(self, workers: int, piece: int) -> Layout:
        """Of the arrays of a call.

        Scratch for passes and for systems, rows of gradients, their total, theta as passes take it,
        prior and noise.
        """
        with_gradient = self.mode > VALUE
        return Layout(
            (self.dtype, (workers, self.scratch)),
            (FLOAT64, (workers, self.systems)),
            (self.dtype, (piece if with_gradient else 0, self.n_gradient)),
            (self.dtype, (self.n_total if with_gradient else 0,)),
            (self.dtype, (self.n_shared,)),
            (FLOAT64, (self.n_prior,)),
        )


class Posteriors(NamedTuple):
    """Of each task: mean (n_tasks, n_out, p), and the factor of the precision (n_tasks, p, p)."""

    mean: NDArray[Any]
    scale: NDArray[Any]


class ClosedForm(Method):
    """It is for stacks of weight layers: the last of them adapts."""

    name = "closed_form"
    kernels = (kernels.closed_form, posterior_kernels.posteriors)

    def refuses(self, problem: Any) -> str | None:
        """What a problem has that the method has not, as the text of an error, or None."""
        if problem.model.layer_sizes is None:
            return f"model is {problem.model!r}, without weight layers; accepted are MLP and Linear"
        return None

    def solve(
        self, problem: Any, theta: NDArray[Any], support: Rows, query: Rows, mode: int,
        check: bool,
    ) -> Result:  # fmt: skip
        """Compute what `mode` says; with `check`, NaN or inf in theta is an error.

        float32 that overflowed is computed again in float64.
        """
        mode = GRADIENT if mode == RATES else mode
        result = _solve(problem, theta, support, query, mode)
        if is_finite(result, mode, theta if check else None):
            return result
        if check:
            require_finite("theta", theta, ("parameter",))
        if theta.dtype != FLOAT32:
            return result
        wide = replace(problem, _plans={})

        def solve(theta: NDArray[Any], support: Rows, query: Rows) -> Result:
            return _solve(wide, theta, support, query, mode)

        return in_float64(solve, theta, support, query, mode)

    def warm(self, problem: Any, theta: NDArray[Any], rows: Rows) -> None:
        """Run once what the method's file has, so that it is compiled."""
        super().warm(problem, theta, rows)
        addresses((False, True), back=True)
        posterior(problem, theta, rows)


CLOSED_FORM = ClosedForm()


def _solve(
    problem: HeadProblem, theta: NDArray[Any], support: Rows, query: Rows, mode: int
) -> Result:
    plan = _plan_for(problem, theta.dtype, support, query, mode)
    workers, piece, layout = plan.split()
    size = len(theta) if mode > VALUE else 0
    result = Result(np.empty(support.n_tasks), np.zeros(size, theta.dtype), np.zeros(0))
    n_chunks = len(plan.chunks) - 1
    with borrow(layout) as (passes, systems, rows, total, shared, prior):
        for first in range(0, n_chunks, piece):
            kernels.closed_form(
                workers, plan.table, theta, shared, prior, support.x, support.y, support.offsets,
                query.x, query.y, query.offsets, plan.chunks, first, min(first + piece, n_chunks),
                plan.blocks, problem.scale, problem.mean, plan.sizes, mode, passes,
                systems, rows, total, result.task_values, result.gradient,
            )  # fmt: skip
    return result


def predict(
    problem: HeadProblem, theta: NDArray[Any], support: Rows, new: Rows, with_std: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Means (N, n_out) of the predictions at new rows, and standard deviations (empty without)."""

    def compute(theta: NDArray[Any], support: Rows, new: Rows) -> tuple[NDArray[Any], NDArray[Any]]:
        shape = len(new.x), problem.model.n_outputs
        f = np.empty(shape, theta.dtype)
        std = np.empty(shape if with_std else (0, 0), theta.dtype)
        nothing = np.empty((0, 0, 0), theta.dtype)
        what = PREDICT_STD if with_std else PREDICT
        _posteriors(problem, theta, support, new, what, (f, std, nothing, nothing))
        return f, std

    return _finite_or_anew(compute, theta, support, new, new.offsets)


def posterior(problem: HeadProblem, theta: NDArray[Any], support: Rows) -> Posteriors:
    """The posterior of each task's last layer."""
    n_out, p = problem.model.n_outputs, features_of(problem.model)
    none = Rows(support.x[:0], support.y[:0], offsets_of(support.n_tasks, 0), ragged=False)

    def compute(
        theta: NDArray[Any], support: Rows, none: Rows
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        shapes = (support.n_tasks, n_out, p), (support.n_tasks, p, p)
        mean, scale = (np.empty(shape, theta.dtype) for shape in shapes)
        nothing = np.empty((0, 0), theta.dtype)
        _posteriors(problem, theta, support, none, ADAPT, (nothing, nothing, mean, scale))
        return mean, scale

    by_task = offsets_of(support.n_tasks, 1)
    return Posteriors(*_finite_or_anew(compute, theta, support, none, by_task))


def _finite_or_anew(
    compute: Any, theta: NDArray[Any], support: Rows, new: Rows, ends: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What `compute` gives; of tasks whose float32 results overflowed, what float64 gives.

    Task i has the results ``ends[i]:ends[i + 1]``. Those that are computed anew are worked in runs
    of about `ANEW_NUMBERS` numbers; all others keep their bits.
    """
    found: tuple[NDArray[Any], NDArray[Any]] = compute(theta, support, new)
    if theta.dtype != FLOAT32 or (all_finite(found[0]) and all_finite(found[1])):
        return found
    again, wide = not_finite(found, ends), theta.astype(FLOAT64)
    width = sum(part.size // max(len(part), 1) for part in found)
    numbers = np.diff(ends)[again] * width
    for rows in (support, new):
        numbers += np.diff(rows.offsets)[again] * (rows.x.shape[1] + rows.y.shape[1])
    runs = np.cumsum(numbers) // ANEW_NUMBERS
    for tasks in np.split(again, np.flatnonzero(np.diff(runs)) + 1):
        parts = compute(wide, _taken(support, tasks), _taken(new, tasks))
        at = _places(ends, tasks)
        with np.errstate(all="ignore"):  # what float32 cannot hold becomes inf
            for whole, part in zip(found, parts, strict=True):
                if len(whole):
                    whole[at] = part
    return found


def not_finite(results: tuple[NDArray[Any], ...], ends: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the tasks of which a result is not finite; task i has ``ends[i]:ends[i + 1]``."""
    bad = np.zeros(len(ends) - 1, bool)
    for result in results:
        step = max(1, ANEW_NUMBERS * len(result) // max(result.size, 1))
        for first in range(0, len(result), step):
            part = np.isfinite(result[first : first + step])
            wrong = first + np.flatnonzero(~part.all(axis=tuple(range(1, part.ndim))))
            bad[np.searchsorted(ends, wrong, "right") - 1] = True
    return np.flatnonzero(bad)


def _taken(rows: Rows, tasks: NDArray[np.intp]) -> Rows:
    """Some tasks alone, in float64."""
    at = _places(rows.offsets, tasks)
    x, y = (part[at if len(part) else slice(None)].astype(FLOAT64) for part in (rows.x, rows.y))
    offsets = np.cumsum([0, *np.diff(rows.offsets)[tasks]], dtype=np.int64)
    offsets.flags.writeable = False  # as those of all Rows: Numba sees one type
    return Rows(x, y, offsets, rows.ragged, weighted=rows.weighted)


def _places(ends: NDArray[np.int64], tasks: NDArray[np.intp]) -> NDArray[np.int64]:
    """Where the rows of some tasks are."""
    return np.concatenate([np.arange(ends[i], ends[i + 1]) for i in tasks])


def _posteriors(
    problem: HeadProblem, theta: NDArray[Any], support: Rows, new: Rows, what: str,
    out: tuple[NDArray[Any], ...],
) -> None:  # fmt: skip
    plan = _plan_for(problem, theta.dtype, support, new, what)
    workers, piece, layout = plan.split()
    n_blocks = len(plan.blocks) - 1
    with borrow(layout) as (passes, systems, _, _, shared, prior):
        for first in range(0, n_blocks, piece):
            posterior_kernels.posteriors(
                workers, plan.table, theta, shared, prior, support.x, support.y, support.offsets,
                new.x, new.offsets, plan.blocks, first, min(first + piece, n_blocks), plan.sizes,
                passes, systems, *out,
            )  # fmt: skip


def features_of(model: Family) -> int:
    """How many features the last layer has, with the 1 of its bias."""
    sizes = model.layer_sizes
    assert sizes is not None
    last = list(model.layers().values())[-1]
    return (last.stop - last.start) // sizes[-1]


def _plan_for(
    problem: HeadProblem, dtype: np.dtype[Any], support: Rows, query: Rows, what: int | str
) -> HeadPlan:
    """The plan for a batch, remembered unless it is long."""
    if max(len(support.offsets), len(query.offsets)) > REMEMBERED_TASKS and (
        support.ragged or query.ragged
    ):
        return _plan(problem, dtype, Sizes.of(support, query), what)
    weighted = support.weighted, query.weighted
    key = dtype, sizes_key(support), sizes_key(query), weighted, what
    plan: HeadPlan | None = problem._plans.get(key)
    if plan is None:
        plan = _plan(problem, dtype, Sizes.of(support, query), what)
        if len(problem._plans) >= REMEMBERED_PLANS:
            problem._plans.clear()
        problem._plans[key] = plan
    return plan


def dual_limit(p: int) -> int:
    """Support rows up to which the system of a task is K × K; with more it is p × p."""
    return p


def _plan(problem: HeadProblem, dtype: np.dtype[Any], sizes: Sizes, what: int | str) -> HeadPlan:
    model, n_tasks = problem.model, sizes.n_tasks
    compiled, p, m = model.compiled(dtype), features_of(model), model.n_outputs
    counts = set(zip(sizes.counts.tolist(), sizes.query_counts.tolist(), strict=True))
    offsets = sizes.offsets + sizes.query_offsets
    ends = offsets
    if offsets[-1] == 0 or np.diff(offsets).min() == 0:  # tasks without any row
        ends = offsets + np.arange(n_tasks + 1)
    wanted = -(-int(ends[-1]) // (BLOCK_ROWS * CHUNKS)) * CHUNKS
    blocks = chunks_of(ends, wanted)
    lanes, itemsize = LANES[FLOAT64], FLOAT64.itemsize
    numbers = {
        "ld": padded(p, lanes, itemsize),
        "ld_out": padded(m, lanes, itemsize),
        "limit": -1 if what == ADAPT else dual_limit(p),
        "n_prior": problem.n_prior,
        "n_noise": problem.n_noise,
        "density": problem.density if isinstance(what, int) else what == PREDICT_STD,
        "rows": int(np.diff(offsets[blocks]).max()),
        "longest": int(sizes.query_counts.max()),
        "ld_y": m + sizes.weighted[0],
        "ld_y_query": m + sizes.weighted[1],
    }
    numbers["system"] = on_line(kernels.system_size(p, m, numbers, counts))
    passes, systems = kernels.room_for(View(compiled.table), numbers)
    require_memory(
        passes * dtype.itemsize + systems * itemsize,
        f"{model!r} in closed form with {sizes.longest} rows of a task",
    )
    mode = what if isinstance(what, int) else VALUE
    forms = {k > numbers["limit"] for k, _ in counts} if what != ADAPT else ()
    reached = addresses(forms, mode > VALUE)
    n_gradient = on_line(compiled.n_padded + numbers["ld"] + m)
    of_rows = (6 if mode > VALUE else 2) * model.n_params * sum(sizes.rows)
    of_tasks = sum(min(k, p) * (k + q + p) * p for k, q in counts) * n_tasks // len(counts)
    return HeadPlan(
        mode=mode, dtype=dtype, chunks=np.arange(len(blocks), dtype=np.int64),
        work=of_rows + 4 * of_tasks, scratch=passes, systems=systems, n_gradient=n_gradient,
        n_total=n_gradient, n_shared=compiled.n_padded + compiled.n_derived, n_rates=0,
        n_prior=numbers["ld"] + problem.n_noise, max_memory=problem.max_memory,
        table=compiled.table, blocks=blocks,
        sizes=np.concatenate([np.array([numbers[name] for name in kernels.SIZES]), reached]),
    )  # fmt: skip
