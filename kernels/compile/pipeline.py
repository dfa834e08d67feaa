"""Numba's compiler for linked functions, less what they do not need.

Numba takes the statements of an inlined function (``jit.helper``) in anew wherever it is called:
it translates the function's bytecode and runs a dozen passes over it, which was a tenth of the time
that a first call took. Here the statements are kept. (They are copied before they are changed.)

It also has LLVM optimise every function before the module that it is in, as a preparation for
inlining; that was another tenth, and linked functions are no slower without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
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


class _Library(JITCodeLibrary):
    """Numba's machine code of one function, which LLVM optimises once."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout  # the rest of what this does


class Pipeline(CompilerBase):
    """Numba's pipeline without Python objects."""

    def define_pipelines(self) -> list[PassManager]:
        """The passes, which find a library to write to."""
        state = self.state
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return [_with_helpers(DefaultPassBuilder.define_nopython_pipeline(state))]
