"""What a training keeps of its data: which tasks were for what, their rows' hashes, the scaling.

So ``evaluate`` and ``resume`` know, whatever has happened to the file, which tasks were trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..datasets import Parts, TaskTable, label_text
from ..datasets.labels import list_some
from ..learn import Scaling
from .common import CommandError

__all__ = ["Record"]


class Record(NamedTuple):
    """What a checkpoint holds of the table that it was trained on.

    Attributes
    ----------
    parts : dict
        "training", "validation" and "test": the hash of the rows of each task, by its name.
    scaling : Scaling or None
        Of the rows of the training tasks.
    categories : dict
        Those of each categorical column.
    """

    parts: dict[str, dict[str, str]]
    scaling: Scaling | None
    categories: dict[str, list[str]]

    @classmethod
    def of(
        cls, parts: Parts, scaling: Scaling | None, categories: Mapping[str, Sequence[str]]
    ) -> Record:
        """Return the record of a table in its parts."""
        hashes = {name: _hashes(table) for name, table in parts._asdict().items()}
        return cls(hashes, scaling, {name: list(c) for name, c in categories.items()})

    def changes(self, parts: Parts) -> str:
        """Say what has become of the tasks; nothing if they are as they were."""
        old = {task: h for hashes in self.parts.values() for task, h in hashes.items()}
        new = {task: h for table in parts for task, h in _hashes(table).items()}
        found = {
            "gone": sorted(set(old) - set(new)),
            "new": sorted(set(new) - set(old)),
            "with other rows": sorted(t for t in old if new.get(t, old[t]) != old[t]),
        }
        said = [
            f"{len(tasks)} {'task is' if len(tasks) == 1 else 'tasks are'} {what} "
            f"({list_some([*map(repr, tasks)])})"
            for what, tasks in found.items()
            if tasks
        ]
        return ", ".join(said)

    def merged(self, parts: Parts) -> Record:
        """Return the record of a training that goes on with these parts.

        A task that is gone keeps its place: it was trained on, and may come back.
        """
        now = Record.of(parts, self.scaling, self.categories).parts
        return self._replace(parts={name: {**self.parts[name], **now[name]} for name in now})

    # ---- as JSON has it

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        scaling = None if self.scaling is None else self.scaling.to_dict()
        return {**self._asdict(), "scaling": scaling}

    @classmethod
    def from_dict(cls, given: Any) -> Record:
        """Return what `to_dict` wrote, all of it checked.

        Raises
        ------
        CommandError
            For anything else.
        """
        fields = given if isinstance(given, dict) and set(given) == set(cls._fields) else {}
        parts, categories = fields.get("parts", {}), fields.get("categories")
        fine = isinstance(parts, dict) and set(parts) == set(Parts._fields)
        fine = fine and all(
            isinstance(hashes, dict) and all(isinstance(h, str) for h in hashes.values())
            for hashes in parts.values()
        )
        fine = fine and isinstance(categories, dict)
        for texts in categories.values() if isinstance(categories, dict) else ():
            fine = fine and isinstance(texts, list) and bool(texts)
            fine = fine and all(isinstance(text, str) for text in texts)
        if not fine or not isinstance(categories, dict):
            raise CommandError("the record of its tasks is missing or damaged; train again")
        try:
            scaling = fields["scaling"]
            scaling = None if scaling is None else Scaling.from_dict(scaling)
        except (TypeError, ValueError) as error:
            raise CommandError(f"the record of its scaling is damaged: {error}") from error
        return cls(parts, scaling, categories)


def _hashes(table: TaskTable) -> dict[str, str]:
    """The hash of each task's rows: of their numbers, whatever the order of rows."""
    pairs = zip(table.names, table.by_task(table.x), table.by_task(table.y), strict=True)
    return {label_text(name): _hash(np.hstack([x, y])) for name, x, y in pairs}


def _hash(rows: np.ndarray) -> str:
    ordered = rows[np.lexsort(rows.T[::-1])] + 0.0  # -0.0 is 0.0
    return hashlib.blake2b(ordered.astype("<f8").tobytes(), digest_size=16).hexdigest()
