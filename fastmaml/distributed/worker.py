"""What runs on a worker: it keeps the tasks of its shares, and sums up what theta is worth on them.

A worker is told all by its messages, so one that is new, or that was started again, is asked for
shares that it lacks, answers so, and is sent them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pickle import dumps, loads
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..checks import shown
from ..kernels.compile import jit
from ..learn.loop import arguments
from ..runtime import threads
from ..version import __version__
from .sums import Node, TreeSum

__all__ = ["Failed", "Lacking", "Other", "Request", "Sums", "fleet_work", "forget", "keep"]


class Request(NamedTuple):
    """What a worker is asked."""

    fleet: str  # whose shares
    objective: bytes
    theta: NDArray[Any]
    mode: str  # "value", "gradient" or "rates"
    others: bool  # whether to leave out the tasks that diverge
    seed: int | None  # what a sampler draws from
    n_terms: int
    own: list[int]  # the shares that this worker has
    wanted: list[tuple[int, int]]  # and those to compute: place in the sum, and share


class Sums(NamedTuple):
    """The answer: sums of terms (value, number of tasks, gradient, gradient of the rates)."""

    nodes: dict[Node, NDArray[Any]]
    #: if they were to be left out, by place: how many tasks there are, and which diverged
    diverged: dict[int, tuple[int, list[int]]]


class Lacking(NamedTuple):
    """The answer of a worker that was not given the tasks of these shares, or not the function."""

    shares: list[int]


class Failed(NamedTuple):
    """The answer where a share raised an error."""

    share: int
    error: Exception


class Other(NamedTuple):
    """The answer of a worker with another version."""

    version: str


@dataclass
class _Kept:
    """What a worker has of a fleet."""

    source: tuple[str, Callable[..., Any]] | None = None  # "loader" or "sampler", and the function
    tasks: dict[int, tuple[Any, ...]] = field(default_factory=dict)


#: of each worker (a process may have several), and each fleet
_kept: WeakKeyDictionary[Any, dict[str, _Kept]] = WeakKeyDictionary()


async def fleet_work(version: str, asked: tuple[Any, ...], dask_worker: Any) -> Any:
    """Compute a `Request` in the worker's own thread pool, so that its heart goes on beating."""
    _quiet()
    if version != __version__:  # whose requests may have other fields
        return Other(__version__)
    request = Request(*asked)
    kept = _kept.setdefault(dask_worker, {}).setdefault(request.fleet, _Kept())
    for share in set(kept.tasks) - set(request.own):  # they are somebody else's now
        del kept.tasks[share]
    if kept.source is None:
        lacking = [share for _, share in request.wanted if share not in kept.tasks]
        if lacking:
            return Lacking(lacking)
    compute = partial(_compute, request, kept, dask_worker.state.nthreads)
    try:
        answer = asyncio.get_running_loop().run_in_executor(
            dask_worker.executors["default"], compute
        )
    except RuntimeError as error:  # the pool is shut down: the worker is about to end
        return ConnectionError(str(error))
    return await answer


def keep(
    fleet: str, source: tuple[str, bytes] | None, tasks: dict[int, Any], dask_worker: Any
) -> Failed | None:
    """Take in the function that gives the tasks, or the tasks of some shares."""
    kept = _kept.setdefault(dask_worker, {}).setdefault(fleet, _Kept())
    if source is not None:
        try:
            kept.source = source[0], loads(source[1])
        except Exception as error:
            return Failed(-1, _sendable(error))
    kept.tasks.update(tasks)
    return None


def forget(fleet: str, dask_worker: Any) -> None:
    """Drop what was kept of a fleet."""
    _kept.get(dask_worker, {}).pop(fleet, None)


@lru_cache(maxsize=1)
def _quiet() -> None:
    """Let Dask not log a line for each call."""
    logging.getLogger("distributed.worker").addFilter(
        lambda record: record.args != (fleet_work.__name__,)
    )


@lru_cache(maxsize=4)
def _objective(pickled: bytes) -> Any:
    """The objective that sums over its tasks; kept, for it remembers its plans."""
    return loads(pickled)


def _compute(request: Request, kept: _Kept, n_threads: int) -> Sums | Failed:
    sums = TreeSum(request.n_terms)
    diverged = {}
    share = -1
    try:
        objective = _objective(request.objective)
        # Dask sets OMP_NUM_THREADS only, and only in processes that its nanny starts.
        with threads(min(n_threads, jit.thread_limit())):
            for place, share in request.wanted:
                tasks = _tasks(kept, share, request.seed)
                term = _term(objective, request.theta, tasks, request.mode)
                if request.others:
                    term, bad = _others(objective, request.theta, tasks, request.mode, term)
                    diverged[place] = len(tasks[0]), bad
                sums.put((0, place), term)
    except BaseException as error:  # a user's sys.exit() would leave the worker without an answer
        return Failed(share, _sendable(error))
    return Sums(sums.nodes, diverged)


def _tasks(kept: _Kept, share: int, seed: int | None) -> tuple[Any, ...]:
    """The tasks of a share: kept, loaded now and kept, or drawn anew."""
    if kept.source is None or share in kept.tasks:
        return kept.tasks[share]
    kind, function = kept.source
    if kind == "sampler":
        return as_tasks_of_share(function(np.random.default_rng([seed or 0, share])))
    kept.tasks[share] = as_tasks_of_share(function(share))
    return kept.tasks[share]


def as_tasks_of_share(given: Any) -> tuple[Any, ...]:
    """Return a tuple of arrays or lists with an axis of tasks; a single task gets one."""
    try:
        tasks: tuple[Any, ...] = tuple(
            part if part is None or isinstance(part, list | tuple) else np.asarray(part)
            for part in given
        )
        single = len(tasks[0]) and np.ndim(tasks[0][0]) == 1  # a row of inputs
    except (TypeError, IndexError):
        raise TypeError(
            f"tasks is {shown(given)}; accepted are (x, y) and (x, y, x_query, y_query)"
        ) from None
    if single:
        return tuple(part if part is None else np.asarray(part)[None] for part in tasks)
    return tasks


def _term(
    objective: Any, theta: NDArray[Any], tasks: tuple[Any, ...], mode: str
) -> NDArray[np.float64]:
    n_tasks = len(tasks[0])
    rows, weights = arguments(objective, tasks)
    if mode == "value":
        return np.array([objective.value(theta, *rows, **weights), n_tasks])
    if mode == "rates":
        result = objective.evaluate(theta, *rows, **weights)
        rates = np.ravel(result.inner_lr_gradient)
        return np.concatenate([[result.value, n_tasks], result.gradient, rates], dtype=np.float64)
    value, gradient = objective.value_and_gradient(theta, *rows, **weights)
    return np.concatenate([[value, n_tasks], gradient], dtype=np.float64)


def _others(
    objective: Any, theta: NDArray[Any], tasks: tuple[Any, ...], mode: str,
    term: NDArray[np.float64],
) -> tuple[NDArray[np.float64], list[int]]:  # fmt: skip
    """The term of the tasks that do not diverge on their own, and which ones do."""
    if np.isfinite(term).all():
        return term, []
    n_tasks = len(tasks[0])
    alone = [_term(objective, theta, _some(tasks, [i]), mode) for i in range(n_tasks)]
    good = [i for i, each in enumerate(alone) if np.isfinite(each).all()]
    bad = sorted(set(range(n_tasks)) - set(good))
    if good and bad:
        term = _term(objective, theta, _some(tasks, good), mode)
    elif bad:
        term = np.zeros_like(term)
    return term, bad


def _some(tasks: tuple[Any, ...], indices: list[int]) -> tuple[Any, ...]:
    return tuple(
        part if part is None
        else part[indices] if isinstance(part, np.ndarray)
        else [part[i] for i in indices]
        for part in tasks
    )  # fmt: skip


def _sendable(error: BaseException) -> Exception:
    """The error itself if it can travel, and is none that ends a process."""
    if isinstance(error, Exception):
        with suppress(Exception):
            loads(dumps(error))
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")
