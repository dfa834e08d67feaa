"""The folder of a run: its files, and what its checkpoint says, checked before it is used."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import require_finite, shape_text
from ..closed_form import DENSITIES
from ..learn import Checkpoint, Scaling, load_checkpoint
from ..maml import MAML
from ..rates import as_inner_lr
from . import config
from .common import CommandError
from .record import Record

__all__ = [
    "CHECKPOINT", "LOG", "MODEL", "PICTURE", "RECORD", "Trained", "add_command", "add_folder",
    "add_last", "read_run", "trained", "with_steps",
]  # fmt: skip

CHECKPOINT, LOG, MODEL, PICTURE = "checkpoint.npz", "log.csv", "model.npz", "training.png"
#: what a checkpoint's configuration has beside the tables of a file
RECORD = "record"


def add_command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """Add a command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the argument of a run's folder."""
    parser.add_argument("folder", type=Path, help="of the run, as train wrote it")


def add_last(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses parameters."""
    parser.add_argument(
        "--last", action="store_true", help="the last parameters, not the best validated"
    )


class RunFolder(NamedTuple):
    """What the checkpoint of a folder says."""

    path: Path  # of the checkpoint
    checkpoint: Checkpoint
    configuration: dict[str, Any]
    record: Record | None  # of a table; None for a family
    learner: config.Learner


def read_run(folder: Path) -> RunFolder:
    """Read the checkpoint of a folder.

    Raises
    ------
    CommandError
        For one that `fastmaml train` has not written so.
    """
    path = folder / CHECKPOINT
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.configuration, dict):
        raise CommandError(f"{path} holds no configuration of fastmaml train")
    configuration = dict(checkpoint.configuration)
    given, record = configuration.pop(RECORD, None), None
    tasks = configuration.get("tasks")
    if isinstance(tasks, dict) and "file" in tasks:
        try:
            record = Record.from_dict(given)
        except CommandError as error:
            raise CommandError(f"{path} cannot be used: {error}") from error
    # Before anything is made in the size of the model that the configuration describes.
    learner = config.learner(configuration, record)
    size, shape = learner.objective._space.n_params, checkpoint.state.theta.shape
    if shape != (size,):
        raise CommandError(
            f"{path} holds theta of shape {shape_text(shape)}, "
            f"the model of its configuration has {size} parameters"
        )
    scaling = None if record is None else record.scaling
    columns = len(learner.inputs), len(learner.outputs)
    if scaling is not None and (len(scaling.x_mean), len(scaling.y_mean)) != columns:
        raise CommandError(f"{path} cannot be used: its scaling has not the columns of the model")
    return RunFolder(path, checkpoint, configuration, record, learner)


class Trained(NamedTuple):
    """What was learned: the specification with its rates, the parameters, the scaling."""

    objective: config.Objective
    theta: np.ndarray
    scaling: Scaling | None

    @property
    def has_std(self) -> bool:
        """Whether it says how sure it is: of the noise, a squared error learns nothing."""
        return self.objective.loss in DENSITIES


def trained(run: RunFolder, last: bool) -> Trained:
    """Return what was learned: what did best on the validation tasks, or the `last`."""
    state = run.checkpoint.state
    source = state if last or state.best is None else state.best
    try:
        require_finite("theta", source.theta, ["parameter"])
        objective = run.learner.objective
        if isinstance(objective, MAML):
            objective = replace(objective, inner_lr=source.inner_lr)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{run.path} cannot be used: {error}") from error
    return Trained(objective, source.theta, None if run.record is None else run.record.scaling)


def with_steps(maml: config.Objective, steps: int) -> MAML:
    """Return the specification with another number of inner steps.

    Raises
    ------
    CommandError
        For what adapts without steps.
    """
    if not isinstance(maml, MAML):
        raise CommandError(
            f"--steps is {steps}; accepted is none, as [bayesian_last_layer] adapts in closed form"
        )
    if steps == maml.steps:
        return maml
    rates = as_inner_lr(maml.model, maml.inner_lr, maml.steps).per_layer
    # No step has no rate, and weights of steps are those of the training. Rates for each step: a
    # further step has the least of its layer.
    inner_lr: Any = maml.inner_lr if steps else 0.0
    if steps and rates is not None and len(rates):
        more = np.repeat(rates.min(axis=0, keepdims=True), max(steps - len(rates), 0), axis=0)
        inner_lr = np.concatenate([rates[:steps], more])
    return replace(maml, steps=steps, inner_lr=inner_lr, step_weights=None)
