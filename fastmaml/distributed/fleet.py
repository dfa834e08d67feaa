"""Fleet: an objective whose tasks lie on the workers of a Dask cluster."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_count, shown
from ..learn.loop import as_batch, with_rates
from ..learn.reptile import Reptile
from ..learner import Learner
from ..maml import MAML
from ..parameters import as_theta
from .calls import Shared, drop, gather
from .shares import as_shares, cut
from .worker import Request, as_tasks_of_share

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Fleet", "FleetGradient"]

#: shares of tasks that are given: enough that 2 to 20 workers have nearly equal numbers of them
N_SHARES = 64


class FleetGradient(NamedTuple):
    """What `Fleet.evaluate` returns.

    Attributes
    ----------
    value : float
        The meta-objective.
    gradient : ndarray, shape (P,)
        Its gradient with respect to theta.
    inner_lr_gradient : float or ndarray, or None
        The gradient with respect to `inner_lr`, in the shape that it was given in; None if the
        objective has no inner rates.
    n_tasks : int
        Tasks of the batch.
    diverged : tuple of int
        Of `Fleet.evaluate_others`: the tasks that were left out, by their places in the batch.

    Examples
    --------
    >>> from fastmaml.distributed import FleetGradient
    >>> FleetGradient(1.0, [0.5], None, n_tasks=8).diverged  # none was left out
    ()
    """

    value: float
    gradient: NDArray[Any]
    inner_lr_gradient: float | NDArray[Any] | None
    n_tasks: int
    diverged: tuple[int, ...] = ()


class Fleet:
    """An objective whose tasks lie on the workers of a Dask cluster.

    It has the methods that `fastmaml.learn.train`, SciPy's minimizers and checkpoints ask of an
    objective. Only theta travels to the workers, and the value and the gradients back.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster whose workers have this version of fastmaml.
    objective : MAML, BayesianLastLayer or Reptile
        What is computed of the tasks.
    tasks : tuple, optional
        The tasks themselves, (x, y) or (x, y, x_query, y_query), or with weights of rows as
        `fastmaml.learn.train` takes them. They are copied, cut into `n_shares` runs, and each run
        is sent to a worker once, and once more if that is lost.
    loader : callable, optional
        Instead: of the number of a share, 0 to ``n_shares - 1``, its tasks. A worker calls it once
        for each share that it has, and keeps what comes. It must return the same whenever and
        wherever it is called.
    sampler : callable, optional
        Instead: of a `numpy.random.Generator`, some tasks. Workers call it in each evaluation for
        each share, with a generator that is seeded with the batch and the number of the share.
    n_shares : int, optional
        Into how many parts a batch is cut. The bits of a result depend on it; on the workers they
        do not. By default 64, or the number of tasks if that is smaller. A `loader` or `sampler`
        needs it. A few times the number of workers is good.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError, ValueError
        For an argument of the wrong kind, shape or value.

    Notes
    -----
    In all methods a batch is what comes after theta:

    * with `tasks` or a `loader`: nothing for all tasks, or a sequence of the numbers of some shares
    * with a `sampler`: a seed, an integer of at least 0; nothing is the seed 0

    and so the `sampler` of `fastmaml.learn.train` returns ``()``, ``([3, 5],)`` or ``(seed,)``.

    A worker computes on as many of numba's threads as it has threads of Dask's. Who has which share
    is decided anew whenever workers come or go, and a worker that dies in the middle of a call
    costs the time to compute its shares again. As ever in Dask, a call waits for workers as long as
    there are none.

    A process keeps its tasks until :meth:`close`, or the end of a ``with`` block.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import Adam, train
    >>> maml = fm.MAML(fm.MLP([1, 40, 40, 1]), task_mean=True)
    >>> def sampler(rng):
    ...     return Sinusoid().sample(500, 10, 10, rng)
    >>> def learn(client, rng):
    ...     with fm.distributed.Fleet(client, maml, sampler=sampler, n_shares=40) as fleet:
    ...         seeds = lambda: (int(rng.integers(2**32)),)
    ...         return train(fleet, maml.model.init(rng), seeds, Adam(), n_iterations=50)
    >>> def others(client, theta, tasks):
    ...     fleet = fm.distributed.Fleet(client, maml, tasks)
    ...     value = fleet.value(theta, [0, 1])  # of two of the shares
    ...     value, gradient = fleet.value_and_gradient(theta)
    ...     faster = fleet.with_inner_lr(0.1).evaluate(theta)
    ...     diverged = fleet.evaluate_others(theta).diverged
    ...     fleet.close()
    """

    def __init__(
        self,
        client: Client,
        objective: Learner | Reptile,
        tasks: Any = None,
        *,
        loader: Callable[[int], Any] | None = None,
        sampler: Callable[[np.random.Generator], Any] | None = None,
        n_shares: int | None = None,
    ) -> None:
        self._dumps = dumps = _check_client(client)
        if not isinstance(objective, Learner | Reptile):
            raise TypeError(
                f"objective is a {type(objective).__name__}; accepted are a fastmaml.MAML, a "
                "fastmaml.BayesianLastLayer and a fastmaml.learn.Reptile"
            )
        given = {"tasks": tasks, "loader": loader, "sampler": sampler}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            raise ValueError(
                f"{' and '.join(names) if names else 'no source of tasks'} given; accepted is one "
                "of tasks, loader and sampler"
            )
        shares = source = None
        if tasks is None:
            (name,) = names
            if not callable(given[name]):
                raise TypeError(f"{name} is {shown(given[name])}; accepted are functions")
            if n_shares is None:
                raise ValueError(f"n_shares is None; accepted with a {name} are integers from 1")
            n_shares = as_count("n_shares", n_shares, 1)
            source = name, _as_bytes(name, given[name], dumps)
        else:
            whole = as_tasks_of_share(as_batch("tasks", tasks, objective))
            n_tasks = _require_equal_lengths(whole)
            n_shares = min(N_SHARES, n_tasks) if n_shares is None else n_shares
            n_shares = as_count("n_shares", n_shares, 1)
            if n_shares > n_tasks:
                raise ValueError(
                    f"n_shares is {n_shares}; accepted are integers from 1 to {n_tasks}, the "
                    "number of tasks"
                )
            shares = cut(whole, n_shares)
        self._shared = Shared(client, n_shares, shares, source)
        self._set_objective(objective)

    def _set_objective(self, objective: Learner | Reptile) -> None:
        self._objective = objective
        self._pickled = _as_bytes("objective", _summing(objective), self._dumps)

    @property
    def objective(self) -> Any:
        """What is computed of the tasks; to adapt and predict with, and to put in a checkpoint."""
        return self._objective

    @property
    def n_shares(self) -> int:
        """Into how many parts a batch is cut."""
        return self._shared.n_shares

    @property
    def inner_lr(self) -> Any:
        """The objective's inner rates, if it has any."""
        if not hasattr(self._objective, "inner_lr"):
            raise AttributeError(f"{type(self._objective).__name__} has no inner_lr")
        return self._objective.inner_lr

    def with_inner_lr(self, inner_lr: Any) -> Fleet:
        """Return a fleet with other inner rates, on the same tasks where they lie.

        Parameters
        ----------
        inner_lr : float or array_like
            As for `fastmaml.MAML`.

        Returns
        -------
        Fleet

        Raises
        ------
        TypeError, ValueError
            For rates of another kind or shape, or an objective that has none.
        """
        other = copy.copy(self)  # and so with the same _shared
        other._set_objective(with_rates(self._objective, inner_lr))
        return other

    @property
    def _inner(self) -> Learner:
        """The objective, or the MAML that a Reptile wraps."""
        objective = self._objective
        return objective.maml if isinstance(objective, Reptile) else objective

    @property
    def _space(self) -> Any:
        return self._objective._space  # type: ignore[union-attr]  # a Reptile has none

    def value(self, theta: ArrayLike, batch: Any = None) -> float:
        """Return the meta-objective.

        Parameters
        ----------
        theta : array_like, shape (P,)
        batch : int, or sequence of int, optional
            A seed, or the numbers of some shares; see the class.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite, and what a `loader` or
            `sampler` raised. The message names the share.
        RuntimeError
            If a worker has no fastmaml or another version, a share was lost ten times, each time
            with the worker that computed it, or the client is closed.
        """
        return self._evaluate("value", theta, batch).value

    def value_and_gradient(self, theta: ArrayLike, batch: Any = None) -> tuple[float, NDArray[Any]]:
        """Return the meta-objective and its gradient.

        Fits ``scipy.optimize.minimize(..., jac=True)``. Parameters and errors are those of `value`.
        """
        result = self._evaluate("gradient", theta, batch)
        return result.value, result.gradient

    def evaluate(self, theta: ArrayLike, batch: Any = None) -> FleetGradient:
        """Return the meta-objective and its gradients for theta and the inner rates.

        Parameters and errors are those of `value`.
        """
        return self._evaluate(self._mode, theta, batch)

    def evaluate_others(self, theta: ArrayLike, batch: Any = None) -> FleetGradient:
        """Return what `evaluate` does without the tasks that diverge, and say which they are.

        Parameters and errors are those of `value`. A task diverges if its own loss or a gradient
        of it is not finite. If only a sum of others is not, it stays so.
        """
        return self._evaluate(self._mode, theta, batch, others=True)

    @property
    def _mode(self) -> str:
        return "rates" if isinstance(self._objective, MAML) else "gradient"

    def close(self) -> None:
        """Let the workers drop the tasks; a later call would give or load them anew."""
        shared = self._shared
        with shared.lock:
            if shared.client.status == "running":
                drop(shared)
            shared.owners = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Fleet({self._objective!r}, n_shares={self.n_shares})"

    # ---- a call

    def _evaluate(
        self, mode: str, theta: ArrayLike, batch: Any, others: bool = False
    ) -> FleetGradient:
        parameters = as_theta(self._inner._space, theta, check_finite=self._inner.check_finite)
        shared = self._shared
        if shared.source is not None and shared.source[0] == "sampler":
            seed = 0 if batch is None else as_count("batch", batch, 0)
            shares = list(range(shared.n_shares))
        else:
            seed, shares = None, as_shares("batch", batch, shared.n_shares)
        request = Request(
            shared.key, self._pickled, parameters, mode, others, seed, len(shares), [], []
        )
        with shared.lock:
            total, found = gather(shared, request, shares)
        size = len(parameters) if mode != "value" else 0
        n_tasks = n_others = int(total[1])
        diverged: list[int] = []
        if others:
            n_tasks = 0
            for place in range(len(shares)):
                n, bad = found[place]
                diverged += [n_tasks + i for i in bad]
                n_tasks += n
        if self._inner.task_mean:
            with np.errstate(invalid="ignore"):  # of none, NaN
                total = total / n_others if n_others else total * np.nan
        with np.errstate(over="ignore"):
            gradient = total[2 : 2 + size].astype(parameters.dtype)
            rates: Any = None
            if mode == "rates":
                own = np.shape(self.inner_lr)
                rates = total[2 + size :].reshape(own).astype(parameters.dtype)
                rates = rates if own else float(total[-1])
        return FleetGradient(float(total[0]), gradient, rates, n_tasks, tuple(diverged))


def _check_client(client: Any) -> Callable[[Any], bytes]:
    """Return Dask's pickle, which takes functions of a script or a notebook by their code."""
    try:
        from distributed import Client
        from distributed.protocol.pickle import dumps
    except ModuleNotFoundError as error:
        raise ImportError(
            'Fleet needs Dask, which comes with pip install "fastmaml[distributed]"',
            name=error.name,
        ) from error
    if not isinstance(client, Client):
        raise TypeError(f"client is {shown(client)}; accepted is a distributed.Client")
    if client.asynchronous:
        raise ValueError("client is asynchronous; accepted is a Client without asynchronous=True")
    pickle: Callable[[Any], bytes] = dumps
    return pickle


def _as_bytes(name: str, value: Any, dumps: Callable[[Any], bytes]) -> bytes:
    """What travels to the workers."""
    try:
        return dumps(value)
    except Exception as error:
        raise TypeError(
            f"{name} is {shown(value)}, which cannot be sent to workers ({error}); accepted is "
            "what can be pickled, with all that it refers to"
        ) from error


def _require_equal_lengths(tasks: tuple[Any, ...]) -> int:
    n_tasks = len(tasks[0])
    for i, part in enumerate(tasks):
        if part is not None and len(part) != n_tasks:
            raise ValueError(
                f"tasks[{i}] has {len(part)} tasks, tasks[0] has {n_tasks}; accepted is the same "
                "number of tasks"
            )
    if not n_tasks:
        raise ValueError("tasks has 0 tasks; accepted are one or more")
    return n_tasks


def _summing(objective: Learner | Reptile) -> Any:
    """The objective with the sum over its tasks where it has the mean."""
    if isinstance(objective, Reptile):
        return Reptile(replace(objective.maml, task_mean=False))
    return replace(objective, task_mean=False)  # type: ignore[type-var]
