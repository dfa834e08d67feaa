"""Machine code made by a second process: the same, and never waited for in vain."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path

import llvmlite.binding as llvm
import numba
import pytest
from fastmaml.kernels.compile import cache, elsewhere, link, versions
from processes import python, start

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
posix_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, no signals")

# More modules than are waited for before the process is started, and then some.
N = 3 * elsewhere._START


@pytest.fixture
def alone(monkeypatch):
    """No other process yet, none that has failed, and a core for one; none is left behind."""
    monkeypatch.delenv("FASTMAML_COMPILER", raising=False)
    monkeypatch.setattr(numba.config, "NUMBA_DEFAULT_NUM_THREADS", 2)
    monkeypatch.setattr(elsewhere, "_failed", False)
    monkeypatch.setattr(elsewhere, "_LINGER", 0.05)
    until(lambda: elsewhere._thread is None)  # of another test
    yield
    until(lambda: elsewhere._thread is None)
    until(ended)


def ended():
    """Whether the other process has."""
    return elsewhere._process is None or elsewhere._process.poll() is not None


def until(condition):
    """Wait; a minute is an error."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def module(i):
    """The bitcode of a module that loops, so that there is something to optimise."""
    text = f"""
        define double @f{i}(double* %x, i64 %n) {{
        entry:
          br label %loop
        loop:
          %i = phi i64 [0, %entry], [%next, %loop]
          %sum = phi double [{i}.0, %entry], [%more, %loop]
          %at = getelementptr double, double* %x, i64 %i
          %each = load double, double* %at
          %more = fadd double %sum, %each
          %next = add i64 %i, 1
          %again = icmp slt i64 %next, %n
          br i1 %again, label %loop, label %end
        end:
          ret double %more
        }}
    """
    parsed = llvm.parse_assembly(text)
    parsed.triple, parsed.data_layout = elsewhere._codegen().magic_tuple()[0], layout()
    return parsed.as_bitcode()


def layout():
    return elsewhere._codegen()._data_layout


def all_code(modules):
    jobs = [elsewhere.submit(each) for each in modules]
    for job in reversed(jobs):
        job.make()
    return [job.code() for job in jobs]


def test_the_code_is_what_this_process_would_make(alone):
    """Also of what the other process alone makes."""
    modules = [module(i) for i in range(N)]
    here = [elsewhere._machine_code(each) for each in modules]
    jobs = [elsewhere.submit(each) for each in modules]
    until(lambda: all(job._finished.is_set() for job in jobs))
    assert [job.code() for job in jobs] == here
    assert all_code(modules) == here
    until(lambda: elsewhere._thread is None)  # it ends when nothing comes
    until(ended)
    assert elsewhere._process.returncode == 0
    assert all_code(modules) == here


def test_few_modules_start_no_process(alone):
    all_code([module(i) for i in range(elsewhere._START - 1)])
    assert elsewhere._thread is None


# What it says first, where it agrees.
AGREES = "import sys, time; sys.stdout.write(sys.argv[1]); sys.stdout.flush(); "


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit",  # before it has said a word
        "print('welcome', flush=True); import time; time.sleep(600)",  # as a sitecustomize might
        "import sys; sys.stdout.write('1' * 10_000)",
        AGREES + "sys.stdin.buffer.raw.read(9)",
        AGREES + "sys.stdin.buffer.raw.read(9); sys.stdout.write('x' * 8)",  # a length: 8e18
        AGREES + "time.sleep(600)",
    ],
)
def test_a_process_that_fails_costs_nothing(alone, monkeypatch, caplog, program):
    """All is made here, and the log says why; another is not tried."""
    caplog.set_level(logging.INFO, "fastmaml")
    monkeypatch.setattr(elsewhere, "_PATIENCE", 0.1 if "sleep" in program else 60.0)
    if program.startswith(AGREES):
        monkeypatch.setattr(elsewhere, "__file__", elsewhere._settings().decode())
    monkeypatch.setattr(elsewhere, "_PROGRAM", program)
    modules = [module(i) for i in range(N)]
    here = [elsewhere._machine_code(each) for each in modules]
    jobs = [elsewhere.submit(each) for each in modules]
    if program.startswith(AGREES):  # it has a job, and the last ones are made here
        until(lambda: len(elsewhere._queue) < N)
    for job in reversed(jobs):
        job.make()
    assert [job.code() for job in jobs] == here
    if "sleep" in program:  # the thread still waits for it
        elsewhere._process.kill()
    until(lambda: "this process compiles alone" in caplog.text)
    assert elsewhere._failed
    assert elsewhere._thread is None
    assert ended()
    assert all_code(modules) == here
    assert elsewhere._thread is None


def test_no_thread_to_start(alone, monkeypatch):
    def full(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    modules = [module(i) for i in range(N)]
    assert all_code(modules) == [elsewhere._machine_code(each) for each in modules]
    assert elsewhere._failed


def test_nothing_of_the_users_folder_is_run(alone, monkeypatch, tmp_path):
    """Which Python would look through first for what it imports, as "" or by a relative path."""
    monkeypatch.chdir(tmp_path)
    for name in ("runpy", "signal", "struct", "sitecustomize", "usercustomize"):
        Path(f"{name}.py").write_text("open('hijacked', 'w')\n")
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    jobs = [elsewhere.submit(module(i)) for i in range(N)]
    until(lambda: all(job._finished.is_set() for job in jobs))
    assert not Path("hijacked").exists()


def test_what_is_forgotten_is_not_waited_for(alone):
    """By whoever needs it all the same."""
    jobs = [elsewhere.submit(module(i)) for i in range(elsewhere._START - 1)]
    elsewhere.forget()
    assert all(job._finished.is_set() for job in jobs)
    assert [job.code() for job in jobs] == [elsewhere._machine_code(job.bitcode) for job in jobs]


def test_no_python_to_start(alone, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "fastmaml")
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    modules = [module(i) for i in range(N)]
    assert all_code(modules) == [elsewhere._machine_code(each) for each in modules]
    until(lambda: elsewhere._failed)
    assert "No such file" in caplog.text or "cannot find" in caplog.text


@pytest.mark.parametrize("why", ["not wanted", "one core", "frozen", "embedded", "no name"])
def test_where_none_may_be_started(alone, monkeypatch, why):
    assert elsewhere._may_start()
    if why == "not wanted":
        monkeypatch.setenv("FASTMAML_COMPILER", "0")
    elif why == "one core":
        monkeypatch.setattr(numba.config, "NUMBA_DEFAULT_NUM_THREADS", 1)
    elif why == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", "/usr/bin/blender" if why == "embedded" else None)
    assert not elsewhere._may_start()
    all_code([module(i) for i in range(N)])
    assert elsewhere._thread is None


@pytest.mark.parametrize("name", ["LOOP_VECTORIZE", "CPU_NAME", "CPU_FEATURES"])
def test_a_process_with_other_settings_is_not_used(alone, monkeypatch, name):
    """What a program sets in numba's configuration, the other process does not know."""
    given = "" if name == "CPU_FEATURES" else "generic" if name == "CPU_NAME" else False
    monkeypatch.setattr(numba.config, name, given)
    elsewhere._codegen.cache_clear()  # as a program that sets it before the first call
    try:
        modules = [module(i) for i in range(N)]
        here = [elsewhere._machine_code(each) for each in modules]
        assert all_code(modules) == here
        until(lambda: elsewhere._failed)
        until(ended)
    finally:
        elsewhere._codegen.cache_clear()


@pytest.mark.parametrize("loaded", [0, 1])
def test_who_is_interrupted_compiles_anew(monkeypatch, tmp_path, loaded):
    """The callee is forgotten too, kept or not, and whoever calls it has been typed already."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(link, "_PACKAGE", "")  # these functions are as good as its own

    def inner(x) -> float:
        return x + 1.0

    called = link.linked(inner)

    def outer(x) -> float:
        return 2.0 * called(x)

    call = link.linked(outer)
    load, asked = versions.Version.load, []

    def interrupt(version):
        asked.append(version)
        if len(asked) == loaded + 1:
            raise KeyboardInterrupt
        load(version)

    monkeypatch.setattr(versions.Version, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call(3.0)
    assert versions._pending == []
    assert len(list(tmp_path.iterdir())) == loaded
    assert call(3.0) == 8.0
    assert called(3.0) == 4.0


def test_an_address_that_cannot_be_had_is_an_error(monkeypatch, tmp_path):
    """It would be called; and LLVM ends a process for a symbol that it does not know."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)

    def inner(x) -> float:
        return x + 1.0

    called = link.linked(inner)

    def outer(x) -> float:
        return 2.0 * called(x)

    asked = [link.Asked(link.linked(outer), (numba.types.float64,), numba.types.float64)]
    with monkeypatch.context() as patch:
        patch.setattr(versions.Version, "load", lambda version: None)
        with pytest.raises(LookupError, match="outer has no address"):
            link.addresses_of(asked)
    link._registry[asked[0].function.piece.name]._versions.clear()
    with pytest.raises(LookupError, match="no symbol fastmaml_inner"):
        link.addresses_of(asked)


COLD = """
import os, sys, threading, time, warnings
import numpy as np
import fastmaml as fm
from fastmaml.kernels.compile import elsewhere
remote, submitted, receive, submit = [], [], elsewhere._receive, elsewhere.submit
at = {}  # what happens at which module
def counted(pipe):
    remote.append(receive(pipe))
    return remote[-1]
def counting(bitcode):
    submitted.append(bitcode)
    job = submit(bitcode)
    if elsewhere._thread is not None and not remote:
        assert job._finished.wait(100)  # so that there is help, however slow the start
    at.get(len(submitted), bool)()
    return job
elsewhere._receive, elsewhere.submit = counted, counting
x = np.linspace(-1, 1, 12).reshape(3, 4, 1)
model = fm.MLP([1, 5, 1])
def result():
    return fm.MAML(model, 0.1).gradient(model.init(0), x, x).tobytes().hex()
"""


def cold(tmp_path, code, **variables):
    """What code prints in a process without compiled kernels; it may warn of nothing."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    settings = {"FASTMAML_CACHE_DIR": folder, "NUMBA_OPT": "0", "PYTHONWARNINGS": "error"}
    return python(COLD + code, **settings | variables)


two_cores = pytest.mark.skipif(numba.config.NUMBA_DEFAULT_NUM_THREADS < 2, reason="one core")


@two_cores
def test_a_first_call_has_help_and_its_result_is_the_same(tmp_path):
    """What is stored serves the next process."""
    code = "print(result(), len(remote) > 0, len(submitted) > 0)"
    first, *helped = cold(tmp_path, code).split()
    assert helped == ["True", "True"]
    assert cold(tmp_path, code, FASTMAML_COMPILER="0").split() == [first, "False", "True"]
    warm = cold(tmp_path, code, FASTMAML_CACHE_DIR=tmp_path / "0")
    assert warm.split() == [first, "False", "False"]


@two_cores
@posix_only
def test_a_forked_child_goes_its_own_way(tmp_path):
    """Also with modules that its parent's process has in hand; and no child remains."""
    code = """
from test_elsewhere import N, module
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
modules = [module(i) for i in range(N)]
here = [elsewhere._machine_code(each) for each in modules]
held = threading.Event()
elsewhere._receive = lambda pipe: (held.wait(), counted(pipe))[1]
jobs = [submit(each) for each in modules]
while len(elsewhere._queue) == N:
    time.sleep(0.01)
def child():
    assert [job.code() for job in jobs] == here
    result()
pid = os.fork()
if not pid:
    elsewhere._receive = counted
    child()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
held.set()
assert [job.code() for job in jobs] == here
print(result())
elsewhere._LINGER = 0.01
submit(modules[0]).code()
while elsewhere._process.poll() is None:
    time.sleep(0.01)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("none")
"""
    lines = cold(tmp_path, code).split()
    assert lines == [cold(tmp_path, "print(result())").strip(), "none"]


@two_cores
@posix_only
def test_ctrl_c_reaches_this_process_alone(tmp_path):
    """It stops the call; the next one has the other process still."""
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
os.setpgid(0, 0)
at[9] = lambda: os.killpg(0, signal.SIGINT)  # as a terminal does
try:
    result()
    print("not interrupted")
except KeyboardInterrupt:
    pass
print(result(), elsewhere._failed)
"""
    expected = cold(tmp_path, "print(result())").strip()
    assert cold(tmp_path, code).split() == [expected, "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@two_cores
def test_the_other_process_ends_with_this_one(tmp_path):
    """Killed in the middle, too: it holds no pipe of this one's open."""
    code = """
threading.Thread(target=result, daemon=True).start()
while not remote:
    time.sleep(0.01)
print(elsewhere._process.pid, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
os._exit(0) if sys.argv[1] == "exits" else sys.exit()
"""
    for how in ("ends", "exits", "killed"):
        variables = {"FASTMAML_CACHE_DIR": tmp_path / how, "PYTHONWARNINGS": "error"}
        with start(COLD + code, how, **variables) as process:
            output, errors = process.communicate(timeout=300)
        assert errors == ""
        until(lambda pid=int(output): not running(pid))


def running(pid):
    """Whether a process runs; one that nobody waits for, as in a container, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
