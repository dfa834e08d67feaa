"""asv: what a meta-gradient is made of, and how near it comes to the machine's own speed."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastmaml.kernels.vectors.activations import CODES, activate
from fastmaml.kernels.vectors.matmul import inner, outer
from numba import njit

from .contenders.with_numpy import SIZE
from .race import Entry, race
from .workloads import DTYPES, WORKLOADS, useful_flops

REPEATS = 100  # in compiled code, so that the call from Python does not count
SHAPES = {  # (m, k, n)
    "120x40x40": (120, 40, 40),
    "10x40x40": (10, 40, 40),
    "10x10x40": (10, 10, 40),
    "156x512x512": (156, 512, 512),
}


@njit
def activations(code: int, buf: Any, n: int) -> None:
    for _ in range(REPEATS):
        activate(code, buf, buf[n:], buf[2 * n :], buf[3 * n :], n)


@njit
def outers(m: int, k: int, n: int, c: Any, a: Any, b: Any) -> None:
    for _ in range(REPEATS):
        outer(m, n, k, c, n, c, n, False, a, k, 1, b, n)


@njit
def inners(m: int, k: int, n: int, c: Any, a: Any, b: Any) -> None:
    for _ in range(REPEATS):
        inner(m, n, k, c, n, 1.0, 0.0, False, a, k, b, k)


class Activations:
    """A hundred times value and two derivatives of 4096 numbers: they fit the nearest caches."""

    params = (tuple(CODES), DTYPES)
    param_names = ("activation", "dtype")
    timeout = 300

    def setup(self, activation: str, dtype: str) -> None:
        n = 4096
        buf = np.zeros(4 * n, dtype)
        buf[:n] = np.random.default_rng(0).uniform(-5, 5, n)
        self.arguments = (CODES[activation], buf, n)
        activations(*self.arguments)

    def time_activate(self, activation: str, dtype: str) -> None:
        activations(*self.arguments)


class Products:
    """A hundred times a product of an (m, k) block with a (k, n) one, on one thread."""

    params = (("outer", "inner"), tuple(SHAPES), DTYPES)
    param_names = ("kernel", "m x k x n", "dtype")
    timeout = 300

    def setup(self, kernel: str, shape: str, dtype: str) -> None:
        if kernel == "inner" and shape == "156x512x512":
            raise NotImplementedError("inner is for blocks of rows; no layer as wide goes to it")
        m, k, n = SHAPES[shape]
        self.run = {"outer": outers, "inner": inners}[kernel]
        rng = np.random.default_rng(0)
        # n of outer and k of inner are padded lengths: whole vectors of any processor.
        n, k = -(-n // 16) * 16, -(-k // 16) * 16 if kernel == "inner" else k
        a, b = (rng.standard_normal(size).astype(dtype) for size in (m * k, k * n))
        self.arguments = (m, k, n, np.zeros(m * n, dtype), a, b)
        self.run(*self.arguments)

    def time_product(self, kernel: str, shape: str, dtype: str) -> None:
        self.run(*self.arguments)


class Roofline:
    """Useful operations a second over those of NumPy's large matrix product, in the same minute."""

    params = (("wide", "many", "sin"),)
    param_names = ("workload",)
    unit = "share"
    timeout = 300

    def track_roofline_share(self, workload: str) -> float:
        entries = [Entry("fastmaml"), Entry("matmul")]
        results = race(entries, (workload, "float32", "relu"), 5).results
        speed = useful_flops(WORKLOADS[workload]) / results["fastmaml"].median
        return speed / (2 * SIZE**3 / results["matmul"].median)
