"""Random linear systems: predict the next output from the last outputs and inputs (ARX)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..checks import as_float_dtype, as_rng
from .base import Family, as_function, as_n_tasks, as_points

__all__ = ["LinearSystem"]

#: time steps from rest that are thrown away
WARM_UP = 50


@dataclass(frozen=True)
class LinearSystem(Family):
    """A distribution over stable second-order ARX systems; a task is one system, excited by noise.

    The system of a task is y_t = a_1 y_(t-1) + a_2 y_(t-2) + b_1 u_(t-1) + b_2 u_(t-2) + e_t [1]_,
    with two complex poles r exp(±iω), so a_1 = 2 r cos ω and a_2 = -r². r, ω are drawn uniformly,
    b from the standard normal distribution. The input u is white noise of variance 1, e white noise
    of deviation `noise`. A row has the features (y_(t-1), y_(t-2), u_(t-1), u_(t-2)) and the target
    y_t. Support and query are consecutive rows of one experiment each.

    Parameters
    ----------
    radius_range, angle_range : tuple of two floats
        (low, high) of r and ω (radians). For a stable system r is at least 0 and below 1; ω is from
        0 to π, where each value is another system.
    noise : float
        Standard deviation of e.
    part : {"all", "train", "test"}
        See :class:`Family`; the angle of the poles splits the tasks.

    Raises
    ------
    TypeError, ValueError
        For a range, number or part that is not as above.

    References
    ----------
    .. [1] L. Ljung. System Identification: Theory for the User, 2nd edition, 1999, section 4.2.

    Examples
    --------
    >>> from fastmaml.datasets import LinearSystem
    >>> tasks = LinearSystem().sample(25, n_support=10, n_query=15, rng=0)
    >>> tasks.x.shape, tasks.y.shape
    ((25, 10, 4), (25, 10, 1))
    >>> family = LinearSystem()
    >>> functions = family.sample_functions(3, rng=0)
    >>> x, y = family.sample_points(*functions, 7, rng=1)
    >>> x.shape[:2], y.shape[:2]
    ((3, 7), (3, 7))
    """

    n_inputs: ClassVar[int] = 4
    split_range: ClassVar[str] = "angle_range"

    radius_range: tuple[float, float] = (0.3, 0.8)
    angle_range: tuple[float, float] = (math.pi / 6, math.pi * 5 / 6)
    noise: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.radius_range
        if low < 0 or high >= 1:
            raise ValueError(
                f"radius_range is {self.radius_range}; accepted are numbers from 0 to below 1, "
                "for which a system is stable"
            )
        low, high = self.angle_range
        if low < 0 or high > math.pi:
            raise ValueError(f"angle_range is {self.angle_range}; accepted are numbers from 0 to π")

    def sample_functions(
        self, n_tasks: int, rng: np.random.Generator | int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return systems: a and b, each (n_tasks, 2) in float64.

        Parameters and errors are those of `Family.sample_functions`.
        """
        n_tasks = as_n_tasks(n_tasks)
        rng = as_rng("rng", rng)
        angle = self._draw_split(n_tasks, rng)
        radius = rng.uniform(*self.radius_range, n_tasks)
        a = np.stack([2 * radius * np.cos(angle), -(radius**2)], axis=1)
        return a, rng.standard_normal((n_tasks, 2))

    def sample_points(
        self,
        a: np.ndarray,
        b: np.ndarray,
        n_points: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what systems did: x (n_tasks, n_points, 4) and y (n_tasks, n_points, 1).

        It starts at rest, 50 time steps before the first row.

        Parameters and errors are as for `Family`.
        """
        a = as_function("a", a, None, 2)
        b = as_function("b", b, len(a), 2)
        dtype, rng = as_float_dtype("dtype", dtype), as_rng("rng", rng)
        n_steps = WARM_UP + as_points(n_points, len(a))
        u, e = rng.standard_normal((2, len(a), n_steps))
        drive = self.noise * e
        drive[:, 1:] += b[:, :1] * u[:, :-1]
        drive[:, 2:] += b[:, 1:] * u[:, :-2]
        y = np.zeros((len(a), n_steps))
        for t in range(2, n_steps):  # all systems at once
            y[:, t] = a[:, 0] * y[:, t - 1] + a[:, 1] * y[:, t - 2] + drive[:, t]
        past = [signal[:, WARM_UP - lag : n_steps - lag] for signal in (y, u) for lag in (1, 2)]
        x, target = np.stack(past, axis=-1), y[:, WARM_UP:, None]
        return x.astype(dtype, copy=False), np.ascontiguousarray(target, dtype)
