"""What a fresh process waits for, from the first import to the first meta-gradient of ``sin``.

Cold is with empty folders for compiled code, warm with those that the cold process left; JAX's and
torch.compile's own caches are switched on for that, as ours is by default.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

CACHES = ("FASTMAML_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
SETTINGS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "FASTMAML_CACHE": "1"}
CELL = ("sin", "float32", "relu")


class StartUp(NamedTuple):
    """Seconds; the last two without ``import numba``, for who uses it (nan otherwise)."""

    cold: float
    warm: float
    cold_after_numba: float
    warm_after_numba: float


def start_up(name: str, repeats: int = 3) -> StartUp:
    """Start one cold process and the given number of warm ones, of which the fastest counts."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **SETTINGS, **dict.fromkeys(CACHES, folder)}

        def run() -> tuple[float, float]:
            command = [sys.executable, "-m", "benchmarks.startup", name]
            done = subprocess.run(
                command, env=environment, check=True, text=True, capture_output=True
            )
            total, rest = map(float, done.stdout.splitlines()[-1].split())
            return total, rest

        cold = run()
        warm = min(run() for _ in range(repeats))
    return StartUp(cold[0], warm[0], cold[1], warm[1])


def main() -> None:
    """Be such a process."""
    name, start, rest = sys.argv[1], time.perf_counter(), float("nan")
    if name == "fastmaml":
        import numba  # noqa: F401

        rest = time.perf_counter()
    from .contenders import CONTENDERS
    from .workloads import problem

    CONTENDERS[name].prepare(problem(*CELL)).call()
    end = time.perf_counter()
    print(end - start, end - rest)


if __name__ == "__main__":
    main()
