"""What exported C takes a call: ``python -m benchmarks.exported``.

Three models with relu and with tanh, in double and float: a MAML of 1-40-40-1 that adapts to 5 rows
in one step and predicts a row; and two last layers on 41 features, of 1-40-1 and 1-40-40-1, which
take in a row (forgetting 1 %) and predict another, with its standard deviation. The C is compiled
for any CPU with ``-O2``, unless ``--flags`` say otherwise. Prints a Markdown table of microseconds:
the median of rounds of 200 calls each.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import fastmaml as fm


class Case(NamedTuple):
    title: str
    objective: Any
    calls: str  # C, of a round's i-th call


def _cases(word: str) -> list[Case]:
    model, small = fm.MLP([1, 40, 40, 1], word), fm.MLP([1, 40, 1], word)
    rows = "x[0] = (real)(i % 7); "
    adapt = rows + "bad |= m_adapt(&s, 5, x, y); m_predict(&s, x, f); sum += f[0];"
    update = rows + "bad |= m_update(&s, x, y, (real)0.99); m_predict(&s, x + 1, f, d); "
    update += "sum += f[0] + d[0];"
    return [
        Case(
            f"adapt to 5 rows, predict, 1-40-40-1, {word}", fm.MAML(model, 0.01, loss="mse"), adapt
        ),
        Case(f"update, predict with std, 1-40-1, {word}", fm.BayesianLastLayer(small), update),
        Case(f"update, predict with std, 1-40-40-1, {word}", fm.BayesianLastLayer(model), update),
    ]


MAIN = Template("""
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "m.h"

typedef $real real;

static m_state s;
static double times[$rounds];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    real x[5] = {-4, -2, 1, 2, 3}, y[5] = {1, 0, -1, 0, 1}, f[1], d[1], sum = 0;
    int bad = 0, round, i;
    d[0] = 0;
    m_start(&s);
    for (round = -1; round < $rounds; round++) { /* the first only warms up */
        const double start = now();
        for (i = 0; i < 200; i++) {
            $calls
        }
        if (round >= 0) {
            times[round] = (now() - start) / 200;
        }
    }
    qsort(times, $rounds, sizeof *times, compare);
    printf("%.3f\\n", times[$rounds / 2]);
    return bad != 0 || sum != sum;
}
""")


def measure(case: Case, dtype: str, compiler: str, flags: list[str], rounds: int) -> float:
    """Microseconds of one call."""
    init = getattr(case.objective, "init", case.objective.model.init)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fm.export.to_c(case.objective, init(0), path=folder / "m.c", dtype=dtype)
        real = "float" if dtype == "float32" else "double"
        main = MAIN.substitute(real=real, rounds=rounds, calls=case.calls)
        (folder / "main.c").write_text(main, encoding="ascii")
        command = [compiler, "-std=c99", *flags, "main.c", "m.c", "-o", "main", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        return float(subprocess.run([folder / "main"], check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--flags", default="-O2", help="such as --flags='-O3 -march=native'")
    arguments = parser.parse_args()
    if shutil.which(arguments.compiler) is None:
        parser.error(f"--compiler is {arguments.compiler}, which is not there")
    print(f"{arguments.compiler} {arguments.flags}\n")
    print("| µs a call | double | float |\n|---|---:|---:|")
    for case in [*_cases("relu"), *_cases("tanh")]:
        times = [
            measure(
                case, dtype, arguments.compiler, arguments.flags.split(), max(arguments.rounds, 1)
            )
            for dtype in ("float64", "float32")
        ]
        print(f"| {case.title} | {times[0]:.2f} | {times[1]:.2f} |")


if __name__ == "__main__":
    main()
