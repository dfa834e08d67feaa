"""Docstrings as they are written, made fit for reStructuredText: |x|, paths of pages, scikit-learn.

``|r|`` is an absolute value, not a substitution, and ``docs/losses.md`` becomes a link to the page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes

DOCS = Path(__file__).parents[1]
LITERAL = re.compile(r"(``.+?``)")
#: what numpydoc makes of [1]_
MARK = r"\[?R[0-9a-f]{8,}-\d+\]?"
PAGE = re.compile(r"(?:``)?docs/([\w/-]+)\.md(?:``)?")


def readable(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Change the lines of one docstring."""
    session = False
    for number, line in enumerate(lines):
        session = line.lstrip().startswith(">>>") or (session and bool(line.strip()))
        if not session:
            lines[number] = plain(line)


def plain(line: str) -> str:
    """One line outside a session."""
    line = PAGE.sub(page_link, line)
    parts = LITERAL.split(line)
    return "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def page_link(match: re.Match[str]) -> str:
    """A link to a page of the site."""
    return f":doc:`/{match[1]}`" if (DOCS / f"{match[1]}.md").exists() else match[0]


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what others wrote: fields of named tuples, methods of scikit-learn and PyTorch."""
    documentation = getattr(obj, "__doc__", None) or ""
    module = getattr(obj, "__module__", None) or ""
    if documentation.startswith("Alias for field number") or re.match(r"set_\w+_request$", name):
        return True
    if module.partition(".")[0] in ("sklearn", "torch"):
        return True
    return None


def without_sources(app: Any, doctree: nodes.document, docname: str) -> None:
    """Leave the marks of sources, ``[1]``, out of the tables of one-line summaries."""
    if docname != "reference/index":
        return
    for mark in list(doctree.findall(lambda node: re.fullmatch(MARK, node.astext()) is not None)):
        if not isinstance(mark, nodes.reference | nodes.citation_reference):
            continue
        before = mark.parent[mark.parent.index(mark) - 1]
        if isinstance(before, nodes.Text):
            before.parent.replace(before, nodes.Text(before.astext().rstrip()))
        mark.parent.remove(mark)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", readable, priority=100)  # before numpydoc
    app.connect("autodoc-skip-member", skip)
    app.connect("doctree-resolved", without_sources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
