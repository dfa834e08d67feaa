"""A worker whose cases end as none must: for the tests of `run`."""

import faulthandler
import os
import sys
import time

from . import __main__
from .oracle import Failure


def case(_seed: int, case: int, _folder: object) -> None:
    """Crash, hang, fail, or do what a case does."""
    if case == 2:
        os.abort()
    if case == 4:
        time.sleep(600)
    if case == 5:
        raise Failure("case five")
    if case == 7:
        raise SystemExit(3)


if __name__ == "__main__":
    faulthandler.enable()
    __main__.run_case, __main__.HANG = case, 2.0  # type: ignore[assignment]
    sys.exit(__main__.main())
