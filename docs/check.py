"""What a reader would stumble over: links of the built site, and docstrings. `make docs-check`.

    python docs/check.py docs/_build/html

Every link within the site, internal anchor and picture has to exist, no page may load anything from
elsewhere, and each public docstring has what a reader looks for; the share of those is printed.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
from public_names import methods, public_names

# The links of the site ---------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort what an element names."""
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given and tag != "meta"}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and "href" in given:
            self.loads.append(given["href"])
        if "src" in given:
            self.loads.append(given["src"])


def broken_links(site: Path) -> Iterator[str]:
    """Each link and each thing loaded that is not there, with its page."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    n_links = 0
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in page.loads:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https") or parts.netloc:
                yield f"{where} loads {target}, from outside"
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            n_links += 1
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if file.is_dir():
                file /= "index.html"
            if not file.exists():
                yield f"{where} links to {target}, which is not there"
            elif parts.fragment and file in pages:
                anchor = unquote(parts.fragment)
                if anchor not in pages[file].anchors and anchor not in ("", "top"):
                    yield f"{where} links to {target}, which has no such anchor"
    print(f"{len(pages)} pages, {n_links} links and files within the site")


# The docstrings ----------------------------------------------------------------------------------

#: what is from a paper or a book, so its docstring has to say from which
FROM_ELSEWHERE = {
    "MAML", "BayesianLastLayer", "anil_inner_lr", "Huber", "learn.Adam", "learn.AdamW",
    "learn.Reptile", "learn.reptile_gradient", "learn.Cosine", "datasets.Sinusoid",
    "datasets.Harmonic", "datasets.LinearSystem", "datasets.Pendulum",
    "datasets.SensorCalibration", "Quantile", "equations.task_hessp",
}  # fmt: skip
#: what a user only receives: nothing to raise
RECEIVED = (tuple, Warning)
#: what the package asks of models and losses, not users: CONTRIBUTING.md and family.py have it
INTERNAL = {"compiled", "task_loss", "layers", "sizes"}
#: a docstring that sends its reader to another one for what it takes
AS_ELSEWHERE = re.compile(r"(argument|parameter)s[\w ]* (of|as|for) `", re.IGNORECASE)
SECTION = re.compile(r"^(\w[\w ]+)\n-{3,}$", re.MULTILINE)
SHAPE = re.compile(
    r"shape \(|\([\w.,* +]*,[\w.,* +]*\)|\bsee\b|\bas\b|scalar|float or|any shape", re.I
)


def sections(text: str) -> dict[str, str]:
    """The sections of a docstring by their names, and what is before them."""
    parts = SECTION.split(text)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def items(section: str) -> dict[str, str]:
    """What a section lists: names, and the type and the words of each."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line[0].isspace():
            head, _, kind = line.partition(" : ")
            names = [name.strip().lstrip("*") for name in head.split(",")]
            found |= dict.fromkeys(names, kind)
        else:
            for name in names:
                found[name] += f" {line.strip()}"
    return found


def parameters(value: Any) -> list[str]:
    """The names of what can be given."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return []
    return [name for name in signature.parameters if name not in ("cls", "args", "kwargs")]


def lacks(name: str, value: Any, owner: Any = None) -> list[str]:
    """What a reader would look for in a docstring in vain."""
    text = inspect.getdoc(value) or ""
    if not text:
        return ["docstring"]
    own, found = sections(text), []
    of_class = inspect.getdoc(owner) or "" if owner else ""
    if isinstance(value, property):
        return [] if len(text.split()) > 2 else ["words"]
    received = inspect.isclass(value) and issubclass(value, RECEIVED)
    listed = items(own.get("Parameters", "") + own.get("Attributes", ""))
    wanted = (
        [] if received else parameters(value)[1 if owner and inspect.isfunction(value) else 0 :]
    )
    elsewhere = "Parameters" not in own and bool(AS_ELSEWHERE.search(text))
    if not elsewhere:  # a short method may name them in its sentence
        told = set(re.findall(r"\w+", text)) if owner else set()
        found += [f"parameter {each}" for each in wanted if each not in {*listed, *told}]
    kinds = {**listed, **items(own.get("Returns", ""))}
    found += [
        f"shape of {each}"
        for each, kind in kinds.items()
        if "array" in kind and not SHAPE.search(kind)
    ]
    if inspect.isroutine(value):
        returned = inspect.signature(value).return_annotation
        if returned not in ("None", None, inspect.Signature.empty) and not (
            {"Returns", "Yields"} & set(own) or re.match(r"Returns? |Whether |The |A |An ", text)
        ):
            found.append("returns")
    short_name = name.rpartition(".")[2]
    of_all = sections(of_class).get("Raises", "")
    covered = "methods" in of_all or f"``{short_name}``" in of_all
    if wanted and not (elsewhere or covered) and "Raises" not in own:
        found.append("errors")
    if name.removeprefix("fastmaml.") in FROM_ELSEWHERE and "References" not in own:
        found.append("source")
    if ">>>" not in text and f".{short_name}(" not in of_class.partition(">>>")[2]:
        found.append("example")
    return found


def docstrings() -> Iterator[str]:
    """Each public object or method whose docstring lacks something; the shares are printed."""
    objects: list[bool] = []
    parts: list[bool] = []
    for name, value in public_names().items():
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        members = {
            f"{name}.{each}": member
            for each, member in methods(value).items()
            if each not in INTERNAL
        }
        for full, each in {name: value, **members}.items():
            static = isinstance(each, classmethod | staticmethod)
            missing = lacks(
                full, each.__func__ if static else each, value if full != name else None
            )
            (objects if full == name else parts).append(not missing)
            if missing:
                yield f"{full}: {', '.join(missing)}"
    for what, has in (("classes and functions", objects), ("methods and properties", parts)):
        share = 100 * sum(has) / len(has)
        print(f"docstrings of {what} that have all: {sum(has)} of {len(has)}, {share:.1f} %")


def main(site: Path) -> int:
    """Print what is wrong, and return whether anything is."""
    wrong = [*broken_links(site), *docstrings()]
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
