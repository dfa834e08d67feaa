"""Kill a training again and again: every checkpoint must resume to the bits of an unbroken run.

    python tools/kill_test.py --kills 200

Each process resumes from the checkpoint that the one before it left, and is killed (SIGKILL) at a
random moment, most often while it trains or writes: it writes a checkpoint every iteration. After
each kill the checkpoint is read and held, bit for bit, against the unbroken run at that iteration.
The last process is left alone until the end.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.learn import (
    Adam,
    Checkpointer,
    Cosine,
    TrainState,
    chain,
    load_checkpoint,
    train,
)  # fmt: skip


def run(path: Path, n_iterations: int, callback) -> None:
    """Train from the checkpoint, or from the start; a checkpoint an iteration."""
    rng = np.random.default_rng(0)
    family = Sinusoid()
    maml = fm.MAML(fm.MLP([1, 8, 1]), inner_lr=[[0.01, 0.02]], loss="mse", task_mean=True)
    theta, validation = maml.model.init(rng), family.sample(4, 5, 5, rng)
    resume = None
    if path.exists():
        checkpoint = load_checkpoint(path)
        checkpoint.restore(rng)
        resume = checkpoint.state
    train(
        maml,
        theta,
        lambda: family.sample(4, 5, 5, rng),
        Adam(Cosine(1e-2, n_iterations)),
        n_iterations,
        chain(Checkpointer(path, rng, every=1), callback),
        rate_optimizer=Adam(1e-3),
        clip_norm=1.0,
        validation=validation,
        validate_every=7,
        resume=resume,
    )


def bits(path: Path) -> tuple[int, str]:
    """The iteration of a checkpoint, and a digest of all that it holds."""
    checkpoint = load_checkpoint(path)
    digest = hashlib.sha256(repr(checkpoint.generator).encode())
    state = checkpoint.state
    best = tuple(state.best or ())
    for part in (*state[:2], *state.optimizer_state.values(), *state.rate_state.values(),
                 state.theta, state.inner_lr, *best):  # fmt: skip
        digest.update(np.asarray(part).tobytes())
    return state.iteration, digest.hexdigest()


def reference(folder: Path, n_iterations: int) -> dict[int, str]:
    """The digests of an unbroken run, by iteration."""
    path, found = folder / "reference.npz", {}

    def note(_state: TrainState) -> None:
        iteration, digest = bits(path)
        found[iteration] = digest

    run(path, n_iterations, note)
    return found


def main() -> None:
    """Kill, read, compare, resume."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Enough work for that many processes of up to half a second each.
    n_iterations = 60 * arguments.kills
    if arguments.child:
        path, n_iterations = Path(arguments.child[0]), int(arguments.child[1])
        said = []

        def say(state: TrainState) -> None:
            if not said:
                said.append(print("training", flush=True))

        run(path, n_iterations, say)
        return
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = reference(folder, n_iterations)
        path, reached, n_torn = folder / "checkpoint.npz", 0, 0
        for kill in range(arguments.kills):
            with start(path, n_iterations) as child:
                assert child.stdout is not None
                trains = moments.random() < 0.9  # else: while it starts
                if trains and child.stdout.readline() != "training\n":
                    raise SystemExit(f"a process did not resume: {child.communicate()[1]}")
                time.sleep(moments.uniform(0.0, 0.05))
                child.kill()
            n_torn += bool(list(folder.glob(".checkpoint.npz.*.tmp")))
            for torn in folder.glob(".checkpoint.npz.*.tmp"):
                torn.unlink()
            if path.exists():
                iteration, digest = bits(path)
                if expected[iteration] != digest or iteration < reached:
                    raise SystemExit(f"kill {kill}: other bits in iteration {iteration}")
                reached = iteration
        with start(path, n_iterations) as child:
            _, said = child.communicate()
            if child.returncode:
                raise SystemExit(f"the last process failed: {said}")
        if bits(path) != (n_iterations, expected[n_iterations]):
            raise SystemExit("the end has other bits")
    print(f"{arguments.kills} kills, {n_torn} of them inside a write; {reached} iterations were")
    print(f"reached in between, {n_iterations} at the end; every checkpoint had the same bits")


def start(path: Path, n_iterations: int) -> subprocess.Popen[str]:
    """Start a process that resumes."""
    command = [sys.executable, __file__, "--child", str(path), str(n_iterations)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
