"""Numba's compiler for linked functions, less what they do not need.

Numba takes the statements of an inlined function (``jit.helper``) in anew wherever it is called:
it translates the function's bytecode and runs a dozen passes over it, which was a tenth of the time
that a first call took. Here the statements are kept. (They are copied before they are changed.)

It also has LLVM optimise every function before the module that it is in, as a preparation for
inlining; that was another tenth, and linked functions are no slower without it.

What is compiled here ends as a module that LLVM has not seen to: that may be done `elsewhere`.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.ccallback import _CFuncCompiler
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.inline_closurecall import InlineWorker, callee_ir_validator
from numba.core.untyped_passes import InlineInlinables

# Statements of a helper, with those of the helpers that it calls.
_read: dict[Callable[..., Any], Any] = {}


class _Worker(InlineWorker):
    """Numba's inliner, with a memory."""

    def __init__(self, state: Any) -> None:
        given = state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags
        super().__init__(*given, validator=callee_ir_validator)
        self._compiler_pipeline = _untyped

    def run_untyped_passes(self, func: Callable[..., Any], enable_ssa: bool = False) -> Any:
        """The function's statements, as numba has them."""
        if enable_ssa:
            return super().run_untyped_passes(func, enable_ssa)
        if func not in _read:
            _read[func] = super().run_untyped_passes(func)
        return _read[func]


@register_pass(mutates_CFG=True, analysis_only=False)
class InlineHelpers(InlineInlinables):
    """Numba's pass, with that inliner."""

    _name = "inline_helpers"

    def _do_work(self, state: Any, work_list: Any, block: Any, i: int, expr: Any, _: Any) -> Any:
        return super()._do_work(state, work_list, block, i, expr, _Worker(state))


def _with_helpers(manager: PassManager) -> PassManager:
    """Replace one pass."""
    manager.passes = [
        (InlineHelpers if each is InlineInlinables else each, why) for each, why in manager.passes
    ]
    manager.finalize()
    return manager


def _untyped(state: Any) -> PassManager:
    return _with_helpers(DefaultPassBuilder.define_untyped_pipeline(state))


class Library(JITCodeLibrary):
    """Numba's machine code of one function, which LLVM optimises once, wherever that is."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout  # the rest of what this does

    def gathered(self) -> bytes:
        """The module with all that is linked into it, as bitcode."""
        self._codegen._check_llvm_bugs()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._final_module.verify()
        return bytes(self._final_module.as_bitcode())

    def use(self, code: bytes) -> None:
        """Load the machine code of the module."""
        self._set_compiled_object(code)
        self._finalize_final_module()
        if self._compiled:  # by LLVM, as it stood
            raise RuntimeError(f"the machine code of {self.name} was not taken")
        self._compiled_object = code  # which loading has taken; it is to be stored

    def serialize_using_object_code(self) -> tuple[str, str, tuple[bytes, bytes]]:
        """What numba loads: the machine code, and a module to link into others.

        Nobody links this one; numba reads it for the names of what may be in the code.
        """
        functions = [each for each in self._final_module.functions if not each.is_declaration]
        names = "\n".join(f'define void @"{each.name}"() {{ ret void }}' for each in functions)
        stub = llvm.parse_assembly(names).as_bitcode()
        return self.name, "object", (self._get_compiled_object(), stub)


class _Pipeline(CompilerBase):
    """Numba's pipeline without Python objects."""

    def define_pipelines(self) -> list[PassManager]:
        """The passes, which find a library to write to."""
        state = self.state
        state.library = Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return [_with_helpers(DefaultPassBuilder.define_nopython_pipeline(state))]


class _Compiler(_CFuncCompiler):
    """Numba's compiler of C functions, without the C function: `compiled` adds its own."""

    def _customize_flags(self, flags: Any) -> Any:
        flags = super()._customize_flags(flags)
        flags.no_cfunc_wrapper = True
        flags.no_rewrites = True  # of NumPy's array expressions and the like
        return flags


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Python's search for garbage held off: a tenth of the time to compile, and little is found.

    It is off for all threads. (One that turns it off itself meanwhile finds it on afterwards.)
    """
    enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if enabled:
            gc.enable()


@_no_collection()
def compiled(function: Callable[..., Any], signature: Any, targetdescr: Any) -> CompileResult:
    """A function with a C entry into which its body is inlined, as far as LLVM's module.

    Numba's own entry calls the body and hands on each argument, which takes as long as a small
    product; it is there to print exceptions. Here a number is NaN where a user's function raises.
    """
    options = {"error_model": "numpy", "forceinline": True}
    compiler = _Compiler(function, targetdescr, options, {}, _Pipeline)
    made = compiler.compile(signature.args, signature.return_type)
    context, described = made.target_context, made.fndesc
    module = context.create_module("linked")
    values = [context.get_value_type(kind) for kind in described.argtypes]
    result = context.get_value_type(described.restype)
    name = described.llvm_cfunc_wrapper_name
    entry = ir.Function(module, ir.FunctionType(result, values), name)
    body_type = context.call_conv.get_function_type(described.restype, described.argtypes)
    body = ir.Function(module, body_type, described.llvm_func_name)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    status, value = context.call_conv.call_function(
        builder, body, described.restype, described.argtypes, entry.args
    )
    if described.restype == types.float64:  # a user's function may raise
        value = builder.select(status.is_ok, value, ir.Constant(result, math.nan))
    builder.ret(value)
    made.library.add_ir_module(module)
    return made
