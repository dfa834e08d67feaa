"""What a row of y holds where the loss says so: how many numbers, and which are accepted."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Targets"]


@lru_cache(maxsize=16)
def _numbers(n_classes: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], ...]:
    """0, 1 and this as arrays, to which y is compared in half the time that a number takes."""
    return tuple(np.array(number, dtype) for number in (0, 1, n_classes))


class Targets(NamedTuple):
    """The targets of a row, as a loss of a model takes them.

    Their kind is ``"any"`` number; ``"binary"``, 0 or 1; ``"counts"``, from 0 on; or ``"class"``, a
    label from 0 to `n_classes` - 1, for which a row that has a 1 in its place may be given.
    """

    loss: str  # what errors call it
    width: int
    kind: str = "any"
    n_classes: int = 0

    def width_of(self, y: Any, single: bool) -> int:
        """Numbers in a row of `y` as it is given, which need not be of the right shape."""
        if self.kind == "class":
            try:
                shape = np.shape(y if single else y[0])
            except (IndexError, KeyError, TypeError, ValueError):
                return self.width  # what is wrong is told where all arrays are looked at
            if len(shape) == 2 and shape[1] == self.n_classes:
                return self.n_classes
        return self.width

    def as_labels(
        self, name: str, y: NDArray[Any], offsets: NDArray[np.int64], check: bool
    ) -> NDArray[Any]:
        """Return rows (N, width) from those that were given, with labels in the place of rows.

        Raises
        ------
        ValueError
            With `check`, for a number that the loss does not accept.
        """
        hot = y.shape[1] > 1 and self.kind == "class"
        if self.kind == "any" or not (check or hot):
            return y
        right = self._accepts(y, hot)
        if check and np.count_nonzero(right) < right.size:  # faster than all()
            row = int(np.argmin(right.all(axis=1)))
            task = int(np.searchsorted(offsets, row, side="right")) - 1
            value = y[row].tolist() if hot else float(y[row][~right[row]][0])
            raise ValueError(
                f"{name} holds {value} in task {task}, row {row - int(offsets[task])}; "
                f"{self.loss} accepts {self._accepted(hot)}"
            )
        if not hot:
            return y
        labels = np.argmax(y, axis=1).astype(y.dtype)
        labels[~right.all(axis=1)] = np.nan  # which is no label, where nobody checks
        return labels[:, None]

    def width_error(self, name: str, given: int, model: Any) -> ValueError:
        """What is wrong with rows of y that are `given` numbers wide."""
        accepted = str(self.width)
        if self.kind == "class":
            accepted += f", a label, or {self.n_classes} with a 1 in its place"
            if given == self.n_classes:  # after a task with labels
                accepted += ", but not both"
        return ValueError(f"{name} has {given} columns, {self.loss} takes {accepted} ({model!r})")

    def _accepts(self, y: NDArray[Any], hot: bool) -> NDArray[np.bool_]:
        zero, one, end = _numbers(self.n_classes, y.dtype)
        if hot:
            right = ((y == zero) | (y == one)) & (np.count_nonzero(y, axis=1) == 1)[:, None]
        elif self.kind == "class":
            right = (y >= zero) & (y < end) & (y == np.trunc(y))
        elif self.kind == "binary":
            right = (y == zero) | (y == one)
        else:
            right = y >= zero
        return np.asarray(right)

    def _accepted(self, hot: bool) -> str:
        if hot:
            return "rows of zeros with one 1"
        return {
            "binary": "0 and 1",
            "counts": "numbers of at least 0",
            "class": f"labels from 0 to {self.n_classes - 1}, whole numbers",
        }[self.kind]
