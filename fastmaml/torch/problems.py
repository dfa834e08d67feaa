"""What an operator is told of an objective: a text, from which any process builds it again.

A compiled graph keeps its constants, and PyTorch keeps compiled graphs on disk. So the operator
gets no object and no number of one, which in another process would stand for something else, but
the objective as JSON. Of one that JSON cannot hold, with a model of the user's own, the text is a
name that no other process has.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from numpy.typing import NDArray

from ..learn.spec import build, describe
from ..learner import Learner

__all__ = ["objective_of", "problem_of", "with_rate"]

_named: WeakValueDictionary[str, Learner] = WeakValueDictionary()
_names: WeakKeyDictionary[Learner, str] = WeakKeyDictionary()


def problem_of(objective: Learner) -> str:
    """Return the text that stands for an objective."""
    try:
        return json.dumps(describe(objective), sort_keys=True)
    except TypeError:
        name = _names.setdefault(objective, uuid4().hex)
        _named[name] = objective
        return name


@lru_cache(maxsize=256)
def _built(problem: str) -> Learner:
    return build(json.loads(problem))


def objective_of(problem: str) -> Learner:
    """Return the objective that a text stands for.

    Raises
    ------
    RuntimeError
        If it is the name of an objective that is no longer there, or was another process's.
    """
    if problem.startswith("{"):
        return _built(problem)
    try:
        return _named[problem]
    except KeyError:
        raise RuntimeError(
            "the objective of this graph has a model of your own, and is of another process or "
            "no longer there; compile anew"
        ) from None


def with_rate(problem: str, inner_lr: NDArray[Any] | None) -> Any:
    """Return the objective of a text, with other inner rates if there are any."""
    objective: Any = objective_of(problem)
    return objective if inner_lr is None else objective.with_inner_lr(inner_lr)
