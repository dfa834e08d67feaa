"""The configuration of a training: a TOML file in, the objects that it describes out.

Each table is the arguments of one object, under the names that Python has for them; what is left
out has Python's default. docs/cli.md shows a whole file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import MAX_SEED, as_count, as_flag, as_float_dtype
from ..closed_form import BayesianLastLayer
from ..datasets import FAMILIES, Tasks
from ..datasets.base import MOST, as_n_support, most_support
from ..files import open_file
from ..learn import Scaling, train
from ..losses import kinds
from ..maml import MAML
from ..models import MLP, Linear
from ..npz import DEPTH, require_shallow
from . import calls
from .common import CommandError, require
from .held import N_TASKS, Tables, as_sizes, read_tables, spread
from .record import Record
from .table import LAYOUT_KEYS, Layout, as_layout, encoded_names

__all__ = ["Learner", "Objective", "Run", "build", "learner", "read", "with_data"]

Objective = MAML | BayesianLastLayer

MODELS = {"MLP": MLP, "Linear": Linear}
#: losses with parameters, by the words that mean their defaults
WITH_PARAMETERS = {
    "huber": kinds.Huber,
    "pseudo_huber": kinds.PseudoHuber,
    "log_cosh": kinds.LogCosh,
    "quantile": kinds.Quantile,
}
SIZES = ("n_tasks", "n_support", "n_query", "n_validation", "n_test")
#: what [train] hands on to `fastmaml.learn.train`
LOOP = ("log_rates", "clip_norm", "on_divergence", "validate_every", "patience")

# Streams of random numbers beside that of the training, so that neither changes the other.
VALIDATION, TEST = 1, 2

#: bytes of a configuration file
SIZE_LIMIT = 1_000_000


class Run(NamedTuple):
    """What a configuration describes."""

    objective: Objective
    optimizer: Any
    rate_optimizer: Any
    n_iterations: int
    seed: int
    dtype: np.dtype[Any]
    checkpoint_every: int
    loop: dict[str, Any]  # keywords of `fastmaml.learn.train`
    sizes: dict[str, Any]  # n_tasks, n_support, n_query of a meta-batch
    source: Families | Tables
    inputs: list[str]  # the names of the columns that the model takes
    outputs: list[str]

    def init(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the parameters to start from."""
        theta: np.ndarray = getattr(self.objective, "init", self.objective.model.init)(
            rng, self.dtype
        )
        return theta

    def sample(self, rng: np.random.Generator) -> Tasks:
        """Draw a meta-batch."""
        return self.source.training.sample(**self.sizes, rng=rng, dtype=self.dtype)

    def validation_tasks(self) -> Tasks | None:
        """The tasks to validate on, scaled; None if there are none."""
        rng = _stream(self.seed, VALIDATION)
        return self.source.validation_tasks(self.sizes, rng, self.dtype)

    def test_tasks(self, n_query: int) -> tuple[Tasks, Sequence[Any] | None]:
        """The tasks to test on, which the training does not see, in the user's units; their names.

        A family, which has as many rows as one likes, gives `n_query` to judge by.
        """
        return self.source.test_tasks(self.sizes, _stream(self.seed, TEST), self.dtype, n_query)

    @property
    def scaling(self) -> Scaling | None:
        """Between the user's units and those of the training."""
        return self.source.record.scaling if isinstance(self.source, Tables) else None

    @property
    def changes(self) -> str:
        """What has become of the data since the record; nothing if it is what it was."""
        return self.source.changes if isinstance(self.source, Tables) else ""

    @property
    def record(self) -> Record | None:
        """What the checkpoint is to hold of the data."""
        return self.source.record if isinstance(self.source, Tables) else None


class Families(NamedTuple):
    """Where tasks of a family come from."""

    training: Any
    test: Any
    n_validation: int
    n_test: int

    def validation_tasks(
        self, sizes: dict[str, Any], rng: np.random.Generator, dtype: np.dtype[Any]
    ) -> Tasks | None:
        """Draw the tasks to validate on."""
        if not self.n_validation:
            return None
        sizes = {**sizes, "n_tasks": self.n_validation}
        return _judging(self.training, sizes, rng, dtype)

    def test_tasks(
        self, sizes: dict[str, Any], rng: np.random.Generator, dtype: np.dtype[Any], n_query: int
    ) -> tuple[Tasks, None]:
        """Draw the tasks to test on."""
        if not self.n_test:
            raise CommandError("no tasks are held out: [tasks] n_test is 0 in the configuration")
        sizes = {**sizes, "n_tasks": self.n_test, "n_query": n_query}
        return _judging(self.test, sizes, rng, dtype), None


def _judging(
    family: Any, sizes: dict[str, Any], rng: np.random.Generator, dtype: np.dtype[Any]
) -> Tasks:
    """Draw tasks that judge; of a range of support rows, each task has its own number."""
    n_support = sizes["n_support"]
    most = most_support(n_support)
    tasks: Tasks = family.sample(**{**sizes, "n_support": most}, rng=rng, dtype=dtype)
    if not isinstance(n_support, tuple):
        return tasks
    counts = spread(n_support, len(tasks.x), rng)
    x: Any = [rows[:n] for rows, n in zip(tasks.x, counts, strict=True)]
    y: Any = [rows[:n] for rows, n in zip(tasks.y, counts, strict=True)]
    return Tasks(x, y, tasks.x_query, tasks.y_query)


class Learner(NamedTuple):
    """What a configuration says without its data: what is learned, and of which columns."""

    objective: Objective
    layout: Layout | None  # of the file, if it is one
    inputs: list[str]  # the names of the columns that the model takes
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
    with open_file(path) as file:
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


def learner(configuration: Mapping[str, Any], record: Record | None = None) -> Learner:
    """Return what is learned, for which no data is read.

    Raises
    ------
    CommandError
        For what is missing, unknown or not accepted; the text names the table and the key.
    """
    tables = calls.tables_of(configuration)
    tasks = tables["tasks"]
    model = calls.made("model", MODELS, {"name": "MLP", **tables["model"]})
    objective = _objective(configuration, model)
    if ("family" in tasks) == ("file" in tasks):
        raise CommandError("[tasks] needs either family or file")
    if "family" in tasks:
        sides = _made_up("x", model.n_inputs), _made_up("y", model.n_outputs)
        return Learner(objective, None, *sides)
    calls.known("[tasks]", tasks, ("file", *LAYOUT_KEYS, "scale", *SIZES))
    layout = as_layout(tasks)
    categories = {} if record is None else record.categories
    if set(categories) != set(layout.categorical) and record is not None:
        raise CommandError("the record of its categories is damaged; train again")
    if record is not None or not layout.categorical:
        _require_width(model, layout, categories)
    elif len(layout.outputs) != model.n_outputs:
        _require_width(model, layout, {name: [""] for name in layout.categorical})
    _require_free(layout, objective)
    inputs = encoded_names(layout, categories) if record is not None else list(layout.inputs)
    return Learner(objective, layout, inputs, list(layout.outputs))


def _objective(configuration: Mapping[str, Any], model: Any) -> Objective:
    """How tasks adapt: the objective whose table is there, MAML if none is."""
    tables = calls.tables_of(configuration)
    if "bayesian_last_layer" not in configuration:
        given = dict(tables["maml"])
        for key in ("loss", "query_loss"):
            if isinstance(given.get(key), dict):
                given[key] = calls.made(f"maml.{key}", WITH_PARAMETERS, given[key])
        maml: MAML = calls.call("maml", MAML, {"model": model, **given})
        if not maml._predicts_y:
            key = "loss" if maml.query_loss is None else "query_loss"
            raise CommandError(
                f"[maml] {key} is {getattr(maml, key)!r:.60}; accepted here are losses of f - y, "
                "whose outputs are predictions of y (fastmaml.MAML takes all)"
            )
        return maml
    for name in ("maml", "rate_optimizer"):
        if name in configuration:
            raise CommandError(
                f"the configuration has [{name}] beside [bayesian_last_layer]; accepted is one "
                "without the other, as the last layer adapts in closed form and has no inner rates"
            )
    head: BayesianLastLayer = calls.call(
        "bayesian_last_layer", BayesianLastLayer, {"model": model, **tables["bayesian_last_layer"]}
    )
    return head


def with_data(configuration: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """Return a configuration whose table is in another file; the same if there is none.

    Raises
    ------
    CommandError
        For a family, which has no file.
    """
    if path is None:
        return dict(configuration)
    tasks = calls.table_of(configuration, "tasks")
    if "file" not in tasks:
        raise CommandError(f"--data is {path}; accepted is none, as the tasks are of a family")
    return {**configuration, "tasks": {**tasks, "file": str(path.resolve())}}


def _made_up(letter: str, width: int) -> list[str]:
    return [letter] if width == 1 else [f"{letter}{i}" for i in range(1, width + 1)]


def _require_free(layout: Layout, objective: Objective) -> None:
    """Raise CommandError if what `adapt` adds for an output is already the name of a column."""
    kinds = ("predicted", "std") if isinstance(objective, BayesianLastLayer) else ("predicted",)
    for output in layout.outputs:
        for name in (f"{output}_{kind}" for kind in kinds):
            if name in (*layout.task, *layout.inputs):
                raise CommandError(
                    f"[tasks] task and inputs have {name!r:.60}, which fastmaml adapt writes for "
                    f"the output {output!r:.60}; accepted are other names"
                )


def _require_width(model: Any, layout: Layout, categories: Mapping[str, Sequence[str]]) -> None:
    """Raise CommandError unless the model has the inputs and outputs of the columns."""
    sides = (("inputs", encoded_names(layout, categories), model.n_inputs),
             ("outputs", list(layout.outputs), model.n_outputs))  # fmt: skip
    for side, names, width in sides:
        if len(names) != width:
            one = " (a category is a column of 0 and 1)" if layout.categorical else ""
            raise CommandError(
                f"[tasks] {side} is {names!r:.300}, {len(names)} columns{one}; accepted are the "
                f"names of {width} columns, as many as the model has {side}"
            )


def build(
    configuration: Mapping[str, Any], record: Record | None = None, training: bool = True
) -> Run:
    """Return all that a configuration describes; reads the data.

    Parameters
    ----------
    configuration : dict
    record : Record, optional
        Of the training that goes on, or is evaluated: its tasks stay what they were.
    training : bool
        Whether there must be enough tasks to train on.

    Raises
    ------
    CommandError
        As `learner`, and for data that does not fit.
    """
    tables, learned = calls.tables_of(configuration), learner(configuration, record)
    objective = learned.objective
    optimizer = calls.optimizer("optimizer", {"name": "Adam", **tables["optimizer"]})
    rates = tables["rate_optimizer"]
    options = dict(tables["train"])
    accepted = ("iterations", "seed", "dtype", "checkpoint_every", *LOOP)
    calls.known("[train]", options, accepted)
    seed = calls.checked("train", as_count, "seed", options.pop("seed", 0), 0, MAX_SEED)
    iterations = options.pop("iterations", None)
    numbers = {
        "n_iterations": calls.checked("train", as_count, "iterations", iterations, 1),
        "dtype": calls.checked("train", as_float_dtype, "dtype", options.pop("dtype", "float64")),
        "checkpoint_every": calls.checked(
            "train", as_count, "checkpoint_every", options.pop("checkpoint_every", 100), 1
        ),
    }  # fmt: skip
    rate_optimizer = calls.optimizer("rate_optimizer", rates) if rates else None
    layout, inputs = learned.layout, learned.inputs
    if layout is not None and tables["tasks"].get("scale") is False:
        layout = layout._replace(dtype=numbers["dtype"])
    sizes, source = _tasks(tables["tasks"], layout, seed, record, training, numbers["dtype"])
    if isinstance(source, Tables) and layout is not None:
        _require_width(objective.model, layout, source.record.categories)
        inputs = encoded_names(layout, source.record.categories)
    if isinstance(source, Families):
        model, family = objective.model, source.training
        widths = family.n_inputs, family.n_outputs
        if (model.n_inputs, model.n_outputs) != widths:
            raise CommandError(
                f"[model] has {model.n_inputs} inputs and {model.n_outputs} outputs; accepted are "
                f"those of the family, {widths[0]} and {widths[1]}"
            )
    result = Run(
        objective=objective, optimizer=optimizer, rate_optimizer=rate_optimizer, seed=seed,
        loop=options, sizes=sizes, source=source, inputs=inputs, outputs=learned.outputs, **numbers,
    )  # fmt: skip
    # What the loop would refuse is refused before the training.
    calls.call("train", train, {
        "maml": objective, "theta": np.zeros(objective._space.n_params), "sampler": tuple,
        "optimizer": optimizer, "n_iterations": 0, "rate_optimizer": rate_optimizer,
        "validation": (None, None) if source.n_validation or not training else None, **options,
    })  # fmt: skip
    return result


def _tasks(
    table: dict[str, Any],
    layout: Layout | None,
    seed: int,
    record: Record | None,
    training: bool,
    dtype: np.dtype[Any],
) -> tuple[dict[str, Any], Families | Tables]:
    """The sizes of a meta-batch, and where tasks come from."""
    if layout is not None:
        scale = calls.checked("tasks", as_flag, "scale", table.get("scale", True))
        if not isinstance(table["file"], str):
            raise CommandError(f"[tasks] file is {table['file']!r}; accepted is a text")
        sizes = calls.checked(
            "tasks", as_sizes, {name: table[name] for name in SIZES if name in table}
        )
        source = read_tables(
            Path(table["file"]), layout, sizes, scale, seed, record, training, dtype
        )
        n_tasks = sizes.n_tasks or min(N_TASKS, max(source.parts.training.n_tasks, 1))
        n_support = sizes.n_support
        return {"n_tasks": n_tasks, "n_support": n_support, "n_query": sizes.n_query}, source
    table = dict(table)
    counts = {
        name: calls.checked("tasks", as_count, name, table.pop(name, default), least, MOST)
        for name, default, least in (
            ("n_tasks", 25, 1), ("n_query", 10, 0), ("n_validation", 0, 0), ("n_test", 600, 0),
        )
    }  # fmt: skip
    n_support = calls.checked("tasks", as_n_support, table.pop("n_support", 10))
    table["name"] = table.pop("family")
    # What validates comes from a stream of its own.
    sampled, test = (
        calls.made("tasks", FAMILIES, {"part": part, **table}, "family")
        for part in ("train", "test")
    )
    n_validation, n_test = counts.pop("n_validation"), counts.pop("n_test")
    sizes = {**counts, "n_support": n_support}
    return sizes, Families(sampled, test, n_validation, n_test)
