"""Checkpoints are whole, complete and readable, even after a kill; what the callbacks do."""

from __future__ import annotations

import json
import pickle
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import start

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.files import write_whole
from fastmaml.learn import (
    SGD,
    Adam,
    AdamW,
    Checkpointer,
    CSVLog,
    ProgressBar,
    Step,
    TrainState,
    chain,
    load_checkpoint,
    save_checkpoint,
    train,
)
from fastmaml.learn.contents import HEADER

MAML = fm.MAML(fm.MLP([1, 6, 1]), inner_lr=[[0.01, 0.02]], loss="mse", task_mean=True)
VALIDATION = Sinusoid().sample(5, 5, 5, rng=9)
BIT_GENERATORS = ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"]


def generator(name: str = "PCG64") -> np.random.Generator:
    return np.random.Generator(getattr(np.random, name)(3))


def run(n: int, rng: np.random.Generator, dtype: Any = np.float64, **options: Any) -> Any:
    options = {"optimizer": AdamW(Step(0.01, 5)), "rate_optimizer": SGD(0.1, 0.9), **options}
    return train(
        MAML, MAML.model.init(0, dtype), lambda: Sinusoid().sample(3, 5, 5, rng),
        n_iterations=n, validation=VALIDATION, validate_every=4, **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", BIT_GENERATORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", [SGD(0.01), SGD(0.01, 0.9), Adam(), AdamW(Step(0.01, 5))])
def test_resuming_from_a_file_gives_the_same_bits(
    tmp_path: Path, kind: str, dtype: Any, optimizer: Any
) -> None:
    path = tmp_path / "checkpoint.npz"
    whole = run(11, generator(kind), dtype, optimizer=optimizer)
    rng = generator(kind)
    run(7, rng, dtype, optimizer=optimizer, callback=Checkpointer(path, rng, every=7))
    checkpoint = load_checkpoint(path)
    rng = np.random.Generator(getattr(np.random, kind)())
    checkpoint.restore(rng)
    resumed = run(11, rng, dtype, optimizer=optimizer, resume=checkpoint.state)
    assert pickle.dumps(resumed.state) == pickle.dumps(whole.state)


def test_a_checkpoint_holds_everything(tmp_path: Path) -> None:
    path, rng = tmp_path / "checkpoint.npz", generator()
    state = run(9, rng).state._replace(diverged=(2, 5))
    configuration = {"seed": 3, "sizes": [1, 6, 1], "rates": np.arange(2), "n": np.int64(4)}
    save_checkpoint(path, state, rng, configuration)
    checkpoint = load_checkpoint(path)
    assert checkpoint.generator == rng.bit_generator.state
    assert checkpoint.configuration == {"seed": 3, "sizes": [1, 6, 1], "rates": [0, 1], "n": 4}
    assert checkpoint.version == fm.__version__
    loaded = checkpoint.state
    assert loaded.optimizer_state.keys() == state.optimizer_state._asdict().keys()
    again = loaded._replace(
        optimizer_state=type(state.optimizer_state)(**loaded.optimizer_state),
        rate_state=type(state.rate_state)(**loaded.rate_state),
    )
    assert pickle.dumps(again) == pickle.dumps(state)
    with np.load(path, allow_pickle=False) as file:
        assert all(array.dtype.kind in "fiU" for array in file.values())


def test_a_bare_state_comes_back(tmp_path: Path) -> None:
    state = TrainState(0, np.nan, np.ones(2), None, 0.25)
    save_checkpoint(tmp_path / "a.npz", state)
    checkpoint = load_checkpoint(str(tmp_path / "a.npz"))
    assert repr(checkpoint.state) == repr(state)
    with pytest.raises(ValueError, match="the checkpoint holds no random generator"):
        checkpoint.restore(generator())


def test_another_kind_of_generator_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.npz", TrainState(0, 0.0, np.ones(2), None), generator())
    with pytest.raises(ValueError, match="rng is of the kind Philox, the checkpoint's PCG64"):
        load_checkpoint(tmp_path / "a.npz").restore(generator("Philox"))


def test_a_configuration_that_json_cannot_hold_is_named(tmp_path: Path) -> None:
    state = TrainState(0, 0.0, np.ones(2), None)
    with pytest.raises(TypeError, match="configuration holds <object"):
        save_checkpoint(tmp_path / "a.npz", state, None, {"a": object()})
    assert list(tmp_path.iterdir()) == []


# ---- files that are no checkpoint


def test_every_cut_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_checkpoint(path, run(2, generator()).state)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a\.npz is no whole npz file"):
            load_checkpoint(path)


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    state = TrainState(0, 0.0, np.arange(500.0), None)
    save_checkpoint(path, state)
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 1  # among the numbers
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="is no whole npz file"):
        load_checkpoint(path)


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    """Of the file's structure, too: each is an error, or what is read is as it was."""
    path = tmp_path / "a.npz"
    save_checkpoint(path, TrainState(0, 0.0, np.arange(3.0), None), generator(), {"a": 1})
    whole, expected = path.read_bytes(), repr(load_checkpoint(path))
    noticed = 0
    for position in range(len(whole)):
        for bit in (1, 64, 128):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            try:
                assert repr(load_checkpoint(path)) == expected
            except ValueError as error:
                noticed += "a.npz" in str(error)
    assert noticed > 2 * len(whole)


def test_foreign_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, theta=np.ones(3))
    with pytest.raises(ValueError, match=r"a\.npz is no checkpoint"):
        load_checkpoint(path)
    for header in ("no json", "[1]", json.dumps({"format": "x"})):
        np.savez(path, **{HEADER: header})
        with pytest.raises(ValueError, match=r"a\.npz is no checkpoint"):
            load_checkpoint(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=r"a\.npz is no whole npz file"):
        load_checkpoint(path)
    np.savez(path, theta=np.array([{}], object), allow_pickle=True)
    with pytest.raises(
        ValueError, match=r"a\.npz has a member 'theta\.npy' that holds b\"{'descr'"
    ):
        load_checkpoint(path)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{HEADER: json.dumps({"format": 2, "version": "9.9"})})
    with pytest.raises(ValueError, match=r"written by fastmaml 9\.9 in format 2; accepted are"):
        load_checkpoint(path)


def test_a_header_without_its_arrays_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{HEADER: json.dumps({"format": 1, "version": "0", "best": None})})
    with pytest.raises(ValueError, match=r"a\.npz is a damaged checkpoint"):
        load_checkpoint(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: Any) -> None:
        file.write(b"half of the new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


# ---- the callback, and kills


def test_the_checkpointer_writes_when_it_is_time(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.npz", generator()
    saver, written = Checkpointer(path, rng, every=3), []
    saver.save()  # there is nothing yet
    assert saver.last is None

    def look(_: TrainState) -> None:
        written.append(load_checkpoint(path).state.iteration if path.exists() else None)

    run(8, rng, callback=chain(saver, look))
    assert written == [None, None, 3, 3, 3, 6, 6, 6]
    rng.random()  # has moved on since
    saver.save()
    assert saver.last is not None
    assert load_checkpoint(path).state.iteration == saver.last.iteration == 8
    again = generator()
    load_checkpoint(path).restore(again)
    assert run(9, again, resume=load_checkpoint(path).state).values == run(9, generator()).values[8]
    path.unlink()
    saver.save()  # nothing new
    assert not path.exists()


def test_a_bad_period_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every is 0"):
        Checkpointer(tmp_path / "a.npz", every=0)


def test_what_is_no_generator_is_named(tmp_path: Path) -> None:
    text = r"accepted are a numpy\.random\.Generator and None"
    for rng in (3, np.random.default_rng(0).bit_generator.state):  # which would be stale
        with pytest.raises(TypeError, match=text):
            Checkpointer(tmp_path / "a.npz", rng=rng)  # type: ignore[arg-type]
    text = r"rng is 3; accepted are a numpy\.random\.Generator, its state, None"
    with pytest.raises(TypeError, match=text):
        save_checkpoint(tmp_path / "a.npz", TrainState(0, 0.0, np.ones(2), None), 3)  # type: ignore[arg-type]


CHILD = """
import sys
from pathlib import Path
import test_checkpoint as t
path = Path(sys.argv[1])
rng, resume = t.generator(), None
if path.exists():
    checkpoint = t.load_checkpoint(path)
    checkpoint.restore(rng)
    resume = checkpoint.state
said = []
def say(state):
    said or said.append(print("training", flush=True))
t.run(int(sys.argv[2]), rng, resume=resume, callback=t.chain(t.Checkpointer(path, rng, 1), say))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_a_killed_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """tools/kill_test.py does this 200 times."""
    moments, path, reached = random.Random(0), tmp_path / "a.npz", -1
    for _ in range(4):
        with start(CHILD, path, 100_000) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "training\n"
            time.sleep(moments.uniform(0.0, 0.05))
            child.kill()
        assert child.returncode == -signal.SIGKILL
        state = load_checkpoint(path).state
        assert state.iteration > reached
        reached = state.iteration
    whole = run(reached, generator()).state
    for one, two in zip(state.optimizer_state.values(), whole.optimizer_state, strict=True):
        np.testing.assert_array_equal(one, two)
    assert pickle.dumps((state.theta, state.inner_lr, state.best)) == pickle.dumps(
        (whole.theta, whole.inner_lr, whole.best)
    )


# ---- the other callbacks


def test_chain_calls_all_and_ends_if_one_wants_to() -> None:
    seen: list[str] = []
    callback = chain(lambda s: s.iteration == 2, lambda _: seen.append("second"))
    result = run(9, generator(), callback=callback)
    assert len(result.values) == len(seen) == 2


def test_the_log_has_the_bits(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with CSVLog(path) as log:
        result = run(8, generator(), callback=log)
        # Every line is there before the file is closed.
        lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "iteration,value,validation_value,diverged"
    rows = [line.split(",") for line in lines[1:]]
    assert [int(row[0]) for row in rows] == list(range(1, 9))
    assert [float(row[1]) for row in rows] == result.values.tolist()
    assert [row[2] != "" for row in rows] == [i % 4 == 0 for i in range(1, 9)]
    assert result.best.value in [float(row[2]) for row in rows if row[2]]
    with CSVLog(path) as log:
        log(TrainState(1, np.nan, np.ones(1), None, diverged=(3, 5)))
    assert path.read_text(encoding="utf-8").splitlines()[1:] == ["1,nan,,3 5"]


def test_a_resumed_log_drops_what_was_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(CSVLog.HEAD + "1,1.0,,\n2,2.0,,\n3,3.0,,\n4,4.", encoding="utf-8")
    with CSVLog(path, done=2) as log:
        log(TrainState(3, 5.0, np.ones(1), None))
    assert path.read_text(encoding="utf-8") == CSVLog.HEAD + "1,1.0,,\n2,2.0,,\n3,5.0,,\n"
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"begins with 'a,b\\n'; accepted are logs of CSVLog"):
        CSVLog(path, done=2)
    path.write_text(CSVLog.HEAD + "one,1.0,,\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"has a line 'one,1.0,,\\n'; accepted are logs of CSVLog"):
        CSVLog(path, done=2)


def test_the_progress_bar_counts(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    with ProgressBar(8) as bar:
        run(8, generator(), callback=bar)
    said = capsys.readouterr().err
    assert "meta-training" in said
    assert "8/8" in said
    assert "loss" in said


def test_tqdm_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r'tqdm, which comes with pip install "fastmaml\[cli\]"'):
        ProgressBar(3)
