"""A table in its three parts: training, validation and test, scaled by the training's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import as_count, as_number
from ..datasets import Parts, Tasks, TaskTable, label_text
from ..datasets.base import MOST, as_n_support, most_support
from ..datasets.labels import list_some
from ..learn import Scaling
from ..learn.defaults import META_BATCH
from .common import CommandError, aloud, say
from .record import Record
from .table import Layout, encoded_names, read_tasks

__all__ = ["N_TASKS", "Sizes", "Tables", "as_sizes", "read_tables", "require_finite", "spread"]

#: of a meta-batch, unless [tasks] says it
N_TASKS = META_BATCH

#: so many tasks to validate on are made of those held out, by splitting each again, but none more
#: often than that
TASKS, REPEATS = 32, 8


class Sizes(NamedTuple):
    """Tasks and rows, as [tasks] has them."""

    n_tasks: int | None = None  # N_TASKS, or all if there are fewer
    n_support: Any = None  # a number, (low, high), or a share of a task's rows; None: half of them
    n_query: int | None = None  # None: all rows that are not support
    n_validation: int = 0
    n_test: int = 0

    @property
    def min_rows(self) -> int:
        """The fewest rows that a task may have."""
        if isinstance(self.n_support, int | tuple) and self.n_query is not None:
            return most_support(self.n_support) + self.n_query
        return 1 + (1 if self.n_query is None else self.n_query)


def as_sizes(given: Mapping[str, Any]) -> Sizes:
    """Return the sizes of some of the fields."""
    sizes = Sizes(**given)
    if isinstance(sizes.n_support, float):
        share = as_number("n_support", sizes.n_support)
        if not 0 < share < 1:
            raise ValueError(
                f"n_support is {share}; accepted are numbers of rows, and shares between 0 and 1"
            )
    elif sizes.n_support is not None:
        sizes = sizes._replace(n_support=as_n_support(sizes.n_support))
    if sizes.n_tasks is not None:
        as_count("n_tasks", sizes.n_tasks, 1, MOST)
    for name in ("n_query", "n_validation", "n_test"):
        if getattr(sizes, name) is not None:
            as_count(name, getattr(sizes, name), 0, MOST)
    return sizes


def spread(n_support: Any, n_tasks: int, rng: np.random.Generator) -> Any:
    """Return a number of support rows for each of the tasks that judge, if training has a range.

    All of the range then judges, evenly, in any order; a single task has its middle. What is no
    range stays what it is.
    """
    if not isinstance(n_support, tuple):
        return n_support
    low, high = n_support
    place = (2 * np.arange(n_tasks) + 1) / (2 * n_tasks)
    return rng.permutation(low + (place * (high - low + 1)).astype(np.intp))


class Tables(NamedTuple):
    """The tasks of a file, in parts.

    Attributes
    ----------
    parts : Parts
        In the user's units.
    training : TaskTable
        Scaled.
    record : Record
        What the checkpoint is to hold.
    changes : str
        What has become of the tasks since the record that was given.
    """

    parts: Parts
    training: TaskTable
    record: Record
    changes: str

    @property
    def n_validation(self) -> int:
        """How many tasks validate."""
        return self.parts.validation.n_tasks

    def validation_tasks(
        self, sizes: dict[str, Any], rng: np.random.Generator, dtype: np.dtype[Any]
    ) -> Tasks | None:
        """Split the tasks to validate on, each several times if they are few."""
        n = self.n_validation
        if not n:
            return None
        times = min(REPEATS, -(-TASKS // n))
        tasks = self.parts.validation.take(np.tile(np.arange(n), times))
        scaled = _scaled(tasks, self.record.scaling)
        scaled = replace(scaled, x=scaled.x.astype(dtype), y=scaled.y.astype(dtype))
        n_support = spread(sizes["n_support"], scaled.n_tasks, rng)
        return scaled.split(n_support, "random", rng, sizes["n_query"])

    def test_tasks(
        self, sizes: dict[str, Any], rng: np.random.Generator, dtype: np.dtype[Any], n_query: int
    ) -> tuple[Tasks, Sequence[Any]]:
        """Split the tasks to test on, in the user's units; return them with their names."""
        table = self.parts.test
        if not table.n_tasks:
            raise CommandError(
                "no tasks are held out: [tasks] n_test is 0 in the configuration, or none of them "
                "is left in the file"
            )
        n_support = spread(sizes["n_support"], table.n_tasks, rng)
        return table.split(n_support, "random", rng, sizes["n_query"]), table.names


def read_tables(
    path: Path,
    layout: Layout,
    sizes: Sizes,
    scale: bool,
    seed: int,
    record: Record | None,
    training: bool,
    dtype: np.dtype[Any],
) -> Tables:
    """Read a file and hold tasks out, those of the record if there is one.

    Without `training` it is to be evaluated: a file of which the record knows no task is then all
    test. `dtype` is what is computed in.

    Raises
    ------
    CommandError
        For a file, rows or tasks that do not do.
    """
    table, categories = read_tasks(path, layout, None if record is None else record.categories)
    try:
        with aloud():
            table = table.require_rows(sizes.min_rows, layout.short_tasks)
        parts = _parts(table, sizes, seed, record, training)
    except ValueError as error:
        hint = ""
        if "rows; accepted" in str(error) and layout.short_tasks == "error":
            hint = ' (short_tasks = "drop" leaves such tasks out)'
        raise CommandError(f"{path}, [tasks] {error}{hint}") from error
    changes = ""
    if record is None:
        _say_of_categories(parts, layout, categories)
        scaling = Scaling.fit(parts.training.x, parts.training.y) if scale else None
        record = Record.of(parts, scaling, categories)
    else:
        changes = record.changes(parts)
        record = record.merged(parts)
    for part in parts:
        require_finite(path, part, record.scaling, dtype)
    return Tables(parts, _scaled(parts.training, record.scaling), record, changes)


def _say_of_categories(
    parts: Parts, layout: Layout, categories: Mapping[str, Sequence[str]]
) -> None:
    """Warn of categories that only tasks have which are held out: nothing is learned of them."""
    seen = np.flatnonzero(parts.training.x.any(axis=0)).tolist()
    names = enumerate(encoded_names(layout, categories))
    gone = [repr(name) for i, name in names if i not in seen and name not in layout.inputs]
    if gone:
        say(f"warning: no task of the training has {list_some(gone)}, so nothing is learned of it")


def _parts(
    table: TaskTable, sizes: Sizes, seed: int, record: Record | None, training: bool
) -> Parts:
    if record is None:
        if sizes.n_validation + sizes.n_test + (sizes.n_tasks or 1) > table.n_tasks:
            raise ValueError(
                f"n_tasks is {sizes.n_tasks or 1}, n_validation {sizes.n_validation}, n_test "
                f"{sizes.n_test}; accepted are together up to {table.n_tasks}, the tasks of the "
                "file"
            )
        return table.hold_out(sizes.n_validation, sizes.n_test, seed)
    parts = table.hold_out(known={name: list(tasks) for name, tasks in record.parts.items()})
    known = {task for tasks in record.parts.values() for task in tasks}
    if not training and known.isdisjoint(map(label_text, table.names)):
        return Parts(parts.test, parts.validation, parts.training)
    if training and parts.training.n_tasks < (sizes.n_tasks or 1):
        raise ValueError(
            f"n_tasks is {sizes.n_tasks or 1}; accepted are up to {parts.training.n_tasks}, the "
            f"tasks of the file that are for training ({record.changes(parts)})"
        )
    if training and record.parts["validation"] and not parts.validation.n_tasks:
        raise ValueError(
            f"n_validation was {len(record.parts['validation'])}, and the file has none of those "
            f"tasks; accepted are files with them ({record.changes(parts)})"
        )
    return parts


def _scaled(table: TaskTable, scaling: Scaling | None) -> TaskTable:
    if scaling is None or not table.n_tasks:
        return table
    # A table of rows to predict at has no outputs.
    y = scaling.scale_y(table.y) if table.y.size else table.y
    return replace(table, x=scaling.scale_x(table.x), y=y)


def require_finite(
    path: Path, table: TaskTable, scaling: Scaling | None, dtype: np.dtype[Any]
) -> None:
    """Refuse numbers so far from those of the training that they overflow when scaled."""
    scaled = _scaled(table, scaling)
    with np.errstate(over="ignore"):
        finite = [np.isfinite(side.astype(dtype)).all(axis=1) for side in (scaled.x, scaled.y)]
    for row in np.flatnonzero(~(finite[0] & finite[1]))[:1].tolist():
        name = table.names[int(np.searchsorted(table.offsets, row, "right")) - 1]
        raise CommandError(
            f"{path}, task {name!r:.60}, holds a number that is not finite in {dtype} once it is "
            "scaled; accepted are numbers nearer to those of the training"
        )
