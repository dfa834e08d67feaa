"""What a custom model's functions do to arrays: run as plain Python, where NumPy watches."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.compile.given import python_of
from ..kernels.models.custom import ARGUMENTS
from ..models.custom import Custom
from .result import WRONG, Finding

__all__ = ["out_of_bounds"]


def out_of_bounds(model: Custom, theta: NDArray[Any], x: NDArray[Any]) -> tuple[Finding, ...]:
    """Functions that reach beyond an array, or write to another than the last one.

    What they call that is compiled runs compiled, and is not watched.
    """
    found = []
    shape = (len(x), model.n_outputs)
    sizes = {
        "theta": theta, "x": x, "f": np.zeros(shape), "delta": np.full(shape, 0.3),
        "rf": np.zeros(shape), "g": np.zeros_like(theta), "h": np.zeros_like(theta),
        "v": np.full_like(theta, 0.3),
    }  # fmt: skip
    for name, words in ARGUMENTS.items():
        function = getattr(model, name)
        if function is None:
            continue
        given = [sizes[word].copy() for word in words]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                python_of(function)(*given)
        except IndexError as error:
            found.append(Finding(name, "bounds", float("inf"), 0.0, WRONG, str(error)))
            continue
        except Exception:  # that is another matter, and may be Numba's own
            continue
        for word, array in zip(words[:-1], given[:-1], strict=True):
            if not np.array_equal(array, sizes[word], equal_nan=True):
                note = f"it writes to {word}"
                found.append(Finding(name, "bounds", float("inf"), 0.0, WRONG, note))
    return tuple(found)
