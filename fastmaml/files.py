"""Files that are whole or not there, and that nobody else can lead elsewhere."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

__all__ = ["append_to", "open_file", "write_whole"]


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: under a temporary name, flushed, then renamed.

    Until the rename, `path` is what it was. A process that is killed before it may leave the
    temporary file, whose name begins with a dot and ends in ``.tmp``. That name cannot be foreseen,
    and is never that of a file or link that is there already. A file that is replaced hands on its
    permissions; a symbolic link is replaced itself, and what it points to stays as it was.

    Raises
    ------
    OSError
        If the file cannot be written, or if `path` is a folder, a device or a pipe.
    """
    mode = _mode(path)
    # Shortened, so that it is no longer than a name may be.
    temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(8)}.tmp")
    try:
        opened = temporary.open("xb")  # refuses what is there, links too
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:  # of the folder
        error.filename = str(path)
        raise
    with opened as file:
        try:
            if mode is not None:
                os.chmod(file.fileno() if os.chmod in os.supports_fd else temporary, mode)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            file.close()  # without which Windows does not rename
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # of a full disk, once more
                file.close()
            temporary.unlink(missing_ok=True)
            raise
    if os.name == "posix":  # that the new name survives a power failure, too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _mode(path: Path) -> int | None:
    """The permissions of the file that is replaced; None if there is none, or it is a link."""
    try:
        there = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(there.st_mode):  # renamed over /dev/null, say, it would be gone
        raise OSError(f"{path} is no regular file; accepted are those, and new names")
    return None if path.is_symlink() else stat.S_IMODE(there.st_mode) & 0o777


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading; a pipe or a device, which may have no end, is an OSError."""
    # Not blocking: a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(os.fspath(path), flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise


def append_to(path: Path) -> IO[str]:
    """Open a file to append lines, each handed to the system at once; follow no link."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    return open(path, "a", encoding="utf-8", newline="", buffering=1, opener=opener)
