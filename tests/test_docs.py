"""The code in README.md and docs/ runs, and their links lead somewhere."""

import doctest
import importlib
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest

from fastmaml import cli, equations

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs/_ext"))
import public_names  # noqa: E402

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in DOCS.glob("**/*.md") if "_build" not in p.parts)])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# libraries of extras that not everybody who runs the tests has
EXTRA = re.compile(r"^>>> (?:import|from) (torch|jax)\b", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: what is no program: plain text, and what Sphinx reads
NO_CODE = {"", "{toctree}", "{eval-rst}"}
#: blocks that tests of their own run: of the page cli.md, tests/test_cli_training.py, and so on
RUN_ELSEWHERE = {("toml", "docs/cli.md"), ("c", "docs/export.md")}
#: what stands before a block of another library
SAYS = re.compile(r"\((?:run by (tests/\S+\.py)|not run by the tests: [^)]+)\):$")


def page_name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in LINK.findall(text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in headings(linked), target


def headings(page):
    """The anchors of a page's headings, as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_code(page, capsys, monkeypatch):
    """All Python of a page is one session, beside the files that docs/start.md begins with."""
    monkeypatch.chdir(DOCS / "data")
    if page.stem == "distributed":
        pytest.importorskip("distributed")
    text = page.read_text(encoding="utf-8")
    for library in EXTRA.findall(text):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    # Blank lines keep the numbers of the lines, so that a failure names the right one.
    session, at = "", 0
    for block in BLOCK.finditer(text):
        assert block[1].startswith(">>>"), "a Python block is a session with results to check"
        session += re.sub(r"[^\n]", "", text[at : block.start(1)]) + block[1]
        at = block.end(1)
    test = doctest.DocTestParser().get_doctest(session, {}, page_name(page), str(page), 0)
    failed = doctest.DocTestRunner().run(test).failed
    assert not failed, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_is_run(page):
    """Each block is a session, is run by a test of its own, or says that nobody runs it."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        language = block[1]
        if language in NO_CODE or (language, page_name(page)) in RUN_ELSEWHERE:
            continue
        if language == "py":  # of another library
            says = SAYS.search(text[: block.start()].rstrip())
            assert says, page_name(page)
            assert says[1] is None or (ROOT / says[1]).exists()
        elif language == "sh":
            for line in block[2].splitlines():
                assert_known(line.partition(" #")[0].strip())
        else:
            assert language == "python", language


EXTRAS = re.compile(r"(?:\.venv/bin/)?pip install \"(?:\.|fastmaml)\[([\w,]+)\]\"")
#: what a page may tell a reader to type, besides what is looked up
TYPED = re.compile(
    r"python3 -m venv \.venv|\. \.venv/bin/activate"
    r"|(\.venv/bin/)?pip install torch( --index-url \S+)?"
    r"|cd [\w/]+( && .*)?|export \w+=\S+|(ssh|dask|srun|mpirun|sbatch|uvx?) .*"
)


def assert_known(command):
    """A command that a reader is told to type exists, and so do its options."""
    program, *rest = command.split() or ["#"]
    program = program.removeprefix(".venv/bin/")
    options = re.findall(r"(?<!\S)--[\w-]+", command)
    if program == "make":
        targets = re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M)
        assert {word for word in rest if "=" not in word} <= set(targets), command
    elif program == "fastmaml":
        with pytest.raises(SystemExit) as ended:
            cli.main([rest[0], "--help"])
        assert ended.value.code == 0, command
        assert_options(options, ROOT / "fastmaml/cli")
    elif program in ("python", "../.venv/bin/python"):
        name = rest[1].replace(".", "/") + ".py" if rest[0] == "-m" else rest[0]
        file = next((f for f in (ROOT / name, ROOT / "tests" / rest[1]) if f.exists()), None)
        assert file, command
        if file.is_file():
            assert_options(options, file)
    elif extras := EXTRAS.fullmatch(command):
        text = (ROOT / "pyproject.toml").read_text("utf-8")
        assert all(re.search(rf"^{extra} = \[", text, re.M) for extra in extras[1].split(","))
    elif program == "tensorboard" or command in (".ci/run", "pip install .", "#"):
        pass
    else:
        assert TYPED.fullmatch(command), command


def assert_options(options, where):
    """A file, or one of a folder, has the options."""
    files = [where] if where.is_file() else sorted(where.glob("*.py"))
    text = "".join(file.read_text("utf-8") for file in files)
    for option in options:
        assert option.removeprefix("--") in text, option


def test_the_five_minutes(tmp_path, monkeypatch, capsys):
    """The commands of docs/start.md on its files, with few iterations."""
    for file in (DOCS / "data").glob("*.csv"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = [b[2] for b in FENCE.finditer((DOCS / "start.md").read_text("utf-8")) if b[1] == "sh"]
    (commands,) = (block.splitlines() for block in blocks if "fastmaml init" in block)
    assert [command.split()[1] for command in commands] == ["init", "train", "evaluate", "adapt"]
    for command in commands:
        assert cli.main(command.split()[1:]) == 0, capsys.readouterr().err
        if command.split()[1] == "init":
            written = Path("devices.toml").read_text("utf-8")
            fewer, n = re.subn(r"^iterations = \d+", "iterations = 40", written, flags=re.M)
            assert n == 1
            Path("devices.toml").write_text(fewer, "utf-8")
    printed = capsys.readouterr().out
    rows = Path("new.csv").read_text("utf-8").splitlines()
    assert "current_predicted" in printed
    assert printed.count("\n") > len(rows)


def test_every_public_name_has_a_place():
    """In docs/reference/index.md, from which the pages of the reference are made."""
    text = (DOCS / "reference/index.md").read_text("utf-8")
    placed = re.findall(r"^   ([\w.]+)$", text, re.MULTILINE)
    assert len(placed) == len(set(placed))
    here = {f"fastmaml.{name}" for name in placed}
    installed = {
        name for name in here if not any(f".{bridge}." in name for bridge in ("torch", "jax"))
    }
    names = set(public_names.public_names())
    assert names <= here
    assert installed <= names


def test_derivation_names_what_exists():
    text = (ROOT / "docs/derivation.md").read_text(encoding="utf-8")
    kernels = re.findall(
        r"`(derivatives|explicit|layers|passes|trajectory|hessian|dense|reduce)\.(?!py)(\w+)`", text
    )
    assert kernels
    folders = {path.stem: path.parent.name for path in (ROOT / "kernels").rglob("*.py")}
    folders["passes"] = "models"  # of three of that name
    for module, name in kernels:
        found = importlib.import_module(f"fastmaml.kernels.{folders[module]}.{module}")
        assert hasattr(found, name), name
    for name in equations.__all__:
        assert f"`{name}`" in text


def test_a_call_runs_through_what_exists():
    """The steps of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| \d+ \| `([\w/.]+)` \| `(\w+)` \|", text, re.MULTILINE)
    assert len(steps) == 12
    for file, function in steps:
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), (file, function)
