"""fastmaml train, resume, evaluate and adapt, as a person meets them."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmaml as fm
from fastmaml import cli
from fastmaml.cli import config, training
from fastmaml.cli.common import CommandError
from fastmaml.cli.table import TaskTable
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
    names = ["checkpoint.npz", "log.csv", "training.png"]
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
    text = FAMILY.replace("initial = 0.01", "initial = 1e90").replace('"tanh"', '"relu"')
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


# ---- evaluate


def test_evaluate_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    capsys.readouterr()
    tables = []
    for options in ([], ["--last"]):
        assert cli.main(["evaluate", "run", *options]) == 0
        tables.append(capsys.readouterr().out)
        lines = tables[-1].splitlines()
        assert lines[0] == ("Mean squared error on 20 held-out tasks, 100 points each, float64")
        assert [line.split()[:2] for line in lines[-2:]] == [["4", "0"], ["4", "1"]]
    best = load_checkpoint("run/checkpoint.npz").state.best
    assert best is not None
    assert (tables[0] == tables[1]) == (best.iteration == 12)


def test_evaluate_with_other_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "run.toml"]) == 0
    assert cli.main(["evaluate", "run", "--steps", "0", "3"]) == 0
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert [row.split()[:2] for row in rows] == [["4", "0"], ["4", "3"]]


def test_evaluate_judges_by_the_tasks_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "table.toml"]) == 0
    run = config.build(load_checkpoint("table/checkpoint.npz").configuration)
    names = [part.names for part in (run.training, run.validation, run.test)]
    assert [len(part) for part in names] == [5, 2, 2]
    assert sorted(sum(names, ())) == [f"d{i}" for i in range(9)]
    capsys.readouterr()
    assert cli.main(["evaluate", "table"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Mean squared error on 2 held-out tasks, 2 points each")
    assert "float32" in printed


def test_a_family_is_judged_by_its_test_part(capsys: pytest.CaptureFixture[str]) -> None:
    run = config.build(config.read(Path("run.toml")))
    assert [part.part for part in (run.training, run.validation, run.test)] == [
        "train", "train", "test",
    ]  # fmt: skip
    text = FAMILY.replace('family = "sinusoid"', 'family = "sinusoid"\npart = "all"')
    Path("all.toml").write_text(text, encoding="utf-8")
    run = config.build(config.read(Path("all.toml")))
    assert run.test == run.training == fm.datasets.Sinusoid(amplitude_range=(1.0, 2.0))
    # A range that cannot be split needs to say so.
    text = FAMILY.replace("[1.0, 2.0]", "[2.0, 2.0]")
    Path("run.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert 'amplitude_range is (2.0, 2.0), part is "train"; accepted is' in said(capsys)


def test_evaluate_without_tasks_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("table.toml").write_text(TABLE.replace("n_test = 2", ""), encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 0
    assert cli.main(["evaluate", "table"]) == 2
    assert said(capsys) == "no tasks are held out: [tasks] n_test is 0 in the configuration"


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
    state = load_checkpoint("table/checkpoint.npz").state
    x, y = [np.array([[1, 2], [2, 1.0]]), np.array([[0, 1.0]])], [[[3], [0]], [[2]]]
    x_new = [np.array([[2, 2.0]]), np.array([[1, 1], [0, 3.0]])]
    expected = fm.MAML(fm.MLP([2, 5, 1])).predict(state.theta, x, y, x_new)
    numbers = [float(row[3]) for row in rows[1:]]
    assert numbers == [expected[1][0, 0], expected[0][0, 0], expected[1][1, 0]]

    assert cli.main([*arguments, "--out", "p.csv"]) == 0
    assert [line.split(",") for line in Path("p.csv").read_text().splitlines()] == rows


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


# ---- tables


def test_parquet_is_the_same_as_csv() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow_csv = pytest.importorskip("pyarrow.csv")
    parquet.write_table(arrow_csv.read_csv("data/rows.csv"), "data/rows.parquet")
    one, two = (
        TaskTable.read(Path(f"data/rows.{kind}"), "device", ["t", "u"], ["v"])
        for kind in ("csv", "parquet")
    )
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.y, two.y)
    assert one.names == two.names


def test_sampled_rows_are_of_one_task_and_none_comes_twice() -> None:
    table = TaskTable.read(Path("data/rows.csv"), "device", ["t", "u"], ["v"])
    rows = {tuple(row): i for i, row in enumerate(table.x.tolist())}
    whose = np.repeat(np.arange(table.n_tasks), np.diff(table.offsets))
    tasks = table.sample(5, 3, 4, rng=0)
    assert (tasks.x.shape, tasks.y_query.shape) == ((5, 3, 2), (5, 4, 1))
    drawn = np.concatenate([tasks.x, tasks.x_query], axis=1)
    index = np.array([[rows[tuple(row)] for row in task] for task in drawn.tolist()])
    assert len(np.unique(index)) == 35
    assert (whose[index] == whose[index[:, :1]]).all()
    np.testing.assert_array_equal(np.concatenate([tasks.y, tasks.y_query], axis=1), table.y[index])
    alone = table.sample(5, 3, 0, rng=0, dtype=np.float32)
    assert alone.x_query is None
    assert alone.x.dtype == np.float32
    with pytest.raises(ValueError, match="n_tasks is 10; accepted are up to 9"):
        table.sample(10, 3, 2)
    with pytest.raises(CommandError, match=r"task 'd\d' has 7 rows; accepted are 8 or more"):
        table.sample(9, 4, 4)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "bad.csv is empty"),
        ("device,t,u,v\n", "bad.csv has no rows"),
        ("device,t,u\na,1,2\n", "bad.csv has no column 'v'; it has 'device', 't', 'u'"),
        ("device,t,u,v\na,1,2\n", "bad.csv, row 1 below the names, has 3 entries; accepted are 4"),
        ("device,t,u,v\na,1,2,3\na,1,x,3\n", "column 'u', row 2 below the names, holds 'x'"),
        ("device,t,u,v\na,1,,3\n", "column 'u', row 1 below the names, holds ''"),
        ("device,t,u,v\na,nan,2,3\n", "column 't', row 1 below the names, holds 'nan'"),
        ("device,t,u,v\na,1,2,3\n", "task 'a' has 1 rows; accepted are 5 or more"),
        (
            "device,t,u,v\na,1,2,3\n,1,2,3\n",
            "column 'device', row 2 below the names, holds ''; acc",
        ),
        ("device,t,t,u,v\na,1,1,2,3\n", "bad.csv has 2 columns 't'; accepted is one"),
        ("device,t,u,v\n\udcff,1,2,3\n", "bad.csv cannot be read: 'utf-8' codec can't decode"),
        (f"device,t,u,v\n{'a' * 200_000},1,2,3\n", "bad.csv cannot be read: field larger than"),
    ],
)
def test_bad_tables_are_one_line(text: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    Path("table.toml").write_text(TABLE.replace("data/rows.csv", "bad.csv"), encoding="utf-8")
    assert cli.main(["train", "--config", "table.toml"]) == 2
    assert error in said(capsys)


@pytest.mark.parametrize(
    ("name", "cells", "error"),
    [
        ("u", [1.0, None, 2.0], "column 'u', row 2 below the names, holds None; accepted are fin"),
        ("u", [[1.0], [2.0], []], "column 'u', row 1 below the names, holds [1.0]; accepted are"),
        ("device", ["a", None, "b"], "column 'device', row 2 below the names, holds None; accepte"),
        ("device", [1.0, 1.0, np.nan], "column 'device', row 3 below the names, holds nan; accep"),
        ("device", [[1], [1], [2]], "column 'device', row 1 below the names, holds [1]; accepted"),
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


# ---- the configuration


def test_the_configuration_of_the_docs_is_accepted() -> None:
    page = Path(__file__).parents[1] / "docs/cli.md"
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    Path("docs.toml").write_text(text, encoding="utf-8")
    rows = [f"{i // 20},{i},{i % 7},{i % 5}" for i in range(100 * 20)]
    lines = ["device,voltage,temperature,current", *rows]
    Path("devices.csv").write_text("\n".join(lines), encoding="utf-8")
    run = config.build(config.read(Path("docs.toml")))
    assert run.maml.steps == 5
    assert run.loop["patience"] == 20
    assert run.optimizer == fm.learn.AdamW(fm.learn.Cosine(0.001, 15_000))
    assert run.sample(np.random.default_rng(0)).x.shape == (25, 10, 2)


# ---- errors of the configuration


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("[model]", "[[model", "run.toml is no TOML"),
        ("[model]", "[models]", "the configuration has 'models'; accepted are model, maml, tasks"),
        ("[train]", "[train.x]", "[train] has 'x'; accepted are iterations, seed"),
        ("[model]", "x = 1\n[model]", "the configuration has 'x'"),
        ("layer_sizes = [1, 6, 1]", "", "[model] lacks layer_sizes"),
        ("layer_sizes = [1, 6, 1]", "layer_sizes = [1]", "[model] layer_sizes is [1]"),
        ('activation = "tanh"', 'name = "CNN"', "[model] name is 'CNN'; accepted are MLP, Linear"),
        ("task_mean = true", "task_mean = 1", "[maml] task_mean is 1"),
        ("task_mean = true", "tasks_mean = 1", "[maml] has 'tasks_mean'; accepted are model"),
        ('family = "sinusoid"', "", "[tasks] needs either family or file"),
        (
            'family = "sinusoid"',
            'family = "sinusoid"\nfile = "a"',
            "[tasks] needs either family or",
        ),
        ('family = "sinusoid"', 'family = "square"', "[tasks] family is 'square'; accepted are"),
        ("n_tasks = 3", "n_tasks = 0", "[tasks] n_tasks is 0"),
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
        ('task = "device"', "", "[tasks] task is None; accepted is a text"),
        ('"data/rows.csv"', "1", "[tasks] file is 1; accepted is a text"),
        ('"data/rows.csv"', '"none.csv"', "No such file or directory"),
        ('["t", "u"]', '["t"]', "[tasks] inputs is ['t']; accepted are the names of 2 columns"),
        ('["v"]', '"v"', "[tasks] outputs is 'v'; accepted are the names of 1 columns"),
        ('task = "device"', 'task = "who"', "has no column 'who'; it has 'v', 'device'"),
        ("n_test = 2", "n_test = 5", "together up to 9, the tasks of the file"),
        ("n_query = 2", "n_query = 5", "has 7 rows; accepted are 8 or more"),
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
    assert said(capsys).startswith("the configuration has 'seed'; accepted are model, maml, tasks")


@pytest.mark.parametrize("error", [RuntimeError, ImportError, OSError, TypeError, MemoryError])
def test_errors_of_the_machine_are_one_line(
    error: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error("a\nb")

    monkeypatch.setattr(config, "build", fail)
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert said(capsys) == "a b"
    monkeypatch.setattr(training, "_checkpoint", fail)
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
