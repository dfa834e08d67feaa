"""Tasks to meta-train on: families that are made up, and tables of rows of your own."""

from .base import Family, Tasks, WeightedTasks
from .harmonic import Harmonic
from .labels import label_text
from .linear_system import LinearSystem
from .pendulum import Pendulum
from .sensor import SensorCalibration
from .sinusoid import Sinusoid
from .table import Parts, TaskTable

__all__ = [
    "FAMILIES", "Family", "Harmonic", "LinearSystem", "Parts", "Pendulum", "SensorCalibration",
    "Sinusoid", "TaskTable", "Tasks", "WeightedTasks", "label_text",
]  # fmt: skip

#: the families by the names that the command line knows
FAMILIES: dict[str, type[Family]] = {
    "sinusoid": Sinusoid,
    "harmonic": Harmonic,
    "linear-system": LinearSystem,
    "pendulum": Pendulum,
    "sensor": SensorCalibration,
}
