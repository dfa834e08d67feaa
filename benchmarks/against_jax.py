"""fastmaml against JAX on any of the workloads: ``python -m benchmarks.against_jax --help``.

Prints a Markdown table of times and ratios. Only the ratios mean something on another machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys

from .race import Entry, Outcome, race
from .workloads import ACTIVATIONS, DTYPES, WORKLOADS


def main() -> None:
    """Run the races that the command line asks for and print the table as it grows."""
    parser = argparse.ArgumentParser(description="Time fastmaml against JAX.")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS, default=ACTIVATIONS)
    parser.add_argument("--method", default="auto", help="of fastmaml (default: auto)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    entries = [Entry("fastmaml", {"method": options.method}), Entry("jax", {})]
    print("| workload | dtype | activation | fastmaml, ms | JAX, ms | JAX / fastmaml |")
    print("|---|---|---|---:|---:|---:|", flush=True)
    ratios, outcome, failed = [], None, False
    for workload in options.workloads:
        for dtype in options.dtypes:
            for activation in options.activations:
                try:
                    outcome = race(entries, workload, dtype, activation, options.rounds)
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    failed = True
                    continue
                ratios.append(outcome.timings[1].median / outcome.timings[0].median)
                cells = [workload, dtype, activation, *_milliseconds(outcome), f"{ratios[-1]:.2f}"]
                print("| " + " | ".join(cells) + " |", flush=True)
    if outcome is not None:
        mean = statistics.geometric_mean(ratios)
        print(f"\nRatio: geometric mean {mean:.2f}, lowest {min(ratios):.2f}.")
        print(f"Method {options.method!r}. Median of {options.rounds} rounds (fastest to slowest).")
        print(f"{_machine()}; {', '.join(outcome.versions)}; {datetime.date.today()}.")
    sys.exit(failed)


def _milliseconds(outcome: Outcome) -> list[str]:
    return [
        f"{1e3 * t.median:.3g} ({1e3 * t.fastest:.3g} to {1e3 * t.slowest:.3g})"
        for t in outcome.timings
    ]


def _machine() -> str:
    """Processor and number of usable cores."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
        name = names[0] if names else name
    except OSError:
        pass
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {usable} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
