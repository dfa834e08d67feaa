"""Families of tasks to meta-train on: each samples whole batches from a NumPy Generator."""

from .base import Tasks
from .sinusoid import Sinusoid

__all__ = ["FAMILIES", "Sinusoid", "Tasks"]

#: the families by name, as the command line knows them
FAMILIES = {"sinusoid": Sinusoid}
