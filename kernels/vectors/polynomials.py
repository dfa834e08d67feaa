"""The constants of the activations' formulas, in each dtype.

Polynomials stand lowest power first. They are weighted minimax fits by a Remez exchange in mpmath,
rounded to the dtype; ``tools/fit_polynomials.py`` makes them anew. In brackets the largest weighted
error in float32 and in float64.

* exp: (e**r - 1 - r) / r**2 in r, abs(r) <= ln(2)/2, weight r [2**-28.7, 2**-59.2]
* atanh: (atanh(s) - s) / s**3 in s**2, abs(s) <= 1/3, weight s**2 [2**-27.6, 2**-58.0]
* mills: (e**(u*u/2) Phi(-u) (1 + u) - 1/2) / v in v - 1, v = 2 u / (u + c), c = mills_centre,
  0 <= u <= far_normal, weight v [2**-29.3, 2**-58.0]
* sin: (sin(r) - r) / r**3 in r**2, abs(r) <= pi/4, weight r**2 [2**-27.7, 2**-57.2]
* cos: (cos(r) - 1 + r*r/2) / r**4 in r**2, abs(r) <= pi/4, weight r**4 [2**-30.4, 2**-60.4]

The parts of ``ln2``, ``half_pi`` and ``density`` (1/sqrt(2 pi)) add up to the number; the first of
``ln2`` leaves low bits free, so that its product with an exponent is exact. ``magic`` is
1.5 * 2**mantissa: adding it rounds a small number to an integer, which is then in the low bits of
the sum. Powers of two are built times 2**bias to stay normal; one last multiplication brings a
result to scale, and rounds a subnormal one once. Beyond ``far``, y e**-y is zero; beyond
``far_normal``, so is u**2 e**(-u*u/2). ``splitter`` halves a mantissa (Dekker).
``half_root`` are the bits of sqrt(1/2), ``tiny`` is the smallest normal number.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

_FLOAT32 = SimpleNamespace(
    mantissa=23,
    exponent_bias=127,
    integer=np.int32,
    half_root=0x3F3504F3,
    tiny=1.1754943508222875e-38,
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
    mills_centre=3.203125,
    mills=(
        -0.017121093, -0.080235235, 0.07130808, -0.028553003, 0.0019894165, 0.0029461335,
        -0.0005903781, -0.00040398067, 7.6019394e-05, 5.7953657e-05,
    ),
    sin=(-0.16666655, 0.008332178, -0.0001951636),
    cos=(0.041666653, -0.0013887555, 2.4456229e-05),
)  # fmt: skip
_FLOAT64 = SimpleNamespace(
    mantissa=52,
    exponent_bias=1023,
    integer=np.int64,
    half_root=0x3FE6A09E667F3BCD,
    tiny=2.2250738585072014e-308,
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
    mills_centre=6.0625,
    mills=(
        -0.04698427747567597, -0.03762662078092429, 0.07780376107539068, -0.08291936972793358,
        0.06743321820251404, -0.04512903233128505, 0.025267179629307506, -0.011704034220966124,
        0.004300712349492564, -0.0011137716028418918, 0.00011026917120924433,
        5.974575006177495e-05, -3.200645262431273e-05, 3.991270966761088e-06,
        2.3780409565592927e-06, -1.0738382601661138e-06, -4.363141459824903e-08,
        1.4453027648520772e-07, -1.739181511857243e-08, -1.687358759814007e-08,
        2.8594113614279677e-09, 1.668088276436895e-09,
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
#: the constants by the dtype's name
TABLES = {"float32": _FLOAT32, "float64": _FLOAT64}
