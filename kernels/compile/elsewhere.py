"""Machine code made by a second process, while this one goes on with Numba's Python.

What a first call compiles takes Numba about as long as it takes LLVM, and two threads cannot share
it out: Numba is Python, and its binding lets one thread at a time call LLVM. So a module goes as
bitcode to a process of its own and comes back as machine code. When this process has made all
modules, it helps with those that wait, from the other end of the queue. Where no second process can
be had, or it fails, this one makes all. The code is the same.

The process is started when some modules wait, and it ends with this one or when nothing has come
for a while. It runs this file alone, without the package, so that it is ready soon.
``FASTMAML_COMPILER=0`` does without it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import os
import struct
import subprocess
import sys
import threading
from collections import deque
from os.path import isabs
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba import config
from numba.core.codegen import JITCPUCodegen

__all__ = ["Job", "forget", "submit"]

_log = logging.getLogger("fastmaml")
#: modules that wait when the process is started: it takes as long to be ready as some are to make
_START = 4
#: seconds without a module after which the process ends
_LINGER = 5.0
#: seconds for one module, which takes hundredths, after which it is made here
_PATIENCE = 60.0
_PROGRAM = """
import runpy, sys
file, sys.path[:] = sys.argv[1], sys.argv[2:]
runpy.run_path(file, run_name="__main__")
"""
# Of the variables that an isolated Python ignores, the one that is about what it writes.
_BYTECODE = ["-B"] if sys.dont_write_bytecode else []
_SIZE = struct.Struct("<q")


@functools.cache
def _codegen() -> JITCPUCodegen:
    return JITCPUCodegen("fastmaml")


def _settings() -> bytes:
    """What the machine code of a module depends on; both processes must agree."""
    names = (
        "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "USING_SVML",
        "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS",
    )  # fmt: skip
    compiler = sys.version, numba.__version__, llvmlite.__version__, _codegen().magic_tuple()
    text = repr((compiler, [getattr(config, name) for name in names]))
    return hashlib.sha256(text.encode()).hexdigest().encode()  # as long as the other's


def _machine_code(bitcode: bytes) -> bytes:
    """Have LLVM optimise and compile a module, as Numba would."""
    library = _codegen().create_library("job")
    library._final_module = llvm.parse_bitcode(bitcode)
    library._optimize_final_module()
    return bytes(_codegen()._tm.emit_object(library._final_module))


class Job:
    """A module whose machine code is made by whoever comes first."""

    def __init__(self, bitcode: bytes) -> None:
        self.bitcode = bitcode
        self._made: bytes | None = None
        self._finished = threading.Event()
        self._pid = os.getpid()

    def finish(self, code: bytes | None) -> None:
        """Hand in the machine code, or None if it could not be made."""
        self._made = code
        self._finished.set()

    def make(self) -> None:
        """Make the machine code here, if nobody has begun."""
        if _take_back(self):
            self.finish(_machine_code(self.bitcode))

    def code(self) -> bytes:
        """The machine code, when it is made."""
        self.make()
        if self._pid == os.getpid():  # nobody works for a forked child
            self._finished.wait(_PATIENCE)
        return self._made or _machine_code(self.bitcode)


_changed = threading.Condition()
_queue: deque[Job] = deque()
_thread: threading.Thread | None = None
_process: subprocess.Popen[bytes] | None = None
_failed = False


def submit(bitcode: bytes) -> Job:
    """Have the machine code of a module made. Numba's compiler lock is held."""
    global _thread, _failed
    job = Job(bitcode)
    with _changed:
        _queue.append(job)
        _changed.notify()
        if _thread is None and len(_queue) >= _START and _may_start():
            settings = _settings()  # under numba's lock, for which a fork waits
            _thread = threading.Thread(
                target=_talk, args=(settings,), name="fastmaml-compiler", daemon=True
            )
            try:
                _thread.start()
            except RuntimeError:  # there are too many, or Python is about to end
                _thread, _failed = None, True
    return job


def forget() -> None:
    """Have no more made of what was submitted; who needs it yet makes it."""
    with _changed:
        while _queue:
            _queue.popleft().finish(None)


def _take_back(job: Job) -> bool:
    with _changed:
        found = job in _queue
        if found:
            _queue.remove(job)
        return found


def _may_start() -> bool:
    """Whether there may be a second process, and a core for it."""
    python = Path(sys.executable or "").name.startswith("python") and not hasattr(sys, "frozen")
    wanted = os.environ.get("FASTMAML_COMPILER", "1") != "0"
    return python and wanted and not _failed and config.NUMBA_DEFAULT_NUM_THREADS > 1


def _next() -> Job | None:
    """The job that has waited longest; None if none comes."""
    global _thread
    with _changed:
        if not _queue and not _changed.wait_for(lambda: _queue, _LINGER):
            _thread = None  # whoever submits the next starts another
            return None
        return _queue.popleft()


def _talk(settings: bytes) -> None:
    """Hand jobs to the other process, one after the other.

    No LLVM here, whose lock a forked child would never get. Nor a generator, which would be ended
    there.
    """
    global _thread, _process, _failed
    process = job = None
    try:
        process = _process = subprocess.Popen(
            # Isolated, and without "": it runs nothing of the folder where the user is now.
            [sys.executable, "-I", *_BYTECODE, "-c", _PROGRAM, __file__, *filter(isabs, sys.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            bufsize=0,  # a buffer's lock could be held in a forked child
            start_new_session=True,  # Ctrl-C is not for it
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # of Windows
        )  # fmt: skip
        # Before any job is taken, so that none waits while numba is imported there.
        if _exactly(process.stdout, len(settings)) != settings:
            raise OSError("it compiles for other settings")
        job = _next()
        while job is not None:
            _send(process.stdin, job.bitcode)
            job.finish(_receive(process.stdout))
            job = _next()
        _end(process)
    except Exception as error:
        with _changed:
            _failed, _thread = True, None
        if job is not None:
            job.finish(None)
        if process is not None:
            process.kill()
            _end(process)
        _log.info("this process compiles alone, without another: %r", error)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes, at which the process ends, and wait for that."""
    _close(process)
    process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _exactly(pipe: Any, size: int) -> bytes:
    """So many bytes of a pipe, which gives some at a time."""
    parts = []
    while size:
        parts.append(pipe.read(size))
        if not parts[-1]:
            raise EOFError("the other process has ended")
        size -= len(parts[-1])
    return b"".join(parts)


def _receive(pipe: Any) -> bytes:
    (size,) = _SIZE.unpack(_exactly(pipe, _SIZE.size))
    return _exactly(pipe, size)


def _send(pipe: Any, content: bytes) -> None:
    _write(pipe, _SIZE.pack(len(content)) + content)


def _write(pipe: Any, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[pipe.write(left) :]


def _after_fork() -> None:
    """A child has neither the thread nor the process, which are its parent's."""
    global _changed, _thread, _process
    _changed, _thread = threading.Condition(), None
    _queue.clear()
    if _process is not None:
        _close(_process)
        _process.returncode = 0  # not this one's to wait for
        _process = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _serve() -> None:
    """Be the other process: for every module that comes, send its machine code."""
    given, sent = io.FileIO(0), io.FileIO(1, "w")
    with contextlib.suppress(EOFError, OSError):  # the first process has ended
        _write(sent, _settings())
        while True:
            _send(sent, _machine_code(_receive(given)))


if __name__ == "__main__":
    _serve()
