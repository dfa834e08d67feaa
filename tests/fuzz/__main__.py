"""Run cases: one by hand, or many as a worker that writes one line of JSON for each failure.

Case N of seed S is drawn from ``numpy.random.default_rng([S, N])`` alone; every eighth is a file.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np

from .calls import draw_call
from .memory import limit_space
from .oracle import Failure, judge
from .run import FILES, HANG
from .values import Draw


def run_case(seed: int, case: int, folder: Path) -> str:
    """Run one case and return what it was; raise Failure if it must not have gone as it did."""
    draw = Draw(np.random.default_rng([seed, case]))
    if case % FILES == FILES - 1:
        from .files import run_file

        return run_file(draw, folder)
    call = draw_call(draw)
    try:
        judge(call)
    except Failure as failure:
        raise Failure(f"{call.name}: {failure}") from failure
    return call.name


def work(seed: int, first: int, last: int, folder: Path) -> None:
    """Run cases first to last - 1 and say on the standard output how they went."""
    output = os.dup(1)
    os.dup2(2, 1)  # so that nothing else is written there
    for case in range(first, last):
        # Said before, so that a crash or a hang has a number.
        os.write(output, f"{case}\n".encode())
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            run_case(seed, case, folder)
        except BaseException as error:
            text = str(error) if isinstance(error, Failure) else traceback.format_exc()
            os.write(output, json.dumps([case, text]).encode() + b"\n")
    faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="one case, with its traceback")
    parser.add_argument("--cases", type=int, nargs=2, help="first of a worker's cases, and end")
    arguments = parser.parse_args()
    faulthandler.enable()
    logging.disable(logging.WARNING)  # of damaged entries
    limit_space()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.case is None:
            work(arguments.seed, *arguments.cases, Path(folder))
        else:
            print(run_case(arguments.seed, arguments.case, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
