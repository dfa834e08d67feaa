"""Where compiled kernels are kept between processes.

Numba's own ``cache=True`` leaves holes that this store closes: an edit to a helper in another file
leaves its cached caller stale; two dispatchers made from one function share an entry; an index file
that processes rewrite at the same time can pair a signature with another one's code; machine code
that refers to a symbol of another entry (see ``link``) is loaded without it. Here an entry is one
file, named by a hash of everything that its machine code depends on, and it appears whole by a
rename. So there is no index, nothing to invalidate and nothing to lock. An entry holds that hash
too, and a checksum of it all. It is unpickled only if nobody else can have written it (``trust``).

``FASTMAML_CACHE=0`` turns the store off, ``FASTMAML_CACHE_DIR`` (or ``NUMBA_CACHE_DIR``) moves it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import re
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy
from numba import config
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from .trust import create, read_trusted, trusted_folder

_log = logging.getLogger("fastmaml")
_HASH = 32  # bytes of the checksum that an entry starts with, and of the key that follows it
#: days after its last use that the folder of another version is removed
_KEEP_DAYS = 90


def _digest() -> str | None:
    """Hash of every kernel source and of what compiles it; None if the sources are not files."""
    digest = hashlib.sha256()
    try:
        folder = Path(__file__).parents[1]
        sources = sorted(folder.rglob("*.py"))
        for path in sources:
            name = path.relative_to(folder).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    except OSError:
        return None
    settings = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")
    compiler = [sys.version, numba.__version__, llvmlite.__version__, numpy.__version__]
    compiler += [f"{name}={getattr(config, name, None)}" for name in settings]
    digest.update(repr(compiler).encode())
    return digest.hexdigest()[:24] if sources else None


# Taken at import, before anybody edits the sources that this process is about to run.
_DIGEST = _digest()


def _bases() -> list[Path]:
    """Where the folder may be, best first."""
    chosen = os.environ.get("FASTMAML_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen) / "fastmaml"]
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        home = os.path.expanduser("~/Library/Caches")
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    user = f"fastmaml-{os.geteuid()}" if hasattr(os, "geteuid") else "fastmaml"
    bases = [Path(tempfile.gettempdir()) / user]
    if home and os.path.isabs(home):  # "~" stays where nobody knows the user's home
        bases.insert(0, Path(home) / "fastmaml")
    return bases


def _prepared(folder: Path) -> Path:
    """Make a folder if need be; raise OSError if entries cannot be written to it in safety."""
    base = trusted_folder(folder.parent, make=True)
    with contextlib.suppress(FileExistsError):
        (base / folder.name).mkdir(mode=0o700)
        _prune(base / folder.name)
    folder = trusted_folder(base / folder.name)
    with tempfile.TemporaryFile(dir=folder):
        os.utime(folder)  # in use
    return folder


def _prune(new: Path) -> None:
    """Remove the folders beside a new one that nobody has used for long.

    A process that still uses one loses nothing but what it kept.
    """
    oldest = time.time() - _KEEP_DAYS * 24 * 3600
    for folder in new.parent.iterdir():
        with contextlib.suppress(OSError):
            status = folder.lstat()  # a link is not ours to follow
            ours = re.fullmatch("[0-9a-f]{24}", folder.name) and stat.S_ISDIR(status.st_mode)
            if ours and status.st_mtime < oldest:
                for entry in folder.glob("*.nbc*"):
                    entry.unlink()
                folder.rmdir()


@functools.cache
def cache_folder() -> Path | None:
    """The folder of this version's compiled kernels, or None where nothing can be kept."""
    if os.environ.get("FASTMAML_CACHE", "1") == "0" or config.DISABLE_JIT or _DIGEST is None:
        return None
    folders = [base / _DIGEST for base in _bases()]
    refused = []
    for folder in folders:
        try:
            found = _prepared(folder)
        except OSError as error:
            refused.append(f"{folder.parent}: {error}")
            continue
        if refused:
            _log.info("compiled kernels are kept in %s, not in %s", found, "; ".join(refused))
        return found
    for folder in folders:  # what is in a read-only folder, or on a full disk, is still good
        with contextlib.suppress(OSError):
            return trusted_folder(folder)
    _log.warning("every process compiles, for kernels cannot be kept in %s", "; ".join(refused))
    return None


class DiskCache:
    """The cache object of one compiled function, as numba's compiler calls it.

    A function is stored with a list of what its machine code refers to. Before it is loaded, each
    of these is handed to ``provide``, which raises if it cannot be had: LLVM ends the process for
    an unknown symbol.

    Parameters
    ----------
    name : str
        Of the function, with its module.
    references : callable
        From a code library to the references in its machine code.
    provide : callable
        Makes sure that a reference can be resolved.
    """  # fmt: skip

    def __init__(
        self, name: str, references: Callable[[Any], list[Any]], provide: Callable[[Any], None]
    ) -> None:
        self._name = name
        self._references = references
        self._provide = provide
        self.cache_path = cache_folder()

    def _key(self, signature: Any, codegen: Any) -> bytes:
        """Hash of what the machine code of a signature depends on."""
        key = repr((_DIGEST, self._name, str(signature), codegen.magic_tuple()))
        return hashlib.sha256(key.encode()).digest()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function of a signature, or None when it is not in the store."""
        if self.cache_path is None:
            return None
        key = self._key(sig, target_context.codegen())
        entry = self.cache_path / _file_name(key)
        try:
            references, payload = pickle.loads(_content(read_trusted(entry), key))
            for reference in references:
                self._provide(reference)
            # Numba would load all its registries here (and SciPy with them). To run machine code,
            # its memory system is enough; if something is to be compiled, numba loads them then.
            rtsys.initialize(target_context)
            return CompileResult._rebuild(target_context, *payload)
        except FileNotFoundError:
            return None
        except Exception as error:  # as good as no entry: compile, and write it anew
            _log.warning("cannot load %s from %s: %r", self._name, entry, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a compiled function. A full or read-only disk costs the entry, never the call."""
        if self.cache_path is None:
            return
        key = self._key(sig, data.library.codegen)
        entry = self.cache_path / _file_name(key)
        temporary = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:16]}")
        try:
            content = dumps((self._references(data.library), data._reduce()))
            create(temporary, _sealed(key, content))
            os.replace(temporary, entry)
        except Exception as error:
            _log.debug("cannot keep %s: %r", self._name, error)
        finally:  # Ctrl-C too leaves nothing half-written
            with contextlib.suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        """Nothing to do: entries are written whole when they are made."""


def _file_name(key: bytes) -> str:
    return f"{key.hex()[:40]}.nbc"


def _sealed(key: bytes, content: bytes) -> bytes:
    """An entry: its checksum, its key, its content."""
    return hashlib.sha256(key + content).digest() + key + content


def _content(entry: bytes, key: bytes) -> memoryview:
    """The content of an entry, which must be whole and the one that the key stands for."""
    checked = memoryview(entry)[_HASH:]
    if hashlib.sha256(checked).digest() != entry[:_HASH]:
        raise ValueError("it is damaged")
    if checked[:_HASH] != key:
        raise ValueError("it is the entry of another function")
    return checked[_HASH:]
