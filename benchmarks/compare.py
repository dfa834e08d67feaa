"""fastmaml against its peers on the workloads: ``python -m benchmarks.compare --help``.

Writes tables (docs/benchmarks/table.md) and a chart (docs/benchmarks/comparison.png). What the
figures mean is in docs/benchmarks.md; only ratios mean something on another machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from itertools import product

from . import report
from .contenders import CONTENDERS
from .race import Entry, race
from .startup import start_up
from .workloads import ACTIVATIONS, DTYPES, WORKLOADS

# torch.compile needs most of a minute for a cell, so it is given this one unless it is asked for.
TORCH_COMPILE_CELL = ("sin", "float32", "relu")


def main() -> None:
    """Run the races that the command line asks for and write what they gave."""
    parser = argparse.ArgumentParser(description="Time fastmaml against its peers.")
    peers = [name for name, contender in CONTENDERS.items() if contender.is_peer]
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS, default=ACTIVATIONS)
    parser.add_argument("--contenders", nargs="+", choices=peers, help="default: all installed")
    parser.add_argument("--method", default="auto", help="of fastmaml (default: auto)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only-timings", action="store_true", help="no start-up times; print, write no files"
    )
    options = parser.parse_args()

    start = time.perf_counter()
    wanted = options.contenders or peers
    skipped = [CONTENDERS[name].title for name in wanted if CONTENDERS[name].missing()]
    wanted = [name for name in wanted if not CONTENDERS[name].missing()]
    # Compiling would count as memory of the first cell's process.
    warmup = "from fastmaml.runtime import warmup; warmup()"
    subprocess.run([sys.executable, "-c", warmup], check=True)

    cells, wrong = [], []
    for cell in product(options.workloads, options.dtypes, options.activations):
        names = ["fastmaml", *wanted, "matmul"]
        if options.contenders is None and cell != TORCH_COMPILE_CELL:
            names = [name for name in names if name != "torch-compile"]
        entries = [
            Entry(name, {"method": options.method} if name == "fastmaml" else {}) for name in names
        ]
        try:
            cells.append(report.Cell(*cell, race(entries, *cell, options.rounds)))
        except RuntimeError as error:
            wrong.append(str(error))
            print(error, file=sys.stderr)
            continue
        print(report.line(cells[-1]), flush=True)
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
        notes += [f"Left out: {error.splitlines()[0]}." for error in wrong]
        text = report.tables(cells, starts, notes, seconds)
        print("\n" + text)
        if not options.only_timings:
            report.write("table.md", text)
            report.chart(cells)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
