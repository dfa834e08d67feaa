"""The scripts in experiments/ run and agree with themselves; so does the profile of the loop."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fastmaml as fm
from fastmaml.learn import Scaling
from fastmaml.models.initial import SCHEMES

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
CLOSED = ("closed", "closed-linear")
METHODS = ("exact", "first", "exact-1", "meta-sgd", "pretrained", "oracle", *CLOSED)


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
    for name, run in runs.items():
        assert [iteration for iteration, _ in run["curve"]] == [30, 60]
        assert run["iteration"] == min(run["curve"], key=lambda point: point[1])[0]
        assert [error["steps"] for error in run["errors"]] == list(
            range(2 if name in CLOSED else 11)
        )
        assert {error["shots"] for error in run["errors"]} == {5}
    # Who knows the wave needs no steps, and gains from training what no other can.
    before = {name: run["errors"][0]["mean"] for name, run in runs.items()}
    assert before["oracle"] < min(before[name] for name in METHODS if name != "oracle")
    assert runs["exact"]["curve"] != runs["first"]["curve"]
    assert runs["exact"]["rates"] == [0.01, 0.01]
    low, high = runs["meta-sgd"]["rates"]
    assert low < 0.01 < high
    for name in CLOSED:
        prior, solved = (error["mean"] for error in runs[name]["errors"])
        assert solved != prior  # as the rows say; so few iterations make neither good
        assert runs[name]["rates"] == []
        assert f"| 1 | {solved:.3f} |" in printed
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


def test_closed_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.closed_form")
    monkeypatch.setattr(module, "N_TEST_TASKS", 40)
    arguments = ["--out", str(tmp_path), "--iterations", "300", "--seeds", "0"]
    arguments += ["--contenders", "linear", "linear-decay", "maml-range"]
    monkeypatch.setattr(sys, "argv", ["closed_form", *arguments])
    module.main()
    printed = capsys.readouterr().out
    runs = {(run["contender"], run["noise"]): run for run in module.load(tmp_path, 300)}
    assert len(runs) == 6
    for run in runs.values():
        errors = [each["mean"] for each in run["results"] if each["steps"] == 1]
        assert [each["shots"] for each in run["results"] if each["steps"] == 1] == [3, 5, 10, 20]
        assert errors[3] < errors[0]
        assert (run["learned_noise"] is None) == (run["contender"] == "maml-range")
    errors = {key: run["results"][-1]["mean"] for key, run in runs.items()}
    assert errors["linear", 0.1] < 0.5 * errors["maml-range", 0.1]
    assert errors["linear", 0.0] not in (errors["linear", 0.1], errors["linear-decay", 0.0])
    shares = [each["covered"] for each in runs["linear", 0.1]["results"]]
    assert 0.5 < min(shares) <= max(shares) <= 1
    assert f"| {shares[0]:.1%} ({shares[0]:.1%} to {shares[0]:.1%}) |" in printed
    assert printed.count("| MAML, trained with 1 to 15 rows, 10 steps |") == 4
    # Again: nothing is trained, and the tables are the same; other settings are refused.
    monkeypatch.setattr(module, "run", None)
    module.main()
    assert capsys.readouterr().out == printed
    arguments[3] = "70"
    monkeypatch.setattr(sys, "argv", ["closed_form", *arguments])
    with pytest.raises(SystemExit, match="a run with --iterations 300, asked for is 70"):
        module.main()


def test_coverage_counts_new_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that knows the waves' distribution not at all, and says so, covers nearly all."""
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.closed_form")
    monkeypatch.setattr(module, "N_TEST_TASKS", 20)
    contender = module.CONTENDERS["linear"]
    theta = contender.learner.init(0)
    for log_variance, low, high in ((10.0, 1.0, 1.0), (-20.0, 0.0, 0.05)):
        theta[-1] = log_variance
        shares = [each["covered"] for each in module.judge(contender, theta, 0.1)]
        assert low <= min(shares) <= max(shares) <= high


def test_gradient_or_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.gradient_or_closed")
    monkeypatch.setattr(module, "N_TEST_TASKS", 20)
    arguments = ["--out", str(tmp_path), "--iterations", "60", "--seeds", "0"]
    arguments += ["--families", "sensor", "pendulum"]
    monkeypatch.setattr(sys, "argv", ["gradient_or_closed", *arguments])
    module.main()
    printed = capsys.readouterr().out
    errors = {(run["family"], run["method"]): run["errors"] for run in module.load(tmp_path, 60)}
    assert len(errors) == 4
    for found in errors.values():
        assert 0 < found[3] < found[0] < 1  # more rows are better, and all than the mean
    assert len(printed.splitlines()) == 2 + 2 + 2
    rows = sorted(line.split(" | ")[0] for line in printed.splitlines()[2:4])
    assert rows == ["| pendulum", "| sensor"]
    assert not module.load(tmp_path, 61)
    # Again: nothing is trained, and the table is the same.
    monkeypatch.setattr(module, "run", None)
    module.main()
    assert capsys.readouterr().out == printed


def test_defaults_of_the_last_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.last_layer_defaults")
    monkeypatch.setattr(module, "N_GROUPS", 20)
    monkeypatch.setattr(module, "N_TEST_GROUPS", 10)
    monkeypatch.setattr(module, "NAMES", ("sensor", "pendulum"))
    short = {"max_iter": 200, "learning_rate_init": 0.01}
    settings = {"nothing": short, "small": {**short, "hidden_layer_sizes": (4, 2)}}
    monkeypatch.setattr(module, "SETTINGS", settings)
    arguments = ["--out", str(tmp_path), "--seeds", "0", "--families", "sensor", "pendulum"]
    monkeypatch.setattr(sys, "argv", ["last_layer_defaults", *arguments])
    module.main()
    printed = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()[2:]]
    assert [row[0] for row in rows] == ["nothing", "small"]
    assert rows[0][3:5] == ["1.00", "1.00"] != rows[1][3:5]
    assert 0 < max(float(row[1]) for row in rows) < 1  # better than the mean of the targets
    monkeypatch.setattr(module, "run", None)  # again: nothing is trained
    module.main()
    assert capsys.readouterr().out == printed


def test_times_of_gradient_and_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.gradient_or_closed")
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "CALLS", 2)
    rows = [line.strip("| ").split("|") for line in module.times().splitlines()[2:]]
    assert len(rows) == 5
    for row in rows:
        numbers = [float(cell) for cell in row[1:] if cell.strip()]
        assert len(numbers) == (2 if row[0].startswith("MAML") else 3)
        assert min(numbers) > 0


def test_a_task_that_diverges_counts_as_the_mean_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.gradient_or_closed")
    monkeypatch.setattr(module, "N_TEST_TASKS", 20)
    family = module.TASKS["sensor"](part="test")
    learner = fm.MAML(fm.MLP([1, 4, 1]), inner_lr=1e6, loss="mse")
    theta = learner.model.init(0)
    tasks = family.sample(20, 20, 50, 2017)
    scaling = Scaling.fit(tasks.x, tasks.y)
    bound = float((scaling.scale_y(tasks.y_query) ** 2).mean())
    assert module.test_errors(learner, theta, family, scaling) == pytest.approx([bound] * 4)


def test_initial_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.initial_weights")
    monkeypatch.setattr(module, "CODES", ("relu", "tanh"))
    monkeypatch.setattr(module, "DEPTHS", (1, 2))
    monkeypatch.setattr(module, "N_TEST_TASKS", 5)
    arguments = ["--out", str(tmp_path), "--iterations", "3", "--parts", "1"]
    monkeypatch.setattr(sys, "argv", ["initial_weights", *arguments])
    module.main()
    printed = capsys.readouterr().out
    # Two settings, two numbers of steps, two activations, two depths.
    cells = module.load(tmp_path, 3)
    assert len(cells) == len({cell[:-1] for cell in cells}) == 16
    for cell in cells:
        assert list(cell.errors) == list(SCHEMES)
        assert 0.0 < min(cell.errors.values()) < max(cell.errors.values())
    assert not module.load(tmp_path, 4)
    assert printed.startswith("16 cells\n")
    assert printed.count("| setting ") == 4
    # Again: nothing is trained, and the tables are the same.
    monkeypatch.setattr(module, "run", None)
    module.main()
    assert capsys.readouterr().out == printed
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--protocol", "--seeds", "0"])
    module.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == list(SCHEMES)
    assert len({row[3] for row in rows}) == len(SCHEMES)  # the errors with relu


def test_ratios_of_initial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("experiments.initial_weights")
    errors = dict.fromkeys(SCHEMES, 0.4) | {"he_normal": 0.8, "pytorch": 0.1}
    cells = [
        module.Cell("careful", "sensor", 1, activation, 1, 0, errors)
        for activation in ("relu", "tanh")
    ]
    ratios = module.ratios(cells)
    assert ratios["fan_in_uniform"].tolist() == [4.0, 4.0]
    assert ratios["pytorch"].tolist() == [1.0, 1.0]
    assert ratios[module.BEFORE].tolist() == [8.0, 4.0]
    assert module.table(cells).splitlines()[2] == "| pytorch | 1.00 | 0.00 | 0 % | 0 % | 0 % | 1 |"
    assert (
        module.parts(cells).splitlines()[2].startswith("| setting careful, steps 1 | 4.00 | 1.00 |")
    )


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
