"""The command line as a person meets it: what it writes, prints and answers, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastmaml as fm
from fastmaml import cli, experiments
from fastmaml.cli import sinusoid
from fastmaml.experiments import SinusoidExperiment

SMALL = ["sinusoid", "--iterations", "6", "--meta-batch", "3", "--shots", "4", "--seed", "1"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def few_test_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "N_TEST_TASKS", 20)


def exit_code(arguments: list[str]) -> int | str | None:
    """Of main, whether it returns or, as argparse does, exits."""
    try:
        return cli.main(arguments)
    except SystemExit as error:
        return error.code


# ---- sinusoid


@pytest.mark.usefixtures("few_test_tasks")
def test_sinusoid_writes_its_files_and_prints_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*SMALL, "--out", "new/folder"]) == 0
    out = tmp_path / "new" / "folder"
    names = ["adaptation.png", "theta.npz", "training.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        if name.endswith(".png"):
            assert (out / name).read_bytes().startswith(PNG)
            assert (out / name).stat().st_size > 10_000

    with np.load(out / "theta.npz", allow_pickle=False) as file:
        assert sorted(file) == ["configuration", "theta", "values"]
        theta, values = file["theta"], file["values"]
        configuration = json.loads(str(file["configuration"]))
    assert theta.shape == (fm.MLP([1, 40, 40, 1]).n_params,)
    assert theta.dtype == np.float64
    assert values.shape == (6,)
    assert configuration == {
        "layer_sizes": [1, 40, 40, 1],
        "activation": "relu",
        "loss": "mse",
        "iterations": 6,
        "iterations_done": 6,
        "seed": 1,
        "order": "exact",
        "shots": 4,
        "meta_batch": 3,
        "inner_lr": 0.01,
        "inner_steps": 1,
        "outer_lr": 0.001,
    }

    printed, progress = capsys.readouterr()
    for name in names:
        assert f"wrote {Path('new') / 'folder' / name}" in printed
    rows = re.findall(r"^ *(\d+) +(\d+) +\S+ ± \S+ +\S+ +(\d+)$", printed, re.MULTILINE)
    cells = [(shots, steps) for shots in ("5", "10", "20") for steps in ("0", "1", "5", "10")]
    assert [row[:2] for row in rows] == cells
    assert "20 held-out tasks" in printed
    assert "6/6" in progress
    assert "loss" in progress


@pytest.mark.usefixtures("few_test_tasks")
def test_a_seed_gives_the_same_bits_and_options_matter(tmp_path: Path) -> None:
    runs = {
        "a": [],
        "b": [],
        "seed": ["--seed", "2"],
        "order": ["--order", "first"],
        "steps": ["--inner-steps", "2"],
        "inner": ["--inner-lr", "0.02"],
        "outer": ["--outer-lr", "0.002"],
    }
    thetas = {}
    for name, options in runs.items():
        assert cli.main([*SMALL, *options, "--out", name]) == 0
        with np.load(tmp_path / name / "theta.npz") as file:
            thetas[name] = file["theta"].tobytes()
    assert thetas.pop("b") == thetas["a"]
    assert len(set(thetas.values())) == len(thetas)


def test_the_defaults_are_those_of_the_paper() -> None:
    arguments = vars(cli._parser().parse_args(["sinusoid"]))
    assert arguments.pop("run") is sinusoid.sinusoid
    assert arguments == {
        "command": "sinusoid",
        "iterations": 15_000,
        "seed": 0,
        "order": "exact",
        "shots": 10,
        "meta_batch": 25,
        "inner_lr": 0.01,
        "inner_steps": 1,
        "outer_lr": 0.001,
        "out": Path("sinusoid-out"),
    }
    maml = SinusoidExperiment().maml(1)
    assert maml.model == fm.MLP([1, 40, 40, 1], "relu")
    assert (maml.loss, maml.task_mean, maml.steps, maml.order) == ("mse", True, 1, "exact")


def test_diverged_tasks_are_counted() -> None:
    errors = experiments._errors(
        np.sqrt([1.0, 2.0, np.nan, np.inf, 500.0, 3.0]).reshape(6, 1, 1), np.zeros((6, 1, 1))
    )
    summary = experiments._summary(5, 10, errors, bound=100.0)
    assert summary.n_diverged == 3
    assert summary.median == pytest.approx(251.5)
    assert summary.mean == np.inf
    last = experiments.error_table([summary], "heading").splitlines()[-1]
    assert last.split() == ["5", "10", "inf", "±", "nan", "251.500", "3"]


def test_huge_errors_do_not_widen_the_table() -> None:
    summary = experiments.ErrorSummary(5, 10, 3.3e293, 6.5e293, 0.159, 1)
    last = experiments.error_table([summary], "heading").splitlines()[-1]
    assert last.split() == ["5", "10", "3.3e+293", "±", "6.5e+293", "0.159", "1"]


def test_the_interval_is_of_the_mean() -> None:
    errors = np.random.default_rng(0).exponential(2.0, 600)
    summary = experiments._summary(10, 1, errors, bound=1e9)
    assert summary.mean == errors.mean()
    assert summary.half_width == pytest.approx(1.96 * errors.std(ddof=1) / np.sqrt(600))
    assert summary.median == np.median(errors)
    assert summary.n_diverged == 0


@pytest.mark.usefixtures("few_test_tasks")
def test_the_table_shows_what_diverged(capsys: pytest.CaptureFixture[str]) -> None:
    """A rate of 10 throws every task off at the first step; the report still comes."""
    assert cli.main([*SMALL, "--inner-steps", "0", "--inner-lr", "10"]) == 0
    printed = capsys.readouterr().out
    diverged = {
        (shots, steps): int(n)
        for shots, steps, n in re.findall(r"^ *(\d+) +(\d+) .* (\d+)$", printed, re.MULTILINE)
    }
    assert diverged["10", "0"] == 0
    assert diverged["10", "10"] == 20
    assert Path("sinusoid-out/adaptation.png").exists()


# ---- Ctrl-C


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_saves_what_there_is(tmp_path: Path) -> None:
    # A shell may have told its background jobs to ignore SIGINT: the child must not inherit that.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fastmaml.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["sinusoid", "--iterations", "10000000", "--out", str(tmp_path)]
    with (tmp_path / "stderr.txt").open("wb+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "TQDM_MININTERVAL": "0.1"},
        )
        try:
            deadline = time.monotonic() + 300
            while b"meta-training" not in (tmp_path / "stderr.txt").read_bytes():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    said = (tmp_path / "stderr.txt").read_text(encoding="utf-8")
    assert process.returncode == 130, said
    assert "Traceback" not in said
    with np.load(tmp_path / "theta.npz", allow_pickle=False) as file:
        n = len(file["values"])
        assert json.loads(str(file["configuration"]))["iterations_done"] == n
        assert np.isfinite(file["theta"]).all()
    assert 0 < n < 10_000_000
    assert f"fastmaml: saved what {n} of 10000000 iterations have reached" in said
    assert said.endswith("fastmaml: interrupted\n")
    assert (tmp_path / "training.png").read_bytes().startswith(PNG)
    assert printed.decode().count("wrote ") == 2


def test_what_ctrl_c_saves_has_as_many_values_as_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(experiment: SinusoidExperiment, callback: object) -> None:
        theta = np.zeros(experiments.MODEL.n_params)
        callback(experiments.TrainState(1, 2.0, theta, None))  # type: ignore[operator]
        (reached,) = created
        reached._values.append(3.0)  # Ctrl-C came between the two assignments
        raise KeyboardInterrupt

    created = []

    class Reached(sinusoid._Reached):
        def __init__(self) -> None:
            super().__init__()
            created.append(self)

    monkeypatch.setattr(sinusoid, "_Reached", Reached)

    monkeypatch.setattr(experiments, "meta_train", interrupted)
    assert cli.main(["sinusoid"]) == 130
    with np.load("sinusoid-out/theta.npz") as file:
        np.testing.assert_array_equal(file["values"], [2.0])


def test_ctrl_c_before_the_first_iteration_has_nothing_to_save(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "meta_train", interrupted)
    assert cli.main(["sinusoid"]) == 130
    assert capsys.readouterr().err.endswith("fastmaml: interrupted\n")
    assert not Path("sinusoid-out").exists()


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "command"),
        (["cosine"], "cosine"),
        (["info", "--color"], "--color"),
        (["sinusoid", "--iterations", "0"], "'0' is not a whole number from 1 up"),
        (["sinusoid", "--iterations", "many"], "'many' is not a whole number from 1 up"),
        (["sinusoid", "--seed", "-1"], "'-1' is not a whole number from 0 up"),
        (["sinusoid", "--order", "second"], "second"),
        (["sinusoid", "--inner-lr", "0"], "'0' is not a positive number"),
        (["sinusoid", "--outer-lr", "nan"], "'nan' is not a positive number"),
        (["sinusoid", "--outer-lr", "slow"], "'slow' is not a positive number"),
        (["sinusoid", "--iter", "3"], "--iter"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(arguments) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.startswith("fastmaml: error: ")
    assert said.count("\n") == 1
    assert text in said


def test_a_file_in_the_way_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("not a folder", encoding="utf-8")
    assert cli.main([*SMALL, "--out", "taken"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fastmaml: error: ")
    assert said.count("\n") == 1
    assert "taken" in said


def test_training_that_blows_up_saves_what_it_had(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--iterations", "50", "--outer-lr", "1e38"]
    assert cli.main([*SMALL, *options]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("fastmaml: error: ")
    assert "not finite" in said[-1] or "nan" in said[-1] or "inf" in said[-1]
    assert re.fullmatch(r"fastmaml: saved what \d+ of 50 iterations have reached", said[-2])
    assert sorted(os.listdir("sinusoid-out")) == ["theta.npz", "training.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="of POSIX")
def test_a_signal_that_ends_the_process_saves_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(_: SinusoidExperiment, callback: object) -> None:
        theta = np.zeros(experiments.MODEL.n_params)
        callback(experiments.TrainState(1, 2.0, theta, None))  # type: ignore[operator]
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(experiments, "meta_train", ended)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert cli.main(["sinusoid"]) == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "fastmaml: saved what 1 of 15000 iterations have reached",
        "fastmaml: ended by SIGTERM",
    ]
    with np.load("sinusoid-out/theta.npz") as file:
        np.testing.assert_array_equal(file["values"], [2.0])
    assert Path("sinusoid-out/training.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("missing", ["tqdm", "matplotlib"])
def test_a_missing_extra_is_named_before_the_training(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == missing or name == "fastmaml.plots":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("fastmaml.plots", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Hide(missing), *sys.meta_path])
    assert cli.main(SMALL) == 2
    assert capsys.readouterr().err == (
        f'fastmaml: error: sinusoid needs {missing}, which comes with pip install "fastmaml[cli]"\n'
    )
    assert not Path("sinusoid-out").exists()


class _Hide:
    """A finder that knows of one package only that it is not there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.name)


# ---- info, help, and the ways in


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    names = [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert names == [
        *("fastmaml", "numpy", "numba", "llvmlite", "python", "platform"),
        *("threading layer", "threads", "cache folder"),
    ]


@pytest.mark.parametrize(("command", "word"), [([], "sinusoid"), (["sinusoid"], "--meta-batch")])
def test_help(command: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([*command, "--help"]) == 0
    assert word in capsys.readouterr().out


def test_python_m_fastmaml() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastmaml", "sinusoid", "--seed", "x"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fastmaml: error: argument --seed: 'x' is not")
