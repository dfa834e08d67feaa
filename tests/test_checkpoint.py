"""Checkpoints are whole, complete and readable, even after a kill; what the callbacks do."""

from __future__ import annotations

import json
import random
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import start
from same import bits

import fastmaml as fm
from fastmaml.datasets import Sinusoid, Tasks
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
    assert bits(resumed.state) == bits(whole.state)


@pytest.mark.parametrize("kind", BIT_GENERATORS)
def test_resuming_draws_the_same_numbers_of_support_rows(tmp_path: Path, kind: str) -> None:
    """A number drawn may leave half a word of random bits behind, which is of the state, too."""
    path, shapes = tmp_path / "checkpoint.npz", []

    def go_on(n: int, rng: np.random.Generator, **options: Any) -> Any:
        def sampler() -> Tasks:
            tasks = Sinusoid().sample(3, (1, 15), 5, rng)
            shapes.append(tasks.x.shape[1])
            return tasks

        return train(MAML, MAML.model.init(0), sampler, Adam(), n, **options)

    whole = go_on(12, generator(kind))
    seen = shapes.copy()
    shapes.clear()
    rng = generator(kind)
    go_on(7, rng, callback=Checkpointer(path, rng, every=7))
    checkpoint = load_checkpoint(path)
    rng = np.random.Generator(getattr(np.random, kind)())
    checkpoint.restore(rng)
    resumed = go_on(12, rng, resume=checkpoint.state)
    assert shapes == seen
    assert len(set(seen)) > 3
    assert bits(resumed.state) == bits(whole.state)


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
    assert bits(again) == bits(state)
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


#: in the place of anything that a header says
JSON_VALUES: list[Any] = [
    None, True, -1, 0, 3, 1.5, np.inf, np.nan, 2**63, 10**400, "x", "PCG64", [], [1], [1, 2], {},
    {"a": 1}, [[]],
]  # fmt: skip


def array_in_place_of(array: np.ndarray, rng: random.Random) -> Any:
    shape = array.shape
    return rng.choice(
        [
            1.0, 3, -1, True, "text", 2**63 - 1, np.uint64(2**64 - 1), np.zeros(0), np.ones((1, 1)),
            np.ones(3, np.float16), np.ones((2, 3)), np.array(["a", "b"]), np.ones(shape, bool),
            np.ones(shape, np.int8), np.full(shape, np.nan), np.full(shape, np.inf, np.float32),
            np.full(shape, 1e300), np.ones(shape, ">f8"), np.ones((1, *shape)),
        ]
    )  # fmt: skip


def mutated(arrays: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A checkpoint's arrays with one change, in the header or in an array."""
    arrays = dict(arrays)
    if rng.random() < 0.5:
        header = json.loads(str(arrays[HEADER]))
        places = [(header, key) for key in header]
        for holder, key in places:  # which grows
            inner = holder[key]
            if isinstance(inner, list | dict):
                places += [
                    (inner, k) for k in (inner if isinstance(inner, dict) else range(len(inner)))
                ]
        holder, key = rng.choice([*places[:40], *places[:11]])
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice(JSON_VALUES)
        arrays[HEADER] = json.dumps(header)
        return arrays
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.2:
        del arrays[name]
    elif rng.random() < 0.1:
        arrays["extra"] = np.ones(2)
    else:
        arrays[name] = array_in_place_of(arrays[name], rng)
    return arrays


@pytest.mark.parametrize("kind", BIT_GENERATORS)
def test_mutated_checkpoints_are_named_or_a_training_goes_on(tmp_path: Path, kind: str) -> None:
    path, mutations = tmp_path / "a.npz", random.Random(kind)
    options = [{}, {"optimizer": Adam(), "rate_optimizer": None}, {"optimizer": SGD(0.01)}]
    wholes = []
    for option in options:
        rng = generator(kind)
        save_checkpoint(path, run(5, rng, **option).state, rng, {"a": [1, {"b": None}]})
        with np.load(path, allow_pickle=False) as file:
            wholes.append(dict(file))
    refused, stopped, diverged, resumed = [], [], [], 0
    for i in range(150):
        np.savez(path, **mutated(wholes[i % 3], mutations))
        try:
            checkpoint = load_checkpoint(path)
        except ValueError as error:
            refused.append(str(error))
            continue
        rng = generator(kind)
        if checkpoint.generator is not None:
            checkpoint.restore(rng)
            rng.random(700)
        try:
            run(6, rng, resume=checkpoint.state, **options[i % 3])
        except (TypeError, ValueError) as error:
            stopped.append(str(error))
        except FloatingPointError as error:  # of numbers that are only too large
            diverged.append(str(error))
        else:
            resumed += 1
    assert [text for text in refused if not text.startswith(str(path))] == []
    assert [text for text in stopped if not re.match("theta|inner_lr|resume", text)] == []
    known = "the (meta-objective is|parameters are not finite|inner rates after iteration)"
    assert [text for text in diverged if not re.match(known, text)] == []
    assert len(refused) > 75
    assert resumed > 5


def change(path: Path, **changes: Any) -> None:
    """Write a good checkpoint with changes in its header (dicts are merged) or arrays."""
    rng = generator(changes.pop("kind", "PCG64"))
    save_checkpoint(path, run(5, rng).state, rng)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    header = json.loads(str(arrays[HEADER]))
    for name, value in changes.items():
        if name in header:
            header[name] = {**header[name], **value} if isinstance(value, dict) else value
        else:
            arrays[name.replace("__", ".")] = value
    np.savez(path, **{**arrays, HEADER: json.dumps(header)})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"iteration": [3]}, r"iteration is \[3\]; accepted are integers of at least 0"),
        ({"iteration": 2**63}, r"iteration is 9223372036854775808; accepted are .* at most"),
        ({"value": "x"}, "value is 'x'; accepted is a number"),
        ({"value": 10**400}, "value is an integer too large for a float"),
        ({"diverged": 3}, "diverged is 3; accepted are indices of tasks"),
        ({"diverged": [-1]}, "diverged is -1; accepted are integers of at least 0"),
        ({"version": 1}, "version is 1; accepted is a text"),
        ({"best": 4}, "best is 4; accepted are an iteration and a value"),
        ({"best": [6, 0.5]}, r"best is \[6, 0\.5\], iteration is 5"),
        ({"best": [4, np.nan]}, r"best is \[4, nan\], iteration is 5"),
        ({"best": None}, r"it has an array 'best\.inner_lr', which its header does not name"),
        ({"theta": np.float64(1)}, r"theta is float64 of shape \(\); accepted are arrays of"),
        ({"theta": np.arange(19)}, r"theta is int64 of shape \(19,\); accepted are arrays of"),
        ({"inner_lr": "x"}, r"inner_lr is <U1 of shape \(\); accepted are real numbers"),
        ({"best__theta": np.ones(3)}, r"best\.theta is float64 of shape \(3,\), theta is"),
        ({"optimizer_state": "abc"}, "optimizer_state is 'abc'; accepted are names of arrays"),
        ({"optimizer_state": ["a", "a"]}, r"optimizer_state is \['a', 'a'\]; accepted are names"),
        ({"optimizer_state": ["a"]}, r"it has no optimizer_state\.a"),
        (
            {"optimizer_state__n_updates": np.ones(2, int)},
            r"optimizer_state\.n_updates is int64 of shape \(2,\); accepted is one integer",
        ),
        (
            {"optimizer_state__second_moment": np.ones(3)},
            r"second_moment is float64 of shape \(3,\); accepted are floats of shape \(19,\)",
        ),
        ({"rate_state__velocity": 1.0}, r"velocity is float64 of shape \(\); accepted are"),
        ({"generator": 3}, "generator is 3; accepted is the state of a bit generator"),
        ({"generator": {"bit_generator": None}}, "accepted is the state of a bit generator"),
        ({"generator": {"state": 3}}, "generator is not a state that NumPy's PCG64 can have"),
        ({"generator": {"bit_generator": "Philox"}}, "not a state that NumPy's Philox can have"),
        # NumPy takes these, and reads what lies before its buffer.
        ({"kind": "Philox", "generator": {"buffer_pos": -5}}, "that NumPy's Philox can have"),
        ({"kind": "Philox", "generator": {"buffer_pos": 5}}, "that NumPy's Philox can have"),
    ],
)  # fmt: skip
def test_damaged_contents_are_named(tmp_path: Path, changes: dict[str, Any], error: str) -> None:
    path = tmp_path / "a.npz"
    change(path, **changes)
    with pytest.raises(ValueError, match=rf"a\.npz is a damaged checkpoint: .*{error}"):
        load_checkpoint(path)


@pytest.mark.parametrize("position", [-1, 625, 2**31 - 1])
def test_an_index_outside_of_the_twister_is_named(tmp_path: Path, position: int) -> None:
    state: dict[str, Any] = dict(generator("MT19937").bit_generator.state)
    state["state"] = {"key": state["state"]["key"].tolist(), "pos": position}
    path = tmp_path / "a.npz"
    change(path, kind="MT19937", generator=state)
    with pytest.raises(ValueError, match="generator is not a state that NumPy's MT19937 can have"):
        load_checkpoint(path)


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    state = TrainState(0, 0.0, np.ones(2), None)
    deep: list[Any] = []
    for _ in range(101):
        deep = [deep]
    for bad, options, error in (
        (state._replace(theta=np.array(1.0)), {}, "theta is float64 of shape"),
        (state._replace(optimizer_state={"a": None}), {}, r"optimizer_state\.a is object"),
        (state, {"configuration": deep}, "nested deeper than 100"),
        (state, {"rng": {"bit_generator": "PCG64"}}, "generator is not a state"),
    ):
        with pytest.raises(ValueError, match=f"what cannot be read again is not written: {error}"):
            save_checkpoint(path, bad, **options)  # type: ignore[arg-type]
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="configuration is nested too deep for JSON"):
        save_checkpoint(path, state, configuration=deep)
    with pytest.raises(TypeError, match="state is a dict; accepted is a TrainState"):
        save_checkpoint(path, state._asdict())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_somebody_elses_generator_is_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    theirs = {"bit_generator": "Quantum", "state": 3}
    save_checkpoint(path, TrainState(0, 0.0, np.ones(2), None), theirs)
    checkpoint = load_checkpoint(path)
    assert checkpoint.generator == theirs
    broken = checkpoint._replace(generator={"bit_generator": "PCG64", "state": 3})
    with pytest.raises(ValueError, match="the checkpoint's state of PCG64 is damaged: "):
        broken.restore(generator())


def test_states_that_do_not_fit_are_named_by_train() -> None:
    state = run(3, generator()).state
    text = r"resume holds the optimizer's n_updates, which is array\(\[1, 1\]\); accepted are"
    with pytest.raises(TypeError, match=text):
        run(4, generator(), resume=with_field(state, n_updates=np.ones(2, int)))
    text = r"first_moment, which has shape \(3,\); AdamW\(.* accepts \(19,\)"
    with pytest.raises(ValueError, match=text):
        run(4, generator(), resume=with_field(state, first_moment=np.ones(3)))
    with pytest.raises(TypeError, match=r"first_moment, which is text, 'x'; accepted are arrays"):
        run(4, generator(), resume=with_field(state, first_moment="x"))
    with pytest.raises(TypeError, match=r"resume\.theta is None; accepted are arrays"):
        run(4, generator(), resume=state._replace(theta=None))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"resume\.iteration is \[1\]; accepted are integers"):
        run(4, generator(), resume=state._replace(iteration=[1]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"resume\.best is 3; accepted are a Best and None"):
        run(4, generator(), resume=state._replace(best=3))  # type: ignore[arg-type]


def with_field(state: TrainState, **fields: Any) -> TrainState:
    return state._replace(optimizer_state=state.optimizer_state._replace(**fields))


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
    assert bits(state.optimizer_state) == bits(whole.optimizer_state._asdict())
    assert bits((state.theta, state.inner_lr, state.best)) == bits(
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


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (CSVLog.HEAD.encode() + b"1,\xff,,\n", r"log\.csv is no text in UTF-8; accepted are logs"),
        (b"\xff", r"log\.csv is no text in UTF-8; accepted are logs of CSVLog"),
        (b"", r"log\.csv begins with ''; accepted are logs of CSVLog"),
        (b"\0" * 100, r"log\.csv begins with '\\x00"),
        (CSVLog.HEAD.encode() + b"1,=1+1,,\n", r"log\.csv has a line '1,=1\+1,,\\n'; accepted are"),
        (CSVLog.HEAD.encode() + b"9" * 9999 + b",1.0,,\n", r"log\.csv has a line '999"),
        (CSVLog.HEAD.encode() + "²,1.0,,\n".encode(), r"log\.csv has a line '²,1\.0,,\\n'"),
    ],
)
def test_damaged_logs_are_named(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=error):
        CSVLog(path, done=2)
    assert path.read_bytes() == content


def test_a_resumed_log_keeps_every_number_that_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    values = [1.5, -2e-300, 1e22, np.nan, np.inf, -np.inf, 5e-324]
    with CSVLog(path) as log:
        for i, value in enumerate(values, 1):
            log(TrainState(i, value, np.ones(1), None, diverged=(1, 2), validation_value=value))
    written = path.read_bytes()
    CSVLog(path, done=len(values)).close()
    assert path.read_bytes() == written


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
