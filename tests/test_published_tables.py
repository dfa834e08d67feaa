"""The protocols of two published tables: their tasks, and that every method runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("experiments.published_tables")


def test_surfaces_are_those_of_the_paper(published: Any) -> None:
    kind, p = np.arange(6), np.full((6, 4), 0.75)
    u, v = np.full((6, 1), 2.0), np.full((6, 1), 3.0)
    expected = [
        (0.1 + 0.75 * 4.9) * np.sin(1.1 * 2 + 1.5 * np.pi),
        1.5 * 2 + 1.5,
        0.1 * 4 + 1.0 * 2 + 1.5,
        0.05 * 8 + 0.1 * 4 + 1.0 * 2 + 1.5,
        0.5 * 4 + 0.5 * 9,
        np.sin(-0.1 * 13) + 1.5,
    ]
    assert published.surface(kind, p, u, v)[:, 0] == pytest.approx(expected)
    x, y, x_query, y_query = published.surfaces(0.0, 5.0)(600, 10, 7, np.random.default_rng(0))
    assert (x.shape, y.shape) == ((600, 10, 2), (600, 10, 1))
    assert (x_query.shape, y_query.shape) == ((600, 7, 2), (600, 7, 1))
    flat = (x[..., 1] == 1.0).all(axis=1)
    assert flat.mean() == pytest.approx(4 / 6, abs=0.06)
    assert (x_query[flat, :, 1] == 1.0).all()
    assert 0 <= x[~flat].min() < 0.1 < 4.9 < x[~flat].max() <= 5


def test_waves_on_a_grid(published: Any) -> None:
    x, y, grid, of_grid = published.waves_on_a_grid(3, 5, 11, np.random.default_rng(0))
    assert np.array_equal(grid[2, :, 0], np.linspace(-5, 5, 11))
    amplitude, phase, frequency = published.WAVES.sample_functions(3, np.random.default_rng(0))
    a, b, w = (each[:, None, None] for each in (amplitude, -phase, frequency))
    assert (b >= 0).all()
    assert y == pytest.approx(a * np.sin(w * x + b))
    assert of_grid == pytest.approx(a * np.sin(w * grid + b))


@pytest.mark.parametrize("name", ["waves", "surfaces, 0 to 5"])
def test_published_tables(
    name: str,
    published: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(published, "N_TEST", 20)
    monkeypatch.setattr(published, "N_VALIDATION", 20)
    arguments = ["--out", str(tmp_path), "--protocols", name, "--seeds", "0", "--iterations", "60"]
    monkeypatch.setattr(sys, "argv", ["published_tables", *arguments])
    published.main()
    printed = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()[2:-1]]
    known = [row[0] for row in rows if row[0].endswith(", published")]
    assert [row[0] for row in rows] == known + published.METHODS
    assert len(known) == len(published.PROTOCOLS[name].published)
    for row in rows[len(known) :]:
        assert len(row) == 2 + len(published.PROTOCOLS[name].test_shots)
        mean, _, median = row[1].partition(", median ")
        assert float(mean.split()[0]) > 0
        assert float(median) > 0
    monkeypatch.setattr(published, "run", None)  # again: nothing is trained
    published.main()
    assert capsys.readouterr().out == printed
