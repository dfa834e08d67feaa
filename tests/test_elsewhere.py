"""Machine code made by a second process: the same, and never waited for in vain."""

from __future__ import annotations

import logging
import os
import sys
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
    elsewhere.forget()
    until(lambda: elsewhere._thread is None)
    until(lambda: elsewhere._process is None or elsewhere._process.poll() is not None)


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
    until(lambda: elsewhere._process.poll() == 0)
    assert all_code(modules) == here


def test_few_modules_start_no_process(alone):
    all_code([module(i) for i in range(elsewhere._START - 1)])
    assert elsewhere._thread is None


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit",  # before it has said a word
        "print('welcome'); input()",  # as a sitecustomize might
        "import sys; sys.stdout.write('1' * 10_000)",
        "import sys; sys.stdout.write(sys.argv[1]); sys.stdout.flush(); input()",  # and dies
        "import sys; sys.stdout.write(sys.argv[1] + 'x' * 8); sys.stdout.flush(); input()",
    ],
)
def test_a_process_that_fails_costs_nothing(alone, monkeypatch, caplog, program):
    """All is made here, and the log says why; another is not tried."""
    caplog.set_level(logging.INFO, "fastmaml")
    if "argv" in program:  # one that agrees, and then fails in its first job
        settings = elsewhere._settings().decode()
        monkeypatch.setattr(elsewhere, "__file__", settings)
    monkeypatch.setattr(elsewhere, "_PROGRAM", program)
    modules = [module(i) for i in range(N)]
    here = [elsewhere._machine_code(each) for each in modules]
    assert all_code(modules) == here
    if program.startswith("print"):  # it waits for more, and so does the thread
        elsewhere._process.kill()
    until(lambda: elsewhere._failed)
    assert "this process compiles alone" in caplog.text
    until(lambda: elsewhere._thread is None)
    assert all_code(modules) == here
    assert elsewhere._thread is None


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


def test_a_process_for_another_processor_is_not_used(alone, monkeypatch):
    """What a program sets in numba's configuration, the other process does not know."""
    monkeypatch.setattr(elsewhere, "_settings", lambda: b"others")
    modules = [module(i) for i in range(N)]
    here = [elsewhere._machine_code(each) for each in modules]
    assert all_code(modules) == here
    until(lambda: elsewhere._failed)


def test_who_is_interrupted_compiles_anew(monkeypatch, tmp_path):
    """The callee is forgotten too, and whoever calls it has been typed already."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)

    def inner(x) -> float:
        return x + 1.0

    called = link.linked(inner)

    def outer(x) -> float:
        return 2.0 * called(x)

    call = link.linked(outer)
    load, interrupted = versions.Version.load, []

    def interrupt(version):
        if not interrupted:
            interrupted.append(version)
            raise KeyboardInterrupt
        load(version)

    monkeypatch.setattr(versions.Version, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call(3.0)
    assert versions._pending == []
    assert call(3.0) == 8.0
    assert called(3.0) == 4.0


COLD = """
import os, sys, threading, warnings
import numpy as np
import fastmaml as fm
from fastmaml.kernels.compile import elsewhere
remote, receive = [], elsewhere._receive
def counted(pipe):
    remote.append(receive(pipe))
    return remote[-1]
elsewhere._receive = counted
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
    """And the store is the same but for the machine code's place: nothing is compiled after it."""
    code = "print(result(), len(remote) > 9)"
    first, helped = cold(tmp_path, code).split()
    assert helped == "True"
    assert cold(tmp_path, code, FASTMAML_COMPILER="0").split() == [first, "False"]
    warm = cold(tmp_path, code, FASTMAML_CACHE_DIR=tmp_path / "0")
    assert warm.split() == [first, "False"]


@two_cores
@posix_only
def test_a_child_forked_meanwhile_goes_its_own_way(tmp_path):
    """Also one that is forked while a module is in the making; and no child remains."""
    code = """
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
thread = threading.Thread(target=result)
thread.start()
while not remote: pass
for _ in range(2):
    pid = os.fork()  # waits until the thread has compiled
    if not pid:
        more = fm.BayesianLastLayer(model)
        more.value(more.init(0), x, x)  # what the parent has not compiled
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
thread.join()
print(result())
elsewhere._LINGER = 0.01
more = fm.BayesianLastLayer(model)
more.value(more.init(0), x, x)
while elsewhere._process.poll() is None: pass
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
def interrupt():
    while len(remote) < 3: pass
    os.killpg(0, signal.SIGINT)  # as a terminal does
os.setpgid(0, 0)
threading.Thread(target=interrupt).start()
try:
    result()
    print("not interrupted")
except KeyboardInterrupt:
    pass
before = len(remote)
print(result(), elsewhere._failed, len(remote) > before)
"""
    expected = cold(tmp_path, "print(result())").strip()
    assert cold(tmp_path, code).split() == [expected, "False", "True"]


@two_cores
def test_the_other_process_ends_with_this_one(tmp_path):
    """Killed in the middle, too: it holds no pipe of this one's open."""
    code = """
threading.Thread(target=result, daemon=True).start()
while not remote: pass
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
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    status = Path(f"/proc/{pid}/stat")  # in a container, nobody may wait for it
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
