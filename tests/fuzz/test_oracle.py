"""The fuzz test can fail: what it looks for is found where it is."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmaml as fm
from fastmaml.checks import as_count

from . import memory
from .good import judge_command
from .oracle import Call, Failure, judge
from .run import report, run

THETA = np.zeros(2)


def write() -> None:
    THETA[0] += 1.0


def warn() -> None:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: [][0], "IndexError"),
        (lambda: len(None), "TypeError"),  # type: ignore[arg-type]
        (lambda: np.zeros(-1), "negative dimensions"),
        (lambda: as_count("another", -1), "names no argument"),
        (lambda: fm.MAML(None), "names no argument"),
        (lambda: np.zeros(10**13), "MemoryError"),
        (lambda: (1.0, [np.array([np.nan])]), "NaN or inf"),
        (lambda: float("inf"), "NaN or inf"),
        (warn, "overflow"),
        (write, "theta was written to"),
    ],
)
def test_what_a_call_must_not_do(make: Callable[[], Any], found: str) -> None:
    with pytest.raises(Failure, match=found):
        judge(Call("call", make, {"theta": THETA}))


@pytest.mark.parametrize(
    "make", [lambda: as_count("theta", -1), lambda: fm.Linear(2).unpack(THETA), lambda: 1.0]
)
def test_what_a_call_may_do(make: Callable[[], Any]) -> None:
    judge(Call("call", make, {"theta": THETA}))


def test_nan_from_nan_is_no_failure() -> None:
    judge(Call("call", lambda: np.nan, {"theta": np.array([np.nan])}))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("evaluate", "nowhere"), None),
        (("evaluate", "elsewhere"), "names no file"),
        (("warmup", "--methods", "none"), "names no file"),
    ],
)
def test_what_a_command_must_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], found: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if found is None:
        judge_command(*arguments, names="nowhere")
    else:
        with pytest.raises(Failure, match=found):
            judge_command(*arguments, names="nowhere")


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak to reset")
def test_memory_that_a_file_must_not_take() -> None:
    with memory.modest(1000):
        pass
    with pytest.raises(Failure, match="a file of 1000 bytes took"), memory.modest(1000):
        np.ones(100 * memory.MIB // 8)


def test_a_crash_and_a_hang_have_a_number() -> None:
    found = run(3, 9, worker="fuzz.broken")
    assert [each.case for each in found] == [2, 4, 5, 7]
    crash, hang, failed, ended = (each.text for each in found)
    assert "Fatal Python error: Aborted" in crash
    assert "Timeout (0:00:02)" in hang
    assert failed == "case five"
    assert "SystemExit: 3" in ended
    assert "python -m fuzz --seed 3 --case 2" in report(3, found)
