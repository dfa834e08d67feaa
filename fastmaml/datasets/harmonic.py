"""Harmonic regression tasks: sums of sines whose frequencies are multiples of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..checks import as_count, as_float_dtype, as_rng
from .base import MOST, Family, as_function, as_n_tasks, as_points

__all__ = ["Harmonic"]


@dataclass(frozen=True)
class Harmonic(Family):
    """A distribution over multi-sine waves; a task is one wave, seen around a place of its own.

    With k = 1 ... n_harmonics, y = Σ_k a_k sin(k ω x + b_k) plus noise. Each task draws ω, the
    phases b_k and its place uniformly, the amplitudes a_k from the standard normal distribution;
    its inputs x are normal around the place, with deviation 1 [1]_. Much faster waves than
    :class:`Sinusoid`'s.

    Parameters
    ----------
    frequency_range, phase_range, place_range : tuple of two floats
        (low, high) of ω (radians per unit of x), b_k (radians) and the mean of x.
    n_harmonics : int
        Sines of a wave, at least 1.
    noise : float
        Standard deviation of the noise of y.
    part : {"all", "train", "test"}
        See :class:`Family`; the frequency splits the tasks.

    Raises
    ------
    TypeError, ValueError
        For a range, number or part that is not as above.

    References
    ----------
    .. [1] A. Lacoste, B. Oreshkin, W. Chung, T. Boquet, N. Rostamzadeh, D. Krueger. Uncertainty in
       Multitask Transfer Learning. 2018, arXiv:1806.07528 (ranges as in Torchmeta's Harmonic).

    Examples
    --------
    >>> from fastmaml.datasets import Harmonic
    >>> Harmonic().sample(25, n_support=10, n_query=15, rng=0).x_query.shape
    (25, 15, 1)
    >>> family = Harmonic()
    >>> functions = family.sample_functions(3, rng=0)
    >>> x, y = family.sample_points(*functions, 7, rng=1)
    >>> x.shape[:2], y.shape[:2]
    ((3, 7), (3, 7))
    >>> Harmonic.evaluate(*functions[:3], x).shape
    (3, 7, 1)
    """

    split_range: ClassVar[str] = "frequency_range"

    frequency_range: tuple[float, float] = (5.0, 7.0)
    phase_range: tuple[float, float] = (0.0, 2 * math.pi)
    place_range: tuple[float, float] = (-4.0, 4.0)
    n_harmonics: int = 2
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "n_harmonics", as_count("n_harmonics", self.n_harmonics, 1, MOST))

    def sample_functions(
        self, n_tasks: int, rng: np.random.Generator | int | None = None
    ) -> tuple[np.ndarray, ...]:
        """Return ω (n_tasks,), a and b (n_tasks, n_harmonics), and the place (n_tasks,).

        Parameters and errors are those of `Family.sample_functions`.
        """
        n_tasks = as_n_tasks(n_tasks, self.n_harmonics)
        rng = as_rng("rng", rng)
        each = (n_tasks, self.n_harmonics)
        return (
            self._draw_split(n_tasks, rng),
            rng.standard_normal(each),
            rng.uniform(*self.phase_range, each),
            rng.uniform(*self.place_range, n_tasks),
        )

    def sample_points(
        self,
        frequency: np.ndarray,
        amplitude: np.ndarray,
        phase: np.ndarray,
        place: np.ndarray,
        n_points: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return points of given waves: x and y, each (n_tasks, n_points, 1).

        Parameters and errors are as for `Family`.
        """
        frequency = as_function("frequency", frequency)
        amplitude = as_function("amplitude", amplitude, len(frequency), -1)
        phase = as_function("phase", phase, *amplitude.shape)
        place = as_function("place", place, len(frequency))
        dtype, rng = as_float_dtype("dtype", dtype), as_rng("rng", rng)
        shape = (len(frequency), as_points(n_points, len(frequency)), 1)
        x = place[:, None, None] + rng.standard_normal(shape)
        y = self.evaluate(frequency, amplitude, phase, x)
        y += self.noise * rng.standard_normal(shape)
        return x.astype(dtype, copy=False), y.astype(dtype, copy=False)

    @staticmethod
    def evaluate(
        frequency: np.ndarray, amplitude: np.ndarray, phase: np.ndarray, x: np.ndarray
    ) -> np.ndarray:
        """Return Σ_k a_k sin(k ω x + b_k) at x (n_tasks, n_points, 1), or what broadcasts to it.

        frequency (n_tasks,), amplitude and phase (n_tasks, n_harmonics) are what `sample_functions`
        returned.

        Raises
        ------
        ValueError
            NumPy's, for arrays that do not broadcast.
        """
        amplitude, phase = (np.asarray(part)[:, None, :] for part in (amplitude, phase))
        multiples = np.asarray(frequency)[:, None, None] * np.arange(1, amplitude.shape[-1] + 1)
        waves = amplitude * np.sin(multiples * x + phase)
        total: np.ndarray = waves.sum(axis=-1, keepdims=True)
        return total
