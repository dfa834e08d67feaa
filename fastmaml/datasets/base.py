"""What a family of tasks is: task parameters, points of each task, and the tasks held out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..checks import (
    FLOAT64,
    LARGEST,
    as_array,
    as_choice,
    as_count,
    as_float_dtype,
    as_number,
    as_rng,
    require_finite,
    require_memory,
    shape_text,
    shown,
)

__all__ = [
    "PARTS", "Family", "Tasks", "WeightedTasks", "as_n_support", "draw_n_support", "most_support",
]  # fmt: skip

PARTS = ("all", "train", "test")

#: the range of the split parameter is cut into this many cells; of each, this share is held out
CELLS, HELD_OUT = 10, 0.2
#: tasks, and rows of a task, that no machine has memory for
MOST = 2**48


class Tasks(NamedTuple):
    """A batch of regression tasks, ready to be unpacked into the methods of :class:`fastmaml.MAML`.

    Attributes
    ----------
    x : ndarray, shape (n_tasks, n_support, n_inputs)
        Support inputs, the rows that a task adapts on.
    y : ndarray, shape (n_tasks, n_support, n_outputs)
        Support targets.
    x_query : ndarray, shape (n_tasks, n_query, n_inputs), or None
        Query inputs, the rows that judge the adapted parameters. None: the support serves as both.
    y_query : ndarray, shape (n_tasks, n_query, n_outputs), or None
        Query targets.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> tasks = Sinusoid().sample(25, n_support=10, n_query=10, rng=0)
    >>> model = fm.MLP([1, 40, 40, 1])
    >>> value, gradient = fm.MAML(model).value_and_gradient(model.init(0), *tasks)
    >>> gradient.shape == (model.n_params,)
    True
    """

    x: np.ndarray
    y: np.ndarray
    x_query: np.ndarray | None = None
    y_query: np.ndarray | None = None


class WeightedTasks(NamedTuple):
    """A batch of regression tasks whose rows have weights, for :func:`fastmaml.learn.train`.

    Attributes
    ----------
    x, y, x_query, y_query
        As of `Tasks`.
    sample_weight : ndarray, shape (n_tasks, n_support), or None
        Weights of the support rows. None: all count alike.
    sample_weight_query : ndarray, shape (n_tasks, n_query), or None
        Weights of the query rows. None: all count alike, or there is no query set.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import WeightedTasks
    >>> batch = WeightedTasks([[[1.0], [2.0]]], [[3.0, 4.0]], sample_weight=[[1.0, 0.5]])
    >>> x, y, _, _, weight, _ = batch
    >>> fm.MAML(fm.Linear(1)).gradient([0.0, 0.0], x, y, sample_weight=weight).shape
    (2,)
    """

    x: np.ndarray
    y: np.ndarray
    x_query: np.ndarray | None = None
    y_query: np.ndarray | None = None
    sample_weight: np.ndarray | None = None
    sample_weight_query: np.ndarray | None = None


@dataclass(frozen=True)
class Family(ABC):
    """A distribution over tasks; a task is some parameters, drawn once, seen at a few points.

    A family says how the parameters of its tasks are drawn (`sample_functions`) and points of
    given tasks (`sample_points`). Fields called ``..._range`` are two numbers (low, high).

    Parameters
    ----------
    part : {"all", "train", "test"}
        Which tasks it draws. One parameter, named in the class, splits them: its range is cut into
        10 equal cells, and the last fifth of every cell is ``"test"``, the rest ``"train"``. So
        the two parts spread over the same range, and no task of one is a task of the other. (It
        needs a range that is not below 0: a wave of amplitude -A is one of amplitude A, too.)

    Attributes
    ----------
    n_inputs, n_outputs : int
        Features and targets of a row.
    split_range : str
        The field with the range of the parameter that splits the tasks.

    Raises
    ------
    ValueError
        For another part, a range that is not (low, high), or one that cannot be split.

    Notes
    -----
    ``sample_points(*functions, n_points, rng=None, dtype=float64)`` takes what `sample_functions`
    returned, the points of each task, at least 1, and rng and dtype as `sample` does; it returns x
    (n_tasks, n_points, n_inputs) and y (n_tasks, n_points, n_outputs). Anything else is a TypeError
    or a ValueError.

    Examples
    --------
    >>> from fastmaml.datasets import Family, Sinusoid
    >>> isinstance(Sinusoid(), Family)
    True
    >>> family = Sinusoid(part="train")
    >>> x, y, x_query, y_query = family.sample(25, n_support=5, n_query=10, rng=0)
    >>> functions = family.sample_functions(25, rng=0)  # the same waves, and other points of them
    >>> family.sample_points(*functions, 100, rng=1)[0].shape
    (25, 100, 1)
    """

    n_inputs: ClassVar[int] = 1
    n_outputs: ClassVar[int] = 1
    split_range: ClassVar[str]

    part: str = field(default="all", kw_only=True)

    def __post_init__(self) -> None:
        put = object.__setattr__  # frozen from here on
        put(self, "part", as_choice("part", self.part, PARTS))
        for entry in fields(self):
            name, given = entry.name, getattr(self, entry.name)
            if name.endswith("_range"):
                if not (given is None and entry.default is None):  # what is None by default may be
                    put(self, name, _as_range(name, given))
            elif name == "noise":
                put(self, name, _as_noise(self.noise))  # type: ignore[attr-defined]
        low, high = getattr(self, self.split_range)
        if self.part != "all" and not 0 <= low < high:
            raise ValueError(
                f'{self.split_range} is {(low, high)}, part is "{self.part}"; '
                "accepted is a range with 0 <= low < high, which can be split"
            )

    @abstractmethod
    def sample_functions(
        self, n_tasks: int, rng: np.random.Generator | int | None = None
    ) -> tuple[np.ndarray, ...]:
        """Draw the parameters of tasks, each array (n_tasks, ...) in float64.

        Parameters
        ----------
        n_tasks : int
            Tasks, at least 1.
        rng : numpy.random.Generator, int or None
            As for `sample`.

        Returns
        -------
        tuple of ndarray
            Each (n_tasks, ...), float64.

        Raises
        ------
        TypeError, ValueError
            If a number is not of the kind and size above, or `rng` is anything else.
        """

    @property
    @abstractmethod
    def sample_points(self) -> Any:
        """Rows x and y of tasks, of what `sample_functions` drew, n_points, rng and dtype."""

    def sample(
        self,
        n_tasks: int,
        n_support: int | tuple[int, int],
        n_query: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> Tasks:
        """Draw a batch of tasks.

        Parameters
        ----------
        n_tasks : int
            Tasks, at least 1.
        n_support : int or (int, int)
            Support rows of each task, at least 1. A pair (low, high), both included: one number is
            drawn uniformly, for all tasks of the batch, from `rng` before the tasks. So batches
            differ in rows, and one batch is regular.
        n_query : int
            Query rows of each task, whatever `n_support` is; 0 gives tasks without a query set.
        rng : numpy.random.Generator, int or None
            Where the random numbers come from: a Generator (which moves on), or a seed.
        dtype : dtype
            float64 or float32. The draws are the same for both; they are rounded at the end.

        Returns
        -------
        Tasks
            x (n_tasks, n_support, n_inputs), y (n_tasks, n_support, n_outputs), and the same of
            the query, or None.

        Raises
        ------
        TypeError, ValueError
            If a number is not of the kind and size above, or `rng` is anything else.
        """
        n_tasks = as_count("n_tasks", n_tasks, 1, MOST)
        n_query = as_count("n_query", n_query, 0, MOST)
        n_support = as_n_support(n_support)
        dtype = as_float_dtype("dtype", dtype)
        most = most_support(n_support)
        require_memory(
            8 * n_tasks * (most + n_query) * (self.n_inputs + self.n_outputs),
            f"n_tasks {n_tasks}, n_support {most} and n_query {n_query}",
        )
        rng = as_rng("rng", rng)
        n_support = draw_n_support(n_support, rng)
        functions = self.sample_functions(n_tasks, rng)
        # Both sets are contiguous: drawn in one go only where there are as many rows of both.
        if n_query == n_support:
            (x, x_query), (y, y_query) = self._sample_sets(functions, 2, n_support, rng, dtype)
            return Tasks(x, y, x_query, y_query)
        support = self.sample_points(*functions, n_support, rng, dtype)
        if n_query == 0:
            return Tasks(*support)
        return Tasks(*support, *self.sample_points(*functions, n_query, rng, dtype))

    def _sample_sets(
        self,
        functions: tuple[np.ndarray, ...],
        n_sets: int,
        n_points: int,
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> tuple[Iterable[np.ndarray], Iterable[np.ndarray]]:
        """Draw sets of as many points of the same tasks: the x of each set, and the y.

        A family that can draw all sets at once, and the same numbers, may do it in here.
        """
        sets = [self.sample_points(*functions, n_points, rng, dtype) for _ in range(n_sets)]
        return [x for x, _ in sets], [y for _, y in sets]

    def _draw_split(self, n_tasks: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the parameter that splits the tasks, uniformly over the cells' part."""
        low, high = getattr(self, self.split_range)
        if self.part == "all":
            return rng.uniform(low, high, n_tasks)
        within, cell = np.modf(CELLS * rng.random(n_tasks))
        kept = within * (1 - HELD_OUT) if self.part == "train" else 1 - HELD_OUT * (1 - within)
        return low + (high - low) * (cell + kept) / CELLS


def as_n_support(given: Any) -> int | tuple[int, int]:
    """Return a number of support rows, or the least and the most of them."""
    if not isinstance(given, tuple | list):
        try:
            return as_count("n_support", given, 1, MOST)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}, and pairs (low, high) of them") from None
    try:
        low, high = (as_count("bound", bound, 1, MOST) for bound in given)
    except (TypeError, ValueError):
        low, high = 1, 0
    if low > high:
        raise ValueError(
            f"n_support is {shown(given)}; accepted are pairs (low, high) of integers with "
            f"1 <= low <= high <= {MOST}"
        )
    return low, high


def most_support(n_support: int | tuple[int, int]) -> int:
    """Return the most support rows that a task may have."""
    return n_support if isinstance(n_support, int) else n_support[1]


def draw_n_support(n_support: int | tuple[int, int], rng: np.random.Generator) -> int:
    """Return the number of support rows of a batch; one that is given takes nothing from `rng`."""
    if isinstance(n_support, int):
        return n_support
    return int(rng.integers(*n_support, endpoint=True))


def as_function(
    name: str, value: Any, n_tasks: int | None = None, *axes: int, positive: bool = False
) -> np.ndarray:
    """Return a parameter of tasks, float64 (n_tasks, *axes): what `sample_functions` returns.

    An axis of length -1, and `n_tasks` None, stand for any length.
    """
    array = as_array(name, value, FLOAT64)
    wanted = (-1 if n_tasks is None else n_tasks, *axes)
    fits = [given == length or length == -1 for given, length in zip(array.shape, wanted)]  # noqa: B905
    if array.ndim != len(wanted) or not all(fits) or not array.size:
        words = ["n_tasks", *("any" if length == -1 else length for length in axes)]
        n_known = "" if n_tasks is None else f", n_tasks {n_tasks}"
        raise ValueError(
            f"{name} has shape {shape_text(array.shape)}; accepted is {shape_text(words)}{n_known}"
        )
    require_finite(name, array, ("task",))
    if positive and array.min() <= 0:
        raise ValueError(f"{name} holds {array.min()}; accepted are numbers above 0")
    return array


def as_n_tasks(n_tasks: Any, numbers: int = 1) -> int:
    """Return the number of tasks, for which there is memory, with so many numbers each."""
    count = as_count("n_tasks", n_tasks, 1, MOST)
    require_memory(8 * count * numbers, f"{numbers} numbers of n_tasks {count}")
    return count


def as_points(n_points: Any, n_tasks: int) -> int:
    """Return the number of points of each task, for which there is memory."""
    count = as_count("n_points", n_points, 1, MOST)
    require_memory(8 * n_tasks * count, f"n_points {count} of {n_tasks} tasks")
    return count


def _as_range(name: str, given: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (as_number("bound", bound) for bound in given)
    except Exception:  # whatever is given: no pair, or no numbers
        low, high = math.nan, math.nan
    if not (-LARGEST <= low <= high <= LARGEST):
        raise ValueError(
            f"{name} is {shown(given)}; accepted are two finite numbers (low, high), "
            f"of size up to {LARGEST:.3g}"
        )
    return low, high


def _as_noise(given: Any) -> float:
    noise = as_number("noise", given)
    if noise < 0:
        raise ValueError(f"noise is {noise}; accepted are standard deviations of at least 0")
    return noise
