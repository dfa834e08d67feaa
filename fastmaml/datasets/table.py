"""Rows of many tasks as one table: from a dict, arrays or a DataFrame, to batches of tasks."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..checks import (
    MAX_SEED,
    as_choice,
    as_count,
    as_float_dtype,
    as_rng,
    real_array,
    shape_text,
    shown,
)
from .base import Tasks, WeightedTasks, as_n_support, draw_n_support, most_support
from .columns import as_columns, as_weights, column_of, length_of, number_columns, time_order
from .division import Division, as_counts, blocks, divide, sizes
from .labels import MISSING, Labels, as_labels, identity, is_missing, join, label_text, list_some

__all__ = ["Parts", "TaskTable"]

SHORT_TASKS = ("error", "drop")
HOW = ("random", "first")


class Parts(NamedTuple):
    """The tasks of a table in three parts, from `TaskTable.hold_out`; each may be empty.

    Examples
    --------
    >>> from fastmaml.datasets import TaskTable
    >>> x, y = [[float(i)] for i in range(20)], [float(i) for i in range(20)]
    >>> table = TaskTable.from_rows(x, y, [i // 4 for i in range(20)])
    >>> training, validation, test = table.hold_out(n_validation=1, n_test=1, seed=0)
    >>> training.n_tasks, validation.n_tasks, test.n_tasks
    (3, 1, 1)
    """

    training: TaskTable
    validation: TaskTable
    test: TaskTable


class NamedTasks(Tasks):
    """A batch of tasks with their names, for messages."""

    names: tuple[Any, ...] = ()


class NamedWeightedTasks(WeightedTasks):
    """Likewise, where rows have weights."""

    names: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class TaskTable:
    """The rows of many tasks; `sample` draws batches as the families do.

    Made by `from_rows`, `from_dict` or `from_frame`.

    Attributes
    ----------
    x, y : ndarray, shape (N, n_inputs), (N, n_outputs)
        Rows, those of a task one after the other; float32 if they were given so, else float64.
    offsets : ndarray, shape (n_tasks + 1,)
        Task i has rows ``offsets[i]:offsets[i + 1]``.
    names : tuple
        The label of each task.
    order : ndarray, shape (N,)
        Which of the rows that were given each row is.
    sample_weight : ndarray, shape (N,), or None
        Weight of each row, above 0. With it, batches are `WeightedTasks`.

    Raises
    ------
    TypeError, ValueError
        In its methods, for data of another kind or shape, or numbers that are not accepted.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmaml.datasets import TaskTable
    >>> rng = np.random.default_rng(0)
    >>> device = np.repeat(["a", "b", "c"], 6)
    >>> voltage, current = rng.normal(size=(2, 18))
    >>> table = TaskTable.from_rows(voltage, current, device)
    >>> table
    TaskTable(3 tasks, 18 rows, 1 inputs, 1 outputs)
    >>> x, y, x_query, y_query = table.split(4, how="first")
    >>> x.shape, y_query.shape
    ((3, 4, 1), (3, 2, 1))
    >>> table.sample(n_tasks=2, n_support=3, n_query=3, rng=0).x.shape
    (2, 3, 1)
    >>> columns = {"device": device, "U": voltage, "I": current}
    >>> TaskTable.from_frame(columns, "device", ["U"], ["I"])
    TaskTable(3 tasks, 18 rows, 1 inputs, 1 outputs)
    >>> small = TaskTable.from_dict({"a": ([1.0, 2.0], [3.0, 4.0]), "b": ([1.0], [2.0])})
    >>> small.require_rows(1).take(small.find(["b"])).names
    ('b',)
    >>> [rows.shape for rows in small.by_task(small.x)]
    [(2, 1), (1, 1)]
    >>> training, validation, test = table.hold_out(n_test=1)
    >>> test.n_tasks
    1
    >>> table.divide(np.array([0, 2]), 3, 3)[0]  # the support rows of the two, as places in x
    array([ 0,  1,  2, 12, 13, 14])
    """

    x: NDArray[Any]
    y: NDArray[Any]
    offsets: NDArray[np.intp]
    names: tuple[Any, ...]
    order: NDArray[np.intp]
    sample_weight: NDArray[Any] | None = None

    # ---- from what a user has

    @classmethod
    def from_rows(
        cls,
        x: Any,
        y: Any = None,
        tasks: Any = None,
        *,
        time: Any = None,
        sample_weight: Any = None,
        missing: str = "error",
        short_tasks: str = "error",
        min_rows: int = 1,
    ) -> TaskTable:
        """Return the table of long arrays: a row an observation, in any order.

        Parameters
        ----------
        x : array_like, shape (rows, n_inputs) or (rows,)
        y : array_like, shape (rows, n_outputs) or (rows,), optional
            None: rows without outputs, to predict at.
        tasks : array_like, shape (rows,), optional
            The label of each row's task: text, numbers, dates, tuples of them. The tasks come in
            ascending order of their labels. None: all rows are one task, ``"all"``.
        time : array_like, shape (rows,), optional
            What sorts the rows of each task; by default they stay in the order given.
        sample_weight : array_like, shape (rows,), optional
            Weight of each row in the losses, 0 or more. Rows of weight 0 are left out.
        missing : {"error", "drop"}
            What to do about rows with NaN, or without a label.
        short_tasks : {"error", "drop"}
            What to do about tasks with fewer than `min_rows` rows. ``"drop"`` leaves them out,
            with a warning that counts them.
        min_rows : int
            2 is the least that gives a task a support and a query row.

        Raises
        ------
        TypeError, ValueError
            For columns of another kind or length, missing entries, inf, labels that are missing
            or of two kinds, tasks that are too short, or if no row is left.
        """
        x = as_columns("x", x)
        y = np.empty((len(x), 0)) if y is None else as_columns("y", y)
        if len(y) != len(x):
            raise ValueError(f"y has {len(y)} rows, x has {len(x)}; accepted is the same number")
        labels = Labels(("all",), np.zeros(len(x), np.intp))
        if tasks is not None:
            labels = as_labels("tasks", tasks, len(x), missing)
        names = {"x": range(x.shape[1]), "y": range(y.shape[1])}
        weights = None
        if sample_weight is not None:
            weights = as_weights("sample_weight", sample_weight, len(x))
        whole = cls._of_labels(x, y, labels, time, missing, names, weights)
        return whole.require_rows(min_rows, short_tasks)

    @classmethod
    def from_dict(
        cls,
        tasks: Mapping[Any, Any],
        *,
        missing: str = "error",
        short_tasks: str = "error",
        min_rows: int = 1,
    ) -> TaskTable:
        """Return the table of a dict that has (x, y), or (x,), for each task.

        The tasks come in the order of the dict. The keywords `missing`, `short_tasks` and
        `min_rows`, and what is raised, are those of `from_rows`.
        """
        if not isinstance(tasks, Mapping) or not tasks:
            raise TypeError(f"tasks is {shown(tasks)}; accepted is a dict {{name: (x, y)}}")
        parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for name, pair in tasks.items():
            if is_missing(name):
                raise ValueError(f"tasks has the name {name!r}; accepted are text, numbers, dates")
            if not isinstance(pair, tuple | list) or len(pair) not in (1, 2):
                raise TypeError(f"tasks[{name!r}] is {shown(pair)}; accepted are pairs (x, y)")
            x = as_columns(f"tasks[{name!r}][0]", pair[0])
            y = (
                as_columns(f"tasks[{name!r}][1]", pair[1])
                if len(pair) == 2
                else np.empty((len(x), 0))
            )
            widths = x.shape[1], y.shape[1]
            expected = (parts[0][0].shape[1], parts[0][1].shape[1]) if parts else widths
            if len(x) != len(y) or widths != expected:
                raise ValueError(
                    f"tasks[{name!r}] has x {shape_text(x.shape)} and y {shape_text(y.shape)}; "
                    f"accepted are x {shape_text(('rows', expected[0]))} and "
                    f"y {shape_text(('rows', expected[1]))}, as in all tasks"
                )
            parts.append((x, y))
        x, y = (np.concatenate(side) for side in zip(*parts, strict=True))
        code = np.repeat(np.arange(len(parts)), [len(x) for x, _ in parts])
        names = {"x": range(x.shape[1]), "y": range(y.shape[1])}
        whole = cls._of_labels(x, y, Labels(tuple(tasks), code), None, missing, names)
        return whole.require_rows(min_rows, short_tasks)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        task: Any,
        inputs: Sequence[Any],
        outputs: Sequence[Any] = (),
        *,
        time: Any = None,
        sample_weight: Any = None,
        missing: str = "error",
        short_tasks: str = "error",
        min_rows: int = 1,
    ) -> TaskTable:
        """Return the table of columns of a DataFrame, or of a dict of columns.

        Parameters
        ----------
        frame : DataFrame or dict
            Of pandas, pyarrow, or anything else that gives a column by its name.
        task : column name, list of column names, or None
            Says whose a row is; with several columns, a task is a tuple of their entries.
        inputs, outputs : list of column names
            Columns of numbers.
        time, sample_weight : column name, optional
        missing, short_tasks, min_rows
            As for `from_rows`, as is what is raised.
        """
        n_rows = length_of(frame, inputs[0]) if len(inputs) else 0
        x, y = (number_columns(frame, side, n_rows) for side in (inputs, outputs))
        labels = Labels(("all",), np.zeros(n_rows, np.intp))
        if task is not None:
            several = isinstance(task, list)
            columns = [
                as_labels(f"column {name!r}", column_of(frame, name), n_rows, missing)
                for name in (task if several else [task])
            ]
            labels = join(columns) if several else columns[0]
        when = None if time is None else column_of(frame, time)
        names = {"x": inputs, "y": outputs}
        weights = None
        if sample_weight is not None:
            column = number_columns(frame, [sample_weight], n_rows)[:, 0]
            weights = as_weights(f"column {sample_weight!r}", column, n_rows)
        whole = cls._of_labels(x, y, labels, when, missing, names, weights)
        return whole.require_rows(min_rows, short_tasks)

    @classmethod
    def _of_labels(
        cls,
        x: NDArray[Any],
        y: NDArray[Any],
        labels: Labels,
        time: Any,
        missing: str,
        columns: Mapping[str, Sequence[Any]],
        weights: NDArray[Any] | None = None,
    ) -> TaskTable:
        drop = as_choice("missing", missing, MISSING) == "drop"
        if not len(x):
            raise ValueError("x has no rows; accepted are one or more")
        kept = labels.code >= 0
        if weights is not None:
            kept &= weights > 0
        for (side, names), rows in zip(columns.items(), (x, y), strict=True):
            bad = ~np.isfinite(rows)
            if bad.any() and not (drop and np.isnan(rows[bad]).all()):
                at, column = np.argwhere(bad & ~np.isnan(rows) if drop else bad)[0].tolist()
                where = list_some(np.flatnonzero(bad.any(axis=1)).tolist())
                hint = "" if drop else ' (missing="drop" leaves rows with nan out)'
                raise ValueError(
                    f"{side} holds {rows[at, column]} in column {names[column]!r}, row {at} "
                    f"(not finite: rows {where}); accepted are finite numbers{hint}"
                )
            kept &= ~bad.any(axis=1)
        order = np.arange(len(x)) if time is None else time_order(time, len(x))
        order = order[np.argsort(labels.code[order], kind="stable")]
        order = order[kept[order]]
        counts = np.bincount(labels.code[order], minlength=len(labels.names))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        own = None if weights is None else weights[order]
        return cls(x[order], y[order], offsets, labels.names, order, own)

    # ---- tasks

    def __repr__(self) -> str:
        return (
            f"TaskTable({self.n_tasks} tasks, {len(self.x)} rows, "
            f"{self.x.shape[1]} inputs, {self.y.shape[1]} outputs)"
        )

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.names)

    @property
    def n_rows(self) -> NDArray[np.intp]:
        """How many rows each task has, (n_tasks,)."""
        return np.diff(self.offsets)

    def require_rows(self, min_rows: int, short_tasks: str = "error") -> TaskTable:
        """Return the table of the tasks that have at least `min_rows` rows.

        `short_tasks` is as for `from_rows`.

        Raises
        ------
        ValueError
            If a task has fewer, or with ``short_tasks="drop"`` if all have.
        """
        min_rows = as_count("min_rows", min_rows, 1)
        drop = as_choice("short_tasks", short_tasks, SHORT_TASKS) == "drop"
        short = np.flatnonzero(self.n_rows < min_rows)
        if not len(short):
            return self
        i = int(short[np.argmin(self.n_rows[short])])
        if not drop or len(short) == self.n_tasks:
            raise ValueError(
                f"task {self.names[i]!r} has {self.n_rows[i]} rows; accepted are {min_rows} or "
                f"more ({len(short)} of {self.n_tasks} tasks have fewer)"
            )
        warnings.warn(
            f"{len(short)} of {self.n_tasks} tasks have fewer than {min_rows} rows and are left "
            f"out: {list_some([repr(self.names[j]) for j in short])}",
            stacklevel=3,
        )
        return self.take(np.flatnonzero(self.n_rows >= min_rows))

    def take(self, tasks: NDArray[np.intp]) -> TaskTable:
        """Return the table of some tasks, by their places in `names`."""
        tasks = np.asarray(tasks, np.intp)
        rows, counts = self._rows_of(tasks)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        names = tuple(self.names[i] for i in tasks.tolist())
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        return TaskTable(self.x[rows], self.y[rows], offsets, names, self.order[rows], weights)

    def find(self, names: Sequence[Any]) -> NDArray[np.intp]:
        """Return the places of tasks in `names`, -1 for one that is not there.

        Labels are the same where they are equal and of one kind: 1 is 1.0, and not "1".
        """
        place = {identity(name): i for i, name in enumerate(self.names)}
        return np.array([place.get(identity(name), -1) for name in names], np.intp)

    def by_task(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """Return an array of the rows of all tasks, cut into one for each task."""
        return np.split(rows, self.offsets[1:-1])[: self.n_tasks]

    def hold_out(
        self,
        n_validation: int = 0,
        n_test: int = 0,
        seed: int = 0,
        known: Mapping[str, Sequence[Any]] | None = None,
    ) -> Parts:
        """Set tasks aside for validation and test, by their names.

        A task's part depends on the seed and the names alone, not on where its rows are or how
        many: tasks are ranked by a keyed hash of their names. So sorting the table, and deleting
        or appending rows, moves no task. A whole task that is new or gone moves at most one task
        across each border, unless `known` says where the others are.

        Parameters
        ----------
        n_validation, n_test : int
            How many tasks; all others are for training.
        seed : int
        known : dict, optional
            ``{"validation": names, "test": names}``, and "training", as an earlier call had them:
            these tasks stay where they were, those that are gone are gone, and one that none of
            the parts names is new and joins the training. The names may be the labels or their
            texts (`fastmaml.datasets.label_text`). The numbers are then not used.

        Returns
        -------
        Parts
            training, validation and test: tables, each in the order of this one.

        Raises
        ------
        ValueError
            If there are fewer tasks than are to be set aside, or `known` names a task twice.
        """
        n_validation, n_test = as_count("n_validation", n_validation), as_count("n_test", n_test)
        texts = [label_text(name) for name in self.names]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise ValueError(
                f"two tasks have names that are {twice!r} as text; accepted are names that differ"
            )
        part = np.zeros(self.n_tasks, np.intp)
        if known is None:
            if n_validation + n_test > self.n_tasks:
                raise ValueError(
                    f"n_validation is {n_validation}, n_test {n_test}; accepted are together up "
                    f"to {self.n_tasks}, the tasks"
                )
            seed = as_count("seed", seed, 0, MAX_SEED)
            ranks = [hashlib.blake2b(f"{seed} {text}".encode()).digest() for text in texts]
            ranked = sorted(range(self.n_tasks), key=ranks.__getitem__)
            part[ranked[:n_test]] = 2
            part[ranked[n_test : n_test + n_validation]] = 1
        else:
            known_part: dict[str, int] = {}
            for field, names in known.items():
                number = Parts._fields.index(as_choice("known", field, Parts._fields))
                for name in names:
                    label = tuple(name) if isinstance(name, list) else name
                    if known_part.setdefault(label_text(label), number) != number:
                        raise ValueError(f"known names {name!r} in two parts; accepted is one")
            part[:] = [known_part.get(text, 0) for text in texts]
        return Parts(*(self.take(np.flatnonzero(part == i)) for i in range(3)))

    # ---- batches

    def split(
        self,
        n_support: Any = None,
        how: str = "random",
        rng: np.random.Generator | int | None = None,
        n_query: int | None = None,
    ) -> Any:
        """Split the rows of each task into support and query.

        Parameters
        ----------
        n_support : int, float, array_like or None
            Support rows of a task: a number; a share of its rows, between 0 and 1; a number for
            each task, (n_tasks,), as a list or array; None, half of its rows. A tuple of two is a
            range, from which only `sample` draws, and here an error.
        how : {"random", "first"}
            Which rows are support: any, or the first ones, as for a forecast.
        rng : numpy.random.Generator, int or None
            For ``"random"``.
        n_query : int, optional
            Query rows of a task. None: all rows that are not support. 0: no query set.

        Returns
        -------
        Tasks or WeightedTasks
            For the methods of :class:`fastmaml.MAML`: arrays (n_tasks, rows, features), or where
            tasks differ in rows, lists of arrays.

        Raises
        ------
        ValueError
            If a task has too few rows. With both numbers given these are their sum; otherwise 2,
            or `n_query` + 1, and a task that has not enough for both has fewer support rows.
        """
        random = as_choice("how", how, HOW) == "random"
        generator = as_rng("rng", rng) if random else None
        every = np.arange(self.n_tasks)
        return self._batch(every, self.divide(every, n_support, n_query, generator))

    def sample(
        self,
        n_tasks: int,
        n_support: Any = None,
        n_query: int | None = None,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
        how: str = "random",
    ) -> Any:
        """Draw tasks, none twice, and split the rows of each.

        Parameters
        ----------
        n_tasks : int
        n_support
            As for `split`, or a tuple (low, high) of two integers, both included: one number is
            drawn uniformly, for all tasks of the batch, from `rng` before the tasks.
        n_query, how
            As for `split`. With numbers for both, the batch is regular: so many rows of each task
            are drawn, and a range needs tasks with rows for its highest number. Without
            `n_query` all rows that are not support are query: fewer, where more were drawn.
        rng : numpy.random.Generator, int or None
        dtype : dtype
            float64 or float32.

        Returns
        -------
        Tasks or WeightedTasks

        Raises
        ------
        ValueError
            If there are fewer tasks, or one of those drawn has too few rows, as for `split`.
        """
        n_tasks, dtype = as_count("n_tasks", n_tasks, 1), as_float_dtype("dtype", dtype)
        if n_tasks > self.n_tasks:
            raise ValueError(f"n_tasks is {n_tasks}; accepted are up to {self.n_tasks}, the tasks")
        generator = as_rng("rng", rng)
        random = as_choice("how", how, HOW) == "random"
        most = None
        if isinstance(n_support, tuple) and len(n_support) == 2:
            bounds = as_n_support(n_support)
            n_support, most = draw_n_support(bounds, generator), most_support(bounds)
        tasks = generator.choice(self.n_tasks, n_tasks, replace=False)
        if most is not None:  # whether there are rows enough does not depend on what was drawn
            sizes([self.names[i] for i in tasks.tolist()], self.n_rows[tasks], most, n_query)
        division = self.divide(tasks, n_support, n_query, generator if random else None)
        return self._batch(tasks, division, dtype)

    def divide(
        self,
        tasks: NDArray[np.intp],
        n_support: Any = None,
        n_query: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Division:
        """Return which rows of some tasks are support and query; without `rng`, in their order.

        `n_support` and `n_query` are as for `split`.

        `split` and `sample` cut `x` and `y` by it. The rows are places in them; `order` leads
        from there to the rows that were given.
        """
        if not len(tasks):
            raise ValueError("the table has no tasks; accepted are one or more")
        if n_support is not None and real_array("n_support", n_support).ndim:
            n_support = as_counts(n_support, self.n_tasks)[tasks]
        rows, counts = self._rows_of(tasks)
        names = [self.names[i] for i in tasks.tolist()]
        return divide(rows, counts, *sizes(names, counts, n_support, n_query), rng)

    def _batch(
        self, tasks: NDArray[np.intp], parts: Division, dtype: DTypeLike | None = None
    ) -> Any:
        sets = [(parts.support, parts.n_support), (parts.query, parts.n_query)]
        cut = [
            blocks(side[rows] if dtype is None else side[rows].astype(dtype, copy=False), counts)
            for rows, counts in sets[: 1 + bool(len(parts.query))]
            for side in (self.x, self.y)
        ]
        batch: Any = NamedTasks(*cut)
        if self.sample_weight is not None:
            weights = [blocks(self.sample_weight[rows], counts) for rows, counts in sets]
            if len(cut) == 2:
                cut, weights = [*cut, None, None], [weights[0], None]
            batch = NamedWeightedTasks(*cut, *weights)
        batch.names = tuple(self.names[i] for i in tasks.tolist())
        return batch

    def _rows_of(self, tasks: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The rows of some tasks, one task after the other, and how many each has."""
        counts = self.offsets[tasks + 1] - self.offsets[tasks]
        skipped = self.offsets[tasks] - (np.cumsum(counts) - counts)
        return np.repeat(skipped, counts) + np.arange(counts.sum()), counts
