"""Activations against mpmath, in units in the last place, over the whole range of both dtypes."""

import os
import subprocess
import sys

import mpmath as mp
import numpy as np
import pytest
from fastmaml.kernels.vectors import activations
from numba import config

NAMES = list(activations.CODES)
DTYPES = [np.float32, np.float64]
# The plain twin has no fused multiply-add.
ULPS = 2.5 if config.DISABLE_JIT else 2.0
#: (name, order of the derivative) of what crosses zero away from the origin by cancellation: near
#: the zero the error is bounded in eps, not in ulps
CROSSINGS = {("silu", 1), ("silu", 2), ("gelu", 1)}


def truth(name, z):
    """phi, phi' and phi'' at z as mpmath numbers."""
    z = mp.mpf(float(z))
    one, zero = mp.mpf(1), mp.mpf(0)
    if name == "identity":
        return z, one, zero
    if name == "relu":
        return (z, one, zero) if z > 0 else (zero, zero, zero)
    if name == "elu":
        return (z, one, zero) if z > 0 else (mp.expm1(z), mp.exp(z), mp.exp(z))
    if name == "tanh":
        t, slope = mp.tanh(z), mp.sech(z) ** 2
        return t, slope, -2 * t * slope
    if name == "sin":
        return mp.sin(z), mp.cos(z), -mp.sin(z)
    if name == "gelu":
        near = max(mp.mpf(-100), min(z, mp.mpf(100)))  # mpmath's erfc overflows beyond
        area = mp.erfc(-near / mp.sqrt(2)) / 2
        density = mp.exp(-near * near / 2) / mp.sqrt(2 * mp.pi)
        phi = z if z > 100 else near * area
        return phi, area + near * density, (2 - near * near) * density
    s, c = 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z))
    difference = mp.tanh(z / 2)  # s - c
    if name == "sigmoid":
        return s, s * c, -s * c * difference
    if name == "softplus":
        return max(z, zero) + mp.log1p(mp.exp(-abs(z))), s, s * c
    assert name == "silu"
    return z * s, s * (1 + z * c), s * c * (2 - z * difference)


def error_in_ulps(got, want, dtype):
    info = np.finfo(dtype)
    if not np.isfinite(got):
        return 0.0 if abs(want) > float(info.max) else np.inf
    exponent = mp.frexp(want)[1] - info.nmant - 1 if want else -5000
    ulp = mp.mpf(2) ** max(exponent, info.minexp - info.nmant)
    return float(abs(mp.mpf(float(got)) - want) / ulp)


def grid(dtype):
    """Tiny, moderate and huge numbers of both signs, and those where a formula changes course."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(7)
    tiny, largest = float(info.tiny), float(info.max)
    smallest = float(info.smallest_subnormal)
    special = [smallest, 3 * smallest, tiny, tiny * 0.7, largest, largest / 7]
    special += [np.log(2) * (k + 0.5) + d for k in (0, 1, 5, 60) for d in (-1e-6, 1e-6)]
    special += [16.6, 17.4, 36.7, 37.5, 44.0, 51.9, 87.3, 88.7, 103.5, 104.2]  # f32: to 1 or 0
    special += [354.0, 372.0, 708.3, 709.8, 744.5, 745.5, 752.0, 800.0, 810.0]  # f64
    special += [5.0, 9.0, 13.1, 14.4, 15.0, 15.1, 26.0, 37.6, 38.5, 39.9, 40.1]  # gelu
    special += [1.0, 0.5, 0.75179, 1.27846, 1.41421356, 2.39936, 2.5, 99999.0, 1.0e5, 1.1e5, 1e9]
    special += [k * np.pi / 2 for k in (1, 2, 3, 4, 5, 51, 1000, 63661)]  # sin
    spread = 10.0 ** rng.uniform(np.log10(tiny), np.log10(largest) - 0.1, 30)
    small = 10.0 ** rng.uniform(-9, 0, 30)
    even = rng.uniform(0, 3, 60), rng.uniform(0, 30, 30)
    positive = np.concatenate([special, spread, small, *even])
    return np.concatenate([positive, -positive]).astype(dtype)


def phi_and_derivatives(name, z):
    """(3, n): what ``activate`` writes."""
    n = len(z)
    buf = np.concatenate([z, np.full(3 * n, 7.0, z.dtype)])
    activations.activate(activations.CODES[name], *buf.reshape(4, n), n)
    np.testing.assert_array_equal(buf[:n], z)
    return buf[n:].reshape(3, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in NAMES if n != "leaky_relu"])
def test_accuracy_over_the_whole_range(name, dtype):
    z = grid(dtype)
    got = phi_and_derivatives(name, z)
    with mp.workprec(400):
        for i, point in enumerate(z):
            for order, want in enumerate(truth(name, point)):
                ulps = error_in_ulps(got[order, i], want, dtype)
                near_zero = (name, order) in CROSSINGS and abs(want) < 0.0625 and abs(point) < 3
                if near_zero:
                    error = abs(mp.mpf(float(got[order, i])) - want)
                    assert error < 0.1 * np.finfo(dtype).eps, (point, order)
                else:
                    assert ulps <= ULPS, (point, order, ulps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_leaky_relu_is_exact(dtype):
    z = grid(dtype)
    phi, slope, bend = phi_and_derivatives("leaky_relu", z)
    np.testing.assert_array_equal(phi, np.where(z > 0, z, dtype(0.01) * z))
    np.testing.assert_array_equal(slope, np.where(z > 0, dtype(1), dtype(0.01)))
    assert not bend.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_at_zero_follow_the_stated_conventions(dtype):
    want = {
        "identity": (0, 1, 0),
        "relu": (0, 0, 0),
        "leaky_relu": (0, 0.01, 0),
        "elu": (0, 1, 1),
        "softplus": (np.log(2), 0.5, 0.25),
        "tanh": (0, 1, 0),
        "sigmoid": (0.5, 0.25, 0),
        "silu": (0, 0.5, 0.5),
        "gelu": (0, 0.5, np.sqrt(2 / np.pi)),
        "sin": (0, 1, 0),
    }
    for name in NAMES:
        z = np.array([0.0, -0.0], dtype)
        got = phi_and_derivatives(name, z)
        for column in got.T:
            np.testing.assert_array_equal(column, np.array(want[name], dtype), err_msg=name)
        if name not in ("softplus", "sigmoid"):
            np.testing.assert_array_equal(np.signbit(got[0]), [False, True], err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_give_the_limits(dtype):
    inf, nan = np.inf, np.nan
    want = {  # at -inf, at inf
        "identity": ((-inf, 1, 0), (inf, 1, 0)),
        "relu": ((0, 0, 0), (inf, 1, 0)),
        "leaky_relu": ((-inf, 0.01, 0), (inf, 1, 0)),
        "elu": ((-1, 0, 0), (inf, 1, 0)),
        "softplus": ((0, 0, 0), (inf, 1, 0)),
        "tanh": ((-1, 0, 0), (1, 0, 0)),
        "sigmoid": ((0, 0, 0), (1, 0, 0)),
        "silu": ((0, 0, 0), (inf, 1, 0)),
        "gelu": ((0, 0, 0), (inf, 1, 0)),
        "sin": ((nan, nan, nan), (nan, nan, nan)),
    }
    for name in NAMES:
        got = phi_and_derivatives(name, np.array([-inf, inf], dtype))
        np.testing.assert_array_equal(got.T, np.array(want[name], dtype), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_nan_and_stays_in_its_lane(dtype):
    for name in NAMES:
        z = np.linspace(-2, 2, 41).astype(dtype)
        clean = phi_and_derivatives(name, z)
        z[20] = np.nan
        got = phi_and_derivatives(name, z)
        others = np.arange(41) != 20
        np.testing.assert_array_equal(got[:, others], clean[:, others], err_msg=name)
        # a derivative that is constant everywhere stays that constant
        depends_on_z = [True, name != "identity", name not in ("identity", "relu", "leaky_relu")]
        np.testing.assert_array_equal(np.isnan(got[:, 20]), depends_on_z, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_length_gives_the_same_bits_and_touches_nothing_else(name, dtype):
    code = activations.CODES[name]
    z = np.random.default_rng(3).normal(scale=4, size=70).astype(dtype)
    z[11], z[30] = 3e6, -4e7  # sin leaves the vector path for these
    whole = phi_and_derivatives(name, z)
    for n in (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 69):
        gap = 3
        starts = [gap + i * (n + gap) for i in range(4)]
        buf = np.full(4 * n + 5 * gap, -99.0, dtype)
        buf[starts[0] : starts[0] + n] = z[:n]
        want = buf.copy()
        for start, row in zip(starts[1:], whole, strict=True):
            want[start : start + n] = row[:n]
        activations.activate(code, *(buf[start:] for start in starts), n)
        np.testing.assert_array_equal(buf, want)

        for some in (activations.activate_value, activations.activate_slope):
            outputs = 1 if some is activations.activate_value else 2
            only = buf.copy()
            only[starts[1] :] = -99.0
            want = only.copy()
            for start, row in zip(starts[1 : 1 + outputs], whole, strict=False):
                want[start : start + n] = row[:n]
            some(code, *(only[start:] for start in starts[: 1 + outputs]), n)
            np.testing.assert_array_equal(only, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_in_place(name, dtype):
    code = activations.CODES[name]
    z = np.random.default_rng(4).normal(scale=3, size=45).astype(dtype)
    want = phi_and_derivatives(name, z)
    n = len(z)
    buf = np.concatenate([z, np.zeros(2 * n, dtype)])
    activations.activate(code, buf, buf, buf[n:], buf[2 * n :], n)
    np.testing.assert_array_equal(buf.reshape(3, n), want)
    buf = np.concatenate([z, np.zeros(n, dtype)])
    activations.activate_slope(code, buf, buf, buf[n:], n)
    np.testing.assert_array_equal(buf.reshape(2, n), want[:2])
    buf = z.copy()
    activations.activate_value(code, buf, buf, n)
    np.testing.assert_array_equal(buf, want[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_plain_twin_agrees(dtype):
    z = grid(dtype)
    z = z[abs(z) < 1e5]  # beyond, sin is the C library's here and NumPy's there
    n = len(z)
    eps = np.finfo(dtype).eps
    for name in NAMES:
        buf = np.concatenate([z, np.zeros(4 * n, dtype)])
        activations._plain(activations.CODES[name], *buf.reshape(5, n)[:4], n)
        activations._plain(activations.CODES[name], buf, buf[4 * n :], n)
        twin = buf[n:].reshape(4, n)
        np.testing.assert_array_equal(twin[0], twin[3])
        np.testing.assert_allclose(
            twin[:3], phi_and_derivatives(name, z), rtol=4 * eps, atol=0.2 * eps, err_msg=name
        )


def test_without_the_jit():
    program = """
import numpy as np
from fastmaml.kernels.vectors import activations
for dtype in (np.float32, np.float64):
    for name, code in activations.CODES.items():
        buf = np.zeros(12, dtype)
        buf[:3] = [-1.5, 0.25, 3.0]
        activations.activate(code, buf, buf[3:], buf[6:], buf[9:], 3)
        activations.activate_value(code, buf, buf, 3)
        assert buf.dtype == dtype and (buf[:3] == buf[3:6]).all()
        print(*buf[3:].tolist())
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = iter(run.stdout.splitlines())
    for dtype in DTYPES:
        for name in NAMES:
            got = np.array(next(rows).split(), dtype).reshape(3, 3)
            want = phi_and_derivatives(name, np.array([-1.5, 0.25, 3.0], dtype))
            np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, err_msg=name)
