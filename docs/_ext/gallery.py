"""The gallery: in which order, and what an example is given on its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: from the first to read to the last
ORDER = (
    "adapt_to_a_wave.py",
    "numpy_training_loop.py",
    "scipy_lbfgs.py",
    "pytorch_training_loop.py",
    "ragged_tasks.py",
    "grey_box.py",
    "fertility.py",
    "digits.py",
    "tensorboard_log.py",
    "million_tasks.py",
)
ARGUMENTS = {
    "million_tasks.py": ["--tasks", "40000", "--batch", "400", "--epochs", "3", "--workers", "2"],
}


class Order:
    """The place of an example; one that is not in the list comes last."""

    def __init__(self, folder: str) -> None:
        pass

    def __call__(self, name: str) -> tuple[int, str]:
        """Sort by this."""
        return (ORDER.index(name) if name in ORDER else len(ORDER)), name

    def __repr__(self) -> str:
        return "Order()"


def arguments(configuration: Any, variables: dict[str, Any]) -> list[str]:
    """The command line of an example."""
    return ARGUMENTS.get(Path(variables["src_file"]).name, [])
