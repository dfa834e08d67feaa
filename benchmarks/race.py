"""Time contenders against each other on one problem: fairly, and only when they agree.

Each contender lives in a process of its own, so that no thread pool of one disturbs another. The
processes take turns for several rounds, so that a change of the machine's mood meets all of them.
What is reported is the median over the rounds of each round's median call, with the fastest and the
slowest round. A contender that does not return from a turn (XLA's thread pool is known to lock
itself up on small machines) is started anew and takes its turn then; the outcome says how often.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .contenders import contenders_for
from .workloads import problem

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# What must be caught here is a wrong formula. A relu that flips at a rounding error's distance from
# its kink changes a float32 gradient by more than rounding does.
TOLERANCE = {"float32": 1e-3, "float64": 1e-11}
SECONDS_PER_TURN = 0.3
SECONDS_TO_START = 600.0  # torch.compile takes minutes
SECONDS_TO_RETURN = 60.0
ATTEMPTS = 4


class Entry(NamedTuple):
    """A contender and its options."""

    name: str
    options: dict[str, Any] = {}  # noqa: RUF012  (a NamedTuple's default, never written to)


class Result(NamedTuple):
    """Of one contender: seconds a call, and what its whole process took."""

    median: float  # over the rounds
    fastest: float  # round
    slowest: float
    memory: int  # bytes: the most that was resident, with interpreter, libraries and compiler
    versions: str


class Stuck(RuntimeError):
    """A contender did not return in time."""


class Outcome(NamedTuple):
    """One race, by the names of the contenders: who finished, and why the others did not."""

    results: dict[str, Result]
    failures: dict[str, str]
    restarts: dict[str, int]  # of those that had to be started anew


def race(entries: list[Entry], cell: Sequence[str], rounds: int) -> Outcome:
    """Run one race on ``problem(*cell)``.

    Raises RuntimeError when the first entry fails or results disagree with its.
    """
    root = str(Path(__file__).resolve().parents[1])
    if root not in sys.path:  # asv imports this package without it, and children inherit the path
        sys.path.insert(0, root)
    runners: dict[str, _Runner] = {}
    try:
        for entry in entries:
            runners[entry.name] = _Runner(entry, cell)
        answers, failures = {}, {}
        for name, runner in runners.items():
            try:
                answers[name] = runner.answer()
            except RuntimeError as error:
                if name == entries[0].name:
                    raise
                failures[name] = str(error)
        _compare(answers, " ".join(cell), TOLERANCE[cell[1]])
        turns: dict[str, list[float]] = {name: [] for name in answers}
        memory = dict.fromkeys(answers, 0)
        for number in range(rounds):
            for name in list(answers) if number % 2 == 0 else list(answers)[::-1]:
                time.sleep(0.05)  # threads of the turn before may still be spinning
                seconds, memory[name] = runners[name].turn()
                turns[name].append(seconds)
        results = {
            name: Result(statistics.median(s), min(s), max(s), memory[name], answers[name][1])
            for name, s in turns.items()
        }
        restarts = {name: runner.restarts for name, runner in runners.items() if runner.restarts}
        return Outcome(results, failures, restarts)
    finally:
        for runner in runners.values():
            runner.pipe.close()
        for runner in runners.values():
            runner.process.join(timeout=5)
            if runner.process.is_alive():
                runner.process.kill()


class _Runner:
    """A contender's process, which is started anew when it does not return from a turn."""

    def __init__(self, entry: Entry, cell: Sequence[str]) -> None:
        self.entry, self.cell, self.restarts = entry, cell, 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, self.entry, self.cell)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def answer(self) -> Any:
        """The first message: the result, and versions."""
        return self._receive(SECONDS_TO_START)

    def turn(self) -> tuple[float, int]:
        """Seconds of the median call, and bytes."""
        while True:
            self.pipe.send(SECONDS_PER_TURN)
            try:
                return self._receive(SECONDS_TO_RETURN)
            except Stuck:
                self.process.kill()
                self.pipe.close()
                self.restarts += 1
                if self.restarts == ATTEMPTS:
                    raise
                self._start()
                self.answer()

    def _receive(self, seconds: float) -> Any:
        name = self.entry.name
        try:
            if not self.pipe.poll(seconds):
                raise Stuck(f"{name} did not return in {seconds:.0f} seconds")
            message = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"the process of {name} died") from None
        if isinstance(message, Exception):
            raise RuntimeError(f"{name} failed:\n{message}") from None
        return message


def _serve(pipe: Connection, entry: Entry, cell: Sequence[str]) -> None:
    """Contender's process: send the result, then take turns until the pipe closes."""
    try:
        contender = contenders_for(cell[0])[entry.name]
        prepared = contender.prepare(problem(*cell), **entry.options)
        result = prepared.call()
        pipe.send((prepared.as_numpy and prepared.as_numpy(result), prepared.versions))
        while True:
            pipe.send((seconds_a_call(prepared.call, pipe.recv()), _peak_memory()))
    except EOFError:
        pass
    except BaseException:
        pipe.send(RuntimeError(traceback.format_exc()))


def seconds_a_call(call: Callable[[], Any], seconds: float) -> float:
    """The median time of the calls that fit into so many seconds; of one at least."""
    end, calls = time.perf_counter() + seconds, []
    while (start := time.perf_counter()) < end or not calls:
        call()
        calls.append(time.perf_counter() - start)
    return statistics.median(calls)


def _peak_memory() -> int:
    """Bytes; 0 where the system does not say."""
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _compare(answers: dict[str, Any], cell: str, tolerance: float) -> None:
    """Hold every result against the first one."""
    computed = {name: result for name, (result, _) in answers.items() if result is not None}
    first, *others = computed
    for name in others:
        error = distance(computed[name], computed[first])
        if not error <= tolerance:
            raise RuntimeError(f"{first} and {name} disagree on {cell}: {error:.1e} relative")


def distance(result: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> float:
    """The larger of the relative errors of value and gradient (2-norm)."""
    value = abs(result[0] - expected[0]) / abs(expected[0])
    difference = np.linalg.norm(result[1].astype(float) - expected[1])
    return float(max(value, difference / np.linalg.norm(expected[1])))
