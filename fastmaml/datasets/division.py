"""The rows of tasks as support and query: how many of each, and which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import as_count, as_number, real_array, shape_text, shown
from .base import MOST

__all__ = ["Division", "as_counts", "blocks", "divide", "sizes"]


class Division(NamedTuple):
    """Which rows of some tasks are support and query, and how many of both each task has."""

    support: NDArray[np.intp]
    n_support: NDArray[np.intp]
    query: NDArray[np.intp]
    n_query: NDArray[np.intp]


def sizes(
    names: Sequence[Any], counts: NDArray[np.intp], n_support: Any, n_query: int | None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return how many support and query rows each task has, of the rows that it has.

    `n_support` is a number, numbers, a share or None, `n_query` a number or None, as for
    `TaskTable.split`, which says what each means.
    """
    least = 1 if n_query is None else as_count("n_query", n_query, 0, MOST)
    share = 0.5 if n_support is None else n_support
    if isinstance(share, float | np.floating):
        share = as_number("n_support", share)
        if not 0 < share < 1:
            raise ValueError(
                f"n_support is {share}; accepted are shares between 0 and 1, and integers"
            )
        support = np.floor(share * counts + 1e-9).astype(np.intp)  # 0.29 of 100 is 29
    elif isinstance(n_support, np.ndarray) and n_support.ndim:
        support = n_support
    else:
        support = np.full(len(counts), as_count("n_support", n_support, 1, MOST))
    fixed = n_query is not None and not isinstance(share, float)
    needed = support + least if fixed else np.full(len(counts), 1 + least)
    if (counts < needed).any():
        i = int(np.argmax(counts < needed))
        raise ValueError(
            f"task {names[i]!r} has {counts[i]} rows; accepted are {needed[i]} or more "
            "(n_support + n_query)"
        )
    support = np.clip(support, 1, counts - least)
    return support, counts - support if n_query is None else np.full(len(counts), least)


def as_counts(n_support: Any, n_tasks: int) -> NDArray[np.intp]:
    """Return a number of support rows for each task."""
    if isinstance(n_support, tuple) and len(n_support) == 2:  # which `sample` takes for a range
        raise ValueError(
            f"n_support is {shown(n_support)}, a range, from which only sample draws; accepted are "
            "a number, a share, and a list or array of a number for each task"
        )
    given = real_array("n_support", n_support)
    if given.shape != (n_tasks,) or given.dtype.kind not in "iu" or (given < 1).any():
        raise ValueError(
            f"n_support is {shown(n_support)}; accepted are a number, a share, and "
            f"{shape_text((n_tasks,))} integers of at least 1, one for each task"
        )
    return given.astype(np.intp)


def divide(
    rows: NDArray[np.intp],
    counts: NDArray[np.intp],
    n_support: NDArray[np.intp],
    n_query: NDArray[np.intp],
    rng: np.random.Generator | None,
) -> Division:
    """Return the first rows of each task as support and the next as query; `rng` shuffles them."""
    owner = np.repeat(np.arange(len(counts)), counts)
    if rng is not None:  # any order within each task
        rows = rows[np.lexsort((rng.random(len(rows)), owner))]
    place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[owner]
    first = place < n_support[owner]
    then = ~first & (place < (n_support + n_query)[owner])
    return Division(rows[first], n_support, rows[then], n_query)


def blocks(values: NDArray[Any], counts: NDArray[np.intp]) -> Any:
    """Cut rows into tasks: one array (n_tasks, rows, ...) if all have as many rows, else a list."""
    if counts.min() == counts.max():
        return values.reshape(len(counts), counts[0], *values.shape[1:])
    return np.split(values, np.cumsum(counts)[:-1])
