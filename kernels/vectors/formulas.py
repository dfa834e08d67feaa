"""The ten activations as formulas: phi, phi' and phi'' of a vector z on an abstract machine m.

Each is branch-free: range reduction, one short polynomial, and selections. The leading steps are
carried as unevaluated sums ``hi + lo``, and one last addition rounds them, so that phi, phi' and
phi'' are each within 2 ulp of the truth (2.5 without hardware fma; most stay below 1), also where
they are tiny or subnormal. The exception is near the zeros of silu', silu'' and gelu' away from the
origin: where their magnitude is below 1/16, the error is at most 0.1 eps. sin is as good for large
arguments. A NaN gives NaN, infinities give the limits.

At a kink, z <= 0 counts as left: relu'(0) = 0, leaky_relu'(0) = 0.01, elu'(0) = elu''(0) = 1.

A formula works on any machine of ``machines``: the vector z has the operators of a number, and m
has ``constant``, ``fma``, ``where`` and the like. ``docs/accuracy.md`` has the worst error of each,
``docs/decisions/0005-activations.md`` what else was tried.
"""

from __future__ import annotations

from types import SimpleNamespace

#: sin and cos reduce their argument in three parts up to here, and call the C library beyond
_SIN_FAR = 1.0e5


def identity(m, z):
    """Return z, 1 and 0."""
    return z, m.constant(1.0), m.constant(0.0)


def relu(m, z):
    """max(z, 0), which passes a NaN on."""
    slope = m.where(z > 0.0, 1.0, m.where(z <= 0.0, 0.0, z))
    return m.where(z < 0.0, 0.0, z), slope, m.constant(0.0)


def leaky_relu(m, z):
    """z, or z/100 on the left."""
    slope = m.where(z > 0.0, 1.0, m.where(z <= 0.0, 0.01, z))
    return m.where(z < 0.0, z * 0.01, z), slope, m.constant(0.0)


def elu(m, z):
    """z, or e**z - 1 on the left."""
    e = _decay(m, m.at_most(abs(z), m.table.far))
    right = z > 0.0
    value = _scaled(m, e.hi, e.lo, e.power)
    phi = m.where(right, z, m.copysign(e.one_minus, z))
    return phi, m.where(right, 1.0, value), m.where(right, 0.0, value)


def softplus(m, z):
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
    tail = m.fma(s * square, polynomial(m, m.table.atanh, square, square * square), rest * inverse)
    log = _scaled(m, s, tail, e.power)
    return m.where(z > 0.0, z, 0.0) + log, _sigmoid_of(m, z, e), _scaled(m, *e.slope, e.power)


def tanh(m, z):
    """tanh of u = abs(z) by E = e**(-2 u), 4 E / (1 + E)**2, and -2 times their product."""
    e = _logistic(m, m.at_most(abs(z) * 2.0, m.table.far))
    # the factors 4 and 2 come before the scale, where nothing is subnormal and they are exact
    slope = e.slope[0] * 4.0, e.slope[1] * 4.0
    bend = _product(m, *e.tanh, slope[0] * 2.0, slope[1] * 2.0)
    phi = m.copysign(e.tanh[0] + e.tanh[1], z)
    return phi, _scaled(m, *slope, e.power), m.copysign(_scaled(m, *bend, e.power), -z)


def sigmoid(m, z):
    """s = 1 / (1 + e**-z), s (1 - s) and -s (1 - s) tanh(z/2)."""
    e = _logistic(m, m.at_most(abs(z), m.table.far))
    bend = _scaled(m, *_product(m, *e.tanh, *e.slope), e.power)
    return _sigmoid_of(m, z, e), _scaled(m, *e.slope, e.power), m.copysign(bend, -z)


def silu(m, z):
    """z s, s (1 + z s(-z)) and s s(-z) (2 - u tanh(u/2)), with s = sigmoid(z), u = abs(z)."""
    u = m.at_most(abs(z), m.table.far)
    e = _logistic(m, u)
    small = _product(m, e.hi, e.lo, *e.inverse)
    left = z < 0.0
    phi_left = _scaled(m, *times(m, -u, *small), e.power)
    phi = m.where(left, phi_left, m.fma(z, e.inverse[0], u * e.inverse[1]))
    slope = _scaled(m, *e.slope, e.power)
    slope_left = _scaled(m, *_product(m, *small, *_minus(m, 1.0, u, *e.inverse)), e.power)
    slope_right = e.inverse[0] + m.fma(u, slope, e.inverse[1])
    bend = _scaled(m, *_product(m, *e.slope, *_minus(m, 2.0, u, *e.tanh)), e.power)
    return m.copysign(phi, z), m.where(left, slope_left, slope_right), bend


def gelu(m, z):
    """z Phi(z), Phi + z p(z) and (2 - z*z) p(z), with p the normal density, Phi its integral.

    With u = abs(z), Phi(-u) = e**(-u*u/2) M(u), M Mills' ratio over sqrt(2 pi). No cancellation
    in either tail: phi = max(z, 0) - u Phi(-u), and phi'(z) = 1 - phi'(-z). (1 + u) M(u) is 1/2
    and a small term that vanishes with u, so that the term's own error counts little.
    """
    t = m.table
    u = m.at_most(abs(z), t.far_normal)
    square = u * u
    hi, lo, _, power = _exp(m, -0.5 * square, -0.5 * m.fms(u, u, square))
    v = (u + u) / (u + t.mills_centre)
    x = v - 1.0
    top, top_lo = fast_sum(m.constant(0.5), v * polynomial(m, t.mills, x, x * x))
    below = 1.0 + u
    below_lo = u - (below - 1.0)
    inverse = 1.0 / below
    ratio = top * inverse
    ratio_lo = m.fma(-ratio, below_lo, m.residual(ratio, below, top) + top_lo) * inverse
    area, area_lo = _product(m, ratio, ratio_lo, hi, lo)
    density, density_lo = _product(m, hi, lo, *t.density)
    loss = _scaled(m, *times(m, u, area, area_lo), power)
    phi = m.copysign(m.where(z > 0.0, z, 0.0) - loss, z)
    slope = m.residual(u, density, area)
    slope = _scaled(m, slope, m.fma(-u, density_lo, area_lo), power)
    bend = times(m, m.residual(u, u, 2.0), density, density_lo)
    return phi, m.where(z > 0.0, 1.0 - slope, slope), _scaled(m, *bend, power)


def sin(m, z):
    """sin z, cos z and -sin z, from z less a multiple of pi/2."""
    t = m.table
    shifted = m.fma(z, t.two_over_pi, t.magic)
    k = shifted - t.magic
    p = k * t.half_pi[0]
    r = (z - p) - m.fms(k, t.half_pi[0], p)  # exact
    p = k * t.half_pi[1]
    r, r_lo = exact_sum(r, -p)
    r_lo = (r_lo - m.fms(k, t.half_pi[1], p)) - k * t.half_pi[2]
    r, r_lo = fast_sum(r, r_lo)
    square = r * r
    fourth = square * square
    sine = m.fma(r_lo, -0.5 * square, r_lo)
    sine = r + m.fma(r * square, polynomial(m, t.sin, square, fourth), sine)
    half = 0.5 * square
    cosine, cosine_lo = fast_sum(m.constant(1.0), -half)
    cosine_lo = cosine_lo - m.fma(r, r_lo, 0.5 * m.fms(r, r, square))
    cosine = cosine + m.fma(fourth, polynomial(m, t.cos, square, fourth), cosine_lo)
    odd, upper = m.bit(shifted, 0), m.bit(shifted, 1)
    s, c = m.where(odd, cosine, sine), m.where(odd, -sine, cosine)
    s, c = m.where(upper, -s, s), m.where(upper, -c, c)
    s = m.where(z == 0.0, z, s)
    s, c = m.sin_cos_beyond(_SIN_FAR, z, s, c)
    return s, c, -s


# What the formulas share.


def polynomial(m, coefficients, x, square):
    """Even and odd powers side by side: half the latency of Horner's rule."""
    parts = []
    for half in (coefficients[0::2], coefficients[1::2]):
        total = m.constant(half[-1])
        for c in half[-2::-1]:
            total = m.fma(total, square, c)
        parts.append(total)
    return m.fma(parts[1], x, parts[0])


def exact_sum(a, b):
    """a + b and its rounding error."""
    s = a + b
    shift = s - a
    return s, (a - (s - shift)) + (b - shift)


def fast_sum(a, b):
    """a + b and its rounding error, where abs(a) >= abs(b) or a is 0."""
    s = a + b
    return s, b - (s - a)


def _product(m, a, a_lo, b, b_lo):
    """(a + a_lo) (b + b_lo) as hi + lo."""
    p = a * b
    return p, m.fma(a, b_lo, m.fma(a_lo, b, m.fms(a, b, p)))


def times(m, a, b, b_lo):
    """a (b + b_lo) as hi + lo."""
    p = a * b
    return p, m.fma(a, b_lo, m.fms(a, b, p))


def _minus(m, c, a, b, b_lo):
    """c - a (b + b_lo) as hi + lo, with one rounding."""
    return m.residual(a, b, c), -a * b_lo


def _scaled(m, hi, lo, power):
    return ((hi + lo) * power) * 2.0**-m.table.bias


def reduced_exp(m, x, x_lo):
    """e**(x + x_lo) as (hi + lo) 2**k, with k + magic."""
    t = m.table
    shifted = m.fma(x, t.log2_e, t.magic)
    k = shifted - t.magic
    r, r_lo = fast_sum(m.fma(k, -t.ln2[0], x), m.fma(k, -t.ln2[1], x_lo))
    square = r * r
    tail = m.fma(square, polynomial(m, t.exp, r, square), m.fma(r_lo, r, r_lo))
    hi, lo = fast_sum(m.constant(1.0), r)
    hi, lo = fast_sum(hi, lo + tail)
    return hi, lo, shifted


def _exp(m, x, x_lo):
    """e**(x + x_lo) for x <= 0 as (hi + lo) scale, with scale = 2**k, and power = 2**(k + bias)."""
    hi, lo, shifted = reduced_exp(m, x, x_lo)
    power = m.power(shifted)
    return hi, lo, power * 2.0**-m.table.bias, power


def _decay(m, y):
    """E = e**-y for y >= 0, and 1 - E."""
    e = SimpleNamespace()
    e.hi, e.lo, e.scale, e.power = _exp(m, -y, 0.0)
    e.value, e.value_lo = e.hi * e.scale, e.lo * e.scale
    hi, lo = fast_sum(m.constant(1.0), -e.value)
    e.one_minus, e.one_minus_lo = fast_sum(hi, lo - e.value_lo)
    return e


def _logistic(m, y):
    """E = e**-y for y >= 0, 1/(1 + E), tanh(y/2) = (1 - E)/(1 + E) and E/(1 + E)**2 / scale."""
    e = _decay(m, y)
    below, below_lo = fast_sum(m.constant(1.0), e.value)
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


#: the formulas; an activation's code is its place here
FORMULAS = (identity, relu, leaky_relu, elu, softplus, tanh, sigmoid, silu, gelu, sin)
