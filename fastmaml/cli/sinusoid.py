"""``fastmaml sinusoid``: the experiment of the MAML paper with a table and pictures."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import experiments
from ..experiments import SinusoidExperiment
from ..learn import ProgressBar, TrainState, chain
from .common import count, new_folder, rate, require, say, show, write
from .signals import undisturbed

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    defaults = SinusoidExperiment()
    command = commands.add_parser(
        "sinusoid",
        help="meta-train on sinusoids, as in the MAML paper, and test the adaptation",
        description="Meta-train a 1-40-40-1 relu network on sinusoids as in the MAML paper (loss "
        "mse, Adam, float64), print the error on held-out tasks, and write the parameters and two "
        "pictures.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )

    def option(name: str, kind: Callable[[str], Any], text: str) -> None:
        default = getattr(defaults, name)
        metavar = "N" if isinstance(default, int) else "RATE"
        flag = "--" + name.replace("_", "-")
        command.add_argument(flag, type=kind, default=default, metavar=metavar, help=text)

    option("iterations", count(1), "meta-updates to train for")
    option("seed", count(0), "seed of parameters and tasks")
    command.add_argument(
        "--order",
        choices=("exact", "first"),
        default=defaults.order,
        help="exact is MAML, first is first-order MAML",
    )
    option("shots", count(1), "support rows, and as many query rows, of a training task")
    option("meta_batch", count(1), "tasks in a meta-update")
    option("inner_lr", rate, "learning rate of the inner steps, in training and test")
    option("inner_steps", count(0), "inner steps in training")
    option("outer_lr", rate, "learning rate of Adam")
    command.add_argument(
        "--out", type=Path, default=Path("sinusoid-out"), metavar="FOLDER", help="where files go"
    )
    command.set_defaults(run=sinusoid)


class _Reached:
    """Callback that remembers what Ctrl-C or an error must not lose."""

    def __init__(self) -> None:
        self.last: TrainState | None = None
        self._values: list[float] = []

    @property
    def values(self) -> np.ndarray:
        # Ctrl-C may come between the two assignments below: `last` decides.
        return np.array(self._values[: self.last.iteration if self.last else 0])

    def __call__(self, state: TrainState) -> None:
        self._values.append(state.value)
        self.last = state


def sinusoid(arguments: argparse.Namespace) -> None:
    """Run the command."""
    require("sinusoid", "cli", "tqdm", "matplotlib")
    names = SinusoidExperiment.__dataclass_fields__
    experiment = SinusoidExperiment(**{name: getattr(arguments, name) for name in names})
    out: Path = arguments.out
    with new_folder(out):
        tempfile.TemporaryFile(dir=out).close()  # not writable: say so now
        _run(experiment, out)


def _run(experiment: SinusoidExperiment, out: Path) -> None:
    from .. import plots

    reached = _Reached()

    def save() -> None:
        if reached.last is None:
            return
        theta, values = reached.last.theta, reached.values
        write(
            out / "theta.npz",
            lambda file: experiments.save_parameters(file, experiment, theta, values),
        )
        show(plots.sinusoid_training_picture(experiment, values), out / "training.png")

    try:
        with ProgressBar(experiment.iterations) as bar:
            theta, _ = experiments.meta_train(experiment, chain(reached, bar))
        save()
    except BaseException:
        with undisturbed():
            save()
            if reached.last is not None:
                n = reached.last.iteration
                say(f"saved what {n} of {experiment.iterations} iterations have reached")
        raise

    print(f"\n{experiments.heldout_table(experiments.heldout_errors(experiment, theta))}\n")
    picture = plots.adaptation_picture(experiment, experiments.heldout_tasks(experiment, theta))
    show(picture, out / "adaptation.png")
