"""The tests of installing, and a first part of the mathematics, with every Python of the machine.

    python tools/installs.py             # all that are found
    python tools/installs.py 3.10 3.13   # these, if they are found

Found are ``python3.10`` and up on the path and below pyenv's folder of versions. For each,
``pip install .`` goes into a new environment below build/installs, as a user would do it. A Python
for which the index has no NumPy or Numba yet is left out, with pip's reason. The exit code is 1 if
a test fails, or if no Python was left.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "installs"
#: what the package is made of; each `pip install` gets a copy, because it leaves a build in there
SOURCES = ("fastmaml", "kernels", "pyproject.toml", "README.md", "LICENSE")
NEEDS = ("pytest", "hypothesis", "build", "setuptools", "pip")  # of the extra test
TESTS = ("tests/test_installs.py", "tests/test_packaging.py", "tests/test_equations.py")


def pythons() -> dict[tuple[int, int], Path]:
    """The interpreters by their version, those on the path first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = tuple(map(int, re.findall(r"\d+", project["requires-python"])))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders = [*map(Path, os.get_exec_path()), *sorted(versions.glob("*/bin"), reverse=True)]
    found: dict[tuple[int, int], Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("python3.*")) if folder.is_dir() else []:
            version = re.fullmatch(r"python3\.(\d+)", path.name)
            key = (3, int(version[1])) if version else (0, 0)
            if key >= oldest and key not in found and works(path, key):
                found[key] = path
    return dict(sorted(found.items()))


def works(path: Path, version: tuple[int, int]) -> bool:
    """Whether it is this version (pyenv's shims may not be) and can make environments."""
    code = "import sys, venv, ensurepip; print(sys.version_info[:2])"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == str(version)


def requirements() -> list[str]:
    """What the tests need, with the floors of the extra test."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["test"]
    return [text for text in extra if re.match(r"[\w-]+", text)[0] in NEEDS]  # type: ignore[index]


def check(python: Path, folder: Path) -> str:
    """Install and test; one line of what came out."""
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    source.mkdir(parents=True)
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    inside = folder / "env" / "bin" / "python"
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # Wheels only: a Numba without one for this Python is a Numba that does not have it yet.
    wheels = ("--only-binary", ":all:")
    done = subprocess.run(
        [*pip, *wheels, ".", *requirements()], cwd=source, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return f"left out: {' '.join(reasons[:1]) or done.stderr[-500:]}"
    code = "from importlib.metadata import version as v; print(v('numpy'), v('numba'))"
    numpy, numba = subprocess.check_output([inside, "-c", code], text=True).split()
    options = ("-q", "-p", "no:cacheprovider")
    done = subprocess.run([inside, "-m", "pytest", *options, *TESTS], cwd=ROOT, check=False)
    return f"{'failed' if done.returncode else 'passed'} with NumPy {numpy} and Numba {numba}"


def main() -> None:
    """Run the tests for each Python, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", help="such as 3.10; all that are found by default")
    wanted = parser.parse_args().versions
    results = {}
    for key, python in pythons().items():
        name = ".".join(map(str, key))
        if not wanted or name in wanted:
            print(f"\n-- Python {name}: {python}", flush=True)
            results[name] = check(python, FOLDER / name)
    print("\n" + "\n".join(f"Python {name}: {text}" for name, text in results.items()))
    passed = [text.startswith("passed") for text in results.values()]
    sys.exit(any(text.startswith("failed") for text in results.values()) or not any(passed))


if __name__ == "__main__":
    main()
