"""One sample: its values, the Jacobian of its outputs and their curvature, by plain loops.

Layer l turns value a into ``z = W a + b`` and, unless it is the last, into ``a' = phi(z)``. For
numbers delta_o at the outputs, a pass backward finds the derivative of ``sum_o delta_o f_o`` with
respect to every z:

* backward     ``delta_prev = (delta W) * phi'``
* gradient     ``dW = delta^T a``,  ``db = delta``

With delta the unit vector of output o that gradient is row o of the Jacobian df/dtheta of equations
5 and 11. Row p of the curvature ``sum_o delta_o d2f_o/dtheta2``, the first term of equations 10 and
12, is its derivative along the unit vector of parameter p. With E the unit matrix of that weight,
and e for a bias (Pearlmutter's R-operator):

* R-forward    ``Rz = W Ra + E a + e``,  ``Ra' = phi' * Rz``
* R-backward   ``Rdelta_prev = (Rdelta W + delta E) * phi' + (delta W) * phi'' * Rz_prev``
* R-gradient   ``RdW = Rdelta^T a + delta^T Ra``,  ``Rdb = Rdelta``

That is P passes for each sample. Parameters lie in their plain layout here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compile.jit import helper
from ..compile.link import linked
from ..compile.records import layer_of
from ..vectors.activations import activate
from ..vectors.pointers import offset


class Sample(NamedTuple):
    """What is kept of a sample: for each, a row with room for all values."""

    a: Any
    d1: Any  # phi',
    d2: Any  # and phi''
    delta: Any
    back: Any  # delta W of the layer above
    ra: Any
    r_delta: Any


#: rows of a sample
KINDS = len(Sample._fields)


class Unit(NamedTuple):
    """The unit vector of weight (i, j) of a layer; of its bias i, if j is past the inputs."""

    number: int  # of the layer
    i: int
    j: int


@helper
def sample_of(net, scratch):
    """A sample's rows, at the start of scratch."""
    width = net.width
    return Sample(
        scratch, offset(scratch, width), offset(scratch, 2 * width), offset(scratch, 3 * width),
        offset(scratch, 4 * width), offset(scratch, 5 * width), offset(scratch, 6 * width),
    )  # fmt: skip


@helper
def outputs_of(net, row):
    """The part of a row that belongs to the outputs."""
    return offset(row, layer_of(net, net.n_layers + 1).place)


@linked
def forward(net, theta, x, sample):
    """Values of one sample, with phi' and phi'' of the hidden ones."""
    a, zero = sample.a, 0 * theta[0]  # zero of theta's dtype
    for j in range(layer_of(net, 1).n_in):
        a[j] = x[j]
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        n_in, n_out, with_bias = layer.n_in, layer.n_out, layer.bias >= 0
        w, b = offset(theta, layer.weight), offset(theta, max(layer.bias, 0))
        before, here = layer.place, layer_of(net, number + 1).place
        for i in range(n_out):
            z = b[i] if with_bias else zero
            for j in range(n_in):
                z += w[i * n_in + j] * a[before + j]
            a[here + i] = z
        if number < net.n_layers:
            phi, d1, d2 = offset(a, here), offset(sample.d1, here), offset(sample.d2, here)
            activate(layer.activation, phi, phi, d1, d2, n_out)


@linked
def _backward(net, theta, sample):
    """delta of the hidden values from that of the outputs, and delta W beside it."""
    delta, zero = sample.delta, 0 * theta[0]
    for number in range(net.n_layers, 1, -1):
        layer = layer_of(net, number)
        n_in, n_out, w = layer.n_in, layer.n_out, offset(theta, layer.weight)
        before, here = layer.place, layer_of(net, number + 1).place
        for j in range(n_in):
            total = zero
            for i in range(n_out):
                total += delta[here + i] * w[i * n_in + j]
            sample.back[before + j] = total
            delta[before + j] = total * sample.d1[before + j]


@linked
def _add_products(net, left, right, constant, factor, out):
    """Add ``factor * left^T right`` of every layer; biases see a ``constant`` for the input."""
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        n_in, n_out, with_bias = layer.n_in, layer.n_out, layer.bias >= 0
        w, b = offset(out, layer.weight), offset(out, max(layer.bias, 0))
        before, here = layer.place, layer_of(net, number + 1).place
        for i in range(n_out):
            value = factor * left[here + i]
            for j in range(n_in):
                w[i * n_in + j] += value * right[before + j]
            if with_bias:
                b[i] += constant * value


@linked
def jacobian(net, theta, sample, out):
    """df/dtheta of the sample whose values are there: a row of P numbers for each output."""
    p, n_out = net.n_theta, layer_of(net, net.n_layers).n_out
    delta = outputs_of(net, sample.delta)
    for o in range(n_out):
        for i in range(n_out):
            delta[i] = 1 if i == o else 0
        _backward(net, theta, sample)
        row = offset(out, o * p)
        for i in range(p):
            row[i] = 0
        _add_products(net, sample.delta, sample.a, 1, 1.0, row)


@helper
def _r_forward(net, theta, unit, sample):
    """Ra of the hidden values along a unit vector, and the part of Rdelta that has Rz in it."""
    ra, r_delta, width, zero = sample.ra, sample.r_delta, net.width, 0 * theta[0]
    for k in range(width):
        ra[k] = 0
    for k in range(width):
        r_delta[k] = 0
    for number in range(unit.number, net.n_layers):
        layer = layer_of(net, number)
        n_in, n_out, w = layer.n_in, layer.n_out, offset(theta, layer.weight)
        before, here = layer.place, layer_of(net, number + 1).place
        for k in range(n_out):
            rz = zero
            if number > unit.number:
                for m in range(n_in):
                    rz += w[k * n_in + m] * ra[before + m]
            elif k == unit.i:
                rz += sample.a[before + unit.j] if unit.j < n_in else 1
            ra[here + k] = sample.d1[here + k] * rz
            r_delta[here + k] = sample.back[here + k] * sample.d2[here + k] * rz


@helper
def _r_backward(net, theta, unit, sample):
    """The rest of Rdelta."""
    r_delta, zero = sample.r_delta, 0 * theta[0]
    for number in range(net.n_layers, 1, -1):
        layer = layer_of(net, number)
        n_in, n_out, w = layer.n_in, layer.n_out, offset(theta, layer.weight)
        before, here = layer.place, layer_of(net, number + 1).place
        for m in range(n_in):
            total = zero
            for k in range(n_out):
                total += r_delta[here + k] * w[k * n_in + m]
            if number == unit.number and m == unit.j:
                total += sample.delta[here + unit.i]
            r_delta[before + m] += total * sample.d1[before + m]


@linked
def add_curvature(net, theta, sample, factor, out):
    """Add ``factor * sum_o delta_o d2f_o/dtheta2``, delta_o as it lies in the outputs' delta."""
    p = net.n_theta
    _backward(net, theta, sample)
    for number in range(1, net.n_layers + 1):
        layer = layer_of(net, number)
        n_in, n_out, weight, bias = layer.n_in, layer.n_out, layer.weight, layer.bias
        for i in range(n_out):
            for j in range(n_in + 1 if bias >= 0 else n_in):
                unit = Unit(number, i, j)
                _r_forward(net, theta, unit, sample)
                _r_backward(net, theta, unit, sample)
                row = offset(out, p * (weight + i * n_in + j if j < n_in else bias + i))
                _add_products(net, sample.r_delta, sample.a, 1, factor, row)
                _add_products(net, sample.delta, sample.ra, 0, factor, row)
