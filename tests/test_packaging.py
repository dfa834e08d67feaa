"""What a user installs: what the wheel holds, and that it needs only NumPy and Numba beside it."""

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = ("numpy", "numba", "llvmlite")

# Runs in the clean environment, with the JIT off, so that it takes a moment: that the kernels
# compile is what all other tests are about.
USE = """
import importlib.util, json, sys
import numpy as np
import fastmaml as fm
import fastmaml.kernels.jit
import fastmaml.learn, fastmaml.datasets, fastmaml.equations
model = fm.MLP([1, 3, 1])
x = np.linspace(-1.0, 1.0, 8).reshape(2, 4, 1)
gradient = fm.meta_gradient(model, model.init(0), x, np.sin(x), inner_lr=0.1)
print(json.dumps({
    "package": fm.__file__,
    "kernels": fastmaml.kernels.jit.__file__,
    "version": fm.__version__,
    "toplevel kernels": importlib.util.find_spec("kernels") is not None,
    "finite": bool(np.isfinite(gradient).all() and gradient.any()),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, by way of a source archive: as `python -m build` and the package index make it."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("fastmaml", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # Without isolation: the environment of the tests has setuptools, and no network is needed.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def clean_python(wheel, tmp_path_factory):
    """The Python of an environment with the wheel, NumPy, Numba, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (site,) = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
    # Hundreds of megabytes that this environment has already are linked, not downloaded. Nothing
    # else is: what the package imported beside them would be missing, as it would be for a user.
    for distribution in RUNTIME:
        files = importlib.metadata.files(distribution)
        home = Path(importlib.metadata.distribution(distribution).locate_file(""))
        for top in {path.parts[0] for path in files} - {"..", "__pycache__"}:
            (site / top).symlink_to(home / top)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    run(*pip, "--quiet", wheel)
    return python


def run(*command, cwd=None, **variables):
    """Standard output of a command; a failure shows what it printed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_every_source(names):
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fastmaml").rglob("*.py")}
    expected |= {f"fastmaml/kernels/{path.name}" for path in (ROOT / "kernels").glob("*.py")}
    expected |= {"fastmaml/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_wheel_has_no_top_level_kernels(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fastmaml"}


def test_wheel_needs_only_numpy_and_numba(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    needed = [line.split(":", 1)[1] for line in lines if line.startswith("Requires-Dist:")]
    always = sorted(line.strip() for line in needed if "extra ==" not in line)
    assert [line.split(">")[0] for line in always] == ["numba", "numpy"]
    assert "License-Expression: BSD-3-Clause" in lines


def test_works_in_a_clean_environment(clean_python, tmp_path):
    # -I: neither the working directory nor a variable may bring in the repository.
    found = json.loads(run(clean_python, "-I", "-c", USE, NUMBA_DISABLE_JIT="1"))
    site = clean_python.parents[1]
    assert site in Path(found["package"]).parents
    assert site in Path(found["kernels"]).parents
    assert found["version"] == importlib.metadata.version("fastmaml")
    assert not found["toplevel kernels"]
    assert found["finite"]


def test_command_line_in_a_clean_environment(clean_python):
    """The command exists and says what it is without the extra `cli`."""
    command = clean_python.parent / "fastmaml"
    assert "usage: fastmaml" in run(command, "--help", NUMBA_DISABLE_JIT="1")


@pytest.mark.parametrize("has", ["nothing", "a wheel"])
@pytest.mark.parametrize("name", ["clone", "a clone, \u00e9\u00e8"])
def test_works_in_a_clone(clean_python, tmp_path, has, name):
    """Python started in a clone takes package and kernels from there, installed or not."""
    clone = tmp_path / name
    clone.mkdir()
    for part in ("fastmaml", "kernels"):
        shutil.copytree(ROOT / part, clone / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    bare = [] if has == "a wheel" else ["-S"]  # -S: without the folder of installed packages ...
    site = next(p for p in clean_python.parents[1].glob("**/site-packages"))
    if bare:  # ... but with what fastmaml needs
        needs = tmp_path / "needs"
        needs.mkdir()
        for path in site.iterdir():
            if path.name.startswith(("numpy", "numba", "llvmlite")):
                (needs / path.name).symlink_to(path)
    variables = {"PYTHONPATH": str(tmp_path / "needs")} if bare else {}
    variables |= {"NUMBA_DISABLE_JIT": "1", "PYTHONUTF8": "1"}
    found = json.loads(run(clean_python, *bare, "-c", USE, cwd=clone, **variables))
    assert clone in Path(found["package"]).parents
    assert clone in Path(found["kernels"]).parents
    assert found["version"] == importlib.metadata.version("fastmaml")
    assert found["finite"]
    told = run(clean_python, *bare, "-m", "fastmaml", "info", cwd=clone, **variables)
    assert found["version"] in told


def test_kernels_import_only_numpy_and_numba():
    """What import-linter's list of forbidden packages cannot say: nothing but these."""
    allowed = {*RUNTIME, *sys.stdlib_module_names}
    for path in (ROOT / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            assert {module.split(".")[0] for module in modules} <= allowed, path.name
