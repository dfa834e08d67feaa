"""Long-format data: which rows each group has, and their split into support and query."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import shape_text

__all__ = ["Groups", "Split", "as_column", "as_groups", "blocks", "split"]


class Groups(NamedTuple):
    """The rows of each group: those of group i are ``order[offsets[i]:offsets[i + 1]]``."""

    labels: list[Any]  # in ascending order
    order: NDArray[np.intp]  # (rows,); the rows of one group keep their order
    offsets: NDArray[np.intp]  # (n_groups + 1,)


def as_groups(name: str, labels: Any, n_rows: int) -> Groups:
    """Return the rows of each group, from one label a row; None makes all rows one group, 0.

    Labels are of any kind that can be sorted: integers, text, pandas categories.
    """
    array = as_column(name, np.zeros(n_rows, np.intp) if labels is None else labels, n_rows)
    try:
        unique, index, counts = np.unique(array, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise TypeError(
            f"{name} holds labels that have no order ({error}); "
            "accepted are labels of one kind, such as integers or text"
        ) from None
    if unique.dtype.kind == "f" and np.isnan(unique[-1]):
        raise ValueError(f"{name} holds nan; accepted is one label for each row")
    offsets = np.concatenate(([0], np.cumsum(counts)))
    return Groups(unique.tolist(), np.argsort(index, kind="stable"), offsets)


def as_column(name: str, entries: Any, n_rows: int) -> NDArray[Any]:
    """Return an array (n_rows,) of what belongs to each row: a label, a weight."""
    try:
        array = np.asarray(entries)
    except Exception as error:  # whatever a foreign __array__ raises
        raise ValueError(
            f"{name} is no regular array; accepted is one entry for each row ({error})"
        ) from error
    if array.shape != (n_rows,):
        raise ValueError(
            f"{name} has shape {shape_text(array.shape)}; "
            f"accepted is one entry for each row, {shape_text((n_rows,))}"
        )
    return array


class Split(NamedTuple):
    """Support and query rows of some groups, and how many each group has of both."""

    support: NDArray[np.intp]
    n_support: NDArray[np.intp]
    query: NDArray[np.intp]
    n_query: NDArray[np.intp]


def split(
    groups: Groups, some: NDArray[np.intp], shots: int | None, rng: np.random.Generator | None
) -> Split:
    """Split the rows of `some` groups, at random or, without `rng`, first rows into the support.

    `shots` rows of a group are support, or half of them if it is None, but one at least is left
    for the query; a lone row is both.
    """
    counts = np.diff(groups.offsets)[some]
    n_support = np.clip(counts // 2 if shots is None else shots, 1, np.maximum(counts - 1, 1))
    group = np.repeat(np.arange(len(some)), counts)
    place = np.arange(len(group)) - (np.cumsum(counts) - counts)[group]
    rows = groups.order[groups.offsets[some][group] + place]
    if rng is not None:  # any order within each group
        rows = rows[np.argsort(group + rng.random(len(group)))]
    first, lone = place < n_support[group], counts == 1
    return Split(rows[first], n_support, rows[~first | lone[group]], counts - n_support + lone)


def blocks(values: NDArray[Any], counts: NDArray[np.intp]) -> NDArray[Any] | list[NDArray[Any]]:
    """Cut rows into tasks: one array (n_tasks, rows, ...) if all have as many rows, else a list."""
    if counts.min() == counts.max():
        return values.reshape(len(counts), counts[0], *values.shape[1:])
    return np.split(values, np.cumsum(counts)[:-1])
