"""Adapted networks as ONNX: what onnxruntime computes is what Python predicts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import random_rows, random_subject

import fastmaml as fm
from fastmaml.learn import Scaling
from fastmaml.saving import predicted

WORDS = ["identity", "relu", "leaky_relu", "elu", "softplus", "tanh", "sigmoid", "silu", "sin",
         "gelu"]  # fmt: skip
MODEL = fm.MLP([1, 3, 1])
THETA = MODEL.init(0)
TASK = ([[0.0], [1.0]], [0.5, 2.0])


def run(path: Path, x: Any, dtype: Any = np.float32) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(None, {"x": np.asarray(x, dtype)})
    return results


def require_onnx() -> Any:
    return pytest.importorskip("onnx")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", WORDS)
def test_each_activation(tmp_path: Path, word: str, dtype: str) -> None:
    require_onnx()
    if (word, dtype) == ("gelu", "float64"):
        pytest.skip("onnxruntime has no erf in float64")
    model = fm.MLP([1, 1, 1], word)
    maml = fm.MAML(model, inner_lr=1e-9)
    path, z = tmp_path / "m.onnx", np.linspace(-20, 20, 101)[:, None]
    task = ([[0.0]], [[0.0]])
    fm.export.to_onnx(maml, [1.0, 0.0, 1.0, 0.0], task=task, path=path, dtype=dtype)
    wanted = maml.predict([1.0, 0.0, 1.0, 0.0], *task, z)
    (found,) = run(path, z, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, 0, 40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("seed", range(12))
def test_it_predicts_as_python(tmp_path: Path, seed: int) -> None:
    require_onnx()
    rng = np.random.default_rng(seed)
    subject = random_subject(rng)
    x, y = random_rows(rng, subject, 5)
    new, _ = random_rows(rng, subject, 7)
    head = isinstance(subject.learner, fm.BayesianLastLayer)
    path = tmp_path / "m.onnx"
    given = subject.learner, subject.theta
    fm.export.to_onnx(*given, task=(x, y), path=path, scaling=subject.scaling)
    wanted = predicted(*given, subject.scaling, x, y, new, head)
    pairs = zip(run(path, new), wanted if head else [wanted], strict=True)
    for place, (one, other) in enumerate(pairs):
        least = 0.0
        scaling = subject.scaling_of("y")
        if scaling is not None and place == 0:
            one, other = scaling.scale_y(one), scaling.scale_y(other)
            least = 1.0
        assert np.abs(one - other).max() < 1e-5 * max(np.abs(other).max(), least)


@pytest.mark.parametrize(
    ("loss", "y"), [("gaussian_nll", [0.5, 2.0]), ("softmax", [3, 1]), ("logistic", np.eye(4)[:2])]
)
def test_outputs_that_are_no_predictions_of_y(tmp_path: Path, loss: str, y: Any) -> None:
    """They are as `predict` gives them, whatever x is scaled by."""
    require_onnx()
    model = fm.MLP([1, 3, 2 if loss == "gaussian_nll" else 4])
    n_y = {"gaussian_nll": 1, "softmax": 1, "logistic": 4}[loss]
    scaling = Scaling([3.0], [2.0], np.zeros(n_y), np.ones(n_y))
    maml, theta, task = fm.MAML(model, 0.1, loss=loss), model.init(0), ([[1.0], [4.0]], y)
    path = tmp_path / "m.onnx"
    fm.export.to_onnx(maml, theta, task=task, path=path, scaling=scaling)
    wanted = predicted(maml, theta, scaling, *task, [[2.0], [5.0]])
    np.testing.assert_allclose(run(path, [[2.0], [5.0]])[0], wanted, 1e-5, 1e-6)


def test_a_large_mean_costs_no_digits(tmp_path: Path) -> None:
    require_onnx()
    scaling = Scaling([1000.1], [0.01], [0.0], [1.0])
    maml, path = fm.MAML(MODEL), tmp_path / "m.onnx"
    task = ([[1000.1]], [[0.0]])
    fm.export.to_onnx(maml, THETA, task=task, path=path, scaling=scaling)
    x = np.float32([[1000.0996], [1000.1112]])
    wanted = predicted(maml, THETA, scaling, *task, x)
    np.testing.assert_allclose(run(path, x)[0], wanted, 0, 1e-6)


def test_what_was_saved_is_exported(tmp_path: Path) -> None:
    onnx = require_onnx()
    head = fm.BayesianLastLayer(MODEL)
    scaling = Scaling([3.0], [2.0], [50.0], [10.0])
    fm.save(
        tmp_path / "m.npz", head, head.init(0), scaling=scaling, inputs=["°C"], outputs=["torque"]
    )
    saved = fm.load(tmp_path / "m.npz")
    fm.export.to_onnx(saved, task=TASK, path=tmp_path / "m.onnx")
    for one, other in zip(
        run(tmp_path / "m.onnx", [[1.5]]), saved.predict(*TASK, [[1.5]], True), strict=True
    ):
        np.testing.assert_allclose(one[:, 0], other, 1e-5)
    model = onnx.load(tmp_path / "m.onnx")
    columns = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert columns == {"inputs": ["°C"], "outputs": ["torque"]}
    assert [each.name for each in model.graph.output] == ["mean", "std"]
    assert model.producer_name == "fastmaml"


def test_no_rows_give_the_prior(tmp_path: Path) -> None:
    require_onnx()
    head = fm.BayesianLastLayer(MODEL)
    theta, none = head.init(0), (np.empty((0, 1)), np.empty((0, 1)))
    fm.export.to_onnx(head, theta, task=none, path=tmp_path / "m.onnx")
    wanted = head.predict(theta, *none, [[0.3]], return_std=True)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", [[0.3]]), wanted, 1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "m.pb"}, r"path is 'm\.pb'; accepted are names that end in \.onnx"),
        ({"task": None}, r"task is None; accepted is \(x, y\), the rows of one task"),
        ({"task": ([[0.0]],)}, r"task is \(\[\[0\.0\]\],\); accepted is \(x, y\)"),
        ({"task": ([[[0.0]]], [[[1.0]]])},
         r"task has x of shape \(1, 1, 1\); accepted are the rows of one task, \(rows, 1\)"),
        ({"task": ([[0.0, 1.0]], [1.0])}, r"x\[0\] has shape \(2,\); accepted is \(rows, 1\)"),
        ({"dtype": "float16"}, "dtype is 'float16'; accepted are float32 and float64"),
        ({"theta": None}, "theta is None; accepted are the parameters of MAML"),
        ({"theta": THETA + 1e38 * 10}, r"layer1\.weight holds 1e\+39 at \(0, 0\); accepted"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    require_onnx()
    monkeypatch.chdir(tmp_path)
    maml = fm.MAML(MODEL, inner_lr=0.0)
    arguments = {"theta": THETA, "path": "m.onnx", "task": TASK, **options}
    with pytest.raises((TypeError, ValueError), match=message):
        fm.export.to_onnx(maml, **arguments)
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r'to_onnx needs onnx, which comes with pip install "fastmaml\[onnx\]"'
    with pytest.raises(ImportError, match=message):
        fm.export.to_onnx(fm.MAML(MODEL), THETA, task=TASK, path="m.onnx")
