"""The two forms of a task's system, called through their addresses.

So a call compiles the form that its tasks take, and the way back only for a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import types
from numba.core.types import BaseTuple

from ..compile.jit import helper
from ..compile.link import Asked, Types, addresses_of, by_address
from .dual import dual_back, dual_forth
from .head import Head, Task
from .primal import primal_back, primal_forth

#: the functions, by their places in an array of addresses
FUNCTIONS = (dual_forth, primal_forth, dual_back, primal_back)


def _signature() -> Types:
    """The types of each one's arguments: theta's dtype is not among them."""
    i, f, p = types.int64, types.float64, types.CPointer(types.float64)
    head = BaseTuple.from_types([i, i, i, i, p, p, i, i, i, f, i, i, i], Head)
    return head, BaseTuple.from_types([i, i, p, p, p, p, p], Task), p, p


_call = by_address((_signature(),))


def addresses(forms: Iterable[bool], back: bool) -> np.ndarray:
    """An array of addresses, of the forms asked for: whether the primal one, both if both."""
    wanted = {int(primal) + 2 * way for primal in forms for way in range(1 + back)}
    asked = [Asked(each, _signature()) if i in wanted else None for i, each in enumerate(FUNCTIONS)]
    return np.array(addresses_of(asked), np.int64)


@helper
def solve(head, task, systems, memory, h):
    """The predictive mean of a task's query rows, in the place of the prior's, and h."""
    _call(systems[0 if task.k <= head.limit else 1], (head, task, memory, h))


@helper
def solve_back(head, task, systems, memory, eta):
    """dz of all rows and df of the support rows, from df of the query rows and eta."""
    _call(systems[2 if task.k <= head.limit else 3], (head, task, memory, eta))
