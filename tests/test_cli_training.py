"""fastmaml train, resume, evaluate and adapt, as a person meets them."""

from __future__ import annotations

import csv
import io
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import python

import fastmaml as fm
from fastmaml import cli
from fastmaml.cli import config, csvfile, runs, training
from fastmaml.cli.common import CommandError
from fastmaml.cli.held import spread
from fastmaml.cli.parquet import read_parquet
from fastmaml.cli.table import Layout, read_tasks
from fastmaml.learn import load_checkpoint

FAMILY = """
[model]
layer_sizes = [1, 6, 1]
activation = "tanh"

[maml]
inner_lr = [[0.01, 0.02]]
loss = "mse"
task_mean = true

[tasks]
family = "sinusoid"
n_tasks = 3
n_support = 4
n_query = 5
n_validation = 6
n_test = 20
amplitude_range = [1.0, 2.0]

[optimizer]
name = "AdamW"
learning_rate = { name = "Cosine", initial = 0.01, n_updates = 20 }

[rate_optimizer]
name = "SGD"
learning_rate = 0.01

[train]
iterations = 12
seed = 3
clip_norm = 5.0
validate_every = 4
checkpoint_every = 5
"""

TABLE = """
[model]
layer_sizes = [2, 5, 1]

[tasks]
file = "data/rows.csv"
task = "device"
inputs = ["t", "u"]
outputs = ["v"]
n_tasks = 3
n_support = 3
n_query = 2
n_validation = 2
n_test = 2

[train]
iterations = 6
dtype = "float32"
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(FAMILY, encoding="utf-8")
    Path("table.toml").write_text(TABLE, encoding="utf-8")
    Path("data").mkdir()
    rng = np.random.default_rng(0)
    with Path("data/rows.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["v", "device", "t", "note", "u"])
        for i in range(64):
            device = f"d{i % 9}"  # 7 or 8 rows of each, interleaved
            t, u = rng.normal(size=2).tolist()
            rows.writerow([t - u + i % 9, device, t, "a, b", u])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("fastmaml: error: ")
    return lines[-1].removeprefix("fastmaml: error: ")


def bits(folder: str) -> tuple[Any, ...]:
    state = load_checkpoint(Path(folder, "checkpoint.npz")).state
    return state.iteration, state.theta.tobytes(), np.asarray(state.inner_lr).tobytes()


# ---- train, resume


def test_train_writes_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    names = ["checkpoint.npz", "log.csv", "model.npz", "training.png"]
    assert sorted(path.name for path in Path("run").iterdir()) == names
    assert Path("run/training.png").read_bytes().startswith(b"\x89PNG")
    printed, progress = capsys.readouterr()
    assert "wrote run/checkpoint.npz after 12 iterations" in printed.replace("\\", "/")
    assert re.search(r"best validation: [\d.]+, in iteration (4|8|12)\n", printed)
    assert "12/12" in progress
    assert len(Path("run/log.csv").read_text(encoding="utf-8").splitlines()) == 13

    checkpoint = load_checkpoint("run/checkpoint.npz")
    assert checkpoint.configuration["train"]["iterations"] == 12
    assert checkpoint.state.iteration == 12
    assert checkpoint.state.inner_lr.shape == (1, 2)
    assert not np.array_equal(checkpoint.state.inner_lr, [[0.01, 0.02]])


@pytest.mark.parametrize(("rate", "last"), [("1e-4", True), ("1e-300", False)])
def test_train_says_when_its_last_validation_was_the_best(
    rate: str, last: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate that moves nothing leaves the first the best; each 100th iteration validates."""
    text = FAMILY.replace("validate_every = 4\n", "").replace("iterations = 12", "iterations = 200")
    text = re.sub(r"(?s)\[rate_optimizer\].*?\n\n", "", text)
    text = re.sub(r"learning_rate = \{.*\}", f"learning_rate = {rate}", text)
    Path("run.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 0
    assert ("fastmaml resume run --iterations 400" in capsys.readouterr().out) == last


@pytest.mark.parametrize(
    ("name", "way"),
    [("run", "by 1 gradient step\n"), ("table", "by 1 gradient step, as the configuration has n")],
)
def test_train_says_how_tasks_adapt(
    name: str, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--config", f"{name}.toml"]) == 0
    assert f"adapts {way}" in capsys.readouterr().out


def test_the_command_is_the_loop() -> None:
    """The same, written with the library."""
    assert cli.main(["train", "--config", "run.toml"]) == 0
    rng = np.random.default_rng(3)
    maml = fm.MAML(fm.MLP([1, 6, 1]), [[0.01, 0.02]], loss="mse", task_mean=True)
    family = fm.datasets.Sinusoid(amplitude_range=(1.0, 2.0), part="train")
    result = fm.learn.train(
        maml, maml.model.init(rng), lambda: family.sample(3, 4, 5, rng),
        fm.learn.AdamW(fm.learn.Cosine(0.01, 20)), 12,
        rate_optimizer=fm.learn.SGD(0.01), clip_norm=5.0,
    )  # fmt: skip
    assert bits("run")[1:] == (result.theta.tobytes(), result.inner_lr.tobytes())


@pytest.mark.parametrize("name", ["run", "table"])
def test_resume_reaches_the_bits_of_one_run(name: str) -> None:
    text = Path(f"{name}.toml").read_text(encoding="utf-8")
    longer = re.sub(r"iterations = \d+", "iterations = 17", text)
    Path("longer.toml").write_text(longer, encoding="utf-8")
    assert cli.main(["train", "--config", "longer.toml"]) == 0
    assert cli.main(["train", "--config", f"{name}.toml", "--out", "a/b"]) == 0
    assert cli.main(["resume", "a/b", "--iterations", "17"]) == 0
    assert bits("a/b") == bits("longer")
    logs = [Path(folder, "log.csv").read_text(encoding="utf-8") for folder in ("a/b", "longer")]
    assert logs[0] == logs[1]
    assert load_checkpoint("a/b/checkpoint.npz").configuration["train"]["iterations"] == 17


@pytest.mark.parametrize(("name", "judged"), [("run", 20), ("table", 2)])
def test_a_range_of_support_rows_goes_through_a_run(
    name: str, judged: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(f"{name}.toml").read_text(encoding="utf-8")
    text = re.sub(r"n_support = \d+", "n_support = [1, 4]", text)
    for file, n in ((f"{name}.toml", 9), ("longer.toml", 17)):
        Path(file).write_text(re.sub(r"iterations = \d+", f"iterations = {n}", text), "utf-8")
    assert cli.main(["train", "--config", "longer.toml"]) == 0
    assert cli.main(["train", "--config", f"{name}.toml"]) == 0
    assert cli.main(["resume", name, "--iterations", "17"]) == 0
    assert bits(name) == bits("longer")
    capsys.readouterr()
    assert cli.main(["evaluate", name]) == 0
    shots = "1 to 4" if judged > 2 else "2 to 4"  # the middles of two halves
    assert f"Error on {judged} held-out tasks, {shots} rows to adapt to" in capsys.readouterr().out
    run = config.build(config.read(Path("longer.toml")))
    rng = np.random.default_rng(0)
    assert {run.sample(rng).x.shape[1] for _ in range(30)} == {1, 2, 3, 4}


def test_all_of_a_range_of_support_rows_judges() -> None:
    for n_query in ("5", "0"):
        text = FAMILY.replace("n_support = 4", "n_support = [2, 4]")
        Path("run.toml").write_text(text.replace("n_query = 5", f"n_query = {n_query}"), "utf-8")
        run = config.build(config.read(Path("run.toml")))
        validation, (test, _) = run.validation_tasks(), run.test_tasks(100)
        assert validation is not None
        assert sorted(len(x) for x in validation.x) == [2, 2, 3, 3, 4, 4]
        assert np.bincount([len(x) for x in test.x]).tolist() == [0, 0, 7, 6, 7]
        assert [len(x) for x in test.x] == [len(y) for y in test.y]
        assert test.x_query is not None
        assert test.x_query.shape == (20, 100, 1)
        assert (validation.x_query is None) == (n_query == "0")
        again = run.validation_tasks()
        assert again is not None
        np.testing.assert_array_equal(np.concatenate(again.x), np.concatenate(validation.x))
    assert spread((1, 15), 1, rng := np.random.default_rng(0)).tolist() == [8]
    assert sorted(spread((1, 15), 3, rng).tolist()) == [3, 8, 13]
    assert (np.bincount(spread((1, 15), 600, rng))[1:] == 40).all()


def test_an_activation_for_each_hidden_layer_goes_through_a_run() -> None:
    text = FAMILY.replace('"tanh"', '["relu", "identity"]').replace("[1, 6, 1]", "[1, 6, 4, 1]")
    text = text.replace("[[0.01, 0.02]]", "0.01")
    Path("mixed.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "mixed.toml"]) == 0
    assert cli.main(["resume", "mixed", "--iterations", "14"]) == 0
    assert cli.main(["evaluate", "mixed"]) == 0
    model = fm.MLP([1, 6, 4, 1], ["relu", "identity"])
    assert fm.load("mixed/model.npz").objective.model == model
    assert load_checkpoint("mixed/checkpoint.npz").maml.model == model


def test_a_run_is_not_overwritten_nor_resumed_past_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert said(capsys) == "run holds a training; resume it, or name another folder with --out"
    assert cli.main(["resume", "run"]) == 2
    assert said(capsys) == "run has all its 12 iterations; --iterations asks for more"


def test_what_has_stopped_early_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    text = FAMILY.replace("validate_every = 4", "validate_every = 1\npatience = 1")
    text = text.replace("initial = 0.01", "initial = 3.0").replace("= 12", "= 2000")
    Path("run.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 0
    iteration = bits("run")[0]
    assert iteration < 2000
    assert cli.main(["resume", "run"]) == 2
    assert said(capsys) == f"run has stopped early, in iteration {iteration}: its patience is over"


def test_an_error_saves_what_was_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = []

    def sample(run: config.Run, rng: np.random.Generator) -> Any:
        drawn.append(1)
        if len(drawn) == 9:
            raise RuntimeError("the sensor\nis gone")
        return original(run, rng)

    original = config.Run.sample
    assert cli.main(["train", "--config", "run.toml", "--out", "whole"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(config.Run, "sample", sample)
    assert cli.main(["train", "--config", "run.toml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [
        "fastmaml: saved what 8 of 12 iterations have reached",
        "fastmaml: error: the sensor is gone",
    ]
    assert bits("run")[0] == 8
    assert cli.main(["resume", "run"]) == 0
    assert bits("run") == bits("whole")


def test_divergence_is_one_line_with_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    text = FAMILY.replace("initial = 0.01", "initial = 1e38").replace('"tanh"', '"relu"')
    Path("run.toml").write_text(text.replace("clip_norm = 5.0", ""), encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert re.search(r"of 3 tasks diverged: 0, ", said(capsys))
    assert bits("run")[0] >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_and_resume() -> None:
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fastmaml.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    text = re.sub(r"iterations = \d+", "iterations = 10000000", FAMILY)
    Path("run.toml").write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train", "--config", "run.toml"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not Path("run/checkpoint.npz").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    n = bits("run")[0]
    assert f"fastmaml: saved what {n} of 10000000 iterations have reached" in errors
    assert errors.endswith("fastmaml: interrupted\n")
    assert cli.main(["resume", "run", "--iterations", str(n + 2)]) == 0
    assert bits("run")[0] == n + 2


ENDING = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def interrupt_in_iteration(monkeypatch: pytest.MonkeyPatch, n: int, action: Any) -> None:
    """Let something happen while the tasks of an iteration are drawn."""
    original, drawn = config.Run.sample, []

    def sample(run: config.Run, rng: np.random.Generator) -> Any:
        drawn.append(1)
        if len(drawn) == n:
            action()
        return original(run, rng)

    monkeypatch.setattr(config.Run, "sample", sample)


@pytest.fixture
def signals_as_in_a_terminal() -> Any:
    """Whoever started the tests may have told them to ignore some."""
    numbers = [getattr(signal, name) for name in ENDING]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(sys.platform == "win32", reason="of POSIX")
@pytest.mark.usefixtures("signals_as_in_a_terminal")
@pytest.mark.parametrize("name", ENDING)
def test_a_signal_that_ends_the_process_saves_and_resume_reaches_the_bits(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = getattr(signal, name)
    assert cli.main(["train", "--config", "run.toml", "--out", "whole"]) == 0
    for command, done in ((["train", "--config", "run.toml"], 4), (["resume", "run"], 8)):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            interrupt_in_iteration(patch, 5, lambda: signal.raise_signal(number))
            assert cli.main(command) == 128 + number
        assert capsys.readouterr().err.splitlines()[-2:] == [
            f"fastmaml: saved what {done} of 12 iterations have reached",
            f"fastmaml: ended by {name}",
        ]
        assert bits("run")[0] == done
        assert signal.getsignal(number) is signal.SIG_DFL
    assert cli.main(["resume", "run"]) == 0
    assert bits("run") == bits("whole")


@pytest.mark.skipif(sys.platform == "win32", reason="of POSIX")
@pytest.mark.usefixtures("signals_as_in_a_terminal")
def test_further_signals_do_not_interrupt_what_saves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal that closes sends SIGHUP, twice perhaps, and its user may press Ctrl-C, too."""
    numbers = [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]
    original = training.Checkpointer.save

    def save(saver: Any) -> None:
        for number in numbers:
            signal.raise_signal(number)
        original(saver)

    interrupt_in_iteration(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGHUP))
    monkeypatch.setattr(training.Checkpointer, "save", save)
    assert cli.main(["train", "--config", "run.toml"]) == 128 + signal.SIGHUP
    assert capsys.readouterr().err.endswith("fastmaml: ended by SIGHUP\n")
    assert bits("run")[0] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(sys.platform == "win32", reason="of POSIX")
@pytest.mark.usefixtures("signals_as_in_a_terminal")
def test_what_is_ignored_or_handled_by_others_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))

    def both() -> None:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)

    interrupt_in_iteration(monkeypatch, 4, both)
    assert cli.main(["train", "--config", "run.toml"]) == 0
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_the_command_line_runs_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody may set a signal's handler, and an error saves none the less."""

    def fail() -> None:
        raise MemoryError

    interrupt_in_iteration(monkeypatch, 4, fail)
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(cli.main(["train", "--config", "run.toml"]))
    )
    thread.start()
    thread.join()
    assert codes == [2]
    assert bits("run")[0] == 3


@pytest.mark.parametrize("where", ["the log", "the bar", "the checkpoint"])
@pytest.mark.parametrize("error", [OSError("No space left"), MemoryError("x"), BrokenPipeError()])
def test_whatever_ends_a_training_saves_it(
    where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Any = {
        "the log": training.CSVLog, "the bar": training.ProgressBar,
        "the checkpoint": training.Checkpointer,
    }[where]  # fmt: skip
    original = place.__call__

    def call(self: Any, state: Any) -> Any:
        if state.iteration == 4:
            raise error
        return original(self, state)

    monkeypatch.setattr(place, "__call__", call)
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert bits("run")[0] == (4 if where == "the bar" else 3)  # the bar comes last


@pytest.mark.skipif(sys.platform == "win32", reason="of POSIX")
def test_a_pipe_that_nobody_reads_is_one_line() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastmaml", "info"],
            stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (2, "fastmaml: error: [Errno 32] Broken pipe\n")


# ---- evaluate


def test_evaluate_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    capsys.readouterr()
    tables = []
    for options in ([], ["--last"]):
        assert cli.main(["evaluate", "run", *options]) == 0
        tables.append(capsys.readouterr().out)
        lines = tables[-1].splitlines()
        assert lines[0] == (
            "Error on 20 held-out tasks, 4 rows to adapt to, 100 to judge by, float64"
        )
        assert lines[1:4] == ["", "y", "steps  mean squared error ± 95 %  median   root       R²"]
        assert [line.split()[0] for line in lines[-2:]] == ["0", "1"]
    best = load_checkpoint("run/checkpoint.npz").state.best
    assert best is not None
    assert (tables[0] == tables[1]) == (best.iteration == 12)


def test_evaluate_with_other_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    assert cli.main(["evaluate", "run", "--steps", "0", "3"]) == 0
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert [row.split()[0] for row in rows] == ["0", "3"]


def test_evaluate_judges_by_the_tasks_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "table.toml"]) == 0
    run = runs.read_run(Path("table"))
    again = config.build(run.configuration, run.record)
    names = [part.names for part in again.source.parts]
    assert [len(part) for part in names] == [5, 2, 2]
    assert sorted(sum(names, ())) == [f"d{i}" for i in range(9)]
    assert [list(tasks) for tasks in run.record.parts.values()] == [list(part) for part in names]
    assert again.changes == ""
    capsys.readouterr()
    assert cli.main(["evaluate", "table"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Error on 2 held-out tasks, 3 rows to adapt to, 2 to judge by")
    assert "float32" in printed


def test_a_family_is_judged_by_its_test_part(capsys: pytest.CaptureFixture[str]) -> None:
    run = config.build(config.read(Path("run.toml")))
    assert (run.source.training.part, run.source.test.part) == ("train", "test")
    text = FAMILY.replace('family = "sinusoid"', 'family = "sinusoid"\npart = "all"')
    Path("all.toml").write_text(text, encoding="utf-8")
    run = config.build(config.read(Path("all.toml")))
    whole = fm.datasets.Sinusoid(amplitude_range=(1.0, 2.0))
    assert run.source.test == run.source.training == whole
    # A range that cannot be split needs to say so.
    text = FAMILY.replace("[1.0, 2.0]", "[2.0, 2.0]")
    Path("run.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert 'amplitude_range is (2.0, 2.0), part is "train"; accepted is' in said(capsys)


def test_evaluate_without_tasks_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("table.toml").write_text(TABLE.replace("n_test = 2", ""), encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 0
    assert cli.main(["evaluate", "table"]) == 2
    assert said(capsys).startswith("no tasks are held out: [tasks] n_test is 0 in the configura")


# ---- adapt


def test_adapt_predicts_in_the_order_of_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "table.toml"]) == 0
    Path("s.csv").write_text("who,t,u,v\na,1,2,3\nb,0,1,2\na,2,1,0\n", encoding="utf-8")
    Path("n.csv").write_text("who,t,u\nb,1,1\na,2,2\nb,0,3\n", encoding="utf-8")
    arguments = ["adapt", "table", "s.csv", "n.csv", "--task", "who", "--last"]
    capsys.readouterr()
    assert cli.main(arguments) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["who", "t", "u", "v_predicted"]
    assert [row[:3] for row in rows[1:]] == [
        ["b", "1.0", "1.0"],
        ["a", "2.0", "2.0"],
        ["b", "0.0", "3.0"],
    ]
    x, y = [np.array([[1, 2], [2, 1.0]]), np.array([[0, 1.0]])], [[[3], [0]], [[2]]]
    x_new = [np.array([[2, 2.0]]), np.array([[1, 1], [0, 3.0]])]
    expected = fm.load("table/model.npz").predict(x, [np.array(rows) for rows in y], x_new)
    numbers = [float(row[3]) for row in rows[1:]]
    assert numbers == [expected[1][0, 0], expected[0][0, 0], expected[1][1, 0]]

    assert cli.main([*arguments, "--out", "p.csv"]) == 0
    assert [line.split(",") for line in Path("p.csv").read_text().splitlines()] == rows


@pytest.mark.parametrize(
    "rates", [[0.1, 0.2, 0.05], [[0.1], [0.2], [0.05]], [[0.1, 0.2]], [0.1] * 19, [[0.1] * 19]]
)
def test_rates_of_any_form_have_other_steps(rates: Any) -> None:
    maml = fm.MAML(fm.MLP([1, 6, 1]), rates, steps=3, loss="mse")
    x = np.random.default_rng(0).normal(size=(4, 5, 1))
    theta = maml.model.init(0)
    for steps, expected in ((1, 0.1), (5, None)):
        other = runs.with_steps(maml, steps)
        assert other.steps == steps
        if np.shape(rates) in ((3,), (3, 1)):
            given = [expected] if expected else [0.1, 0.2, 0.05, 0.05, 0.05]
            same = replace(maml, steps=steps, inner_lr=np.array(given)[:, None])
        else:
            same = replace(maml, steps=steps)
        np.testing.assert_array_equal(other.adapt(theta, x, x**2), same.adapt(theta, x, x**2))


def test_adapt_of_one_task_with_other_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    Path("s.csv").write_text("x,y\n1,2\n2,1\n", encoding="utf-8")
    Path("n.csv").write_text("x\n0.5\n", encoding="utf-8")
    capsys.readouterr()
    printed = []
    for steps in ([], ["--steps", "0"], ["--steps", "4"]):
        assert cli.main(["adapt", "run", "s.csv", "n.csv", *steps]) == 0
        printed.append(capsys.readouterr().out)
        assert printed[-1].startswith("x,y_predicted\n0.5,")
    assert len(set(printed)) == 3


def test_adapt_does_not_read_the_data_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "table.toml"]) == 0
    Path("data/rows.csv").unlink()
    Path("s.csv").write_text("t,u,v\n1,2,3\n", encoding="utf-8")
    Path("n.csv").write_text("t,u\n1,1\n", encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["adapt", "table", "s.csv", "n.csv"]) == 0
    assert capsys.readouterr().out.startswith("t,u,v_predicted\n1.0,1.0,")
    assert cli.main(["evaluate", "table"]) == 2
    assert "No such file or directory" in said(capsys)


DANGEROUS = ["=1+1", "=HYPERLINK(1)", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=2", "＝1", "-", "=a,b"]
HARMLESS = ["a=1", "1-1", "-1.5", "+3", "-.5e-3", "-5.", "'a", "'-1.5", "''", "Ä", "a'"]


def test_texts_that_a_spreadsheet_would_run_are_written_behind_a_quote(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = TABLE.replace('task = "device"', 'task = "@t"').replace('["v"]', '["=v"]')
    text = text.replace('["t", "u"]', '["-t", "+2"]')
    Path("table.toml").write_text(text, encoding="utf-8")
    rows = Path("data/rows.csv").read_text(encoding="utf-8")
    rows = rows.replace("v,device,t,note,u", "=v,@t,'-t,note,+2")
    Path("data/rows.csv").write_text(rows, encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 0

    labels = [*DANGEROUS, *HARMLESS]
    for name, head, rest in (
        ("s.csv", ["-t", "+2", "=v"], [1, -2, 3]),
        ("n.csv", ["-t", "+2"], [-1, 2]),
    ):
        with Path(name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["@t", *head], *([label, *rest] for label in labels)])
    arguments = ["adapt", "table", "s.csv", "n.csv", "--task", "@t", "--out"]
    assert cli.main([*arguments, "p.csv"]) == 0
    with Path("p.csv").open(encoding="utf-8", newline="") as file:
        head, *written = csv.reader(file)
    assert head == ["'@t", "'-t", "+2", "'=v_predicted"]
    behind = ["'" + re.sub("([\\t\\r])=", r"\1'=", label) for label in DANGEROUS]
    assert [row[0] for row in written] == [*behind, *HARMLESS]
    assert {row[1] for row in written} == {"-1.0"}

    # What was written is read as what it was: its tasks are found, and written again.
    arguments[3] = "p.csv"
    assert cli.main([*arguments, "q.csv"]) == 0
    assert Path("q.csv").read_bytes() == Path("p.csv").read_bytes()

    Path("n.csv").write_text("@t,-t,+2\n=1+1,1,2\n'=1+1,1,2\n", encoding="utf-8")
    arguments[3] = "n.csv"
    assert cli.main([*arguments, "q.csv"]) == 2
    assert said(capsys) == (
        "n.csv, column '@t', holds '=1+1' with and without a quote before it; accepted is one of "
        "the two"
    )


# ---- tables


def test_parquet_is_the_same_as_csv() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow_csv = pytest.importorskip("pyarrow.csv")
    parquet.write_table(arrow_csv.read_csv("data/rows.csv"), "data/rows.parquet")
    one, two = (
        read_tasks(Path(f"data/rows.{kind}"), Layout(("device",), ("t", "u"), ("v",)))[0]
        for kind in ("csv", "parquet")
    )
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.y, two.y)
    assert one.names == two.names


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "bad.csv is empty"),
        ("device,t,u,v\n", "bad.csv has no rows"),
        ("device,t,u\na,1,2\n", "bad.csv has no column 'v'; it has 'device', 't', 'u'"),
        ("device,t,u,v\na,1,2\n", "bad.csv, line 2, has 3 entries; accepted are 4"),
        ("device,t,u,v\na,1,2,3\na,1,x,3\n", "column 'u', line 3, holds 'x'"),
        ("device,t,u,v\na,1,,3\n", "column 'u', line 2, holds ''"),
        ("device,t,u,v\na,nan,2,3\n", "column 't', line 2, holds 'nan'"),
        ("device,t,u,v\na,1,2,3\n", "task 'a' has 1 rows; accepted are 5 or more"),
        (
            "device,t,u,v\na,1,2,3\n,1,2,3\n",
            "column 'device', line 3, holds ''; acc",
        ),
        ("device,t,t,u,v\na,1,1,2,3\n", "bad.csv has 2 columns 't'; accepted is one"),
        ("device,t,u,v\n\udcff,1,2,3\n", "bad.csv cannot be read: it is no text in UTF-8"),
        (
            f"device,t,u,v\n{'a' * 200_000},1,2,3\n",
            "bad.csv cannot be read, line 2: field larger than",
        ),
    ],
)
def test_bad_tables_are_one_line(text: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    Path("table.toml").write_text(TABLE.replace("data/rows.csv", "bad.csv"), encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 2
    assert error in said(capsys)


def test_numbers_that_are_not_scaled_are_finite_in_the_dtype(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Scaled, a number beyond float32 is fine."""
    rows = "".join(f"{d},{i},{i % 3}e39,{i}\n" for d in "abcdefghi" for i in range(6))
    Path("data/rows.csv").write_text(f"device,t,u,v\n{rows}", encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 0
    text = TABLE.replace('outputs = ["v"]', 'outputs = ["v"]\nscale = false')
    Path("raw.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "raw.toml"]) == 2
    error = "column 'u', line 3, holds '1e39'; accepted are finite float32 numbers"
    assert error in said(capsys)


@pytest.mark.parametrize(
    ("name", "cells", "error"),
    [
        ("u", [1.0, None, 2.0], "column 'u', row 2, holds None; accepted are fin"),
        (
            "u",
            [[1.0], [2.0], []],
            "column 'u', holds list<element: double>; accepted are numb",
        ),
        ("device", ["a", None, "b"], "column 'device', row 2, holds None; accepte"),
        ("device", [1.0, 1.0, np.nan], "column 'device', row 3, holds nan; accep"),
        (
            "device",
            [[1], [1], [2]],
            "column 'device', holds list<element: int64>; accepted are nu",
        ),
    ],
)
def test_bad_cells_of_parquet_are_one_line(
    name: str, cells: list[Any], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    good = {column: [1.0, 2.0, 3.0] for column in ("device", "t", "u", "v")}
    parquet.write_table(pyarrow.table({**good, name: cells}), "bad.parquet")
    text = TABLE.replace("data/rows.csv", "bad.parquet")
    Path("table.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 2
    assert error in said(capsys)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a = " + b"[" * 100_000, "nested too deep"),
        (b"a = " + b"[" * 150 + b"]" * 150, "nested deeper than 100"),
        (b"a" + b".a" * 100_000 + b" = 1", "nested too deep"),
        (b"[a" + b".a" * 100_000 + b"]", "nested too deep"),
        (b"a = {a" + b".a" * 100_000 + b" = 1}", "nested too deep"),
        (b"#" * 1_000_001, "it has more than 1000000 bytes"),
        (b"a = 1\0", "at line 1, column 6"),
        (b"a = " + b"9" * 5000, "5000 digits"),
    ],
)
def test_damaged_configurations_are_named(
    content: bytes, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.toml").write_bytes(content)
    assert cli.main(["train", "--config", "bad.toml"]) == 2
    line = said(capsys)
    assert line.startswith("bad.toml is no TOML that can be read: ")
    assert error in line
    assert not Path("bad").exists()


def test_other_configurations_that_are_no_text_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("bad.toml").write_bytes(b"a = '\xff'")
    assert cli.main(["train", "--config", "bad.toml"]) == 2
    assert said(capsys) == "bad.toml is no TOML: byte 5 is not of UTF-8"
    assert cli.main(["train", "--config", "data"]) == 2
    assert "data" in said(capsys)
    Path("bad.toml").write_text('[tasks]\nfile = "a\\u0000"\n', encoding="utf-8")
    assert cli.main(["train", "--config", "bad.toml"]) == 2
    assert said(capsys).startswith("bad.toml, [tasks] file: ")
    # A byte order mark, as Notepad writes it, is none of that.
    Path("run.toml").write_bytes(b"\xef\xbb\xbf" + FAMILY.encode())
    assert cli.main(["train", "--config", "run.toml"]) == 0


def test_a_log_that_is_damaged_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    Path("run/log.csv").write_bytes(b"\xff")
    assert cli.main(["resume", "run", "--iterations", "14"]) == 2
    assert "log.csv is no text in UTF-8; accepted are logs of CSVLog" in said(capsys)


def test_checkpoints_that_do_not_fit_their_configuration_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    Path("n.csv").write_text("x,y\n0.5,1\n", encoding="utf-8")
    good = load_checkpoint("run/checkpoint.npz")

    def broken(
        configuration: Any = good.configuration, rng: Any = good.generator, **state: Any
    ) -> None:
        path, new = "run/checkpoint.npz", good.state._replace(best=None, **state)
        fm.learn.save_checkpoint(path, new, rng, configuration)

    # Nothing is made in the size of this model, which would take terabytes.
    huge = {"model": {"layer_sizes": [1, 10**6, 10**6, 1]}, "maml": {}}
    broken({**good.configuration, **huge})
    for command in (["resume", "run"], ["evaluate", "run"], ["adapt", "run", "n.csv", "n.csv"]):
        assert cli.main(command) == 2
        assert re.search(
            r"checkpoint\.npz holds theta of shape \(19,\), the model of its configuration has "
            r"\d+ parameters$", said(capsys),
        )  # fmt: skip
    commands = [["evaluate", "run"], ["adapt", "run", "n.csv", "n.csv"]]
    more = ["resume", "run", "--iterations", "14"]
    bad_theta, bad_rates = np.full(19, np.nan), np.array([[np.inf, 1.0]])
    for state, error, ways in (
        ({"theta": bad_theta}, "theta holds nan at parameter 0", [more, *commands]),
        ({"inner_lr": bad_rates}, "inner_lr holds inf", [more, *commands]),
        ({"rng": None}, "the checkpoint holds no random generator", [more]),
        ({"optimizer_state": None}, "resume holds the optimizer state ()", [more]),
    ):
        broken(**state)
        for command in ways:
            assert cli.main(command) == 2
            line = said(capsys).replace("\\", "/")
            assert re.match(r"run/checkpoint\.npz cannot be (used|resumed): ", line)
            assert error in line


def test_parquet_files_that_unfold_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet.ParquetFile, "read", None)
    zeros = pyarrow.array(np.zeros(400_000, np.int8))
    parquet.write_table(pyarrow.table(dict.fromkeys(["device", "t", "u", "v"], zeros)), "a.parquet")
    long = {"device": ["a" * 20_000_000], "t": [1.0], "u": [1.0], "v": [1.0]}
    parquet.write_table(pyarrow.table(long), "b.parquet", compression="gzip", use_dictionary=False)
    for name, what in (("a", "1600000 values"), ("b", "200[0-9]{5} bytes")):
        text = TABLE.replace("data/rows.csv", f"{name}.parquet")
        Path("table.toml").write_text(text, encoding="utf-8")
        assert cli.main(["train", "--config", "table.toml"]) == 2
        error = rf"{name}\.parquet unfolds from \d+ bytes to {what}; accepted are up to \d+$"
        assert re.search(error, said(capsys))


def test_columns_that_are_not_asked_for_are_not_read() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    zeros = np.zeros(400_000, np.int8)
    parquet.write_table(pyarrow.table({"a.b": zeros, "c": zeros, "c ": zeros}), "a.parquet")
    with pytest.raises(CommandError, match="to 800000 values"):
        read_tasks(Path("a.parquet"), Layout((), ("a.b", "c"), ()))
    noise = np.random.default_rng(0).normal(size=5)
    parquet.write_table(pyarrow.table({"a.b": noise, "c": [[1]] * 5}), "a.parquet")
    table, _ = read_tasks(Path("a.parquet"), Layout((), ("a.b",), ()))
    np.testing.assert_array_equal(table.x[:, 0], np.sort(noise))


def test_mutated_parquet_files_are_named() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow_csv = pytest.importorskip("pyarrow.csv")
    path, rng = Path("a.parquet"), random.Random(0)
    parquet.write_table(arrow_csv.read_csv("data/rows.csv"), path)
    whole, errors = path.read_bytes(), []
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 2, 8])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            read_tasks(path, Layout(("device",), ("t", "u"), ("v",)))
        except CommandError as error:  # and nothing else
            errors.append(str(error))
    assert len(errors) > 75
    assert [text for text in errors if not text.startswith("a.parquet")] == []


EVERY_BYTE_OF_A_FOOTER = """
import pathlib, sys
import pyarrow
from pyarrow import parquet
from fastmaml.cli.common import CommandError
from fastmaml.cli.parquet import read_parquet
from fastmaml.cli.table import Layout, read_tasks

path = pathlib.Path(sys.argv[1], "a.parquet")
columns = {"device": ["a", "b"] * 4, "t": range(8), "u": range(8), "v": range(8)}
parquet.write_table(pyarrow.table({name: list(column) for name, column in columns.items()}), path)
whole = path.read_bytes()
footer = int.from_bytes(whole[-8:-4], "little")
told = 0
for at in range(len(whole) - 8 - footer, len(whole) - 8):
    content = bytearray(whole)
    content[at] ^= 1
    path.write_bytes(content)
    try:
        read_tasks(path, Layout(("device",), ("t", "u"), ("v",)))
    except CommandError as error:
        assert str(error).startswith(str(path)), error
        told += 1
print(told > footer / 3)
"""


def test_no_byte_of_a_parquet_footer_ends_the_process(tmp_path: Path) -> None:
    """As one in a hundred did, while pyarrow put together what the file says of a column."""
    pytest.importorskip("pyarrow")
    assert python(EVERY_BYTE_OF_A_FOOTER, tmp_path) == "True\n"


def test_a_damaged_parquet_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    Path("bad.parquet").write_bytes(b"PAR1 and so on")
    text = TABLE.replace("data/rows.csv", "bad.parquet")
    Path("table.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 2
    assert "bad.parquet cannot be read: " in said(capsys)


def test_a_new_task_without_support_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "table.toml"]) == 0
    Path("s.csv").write_text("who,t,u,v\na,1,2,3\n", encoding="utf-8")
    Path("n.csv").write_text("who,t,u\nb,1,1\n", encoding="utf-8")
    assert cli.main(["adapt", "table", "s.csv", "n.csv", "--task", "who"]) == 2
    assert said(capsys) == "n.csv has task 'b', s.csv has not"


def test_a_support_without_rows_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "table.toml"]) == 0
    Path("s.csv").write_text("t,u,v\n", encoding="utf-8")
    Path("n.csv").write_text("t,u\n1,1\n", encoding="utf-8")
    assert cli.main(["adapt", "table", "s.csv", "n.csv"]) == 2
    assert said(capsys) == "s.csv has no rows; accepted are one or more"


def test_a_column_that_adapt_writes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    rows = Path("data/rows.csv").read_text(encoding="utf-8")
    text = Path("table.toml").read_text(encoding="utf-8")
    for name, code in (("v_predicted", 2), ("v_std", 0)):  # MAML writes no deviation
        head, rest = rows.split("\n", 1)
        Path("data/rows.csv").write_text(head.replace("u", name) + "\n" + rest, encoding="utf-8")
        Path("table.toml").write_text(text.replace('"u"', f'"{name}"'), encoding="utf-8")
        assert cli.main(["train", "--config", "table.toml"]) == code
        if code:
            assert said(capsys) == (
                "[tasks] task and inputs have 'v_predicted', which fastmaml adapt writes for the "
                "output 'v'; accepted are other names"
            )


# ---- the configuration


def test_the_configuration_of_the_docs_is_accepted() -> None:
    page = Path(__file__).parents[1] / "docs/cli.md"
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    Path("docs.toml").write_text(text, encoding="utf-8")
    rows = [f"{i // 20},{i},{i % 7},{i % 5}" for i in range(100 * 20)]
    lines = ["device,voltage,temperature,current", *rows]
    Path("devices.csv").write_text("\n".join(lines), encoding="utf-8")
    run = config.build(config.read(Path("docs.toml")))
    assert run.objective.steps == 5
    assert run.loop["patience"] == 20
    assert run.optimizer == fm.learn.AdamW(fm.learn.Cosine(0.001, 15_000))
    assert run.sample(np.random.default_rng(0)).x.shape == (25, 10, 2)


def test_losses_with_parameters() -> None:
    losses = 'loss = { name = "huber", delta = 0.5 }\nquery_loss = "log_cosh"'
    Path("run.toml").write_text(FAMILY.replace('loss = "mse"', losses), encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 0
    maml = load_checkpoint(Path("run/checkpoint.npz")).maml
    assert (maml.loss, maml.query_loss) == (fm.Huber(0.5), "log_cosh")


# ---- errors of the configuration


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("[model]", "[[model", "run.toml is no TOML"),
        ("[model]", "[models]", "the configuration has 'models'; accepted are model, maml, baye"),
        ("[train]", "[train.x]", "[train] has 'x'; accepted are iterations, seed"),
        ("[model]", "x = 1\n[model]", "the configuration has 'x'"),
        ("layer_sizes = [1, 6, 1]", "", "[model] lacks layer_sizes"),
        ("layer_sizes = [1, 6, 1]", "layer_sizes = [1]", "[model] layer_sizes is [1]"),
        ("[1, 6, 1]", "[1, 6, 3]", "[model] has 1 inputs and 3 outputs; accepted are those of the"),
        ('activation = "tanh"', 'name = "CNN"', "[model] name is 'CNN'; accepted are MLP, Linear"),
        ('"tanh"', '["tanh", "relu"]', "[model] activation has length 2; accepted are a word for"),
        ('"tanh"', '["relu6"]', "[model] activation[0] is 'relu6'; accepted are 'identity', 're"),
        ('"tanh"', "1", "[model] activation is 1; accepted are the words 'identity', 'relu', "),
        ("task_mean = true", "task_mean = 1", "[maml] task_mean is 1"),
        (
            '"mse"',
            '"l2"',
            "[maml] loss is 'l2'; accepted are 'half_sse', 'half_mse', 'sse', 'mse',",
        ),
        ('"mse"', '{ name = "l2" }', "[maml.loss] name is 'l2'; accepted are huber, pseudo_hub"),
        ('"mse"', '{ name = "huber", delta = 0 }', "[maml.loss] delta is 0.0; accepted are num"),
        ('"mse"', '{ name = "quantile", p = 0.1 }', "[maml.loss] has 'p'; accepted are q, smo"),
        (
            '"mse"',
            '"poisson"',
            "[maml] loss is 'poisson'; accepted here are losses of f - y, whose outputs are",
        ),
        ('"mse"', '"mse"\nquery_loss = "logistic"', "[maml] query_loss is 'logistic'; accepted"),
        ("task_mean = true", "tasks_mean = 1", "[maml] has 'tasks_mean'; accepted are model"),
        ('family = "sinusoid"', "", "[tasks] needs either family or file"),
        (
            'family = "sinusoid"',
            'family = "sinusoid"\nfile = "a"',
            "[tasks] needs either family or",
        ),
        ('family = "sinusoid"', 'family = "square"', "[tasks] family is 'square'; accepted are"),
        ("n_tasks = 3", "n_tasks = 0", "[tasks] n_tasks is 0"),
        ("n_support = 4", "n_support = [0, 4]", "[tasks] n_support is [0, 4]; accepted are pairs"),
        ("n_support = 4", "n_support = 0.5", "[tasks] n_support is 0.5; accepted are integers"),
        ("iterations = 12", f"iterations = {10**400}", "[train] iterations is 1000"),
        ("n_tasks = 3", f"n_tasks = {10**30}", "[tasks] n_tasks is 1000"),
        ("n_test = 20", f"n_test = {10**30}", "[tasks] n_test is 1000"),
        (
            "inner_lr = [[0.01, 0.02]]",
            "inner_lr = 0",
            "[train] rate_optimizer is given, maml has ra",
        ),
        ("amplitude_range = [1.0, 2.0]", "width = 1", "[tasks] has 'width'; accepted are ampl"),
        ("amplitude_range = [1.0, 2.0]", "amplitude_range = 1", "[tasks] amplitude_range is 1"),
        ('"AdamW"', '"Adamax"', "[optimizer] name is 'Adamax'; accepted are SGD, Adam, AdamW"),
        ('"AdamW"', '["AdamW"]', "[optimizer] name is ['AdamW']; accepted are SGD, Adam, AdamW"),
        ('"Cosine"', '"Linear"', "[optimizer.learning_rate] name is 'Linear'; accepted are Cos"),
        ("n_updates = 20", "every = 20", "[optimizer.learning_rate] has 'every'; accepted are"),
        ('name = "SGD"\nlearning_rate = 0.01', 'name = "SGD"', "[rate_optimizer] lacks learning"),
        ("iterations = 12", "", "[train] iterations is None"),
        ("seed = 3", "seed = -1", "[train] seed is -1"),
        ("seed = 3", 'dtype = "int"', "[train] dtype is 'int'"),
        ("clip_norm = 5.0", "clip_norm = 0", "[train] clip_norm is 0"),
        ("clip_norm = 5.0", 'on_divergence = "stop"', "[train] on_divergence is 'stop'"),
        ("checkpoint_every = 5", "checkpoint_every = 0", "[train] checkpoint_every is 0"),
        ("n_validation = 6", "", None),
    ],
)
def test_wrong_configurations_are_one_line(
    old: str, new: str, error: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert FAMILY.count(old) >= 1
    Path("run.toml").write_text(FAMILY.replace(old, new, 1), encoding="utf-8")
    if error is None:  # that is none
        assert cli.main(["train", "--config", "run.toml"]) == 0
        return
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert error in said(capsys)
    assert not Path("run/checkpoint.npz").exists()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('task = "device"', "", "[tasks] task is None; accepted is the name of a col"),
        ('"data/rows.csv"', "1", "[tasks] file is 1; accepted is a text"),
        ('"data/rows.csv"', '"none.csv"', "No such file or directory"),
        (
            '["t", "u"]',
            '["t"]',
            "[tasks] inputs is ['t'], 1 columns; accepted are the names of 2 columns",
        ),
        ('["v"]', '"v"', "[tasks] outputs is 'v'; accepted is a list of names"),
        ('task = "device"', 'task = "who"', "has no column 'who'; it has 'v', 'device'"),
        ("n_test = 2", "n_test = 5", "together up to 9, the tasks of the file"),
        ("n_query = 2", "n_query = 5", "has 7 rows; accepted are 8 or more"),
        ("n_support = 3", "n_support = [1, 6]", "has 7 rows; accepted are 8 or more"),
        ("n_support = 3", "n_support = [6, 1]", "[tasks] n_support is [6, 1]; accepted are pairs"),
        ("n_query = 2", "x = 2", "[tasks] has 'x'; accepted are file, task, inputs, outputs"),
    ],
)
def test_wrong_columns_are_one_line(
    old: str, new: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("table.toml").write_text(TABLE.replace(old, new), encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 2
    assert error in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["train"], "--config"),
        (["train", "--config", "none.toml"], "none.toml"),
        (["resume", "none"], "none"),
        (["resume", "none", "--iterations", "0"], "'0' is not a whole number from 1 up"),
        (["evaluate", "none"], "none"),
        (["evaluate", "none", "--steps", "-1"], "-1"),
        (["adapt", "none", "s.csv", "n.csv"], "none"),
        (["adapt", "none", "s.csv"], "new"),
        (["resume", "none", "--iter", "3"], "--iter"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: Any = cli.main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert error in said(capsys)


def test_a_foreign_checkpoint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/checkpoint.npz").write_bytes(b"PK")
    for command in ("resume", "evaluate"):
        assert cli.main([command, "run"]) == 2
        assert "is no whole npz file" in said(capsys)
    state = fm.learn.TrainState(1, 0.0, np.ones(2), None)
    fm.learn.save_checkpoint("run/checkpoint.npz", state)
    assert cli.main(["resume", "run"]) == 2
    assert "holds no configuration of fastmaml train" in said(capsys)
    fm.learn.save_checkpoint("run/checkpoint.npz", state, configuration={"seed": 3})
    assert cli.main(["resume", "run", "--iterations", "5"]) == 2
    assert said(capsys).startswith("the configuration has 'seed'; accepted are model, maml, baye")


@pytest.mark.parametrize("error", [RuntimeError, ImportError, OSError, TypeError, MemoryError])
def test_errors_of_the_machine_are_one_line(
    error: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error("a\nb")

    monkeypatch.setattr(config, "build", fail)
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert said(capsys) == "a b"
    monkeypatch.setattr(runs, "read_run", fail)
    assert cli.main(["evaluate", "run"]) == 2
    assert said(capsys) == "a b"


@pytest.mark.parametrize("missing", ["tqdm", "matplotlib"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert said(capsys) == (f'train needs {missing}, which comes with pip install "fastmaml[cli]"')


def test_parquet_without_pyarrow_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    Path("table.toml").write_text(TABLE.replace("rows.csv", "rows.parquet"), encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 2
    assert said(capsys) == (
        'rows.parquet needs pyarrow, which comes with pip install "fastmaml[parquet]"'
    )


# ---- what a review found


def test_a_text_that_many_rows_share_is_held_once() -> None:
    """A kilobyte of Parquet that would be hundreds of megabytes if each row had its own."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    n = 3000
    table = {"device": ["a" * 50_000] * (n - 1) + ["b"], "t": np.arange(n), "u": np.ones(n)}
    parquet.write_table(pyarrow.table(table), "a.parquet", compression="gzip")
    assert Path("a.parquet").stat().st_size < 40_000
    pool = pyarrow.default_memory_pool()
    tracemalloc.start()
    names, (device, t, _) = read_parquet(Path("a.parquet"), ["device", "t", "u"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert names == ["device", "t", "u"]
    assert device == table["device"]
    assert list(t) == list(range(n))
    assert peak < 2_000_000
    assert pool.bytes_allocated() < 2_000_000


ONE_TEXT = """
import os, sys, tracemalloc
from pathlib import Path
import pyarrow.parquet
from fastmaml.cli.parquet import read_parquet

def threads():
    return len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0

before = threads()
tracemalloc.start()
(device,) = read_parquet(Path(sys.argv[1], "a.parquet"), ["device"])[1]
print(threads() - before, "threads")
print(len(device), len(device[0]))
print(tracemalloc.get_traced_memory()[1] < 16_000_000)
print(pyarrow.default_memory_pool().max_memory() < 32_000_000)
"""


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        *((kind, None) for kind in ("string", "large_string", "binary", "large_binary")),
        ("string", "DELTA_BYTE_ARRAY"),
    ],
)
def test_a_text_of_any_kind_is_read_once(kind: str, encoding: str | None, tmp_path: Path) -> None:
    """The peak of pyarrow's own memory too, in a process that did not make the table.

    And no thread of pyarrow, which would end the process if it let go of the file at its end.
    """
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = pyarrow.array(["a" * 50_000] * 2000).cast(getattr(pyarrow, kind)())
    how = {"use_dictionary": False, "column_encoding": encoding} if encoding else {}
    table = pyarrow.table({"device": texts})
    parquet.write_table(table, tmp_path / "a.parquet", compression="gzip", **how)
    assert (tmp_path / "a.parquet").stat().st_size < 1000
    assert python(ONE_TEXT, tmp_path) == "0 threads\n2000 50000\nTrue\nTrue\n"


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_texts_that_share_beginnings_are_read(encoding: str) -> None:
    """Other programs write them so."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    device = [None if i == 7 else f"device {i // 10}" for i in range(1000)]
    table = pyarrow.table({"t": np.arange(1000), "device": device})
    how = {"use_dictionary": False, "column_encoding": {"device": encoding}}
    parquet.write_table(table, "a.parquet", **how)
    names, (t, read) = read_parquet(Path("a.parquet"), ["device", "t"])
    assert (names, list(t), read) == (["t", "device"], list(range(1000)), device)

    long = pyarrow.table({"device": ["a" * 50_000 + str(i) for i in range(500)]})
    how = {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}
    parquet.write_table(long, "a.parquet", compression="gzip", **how)
    with pytest.raises(CommandError, match=r"^a\.parquet unfolds from \d+ bytes to \d+ bytes; "):
        read_parquet(Path("a.parquet"), ["device"])


def test_only_bytes_of_columns_that_are_read_count() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    fixed = pyarrow.array([b"a" * 2_000_000] * 2, pyarrow.binary(2_000_000))
    table = pyarrow.table({"t": [1.0, 2.0], "note": ["a" * 2_000_000] * 2, "fixed": fixed})
    parquet.write_table(table, "a.parquet", compression="gzip", use_dictionary=False)
    assert read_parquet(Path("a.parquet"), ["t"])[1] == [[1.0, 2.0], (), ()]
    for name in ("note", "fixed"):
        with pytest.raises(CommandError, match=r"^a\.parquet unfolds from \d+ bytes to \d+ bytes;"):
            read_parquet(Path("a.parquet"), ["t", name])


@pytest.mark.parametrize("label", ["a;=cmd|' /C calc'!A1", "a\t=1", "a|=1", "'=a", "''+1", "a;b"])
def test_a_formula_behind_another_separator_is_within_quotes(label: str) -> None:
    text = csvfile.csv_text(["@t", "x"], [[label, -1.5], ["plain", None]])
    assert text.splitlines()[0] == "'@t,x"
    assert text.endswith("plain,\n")
    if re.search("[;|\t]", label):
        assert f'"{csvfile.guarded(label)}",-1.5' in text
    Path("a.csv").write_text(text, encoding="utf-8", newline="")
    names, rows = csvfile.read_csv(Path("a.csv"), csvfile.Format())[:2]
    assert list(names) == ["@t", "x"]
    assert rows == [[label, "-1.5"], ["plain", ""]]


def test_no_reader_finds_a_formula_in_a_label() -> None:
    """A quote that is not the first of a line is a character to a reader with another separator."""
    found: dict[str, str] = {}
    for label in map("".join, itertools.product("=-'a;\t\"\n\r", repeat=4)):
        cell = csvfile.guarded(label)
        assert csvfile.unguarded(cell) == label
        assert found.setdefault(cell, label) == label
        text = csvfile.csv_text(["x", "y"], [["z", label], [label, "z"]])
        for delimiter in ",;\t|":
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
                assert not [read for read in row if read.startswith(("=", "-"))], (label, row)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["run.toml", "a.csv", "a.parquet"])
def test_a_pipe_is_no_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be waited for without end."""
    Path(name).unlink(missing_ok=True)
    os.mkfifo(name)
    command = ["train", "--config", name] if name == "run.toml" else ["init", name]
    assert cli.main(command) == 2
    assert f"{name} " in said(capsys)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there are no such devices")
@pytest.mark.parametrize("command", [["init"], ["train", "--config"]])
def test_a_device_is_no_file(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It would be read without end."""
    assert cli.main([*command, "/dev/zero"]) == 2
    assert "/dev/zero is no regular file" in said(capsys)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_pipe_is_no_table(name: str) -> None:
    """By the readers that train and adapt use, too, behind which init's guess does not stand."""
    os.mkfifo(name)
    with pytest.raises((OSError, CommandError), match=f"{name} is no regular file"):
        read_tasks(Path(name), Layout(("device",), ("t",), ("v",)))
