"""CSV files, read strictly: what may have swallowed rows, or is cut otherwise, is refused."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import open_file
from .common import CommandError, meant

__all__ = ["Format", "as_format", "csv_text", "guarded", "no_column", "read_csv", "unguarded"]

#: what a spreadsheet takes for a formula, but for numbers; and such a text behind a quote
FORMULA = re.compile(r"(?![-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\Z)[=+\-@\t\r\n＝＋－＠]")

#: what ends a cell or a row for some reader
ENDS = re.compile('[,;|"\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]')

#: where a formula begins for a reader with another separator than the comma: all before its sign
INNER = re.compile("([;|\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029][\"']*)(?=[=+\\-@＝＋－＠])")

DELIMITERS = (",", ";", "\t", "|")


class Format(NamedTuple):
    """How a CSV file writes rows and numbers."""

    delimiter: str = ","
    decimal: str = "."
    thousands: str = ""  # none
    encoding: str = "utf-8"


def as_format(given: Mapping[str, Any], where: str) -> Format:
    """Return a Format of some of its fields.

    Raises
    ------
    CommandError
        For a value that is not accepted; the text begins with `where`.
    """
    form = Format(**given)
    for name, value in form._asdict().items():
        if not isinstance(value, str):
            raise CommandError(f"{where}{name} is {value!r:.60}; accepted is a text")
    form = form._replace(delimiter={"tab": "\t", "\\t": "\t"}.get(form.delimiter, form.delimiter))
    marks = {name: getattr(form, name) for name in ("delimiter", "decimal", "thousands")}
    for name, mark in marks.items():
        if name == "thousands" and not mark:
            continue
        if len(mark) != 1 or mark.isalnum() or mark in '"+\r\n\0' or (mark == "-"):
            raise CommandError(f"{where}{name} is {mark!r:.60}; accepted is one character")
    if form.thousands == form.decimal:  # but a delimiter that is in quotes is no delimiter
        raise CommandError(
            f"{where}thousands is {form.thousands!r}, as is decimal; accepted are different "
            "characters"
        )
    try:
        codecs.lookup(form.encoding)
        "".encode(form.encoding)
    except (LookupError, ValueError) as error:
        raise CommandError(
            f"{where}encoding is {form.encoding!r:.60}; accepted are Python's, such as utf-8, "
            "latin-1, utf-16"
        ) from error
    return form


# ---- in


class Table(NamedTuple):
    """The cells of a CSV file: names of columns, rows of text, and the line of each row."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]


def read_csv(path: Path, form: Format) -> Table:
    """Read a CSV file.

    A cell may have line breaks only if none of its lines could be a row: otherwise a quote was
    probably left open.

    Raises
    ------
    CommandError
        For text that is no such table; it names the line.
    """
    encoding = "utf-8-sig" if codecs.lookup(form.encoding).name == "utf-8" else form.encoding
    try:
        with io.TextIOWrapper(open_file(path), encoding=encoding, newline="") as file:
            text = file.read()
    except UnicodeError as error:
        raise CommandError(
            f"{path} cannot be read: it is no text in {form.encoding.upper()} (encoding = "
            '"latin-1" may be what it is)'
        ) from error
    records = list(_records(path, text, form.delimiter))
    if not records:
        raise CommandError(f"{path} is empty; accepted are tables with a line of column names")
    names = records[0].cells
    for record in records:
        if len(record.cells) != len(names):
            raise CommandError(
                f"{path}, line {record.line}, has {len(record.cells)} entries; "
                f"accepted are {len(names)}, as many as names{_other_delimiter(names)}"
            )
        if record.lines > 1:
            _require_no_row_within(path, record, len(names), form.delimiter)
    rows = [record.cells for record in records[1:]]
    _unguard(path, names, rows)
    return Table([unguarded(name) for name in names], rows, [r.line for r in records[1:]])


class _Record(NamedTuple):
    cells: list[str]
    line: int  # at which it begins, from 1
    lines: int  # how many it has


def _records(path: Path, text: str, delimiter: str) -> Iterator[_Record]:
    lines = _lines(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    done = 0
    try:
        for cells in reader:
            record = _Record(cells, done + 1, reader.line_num - done)
            done = reader.line_num
            if any('"' in cell for cell in cells):
                _require_whole_quotes(path, lines[record.line - 1 : done], record.line, delimiter)
            if cells:
                yield record
    except csv.Error as error:
        opened = _open_quote(lines[done:], done + 1)
        if opened is not None and "field larger" not in str(error):
            raise CommandError(
                f"{path}, line {opened}, has a quote that is not closed, or not at the end of its "
                "cell; accepted are quotes around whole cells, and those inside doubled"
            ) from error
        raise CommandError(f"{path} cannot be read, line {done + 1}: {error}") from error


def _lines(text: str) -> list[str]:
    """The lines of a text with their ends; str.splitlines knows more ends than files have."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _open_quote(lines: Sequence[str], first: int) -> int | None:
    """The line of the first quote of an odd number, as of an unclosed one."""
    return next((first + i for i, line in enumerate(lines) if line.count('"') % 2), None) or (
        first if lines and '"' in lines[0] else None
    )


def _require_whole_quotes(path: Path, lines: list[str], line: int, delimiter: str) -> None:
    """Refuse a quote within a cell that does not begin with one."""
    mark = re.escape(delimiter)
    cell = rf'(?:"(?:[^"]|"")*"|[^"{mark}\r\n]*)'
    if not re.fullmatch(rf"{cell}(?:{mark}{cell})*[\r\n]*", "".join(lines)):
        raise CommandError(
            f"{path}, line {line}, has a quote inside a cell; accepted are quotes around whole "
            "cells, and those inside doubled"
        )


def _require_no_row_within(path: Path, record: _Record, n_columns: int, delimiter: str) -> None:
    """Refuse a cell that has, or whose first line completes, as many cells as a row."""
    for i, cell in enumerate(record.cells):
        first, *others = [line.count(delimiter) for line in re.split(r"\r\n|\r|\n", cell)]
        if others and ((first and i + first >= n_columns - 1) or n_columns - 1 <= max(
            others[:-1], default=-1)):  # fmt: skip
            raise CommandError(
                f"{path}, line {record.line}, opens a quote that closes in line "
                f"{record.line + record.lines - 1}, beyond what looks like rows; accepted are "
                "cells without rows in them"
            )


# ---- texts that are no formulas


def guarded(cell: Any) -> Any:
    """A cell for a CSV file; a text that a spreadsheet would run gets a quote before it.

    So does one that has such quotes already, for `unguarded` takes one off. Within a text, so does
    what a reader with another separator would run: quotes around a cell do not hold it together
    for such a reader, unless it is the first of its line.
    """
    if not isinstance(cell, str):
        return cell
    cell = INNER.sub(r"\1'", cell)
    return f"'{cell}" if FORMULA.match(cell.lstrip("'")) else cell


def unguarded(cell: str) -> str:
    """The cell that `guarded` was given."""
    if cell.startswith("'") and FORMULA.match(cell.lstrip("'")):
        cell = cell[1:]
    return INNER.sub(lambda found: found[1].removesuffix("'"), cell)


def _unguard(path: Path, names: Sequence[str], rows: list[list[str]]) -> None:
    """Take the quotes off, in place."""
    for i, name in enumerate(names):
        quoted = {c: unguarded(c) for row in rows if "'" in (c := row[i])}
        bare = {cell for cell in quoted.values() if cell not in quoted}
        if bare and (both := bare & {row[i] for row in rows}):
            raise CommandError(
                f"{path}, column {name!r:.60}, holds {min(both)!r:.60} with and without a quote "
                "before it; accepted is one of the two"
            )
        for row in rows if quoted else ():
            row[i] = quoted.get(row[i], row[i])


# ---- out


def csv_text(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as the text of a CSV file; a cell of None is empty."""
    lines = (",".join(map(_field, row)) for row in (names, *rows))
    return "".join(f"{line or chr(34) * 2}\n" for line in lines)  # an empty line would be no row


def _field(cell: Any) -> str:
    """A cell as it stands in the file.

    Text is quoted around whatever some spreadsheet or other takes for the end of a cell or a row:
    what comes after it would be a cell of its own, which may run.
    """
    cell = guarded(cell)
    text = "" if cell is None else repr(cell) if isinstance(cell, float) else str(cell)
    if isinstance(cell, str) and ENDS.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def no_column(path: Path, name: str, names: Sequence[str]) -> CommandError:
    """The error for a column that is not there."""
    hint = _other_delimiter(names) or meant(name, names)
    known = ", ".join(map(repr, names))
    return CommandError(f"{path} has no column {name!r:.60}; it has {known:.500}{hint}")


def _other_delimiter(names: Sequence[str]) -> str:
    """A hint for a table whose line of names was not cut; else nothing."""
    if len(names) == 1 and (marks := [mark for mark in DELIMITERS if mark in names[0]]):
        return f" (is its delimiter {marks[0]!r}? --delimiter, or [tasks] delimiter, says so)"
    return ""
