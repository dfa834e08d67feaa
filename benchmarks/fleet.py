"""What a fleet costs and what it gains on this machine: ``python -m benchmarks.fleet``.

* **Gain.** One batch of 20 000 ``sin`` tasks on clusters of one and of two single-threaded workers,
  which take turns, beside one thread of this process.
* **Cost.** A call on two workers that have next to nothing to compute (two tasks), beside the same
  two tasks here: what is left is the way to the workers and back. For theta of several lengths.

Prints Markdown tables of milliseconds: medians, and what nine of ten calls take at most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

import fastmaml as fm

from . import report
from .workloads import WORKLOADS, make

N_TASKS = 20_000
#: networks whose theta travels: 1761, 77 838 and 1 065 021 numbers
WIDTHS = {"1-40-40-1": 40, "1-277-277-1": 277, "1-1030-1030-1": 1030}


@contextmanager
def workers(n: int) -> Iterator[Client]:
    """The client of so many single-threaded processes."""
    with (
        LocalCluster(
            n_workers=n, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def milliseconds(
    calls: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Of each call, which take turns, the median and the ninth decile."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: (np.median(t), np.quantile(t, 0.9)) for name, t in times.items()}


def gain(rounds: int) -> None:
    """Time one batch on one worker and on two."""
    p = make(WORKLOADS["sin"]._replace(n_tasks=N_TASKS), "float64", "relu")
    maml = fm.MAML(fm.MLP(list(p.layers), p.activation), inner_lr=p.inner_lr, steps=p.steps)
    tasks = (p.x, p.y, p.x_query, p.y_query)

    def here(n: int) -> Any:
        with fm.threads(n):
            return maml.value_and_gradient(p.theta, *tasks)

    # Alone, for threads that have had work keep a core busy for a while.
    alone = milliseconds({"two threads here": lambda: here(2)}, rounds)
    time.sleep(1.0)
    with ExitStack() as stack:
        calls: dict[str, Callable[[], Any]] = {"one thread here": lambda: here(1)}
        for name, n in (("one worker", 1), ("two workers", 2)):
            client = stack.enter_context(workers(n))
            fleet = stack.enter_context(fm.distributed.Fleet(client, maml, tasks))
            calls[name] = lambda fleet=fleet: fleet.value_and_gradient(p.theta)
        found = milliseconds(calls, rounds) | alone
    print(f"{N_TASKS} tasks of `sin`, float64, relu, 64 shares:\n")
    print("| | median, ms | nine of ten, ms | one worker / this |\n| --- | --- | --- | --- |")
    for name, (median, most) in found.items():
        ratio = found["one worker"][0] / median
        print(f"| {name} | {median:.1f} | {most:.1f} | {ratio:.2f} |", flush=True)


def cost(rounds: int) -> None:
    """Time calls that compute next to nothing."""
    print("\nTwo tasks on two workers:\n")
    print("| network | numbers of theta | call, ms | nine of ten, ms | here, ms |")
    print("| --- | --- | --- | --- | --- |")
    rng = np.random.default_rng(0)
    tasks = (rng.uniform(-1, 1, (2, 1, 1)), rng.uniform(-1, 1, (2, 1, 1)))
    with workers(2) as client:
        for name, width in WIDTHS.items():
            maml = fm.MAML(fm.MLP([1, width, width, 1]), inner_lr=1e-3)
            theta = maml.model.init(0)
            with fm.distributed.Fleet(client, maml, tasks) as fleet:
                found = milliseconds(
                    {
                        "fleet": lambda fleet=fleet, theta=theta: fleet.value_and_gradient(theta),
                        "here": lambda maml=maml, theta=theta: maml.value_and_gradient(
                            theta, *tasks
                        ),
                    },
                    rounds,
                )
            (median, most), (here, _) = found["fleet"], found["here"]
            print(f"| {name} | {len(theta)} | {median:.2f} | {most:.2f} | {here:.2f} |", flush=True)


def main() -> None:
    """Time both, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="of the large batch")
    options = parser.parse_args()
    gain(options.rounds)
    cost(10 * options.rounds)
    print(f"\n{report.machine()}")


if __name__ == "__main__":
    main()
