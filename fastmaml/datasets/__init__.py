"""Families of tasks to meta-train on: each samples whole batches from a NumPy Generator."""

from .base import Family, Tasks
from .harmonic import Harmonic
from .linear_system import LinearSystem
from .pendulum import Pendulum
from .sensor import SensorCalibration
from .sinusoid import Sinusoid

__all__ = [
    "FAMILIES", "Family", "Harmonic", "LinearSystem", "Pendulum", "SensorCalibration", "Sinusoid",
    "Tasks",
]  # fmt: skip

#: the families by the names that the command line knows
FAMILIES: dict[str, type[Family]] = {
    "sinusoid": Sinusoid,
    "harmonic": Harmonic,
    "linear-system": LinearSystem,
    "pendulum": Pendulum,
    "sensor": SensorCalibration,
}
