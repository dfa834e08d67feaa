"""The random problems of ``cases`` with weights of rows, zero among them."""

from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

import numpy as np
from cases import SMOOTH, Case, _is_fair, _single, draw_for
from reference import Weighted


@dataclass(frozen=True, eq=False)
class WeightedCase(Case):
    """A case, and the weights of its support and query rows as a call takes them, or None."""

    sample_weight: Any = None
    sample_weight_query: Any = None

    @property
    def weights(self):
        """What a call takes by keyword."""
        return {
            "sample_weight": self.sample_weight,
            "sample_weight_query": self.sample_weight_query,
        }

    @cached_property
    def per_task(self):
        """As of a case, with `Weighted` targets on the sides that have weights."""
        x, y, x_query, y_query = super().per_task
        of_query = self.sample_weight if self.data.x_query is None else self.sample_weight_query
        sides = ((y, self.sample_weight), (y_query, of_query))
        y, y_query = (
            side if weights is None
            else [Weighted(*task) for task in zip(side, weights, strict=True)]
            for side, weights in sides
        )  # fmt: skip
        return x, y, x_query, y_query


@cache
def draw_weighted(seed, method="explicit", sides="both", **fixed):
    """The problem of this seed with weights: of "support" rows, of "query" rows, or of "both"."""
    fixed.setdefault("activation", SMOOTH[seed % len(SMOOTH)])
    case = draw_for(method, seed, **fixed)
    own = {field.name: getattr(case, field.name) for field in fields(case)}
    for attempt in range(200):
        rng = np.random.default_rng([13, seed, attempt])
        data = case.data
        support = _weights(rng, data.x) if sides != "query" or data.x_query is None else None
        query = None if sides == "support" or data.x_query is None else _weights(rng, data.x_query)
        found = WeightedCase(**own, sample_weight=support, sample_weight_query=query)
        if _is_fair(found):
            return found
    raise RuntimeError(f"no fair weights for seed {seed} and {fixed}")


def _weights(rng, x):
    """Some zeros, but not of all rows of a task."""
    parts = []
    for rows in x:
        part = _single(rng.uniform(0.3, 1.4, len(rows))) * (rng.random(len(rows)) < 0.7)
        part[rng.integers(len(rows))] = 1.25
        parts.append(part)
    return np.array(parts) if isinstance(x, np.ndarray) else parts
