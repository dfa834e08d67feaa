"""``fastmaml init``: a configuration to begin with, guessed from a table.

What is guessed is printed and stands in the file, to be put right there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..learn import defaults
from . import runs
from .common import CommandError, write
from .csvfile import Format
from .guess import Guess, guessed, guessed_format
from .parquet import flat_columns, is_parquet
from .sheet import Sheet, read_sheet

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = runs.add_command(commands, "init", _init, "write a configuration to begin with")
    parser.add_argument("table", type=Path, help="CSV or Parquet: a row an observation")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the TOML file (default: the table's name, .toml)"
    )
    parser.add_argument(
        "--closed-form",
        action="store_true",
        help="tasks adapt by solving for the last layer, with standard deviations (default: MAML)",
    )


def _init(arguments: argparse.Namespace) -> None:
    table: Path = arguments.table
    out: Path = arguments.out or table.with_suffix(".toml")
    if out.exists() or out.is_symlink():
        raise CommandError(f"{out} is there; accepted are new names: --out says another")
    form = Format() if is_parquet(table) else guessed_format(table)
    names = flat_columns(table) if is_parquet(table) else []
    sheet = read_sheet(table, names, form)
    guess = guessed(sheet)
    text = configuration(sheet, guess, out, arguments.closed_form)
    write(out, lambda file: file.write(text.encode()))
    print(f"task      {guess.task} ({len(guess.counts)} tasks)")
    for kind, columns in (
        ("inputs", guess.inputs), ("of these categories", list(guess.categorical)),
        ("outputs", guess.outputs), ("not used", guess.others),
    ):  # fmt: skip
        if columns:
            print(f"{kind:<9} {', '.join(columns)}")
    if guess.missing:
        print('missing   rows that miss a cell are left out (missing = "drop")')
    print(f"These are guesses; {out} is the place to put them right. Then:")
    print(f"fastmaml train --config {out}")


def configuration(sheet: Sheet, guess: Guess, out: Path, closed_form: bool = False) -> str:
    """Return the text of a configuration, with comments."""
    counts = [count for count in guess.counts if count > 1]
    short, n = len(guess.counts) - len(counts), len(counts)
    n_test = round(0.2 * n)
    n_validation = max(2, round(defaults.VALIDATION_FRACTION * n)) if n >= 10 else 0
    width = len(guess.inputs) - len(guess.categorical) + sum(guess.categorical.values())
    hidden = defaults.HEAD_LAYER_SIZES if closed_form else defaults.HIDDEN_LAYER_SIZES
    layers = [width, *hidden, len(guess.outputs)]
    every = max(1, min(defaults.CHECK_EVERY, defaults.ITERATIONS // 20))
    comment = {
        "file": "beside this file; a row an observation",
        "task": "the column that says whose a row is; or several, as a list",
        "categorical": "inputs that are categories: a column of 0 and 1 for each",
        "missing": 'rows with missing cells: "drop" leaves them out, "error" refuses them',
        "short_tasks": "tasks with too few rows, likewise",
        "delimiter": "how the file is written; also: thousands",
        "n_tasks": "of a meta-batch",
        "n_support": "rows to adapt to: [least, most], a number, a share of a task's; others judge",
        "n_validation": "tasks held out to choose the best parameters by",
        "n_test": "tasks held out for fastmaml evaluate",
    }
    tasks: dict[str, Any] = {
        "file": _beside(sheet.path, out), "task": guess.task, "inputs": guess.inputs,
        "categorical": list(guess.categorical), "outputs": guess.outputs,
        "missing": "drop" if guess.missing else "error",
        "short_tasks": "drop" if short else "error",
    }  # fmt: skip
    plain = Format()._asdict()
    tasks |= {name: mark for name, mark in sheet.form._asdict().items() if mark != plain[name]}
    tasks |= {
        "n_tasks": max(min(defaults.META_BATCH, n - n_test - n_validation), 1),
        "n_support": _support(counts),
        "n_validation": n_validation, "n_test": n_test,
    }  # fmt: skip
    if not guess.categorical:
        del tasks["categorical"]
    lines = [
        "# Written by fastmaml init. docs/cli.md says what else there is; what is guessed wrong,",
        "# put right here. The error of fastmaml evaluate is in the units of the table.",
        "",
        "[tasks]",
        *(_line(key, value, comment.get(key)) for key, value in tasks.items()),
    ]
    if guess.others:
        lines.append(f"# not used: {', '.join(map(_toml, guess.others))}")
    lines += [
        "",
        "[model]",
        "# first the number of inputs, where each category counts; last that of outputs",
        _line("layer_sizes", layers, None),
        *(_closed_form() if closed_form else _gradient_steps(len(layers) - 1)),
        "[train]",
        _line("iterations", defaults.ITERATIONS, "at most"),
        "seed = 0",
        _line("clip_norm", defaults.CLIP_NORM, "longer gradients are scaled down"),
        *([
            _line("validate_every", every, None),
            _line("patience", defaults.PATIENCE, "validations without a new best end it"),
        ] if n_validation else ()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _support(counts: Sequence[int]) -> list[int] | float:
    """As many rows as half of most tasks', and less; of tasks that differ much, half of each."""
    half = sorted(counts)[len(counts) // 2] // 2 if counts else 0
    return [1, half] if 1 < half < min(counts) else 0.5


def _gradient_steps(n_layers: int) -> list[str]:
    """The rest of the model, MAML and its optimizers."""
    rates = [[defaults.INNER_LR] * n_layers] * defaults.STEPS
    return [
        _line("activation", defaults.ACTIVATION, "or a list: one for each hidden layer"),
        "",
        "# fastmaml init --closed-form writes the other way to adapt, with standard deviations.",
        "[maml]",
        _line("steps", defaults.STEPS, "of adaptation"),
        "# a rate for each step and layer, to start from",
        _line("inner_lr", rates, None),
        _line("loss", "mse", None),
        "task_mean = true",
        "",
        *_optimizer("optimizer", defaults.LEARNING_RATE),
        "# the inner rates are learned, too",
        *_optimizer("rate_optimizer", defaults.RATE_FACTOR * defaults.LEARNING_RATE),
    ]


def _closed_form() -> list[str]:
    """The rest of the model, the Bayesian last layer and its optimizer."""
    above = [defaults.ACTIVATION] * (len(defaults.HEAD_LAYER_SIZES) - 1)
    return [
        _line("activation", [*above, "identity"], "of each hidden layer: the features are linear"),
        "",
        "[bayesian_last_layer]             # what adapts, in closed form",
        _line("loss", "mean_nll", "the negative log density"),
        _line("noise", "per_output", None),
        "task_mean = true",
        "",
        *_optimizer("optimizer", defaults.HEAD_LEARNING_RATE),
    ]


def _optimizer(table: str, learning_rate: float) -> list[str]:
    return [
        f"[{table}]", _line("name", "Adam", None), _line("learning_rate", learning_rate, None), ""
    ]  # fmt: skip


def _beside(table: Path, out: Path) -> str:
    """The path of the table from the folder of the configuration."""
    try:
        return table.resolve().relative_to(out.parent.resolve()).as_posix()
    except ValueError:
        return table.resolve().as_posix()


def _line(key: str, value: Any, comment: str | None) -> str:
    line = f"{key} = {_toml(value)}"
    return line if comment is None else f"{line:<33} # {comment}"


def _toml(value: Any) -> str:
    if isinstance(value, str):  # TOML escapes as JSON does, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
