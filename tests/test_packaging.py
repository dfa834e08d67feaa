"""What is published: what the wheel holds, and that it needs only NumPy and Numba beside it."""

import ast
import sys
import zipfile

import pytest
from environments import ROOT, RUNTIME, clone, wheel_of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    return wheel_of(clone(folder / "source"), folder)


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


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
