"""The sinusoid regression tasks of the MAML paper: y = A sin(x - phi)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from ..checks import as_count, as_rng
from .base import Tasks

__all__ = ["Sinusoid"]


@dataclass(frozen=True)
class Sinusoid:
    """A distribution over sine waves; a task is one wave, seen at a few points.

    Each task draws its amplitude A and phase phi once, and its inputs x point by point, all
    uniformly, and has the targets y = A sin(x - phi) without noise [1]_.

    Parameters
    ----------
    amplitude_range, phase_range, x_range : tuple of two floats
        (low, high) of A, phi (radians) and x. The defaults are those of the paper.

    Raises
    ------
    ValueError
        A range that is not two finite numbers with low <= high.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast Adaptation of Deep
       Networks. ICML 2017, section 5.1.

    Examples
    --------
    >>> from fastmaml.datasets import Sinusoid
    >>> tasks = Sinusoid().sample(25, n_support=10, n_query=15, rng=0)
    >>> tasks.x.shape, tasks.y_query.shape
    ((25, 10, 1), (25, 15, 1))
    """

    amplitude_range: tuple[float, float] = (0.1, 5.0)
    phase_range: tuple[float, float] = (0.0, math.pi)
    x_range: tuple[float, float] = (-5.0, 5.0)

    def __post_init__(self) -> None:
        for name in ("amplitude_range", "phase_range", "x_range"):
            object.__setattr__(self, name, _as_range(name, getattr(self, name)))

    def sample(
        self,
        n_tasks: int,
        n_support: int,
        n_query: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> Tasks:
        """Draw a batch of tasks.

        Parameters
        ----------
        n_tasks, n_support : int
            Tasks, and support rows of each; both at least 1.
        n_query : int
            Query rows of each task; 0 gives tasks without a query set.
        rng : numpy.random.Generator, int or None
            Where the random numbers come from: a Generator (which moves on), or a seed.
        dtype : dtype
            float64 or float32. The draws are the same for both; they are rounded at the end.

        Returns
        -------
        Tasks
            x, y (n_tasks, n_support, 1) and x_query, y_query (n_tasks, n_query, 1) or None.
        """
        n_query = as_count("n_query", n_query, 0)
        n_support = as_count("n_support", n_support, 1)
        rng = as_rng("rng", rng)
        amplitude, phase = self.sample_functions(n_tasks, rng)
        # The query set is drawn on its own, not cut from one array: both stay contiguous.
        support = self.sample_points(amplitude, phase, n_support, rng, dtype)
        if n_query == 0:
            return Tasks(*support)
        return Tasks(*support, *self.sample_points(amplitude, phase, n_query, rng, dtype))

    def sample_functions(
        self, n_tasks: int, rng: np.random.Generator | int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the waves alone: amplitude and phase, each (n_tasks,) in float64."""
        n_tasks = as_count("n_tasks", n_tasks, 1)
        rng = as_rng("rng", rng)
        return rng.uniform(*self.amplitude_range, n_tasks), rng.uniform(*self.phase_range, n_tasks)

    def sample_points(
        self,
        amplitude: np.ndarray,
        phase: np.ndarray,
        n_points: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw points of given waves: x and y, each (n_tasks, n_points, 1)."""
        rng = as_rng("rng", rng)
        x = rng.uniform(*self.x_range, (len(amplitude), n_points, 1))
        y = self.evaluate(amplitude, phase, x)
        return x.astype(dtype, copy=False), y.astype(dtype, copy=False)

    @staticmethod
    def evaluate(amplitude: np.ndarray, phase: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A sin(x - phi), the true function of each task.

        Parameters
        ----------
        amplitude, phase : array_like, shape (n_tasks,)
            From :meth:`sample_functions`.
        x : array_like, shape (n_tasks, n_points, 1)
            Points of each task; an array that broadcasts to this shape, such as one
            (n_points, 1) grid for all tasks, will do.

        Returns
        -------
        ndarray, shape (n_tasks, n_points, 1)
        """
        amplitude = np.asarray(amplitude)[:, None, None]
        phase = np.asarray(phase)[:, None, None]
        return amplitude * np.sin(x - phase)


def _as_range(name: str, given: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in given)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{name} is {given!r:.60}; accepted are two finite numbers (low, high)")
    return low, high
