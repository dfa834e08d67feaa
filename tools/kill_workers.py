"""Kill workers in the middle of calls: every result must have the bits of an undisturbed one.

    python tools/kill_workers.py --kills 20

In each call a worker is killed (SIGKILL) at a random moment. Prints in how many calls the bits were
the same, how many of the kills came before the call was done, and what the calls took.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import threading
import time

import dask
from distributed import Client, LocalCluster

import fastmaml as fm
from fastmaml.datasets import Sinusoid


def sampler(rng):
    """Draw the tasks of a share."""
    return Sinusoid().sample(500, 10, 10, rng)


def processes(cluster: LocalCluster, n_workers: int) -> list[int]:
    """Return the workers' processes, when all are there: one that dies in its start is given up."""
    while True:
        nannies = [each for each in cluster.workers.values() if each.process]
        if [each.process.status.name for each in nannies] == ["running"] * n_workers:
            return [each.pid for each in nannies]
        time.sleep(0.05)


def kill(pid: int, killed: threading.Event) -> None:
    """Kill a process, and say that it is done."""
    os.kill(pid, signal.SIGKILL)
    killed.set()


def main() -> None:
    """Compute, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    maml = fm.MAML(fm.MLP([1, 40, 40, 1]), task_mean=True)
    theta = maml.model.init(0)
    with (
        # Else a worker that is not back 15 s after it died, because it died again, is given up.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
        LocalCluster(
            n_workers=options.workers, threads_per_worker=1, host="127.0.0.1",
            dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
        fm.distributed.Fleet(client, maml, Sinusoid().sample(20_000, 10, 10, 0)) as given,
        fm.distributed.Fleet(client, maml, sampler=sampler, n_shares=40) as drawing,
    ):  # fmt: skip
        fleets = (given, drawing)
        expected, seconds = [], 0.0
        for fleet in fleets:
            fleet.value_and_gradient(theta)
            start = time.perf_counter()
            value, gradient = fleet.value_and_gradient(theta)
            seconds = max(seconds, time.perf_counter() - start)
            expected.append((value, gradient.tobytes()))
        same = within = 0
        times = []
        for i in range(options.kills):
            pid = chance.choice(processes(cluster, options.workers))
            killed = threading.Event()
            timer = threading.Timer(chance.uniform(0, 0.9 * seconds), kill, (pid, killed))
            start = time.perf_counter()
            timer.start()
            value, gradient = fleets[i % 2].value_and_gradient(theta)
            within += killed.is_set()
            times.append(time.perf_counter() - start)
            timer.join()
            while pid in [each.pid for each in cluster.workers.values()]:
                time.sleep(0.01)
            same += (value, gradient.tobytes()) == expected[i % 2]
        print(
            f"{same} of {options.kills} have the same bits; {within} kills came within the call; "
            f"an undisturbed call takes up to {seconds:.2f} s, these took {min(times):.2f} to "
            f"{max(times):.2f} s"
        )
        raise SystemExit(0 if same == options.kills else 1)


if __name__ == "__main__":
    main()
