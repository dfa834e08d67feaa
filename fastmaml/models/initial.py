"""Schemes of initial weights: how wide a layer's draws are, by its sizes.

A scheme draws each weight independently, and leaves the biases at zero or draws them like the
weights. docs/initial-weights.md compares them; `DEFAULT` is what came out.

References
----------
.. [1] Y. LeCun, L. Bottou, G. Orr, K.-R. Müller. Efficient BackProp. Neural Networks: Tricks of
   the Trade, 1998, section 4.6: a standard deviation of 1 / sqrt(n_in).
.. [2] X. Glorot, Y. Bengio. Understanding the difficulty of training deep feedforward neural
   networks. AISTATS 2010: eq. 1 is what they found in use, ±1 / sqrt(n_in) with zero biases, and
   eq. 16 what they propose, a variance of 2 / (n_in + n_out).
.. [3] K. He, X. Zhang, S. Ren, J. Sun. Delving deep into rectifiers. ICCV 2015, eq. 10: a variance
   of 2 / n_in.
.. [4] PyTorch, ``torch.nn.Linear``: weights and biases within ±1 / sqrt(n_in).
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEFAULT", "SCHEMES", "Scheme"]


class Scheme(NamedTuple):
    """Independent draws with mean zero, whose spread follows from (n_in, n_out)."""

    distribution: str  # "normal": the spread is a standard deviation; "uniform": a bound
    spread: Callable[[int, int], float]
    biases: bool = False  # whether biases are drawn too, with the spread of their layer

    def draw(
        self, rng: np.random.Generator, n_in: int, n_out: int, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """Draw an array of a layer with these sizes, in float64."""
        spread = self.spread(n_in, n_out)
        if self.distribution == "normal":
            return rng.normal(0.0, spread, shape)
        return rng.uniform(-spread, spread, shape)


SCHEMES: dict[str, Scheme] = {
    "fan_in_uniform": Scheme("uniform", lambda n_in, n_out: 1 / sqrt(n_in)),  # [2]_, eq. 1
    "pytorch": Scheme("uniform", lambda n_in, n_out: 1 / sqrt(n_in), biases=True),  # [4]_
    "lecun_normal": Scheme("normal", lambda n_in, n_out: sqrt(1 / n_in)),  # [1]_
    "lecun_uniform": Scheme("uniform", lambda n_in, n_out: sqrt(3 / n_in)),  # its variance, [1]_
    "glorot_normal": Scheme("normal", lambda n_in, n_out: sqrt(2 / (n_in + n_out))),  # [2]_
    "glorot_uniform": Scheme("uniform", lambda n_in, n_out: sqrt(6 / (n_in + n_out))),  # [2]_
    "he_normal": Scheme("normal", lambda n_in, n_out: sqrt(2 / n_in)),  # [3]_
    "he_uniform": Scheme("uniform", lambda n_in, n_out: sqrt(6 / n_in)),  # its variance, [3]_
}

DEFAULT = "fan_in_uniform"
