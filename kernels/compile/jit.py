"""Numba's options for kernels, and every rule about threads, in one place.

``helper`` marks a small function that is taken in where it is called, ``serial_kernel`` an entry
with too little work for threads. ``kernel`` marks the entry of a method: one function, compiled as
two twins. The parallel twin has one ``prange`` over workers; the serial twin is the same code with
``prange`` read as ``range``. Work is cut into chunks that depend on the problem's sizes only, and a
chunk's result does not depend on the worker that computes it, so both twins and every number of
threads give the same bits. That is what makes it safe to fall back on the serial twin:

* in a forked child of a process whose threads were running: they do not exist there, and GNU
  OpenMP ends a process that would use them;
* on the ``workqueue`` layer, which aborts when two Python threads enter it, for whoever comes
  second.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba import config, njit
from numba.core.compiler_lock import global_compiler_lock

from .cache import cache_folder
from .link import stored

__all__ = [
    "Kernel",
    "cache_folder",
    "get_num_threads",
    "helper",
    "kernel",
    "max_workers",
    "serial_kernel",
    "set_num_threads",
    "thread_limit",
    "threading_layer",
]

# No fastmath: it breaks NaN checks, and a licence to reorder would let twins differ in their last
# bits.
_OPTIONS = {"error_model": "numpy", "nogil": True}


#: for small functions: Numba takes their statements in where they are called, so that none is
#: compiled on its own (and linked into every caller), which took a sixth of the time to compile
helper = njit(inline="always", **_OPTIONS)

_workqueue = threading.Lock()
_forked = False


def _pool_is_running() -> bool:
    """Whether this process has numba's threads, whoever started them."""
    try:
        numba.threading_layer()
    except ValueError:
        return False
    return True


def _after_fork() -> None:
    global _forked, _workqueue
    _forked = _forked or _pool_is_running()
    _workqueue = threading.Lock()
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    # A fork waits until no thread is compiling: the child could never take its lock.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=_after_fork,
    )


def _entry(function: Callable[..., Any], *, parallel: bool) -> Any:
    dispatcher = njit(parallel=parallel, **_OPTIONS)(function)
    if not config.DISABLE_JIT:
        twin = "parallel" if parallel else "serial"
        dispatcher._cache = stored(f"{function.__module__}.{function.__qualname__}:{twin}")
    return dispatcher


def serial_kernel(function: Callable[..., Any]) -> Any:
    """Compile an entry function that runs in the calling thread; kept on disk as a kernel is."""
    return _entry(function, parallel=False)


class Kernel:
    """The two compiled twins of one entry function, and the choice between them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.serial = _entry(function, parallel=False)
        self.parallel = _entry(function, parallel=True)

    def __call__(self, n_workers: int, *args: Any) -> Any:
        """Run with ``n_workers`` workers, or with one where threads cannot be had."""
        if n_workers < 2 or _forked:
            return self.serial(1, *args)
        if threading_layer() != "workqueue":
            return self.parallel(n_workers, *args)
        if not _workqueue.acquire(blocking=False):
            return self.serial(1, *args)
        try:
            return self.parallel(n_workers, *args)
        finally:
            _workqueue.release()

    def compile_parallel(self) -> None:
        """Compile the parallel twin for all types of arguments that the serial one has met."""
        if not config.DISABLE_JIT:
            for types in self.serial.signatures:
                self.parallel.compile(types)


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile an entry function, whose first argument is the number of workers, as two twins."""
    return Kernel(function)


@functools.cache  # a process has but one
def threading_layer() -> str:
    """The name of numba's threading layer; starts its threads if they are not running."""
    if config.DISABLE_JIT:
        return "disabled"
    _start_threads()
    return str(numba.threading_layer())


def thread_limit() -> int:
    """How many threads numba has, or will have when they are started."""
    return int(config.NUMBA_NUM_THREADS)


def max_workers() -> int:
    """How many workers a parallel region may have now: numba's thread mask, or 1 after a fork."""
    return 1 if _forked else get_num_threads()


def get_num_threads() -> int:
    """How many threads the calling Python thread's kernels use (numba's own thread mask)."""
    _start_threads()
    return int(numba.get_num_threads())


def set_num_threads(n: int) -> None:
    """Set how many threads the calling Python thread's kernels use (numba's own thread mask)."""
    _start_threads()
    numba.set_num_threads(n)


@functools.cache  # they are started once
def _start_threads() -> None:
    """Start numba's threads if they are not running, and let no fork come between.

    Numba holds a lock meanwhile, which a child that is forked then would never get.
    """
    with global_compiler_lock:
        numba.get_num_threads()
