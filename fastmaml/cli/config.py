"""The configuration of a training: a TOML file in, the objects that it describes out.

Each table is the arguments of one object, under the names that Python has for them; what is left
out has Python's default. docs/cli.md shows a whole file.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import MAX_SEED, as_count, as_float_dtype
from ..datasets import FAMILIES, Tasks, TaskTable
from ..datasets.base import MOST
from ..learn import SGD, Adam, AdamW, Cosine, Step, train
from ..maml import MAML
from ..models import MLP, Linear
from ..npz import DEPTH, require_shallow
from .common import CommandError, require
from .table import read_tasks

__all__ = ["Learner", "Run", "build", "learner", "read", "table_of"]

MODELS = {"MLP": MLP, "Linear": Linear}
OPTIMIZERS = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}
SCHEDULES = {"Cosine": Cosine, "Step": Step}
TABLES = ("model", "maml", "tasks", "optimizer", "rate_optimizer", "train")
#: what [train] hands on to `fastmaml.learn.train`
LOOP = ("log_rates", "clip_norm", "on_divergence", "validate_every", "patience")

# Streams of random numbers beside that of the training, so that neither changes the other.
VALIDATION, TEST = 1, 2

#: bytes of a configuration file
SIZE_LIMIT = 1_000_000


class Run(NamedTuple):
    """What a configuration describes."""

    maml: MAML
    optimizer: Any
    rate_optimizer: Any
    n_iterations: int
    seed: int
    dtype: np.dtype[Any]
    checkpoint_every: int
    loop: dict[str, Any]  # keywords of `fastmaml.learn.train`
    training: Any  # of these three, each samples tasks
    validation: Any
    test: Any
    sizes: dict[str, int]  # n_tasks, n_support, n_query of a meta-batch
    n_validation: int
    n_test: int

    def sample(self, rng: np.random.Generator) -> Tasks:
        """Draw a meta-batch."""
        return self.training.sample(**self.sizes, rng=rng, dtype=self.dtype)

    def validation_tasks(self) -> Tasks | None:
        """The tasks to validate on; None if there are none."""
        if not self.n_validation:
            return None
        return self._draw(self.validation, self.n_validation, VALIDATION)

    def test_tasks(self, n_query: int | None = None) -> Tasks:
        """The tasks to test on, which neither the training nor the validation sees."""
        return self._draw(self.test, self.n_test, TEST, n_query)

    def _draw(self, source: Any, n_tasks: int, stream: int, n_query: int | None = None) -> Tasks:
        sizes = {**self.sizes, "n_tasks": n_tasks}
        if n_query is not None:
            sizes["n_query"] = n_query
        tasks: Tasks = source.sample(**sizes, rng=_stream(self.seed, stream), dtype=self.dtype)
        return tasks


class Learner(NamedTuple):
    """What a configuration says without its data: what is learned, and of which columns."""

    maml: MAML
    inputs: list[str]
    outputs: list[str]


def _stream(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


def read(path: Path) -> dict[str, Any]:
    """Return a TOML file as dictionaries, with the path of the data made absolute."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        require("train", "cli", "tomli")
        import tomli as tomllib
    with path.open("rb") as file:
        content = file.read(SIZE_LIMIT + 1)
    try:
        if len(content) > SIZE_LIMIT:
            raise ValueError(f"it has more than {SIZE_LIMIT} bytes")
        text = content.decode("utf-8-sig")
        # tomllib takes its time, and memory, for keys such as a.a.a.a.
        if max(piece.count(".") for piece in re.split(r"[={},\n]", text)) > DEPTH:
            raise RecursionError
        configuration: dict[str, Any] = tomllib.loads(text)
        require_shallow(configuration)
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no TOML: byte {error.start} is not of UTF-8") from error
    except ValueError as error:
        raise CommandError(f"{path} is no TOML that can be read: {error}") from error
    except RecursionError as error:
        raise CommandError(f"{path} is no TOML that can be read: nested too deep") from error
    tasks = configuration.get("tasks")
    if isinstance(tasks, dict) and isinstance(tasks.get("file"), str):
        try:
            tasks["file"] = str((path.parent / tasks["file"]).resolve())
        except (OSError, ValueError, RuntimeError) as error:  # a NUL byte, links in a circle
            raise CommandError(f"{path}, [tasks] file: {error}") from error
    return configuration


def learner(configuration: Mapping[str, Any]) -> Learner:
    """Return what is learned, for which no data is read.

    Raises
    ------
    CommandError
        For what is missing, unknown or not accepted; the text names the table and the key.
    """
    tables = _tables(configuration)
    model = _made("model", MODELS, {"name": "MLP", **tables["model"]})
    maml = _call("maml", MAML, {"model": model, **tables["maml"]})
    if ("family" in tables["tasks"]) == ("file" in tables["tasks"]):
        raise CommandError("[tasks] needs either family or file")
    sides = (("inputs", "x", model.n_inputs), ("outputs", "y", model.n_outputs))
    return Learner(maml, *(_columns(tables["tasks"], *side) for side in sides))


def _columns(tasks: dict[str, Any], side: str, letter: str, width: int) -> list[str]:
    """The names of the inputs or outputs; a family's are made up."""
    if "file" not in tasks:
        return [letter] if width == 1 else [f"{letter}{i}" for i in range(1, width + 1)]
    given = tasks.get(side)
    names = given if isinstance(given, list) else []
    if len(names) != width or not all(isinstance(name, str) for name in names):
        raise CommandError(
            f"[tasks] {side} is {given!r}; accepted are the names of {width} columns, "
            f"as many as the model has {side}"
        )
    return names


def build(configuration: Mapping[str, Any]) -> Run:
    """Return all that a configuration describes; reads the data.

    Raises
    ------
    CommandError
        As `learner`, and for data that does not fit.
    """
    tables, (maml, inputs, outputs) = _tables(configuration), learner(configuration)
    optimizer = _optimizer("optimizer", {"name": "Adam", **tables["optimizer"]})
    rates = tables["rate_optimizer"]
    options = dict(tables["train"])
    accepted = ("iterations", "seed", "dtype", "checkpoint_every", *LOOP)
    _known("[train]", options, accepted)
    seed = _checked("train", as_count, "seed", options.pop("seed", 0), 0, MAX_SEED)
    dtype = _checked("train", as_float_dtype, "dtype", options.pop("dtype", "float64"))
    run = _tasks(tables["tasks"], inputs, outputs, seed, dtype)
    result = Run(
        maml=maml,
        optimizer=optimizer,
        rate_optimizer=_optimizer("rate_optimizer", rates) if rates else None,
        n_iterations=_checked("train", as_count, "iterations", options.pop("iterations", None), 1),
        seed=seed,
        dtype=dtype,
        checkpoint_every=_checked(
            "train", as_count, "checkpoint_every", options.pop("checkpoint_every", 100), 1
        ),
        loop=options,
        **run,
    )
    # What the loop would refuse is refused before the training.
    validation = (None, None) if result.n_validation else None
    _call("train", train, {
        "maml": maml, "theta": np.zeros(maml.model.n_params), "sampler": tuple,
        "optimizer": optimizer, "rate_optimizer": result.rate_optimizer, "n_iterations": 0,
        "validation": validation, **options,
    })  # fmt: skip
    return result


def _tasks(
    table: dict[str, Any], inputs: list[str], outputs: list[str], seed: int, dtype: np.dtype[Any]
) -> dict[str, Any]:
    """The fields of a Run that say where tasks come from."""
    table = dict(table)
    sizes = {
        name: _checked("tasks", as_count, name, table.pop(name, default), least, MOST)
        for name, default, least in (("n_tasks", 25, 1), ("n_support", 10, 1), ("n_query", 10, 0))
    }
    default_test = 600 if "family" in table else 0
    n_validation, n_test = (
        _checked("tasks", as_count, name, table.pop(name, default), 0, MOST)
        for name, default in (("n_validation", 0), ("n_test", default_test))
    )
    if "family" in table:
        table["name"] = table.pop("family")
        parts = [
            _made("tasks", FAMILIES, {"part": part, **table}, "family")
            for part in ("train", "train", "test")  # what validates comes from a stream of its own
        ]
    else:
        rows = _read_table(table, inputs, outputs, dtype)
        parts = _split(rows, sizes, n_validation, n_test, seed)
    return {
        **dict(zip(("training", "validation", "test"), parts, strict=True)),
        "sizes": sizes, "n_validation": n_validation, "n_test": n_test,
    }  # fmt: skip


def _read_table(
    table: dict[str, Any], inputs: list[str], outputs: list[str], dtype: np.dtype[Any]
) -> TaskTable:
    _known("[tasks]", table, ("file", "task", "inputs", "outputs"))
    for name in ("file", "task"):
        if not isinstance(table.get(name), str):
            raise CommandError(f"[tasks] {name} is {table.get(name)!r}; accepted is a text")
    return read_tasks(Path(table["file"]), table["task"], inputs, outputs, dtype)


def _split(
    table: TaskTable, sizes: dict[str, int], n_validation: int, n_test: int, seed: int
) -> list[TaskTable]:
    """Hold tasks out for validation and test, and see that enough are left."""
    _checked("tasks", table.require_rows, sizes["n_support"] + sizes["n_query"])
    n_left = table.n_tasks - n_validation - n_test
    if n_left < sizes["n_tasks"]:
        raise CommandError(
            f"[tasks] n_tasks is {sizes['n_tasks']}, n_validation {n_validation}, n_test {n_test}; "
            f"accepted are together up to {table.n_tasks}, the tasks of the file"
        )
    return list(table.hold_out(n_validation, n_test, seed))


# ---- tables of a file as calls


def _tables(configuration: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    _known("the configuration", configuration, TABLES)
    return {name: table_of(configuration, name) for name in TABLES}


def table_of(configuration: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a table of the configuration, empty if it is not there."""
    found = configuration.get(name, {})
    if not isinstance(found, dict):
        raise CommandError(f"{name} is {found!r:.60}; accepted is a table, [{name}]")
    return found


def _known(where: str, table: Iterable[str], accepted: Iterable[str]) -> None:
    for key in table:
        if key not in accepted:
            raise CommandError(f"{where} has {key!r}; accepted are {', '.join(accepted)}")


def _made(where: str, classes: Mapping[str, Any], table: dict[str, Any], key: str = "name") -> Any:
    """The object whose class a table names, made with the rest of the table."""
    rest = dict(table)
    name = rest.pop("name", None)
    if not isinstance(name, str) or name not in classes:
        raise CommandError(f"[{where}] {key} is {name!r}; accepted are {', '.join(classes)}")
    return _call(where, classes[name], rest)


def _optimizer(where: str, table: dict[str, Any]) -> Any:
    rate = table.get("learning_rate")
    if isinstance(rate, dict):
        rate = _made(f"{where}.learning_rate", SCHEDULES, rate)
        table = {**table, "learning_rate": rate}
    return _made(where, OPTIMIZERS, table)


def _call(where: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function with a table's keys as its arguments."""
    parameters = inspect.signature(function).parameters
    _known(f"[{where}]", arguments, parameters)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise CommandError(f"[{where}] lacks {name}")
    return _checked(where, function, **arguments)


def _checked(where: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    try:
        return function(*arguments, **keywords)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CommandError(f"[{where}] {error}") from error
