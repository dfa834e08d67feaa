"""fastmaml against its peers on the workloads: ``python -m benchmarks.compare --help``.

Writes tables and a chart of gradient steps (docs/benchmarks/table.md, comparison.png), and a table
of the last layer in closed form (docs/benchmarks/head.md) and one of formulas
(docs/benchmarks/formulas.md). ``--heads`` and ``--formulas`` make one of the latter alone. What the
figures mean is in docs/benchmarks.md; only ratios mean something on another machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product

from . import report
from .contenders import CONTENDERS, FORMULA_CONTENDERS, HEAD_CONTENDERS
from .race import Entry, race
from .startup import start_up
from .workloads import ACTIVATIONS, DTYPES, FORMULAS, HEAD_LOSSES, HEADS, WORKLOADS

# torch.compile needs most of a minute for a cell, so it is given this one unless it is asked for.
TORCH_COMPILE_CELL = ("sin", "float32", "relu")


def main() -> None:
    """Run the races that the command line asks for and write what they gave."""
    parser = argparse.ArgumentParser(description="Time fastmaml against its peers.")
    peers = [name for name, contender in CONTENDERS.items() if contender.is_peer]
    names = [*WORKLOADS, *HEADS, *FORMULAS]
    parser.add_argument("--workloads", nargs="+", choices=names, help="default: all")
    parser.add_argument("--heads", action="store_true", help="only those in closed form")
    parser.add_argument("--formulas", action="store_true", help="only those of formulas")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS, default=ACTIVATIONS)
    parser.add_argument("--contenders", nargs="+", choices=peers, help="default: all installed")
    parser.add_argument("--method", default="auto", help="of fastmaml (default: auto)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only-timings", action="store_true", help="no start-up times; print, write no files"
    )
    options = parser.parse_args()

    wanted = options.contenders or peers
    skipped = [CONTENDERS[name].title for name in wanted if CONTENDERS[name].missing()]
    wanted = [name for name in wanted if not CONTENDERS[name].missing()]
    # Compiling would count as memory of the first cell's process.
    warmup = "from fastmaml.runtime import warmup; warmup()"
    subprocess.run([sys.executable, "-c", warmup], check=True)

    groups = {"heads": HEADS, "formulas": FORMULAS}
    alone = [group for word, group in groups.items() if getattr(options, word)]
    asked = options.workloads or [
        name for group in alone or (WORKLOADS, *groups.values()) for name in group
    ]
    failed = False
    of_steps = [name for name in asked if name in WORKLOADS]
    if of_steps:
        failed |= _compare_steps(options, of_steps, wanted, skipped)
    of_heads = [name for name in asked if name in HEADS]
    if of_heads:
        failed |= _compare_heads(options, of_heads, wanted)
    of_formulas = [name for name in asked if name in FORMULAS]
    if of_formulas:
        failed |= _compare_formulas(options, of_formulas, wanted)
    sys.exit(failed)


def _run(
    races: Iterable[tuple[Sequence[str], list[Entry]]], rounds: int
) -> tuple[list[report.Cell], list[str]]:
    """Run races; what they gave, and why others gave nothing."""
    cells, wrong = [], []
    for cell, entries in races:
        try:
            cells.append(report.Cell(tuple(cell), race(entries, cell, rounds)))
        except RuntimeError as error:
            wrong.append(str(error))
            print(error, file=sys.stderr)
            continue
        print(report.line(cells[-1]), flush=True)
    return cells, wrong


def _compare_heads(options: argparse.Namespace, workloads: list[str], wanted: list[str]) -> bool:
    """The table of the last layer in closed form; whether a race failed."""
    names = ["fastmaml", *(name for name in wanted if name in HEAD_CONTENDERS)]
    cells = product(workloads, options.dtypes, options.activations, HEAD_LOSSES)
    return _compare(options, cells, names, report.head_tables, "head.md")


def _compare_formulas(options: argparse.Namespace, workloads: list[str], wanted: list[str]) -> bool:
    """The table of formulas; whether a race failed."""
    names = ["fastmaml", "custom", *(name for name in wanted if name in FORMULA_CONTENDERS)]
    cells = product(workloads, options.dtypes)
    return _compare(options, cells, names, report.formula_tables, "formulas.md")


def _compare(
    options: argparse.Namespace,
    keys: Iterable[Sequence[str]],
    names: list[str],
    tables: Callable[[list[report.Cell], list[str], float], str],
    file: str,
) -> bool:
    """One table in a file of its own; whether a race failed."""
    start = time.perf_counter()
    entries = [Entry(name) for name in names]
    cells, wrong = _run(((cell, entries) for cell in keys), options.rounds)
    if cells:
        notes = [f"Median of {options.rounds} rounds.", *_left_out(wrong)]
        text = tables(cells, notes, time.perf_counter() - start)
        print("\n" + text)
        if not options.only_timings:
            report.write(file, text)
    return bool(wrong)


def _left_out(wrong: list[str]) -> list[str]:
    return [f"Left out: {error.splitlines()[0]}." for error in wrong]


def _compare_steps(
    options: argparse.Namespace, workloads: list[str], wanted: list[str], skipped: list[str]
) -> bool:
    """The table and the chart of gradient steps; whether a race failed."""
    start = time.perf_counter()

    def entries(cell: tuple[str, ...]) -> list[Entry]:
        names = ["fastmaml", *wanted, "matmul"]
        if options.contenders is None and cell != TORCH_COMPILE_CELL:
            names = [name for name in names if name != "torch-compile"]
        return [
            Entry(name, {"method": options.method} if name == "fastmaml" else {}) for name in names
        ]

    keys = product(workloads, options.dtypes, options.activations)
    cells, wrong = _run(((cell, entries(cell)) for cell in keys), options.rounds)
    starts = {}
    if not options.only_timings:
        for name in ["fastmaml", *wanted]:
            try:
                starts[name] = start_up(name)
            except subprocess.CalledProcessError:
                print(f"no start-up time of {name}: its process failed", file=sys.stderr)
    if cells:
        seconds = time.perf_counter() - start
        notes = [f"Median of {options.rounds} rounds; method {options.method!r}."]
        notes += [f"Skipped, not installed: {', '.join(skipped)}."] if skipped else []
        notes += _left_out(wrong)
        text = report.tables(cells, starts, notes, seconds)
        print("\n" + text)
        if not options.only_timings:
            report.write("table.md", text)
            report.chart(cells)
    return bool(wrong)


if __name__ == "__main__":
    main()
