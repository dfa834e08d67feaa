"""The suite again and again, in random order and under what makes tests unsteady.

    python tools/steady.py                  # ten in random order, four of them under load, and ...
    python tools/steady.py --random 2 --load 1
    python tools/steady.py --only user -- tests/test_cli.py

The runs: in random order (of the modules, and of the tests in each), some of them while as many
processes as there are cores compute; with one thread of numba; in two processes; under LC_ALL=C,
umask 077 and 002, ``python -W error`` with PYTHONDONTWRITEBYTECODE, and without a kernel cache;
and, for root only, as another user, in a copy and with a home of its own. Every run has a
line with its seed, so that it can be repeated, and its output is in build/steady. The exit code is
1 if one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "build" / "steady"


class Run(NamedTuple):
    """One run of the suite."""

    name: str
    options: tuple[str, ...] = ()  # of pytest
    variables: dict[str, str] = {}  # noqa: RUF012 (never changed)
    loaded: bool = False
    prefix: tuple[str, ...] = ()  # before the command
    python: tuple[str, ...] = ()  # options of Python
    umask: int = -1
    folder: Path = ROOT


def in_random_order(n: int, n_loaded: int) -> list[Run]:
    """Runs with the seeds 1 to n, the last ones under load."""
    runs = []
    for seed in range(1, n + 1):
        loaded = seed > n - n_loaded
        options = ("--random-order", f"--random-order-seed={seed}")
        name = f"random order {seed}" + (" under load" if loaded else "")
        runs.append(Run(name, options, loaded=loaded))
    return runs


def others() -> list[Run]:
    """Runs in the order of the files, under circumstances."""
    no_bytecode = {"PYTHONDONTWRITEBYTECODE": "1"}
    return [
        Run("one thread", variables={"NUMBA_NUM_THREADS": "1"}),
        Run("two processes", ("-n", "2")),
        Run("LC_ALL=C, umask 077", variables={"LC_ALL": "C"}, umask=0o077),
        Run("umask 002, warnings", variables=no_bytecode, python=("-W", "error"), umask=0o002),
        Run("no kernel cache", variables={"FASTMAML_CACHE": "0"}),
    ]


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[Run | None]:
    """The run of another user; None where that cannot be."""
    prefix = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all")
    with tempfile.TemporaryDirectory(prefix="fastmaml-") as name:
        base = Path(name)
        folder = base / "clone"
        variables = {"HOME": str(base / "home"), "TMPDIR": str(base / "tmp")}
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for path in subprocess.check_output(command, cwd=ROOT, text=True).split("\0"):
            if (ROOT / path).is_file():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, folder / path)
        for part in ("home", "tmp"):
            (base / part).mkdir()
        for path in [base, *base.rglob("*")]:
            os.chown(path, uid, uid)
        look = [*prefix, sys.executable, "-c", "import numba, pytest"]
        seen = subprocess.run(look, cwd=folder, env={**os.environ, **variables}, check=False,
                              capture_output=True, text=True)  # fmt: skip
        if seen.returncode:
            print(f"left out: user {uid} cannot run {sys.executable}: {seen.stderr.strip()[-200:]}")
            yield None
        else:
            yield Run(f"user {uid}", variables=variables, prefix=prefix, folder=folder)


@contextlib.contextmanager
def load(n: int) -> Iterator[None]:
    """Keep n cores busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def passes(run: Run, rest: list[str]) -> bool:
    """Do a run and print its line."""
    options = ("-q", "-p", "no:cacheprovider", *run.options, *rest)
    command = [*run.prefix, sys.executable, *run.python, "-m", "pytest", *options]
    # Where the tests say nothing else, the package of the folder.
    variables = {**os.environ, "PYTHONPATH": str(run.folder), **run.variables}
    start = time.monotonic()
    extra: dict[str, Any] = {} if run.umask < 0 else {"umask": run.umask}
    log = OUTPUT / (run.name.replace(" ", "-").replace(",", "") + ".txt")
    with load((os.cpu_count() or 1) if run.loaded else 0), log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, env=variables, cwd=run.folder, stdout=file, stderr=subprocess.STDOUT,
            check=False, **extra,
        )  # fmt: skip
    lines = log.read_text(encoding="utf-8").splitlines() or [""]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(line)
    minutes = (time.monotonic() - start) / 60
    print(f"{run.name:<28}exit {done.returncode} in {minutes:.1f} min: {lines[-1]}", flush=True)
    return done.returncode == 0


def main() -> None:
    """Do all runs."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="What follows -- goes to pytest."
    )
    parser.add_argument("--random", type=int, default=10, help="runs in random order (10)")
    parser.add_argument("--load", type=int, default=4, help="of these, how many under load (4)")
    parser.add_argument("--user", type=int, default=12345, help="the number of another user")
    parser.add_argument("--only", default="", help="the runs that have this text in their name")
    parser.add_argument("rest", nargs="*", help="for pytest, such as tests/test_cli.py")
    arguments = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    runs = [*in_random_order(arguments.random, arguments.load), *others()]
    results = [passes(run, arguments.rest) for run in runs if arguments.only in run.name]
    user = f"user {arguments.user}"
    if arguments.only in user and os.getuid() == 0 and shutil.which("setpriv"):
        with as_user(arguments.user) as run:
            results += [passes(run, arguments.rest)] if run else []
    print(f"{sum(results)} of {len(results)} runs passed")
    sys.exit(not (results and all(results)))


if __name__ == "__main__":
    main()
