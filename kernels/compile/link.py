"""Kernels in pieces: functions that are compiled once and called through their symbol.

Numba compiles a callee anew into every caller, and into every caller of that. For a kernel of
thirty helpers most of the time goes into compiling the same code a dozen times. ``@linked``
compiles a function once for each set of argument types, under the C calling convention and a name
of its own in LLVM's symbol table; callers only refer to the name. All methods and both twins of a
kernel then run the very same machine code, which is also why their bits agree.

Inside a linked function every array is a bare pointer to its first number, so it takes sizes as
arguments. Integers and booleans arrive as int64, other numbers as float64, records as pointers, and
named tuples of all these as they are. It returns nothing, or a float64 if its definition is
annotated ``-> float``; Numba refuses to compile one that returns anything else. Where the JIT is
off, the decorator only makes arrays flat, in tuples too.

A function may also be reached by its address, which is a number in an array: whoever calls is then
compiled once for all functions of that signature (`addresses_of`, `by_address`).

Numba's own disk cache knows nothing of such symbols: what it stored would be loaded into a process
that lacks them, and LLVM would end that process. So every caller is marked as one that numba must
not cache (``cache=True`` then warns and compiles anew), and our own store keeps a list of the
symbols (``stored``).
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import TypingError
from numba.core.extending import _Intrinsic, intrinsic

from .cache import DiskCache
from .versions import Version, declared, load_pending

Types = tuple[types.Type, ...]
_PACKAGE = __name__.removesuffix("compile.link")
_registry: dict[str, _Piece] = {}
_serials = itertools.count(1)
# What each symbol is: the name of a linked function, and the types of its arguments.
_symbols: dict[str, tuple[str, Types]] = {}


def stored(name: str) -> DiskCache:
    """The disk cache of a function whose machine code may refer to linked functions."""
    return DiskCache(name, _references, _provide)


def _references(library: Any) -> list[tuple[str, str, Types]]:
    """What machine code refers to: a symbol, and what it is."""
    return [(symbol, *_symbols[symbol]) for symbol in declared(library)]


def _provide(reference: tuple[str, str, Types]) -> None:
    """Make sure that a symbol exists in this process."""
    symbol, name, arguments = reference
    _registry[name].require(arguments)
    load_pending()
    if not llvm.address_of_symbol(symbol):
        raise LookupError(f"no symbol {symbol}")


def _result_of(function: Callable[..., Any]) -> types.Type:
    """What a function returns, by its annotation: a type, or a type's name (PEP 563)."""
    annotation = function.__annotations__.get("return")
    if annotation in (None, "None"):
        return types.void
    if annotation in (float, "float"):
        return types.float64
    raise TypeError(
        f"{function.__qualname__} is annotated -> {annotation!r}, a linked function returns float "
        "or, without an annotation, nothing"
    )


def _passed_as(argument: types.Type) -> types.Type:
    """The C type that an argument of a call is passed as."""
    if isinstance(argument, types.Array) and argument.is_c_contig:
        return types.CPointer(argument.dtype)
    if isinstance(argument, types.CPointer | types.Record):
        return argument
    if isinstance(argument, types.BaseNamedTuple):
        parts = [_passed_as(part) for part in argument]
        return types.BaseTuple.from_types(parts, argument.instance_class)
    if isinstance(argument, types.Integer | types.Boolean | types.IntegerLiteral):
        return types.int64
    if isinstance(argument, types.Float):
        return types.float64
    raise TypingError(
        f"a linked function takes C-contiguous arrays, numbers, records and named tuples of such, "
        f"not {argument}"
    )


def _sent(context: Any, builder: Any, value: Any, given: types.Type, wanted: types.Type) -> Any:
    """The value of an argument, as what it is passed as."""
    if given == wanted:
        return value
    if isinstance(given, types.Array):
        return cgutils.create_struct_proxy(given)(context, builder, value=value).data
    if isinstance(given, types.BaseNamedTuple):
        parts = cgutils.unpack_tuple(builder, value, len(given))
        sent = [_sent(context, builder, *each) for each in zip(parts, given, wanted, strict=True)]
        return context.make_tuple(builder, wanted, sent)
    return context.cast(builder, value, given, wanted)


def _function_type(context: Any, result: types.Type, sent: list[Any]) -> ir.FunctionType:
    """The type of a linked function that is called with such values."""
    returned = ir.VoidType() if result is types.void else context.get_value_type(result)
    return ir.FunctionType(returned, [value.type for value in sent])


def _returned(context: Any, result: types.Type, value: Any) -> Any:
    """What a call has for numba."""
    return context.get_dummy_value() if result is types.void else value


class _Piece:
    """One linked function and its compiled versions."""

    def __init__(self, function: Callable[..., Any], made_of: str | None = None) -> None:
        self.name = f"{function.__module__}.{function.__qualname__}"
        if made_of is not None:
            self.name += f":{hashlib.sha256(made_of.encode()).hexdigest()}"
        # Of the package, a name stands for one function, and the store watches its source. There
        # may be many of a name from elsewhere, made by a function or an edit, and what they depend
        # on nobody watches: they are compiled in every process. What the package itself makes of a
        # text is named by that text.
        self._of_package = function.__module__.startswith(_PACKAGE)
        self._serial = 0 if self._of_package else next(_serials)
        self._function, self.result = function, _result_of(function)
        self._versions: dict[Types, Version] = {}

    def require(self, arguments: Types) -> Version:
        """The version for these argument types, compiled or loaded if need be.

        Numba's compiler lock is held here: a caller is being compiled or loaded. Before that runs,
        ``load_pending`` has the symbol.
        """
        if arguments not in self._versions:
            made_of = hashlib.sha256(repr((self.name, arguments, self._serial)).encode())
            symbol = f"fastmaml_{self._function.__name__}_{made_of.hexdigest()[:16]}"
            _symbols[symbol] = self.name, arguments
            store = stored(self.name) if self._of_package else None
            self._versions[arguments] = Version(
                self._function, self.result(*arguments), symbol, store,
                forget=lambda: self._versions.pop(arguments, None),
            )  # fmt: skip
        return self._versions[arguments]

    def call(self, typingctx: Any, *arguments: types.Type) -> Any:
        """Type and emit one call."""
        passed = tuple(_passed_as(argument) for argument in arguments)
        self.require(passed)
        result = self.result

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            from .pipeline import Library

            _forbid_numba_cache(builder.module)
            symbol = self.require(passed).symbol  # it may have been forgotten since it was typed
            if not isinstance(context.active_code_library, Library):  # numba will load the caller
                load_pending()
            sent = [
                _sent(context, builder, *each)
                for each in zip(values, arguments, passed, strict=True)
            ]
            kind = _function_type(context, result, sent)
            function = cgutils.get_or_insert_function(builder.module, kind, symbol)
            return _returned(context, result, builder.call(function, sent))

        return result(*arguments), emit


def _forbid_numba_cache(module: ir.Module) -> None:
    """Mark a module as numba marks those that hold addresses: it does not cache them."""
    name = "numba.dynamic.globals.fastmaml"
    if name not in module.globals:
        mark = cgutils.add_global_variable(module, ir.IntType(8), name)
        mark.linkage = "weak"  # neither dropped for want of use nor in conflict with itself
        mark.initializer = ir.Constant(ir.IntType(8), 0)


class _Linked(_Intrinsic):
    """A linked function as compiled code sees it; a call from Python compiles a caller first."""

    @functools.cached_property
    def _caller(self) -> Any:
        names = ", ".join(list(inspect.signature(self._defn).parameters)[1:])
        scope = {"callee": self}
        exec(f"def caller({names}):\n    return callee({names})", scope)
        return njit(scope["caller"])

    def __call__(self, *arguments: Any) -> Any:
        return self._caller(*arguments)


def _flat(argument: Any) -> Any:
    """An array as a flat one, in a named tuple too."""
    if isinstance(argument, tuple):
        return type(argument)(*map(_flat, argument))
    if isinstance(argument, np.ndarray) and argument.ndim != 1:
        return argument.reshape(-1)
    return argument


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as Python runs it, with the arrays of its callers made flat."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*map(_flat, arguments))

    return call


def linked(function: Callable[..., Any], made_of: str | None = None) -> Any:
    """Compile a function on its own, once for each set of argument types; see the module.

    Parameters
    ----------
    function : callable
    made_of : str, optional
        Of a function that a function of the package makes: all that tells it from others made
        there.

    Raises
    ------
    TypeError
        If it is annotated to return anything but float.
    """
    if config.DISABLE_JIT:
        _result_of(function)
        return _plain(function)
    piece = _Piece(function, made_of)
    _registry[piece.name] = piece

    def definition(typingctx, *arguments):
        return piece.call(typingctx, *arguments)

    # Numba matches a call against the definition's signature: typing context first, then the
    # arguments.
    own = inspect.signature(definition).parameters["typingctx"]
    parameters = inspect.signature(function).parameters.values()
    definition.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    definition.__name__, definition.__doc__ = function.__name__, function.__doc__
    made = _Linked(function.__name__, definition)
    made._register()
    made.piece = piece
    return made


# Calls by address --------------------------------------------------------------------------------


def _missing(*arguments: Any) -> None:
    raise LookupError("a function is called whose address was not asked for")


# Where the JIT is off, an address is a place in this list. (0 is none; where the JIT is on, a call
# of it ends the process.)
_called: list[Callable[..., Any]] = [_missing]


class Asked(NamedTuple):
    """A linked function that is to be reached by address."""

    function: Any
    arguments: Types
    result: types.Type = types.void


def addresses_of(asked: Sequence[Asked | None]) -> list[int]:
    """Where the versions of linked functions for some argument types lie; compiled if need be.

    Of None, it is 0.

    Raises
    ------
    TypeError
        If it is no linked function, or does not return what the caller takes.
    LookupError
        If it could not be loaded; the log says why.
    """
    if config.DISABLE_JIT:
        return [_place(each.function) if each is not None else 0 for each in asked]
    with global_compiler_lock:
        versions = [_version_of(*each) if each is not None else None for each in asked]
        load_pending()
        addresses = [version.address if version is not None else 0 for version in versions]
    for each, address in zip(asked, addresses, strict=True):
        if each is not None and not address:  # compiled code would call it
            raise LookupError(f"{each.function.piece.name} has no address")
    return addresses


def _version_of(function: Any, arguments: Types, result: types.Type) -> Version:
    if not isinstance(function, _Linked):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"{name} is not a linked function (kernels.compile.link.linked)")
    if function.piece.result != result:
        raise TypeError(
            f"{function.piece.name} returns {function.piece.result}; accepted is {result}"
        )
    version: Version = function.piece.require(arguments)
    return version


def _place(function: Callable[..., Any]) -> int:
    if function not in _called:
        _called.append(function)
    return _called.index(function)


def by_address(versions: tuple[Types, ...], result: types.Type = types.void) -> Any:
    """A call in compiled code, ``call(address, (argument, ...))``, of functions of one signature.

    ``versions`` are the types that the arguments may have: what `addresses_of` was given for the
    function that lies there, which is not checked again.
    """
    if config.DISABLE_JIT:
        return lambda address, arguments: _called[address](*arguments)

    @intrinsic
    def call(typingctx, address, arguments):
        passed = tuple(_passed_as(argument) for argument in arguments)
        if passed not in versions:
            raise TypingError(f"called with {passed}; accepted are {versions}")

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            given = cgutils.unpack_tuple(builder, values[1], len(passed))
            sent = [
                _sent(context, builder, *each)
                for each in zip(given, arguments, passed, strict=True)
            ]
            kind = _function_type(context, result, sent)
            function = builder.inttoptr(values[0], kind.as_pointer())
            return _returned(context, result, builder.call(function, sent))

        return result(types.int64, arguments), emit

    return call
