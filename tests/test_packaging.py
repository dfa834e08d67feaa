"""What is published: what the wheel holds, and that it needs only NumPy and Numba beside it."""

import ast
import runpy
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
    kernels = (path.relative_to(ROOT).as_posix() for path in (ROOT / "kernels").rglob("*.py"))
    expected |= {f"fastmaml/{path}" for path in kernels}
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


FLOORS = ROOT / "tools" / "floors.py"


def test_floors_are_those_of_the_extras_within():
    """What `make floors` installs."""
    floors = runpy.run_path(str(FLOORS))["floors"]
    extras = {"a": ["demo[b]", "c>=1.2"], "b": ["d>=3; python_version < '3.11'", "demo[a]"]}
    project = {"name": "demo", "dependencies": ["e>=0.5"], "optional-dependencies": extras}
    assert floors(project, []) == ["e==0.5"]
    assert floors(project, ["a"]) == ["c==1.2", "d==3; python_version < '3.11'", "e==0.5"]
    extras["b"].append("f")
    with pytest.raises(ValueError, match="'f' has no floor; accepted are name>=version"):
        floors(project, ["a"])


def test_every_requirement_of_the_tests_has_a_floor(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["floors.py", "test", "peers"])
    runpy.run_path(str(FLOORS), run_name="__main__")
    assert {"numpy==2.0", "pytest==8"} < set(capsys.readouterr().out.split())


def test_kernels_import_only_numpy_and_numba():
    """What import-linter's list of forbidden packages cannot say: nothing but these."""
    allowed = {*RUNTIME, *sys.stdlib_module_names}
    for path in (ROOT / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            assert {module.split(".")[0] for module in modules} <= allowed, path.name
