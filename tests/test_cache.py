"""The store of compiled kernels: never stale, never half-written, and whole in every process."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from fastmaml.kernels.compile import cache, jit, link, versions
from processes import python, start

import fastmaml as fm
from fastmaml import runtime

pytestmark = [
    pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.usefixtures("usual_umask"),
]

PACKAGE = Path(fm.__file__).parent
KERNELS = Path(jit.__file__).parents[1]
# A function of an array and its length (which one of the array alone does not see).
CALL = ctypes.CFUNCTYPE(ctypes.c_double, np.ctypeslib.ndpointer(np.float64), ctypes.c_int64)
find_folder = cache.cache_folder.__wrapped__  # what a new process would do

# Counts what is compiled, not loaded.
COUNT = """
import numba.core.compiler as compiler
compiled, original = [], compiler.compile_extra
def compile_extra(typingctx, targetctx, function, *args, **kwargs):
    compiled.append(function.__name__)
    return original(typingctx, targetctx, function, *args, **kwargs)
compiler.compile_extra = compile_extra
"""
# The kernel that compiles quickest.
PREDICT = """
import json, sys
import numpy as np
import fastmaml as fm
model = fm.MLP([2, 5, 1], "leaky_relu")
f = model.predict(np.linspace(-1, 1, 21), np.linspace(0, 1, 14).reshape(7, 2))
print(json.dumps({"compiled": compiled, "f": f.tobytes().hex(), "package": fm.__file__}))
"""
USE = """
import sys
import numpy as np
import fastmaml as fm
import fastmaml.learn
rng = np.random.default_rng(0)
model = fm.MLP([2, 8, 3], "gelu")
theta = model.init(0)
x, y = rng.normal(size=(400, 6, 2)), rng.normal(size=(400, 6, 3))
few, some = [x[0], x[1, :2]], [y[0], y[1, :2]]
for method in sys.argv[1:]:
    if method == "predict":
        model.predict(theta, x)
        model.predict(theta, x[0, :2])
        fm.learn.Adam().update(theta, theta, fm.learn.Adam().init(theta))
        continue
    maml = fm.MAML(model, [0.01, 0.02], method=method)
    for batch in ((x, y), (few, some, some_query := [x[2], x[3]], [y[2], y[3]])):
        maml.evaluate(theta, *batch)
        maml.value(theta, *batch)
    maml.adapt(theta, few, some)
    maml.predict(theta, x, y, x)
    if method == "explicit":
        fm.equations.task_hessian(model, theta, x, y)
        fm.equations.jacobian(model, theta, few)
print(compiled)
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """The environment of a cache that one process has filled, method after method, for float64."""
    folder = tmp_path_factory.mktemp("warm")
    environment = {"FASTMAML_CACHE_DIR": folder, "NUMBA_OPT": "0"}  # to be quicker
    code = "import sys; from fastmaml.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("--methods", "explicit", "factored", "--dtypes", "float64")
    assert str(folder) in python(code, "warmup", *arguments, **environment)
    return environment


def entries(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


# ---- what is compiled, when, and what is loaded


@pytest.mark.parametrize(
    "methods", [["factored"], ["explicit"], ["predict"], ["predict", "factored", "explicit"]]
)
def test_after_warmup_nothing_is_compiled(warm, methods):
    """Whichever method comes first, and whatever came before it in the process that stored it."""
    assert python(COUNT + USE, *methods, **warm) == "[]\n"


def test_one_compilation_serves_every_form_of_the_data():
    """Sizes, models, modes, ragged tasks, read-only and Fortran arrays: one signature a dtype."""
    rng = np.random.default_rng(0)
    model = fm.MLP([2, 5, 1])
    theta = model.init(0)
    x, y = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4, 1))
    frozen = [array.copy() for array in (theta, x, y)]
    for array in frozen:
        array.flags.writeable = False
    ragged = [x[0], x[1, :2], x[2]], [y[0], y[1, :2], y[2]]
    per_parameter = np.full((1, model.n_params), 0.1)
    fm.warmup(["factored", "dense", "explicit"], ["float64"])
    before = [list(kernel.serial.signatures) for kernel in runtime._KERNELS]
    for method in ("factored", "dense", "explicit"):
        for rate in (0.1, [[0.1], [0.2]], per_parameter):
            if method == "factored" and rate is per_parameter:
                continue
            maml = fm.MAML(model, rate, 2, loss="mse", method=method, step_weights=[0, 1, 2])
            maml.evaluate(theta, x, y)
            maml.gradient(theta, x, np.asfortranarray(y), x.astype(">f8"), y[..., 0])
            maml.value(*frozen)
            maml.adapt(*frozen)
            maml.predict(theta, *ragged, x)
            maml.predict(theta, x, y, ragged[0])
            maml.gradient(theta, *ragged)
    model.predict(frozen[0], frozen[1])
    model.predict(np.tile(theta, (3, 1)), ragged[0])
    fm.equations.jacobian(model, np.tile(theta, (3, 1)), x)
    fm.equations.task_hessian(model, frozen[0], *ragged)
    assert [list(kernel.serial.signatures) for kernel in runtime._KERNELS] == before


def test_twins_have_entries_of_their_own():
    """So has every signature; that both twins are stored, test_after_warmup shows."""
    codegen = numba.core.registry.cpu_target.target_context.codegen()
    stores = [
        twin._cache for kernel in runtime._KERNELS for twin in (kernel.serial, kernel.parallel)
    ]
    found = [store._key(key, codegen) for store in stores for key in ("one", "another")]
    assert len(set(found)) == len(found) == 4 * len(runtime._KERNELS)


def test_an_edit_to_a_helper_is_seen(tmp_path):
    """Two modules away from the kernel that is called, and in a process that has a warm cache."""
    source = tmp_path / "source"
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, source / "fastmaml", ignore=skip)
    shutil.copytree(KERNELS, source / "fastmaml" / "kernels", ignore=skip, dirs_exist_ok=True)

    def run():
        variables = {"PYTHONPATH": source, "FASTMAML_CACHE_DIR": tmp_path}
        return json.loads(python(COUNT + PREDICT, **variables, NUMBA_OPT="0"))

    cold, cached = run(), run()
    assert str(source) in cold["package"]
    assert "predict" in cold["compiled"]
    assert cached == {**cold, "compiled": []}

    edited = source / "fastmaml" / "kernels" / "vectors" / "formulas.py"
    text = edited.read_text(encoding="utf-8")
    assert text.count("z * 0.01") == 1  # what leaky_relu does on the left
    edited.write_text(text.replace("z * 0.01", "z * 0.5"), encoding="utf-8")
    after = run()
    assert "predict" in after["compiled"]
    assert after["f"] != cold["f"]
    model = fm.MLP([2, 5, 1], "leaky_relu")
    (w1, b1), (w2, b2) = model.unpack(np.linspace(-1, 1, 21))
    z = np.linspace(0, 1, 14).reshape(7, 2) @ w1.T + b1
    expected = np.where(z > 0, z, 0.5 * z) @ w2.T + b2
    np.testing.assert_allclose(np.frombuffer(bytes.fromhex(after["f"])), expected[:, 0], rtol=1e-12)


def test_eight_processes_start_cold_at_once(tmp_path):
    variables = {"FASTMAML_CACHE_DIR": tmp_path, "NUMBA_OPT": "0"}
    processes = [start(COUNT + PREDICT, **variables) for _ in range(8)]
    found = set()
    for process in processes:
        with process:
            output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        found.add(json.loads(output)["f"])
    assert len(found) == 1
    assert all(path.suffix == ".nbc" for path in entries(tmp_path))
    last = json.loads(python(COUNT + PREDICT, **variables))
    assert last["compiled"] == []
    assert {last["f"]} == found


# ---- one entry


def new_functions():
    """A linked function and one that calls it, as a new process has them: not compiled yet."""

    def inner(x, n) -> float:
        total = 0.0
        for i in range(n):
            total += 2.0 * x[i]
        return total

    called = link.linked(inner)

    def outer(x, n) -> float:
        return 2.0 * called(x, n)

    return outer


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty folder of entries, and a way to call the outer function as a new process would."""
    monkeypatch.setattr(cache, "cache_folder", lambda: made.folder)
    monkeypatch.setattr(link, "_PACKAGE", "")  # these functions are as good as its own
    numbers, compiled = np.arange(4.0), []
    original = numba.core.compiler.compile_extra

    def compile_extra(typingctx, targetctx, function, *args, **kwargs):
        compiled.append(function.__name__)
        return original(typingctx, targetctx, function, *args, **kwargs)

    monkeypatch.setattr(numba.core.compiler, "compile_extra", compile_extra)

    class Store:
        folder = tmp_path

        def call(self):
            """What had to be compiled."""
            compiled.clear()
            piece = link._Piece(new_functions())
            types = numba.types.CPointer(numba.types.float64), numba.types.int64
            version = piece.require(types)
            versions.load_pending()
            assert CALL(version.address)(numbers, 4) == 4 * numbers.sum()
            return sorted(compiled)

        def entry(self, name):
            """The file of one of the functions, by what it refers to."""
            for path in entries(self.folder):
                if bool(content(path)[0]) == (name == "outer"):
                    return path

    made = Store()
    return made


def key(entry):
    return entry.read_bytes()[cache._HASH : 2 * cache._HASH]


def write(entry, content):
    entry.write_bytes(cache._sealed(key(entry), content))


def content(entry):
    references, payload = cache.pickle.loads(cache._content(entry.read_bytes(), key(entry)))
    return references, payload


def test_an_entry_is_loaded_with_what_it_refers_to(store):
    assert store.call() == ["inner", "outer"]
    assert store.call() == []
    store.entry("inner").unlink()
    assert store.call() == ["inner"]
    store.entry("outer").unlink()
    assert store.call() == ["outer"]
    assert store.call() == []


def test_functions_from_elsewhere_are_not_kept_and_may_have_one_name(tmp_path, monkeypatch):
    """What they depend on nobody watches; and one may be made twice, by a function or an edit."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    pointer = numba.types.CPointer(numba.types.float64)

    def made(factor):
        def inner(x) -> float:
            return factor * x[0]

        called = link.linked(inner)

        def outer(x) -> float:
            return called(x) + 1

        return link.linked(outer)

    numbers = np.ones(1)
    for found in [made(2.0), made(3.0)], [made(2.0)]:
        for function, factor in zip(found, (2.0, 3.0), strict=False):
            (address,) = link.addresses_of([link.Asked(function, (pointer,), numba.types.float64)])
            assert CALL(address)(numbers, 1) == factor + 1
    assert entries(tmp_path) == []


def truncate(entry):
    entry.write_bytes(entry.read_bytes()[:-1000])


def empty(entry):
    entry.write_bytes(b"")


def turn_a_bit(entry):
    stored = bytearray(entry.read_bytes())
    stored[len(stored) // 2] ^= 4
    entry.write_bytes(stored)


def refer_to_nothing(entry):
    (reference,), payload = content(entry)
    write(entry, cache.dumps(([("fastmaml_gone", "gone", ()), reference], payload)))


def refer_to_another_symbol(entry):
    ((_, name, types),), payload = content(entry)
    write(entry, cache.dumps(([("fastmaml_gone", name, types)], payload)))


def be_of_another_kind(entry):
    write(entry, cache.dumps("what is this"))


def be_that_of_another(entry):
    """With a checksum that is right. Loaded, it ended the process, or gave its numbers."""
    (other,) = set(entries(entry.parent)) - {entry}
    shutil.copyfile(other, entry)


def have_the_key_of_another(entry):
    (other,) = set(entries(entry.parent)) - {entry}
    entry.write_bytes(cache._sealed(key(other), entry.read_bytes()[2 * cache._HASH :]))


def be_huge(entry):
    os.truncate(entry, 1 << 40)


@pytest.mark.parametrize(
    "harm",
    [
        *(truncate, empty, turn_a_bit, refer_to_nothing, refer_to_another_symbol),
        *(be_of_another_kind, be_that_of_another, have_the_key_of_another, be_huge),
    ],
)
def test_a_damaged_entry_is_compiled_anew(store, harm, caplog):
    store.call()
    harm(store.entry("outer"))
    assert store.call() == ["outer"]
    assert "cannot load" in caplog.text
    assert store.call() == []


def test_a_full_disk_costs_nothing_but_time(store, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "create", full)
    assert store.call() == ["inner", "outer"]
    assert entries(store.folder) == []


def test_code_that_cannot_be_stored_costs_nothing_but_time(store, monkeypatch):
    """As after a Ctrl-C that LLVM swallowed, while it handed the machine code over."""

    def fail(content):
        raise RuntimeError("no compiled object yet")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "dumps", fail)
        assert store.call() == ["inner", "outer"]
    assert entries(store.folder) == []
    assert store.call() == ["inner", "outer"]
    assert store.call() == []


def test_a_folder_that_goes_away_costs_nothing_but_time(store):
    store.folder.rmdir()
    assert store.call() == ["inner", "outer"]
    assert store.call() == ["inner", "outer"]


def test_ctrl_c_leaves_no_half_entry(store, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.call()
    assert entries(store.folder) == []
    assert store.call() == ["inner", "outer"]
    assert store.call() == []


def test_numba_is_kept_from_caching_callers(tmp_path):
    """Its cache would be loaded into a process without our symbols, and LLVM would end that."""
    (tmp_path / "user.py").write_text(
        """
import warnings
import numpy as np
from numba import njit
from fastmaml.kernels.vectors.reduce import add_rows

@njit
def between(rows, total):
    add_rows(rows, 2, 3, total)

@njit(cache=True)
def user(rows, total):
    between(rows, total)

total = np.zeros(3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    user(np.ones(6), total)
print(total, ["Cannot cache" in str(warning.message) for warning in caught])
"""
    )
    for _ in range(2):
        assert python("import user", PYTHONPATH=tmp_path) == "[2. 2. 2.] [True]\n"


# ---- what others have put there


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self._mark),)


def stay(entry, folder):
    """No attack: shows that the bomb would go off."""


def be_a_link(entry, folder):
    entry.replace(folder / "elsewhere")
    entry.symlink_to(folder / "elsewhere")


def be_a_pipe(entry, folder):
    entry.unlink()
    os.mkfifo(entry)


def be_open_to_a_group(entry, folder):
    entry.chmod(0o664)


def be_open_to_all(entry, folder):
    entry.chmod(0o646)


def be_of_another_user(entry, folder):
    os.chown(entry, 12345, -1)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no such owners")
@pytest.mark.parametrize(
    "attack",
    [stay, be_a_link, be_a_pipe, be_open_to_a_group, be_open_to_all, be_of_another_user],
)
def test_what_others_can_have_written_is_not_unpickled(store, attack, caplog, tmp_path_factory):
    """Not even with its own key and a checksum that is right."""
    if attack is be_of_another_user and os.geteuid() != 0:
        pytest.skip("only root can give files away (test_trust.py tests it for all)")
    store.call()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    mark, outer = elsewhere / "mark", store.entry("outer")
    write(outer, cache.dumps(([], Bomb(mark))))
    attack(outer, elsewhere)
    assert store.call() == ["outer"]
    assert mark.exists() == (attack is stay)
    assert f"from {outer}" in caplog.text
    assert outer.is_file()
    assert not outer.is_symlink()
    caplog.clear()
    assert store.call() == []
    assert caplog.text == ""


def test_a_folder_in_place_of_an_entry_costs_nothing_but_time(store, caplog):
    store.call()
    outer = store.entry("outer")
    outer.unlink()
    outer.mkdir()
    assert store.call() == ["outer"]
    assert f"from {outer}: IsADirectoryError" in caplog.text
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".nbc", ".nbc"]


def test_a_link_that_is_turned_after_the_check_turns_nothing(store, folder_of, tmp_path_factory):
    """A folder of ours with a bomb in it, as an archive of somebody else's is once unpacked."""
    top = tmp_path_factory.mktemp("top")
    link, mark = top / "link", top / "mark"
    link.symlink_to(top / "good")
    (top / "good").mkdir()
    store.folder = folder_of(FASTMAML_CACHE_DIR=link)
    assert store.folder == top / "good" / "fastmaml" / cache._DIGEST
    assert store.call() == ["inner", "outer"]
    shutil.copytree(top / "good", top / "bad")
    for entry in entries(top / "bad"):
        write(entry, cache.dumps(([], Bomb(mark))))
    link.unlink()
    link.symlink_to(top / "bad")
    assert store.call() == []
    assert not mark.exists()


# ---- where the folder is


@pytest.fixture
def folder_of(tmp_path, monkeypatch):
    """The folder for some environment variables, in a home where nothing is yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    for name in ("FASTMAML_CACHE", "FASTMAML_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache.sys, "platform", "linux")

    def folder(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        return find_folder()

    return folder


def test_folder_by_default(folder_of, tmp_path):
    assert folder_of() == tmp_path / "home" / ".cache" / "fastmaml" / cache._DIGEST
    found = folder_of(XDG_CACHE_HOME=tmp_path / "xdg")
    assert found == tmp_path / "xdg" / "fastmaml" / cache._DIGEST
    assert found.is_dir()


def test_folder_where_nobody_has_a_home(folder_of, tmp_path, monkeypatch):
    user = f"fastmaml-{os.geteuid()}" if hasattr(os, "geteuid") else "fastmaml"
    expected = tmp_path / "temporary" / user / cache._DIGEST
    (tmp_path / "file").touch()
    assert folder_of(HOME=tmp_path / "file") == expected  # a home in which nothing can be made
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for an unknown user
    assert folder_of() == expected


def test_folder_that_the_user_chooses(folder_of, tmp_path):
    assert folder_of(NUMBA_CACHE_DIR=tmp_path / "a").parent == tmp_path / "a" / "fastmaml"
    assert folder_of(FASTMAML_CACHE_DIR=tmp_path / "b").parent == tmp_path / "b" / "fastmaml"


def test_the_cache_can_be_turned_off(folder_of, tmp_path):
    assert folder_of(FASTMAML_CACHE="0", FASTMAML_CACHE_DIR=tmp_path / "off") is None
    assert not (tmp_path / "off").exists()


def test_no_folder_at_all(folder_of, tmp_path, caplog):
    (tmp_path / "file").touch()
    assert folder_of(FASTMAML_CACHE_DIR=tmp_path / "file") is None
    assert str(tmp_path / "file") in caplog.text


def test_sources_that_are_no_files_have_no_cache(folder_of, monkeypatch, tmp_path):
    """In a zip file, say, where no edit could be noticed."""
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "package.zip" / "cache.py"))
    assert cache._digest() is None
    monkeypatch.setattr(cache, "_DIGEST", None)
    assert folder_of() is None


def test_a_read_only_folder_is_read(folder_of, tmp_path, monkeypatch):
    filled = folder_of(FASTMAML_CACHE_DIR=tmp_path)

    def refuse(**kwargs):
        raise PermissionError

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert folder_of() == filled


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders have no such owners")
@pytest.mark.parametrize("level", ["chosen", "chosen/fastmaml", "chosen/fastmaml/digest"])
@pytest.mark.parametrize("flaw", ["group", "world", "stranger"])
def test_a_folder_that_others_can_write_to_is_not_used(
    folder_of, tmp_path, monkeypatch, level, flaw, caplog
):
    """And the log says which, why, and what to do."""
    monkeypatch.setattr(cache, "_DIGEST", "digest")
    chosen = tmp_path / "chosen"
    assert folder_of(FASTMAML_CACHE_DIR=chosen) == chosen / "fastmaml" / "digest"
    if flaw != "stranger":
        (tmp_path / level).chmod(0o775 if flaw == "group" else 0o757)
        reason = f"can write to {tmp_path / level} (chmod go-w {tmp_path / level} ends that)"
    elif os.geteuid() == 0:
        os.chown(tmp_path / level, 12345, -1)
        reason = f"{tmp_path / level} belongs to user 12345, not to user 0 or root"
    else:
        another = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: another)
        reason = "belongs to user"
    assert folder_of() is None
    assert "every process compiles" in caplog.text
    assert reason in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders have no such owners")
def test_where_others_can_write_to_the_first_choice_the_second_is_used(folder_of, tmp_path, caplog):
    """As with a umask of 002 they can, to what other programs have made."""
    (tmp_path / "home" / ".cache").mkdir(parents=True)
    (tmp_path / "home" / ".cache").chmod(0o775)
    caplog.set_level("INFO", "fastmaml")
    found = folder_of()
    assert found.parent == tmp_path / "temporary" / f"fastmaml-{os.geteuid()}"
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert f"kept in {found}, not in {tmp_path / 'home' / '.cache'}" in caplog.text
    assert list((tmp_path / "home" / ".cache").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "umask"), reason="folders have no such modes")
def test_any_umask_will_do(folder_of, tmp_path):
    before = os.umask(0o000)
    try:
        assert folder_of() == tmp_path / "home" / ".cache" / "fastmaml" / cache._DIGEST
    finally:
        os.umask(before)


def test_old_folders_of_other_versions_are_removed(folder_of, tmp_path, monkeypatch):
    base = tmp_path / "fastmaml"
    names = ["0" * 24, "1" * 24, "not ours", "2" * 24]
    for name in names:
        (base / name).mkdir(parents=True)
        (base / name / "entry.nbc").touch()
    (base / names[3] / "keep this").touch()
    long_ago = time.time() - 100 * 24 * 3600
    for name in names[1:]:
        os.utime(base / name, (long_ago, long_ago))
    new = folder_of(FASTMAML_CACHE_DIR=tmp_path)
    assert {path.name for path in base.iterdir()} == {new.name, *names} - {names[1]}
    assert [path.name for path in entries(base / names[3])] == ["keep this"]
    os.utime(new, (long_ago, long_ago))
    folder_of()  # using it makes it young again
    assert new.stat().st_mtime > long_ago + 1000


def test_only_folders_of_ours_are_removed(folder_of, tmp_path):
    """Not what a link of such a name leads to."""
    base, elsewhere = tmp_path / "fastmaml", tmp_path / "elsewhere"
    for folder in (base, elsewhere):
        folder.mkdir()
    (elsewhere / "entry.nbc").touch()
    (base / ("0" * 24)).symlink_to(elsewhere)
    (base / ("1" * 24)).mkdir()
    (base / ("1" * 24) / "entry.nbc").symlink_to(elsewhere / "entry.nbc")
    long_ago = time.time() - 100 * 24 * 3600
    for folder in (elsewhere, base / ("1" * 24)):
        os.utime(folder, (long_ago, long_ago))
    new = folder_of(FASTMAML_CACHE_DIR=tmp_path)
    assert sorted(path.name for path in base.iterdir()) == sorted(["0" * 24, new.name])
    assert entries(elsewhere) == [elsewhere / "entry.nbc"]
