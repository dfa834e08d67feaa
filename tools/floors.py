"""The oldest versions that pyproject.toml allows, as constraints for pip.

    python tools/floors.py test peers > constraints.txt
    pip install --constraint constraints.txt '.[test,peers]'

`make floors` does this and runs the suite on what is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: what floors require without a bound, whose newer versions warn of what the old callers do
COMPANIONS = {"matplotlib": "pyparsing<3.3"}
#: the first Python that came after them
TOO_NEW = (3, 13)
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[([\w, -]+)\])?(?:>=([\w.]+))?\s*(;.*)?")


def floors(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Lines ``name==version`` for what the project and some of its extras require.

    Raises
    ------
    ValueError
        For a requirement that has no floor of the form ``name>=version``.
    """
    found: set[str] = set()
    open_, seen = [*project["dependencies"]], set()
    for extra in extras:
        open_.append(f"{project['name']}[{extra}]")
    while open_:
        requirement = open_.pop()
        match = REQUIREMENT.fullmatch(requirement)
        name, inner, version, marker = match.groups() if match else (None, None, None, None)
        if name == project["name"] and inner:
            for extra in inner.split(","):
                if extra not in seen:
                    seen.add(extra)
                    open_ += project["optional-dependencies"][extra.strip()]
        elif version:
            found.add(f"{name}=={version}{marker or ''}")
            found |= {COMPANIONS[name]} if name in COMPANIONS else set()
        else:
            raise ValueError(f"{requirement!r} has no floor; accepted are name>=version")
    return sorted(found)


def main() -> None:
    """Print the floors of some extras."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extras", nargs="*", help="of pyproject.toml")
    parser.add_argument("--here", action="store_true", help="to be installed with this Python")
    options = parser.parse_args()
    if options.here and sys.version_info >= TOO_NEW:
        first = ".".join(map(str, TOO_NEW))
        sys.exit(f"the floors have no wheels for Python {first} or newer: make VENV=... PYTHON=...")
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    print("\n".join(floors(project, options.extras)))


if __name__ == "__main__":
    main()
