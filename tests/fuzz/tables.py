"""Damaged tables and logs: CSV, whose cells are words, and Parquet, whose columns have types."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from fastmaml import learn

from .configurations import train
from .damage import damaged, reworded
from .good import TABLE, Good, judge_command
from .memory import modest
from .oracle import judge_reading
from .values import Draw


def _adapt(made: Good, folder: Path, path: Path) -> None:
    run, other = str(made.folder / "table"), str(made.folder / "rows.csv")
    names = "|".join(re.escape(name) for name in (path.name, "rows.csv", "rows.parquet"))
    with modest(path.stat().st_size):
        for pair in ((str(path), other), (other, str(path))):
            judge_command(
                "adapt", run, *pair, "--task", "device", "--out", str(folder / "out.csv"),
                names=names,
            )  # fmt: skip


def table_bytes(draw: Draw, made: Good, folder: Path) -> None:
    source, other = (draw.choice(made.tables) for _ in range(2))
    path = folder / f"damaged{source.suffix}"
    path.write_bytes(damaged(draw, source.read_bytes(), other.read_bytes()))
    _adapt(made, folder, path)


def csv_cells(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "damaged.csv"
    content = reworded(draw, made.tables[0].read_bytes(), b",\n")
    if draw.chance(0.1):
        coding = draw.choice(["utf-16", "utf-8-sig", "utf-32", "cp037"])
        content = content.decode(errors="replace").encode(coding, errors="replace")
    path.write_bytes(content)
    if draw.chance(0.7):
        _adapt(made, folder, path)
    else:
        shutil.copy(path, folder / "rows.csv")
        (folder / "table.toml").write_bytes(TABLE)
        train(draw, folder / "table.toml")


COLUMNS: list[Callable[[], Any]] = [
    lambda: pyarrow.array([None] * 16),
    lambda: pyarrow.array([1.0, None] * 8),
    lambda: pyarrow.array(["a"] * 16),
    lambda: pyarrow.array([b"\xff"] * 16),
    lambda: pyarrow.array([True, False] * 8),
    lambda: pyarrow.array([[1.0], []] * 8),
    lambda: pyarrow.array([{"a": 1}] * 16),
    lambda: pyarrow.array([float("nan")] * 16),
    lambda: pyarrow.array([2**63] * 16, pyarrow.uint64()),
    lambda: pyarrow.array([1] * 16, pyarrow.decimal128(38)),
    lambda: pyarrow.array([1] * 16, pyarrow.timestamp("ns")),
    lambda: pyarrow.array([0] * 16, pyarrow.date32()),
    lambda: pyarrow.array([1] * 16, pyarrow.duration("s")),
    lambda: pyarrow.array(["a", "b"] * 8).dictionary_encode(),
    lambda: pyarrow.array(["x" * 10000] * 16),
    lambda: pyarrow.array(np.ones(16, "f2")),
    lambda: pyarrow.array([-(2**63)] * 16, pyarrow.timestamp("s")),
]


def parquet_types(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "damaged.parquet"
    table = parquet.read_table(made.tables[1])
    at = draw.integer(0, table.num_columns - 1)
    way = draw.integer(0, 4)
    if way == 0:
        table = table.remove_column(at)
    elif way == 1:
        table = table.append_column(draw.choice(["t", "", "ü", "\n"]), table.column(at))
    elif way == 2:
        table = table.slice(0, draw.integer(0, 2))
    else:
        column = draw.choice(COLUMNS)()
        table = table.set_column(at, draw.choice([table.column_names[at], "other"]), column)
    with contextlib.suppress(Exception):  # what cannot be written cannot be read
        parquet.write_table(table, path)
    if path.exists():
        _adapt(made, folder, path)


def log(draw: Draw, made: Good, folder: Path) -> None:
    run = folder / "run"
    shutil.copytree(made.folder / "run", run)
    path = run / "log.csv"
    content = path.read_bytes()
    if draw.chance(0.5):
        path.write_bytes(damaged(draw, content, made.tables[0].read_bytes()))
    else:
        path.write_bytes(reworded(draw, content, b",\n"))
    if draw.chance(0.7):
        try:
            with learn.CSVLog(path, draw.integer(0, 5)) as kept:
                kept(learn.TrainState(6, 0.5, np.zeros(1), None))
        except Exception as error:
            judge_reading(error, path)
    else:
        with modest(path.stat().st_size):
            judge_command("resume", str(run), "--iterations", "9", names=r"log\.csv", picture=True)
