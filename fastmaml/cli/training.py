"""``fastmaml train``, ``resume``, ``evaluate`` and ``adapt``: a folder is a run.

The folder holds ``checkpoint.npz`` (with the configuration), ``log.csv`` and ``training.png``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import experiments
from ..checks import require_finite, shape_text
from ..datasets import TaskTable
from ..learn import (
    Checkpoint,
    Checkpointer,
    CSVLog,
    ProgressBar,
    chain,
    load_checkpoint,
    train,
)
from ..maml import MAML
from . import config
from .common import CommandError, count, require, say, show, write
from .signals import undisturbed
from .table import guarded, read_tasks

__all__ = ["add"]

CHECKPOINT, LOG, PICTURE = "checkpoint.npz", "log.csv", "training.png"


def add(commands: Any) -> None:
    """Add the commands to the parser."""

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
        )
        parser.set_defaults(run=run)
        return parser

    def folder(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, help="of the run, as train wrote it")

    def last(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--last", action="store_true", help="the last parameters, not the best validated"
        )

    parser = command("train", _train, "meta-train as a TOML file says")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the TOML file")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the run (default: the file's name, no .toml)"
    )
    parser = command("resume", _resume, "go on with a training from its checkpoint")
    folder(parser)
    parser.add_argument(
        "--iterations", type=count(1), metavar="N", help="in all (default: the configuration's)"
    )
    parser = command("evaluate", _evaluate, "print the error on tasks that the training never saw")
    folder(parser)
    parser.add_argument(
        "--steps", type=count(0), nargs="+", metavar="N", help="numbers of inner steps to compare"
    )
    last(parser)
    parser = command("adapt", _adapt, "adapt to the rows of a table, and predict other rows")
    folder(parser)
    parser.add_argument("support", type=Path, help="CSV or Parquet with inputs and outputs")
    parser.add_argument("new", type=Path, help="CSV or Parquet with inputs to predict at")
    parser.add_argument(
        "--task", metavar="COLUMN", help="says whose a row is (default: all are of one task)"
    )
    parser.add_argument("--steps", type=count(0), metavar="N", help="inner steps")
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV (default: standard output)")
    last(parser)


# ---- train, resume


def _train(arguments: argparse.Namespace) -> None:
    configuration = config.read(arguments.config)
    out: Path = arguments.out or arguments.config.with_suffix("")
    if (out / CHECKPOINT).exists():
        raise CommandError(f"{out} holds a training; resume it, or name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    _run(out, configuration, None)


def _resume(arguments: argparse.Namespace) -> None:
    checkpoint = _checkpoint(arguments.folder)
    configuration = checkpoint.configuration
    if arguments.iterations is not None:
        train_table = config.table_of(configuration, "train")
        configuration["train"] = {**train_table, "iterations": arguments.iterations}
    _run(arguments.folder, configuration, checkpoint)


def _run(out: Path, configuration: dict[str, Any], checkpoint: Checkpoint | None) -> None:
    require("train", "cli", "tqdm", "matplotlib")
    run = config.build(configuration)
    rng = np.random.default_rng(run.seed)
    theta = run.maml.model.init(rng, run.dtype)
    resume = None if checkpoint is None else checkpoint.state
    if checkpoint is not None:
        try:
            checkpoint.restore(rng)
        except ValueError as error:
            raise CommandError(f"{out / CHECKPOINT} cannot be resumed: {error}") from error
    done = 0 if resume is None else resume.iteration
    if done >= run.n_iterations:
        raise CommandError(f"{out} has all its {done} iterations; --iterations asks for more")
    saver = Checkpointer(out / CHECKPOINT, rng, run.checkpoint_every, configuration)
    try:
        with CSVLog(out / LOG, done) as log, ProgressBar(run.n_iterations, done) as bar:
            result = train(
                run.maml,
                theta,
                lambda: run.sample(rng),
                run.optimizer,
                run.n_iterations,
                chain(log, saver, bar),
                rate_optimizer=run.rate_optimizer,
                validation=run.validation_tasks(),
                resume=resume,
                **run.loop,
            )
        saver.save()
    except BaseException as error:
        with undisturbed():
            if saver.last is not None:
                saver.save()
                n = saver.last.iteration
                say(f"saved what {n} of {run.n_iterations} iterations have reached")
            elif checkpoint is not None and isinstance(error, TypeError | ValueError):
                raise CommandError(f"{out / CHECKPOINT} cannot be resumed: {error}") from error
        raise
    if saver.last is None:
        raise CommandError(f"{out} has stopped early, in iteration {done}: its patience is over")
    print(f"wrote {out / CHECKPOINT} after {result.state.iteration} iterations")
    if result.best is not None:
        print(f"best validation: {result.best.value:.6g}, in iteration {result.best.iteration}")
    from .. import plots

    values = np.loadtxt(out / LOG, delimiter=",", skiprows=1, usecols=1, ndmin=1)
    show(plots.training_picture(values, f"Meta-training: {out.name}"), out / PICTURE)


# ---- evaluate


def _evaluate(arguments: argparse.Namespace) -> None:
    checkpoint = _checkpoint(arguments.folder)
    run = config.build(checkpoint.configuration)
    maml, theta = _trained(arguments.folder, checkpoint, run.maml, arguments.last)
    if not run.n_test:
        raise CommandError("no tasks are held out: [tasks] n_test is 0 in the configuration")
    # A family has as many points to judge by as one likes.
    n_query = None if isinstance(run.test, TaskTable) else experiments.N_TEST_POINTS
    tasks = run.test_tasks(n_query)
    steps = arguments.steps or sorted({0, maml.steps})
    x_test = tasks.x if tasks.x_query is None else tasks.x_query
    y_test = tasks.y if tasks.y_query is None else tasks.y_query
    mamls = [_with_steps(maml, s) for s in steps]
    summaries = experiments.summarize(mamls, theta, tasks.x, tasks.y, x_test, y_test)
    heading = f"Mean squared error on {run.n_test} held-out tasks, {x_test.shape[1]} points each"
    print(experiments.error_table(summaries, f"{heading}, {run.dtype}"))


def _with_steps(maml: MAML, steps: int) -> MAML:
    if steps == maml.steps:
        return maml
    # No step has no rate, and weights of steps are those of the training.
    inner_lr = maml.inner_lr if steps else 0.0
    return replace(maml, steps=steps, inner_lr=inner_lr, step_weights=None)


def _checkpoint(folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(folder / CHECKPOINT)
    if not isinstance(checkpoint.configuration, dict):
        raise CommandError(f"{folder / CHECKPOINT} holds no configuration of fastmaml train")
    # Before anything is made in the size of the model that the configuration describes.
    size = config.learner(checkpoint.configuration).maml.model.n_params
    shape = checkpoint.state.theta.shape
    if shape != (size,):
        raise CommandError(
            f"{folder / CHECKPOINT} holds theta of shape {shape_text(shape)}, "
            f"the model of its configuration has {size} parameters"
        )
    return checkpoint


def _trained(
    folder: Path, checkpoint: Checkpoint, maml: MAML, last: bool
) -> tuple[MAML, np.ndarray]:
    """The specification with the rates that were learned, and the parameters."""
    state = checkpoint.state
    source = state if last or state.best is None else state.best
    try:
        require_finite("theta", source.theta, ["parameter"])
        return replace(maml, inner_lr=source.inner_lr), source.theta
    except (TypeError, ValueError) as error:
        raise CommandError(f"{folder / CHECKPOINT} cannot be used: {error}") from error


# ---- adapt


def _adapt(arguments: argparse.Namespace) -> None:
    checkpoint = _checkpoint(arguments.folder)
    maml, inputs, outputs = config.learner(checkpoint.configuration)
    maml, theta = _trained(arguments.folder, checkpoint, maml, arguments.last)
    if arguments.steps is not None:
        maml = _with_steps(maml, arguments.steps)
    support = read_tasks(arguments.support, arguments.task, inputs, outputs, theta.dtype)
    new = read_tasks(arguments.new, arguments.task, inputs, [], theta.dtype)
    places = support.find(new.names)
    if (places < 0).any():
        name = new.names[int(np.argmin(places))]
        raise CommandError(f"{arguments.new} has task {name!r}, {arguments.support} has not")
    support = support.take(places)
    x, y, x_new = support.by_task(support.x), support.by_task(support.y), new.by_task(new.x)
    predicted = np.concatenate(list(maml.predict(theta, x, y, x_new)))
    head = [*inputs, *(f"{name}_predicted" for name in outputs)]
    rows: list[list[Any]] = np.hstack([new.x, predicted]).tolist()
    if arguments.task is not None:
        head = [arguments.task, *head]
        whose = np.repeat(np.arange(new.n_tasks), np.diff(new.offsets)).tolist()
        rows = [[guarded(new.names[i]), *row] for i, row in zip(whose, rows, strict=True)]
    rows = [rows[i] for i in np.argsort(new.order)]  # as they come in the file
    lines: list[str] = []
    # Only what is in the end of a line is sure to be quoted within a cell: a lone \r would not be.
    sink = SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
    csv.writer(sink, lineterminator="\r\n").writerows([[*map(guarded, head)], *rows])
    text = "".join(lines)
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        write(arguments.out, lambda file: file.write(text.encode()))
