"""Where compiled kernels are kept between processes.

Numba's own ``cache=True`` leaves holes that this store closes: an edit to a helper in another file
leaves its cached caller stale; two dispatchers made from one function share an entry; an index file
that processes rewrite at the same time can pair a signature with another one's code; machine code
that refers to a symbol of another entry (see ``link``) is loaded without it. Here an entry is one
file, named by a hash of everything that its machine code depends on, and it appears whole by a
rename. So there is no index, nothing to invalidate and nothing to lock.

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

_log = logging.getLogger("fastmaml")
_CHECKSUM = 32  # bytes of it at the start of an entry
#: days after its last use that the folder of another version is removed
_KEEP_DAYS = 90


def _digest() -> str | None:
    """Hash of every kernel source and of what compiles it; None if the sources are not files."""
    digest = hashlib.sha256()
    try:
        sources = sorted(Path(__file__).parent.glob("*.py"))
        for path in sources:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
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
    user = f"fastmaml-{os.getuid()}" if hasattr(os, "getuid") else "fastmaml"
    bases = [Path(tempfile.gettempdir()) / user]
    if home and os.path.isabs(home):  # "~" stays where nobody knows the user's home
        bases.insert(0, Path(home) / "fastmaml")
    return bases


def _trusted(folder: Path) -> bool:
    """Whether a folder is there, and nobody but its owner, this user or root, may write to it."""
    if not folder.is_dir():
        return False
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o002


def _writable(folder: Path) -> bool:
    """Whether entries can be written to a folder; makes it if need be."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Entries are unpickled: what others can put there must never be loaded.
        if not _trusted(folder.parent):
            return False
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            _prune(folder)
        with tempfile.TemporaryFile(dir=folder):
            os.utime(folder)  # in use
        return _trusted(folder)
    except OSError:
        return False


def _prune(new: Path) -> None:
    """Remove the folders beside a new one that nobody has used for long.

    A process that still uses one loses nothing but what it kept.
    """
    oldest = time.time() - _KEEP_DAYS * 24 * 3600
    for folder in new.parent.iterdir():
        with contextlib.suppress(OSError):
            if re.fullmatch("[0-9a-f]{24}", folder.name) and folder.stat().st_mtime < oldest:
                for entry in folder.glob("*.nbc*"):
                    entry.unlink()
                folder.rmdir()


@functools.cache
def cache_folder() -> Path | None:
    """The folder of this version's compiled kernels, or None where nothing can be kept."""
    if os.environ.get("FASTMAML_CACHE", "1") == "0" or config.DISABLE_JIT or _DIGEST is None:
        return None
    folders = [base / _DIGEST for base in _bases()]
    for folder in folders:
        if _writable(folder):
            return folder
    for folder in folders:  # what is in a read-only folder, or on a full disk, is still good
        with contextlib.suppress(OSError):
            if _trusted(folder.parent) and _trusted(folder):
                return folder
    _log.warning("compiled kernels cannot be kept in any of: %s", ", ".join(map(str, _bases())))
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

    def _entry(self, signature: Any, codegen: Any) -> Path | None:
        if self.cache_path is None:
            return None
        key = repr((self._name, str(signature), codegen.magic_tuple()))
        return self.cache_path / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function of a signature, or None when it is not in the store."""
        entry = self._entry(sig, target_context.codegen())
        if entry is None:
            return None
        try:
            stored = entry.read_bytes()
            content = stored[_CHECKSUM:]
            if hashlib.sha256(content).digest() != stored[:_CHECKSUM]:
                raise ValueError(f"{entry} is damaged")
            references, payload = pickle.loads(content)
            for reference in references:
                self._provide(reference)
            # Numba would load all its registries here (and SciPy with them). To run machine code,
            # its memory system is enough; if something is to be compiled, numba loads them then.
            rtsys.initialize(target_context)
            return CompileResult._rebuild(target_context, *payload)
        except FileNotFoundError:
            return None
        except Exception as error:  # as good as no entry: compile, and write it anew
            _log.warning("cannot load %s from the kernel cache: %r", self._name, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a compiled function. A full or read-only disk costs the entry, never the call."""
        entry = self._entry(sig, data.library.codegen)
        if entry is None:
            return
        temporary = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:16]}")
        try:
            content = dumps((self._references(data.library), data._reduce()))
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            os.replace(temporary, entry)
        except Exception as error:
            _log.debug("cannot keep %s: %r", self._name, error)
        finally:  # Ctrl-C too leaves nothing half-written
            with contextlib.suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        """Nothing to do: entries are written whole when they are made."""
