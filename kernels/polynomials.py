"""The constants of the activations' formulas, in each dtype.

Polynomials stand lowest power first. They are weighted minimax fits by a Remez exchange in mpmath,
rounded to the dtype; ``tools/fit_polynomials.py`` makes them anew. In brackets the largest weighted
error in float32 and in float64.

* exp: (e**r - 1 - r) / r**2 in r, abs(r) <= ln(2)/2, weight r [2**-28.7, 2**-59.2]
* atanh: (atanh(s) - s) / s**3 in s**2, abs(s) <= 1/3, weight s**2 [2**-27.6, 2**-58.0]
* mills: e**(u*u/2) Phi(-u) (1 + u) in (u - c) / (u + c), 0 <= u <= far_normal, c = mills_centre,
  weight 1 [2**-28.7, 2**-56.9]
* sin: (sin(r) - r) / r**3 in r**2, abs(r) <= pi/4, weight r**2 [2**-27.7, 2**-57.2]
* cos: (cos(r) - 1 + r*r/2) / r**4 in r**2, abs(r) <= pi/4, weight r**4 [2**-30.4, 2**-60.4]

The parts of ``ln2``, ``half_pi`` and ``density`` (1/sqrt(2 pi)) add up to the number; the first of
``ln2`` leaves low bits free, so that its product with an exponent is exact. ``magic`` is
1.5 * 2**mantissa: adding it rounds a small number to an integer, which is then in the low bits of
the sum. Powers of two are built times 2**bias to stay normal; one last multiplication brings a
result to scale, and rounds a subnormal one once. Beyond ``far``, y e**-y is zero; beyond
``far_normal``, so is u**2 e**(-u*u/2). ``splitter`` halves a mantissa (Dekker).
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

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
#: the constants by the dtype's name
TABLES = {"float32": _FLOAT32, "float64": _FLOAT64}
