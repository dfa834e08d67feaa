"""``fastmaml train`` and ``resume``: a folder is a run.

The folder holds ``checkpoint.npz`` (with the configuration and a record of the data), ``model.npz``
(which `fastmaml.load` reads), ``log.csv`` and ``training.png``.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import saving
from ..closed_form import BayesianLastLayer
from ..divergence import named_tasks
from ..learn import (
    Checkpointer,
    CSVLog,
    ProgressBar,
    TrainResult,
    TrainState,
    chain,
    train,
)
from ..learn.loop import VALIDATE_EVERY, with_rates
from . import calls, config, runs
from .common import CommandError, count, new_folder, require, say, show
from .runs import CHECKPOINT, LOG, MODEL, PICTURE, RECORD, RunFolder
from .signals import undisturbed

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    parser = runs.add_command(commands, "train", _train, "meta-train as a TOML file says")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the TOML file")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the run (default: the file's name, no .toml)"
    )
    parser = runs.add_command(
        commands, "resume", _resume, "go on with a training from its checkpoint"
    )
    runs.add_folder(parser)
    parser.add_argument(
        "--iterations", type=count(1), metavar="N", help="in all (default: the configuration's)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="where the table is now (default: as it was)"
    )


def _train(arguments: argparse.Namespace) -> None:
    configuration = config.read(arguments.config)
    out: Path = arguments.out or arguments.config.with_suffix("")
    if (out / CHECKPOINT).exists():
        raise CommandError(f"{out} holds a training; resume it, or name another folder with --out")
    _run(out, configuration, None)


def _resume(arguments: argparse.Namespace) -> None:
    before = runs.read_run(arguments.folder)
    configuration = config.with_data(before.configuration, arguments.data)
    if arguments.iterations is not None:
        train_table = calls.table_of(configuration, "train")
        configuration["train"] = {**train_table, "iterations": arguments.iterations}
    _run(arguments.folder, configuration, before)


def _run(out: Path, configuration: dict[str, Any], before: RunFolder | None) -> None:
    require("train", "cli", "tqdm", "matplotlib")
    run = config.build(configuration, None if before is None else before.record)
    rng = np.random.default_rng(run.seed)
    theta = run.init(rng)
    resume = None
    if before is not None:
        resume = before.checkpoint.state
        try:
            before.checkpoint.restore(rng)
        except ValueError as error:
            raise CommandError(f"{before.path} cannot be resumed: {error}") from error
    done = 0 if resume is None else resume.iteration
    if done >= run.n_iterations:
        raise CommandError(f"{out} has all its {done} iterations; --iterations asks for more")
    if run.changes:
        say(
            f"warning: the table is not what it was: {run.changes}. Tasks stay in the part they "
            "were in, new ones are trained on; the scaling stays"
        )
    print(f"adapts {_way(run.objective, 'maml' in configuration)}")
    kept = configuration if run.record is None else {**configuration, RECORD: run.record.to_dict()}
    saver = Checkpointer(out / CHECKPOINT, rng, run.checkpoint_every, kept, run.objective)
    with new_folder(out), _log_if_any(out, saver, before):
        try:
            with CSVLog(out / LOG, done) as log, ProgressBar(run.n_iterations, done) as bar:
                result = train(
                    run.objective,
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
            _save(out, run, saver)
        except BaseException as error:
            with undisturbed():
                if saver.last is not None:
                    _save(out, run, saver)
                    n = saver.last.iteration
                    say(f"saved what {n} of {run.n_iterations} iterations have reached")
                elif before is not None and isinstance(error, TypeError | ValueError):
                    raise CommandError(f"{before.path} cannot be resumed: {error}") from error
            raise
    if saver.last is None:
        raise CommandError(f"{out} has stopped early, in iteration {done}: its patience is over")
    print(f"wrote {out / CHECKPOINT} after {result.state.iteration} iterations")
    print(f"wrote {out / MODEL}")
    if result.best is not None:
        scaled = "" if run.scaling is None else " (of scaled outputs)"
        best = result.best
        print(f"best validation: {best.value:.6g}{scaled}, in iteration {best.iteration}")
        every = run.loop.get("validate_every", VALIDATE_EVERY)
        if best.iteration + every > result.state.iteration:
            more = f"fastmaml resume {out} --iterations {2 * run.n_iterations}"
            print(f"The last was the best, so more iterations may do better: {more}")
    from .. import plots

    values = np.loadtxt(out / LOG, delimiter=",", skiprows=1, usecols=1, ndmin=1)
    show(plots.training_picture(values, f"Meta-training: {out.name}"), out / PICTURE)
    _look_for_divergence(run, result, rng)


def _way(objective: config.Objective, said: bool) -> str:
    """How tasks adapt, in words; a configuration that does not say has Python's defaults."""
    if isinstance(objective, BayesianLastLayer):
        return "the last layer in closed form"
    steps = f"by {objective.steps} gradient step{'s' * (objective.steps != 1)}"
    return steps if said else f"{steps}, as the configuration has neither [maml] nor another way"


def _look_for_divergence(run: config.Run, result: TrainResult, rng: np.random.Generator) -> None:
    """Adapt what was learned to some tasks: a loss of 1e18 ends no training, but is useless.

    The warning is an error of the command line.
    """
    tasks = run.validation_tasks() or run.sample(rng)
    learned = result if result.best is None else result.best
    with named_tasks(getattr(tasks, "names", None)):
        learned.maml.adapt(learned.theta, tasks.x, tasks.y)


@contextlib.contextmanager
def _log_if_any(out: Path, saver: Checkpointer, before: RunFolder | None) -> Iterator[None]:
    """Leave no log of a training that failed before its first iteration."""
    try:
        yield
    except BaseException:
        if before is None and saver.last is None:
            (out / LOG).unlink(missing_ok=True)
        raise


def _save(out: Path, run: config.Run, saver: Checkpointer) -> None:
    """Write the checkpoint, and the model in the form that `fastmaml.load` reads."""
    saver.save()
    state: TrainState | None = saver.last
    if state is None:
        return
    best = state if state.best is None else state.best
    if not np.isfinite(best.theta).all():
        return
    extra: dict[str, Any] = {"iteration": best.iteration}
    if run.record is not None:
        parts = run.record.parts
        extra["tasks"] = {name: list(tasks) for name, tasks in parts.items()}
        extra["categories"] = run.record.categories
    saving.save(
        out / MODEL,
        with_rates(run.objective, best.inner_lr),
        best.theta,
        scaling=run.scaling,
        inputs=run.inputs,
        outputs=run.outputs,
        extra=extra,
    )
