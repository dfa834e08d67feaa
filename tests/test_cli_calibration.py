"""From a table to predictions by the command line alone: init, train, evaluate, adapt."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from calibration import TYPES, calibration_table, write_csv

import fastmaml as fm
from fastmaml import cli
from fastmaml.cli import config
from fastmaml.cli.csvfile import Format
from fastmaml.cli.guess import guessed_format
from fastmaml.learn import defaults

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("fastmaml: error: ")
    return line.removeprefix("fastmaml: error: ")


def test_from_a_table_to_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("sensors.csv"), calibration_table())
    assert cli.main(["init", "sensors.csv"]) == 0
    printed = capsys.readouterr().out
    assert "task      device (81 tasks)\n" in printed
    assert "outputs   concentration_ppm\n" in printed
    text = Path("sensors.toml").read_text(encoding="utf-8")
    tasks = tomllib.loads(text)["tasks"]
    assert tasks == {
        "file": "sensors.csv", "task": "device", "outputs": ["concentration_ppm"],
        "inputs": ["type", "reading_mV", "temperature_C", "pressure_kPa"], "categorical": ["type"],
        "missing": "drop", "short_tasks": "drop", "n_tasks": 25, "n_support": 0.5,
        "n_validation": 8, "n_test": 16,
    }  # fmt: skip
    # A short training, at thrice the rate.
    text = text.replace(f"iterations = {defaults.ITERATIONS}", "iterations = 350")
    Path("sensors.toml").write_text(text.replace("= 0.001\n", "= 0.003\n"), encoding="utf-8")
    assert cli.main(["train", "--config", "sensors.toml"]) == 0
    errors = capsys.readouterr().err
    assert "warning: 1 of 81 tasks have fewer than 2 rows and are left out: 'dev-081'" in errors
    assert "490 of 2123 rows miss a cell and are left out" in errors
    assert fm.load("sensors/model.npz").inputs is not None

    assert cli.main(["evaluate", "sensors"]) == 0
    printed = capsys.readouterr().out
    before, after = (line.split() for line in printed.splitlines()[-2:])
    assert float(after[-2]) < 6.5 < 12.0 < float(before[-2])  # ppm, root of the mean square
    assert float(after[-1]) > 0.93

    # A device that is new, of which a few rows are known.
    columns = calibration_table(seed=1)
    rows = np.flatnonzero(columns["device"] == "dev-002")
    whole = rows[np.isfinite([columns[c][rows] for c in list(columns)[2:]]).all(axis=0)]
    for name, some in (("known.csv", whole[:8]), ("new.csv", whole[8:])):
        write_csv(Path(name), {c: column[some] for c, column in columns.items()})
    assert cli.main(["adapt", "sensors", "known.csv", "new.csv", "--out", "p.csv"]) == 0
    with Path("p.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert {row["device"] for row in written} == {"dev-002"}
    assert written[0]["type"] in TYPES
    predicted = np.array([float(row["concentration_ppm_predicted"]) for row in written])
    truth = columns["concentration_ppm"][whole[8:]]
    assert np.sqrt(np.mean((predicted - truth) ** 2)) < 0.4 * truth.std()


def test_the_starter_has_the_defaults_of_the_estimator() -> None:
    estimator = pytest.importorskip("fastmaml.learn.estimator")
    write_csv(Path("sensors.csv"), calibration_table())
    assert cli.main(["init", "sensors.csv", "--out", "start.toml"]) == 0
    run = config.build(config.read(Path("start.toml")))
    regressor = estimator.MAMLRegressor()
    assert run.objective.model.layer_sizes[1:-1] == tuple(regressor.hidden_layer_sizes)
    assert run.objective.model.activation == regressor.activation
    assert run.objective.steps == regressor.steps
    assert np.shape(run.objective.inner_lr) == (regressor.steps, 3)
    assert set(np.ravel(run.objective.inner_lr)) == {regressor.inner_lr}
    assert run.optimizer == fm.learn.Adam(regressor.learning_rate_init)
    rate = defaults.RATE_FACTOR * regressor.learning_rate_init
    assert run.rate_optimizer == fm.learn.Adam(rate)
    assert run.n_iterations == regressor.max_iter
    assert run.sizes == {"n_tasks": regressor.meta_batch, "n_support": 0.5, "n_query": None}
    assert run.loop == {
        "clip_norm": regressor.clip_norm, "validate_every": defaults.CHECK_EVERY,
        "patience": regressor.n_iter_no_change,
    }  # fmt: skip
    assert run.source.n_validation == round(regressor.validation_fraction * 80)


@pytest.mark.parametrize(
    ("counts", "support"),
    [([12] * 5, [1, 6]), ([12, 12, 12, 7], [1, 6]), ([12, 12, 12, 6], 0.5), ([3, 3, 3], 0.5),
     ([8, 8, 8, 1], [1, 4])],
)  # fmt: skip
def test_the_starter_takes_a_range_where_all_tasks_have_the_rows(
    counts: list[int], support: list[int] | float
) -> None:
    rows = [f"d{i},{t}.5,{i + t * t}" for i, n in enumerate(counts) for t in range(n)]
    Path("few.csv").write_text("\n".join(["device,t,y", *rows]), encoding="utf-8")
    assert cli.main(["init", "few.csv"]) == 0
    assert config.read(Path("few.toml"))["tasks"]["n_support"] == support


def test_init_says_that_rows_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"d{i % 3},{i}.5,{i * i if i else ''}" for i in range(24)]
    Path("gaps.csv").write_text("\n".join(["device,t,y", *rows]), encoding="utf-8")
    assert cli.main(["init", "gaps.csv"]) == 0
    assert "missing   rows that miss a cell are left out" in capsys.readouterr().out


def test_init_overwrites_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("sensors.csv"), calibration_table())
    Path("sensors.toml").write_text("mine", encoding="utf-8")
    assert cli.main(["init", "sensors.csv"]) == 2
    assert said(capsys) == "sensors.toml is there; accepted are new names: --out says another"
    assert Path("sensors.toml").read_text(encoding="utf-8") == "mine"


ROWS = [(f"A{i // 8}", f"{i % 5 + i / 7:.3f}", f"{2 * i:.1f}") for i in range(160)]


@pytest.mark.parametrize(
    ("delimiter", "decimal", "encoding"),
    [(",", ".", "utf-8"), (";", ",", "cp1252"), ("\t", ".", "utf-16"), ("|", ",", "utf-8")],
)
def test_the_format_of_a_file_is_guessed(delimiter: str, decimal: str, encoding: str) -> None:
    head = ['"Gerät, Nummer"', "Länge", "y"]
    lines = [head, *([a, b.replace(".", decimal), c.replace(".", decimal)] for a, b, c in ROWS)]
    text = "\r\n".join(delimiter.join(line) for line in lines)
    Path("t.csv").write_bytes(text.encode(encoding))
    assert guessed_format(Path("t.csv")) == Format(delimiter, decimal, "", encoding)
    assert cli.main(["init", "t.csv"]) == 0
    run = config.build(config.read(Path("t.toml")))
    assert (run.inputs, run.outputs) == (["Länge"], ["y"])
    assert sum(part.n_tasks for part in run.source.parts) == 20


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize(
    ("cells", "decimal", "thousands"),
    [
        (["1,234.5", "1,000,234.25", "3"], ".", ","),
        (["1.234,5", "1.000.234,25", "3"], ",", "."),
        (["0,125", "0,250", "3"], ",", ""),
        (["1234,5", "2,25", "3"], ",", ""),
        (["1234.5", "2.25", "3"], ".", ""),
    ],
)
def test_the_marks_of_numbers_are_guessed_in_quotes_too(
    delimiter: str, cells: list[str], decimal: str, thousands: str
) -> None:
    lines = [f'a{delimiter}"{cell}"' for cell in cells]
    Path("t.csv").write_text("\n".join([f"name{delimiter}number", *lines]), encoding="utf-8")
    assert guessed_format(Path("t.csv")) == Format(delimiter, decimal, thousands, "utf-8")


def test_what_says_nothing_is_not_an_input(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["row,unit,kind,note,constant,a,b"]
    lines += [f"{i},{i % 9 + 100},{'xyz'[i % 3]},n{i},5,{i % 7},{i / 3}" for i in range(90)]
    Path("t.csv").write_text("\n".join(lines), encoding="utf-8")
    assert cli.main(["init", "t.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:6] == [
        "task      unit (9 tasks)",
        "inputs    kind, a",
        "of these categories kind",
        "outputs   b",
        "not used  row, note, constant",
    ]
    text = Path("t.toml").read_text(encoding="utf-8")
    assert '# not used: "row", "note", "constant"\n' in text
    assert "patience" not in text  # nine tasks are too few to set some aside
    config.build(config.read(Path("t.toml")))


def test_parquet_to_begin_with() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"id": [7, 7, 7, 7, 8, 8, 8, 8] * 3, "list": [[1]] * 24}
    columns |= {"a": np.arange(24.0) ** 2, "target": np.arange(24.0) / 7}
    parquet.write_table(pyarrow.table(columns), "t.parquet")
    assert cli.main(["init", "t.parquet"]) == 0
    run = config.build(config.read(Path("t.toml")))
    assert (run.inputs, run.outputs) == (["a"], ["target"])
    Path("bad.parquet").write_bytes(b"PAR1")
    assert cli.main(["init", "bad.parquet"]) == 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a,b\n1,2\n3,4\n", "has no column that says whose a row is, with 3 rows for each"),
        ("who,a\n" + "x,p\ny,q\n" * 9, "has no column of numbers that vary"),
        ("who,a\n" + "x,1.5\ny,2\n" * 9, "has no column beside 'a' to predict it from"),
    ],
)
def test_tables_that_do_not_do_are_one_line(
    text: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.csv").write_text(text, encoding="utf-8")
    assert cli.main(["init", "t.csv"]) == 2
    assert re.search(error, said(capsys))
    assert not Path("t.toml").exists()
