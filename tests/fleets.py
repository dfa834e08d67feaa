"""Clusters of processes on this machine, for the tests of fastmaml.distributed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def cluster_of(n_workers: int, n_threads: int = 1) -> Iterator[Any]:
    """The client of so many workers, each a process with so many threads."""
    distributed = pytest.importorskip("distributed")
    import dask

    with (
        # Else a worker that is not back 15 s after it died, because it died again, is given up.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=n_threads,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # else a second cluster warns of the port
            memory_limit=None,
            silence_logs=logging.CRITICAL,
            env={"NUMBA_NUM_THREADS": "2"},  # also where there is one core
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def wait_for(client: Any, n_workers: int) -> None:
    """Return when there are as many workers, which have started: that is soon."""
    deadline = time.monotonic() + 120
    while not (len(client.nthreads()) == n_workers == _started(client)):
        assert time.monotonic() < deadline, client.nthreads()
        time.sleep(0.05)


def _started(client: Any) -> int:
    """How many workers Dask would start again if they died; it gives up one that just begins."""
    processes = [nanny.process for nanny in client.cluster.workers.values()]
    return sum(each is not None and each.status.name == "running" for each in processes)
