"""Damaged checkpoints: their bytes, their members, the values of their header, and bombs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import fastmaml as fm
from fastmaml import learn
from fastmaml.learn.checkpoint import HEADER

from .damage import VALUES, damaged, reworded
from .good import PLACES, Good, judge_command
from .memory import MIB, modest
from .oracle import judge_error, judge_reading
from .values import Draw


def judge_checkpoint(draw: Draw, path: Path) -> None:
    """Load, restore and resume; now and then by the commands."""
    try:
        checkpoint = learn.load_checkpoint(path)
    except Exception as error:
        judge_reading(error, path)
    else:
        resume(checkpoint)
    if draw.chance(0.4):
        run = str(path.parent)
        other = str(path.parent.parent / "good" / "rows.csv")
        way = draw.choice([
            ("resume", run, "--iterations", "5"), ("evaluate", run), ("evaluate", run, "--last"),
            ("adapt", run, other, other),
        ])  # fmt: skip
        judge_command(*way, names=rf"checkpoint\.npz|rows\.csv|damaged|resume|{PLACES}")


def resume(checkpoint: learn.Checkpoint) -> None:
    """Go on with what was loaded: each step works, or says what it lacks."""
    model = fm.MLP([1, 3, 1])
    maml = fm.MAML(model, [[0.01, 0.02]], loss="mse")
    rng = np.random.default_rng(0)
    sampler = lambda: fm.datasets.Sinusoid().sample(2, 3, 2, 0)  # noqa: E731
    names = ["resume", "checkpoint", "theta", "state", "rng", "inner_lr", "gradient"]
    for step in (
        lambda: checkpoint.restore(rng),
        lambda: rng.normal(),
        lambda: learn.train(
            maml, model.init(0), sampler, learn.AdamW(), 10**6, lambda _: True,
            rate_optimizer=learn.SGD(0.01, 0.5), on_divergence="skip", resume=checkpoint.state,
        ),
    ):  # fmt: skip
        try:
            step()
        except Exception as error:
            judge_error(error, names)


def _write(path: Path, members: dict[str, Any], compress: bool = False) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (np.savez_compressed if compress else np.savez)(path, allow_pickle=True, **members)


def checkpoint_bytes(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "checkpoint.npz"
    source, other = (draw.choice(made.checkpoints).read_bytes() for _ in range(2))
    path.write_bytes(damaged(draw, source, other))
    with modest(path.stat().st_size):
        judge_checkpoint(draw, path)


def checkpoint_members(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "checkpoint.npz"
    with np.load(draw.choice(made.checkpoints)) as npz:
        members = dict(npz)
    for _ in range(draw.integer(1, 2)):
        name = draw.choice(sorted(members))
        way = draw.integer(0, 5)
        if way == 0:
            del members[name]
        elif way == 1:
            members[name] = members[draw.choice(sorted(members))]
        elif way == 2:
            members[draw.choice(["more", "best.theta", "theta", "rate_state.x"])] = members[name]
        else:
            with contextlib.suppress(Exception):
                value = np.asarray(draw.other(members[name]))
                members[name] = value
        if not members:
            break
    with contextlib.suppress(Exception):  # what cannot be written cannot be read
        _write(path, members, draw.chance(0.3))
    if path.exists():
        with modest(path.stat().st_size):
            judge_checkpoint(draw, path)


def checkpoint_header(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "checkpoint.npz"
    with np.load(draw.choice(made.checkpoints)) as npz:
        members = dict(npz)
    header = json.loads(str(members[HEADER]))
    for _ in range(draw.integer(1, 2)):
        at = header
        while True:
            key = draw.choice(sorted(at)) if isinstance(at, dict) else draw.integer(0, len(at) - 1)
            if not isinstance(at[key], dict | list) or not at[key] or draw.chance(0.4):
                break
            at = at[key]
        if isinstance(at, dict) and draw.chance(0.2):
            del at[key]
            if not at:
                break
        else:
            at[key] = draw.choice(VALUES)
    text = json.dumps(header)
    if draw.chance(0.1):
        text = reworded(draw, text.encode(), b"{}[],: ").decode(errors="replace")
    members[HEADER] = np.array(text)
    _write(path, members)
    with modest(path.stat().st_size):
        judge_checkpoint(draw, path)


def checkpoint_bomb(draw: Draw, made: Good, folder: Path) -> None:
    """A member that claims far more than the file holds, or that unpacks to it."""
    path = folder / "checkpoint.npz"
    n = draw.choice([10**8, 10**10, 10**15, 2**62])
    members = {}
    with zipfile.ZipFile(draw.choice(made.checkpoints)) as npz:
        members = {name: npz.read(name) for name in npz.namelist()}
    name = draw.choice(sorted(members))
    header = io.BytesIO()
    kind = draw.choice(["<f8", "<U1", "|S1", "|V1", f"<U{min(n, 2**28)}"])
    np.lib.format.write_array_header_1_0(
        header, {"descr": kind, "fortran_order": False, "shape": draw.choice([(n,), (), (1, n)])}
    )
    members[name] = header.getvalue() + b"\0" * draw.choice([0, 8, 1000])
    if draw.chance(0.2):
        members[name] = _unpacked()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as npz:
        for each, content in members.items():
            npz.writestr(each, content)
    with modest(path.stat().st_size):
        judge_checkpoint(draw, path)


@functools.cache
def _unpacked() -> bytes:
    """A member that is as large as it says, all zeros."""
    member = io.BytesIO()
    np.save(member, np.zeros(192 * MIB // 8))
    return member.getvalue()
