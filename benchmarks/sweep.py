"""fastmaml and JAX over tasks, width, rows and steps: ``python -m benchmarks.sweep``.

One size at a time is varied from the base point, which is the ``sin`` workload. Writes
docs/benchmarks/sweeps.png and sweeps.md; the last line names every point at which JAX is faster.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import statistics
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from . import report
from .contenders import CONTENDERS
from .race import TOLERANCE, distance, seconds_a_call
from .workloads import ACTIVATIONS, Workload, make

DTYPE, ROUNDS, SECONDS_PER_TURN = "float32", 3, 0.1
MAX_BYTES = 6_000_000_000
SWEEPS = {
    "tasks": (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
    "width": (8, 16, 32, 64, 128, 256, 512, 1024, 2048),
    "rows": (1, 2, 5, 10, 20, 50, 100, 200),
    "steps": (1, 2, 3, 5, 10, 20),
}


class Point(NamedTuple):
    """Seconds a call of each library at one size; None for JAX where it was not run, and why."""

    sweep: str
    size: int
    fastmaml: float
    jax: float | None
    skipped: str = ""


def workload(sweep: str, size: int) -> Workload:
    """The base point with one size changed; the width is that of two hidden layers of 32 tasks."""
    width = size if sweep == "width" else 40
    n_tasks = {"tasks": size, "width": 32}.get(sweep, 25)
    n_rows = size if sweep == "rows" else 10
    steps = size if sweep == "steps" else 1
    # Small enough that the adapted parameters stay finite, for the half_sse loss.
    rate = 2e-2 / n_rows * min(1.0, 40 / width)
    return Workload((1, width, width, 1), n_tasks, n_rows, steps, rate, 7)


def main() -> None:
    """Run the sweeps and write the picture and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu")
    parser.add_argument("--largest", type=int, help="leave out sizes above this; write no files")
    options = parser.parse_args()

    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name in ("fastmaml", "jax"):
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, name), daemon=True))
        processes[-1].start()
        theirs.close()
    points = []
    for sweep in options.sweeps:
        for size in SWEEPS[sweep]:
            if size <= (options.largest or size):
                points.append(_measure(pipes, sweep, size, options.activation))
                print(_row(points[-1]), flush=True)
    for pipe in pipes.values():
        pipe.close()
    for process in processes:
        process.join(timeout=5)
        if process.is_alive():
            process.kill()
    text = _text(points, options.activation, time.perf_counter() - start)
    print("\n" + text)
    if options.largest is None:
        report.write("sweeps.md", text)
        _plot(points)


def _measure(pipes: dict[str, Connection], sweep: str, size: int, activation: str) -> Point:
    """One point: both results are compared, then the libraries take turns."""
    results, turns = {}, {"fastmaml": [], "jax": []}
    for name, pipe in pipes.items():
        pipe.send((workload(sweep, size), activation))
        results[name] = _receive(pipe, name)
    skipped = "" if isinstance(results["jax"], tuple) else str(results["jax"])
    runners = ["fastmaml"] if skipped else ["fastmaml", "jax"]
    if not skipped:
        error = distance(results["jax"], results["fastmaml"])
        if not error <= TOLERANCE[DTYPE]:
            raise RuntimeError(f"results disagree at {size} {sweep}: {error:.1e} relative")
    for _ in range(ROUNDS):
        for name in runners:
            time.sleep(0.02)  # threads of the turn before may still be spinning
            pipes[name].send(None)
            turns[name].append(_receive(pipes[name], name))
    median = statistics.median
    return Point(
        sweep, size, median(turns["fastmaml"]), None if skipped else median(turns["jax"]), skipped
    )


def _serve(pipe: Connection, name: str) -> None:
    """One library's process: a workload makes it ready, None makes it take a turn."""
    try:
        prepared: Any = None
        while True:
            message = pipe.recv()
            if message is None:
                pipe.send(seconds_a_call(prepared.call, SECONDS_PER_TURN))
                continue
            prepared = None  # its memory, before the next one's
            options = {"max_bytes": MAX_BYTES} if name == "jax" and _is_large(message[0]) else {}
            try:
                problem = make(message[0], DTYPE, message[1])
                prepared = CONTENDERS[name].prepare(problem, **options)
                pipe.send(prepared.as_numpy(prepared.call()))
            except MemoryError as error:
                pipe.send(str(error))
    except EOFError:
        pass
    except BaseException:
        pipe.send(RuntimeError(traceback.format_exc()))


def _is_large(work: Workload) -> bool:
    """Whether JAX is asked how much memory it needs, for which it compiles once more."""
    weights = sum(a * b for a, b in zip(work.layers[:-1], work.layers[1:], strict=True))
    per_task = weights + work.n_rows * sum(work.layers)
    return 4 * work.n_tasks * work.steps * per_task * 20 > MAX_BYTES


def _receive(pipe: Connection, name: str) -> Any:
    message = pipe.recv()
    if isinstance(message, Exception):
        raise RuntimeError(f"{name} failed:\n{message}")
    return message


def _row(point: Point) -> str:
    theirs = point.skipped if point.jax is None else f"{1e3 * point.jax:.3g}"
    ratio = "" if point.jax is None else f"{point.jax / point.fastmaml:.2f}"
    mark = " **JAX**" if point.jax is not None and point.jax < point.fastmaml else ""
    cells = [point.sweep, str(point.size), f"{1e3 * point.fastmaml:.3g}", theirs, ratio + mark]
    return "| " + " | ".join(cells) + " |"


def _text(points: list[Point], activation: str, seconds: float) -> str:
    lost = [f"{p.sweep} = {p.size} ({p.jax / p.fastmaml:.2f})" for p in points
            if p.jax is not None and p.jax < p.fastmaml]  # fmt: skip
    skipped = [f"{p.sweep} = {p.size}" for p in points if p.skipped]
    head = ["sweep", "size", "fastmaml, ms", "JAX, ms", "JAX / fastmaml"]
    rows = ["| " + " | ".join(row) + " |" for row in (head, ["---", *["---:"] * 4])]
    sentence = f"JAX is faster at: {', '.join(lost)}." if lost else "JAX is faster nowhere."
    if skipped:
        sentence += f" JAX was not run at {', '.join(skipped)}, for lack of memory."
    about = (
        f"{DTYPE} {activation}. Median of {ROUNDS} rounds. {report.machine()}; "
        f"{datetime.date.today()}; made in {seconds / 60:.1f} minutes."
    )
    return "\n".join([*rows, *map(_row, points), "", about, "", sentence, ""])


def _plot(points: list[Point]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(p.sweep for p in points))
    figure, grid = pyplot.subplots(
        -(-len(names) // 2), 2, figsize=(9, 3.4 * -(-len(names) // 2)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes in grid.flat[len(names) :]:
        axes.remove()
    for axes, name in zip(grid.flat, names, strict=False):
        ours = [p for p in points if p.sweep == name]
        theirs = [p for p in ours if p.jax is not None]
        lost = [p for p in theirs if p.jax < p.fastmaml]
        sizes = [p.size for p in ours]
        axes.plot(sizes, [1e3 * p.fastmaml for p in ours], "o-", color="C0", label="fastmaml")
        axes.plot([p.size for p in theirs], [1e3 * p.jax for p in theirs], "s-", color="C1",
                  label="JAX")  # fmt: skip
        axes.plot([p.size for p in lost], [1e3 * p.jax for p in lost], "x", color="black",
                  markersize=12, label="JAX is faster" if lost else None)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="ms")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    report.FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(report.FOLDER / "sweeps.png", dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
