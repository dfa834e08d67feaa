"""This package, timed with all its checks."""

from __future__ import annotations

import numba
import numpy as np

import fastmaml as fm

from ..workloads import HeadProblem, Problem
from .base import Prepared


def fastmaml(problem: Problem, method: str = "auto") -> Prepared:
    model = fm.MLP(problem.layers, problem.activation)
    maml = fm.MAML(model, inner_lr=problem.inner_lr, steps=problem.steps, method=method)
    data = (problem.theta, problem.x, problem.y, problem.x_query, problem.y_query)
    return Prepared(lambda: maml.value_and_gradient(*data), lambda result: result, versions())


def head(problem: HeadProblem) -> Prepared:
    model = fm.MLP(problem.layers, problem.activations)
    layer = fm.BayesianLastLayer(model, loss=problem.loss)
    data = (problem.theta, problem.x, problem.y, problem.x_query, problem.y_query)
    return Prepared(lambda: layer.value_and_gradient(*data), lambda result: result, versions())


def versions() -> str:
    return f"fastmaml {fm.__version__}, Numba {numba.__version__}, NumPy {np.__version__}"
