"""How much memory a case takes: the peak of this process while it runs."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from .oracle import Failure

MIB = 2**20
#: what reading any file may take, and what a byte of the file may add to it
FLOOR, PER_BYTE = 64 * MIB, 100
#: address space for all of a worker; beyond it an allocation fails at once
SPACE = 12 * 2**30


def limit_space() -> None:
    """Let allocations that no file of the fuzz test needs fail, before the machine does."""
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))


def _peak() -> int:
    """The most bytes that this process has held since the last `_forget`."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _forget() -> None:
    with contextlib.suppress(OSError):  # elsewhere the peak only grows, and finds the first
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


@contextlib.contextmanager
def modest(n_bytes: int) -> Iterator[None]:
    """Raise Failure if what is inside takes far more memory than a file of so many bytes has."""
    _forget()
    before = _peak()
    yield
    taken = _peak() - before
    if taken > FLOOR + PER_BYTE * n_bytes:
        raise Failure(f"a file of {n_bytes} bytes took {taken / MIB:.0f} MiB of memory")
