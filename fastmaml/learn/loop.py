"""The meta-training loop: sample tasks, take the meta-gradient, update theta, again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..checks import (
    all_finite,
    as_array,
    as_choice,
    as_count,
    as_dtype,
    as_flag,
    as_positive,
    real_array,
    shape_text,
    shown,
)
from ..divergence import DivergenceWarning, named_tasks
from ..learner import Learner
from .optimizers import SGD, Adam, Optimizer
from .reptile import Reptile

__all__ = ["Best", "TrainResult", "TrainState", "train"]

ON_DIVERGENCE = ("raise", "skip", "keep")
#: iterations from one validation to the next
VALIDATE_EVERY = 100


class Objective(Protocol):
    """What :func:`train` asks of a meta-learner; MAML and BayesianLastLayer have it.

    With `rate_optimizer` it also needs ``evaluate`` and ``inner_lr``, as a dataclass or with
    ``with_inner_lr``; with `validation`, ``value``. One whose tasks are not in the batch, but
    elsewhere, finds those that diverge by ``evaluate_others``: see `fastmaml.distributed.Fleet`.
    """

    @property
    def value_and_gradient(self) -> Callable[..., tuple[float, np.ndarray]]:
        """Of (theta, *batch): the meta-objective on a batch of tasks and its gradient."""


class Best(NamedTuple):
    """What did best on the validation tasks so far.

    Attributes
    ----------
    iteration : int
    value : float
        Meta-objective on the validation tasks.
    theta : ndarray, shape (P,)
    inner_lr : float or ndarray
        The inner rates of that moment.
    maml : MAML or other objective, or None
        The objective with these rates, to adapt and predict with. None in the states of a
        training, which are numbers alone.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import Adam, train
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), loss="mse", task_mean=True)
    >>> tasks = Sinusoid().sample(5, n_support=5, n_query=5, rng=0)
    >>> result = train(
    ...     maml, maml.model.init(0), lambda: tasks, Adam(), 4, validation=tasks, validate_every=2
    ... )
    >>> result.best.iteration, result.best.maml.model
    (4, MLP([1, 8, 1], activation='tanh'))
    """

    iteration: int
    value: float
    theta: np.ndarray
    inner_lr: Any
    maml: Any = None


class TrainState(NamedTuple):
    """What the callback of :func:`train` sees after each iteration, and all it takes to go on.

    Nothing in it is written to later, so a callback may keep it without a copy.

    Attributes
    ----------
    iteration : int
        Iterations done: 1 after the first.
    value : float
        Meta-objective on this iteration's tasks, at the parameters before the update; NaN if every
        task was skipped.
    theta : ndarray, shape (P,)
        Parameters after the update.
    optimizer_state : NamedTuple
        State of the optimizer after the update.
    inner_lr : float or ndarray
        Inner rates after the update, in the shape that ``maml.inner_lr`` was given in.
    rate_state : NamedTuple or None
        State of `rate_optimizer`.
    diverged : tuple of int
        The tasks of this iteration that diverged.
    validation_value : float or None
        Meta-objective on the validation tasks after the update; None if it was not computed.
    best : Best or None
        The best validation so far.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import Adam, train
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), loss="mse", task_mean=True)
    >>> tasks = Sinusoid().sample(5, n_support=5, n_query=5, rng=0)
    >>> seen = []
    >>> result = train(maml, maml.model.init(0), lambda: tasks, Adam(), 3, seen.append)
    >>> [state.iteration for state in seen]
    [1, 2, 3]
    """

    iteration: int
    value: float
    theta: np.ndarray
    optimizer_state: Any
    inner_lr: Any = None
    rate_state: Any = None
    diverged: tuple[int, ...] = ()
    validation_value: float | None = None
    best: Best | None = None


class TrainResult(NamedTuple):
    """What :func:`train` returns.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Parameters after the last update.
    optimizer_state : NamedTuple
        State of the optimizer after the last update.
    values : ndarray, shape (iterations done in this call,)
        Meta-objective of each iteration, before its update.
    inner_lr : float or ndarray
        Inner rates after the last update.
    best : Best or None
        What did best on the validation tasks.
    state : TrainState
        The last state, for `resume`.
    maml : MAML or other objective
        The objective with the rates after the last update, to adapt and predict with, of whatever
        class it is; that of the best is ``best.maml``.

    Examples
    --------
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import Adam, train
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), loss="mse", task_mean=True)
    >>> tasks = Sinusoid().sample(5, n_support=5, n_query=5, rng=0)
    >>> result = train(maml, maml.model.init(0), lambda: tasks, Adam(), 3)
    >>> result.theta.shape, result.values.shape
    ((25,), (3,))
    """

    theta: np.ndarray
    optimizer_state: Any
    values: np.ndarray
    inner_lr: Any
    best: Best | None
    state: TrainState
    maml: Any


def train(
    maml: Objective,
    theta: np.ndarray,
    sampler: Callable[[], Iterable[Any]],
    optimizer: Optimizer,
    n_iterations: int,
    callback: Callable[[TrainState], bool | None] | None = None,
    *,
    optimizer_state: Any = None,
    rate_optimizer: Optimizer | None = None,
    log_rates: bool = True,
    clip_norm: float | None = None,
    on_divergence: str = "raise",
    validation: Iterable[Any] | None = None,
    validate_every: int = VALIDATE_EVERY,
    patience: int | None = None,
    resume: TrainState | None = None,
) -> TrainResult:
    """Meta-train: in each iteration one batch of tasks, one meta-gradient, one update.

    Parameters
    ----------
    maml : MAML, BayesianLastLayer, Reptile or Fleet
        The meta-objective: anything with ``value_and_gradient(theta, *batch)``.
    theta : array_like, shape (P,)
        Parameters to start from; float32 stays float32, anything else computes in float64.
    sampler : callable
        Called without arguments once an iteration; returns (x, y) or (x, y, x_query, y_query), or
        where rows have weights (x, y, x_query, y_query, sample_weight, sample_weight_query), of
        which the last four may be None.
        If that has `names`, as the batches of a ``TaskTable`` have, errors call the tasks by them.
        For a `fastmaml.distributed.Fleet`, whose tasks are elsewhere: (), (shares,) or (seed,).
    optimizer : SGD, Adam or AdamW
        The meta-update.
    n_iterations : int
        How many iterations, those before `resume` included; 0 returns what was given.
    callback : callable, optional
        Called with a :class:`TrainState` after each iteration. Returning True ends the training
        there. (A progress bar's ``update`` may return True for its own reasons: do not pass that
        on.)
    optimizer_state : NamedTuple, optional
        Where an earlier training left the optimizer.
    rate_optimizer : SGD, Adam or AdamW, optional
        Given, the inner rates are learned too, by these updates, in float64 and in the shape that
        ``maml.inner_lr`` has. (As in Meta-SGD and MAML++.)
    log_rates : bool
        Whether the updates are those of the rates' logarithms: a rate then keeps its sign, and a
        rate of 0 (a frozen layer) stays 0. False: of the rates themselves.
    clip_norm : float, optional
        A gradient with a larger Euclidean norm is scaled down to it; that of theta and that of the
        rates each on its own.
    on_divergence : {"raise", "skip", "keep"}
        What to do about tasks whose loss or meta-gradient is not finite. ``"raise"``:
        FloatingPointError, which names them. ``"skip"``: the update is that of the other tasks; if
        there are none, nothing changes in this iteration. ``"keep"``: update with what came;
        should that leave parameters that are not finite, `maml` refuses them at their next use.
    validation : tuple, optional
        Tasks, as `sampler` returns them, on which the meta-objective is computed every
        `validate_every` iterations, and the best parameters kept.
    validate_every : int
        Iterations from one validation to the next.
    patience : int, optional
        Early stopping: the training ends after this many validations without a new best.
    resume : TrainState, optional
        Where an earlier training was left: all starts from there, and `theta` says only the shape.
        With the same arguments, and a sampler whose Generator goes on from the same moment, the
        result has the bits of one uninterrupted training; see :func:`load_checkpoint`.

    Returns
    -------
    TrainResult
        theta, optimizer_state, the values of all iterations, inner_lr, best, the last state, and
        the objective with the rates that were learned.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, shape or value.
    FloatingPointError
        With ``on_divergence="raise"``: the meta-objective or its gradient is not finite. The
        message names the iteration, the tasks, the inner step and its rates. Unless it is
        ``"keep"``: an update leaves parameters that are not finite. Whatever it is: an update
        leaves inner rates that `maml` does not take. The last good parameters are those that the
        callback saw last.

    Notes
    -----
    An exception, KeyboardInterrupt included, passes through. A callback that keeps its last state
    has all that was reached until then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import Adam, train
    >>> maml = fm.MAML(fm.MLP([1, 16, 1]), inner_lr=0.01, loss="mse", task_mean=True)
    >>> rng = np.random.default_rng(0)
    >>> result = train(
    ...     maml,
    ...     maml.model.init(rng),
    ...     lambda: Sinusoid().sample(25, n_support=10, n_query=10, rng=rng),
    ...     Adam(learning_rate=0.01),
    ...     n_iterations=200,
    ...     rate_optimizer=Adam(learning_rate=0.01),
    ... )
    >>> bool(result.values[-20:].mean() < result.values[:20].mean())
    True
    >>> result.maml.inner_lr == result.inner_lr > 0.01
    True
    """
    n_iterations = as_count("n_iterations", n_iterations, 0)
    validate_every = as_count("validate_every", validate_every, 1)
    as_choice("on_divergence", on_divergence, ON_DIVERGENCE)
    log_rates = as_flag("log_rates", log_rates)
    clip_norm = None if clip_norm is None else as_positive("clip_norm", clip_norm)
    patience = None if patience is None else as_count("patience", patience, 1)
    if patience is not None and validation is None:
        raise ValueError(f"patience is {patience}, validation is None; accepted are both together")
    _require_optimizer("optimizer", optimizer)
    if rate_optimizer is not None:
        _require_optimizer("rate_optimizer", rate_optimizer)
        if not hasattr(maml, "inner_lr"):
            raise TypeError(
                f"rate_optimizer is given, maml is {shown(maml)}, which has no inner_lr to learn; "
                "accepted is a fastmaml.MAML"
            )
        require_rates("rate_optimizer", maml, log_rates)
    if resume is not None and optimizer_state is not None:
        raise ValueError("resume and optimizer_state are both given; accepted is one of them")
    if not hasattr(maml, "value_and_gradient") or isinstance(maml, type):
        raise TypeError(
            f"maml is a {type(maml).__name__}, which has no value_and_gradient; "
            "accepted is a fastmaml.MAML, or what has its methods"
        )
    _require_callable("sampler", sampler, "functions without arguments that return tasks")
    if callback is not None:
        _require_callable("callback", callback, "functions of a TrainState")
    validation_tasks = None if validation is None else as_batch("validation", validation, maml)

    problem: Any = maml  # whose rates move if they are learned
    learning = rate_optimizer is not None
    state = _start(maml, theta, optimizer, optimizer_state, rate_optimizer, resume)
    theta, optimizer_state, best = state.theta, state.optimizer_state, state.best
    inner_lr, rate_state = state.inner_lr, state.rate_state
    if learning:
        problem = with_rates(problem, inner_lr)
    values: list[float] = []
    while state.iteration < n_iterations:
        if patience is not None:
            since = state.iteration - (0 if best is None else best.iteration)
            if since >= patience * validate_every:
                break
        iteration = state.iteration + 1
        batch = sampler()
        names: Sequence[Any] | None = getattr(batch, "names", None)
        tasks: Sequence[Any] = as_batch("sampler()", batch, maml)
        value, gradient, slope = _meta_gradient(problem, theta, tasks, learning)
        diverged: tuple[int, ...] = ()
        if not _finite(value, gradient, slope):
            if on_divergence == "raise":
                raise divergence(problem, theta, tasks, value, gradient, learning, iteration, names)
            others, alone, n_tasks = _look(problem, theta, tasks, learning)
            diverged = alone or tuple(range(n_tasks))
            if on_divergence == "skip":
                value, gradient, slope = (
                    _meta_gradient_of_others(problem, theta, _as_batch(tasks), learning, diverged)
                    if others is None
                    else _of_others(others, learning)
                )
        if gradient is not None:
            if clip_norm is not None:
                gradient = _clip(gradient, clip_norm)
            with np.errstate(all="ignore"):
                theta, optimizer_state = optimizer.update(theta, gradient, optimizer_state)
                if rate_optimizer is not None:
                    inner_lr, rate_state = _update_rates(
                        rate_optimizer, inner_lr, slope, rate_state, log_rates, clip_norm
                    )
                    try:
                        problem = with_rates(problem, inner_lr)
                    except ValueError as error:
                        raise FloatingPointError(
                            f"the inner rates after iteration {iteration} are none that can be "
                            f"taken ({error}): the update of {shown(rate_optimizer)} is too large; "
                            "a smaller learning_rate of it usually helps"
                        ) from error
            if on_divergence != "keep" and not all_finite(theta):
                raise FloatingPointError(
                    f"the parameters are not finite after iteration {iteration}, whose gradient "
                    f"was: the update of {shown(optimizer)} is too large; a smaller learning_rate "
                    "usually helps"
                )
        validation_value = None
        if validation_tasks is not None and iteration % validate_every == 0:
            rows, weights = arguments(problem, validation_tasks)
            validation_value = float(problem.value(theta, *rows, **weights))
            # Written so that NaN is never the best.
            if validation_value < (math.inf if best is None else best.value):
                best = Best(iteration, validation_value, theta, inner_lr)
        state = TrainState(
            iteration, value, theta, optimizer_state, inner_lr, rate_state, diverged,
            validation_value, best,
        )  # fmt: skip
        values.append(value)
        if callback is not None and callback(state):
            break
    if best is not None:
        rates = best.inner_lr if learning else getattr(problem, "inner_lr", None)
        best = best._replace(maml=with_rates(problem, rates))
    return TrainResult(
        theta, optimizer_state, np.array(values, dtype=np.float64), inner_lr, best, state, problem
    )


# ---- where to start


def as_batch(name: str, tasks: Any, maml: Any) -> tuple[Any, ...]:
    """Return a tuple of what an objective takes after theta; for a MAML, 2, 4 or 6 entries."""
    accepted = (
        "accepted are (x, y) and (x, y, x_query, y_query), and with weights of rows (x, y, "
        "x_query, y_query, sample_weight, sample_weight_query)"
    )
    try:
        batch = tuple(tasks)
    except TypeError:
        raise TypeError(f"{name} is a {type(tasks).__name__}; {accepted}") from None
    if isinstance(maml, Learner | Reptile) and len(batch) not in (2, 4, 6):
        raise ValueError(f"{name} has {len(batch)} entries; {accepted}")
    return batch


def arguments(maml: Any, tasks: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Return a batch as an objective takes it: rows by their places, and weights by name."""
    if len(tasks) != 6 or not isinstance(maml, Learner | Reptile):
        return tasks, {}
    return tasks[:4], {"sample_weight": tasks[4], "sample_weight_query": tasks[5]}


def _require_callable(name: str, given: Any, accepted: str) -> None:
    if not callable(given):
        raise TypeError(f"{name} is a {type(given).__name__}; accepted are {accepted}")


def _require_optimizer(name: str, given: Any) -> None:
    if isinstance(given, type) or not (hasattr(given, "init") and hasattr(given, "update")):
        raise TypeError(f"{name} is {shown(given)}; accepted are optimizers, such as Adam(0.001)")


def require_rates(name: str, maml: Any, log_rates: bool) -> None:
    """Raise ValueError for an objective whose rates have no gradient, whatever the tasks."""
    why, maml = None, getattr(maml, "objective", maml)  # that of a Fleet
    if getattr(maml, "steps", 1) == 0:
        why = "steps is 0"
    elif getattr(maml, "order", "") == "implicit":
        why = 'order is "implicit"'
    elif log_rates and not np.any(maml.inner_lr):
        why = "inner_lr is 0, and its logarithm is learned"
    if why is not None:
        raise ValueError(
            f"{name} is given, maml has rates that cannot change ({why}); accepted is to leave "
            f"{name} out"
        )


def with_rates(objective: Any, inner_lr: Any) -> Any:
    """Return an objective with other inner rates; itself if it has none, or has these."""
    own = getattr(objective, "inner_lr", None)
    if own is None or inner_lr is None:
        return objective
    if np.shape(own) == np.shape(inner_lr) and np.array_equal(own, inner_lr):
        return objective
    if hasattr(objective, "with_inner_lr"):
        return objective.with_inner_lr(inner_lr)
    return replace(objective, inner_lr=inner_lr)


def _start(
    maml: Any, theta: Any, optimizer: Optimizer, optimizer_state: Any,
    rate_optimizer: Optimizer | None, resume: TrainState | None,
) -> TrainState:  # fmt: skip
    theta = as_array("theta", theta, as_dtype("theta", theta)).copy()
    if resume is None:
        if optimizer_state is None:
            optimizer_state = optimizer.init(theta)
        inner_lr = getattr(maml, "inner_lr", None)
        state = TrainState(0, math.nan, theta, optimizer_state, inner_lr)
    else:
        if not isinstance(resume, TrainState):
            raise TypeError(
                f"resume is a {type(resume).__name__}; accepted is a TrainState, such as "
                "load_checkpoint(path).state"
            )
        saved = as_array("resume.theta", resume.theta, as_dtype("resume.theta", resume.theta))
        state = resume._replace(
            iteration=as_count("resume.iteration", resume.iteration), theta=saved
        )
        if not (state.best is None or isinstance(state.best, Best)):
            raise TypeError(f"resume.best is {state.best!r:.60}; accepted are a Best and None")
        if state.theta.shape != theta.shape:
            raise ValueError(
                f"resume holds theta of shape {shape_text(state.theta.shape)}, theta has "
                f"{shape_text(theta.shape)}; accepted is one shape"
            )
        if state.rate_state is not None and rate_optimizer is None:
            raise ValueError(
                "resume holds inner rates that were being learned, rate_optimizer is None; "
                "accepted is an optimizer"
            )
        own = _own_state("optimizer", optimizer, state.theta, state.optimizer_state)
        state = state._replace(optimizer_state=own)
    if rate_optimizer is not None:
        rates = np.array(state.inner_lr, np.float64).reshape(-1)
        rate_state = rate_optimizer.init(rates)
        if state.rate_state is not None:
            rate_state = _own_state("rate_optimizer", rate_optimizer, rates, state.rate_state)
        state = state._replace(rate_state=rate_state)
    return state


def _own_state(name: str, optimizer: Optimizer, theta: np.ndarray, state: Any) -> Any:
    """The state as the optimizer's own NamedTuple; from a file it comes as a dictionary."""
    fresh = optimizer.init(theta)
    fields = tuple(state) if isinstance(state, dict) else getattr(state, "_fields", ())
    if fields != fresh._fields:
        raise ValueError(
            f"resume holds the optimizer state ({', '.join(map(str, fields))}), {name} is "
            f"{shown(optimizer)}; accepted is the optimizer of the training that is resumed"
        )
    own = type(fresh)(**state) if isinstance(state, dict) else state
    for field, value, new in zip(fields, own, fresh, strict=True):
        where = f"resume holds the {name}'s {field}, which"
        if isinstance(new, int):
            as_count(where, value)
        elif isinstance(new, np.ndarray):
            shape = real_array(where, value).shape
            # Somebody else's optimizer may let its arrays grow.
            if shape != new.shape and isinstance(optimizer, SGD | Adam):
                raise ValueError(
                    f"{where} has shape {shape_text(shape)}; {optimizer!r:.60} accepts "
                    f"{shape_text(new.shape)}"
                )
    return own


# ---- one iteration


def _meta_gradient(
    maml: Any, theta: np.ndarray, tasks: Sequence[Any], with_rates: bool
) -> tuple[float, Any, Any]:
    """Value, gradient, and the gradient of the rates, which is None if they stay as they are."""
    rows, weights = arguments(maml, tasks)
    if with_rates:
        result = maml.evaluate(theta, *rows, **weights)
        return result.value, result.gradient, result.inner_lr_gradient
    return *maml.value_and_gradient(theta, *rows, **weights), None


def _finite(value: float, gradient: np.ndarray, slope: Any) -> bool:
    return (
        math.isfinite(value)
        and all_finite(gradient)
        and (slope is None or bool(np.isfinite(slope).all()))
    )


def _update_rates(
    optimizer: Optimizer, inner_lr: Any, slope: Any, state: Any, log_rates: bool,
    clip_norm: float | None,
) -> tuple[Any, Any]:  # fmt: skip
    """New rates, in the shape of the old ones, and the new state."""
    rates = np.array(inner_lr, np.float64).reshape(-1)
    slope = np.array(slope, np.float64).reshape(-1)
    if log_rates:
        slope *= rates
    if clip_norm is not None:
        slope = _clip(slope, clip_norm)
    if log_rates:
        # The logarithm itself is never needed, only what is added to it.
        change, state = optimizer.update(np.zeros_like(rates), slope, state)
        rates *= np.exp(change)
    else:
        rates, state = optimizer.update(rates, slope, state)
    return (rates.reshape(np.shape(inner_lr)) if np.ndim(inner_lr) else float(rates[0])), state


def _clip(gradient: np.ndarray, limit: float) -> np.ndarray:
    """The gradient, scaled down if it is longer than the limit."""
    largest = float(np.abs(gradient).max(initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return gradient
    # In units of the largest entry no square overflows. No BLAS, whose bits depend on the threads.
    norm = largest * math.sqrt(np.square(gradient / largest, dtype=np.float64).sum())
    return gradient * (limit / norm) if norm > limit else gradient


# ---- divergence: the way that costs nothing until it happens


def divergence(
    maml: Any, theta: np.ndarray, tasks: Sequence[Any], value: float, gradient: np.ndarray,
    with_rates: bool, iteration: int, names: Sequence[Any] | None = None,
) -> FloatingPointError:  # fmt: skip
    """What is said where a value or a gradient is not finite: which tasks diverged, and how."""
    others, alone, n_tasks = _look(maml, theta, tasks, with_rates)
    report = _report(maml, value, gradient, iteration, alone, n_tasks, names)
    if alone and others is None:
        report += _how(maml, theta, _as_batch(tasks), alone[0], names)
    return FloatingPointError(report)


def _look(
    maml: Any, theta: np.ndarray, tasks: Sequence[Any], with_rates: bool
) -> tuple[Any, tuple[int, ...], int]:
    """What those know who hold the tasks, or None; which diverge on their own; of how many."""
    if hasattr(maml, "evaluate_others"):  # a Fleet
        others = maml.evaluate_others(theta, *tasks)
        return others, others.diverged, others.n_tasks
    tasks = _as_batch(tasks)
    return None, _diverged(maml, theta, tasks, with_rates), len(tasks[0])


def _diverged(
    maml: Any, theta: np.ndarray, tasks: Sequence[Any], with_rates: bool
) -> tuple[int, ...]:
    """The tasks that diverge on their own; none if only their sum overflows."""
    return tuple(
        i
        for i in range(len(tasks[0]))
        if not _finite(*_meta_gradient(maml, theta, _some(tasks, [i]), with_rates))
    )


def _as_batch(tasks: Sequence[Any]) -> Sequence[Any]:
    """The tasks with an axis of tasks, if they are a single one that was given without."""
    if len(tasks[0]) and np.ndim(tasks[0][0]) != 1:  # which a row of inputs has
        return tasks
    return [part if part is None else np.asarray(part)[None] for part in tasks]


def _some(tasks: Sequence[Any], indices: list[int]) -> list[Any]:
    return [
        part if part is None
        else part[indices] if isinstance(part, np.ndarray)
        else [part[i] for i in indices]
        for part in tasks
    ]  # fmt: skip


def _meta_gradient_of_others(
    maml: Any, theta: np.ndarray, tasks: Sequence[Any], with_rates: bool, left_out: tuple[int, ...]
) -> tuple[float, Any, Any]:
    others = [i for i in range(len(tasks[0])) if i not in left_out]
    if others:
        result = _meta_gradient(maml, theta, _some(tasks, others), with_rates)
        if _finite(*result):
            return result
    return math.nan, None, None


def _of_others(others: Any, with_rates: bool) -> tuple[float, Any, Any]:
    """The same of what an objective computed whose tasks are elsewhere."""
    slope = others.inner_lr_gradient if with_rates else None
    if _finite(others.value, others.gradient, slope):
        return others.value, others.gradient, slope
    return math.nan, None, None


def _report(
    maml: Any, value: float, gradient: np.ndarray, iteration: int, diverged: tuple[int, ...],
    n_tasks: int, names: Sequence[Any] | None,
) -> str:  # fmt: skip
    n_bad = int(np.count_nonzero(~np.isfinite(gradient)))
    described = f"is not finite in {n_bad} of {gradient.size} entries" if n_bad else "is finite"
    who = ""
    if diverged:
        called = diverged[:5] if names is None else [f"{names[i]!r:.60}" for i in diverged[:5]]
        some = ", ".join(map(str, called)) + (", ..." if len(diverged) > 5 else "")
        who = f" ({len(diverged)} of {n_tasks} tasks diverged: {some})"
    # A Reptile's rates are those of the MAML that it wraps.
    rates = "inner_lr or " if hasattr(getattr(maml, "maml", maml), "inner_lr") else ""
    return (
        f"the meta-objective is {value:.6g} and its gradient {described} in iteration {iteration}"
        f"{who}; a smaller {rates}learning_rate usually helps"
    )


def _how(
    maml: Any, theta: np.ndarray, tasks: Sequence[Any], task: int, names: Sequence[Any] | None
) -> str:
    """In which inner step a task diverged, at which rate, as far as `adapt` knows."""
    if not hasattr(maml, "adapt"):
        return ""
    x, y, *others = _some(tasks, [task])
    weights = {}
    if len(tasks) == 6 and isinstance(maml, Learner):
        weights = {"sample_weight": others[2]}
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        with named_tasks([task if names is None else names[task]]):
            maml.adapt(theta, x, y, **weights)
    found = [str(w.message) for w in caught if issubclass(w.category, DivergenceWarning)]
    return "".join(f"; {message.rpartition('; ')[0]}" for message in found)
