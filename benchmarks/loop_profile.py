"""Where an iteration of the training loop spends its time: ``python -m benchmarks.loop_profile``.

The workload is ``sin``: 25 sinusoids, 10 + 10 rows, a 1-40-40-1 relu network, Adam. Each part is
timed as the loop calls it, one after the other, and what is left of the whole is the loop's own.
Prints a Markdown table of microseconds an iteration: the median of rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.learn import Adam, train

from .workloads import DTYPES, WORKLOADS

WORK = WORKLOADS["sin"]
PARTS = ("task sampling", "optimizer", "loop", "meta-gradient")


class Timed:
    """A function that adds up the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = self.function(*arguments)
        self.seconds += time.perf_counter() - start
        return result


class TimedAdam(Adam):
    """Adam with a timer in the place of ``update``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "update", Timed(super().update))


class TimedMAML:
    """What the loop needs of MAML, with a timer."""

    def __init__(self, maml: fm.MAML) -> None:
        self.value_and_gradient = Timed(maml.value_and_gradient)


def profile(dtype: str, iterations: int, rounds: int) -> np.ndarray:
    """Return the microseconds an iteration of each of PARTS, the median of the rounds."""
    rng = np.random.default_rng(0)
    model = fm.MLP(WORK.layers, "relu")
    theta = model.init(rng).astype(dtype)
    specification = fm.MAML(model, inner_lr=0.01, steps=WORK.steps, loss="mse", task_mean=True)
    family = Sinusoid()
    found = []
    for round_ in range(rounds + 1):
        maml, optimizer = TimedMAML(specification), TimedAdam()
        sampler = Timed(lambda: family.sample(WORK.n_tasks, WORK.n_rows, WORK.n_rows, rng, dtype))
        start = time.perf_counter()
        train(maml, theta, sampler, optimizer, iterations)
        whole = time.perf_counter() - start
        parts = [timed.seconds for timed in (sampler, optimizer.update, maml.value_and_gradient)]
        if round_:  # the first compiles, or loads what is compiled
            found.append([parts[0], parts[1], whole - sum(parts), parts[2]])
    return 1e6 * np.median(found, axis=0) / iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print("| dtype |", " | ".join(PARTS), "| all but the gradient, of its time |")
    print("|---|" + "---:|" * (len(PARTS) + 1))
    for dtype in DTYPES:
        times = profile(dtype, options.iterations, options.rounds)
        share = times[:-1].sum() / times[-1]
        print(f"| {dtype} |", " | ".join(f"{t:.1f}" for t in times), f"| {share:.0%} |", flush=True)


if __name__ == "__main__":
    main()
