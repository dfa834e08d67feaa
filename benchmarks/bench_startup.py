"""asv: what a fresh process waits for: imports, a cold compile, the first call when cached."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

# Prints the seconds from numba being there to the first result. numba's own import is not ours to
# shorten, and has a benchmark of its own below.
FIRST_RESULT = """
import sys, time
import numba
import numpy as np
start = time.perf_counter()
import fastmaml as fm
model = fm.MLP([1, 40, 40, 1], "relu")
maml = fm.MAML(model, inner_lr=0.002, method=sys.argv[1])
x = np.linspace(-5.0, 5.0, 20).reshape(2, 10, 1)
theta = model.init(0)
maml.value_and_gradient(theta, x, np.sin(x))
print(time.perf_counter() - start)
"""


def timeraw_import_numba() -> str:
    return "import numba"


def timeraw_import_fastmaml() -> str:
    return "import fastmaml"


def peakmem_import_fastmaml() -> None:
    import fastmaml  # noqa: F401


class FirstResult:
    """Seconds after ``import numba`` to the first meta-gradient of a 1-40-40-1 network."""

    params = (("factored", "dense", "explicit"),)
    param_names = ("method",)
    unit = "seconds"
    timeout = 300

    def track_cold_compile(self, method: str) -> float:
        with tempfile.TemporaryDirectory() as cache:
            return self._first_result(method, cache)

    def track_from_warm_cache(self, method: str) -> float:
        with tempfile.TemporaryDirectory() as cache:
            self._first_result(method, cache)
            return min(self._first_result(method, cache) for _ in range(3))

    def _first_result(self, method: str, cache: str) -> float:
        command = [sys.executable, "-c", FIRST_RESULT, method]
        environment = {**os.environ, "FASTMAML_CACHE_DIR": cache}
        done = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return float(done.stdout)
