"""What contenders share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..workloads import HeadProblem, Problem


class Prepared(NamedTuple):
    """A contender that is ready to be timed."""

    call: Callable[[], Any]  # one value and gradient, finished when it returns
    # its result as (value, flat gradient); None for what computes no meta-gradient
    as_numpy: Callable[[Any], tuple[float, np.ndarray]] | None
    versions: str


def layers_of(problem: Problem | HeadProblem) -> list[tuple[np.ndarray, np.ndarray]]:
    """The flat parameters as one (weight, bias) pair a layer."""
    layers, start = [], 0
    for n_in, n_out in pairwise(problem.layers):
        middle, stop = start + n_out * n_in, start + n_out * n_in + n_out
        weight = problem.theta[start:middle].reshape(n_out, n_in)
        layers.append((weight, problem.theta[middle:stop]))
        start = stop
    return layers


def flat(layers: Any) -> np.ndarray:
    """The (weight, bias) pairs as one vector."""
    return np.concatenate([np.ravel(np.asarray(leaf)) for layer in layers for leaf in layer])
