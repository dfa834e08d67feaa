"""Checkpoints: all that a training needs to go on, in one npz file without pickle.

The file is written under a temporary name, flushed and renamed, so that under its own name there is
a whole checkpoint at any moment, whenever the process is killed. Floats keep their bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import as_count, shown
from ..files import write_whole
from ..npz import read_headed
from .contents import FORMAT, header_of, pack, unpack
from .loop import Best, TrainState, with_rates

__all__ = ["Checkpoint", "Checkpointer", "load_checkpoint", "save_checkpoint"]


class Checkpoint(NamedTuple):
    """What :func:`load_checkpoint` returns.

    Attributes
    ----------
    state : TrainState
        For the `resume` of :func:`train`.
    generator : dict or None
        State of the random generator; :meth:`restore` puts it back.
    configuration : object
        What was given to be kept, as JSON keeps it.
    version : str
        The version of fastmaml that wrote the file.
    maml : MAML, BayesianLastLayer or Reptile, or None
        The objective, if it was given to be kept, with the rates of the state.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from fastmaml.learn import Adam, TrainState, load_checkpoint, save_checkpoint
    >>> path = pathlib.Path(tempfile.mkdtemp(), "checkpoint.npz")
    >>> theta, rng = np.zeros(2), np.random.default_rng(0)
    >>> save_checkpoint(path, TrainState(1, 0.5, theta, Adam().init(theta), 0.01), rng)
    >>> checkpoint = load_checkpoint(path)
    >>> checkpoint.state.iteration
    1
    >>> checkpoint.restore(rng)  # it goes on from there
    """

    state: TrainState
    generator: Mapping[str, Any] | None
    configuration: Any
    version: str
    maml: Any = None

    @property
    def best(self) -> Best | None:
        """What did best on the validation tasks, with the objective of that moment in `maml`."""
        best = self.state.best
        return None if best is None else best._replace(maml=with_rates(self.maml, best.inner_lr))

    def restore(self, rng: np.random.Generator) -> None:
        """Let a generator go on from the moment of the checkpoint.

        Parameters
        ----------
        rng : numpy.random.Generator
            Of the kind that was saved; it is changed.

        Raises
        ------
        ValueError
            If the checkpoint has none, or one with another bit generator.
        """
        if self.generator is None:
            raise ValueError("the checkpoint holds no random generator; accepted are those with it")
        kind, saved = type(rng.bit_generator).__name__, self.generator["bit_generator"]
        if kind != saved:
            raise ValueError(f"rng is of the kind {kind}, the checkpoint's {saved}")
        try:
            rng.bit_generator.state = self.generator
        except Exception as error:  # whatever a foreign bit generator raises
            raise ValueError(
                f"the checkpoint's state of {kind} is damaged: {error!r:.80}"
            ) from error


def save_checkpoint(
    path: str | Path,
    state: TrainState,
    rng: np.random.Generator | Mapping[str, Any] | None = None,
    configuration: Any = None,
    maml: Any = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str or Path
        An existing file is replaced at the very end.
    state : TrainState
        What the callback of :func:`train` got, or ``TrainResult.state``.
    rng : numpy.random.Generator, or its ``bit_generator.state``, optional
        The generator that the tasks are drawn from.
    configuration : object, optional
        Anything that JSON can hold, to be found again on loading.
    maml : MAML, BayesianLastLayer or Reptile, optional
        The objective that is trained, to be found again on loading with the rates of the state.

    Raises
    ------
    TypeError
        If JSON cannot hold the configuration, or `state`, `rng` or `maml` is anything else; a
        subclass of MAML, too.
    ValueError
        For what :func:`load_checkpoint` would not take: a configuration with lists more than 100
        deep in each other, a state of an optimizer that is not of numbers.
    OSError
        If the file cannot be written; an old one is then as it was.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from fastmaml.learn import SGD, TrainState, load_checkpoint, save_checkpoint
    >>> theta = np.array([1.0, 2.0])
    >>> state = TrainState(7, 0.25, theta, SGD(0.1).init(theta))
    >>> path = pathlib.Path(tempfile.mkdtemp(), "checkpoint.npz")
    >>> save_checkpoint(path, state, np.random.default_rng(0), {"seed": 0})
    >>> checkpoint = load_checkpoint(path)
    >>> checkpoint.state.iteration, checkpoint.state.theta, checkpoint.configuration
    (7, array([1., 2.]), {'seed': 0})
    """
    if not isinstance(state, TrainState):
        raise TypeError(f"state is a {type(state).__name__}; accepted is a TrainState")
    arrays: dict[str, Any] = pack(state, _generator_state(rng), configuration, maml)
    write_whole(Path(path), lambda file: np.savez(file, **arrays))


def _generator_state(rng: Any) -> Mapping[str, Any] | None:
    if isinstance(rng, np.random.Generator):
        return rng.bit_generator.state
    if rng is None or isinstance(rng, Mapping):
        return rng
    raise TypeError(f"rng is {shown(rng)}; accepted are a numpy.random.Generator, its state, None")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Checkpoint

    Raises
    ------
    ValueError
        If the file is no checkpoint, is cut short or damaged, holds anything that a training cannot
        have left, or was written by a newer version whose format this one does not know.
    OSError
        If the file cannot be read.

    Notes
    -----
    Nothing in the file is trusted: no pickle is read, no more is allocated than the file has bytes,
    and all of it is checked here. But what is in the configuration is what its writer wanted.

    Examples
    --------
    >>> from fastmaml.learn import load_checkpoint
    >>> load_checkpoint("no/such/file.npz")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'no/such/file.npz'
    """
    return Checkpoint(
        *read_headed(
            path, header_of, unpack, FORMAT, "no checkpoint; accepted are those of fastmaml",
            "a damaged checkpoint",
        )
    )  # fmt: skip


class Checkpointer:
    """Callback of :func:`train` that writes a checkpoint every so many iterations.

    Parameters
    ----------
    path : str or Path
        The file, which always holds the latest checkpoint.
    rng : numpy.random.Generator, optional
        The generator that the sampler draws from: without it, only trainings on fixed tasks resume
        to the same bits.
    every : int
        Iterations from one checkpoint to the next.
    configuration : object, optional
        Anything that JSON can hold, to be found again on loading.
    maml : MAML, BayesianLastLayer or Reptile, optional
        The objective that is trained, to be found again on loading with the rates of the state.

    Attributes
    ----------
    last : TrainState or None
        The last state that was seen, written or not; :meth:`save` writes it.

    Raises
    ------
    TypeError, ValueError
        If `every` is no count; when it writes, as :func:`save_checkpoint`.
    OSError
        When it writes, and cannot. The training ends; the last whole checkpoint stays.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> import fastmaml as fm
    >>> from fastmaml.datasets import Sinusoid
    >>> from fastmaml.learn import Adam, Checkpointer, load_checkpoint, train
    >>> path = pathlib.Path(tempfile.mkdtemp(), "checkpoint.npz")
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), loss="mse", task_mean=True)
    >>> def run(n_iterations, rng, **options):
    ...     sampler = lambda: Sinusoid().sample(5, 5, 5, rng)
    ...     return train(maml, maml.model.init(0), sampler, Adam(), n_iterations, **options)
    >>> rng = np.random.default_rng(0)
    >>> _ = run(10, rng, callback=Checkpointer(path, rng, every=10))

    In another process, later:

    >>> checkpoint = load_checkpoint(path)
    >>> rng = np.random.default_rng()
    >>> checkpoint.restore(rng)
    >>> resumed = run(20, rng, resume=checkpoint.state)
    >>> bool((resumed.theta == run(20, np.random.default_rng(0)).theta).all())
    True

    After Ctrl-C, say:

    >>> checkpointer = Checkpointer(path, rng, every=100)
    >>> result = run(30, rng, callback=checkpointer)
    >>> checkpointer.save()
    >>> load_checkpoint(path).state.iteration
    30
    """

    def __init__(
        self,
        path: str | Path,
        rng: np.random.Generator | None = None,
        every: int = 100,
        configuration: Any = None,
        maml: Any = None,
    ) -> None:
        self._path = Path(path)
        if not (rng is None or isinstance(rng, np.random.Generator)):  # a state would be stale
            raise TypeError(f"rng is {shown(rng)}; accepted are a numpy.random.Generator and None")
        self._rng = rng
        self._every = as_count("every", every, 1)
        self._configuration = configuration
        self._maml = maml
        self._last: tuple[TrainState, Any] | None = None
        self._saved: TrainState | None = None

    @property
    def last(self) -> TrainState | None:
        """The last state that was seen."""
        return None if self._last is None else self._last[0]

    def __call__(self, state: TrainState) -> None:
        """Take note of the state and of the generator; write both when it is time."""
        # One assignment, so that Ctrl-C cannot part the two.
        self._last = state, _generator_state(self._rng)
        if state.iteration % self._every == 0:
            self.save()

    def save(self) -> None:
        """Write the last state now, if there is one and it is not written yet."""
        if self._last is not None and self._last[0] is not self._saved:
            save_checkpoint(self._path, *self._last, self._configuration, self._maml)
            self._saved = self._last[0]
