"""Labels: which task each row belongs to, from a column of text, numbers, dates or tuples of them.

A label keeps what it is: 1 and "1" are two things, so one column may not hold both; a day is the
same day in every unit of time. A row whose label is missing belongs to no task.
"""

from __future__ import annotations

import datetime
import json
import unicodedata
from collections.abc import Hashable, Iterable, Sequence, Set
from numbers import Real
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..checks import as_choice, shape_text, shown

__all__ = [
    "MISSING", "Labels", "as_labels", "identity", "is_missing", "join", "label_text",
    "list_some", "require_length",
]  # fmt: skip

MISSING = ("error", "drop")

ACCEPTED = "accepted are text, numbers, dates and tuples of them, of one kind"
#: what NumPy makes of a missing label when it turns a list into text
MISSING_TEXT = ("", "nan", "NaT", "<NA>", "None")
DAYS = ("Y", "M", "W", "D")
#: in a second, of each unit that is shorter
FRACTIONS = {"ms": 10**3, "us": 10**6, "ns": 10**9, "ps": 10**12, "fs": 10**15, "as": 10**18}


class Labels(NamedTuple):
    """The labels of a column, each once, and which of them each row has."""

    names: tuple[Any, ...]  # in ascending order
    code: NDArray[np.intp]  # (rows,): a place in names, -1 for a row whose label is missing


def as_labels(name: str, labels: Any, n_rows: int, missing: str | None = None) -> Labels:
    """Return the labels of a column, one a row.

    Parameters
    ----------
    name : str
        What errors call the column.
    labels : array_like, shape (n_rows,)
        A list, array, Series or column of a table.
    n_rows : int
    missing : {"error", "drop"}, optional
        Missing are None, NaN, NaT, NA, masked entries and blank text. ``"drop"`` gives them the
        code -1. None: an error, of which the caller has no way out by ``"drop"``.

    Returns
    -------
    Labels

    Raises
    ------
    ValueError
        For another number of labels, for missing ones, and for text that differs only in the
        blanks around it or in how Unicode writes it; the message has the rows.
    TypeError
        For labels of two kinds, or of one that cannot be told apart or sorted.
    """
    drop = missing is not None and as_choice("missing", missing, MISSING) == "drop"
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biufUSMm":
        require_length(name, labels.shape, n_rows)
        entries = None
        names, code = _of_array(labels)
    else:
        entries = _entries(labels)
        if entries is None:
            raise TypeError(f"{name} is {shown(labels)}; accepted is one label for each row")
        shape = getattr(labels, "shape", (len(entries),))  # a DataFrame's entries are its names
        require_length(name, shape, n_rows)
        names, code = _of_objects(name, entries)
    if not drop and len(gone := np.flatnonzero(code < 0)):
        # Not anew for what may be an iterator.
        entry = (_entries(labels) if entries is None else entries)[gone[0]]  # type: ignore[index]
        entry = entry.item() if isinstance(entry, np.inexact | np.character) else entry
        hint = "" if missing is None else ' (missing="drop" leaves the others out)'
        raise ValueError(
            f"{name} holds {'a masked entry' if entry is np.ma.masked else repr(entry)} in row "
            f"{list_some(gone.tolist())}; accepted is a label for each row{hint}"
        )
    _require_apart(name, names, code)
    return Labels(tuple(names), code)


def join(columns: Sequence[Labels]) -> Labels:
    """Return several columns of labels as one, of tuples; a row that misses one misses all."""
    codes = np.stack([column.code for column in columns], axis=1)
    there = (codes >= 0).all(axis=1)
    unique, index = np.unique(codes[there], axis=0, return_inverse=True)
    code = np.full(len(codes), -1, np.intp)
    code[there] = index.reshape(-1)
    names = (
        tuple(column.names[i] for column, i in zip(columns, row, strict=True))
        for row in unique.tolist()
    )
    return Labels(tuple(names), code)


def identity(label: Any) -> tuple[str, Hashable]:
    """Return the kind of a label, and what it is among those of its kind.

    Labels are the same where both are equal, however they are stored. Among those of a kind the
    second part is what sorts them.
    """
    kind, key = _identify(label)
    return kind.split(" in ")[0], key


def label_text(label: Any) -> str:
    """Return a label as text: different labels of one kind have different texts.

    A number has the text that it has in a file, so that a table is the same as CSV and as Parquet.

    Parameters
    ----------
    label : str, number, date, duration or tuple of these
        A label of a task; see `TaskTable`.

    Raises
    ------
    TypeError, ValueError
        For what is no label: None, NaN, or an object of another kind.

    Examples
    --------
    >>> from fastmaml.datasets import label_text
    >>> label_text(7.0), label_text("plant 7"), label_text(("plant", 7))
    ('7', 'plant 7', '["plant", "7"]')
    """
    kind, key = identity(label)
    if kind.startswith("tuples"):
        return json.dumps([label_text(part) for part in label], ensure_ascii=False)
    if kind in ("dates", "durations"):
        whole, rest = cast(tuple[int, int], key)
        text = str(whole) if kind == "durations" else str(np.datetime64(whole, "s"))
        return text.removesuffix("T00:00:00") + (f"+{rest}as" if rest else "")
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    return str(key)


def list_some(items: Sequence[Any], n: int = 5) -> str:
    """Return the first items of a list as text, and how many more there are."""
    more = f" and {len(items) - n} more" if len(items) > n else ""
    return ", ".join(map(str, items[:n])) + more


def require_length(name: str, shape: Sequence[int], n_rows: int) -> None:
    """Raise ValueError unless a column of this shape has an entry for each row."""
    if tuple(shape) != (n_rows,):
        raise ValueError(
            f"{name} has shape {shape_text(shape)}; "
            f"accepted is one entry for each row, {shape_text((n_rows,))}"
        )


# ---- columns


def _entries(labels: Any) -> list[Any] | None:
    """The entries of a column as they are; np.asarray would make all of a list text."""
    if isinstance(labels, np.ma.MaskedArray):
        return [np.ma.masked if gone else entry for entry, gone in zip(
            labels.data.tolist(), np.ma.getmaskarray(labels).tolist(), strict=True)]  # fmt: skip
    if isinstance(labels, str | bytes | dict | Set) or not isinstance(labels, Iterable):
        return None
    if isinstance(labels, np.ndarray) and not labels.ndim:
        return None
    return labels.to_pylist() if hasattr(labels, "to_pylist") else list(labels)


def _of_array(labels: NDArray[Any]) -> tuple[list[Any], NDArray[np.intp]]:
    """The labels of an array of one kind; the fast way."""
    if isinstance(labels, np.ma.MaskedArray):
        gone, labels = np.ma.getmaskarray(labels), labels.data
    else:
        gone = np.zeros(len(labels), bool)
    if labels.dtype.kind in "fMm":
        gone = gone | np.isnat(labels) if labels.dtype.kind in "Mm" else gone | np.isnan(labels)
    elif labels.dtype.kind == "U":
        gone = gone | np.isin(np.strings.strip(labels), MISSING_TEXT)
    elif labels.dtype.kind == "S":
        gone = gone | (np.strings.strip(labels) == b"")
    code = np.full(len(labels), -1, np.intp)
    unique, code[~gone] = np.unique(labels[~gone], return_inverse=True)
    return list(unique) if labels.dtype.kind in "Mm" else unique.tolist(), code


def _of_objects(name: str, entries: list[Any]) -> tuple[list[Any], NDArray[np.intp]]:
    first: dict[str, int] = {}  # row in which each kind comes first
    place: dict[Hashable, int] = {}
    names: list[Any] = []
    code = np.full(len(entries), -1, np.intp)
    for row, entry in enumerate(entries):
        if is_missing(entry):
            continue
        try:
            kind, key = _identify(entry)
            code[row] = place.setdefault(key, len(names))
        except TypeError:  # not hashable
            raise TypeError(
                f"{name} holds {shown(entry)} in row {row}, a {type(entry).__name__}; {ACCEPTED}"
            ) from None
        first.setdefault(kind, row)
        if code[row] == len(names):
            names.append(entry.item() if isinstance(entry, np.number | np.str_) else entry)
    if len(first) > 1:
        (kind, row), (other, other_row) = list(first.items())[:2]
        raise TypeError(
            f"{name} holds labels of two kinds, {kind} ({shown(entries[row], 40)} in row {row}) "
            f"and {other} ({shown(entries[other_row], 40)} in row {other_row}); {ACCEPTED}"
        )
    try:
        order = [i for _, i in sorted((key, i) for key, i in place.items())]
    except TypeError as error:
        raise TypeError(f"{name} holds labels that have no order ({error}); {ACCEPTED}") from None
    rank = np.empty(len(order) + 1, np.intp)
    rank[order], rank[-1] = np.arange(len(order)), -1  # the last is where -1 points
    return [names[i] for i in order], rank[code]


def _require_apart(name: str, names: Iterable[Any], code: NDArray[np.intp]) -> None:
    """Raise ValueError for labels that look the same."""
    seen: dict[Any, int] = {}
    labels = list(names)
    for i, label in enumerate(labels):
        j = seen.setdefault(_looks(label), i)
        if j != i:
            rows = [int(np.argmax(code == k)) for k in (j, i)]
            raise ValueError(
                f"{name} holds {labels[j]!r} (row {rows[0]}) and {label!r} (row {rows[1]}), "
                "text that looks the same; accepted is one way to write a label"
            )


def _looks(label: Any) -> Any:
    if isinstance(label, str):
        return unicodedata.normalize("NFC", " ".join(label.split()))
    if isinstance(label, bytes):
        return b" ".join(label.split())
    return tuple(map(_looks, label)) if isinstance(label, tuple) else label


# ---- one label


def is_missing(entry: Any) -> bool:
    """Return whether an entry stands for no label: None, NaN, NaT, NA, masked, blank text."""
    if entry is None or entry is np.ma.masked:
        return True
    if isinstance(entry, str | bytes):
        return not entry.strip()
    if isinstance(entry, tuple):
        return any(map(is_missing, entry))
    if isinstance(entry, np.ndarray):
        return False
    try:
        return bool(entry != entry)
    except (TypeError, ValueError):  # pandas.NA has no truth value, nor have foreign arrays
        return type(entry).__name__ == "NAType"


def _identify(label: Any) -> tuple[str, Hashable]:
    """As `identity`, where days and seconds are two kinds of dates."""
    if isinstance(label, str):
        return "text", str(label)
    if isinstance(label, bool | np.bool_):
        return "truth values", bool(label)
    if isinstance(label, np.datetime64 | np.timedelta64):
        unit, count = np.datetime_data(label.dtype)
        kind = "durations"
        if isinstance(label, np.datetime64):  # is a day the moment at which it begins?
            kind = f"dates in {'days' if unit in DAYS else 'seconds'}"
        return kind, _seconds(label, unit, count)
    if isinstance(label, Real):
        return "numbers", cast(Hashable, label.item() if isinstance(label, np.generic) else label)
    if isinstance(label, tuple):
        parts = [_identify(part) for part in label]
        return f"tuples ({', '.join(k for k, _ in parts)})", tuple(key for _, key in parts)
    if isinstance(label, datetime.datetime) and label.tzinfo is not None:  # pandas' too
        return "dates with a time zone", label
    if hasattr(label, "to_datetime64"):
        return _identify(label.to_datetime64())
    if hasattr(label, "to_timedelta64"):
        return _identify(label.to_timedelta64())
    if isinstance(label, datetime.date):  # or datetime
        return _identify(np.datetime64(label))
    if isinstance(label, datetime.timedelta):
        return _identify(np.timedelta64(label))
    return f"{type(label).__name__} objects", label


def _seconds(label: Any, unit: str, count: int) -> tuple[int, int]:
    """A moment or a duration in whole seconds and 1e-18 seconds, exactly."""
    kind = "M8" if isinstance(label, np.datetime64) else "m8"
    if unit not in FRACTIONS:
        return int(label.astype(f"{kind}[s]").astype(np.int64)), 0
    ticks = int(label.astype(np.int64)) * count
    whole, rest = divmod(ticks, FRACTIONS[unit])
    return whole, rest * (10**18 // FRACTIONS[unit])
