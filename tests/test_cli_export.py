"""``fastmaml export``: from the folder of a run, or a saved file, to C and to ONNX."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import STRICT, compiler, run

import fastmaml as fm
from fastmaml import cli

TABLE = """
[model]
layer_sizes = [3, 4, 1]

{learner}

[tasks]
file = "rows.csv"
task = "device"
inputs = ["t", "kind"]
categorical = ["kind"]
outputs = ["v"]
n_support = 4
n_test = 2

[train]
iterations = 3
"""
MAML = "[maml]\ninner_lr = 0.01\nsteps = 2"
HEAD = "[bayesian_last_layer]"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_rows(name: str, devices: int, rows: int = 8) -> None:
    rng = np.random.default_rng(0)
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["device", "t", "kind", "v"])
        for device in range(devices):
            for row in range(rows):
                t = rng.normal()
                table.writerow([f"d{device}", t, "AB"[row % 2], 100 + 20 * t])


def trained(learner: str) -> None:
    write_rows("rows.csv", 12)
    Path("run.toml").write_text(TABLE.format(learner=learner), encoding="utf-8")
    assert cli.main(["train", "--config", "run.toml"]) == 0


def said(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("fastmaml: error: ")
    return line.removeprefix("fastmaml: error: ")


def test_a_run_as_c(capsys: pytest.CaptureFixture[str]) -> None:
    trained(MAML)
    capsys.readouterr()
    assert cli.main(["export", "run", "servo.c", "--dtype", "float32"]) == 0
    assert capsys.readouterr().out.split() == ["wrote", "servo.c", "wrote", "servo.h"]
    header = Path("servo.h").read_text(encoding="ascii")
    assert "x, in its own units (scaled inside): t, kind=A, kind=B" in header
    assert "void servo_predict(servo_state *s, const float *x, float *f);" in header
    # the file that the run left is the same model
    assert cli.main(["export", "run/model.npz", "m.c", "--prefix", "servo"]) == 0
    assert cli.main(["export", "run", "n.c", "--prefix", "servo"]) == 0
    source, other = (Path(name).read_text(encoding="ascii") for name in ("m.c", "n.c"))
    assert source.replace("m.h", "n.h") == other
    assert "static const double servo_theta[21]" in source
    assert cli.main(["export", "run", "last.c", "--last"]) == 0
    run([compiler(), *STRICT, "-c", "servo.c", "m.c", "last.c"])


@pytest.mark.parametrize("learner", [MAML, HEAD])
def test_a_run_as_onnx(learner: str) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    trained(learner)
    write_rows("one.csv", 1, rows=5)
    assert cli.main(["export", "run", "m.onnx", "--support", "one.csv"]) == 0
    session = runtime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    saved = fm.load("run/model.npz")
    with Path("one.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    x = [[float(row["t"]), row["kind"] == "A", row["kind"] == "B"] for row in rows]
    x, y = np.array(x), np.array([float(row["v"]) for row in rows])
    found = session.run(None, {"x": x.astype(np.float32)})[0][:, 0]
    np.testing.assert_allclose(found, saved.predict(x, y, x), 1e-5)


def test_a_saved_file_without_names_as_onnx() -> None:
    pytest.importorskip("onnx")
    model = fm.MLP([2, 3, 1])
    fm.save("m.npz", fm.learn.Reptile(fm.MAML(model)), model.init(0))
    Path("rows.csv").write_text("x1;x2;y\n1,5;2;3\n4;5;6\n", encoding="utf-8")
    arguments = ["export", "m.npz", "m.onnx", "--support", "rows.csv"]
    assert cli.main([*arguments, "--delimiter", ";", "--decimal", ","]) == 0
    assert Path("m.onnx").exists()


def test_what_is_not_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    model = fm.MLP([2, 3, 1])
    fm.save("m.npz", fm.MAML(model), model.init(0))
    cases = {
        "m.npz m.cc": "m.cc is to be written; accepted are FILE.c and FILE.onnx",
        "m.npz m.c --support rows.csv": "--support is rows.csv; accepted is none, as m.c adapts",
        "m.npz m.onnx": "m.onnx needs --support, the rows that it is adapted to before it",
        "m.npz m.onnx --support r.csv --prefix a": "--prefix is a; accepted is none for m.onnx",
        "m.npz m.c --last": "--last is given; accepted is none, as m.npz holds one model",
        "m.npz m.c --prefix 1": "prefix is '1'; accepted are a letter and",
        "gone.npz m.c": "[Errno 2] No such file or directory: 'gone.npz'",
        ". m.c": "[Errno 2] No such file or directory: 'checkpoint.npz'",
    }
    for arguments, message in cases.items():
        assert cli.main(["export", *arguments.split()]) == 2
        assert said(capsys).startswith(message)
    assert [path.name for path in Path().iterdir()] == ["m.npz"]


def test_rows_of_several_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    trained(MAML)
    assert cli.main(["export", "run", "m.onnx", "--support", "rows.csv"]) == 2
    assert said(capsys) == "rows.csv has the rows of 12 tasks; accepted are those of 1"
    write_rows("one.csv", 1)
    options = ["--support", "one.csv", "--task", "person"]
    assert cli.main(["export", "run", "m.onnx", *options]) == 2
    assert "one.csv has no column 'person'" in said(capsys)
    assert not Path("m.onnx").exists()


def test_without_onnx_the_error_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fm.MLP([1, 3, 1])
    fm.save("m.npz", fm.MAML(model), model.init(0))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", "m.npz", "m.onnx", "--support", "rows.csv"]) == 2
    assert said(capsys) == (
        'fastmaml export needs onnx, which comes with pip install "fastmaml[onnx]"'
    )
