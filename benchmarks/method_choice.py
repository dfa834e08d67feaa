"""Does ``method="auto"`` pick well? Times dense and factored on a grid of widths, steps and rows.

``python -m benchmarks.method_choice`` prints, for each cell, the time of dense over that of
factored, and what "auto" loses against the better one. It records the calibration of
``fastmaml.plan.prefers_factored``.
"""

from __future__ import annotations

import argparse
import time
from itertools import product

import numpy as np

import fastmaml as fm
from fastmaml.plan import prefers_factored

WIDTHS, STEPS, ROWS = (8, 16, 40, 128, 512), (1, 2, 5, 10), (2, 5, 10, 20, 50, 100, 200, 1000)
LARGEST = 3e8  # width² · steps · rows that are worth waiting for


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.15, help="for each cell and method")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    seconds, dtypes = (vars(parser.parse_args())[name] for name in ("seconds", "dtypes"))
    rng, losses = np.random.default_rng(0), []
    print("| dtype | width | steps | " + " | ".join(f"K = {rows}" for rows in ROWS) + " |")
    print("|" + " --- |" * (3 + len(ROWS)))
    for dtype, width, steps in product(dtypes, WIDTHS, STEPS):
        model, cells = fm.MLP([8, width, width, 1], "relu"), []
        theta = model.init(0, dtype)
        for rows in ROWS:
            if width * width * steps * rows > LARGEST:
                cells.append("")
                continue
            n_tasks = int(np.clip(2e5 / (width * rows * steps), 2, 64))
            data = tuple(
                rng.normal(size=(n_tasks, rows, n)).astype(dtype)
                for n in (model.n_inputs, 1, model.n_inputs, 1)
            )
            with fm.threads(1):
                dense, factored = (
                    best_time(fm.MAML(model, 1e-4, steps, method=method), theta, data, seconds)
                    for method in ("dense", "factored")
                )
            chosen = factored if prefers_factored(model, theta.dtype, rows) else dense
            losses.append(chosen / min(dense, factored))
            cells.append(f"{dense / factored:.2f}" + ("" if losses[-1] <= 1.25 else " !"))
        print(f"| {dtype} | {width} | {steps} | " + " | ".join(cells) + " |", flush=True)
    print(
        f"\nauto / best: worst {max(losses):.2f}, "
        f"{np.mean(np.array(losses) <= 1.25):.0%} within 1.25"
    )


if __name__ == "__main__":
    main()
