"""The code in README.md and docs/ runs, and their links lead somewhere."""

import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from fastmaml import equations

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# libraries of extras that not everybody who runs the tests has
EXTRA = re.compile(r"^>>> (?:import|from) (torch|jax)\b", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


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
def test_code(page, capsys):
    """All Python of a page is one session."""
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
