"""The kernels on processors with narrower vectors than this one's, in processes of their own."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
import fastmaml as fm
from fastmaml.kernels.vectors.emitter import (REGISTER_BYTES)

rng = np.random.default_rng(0)
model = fm.MLP([2, 9, 7, 2])
data = [rng.normal(size=(4, 6, 2)) for _ in range(4)]
factored, dense = (
    fm.MAML(model, 0.01, 2, method=method).gradient(model.init(0), *data)
    for method in ("factored", "dense")
)
assert np.abs(factored - dense).max() <= 1e-13 * np.abs(dense).max()
print(REGISTER_BYTES)
"""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="about machine code")
@pytest.mark.parametrize(("features", "width"), [("", "16"), ("+avx,+avx2,+fma", "32")])
def test_methods_agree_on_other_targets(features, width):
    target = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **target},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == [width]
