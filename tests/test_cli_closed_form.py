"""[bayesian_last_layer] in a configuration: init, train, resume, evaluate, adapt."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

import fastmaml as fm
from fastmaml import cli
from fastmaml.cli import config
from fastmaml.learn import BayesianLastLayerRegressor, load_checkpoint

TABLE = """
[model]
layer_sizes = [2, 8, 4, 2]
activation = ["tanh", "identity"]

[bayesian_last_layer]
loss = "mean_nll"
noise = "per_output"
task_mean = true

[tasks]
file = "rows.csv"
task = "device"
inputs = ["t", "u"]
outputs = ["v", "w"]
n_tasks = 8
n_support = 4
n_validation = 4
n_test = 20

[optimizer]
learning_rate = 0.01

[train]
iterations = 800
seed = 3
clip_norm = 10.0
validate_every = 50
checkpoint_every = 50
"""
NOISE = 1.5  # of v and w, in their units


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.toml").write_text(TABLE, encoding="utf-8")
    rng = np.random.default_rng(0)
    with Path("rows.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["device", "t", "u", "v", "w"])
        for device in range(60):
            slope = rng.normal(2.0, 0.5)
            for t, u in rng.normal(size=(10, 2)).tolist():
                v, w = rng.normal([100 + 20 * slope * t, 5 - 20 * slope * u], NOISE)
                rows.writerow([f"d{device}", t, u, v, w])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("fastmaml: error: ")
    return line.removeprefix("fastmaml: error: ")


def configured(*changes: tuple[str, str], name: str = "table") -> str:
    """Write a configuration with some texts replaced, and return its path."""
    text = TABLE
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    Path(f"{name}.toml").write_text(text, encoding="utf-8")
    return f"{name}.toml"


def state_bits(folder: str) -> tuple[int, bytes]:
    state = load_checkpoint(Path(folder, "checkpoint.npz")).state
    assert state.inner_lr is None
    return state.iteration, state.theta.tobytes()


def test_from_a_table_to_predictions_with_standard_deviations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["train", "--config", "table.toml"]) == 0
    assert type(load_checkpoint("table/checkpoint.npz").maml) is fm.BayesianLastLayer
    capsys.readouterr()

    assert cli.main(["evaluate", "table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Error on 20 held-out tasks, 4 rows to adapt to, 6 to judge by, float64"
    for at, output in ((2, "v"), (7, "w")):
        assert lines[at] == output
        assert lines[at + 1].split("  ")[0] == "adapted"
        assert lines[at + 1].endswith("R²  in 95 % interval")
        before, after = (line.split() for line in lines[at + 2 : at + 4])
        assert (before[0], after[0]) == ("no", "yes")
        assert float(after[-3]) < float(before[-3])  # root of the mean squared error, in units
        assert float(after[-3]) < 4.0
        assert 0.85 < float(after[-1]) <= 1.0

    support = "device,t,u,v,w\na,0,0,100,5\nb,1,1,140,-35\na,2,1,180,-30\n"
    Path("s.csv").write_text(support, encoding="utf-8")
    Path("n.csv").write_text("device,t,u\nb,1,1\na,2,2\nb,0,3\n", encoding="utf-8")
    assert cli.main(["adapt", "table", "s.csv", "n.csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["device", "t", "u", "v_predicted", "w_predicted", "v_std", "w_std"]
    assert [row[0] for row in rows[1:]] == ["b", "a", "b"]
    x = [[[0.0, 0], [2, 1]], [[1, 1.0]]]
    y = [[[100.0, 5], [180, -30]], [[140, -35.0]]]
    x_new = [[[2.0, 2]], [[1, 1], [0, 3.0]]]
    mean, std = fm.load("table/model.npz").predict(x, y, x_new, return_std=True)
    expected = [(1, 0), (0, 0), (1, 1)]
    for row, (task, i) in zip(rows[1:], expected, strict=True):
        assert list(map(float, row[3:])) == [*mean[task][i], *std[task][i]]
    assert min(map(float, rows[1][5:])) > 0.5 * NOISE

    parquet = pytest.importorskip("pyarrow.parquet")
    assert cli.main(["adapt", "table", "s.csv", "n.csv", "--out", "p.parquet"]) == 0
    written = parquet.read_table("p.parquet").to_pydict()
    assert list(written) == rows[0]
    assert written["v_std"] == [float(row[5]) for row in rows[1:]]


@pytest.mark.parametrize("source", ["table", "family"])
def test_resume_reaches_the_bits_of_one_run(source: str) -> None:
    changes = [
        ("iterations = 800", "iterations = 9"),
        ("validate_every = 50", "validate_every = 2"),
    ]
    if source == "family":
        start = TABLE.index('file = "rows.csv"'), TABLE.index("n_tasks = 8")
        changes += [
            (TABLE[slice(*start)], 'family = "sinusoid"\n'), ("[2, 8, 4, 2]", "[1, 8, 4, 1]"),
        ]  # fmt: skip
    changes.append(("seed = 3", 'dtype = "float32"'))
    longer = [*changes[1:], ("iterations = 800", "iterations = 13")]
    assert cli.main(["train", "--config", configured(*longer, name="longer")]) == 0
    assert cli.main(["train", "--config", configured(*changes)]) == 0
    assert cli.main(["resume", "table", "--iterations", "13"]) == 0
    assert state_bits("table") == state_bits("longer")
    assert cli.main(["evaluate", "table"]) == 0


def test_the_command_is_the_loop() -> None:
    """The same, written with the library."""
    start = TABLE.index('file = "rows.csv"'), TABLE.index("n_tasks = 8")
    family = (TABLE[slice(*start)], 'family = "sinusoid"\nn_query = 5\n')
    path = configured(family, ("[2, 8, 4, 2]", "[1, 8, 4, 1]"), ("= 800", "= 7"))
    assert cli.main(["train", "--config", path]) == 0
    rng = np.random.default_rng(3)
    model = fm.MLP([1, 8, 4, 1], ["tanh", "identity"])
    head = fm.BayesianLastLayer(model, "mean_nll", noise="per_output", task_mean=True)
    tasks = fm.datasets.Sinusoid(part="train")
    result = fm.learn.train(
        head, head.init(rng), lambda: tasks.sample(8, 4, 5, rng), fm.learn.Adam(0.01), 7,
        clip_norm=10.0,
    )  # fmt: skip
    assert state_bits("table") == (7, result.theta.tobytes())


def test_a_squared_error_writes_no_standard_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(('"mean_nll"', '"mse"'), ("= 800", "= 3"))
    assert cli.main(["train", "--config", path]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", "table", "--last"]) == 0
    assert "interval" not in capsys.readouterr().out
    Path("s.csv").write_text("t,u,v,w\n0,0,100,5\n", encoding="utf-8")
    assert cli.main(["adapt", "table", "s.csv", "s.csv", "--last"]) == 0
    assert capsys.readouterr().out.startswith("t,u,v_predicted,w_predicted\n0.0,0.0,")


def test_units_that_are_not_scaled(capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(("n_tasks = 8", "n_tasks = 8\nscale = false"), ("= 800", "= 3"))
    assert cli.main(["train", "--config", path]) == 0
    Path("s.csv").write_text("t,u,v,w\n0,0,100,5\n", encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["adapt", "table", "s.csv", "s.csv", "--last"]) == 0
    row = [float(cell) for cell in capsys.readouterr().out.splitlines()[1].split(",")]
    state = load_checkpoint("table/checkpoint.npz")
    x, y = np.zeros((1, 2)), np.array([[100.0, 5.0]])
    mean, std = state.maml.predict(state.state.theta, x, y, x, return_std=True)
    assert row[2:] == [*mean[0], *std[0]]


def test_init_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    """With the settings of the estimator."""
    assert cli.main(["init", "--closed-form", "rows.csv"]) == 0
    text = Path("rows.toml").read_text(encoding="utf-8")
    configuration = config.read(Path("rows.toml"))
    assert not {"maml", "rate_optimizer"} & set(configuration)
    estimator, head = BayesianLastLayerRegressor(), config.learner(configuration).objective
    assert repr(head) == repr(estimator._head(head.model))
    assert head.model.layer_sizes[1:-1] == estimator.hidden_layer_sizes
    assert head.model.activation == ("tanh", "tanh", "identity")
    assert configuration["optimizer"]["learning_rate"] == estimator.learning_rate_init
    text = re.sub(r"(?m)^iterations = \d+", "iterations = 2", text)
    Path("rows.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "rows.toml"]) == 0
    assert "adapts the last layer in closed form\n" in capsys.readouterr().out
    assert cli.main(["evaluate", "rows", "--last"]) == 0
    assert "in 95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        *(
            ("task_mean = true", f"{key} = 1", f"[bayesian_last_layer] has '{key}'; accepted are m")
            for key in ("inner_lr", "steps", "method", "order", "step_weights", "proximal")
        ),
        ('"mean_nll"', '"mae"', "[bayesian_last_layer] loss is 'mae'; accepted are 'nll', 'mean_"),
        ("task_mean = true", "prior = 1", "[bayesian_last_layer] prior is 1; accepted are"),
        ('"per_output"', '"none"', "[bayesian_last_layer] noise is 'none'; accepted are 'shared'"),
        ("task_mean = true", "task_mean = 1", "[bayesian_last_layer] task_mean is 1"),
        (
            "[optimizer]",
            "[maml]\n[optimizer]",
            "the configuration has [maml] beside [bayesian_last_layer]; accepted is one without",
        ),
        (
            "[optimizer]",
            '[rate_optimizer]\nname = "Adam"\n[optimizer]',
            "the configuration has [rate_optimizer] beside [bayesian_last_layer]; accepted is",
        ),
        ("[bayesian_last_layer]", "[bayesian_layer]", "did you mean 'bayesian_last_layer'?"),
        (
            '["t", "u"]',
            '["t", "v_std"]',
            "[tasks] task and inputs have 'v_std', which fastmaml adapt writes for the output 'v'",
        ),
        ('"device"', '"w_predicted"', "task and inputs have 'w_predicted', which fastmaml adapt"),
    ],
)
def test_wrong_configurations_are_one_line(
    old: str, new: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--config", configured((old, new))]) == 2
    assert error in said(capsys)
    assert not Path("table").exists()


def test_options_of_a_maml_are_refused_with_a_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", configured(("= 800", "= 2"))]) == 0
    Path("s.csv").write_text("t,u,v,w\n0,0,100,5\n", encoding="utf-8")
    for command in (["evaluate", "table"], ["adapt", "table", "s.csv", "s.csv"]):
        assert cli.main([*command, "--steps", "3"]) == 2
        line = "--steps is 3; accepted is none, as [bayesian_last_layer] adapts in closed form"
        assert said(capsys) == line


def test_a_task_that_overflows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(
        ("n_tasks = 8", "n_tasks = 8\nscale = false"), ("= 800", "= 2"),
        ('activation = ["tanh", "identity"]', 'activation = "identity"'),
    )  # fmt: skip
    assert cli.main(["train", "--config", path]) == 0
    lines = ["device,t,u,v,w", *(f"new,{t},1e300,1,1" for t in range(6)), "b,1,1,1,1", "b,2,1,1,1"]
    Path("other.csv").write_text("\n".join([*lines, *lines[-2:] * 3]), encoding="utf-8")
    assert cli.main(["evaluate", "table", "--data", "other.csv", "--last"]) == 2
    printed, errors = capsys.readouterr()
    assert "inf" in printed
    assert "task 'new'" in errors.splitlines()[-1]


def untrained() -> tuple[fm.Saved, np.ndarray, np.ndarray]:
    """A run of a moment; its model, and rows x and y of no task."""
    assert cli.main(["train", "--config", configured(("= 800", "= 3"))]) == 0
    return fm.load("table/model.npz"), np.empty((0, 2)), np.empty((0, 2))


def numbers_of(capsys: pytest.CaptureFixture[str], first: int) -> list[list[float]]:
    """The rows that were printed, from a column on."""
    lines = capsys.readouterr().out.splitlines()[1:]
    return [[float(cell) for cell in line.split(",")[first:]] for line in lines]


def test_the_prior_predicts_what_has_no_support_rows(capsys: pytest.CaptureFixture[str]) -> None:
    saved, *none = untrained()
    Path("n.csv").write_text("device,t,u\nb,1,1\na,2,2\nc,0,3\n", encoding="utf-8")
    Path("s.csv").write_text("device,t,u,v,w\na,0,0,100,5\n", encoding="utf-8")
    Path("none.csv").write_text("device,t,u,v,w\n", encoding="utf-8")
    x_new = np.array([[1.0, 1], [2, 2], [0, 3]])
    mean, std = saved.predict(*none, x_new, return_std=True)
    prior = np.hstack([mean, std]).tolist()
    capsys.readouterr()
    for support, which, some in (("s.csv", (0, 2), "2 of 3"), ("none.csv", (0, 1, 2), "3 of 3")):
        assert cli.main(["adapt", "table", support, "n.csv", "--last"]) == 0
        printed = capsys.readouterr()
        assert f"warning: of n.csv, {some} tasks have no rows in {support}" in printed.err
        assert "and the prior predicts them: 'a', 'b'" in printed.err or support == "s.csv"
        rows = [line.split(",") for line in printed.out.splitlines()[1:]]
        assert [row[0] for row in rows] == ["b", "a", "c"]
        for i in which:
            np.testing.assert_allclose([float(cell) for cell in rows[i][3:]], prior[i], rtol=1e-12)
        assert ([float(cell) for cell in rows[1][3:]] == prior[1]) == (support == "none.csv")
    own = saved.predict([[0.0, 0]], [[100.0, 5]], x_new[1:2], return_std=True)
    assert cli.main(["adapt", "table", "s.csv", "n.csv", "--last"]) == 0
    np.testing.assert_allclose(numbers_of(capsys, 3)[1], np.hstack(own)[0], rtol=1e-12)


def test_a_support_without_rows_or_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    saved, *none = untrained()
    Path("s.csv").write_text("t,u,v,w\n", encoding="utf-8")
    Path("n.csv").write_text("t,u\n1,1\n2,2\n", encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["adapt", "table", "s.csv", "n.csv", "--last"]) == 0
    found = saved.predict(*none, [[1.0, 1], [2, 2]], return_std=True)
    np.testing.assert_allclose(numbers_of(capsys, 2), np.hstack(found), rtol=1e-12)
    Path("s.csv").write_text("device,t,u,v,w\n", encoding="utf-8")
    assert cli.main(["adapt", "table", "s.csv", "n.csv", "--last"]) == 2
    assert said(capsys) == (
        "s.csv has no rows, so it names no task; accepted are rows, and both files with or without "
        "a column of the task"
    )
