"""The process around the computation: its threads, and code that is compiled ahead.

What is guaranteed about threads, forks, Ctrl-C and the cache of compiled code is in
``docs/runtime.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from .checks import as_choice, as_count, as_float_dtype, shown
from .closed_form import BayesianLastLayer
from .family import Family, feature_map_of
from .kernels.adam import adam
from .kernels.compile import jit
from .kernels.methods import predict
from .kernels.methods.modes import GRADIENT
from .learner import Learner
from .maml import MAML
from .methods.choose import ALL
from .methods.dense import adapt
from .models import Linear
from .predict import predict_rows
from .targets import Targets
from .tasks import Rows, as_rows

__all__ = ["set_num_threads", "threads", "warmup"]

_KERNELS = (*(each for method in ALL.values() for each in method.kernels), predict.predict)


def set_num_threads(n: int) -> None:
    """Set how many threads the calling Python thread's computations use.

    By default they use all that numba has, one for each core. This is numba's own setting, so
    other functions compiled by numba follow it too; other Python threads do not. Results have the
    same bits for every number of threads.

    Parameters
    ----------
    n : int
        From 1 to ``numba.config.NUMBA_NUM_THREADS``, which the environment variable
        ``NUMBA_NUM_THREADS`` sets when the process starts.

    Raises
    ------
    TypeError, ValueError
        If `n` is anything else.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.set_num_threads(1)
    """
    count, limit = as_count("n", n, 1), jit.thread_limit()
    if count > limit:
        raise ValueError(
            f"n is {shown(count)}; accepted are integers from 1 to {limit}, the number of threads "
            "that numba has (NUMBA_NUM_THREADS)"
        )
    jit.set_num_threads(count)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a ``with`` block.

    Parameters
    ----------
    n : int
        As for `set_num_threads`, whose setting from before is in force again after the block.

    Yields
    ------
    None

    Raises
    ------
    TypeError, ValueError
        If `n` is anything else.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Linear(1)
    >>> with fm.threads(1):
    ...     gradient = fm.meta_gradient(model, [0.0, 0.0], [[[1.0]]], [[1.0]], inner_lr=0.1)
    """
    before = jit.get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        jit.set_num_threads(before)


def warmup(
    methods: Sequence[str] = ("factored", "dense"),
    dtypes: Sequence[Any] = ("float64", "float32"),
    objectives: Sequence[Learner] = (),
) -> None:
    """Compile ahead, so that no later call waits for the compiler.

    Compiled code does not depend on sizes, nor on which MLP or Linear it is. (Of a formula, of
    compiled functions and of a loss of one's own it does: `objectives`.) It is kept on disk, so
    this is needed once for a version of fastmaml, its dependencies and the processor; later it
    loads what is there. ``fastmaml warmup`` does the same on the command line, for example when an
    image is built.

    It also starts numba's threads, which a process that is going to fork may not want: a child
    that is forked afterwards computes on one thread. Use the command line there.

    Parameters
    ----------
    methods : sequence of str
        Of ``"factored"``, ``"dense"``, ``"explicit"`` (with the functions of
        `fastmaml.equations`), ``"lanes"`` (but for what a `Formula` compiles of its own) and
        ``"closed_form"`` (`BayesianLastLayer` and its streams).
    dtypes : sequence of dtype
        Of float64 and float32.
    objectives : sequence of MAML or BayesianLastLayer
        Those whose model and losses are compiled, too, for the methods that they would choose.
        What is compiled from functions of one's own is known to this process only.

    Raises
    ------
    TypeError, ValueError
        For another method, dtype or objective.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.warmup(methods=["explicit"], dtypes=["float64"])
    >>> fm.warmup([], ["float64"], [fm.MAML(fm.MLP([1, 8, 1]), loss=fm.Huber(0.5))])
    """
    chosen = [as_choice("methods", word, tuple(ALL)) for word in _sequence("methods", methods)]
    given = _sequence("objectives", objectives)
    for i, objective in enumerate(given):
        if not isinstance(objective, Learner):
            raise TypeError(
                f"objectives[{i}] is {shown(objective)}; accepted are a fastmaml.MAML and a "
                "fastmaml.BayesianLastLayer"
            )
    model = Linear(1)
    for dtype in [as_float_dtype("dtypes", each) for each in _sequence("dtypes", dtypes)]:
        theta, x, y = np.zeros(2, dtype), np.zeros((1, 1, 1), dtype), np.zeros((1, 1, 1), dtype)
        rows = as_rows(model, x, y, theta.dtype)
        model.predict(theta, x)
        MAML(model).adapt(theta, x, y)
        adam(np.ones(7, dtype), *(np.zeros(2, dtype) for _ in range(7)))
        for name in chosen:
            if name == "closed_form":
                head = BayesianLastLayer(model)
                ALL[name].warm(head._problem, head.init(0, dtype), rows)
                stream = head.start(head.init(0, dtype))
                stream.update(x[0, 0], y[0, 0])
                stream.predict(x[0, 0])
            else:
                method = "auto" if name == "lanes" else name  # which does not run the model
                ALL[name].warm(MAML(model, method=method)._problem, theta, rows)
        for objective in given:
            _warm(objective, dtype)
    for kernel in _KERNELS:  # so small a problem runs the serial twins
        kernel.compile_parallel()


#: tasks of the batches that `_warm` works: methods differ in how many suit them
_FEW, _MANY = 1, 16


def _warm(objective: Learner, dtype: np.dtype[Any]) -> None:
    """Run once what an objective would, on tasks of one row; its numbers do not matter."""
    model, problem = objective.model, objective._problem
    theta = np.zeros(objective._space.n_params, dtype)
    with np.errstate(all="ignore"):
        for n_tasks in (_MANY, _FEW):
            sides = [_any_rows(model, targets, n_tasks, dtype) for targets in problem.targets]
            for method in problem.methods:
                method.solve(problem, theta, *sides, GRADIENT, False)
        if isinstance(objective, MAML):
            adapt(problem, theta, sides[0])
        predict_rows(model, np.zeros(model.n_params, dtype), sides[0].x, sides[0].offsets)


def _any_rows(model: Family, targets: Targets | None, n_tasks: int, dtype: np.dtype[Any]) -> Rows:
    """So many tasks of a row of zeros each."""
    feature_map = feature_map_of(model)
    width = model.n_inputs if feature_map is None else feature_map.n_features
    x = np.zeros((n_tasks, 1, model.n_inputs))
    y = np.zeros((n_tasks, 1, model.n_outputs if targets is None else targets.width))
    rows = as_rows(model, x, y, dtype, targets=targets, mapped=False)
    return rows._replace(x=np.zeros((n_tasks, width), dtype))


def _sequence(name: str, given: Any) -> list[Any]:
    if not isinstance(given, str):
        with suppress(TypeError):
            return list(given)
    words = "objectives" if name == "objectives" else "words"
    raise TypeError(f"{name} is {shown(given)}; accepted are sequences of {words}")
