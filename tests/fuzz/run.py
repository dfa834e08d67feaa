"""Hand cases to worker processes, so that a crash or a hang is a failure with a number, too."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

#: one case in so many is a file, the others are calls
FILES = 8
#: cases that one process runs; a fresh one begins with no state left behind
CHUNK = 4500
#: seconds after which a case hangs, on however slow a machine
HANG = 600.0


class Found(NamedTuple):
    """A case that went as none must go."""

    case: int
    text: str


def run(seed: int, n_cases: int, n_workers: int = 2, worker: str = "fuzz") -> list[Found]:
    """Run cases 0 to n_cases - 1 of a seed, each chunk in a process of its own.

    `worker` is the module that runs as a program (the tests of this file have one that crashes).
    """
    chunks = [(first, min(first + CHUNK, n_cases)) for first in range(0, n_cases, CHUNK)]
    with ThreadPoolExecutor(n_workers) as pool:
        found = pool.map(lambda chunk: _chunk(seed, *chunk, worker), chunks)
        return [each for chunk in found for each in chunk]


def _chunk(seed: int, first: int, last: int, worker: str) -> list[Found]:
    found: list[Found] = []
    while first < last:
        command = [sys.executable, "-m", worker, "--seed", f"{seed}"]
        command += ["--cases", f"{first}", f"{last}"]
        case = None
        # Two threads whatever the machine has, in a folder that holds no fastmaml.
        environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
        folder = Path(__file__).parent.parent
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
            subprocess.Popen(
                command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=said, text=True
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                told = json.loads(line)
                if isinstance(told, int):
                    case = told
                else:
                    found.append(Found(*told))
            code = process.wait()
            said.seek(0)
            errors = said.read()
        if code == 0:
            break
        if case is None:
            raise RuntimeError(f"a worker ended with {code} before its first case:\n{errors}")
        found.append(Found(case, f"the process ended with {code}:\n{errors[-3000:]}"))
        first = case + 1
    return found


def report(seed: int, found: Sequence[Found]) -> str:
    """What was found, by kind, the most frequent first, and how to have a case again."""
    kinds: dict[str, list[Found]] = defaultdict(list)
    for each in found:
        kinds[re.sub(r"\d[\d.]*|'.*?'", "N", each.text)[:90]].append(each)
    again = f"cd tests && python -m fuzz --seed {seed} --case {found[0].case}"
    lines = [f"{len(found)} cases failed; to have the first again: {again}"]
    for kind in sorted(kinds.values(), key=len, reverse=True):
        cases = " ".join(f"{each.case}" for each in kind[:4])
        lines.append(f"{len(kind):4} × {kind[0].text[:1500]} [{cases}]")
    return "\n".join(lines)
