"""Where PyTorch or JAX is not installed: what its name stands for, so that docstrings can be read.

Anything that is asked of it is there and does nothing; classes that the package derives from are
classes, and a function that is decorated stays what it is.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from typing import Any
from unittest import mock

MODULES = {
    "torch": ("torch.autograd", "torch.nn", "torch.utils", "torch.utils._python_dispatch"),
    "jax": ("jax.numpy", "jax.custom_derivatives", "jax.tree_util", "jax.errors"),
}


class Applied:
    """What torch.autograd.Function derives from."""

    @classmethod
    def apply(cls, *_: Any) -> None:
        """Nothing."""


class Function(Applied):
    """torch.autograd.Function."""


class Layers:
    """torch.nn: whatever is asked for is a class of that name."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {}))
        return vars(self)[name]


def unchanged(*_: Any, **__: Any) -> Any:
    """A decorator with arguments, that changes nothing."""
    return lambda function: function


def put() -> list[str]:
    """Put what is missing into ``sys.modules``; return the names."""
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    for name in missing:
        whole = mock.MagicMock(name=name)
        sys.modules[name] = whole
        for part in MODULES[name]:
            *_, last = part.split(".")
            sys.modules[part] = getattr(sys.modules[part.rpartition(".")[0]], last)
        for part in (name, *MODULES[name]):
            sys.modules[part].__spec__ = importlib.machinery.ModuleSpec(part, None)
            sys.modules[part].__path__ = []
    if "torch" in missing:
        torch: Any = sys.modules["torch"]
        torch.autograd.Function = Function
        torch.nn = Layers()
        sys.modules["torch.nn"] = torch.nn
        torch.Tensor = type("Tensor", (), {})
        torch.library.impl = torch.library.register_fake = unchanged
        torch.compiler.assume_constant_result = lambda function: function
    if "jax" in missing:  # others look for its arrays
        jax: Any = sys.modules["jax"]
        jax.Array, jax.core.Tracer = type("Array", (), {}), type("Tracer", (), {})
    return missing
