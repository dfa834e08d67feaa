"""Damaged checkpoints and saved models: bytes, members, values of the header, and bombs."""

from __future__ import annotations

import contextlib
import copy
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
from fastmaml.learn.spec import learner_of

from .damage import VALUES, damaged, reworded
from .good import PLACES, Good, judge_command
from .memory import MIB, modest
from .oracle import judge_error, judge_reading
from .values import Draw


def judge_archive(draw: Draw, path: Path) -> None:
    """Load what a file of this name holds, and use it."""
    with modest(path.stat().st_size):
        (judge_checkpoint if path.name == "checkpoint.npz" else judge_model)(draw, path)


def judge_model(_draw: Draw, path: Path) -> None:
    """Load and predict."""
    try:
        saved = fm.load(path)
    except Exception as error:
        judge_reading(error, path)
        return
    model = learner_of(saved.objective).model
    width, height = model.n_inputs, model.n_outputs
    std = isinstance(saved.objective, fm.BayesianLastLayer)
    try:
        saved.predict(np.ones((2, 3, width)), np.ones((2, 3, height)), np.ones((1, width)), std)
    except Exception as error:
        judge_error(error, ["x", "y", "x_new", "theta", "steps"])


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


def npz_bytes(draw: Draw, made: Good, folder: Path) -> None:
    source, other = draw.choice(made.archives), draw.choice(made.archives)
    path = folder / source.name
    path.write_bytes(damaged(draw, source.read_bytes(), other.read_bytes()))
    judge_archive(draw, path)


def _members(source: Path) -> dict[str, Any]:
    with np.load(source) as npz:
        return dict(npz)


def npz_members(draw: Draw, made: Good, folder: Path) -> None:
    source = draw.choice(made.archives)
    path, members = folder / source.name, _members(source)
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
                members[name] = np.asarray(draw.other(members[name]))
        if not members:
            break
    with contextlib.suppress(Exception):  # what cannot be written cannot be read
        _write(path, members, draw.chance(0.1))
    if path.exists():
        judge_archive(draw, path)


def npz_header(draw: Draw, made: Good, folder: Path) -> None:
    source = draw.choice(made.archives)
    members = _members(source)
    name = next(name for name in members if name.startswith("fastmaml_"))
    text = respelled(draw, str(members[name]))
    members[name] = np.array(text)
    _write(folder / source.name, members)
    judge_archive(draw, folder / source.name)


def respelled(draw: Draw, text: str) -> str:
    """JSON in which a value or two are others, or gone."""
    header = json.loads(text)
    for _ in range(draw.integer(1, 2)):
        at = header
        while True:
            key = draw.choice(sorted(at)) if isinstance(at, dict) else draw.integer(0, len(at) - 1)
            if not isinstance(at[key], dict | list) or not at[key] or draw.chance(0.4):
                break
            at = at[key]
        if isinstance(at, list) or draw.chance(0.8):
            at[key] = copy.deepcopy(draw.choice(VALUES))
        elif len(at) > 1:
            del at[key]
    text = json.dumps(header)
    return (
        reworded(draw, text.encode(), b"{}[],: ").decode(errors="replace")
        if draw.chance(0.1)
        else text
    )


def npz_bomb(draw: Draw, made: Good, folder: Path) -> None:
    """A member that claims far more than the file holds, or that unpacks to it."""
    source = draw.choice(made.archives)
    n = draw.choice([10**8, 10**10, 10**15, 2**62])
    with zipfile.ZipFile(source) as npz:
        members = {name: npz.read(name) for name in npz.namelist()}
    name = draw.choice(sorted(members))
    header = io.BytesIO()
    kind = draw.choice(["<f8", "<U1", "|S1", "|V1", f"<U{min(n, 2**28)}"])
    np.lib.format.write_array_header_1_0(
        header, {"descr": kind, "fortran_order": False, "shape": draw.choice([(n,), (), (1, n)])}
    )
    members[name] = header.getvalue() + b"\0" * draw.choice([0, 8, 1000])
    way = draw.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
    if way == zipfile.ZIP_DEFLATED and draw.chance(0.4):
        members[name] = _unpacked()
    with zipfile.ZipFile(folder / source.name, "w", way, compresslevel=1) as npz:
        for each, content in members.items():
            npz.writestr(each, content)
    judge_archive(draw, folder / source.name)


@functools.cache
def _unpacked() -> bytes:
    """A member that is as large as it says, all zeros."""
    member = io.BytesIO()
    np.save(member, np.zeros(192 * MIB // 8))
    return member.getvalue()
