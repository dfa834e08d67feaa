"""The command line on tables as they are: what is refused, what is read how, and what changed."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmaml as fm
from fastmaml import cli
from fastmaml.cli import runs
from fastmaml.cli.common import CommandError
from fastmaml.cli.csvfile import Format
from fastmaml.cli.sheet import number_reader
from fastmaml.cli.table import Layout, read_tasks
from fastmaml.datasets import TaskTable
from fastmaml.learn import load_checkpoint

DEVICES, ROWS = [f"d{i}" for i in range(12)], 6

CONFIGURATION = """
[model]
layer_sizes = [2, 5, 1]
[tasks]
file = "rows.csv"
task = "device"
inputs = ["t", "u"]
outputs = ["v"]
n_tasks = 4
n_validation = 2
n_test = 3
[train]
iterations = 3
"""

Rows = list[list[Any]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(CONFIGURATION, encoding="utf-8")


def made(devices: list[str] = DEVICES, seed: int = 0) -> Rows:
    """Rows of each device, one after the other."""
    rng = np.random.default_rng(seed)
    return [
        [d, *rng.normal([20.0, 1.0], [5.0, 0.1]).tolist(), rng.normal(500.0, 30.0)]
        for d in devices
        for _ in range(ROWS)
    ]


def write_rows(rows: Rows, name: str = "rows.csv", **dialect: Any) -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, **dialect).writerows([["device", "t", "u", "v"], *rows])


def configure(**tasks: str) -> None:
    """Put keys of [tasks] in, or change them."""
    text = CONFIGURATION
    for name, value in tasks.items():
        text = re.sub(rf"^{name} = .*\n", "", text, flags=re.M)
        text = text.replace("[tasks]\n", f"[tasks]\n{name} = {value}\n")
    Path("run.toml").write_text(text, encoding="utf-8")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("fastmaml: error: ")
    return line.removeprefix("fastmaml: error: ")


def train(*options: str) -> None:
    assert cli.main(["train", "--config", "run.toml", *options]) == 0


# ---- the split is kept: 5


def deleted(rows: Rows) -> Rows:
    return [row for row in rows if row[0] not in ("d0", "d7")]


def appended(rows: Rows) -> Rows:
    return made(["a-new", "z-new"], seed=1) + rows


def backwards(rows: Rows) -> Rows:
    return rows[::-1]


def sorted_by_number(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: row[3])


@pytest.mark.parametrize("change", [deleted, appended, backwards, sorted_by_number])
def test_whatever_happens_to_the_table_no_task_of_the_training_is_tested(
    change: Callable[[Rows], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(made())
    train()
    record = runs.read_run(Path("run")).record
    assert record is not None
    held = set(record.parts["test"])
    assert len(held) == 3
    write_rows(change(made()))
    tested: list[Any] = []
    original = TaskTable.split

    def split(table: TaskTable, *arguments: Any, **options: Any) -> Any:
        tested.extend(table.names)
        return original(table, *arguments, **options)

    monkeypatch.setattr(TaskTable, "split", split)
    assert cli.main(["evaluate", "run"]) == 0
    assert set(tested) == held - ({"d0", "d7"} if change is deleted else set())


def test_the_order_of_rows_changes_no_bit(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    train()
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 0
    before = capsys.readouterr()
    assert "warning" not in before.err
    write_rows(sorted_by_number(made()))
    train("--out", "again")
    thetas = [load_checkpoint(f"{f}/checkpoint.npz").state.theta for f in ("run", "again")]
    assert thetas[0].tobytes() == thetas[1].tobytes()
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 0
    assert capsys.readouterr() == before


def test_evaluate_and_resume_say_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    train()
    rows = appended(deleted(made()))
    rows[-1][3] += 1.0
    write_rows(rows)
    capsys.readouterr()
    expected = (
        "fastmaml: warning: the table is not what it was: 2 tasks are gone ('d0', 'd7'), 2 tasks "
        "are new ('a-new', 'z-new'), 1 task is with other rows ('d11'). "
    )
    assert cli.main(["evaluate", "run"]) == 0
    assert capsys.readouterr().err == (
        expected + "Tested is on those that were held out, and on no other\n"
    )
    assert cli.main(["resume", "run", "--iterations", "5"]) == 0
    assert expected + "Tasks stay in the part they were in" in capsys.readouterr().err
    # What is new was trained on now, and what is gone may come back.
    record = runs.read_run(Path("run")).record
    assert record is not None
    assert {"a-new", "z-new"} < set(record.parts["training"])
    assert sum(map(len, record.parts.values())) == 14
    assert cli.main(["evaluate", "run"]) == 0
    assert "2 tasks are gone" in capsys.readouterr().err


def test_another_path_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    train()
    Path("there").mkdir()
    Path("rows.csv").rename("there/moved.csv")
    assert cli.main(["evaluate", "run"]) == 2
    assert "No such file or directory" in said(capsys)
    assert cli.main(["evaluate", "run", "--data", "there/moved.csv"]) == 0
    assert cli.main(["resume", "run", "--iterations", "5", "--data", "there/moved.csv"]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 0  # which resume has told the checkpoint
    assert "warning" not in capsys.readouterr().err
    # A file of other tasks altogether has none that were trained on.
    write_rows(made(["e1", "e2"]), "other.csv")
    assert cli.main(["evaluate", "run", "--data", "other.csv"]) == 0
    printed, errors = capsys.readouterr()
    assert printed.startswith("Error on 2 held-out tasks")
    assert errors == "fastmaml: the table has no task of the training: all are tested on\n"


def test_another_table_is_evaluated_by_a_run_that_stopped_early(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = CONFIGURATION.replace("iterations = 3", "iterations = 3\npatience = 5")
    Path("run.toml").write_text(text, encoding="utf-8")
    write_rows(made())
    train()
    write_rows(made([f"new{i}" for i in range(4)], seed=1), "new.csv")
    assert cli.main(["evaluate", "run", "--data", "new.csv"]) == 0
    assert "Error on 4 held-out tasks" in capsys.readouterr().out


def test_data_of_a_family_or_without_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    train()
    record = runs.read_run(Path("run")).record
    assert record is not None
    write_rows([row for row in made() if row[0] in record.parts["training"]])
    assert cli.main(["evaluate", "run"]) == 2
    assert "or none of them is left in the file" in said(capsys)
    write_rows([row for row in made() if row[0] in record.parts["test"]])
    assert cli.main(["resume", "run", "--iterations", "5"]) == 2
    assert "n_tasks is 4; accepted are up to 0, the tasks of the file that are for" in said(capsys)
    write_rows([row for row in made() if row[0] not in record.parts["validation"]])
    assert cli.main(["resume", "run", "--iterations", "5"]) == 2
    assert "n_validation was 2, and the file has none of those tasks; accepted are" in said(capsys)
    family = '[model]\nlayer_sizes = [1, 5, 1]\n[tasks]\nfamily = "sinusoid"\n'
    Path("run.toml").write_text(f"{family}[train]\niterations = 1", encoding="utf-8")
    train("--out", "family")
    assert cli.main(["evaluate", "family", "--data", "rows.csv"]) == 2
    assert said(capsys) == "--data is rows.csv; accepted is none, as the tasks are of a family"


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        (None, None, "the record of its tasks is missing or damaged"),
        ("parts", {"training": {}}, "the record of its tasks is missing or damaged"),
        ("categories", {"t": []}, "the record of its tasks is missing or damaged"),
        ("scaling", {"x_mean": [1.0]}, "the record of its scaling is damaged: fields is"),
        ("categories", {"t": ["a"]}, "the record of its categories is damaged"),
    ],
)
def test_a_record_is_checked(
    field: str | None, value: Any, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(made())
    train()
    whole = load_checkpoint("run/checkpoint.npz")
    record = None if field is None else {**whole.configuration["record"], field: value}
    configuration = {**whole.configuration, "record": record}
    fm.learn.save_checkpoint("run/checkpoint.npz", whole.state, whole.generator, configuration)
    assert cli.main(["evaluate", "run"]) == 2
    assert error in said(capsys)


# ---- strict reading: 6


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('device,t\na,1\n"b,2\nc,3\n', "line 3, has a quote that is not closed"),
        ('device,t\na,1\n"b,2\nc,3\n"d",4\n', "line 3, has a quote that is not closed, or not at"),
        ('device,t\n"a"x,1\n', "line 2, has a quote that is not closed, or not at the end"),
        ('device,t\na,1\nb"c,2\n', "line 3, has a quote inside a cell"),
        ('device,t\n"a,1\nb,2\nc",3\n', "line 2, opens a quote that closes in line 4"),
        ('device,t\n"a,1\nb",2\n', "line 2, opens a quote that closes in line 3"),
        ("device,t\na,1\nb,2,3\n", "line 3, has 3 entries; accepted are 2"),
    ],
)
def test_quotes_that_may_have_swallowed_rows_are_refused_with_the_line(
    text: str, error: str
) -> None:
    Path("rows.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=re.escape(error)):
        read_tasks(Path("rows.csv"), Layout(("device",), ("t",), ()))


def test_quotes_as_they_should_be_are_read() -> None:
    text = 'device,note,t\r\n"a ""b""","two\r\nlines",1\r\n\r\n"x,y",,2\r\n'
    Path("rows.csv").write_bytes(text.encode())
    table, _ = read_tasks(Path("rows.csv"), Layout(("device",), ("t",), ()))
    assert table.names == ('a "b"', "x,y")
    np.testing.assert_array_equal(table.x, [[1.0], [2.0]])


@pytest.mark.parametrize(
    "cell", ["1_5", "１５", "infinity", "inf", "nan", "0x10", "1e", "--1", "1,5"]
)
def test_numbers_that_only_python_reads_are_refused_with_the_line(
    cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = made()
    rows[7][1] = cell
    write_rows(rows)
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert f"column 't', line 9, holds '{cell}'; accepted are finite" in said(capsys)
    assert not Path("run").exists()


def test_a_parquet_file_of_text_is_read_as_strictly() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"t": ["1", "1_5"]}), "rows.parquet")
    with pytest.raises(CommandError, match="column 't', row 2, holds '1_5'"):
        read_tasks(Path("rows.parquet"), Layout((), ("t",), ()))


@pytest.mark.parametrize(
    ("form", "cell", "number"),
    [
        (Format(), " -1.5e-3 ", -1.5e-3),
        (Format(), "+.5", 0.5),
        (Format(decimal=","), "1,5", 1.5),
        (Format(decimal=","), "1.5", None),
        (Format(decimal=",", thousands="."), "1.234.567,5", 1234567.5),
        (Format(decimal=",", thousands="."), "1.5", None),
        (Format(thousands="'"), "1'000", 1000.0),
        (Format(thousands=" "), "10 000", 10000.0),
        (Format(thousands=" "), "10 00", None),
    ],
)
def test_numbers_as_a_table_writes_them(form: Format, cell: str, number: float | None) -> None:
    found = number_reader(form)(cell)
    assert np.isnan(found) if number is None else found == number


# ---- scaling: 12


def test_a_table_in_natural_units_is_learned(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows: Rows = []
    for i in range(40):
        slope = rng.normal(3.0, 1.0)
        for t in rng.uniform(0.0, 60.0, 12).tolist():
            rows.append([f"d{i}", t, 1000.0, 4000.0 + slope * (t - 30.0)])
    write_rows(rows)
    text = CONFIGURATION.replace("iterations = 3", "iterations = 150\nvalidate_every = 25")
    text += "[optimizer]\nlearning_rate = 0.01\n[maml]\ninner_lr = 0.1\nsteps = 3\n"
    text += 'loss = "mse"\ntask_mean = true\n'
    Path("run.toml").write_text(text, encoding="utf-8")
    Path("raw.toml").write_text(text.replace("[tasks]", "[tasks]\nscale = false"), encoding="utf-8")
    errors = []
    for name in ("run", "raw"):
        assert cli.main(["train", "--config", f"{name}.toml"]) == 0
        capsys.readouterr()
        assert cli.main(["evaluate", name, "--steps", "3"]) in (0, 2)
        last = capsys.readouterr().out.splitlines()[-1].split()
        errors.append(float(last[1]))
        if name == "run":
            assert float(last[-1]) > 0.8  # R²
    variance = np.var([row[3] for row in rows])
    assert errors[0] < 0.2 * variance < variance < errors[1]


def test_numbers_that_overflow_when_scaled_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    text = CONFIGURATION.replace("[train]", '[train]\ndtype = "float32"')
    Path("run.toml").write_text(text, encoding="utf-8")
    train()
    rows = made()
    rows[2][1] = 1e60
    write_rows(rows, "far.csv")
    error = "far.csv, task 'd0', holds a number that is not finite in float32 once it is scaled; "
    pairs = [["far.csv", "rows.csv"], ["rows.csv", "far.csv"]]
    adapt = [["adapt", "run", *files] for files in pairs]
    for command in (*adapt, ["evaluate", "run", "--data", "far.csv"]):
        assert cli.main(command) == 2
        assert error in said(capsys)


def test_the_folder_holds_what_load_reads(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    train()
    saved = fm.load("run/model.npz")
    assert (saved.inputs, saved.outputs) == (("t", "u"), ("v",))
    assert sorted(chain(*saved.extra["tasks"].values())) == sorted(DEVICES)
    write_rows(made()[:4], "s.csv")
    write_rows(made()[4:6], "n.csv")
    capsys.readouterr()
    assert cli.main(["adapt", "run", "s.csv", "n.csv"]) == 0
    numbers = [float(line.split(",")[-1]) for line in capsys.readouterr().out.splitlines()[1:]]
    x, y = (np.array([row[i:j] for row in made()[:6]], float) for i, j in ((1, 3), (3, 4)))
    expected = saved.predict([x[:4]], [y[:4]], x[4:])[0][:, 0]
    np.testing.assert_allclose(numbers, expected, rtol=1e-12)
    assert 400 < expected[0] < 600


# ---- divergence: 14


def test_divergence_names_the_task_the_step_and_the_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(made())
    train()
    large = CONFIGURATION + "[maml]\ninner_lr = 1e30\nsteps = 9\n"
    Path("run.toml").write_text(large.replace("iterations = 3", "iterations = 9"), encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml", "--out", "large"]) == 2
    assert re.search(
        r"tasks diverged: 'd\d+'.*; task 'd\d+' diverged in inner step \d+, at inner_lr 1e\+30: "
        r"its support loss went from [\d.]+ to", said(capsys),
    )  # fmt: skip
    assert not Path("large").exists()

    whole = load_checkpoint("run/checkpoint.npz")
    state = whole.state._replace(inner_lr=1e5, best=None)
    fm.learn.save_checkpoint("run/checkpoint.npz", state, whole.generator, whole.configuration)
    write_rows(made(["new-1", "new-2"]), "s.csv")
    capsys.readouterr()
    assert cli.main(["adapt", "run", "s.csv", "s.csv"]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.startswith("fastmaml: error: task 'new-1' diverged in inner step 1, at inner_lr ")
    assert errors.count("\n") == 1
    assert cli.main(["evaluate", "run"]) == 2
    printed, errors = capsys.readouterr()
    assert re.search(r"^ +1 +\S+ ± ", printed, re.M)
    assert re.match(r"fastmaml: error: task 'd\d+' diverged in inner step 1, at inner_lr ", errors)


def test_a_training_whose_tasks_diverge_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """All its losses are finite, and far too large."""
    write_rows(made())
    for options in ("n_validation = 2", "n_validation = 0"):
        text = CONFIGURATION.replace("n_validation = 2", options)
        text += '[maml]\ninner_lr = 1e4\nsteps = 2\nloss = "mse"\n'
        Path("run.toml").write_text(text, encoding="utf-8")
        assert cli.main(["train", "--config", "run.toml", "--out", options[-1]]) == 2
        assert re.match(r"task 'd\d+' diverged in inner step \d, at inner_lr 1e\+04", said(capsys))
        assert np.isfinite(load_checkpoint(Path(options[-1], "checkpoint.npz")).state.value)


def test_an_update_that_is_too_large_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    text = CONFIGURATION + '[optimizer]\nname = "SGD"\nlearning_rate = 3e38\n'
    text = text.replace(
        "iterations = 3", 'iterations = 3\ndtype = "float32"\non_divergence = "skip"'
    )
    Path("run.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert said(capsys) == (
        "the parameters are not finite after iteration 1, whose gradient was: the update of "
        "SGD(learning_rate=3e+38, momentum=0.0) is too large; a smaller learning_rate usually helps"
    )


# ---- tables as they are: 15


@pytest.mark.parametrize("gone", ["", " ", "NA", "nan"])
def test_missing_cells_are_errors_or_left_out(
    gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = made()
    rows[3][1] = gone
    rows[8][0] = ""
    write_rows(rows)
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert (
        f"column 't', line 5, holds {gone!r}; accepted are finite float64 numbers (missing = "
        '"drop" leaves such rows out)'
    ) in said(capsys)
    configure(missing='"drop"')
    train()
    assert f"warning: of {Path('rows.csv').resolve()}, 2 of 72 rows miss a cell" in (
        capsys.readouterr().err
    )
    write_rows(rows[:6], "s.csv")  # one support row less, and one row without a prediction
    assert cli.main(["adapt", "run", "s.csv", "s.csv"]) == 0
    printed, errors = capsys.readouterr()
    lines = printed.splitlines()
    assert len(lines) == 7
    assert [line.endswith(",") for line in lines[1:]] == [False] * 3 + [True] + [False] * 2
    assert "1 of 6 rows miss a cell and are left out" in errors
    assert "1 of 6 rows miss a cell and are not predicted" in errors
    assert cli.main(["adapt", "run", "s.csv", "s.csv", "--missing", "error"]) == 2
    assert "column 't', line 5" in said(capsys)


def test_a_table_without_a_whole_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(missing='"drop"')
    write_rows([["a", "", 1, 2]])
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert "rows.csv has a missing cell in every row" in said(capsys)


def test_tasks_with_too_few_rows_are_errors_or_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows([*made(), ["lone", 1, 2, 3]])
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert re.search(
        r"task 'lone' has 1 rows; accepted are 2 or more \(1 of 13 tasks have fewer\) "
        r'\(short_tasks = "drop" leaves such tasks out\)', said(capsys),
    )  # fmt: skip
    configure(short_tasks='"drop"')
    train()
    said_ = capsys.readouterr().err
    assert "warning: 1 of 13 tasks have fewer than 2 rows and are left out: 'lone'" in said_
    record = runs.read_run(Path("run")).record
    assert record is not None
    assert "lone" not in {task for tasks in record.parts.values() for task in tasks}


def test_query_rows_are_all_that_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for d, n in zip(DEVICES, [6, 5, 4] * 4, strict=True) for row in made([d])[:n]]
    write_rows(rows)
    configure(n_support="3", n_test="4")
    train()
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 0
    assert re.match(
        r"Error on 4 held-out tasks, 3 rows to adapt to, 1 to 3 to judge by, float64",
        capsys.readouterr().out,
    )


def test_the_way_a_file_is_written_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    train("--out", "plain")
    text = Path("rows.csv").read_text(encoding="utf-8").replace(",", ";").replace(".", ",")
    text = text.replace("device", "Gerät").replace("d1", "ä1")
    Path("rows.csv").write_bytes(text.encode("latin-1"))
    configure(task='"Gerät"', delimiter='";"', decimal='","', encoding='"latin-1"')
    train()
    thetas = [load_checkpoint(f"{f}/checkpoint.npz").state.theta for f in ("plain", "run")]
    assert np.isfinite(thetas).all()
    capsys.readouterr()
    Path("n.csv").write_bytes("\n".join(text.splitlines()[:3]).encode("latin-1"))
    assert cli.main(["adapt", "run", "rows.csv", "n.csv"]) == 0
    german = capsys.readouterr().out
    Path("e.csv").write_text(
        "\n".join(text.splitlines()[:3]).replace(",", ".").replace(";", "\t"), encoding="utf-8"
    )
    flags = ["--delimiter", "tab", "--decimal", ".", "--encoding", "utf-8"]
    with pytest.raises(AssertionError):  # both files are written in the same way
        assert cli.main(["adapt", "run", "rows.csv", "e.csv", *flags]) == 0
    assert cli.main(["adapt", "run", "e.csv", "e.csv", *flags]) == 0
    assert german.startswith("Gerät,t,u,v_predicted\nd0,")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("delimiter", '";;"', "[tasks] delimiter is ';;'; accepted is one character"),
        ("thousands", '"."', "[tasks] thousands is '.', as is decimal; accepted are different"),
        ("thousands", "1", "[tasks] thousands is 1; accepted is a text"),
        ("encoding", '"klingon"', "[tasks] encoding is 'klingon'; accepted are Python's"),
        ("encoding", '"hex"', "[tasks] encoding is 'hex'; accepted are Python's"),
        ("encoding", '"utf-16"', "rows.csv cannot be read: it is no text in UTF-16"),
        ("missing", '"skip"', "[tasks] missing is 'skip'; accepted are"),
        ("short_tasks", '"skip"', "[tasks] short_tasks is 'skip'; accepted are"),
        ("categorical", '["x"]', "[tasks] categorical has 'x'; accepted are columns that inputs"),
        ("categorical", '"t"', "[tasks] categorical is 't'; accepted is a list of names"),
        ("task", '["device", "t"]', "[tasks] names column 't' twice; accepted is once"),
        ("scale", "1", "[tasks] scale is 1; accepted"),
        ("n_support", "1.5", "[tasks] n_support is 1.5; accepted are numbers of rows, and shares"),
        (
            "delimiter",
            '";"',
            "has no column 'device'; it has 'device,t,u,v' (is its delimiter ','?",
        ),
    ],
)
def test_wrong_options_of_a_table_are_one_line(
    name: str, value: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(made())
    configure(**{name: value})
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert error in said(capsys)


def test_a_mark_of_numbers_may_be_the_delimiter_where_cells_are_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = made()
    write_rows(rows)
    train("--out", "plain")
    write_rows([[d, *(repr(v).replace(".", ",") for v in numbers)] for d, *numbers in rows])
    configure(decimal='","')
    train("--out", "quoted")
    write_rows([[d, t, u, f"{v * 1e6:,.4f}"] for d, t, u, v in rows])
    configure(thousands='","')
    train("--out", "grouped")
    plain, quoted, grouped = (
        load_checkpoint(f"{name}/checkpoint.npz").state.theta
        for name in ("plain", "quoted", "grouped")
    )
    np.testing.assert_array_equal(quoted, plain)
    np.testing.assert_allclose(grouped, plain, rtol=1e-6)
    Path("rows.csv").write_text("device;t;u;v\nd0;1,5;2;3\n", encoding="utf-8")
    configure()
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert said(capsys).endswith(
        "line 2, has 2 entries; accepted are 1, as many as names (is its delimiter ';'? "
        "--delimiter, or [tasks] delimiter, says so)"
    )


@pytest.mark.parametrize("text", ["NA", "nan", "NULL", "None"])
@pytest.mark.parametrize("column", ["device", "kind"])
def test_a_missing_name_of_a_task_or_category_is_none(
    column: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[text if i % 9 == 8 else d, "none", u, v] for i, (d, _, u, v) in enumerate(made())]
    if column == "kind":
        rows = [[d, text if i % 9 == 8 else "none", u, v] for i, (d, _, u, v) in enumerate(made())]
    write_rows(rows)
    configure(categorical='["t"]')
    assert cli.main(["train", "--config", "run.toml"]) == 2
    where = "device" if column == "device" else "t"
    assert f"column '{where}', line 10, holds '{text}'; accepted are" in said(capsys)
    configure(categorical='["t"]', missing='"drop"', short_tasks='"drop"')
    train()
    assert "8 of 72 rows miss a cell and are left out" in capsys.readouterr().err
    record = runs.read_run(Path("run")).record
    assert record is not None
    assert record.categories == {"t": ["none"]}
    assert text not in set(chain(*record.parts.values()))


def test_several_columns_name_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["plant", "device", "t", "u", "v"]]
    rows += [[f"p{i % 2}", f"d{i % 6}", *row[1:]] for i, row in enumerate(made())]
    text = "\n".join(",".join(map(str, row)) for row in rows)
    Path("rows.csv").write_text(text, encoding="utf-8")
    configure(task='["plant", "device"]', n_test="1", n_validation="1")
    train()
    record = runs.read_run(Path("run")).record
    assert record is not None
    assert '["p0", "d0"]' in {task for tasks in record.parts.values() for task in tasks}
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert cli.main(["adapt", "run", "rows.csv", "rows.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "plant,device,t,u,v_predicted"
    assert len(lines) == len(rows)
    assert lines[2].startswith("p1,d1,")


CATEGORIES = ["steel", "glass", "wood"]


def with_categories(wrong: str | None = None) -> None:
    rows = [[*row[:2], CATEGORIES[i // ROWS % 3], row[3]] for i, row in enumerate(made())]
    if wrong is not None:
        rows[1][2] = wrong
    write_rows(rows)
    text = CONFIGURATION.replace("[2, 5, 1]", "[4, 5, 1]")
    Path("run.toml").write_text(text.replace("[tasks]", '[tasks]\ncategorical = ["u"]'))


def test_a_categorical_column_is_one_of_0_and_1_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_categories()
    train()
    saved = fm.load("run/model.npz")
    assert saved.inputs == ("t", "u=glass", "u=steel", "u=wood")
    assert saved.extra["categories"] == {"u": ["glass", "steel", "wood"]}
    capsys.readouterr()
    Path("n.csv").write_text("device,t,u\nd0,20,wood\nd0,20,steel\n", encoding="utf-8")
    assert cli.main(["adapt", "run", "rows.csv", "n.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["d0", "20.0", "wood"], ["d0", "20.0", "steel"],
    ]  # fmt: skip
    assert lines[1] != lines[2].replace("steel", "wood")
    assert cli.main(["evaluate", "run"]) == 0
    with_categories(wrong="stell")
    for command in (["evaluate", "run"], ["adapt", "run", "rows.csv", "n.csv"]):
        assert cli.main(command) == 2
        assert (
            "column 'u', line 3, holds 'stell'; accepted are the categories of the training, "
            "'glass', 'steel', 'wood'"
        ) in said(capsys)


def test_a_category_that_only_held_out_tasks_have_is_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(made())
    train()
    record = runs.read_run(Path("run")).record
    assert record is not None
    tested = record.parts["test"]
    write_rows([[d, 0.0, "new" if d in tested else "old", v] for d, _, _, v in made()])
    text = CONFIGURATION.replace("[2, 5, 1]", "[3, 5, 1]").replace(
        "[tasks]", '[tasks]\ncategorical = ["u"]'
    )
    Path("run.toml").write_text(text, encoding="utf-8")
    capsys.readouterr()
    train("--out", "other")
    errors = capsys.readouterr().err
    assert "warning: no task of the training has 'u=new', so nothing is learned of it" in errors


def test_the_model_has_the_columns_of_the_categories(capsys: pytest.CaptureFixture[str]) -> None:
    with_categories()
    text = Path("run.toml").read_text(encoding="utf-8").replace("[4, 5, 1]", "[2, 5, 1]")
    Path("run.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 2
    assert said(capsys) == (
        "[tasks] inputs is ['t', 'u=glass', 'u=steel', 'u=wood'], 4 columns (a category is a "
        "column of 0 and 1); accepted are the names of 2 columns, as many as the model has inputs"
    )


def test_a_csv_against_a_parquet_of_integers(capsys: pytest.CaptureFixture[str]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(made())
    train()
    support = {"id": [7, 7, 12], "t": [1.0, 2.0, 3.0], "u": [1.0] * 3, "v": [500.0, 510.0, 490.0]}
    parquet.write_table(pyarrow.table(support), "s.parquet")
    Path("n.csv").write_text("id,t,u\n12,1,1\n7,1,1\n", encoding="utf-8")
    capsys.readouterr()
    arguments = ["adapt", "run", "s.parquet", "n.csv", "--task", "id"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in printed] == ["id", "12", "7"]
    assert cli.main([*arguments, "--out", "p.parquet"]) == 0
    written = parquet.read_table("p.parquet").to_pydict()
    assert written["id"] == ["12", "7"]
    assert written["v_predicted"] == [float(line.split(",")[-1]) for line in printed[1:]]


def test_a_support_of_several_tasks_predicts_each(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    train()
    write_rows([*made(["b"], 1), *made(["a"], 2)], "s.csv")
    Path("n.csv").write_text("t,u\n20,1\n21,1\n", encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["adapt", "run", "s.csv", "n.csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["device", "t", "u", "v_predicted"]
    assert [row[:2] for row in rows[1:]] == [
        ["a", "20.0"], ["a", "21.0"], ["b", "20.0"], ["b", "21.0"],
    ]  # fmt: skip
    each = []
    for name, seed in (("a", 2), ("b", 1)):
        write_rows(made([name], seed), "one.csv")
        assert cli.main(["adapt", "run", "one.csv", "n.csv"]) == 0
        each += capsys.readouterr().out.splitlines()[1:]
    assert [float(line.split(",")[-1]) for line in each] == [float(row[-1]) for row in rows[1:]]
    # The other way round, nothing says whose the support is.
    Path("s.csv").write_text("t,u,v\n20,1,500\n", encoding="utf-8")
    Path("n.csv").write_text("device,t,u\na,20,1\n", encoding="utf-8")
    assert cli.main(["adapt", "run", "s.csv", "n.csv"]) == 2
    assert "n.csv has the column 'device', which says whose a row is, s.csv has not" in said(capsys)
    assert cli.main(["adapt", "run", "s.csv", "n.csv", "--task", "devize"]) == 2
    assert said(capsys) == "s.csv has no column 'devize'; it has 't', 'u', 'v'"


def test_several_outputs_are_judged_each_in_its_units(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    configure(inputs='["t"]', outputs='["u", "v"]')
    text = Path("run.toml").read_text(encoding="utf-8").replace("[2, 5, 1]", "[1, 5, 2]")
    Path("run.toml").write_text(text, encoding="utf-8")
    train()
    capsys.readouterr()
    assert cli.main(["evaluate", "run", "--steps", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[2], lines[6]) == ("u", "v")
    assert float(lines[4].split()[1]) < 1.0 < 100.0 < float(lines[8].split()[1])


def test_errors_have_significant_digits() -> None:
    texts = [fm.experiments.error_text(v) for v in (0.0, 1.234e-7, 0.0123456, 0.64, 251.5, 1e5)]
    assert texts == ["0.000", "1.23e-07", "0.0123", "0.640", "251.500", "1.0e+05"]


def test_one_test_task_has_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    configure(n_test="1")
    train()
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cli.main(["evaluate", "run"]) == 0
    assert "± nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("n_tasks", "n_task", "[tasks] has 'n_task'"),
        ("[train]", "[trian]", "the configuration has 'trian'"),
        ("iterations = 3", "iterations = 3\nclipnorm = 1.0", "[train] has 'clipnorm'"),
        ('"device"', '"Devices"', "has no column 'Devices'"),
        ("layer_sizes = [2, 5, 1]", 'name = "MPL"', "[model] name is 'MPL'"),
    ],
)
def test_misspelt_keys_and_columns_get_a_hint(
    old: str, new: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(made())
    Path("run.toml").write_text(CONFIGURATION.replace(old, new, 1), encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 2
    text = said(capsys)
    assert error in text
    hints = {"n_task": "n_tasks", "[trian]": "train", '"Devices"': "device"}
    assert f"(did you mean '{hints.get(new, 'clip_norm' if 'clip' in new else 'MLP')}'?)" in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["trian"], "there is no command 'trian'; accepted are init, train, resume, evaluate, "),
        (["evaluate", "run", "--step", "3"], "--step 3 (did you mean '--steps'?)"),
        (["trian"], "(did you mean 'train'?)"),
    ],
)
def test_misspelt_commands_and_options_get_a_hint(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert error in said(capsys)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"fastmaml {fm.__version__}\n"


def test_a_failed_start_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(made())
    text = CONFIGURATION + "[maml]\ninner_lr = 1e30\nsteps = 9\n"
    Path("run.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml", "--out", "a/b/c"]) == 2
    assert "diverged" in said(capsys)
    assert not Path("a").exists()
    Path("kept").mkdir()
    assert cli.main(["train", "--config", "run.toml", "--out", "kept/d"]) == 2
    assert list(Path("kept").iterdir()) == []
