"""A call of a fleet: what every worker is asked, until all shares are there.

It is one message to each worker and one answer of each. What is missing from the answers, because a
worker died, lacks tasks or has just come, is asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from uuid import uuid4

from numpy.typing import NDArray

from ..version import __version__
from .shares import assign
from .sums import TreeSum
from .worker import Failed, Lacking, Other, Request, Sums, fleet_work, forget, keep

__all__ = ["Shared", "drop", "gather"]

#: a share that was lost so often in one call, each time with its worker, is taken for the cause
MOST_LOSSES = 10
#: seconds until workers are looked for again: while there are none, and while answers are missing
PAUSE, PATIENCE = 0.1, 0.5


@dataclass
class Shared:
    """What the fleets that differ in their rates share: the tasks, and who has which."""

    client: Any  # distributed.Client
    n_shares: int
    tasks: list[tuple[Any, ...]] | None
    source: tuple[str, bytes] | None
    key: str = field(default_factory=lambda: uuid4().hex)
    owners: dict[int, str] = field(default_factory=dict)
    lock: Any = field(default_factory=Lock)


def gather(
    shared: Shared, request: Request, shares: list[int]
) -> tuple[NDArray[Any], dict[int, tuple[int, list[int]]]]:
    """The sum over all shares, and which of their tasks diverged."""
    client, sums = shared.client, TreeSum(len(shares))
    if client.status in ("closing", "closed"):
        raise RuntimeError("client is closed; accepted is one that is connected to its cluster")
    diverged: dict[int, tuple[int, list[int]]] = {}
    missing = dict(enumerate(shares))  # place in the sum: share
    losses: Counter[int] = Counter()
    while missing:
        workers = list(client.nthreads())
        if not workers:
            time.sleep(PAUSE)
            continue
        # Of all shares, also of those that are not asked for, so that they stay where they are.
        own = assign(range(shared.n_shares), workers, shared.owners)
        shared.owners = {share: worker for worker, part in own.items() for share in part}
        wanted: dict[str, list[tuple[int, int]]] = {}
        for place, share in missing.items():
            wanted.setdefault(shared.owners[share], []).append((place, share))
        requests = {
            worker: request._replace(own=own[worker], wanted=entries)
            for worker, entries in wanted.items()
        }
        asked = {w: (fleet_work, __version__, tuple(each)) for w, each in requests.items()}
        answers = client.sync(_ask, client, asked)
        failed = [answer for answer in answers.values() if isinstance(answer, Failed)]
        if failed:
            raise _in_share(min(failed, key=lambda answer: answer.share), shared.n_shares)
        lacking = {}
        for worker, answer in answers.items():
            if isinstance(answer, Sums):
                for node, term in answer.nodes.items():
                    sums.put(node, term)
                diverged |= answer.diverged
                for place, _ in wanted[worker]:
                    del missing[place]
            elif isinstance(answer, Lacking):
                tasks = shared.tasks and {share: shared.tasks[share] for share in answer.shares}
                lacking[worker] = keep, shared.key, shared.source, tasks or {}
            elif _is_loss(answer):
                losses.update(share for _, share in wanted[worker])
            else:
                raise _refusal(worker, answer)
        lost = [share for share, times in losses.items() if times >= MOST_LOSSES]
        if lost:
            some = ", ".join(map(str, sorted(lost)[:5])) + (", ..." if len(lost) > 5 else "")
            raise RuntimeError(
                f"{len(lost)} of {shared.n_shares} shares ({some}) were lost {MOST_LOSSES} times, "
                "each time with the worker that computed them, which may have too little memory: "
                "more shares are smaller ones"
            )
        if lacking:
            for worker, answer in client.sync(_ask, client, lacking).items():
                if isinstance(answer, Failed):
                    raise _unloadable(worker, answer, shared)
                if answer is not None and not _is_loss(answer):
                    raise _refusal(worker, answer)
    total = sums.total
    assert total is not None
    return total, diverged


def drop(shared: Shared) -> None:
    """Let the workers forget the tasks, if they can be reached."""
    client = shared.client
    with suppress(OSError):
        client.sync(_ask, client, dict.fromkeys(client.nthreads(), (forget, shared.key)))


async def _ask(client: Any, asked: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """What each worker answers to (function, *arguments): an OSError if it is gone."""
    # Not as Dask's tasks, which take 10 ms to come and go: the scheduler passes a call on at once.
    calls = {
        asyncio.ensure_future(client.run(*call, workers=[worker], on_error="return")): worker
        for worker, call in asked.items()
    }
    answers: dict[str, Any] = {}
    while calls:
        done, waiting = await asyncio.wait(calls, timeout=PATIENCE)
        for call in done:
            answers |= call.result()
            del calls[call]
        if waiting:  # The scheduler may wait 30 s for a worker that it knows to be gone.
            present = await client.nthreads()
            for call in [call for call in waiting if calls[call] not in present]:
                call.cancel()
                answers[calls.pop(call)] = ConnectionError("gone")
    return answers


# ---- errors


def _is_loss(answer: Any) -> bool:
    """Whether a worker did not answer because it is gone."""
    return isinstance(answer, OSError | asyncio.TimeoutError)


def _refusal(worker: str, answer: Any) -> RuntimeError:
    """The error for a worker that could not read what it was to do, or would not do it."""
    has = f"cannot take part ({answer!s:.200})"
    if isinstance(answer, Other):
        has = f"has fastmaml {answer.version}"
    return RuntimeError(
        f"the worker {worker} {has}; accepted are workers with fastmaml {__version__}, as the "
        "client has"
    )


def _unloadable(worker: str, failed: Failed, shared: Shared) -> RuntimeError:
    """The error for a user's function that is of a module which the worker does not have."""
    assert shared.source is not None
    return RuntimeError(
        f"the worker {worker} cannot load the {shared.source[0]} ({failed.error}); accepted are "
        "functions of modules that workers can import, and of the script or notebook itself"
    )


def _in_share(failed: Failed, n_shares: int) -> Exception:
    """The error of a worker, which says in which share it came about."""
    error, where = failed.error, f"(in share {failed.share}, of {n_shares})"
    if failed.share >= 0 and len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]} {where}",)
    elif failed.share >= 0 and hasattr(error, "add_note"):  # from Python 3.11 on
        error.add_note(where)
    return error
