"""Learned models as C: the numbers of Python, without warnings, leaks or undefined behaviour."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import STRICT, Exported, compiler, exported, random_rows, run

import fastmaml as fm
from fastmaml.export.c import sources_of
from fastmaml.export.subject import subject_of
from fastmaml.export.text import Dialect, comment, rounded
from fastmaml.learn import Scaling
from fastmaml.saving import predicted

WORDS = ["identity", "relu", "leaky_relu", "elu", "softplus", "tanh", "sigmoid", "silu", "gelu",
         "sin"]  # fmt: skip
SCALING = Scaling([1000.1, -2.0], [3.0, 0.5], [100.0, 0.7], [20.0, 0.1])
X_SCALING = Scaling([1000.1, -2.0], [3.0, 0.5], [0.0], [1.0])
DEEP = fm.MLP([2, 7, 6, 5, 2], ["tanh", "gelu", "silu"])
WIDE = fm.MLP([1, 40, 40, 1], "relu")
MODEL = fm.MLP([1, 3, 1])
THETA = MODEL.init(0)


def _maml(model: Any, scaling: Scaling | None = None, **options: Any) -> Any:
    maml = fm.MAML(model, **options)
    return subject_of(maml, model.init(3, scheme="pytorch"), scaling)


def _head(model: Any, scaling: Scaling | None = None, **options: Any) -> Any:
    head = fm.BayesianLastLayer(model, **options)
    theta = head.init(3)
    theta[model.n_params :] = np.random.default_rng(0).normal(
        -0.5, 0.5, len(theta) - model.n_params
    )
    return subject_of(head, theta, scaling)


SUBJECTS = {
    "one rate": _maml(WIDE, inner_lr=0.01, loss="mse"),
    "rates of steps": _maml(DEEP, inner_lr=[[0.01], [0.02], [0.0]], steps=3, loss="half_mse"),
    "rates of layers": _maml(DEEP, SCALING, inner_lr=[0.01, 0.0, 0.03, 0.0], steps=2, loss="mse"),
    "rates of both": _maml(
        DEEP, inner_lr=[[0.0, 0.02, 0.0, 0.01], [0.0, 0.0, 0.0, 0.1]], steps=2, loss="mse"
    ),
    "rates of parameters": _maml(
        fm.MLP([2, 3, 2]), inner_lr=np.linspace(0, 0.05, 17) % 0.03, steps=3, inner_momentum=0.5
    ),
    "head alone": _maml(WIDE, inner_lr=fm.anil_inner_lr(WIDE, 0.02), steps=4, loss="sse"),
    "momentum": _maml(DEEP, SCALING, inner_lr=0.01, steps=4, loss="mse", inner_momentum=0.9),
    "proximal": _maml(DEEP, inner_lr=0.02, steps=5, order="implicit", proximal=0.7),
    "all activations": _maml(fm.MLP([1, *[5] * len(WORDS), 1], WORDS), inner_lr=0.01, steps=2),
    "no steps": _maml(DEEP, SCALING, inner_lr=0.01, steps=0),
    "rates of zero": _maml(DEEP, inner_lr=0.0, steps=2),
    "linear": _maml(fm.Linear(2, 2), SCALING, inner_lr=0.05, steps=2, loss="mse"),
    "without intercept": _maml(fm.Linear(3, 1, intercept=False), inner_lr=0.05, steps=2),
    "frozen layers": _maml(
        fm.Frozen(DEEP, ["layer 1", "layer 3"]), inner_lr=[[0.02], [0.05]], steps=2, loss="mse"
    ),
    "frozen in part": _maml(
        fm.Frozen(DEEP, np.arange(DEEP.n_params) % 3 == 0),
        inner_lr=[[0.02, 0.03, 0.0, 0.01]],
        steps=2,
        loss="mse",
        inner_momentum=0.5,
    ),
    "frozen, rates of parameters": _maml(
        fm.Frozen(fm.MLP([2, 3, 2]), "layer 1"), inner_lr=np.linspace(0, 0.05, 17), steps=3
    ),
    "huber": _maml(DEEP, SCALING, inner_lr=0.05, steps=3, loss=fm.Huber(0.4)),
    "pseudo_huber": _maml(DEEP, SCALING, inner_lr=0.05, steps=2, loss=fm.PseudoHuber(0.6)),
    "log_cosh": _maml(DEEP, inner_lr=0.05, steps=2, loss=fm.LogCosh(mean=False)),
    "quantile": _maml(DEEP, inner_lr=0.05, steps=2, loss=fm.Quantile(0.8, 0.2)),
    "gaussian": _maml(DEEP, X_SCALING, inner_lr=0.05, steps=2, loss="gaussian_nll"),
    "logistic": _maml(DEEP, inner_lr=0.05, steps=2, loss="logistic"),
    "poisson": _maml(DEEP, inner_lr=0.05, steps=2, loss="poisson"),
    "softmax": _maml(fm.MLP([2, 5, 3]), X_SCALING, inner_lr=0.1, steps=3, loss="softmax"),
    "softmax, the first layer": _maml(
        fm.MLP([2, 5, 3]), inner_lr=[[0.1, 0.0]], steps=2, loss=fm.Softmax(mean=False)
    ),
    "softmax, linear": _maml(fm.Linear(2, 3), inner_lr=0.1, steps=2, loss="softmax"),
    "last layer": _head(WIDE),
    "last layer, outputs": _head(DEEP, SCALING, noise="per_output", loss="mean_nll"),
    "last layer, one prior": _head(fm.MLP([2, 9, 2], "sin"), prior="shared"),
    "last layer, linear": _head(fm.Linear(2, 2), SCALING),
    "last layer, no intercept": _head(fm.Linear(2, 1, intercept=False)),
}
HEADS = [name for name in SUBJECTS if name.startswith("last layer")]
STEPS = [name for name in SUBJECTS if name not in HEADS]
DTYPES = ["float64", "float32"]
#: relative to the largest of Python's numbers
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Exported]:
    keys = [(name, dtype) for name in SUBJECTS for dtype in DTYPES]
    folder = tmp_path_factory.mktemp("exported")
    made = exported(folder, [SUBJECTS[name] for name, _ in keys], [dtype for _, dtype in keys])
    return dict(zip(keys, made, strict=True))


def error(found: Any, wanted: Any, subject: Any = None) -> float:
    """Relative to the largest number; of a subject that scales, to it or the scale of y."""
    least = 0.0
    scaling = None if subject is None else subject.scaling_of("y")
    if scaling is not None:
        found, wanted = scaling.scale_y(found), scaling.scale_y(wanted)
        least = 1.0
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), least))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STEPS)
def test_gradient_steps_are_those_of_python(models: Any, name: str, dtype: str) -> None:
    model, subject = models[name, dtype], SUBJECTS[name]
    x, y = random_rows(np.random.default_rng(5), subject, 6)
    model.start()
    before = model.predict(x)
    theta = subject.theta
    x_in = x if subject.scaling is None else subject.scaling.scale_x(x)
    untouched = subject.model.predict(theta, x_in)
    if subject.scaling_of("y") is not None:
        untouched = subject.scaling.unscale_y(untouched)
    assert error(before, untouched, subject) < TOLERANCES[dtype]
    assert model.adapt(x[:4], y[:4]) == 0
    wanted = predicted(subject.learner, theta, subject.scaling, x[:4], y[:4], x)
    assert error(model.predict(x), wanted, subject) < TOLERANCES[dtype]
    if name not in ("no steps", "rates of zero"):
        assert error(before, wanted, subject) > 1e-4
    first = model.predict(x)
    assert model.adapt(x[3:], y[3:]) == 0
    assert model.adapt(x[:4], y[:4]) == 0  # from what was learned, whatever was before
    assert model.predict(x).tobytes() == first.tobytes()
    assert model.adapt(x[:0], y[:0]) == 0
    assert model.predict(x).tobytes() == before.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HEADS)
def test_the_closed_form_is_that_of_python(models: Any, name: str, dtype: str) -> None:
    model, subject = models[name, dtype], SUBJECTS[name]
    for n_rows in (0, 3, 60):
        x, y = random_rows(np.random.default_rng(n_rows), subject, n_rows + 4)
        assert model.adapt(x[4:], y[4:]) == 0
        wanted = predicted(
            subject.learner, subject.theta, subject.scaling, x[4:], y[4:], x[:4], True
        )
        found = model.predict(x[:4], std=True)
        assert error(found[0], wanted[0], subject) < TOLERANCES[dtype]
        assert error(found[1], wanted[1]) < TOLERANCES[dtype]
        assert model.predict(x[:4]).tobytes() == found[0].tobytes()  # std is NULL
        state = model.state.tobytes()
        model.start()
        for row in range(4, n_rows + 4):
            assert model.update(x[row], y[row]) == 0
        model.predict(x[:4])  # which leaves its traces
        assert model.state.tobytes() == state


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stream_forgets_as_that_of_python(models: Any, dtype: str) -> None:
    model, subject = models["last layer, one prior", dtype], SUBJECTS["last layer, one prior"]
    stream = subject.learner.start(subject.theta)
    x, y = random_rows(np.random.default_rng(1), subject, 300)
    model.start()
    for row in range(300):
        stream.update(x[row], y[row], forget=0.99)
        assert model.update(x[row], y[row], 0.99) == 0
    mean, std = stream.predict(x[0], return_std=True)
    found = model.predict(x[:1], std=True)
    assert error(found[0][0], mean) < TOLERANCES[dtype]
    assert error(found[1][0], std) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_no_row_shows_is_forgotten_without_end(models: Any, dtype: str) -> None:
    name = "last layer, no intercept"
    model = models[name, dtype]
    model.start()
    for _ in range(20_000):
        assert model.update([1.0, 0.0], [2.0], 0.9) == 0
    mean, std = model.predict([[1.0, 0.0]], std=True)
    assert mean[0, 0] == pytest.approx(2.0, rel=1e-5)
    assert np.isfinite(std).all()
    assert np.isfinite(model.predict([[0.0, 1.0]], std=True)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_are_not_finite_are_refused(models: Any, dtype: str) -> None:
    for name in ("momentum", "head alone"):
        model, subject = models[name, dtype], SUBJECTS[name]
        x, y = random_rows(np.random.default_rng(5), subject, 4)
        model.start()
        before = model.predict(x)
        for bad in (np.nan, np.inf, -np.inf):
            for side in (x, y):
                kept, side[2, -1] = side[2, -1], bad
                assert model.adapt(x, y) == -1
                side[2, -1] = kept
                assert model.predict(x).tobytes() == before.tobytes()
    model, subject = models["last layer, outputs", dtype], SUBJECTS["last layer, outputs"]
    x, y = random_rows(np.random.default_rng(5), subject, 4)
    assert model.adapt(x, y) == 0
    state = model.state.tobytes()
    for bad in (np.nan, np.inf, -np.inf):
        assert model.update([bad, 1.0], y[0]) == -1
        assert model.update(x[0], [1.0, bad]) == -1
    for forget in (0.0, -0.5, 1.1, np.nan, np.inf):
        assert model.update(x[0], y[0], forget) == -1
    assert model.state.tobytes() == state
    known = model.predict(x[:2], std=True)
    largest = np.finfo(dtype).max
    assert model.update(x[0], [largest, 0.0]) == -1
    assert np.array_equal(model.predict(x[:2], std=True), known)
    x[2, 0] = np.nan
    assert model.adapt(x, y) == -1
    with_bad = model.predict(x[:2], std=True)
    model.start()
    assert np.array_equal(with_bad, model.predict(x[:2], std=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_features_that_overflow_are_refused(models: Any, dtype: str) -> None:
    model = models["last layer, no intercept", dtype]
    model.start()
    assert model.update([1.0, 2.0], [3.0]) == 0
    known = model.predict([[1.0, 1.0]], std=True)
    for size in (1.0, 1e-10):  # finite, but not their squares
        assert model.update([np.finfo(dtype).max * size, 1.0], [0.0]) == -1
    assert np.array_equal(model.predict([[1.0, 1.0]], std=True), known)


def test_steps_that_run_away_are_told(models: Any) -> None:
    model = models["one rate", "float32"]
    model.start()
    before = model.predict([[1.0]])
    assert model.adapt([[1e30]], [[1e30]]) == -1
    assert model.predict([[1.0]]).tobytes() == before.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_and_their_slopes(tmp_path: Path, dtype: str) -> None:
    """Of one unit: its value far out, and its slope by what a step does."""
    grid = np.concatenate([np.linspace(-30, 30, 241), np.array([1, -1]) * 1e-3, [-600, 600, 0.0]])
    theta = np.array([1.0, 0.0, 1.0, 0.0])
    subjects = [
        subject_of(fm.MAML(fm.MLP([1, 1, 1], word), inner_lr=0.125, check_finite=False), theta)
        for word in WORDS
    ]
    eps = np.finfo(dtype).eps
    for word, model in zip(WORDS, exported(tmp_path, subjects, [dtype] * len(WORDS)), strict=True):
        z = grid.astype(dtype).astype(np.float64)
        model.start()
        wanted = model.subject.model.predict(theta, z[:, None])
        # erfc far out multiplies the rounding of its argument by twice its square
        factor = 1000 if word == "gelu" else 8
        np.testing.assert_allclose(
            model.predict(z[:, None]), wanted, factor * eps, np.finfo(dtype).tiny, err_msg=word
        )
        for at, f in zip(z, wanted[:, 0], strict=True):
            assert model.adapt([[at]], [[f - 1.0]]) == 0
            adapted = model.subject.learner.adapt(theta, [[at]], [f - 1.0])
            room = 8 * eps * max(1.0, at * at)  # a rounding of f counts f and z times
            np.testing.assert_allclose(model.state[:4], adapted, 0, room, err_msg=f"{word} {at}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_of_losses(tmp_path: Path, dtype: str) -> None:
    """Of a model of one weight, by what a step does: near the target, and far from it."""
    losses = {
        fm.Huber(0.5): [0.25], fm.PseudoHuber(0.5): [0.25], fm.LogCosh(): [0.25],
        fm.Quantile(0.9, 0.05): [0.25], fm.Logistic(): [0.0, 1.0], fm.Poisson(): [0.0, 3.0],
    }  # fmt: skip
    model, theta = fm.Linear(1, intercept=False), np.ones(1)
    subjects = [
        subject_of(fm.MAML(model, 0.125, loss=loss, check_finite=False), theta) for loss in losses
    ]
    found = exported(tmp_path, subjects, [dtype] * len(losses))
    grid = np.concatenate([np.linspace(-4, 4, 161), [0.2500001, -80.0, 80.0, -1e4, 30.0]])
    for (loss, targets), exported_model in zip(losses.items(), found, strict=True):
        for z in grid.astype(np.float32).astype(np.float64):
            if isinstance(loss, fm.Poisson) and z > 50:
                continue  # its step overflows
            for y in targets:
                assert exported_model.adapt([[z]], [[y]]) == 0
                adapted = exported_model.subject.learner.adapt(theta, [[z]], [[y]])
                room = 8 * np.finfo(dtype).eps * max(1.0, abs(z), abs(adapted[0]))
                np.testing.assert_allclose(
                    exported_model.state[:1], adapted, 0, room, err_msg=f"{loss} {z} {y}"
                )


@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_that_a_loss_has_not_are_refused(models: Any, dtype: str) -> None:
    bad = {"logistic": [0.5, -1.0, 2.0], "poisson": [-1.0, -0.5], "softmax": [3.0, -1.0, 0.5],
           "softmax, the first layer": [3.0, 1.5], "softmax, linear": [3.0]}  # fmt: skip
    for name, targets in bad.items():
        model, subject = models[name, dtype], SUBJECTS[name]
        x, y = random_rows(np.random.default_rng(5), subject, 4)
        assert model.adapt(x, y) == 0
        model.start()
        before = model.predict(x)
        for target in (*targets, np.nan, np.inf):
            wrong = y.copy()
            wrong[2, -1] = target
            assert model.adapt(x, wrong) == -1, (name, target)
            assert model.predict(x).tobytes() == before.tobytes()


def test_the_header_says_what_targets_and_outputs_are() -> None:
    def header(name: str) -> str:
        return " ".join(
            sources_of(SUBJECTS[name], Dialect("m", np.dtype("float32"))).header.split()
        )

    text = header("gaussian")
    assert "#define M_N_OUTPUTS 2 #define M_N_TARGETS 1 /* of a row of y */" in text
    assert "x has 2 and y 1 numbers a row" in text
    assert "f takes 2: the means, then the logarithms of the variances. */" in text
    assert "x, in its own units (scaled inside): x1, x2 y, as in the training: y " in text
    text = header("softmax")
    assert "-1 if the rows held NaN or inf, or targets that are none, or the steps ran away" in text
    assert "-1 if the rows held NaN or inf, or the steps ran away" in header("huber")


def test_sizes_are_those_that_the_header_states(models: Any) -> None:
    for (name, dtype), model in models.items():
        header, source = sources_of(SUBJECTS[name], Dialect("m", np.dtype(dtype)))
        text = " ".join(header.split())
        constants, state = map(int, re.search(
            r"Constants: (\d+) bytes\. State: (\d+) bytes", text
        ).groups())  # fmt: skip
        assert state == model.n_bytes
        tables = re.findall(r"static const (?:float|double) \w+\[(\d+)\] = \{(.*?)\}", source, re.S)
        assert all(int(n) == len(numbers.split(",")) for n, numbers in tables)
        assert constants == sum(int(n) for n, _ in tables) * np.dtype(dtype).itemsize


def test_what_is_frozen_takes_no_memory() -> None:
    def state(name: str) -> int:
        header = sources_of(SUBJECTS[name], Dialect("m", np.dtype("float64"))).header
        return int(re.search(r"State:\s+(\d+)\s+bytes", header).group(1))

    assert state("head alone") < state("one rate") / 10


# ---- compilers and tools


def write_all(folder: Path) -> list[str]:
    names = []
    for i, subject in enumerate(SUBJECTS.values()):
        for dtype in DTYPES:
            names.append(f"m{i}_{dtype}")
            dialect = Dialect(names[-1], np.dtype(dtype))
            header, source = sources_of(subject, dialect)
            (folder / f"{names[-1]}.h").write_text(header, encoding="ascii")
            (folder / f"{names[-1]}.c").write_text(source, encoding="ascii")
    return names


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_compiler_warns_and_it_calls_math_alone(tmp_path: Path, name: str) -> None:
    names = write_all(tmp_path)
    run([compiler(name), *STRICT, "-O2", "-c", *(f"{n}.c" for n in names)], cwd=tmp_path)
    for each in names:
        source = (tmp_path / f"{each}.c").read_text(encoding="ascii")
        assert re.findall(r"#include (.*)", source) == [f'"{each}.h"', "<math.h>"]
    if shutil.which("nm") is None:
        return
    called = set(run(["nm", "-uP", *(f"{n}.o" for n in names)], cwd=tmp_path).split())
    called -= {"U", "_GLOBAL_OFFSET_TABLE_", *(f"{n}.o:" for n in names)}
    called -= {"memcpy", "memset", "memmove"}  # what a compiler makes of loops
    functions = {"cos", "erfc", "exp", "expm1", "hypot", "log1p", "sin", "sqrt", "tanh"}
    functions |= {"sincos"}  # what gcc makes of sin and cos of the same number
    assert called <= functions | {f"{function}f" for function in functions}


def test_the_headers_are_cpp_too(tmp_path: Path) -> None:
    names = write_all(tmp_path)
    text = "".join(f'#include "{name}.h"\n' for name in names)
    (tmp_path / "all.cpp").write_text(text * 2, encoding="ascii")
    run([compiler("g++"), "-Wall", "-Wextra", "-Werror", "-c", "all.cpp"], cwd=tmp_path)


RUN = """
static int run_$p(void)
{
    const $real x[] = {$x}, y[] = {$y};
    ${p}_state *s = malloc(sizeof *s); /* so that what was not set is known to valgrind */
    $real *f = malloc(2 * ${P}_N_OUTPUTS * sizeof *f);
    size_t i;
    int bad = 0;
    if (s == NULL || f == NULL) {
        return 1;
    }
    ${p}_start(s);
    for (i = 0; i < 3; i++) {
        bad |= ${p}_adapt(s, 3 * i, x, y);
        $use
        printf("%.17g\\n", (double)f[0]);
    }
    free(f);
    free(s);
    return bad;
}
"""
CHECKED = ["rates of layers", "momentum", "rates of parameters", "all activations", "rates of zero",
           "quantile", "gaussian", "softmax", "logistic",
           "last layer, outputs", "last layer, no intercept"]  # fmt: skip


def checked_program(folder: Path, flags: list[str], cc: str) -> int:
    """Compile what does all there is to do, with several subjects; return its lines of output."""
    includes, code, calls, sources = "", "", [], ["main.c"]
    cases = [(name, dtype) for name in CHECKED for dtype in DTYPES]
    for i, (name, dtype) in enumerate(cases):
        c, subject = Dialect(f"m{i}", np.dtype(dtype)), SUBJECTS[name]
        x, y = random_rows(np.random.default_rng(2), subject, 6)
        use = "${p}_predict(s, x, f);"
        if name in HEADS:
            use = f"bad |= ${{p}}_update(s, x, y, {c.number(0.5)});"
            use += " ${p}_predict(s, x, f, f + ${P}_N_OUTPUTS); ${p}_predict(s, x, f, NULL);"
        numbers = [", ".join(c.number(v) for v in side.reshape(-1)) for side in (x, y)]
        code += c.fill(RUN, x=numbers[0], y=numbers[1], use=c.fill(use))
        header, source = sources_of(subject, c)
        (folder / f"m{i}.h").write_text(header, encoding="ascii")
        (folder / f"m{i}.c").write_text(source, encoding="ascii")
        includes += f'#include "m{i}.h"\n'
        calls.append(f"run_m{i}()")
        sources.append(f"m{i}.c")
    code += f"\nint main(void)\n{{\n    return {' | '.join(calls)};\n}}\n"
    text = f"#include <stdio.h>\n#include <stdlib.h>\n{includes}{code}"
    (folder / "main.c").write_text(text, encoding="ascii")
    run([cc, *STRICT, "-g", *flags, *sources, "-o", "main", "-lm"], cwd=folder)
    return 3 * len(cases)


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_undefined_behaviour(tmp_path: Path, name: str) -> None:
    flags = ["-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]
    cc = compiler(name)
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n", encoding="ascii")
    if subprocess.run([cc, *flags, "empty.c"], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip(f"{name} has no sanitizers")
    lines = checked_program(tmp_path, flags, cc)
    assert len(run(["./main"], cwd=tmp_path).split()) == lines


def test_valgrind(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("there is no valgrind")
    lines = checked_program(tmp_path, ["-O1"], compiler())
    check = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "./main"]
    assert len(run(check, cwd=tmp_path).split()) == lines


def test_the_program_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```c\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    head = fm.BayesianLastLayer(MODEL)
    fm.export.to_c(head, head.init(0), path=tmp_path / "servo.c", dtype="float32")
    (tmp_path / "main.c").write_text(code, encoding="ascii")
    flags = [flag for flag in STRICT if flag != "-Wmissing-prototypes"]
    flags = [flag for flag in flags if flag != "-Wstrict-prototypes"]
    run([compiler(), *flags, "-c", "main.c", "servo.c"], cwd=tmp_path)


def test_the_benchmark_runs() -> None:
    compiler()
    command = [sys.executable, "-W", "error", "-m", "benchmarks.exported", "--rounds", "1"]
    rows = run(command, cwd=Path(__file__).parents[1]).splitlines()[4:]
    assert len(rows) == 6
    assert all(float(cell) > 0 for row in rows for cell in row.strip("|").split("|")[1:])


# ---- texts


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_keep_their_bits(tmp_path: Path, dtype: str) -> None:
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    values = np.concatenate([
        [0.0, -0.0, 1.0, -2.0, 1e7, 123456.0, 0.1, 1e-4, 9.9e-5, 16777216.0],
        [info.max, info.min, info.tiny, info.smallest_subnormal, info.eps],
        rng.normal(size=50) * 10.0 ** rng.integers(-30, 30, 50),
    ]).astype(dtype)  # fmt: skip
    c = Dialect("m", np.dtype(dtype))
    code = c.table("numbers", values, "numbers")
    code += f"const {c.real} *m_at(void);\nconst {c.real} *m_at(void)\n{{\n"
    code += "    return m_numbers;\n}\n"
    code += f"int main(void)\n{{\n    fwrite(m_at(), 1, {values.nbytes}, stdout);\n"
    (tmp_path / "m.c").write_text(f"#include <stdio.h>\n{code}    return 0;\n}}\n")
    run([compiler(), *STRICT, "m.c", "-o", "m"], cwd=tmp_path)
    printed = subprocess.run([tmp_path / "m"], capture_output=True, check=True).stdout
    assert printed == values.tobytes()


def test_names_of_columns_cannot_leave_the_comment(tmp_path: Path) -> None:
    model = fm.MLP([3, 2, 1])
    names = ["a */ int x; /*", "??/\nb ***/ \\", "Größe \u202e"]
    path = tmp_path / "saved.npz"
    fm.save(path, fm.MAML(model), model.init(0), inputs=names, outputs=["y??/"])
    fm.export.to_c(fm.load(path), path=tmp_path / "m.c")
    run([compiler(), *STRICT, "-Wcomment", "-Wtrigraphs", "-c", "m.c"], cwd=tmp_path)
    text = (tmp_path / "m.h").read_text(encoding="ascii")
    assert "a * / int x; / *" in text
    assert text.count("/*") == text.count("*/")
    assert comment("*/*") == "* / *"
    assert comment("????") == "? ? ? ?"


# ---- what a user calls


def test_files_and_names(tmp_path: Path) -> None:
    model = fm.MLP([1, 3, 1])
    maml, theta = fm.MAML(model), model.init(0, np.float32)
    fm.export.to_c(maml, theta, path=tmp_path / "servo.c")
    header = (tmp_path / "servo.h").read_text(encoding="ascii")
    assert "#define SERVO_N_INPUTS 1" in header
    assert "float w[10];" in header  # theta's dtype
    assert sorted(file.name for file in tmp_path.iterdir()) == ["servo.c", "servo.h"]
    first = (tmp_path / "servo.c").read_bytes()
    fm.export.to_c(fm.learn.Reptile(maml), theta, path=str(tmp_path / "servo.c"))
    assert (tmp_path / "servo.c").read_bytes() == first  # each time the same
    fm.export.to_c(maml, theta, path=tmp_path / "1 odd-name.c", prefix="odd", dtype="float64")
    assert '#include "1 odd-name.h"' in (tmp_path / "1 odd-name.c").read_text(encoding="ascii")
    assert "double w[10];" in (tmp_path / "1 odd-name.h").read_text(encoding="ascii")
    run([compiler(), *STRICT, "-c", "1 odd-name.c"], cwd=tmp_path)


def test_what_was_saved_is_exported_with_its_units(tmp_path: Path) -> None:
    subject = SUBJECTS["last layer, outputs"]
    path = tmp_path / "saved.npz"
    names = {"inputs": ["volt", "ampere"], "outputs": ["torque", "heat"]}
    fm.save(path, subject.learner, subject.theta, scaling=SCALING, **names)
    saved = fm.load(path)
    found = subject_of(saved)
    assert (found.inputs, found.outputs) == (("volt", "ampere"), ("torque", "heat"))
    (model,) = exported(tmp_path, [found], ["float64"])
    x, y = random_rows(np.random.default_rng(0), subject, 5)
    assert model.adapt(x, y) == 0
    for one, other in zip(model.predict(x, std=True), saved.predict(x, y, x, True), strict=True):
        assert error(one, other) < 1e-12
    header = sources_of(found, Dialect("m", np.dtype("float64"))).header
    assert "x, in its own units (scaled inside): volt, ampere" in header


def test_a_fitted_regressor_is_exported(tmp_path: Path) -> None:
    exceptions = pytest.importorskip("sklearn.exceptions")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    groups = np.repeat(np.arange(10), 6)
    y = 100 + 5 * x[:, 0] * groups
    regressor = fm.BayesianLastLayerRegressor(
        (8,), max_iter=20, early_stopping=False, random_state=0
    )
    with pytest.warns(exceptions.ConvergenceWarning):
        regressor.fit(x, y, groups)
    (model,) = exported(tmp_path, [subject_of(regressor)], ["float64"])
    assert model.adapt(x[:6], y[:6, None]) == 0
    wanted = regressor.adapt(x[:6], y[:6]).predict(x[6:9])
    assert error(model.predict(x[6:9])[:, 0], wanted) < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "m.cpp"}, r"path is 'm\.cpp'; accepted are names that end in \.c"),
        ({"path": "m"}, "path is 'm'; accepted are names"),
        ({"path": "é.c", "prefix": "m"}, "path is 'é.c'; accepted are names of letters, digits"),
        ({"path": 'a"b.c', "prefix": "m"}, "path is 'a\"b.c'; accepted are names of letters"),
        ({"path": "3m.c"}, "prefix is '3m'; accepted are a letter and up to 19 letters"),
        ({"prefix": "a b"}, "prefix is 'a b'; accepted"),
        ({"prefix": "é"}, "prefix is 'é'; accepted"),
        ({"prefix": ""}, "prefix is ''; accepted"),
        ({"prefix": "a" * 21}, "prefix is 'a{21}'; accepted"),
        ({"prefix": "a\n"}, r"prefix is 'a\\n'; accepted"),
        ({"prefix": 3}, "prefix is 3; accepted is a text"),
        ({"dtype": "int8"}, "dtype is 'int8'; accepted are float32 and float64"),
        ({"theta": None}, "theta is None; accepted are the parameters of MAML"),
        ({"theta": THETA[1:]}, r"theta has shape \(9,\), the model takes \(10,\)"),
        ({"theta": THETA * np.nan}, "theta holds nan"),
        ({"theta": THETA + 1e39, "dtype": "float32"},
         r"theta holds 1e\+39 at \(0,\); accepted are numbers that float32 can hold"),
        ({"scaling": "unit"}, "scaling is 'unit'; accepted are a Scaling and None"),
        ({"scaling": SCALING}, "scaling has 2 inputs and 2 outputs; accepted are those of the"),
        ({"scaling": Scaling([1e39], [1.0], [0.0], [1.0]), "dtype": "float32"},
         r"scaling\.x_mean holds 1e\+39 at \(0,\); accepted"),
        ({"scaling": Scaling([0.0], [1.0], [0.0], [1e-60]), "dtype": "float32"},
         r"scaling\.y_scale holds 1e-60, which is 0 in float32; accepted"),
        ({"objective": MODEL}, "objective is MLP.*, a MLP; accepted are a fastmaml.MAML, a"),
        ({"objective": fm.BayesianLastLayer(MODEL), "theta": np.append(THETA, [0.0] * 4 + [1e4])},
         r"exp\(theta / 2\) of the noise holds inf at \(0,\); accepted are numbers that float64"),
        ({"objective": fm.BayesianLastLayer(MODEL),
          "theta": np.append(THETA, [0.0, 0.0, 800.0, 0.0, 0.0])},
         "theta has a prior variance of inf; accepted are those whose inverse float64 can hold"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"objective": fm.MAML(MODEL), "theta": THETA, "path": "m.c", **options}
    with pytest.raises((TypeError, ValueError), match=message):
        fm.export.to_c(arguments.pop("objective"), **arguments)
    assert not list(tmp_path.iterdir())


def test_a_saved_model_is_given_alone(tmp_path: Path) -> None:
    fm.save(tmp_path / "m.npz", fm.MAML(MODEL), THETA)
    saved = fm.load(tmp_path / "m.npz")
    with pytest.raises(TypeError, match="theta is given beside a Saved, which has its own"):
        fm.export.to_c(saved, THETA, path=tmp_path / "m.c")
    with pytest.raises(TypeError, match="scaling is given beside a Saved"):
        fm.export.to_c(saved, scaling=SCALING, path=tmp_path / "m.c")


def test_losses_that_are_refused(tmp_path: Path) -> None:
    numba = pytest.importorskip("numba")
    function = numba.njit(lambda f, y: f - y)
    own = fm.Loss(function, function, function)
    message = r"objective has the loss Loss\(.*, which is not written in C; accepted are 'half_sse'"
    with pytest.raises(ValueError, match=message):
        fm.export.to_c(fm.MAML(MODEL, loss=own), THETA, path=tmp_path / "m.c")
    tiny = fm.MAML(MODEL, loss=fm.Huber(1e-60))
    with pytest.raises(ValueError, match=r"the loss Huber\(.*, of which a number is 0 in float32"):
        fm.export.to_c(tiny, THETA, path=tmp_path / "m.c", dtype="float32")
    assert not list(tmp_path.iterdir())


def test_both_files_are_written_or_none(tmp_path: Path) -> None:
    maml = fm.MAML(MODEL)
    fm.export.to_c(maml, THETA, path=tmp_path / "m.c")
    before = (tmp_path / "m.c").read_bytes()
    (tmp_path / "m.h").unlink()
    (tmp_path / "m.h").mkdir()  # so that the header cannot be written
    with pytest.raises(OSError, match=r"m\.h is no regular file"):
        fm.export.to_c(maml, 2 * THETA, path=tmp_path / "m.c")
    assert (tmp_path / "m.c").read_bytes() == before
    (tmp_path / "m.h").rmdir()
    (tmp_path / "m.c").unlink()
    (tmp_path / "m.c").mkdir()
    with pytest.raises(OSError, match=r"m\.c is no regular file"):
        fm.export.to_c(maml, THETA, path=tmp_path / "m.c")
    assert [path.name for path in tmp_path.iterdir()] == ["m.c"]


@pytest.mark.parametrize(
    ("frozen", "options"),
    [
        ("layer 2", {"inner_lr": [[0.02], [0.05]]}),
        (["layer 1", "layer 4"], {"inner_lr": [[0.02, 0.03, 0.05, 0.01]], "inner_momentum": 0.5}),
        (np.arange(DEEP.n_params) % 3 == 0, {"inner_lr": [[0.02, 0.03, 0.0, 0.01]]}),
        ("layer 3", {"inner_lr": np.linspace(0, 0.05, DEEP.n_params)}),
        (np.arange(DEEP.n_params) == 5, {"inner_lr": 0.1, "steps": 0}),
    ],
)
def test_frozen_parts_stay(tmp_path: Path, frozen: Any, options: dict[str, Any]) -> None:
    maml = fm.MAML(fm.Frozen(DEEP, frozen), **{"steps": 2, **options})
    theta = DEEP.init(0)
    (model,) = exported(tmp_path, [subject_of(maml, theta)], ["float64"])
    x, y = random_rows(np.random.default_rng(0), model.subject, 5)
    assert model.adapt(x, y) == 0
    assert error(model.predict(x), maml.predict(theta, x, y, x)) < 1e-12


def test_frozen_parts_that_are_refused(tmp_path: Path) -> None:
    model = fm.Frozen(MODEL, np.arange(10) == 3)
    maml = fm.MAML(model, inner_lr=[[0.1], [0.2]], steps=2)
    with pytest.raises(ValueError, match="which freezes parts of layers, and rates of each step;"):
        fm.export.to_c(maml, THETA, path=tmp_path / "m.c")


def test_another_model_is_refused(tmp_path: Path) -> None:
    from test_family import Decay

    maml = fm.MAML(Decay(), inner_lr=0.01)
    message = "objective has the model .*; accepted are stacks of weight layers, an MLP or a Linear"
    with pytest.raises(TypeError, match=message):
        fm.export.to_c(maml, np.ones(maml.model.n_params), path=tmp_path / "m.c")


def test_rounded_says_which_number() -> None:
    with pytest.raises(ValueError, match=r"inner_lr holds 1e\+40 at \(0, 1\); accepted"):
        rounded("inner_lr", [[1.0, 1e40]], np.dtype("float32"))
    with pytest.raises(ValueError, match=r"proximal holds 1e\+40; accepted"):
        rounded("proximal", 1e40, np.dtype("float32"))
