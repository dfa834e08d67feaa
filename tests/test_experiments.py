"""The scripts in experiments/ run and agree with themselves; so does the profile of the loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
METHODS = ("exact", "first", "exact-1", "meta-sgd", "pretrained", "oracle")


def run_module(name: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-m", name, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sinusoid_table(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--iterations", "60", "--seeds", "3", "--validations", "2"]
    printed = run_module("experiments.sinusoid_table", *arguments)
    runs = {
        name: json.loads((tmp_path / f"{name}-3.json").read_text(encoding="utf-8"))
        for name in METHODS
    }
    for run in runs.values():
        assert [iteration for iteration, _ in run["curve"]] == [30, 60]
        assert run["iteration"] == min(run["curve"], key=lambda point: point[1])[0]
        assert [error["steps"] for error in run["errors"]] == list(range(11))
        assert {error["shots"] for error in run["errors"]} == {5}
    # Who knows the wave needs no steps, and gains from training what no other can.
    before = {name: run["errors"][0]["mean"] for name, run in runs.items()}
    assert before["oracle"] < min(before[name] for name in METHODS if name != "oracle")
    assert runs["exact"]["curve"] != runs["first"]["curve"]
    assert runs["exact"]["rates"] == [0.01, 0.01]
    low, high = runs["meta-sgd"]["rates"]
    assert low < 0.01 < high
    rows = [line for line in printed.splitlines() if line.startswith("| MAML, exact |")]
    assert len(rows) == 5
    assert f"| {runs['exact']['errors'][10]['mean']:.3f} |" in rows[3]
    assert (tmp_path / "sinusoid.png").read_bytes().startswith(b"\x89PNG")
    # A folder of runs with other settings is refused before any work.
    arguments[3] = "70"
    command = [sys.executable, "-m", "experiments.sinusoid_table", *arguments]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "is a run with --iterations 60, asked for is 70" in other.stderr


def test_profile_of_the_loop() -> None:
    _, _, *rows = run_module(
        "benchmarks.loop_profile", "--iterations", "3", "--rounds", "1"
    ).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    dtypes = ["float32", "float64"]
    assert [row[:2] for row in cells] == [[m, d] for m in ("MAML", "Meta-SGD") for d in dtypes]
    for _, _, *times, share in cells:
        sampling, optimizer, loop, gradient = map(float, times)
        assert min(sampling, optimizer, loop, gradient) > 0
        expected = (sampling + optimizer + loop) / gradient
        assert float(share.rstrip("%")) / 100 == pytest.approx(expected, abs=0.02, rel=0.02)
