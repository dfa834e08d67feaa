"""The good files that are damaged, and the command line that reads them, in this process."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow
from pyarrow import parquet

import fastmaml as fm
from fastmaml import cli, learn
from fastmaml.cli import training

from .entries import make_entries
from .oracle import Failure
from .own import models

CONFIGURATION = b"""
[model]
name = "MLP"
layer_sizes = [1, 3, 1]
activation = "tanh"
[maml]
inner_lr = [[0.01, 0.02]]
loss = "mse"
steps = 1
[tasks]
family = "sinusoid"
n_tasks = 2
n_support = 3
n_query = 2
n_validation = 2
n_test = 5
amplitude_range = [1.0, 2.0]
[optimizer]
name = "AdamW"
learning_rate = { name = "Cosine", initial = 0.01, n_updates = 20 }
[rate_optimizer]
name = "SGD"
learning_rate = 0.01
momentum = 0.5
[train]
iterations = 3
seed = 3
clip_norm = 5.0
validate_every = 1
checkpoint_every = 2
"""
HEAD = (
    CONFIGURATION[: CONFIGURATION.index(b"[rate_optimizer]")].replace(
        b'[maml]\ninner_lr = [[0.01, 0.02]]\nloss = "mse"\nsteps = 1',
        b'[bayesian_last_layer]\nloss = "mean_nll"\nprior = "shared"\nnoise = "per_output"',
    )
    + CONFIGURATION[CONFIGURATION.index(b"[train]") :]
)
TABLE = b"""
[model]
layer_sizes = [2, 3, 1]
[tasks]
file = "rows.csv"
task = "device"
inputs = ["t", "u"]
outputs = ["v"]
n_tasks = 2
n_support = 2
n_query = 1
n_test = 1
[train]
iterations = 2
dtype = "float32"
"""


NAMES = ["device", "t", "u", "v"]


class Good:
    """The files before the damage, made once in a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "run.toml").write_bytes(CONFIGURATION)
        (folder / "head.toml").write_bytes(HEAD)
        (folder / "table.toml").write_bytes(TABLE)
        rng = np.random.default_rng(0)
        rows = [
            [f"d{i % 4}", *map(repr, rng.normal(size=2).tolist()), repr(float(i))]
            for i in range(16)
        ]
        lines = [",".join(NAMES), *map(",".join, rows)]
        (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        columns = list(zip(*rows, strict=True))
        numbers = [list(map(float, column)) for column in columns[1:]]
        table = pyarrow.table(dict(zip(NAMES, [columns[0], *numbers], strict=True)))
        parquet.write_table(table, folder / "rows.parquet")
        for name in ("run", "head", "table"):
            code, _, said = command("train", "--config", str(folder / f"{name}.toml"))
            assert code == 0, said
        for name in ("resume", "evaluate"):
            command(name, str(folder / "run"))
        self.entries = make_entries(folder / "entries")
        maml = fm.MAML(fm.MLP([2, 3, 1]), [[0.01, 0.02]], 2, loss="mse")
        scaling = learn.Scaling([0.0, 1.0], [1.0, 2.0], [3.0], [4.0])
        names = {"inputs": NAMES[1:3], "outputs": NAMES[3:], "extra": {"seed": 3, "sizes": [1, 2]}}
        fm.save(folder / "model.npz", maml, maml.model.init(0), scaling=scaling, **names)
        own = fm.MAML(fm.Frozen(models()[5], "mlp"), 0.01, loss=fm.Huber(0.5))
        fm.save(folder / "own.npz", own, own.model.init(0))
        self.archives = [folder / "model.npz", folder / "own.npz", folder / "head" / "model.npz"]
        self.archives += sorted(folder.glob("*/checkpoint.npz"))
        self.tables = [folder / "rows.csv", folder / "rows.parquet"]


# ---- the command line


def command(*arguments: str, picture: bool = True) -> tuple[int, str, str]:
    """Exit code and output of a command that trains three iterations more, at most."""

    def train(*given: Any, **keywords: Any) -> Any:
        # The sixth argument is the callback. A training as long as a damaged file wants is no hang.
        *first, callback = given
        count = iter(range(2))
        enough = lambda _state: next(count, None) is None  # noqa: E731
        return learn.train(*first, learn.chain(callback, enough), **keywords)

    out, said = io.StringIO(), io.StringIO()
    show = training.show if picture else lambda *_: None
    with (
        mock.patch.object(training, "train", train),
        mock.patch.object(training, "show", show),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(said),
    ):
        try:
            code = cli.main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return code, out.getvalue(), said.getvalue()


def judge_command(*arguments: str, names: str, picture: bool = False) -> None:
    """Run a command; Failure unless it ends well, or with one line that has one of the names."""
    code, _, said = command(*arguments, picture=picture)
    lines = re.split(r"[\r\n]+", said.strip())
    errors = [line for line in lines if line.startswith("fastmaml: error:")]
    told = f"{arguments[0]} ended with {code} and said {said[-300:]!r}"
    if code not in (0, 2) or "Traceback" in said or (code == 2) != (len(errors) == 1):
        raise Failure(told)
    diverged = "the meta-objective is"  # which no file is to blame for
    if code == 2 and not re.search(rf"{names}|{diverged}", errors[0]):
        raise Failure(f"names no file: {told}")
    if code == 2 and (errors[0] != lines[-1] or re.search("object has no|NoneType", said)):
        raise Failure(told)


#: how a configuration's errors say where they are
PLACES = r"\[[a-z_.]+\]|configuration"
