"""On the page that compares: a pair of code blocks, each after its line, side by side if wide."""

from __future__ import annotations

from typing import Any

from docutils import nodes

PAGE = "coming-from"


def arrange(app: Any, doctree: nodes.document) -> None:
    """Put (line, block, line, block) of a section into two columns."""
    if app.env.docname != PAGE:
        return
    for section in list(doctree.findall(nodes.section)):
        kinds = [type(child) for child in section.children]
        four = [nodes.paragraph, nodes.literal_block] * 2
        for first in range(len(kinds) - 3):
            if kinds[first : first + 4] == four:
                children = section.children[first : first + 4]
                left = nodes.container("", *children[:2])
                right = nodes.container("", *children[2:])
                section[first : first + 4] = [
                    nodes.container("", left, right, classes=["side-by-side"])
                ]
                break


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", arrange)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
