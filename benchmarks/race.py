"""Time contenders against each other on one problem: fairly, and only when they agree.

Each contender lives in a process of its own, so that no thread pool of one disturbs another. The
processes take turns for several rounds, so that a change of the machine's mood meets all of them.
What is reported is the median over the rounds of each round's median call, with the fastest and the
slowest round.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from .contenders import CONTENDERS
from .workloads import problem

# What must be caught here is a wrong formula. A relu that flips at a rounding error's distance from
# its kink changes a float32 gradient by more than rounding does.
TOLERANCE = {"float32": 1e-3, "float64": 1e-11}
SECONDS_PER_TURN = 0.3


class Entry(NamedTuple):
    """A contender and its options."""

    name: str
    options: dict[str, Any]


class Timing(NamedTuple):
    """Seconds a call: the median over the rounds, the fastest and the slowest round."""

    median: float
    fastest: float
    slowest: float


class Outcome(NamedTuple):
    """One race: a timing and the versions of each entry, and how far apart their results were."""

    timings: list[Timing]
    versions: list[str]
    disagreement: float


def race(entries: list[Entry], workload: str, dtype: str, activation: str, rounds: int) -> Outcome:
    """Run one race. Raises RuntimeError when a contender fails or the results disagree."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        results = []
        for entry in entries:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, entry, workload, dtype, activation), daemon=True
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
            results.append(_receive(ours, entry))
        disagreement = max(_distance(result, results[0]) for result in results)
        if not disagreement <= TOLERANCE[dtype]:
            names = " and ".join(entry.name for entry in entries)
            cell = f"{workload} {dtype} {activation}"
            raise RuntimeError(f"{names} disagree on {cell}: {disagreement:.1e} relative")
        turns: list[list[float]] = [[] for _ in entries]
        line = list(zip(pipes, entries, turns, strict=True))
        for number in range(rounds):
            for pipe, entry, seconds in line if number % 2 == 0 else line[::-1]:
                time.sleep(0.05)  # threads of the turn before may still be spinning
                pipe.send(SECONDS_PER_TURN)
                seconds.append(_receive(pipe, entry))
        timings = [Timing(statistics.median(s), min(s), max(s)) for s in turns]
        return Outcome(timings, [result[2] for result in results], disagreement)
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()


def _serve(pipe: Connection, entry: Entry, workload: str, dtype: str, activation: str) -> None:
    """Contender's process: send the result, then take turns until the pipe closes."""
    try:
        prepared = CONTENDERS[entry.name](problem(workload, dtype, activation), **entry.options)
        prepared.call()
        pipe.send((*prepared.as_numpy(prepared.call()), prepared.versions))
        while True:
            end = time.perf_counter() + pipe.recv()
            calls = []
            while (start := time.perf_counter()) < end or not calls:
                prepared.call()
                calls.append(time.perf_counter() - start)
            pipe.send(statistics.median(calls))
    except EOFError:
        pass
    except BaseException:
        pipe.send(RuntimeError(traceback.format_exc()))


def _receive(pipe: Connection, entry: Entry) -> Any:
    try:
        message = pipe.recv()
    except EOFError:
        raise RuntimeError(f"the process of {entry.name} died") from None
    if isinstance(message, Exception):
        raise RuntimeError(f"{entry.name} failed:\n{message}") from None
    return message


def _distance(
    result: tuple[float, np.ndarray, str], expected: tuple[float, np.ndarray, str]
) -> float:
    """The larger of the relative errors of value and gradient (2-norm)."""
    value = abs(result[0] - expected[0]) / abs(expected[0])
    difference = np.linalg.norm(result[1].astype(float) - expected[1])
    return float(max(value, difference / np.linalg.norm(expected[1])))
