"""Makes ``fastmaml.kernels`` importable in a clone, where its folder lies beside the package.

An installed package holds its kernels, and an editable install has a finder that knows where they
lie. Python started in a clone finds ``./fastmaml`` before either, whether anything is installed or
not; then the kernels beside it are the ones that belong to it.
"""

import importlib.util
import sys
from pathlib import Path

__all__ = ["find_kernels"]


def find_kernels() -> None:
    """Load ``fastmaml.kernels`` from beside the package, if this is a clone."""
    name, package = "fastmaml.kernels", Path(__file__).parent
    beside = package.parent / "kernels"
    is_clone = (package.parent / "pyproject.toml").is_file() and (beside / "__init__.py").is_file()
    if name in sys.modules or (package / "kernels" / "__init__.py").is_file() or not is_clone:
        return
    spec = importlib.util.spec_from_file_location(
        name, beside / "__init__.py", submodule_search_locations=[str(beside)]
    )
    if spec is None or spec.loader is None:
        return
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(sys.modules["fastmaml"])["kernels"] = module  # as an import would


find_kernels()
