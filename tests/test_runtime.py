"""Threads, forks, Ctrl-C and `out`: what a process may do around and during a call."""

import os
import signal
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from fastmaml.kernels.compile import jit
from processes import python, start

import fastmaml as fm

LAYERS = ("omp", "workqueue")
compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="no threads without JIT")
posix_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, no signals")

# What the scripts below share: one call that is worth threads, and one that is not.
CALLS = """
import numpy as np
import fastmaml as fm
rng = np.random.default_rng(0)
model = fm.MLP([1, 20, 20, 1])
theta = model.init(0)
x, y = rng.normal(size=(2, 300, 6, 1))
mamls = [fm.MAML(model, method=method) for method in ("factored", "dense")]
def call():
    large = [maml.gradient(theta, x, y).tobytes() for maml in mamls]
    small = mamls[0].gradient(theta, x[:2], y[:2]).tobytes()
    return [*large, small, mamls[0].predict(theta, x, y, x).tobytes()]
def running():
    import numba
    try:
        return numba.threading_layer()
    except ValueError:
        return None
"""


def run(code, layer, **variables):
    """Output of the calls and the code on a threading layer, with more threads than cores."""
    variables = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "3", **variables}
    return python(CALLS + code, **variables)


@pytest.fixture(scope="module")
def expected():
    """What one thread of a process without a pool computes."""
    return run("fm.set_num_threads(1); print(call())", "omp")


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    model = fm.MLP([2, 7, 2])
    x, y = rng.normal(size=(2, 5 if numba.config.DISABLE_JIT else 90, 5, 2))
    return fm.MAML(model, 0.01, 2), model.init(0), x, y


# ---- the number of threads


@compiled_only
def test_threads_are_set_and_set_back(problem):
    maml, theta, x, y = problem
    before = numba.get_num_threads()
    results = []
    for n in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        with fm.threads(n):
            assert numba.get_num_threads() == n
            results.append(maml.gradient(theta, x, y).tobytes())
            with pytest.raises(RuntimeError), fm.threads(1):
                raise RuntimeError
            assert numba.get_num_threads() == n
    assert numba.get_num_threads() == before
    assert len(set(results)) == 1
    fm.set_num_threads(np.int64(1))
    assert numba.get_num_threads() == 1
    fm.set_num_threads(before)


def enter_threads(n):
    with fm.threads(n):
        pass


@pytest.mark.parametrize("function", ["set_num_threads", "threads"])
@pytest.mark.parametrize(
    ("n", "error", "text"),
    [
        (0, ValueError, "n is 0; accepted are integers of at least 1"),
        (-1, ValueError, "n is -1; accepted are integers of at least 1"),
        (1.0, TypeError, "n is 1.0; accepted are integers of at least 1"),
        (True, TypeError, "n is True; accepted are integers of at least 1"),
        (None, TypeError, "n is None; accepted are integers of at least 1"),
        pytest.param(10**5000, ValueError, "n is <int>; accepted are integers of at", id="huge"),
        (10**6, ValueError, r"n is 1000000; accepted are integers from 1 to \d+, .*NUM_THREADS"),
    ],
)
def test_number_of_threads_is_checked(function, n, error, text):
    before = numba.get_num_threads()
    enter = fm.set_num_threads if function == "set_num_threads" else enter_threads
    with pytest.raises(error, match=text):
        enter(n)
    assert numba.get_num_threads() == before


@compiled_only
@pytest.mark.parametrize("layer", LAYERS)
def test_the_number_of_threads_belongs_to_a_python_thread(layer, expected):
    code = """
import threading, numba
with fm.threads(1):
    seen = []
    thread = threading.Thread(target=lambda: seen.append((numba.get_num_threads(), call())))
    thread.start(); thread.join()
    (threads, result), = seen
    assert (numba.get_num_threads(), threads) == (1, 3)
    assert result == call()
print(result)
"""
    assert run(code, layer) == expected


def test_warmup_is_checked():
    with pytest.raises(ValueError, match="methods is 'auto'; accepted are 'explicit', 'dense'"):
        fm.warmup(["auto"])
    with pytest.raises(TypeError, match="accepted are float32 and float64"):
        fm.warmup(["dense"], ["float16"])
    with pytest.raises(TypeError, match="accepted are sequences"):
        fm.warmup("dense")
    with pytest.raises(TypeError, match="dtypes is 3; accepted are sequences of words"):
        fm.warmup(["dense"], 3)
    with pytest.raises(TypeError, match="objectives is 3; accepted are sequences of objectives"):
        fm.warmup([], [], 3)
    with pytest.raises(TypeError, match=r"objectives\[0\] is Linear.*; accepted are a fastmaml"):
        fm.warmup([], [], [fm.Linear(1)])
    fm.warmup([], [])


# ---- several Python threads at once


@compiled_only
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("first", ["first calls race", "all is loaded"])
def test_python_threads_call_at_once(layer, first, expected):
    code = """
import sys, threading
if sys.argv[1] == "all is loaded":
    call()
barrier, results = threading.Barrier(4), []
def work():
    barrier.wait()
    for _ in range(4):
        results.append(call())
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(results) == 16 and all(result == results[0] for result in results)
assert running()
print(results[0])
"""
    found = python(CALLS + code, first, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="3")
    assert found == expected


@compiled_only
def test_first_calls_race_to_compile(expected):
    """Nothing is in the cache, and the two threads want the same kernel."""
    code = """
import threading
barrier, results = threading.Barrier(2), []
def work():
    barrier.wait()
    results.append(model.predict(np.tile(theta, (300, 1)), x).tobytes())
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with fm.threads(1):
    results.append(model.predict(theta, x).tobytes())
assert len(results) == 3 and len(set(results)) == 1
"""
    run(code, "workqueue", FASTMAML_CACHE="0", NUMBA_OPT="0")


@compiled_only
def test_workqueue_takes_one_caller_at_a_time(monkeypatch):
    """Who comes second runs the serial twin; numba would abort the process."""
    calls = []

    @jit.kernel
    def nothing(n_workers):
        pass

    def parallel(n_workers):
        calls.append(("parallel", n_workers))
        if n_workers == 3:
            nothing(2)  # as another thread might meanwhile
            raise RuntimeError

    monkeypatch.setattr(nothing, "parallel", parallel)
    monkeypatch.setattr(nothing, "serial", lambda n_workers: calls.append(("serial", n_workers)))
    monkeypatch.setattr(jit, "threading_layer", lambda: "workqueue")
    with pytest.raises(RuntimeError):
        nothing(3)
    nothing(2)  # the error has given the threads back
    nothing(1)
    assert calls == [("parallel", 3), ("serial", 1), ("parallel", 2), ("serial", 1)]
    calls.clear()
    monkeypatch.setattr(jit, "threading_layer", lambda: "omp")
    with pytest.raises(RuntimeError):
        nothing(3)
    assert calls == [("parallel", 3), ("parallel", 2)]
    calls.clear()
    monkeypatch.setattr(jit, "_forked", True)
    nothing(3)
    assert calls == [("serial", 1)]


# ---- fork


BEFORE = {
    "nothing has run": "",
    "threads have run": "call()",
    "other numba functions have started the threads": "import numba; numba.get_num_threads()",
    "a small call has run": "mamls[0].gradient(theta, x[:2], y[:2])",
}


@posix_only
@compiled_only
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_forked_child_gives_the_same(layer, before, expected):
    """By os.fork, in a child of the child, in a pool of processes; and the parent goes on."""
    code = f"""
import multiprocessing, os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
{BEFORE[before]}
started = running()
def check():
    result = call()
    pid = os.fork()
    if not pid:
        os._exit(0 if call() == result else 1)
    assert os.waitpid(pid, 0)[1] == 0
    return result
pid = os.fork()
if not pid:
    with fm.threads(2):
        os._exit(0 if check() == call() and (started or running()) else 1)
assert os.waitpid(pid, 0)[1] == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = [pool.apply_async(check) for _ in range(2)]
    results = [result.get(300) for result in results]
assert running() == started
results.append(call())
assert all(result == results[0] for result in results)
print(results[0])
"""
    assert run(code, layer) == expected


@posix_only
@compiled_only
@pytest.mark.parametrize("layer", LAYERS)
def test_fork_beside_threads_that_compute_or_compile(layer, expected):
    code = """
import os, threading, time, warnings
from numba.core.compiler_lock import global_compiler_lock
warnings.simplefilter("ignore", DeprecationWarning)
compiling, stop = threading.Event(), threading.Event()
def compile():
    with global_compiler_lock:
        compiling.set()
        time.sleep(0.3)
def compute():
    while not stop.is_set():
        call()
threads = [threading.Thread(target=compile), threading.Thread(target=compute)]
threads[0].start()
compiling.wait()
threads[1].start()
for _ in range(5):
    pid = os.fork()
    if not pid:
        result = call()
        os.write(1, f"{result}\\n".encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
"""
    assert set(run(code, layer).splitlines()) == {expected.strip()}


# ---- Ctrl-C


LONG = """
import signal, sys, time
import numpy as np
import fastmaml as fm
signal.signal(signal.SIGINT, signal.default_int_handler)
model, narrow, wide = fm.MLP([1, 40, 40, 1]), fm.MLP([1, 25, 1]), fm.MLP([1, 512, 512, 1])
theta, n = model.init(0), 200_000
x = np.linspace(-1, 1, 10 * n).reshape(n, 10, 1)
out = np.full(model.n_params, 7.0)
fm.warmup(["factored", "dense", "explicit"], ["float64"])  # not the compiler is to be stopped
small = fm.MAML(model).gradient(theta, x[:50], x[:50])
long_calls = {
    "factored": lambda: fm.MAML(model, steps=2, method="factored").gradient(theta, x, x, out=out),
    "dense": lambda: fm.MAML(model, method="dense").gradient(theta, x, x, out=out),
    "predict": lambda: fm.MAML(model, steps=9).predict(theta, x, x, x),
    "hessians": lambda: fm.equations.task_hessian(narrow, theta[:76], x[:4000], x[:4000]),
    "many rows": lambda: wide.predict(wide.init(0), x.reshape(-1, 1)),
}
for name, long_call in long_calls.items():
    try:
        print(name, flush=True)
        long_call()
        print("not interrupted")
    except KeyboardInterrupt:
        print(time.process_time(), flush=True)
    assert np.all(out == 7.0)
    assert np.array_equal(fm.MAML(model).gradient(theta, x[:50], x[:50]), small)
print("done", flush=True)
"""


def cpu_time(pid):
    """Seconds that the threads of a process have computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@posix_only
@compiled_only
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c_takes_effect_within_a_long_call():
    with start(LONG) as process:
        try:
            for name in iter(lambda: process.stdout.readline().strip(), "done"):
                assert name in LONG, process.stderr.read()
                time.sleep(0.3)
                sent = cpu_time(process.pid)
                process.send_signal(signal.SIGINT)
                stopped = process.stdout.readline()
                # Of computing, whatever the clock says on a machine that is busy with others.
                assert float(stopped) - sent < 5.0, name
        finally:
            process.kill()


# ---- out


@pytest.mark.parametrize("method", ["explicit", "dense", "factored"])
@pytest.mark.parametrize("task_mean", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_out_receives_the_gradient(problem, method, task_mean, dtype):
    _, theta, x, y = problem
    theta = theta.astype(dtype)
    options = {"inner_lr": 0.01, "method": method, "task_mean": task_mean}
    maml = fm.MAML(fm.MLP([2, 7, 2]), **options)
    expected = maml.gradient(theta, x, y)
    out = np.full_like(theta, np.nan)
    assert maml.gradient(theta, x, y, out=out) is out
    np.testing.assert_array_equal(out, expected)
    out[:] = np.nan
    value, gradient = maml.value_and_gradient(theta, x, y, x, y, out=out)
    assert gradient is out
    assert value == maml.value(theta, x, y)
    np.testing.assert_array_equal(out, expected)
    out[:] = np.nan
    assert fm.meta_gradient(maml.model, theta, x, y, **options, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("method", ["explicit", "dense", "factored"])
def test_out_may_be_memory_of_an_argument(problem, method):
    _, theta, x, y = problem
    maml = fm.MAML(fm.MLP([2, 7, 2]), 0.01, method=method)
    expected = maml.gradient(theta, x, y)
    same = theta.copy()
    assert maml.gradient(same, x, y, out=same) is same
    np.testing.assert_array_equal(same, expected)
    within = x.copy()
    out = within.reshape(-1)[5 : 5 + len(theta)]
    maml.gradient(theta, within, y, out=out)
    np.testing.assert_array_equal(out, expected)


def read_only(n):
    array = np.zeros(n)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (lambda n: [0.0] * n, TypeError, r"out is a list; accepted are ndarrays of float64, shape"),
        (lambda n: np.ma.zeros(n), TypeError, "out is a MaskedArray; accepted are ndarrays"),
        (lambda n: np.zeros(n, "f4"), TypeError, "out holds float32 numbers, theta float64"),
        (lambda n: np.zeros(n, int), TypeError, "out holds int64 numbers, theta float64"),
        (lambda n: np.zeros(n, ">f8"), TypeError, "out holds >f8 numbers, theta float64"),
        (lambda n: np.zeros(n + 1), ValueError, r"out has shape \(38,\); accepted .* \(37,\)"),
        (lambda n: np.zeros((1, n)), ValueError, r"out has shape \(1, 37\); accepted .* \(37,\)"),
        (lambda n: np.zeros(2 * n)[::2], ValueError, "out is not C-contiguous; accepted are"),
        (read_only, ValueError, "out is read-only; accepted are"),
        (
            lambda n: np.zeros(8 * n + 1, np.int8)[1:].view(float),
            ValueError,
            "out is not aligned; accepted are",
        ),
    ],
)
def test_out_is_checked(problem, out, error, text):
    maml, theta, x, y = problem
    given = out(maml.model.n_params)
    with pytest.raises(error, match=text):
        maml.gradient(theta, x, y, out=given)
    assert not np.any(given)


def test_out_stays_as_it_is_when_a_call_fails(problem, monkeypatch):
    maml, theta, x, y = problem
    out = np.full_like(theta, 7.0)
    with pytest.raises(ValueError, match="y has 4 rows"):
        maml.gradient(theta, x, y[:, :4], out=out)
    with pytest.raises(ValueError, match="x holds nan"):
        maml.value_and_gradient(theta, np.full_like(x, np.nan), y, out=out)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(jit.Kernel, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        maml.gradient(theta, x, y, out=out)
    assert np.all(out == 7.0)
