"""An adapted network as ONNX. Needs onnx, from the extra ``onnx``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..checks import FLOAT64, as_float_dtype, shape_text, shown
from ..closed_form import BayesianLastLayer
from ..files import write_whole
from ..learn import Scaling
from ..version import __version__
from .subject import Subject, subject_of
from .text import rounded

__all__ = ["to_onnx"]

#: which every onnxruntime since 1.13 reads
OPSET, IR_VERSION = 17, 8

#: the operators of the activations that ONNX has, and their attributes
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {"alpha": 1.0}),
    "softplus": ("Softplus", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "sin": ("Sin", {}),
}


def to_onnx(
    objective: Any,
    theta: ArrayLike | None = None,
    *,
    task: tuple[Any, Any],
    path: str | Path,
    dtype: DTypeLike = np.float32,
    scaling: Scaling | None = None,
) -> None:
    """Adapt to the rows of one task, and write the network that comes of it as an ONNX file.

    The file takes ``x`` (rows, n_inputs), any number of rows, and gives ``f`` (rows, n_outputs). Of
    a `BayesianLastLayer` it gives ``mean``, and ``std``: the standard deviation of an observation,
    its noise included.

    Parameters
    ----------
    objective : MAML, BayesianLastLayer or Reptile
        With an `MLP` or a `Linear` as its model. Or, alone, what has its parameters and scaling:
        ``fastmaml.load(path)``, or a fitted regressor of `fastmaml.learn`.
    theta : array_like, shape (P,)
        The meta-parameters.
    task : (x, y)
        Rows of one task, (rows, n_inputs) and (rows, n_outputs) or (rows,).
    path : str or Path
        Of the file, a name that ends in ``.onnx``. An existing file is replaced.
    dtype : dtype
        float32 or float64. The task adapts in that of theta. (onnxruntime has no ``gelu`` in
        float64.)
    scaling : Scaling, optional
        Then what goes in and comes out is in the user's units.

    Raises
    ------
    ImportError
        Without onnx.
    TypeError, ValueError
        For arguments of another kind or shape, another model than can be written, and numbers that
        the dtype cannot hold.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastmaml as fm
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), inner_lr=0.01)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "servo.onnx")
    >>> task = [[0.0], [1.0]], [0.5, 2.0]
    >>> fm.export.to_onnx(maml, maml.model.init(0), task=task, path=path)
    >>> path.exists()
    True
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ImportError(
            'to_onnx needs onnx, which comes with pip install "fastmaml[onnx]"', name=error.name
        ) from error
    target = Path(path)
    if target.suffix != ".onnx":
        raise ValueError(f"path is {str(target)!r}; accepted are names that end in .onnx")
    subject = subject_of(objective, theta, scaling)
    graph = Graph(onnx, as_float_dtype("dtype", dtype))
    outputs = _write(graph, subject, _adapted(subject, task))
    model = graph.model(subject, outputs)
    onnx.checker.check_model(model)
    write_whole(target, lambda file: file.write(model.SerializeToString()))


class Graph:
    """The nodes and constants of a file that is being made."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
        self._onnx, self.dtype = onnx, dtype
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, name: str, values: Any) -> str:
        """Add an array, and return its name."""
        array = rounded(name, values, self.dtype)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add an operation, and return the name of its result."""
        result = to or f"{operator.lower()}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(operator, list(inputs), [result], result, **attributes)
        self._nodes.append(node)
        return result

    def model(self, subject: Subject, outputs: Sequence[str]) -> Any:
        """The whole file."""
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        widths = {"x": subject.model.n_inputs} | dict.fromkeys(outputs, subject.model.n_outputs)
        infos = [
            helper.make_tensor_value_info(name, kind, ["rows", width])
            for name, width in widths.items()
        ]
        graph = helper.make_graph(self._nodes, "adapted", infos[:1], infos[1:], self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
            producer_name="fastmaml", producer_version=__version__,
        )  # fmt: skip
        columns = {"inputs": subject.inputs, "outputs": subject.outputs}
        helper.set_model_props(model, {n: json.dumps(names) for n, names in columns.items()})
        return model


def _adapted(subject: Subject, task: Any) -> Any:
    """What `adapt` returns for one task: parameters (P,), or a posterior without tasks."""
    if not isinstance(task, tuple | list) or len(task) != 2:
        raise TypeError(f"task is {shown(task)}; accepted is (x, y), the rows of one task")
    x, y = task
    if (of_x := subject.scaling_of("x")) is not None:
        x = of_x.scale_x(x)
    if (of_y := subject.scaling_of("y")) is not None:
        y = of_y.scale_y(y)
    found: Any = subject.learner.adapt(subject.theta, x, y)
    n_axes = np.ndim(found[0]) if isinstance(subject.learner, BayesianLastLayer) else found.ndim + 1
    if n_axes != 2:
        raise ValueError(
            f"task has x of shape {shape_text(np.shape(x))}; accepted are the rows of one task, "
            f"(rows, {subject.model.n_inputs})"
        )
    return found


def _write(graph: Graph, subject: Subject, adapted: Any) -> list[str]:
    """Add what leads from x to the outputs, and return their names."""
    head = isinstance(subject.learner, BayesianLastLayer)
    scaling, a = subject.scaling_of("x"), "x"
    if scaling is not None:
        mean = rounded("scaling.x_mean", scaling.x_mean, graph.dtype)
        a = graph.node("Sub", a, graph.constant("x_mean", mean))
        if (rest := scaling.x_mean - mean.astype(FLOAT64)).any():
            a = graph.node("Sub", a, graph.constant("x_rest", rest))
        a = graph.node("Div", a, graph.constant("x_scale", scaling.x_scale))
    parameters = subject.theta[: subject.model.n_params] if head else adapted
    *hidden, last = subject.model.unpack(parameters)
    for i, (layer, word) in enumerate(zip(hidden, subject.activations, strict=True), start=1):
        a = _activated(graph, word, _affine(graph, f"layer{i}", a, *layer))
    scaling = subject.scaling_of("y")
    if not head:
        return [_unscaled(graph, scaling, _affine(graph, f"layer{len(hidden) + 1}", a, *last), "f")]
    return _predictive(graph, scaling, a, adapted, last[1] is not None)


def _affine(
    graph: Graph, name: str, a: str, weight: NDArray[Any], bias: NDArray[Any] | None
) -> str:
    constants = [graph.constant(f"{name}.weight", weight)]
    if bias is not None:
        constants.append(graph.constant(f"{name}.bias", bias))
    return graph.node("Gemm", a, *constants, transB=1)


def _activated(graph: Graph, word: str, z: str) -> str:
    """Add an activation; by parts where the operator is not one of float64.

    onnxruntime has not all of them in float64, and an attribute, such as a slope, is float32.
    """
    if word == "identity":
        return z
    # onnxruntime 1.20 makes of z times Sigmoid what it has not in float64.
    if word == "silu" and graph.dtype == FLOAT64:
        below = graph.node("Add", graph.node("Exp", graph.node("Neg", z)), _number(graph, 1.0))
        return graph.node("Div", z, below)
    if word == "silu":
        return graph.node("Mul", z, graph.node("Sigmoid", z))
    if word == "gelu":
        scaled = graph.node("Mul", z, _number(graph, math.sqrt(0.5)))
        twice = graph.node("Add", graph.node("Erf", scaled), _number(graph, 1.0))
        return graph.node("Mul", graph.node("Mul", z, _number(graph, 0.5)), twice)
    if word == "leaky_relu" and graph.dtype == FLOAT64:
        return graph.node("Max", z, graph.node("Mul", z, _number(graph, 0.01)))
    if word in ("elu", "softplus") and graph.dtype == FLOAT64:
        right = graph.node("Relu", z)
        if word == "softplus":
            decay = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
            more = graph.node("Log", graph.node("Add", decay, _number(graph, 1.0)))
            return graph.node("Add", right, more)
        left = graph.node("Exp", graph.node("Min", z, _number(graph, 0.0)))
        return graph.node("Add", right, graph.node("Sub", left, _number(graph, 1.0)))
    operator, attributes = OPERATORS[word]
    return graph.node(operator, z, **attributes)


def _number(graph: Graph, value: float) -> str:
    return graph.constant(f"number_{len(graph._constants)}", value)


def _unscaled(graph: Graph, scaling: Scaling | None, f: str, to: str) -> str:
    if scaling is None:
        return graph.node("Identity", f, to=to)
    scaled = graph.node("Mul", f, graph.constant("y_scale", scaling.y_scale))
    return graph.node("Add", scaled, graph.constant("y_mean", scaling.y_mean), to=to)


def _predictive(
    graph: Graph, scaling: Scaling | None, a: str, posterior: Any, intercept: bool
) -> list[str]:
    """Add mean and std of a last layer: ``mean phi`` and ``sqrt(noise (1 + |inv(L) phi|^2))``."""
    width = posterior.mean.shape[1] - intercept
    inverse = np.linalg.inv(posterior.scale.astype(FLOAT64))
    parts = {"mean": posterior.mean, "deviations": inverse}
    f, v = (
        _affine(graph, name, a, rows[:, :width], rows[:, width] if intercept else None)
        for name, rows in parts.items()
    )
    deviation = np.sqrt(posterior.noise_variance.astype(FLOAT64))
    if scaling is not None:
        deviation = deviation * scaling.y_scale
    squares = graph.node("ReduceSumSquare", v, axes=[1], keepdims=1)
    root = graph.node("Sqrt", graph.node("Add", squares, _number(graph, 1.0)))
    std = graph.node("Mul", root, graph.constant("noise", deviation), to="std")
    return [_unscaled(graph, scaling, f, "mean"), std]
