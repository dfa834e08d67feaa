"""The tables of a configuration as calls: a class or function, and a table's keys its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..learn import SGD, Adam, AdamW, Cosine, Step
from .common import CommandError, meant

__all__ = ["call", "checked", "known", "made", "optimizer", "table_of", "tables_of"]

OPTIMIZERS = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}
SCHEDULES = {"Cosine": Cosine, "Step": Step}
TABLES = ("model", "maml", "bayesian_last_layer", "tasks", "optimizer", "rate_optimizer", "train")


def tables_of(configuration: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all tables of a configuration, empty where one is not there."""
    known("the configuration", configuration, TABLES)
    return {name: table_of(configuration, name) for name in TABLES}


def table_of(configuration: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a table of the configuration, empty if it is not there."""
    found = configuration.get(name, {})
    if not isinstance(found, dict):
        raise CommandError(f"{name} is {found!r:.60}; accepted is a table, [{name}]")
    return found


def known(where: str, table: Iterable[str], accepted: Iterable[str]) -> None:
    """Refuse a key that is not accepted."""
    for key in table:
        if key not in accepted:
            raise CommandError(
                f"{where} has {key!r:.60}; accepted are {', '.join(accepted)}{meant(key, accepted)}"
            )


def made(where: str, classes: Mapping[str, Any], table: dict[str, Any], key: str = "name") -> Any:
    """Return the object whose class a table names, made with the rest of the table."""
    rest = dict(table)
    name = rest.pop("name", None)
    if not isinstance(name, str) or name not in classes:
        raise CommandError(
            f"[{where}] {key} is {name!r:.60}; accepted are {', '.join(classes)}"
            f"{meant(name, classes)}"
        )
    return call(where, classes[name], rest)


def optimizer(where: str, table: dict[str, Any]) -> Any:
    """Return the optimizer of a table, whose learning rate may be a schedule."""
    rate = table.get("learning_rate")
    if isinstance(rate, dict):
        rate = made(f"{where}.learning_rate", SCHEDULES, rate)
        table = {**table, "learning_rate": rate}
    return made(where, OPTIMIZERS, table)


def call(where: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function with a table's keys as its arguments."""
    parameters = inspect.signature(function).parameters
    known(f"[{where}]", arguments, parameters)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise CommandError(f"[{where}] lacks {name}")
    return checked(where, function, **arguments)


def checked(where: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function; what it refuses is an error of a table."""
    try:
        return function(*arguments, **keywords)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CommandError(f"[{where}] {error}") from error
