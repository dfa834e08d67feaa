"""The two machines that the activations' formulas run on: vector registers, and NumPy arrays.

``Registers`` writes a formula as LLVM vector instructions while Numba compiles: no type inference
runs over it, so it compiles fast, and no optimiser has to find the vectors. ``Arrays`` runs the
same formula with NumPy where the JIT is off. Every multiply-add is explicit, so the result for a
number depends on that number alone: not on its place in the block, the vector's width, or where
the code is inlined.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .emitter import REGISTER_BYTES
from .polynomials import TABLES


class Machine:
    """What both machines build from their own ``fma``, ``where``, ``constant`` and ``fused``."""

    def at_most(self, x, limit):
        """The smaller one, and NaN for NaN."""
        return self.where(x > limit, limit, x)

    def fms(self, a, b, c):
        """a b - c for c close to a b: exact with hardware fma, else by Dekker's product."""
        if self.fused:
            return self.fma(a, b, -c)
        a, b = self.constant(a), self.constant(b)
        p = a * b
        (a_hi, a_lo), (b_hi, b_lo) = self._halves(a), self._halves(b)
        return (p - c) + (((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo)

    def residual(self, a, b, c):
        """c - a b, likewise."""
        return self.fma(-a, b, c) if self.fused else -self.fms(a, b, c)

    def _halves(self, a):
        big = a * self.table.splitter
        hi = big - (big - a)
        return hi, a - hi


class Arrays(Machine):
    """The formulas on NumPy arrays."""

    fused = False

    def __init__(self, dtype):
        self.dtype = dtype
        self.table = TABLES[dtype.name]

    def constant(self, x):
        """The number x in the dtype; a value stays itself."""
        return np.asarray(x, self.dtype)

    def fma(self, a, b, c):
        """a b + c."""
        return a * b + c

    def where(self, flag, a, b):
        """One or the other, by the flag."""
        return np.where(flag, self.constant(a), self.constant(b))

    def copysign(self, x, sign):
        """The size of x with the other's sign."""
        return np.copysign(x, sign)

    def power(self, shifted):
        """2**(k + bias), from k + magic."""
        t = self.table
        one = np.array((t.exponent_bias + t.bias) << t.mantissa, t.integer)
        return ((shifted.view(t.integer) << t.mantissa) + one).view(self.dtype)

    def bit(self, shifted, position):
        """Whether a bit of k is set, from k + magic."""
        return (shifted.view(self.table.integer) >> position) & 1 == 1

    def sin_cos_beyond(self, limit, z, s, c):
        """Replace the sine and cosine where abs(z) > limit by the library's."""
        far = abs(z) > limit
        return np.where(far, np.sin(z), s), np.where(far, np.cos(z), c)


class Lanes:
    """A value in a vector register, with the operators of a number."""

    def __init__(self, machine, value):
        self.machine, self.value = machine, value

    def _apply(self, name, left, right):
        m = self.machine
        return Lanes(m, getattr(m.builder, name)(m.constant(left).value, m.constant(right).value))

    def _compare(self, sign, other):
        m = self.machine
        return m.builder.fcmp_ordered(sign, self.value, m.constant(other).value)

    def __add__(self, other):
        return self._apply("fadd", self, other)

    def __radd__(self, other):
        return self._apply("fadd", other, self)

    def __sub__(self, other):
        return self._apply("fsub", self, other)

    def __rsub__(self, other):
        return self._apply("fsub", other, self)

    def __mul__(self, other):
        return self._apply("fmul", self, other)

    def __rmul__(self, other):
        return self._apply("fmul", other, self)

    def __truediv__(self, other):
        return self._apply("fdiv", self, other)

    def __rtruediv__(self, other):
        return self._apply("fdiv", other, self)

    def __neg__(self):
        return Lanes(self.machine, self.machine.builder.fneg(self.value))

    def __abs__(self):
        return self.machine.call("fabs", self)

    def __gt__(self, other):
        return self._compare(">", other)

    def __lt__(self, other):
        return self._compare("<", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def __eq__(self, other):
        return self._compare("==", other)


class Registers(Machine):
    """The formulas as LLVM instructions on the target's vector registers."""

    def __init__(self, context, dtype):
        triple, _, features = context.codegen().magic_tuple()
        self.fused = "+fma" in features.split(",") or triple.startswith(("aarch64", "arm64"))
        self.table = TABLES[dtype.name]
        self.itemsize = dtype.bitwidth // 8
        self.lanes = REGISTER_BYTES // self.itemsize
        self.scalar = context.get_value_type(dtype)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.integer = ir.VectorType(ir.IntType(dtype.bitwidth), self.lanes)
        self.suffix = f"f{dtype.bitwidth}"
        self.builder = None  # set for each function that is written

    def load(self, pointer):
        """Read the vector that begins at a number."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        return Lanes(self, self.builder.load(pointer, align=self.itemsize))

    def store(self, lanes, pointer):
        """Write a vector."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(lanes.value, pointer, align=self.itemsize)

    def constant(self, x):
        """The number x in every lane; a value stays itself."""
        if isinstance(x, Lanes):
            return x
        return Lanes(self, ir.Constant(self.vector, [float(x)] * self.lanes))

    def call(self, name, *args):
        """Call one of LLVM's own functions on vectors."""
        args = [self.constant(x).value for x in args]
        kind = ir.FunctionType(self.vector, [self.vector] * len(args))
        name = f"llvm.{name}.v{self.lanes}{self.suffix}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return Lanes(self, self.builder.call(function, args))

    def fma(self, a, b, c):
        """a b + c, rounded once if the hardware can, else always twice."""
        return self.call("fma" if self.fused else "fmuladd", a, b, c)

    def where(self, flag, a, b):
        """One or the other, by the flag in each lane."""
        a, b = self.constant(a), self.constant(b)
        return Lanes(self, self.builder.select(flag, a.value, b.value))

    def copysign(self, x, sign):
        """The size of x with the other's sign."""
        return self.call("copysign", x, sign)

    def _integers(self, value):
        return ir.Constant(self.integer, [value] * self.lanes)

    def power(self, shifted):
        """2**(k + bias), from k + magic."""
        b, t = self.builder, self.table
        bits = b.shl(b.bitcast(shifted.value, self.integer), self._integers(t.mantissa))
        bits = b.add(bits, self._integers((t.exponent_bias + t.bias) << t.mantissa))
        return Lanes(self, b.bitcast(bits, self.vector))

    def bit(self, shifted, position):
        """Whether a bit of k is set, from k + magic."""
        b = self.builder
        bits = b.and_(b.bitcast(shifted.value, self.integer), self._integers(1 << position))
        return b.icmp_signed("!=", bits, self._integers(0))

    def sin_cos_beyond(self, limit, z, s, c):
        """Replace the sine and cosine where abs(z) > limit, one lane at a time: they are rare."""
        b = self.builder
        module, entry = b.module, b.block
        mask = abs(z) > limit
        any_far = b.icmp_unsigned(
            "!=", b.bitcast(mask, ir.IntType(self.lanes)), ir.Constant(ir.IntType(self.lanes), 0)
        )
        kind = ir.FunctionType(self.scalar, [self.scalar])
        sine, cosine = (
            cgutils.get_or_insert_function(module, kind, f"llvm.{name}.{self.suffix}")
            for name in ("sin", "cos")
        )
        loop, done = b.append_basic_block("far"), b.append_basic_block("near")
        b.cbranch(any_far, loop, done)
        b.position_at_end(loop)
        index = b.phi(ir.IntType(32))
        s_now, c_now = b.phi(self.vector), b.phi(self.vector)
        lane = b.extract_element(z.value, index)
        far = b.extract_element(mask, index)
        s_lane = b.select(far, b.call(sine, [lane]), b.extract_element(s_now, index))
        c_lane = b.select(far, b.call(cosine, [lane]), b.extract_element(c_now, index))
        s_next = b.insert_element(s_now, s_lane, index)
        c_next = b.insert_element(c_now, c_lane, index)
        following = b.add(index, ir.Constant(ir.IntType(32), 1))
        for phi, first, later in (
            (index, ir.Constant(ir.IntType(32), 0), following),
            (s_now, s.value, s_next),
            (c_now, c.value, c_next),
        ):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, loop)
        more = b.icmp_unsigned("<", following, ir.Constant(ir.IntType(32), self.lanes))
        b.cbranch(more, loop, done)
        b.position_at_end(done)
        results = []
        for first, later in ((s.value, s_next), (c.value, c_next)):
            phi = b.phi(self.vector)
            phi.add_incoming(first, entry)
            phi.add_incoming(later, loop)
            results.append(Lanes(self, phi))
        return results
