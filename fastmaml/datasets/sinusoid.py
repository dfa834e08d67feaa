"""The sinusoid regression tasks of the MAML paper: y = A sin(x - phi), or A sin(omega x - phi)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..checks import as_float_dtype, as_rng
from .base import Family, as_function, as_n_tasks, as_points

__all__ = ["Sinusoid"]


@dataclass(frozen=True)
class Sinusoid(Family):
    """A distribution over sine waves; a task is one wave, seen at a few points.

    Each task draws its amplitude A and phase phi once, and its inputs x point by point, all
    uniformly, and has the targets y = A sin(x - phi) without noise [1]_. With a range for it, each
    task draws a frequency omega, too, and y = A sin(omega x - phi) [2]_.

    Parameters
    ----------
    amplitude_range, phase_range, x_range : tuple of two floats
        (low, high) of A, phi (radians) and x. The defaults are those of the paper.
    frequency_range : tuple of two floats, optional
        (low, high) of omega (radians per unit of x), such as (0.8, 1.2). None: omega is 1, and
        nothing is drawn for it. With a range, even (1, 1), it is a third parameter of the tasks,
        drawn after the phase: `sample_functions` returns it, `sample_points` takes it.
    part : {"all", "train", "test"}
        See :class:`Family`; the amplitude splits the tasks.

    Raises
    ------
    TypeError, ValueError
        A range that is not two finite numbers with low <= high, or another part.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast Adaptation of Deep
       Networks. ICML 2017, section 5.1.
    .. [2] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD: Learning to Learn Quickly for Few-Shot
       Learning. 2017, arXiv:1707.09835, section 4.1 (there y = A sin(omega x + b): phase_range
       (-pi, 0) is its b from 0 to pi).

    Examples
    --------
    >>> from fastmaml.datasets import Sinusoid
    >>> tasks = Sinusoid().sample(25, n_support=10, n_query=15, rng=0)
    >>> tasks.x.shape, tasks.y_query.shape
    ((25, 10, 1), (25, 15, 1))
    >>> family = Sinusoid()
    >>> functions = family.sample_functions(3, rng=0)
    >>> x, y = family.sample_points(*functions, 7, rng=1)
    >>> x.shape[:2], y.shape[:2]
    ((3, 7), (3, 7))
    >>> Sinusoid.evaluate(*functions, x).shape
    (3, 7, 1)
    """

    split_range: ClassVar[str] = "amplitude_range"

    amplitude_range: tuple[float, float] = (0.1, 5.0)
    phase_range: tuple[float, float] = (0.0, math.pi)
    x_range: tuple[float, float] = (-5.0, 5.0)
    frequency_range: tuple[float, float] | None = None

    def sample_functions(
        self, n_tasks: int, rng: np.random.Generator | int | None = None
    ) -> tuple[np.ndarray, ...]:
        """Return waves alone: amplitude and phase, each (n_tasks,) in float64.

        With a `frequency_range` the frequency is a third array.

        Parameters and errors are those of `Family.sample_functions`.
        """
        n_tasks = as_n_tasks(n_tasks)
        rng = as_rng("rng", rng)
        waves = self._draw_split(n_tasks, rng), rng.uniform(*self.phase_range, n_tasks)
        if self.frequency_range is None:
            return waves
        return *waves, rng.uniform(*self.frequency_range, n_tasks)

    @property
    def sample_points(self) -> Any:
        """Draw points of given waves: x and y, each (n_tasks, n_points, 1).

        It takes (amplitude, phase, n_points, rng=None, dtype=float64), or with a `frequency_range`
        (amplitude, phase, frequency, n_points, rng=None, dtype=float64): what `sample_functions`
        returns, and then as in every family.
        """
        return self._points if self.frequency_range is None else self._points_of_frequencies

    def _points(
        self,
        amplitude: np.ndarray,
        phase: np.ndarray,
        n_points: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> tuple[np.ndarray, np.ndarray]:
        amplitude = as_function("amplitude", amplitude)
        phase = as_function("phase", phase, len(amplitude))
        return self._draw((amplitude, phase), (), n_points, rng, dtype)

    def _points_of_frequencies(
        self,
        amplitude: np.ndarray,
        phase: np.ndarray,
        frequency: np.ndarray,
        n_points: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> tuple[np.ndarray, np.ndarray]:
        amplitude = as_function("amplitude", amplitude)
        phase = as_function("phase", phase, len(amplitude))
        frequency = as_function("frequency", frequency, len(amplitude))
        return self._draw((amplitude, phase, frequency), (), n_points, rng, dtype)

    def _sample_sets(
        self,
        functions: tuple[np.ndarray, ...],
        n_sets: int,
        n_points: int,
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> tuple[Iterable[np.ndarray], Iterable[np.ndarray]]:
        if type(self).sample_points is not Sinusoid.sample_points:  # then these are other points
            return super()._sample_sets(functions, n_sets, n_points, rng, dtype)
        return self._draw(functions, (n_sets,), n_points, rng, dtype)

    def _draw(
        self,
        waves: tuple[np.ndarray, ...],
        sets: tuple[int, ...],
        n_points: int,
        rng: np.random.Generator | int | None,
        dtype: DTypeLike,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points of given waves, or with `sets` (n_sets,) so many sets of them, on a first axis."""
        amplitude, phase, *frequency = waves
        shape = (*sets, len(amplitude), as_points(n_points, len(amplitude)), 1)
        dtype = as_float_dtype("dtype", dtype)
        x = as_rng("rng", rng).uniform(*self.x_range, shape)
        y = self.evaluate(amplitude, phase, x, *frequency)
        return x.astype(dtype, copy=False), y.astype(dtype, copy=False)

    @staticmethod
    def evaluate(
        amplitude: np.ndarray,
        phase: np.ndarray,
        x: np.ndarray,
        frequency: np.ndarray | None = None,
    ) -> np.ndarray:
        """A sin(omega x - phi), the true function of each task.

        Parameters
        ----------
        amplitude, phase : array_like, shape (n_tasks,)
            From :meth:`sample_functions`.
        x : array_like, shape (n_tasks, n_points, 1)
            Points of each task; an array that broadcasts to this shape, such as one
            (n_points, 1) grid for all tasks, will do.
        frequency : array_like, shape (n_tasks,), optional
            omega, from :meth:`sample_functions` with a `frequency_range`. None: 1.

        Returns
        -------
        ndarray, shape (n_tasks, n_points, 1)

        Raises
        ------
        ValueError
            NumPy's, for arrays that do not broadcast.
        """
        amplitude = np.asarray(amplitude)[:, None, None]
        phase = np.asarray(phase)[:, None, None]
        if frequency is not None:
            x = np.asarray(frequency)[:, None, None] * x
        y = np.sin(x - phase)
        return np.multiply(y, amplitude, out=y)
