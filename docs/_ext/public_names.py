"""Every public name has its place in the reference; one that is missing is a warning, so an error.

What is public: the names of ``__all__`` of `MODULES`, and what a module offers beside it because it
needs an extra.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import types
from typing import Any

MODULES = (
    "fastmaml", "fastmaml.checking", "fastmaml.datasets", "fastmaml.distributed",
    "fastmaml.equations", "fastmaml.export", "fastmaml.jax", "fastmaml.learn", "fastmaml.models",
    "fastmaml.torch",
)  # fmt: skip


def public_names() -> dict[str, Any]:
    """The objects by their full names, modules left out; the shortest name of each."""
    found: dict[str, Any] = {}
    for module_name in MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError:  # PyTorch or JAX is not installed
            continue
        names = {
            *module.__all__,
            *getattr(module, "_LATER", ()),
            *getattr(module, "NEED_SKLEARN", ()),
        }
        for name in sorted(names):
            value = getattr(module, name)
            if isinstance(value, types.ModuleType) or any(
                value is other for other in found.values()
            ):
                continue
            found[f"{module_name}.{name}"] = value
    return found


def methods(value: Any) -> dict[str, Any]:
    """The public methods and properties of a class that this package wrote."""
    found: dict[str, Any] = {}
    if not inspect.isclass(value):
        return found
    for base in reversed(value.__mro__):
        if base.__module__.startswith("fastmaml"):
            found |= {
                name: member
                for name, member in vars(base).items()
                if not name.startswith("_")
                and isinstance(member, types.FunctionType | property | classmethod | staticmethod)
            }
    return found


def check(app: Any, env: Any) -> None:
    """Warn of each public name that no page describes."""
    from sphinx.util import logging

    described = env.get_domain("py").objects
    for name, value in public_names().items():
        members = [f"{name}.{member}" for member in methods(value)]
        for missing in [each for each in (name, *members) if each not in described]:
            logging.getLogger(__name__).warning(
                "%s is public, and no page of docs/reference/ describes it", missing
            )


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
