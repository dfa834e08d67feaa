"""Parquet files, by pyarrow from the extra ``parquet``: read, with sizes checked, and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..files import open_file
from .common import CommandError, require

__all__ = ["flat_columns", "is_parquet", "read_parquet", "require_parquet", "write_parquet"]

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
    from pyarrow.types import is_large_string, is_string

    with open_file(path) as file:
        try:
            source = parquet.ParquetFile(file)
            names = list(source.schema_arrow.names)
            read = [name for name in dict.fromkeys(wanted) if names.count(name) == 1]
            _require_sizes(path, source, read)
            kinds = {name: source.schema_arrow.field(name).type for name in read}
            texts = [
                name for name, kind in kinds.items() if is_string(kind) or is_large_string(kind)
            ]
            # A text that a million rows share is in the file once, and so it stays.
            source = parquet.ParquetFile(file, metadata=source.metadata, read_dictionary=texts)
            table = source.read(columns=read)
            columns = {name: _values(table.column(name)) for name in read}
        except CommandError:
            raise
        except Exception as error:  # pyarrow has an error of its own beside each of Python's
            raise CommandError(
                f"{path} cannot be read: it is damaged, or no Parquet file ({error!s:.200})"
            ) from error
    return names, [columns.get(name, ()) for name in names]


def _values(column: Any) -> list[Any]:
    """The values of a column; those of a dictionary are made once."""
    from pyarrow import DictionaryArray

    values: list[Any] = []
    for chunk in column.chunks:
        if isinstance(chunk, DictionaryArray):
            known = chunk.dictionary.to_pylist()
            values += [None if i is None else known[i] for i in chunk.indices.to_pylist()]
        else:
            values += chunk.to_pylist()
    return values


def flat_columns(path: Path) -> list[str]:
    """Return the names of the columns that are no lists or the like."""
    require_parquet(path)
    from pyarrow import parquet
    from pyarrow.types import is_nested

    try:
        with open_file(path) as file:
            schema = parquet.read_schema(file)
    except Exception as error:
        raise CommandError(
            f"{path} cannot be read: it is missing, damaged, or no Parquet file ({error!s:.200})"
        ) from error
    return [field.name for field in schema if not is_nested(field.type)]


def _require_sizes(path: Path, source: Any, read: list[str]) -> None:
    """Refuse a file whose columns would take far more memory than the file has bytes.

    The sizes are those of groups of rows. What the file says of each column is left alone: where it
    is damaged, pyarrow ends the process.
    """
    from pyarrow.types import is_nested

    for name in read:  # lists have more values than rows
        kind = source.schema_arrow.field(name).type
        if is_nested(getattr(kind, "storage_type", kind)):
            raise CommandError(
                f"{path}, column {name!r:.60}, holds {kind!s:.60}; accepted are numbers and texts"
            )
    size, metadata = path.stat().st_size, source.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_values = len(read) * sum(group.num_rows for group in groups)
    n_bytes = sum(group.total_byte_size for group in groups)
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
