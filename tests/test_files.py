"""Files are whole or not there, whoever else writes in the folder."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from fastmaml import files
from fastmaml.files import append_to, open_file, write_whole

posix = pytest.mark.skipif(sys.platform == "win32", reason="of links, pipes and permissions")


def write(path: Path, content: bytes = b"new") -> None:
    write_whole(path, lambda file: file.write(content))


def test_temporary_names_cannot_be_foreseen(tmp_path: Path) -> None:
    names = []

    def look(file: IO[bytes]) -> None:
        names.append(Path(file.name).name)
        file.write(b"x")

    for _ in range(3):
        write_whole(tmp_path / "file", look)
    assert len(set(names)) == 3
    assert all(name.startswith(".file.") and name.endswith(".tmp") for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_a_folder_the_file_itself_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as found:
        write(path)
    assert found.value.filename == str(path)


@posix
def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    victim, planted = tmp_path / "victim", tmp_path / ".file.guessed.tmp"
    victim.write_bytes(b"precious")
    planted.symlink_to(victim)
    with pytest.raises(FileExistsError, match=r"\.file\.guessed\.tmp"):
        write(tmp_path / "file")
    assert victim.read_bytes() == b"precious"
    assert planted.is_symlink()
    assert not (tmp_path / "file").exists()


@posix
def test_a_link_under_the_name_itself_is_replaced(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"precious")
    victim.chmod(0o600)
    path.symlink_to(victim)
    write(path)
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError, match="file"):
        append_to(path)
    assert victim.read_bytes() == b"precious"


@posix
def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path: Path) -> None:
    path, modes = tmp_path / "file", []
    before = os.umask(0o027)
    try:
        write(path)
        modes.append(stat.S_IMODE(path.stat().st_mode))
        for mode in (0o600, 0o444, 0o666):
            path.chmod(mode)
            # Before a byte is written: what is private is so at every moment.
            write_whole(path, lambda file: modes.append(stat.S_IMODE(os.stat(file.name).st_mode)))
            modes.append(stat.S_IMODE(path.stat().st_mode))
    finally:
        os.umask(before)
    assert modes == [0o640, 0o600, 0o600, 0o444, 0o444, 0o666, 0o666]


@posix
def test_what_is_no_file_is_not_replaced_nor_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match=rf"{path.name} is no regular file; accepted are those"):
            write(path)
        with pytest.raises(OSError, match=f"{path.name} is no regular file"):
            open_file(path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_threads_that_save_to_one_path_leave_whole_files(tmp_path: Path) -> None:
    path, errors = tmp_path / "file", []
    contents = [bytes([65 + i]) * 100_000 for i in range(3)]
    path.write_bytes(contents[0])
    barrier = threading.Barrier(4)

    def save(content: bytes) -> None:
        barrier.wait()
        try:
            for _ in range(15):
                write(path, content)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    barrier.wait()
    reads = []
    while any(thread.is_alive() for thread in threads) or not reads:
        reads.append(path.read_bytes())
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(read in contents for read in reads)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
