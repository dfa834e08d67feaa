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

import sympy
a, k, t = sympy.symbols("a k t")
model = fm.Formula(a * sympy.exp(-k * t) + sympy.log(t), parameters=[a, k], inputs=[t])
x = np.linspace(0.5, 2, 21)
want = 1.5 * np.exp(-0.7 * x) + np.log(x)
assert np.abs(model.predict([1.5, 0.7], x[:, None])[:, 0] - want).max() <= 1e-15
jacobian = fm.equations.jacobian(model, [1.5, 0.7], [x[:, None]])[0][:, 0]
want = np.stack([np.exp(-0.7 * x), -1.5 * x * np.exp(-0.7 * x)], 1)
assert np.abs(jacobian - want).max() <= 1e-15
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
