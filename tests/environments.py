"""Environments as users have them: Python with NumPy and Numba, and fastmaml in one way or another.

Nothing is downloaded: hundreds of megabytes that the environment of the tests has already are
linked. Nothing else is: what the package imported beside them would be missing, as for a user.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNTIME = ("numpy", "numba", "llvmlite")
BUILD = ("setuptools",)  # an editable install is built by the environment that it is for


def run(*command, cwd=None, **variables):
    """Standard output of a command; a failure shows what it printed.

    A variable that is None is taken out of the environment.
    """
    done = subprocess.run(
        [str(part) for part in command], env=environment(**variables), capture_output=True,
        text=True, encoding="utf-8", cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(**variables):
    """The variables of this process, but for those that decide where fastmaml comes from."""
    variables = {"PYTHONPATH": None, "PYTHONUTF8": "1", **variables}
    changed = {**os.environ, **variables}
    return {name: str(value) for name, value in changed.items() if value is not None}


def clone(folder):
    """A copy of what the package is built from."""
    folder.mkdir(parents=True)
    for name in ("fastmaml", "kernels"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def wheel_of(source, folder):
    """The wheel, by way of a source archive: as `python -m build` and the package index make it."""
    # Without isolation: the environment of the tests has setuptools, and no network is needed.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def new_environment(folder):
    """The Python of an environment with NumPy and Numba, and nothing else."""
    venv.create(folder, with_pip=False)
    link(RUNTIME, site_of(folder))
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_of(folder):
    """The folder of an environment's packages."""
    (site,) = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
    return site


def link(distributions, folder):
    """Put distributions of this environment into a folder."""
    for distribution in distributions:
        files = importlib.metadata.files(distribution)
        home = Path(importlib.metadata.distribution(distribution).locate_file(""))
        for top in {path.parts[0] for path in files} - {"..", "__pycache__"}:
            (folder / top).symlink_to(home / top)


def install(python, *what):
    """Let pip install into an environment, without the network."""
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    run(*pip, "--no-index", "--no-build-isolation", "--disable-pip-version-check", *what)
