"""Every Numba option and every rule about threads, in one place.

``helper`` marks a serial function that kernels call. ``kernel`` marks the entry of a method: one
function, compiled as two twins. The parallel twin has one ``prange`` over workers; the serial twin is
the same code with ``prange`` read as ``range``. Work is cut into chunks that depend on the problem's
sizes only, and a chunk's result does not depend on the worker that computes it, so both twins and every
number of threads give the same bits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba import config, njit

from .cache import DiskCache, cache_folder
from .link import linked, load

__all__ = ["Kernel", "cache_folder", "helper", "kernel", "linked", "set_num_threads", "threading_layer", "threads"]

# No fastmath: it breaks NaN checks, and a licence to reorder would let twins differ in their last bits.
_OPTIONS = {"error_model": "numpy", "nogil": True}

helper = njit(**_OPTIONS)

_layer_lock = threading.Lock()
_forked = False
_layer: str | None = None


def _after_fork() -> None:
    """A forked child of a process with a thread pool has no pool: it works on one thread."""
    global _forked, _layer_lock
    _forked = _layer is not None
    _layer_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Kernel:
    """The two compiled twins of one entry function, and the choice between them."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.serial = self._twin(function, parallel=False)
        self.parallel = self._twin(function, parallel=True)

    @staticmethod
    def _twin(function: Callable[..., None], *, parallel: bool) -> Any:
        dispatcher = njit(parallel=parallel, **_OPTIONS)(function)
        if not config.DISABLE_JIT:
            twin = "parallel" if parallel else "serial"
            dispatcher._cache = DiskCache(f"{function.__module__}.{function.__qualname__}:{twin}", load)
        return dispatcher

    def __call__(self, n_workers: int, *args: Any) -> None:
        """Run with ``n_workers`` workers, or fewer where the threading layer allows no more."""
        global _layer
        if n_workers < 2 or _forked:
            self.serial(1, *args)
            return
        if _layer is None:
            _layer = threading_layer()
        if _layer != "workqueue":
            self.parallel(n_workers, *args)
        elif _layer_lock.acquire(blocking=False):
            # Two Python threads inside numba's workqueue at once abort the process.
            try:
                self.parallel(n_workers, *args)
            finally:
                _layer_lock.release()
        else:
            self.serial(1, *args)


def kernel(function: Callable[..., None]) -> Kernel:
    """Compile an entry function, whose first argument is the number of workers, as two twins."""
    return Kernel(function)


def max_workers() -> int:
    """How many workers a parallel region may have now: numba's thread mask, or 1 after a fork."""
    return 1 if _forked else numba.get_num_threads()


def threading_layer() -> str:
    """The name of numba's threading layer; starts its thread pool if it is not running."""
    if config.DISABLE_JIT:
        return "disabled"
    numba.get_num_threads()
    return str(numba.threading_layer())


def set_num_threads(n: int) -> None:
    """Set how many threads the calling Python thread's kernels use (numba's own thread mask)."""
    numba.set_num_threads(n)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use ``n`` threads inside a ``with`` block."""
    before = numba.get_num_threads()
    numba.set_num_threads(n)
    try:
        yield
    finally:
        numba.set_num_threads(before)
