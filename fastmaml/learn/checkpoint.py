"""Checkpoints: all that a training needs to go on, in one npz file without pickle.

The file is written under a temporary name, flushed and renamed, so that under its own name there is
a whole checkpoint at any moment, whenever the process is killed. Floats keep their bits.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import as_count
from ..files import write_whole
from ..version import __version__
from .loop import Best, TrainState

__all__ = ["Checkpoint", "Checkpointer", "load_checkpoint", "save_checkpoint"]

#: the layout of the file; a reader refuses what is newer than itself
FORMAT = 1
HEADER = "fastmaml_checkpoint"


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
    """

    state: TrainState
    generator: Mapping[str, Any] | None
    configuration: Any
    version: str

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
        rng.bit_generator.state = self.generator


def save_checkpoint(
    path: str | Path,
    state: TrainState,
    rng: np.random.Generator | Mapping[str, Any] | None = None,
    configuration: Any = None,
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

    Raises
    ------
    TypeError
        If JSON cannot hold the configuration, or `rng` is anything else.
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
    arrays: dict[str, Any] = {"theta": state.theta}
    if state.inner_lr is not None:
        arrays["inner_lr"] = state.inner_lr
    header = {
        "format": FORMAT,
        "version": __version__,
        "iteration": state.iteration,
        "value": state.value,
        "diverged": state.diverged,
        "validation_value": state.validation_value,
        "optimizer_state": _pack(arrays, "optimizer_state", state.optimizer_state),
        "rate_state": _pack(arrays, "rate_state", state.rate_state),
        "best": None,
        "generator": _generator_state(rng),
        "configuration": configuration,
    }
    if state.best is not None:
        header["best"] = [state.best.iteration, state.best.value]
        arrays["best.theta"] = state.best.theta
        if state.best.inner_lr is not None:
            arrays["best.inner_lr"] = state.best.inner_lr
    arrays[HEADER] = json.dumps(header, default=_plain)
    write_whole(Path(path), lambda file: np.savez(file, **arrays))


def _generator_state(rng: Any) -> Mapping[str, Any] | None:
    if isinstance(rng, np.random.Generator):
        return rng.bit_generator.state
    if rng is None or isinstance(rng, Mapping):
        return rng
    raise TypeError(f"rng is {rng!r:.60}; accepted are a numpy.random.Generator, its state, None")


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
        If the file is no checkpoint, is cut short or damaged, or was written by a newer version
        whose format this one does not know.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from fastmaml.learn import load_checkpoint
    >>> load_checkpoint("no/such/file.npz")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'no/such/file.npz'
    """
    header, arrays = _read(path, Path(path).read_bytes())
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} was written by fastmaml {header['version']} in format {header['format']}; "
            f"accepted are formats up to {FORMAT}: a newer fastmaml reads it"
        )
    try:
        return _checkpoint(header, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged checkpoint: {error!r:.80}") from error


def _read(path: str | Path, content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
    except Exception as why:  # of a damaged file, zipfile and NumPy raise a dozen kinds
        raise ValueError(
            f"{path} is no whole npz file; accepted are checkpoints of fastmaml ({why!r:.80})"
        ) from why
    try:
        header = json.loads(str(arrays.pop(HEADER)))
        if not isinstance(header["format"], int):
            raise TypeError(header["format"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no checkpoint; accepted are those of fastmaml") from error
    return header, arrays


def _checkpoint(header: dict[str, Any], arrays: dict[str, Any]) -> Checkpoint:
    values = {name: _value(array) for name, array in arrays.items()}
    best = None
    if header["best"] is not None:
        iteration, value = header["best"]
        best = Best(iteration, value, values["best.theta"], values.get("best.inner_lr"))
    state = TrainState(
        header["iteration"], header["value"], values["theta"],
        _unpack(values, "optimizer_state", header["optimizer_state"]), values.get("inner_lr"),
        _unpack(values, "rate_state", header["rate_state"]), tuple(header["diverged"]),
        header["validation_value"], best,
    )  # fmt: skip
    return Checkpoint(state, header["generator"], header["configuration"], header["version"])


def _pack(arrays: dict[str, Any], name: str, state: Any) -> list[str] | None:
    """Put the fields of an optimizer's state among the arrays; return their names."""
    if state is None:
        return None
    fields: dict[str, Any] = state if isinstance(state, dict) else state._asdict()
    arrays.update({f"{name}.{field}": value for field, value in fields.items()})
    return list(fields)


def _unpack(values: dict[str, Any], name: str, fields: list[str] | None) -> dict[str, Any] | None:
    # A dictionary: which NamedTuple it is, the optimizer knows that `train` is given.
    return None if fields is None else {field: values[f"{name}.{field}"] for field in fields}


def _value(array: np.ndarray) -> Any:
    """An array, or the Python number that an array without axes was."""
    return array if array.ndim else array.item()


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them; some bit generators hold arrays."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"configuration holds {value!r:.60}; accepted is what JSON can hold")


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
    """

    def __init__(
        self,
        path: str | Path,
        rng: np.random.Generator | None = None,
        every: int = 100,
        configuration: Any = None,
    ) -> None:
        self._path = Path(path)
        if not (rng is None or isinstance(rng, np.random.Generator)):  # a state would be stale
            raise TypeError(f"rng is {rng!r:.60}; accepted are a numpy.random.Generator and None")
        self._rng = rng
        self._every = as_count("every", every, 1)
        self._configuration = configuration
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
            save_checkpoint(self._path, *self._last, self._configuration)
            self._saved = self._last[0]
