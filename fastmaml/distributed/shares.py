"""Shares of a batch of tasks: what the problem is cut into, and which worker has which.

What is in a share depends on the tasks and on their number alone. Who computes it does not matter
to the result, only to how long it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..checks import shown

__all__ = ["as_shares", "assign", "cut"]


def cut(tasks: Sequence[Any], n_shares: int) -> list[tuple[Any, ...]]:
    """Return runs of tasks, each as long as another or longer by one, as copies.

    Parameters
    ----------
    tasks : sequence of array_like or None
        (x, y) or (x, y, x_query, y_query): arrays with a first axis of tasks, or lists by task.
    n_shares : int
    """
    ends = [len(tasks[0]) * i // n_shares for i in range(n_shares + 1)]
    return [
        tuple(part if part is None else _copy(part, a, b) for part in tasks)
        for a, b in pairwise(ends)
    ]


def _copy(part: Any, first: int, last: int) -> Any:
    if isinstance(part, np.ndarray):
        return part[first:last].copy()
    return [np.array(task) for task in part[first:last]]


def as_shares(name: str, given: Any, n_shares: int) -> list[int]:
    """Return distinct numbers of shares, in ascending order; of None all."""
    if given is None:
        return list(range(n_shares))
    try:
        array = np.asarray(given)
        numbers = array.tolist() if array.ndim == 1 and array.dtype.kind in "iu" else []
    except (TypeError, ValueError):
        numbers = []
    if (
        not numbers
        or len(set(numbers)) < len(numbers)
        or not 0 <= min(numbers) <= max(numbers) < n_shares
    ):
        raise ValueError(
            f"{name} is {shown(given)}; accepted are distinct integers from 0 to {n_shares - 1}, "
            "the shares of the batch, and None for all"
        )
    return sorted(numbers)


def assign(
    shares: Iterable[int], workers: Sequence[str], owners: Mapping[int, str]
) -> dict[str, list[int]]:
    """Return which worker computes which shares: equal numbers, and as few moves as that allows.

    Parameters
    ----------
    shares : iterable of int
    workers : sequence of str
        Their addresses, one or more.
    owners : mapping
        From a share to the worker that has its tasks, which may be gone.

    Examples
    --------
    >>> assign(range(5), ["a", "b"], {})
    {'a': [0, 1, 2], 'b': [3, 4]}
    >>> assign(range(5), ["b", "c"], {0: "a", 1: "a", 2: "a", 3: "b", 4: "b"})
    {'b': [3, 4, 0], 'c': [1, 2]}
    """
    shares = list(shares)
    fewest, longer = divmod(len(shares), len(workers))
    plan: dict[str, list[int]] = {worker: [] for worker in workers}
    moved = []
    for share in shares:  # each keeps what it has, up to the larger number
        own = plan.get(owners.get(share, ""))
        if own is not None and len(own) < fewest + (longer > 0):
            own.append(share)
        else:
            moved.append(share)
    # Those who have most are the ones with one more.
    room = sorted(workers, key=lambda worker: -len(plan[worker]))
    for i, worker in enumerate(room):
        own, size = plan[worker], fewest + (i < longer)
        moved, own[len(own) :] = moved[max(0, size - len(own)) :], moved[: max(0, size - len(own))]
    return {worker: own for worker, own in plan.items() if own}
