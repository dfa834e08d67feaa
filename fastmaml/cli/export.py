"""``fastmaml export``: a learned model as C, or adapted to the rows of a file as ONNX."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..export import to_c, to_onnx
from ..export.subject import subject_of
from ..saving import Saved, load
from ..version import __version__
from . import adaptation, runs
from .common import CommandError, require
from .config import Learner
from .held import require_finite
from .sheet import read_sheet
from .table import say_of_missing, tasks_of

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    text = "write a learned model as C, or one that is adapted to rows as ONNX"
    parser = runs.add_command(commands, "export", _export, text)
    parser.add_argument(
        "source", type=Path, help="the folder of a run, as train wrote it, or a file of save"
    )
    parser.add_argument("out", type=Path, help="FILE.c, beside which FILE.h comes, or FILE.onnx")
    parser.add_argument(
        "--dtype", choices=("float64", "float32"),
        help="of the numbers (default: as in training for C, float32 for ONNX)",
    )  # fmt: skip
    parser.add_argument(
        "--prefix", metavar="NAME", help="of all names in C (default: that of the file)"
    )
    parser.add_argument(
        "--support", type=Path, metavar="FILE", help="CSV or Parquet with the rows to adapt to"
    )
    adaptation.add_layout(parser)
    runs.add_last(parser)


class Source(NamedTuple):
    """What is exported, and what is known of the tables that it takes."""

    saved: Saved
    learner: Learner
    categories: Mapping[str, Sequence[str]]


def _export(arguments: argparse.Namespace) -> None:
    as_c = arguments.out.suffix == ".c"
    if not as_c and arguments.out.suffix != ".onnx":
        raise CommandError(f"{arguments.out} is to be written; accepted are FILE.c and FILE.onnx")
    _require_options(arguments, as_c)
    source = _source(arguments)
    options = {} if arguments.dtype is None else {"dtype": arguments.dtype}
    if as_c:
        to_c(source.saved, path=arguments.out, prefix=arguments.prefix, **options)
        print(f"wrote {arguments.out}\nwrote {arguments.out.with_suffix('.h')}")
    else:
        require("fastmaml export", "onnx", "onnx")
        to_onnx(source.saved, task=_task(arguments, source), path=arguments.out, **options)
        print(f"wrote {arguments.out}")


def _require_options(arguments: argparse.Namespace, as_c: bool) -> None:
    """Refuse what the kind of the file has no use for, and ask for what it needs."""
    if as_c and arguments.support is not None:
        raise CommandError(
            f"--support is {arguments.support}; accepted is none, as {arguments.out} adapts itself"
        )
    if not as_c and arguments.support is None:
        raise CommandError(
            f"{arguments.out} needs --support, the rows that it is adapted to before it is written"
        )
    if not as_c and arguments.prefix is not None:
        raise CommandError(f"--prefix is {arguments.prefix}; accepted is none for {arguments.out}")


def _source(arguments: argparse.Namespace) -> Source:
    """Read a file of `fastmaml.save`, or the folder of a run."""
    path: Path = arguments.source
    if path.is_dir():
        run = runs.read_run(path)
        objective, theta, scaling = runs.trained(run, arguments.last)
        names = tuple(run.learner.inputs), tuple(run.learner.outputs)
        saved = Saved(objective, theta, scaling, *names, None, __version__)
        return Source(saved, run.learner, {} if run.record is None else run.record.categories)
    if arguments.last:
        raise CommandError(f"--last is given; accepted is none, as {path} holds one model")
    saved = load(path)
    subject = subject_of(saved)
    learner = Learner(subject.learner, None, list(subject.inputs), list(subject.outputs))
    return Source(saved, learner, {})


def _task(arguments: argparse.Namespace, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the one task of a file."""
    path, learner, saved = arguments.support, source.learner, source.saved
    what = runs.Trained(learner.objective, saved.theta, saved.scaling)
    layout = adaptation.layout_of(arguments, learner, what)
    sheet = read_sheet(path, [*layout.inputs, *layout.outputs], layout.form, layout.task)
    for name in arguments.task or ():
        sheet.column(name)
    named = all(name in sheet.columns for name in layout.task)
    table = tasks_of(sheet, layout._replace(task=layout.task if named else ()), source.categories)
    say_of_missing(sheet, table, "left out")
    if table.n_tasks != 1:
        raise CommandError(f"{path} has the rows of {table.n_tasks} tasks; accepted are those of 1")
    require_finite(path, table, what.scaling, what.theta.dtype)
    return table.by_task(table.x)[0], table.by_task(table.y)[0]
