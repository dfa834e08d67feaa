"""Tables and the chart of a comparison."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from pathlib import Path
from typing import NamedTuple

from .contenders import CONTENDERS, FORMULA_CONTENDERS
from .contenders.with_numpy import SIZE
from .race import Outcome
from .startup import StartUp
from .workloads import WORKLOADS, useful_flops

FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"
COLOURS = {"jax": "C1", "torch": "C3", "torch-loop": "C5", "torch-compile": "C4", "numpy": "C0"}


class Cell(NamedTuple):
    """One cell of the comparison."""

    key: tuple[str, ...]  # workload, dtype; unless of a formula activation; and the loss of a head
    outcome: Outcome

    def ratio(self, name: str, ours: str = "fastmaml") -> float:
        """Time of a contender over that of ours; nan where one has none."""
        results = self.outcome.results
        if name not in results or ours not in results:
            return float("nan")
        return results[name].median / results[ours].median

    def share(self) -> float:
        """Of the machine's matrix-product speed, by useful operations."""
        results = self.outcome.results
        speed = useful_flops(WORKLOADS[self.key[0]]) / results["fastmaml"].median
        return speed / (2 * SIZE**3 / results["matmul"].median)


def line(cell: Cell) -> str:
    """A cell in short, as it comes."""
    times = [f"{name} {1e3 * r.median:.3g} ms" for name, r in cell.outcome.results.items()]
    times += [f"{name} failed" for name in cell.outcome.failures]
    return f"{' '.join(cell.key)}: {', '.join(times)}"


def tables(cells: list[Cell], starts: dict[str, StartUp], notes: list[str], seconds: float) -> str:
    """Everything as Markdown."""
    names = [name for name in CONTENDERS if any(name in c.outcome.results for c in cells)]
    names.remove("matmul")
    titles = [CONTENDERS[name].title for name in names]
    head = ["workload", "dtype", "activation"]
    times = [
        [*cell.key, *(_milliseconds(cell, name) for name in names),
         _number(cell.ratio("jax"), ".2f"), f"{cell.share():.0%}"]
        for cell in cells
    ]  # fmt: skip
    memory = [[*cell.key, *(_megabytes(cell, name) for name in names)] for cell in cells]
    parts = [
        "Milliseconds of one value and gradient: median round (fastest to slowest).",
        _table([*head, *titles, "JAX / fastmaml", "share of matrix product"], times),
        "\n".join(_ratios(cells, name) for name in names if name != "fastmaml"),
        "Most memory of the whole process, MB.",
        _table([*head, *titles], memory),
    ]
    if starts:
        rows = [
            [CONTENDERS[name].title, *(_number(value, ".2f") for value in start)]
            for name, start in starts.items()
        ]
        heads = ["", "cold", "warm", "cold, after import numba", "warm, after import numba"]
        parts += [
            "A fresh process to its first result, `sin` float32 relu, seconds.", _table(heads, rows)
        ]  # fmt: skip
    return "\n\n".join([*parts, *_end(cells, notes, seconds)]) + "\n"


def head_tables(cells: list[Cell], notes: list[str], seconds: float) -> str:
    """The same of the last layer in closed form."""
    names = [name for name in CONTENDERS if any(name in c.outcome.results for c in cells)]
    heads = ["workload", "dtype", "activation", "loss", *(CONTENDERS[n].title for n in names)]
    times = [
        [*cell.key, *(_milliseconds(cell, name) for name in names),
         _number(cell.ratio("jax"), ".2f")]
        for cell in cells
    ]  # fmt: skip
    parts = [
        "Milliseconds of one value and gradient: median round (fastest to slowest).",
        _table([*heads, "JAX / fastmaml"], times),
        "\n".join(_ratios(cells, name) for name in names if name != "fastmaml"),
        *_end(cells, notes, seconds),
    ]
    return "\n\n".join(parts) + "\n"


def formula_tables(cells: list[Cell], notes: list[str], seconds: float) -> str:
    """The same of formulas."""
    titles = {name: each.title for name, each in FORMULA_CONTENDERS.items()}
    names = [name for name in titles if any(name in c.outcome.results for c in cells)]
    ours = [name for name in names if name != "jax"]
    with_jax = "jax" in names
    ratios = [f"JAX / {titles[name]}" for name in ours if with_jax]
    times = [
        [*cell.key, *(_milliseconds(cell, name) for name in names),
         *(_number(cell.ratio("jax", name), ".2f") for name in ours if with_jax)]
        for cell in cells
    ]  # fmt: skip
    parts = [
        "Milliseconds of one value and gradient: median round (fastest to slowest).",
        _table(["formula and steps", "dtype", *(titles[name] for name in names), *ratios], times),
        "\n".join(_ratios(cells, "jax", name, titles) for name in ours if with_jax),
        *_end(cells, notes, seconds),
    ]
    return "\n\n".join(parts) + "\n"


def _end(cells: list[Cell], notes: list[str], seconds: float) -> list[str]:
    """What went wrong, and where the figures are from."""
    failures = {name: why for c in cells for name, why in c.outcome.failures.items()}
    notes = [*notes, *(f"{name} failed: `{why.strip().splitlines()[-1][:300]}`."
                       for name, why in failures.items())]  # fmt: skip
    anew = [f"{CONTENDERS[name].title} in {' '.join(c.key)} ({count})"
            for c in cells for name, count in c.outcome.restarts.items()]  # fmt: skip
    if anew:
        notes.append(f"Did not return from a turn and was started anew: {', '.join(anew)}.")
    return [" ".join(notes), f"{machine()}; {_versions(cells)}; {datetime.date.today()}; "
            f"made in {seconds / 60:.1f} minutes."]  # fmt: skip


def _ratios(
    cells: list[Cell], name: str, ours: str = "fastmaml", titles: dict[str, str] | None = None
) -> str:
    ratios = {c.key: c.ratio(name, ours) for c in cells if name in c.outcome.results}
    lowest = min(ratios, key=lambda cell: ratios[cell])
    mean = statistics.geometric_mean(ratios.values())
    return (
        f"* {CONTENDERS[name].title} / {(titles or {}).get(ours, ours)}: "
        f"geometric mean {mean:.2f}, lowest "
        f"{ratios[lowest]:.2f} ({' '.join(lowest)}), over {len(ratios)} cells"
    )


def _table(heads: list[str], rows: list[list[str]]) -> str:
    rule = ["---" if i < 3 and len(heads) > 5 else "---:" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, rule, *rows])


def _milliseconds(cell: Cell, name: str) -> str:
    if name not in cell.outcome.results:
        return ""
    times = cell.outcome.results[name][:3]
    return "{:.3g} ({:.3g} to {:.3g})".format(*(1e3 * t for t in times))


def _megabytes(cell: Cell, name: str) -> str:
    result = cell.outcome.results.get(name)
    return f"{result.memory / 1e6:.0f}" if result else ""


def _number(value: float, form: str) -> str:
    return "" if value != value else format(value, form)


def _versions(cells: list[Cell]) -> str:
    parts = [
        part
        for cell in cells
        for result in cell.outcome.results.values()
        for part in result.versions.split(", ")
    ]
    return ", ".join(dict.fromkeys(parts))


def machine() -> str:
    """Processor and number of usable cores."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            found = [text.split(":", 1)[1].strip() for text in lines if "model name" in text]
        name = found[0] if found else name
    except OSError:
        pass
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {usable} cores, Python {platform.python_version()}"


def write(name: str, text: str) -> None:
    """A file for the documentation."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(text)


def chart(cells: list[Cell], path: Path | None = None) -> None:
    """Time relative to fastmaml, a row a cell, a dot a contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 1.4 + 0.27 * len(cells)), layout="constrained")
    rows = range(len(cells))
    for name, colour in COLOURS.items():
        ratios = [cell.ratio(name) for cell in cells]
        if any(ratio == ratio for ratio in ratios):
            axes.plot(ratios, rows, "o", color=colour, label=CONTENDERS[name].title)
    axes.axvline(1, color="black", linewidth=1.5, label="fastmaml")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.set_xlabel("time relative to fastmaml (right: fastmaml is faster)")
    axes.set_yticks(rows, ["  ".join(c.key) for c in cells])
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(path or FOLDER / "comparison.png", dpi=130)
    pyplot.close(figure)
