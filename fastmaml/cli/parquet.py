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
LIMITS = {"values": (100_000, 4), "bytes": (1_000_000, 100)}

#: Arrow's types of columns whose values have lengths of their own
TEXTS = {"string", "large_string", "string_view", "binary", "large_binary", "binary_view"}

#: rows at a time, where each may have a text of its own
BATCH = 64


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.suffix.lower() in (".parquet", ".pq")


def require_parquet(path: Path) -> None:
    """See that pyarrow is there."""
    require(path.name, "parquet", "pyarrow")


def read_parquet(path: Path, wanted: Sequence[str]) -> tuple[list[str], list[Sequence[Any]]]:
    """Return the names of all columns, and of those that are wanted the values.

    Without pyarrow's threads: one of them may let go of the file, which is Python's, when Python
    is about to end, and then the process dies ("terminate called without an active exception").
    """
    require_parquet(path)
    from pyarrow import parquet

    with open_file(path) as file:
        try:
            source = parquet.ParquetFile(file, pre_buffer=False)
            names = list(source.schema_arrow.names)
            read = [name for name in dict.fromkeys(wanted) if names.count(name) == 1]
            _require_sizes(path, source, read)
            texts = [name for name in read if str(source.schema_arrow.field(name).type) in TEXTS]
            # A text that a million rows share is in the file once, and so it stays.
            shared = parquet.ParquetFile(
                file, metadata=source.metadata, read_dictionary=texts, pre_buffer=False
            )
            try:
                table = shared.read(columns=read, use_threads=False)
            except Exception:
                if not texts:
                    raise
                # Texts of the encodings DELTA_... are not read so. If it is damage, it is so again.
                columns = _values_in_batches(path, source, read)
            else:
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


def _values_in_batches(path: Path, source: Any, read: list[str]) -> dict[str, list[Any]]:
    """The values of columns whose texts may be short in the file and long in each row.

    Of a text that comes again only the first is kept, and counted.
    """
    size, n_bytes = path.stat().st_size, 0
    columns: dict[str, list[Any]] = {name: [] for name in read}
    known: dict[str | bytes, str | bytes] = {}
    for batch in source.iter_batches(batch_size=BATCH, columns=read, use_threads=False):
        for name in read:
            for value in batch.column(batch.schema.names.index(name)).to_pylist():
                if isinstance(value, str | bytes):
                    if value not in known:
                        n_bytes += len(value)
                    value = known.setdefault(value, value)
                columns[name].append(value)
        _require_few(path, size, "bytes", n_bytes)
    return columns


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

    Only the columns that are read count. But of texts the sizes are those of groups of rows, with
    all their columns: where what the file says of a single one is damaged, pyarrow ends the
    process.
    """
    from pyarrow.types import is_nested

    metadata = source.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_rows = sum(group.num_rows for group in groups)
    n_bytes, lengths_vary = 0, False
    for name in read:
        kind = source.schema_arrow.field(name).type
        kind = getattr(kind, "storage_type", kind)
        if is_nested(kind):  # lists have more values than rows
            raise CommandError(
                f"{path}, column {name!r:.60}, holds {kind!s:.60}; accepted are numbers and texts"
            )
        try:
            n_bytes += n_rows * kind.bit_width // 8
        except ValueError:  # of no fixed width
            lengths_vary = True
        lengths_vary |= hasattr(kind, "value_type")  # a dictionary, whose width is that of indices
    if lengths_vary:
        n_bytes = max(n_bytes, sum(group.total_byte_size for group in groups))
    size = path.stat().st_size
    _require_few(path, size, "values", len(read) * n_rows)
    _require_few(path, size, "bytes", n_bytes)


def _require_few(path: Path, size: int, what: str, found: int) -> None:
    least, per_byte = LIMITS[what]
    if found > (accepted := max(least, per_byte * size)):
        raise CommandError(
            f"{path} unfolds from {size} bytes to {found} {what}; accepted are up to {accepted}"
        )


def write_parquet(file: IO[bytes], columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of text, numbers or dates; None is a missing value."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({name: list(c) for name, c in columns.items()}), file)
