"""Activations: phi, phi' and phi'' of a block of numbers in one pass of vector instructions.

Numba has no vectorised exp, tanh or erf: each ``math`` call costs about 25 ns a number. Here every
activation is a branch-free formula of range reduction and one short polynomial, written once for
an abstract machine. ``_Registers`` writes the formula as LLVM vector instructions while Numba
compiles: no type inference runs over it, so it compiles fast, and no optimiser has to find the
vectors. ``_Arrays`` runs the same formula with NumPy when the JIT is off.

Accuracy: the leading steps are carried as unevaluated sums ``hi + lo``, and one last addition
rounds them. phi, phi' and phi'' are each within 2 ulp of the truth (2.5 without hardware fma; most
stay below 1), also where they are tiny or subnormal. The exception is near the zeros of silu',
silu'' and gelu' away from the origin: where their magnitude is below 1/16, the error is at most
0.1 eps. sin is as good for large arguments. A NaN gives NaN, infinities give the limits. Every
multiply-add is explicit, so the result for a number depends on that number alone: not on its place
in the block, the vector's width, or where the code is inlined.

At a kink, z <= 0 counts as left: relu'(0) = 0, leaky_relu'(0) = 0.01, elu'(0) = elu''(0) = 1.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from .link import linked  # [lead: keep linked, it is callable from Python too]

CODES: dict[str, int] = {
    "identity": 0,
    "relu": 1,
    "leaky_relu": 2,
    "elu": 3,
    "softplus": 4,
    "tanh": 5,
    "sigmoid": 6,
    "silu": 7,
    "gelu": 8,
    "sin": 9,
}

# Polynomials, lowest power first: weighted minimax fits by a Remez exchange at 50 digits (mpmath),
# then rounded to the dtype. In brackets the largest weighted error in float32 and in float64.
#   exp    (e**r - 1 - r) / r**2             abs(r) <= ln(2)/2, weight r      [2**-28.7, 2**-59.2]
#   atanh  (atanh(s) - s) / s**3 in s**2     abs(s) <= 1/3,     weight s**2   [2**-27.6, 2**-58.0]
#   mills  e**(u*u/2) Phi(-u) (1 + u) in (u - c)/(u + c)        weight 1      [2**-28.7, 2**-56.9]
#          0 <= u <= far_normal, c = mills_centre
#   sin    (sin(r) - r) / r**3 in r**2       abs(r) <= pi/4,    weight r**2   [2**-27.7, 2**-57.2]
#   cos    (cos(r) - 1 + r*r/2) / r**4 in r**2  abs(r) <= pi/4, weight r**4   [2**-30.4, 2**-60.4]
# The parts of ln2 and half_pi add up to the number; the first of ln2 leaves low bits free, so that
# its product with an exponent is exact. ``magic`` is 1.5 * 2**mantissa: adding it rounds a small
# number to an integer, which is then in the low bits of the sum. Powers of two are built times
# 2**bias to stay normal; one last multiplication brings a result to scale, and rounds a subnormal
# one once. Beyond ``far``, y e**-y is zero; beyond ``far_normal``, so is u**2 e**(-u*u/2).
_FLOAT32 = SimpleNamespace(
    mantissa=23,
    exponent_bias=127,
    integer=np.int32,
    splitter=4097.0,
    bias=64,
    magic=12582912.0,
    far=120.0,
    far_normal=15.0,
    log2_e=1.4426950216293335,
    ln2=(0.693145751953125, 1.428606765330187e-06),
    two_over_pi=0.6366197466850281,
    half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    density=(0.3989422917366028, -1.1335170135851058e-08),
    exp=(0.5, 0.16666667, 0.041666366, 0.008333274, 0.0013940379, 0.00019913726),
    atanh=(0.33333206, 0.20010853, 0.1399951, 0.14012569),
    mills_centre=3.296875,
    mills=(
        0.481473, -0.09756717, -0.0056999717, 0.04139169, -0.0279665, 0.006693671, 0.0018302636,
        -0.0012125623, -0.00021184383, 0.00017321874, 5.3899057e-05,
    ),
    sin=(-0.16666655, 0.008332178, -0.0001951636),
    cos=(0.041666653, -0.0013887555, 2.4456229e-05),
)  # fmt: skip
_FLOAT64 = SimpleNamespace(
    mantissa=52,
    exponent_bias=1023,
    integer=np.int64,
    splitter=134217729.0,
    bias=200,
    magic=6755399441055744.0,
    far=800.0,
    far_normal=40.0,
    log2_e=1.4426950408889634,
    ln2=(0.6931471805598903, 5.497923018708371e-14),
    two_over_pi=0.6366197723675814,
    half_pi=(1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
    density=(0.3989422804014327, -2.49232720227773e-17),
    exp=(
        0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333322104,
        0.0013888888888867743, 0.00019841269885086503, 2.4801587359186372e-05,
        2.755724513248316e-06, 2.755724369862938e-07, 2.51087501657124e-08, 2.092420337381249e-09,
    ),
    atanh=(
        0.33333333333333154, 0.20000000000078694, 0.14285714273916908, 0.1111111198553069,
        0.09090871937732253, 0.0769328051286078, 0.06650479266540887, 0.06053104735409736,
        0.041697732249614164, 0.08509816467465435,
    ),
    mills_centre=6.15625,
    mills=(
        0.4523688968837345, -0.08399035555672185, 0.040693730989699854, -0.006196461154973257,
        -0.014508888828415547, 0.021847512005377785, -0.019968290116366968, 0.014010113195054739,
        -0.007910632971456107, 0.003571820763604532, -0.0012188724931797277,
        0.00025680562631119613, 6.9766491730327054e-06, -2.8826492776395672e-05,
        9.319598383512747e-06, 3.1644841109956175e-07, -1.1917315647573225e-06,
        2.62083458252382e-07, 9.956283082466328e-08, -5.3242880507123003e-08,
        -8.892740136561867e-09, 6.5697587763092415e-09, 1.5945258945412753e-09,
    ),
    sin=(
        -0.16666666666666666, 0.008333333333333325, -0.00019841269841255993,
        2.7557319214512977e-06, -2.505210496616666e-08, 1.605837073617558e-10,
        -7.578790236021407e-13,
    ),
    cos=(
        0.04166666666666666, -0.0013888888888882983, 2.4801587294512293e-05,
        -2.7557315679975605e-07, 2.0875888939581283e-09, -1.1367555592686925e-11,
    ),
)  # fmt: skip
#: sin and cos reduce their argument in three parts up to here, and call the C library beyond
_SIN_FAR = 1.0e5


# The formulas. ``m`` is the machine, z a vector; every function returns (phi, phi', phi'').


def _identity(m, z):
    return z, m.constant(1.0), m.constant(0.0)


def _relu(m, z):
    slope = m.where(z > 0.0, 1.0, m.where(z <= 0.0, 0.0, z))
    return m.where(z < 0.0, 0.0, z), slope, m.constant(0.0)


def _leaky_relu(m, z):
    slope = m.where(z > 0.0, 1.0, m.where(z <= 0.0, 0.01, z))
    return m.where(z < 0.0, z * 0.01, z), slope, m.constant(0.0)


def _elu(m, z):
    e = _decay(m, m.at_most(abs(z), m.table.far))
    right = z > 0.0
    value = _scaled(m, e.hi, e.lo, e.power)
    phi = m.where(right, z, m.copysign(e.one_minus, z))
    return phi, m.where(right, 1.0, value), m.where(right, 0.0, value)


def _softplus(m, z):
    """max(z, 0) + log(1 + E), log(1 + E) = 2 atanh(E / (2 + E)), E = e**-abs(z)."""
    e = _logistic(m, m.at_most(abs(z), m.table.far))
    below = 2.0 + e.value
    below_lo = ((2.0 - below) + e.value) + e.value_lo
    inverse = 1.0 / below
    top = 2.0 * e.hi
    s = top * inverse
    rest = m.fma(-s, below_lo, m.residual(s, below, top) + 2.0 * e.lo)
    half = 0.5 * (s * e.scale)
    square = half * half
    tail = m.fma(s * square, _polynomial(m, m.table.atanh, square, square * square), rest * inverse)
    log = _scaled(m, s, tail, e.power)
    return m.where(z > 0.0, z, 0.0) + log, _sigmoid_of(m, z, e), _scaled(m, *e.slope, e.power)


def _tanh(m, z):
    """tanh of u = abs(z) by E = e**(-2 u), 4 E / (1 + E)**2, and -2 times their product."""
    e = _logistic(m, m.at_most(abs(z) * 2.0, m.table.far))
    # the factors 4 and 2 come before the scale, where nothing is subnormal and they are exact
    slope = e.slope[0] * 4.0, e.slope[1] * 4.0
    bend = _product(m, *e.tanh, slope[0] * 2.0, slope[1] * 2.0)
    phi = m.copysign(e.tanh[0] + e.tanh[1], z)
    return phi, _scaled(m, *slope, e.power), m.copysign(_scaled(m, *bend, e.power), -z)


def _sigmoid(m, z):
    e = _logistic(m, m.at_most(abs(z), m.table.far))
    bend = _scaled(m, *_product(m, *e.tanh, *e.slope), e.power)
    return _sigmoid_of(m, z, e), _scaled(m, *e.slope, e.power), m.copysign(bend, -z)


def _silu(m, z):
    """z s, s (1 + z s(-z)) and s s(-z) (2 - u tanh(u/2)), with s = sigmoid(z), u = abs(z)."""
    u = m.at_most(abs(z), m.table.far)
    e = _logistic(m, u)
    small = _product(m, e.hi, e.lo, *e.inverse)
    left = z < 0.0
    phi_left = _scaled(m, *_times(m, -u, *small), e.power)
    phi = m.where(left, phi_left, m.fma(z, e.inverse[0], u * e.inverse[1]))
    slope = _scaled(m, *e.slope, e.power)
    slope_left = _scaled(m, *_product(m, *small, *_minus(m, 1.0, u, *e.inverse)), e.power)
    slope_right = e.inverse[0] + m.fma(u, slope, e.inverse[1])
    bend = _scaled(m, *_product(m, *e.slope, *_minus(m, 2.0, u, *e.tanh)), e.power)
    return m.copysign(phi, z), m.where(left, slope_left, slope_right), bend


def _gelu(m, z):
    """z Phi(z), Phi + z p(z) and (2 - z*z) p(z), with p the normal density, Phi its integral.

    With u = abs(z), Phi(-u) = e**(-u*u/2) M(u), M Mills' ratio over sqrt(2 pi). No cancellation
    in either tail: phi = max(z, 0) - u Phi(-u), and phi'(z) = 1 - phi'(-z).
    """
    t = m.table
    u = m.at_most(abs(z), t.far_normal)
    square = u * u
    hi, lo, _, power = _exp(m, -0.5 * square, -0.5 * m.fms(u, u, square))
    x = (u - t.mills_centre) * (1.0 / (u + t.mills_centre))
    step = x * _polynomial(m, t.mills[1:], x, x * x)
    top, top_lo = _fast_sum(m.constant(t.mills[0]), step)
    below = 1.0 + u
    below_lo = u - (below - 1.0)
    inverse = 1.0 / below
    ratio = top * inverse
    ratio_lo = m.fma(-ratio, below_lo, m.residual(ratio, below, top) + top_lo) * inverse
    area, area_lo = _product(m, ratio, ratio_lo, hi, lo)
    density, density_lo = _product(m, hi, lo, *t.density)
    loss = _scaled(m, *_times(m, u, area, area_lo), power)
    phi = m.copysign(m.where(z > 0.0, z, 0.0) - loss, z)
    slope = m.residual(u, density, area)
    slope = _scaled(m, slope, m.fma(-u, density_lo, area_lo), power)
    bend = _times(m, m.residual(u, u, 2.0), density, density_lo)
    return phi, m.where(z > 0.0, 1.0 - slope, slope), _scaled(m, *bend, power)


def _sin(m, z):
    t = m.table
    shifted = m.fma(z, t.two_over_pi, t.magic)
    k = shifted - t.magic
    p = k * t.half_pi[0]
    r = (z - p) - m.fms(k, t.half_pi[0], p)  # exact
    p = k * t.half_pi[1]
    r, r_lo = _sum(r, -p)
    r_lo = (r_lo - m.fms(k, t.half_pi[1], p)) - k * t.half_pi[2]
    r, r_lo = _fast_sum(r, r_lo)
    square = r * r
    fourth = square * square
    sine = m.fma(r_lo, -0.5 * square, r_lo)
    sine = r + m.fma(r * square, _polynomial(m, t.sin, square, fourth), sine)
    half = 0.5 * square
    cosine, cosine_lo = _fast_sum(m.constant(1.0), -half)
    cosine_lo = cosine_lo - m.fma(r, r_lo, 0.5 * m.fms(r, r, square))
    cosine = cosine + m.fma(fourth, _polynomial(m, t.cos, square, fourth), cosine_lo)
    odd, upper = m.bit(shifted, 0), m.bit(shifted, 1)
    s, c = m.where(odd, cosine, sine), m.where(odd, -sine, cosine)
    s, c = m.where(upper, -s, s), m.where(upper, -c, c)
    s = m.where(z == 0.0, z, s)
    s, c = m.sin_cos_beyond(_SIN_FAR, z, s, c)
    return s, c, -s


_FORMULAS = (
    _identity, _relu, _leaky_relu, _elu, _softplus, _tanh, _sigmoid, _silu, _gelu, _sin,
)  # fmt: skip


# What the formulas share.


def _polynomial(m, coefficients, x, square):
    """Even and odd powers side by side: half the latency of Horner's rule."""
    parts = []
    for half in (coefficients[0::2], coefficients[1::2]):
        total = m.constant(half[-1])
        for c in half[-2::-1]:
            total = m.fma(total, square, c)
        parts.append(total)
    return m.fma(parts[1], x, parts[0])


def _sum(a, b):
    """a + b and its rounding error."""
    s = a + b
    shift = s - a
    return s, (a - (s - shift)) + (b - shift)


def _fast_sum(a, b):
    """a + b and its rounding error, where abs(a) >= abs(b) or a is 0."""
    s = a + b
    return s, b - (s - a)


def _product(m, a, a_lo, b, b_lo):
    """(a + a_lo) (b + b_lo) as hi + lo."""
    p = a * b
    return p, m.fma(a, b_lo, m.fma(a_lo, b, m.fms(a, b, p)))


def _times(m, a, b, b_lo):
    """a (b + b_lo) as hi + lo."""
    p = a * b
    return p, m.fma(a, b_lo, m.fms(a, b, p))


def _minus(m, c, a, b, b_lo):
    """c - a (b + b_lo) as hi + lo, with one rounding."""
    return m.residual(a, b, c), -a * b_lo


def _scaled(m, hi, lo, power):
    return ((hi + lo) * power) * 2.0**-m.table.bias


def _exp(m, x, x_lo):
    """e**(x + x_lo) for x <= 0 as (hi + lo) scale, with scale = 2**k, and power = 2**(k + bias)."""
    t = m.table
    shifted = m.fma(x, t.log2_e, t.magic)
    k = shifted - t.magic
    r, r_lo = _fast_sum(m.fma(k, -t.ln2[0], x), m.fma(k, -t.ln2[1], x_lo))
    square = r * r
    tail = m.fma(square, _polynomial(m, t.exp, r, square), m.fma(r_lo, r, r_lo))
    hi, lo = _fast_sum(m.constant(1.0), r)
    hi, lo = _fast_sum(hi, lo + tail)
    power = m.power(shifted)
    return hi, lo, power * 2.0**-t.bias, power


def _decay(m, y):
    """E = e**-y for y >= 0, and 1 - E."""
    e = SimpleNamespace()
    e.hi, e.lo, e.scale, e.power = _exp(m, -y, 0.0)
    e.value, e.value_lo = e.hi * e.scale, e.lo * e.scale
    hi, lo = _fast_sum(m.constant(1.0), -e.value)
    e.one_minus, e.one_minus_lo = _fast_sum(hi, lo - e.value_lo)
    return e


def _logistic(m, y):
    """E = e**-y for y >= 0, 1/(1 + E), tanh(y/2) = (1 - E)/(1 + E) and E/(1 + E)**2 / scale."""
    e = _decay(m, y)
    below, below_lo = _fast_sum(m.constant(1.0), e.value)
    below_lo = below_lo + e.value_lo
    inverse = 1.0 / below
    inverse_lo = m.fma(-inverse, below_lo, m.residual(inverse, below, 1.0)) * inverse
    t = e.one_minus * inverse
    rest = m.fma(-t, below_lo, m.residual(t, below, e.one_minus) + e.one_minus_lo)
    e.inverse = inverse, inverse_lo
    e.tanh = t, rest * inverse
    e.slope = _product(m, e.hi, e.lo, *_product(m, inverse, inverse_lo, inverse, inverse_lo))
    return e


def _sigmoid_of(m, z, e):
    small = _scaled(m, *_product(m, e.hi, e.lo, *e.inverse), e.power)
    return m.where(z < 0.0, small, e.inverse[0] + e.inverse[1])


# The machines.


class _Machine:
    """What both machines build from their own fma, where, constant and fused."""

    def at_most(self, x, limit):
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


class _Arrays(_Machine):
    """The formulas on NumPy arrays."""

    fused = False

    def __init__(self, dtype):
        self.dtype = dtype
        self.table = _FLOAT32 if dtype == np.float32 else _FLOAT64

    def constant(self, x):
        return np.asarray(x, self.dtype)

    def fma(self, a, b, c):
        return a * b + c

    def where(self, flag, a, b):
        return np.where(flag, self.constant(a), self.constant(b))

    def copysign(self, x, sign):
        return np.copysign(x, sign)

    def power(self, shifted):
        t = self.table
        one = np.array((t.exponent_bias + t.bias) << t.mantissa, t.integer)
        return ((shifted.view(t.integer) << t.mantissa) + one).view(self.dtype)

    def bit(self, shifted, position):
        return (shifted.view(self.table.integer) >> position) & 1 == 1

    def sin_cos_beyond(self, limit, z, s, c):
        far = abs(z) > limit
        return np.where(far, np.sin(z), s), np.where(far, np.cos(z), c)


class _Lanes:
    """A value in a vector register, with the operators of a number."""

    def __init__(self, machine, value):
        self.machine, self.value = machine, value

    def _apply(self, name, left, right):
        m = self.machine
        return _Lanes(m, getattr(m.builder, name)(m.constant(left).value, m.constant(right).value))

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

    def __rtruediv__(self, other):
        return self._apply("fdiv", other, self)

    def __neg__(self):
        return _Lanes(self.machine, self.machine.builder.fneg(self.value))

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


class _Registers(_Machine):
    """The formulas as LLVM instructions, on vectors of 64 bytes with AVX-512, else of 32 bytes."""

    def __init__(self, context, dtype):
        triple, _, features = context.codegen().magic_tuple()
        features = features.split(",")
        self.fused = "+fma" in features or triple.startswith(("aarch64", "arm64"))
        self.table, self.scalar = (
            (_FLOAT32, ir.FloatType()) if dtype == types.float32 else (_FLOAT64, ir.DoubleType())
        )
        self.itemsize = dtype.bitwidth // 8
        self.lanes = (64 if "+avx512f" in features else 32) // self.itemsize
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.integer = ir.VectorType(ir.IntType(dtype.bitwidth), self.lanes)
        self.suffix = f"f{dtype.bitwidth}"
        self.builder = None  # set for each function that is written

    def constant(self, x):
        if isinstance(x, _Lanes):
            return x
        return _Lanes(self, ir.Constant(self.vector, [float(x)] * self.lanes))

    def call(self, name, *args):
        args = [self.constant(x).value for x in args]
        kind = ir.FunctionType(self.vector, [self.vector] * len(args))
        name = f"llvm.{name}.v{self.lanes}{self.suffix}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return _Lanes(self, self.builder.call(function, args))

    def fma(self, a, b, c):
        return self.call("fma" if self.fused else "fmuladd", a, b, c)

    def where(self, flag, a, b):
        a, b = self.constant(a), self.constant(b)
        return _Lanes(self, self.builder.select(flag, a.value, b.value))

    def copysign(self, x, sign):
        return self.call("copysign", x, sign)

    def _integers(self, value):
        return ir.Constant(self.integer, [value] * self.lanes)

    def power(self, shifted):
        b, t = self.builder, self.table
        bits = b.shl(b.bitcast(shifted.value, self.integer), self._integers(t.mantissa))
        bits = b.add(bits, self._integers((t.exponent_bias + t.bias) << t.mantissa))
        return _Lanes(self, b.bitcast(bits, self.vector))

    def bit(self, shifted, position):
        b = self.builder
        bits = b.and_(b.bitcast(shifted.value, self.integer), self._integers(1 << position))
        return b.icmp_signed("!=", bits, self._integers(0))

    def sin_cos_beyond(self, limit, z, s, c):
        """Replace the lanes with abs(z) > limit, one at a time: they are rare."""
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
            results.append(_Lanes(self, phi))
        return results


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
    for number, formula in enumerate(_FORMULAS):
        start = function.append_basic_block(formula.__name__)
        switch.add_case(ir.Constant(integer, number), start)
        b.position_at_end(start)
        loop = b.append_basic_block("loop")
        b.branch(loop)
        b.position_at_end(loop)
        index = b.phi(integer)
        at = b.mul(index, ir.Constant(integer, m.lanes))
        source, *targets = (
            b.bitcast(b.gep(pointer, [at]), m.vector.as_pointer()) for pointer in pointers
        )
        z = _Lanes(m, b.load(source, align=m.itemsize))
        for result, target in zip(formula(m, z), targets, strict=False):
            b.store(result.value, target, align=m.itemsize)
        following = b.add(index, ir.Constant(integer, 1))
        index.add_incoming(ir.Constant(integer, 0), start)
        index.add_incoming(following, b.block)
        b.cbranch(b.icmp_unsigned("<", following, count), loop, done)
    b.position_at_end(done)
    b.ret_void()
    return function


def _emit(context, builder, signature, arguments):
    """Call the LLVM function on the whole vectors of a block, then on a padded copy of the rest."""
    code, buf, *offsets, n = arguments
    kind = signature.args[1]
    # In a linked function buf is a bare pointer (CPointer), not an array.  [lead: keep this]
    array = isinstance(kind, types.Array)
    data = cgutils.create_struct_proxy(kind)(context, builder, value=buf).data if array else buf
    m = _Registers(context, kind.dtype)
    function = _write_function(builder.module, m, len(offsets) - 1)
    integer = n.type
    lanes = ir.Constant(integer, m.lanes)
    count = builder.sdiv(n, lanes)
    whole = builder.mul(count, lanes)
    rest = builder.sub(n, whole)
    starts = [builder.gep(data, [offset]) for offset in offsets]
    with builder.if_then(builder.icmp_signed(">=", n, lanes), likely=True):
        builder.call(function, [code, *starts, count])
    with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(integer, 0))):
        copies = [cgutils.alloca_once_value(builder, m.constant(0.0).value) for _ in offsets]
        copies = [builder.bitcast(copy, m.scalar.as_pointer()) for copy in copies]
        ends = [builder.gep(start, [whole]) for start in starts]
        cgutils.raw_memcpy(builder, copies[0], ends[0], rest, m.itemsize)
        builder.call(function, [code, *copies, ir.Constant(integer, 1)])
        for end, copy in zip(ends[1:], copies[1:], strict=True):
            cgutils.raw_memcpy(builder, end, copy, rest, m.itemsize)
    return context.get_dummy_value()


@intrinsic
def _emit_activate(typingctx, code, buf, z, a, d1, d2, n):
    i = types.int64
    return types.void(i, buf, i, i, i, i, i), _emit


@intrinsic
def _emit_activate_value(typingctx, code, buf, z, a, n):
    i = types.int64
    return types.void(i, buf, i, i, i), _emit


def _plain_activate(code, buf, z, a, d1, d2, n):
    with np.errstate(all="ignore"):
        results = _FORMULAS[code](_Arrays(buf.dtype), buf[z : z + n].copy())
    for start, result in zip((a, d1, d2), results, strict=True):
        buf[start : start + n] = result


def _plain_activate_value(code, buf, z, a, n):
    with np.errstate(all="ignore"):
        buf[a : a + n] = _FORMULAS[code](_Arrays(buf.dtype), buf[z : z + n].copy())[0]


_activate = _plain_activate if config.DISABLE_JIT else _emit_activate
_activate_value = _plain_activate_value if config.DISABLE_JIT else _emit_activate_value


@linked
def activate(code: Any, buf: Any, z: Any, a: Any, d1: Any, d2: Any, n: Any) -> None:
    """Write phi, phi' and phi'' of ``buf[z : z + n]`` at the offsets ``a``, ``d1`` and ``d2``.

    ``buf`` is a flat float32 or float64 array. ``z == a`` works in place; otherwise the blocks are
    disjoint.
    """
    _activate(code, buf, z, a, d1, d2, n)


@linked
def activate_value(code: Any, buf: Any, z: Any, a: Any, n: Any) -> None:
    """Write phi of ``buf[z : z + n]`` at the offset ``a``, which may be ``z``."""
    _activate_value(code, buf, z, a, n)
