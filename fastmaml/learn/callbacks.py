"""Callbacks for :func:`fastmaml.learn.train`: a progress bar and a CSV log.

A callback is any function of a :class:`TrainState`; one that returns True ends the training.
:func:`chain` makes one of several. :class:`Checkpointer` is another.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ..checks import as_count
from ..files import append_to, open_file, write_whole
from .loop import TrainState

__all__ = ["CSVLog", "ProgressBar", "chain"]

Callback = Callable[[TrainState], bool | None]


def chain(*callbacks: Callback) -> Callback:
    """Return a callback that calls all of these in turn, and ends the training if one wants it.

    Parameters
    ----------
    *callbacks : callable
        Functions of a :class:`TrainState`.

    Returns
    -------
    callable
        One function of a :class:`TrainState`; True if any of them returned True.

    Raises
    ------
    TypeError
        When it is called, for what is no function.

    Examples
    --------
    >>> from fastmaml.learn import TrainState, chain
    >>> seen = []
    >>> callback = chain(seen.append, lambda state: state.iteration == 2)
    >>> [callback(TrainState(i, 0.0, None, None)) for i in (1, 2)], len(seen)
    ([False, True], 2)
    """

    def call(state: TrainState) -> bool:
        answers = [callback(state) for callback in callbacks]  # of all, before any can end it
        return any(answers)

    return call


class ProgressBar:
    """A progress bar with the mean of the last 100 values. Needs tqdm, from the extra ``cli``.

    Parameters
    ----------
    n_iterations : int
        As for :func:`train`.
    done : int
        Iterations that a resumed training has behind it.

    Raises
    ------
    ImportError
        If tqdm is not installed.

    Examples
    --------
    >>> from fastmaml.learn import ProgressBar, TrainState
    >>> with ProgressBar(3) as bar:  # doctest: +SKIP
    ...     result = train(maml, theta, sampler, optimizer, 3, callback=bar)
    meta-training: 100%|██████████| 3/3 [00:00<00:00, loss 0.25]
    """

    def __init__(self, n_iterations: int, done: int = 0) -> None:
        try:
            from tqdm import tqdm
        except ModuleNotFoundError as error:
            raise ImportError(
                'ProgressBar needs tqdm, which comes with pip install "fastmaml[cli]"',
                name=error.name,
            ) from error
        self._recent: deque[float] = deque(maxlen=100)
        self._bar: Any = tqdm(
            total=as_count("n_iterations", n_iterations),
            initial=as_count("done", done),
            desc="compiling",
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 10.0,  # a log file wants few lines
        )

    def __call__(self, state: TrainState) -> None:
        """Move on by one."""
        if not self._recent:
            self._bar.set_description("meta-training")
        self._recent.append(state.value)
        if state.iteration % 20 == 1:
            mean = sum(self._recent) / len(self._recent)
            self._bar.set_postfix_str(f"loss {mean:.3g}", refresh=False)
        self._bar.update()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class CSVLog:
    """A line for each iteration: iteration, value, validation_value, diverged (the tasks' indices).

    Every line is handed to the system at once, so a killed process loses none. Floats are written
    so that reading gives the same bits.

    Parameters
    ----------
    path : str or Path
    done : int
        Iterations that a resumed training has behind it: their lines in an existing file are kept,
        all others are dropped.

    Raises
    ------
    OSError
        If the file cannot be written, or is no regular file. (A symbolic link is replaced.)
    ValueError
        If `done` is not 0 and the existing file is no log of a CSVLog.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from fastmaml.learn import CSVLog, TrainState
    >>> path = pathlib.Path(tempfile.mkdtemp(), "log.csv")
    >>> with CSVLog(path) as log:
    ...     log(TrainState(1, 0.25, None, None))
    >>> path.read_text().split()
    ['iteration,value,validation_value,diverged', '1,0.25,,']
    >>> log = CSVLog(path, done=1)  # a training that is resumed, without a with block
    >>> log.close()
    """

    HEAD = "iteration,value,validation_value,diverged\n"
    _NUMBER = r"-?(?:\d+(?:\.\d+)?(?:e[-+]\d+)?|inf|nan)"
    _LINE = re.compile(rf"(\d{{1,20}}),{_NUMBER},(?:{_NUMBER})?,[\d ]*\n", re.ASCII)

    def __init__(self, path: str | Path, done: int = 0) -> None:
        path = Path(path)
        kept = self._kept(path, as_count("done", done))
        write_whole(path, lambda file: file.write(kept.encode()))
        self._file = append_to(path)

    def _kept(self, path: Path, done: int) -> str:
        if not done or not path.exists():
            return self.HEAD
        try:
            with TextIOWrapper(open_file(path), encoding="utf-8") as file:
                return self._kept_lines(path, file, done)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text in UTF-8; accepted are logs of CSVLog") from error

    def _kept_lines(self, path: Path, file: Iterable[str], done: int) -> str:
        lines = iter(file)
        head = next(lines, "")
        if head != self.HEAD:
            raise ValueError(f"{path} begins with {head!r:.60}; accepted are logs of CSVLog")
        kept = [self.HEAD]
        for line in lines:
            if not line.endswith("\n"):  # a process was killed within it, after `done`
                break
            if not (match := self._LINE.fullmatch(line)):
                raise ValueError(f"{path} has a line {line!r:.60}; accepted are logs of CSVLog")
            if int(match[1]) <= done:
                kept.append(line)
        return "".join(kept)

    def __call__(self, state: TrainState) -> None:
        """Write one line."""
        validation = "" if state.validation_value is None else repr(float(state.validation_value))
        diverged = " ".join(map(str, state.diverged))
        self._file.write(f"{state.iteration},{float(state.value)!r},{validation},{diverged}\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> CSVLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
