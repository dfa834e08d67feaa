"""Where an iteration of the training loop spends its time: ``python -m benchmarks.loop_profile``.

The workload is ``sin``: 25 sinusoids, 10 + 10 rows, a 1-40-40-1 relu network, Adam. Each part is
timed as the loop calls it, one after the other, and what is left of the whole is the loop's own.
Prints a Markdown table of microseconds an iteration: the median of rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.learn import Adam, train

from .workloads import DTYPES, WORKLOADS

WORK = WORKLOADS["sin"]
PARTS = ("task sampling", "optimizer", "loop", "meta-gradient")


class Clock:
    """Adds up the seconds spent in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds += time.perf_counter() - start
            return result

        return timed


def profile(dtype: str, learned: bool, iterations: int, rounds: int) -> np.ndarray:
    """Return the microseconds an iteration of each of PARTS, the median of the rounds."""
    rng = np.random.default_rng(0)
    model = fm.MLP(WORK.layers, "relu")
    theta = model.init(rng).astype(dtype)
    inner_lr = np.full(model.n_params, 0.01) if learned else 0.01
    rows = WORK.n_tasks, WORK.n_rows, WORK.n_rows
    found = []
    for round_ in range(rounds + 1):
        sampling, updating, differentiating = clocks = Clock(), Clock(), Clock()

        class TimedMAML(fm.MAML):  # the loop makes new ones of it when it learns the rates
            value_and_gradient = differentiating(fm.MAML.value_and_gradient)
            evaluate = differentiating(fm.MAML.evaluate)

        class TimedAdam(Adam):
            update = updating(Adam.update)

        maml = TimedMAML(model, inner_lr, WORK.steps, loss="mse", task_mean=True)
        sampler = partial(sampling(Sinusoid().sample), *rows, rng, dtype)
        start = time.perf_counter()
        train(
            maml,
            theta,
            sampler,
            TimedAdam(),
            iterations,
            rate_optimizer=TimedAdam(1e-4) if learned else None,
        )
        whole = time.perf_counter() - start
        if round_:  # the first compiles, or loads what is compiled
            parts = [clock.seconds for clock in clocks]
            found.append([*parts[:2], whole - sum(parts), parts[2]])
    return 1e6 * np.median(found, axis=0) / iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print("| | dtype |", " | ".join(PARTS), "| all but the gradient, of its time |")
    print("|---|---|" + "---:|" * (len(PARTS) + 1))
    for learned in (False, True):
        for dtype in DTYPES:
            times = profile(dtype, learned, options.iterations, options.rounds)
            cells = ["Meta-SGD" if learned else "MAML", dtype, *(f"{t:.1f}" for t in times)]
            share = times[:-1].sum() / times[-1]
            print(f"| {' | '.join(cells)} | {share:.0%} |", flush=True)


if __name__ == "__main__":
    main()
