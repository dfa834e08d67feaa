"""
A million tasks an epoch
========================

Meta-train on a million sinusoid tasks an epoch, which are drawn where they are needed::

    python examples/million_tasks.py                               processes of this machine
    python examples/million_tasks.py --scheduler tcp://node1:8786  a Dask cluster that is there

Needs Dask, from the extra ``distributed``. A batch is a seed: every worker draws its shares of the
batch from it, so the tasks are nowhere stored or sent, and are the same in each epoch.
"""

import argparse
import contextlib
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.learn import Adam, Cosine, train

N_SHARES = 40


def main():
    parser = argparse.ArgumentParser(description="Meta-train on a million tasks an epoch.")
    parser.add_argument("--scheduler", help="address of a cluster; without it, one is started here")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="to start here")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="of an epoch")
    parser.add_argument("--batch", type=int, default=10_000, help="tasks of an iteration")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args(None if "__file__" in globals() else [])  # a notebook has none
    n_batches, share = options.tasks // options.batch, options.batch // N_SHARES

    def sampler(rng):
        return Sinusoid(part="train").sample(share, n_support=10, n_query=10, rng=rng)

    rng = np.random.default_rng(0)
    maml = fm.MAML(fm.MLP([1, 40, 40, 1]), inner_lr=0.01, loss="mse", task_mean=True)
    theta = maml.model.init(rng, "float32")
    new = Sinusoid(part="test").sample(1000, n_support=10, n_query=10, rng=rng)
    errors = [maml.value(theta, *new)]
    print(f"before: mean squared error of new tasks {errors[0]:.3f}")

    def epochs():
        """The batches of one epoch after the other, each time in another order."""
        while True:
            yield from rng.permutation(n_batches)

    seeds, start = epochs(), time.perf_counter()

    def report(state):
        if state.iteration % n_batches == 0:
            errors.append(maml.value(state.theta, *new))
            print(
                f"{state.iteration // n_batches * n_batches * share * N_SHARES} tasks in "
                f"{time.perf_counter() - start:.1f} s: "
                f"mean squared error of new tasks {errors[-1]:.3f}",
                flush=True,
            )

    with contextlib.ExitStack() as stack:
        cluster = options.scheduler or stack.enter_context(
            LocalCluster(
                n_workers=options.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            )
        )
        client = stack.enter_context(Client(cluster))
        fleet = stack.enter_context(
            fm.distributed.Fleet(client, maml, sampler=sampler, n_shares=N_SHARES)
        )
        n_iterations = options.epochs * n_batches
        optimizer = Adam(Cosine(0.01, n_iterations))
        train(fleet, theta, lambda: (int(next(seeds)),), optimizer, n_iterations, report)

    _, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axes.semilogy(errors, "o-")
    axes.set(xlabel="epochs", ylabel="error of new tasks")
    plt.show()


if __name__ == "__main__":  # Dask's processes import this file
    main()
