"""Parquet files, by pyarrow from the extra ``parquet``: read, with sizes checked, and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .common import CommandError, require

__all__ = ["is_parquet", "read_parquet", "require_parquet", "write_parquet"]

#: What a Parquet file of any size may unfold to, and what for each byte that it has: values, and
#: bytes that are not compressed. A value takes some hundred bytes while it is read.
VALUES, VALUES_PER_BYTE = 100_000, 4
UNPACKED, UNPACKED_PER_BYTE = 1_000_000, 100


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.suffix.lower() in (".parquet", ".pq")


def require_parquet(path: Path) -> None:
    """See that pyarrow is there."""
    require(path.name, "parquet", "pyarrow")


def read_parquet(path: Path, wanted: Sequence[str]) -> tuple[list[str], list[Sequence[Any]]]:
    """Return the names of all columns, and of those that are wanted the values."""
    require_parquet(path)
    from pyarrow import parquet

    with path.open("rb") as file:
        try:
            source = parquet.ParquetFile(file)
            names = list(source.schema_arrow.names)
            read = [name for name in dict.fromkeys(wanted) if names.count(name) == 1]
            _require_sizes(path, source, read)
            table = source.read(columns=read)
            columns = {name: table.column(name).to_pylist() for name in read}
        except CommandError:
            raise
        except Exception as error:  # pyarrow has an error of its own beside each of Python's
            raise CommandError(
                f"{path} cannot be read: it is damaged, or no Parquet file ({error!s:.200})"
            ) from error
    return names, [columns.get(name, ()) for name in names]


def _require_sizes(path: Path, source: Any, read: list[str]) -> None:
    """Refuse a file whose columns would take far more memory than the file has bytes."""
    size, metadata = path.stat().st_size, source.metadata
    n_values = n_bytes = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            if {chunk.path_in_schema, chunk.path_in_schema.partition(".")[0]} & set(read):
                n_values += max(group.num_rows, chunk.num_values)  # lists have more than rows
                n_bytes += chunk.total_uncompressed_size
    for what, found, accepted in (
        ("values", n_values, max(VALUES, VALUES_PER_BYTE * size)),
        ("bytes", n_bytes, max(UNPACKED, UNPACKED_PER_BYTE * size)),
    ):
        if found > accepted:
            raise CommandError(
                f"{path} unfolds from {size} bytes to {found} {what}; accepted are up to {accepted}"
            )


def write_parquet(file: IO[bytes], columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of text, numbers or dates; None is a missing value."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({name: list(c) for name, c in columns.items()}), file)
