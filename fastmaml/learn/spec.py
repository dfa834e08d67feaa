"""Objectives as plain values: the class and the arguments of each object, for files.

Nothing but the classes that are listed here is ever made from a file, by their constructors, which
check every argument, or by functions that do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..checks import shown
from ..closed_form import BayesianLastLayer
from ..learner import Learner
from ..losses import kinds
from ..maml import MAML
from ..models import MLP, Frozen, Linear, Scaled, Sum
from ..models.formula import Formula
from ..models.plain import formula_of, plain_formula
from .reptile import Reptile

__all__ = ["CLASSES", "build", "describe", "learner_of", "maml_of"]

#: what can be saved, by name; each keeps the arguments of its constructor as attributes
CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        MAML,
        BayesianLastLayer,
        Reptile,
        MLP,
        Linear,
        kinds.Huber,
        kinds.PseudoHuber,
        kinds.LogCosh,
        kinds.Quantile,
        kinds.GaussianNLL,
        kinds.Logistic,
        kinds.Softmax,
        kinds.Poisson,
    )
}

#: those whose arguments are not attributes, in files: what gives them, and what makes an object
PLAIN: dict[type, tuple[Callable[[Any], dict[str, Any]], Callable[..., Any]]] = {
    Formula: (plain_formula, formula_of),
    Sum: (
        lambda model: {"parts": model.parts, "names": model.names},
        lambda parts, names: Sum(*parts, names=names),
    ),
    Scaled: (lambda model: {"model": model.model, **model.scales}, Scaled),
    Frozen: (lambda model: {"model": model.model, "frozen": model.mask.tolist()}, Frozen),
}
CLASSES |= {kind.__name__: kind for kind in PLAIN}
#: what holds functions
CODE = ("Custom", "Features", "Loss")

#: the most rates (steps times layers) of an objective in a file, which has no bytes for them
RATES_LIMIT = 10_000_000


def describe(value: Any, arrays: dict[str, np.ndarray] | None = None, at: str = "objective") -> Any:
    """Return an objective, or an argument of one, as JSON has it.

    Parameters
    ----------
    value : object
    arrays : dict, optional
        Where arrays go, under names that begin with `at`. None: they become lists in float64,
        which keep their bits.
    at : str

    Raises
    ------
    TypeError
        For an object of another class; a subclass is another class.
    """
    if type(value).__name__ in CLASSES and CLASSES[type(value).__name__] is type(value):
        if type(value) in PLAIN:
            given = PLAIN[type(value)][0](value)
        else:
            given = {n: getattr(value, n) for n in inspect.signature(type(value)).parameters}
        return {
            "class": type(value).__name__,
            "arguments": {n: describe(each, arrays, f"{at}.{n}") for n, each in given.items()},
        }
    if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, np.ndarray):
        if arrays is None:
            return value.tolist()
        arrays[at] = value
        return {"array": at}
    if isinstance(value, tuple | list):
        return [describe(entry, arrays, f"{at}[{i}]") for i, entry in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    why = ", for it holds functions, and a file no code" if type(value).__name__ in CODE else ""
    raise TypeError(
        f"{at} is {shown(value)}, a {type(value).__name__}, which cannot be saved{why}; "
        f"accepted are objects of {', '.join(CLASSES)}, and no subclasses"
    )


def build(described: Any, arrays: Mapping[str, np.ndarray] | None = None) -> Any:
    """Return the object that `describe` described.

    Raises
    ------
    ValueError
        For a class that is not listed, and arguments that it does not accept.
    """
    if isinstance(described, list):
        return [build(entry, arrays) for entry in described]
    if not isinstance(described, dict):
        return described
    if set(described) == {"array"}:
        name = described["array"]
        if not isinstance(name, str) or arrays is None or name not in arrays:
            raise ValueError(f"there is no array {shown(name)}")
        return arrays[name]
    name, given = described.get("class"), described.get("arguments")
    if set(described) != {"class", "arguments"} or not isinstance(given, dict):
        raise ValueError(f"{shown(described)} is no object: it needs a class and arguments")
    if not isinstance(name, str) or name not in CLASSES:
        raise ValueError(
            f"there is an object of class {shown(name)}; known are {', '.join(CLASSES)}"
        )
    arguments = {key: build(value, arrays) for key, value in given.items()}
    kind = CLASSES[name]
    make = PLAIN[kind][1] if kind in PLAIN else kind
    if unknown := set(arguments) - set(inspect.signature(make).parameters):
        raise ValueError(f"{name} has no argument {min(unknown)!r:.60}")
    steps, layers = arguments.get("steps"), getattr(arguments.get("model"), "n_layers", 1)
    if isinstance(steps, int) and steps * layers > RATES_LIMIT:
        raise ValueError(f"{shown(steps, 20)} steps of {layers} layers are more than {RATES_LIMIT}")
    try:
        return make(**arguments)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from error


def learner_of(objective: Any) -> Learner:
    """Return what says how tasks adapt: the objective itself, or what it wraps."""
    learner = getattr(objective, "maml", objective)
    if not isinstance(learner, Learner):
        raise TypeError(
            f"objective is {shown(objective)}, a {type(objective).__name__}; accepted are a "
            "fastmaml.MAML, a fastmaml.BayesianLastLayer and a fastmaml.learn.Reptile"
        )
    return learner


def maml_of(objective: Any) -> MAML:
    """Return the MAML that says how tasks adapt: the objective itself, or what it wraps."""
    maml = getattr(objective, "maml", objective)
    if not isinstance(maml, MAML):
        raise TypeError(
            f"objective is {shown(objective)}, a {type(objective).__name__}; "
            "accepted are a fastmaml.MAML and a fastmaml.learn.Reptile"
        )
    return maml
