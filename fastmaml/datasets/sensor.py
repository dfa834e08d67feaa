"""Sensor calibration: from a device's reading to the quantity that it measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..checks import as_float_dtype, as_rng
from .base import Family, as_function, as_n_tasks, as_points

__all__ = ["SensorCalibration"]


@dataclass(frozen=True)
class SensorCalibration(Family):
    """A distribution over sensors; a task is one device, calibrated at a few known quantities.

    A device of gain g, offset o and saturation s shows a quantity q as the reading
    s tanh((g q + o) / s) plus noise: linear for small readings, and never beyond ±s (static
    characteristics of transducers: [1]_, chapter 2). Each device draws g, o, s uniformly, and its
    points q uniformly. A row has the feature reading and the target q, so that the model is the
    calibration curve, the inverse of the device.

    Parameters
    ----------
    gain_range, offset_range, saturation_range, quantity_range : tuple of two floats
        (low, high) of g, o, s and q. Gain and saturation are above 0.
    noise : float
        Standard deviation of the noise of a reading.
    part : {"all", "train", "test"}
        See :class:`Family`; the gain splits the tasks.

    Raises
    ------
    TypeError, ValueError
        For a range, number or part that is not as above.

    References
    ----------
    .. [1] J. Fraden. Handbook of Modern Sensors, 4th edition, 2010, chapter 2.

    Examples
    --------
    >>> from fastmaml.datasets import SensorCalibration
    >>> SensorCalibration().sample(25, n_support=5, n_query=15, rng=0).x.shape
    (25, 5, 1)
    >>> family = SensorCalibration()
    >>> functions = family.sample_functions(3, rng=0)
    >>> x, y = family.sample_points(*functions, 7, rng=1)
    >>> x.shape[:2], y.shape[:2]
    ((3, 7), (3, 7))
    >>> SensorCalibration.read(*functions, 0.5).shape
    (3, 1, 1)
    """

    split_range: ClassVar[str] = "gain_range"

    gain_range: tuple[float, float] = (0.5, 1.5)
    offset_range: tuple[float, float] = (-0.3, 0.3)
    saturation_range: tuple[float, float] = (1.0, 2.0)
    quantity_range: tuple[float, float] = (-1.0, 1.0)
    noise: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gain_range", "saturation_range"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted are numbers above 0")

    def sample_functions(
        self, n_tasks: int, rng: np.random.Generator | int | None = None
    ) -> tuple[np.ndarray, ...]:
        """Return devices: gain, offset and saturation, each (n_tasks,) in float64.

        Parameters and errors are those of `Family.sample_functions`.
        """
        n_tasks = as_n_tasks(n_tasks)
        rng = as_rng("rng", rng)
        gain = self._draw_split(n_tasks, rng)
        return (
            gain,
            rng.uniform(*self.offset_range, n_tasks),
            rng.uniform(*self.saturation_range, n_tasks),
        )

    def sample_points(
        self,
        gain: np.ndarray,
        offset: np.ndarray,
        saturation: np.ndarray,
        n_points: int,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return readings of given devices: x and y, each (n_tasks, n_points, 1).

        Parameters and errors are as for `Family`.
        """
        gain = as_function("gain", gain)
        offset = as_function("offset", offset, len(gain))
        saturation = as_function("saturation", saturation, len(gain), positive=True)
        dtype, rng = as_float_dtype("dtype", dtype), as_rng("rng", rng)
        shape = (len(gain), as_points(n_points, len(gain)), 1)
        quantity = rng.uniform(*self.quantity_range, shape)
        reading = self.read(gain, offset, saturation, quantity)
        reading += self.noise * rng.standard_normal(shape)
        return reading.astype(dtype, copy=False), quantity.astype(dtype, copy=False)

    @staticmethod
    def read(
        gain: np.ndarray, offset: np.ndarray, saturation: np.ndarray, quantity: np.ndarray
    ) -> np.ndarray:
        """Return the readings without noise, (n_tasks, n_points, 1), of a quantity of that shape.

        gain, offset and saturation, each (n_tasks,), are what `sample_functions` returned.

        Raises
        ------
        ValueError
            NumPy's, for arrays that do not broadcast.
        """
        gain, offset, saturation = (
            np.asarray(part)[:, None, None] for part in (gain, offset, saturation)
        )
        reading: np.ndarray = saturation * np.tanh((gain * quantity + offset) / saturation)
        return reading
