"""The two machines that the activations' formulas run on: vector registers, and NumPy arrays.

``Registers`` writes a formula as LLVM vector instructions while Numba compiles: no type inference
runs over it, so it compiles fast, and no optimiser has to find the vectors. ``Arrays`` runs the
same formula with NumPy where the JIT is off. Every multiply-add is explicit, so the result for a
number depends on that number alone: not on its place in the block, the vector's width, or where
the code is inlined.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .emitter import REGISTER_BYTES, sums
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


# What a program takes from the C library, as NumPy has it
_LIBRARY = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "atan2": np.arctan2, "erf": math.erf,
}  # fmt: skip


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

    def parts(self, x):
        """k and x / 2**k, which is from sqrt(1/2) to sqrt(2), for a normal x above 0."""
        t = self.table
        bits = x.view(t.integer)
        k = (bits - t.integer(t.half_root)) >> t.mantissa
        return k.astype(self.dtype), (bits - (k << t.mantissa)).view(self.dtype)

    def sqrt(self, x):
        """The square root."""
        return np.sqrt(x)

    def library(self, name, *args):
        """A function of the C library, number by number."""
        found = [_LIBRARY[name](*each) for each in np.broadcast(*args)]
        return np.array(found, self.dtype).reshape(np.broadcast_shapes(*map(np.shape, args)))

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
        self._first = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
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

    def parts(self, x):
        """k and x / 2**k, which is from sqrt(1/2) to sqrt(2), for a normal x above 0."""
        b, t = self.builder, self.table
        bits = b.bitcast(x.value, self.integer)
        shift = self._integers(t.mantissa)
        k = b.ashr(b.sub(bits, self._integers(t.half_root)), shift)
        magic = b.bitcast(self.constant(t.magic).value, self.integer)
        number = Lanes(self, b.bitcast(b.add(k, magic), self.vector)) - t.magic
        return number, Lanes(self, b.bitcast(b.sub(bits, b.shl(k, shift)), self.vector))

    def sqrt(self, x):
        """The square root."""
        return self.call("sqrt", x)

    def library(self, name, *args):
        """Call a function of the C library, one lane at a time."""
        b = self.builder
        kind = ir.FunctionType(self.scalar, [self.scalar] * len(args))
        name += "f" if self.itemsize == 4 else ""
        function = cgutils.get_or_insert_function(b.module, kind, name)
        args, result = [self.constant(x).value for x in args], self.constant(0.0).value
        for lane in range(self.lanes):
            index = ir.Constant(ir.IntType(32), lane)
            value = b.call(function, [b.extract_element(x, index) for x in args])
            result = b.insert_element(result, value, index)
        return Lanes(self, result)

    def splat(self, pointer):
        """The number at a pointer in every lane."""
        return self.spread(self.builder.load(pointer))

    def spread(self, number):
        """A number in every lane."""
        first = ir.Constant(ir.IntType(32), 0)
        lane = ir.Constant(self.vector, ir.Undefined)
        lane = self.builder.insert_element(lane, number, first)
        return Lanes(self, self.builder.shuffle_vector(lane, lane, self._first))

    def lane(self, lanes, index):
        """The number in one lane, in every lane."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [index] * self.lanes)
        return Lanes(self, self.builder.shuffle_vector(lanes.value, lanes.value, mask))

    def gather(self, pointer, stride):
        """Read numbers that are so far from each other."""
        if stride == 1:
            return self.load(pointer)
        b, result = self.builder, ir.Constant(self.vector, ir.Undefined)
        for lane in range(self.lanes):
            number = b.load(b.gep(pointer, [ir.Constant(ir.IntType(64), lane * stride)]))
            result = b.insert_element(result, number, ir.Constant(ir.IntType(32), lane))
        return Lanes(self, result)

    def scatter(self, lanes, pointer, stride):
        """Write them."""
        if stride == 1:
            self.store(lanes, pointer)
            return
        b = self.builder
        for lane in range(self.lanes):
            number = b.extract_element(lanes.value, ir.Constant(ir.IntType(32), lane))
            b.store(number, b.gep(pointer, [ir.Constant(ir.IntType(64), lane * stride)]))

    def first_lanes(self, count):
        """Which lanes are among the first so many."""
        b, first = self.builder, ir.Constant(ir.IntType(32), 0)
        count = b.trunc(count, self.integer.element) if self.itemsize == 4 else count
        lane = b.insert_element(ir.Constant(self.integer, ir.Undefined), count, first)
        numbers = ir.Constant(self.integer, list(range(self.lanes)))
        return b.icmp_signed("<", numbers, b.shuffle_vector(lane, lane, self._first))

    def sums(self, vectors):
        """The sums of up to ``lanes`` vectors in the first lanes of one, and zeros behind them."""
        values = [each.value for each in vectors]
        values += [self.constant(0.0).value] * (self.lanes - len(values))
        return Lanes(self, sums(self.builder, self.lanes, values))

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
