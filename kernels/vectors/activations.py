"""Activations: phi, phi' and phi'' of a block of numbers in one pass of vector instructions.

Numba has no vectorised exp, tanh or erf: each ``math`` call costs about 25 ns a number. Here every
activation is a branch-free formula, written once (``formulas``) for two machines (``machines``).
This module makes functions of them that kernels can call: one LLVM function with all formulas,
for whole vectors, and around it what a block of any length needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile.link import linked
from .formulas import FORMULAS
from .machines import Arrays, Registers

CODES: dict[str, int] = {formula.__name__: code for code, formula in enumerate(FORMULAS)}
#: phi'' is zero for the codes below this one
PIECEWISE_LINEAR = CODES["leaky_relu"] + 1


def _write_function(module, m, outputs):
    """An LLVM function of code, input pointer, output pointers and number of vectors.

    It is kept out of line, so that a kernel with many calls compiles it once.
    """
    name = f"fastmaml_activation_{m.suffix}_{outputs}"
    if name in module.globals:
        return module.globals[name]
    integer = ir.IntType(64)
    pointers = [m.scalar.as_pointer()] * (1 + outputs)
    kind = ir.FunctionType(ir.VoidType(), [integer, *pointers, integer])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    code, *pointers, count = function.args
    m.builder = b = ir.IRBuilder(function.append_basic_block("entry"))
    done = function.append_basic_block("done")
    switch = b.switch(code, done)
    for number, formula in enumerate(FORMULAS):
        start = function.append_basic_block(formula.__name__)
        switch.add_case(ir.Constant(integer, number), start)
        b.position_at_end(start)
        loop = b.append_basic_block("loop")
        b.branch(loop)
        b.position_at_end(loop)
        index = b.phi(integer)
        at = b.mul(index, ir.Constant(integer, m.lanes))
        source, *targets = (b.gep(pointer, [at]) for pointer in pointers)
        for result, target in zip(formula(m, m.load(source)), targets, strict=False):
            m.store(result, target)
        following = b.add(index, ir.Constant(integer, 1))
        index.add_incoming(ir.Constant(integer, 0), start)
        index.add_incoming(following, b.block)
        b.cbranch(b.icmp_unsigned("<", following, count), loop, done)
    b.position_at_end(done)
    b.ret_void()
    return function


def _emit(context, builder, signature, arguments):
    """Call the LLVM function on the whole vectors of a block, then on a padded copy of the rest."""
    code, *pointers, n = arguments
    m = Registers(context, signature.args[1].dtype)
    function = _write_function(builder.module, m, len(pointers) - 1)
    integer = n.type
    lanes = ir.Constant(integer, m.lanes)
    count = builder.sdiv(n, lanes)
    whole = builder.mul(count, lanes)
    rest = builder.sub(n, whole)
    with builder.if_then(builder.icmp_signed(">=", n, lanes), likely=True):
        builder.call(function, [code, *pointers, count])
    with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(integer, 0))):
        copies = [cgutils.alloca_once_value(builder, m.constant(0.0).value) for _ in pointers]
        copies = [builder.bitcast(copy, m.scalar.as_pointer()) for copy in copies]
        ends = [builder.gep(pointer, [whole]) for pointer in pointers]
        cgutils.raw_memcpy(builder, copies[0], ends[0], rest, m.itemsize)
        builder.call(function, [code, *copies, ir.Constant(integer, 1)])
        for end, copy in zip(ends[1:], copies[1:], strict=True):
            cgutils.raw_memcpy(builder, end, copy, rest, m.itemsize)
    return context.get_dummy_value()


@intrinsic
def _emit_activate(typingctx, code, z, a, d1, d2, n):
    i = types.int64
    return types.void(i, z, a, d1, d2, i), _emit


@intrinsic
def _emit_activate_slope(typingctx, code, z, a, d1, n):
    i = types.int64
    return types.void(i, z, a, d1, i), _emit


@intrinsic
def _emit_activate_value(typingctx, code, z, a, n):
    i = types.int64
    return types.void(i, z, a, i), _emit


def _plain(code, z, *outputs_and_n):
    *outputs, n = outputs_and_n
    with np.errstate(all="ignore"):
        results = FORMULAS[code](Arrays(z.dtype), z[:n].copy())
    for output, result in zip(outputs, results, strict=False):
        output[:n] = result


_activate = _plain if config.DISABLE_JIT else _emit_activate
_activate_slope = _plain if config.DISABLE_JIT else _emit_activate_slope
_activate_value = _plain if config.DISABLE_JIT else _emit_activate_value


@linked
def activate(code: Any, z: Any, a: Any, d1: Any, d2: Any, n: Any) -> None:
    """Write phi, phi' and phi'' of ``z[:n]`` at ``a``, ``d1`` and ``d2``.

    These point to float32 or float64 numbers. ``a`` may be ``z``; otherwise they are disjoint.
    """
    _activate(code, z, a, d1, d2, n)


@linked
def activate_slope(code: Any, z: Any, a: Any, d1: Any, n: Any) -> None:
    """Write phi and phi' alone."""
    _activate_slope(code, z, a, d1, n)


@linked
def activate_value(code: Any, z: Any, a: Any, n: Any) -> None:
    """Write phi alone."""
    _activate_value(code, z, a, n)
