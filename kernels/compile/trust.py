"""Folders and files that nobody but this user and root can have written.

Compiled kernels are unpickled, which runs what they say, so all of them come through here.

*A folder* is walked to from the root of the file system, one name at a time, before anything in it
is used. Each folder on the way belongs to this user or root, and to write to it is either their
right alone or it is sticky (as ``/tmp`` is), where others cannot rename what is not theirs; each
symbolic link on the way belongs to them too. So once a name has been looked at, nobody else can
change what it stands for, and the path that comes out, which has no links left, stays good.

*A file* in such a folder is opened without following a link or waiting for a pipe, and it is the
open file that is looked at.

Other systems than POSIX have no such owners. There a folder is as safe as its place.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from pathlib import Path

_POSIX = hasattr(os, "geteuid")
_LINKS = 40  # on the way to one folder; Linux follows as many
_WRITERS = stat.S_IWGRP | stat.S_IWOTH
#: bytes of a file; the largest kernel takes a hundredth
MAX_SIZE = 64 << 20


def trusted_folder(path: Path, *, make: bool = False) -> Path:
    """Find the real path of a folder that only this user and root can write to.

    Parameters
    ----------
    path : Path
        It may lead through symbolic links.
    make : bool
        Whether to make what is missing, for this user alone whatever the umask is.

    Raises
    ------
    PermissionError
        Others can write to the folder, or can put another in its place.
    OSError
        It is not there or cannot be made.
    """
    if not _POSIX:
        if make:
            path.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is not a folder")
        return path.absolute()
    pending = list(reversed(path.absolute().parts))
    found, shared, links = Path("/"), False, 0
    while pending:
        name = pending.pop()
        here = found.parent if name == ".." else found / name
        try:
            status = os.lstat(here)
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):
                here.mkdir(mode=0o700)
            status = os.lstat(here)
        _check_owner(here, status, shared)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            pending.extend(reversed(Path(os.readlink(here)).parts))
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{here} is not a folder")
        shared = bool(status.st_mode & _WRITERS)
        if shared and not status.st_mode & stat.S_ISVTX:
            raise _writable_by_others(here, status)
        found = here
    _check_owner(found, status, shared=True)
    if shared:
        raise _writable_by_others(found, status)
    return found


def read_trusted(path: Path) -> bytes:
    """Read a file of a trusted folder.

    Raises
    ------
    PermissionError
        It belongs to others, or they can write to it.
    OSError
        It is not there, or a link, a pipe, a folder or larger than any kernel.
    """
    with open(path, "rb", buffering=0, opener=_open_as_it_is) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        if _POSIX:
            _check_owner(path, status, shared=True)
            if status.st_mode & _WRITERS:
                raise _writable_by_others(path, status)
        if status.st_size > MAX_SIZE:
            raise OSError(f"{path} has {status.st_size} bytes, more than {MAX_SIZE}")
        return file.read()


def create(path: Path, content: bytes) -> None:
    """Write a new file, never one that is there; others cannot write to it for any umask."""
    with open(path, "xb", buffering=0, opener=_open_as_it_is) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]


def _open_as_it_is(path: str, flags: int) -> int:
    """Neither follow a link nor wait for the other end of a pipe."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags, 0o644)


def _check_owner(path: Path, status: os.stat_result, shared: bool) -> None:
    """Raise if somebody else owns a file; in a shared folder it can be anybody's."""
    owner, user = status.st_uid, os.geteuid()
    if owner not in (user, 0) and (shared or owner != _owner_in_place_of_root()):
        raise PermissionError(f"{path} belongs to user {owner}, not to user {user} or root")


def _writable_by_others(path: Path, status: os.stat_result) -> PermissionError:
    who = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
    return PermissionError(f"{who} can write to {path} (chmod go-w {path} ends that)")


@functools.cache
def _owner_in_place_of_root() -> int | None:
    """Whom the files of root belong to in a container where no user is root.

    In a user namespace, files of all users that it does not have show one owner, as a rule 65534.
    That may be anybody, and so it is good enough only for what root gives every system, the folders
    that lead to the user's own.
    """
    try:
        owner = int(Path("/proc/sys/kernel/overflowuid").read_text())
        for line in Path("/proc/self/uid_map").read_text().splitlines():
            first, _, number = map(int, line.split())
            if first <= owner < first + number:
                return None  # a user like any other
        return owner
    except (OSError, ValueError):
        return None
