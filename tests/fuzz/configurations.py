"""Damaged configurations: their bytes and words, and values of another kind."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from fastmaml.cli import config

from .damage import VALUES, damaged, reworded
from .good import CONFIGURATION, HEAD, PLACES, TABLE, Good, judge_command
from .memory import modest
from .values import Draw


def train(draw: Draw, path: Path) -> None:
    with modest(path.stat().st_size):
        names = rf"{re.escape(path.name)}|\.csv|\[Errno|{PLACES}"
        judge_command("train", "--config", str(path), names=names, picture=draw.chance(0.03))


def toml_bytes(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "run.toml"
    shutil.copy(made.folder / "rows.csv", folder)
    content = draw.choice([CONFIGURATION, HEAD, TABLE])
    if draw.chance(0.5):
        path.write_bytes(damaged(draw, content, draw.choice([CONFIGURATION, TABLE])))
    else:
        path.write_bytes(reworded(draw, content, b"=\n,[] "))
    train(draw, path)


def toml_values(draw: Draw, made: Good, folder: Path) -> None:
    path = folder / "run.toml"
    tables = config.read(draw.choice(sorted(made.folder.glob("*.toml"))))
    for _ in range(draw.integer(1, 2)):
        name = draw.choice([*tables, "more"])
        table = tables.setdefault(name, {})
        if isinstance(table, dict) and draw.chance(0.85):
            table[draw.choice([*table, "more"])] = draw.choice(VALUES)
        else:
            tables[name] = draw.choice(VALUES)
    path.write_text(_toml(tables), encoding="utf-8", errors="surrogatepass")
    train(draw, path)


def _toml(tables: dict[str, Any]) -> str:
    plain = {name: value for name, value in tables.items() if not isinstance(value, dict)}
    lines = [f"{name} = {_value(value)}" for name, value in plain.items()]
    for name, table in tables.items():
        if name not in plain:
            lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return "''" if value is None else repr(value)
