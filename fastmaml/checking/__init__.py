"""Checks that users run: which derivatives are wrong, and by how much."""

from .of_gradient import check_gradient
from .of_model import check_model
from .result import CheckResult, Finding

__all__ = ["CheckResult", "Finding", "check_gradient", "check_model"]
