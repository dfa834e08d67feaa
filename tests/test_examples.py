"""The scripts in examples/ run as a user would run them, and what they print holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
#: of pictures that nobody can see
NO_WINDOW = "ignore:FigureCanvasAgg is non-interactive"


def run(name: str, *arguments: str) -> str:
    script = EXAMPLES / name
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", NO_WINDOW, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def last_numbers(line: str) -> list[float]:
    return [float(text) for text in re.findall(r"\d+\.\d+", line)]


def test_there_is_a_test_for_each() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_adapt_to_a_wave() -> None:
    lines = run("adapt_to_a_wave.py").splitlines()
    before, one, ten, closed = (last_numbers(line)[0] for line in lines)
    assert before > 2 * one > 2 * ten > 20 * closed


def test_digits() -> None:
    pytest.importorskip("sklearn")
    pairs, _, *of_pairs, fives, _, a, b, c = run("digits.py", "--quick").splitlines()
    assert (pairs.split(":")[0], fives.split(":")[0]) == ("pairs", "fives")
    for chance, lines in ((0.5, of_pairs), (0.2, [a, b, c])):
        assert len(lines) == 3
        for line in lines:
            one, one_error, five, five_error = last_numbers(line)
            assert chance < one + 2 * one_error
            assert five - one > -2 * (one_error + five_error)


def test_fertility(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("statsmodels")
    picture = tmp_path / "errors.png"
    heading, _, _, _, *lines = run("fertility.py", "--quick", "--picture", str(picture)).split("\n")
    assert heading.startswith("100 countries to learn from, 88 new ones")
    error, low, high = {}, {}, {}
    for line in lines[:-1]:
        name, *_ = re.split(r"  +", line)
        error[name], low[name], high[name], *_ = last_numbers(line)
        assert low[name] < error[name] < high[name]
    assert len(error) == 8
    assert (
        max(error["MAML"], error["closed form"], error["empirical Bayes"])
        < 0.8 * error["last value"]
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_million_tasks() -> None:
    pytest.importorskip("distributed")
    small = ("--tasks", "8000", "--batch", "200", "--epochs", "2", "--workers", "2")
    lines = run("million_tasks.py", *small).splitlines()
    assert [line.split()[0] for line in lines] == ["before:", "8000", "16000"]
    before, *after = (last_numbers(line)[-1] for line in lines)
    assert before > after[0] > after[1]


def test_grey_box() -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("sympy")
    formula, network, both = map(last_numbers, run("grey_box.py").splitlines()[-3:])
    assert both[0] < min(network[0], formula[0] / 4)
    assert both[1] < network[1]


def test_numpy_training_loop() -> None:
    before, after = last_numbers(run("numpy_training_loop.py").splitlines()[-1])
    assert after < before / 10


def test_pytorch_training_loop() -> None:
    pytest.importorskip("torch")
    slow, fast, ratio, new = run("pytorch_training_loop.py", "10").splitlines()
    losses = [last_numbers(line)[0] for line in (slow, fast)]
    assert abs(losses[0] - losses[1]) < 0.01 * losses[0]
    assert re.fullmatch(r"\d+\.\d times as fast, batches and Adam included", ratio)
    assert last_numbers(new)[0] < 5.0


def test_ragged_tasks() -> None:
    before, *after = (last_numbers(line)[0] for line in run("ragged_tasks.py").splitlines())
    assert len(after) == 4
    assert max(after) < before / 2
    assert after[-1] < after[0]


def test_scipy_lbfgs() -> None:
    pytest.importorskip("scipy")
    first, last = run("scipy_lbfgs.py").splitlines()[-2:]
    assert last_numbers(last)[0] < last_numbers(first)[0] / 5
    assert last_numbers(last)[1] < last_numbers(first)[1] / 3


def test_tensorboard_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    best, *_ = last_numbers(run("tensorboard_log.py", str(tmp_path)))
    assert best < 2.0
    (events,) = tmp_path.iterdir()
    written = events.read_bytes()
    for tag in (b"training", b"validation", b"diverged", b"inner_rate/layer_3"):
        assert written.count(tag) == (20 if tag == b"validation" else 1000)
