"""Does ``method="auto"`` pick well? Times the methods on the workloads and on a grid of sizes.

``python -m benchmarks.method_choice`` writes docs/benchmarks/method_choice.md: for each cell the
time of dense over that of factored, and what "auto" loses against the best. It records the
calibration of ``fastmaml.plan.prefers_factored``. ``explicit`` is timed where P is small enough
for it to have a chance.
"""

from __future__ import annotations

import argparse
import datetime
import time
from itertools import product

import numpy as np

import fastmaml as fm
from fastmaml.methods.factored import prefers_factored

from . import report
from .workloads import DTYPES, WORKLOADS, Workload, make, problem

WIDTHS, STEPS = (8, 16, 40, 128, 512), (1, 2, 5, 10)
# Support and query rows: as many of both, or few to adapt to and many to judge by.
ROWS = (*((k, k) for k in (2, 5, 10, 20, 50, 100, 200, 1000)), (10, 100), (10, 1000), (5, 5000))
LARGEST = 3e8  # width² · (steps · support + query rows) / 2 that are worth waiting for
# Models of a few parameters, where explicit has a chance.
TINY = {
    "linear, 2 parameters": Workload((1, 1), 10, 5, 1, 1e-2, 11),
    "linear, 9 parameters": Workload((8, 1), 100, 10, 1, 1e-3, 12),
    "2-3-1": Workload((2, 3, 1), 10, 5, 1, 1e-2, 13),
    "2-3-1, 3 steps": Workload((2, 3, 1), 100, 5, 3, 1e-2, 14),
}
METHODS = ("factored", "dense", "explicit")
BOUND = 1.25  # what "auto" may lose


def best_time(
    maml: fm.MAML, theta: np.ndarray, data: tuple[np.ndarray, ...], seconds: float
) -> float:
    """The least time of one call on this thread: what other processes take does not count."""
    maml.value_and_gradient(theta, *data)
    best, start, calls = float("inf"), time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - start < seconds:
        before = time.thread_time()
        maml.value_and_gradient(theta, *data)
        best, calls = min(best, time.thread_time() - before), calls + 1
    return best


def times(model, steps, rate, theta, data, methods, seconds) -> dict[str, float]:
    """The least time of each method, on one thread."""
    with fm.threads(1):
        return {
            method: best_time(fm.MAML(model, rate, steps, method=method), theta, data, seconds)
            for method in methods
        }


def loss(
    found: dict[str, float], model: fm.MLP, theta: np.ndarray, rows: int, query_rows: int
) -> float:
    """The time of the method that "auto" takes over that of the best."""
    chosen = "factored" if prefers_factored(model, theta.dtype, rows, query_rows) else "dense"
    return found[chosen] / min(found.values())


def on_problems(seconds: float, dtypes: list[str]) -> tuple[list[str], list[float]]:
    """Rows of the table of workloads and tiny models, and what "auto" loses on each."""
    lines, losses = [], []
    for (name, work), dtype in product({**WORKLOADS, **TINY}.items(), dtypes):
        p = problem(name, dtype, "relu") if name in WORKLOADS else make(work, dtype, "relu")
        model = fm.MLP(list(p.layers), "relu")
        methods = METHODS if name in TINY else METHODS[:2]
        data = (p.x, p.y, p.x_query, p.y_query)
        found = times(model, p.steps, p.inner_lr, p.theta, data, methods, seconds)
        losses.append(loss(found, model, p.theta, work.n_rows, work.n_rows))
        cells = [f"{1e6 * found[m]:.3g}" if m in found else "" for m in METHODS]
        lines.append(f"| {name} | {dtype} | {' | '.join(cells)} | {losses[-1]:.2f} |")
        print(lines[-1], flush=True)
    return lines, losses


def on_grid(seconds: float, dtypes: list[str]) -> tuple[list[str], list[float]]:
    """Rows of the grid's table, and what "auto" loses in each cell."""
    rng, lines, losses = np.random.default_rng(0), [], []
    for dtype, width, steps in product(dtypes, WIDTHS, STEPS):
        model, cells = fm.MLP([8, width, width, 1], "relu"), []
        theta = model.init(0, dtype)
        for rows, query_rows in ROWS:
            passes = (steps * rows + query_rows) / 2
            if width * width * passes > LARGEST:
                cells.append("")
                continue
            n_tasks = int(np.clip(2e5 / (width * passes), 2, 64))
            data = tuple(
                rng.normal(size=(n_tasks, k, n)).astype(dtype)
                for k in (rows, query_rows)
                for n in (model.n_inputs, 1)
            )
            found = times(model, steps, 1e-4, theta, data, METHODS[:2], seconds)
            losses.append(loss(found, model, theta, rows, query_rows))
            mark = "" if losses[-1] <= BOUND else " !"
            cells.append(f"{found['dense'] / found['factored']:.2f}{mark}")
        lines.append(f"| {dtype} | {width} | {steps} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines, losses


def main() -> None:
    """Time, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.08, help="for each cell and method")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    options = parser.parse_args()
    start = time.perf_counter()
    problems, losses = on_problems(options.seconds, options.dtypes)
    grid, more = on_grid(options.seconds, options.dtypes)
    losses = np.array(losses + more)
    heads = (
        ["problem", "dtype", "factored, µs", "dense, µs", "explicit, µs", "auto / best"],
        ["dtype", "width", "steps", *(f"{k}, {q}" for k, q in ROWS)],
    )
    tables = [
        "\n".join([f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *lines])
        for head, lines in zip(heads, (problems, grid), strict=True)
    ]
    text = (
        'What `method="auto"` loses against the best method, on one thread, relu. Written by '
        "`python -m benchmarks.method_choice`.\n\n"
        f"**auto / best: worst {losses.max():.2f}, {np.mean(losses <= BOUND):.0%} of "
        f"{losses.size} cells within {BOUND}.**\n\n{tables[0]}\n\n"
        "The time of dense over that of factored, for networks 8-width-width-1 and K support and "
        f"query rows. Marked: auto loses more than {BOUND}.\n\n{tables[1]}\n\n"
        f"{report.machine()}; {datetime.date.today()}; made in "
        f"{(time.perf_counter() - start) / 60:.1f} minutes.\n"
    )
    report.write("method_choice.md", text)
    print(text.split("\n\n")[1])


if __name__ == "__main__":
    main()
