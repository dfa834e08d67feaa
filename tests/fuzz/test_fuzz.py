"""Random calls and damaged files, with a fixed seed; ``make fuzz`` says how to have others."""

from __future__ import annotations

import os

import pytest

from .run import FILES, report, run

pytest.importorskip("pyarrow")

SEED = int(os.environ.get("FUZZ_SEED", "0"))
TIMES = float(os.environ.get("FUZZ_TIMES", "1"))
N_CASES = int(54_000 * TIMES)


@pytest.mark.fuzz
def test_calls_and_files() -> None:
    """No crash, no hang, no silent NaN, no error by accident, no file that takes all memory."""
    n_files = N_CASES // FILES
    assert TIMES < 1 or (n_files >= 3000 and N_CASES - n_files >= 20_000)
    found = run(SEED, N_CASES)
    assert not found, report(SEED, found)
