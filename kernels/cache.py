"""Where compiled kernels are kept between processes.

Numba's own ``cache=True`` leaves three holes that this store closes: an edit to a helper in another
file leaves its cached caller stale; two dispatchers made from one function share an entry; and an
index file that processes rewrite at the same time can pair a signature with another one's code. Here an
entry is one file, named by a hash of everything that its machine code depends on, and it appears
whole by a rename. So there is no index, nothing to invalidate and nothing to lock.

``FASTMAML_CACHE=0`` turns the store off, ``FASTMAML_CACHE_DIR`` (or ``NUMBA_CACHE_DIR``) moves it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import llvmlite
import numba
import numpy
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_log = logging.getLogger("fastmaml")


def _source_digest() -> str | None:
    """Hash of every kernel source and of the versions that compile it; None if they are not files."""
    digest = hashlib.sha256()
    try:
        for path in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    except OSError:
        return None
    versions = (sys.version, numba.__version__, llvmlite.__version__, numpy.__version__)
    digest.update(repr(versions).encode())
    return digest.hexdigest()[:24]


# Taken at import, before anybody edits the sources that this process is about to run.
_DIGEST = _source_digest()


def _candidates() -> list[Path]:
    folders = [os.environ.get("FASTMAML_CACHE_DIR"), os.environ.get("NUMBA_CACHE_DIR")]
    chosen = next((Path(folder) for folder in folders if folder), None)
    if chosen is not None:
        return [chosen / "fastmaml"]
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    user = f"fastmaml-{os.getuid()}" if hasattr(os, "getuid") else "fastmaml"
    found = [Path(tempfile.gettempdir()) / user]
    if base and not base.startswith("~"):
        found.insert(0, Path(base) / "fastmaml")
    return found


def _usable(folder: Path) -> bool:
    """Whether the folder is there, ours alone to write to, and writable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Entries are unpickled, so a folder that somebody else owns must not be trusted.
        ours = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
        with tempfile.TemporaryFile(dir=folder):
            return ours
    except OSError:
        return False


@functools.cache
def cache_folder() -> Path | None:
    """The folder of this version's compiled kernels, or None where nothing can be kept."""
    if os.environ.get("FASTMAML_CACHE", "1") == "0" or numba.config.DISABLE_JIT or _DIGEST is None:
        return None
    folders = (candidate / _DIGEST for candidate in _candidates())
    return next((folder for folder in folders if _usable(folder)), None)


class DiskCache:
    """The cache object of one compiled function: the part of numba's interface that compiling calls.

    A function that calls others by symbol (see ``link``) is stored with the list of them, and loading it
    first calls ``load`` on each, so that every symbol exists when machine code that refers to it is linked.
    """

    # What the functions that are being compiled now, outermost first, refer to. Numba's compiler lock is
    # held from the load_overload that misses to the save_overload that ends the compilation.
    _compiling: ClassVar[list[dict[tuple[str, Any], None]]] = []

    def __init__(self, name: str, load: Callable[[str, Any], None]) -> None:
        self._name = name
        self._load = load
        self.cache_path = cache_folder()

    @classmethod
    def note(cls, name: str, arguments: Any) -> None:
        """Remember that the function being compiled refers to another one."""
        if cls._compiling:
            cls._compiling[-1][name, arguments] = None

    def _entry(self, signature: Any, codegen: Any) -> Path | None:
        if self.cache_path is None:
            return None
        key = repr((self._name, str(signature), codegen.magic_tuple()))
        return self.cache_path / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function of a signature, or None when it is not in the store."""
        target_context.refresh()
        entry = self._entry(sig, target_context.codegen())
        if entry is not None:
            try:
                references, payload = pickle.loads(entry.read_bytes())
                for name, arguments in references:
                    self._load(name, arguments)
                return CompileResult._rebuild(target_context, *payload)
            except FileNotFoundError:
                pass
            except Exception as error:  # a damaged entry is as good as none: compile, and write it anew
                _log.warning("cannot load %s from the kernel cache: %r", self._name, error)
        self._compiling.append({})
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a compiled function. A full or read-only disk costs the entry, never the call."""
        references = list(self._compiling.pop())
        entry = self._entry(sig, data.codegen if hasattr(data, "codegen") else data.library.codegen)
        if entry is None:
            return
        temporary = entry.with_suffix(f".{uuid.uuid4().hex[:16]}.tmp")
        try:
            temporary.write_bytes(dumps((references, data._reduce())))
            os.replace(temporary, entry)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        """Nothing to do: entries are written whole when they are made."""
