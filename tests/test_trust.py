"""Nothing that others can write is unpickled: which folders and files the kernel cache trusts."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fastmaml.kernels.compile import trust
from fastmaml.kernels.compile.trust import create, read_trusted, trusted_folder

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners and modes"),
    pytest.mark.usefixtures("usual_umask"),
]
STRANGER = 12345 + (hasattr(os, "geteuid") and os.geteuid() == 12345)


@pytest.fixture
def give_away(monkeypatch):
    """Make a path another user's: in fact where the tests run as root, in appearance elsewhere."""
    given = set()

    def appear(status):
        if (status.st_dev, status.st_ino) not in given:
            return status
        return os.stat_result([*status[:4], STRANGER, *status[5:]])

    def give(path):
        if os.geteuid() == 0:
            os.lchown(path, STRANGER, -1)
            return
        status = os.lstat(path)
        given.add((status.st_dev, status.st_ino))

    lstat, fstat = os.lstat, os.fstat
    monkeypatch.setattr(trust.os, "lstat", lambda path: appear(lstat(path)))
    monkeypatch.setattr(trust.os, "fstat", lambda file: appear(fstat(file)))
    return give


# ---- folders


def test_missing_folders_are_made_for_this_user_alone(tmp_path):
    before = os.umask(0o002)
    try:
        assert trusted_folder(tmp_path / "a" / "b", make=True) == tmp_path / "a" / "b"
        os.umask(0o000)
        trusted_folder(tmp_path / "a" / "c", make=True)
    finally:
        os.umask(before)
    for name in ("a", "a/b", "a/c"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
    with pytest.raises(FileNotFoundError):
        trusted_folder(tmp_path / "a" / "d")


@pytest.mark.parametrize("make", [True, False])
@pytest.mark.parametrize("level", ["a", "a/b", "a/b/c"])
@pytest.mark.parametrize(
    ("mode", "who"), [(0o775, "its group"), (0o757, "everybody"), (0o777, "everybody")]
)
def test_a_folder_that_others_can_write_to(tmp_path, make, level, mode, who):
    """Or can put another in the place of, at any level above it."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    (tmp_path / level).chmod(mode)
    refusal = (
        rf"^{who} can write to {tmp_path / level} \(chmod go-w {tmp_path / level} ends that\)$"
    )
    with pytest.raises(PermissionError, match=refusal):
        trusted_folder(folder, make=make)
    (tmp_path / level).chmod(mode & ~0o022)
    assert trusted_folder(folder, make=make) == folder


def test_nothing_is_made_where_others_can_write(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="everybody can write"):
        trusted_folder(tmp_path / "new", make=True)
    assert list(tmp_path.iterdir()) == []


def test_a_sticky_folder_keeps_what_is_ours(tmp_path, give_away):
    folder = tmp_path / "ours"
    folder.mkdir()
    tmp_path.chmod(0o1777)
    assert trusted_folder(folder) == folder
    with pytest.raises(PermissionError, match="everybody can write"):
        trusted_folder(tmp_path)  # but anybody can put something there
    give_away(folder)
    with pytest.raises(PermissionError, match=f"^{folder} belongs to user {STRANGER}, not to user"):
        trusted_folder(folder)


@pytest.mark.parametrize("level", ["a", "a/b"])
def test_a_folder_of_somebody_else(tmp_path, give_away, level):
    """Root does not trust a user's folder either, as under sudo, which may keep HOME."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    give_away(tmp_path / level)
    with pytest.raises(PermissionError, match=f"{level} belongs to user {STRANGER}, not to user"):
        trusted_folder(folder)
    with pytest.raises(PermissionError, match=f"{level} belongs to user {STRANGER}, not to user"):
        trusted_folder(folder / "new", make=True)


def test_links_are_followed_once(tmp_path):
    """The path that comes out has none: who turns one later turns nothing."""
    folder = tmp_path / "there" / "folder"
    folder.mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "relative").symlink_to("../there")
    (tmp_path / "absolute").symlink_to(tmp_path / "here" / "relative")
    assert trusted_folder(tmp_path / "absolute" / "folder") == folder
    assert trusted_folder(tmp_path / "absolute" / ".." / "here") == tmp_path / "here"
    found = trusted_folder(tmp_path / "absolute" / "folder" / "new", make=True)
    assert found == folder / "new"


def test_links_of_somebody_else_are_not_followed(tmp_path, give_away):
    """What they lead to may be ours, as an archive of theirs that we have unpacked."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    give_away(tmp_path / "link")
    with pytest.raises(PermissionError, match=f"link belongs to user {STRANGER}"):
        trusted_folder(tmp_path / "link")


def test_links_into_folders_that_others_can_write_to(tmp_path):
    (tmp_path / "open" / "folder").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open" / "folder")
    with pytest.raises(PermissionError, match="open "):
        trusted_folder(tmp_path / "link")


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        trusted_folder(tmp_path / "round", make=True)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match="file is not a folder"):
            trusted_folder(path, make=True)


def test_a_relative_path_is_meant_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert trusted_folder(Path("new"), make=True) == tmp_path / "new"


def test_folders_of_root_in_a_container_without_root(tmp_path, give_away, monkeypatch):
    """They show the owner of all whom the container does not know: good enough for what leads on.

    Not for the folder itself, nor for what lies in a folder where everybody can make one.
    """
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    monkeypatch.setattr(trust, "_owner_in_place_of_root", lambda: STRANGER)
    give_away(tmp_path / "a")
    assert trusted_folder(folder) == folder
    give_away(tmp_path / "a" / "b")
    assert trusted_folder(folder) == folder
    (tmp_path / "a").chmod(0o1777)
    with pytest.raises(PermissionError, match="b belongs to user"):
        trusted_folder(folder)
    (tmp_path / "a").chmod(0o755)
    give_away(folder)
    with pytest.raises(PermissionError, match="c belongs to user"):
        trusted_folder(folder)


def test_a_container_without_root():
    """Where this system lets a user have one."""
    inside = ["unshare", "--user", f"--map-user={os.geteuid() or 1000}"]
    trial = [*inside, sys.executable, "-c", ""]
    if not shutil.which("unshare") or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("no user namespace that can run this Python")
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['_owner_in_place_of_root']())"
    command = [*inside, sys.executable, "-I", "-c", code, trust.__file__]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == Path("/proc/sys/kernel/overflowuid").read_text().strip()


# ---- files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    create(path, b"content")
    assert read_trusted(path) == b"content"
    return path


def test_a_file_that_others_can_write_to(file, give_away):
    for mode in (0o664, 0o646, 0o666):
        file.chmod(mode)
        with pytest.raises(PermissionError, match=rf"can write to {file} \(chmod go-w"):
            read_trusted(file)
    file.chmod(0o644)
    assert read_trusted(file) == b"content"
    give_away(file)
    with pytest.raises(PermissionError, match=f"^{file} belongs to user {STRANGER}, not to user"):
        read_trusted(file)


def test_what_is_no_file(file, tmp_path):
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: who waits, waits for ever
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(OSError, match=name):
            read_trusted(tmp_path / name)
    with pytest.raises(OSError, match="/dev/zero is not a regular file"):
        read_trusted(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_trusted(tmp_path / "gone")


def test_a_file_that_is_larger_than_any_kernel(file):
    os.truncate(file, 1 << 40)
    with pytest.raises(OSError, match="file has 1099511627776 bytes, more than 67108864"):
        read_trusted(file)


def test_a_new_file_is_this_users_alone_to_write(tmp_path):
    before = os.umask(0o000)
    try:
        create(tmp_path / "new", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644


def test_what_is_there_is_not_written_to(file, tmp_path):
    (tmp_path / "planted").symlink_to(tmp_path / "target")
    for path in (file, tmp_path / "planted"):
        with pytest.raises(FileExistsError):
            create(path, b"other")
    assert read_trusted(file) == b"content"
    assert not (tmp_path / "target").exists()
