"""The command line: ``fastmaml sinusoid``, ``fastmaml info`` and ``fastmaml warmup``.

Exit codes: 0 done, 2 for an error (one line, ``fastmaml: error: ...``), 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, NoReturn

import numba
import numpy as np

from . import experiments, runtime
from .experiments import SinusoidExperiment
from .kernels import jit
from .learn import TrainState
from .plan import METHODS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process when left out.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except (_CommandError, ValueError, OSError, ArithmeticError, MemoryError) as error:
        _say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        return 2
    return 0


class _CommandError(Exception):
    """Something that the person at the terminal can put right."""


def _say(text: str) -> None:
    print(f"fastmaml: {text}", file=sys.stderr)


# ---- arguments


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, the same for every subcommand."""

    def error(self, message: str) -> NoReturn:
        _say(f"error: {message} (see {self.prog} --help)")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastmaml",
        description="Exact MAML meta-gradients for squared-error regression.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_sinusoid(commands)
    info = commands.add_parser(
        "info",
        help="print versions, threads and the cache folder",
        description="Print versions, threading layer, number of threads and cache folder.",
    )
    info.set_defaults(run=_info)
    warmup = commands.add_parser(
        "warmup",
        help="compile ahead, so that no later process waits for it",
        description="Compile the kernels and keep them in the cache folder (see fastmaml info).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for option, accepted in (("methods", METHODS[1:]), ("dtypes", ("float64", "float32"))):
        default = [word for word in accepted if word != "explicit"]
        warmup.add_argument(
            f"--{option}", nargs="+", choices=accepted, default=default, help=f"{option} to compile"
        )
    warmup.set_defaults(run=_warmup)
    return parser


def _add_sinusoid(commands: Any) -> None:
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

    def add(name: str, kind: Callable[[str], Any], text: str) -> None:
        default = getattr(defaults, name)
        metavar = "N" if isinstance(default, int) else "RATE"
        option = "--" + name.replace("_", "-")
        command.add_argument(option, type=kind, default=default, metavar=metavar, help=text)

    add("iterations", _count(1), "meta-updates to train for")
    add("seed", _count(0), "seed of parameters and tasks")
    command.add_argument(
        "--order",
        choices=("exact", "first"),
        default=defaults.order,
        help="exact is MAML, first is first-order MAML",
    )
    add("shots", _count(1), "support rows, and as many query rows, of a training task")
    add("meta_batch", _count(1), "tasks in a meta-update")
    add("inner_lr", _rate, "learning rate of the inner steps, in training and test")
    add("inner_steps", _count(0), "inner steps in training")
    add("outer_lr", _rate, "learning rate of Adam")
    command.add_argument(
        "--out", type=Path, default=Path("sinusoid-out"), metavar="FOLDER", help="where files go"
    )
    command.set_defaults(run=_sinusoid)


def _count(minimum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} up")
        return number

    return convert


def _rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


# ---- fastmaml sinusoid


class _Progress:
    """Callback of the training: draws the bar, and remembers what Ctrl-C must not lose."""

    def __init__(self, bar: Any) -> None:
        self.last: TrainState | None = None
        self._values: list[float] = []
        self._bar = bar
        bar.set_description("compiling")

    @property
    def values(self) -> np.ndarray:
        # Ctrl-C may come between the two assignments below: `last` decides.
        return np.array(self._values[: self.last.iteration if self.last else 0])

    def __call__(self, state: TrainState) -> None:
        self._values.append(state.value)
        self.last = state
        if state.iteration == 1:
            self._bar.set_description("meta-training")
        if state.iteration % 20 == 1:
            self._bar.set_postfix_str(f"loss {np.mean(self._values[-100:]):.3g}", refresh=False)
        self._bar.update()


def _sinusoid(arguments: argparse.Namespace) -> None:
    # Both are looked for before the training, not after.
    try:
        from tqdm import tqdm

        from . import plots
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fastmaml"):
            raise
        raise _CommandError(
            f'sinusoid needs {error.name}, which comes with pip install "fastmaml[cli]"'
        ) from error

    names = SinusoidExperiment.__dataclass_fields__
    experiment = SinusoidExperiment(**{name: getattr(arguments, name) for name in names})
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=out).close()  # not writable: say so now

    stopped: BaseException | None = None
    with tqdm(
        total=experiment.iterations,
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 10.0,  # a log file wants few lines
    ) as bar:
        progress = _Progress(bar)
        try:
            experiments.meta_train(experiment, progress)
        except (KeyboardInterrupt, FloatingPointError) as error:
            stopped = error
    if progress.last is not None:
        theta, values = progress.last.theta, progress.values
        figure = plots.training_picture(experiment, values)
        _write(
            out / "theta.npz",
            lambda file: experiments.save_parameters(file, experiment, theta, values),
        )
        _write(out / "training.png", lambda file: figure.savefig(file, format="png"))
        if stopped is not None:
            _say(f"saved what {len(values)} of {experiment.iterations} iterations have reached")
    if stopped is not None:
        raise stopped

    print(f"\n{experiments.error_table(experiments.heldout_errors(experiment, theta))}\n")
    picture = plots.adaptation_picture(experiment, experiments.heldout_tasks(experiment, theta))
    _write(out / "adaptation.png", lambda file: picture.savefig(file, format="png"))


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: under a temporary name, flushed, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"wrote {path}")


# ---- fastmaml info


def _info(_arguments: argparse.Namespace) -> None:
    lines = {name: _version(name) for name in ("fastmaml", "numpy", "numba", "llvmlite")}
    lines["python"] = platform.python_version()
    lines["platform"] = platform.platform()
    lines["threading layer"] = jit.threading_layer()
    lines["threads"] = str(numba.get_num_threads())
    lines["cache folder"] = str(jit.cache_folder() or "none, kernels are not kept")
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}")


# ---- fastmaml warmup


def _warmup(arguments: argparse.Namespace) -> None:
    folder = jit.cache_folder()
    if folder is None:
        raise _CommandError("there is no cache folder (see fastmaml info) to keep kernels in")
    start = time.perf_counter()
    runtime.warmup(arguments.methods, arguments.dtypes)
    print(f"kernels are in {folder} after {time.perf_counter() - start:.1f} s")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed as a package"
