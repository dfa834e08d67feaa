"""Python in a process of its own, for what happens once in a process: threads, forks, caches."""

import os
import subprocess
import sys
from pathlib import Path


def python(code, *arguments, **variables):
    """Standard output of Python code; a variable that is None is taken out of the environment."""
    with start(code, *arguments, **variables) as process:
        try:
            output, errors = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, f"exit code {process.returncode}\n{output}{errors}"
    return output


def start(code, *arguments, **variables):
    """The running process."""
    # Who runs the tests without a cache still wants those about a cache to have theirs.
    cached = {"FASTMAML_CACHE": None} if "FASTMAML_CACHE_DIR" in variables else {}
    changed = {**os.environ, **cached, **variables}
    environment = {name: value for name, value in changed.items() if value}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    # In a folder that holds no fastmaml: Python looks there first.
    folder, pipe = Path(__file__).parent, subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, cwd=folder, stdout=pipe, stderr=pipe, text=True
    )
