"""One line of the table of `check_model`: of all numbers compared, the worst."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .result import NOT_JUDGED, RIGHT, WRONG, Finding

__all__ = ["Comparison"]

Array = NDArray[Any]

#: an entry is judged if what is accepted is at most this part of the largest of its kind
JUDGED = 1e-2


class _Worst(NamedTuple):
    error: float
    accepted: float
    note: str


class Comparison:
    """All points of one check: the worst entry, and how many could be judged."""

    def __init__(self, part: str, check: str) -> None:
        self.part, self.check = part, check
        self.worst = _Worst(float("nan"), float("nan"), "")
        self.ratio, self.judged, self.given = -1.0, 0, 0

    def add(self, found: Array, want: Array, accepted: Array, where: Callable[..., str]) -> None:
        """Compare arrays of one shape; `accepted` is what they may differ by."""
        found, want, accepted = np.broadcast_arrays(found, want, accepted)
        largest = float(np.max(np.abs(want), initial=0.0, where=np.isfinite(want))) or 1.0
        judged = np.isfinite(want) & (accepted <= JUDGED * largest)
        self.given, self.judged = self.given + want.size, self.judged + int(judged.sum())
        if not judged.any():
            return
        error = np.where(np.isfinite(found), np.abs(found - want), np.inf)
        ratio = np.where(judged, error / np.maximum(accepted, np.finfo(float).tiny), -1.0)
        at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        if ratio[at] > self.ratio:
            self.ratio = float(ratio[at])
            note = f"{where(*map(int, at))}: {found[at]:.6g}, expected {want[at]:.6g}"
            self.worst = _Worst(float(error[at] / largest), float(accepted[at] / largest), note)

    def finding(self) -> Finding:
        """The line of the table."""
        wrong = self.ratio > 1
        verdict = WRONG if wrong else RIGHT if self.judged else NOT_JUDGED
        note = self.worst.note if wrong else ""
        if self.judged < self.given and not wrong:
            note = f"{self.given - self.judged} of {self.given} numbers not judged"
        return Finding(self.part, self.check, self.worst.error, self.worst.accepted, verdict, note)
