"""Files: each function of `KINDS` damages one and lets it be read."""

from __future__ import annotations

import functools
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from .archives import npz_bomb, npz_bytes, npz_header, npz_members
from .configurations import toml_bytes, toml_values
from .entries import cache_entry
from .good import Good
from .oracle import Failure
from .tables import csv_cells, log, parquet_types, table_bytes
from .values import Draw

good = functools.cache(Good)  # once in a worker

#: what is damaged, and how often
KINDS: dict[Callable[[Draw, Good, Path], None], int] = {
    npz_bytes: 12,
    npz_members: 12,
    npz_header: 12,
    npz_bomb: 1,
    toml_bytes: 10,
    toml_values: 12,
    table_bytes: 12,
    csv_cells: 10,
    parquet_types: 4,
    log: 6,
    cache_entry: 8,
}
_KINDS = [kind for kind, n in KINDS.items() for _ in range(n)]


def run_file(draw: Draw, folder: Path) -> str:
    """Damage a file and let it be read; return what it was."""
    made, place = good(folder / "good"), folder / "case"
    kind = draw.choice(_KINDS)
    place.mkdir()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind(draw, made, place)
    except Failure as failure:
        raise Failure(f"{kind.__name__}: {failure}") from failure
    finally:
        shutil.rmtree(place)
    return str(kind.__name__)
