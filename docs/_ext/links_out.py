"""Links that lead out of docs/: right on GitHub, and here to the page that stands for the target.

``../CHANGELOG.md`` is a page here, ``../examples/x.py`` its page in the gallery; a source file is
a download, which MyST makes by itself, and a folder has no page, so only its name remains.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
#: files at the top of the repository, and the pages that show them
PAGES = {"README.md": "index", "CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"}
#: pages that hold a file from the top of the repository
SHOWN = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: tables that programs write have no heading
TITLES = {
    "benchmarks/table": "All figures against JAX, PyTorch and NumPy",
    "benchmarks/sweeps": "Curves over tasks, width, rows and steps",
    "benchmarks/method_choice": "What the choice of the method loses",
    "benchmarks/head": "The last layer in closed form against JAX",
    "benchmarks/formulas": "Formulas and compiled functions against JAX",
}


def read(app: Any, docname: str, source: list[str]) -> None:
    """Change the text of a page before it is parsed."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return
    text, folder = source[0], path.parent
    if docname in SHOWN:
        file = ROOT / SHOWN[docname]
        app.env.note_dependency(str(file))
        text, folder = file.read_text(encoding="utf-8"), ROOT
    if docname in TITLES and not text.startswith("# "):
        text = f"# {TITLES[docname]}\n\n{text}"
    source[0] = outside_fences(text, lambda part: LINK.sub(lambda m: link(m, path, folder), part))


def outside_fences(text: str, change: Any) -> str:
    """The text with `change` applied to what is no block of code."""
    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, change(text[at:])])


def link(match: re.Match[str], page: Path, folder: Path) -> str:
    """One link, as seen from the page that it is shown on."""
    picture, text, target = match.groups()
    if "://" in target or target.startswith(("#", "mailto:")):
        return match[0]
    name, hash_sign, anchor = target.partition("#")
    file = (folder / name).resolve()
    if file.is_relative_to(DOCS):
        if folder == page.parent:
            return match[0]
    elif file.relative_to(ROOT).as_posix() in PAGES:
        file = DOCS / f"{PAGES[file.relative_to(ROOT).as_posix()]}.md"
    elif file == ROOT / "examples":
        file = DOCS / "gallery/index.rst"
    elif file.parent == ROOT / "examples":
        file = DOCS / f"gallery/{file.stem}.rst"
    elif file.is_dir():
        return text
    return f"{picture}[{text}]({os.path.relpath(file, page.parent)}{hash_sign}{anchor})"


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
