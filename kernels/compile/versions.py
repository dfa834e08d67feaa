"""Compiled versions of linked functions: from the store or Numba to a symbol of this process.

Numba compiles a version as far as LLVM's module. Its machine code is made by whoever has time
(`elsewhere`), and nobody waits for it before a caller is to run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

from . import elsewhere
from .cache import DiskCache

# Versions without a symbol yet; callees come before their callers.
_pending: list[Version] = []


class Version:
    """A linked function, compiled for the types of its arguments.

    It has a symbol and an address after `load_pending`. Numba's compiler lock is held.

    Parameters
    ----------
    function : callable
    signature : numba.core.typing.Signature
    symbol : str
        What LLVM is to know it by.
    store : DiskCache or None
    forget : callable
        Is called if the version came to nothing.
    """

    def __init__(
        self, function: Callable[..., Any], signature: Any, symbol: str,
        store: DiskCache | None, forget: Callable[[], Any],
    ) -> None:  # fmt: skip
        self.symbol, self.address, self.forget = symbol, 0, forget
        self._signature, self._store = signature, store
        self._compiled: Any = None
        self._job: elsewhere.Job | None = None
        if store is not None:
            self._compiled = store.load_overload(signature, cpu_target.target_context)
        if self._compiled is None:
            from .pipeline import compiled  # takes 20 ms, and most processes load what they call

            self._compiled = compiled(function, signature, cpu_target)
            self._job = elsewhere.submit(self._compiled.library.gathered())
        _pending.append(self)

    def help(self) -> None:
        """Make the machine code here, if nobody has begun."""
        if self._job is not None:
            self._job.make()

    def load(self) -> None:
        """Have the symbol, and an entry in the store."""
        library, described = self._compiled.library, self._compiled.fndesc
        if self._job is not None:
            for symbol in declared(library):
                if not llvm.address_of_symbol(symbol):  # LLVM would end the process
                    raise LookupError(f"no symbol {symbol}")
            library.use(self._job.code())
            if self._store is not None:
                self._store.save_overload(self._signature, self._compiled)
            self._job = None
        self.address = library.get_pointer_to_function(described.llvm_cfunc_wrapper_name)
        llvm.add_symbol(self.symbol, self.address)


def load_pending() -> None:
    """Have the symbols of all versions. Numba's compiler lock is held.

    Who is interrupted forgets them, so that they are compiled anew when they are asked for again.
    """
    try:
        for version in reversed(_pending):
            version.help()
        for version in _pending:
            version.load()
        _pending.clear()
    except BaseException:
        while _pending:
            _pending[-1].forget()
            _pending.pop()
        elsewhere.forget()
        raise


def declared(library: Any) -> list[str]:
    """The symbols of linked functions that a code library refers to.

    Read off its module, so that no way in which numba comes to emit a call can be missed.
    """
    functions = library._final_module.functions
    names = [each.name for each in functions if each.is_declaration]
    return sorted(name for name in names if name.startswith("fastmaml_"))
