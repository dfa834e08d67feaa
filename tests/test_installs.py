"""Every way of installing, from every place, whatever the home and the cache allow.

`make installs` runs this with every Python that the machine has.
"""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from environments import BUILD, clone, install, link, new_environment, run, site_of, wheel_of

import fastmaml as fm

WAYS = ("wheel", "folder", "editable", "clone")
STARTS = ("elsewhere", "in the clone", "in a path with blanks and accents")

# With the JIT off it takes a moment: that the kernels compile is what most tests are about.
USE = """
import importlib.util, json, sys
import numpy as np
import fastmaml as fm
import fastmaml.kernels.compile.jit
import fastmaml.learn, fastmaml.datasets, fastmaml.equations
model = fm.MLP([1, 3, 1])
x = np.linspace(-1.0, 1.0, 8).reshape(2, 4, 1)
gradient = fm.meta_gradient(model, model.init(0), x, np.sin(x), inner_lr=0.1)
print(json.dumps({
    "package": fm.__file__,
    "kernels": fastmaml.kernels.compile.jit.__file__,
    "version": fm.__version__,
    "toplevel kernels": importlib.util.find_spec("kernels") is not None,
    "finite": bool(np.isfinite(gradient).all() and gradient.any()),
}))
"""
PLAIN = {"NUMBA_DISABLE_JIT": "1"}

# The smallest call that compiles a kernel.
FIRST = """
import json
import fastmaml as fm
from fastmaml.kernels.compile import jit
predicted = fm.Linear(1).predict([1.0, 2.0], [[0.5], [3.0]])
folder = jit.cache_folder()
print(json.dumps({"predicted": predicted.tolist(), "folder": folder and str(folder)}))
"""
QUICK = {"NUMBA_OPT": "0", "PYTHONWARNINGS": "error"}
COMPILED = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="about the cache")
OWNERS = pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no such owners and modes")


class Places:
    """The clone, and the Python of an environment for each way of installing from it."""

    def __init__(self, folder):
        self.folder = folder
        self.clone = clone(folder / "a clone, \u00e9\u00e8")
        self._pythons = {}

    def python(self, way):
        """The interpreter where it is installed that way; made when it is first asked for."""
        if way not in self._pythons:
            self._pythons[way] = self._install(way, new_environment(self.folder / way))
        return self._pythons[way]

    def _install(self, way, python):
        if way == "wheel":  # from a copy: nothing is left in the clone
            source = clone(self.folder / "source")
            install(python, wheel_of(source, self.folder / "dist"))
        elif way != "clone":  # for which nothing is installed
            link(BUILD, site_of(python.parents[1]))
            install(python, *(["--editable"] if way == "editable" else []), self.clone)
        return python


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return Places(tmp_path_factory.mktemp("installs"))


# ---- ways and places


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_works_from_every_place(places, tmp_path, way, start):
    if way == "clone" and start != "in the clone":
        pytest.skip("nothing is installed")
    python = places.python(way)
    folder = {"elsewhere": tmp_path, "in the clone": places.clone}.get(start)
    if folder is None:
        folder = tmp_path / "b\u00f6se Wege, \u00e9\u00e8"
        folder.mkdir()
    found = json.loads(run(python, "-c", USE, cwd=folder, **PLAIN))
    from_clone = way in ("editable", "clone") or start == "in the clone"
    home = places.clone if from_clone else site_of(python.parents[1])
    assert home in Path(found["package"]).parents
    assert home in Path(found["kernels"]).parents
    assert found["version"] == fm.__version__
    assert found["toplevel kernels"] == (start == "in the clone")
    assert found["finite"]
    told = run(python, "-m", "fastmaml", "info", cwd=folder, **PLAIN)
    assert found["version"] in told
    if way != "clone":
        command = python.parent / "fastmaml"
        assert run(command, "info", cwd=folder, **PLAIN) == told


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_locale_without_accents_is_enough(places, locale):
    variables = {**PLAIN, "LC_ALL": locale, "PYTHONUTF8": None}
    assert json.loads(run(places.python("editable"), "-c", USE, **variables))["finite"]


def test_isolated_python_takes_the_wheel(places):
    """-I: neither the working directory nor a variable may bring in the repository."""
    python = places.python("wheel")
    found = json.loads(run(python, "-I", "-c", USE, cwd=places.clone, **PLAIN))
    assert site_of(python.parents[1]) in Path(found["package"]).parents
    assert not found["toplevel kernels"]


def test_the_command_explains_itself_without_its_extra(places):
    command = places.python("wheel").parent / "fastmaml"
    assert "usage: fastmaml" in run(command, "--help", **PLAIN)


def test_no_bytecode_no_warnings(places, tmp_path):
    """-W error, and nothing is written beside the sources."""
    python = places.python("wheel")
    site = site_of(python.parents[1])
    shutil.rmtree(site / "fastmaml" / "__pycache__", ignore_errors=True)
    options = ("-B", "-W", "error", "-X", "dev")
    assert json.loads(run(python, *options, "-c", USE, cwd=tmp_path, **PLAIN))["finite"]
    assert not (site / "fastmaml" / "__pycache__").exists()


# ---- homes, rights and caches


@pytest.fixture(scope="module")
def bound_by_modes(tmp_path_factory):
    """What goes before a command so that it may write only where modes let it, as root too."""
    prefix = []
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write anywhere, and there is no setpriv to take that right away")
        prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    folder = tmp_path_factory.mktemp("modes")
    folder.chmod(0o500)
    code = "import os, sys; sys.exit(os.access(sys.argv[1], os.W_OK))"
    run(*prefix, sys.executable, "-S", "-c", code, folder)
    return prefix


def only_read(folder):
    """Take the right to write from all below a folder, and give it back at the end."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o555)


@pytest.fixture
def world(tmp_path, usual_umask):
    """A home, a temporary folder, and the variables that name them and nothing else."""
    for name in ("home", "temporary", "start"):
        (tmp_path / name).mkdir()
    unset = ("FASTMAML_CACHE", "FASTMAML_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    yield {
        **QUICK, **dict.fromkeys(unset), "HOME": tmp_path / "home",
        "TMPDIR": tmp_path / "temporary",
    }  # fmt: skip
    for path in [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]:
        path.chmod(0o700)


@pytest.fixture(scope="module")
def filled(places, tmp_path_factory):
    """A cache in which the kernel is."""
    folder = tmp_path_factory.mktemp("filled")
    first(places.python("wheel"), **QUICK, FASTMAML_CACHE="1", FASTMAML_CACHE_DIR=folder)
    assert list(folder.rglob("*.nbc"))
    return folder


def first(python, *, prefix=(), cwd=None, **variables):
    """The folder of the cache, after a call that gave the right numbers."""
    found = json.loads(run(*prefix, python, "-c", FIRST, cwd=cwd, **variables))
    expected = fm.Linear(1).predict([1.0, 2.0], [[0.5], [3.0]])
    np.testing.assert_allclose(found["predicted"], expected, rtol=1e-15)
    return found["folder"] and Path(found["folder"])


def entries(folder):
    """Names, sizes and times of all entries below a folder."""
    files = sorted(folder.rglob("*.nbc"))
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


@OWNERS
@COMPILED
@pytest.mark.parametrize("home", ["is not there", "is read-only", "is a file", "is unset"])
def test_without_a_home_the_temporary_folder_keeps_kernels(
    places, world, tmp_path, filled, bound_by_modes, home
):
    if home == "is not there":
        (tmp_path / "home").rmdir()
        (tmp_path / "roof").mkdir(mode=0o500)
        world["HOME"] = tmp_path / "roof" / "home"
    elif home == "is read-only":
        (tmp_path / "home").chmod(0o500)
    elif home == "is a file":
        (tmp_path / "home").rmdir()
        (tmp_path / "home").touch()
    else:  # then the system knows one, which no test may touch: a cache of its own
        world |= {"HOME": None, "FASTMAML_CACHE_DIR": filled}
    folder = first(places.python("wheel"), prefix=bound_by_modes, cwd=tmp_path / "start", **world)
    kept = filled if home == "is unset" else tmp_path / "temporary" / f"fastmaml-{os.getuid()}"
    assert kept in folder.parents
    assert entries(folder)


@OWNERS
@COMPILED
def test_nothing_but_the_cache_can_be_written(places, world, tmp_path, filled, bound_by_modes):
    """Packages, home and working directory are read-only, as in a container."""
    python = places.python("wheel")
    before = entries(filled)
    for name in ("home", "start"):
        only_read(tmp_path / name)
    package = site_of(python.parents[1]) / "fastmaml"
    only_read(package)
    try:
        world["FASTMAML_CACHE_DIR"] = filled
        folder = first(python, prefix=bound_by_modes, cwd=tmp_path / "start", **world)
    finally:
        for path in [package, *(path for path in package.rglob("*") if path.is_dir())]:
            path.chmod(0o755)
    assert filled in folder.parents
    assert entries(filled) == before


@OWNERS
@COMPILED
def test_a_cache_that_can_only_be_read_is_read(places, world, tmp_path, filled, bound_by_modes):
    """As in an image that was built with ``fastmaml warmup``."""
    copy = tmp_path / "image"
    shutil.copytree(filled, copy)
    only_read(copy)
    before = entries(copy)
    world["FASTMAML_CACHE_DIR"] = copy
    assert copy in first(places.python("wheel"), prefix=bound_by_modes, **world).parents
    assert entries(copy) == before


@OWNERS
@COMPILED
def test_a_cache_that_cannot_be_written_is_done_without(places, world, tmp_path, bound_by_modes):
    (tmp_path / "cache").mkdir(mode=0o500)
    world["FASTMAML_CACHE_DIR"] = tmp_path / "cache"
    assert first(places.python("wheel"), prefix=bound_by_modes, **world) is None
    assert not list((tmp_path / "cache").iterdir())


@OWNERS
@COMPILED
@pytest.mark.skipif(hasattr(os, "getuid") and os.getuid() != 0, reason="only root can give it away")
def test_the_cache_of_another_user_is_left_alone(places, world, tmp_path, filled, bound_by_modes):
    copy = tmp_path / "theirs"
    shutil.copytree(filled, copy)
    for path in [copy, *copy.rglob("*")]:
        os.chown(path, 12345, 12345)
        path.chmod(0o777)  # a guest could write there
    before = entries(copy)
    world["FASTMAML_CACHE_DIR"] = copy
    assert first(places.python("wheel"), prefix=bound_by_modes, **world) is None
    assert entries(copy) == before


@OWNERS
@COMPILED
@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_the_cache_is_kept_under_any_umask(places, world, tmp_path, umask):
    """Folders that this user makes are this user's, also where groups usually may write."""
    world["FASTMAML_CACHE_DIR"] = tmp_path / "cache"
    old = os.umask(umask)
    try:
        for _ in range(2):
            folder = first(places.python("wheel"), **world)
            assert entries(folder)
    finally:
        os.umask(old)
    assert not stat.S_IMODE(folder.stat().st_mode) & 0o022
