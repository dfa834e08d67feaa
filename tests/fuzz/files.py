"""Damaged files: checkpoints, configurations, tables, logs and cache entries, and who reads them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import shutil
import tomllib
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numba
import numpy as np
import pyarrow
from fastmaml.kernels import cache, link
from pyarrow import parquet

import fastmaml as fm
from fastmaml import cli, learn
from fastmaml.cli import training
from fastmaml.learn.checkpoint import HEADER

from .damage import damaged, reworded
from .memory import MIB, modest
from .oracle import Failure, judge_error
from .values import Draw

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


class Good:
    """The files before the damage, made once in a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "run.toml").write_bytes(CONFIGURATION)
        (folder / "table.toml").write_bytes(TABLE)
        rng = np.random.default_rng(0)
        rows = [
            [f"d{i % 4}", *map(repr, rng.normal(size=2).tolist()), repr(float(i))]
            for i in range(16)
        ]
        lines = ["device,t,u,v", *map(",".join, rows)]
        (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        columns = list(zip(*rows, strict=True))
        numbers = [list(map(float, column)) for column in columns[1:]]
        table = pyarrow.table(dict(zip("device t u v".split(), [columns[0], *numbers], strict=True)))
        parquet.write_table(table, folder / "rows.parquet")
        for name in ("run", "table"):
            code, _, said = command("train", "--config", str(folder / f"{name}.toml"))
            assert code == 0, said
        for name in ("resume", "evaluate"):
            command(name, str(folder / "run"))
        self.entries = folder / "entries"
        self.entries.mkdir(mode=0o700)
        with mock.patch.object(cache, "cache_folder", lambda: self.entries):
            _use_kernel()
        self.checkpoints = sorted(folder.glob("*/checkpoint.npz"))
        self.tables = [folder / "rows.csv", folder / "rows.parquet"]


@functools.cache
def good(folder: Path) -> Good:
    """The good files of this worker."""
    return Good(folder / "good")


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
    if code == 2 and (errors[0] != lines[-1] or re.search(r"Error\(|object has no|NoneType", said)):
        raise Failure(told)


#: how a configuration's errors say where they are
TABLES = r"\[[a-z_.]+\]|configuration"


# ---- checkpoints


def judge_checkpoint(draw: Draw, path: Path) -> None:
    """Load, restore and resume; now and then by the commands."""
    try:
        checkpoint = learn.load_checkpoint(path)
    except Exception as error:
        _named(error, path)
    else:
        resume(checkpoint)
    if draw.chance(0.4):
        run = str(path.parent)
        other = str(path.parent.parent / "good" / "rows.csv")
        way = draw.choice([
            ("resume", run, "--iterations", "5"), ("evaluate", run), ("evaluate", run, "--last"),
            ("adapt", run, other, other),
        ])  # fmt: skip
        judge_command(*way, names=rf"checkpoint\.npz|rows\.csv|damaged|resume|{TABLES}")


def resume(checkpoint: learn.Checkpoint) -> None:
    """Go on with what was loaded: each step works, or says what it lacks."""
    model = fm.MLP([1, 3, 1])
    maml = fm.MAML(model, [[0.01, 0.02]], loss="mse")
    rng = np.random.default_rng(0)
    sampler = lambda: fm.datasets.Sinusoid().sample(2, 3, 2, 0)  # noqa: E731
    names = ["resume", "checkpoint", "theta", "state", "rng", "inner_lr", "gradient"]
    for step in (
        lambda: checkpoint.restore(rng),
        lambda: rng.normal(),
        lambda: learn.train(
            maml, model.init(0), sampler, learn.AdamW(), 10**6, lambda _: True,
            rate_optimizer=learn.SGD(0.01, 0.5), on_divergence="skip", resume=checkpoint.state,
        ),
    ):  # fmt: skip
        try:
            step()
        except Exception as error:
            judge_error(error, names)


def _named(error: Exception, path: Path) -> None:
    if not isinstance(error, ValueError | OSError) or path.name not in str(error):
        raise Failure(f"{path.suffix}: {type(error).__name__}: {error!s:.200}") from error


def _write(path: Path, members: dict[str, Any], compress: bool = False) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (np.savez_compressed if compress else np.savez)(path, allow_pickle=True, **members)


def checkpoint_bytes(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "checkpoint.npz"
    source, other = (draw.choice(made.checkpoints).read_bytes() for _ in range(2))
    path.write_bytes(damaged(draw, source, other))
    with modest(path.stat().st_size):
        judge_checkpoint(draw, path)


def checkpoint_members(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "checkpoint.npz"
    with np.load(draw.choice(made.checkpoints)) as npz:
        members = dict(npz)
    for _ in range(draw.integer(1, 2)):
        name = draw.choice(sorted(members))
        way = draw.integer(0, 5)
        if way == 0:
            del members[name]
        elif way == 1:
            members[name] = members[draw.choice(sorted(members))]
        elif way == 2:
            members[draw.choice(["more", "best.theta", "theta", "rate_state.x"])] = members[name]
        else:
            with contextlib.suppress(Exception):
                value = np.asarray(draw.other(members[name]))
                members[name] = value
        if not members:
            break
    with contextlib.suppress(Exception):  # what cannot be written cannot be read
        _write(path, members, draw.chance(0.3))
    if path.exists():
        with modest(path.stat().st_size):
            judge_checkpoint(draw, path)


def checkpoint_header(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "checkpoint.npz"
    with np.load(draw.choice(made.checkpoints)) as npz:
        members = dict(npz)
    header = json.loads(str(members[HEADER]))
    for _ in range(draw.integer(1, 2)):
        at = header
        while True:
            key = draw.choice(sorted(at)) if isinstance(at, dict) else draw.integer(0, len(at) - 1)
            if not isinstance(at[key], dict | list) or not at[key] or draw.chance(0.4):
                break
            at = at[key]
        if isinstance(at, dict) and draw.chance(0.2):
            del at[key]
            if not at:
                break
        else:
            at[key] = draw.choice(VALUES)
    text = json.dumps(header)
    if draw.chance(0.1):
        text = reworded(draw, text.encode(), b"{}[],: ").decode(errors="replace")
    members[HEADER] = np.array(text)
    _write(path, members)
    with modest(path.stat().st_size):
        judge_checkpoint(draw, path)


#: values of JSON and TOML
VALUES = [
    None, True, False, 0, 1, -1, 2.5, -0.0, float("nan"), float("inf"), 1e308, 10**30, -(10**30),
    10**400, 2**63, "", "text", "MLP", "0", [], [1], [[]], [1, [2]], [None], ["a", "b"], {}, {"name": 1},
    {"name": "Adam"}, {"a": {"b": {}}}, "\ud800", "\0", [10**30], [-1, 0], [1.0, "x"],
]  # fmt: skip


def checkpoint_bomb(draw: Draw, made: Good, folder: Path) -> None:
    """A member that claims far more than the file holds, or that unpacks to it."""
    path = folder / "checkpoint.npz"
    n = draw.choice([10**8, 10**10, 10**15, 2**62])
    members = {}
    with zipfile.ZipFile(draw.choice(made.checkpoints)) as npz:
        members = {name: npz.read(name) for name in npz.namelist()}
    name = draw.choice(sorted(members))
    header = io.BytesIO()
    kind = draw.choice(["<f8", "<U1", "|S1", "|V1", f"<U{min(n, 2**28)}"])
    np.lib.format.write_array_header_1_0(
        header, {"descr": kind, "fortran_order": False, "shape": draw.choice([(n,), (), (1, n)])}
    )
    members[name] = header.getvalue() + b"\0" * draw.choice([0, 8, 1000])
    if draw.chance(0.2):
        members[name] = _unpacked()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as npz:
        for each, content in members.items():
            npz.writestr(each, content)
    with modest(path.stat().st_size):
        judge_checkpoint(draw, path)


@functools.cache
def _unpacked() -> bytes:
    """A member that is as large as it says, all zeros."""
    member = io.BytesIO()
    np.save(member, np.zeros(192 * MIB // 8))
    return member.getvalue()


# ---- configurations


def _train(draw: Draw, path: Path) -> None:
    with modest(path.stat().st_size):
        names = rf"{re.escape(path.name)}|rows\.csv|{TABLES}"
        judge_command("train", "--config", str(path), names=names, picture=draw.chance(0.03))


def toml_bytes(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "run.toml"
    shutil.copy(made.folder / "rows.csv", folder)
    content = draw.choice([CONFIGURATION, TABLE])
    if draw.chance(0.5):
        path.write_bytes(damaged(draw, content, draw.choice([CONFIGURATION, TABLE])))
    else:
        path.write_bytes(reworded(draw, content, b"=\n,[] "))
    _train(draw, path)


def toml_values(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "run.toml"
    shutil.copy(made.folder / "rows.csv", folder)
    tables = tomllib.loads(draw.choice([CONFIGURATION, TABLE]).decode())
    for _ in range(draw.integer(1, 2)):
        name = draw.choice([*tables, "more"])
        table = tables.setdefault(name, {})
        if isinstance(table, dict) and draw.chance(0.85):
            table[draw.choice([*table, "more"])] = draw.choice(VALUES)
        else:
            tables[name] = draw.choice(VALUES)
    path.write_text(_toml(tables), encoding="utf-8", errors="surrogatepass")
    _train(draw, path)


def _toml(tables: dict[str, Any]) -> str:
    plain = {name: value for name, value in tables.items() if not isinstance(value, dict)}
    lines = [f"{name} = {_value(value)}" for name, value in plain.items()]
    for name, table in tables.items():
        if name not in plain:
            lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return "''" if value is None else repr(value)


# ---- tables


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
        _train(draw, folder / "table.toml")


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
    lambda: pyarrow.array([1.5] * 16, pyarrow.float16()) if hasattr(np, "float16") else None,
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


# ---- logs


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
            _named(error, path)
    else:
        with modest(path.stat().st_size):
            judge_command("resume", str(run), "--iterations", "9", names=r"log\.csv", picture=True)


# ---- the kernel cache


def _functions(factor: float) -> Any:
    """A linked function and one that calls it, as a new process has them: not compiled yet."""

    def inner(x, n) -> float:  # type: ignore[no-untyped-def]
        total = 0.0
        for i in range(n):
            total += factor * x[i]
        return total

    called = link.linked(inner)

    def outer(x, n) -> float:  # type: ignore[no-untyped-def]
        return 2.0 * called(x, n)

    return outer


def cache_entry(draw: Draw, made: Good, folder: Path) -> None:
    """Entries that are damaged, swapped or lost give the right number all the same."""
    store = folder / "entries"
    shutil.copytree(made.entries, store)
    with mock.patch.object(cache, "cache_folder", lambda: store):
        entries = sorted(store.iterdir())
        content = [entry.read_bytes() for entry in entries]
        at = draw.integer(0, len(entries) - 1)
        if draw.chance(0.3):
            order = draw.rng.permutation(len(entries)).tolist()
            for entry, i in zip(entries, order, strict=True):
                entry.write_bytes(content[i])
        else:
            other = content[draw.integer(0, len(content) - 1)]
            entries[at].write_bytes(damaged(draw, content[at], other))
        with modest(max(map(len, content))):
            _use_kernel()


def _use_kernel() -> None:
    piece = link._Piece(_functions(2.0))
    types = numba.types.CPointer(numba.types.float64), numba.types.int64
    piece.require(types)
    function, numbers = piece._compiled[types][1].ctypes, np.arange(4.0)
    found = function(numbers.ctypes.data_as(function.argtypes[0]), 4)
    if found != 24.0:
        raise Failure(f"a kernel from the cache returned {found}, not 24.0")


#: what is damaged, and how often
KINDS: dict[Callable[[Draw, Good, Path], None], int] = {
    checkpoint_bytes: 12,
    checkpoint_members: 12,
    checkpoint_header: 12,
    checkpoint_bomb: 1,
    toml_bytes: 10,
    toml_values: 12,
    table_bytes: 12,
    csv_cells: 10,
    parquet_types: 4,
    log: 6,
    cache_entry: 8,
}
_KINDS = [kind for kind, n in KINDS.items() for _ in range(n)]


def run_file(draw: Draw, folder: Path) -> str:
    """Damage a file and let it be read; return what it was."""
    made, place = good(folder), folder / "case"
    kind = draw.choice(_KINDS)
    place.mkdir()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind(draw, made, place)
    except Failure as failure:
        raise Failure(f"{kind.__name__}: {failure}") from failure
    finally:
        shutil.rmtree(place)
    return str(kind.__name__)
