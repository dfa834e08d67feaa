"""Which method computes a problem: each is asked whether it refuses, and where it suits."""

from __future__ import annotations

from .base import Method, Problem
from .closed_form import CLOSED_FORM
from .dense import DENSE
from .explicit import EXPLICIT
from .factored import FACTORED
from .implicit import IMPLICIT
from .lanes import LANES

__all__ = ["ALL", "METHODS", "ORDERS", "choose"]

#: what a user may ask for, and the methods that it means: the first that suits, else the last
METHODS: dict[str, tuple[Method, ...]] = {
    "auto": (FACTORED, LANES, DENSE),
    "explicit": (EXPLICIT,),
    "dense": (DENSE,),
    "factored": (FACTORED,),
    "lanes": (LANES,),
}
#: the orders of the meta-gradient, and the methods of those that have their own
ORDERS: dict[str, tuple[Method, ...]] = {"exact": (), "first": (), "implicit": (IMPLICIT,)}
#: where a result is not finite, what computes it anew
ANEW: tuple[Method, ...] = (DENSE, FACTORED)
#: each method that has a name, by it
ALL: dict[str, Method] = {
    each.name: each for each in (EXPLICIT, DENSE, FACTORED, LANES, CLOSED_FORM)
}


def choose(problem: Problem) -> Problem:
    """Give a problem the methods that may be asked, and return it.

    Raises
    ------
    ValueError
        If all that are meant refuse it.
    """
    meant = ORDERS[problem.order] or METHODS[problem.method]
    refusals = [method.refuses(problem) for method in meant]
    able = [each for each, refusal in zip(meant, refusals, strict=True) if refusal is None]
    if not able:
        raise ValueError(refusals[-1])
    problem.methods = tuple(able)
    problem.anew = ANEW
    return problem
