"""What a task sampler returns: the four arrays that every method of MAML takes, in its order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Tasks"]


class Tasks(NamedTuple):
    """A batch of regression tasks, ready to be unpacked into the methods of :class:`fastmaml.MAML`.

    Attributes
    ----------
    x : ndarray, shape (n_tasks, n_support, n_inputs)
        Support inputs, the rows that a task adapts on.
    y : ndarray, shape (n_tasks, n_support, n_outputs)
        Support targets.
    x_query : ndarray, shape (n_tasks, n_query, n_inputs), or None
        Query inputs, the rows that judge the adapted parameters. None: the support serves as both.
    y_query : ndarray, shape (n_tasks, n_query, n_outputs), or None
        Query targets.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> tasks = Sinusoid().sample(25, n_support=10, n_query=10, rng=0)
    >>> model = fm.MLP([1, 40, 40, 1])
    >>> value, gradient = fm.MAML(model).value_and_gradient(model.init(0), *tasks)
    >>> gradient.shape == (model.n_params,)
    True
    """

    x: np.ndarray
    y: np.ndarray
    x_query: np.ndarray | None = None
    y_query: np.ndarray | None = None
