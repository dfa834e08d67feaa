"""SIGTERM and SIGHUP end a command as Ctrl-C does: what was reached is saved.

Without this they would end the process at once, between two bytes of a file.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

__all__ = ["Ended", "as_ctrl_c", "undisturbed"]

#: not all systems have all of them
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Ended(BaseException):
    """A signal that ends the process; like KeyboardInterrupt no Exception, so nothing keeps it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Ended in this block.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored, and a program that has a
    handler of its own keeps it.
    """

    def end(number: int, _frame: Any) -> NoReturn:
        # A terminal that closes may send two: the second must not interrupt what saves.
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    ours = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    with _handled(ours, end):
        yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal that ends a command, Ctrl-C included, interrupt this block: it is short."""
    with _handled([signal.SIGINT, *ENDING], signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handled(numbers: list[int], handler: Callable[..., Any] | int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone hears of signals
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            if before[number] is not None:  # None: of somebody who was not Python
                signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            if old is not None:
                signal.signal(number, old)
