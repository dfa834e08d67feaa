"""`fastmaml init`, `train` and `adapt` as a contender: the same rows, as a user would give them."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmaml import cli

from .tables import Table


class CommandLine:
    """A run of the starter configuration, in a folder of its own, with no group for a test."""

    def __init__(self, train: Table, seed: int) -> None:
        self._temporary = TemporaryDirectory()
        self.folder = folder = Path(self._temporary.name)
        _write(folder / "train.csv", train.x, train.groups, train.y)
        fastmaml("init", folder / "train.csv")
        start = folder / "train.toml"
        text = start.read_text(encoding="utf-8")
        text = re.sub(r"^n_test = .*$", "n_test = 0", text, flags=re.MULTILINE)
        text = re.sub(r"^seed = .*$", f"seed = {seed}", text, flags=re.MULTILINE)
        start.write_text(text, encoding="utf-8")
        fastmaml("train", "--config", start)

    def predict(self, known: Table, x: NDArray[Any], groups: NDArray[Any]) -> NDArray[Any]:
        """Adapt to the known rows of each group, and predict its others."""
        _write(self.folder / "known.csv", known.x, known.groups, known.y)
        _write(self.folder / "new.csv", x, groups)
        names = ("known.csv", "new.csv", "predicted.csv")
        support, new, out = (self.folder / name for name in names)
        fastmaml("adapt", self.folder / "train", support, new, "--out", out)
        with out.open(encoding="utf-8", newline="") as file:
            return np.array([float(row["y_predicted"]) for row in csv.DictReader(file)])


def fastmaml(*arguments: Any) -> str:
    """Run a command; return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = cli.main([str(argument) for argument in arguments])
    if code == 2:  # an error, of which a configuration of `init` has one only: divergence
        raise FloatingPointError(f"fastmaml {arguments[0]} ended with {code}")
    if code:  # a signal, which says nothing about the setting
        raise SystemExit(code)
    return printed.getvalue()


def _write(
    path: Path, x: NDArray[Any], groups: NDArray[Any], y: NDArray[Any] | None = None
) -> None:
    columns = {"group": [f"g{group}" for group in groups]}
    columns |= {f"x{i}": column.tolist() for i, column in enumerate(x.T)}
    if y is not None:
        columns["y"] = y.tolist()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
