"""What is in a checkpoint: a training's state as named arrays and a header of JSON, and back.

The way back trusts nothing. :func:`unpack` looks at the whole content, and what it returns is a
state that :func:`fastmaml.learn.train` could have handed out. :func:`pack` ends with it, so that
what is written can be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..checks import as_count, shape_text, shown
from ..npz import parse_json
from ..version import __version__
from .loop import Best, TrainState, with_rates
from .optimizers import AdamState, SGDState
from .spec import build, describe, learner_of

__all__ = ["FORMAT", "HEADER", "Contents", "header_of", "pack", "unpack"]

#: the layout of the file; a reader refuses what is newer than itself
FORMAT = 1
HEADER = "fastmaml_checkpoint"

#: NumPy's bit generators, and of some the index into a buffer, which NumPy does not check
BIT_GENERATORS: dict[str, Any] = {
    kind: getattr(np.random, kind) for kind in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
}
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Contents(NamedTuple):
    """The fields of a Checkpoint."""

    state: TrainState
    generator: Mapping[str, Any] | None
    configuration: Any
    version: str
    maml: Any


# ---- to be written


def pack(
    state: TrainState, generator: Any, configuration: Any, maml: Any = None
) -> dict[str, np.ndarray]:
    """Return the arrays of a file. The rates of `maml` are those of the state.

    Raises
    ------
    TypeError
        If JSON cannot hold the configuration, or the class of `maml` is not known.
    ValueError
        If anything else is not as :func:`unpack` wants it.
    """
    arrays: dict[str, Any] = {"theta": state.theta}
    if state.inner_lr is not None:
        arrays["inner_lr"] = state.inner_lr
    header = {
        "format": FORMAT,
        "version": __version__,
        "iteration": state.iteration,
        "value": state.value,
        "diverged": state.diverged,
        "validation_value": state.validation_value,
        "optimizer_state": _pack_fields(arrays, "optimizer_state", state.optimizer_state),
        "rate_state": _pack_fields(arrays, "rate_state", state.rate_state),
        "best": None,
        "generator": generator,
        "configuration": configuration,
    }
    if maml is not None:
        learner_of(maml)  # or a TypeError
        header["objective"] = describe(with_rates(maml, 0.0))
    if state.best is not None:
        header["best"] = [state.best.iteration, state.best.value]
        arrays["best.theta"] = state.best.theta
        if state.best.inner_lr is not None:
            arrays["best.inner_lr"] = state.best.inner_lr
    try:
        arrays[HEADER] = json.dumps(header, default=_plain)
    except RecursionError:
        raise ValueError("configuration is nested too deep for JSON") from None
    packed = {name: np.asarray(value) for name, value in arrays.items()}
    try:
        unpack(header_of(packed), packed)
    except ValueError as error:
        raise ValueError(f"what cannot be read again is not written: {error}") from error
    return packed


def _pack_fields(arrays: dict[str, Any], name: str, state: Any) -> list[str] | None:
    """Put the fields of an optimizer's state among the arrays; return their names."""
    if state is None:
        return None
    fields: dict[str, Any] = state if isinstance(state, dict) else state._asdict()
    arrays.update({f"{name}.{field}": value for field, value in fields.items()})
    return list(fields)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them; some bit generators hold arrays."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"configuration holds {shown(value)}; accepted is what JSON can hold")


# ---- what was read


def header_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the header; ValueError if there is none, or one without a format."""
    text = arrays.get(HEADER)
    if text is None or text.dtype.kind != "U" or text.ndim:
        raise ValueError(f"there is no text {HEADER}")
    header = parse_json(text.item())
    if not isinstance(header, dict):
        raise ValueError(f"the header is {shown(header)}; accepted is an object of JSON")
    _count(header, "format")
    return header


def unpack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Contents:
    """Return what a header and its arrays say, all of it checked.

    Raises
    ------
    ValueError
        If anything is missing, too much, or not what a training can go on from.
    """
    read = {HEADER}

    def take(name: str) -> np.ndarray:
        read.add(name)
        if name not in arrays:
            raise ValueError(f"it has no {name}")
        return arrays[name]

    theta = take("theta")
    if theta.dtype not in FLOATS or not theta.ndim:
        raise ValueError(f"theta is {_kind(theta)}; accepted are arrays of float32 or float64")
    rates = _rates("inner_lr", take("inner_lr")) if "inner_lr" in arrays else None
    iteration = _count(header, "iteration")
    best = _get(header, "best")
    if best is not None:
        if not (isinstance(best, list) and len(best) == 2):
            raise ValueError(f"best is {shown(best)}; accepted are an iteration and a value")
        found = {"best.iteration": best[0], "best.value": best[1]}
        when, value = _count(found, "best.iteration"), _number(found, "best.value")
        if when > iteration or math.isnan(value):
            raise ValueError(f"best is {shown(best)}, iteration is {iteration}")
        best_theta = _alike("best.theta", take("best.theta"), "theta", theta)
        best_rates = None if rates is None else take("best.inner_lr")
        if rates is not None and best_rates is not None:
            _rates("best.inner_lr", best_rates)
            best_rates = _alike("best.inner_lr", best_rates, "inner_lr", rates)
        best = Best(when, value, best_theta, _value(best_rates))
    states = []
    for name, twin in (("optimizer_state", theta), ("rate_state", rates)):
        fields = _fields(header, name)
        if fields is not None and twin is None:
            raise ValueError(f"there is a {name}, and no inner_lr")
        found = {field: take(f"{name}.{field}") for field in fields or ()}
        if fields is not None and twin is not None:
            _check_state(name, found, theta.shape if twin is theta else (twin.size,))
        states.append(None if fields is None else {f: _value(a) for f, a in found.items()})
    if unknown := sorted(set(arrays) - read):
        raise ValueError(f"it has an array {shown(unknown[0])}, which its header does not name")
    diverged = _get(header, "diverged")
    if not isinstance(diverged, list):
        raise ValueError(f"diverged is {shown(diverged)}; accepted are indices of tasks")
    state = TrainState(
        iteration, _number(header, "value"), theta, states[0], _value(rates), states[1],
        tuple(_count({"diverged": i}, "diverged") for i in diverged),
        None if _get(header, "validation_value") is None else _number(header, "validation_value"),
        best,
    )  # fmt: skip
    version = _get(header, "version")
    if not isinstance(version, str):
        raise ValueError(f"version is {shown(version)}; accepted is a text")
    generator = _generator(_get(header, "generator"))
    maml = None if "objective" not in header else _objective(header["objective"], state)
    return Contents(state, generator, _get(header, "configuration"), version, maml)


def _objective(described: Any, state: TrainState) -> Any:
    """The objective, with the rates of the state."""
    try:
        objective = build(described)
        space = learner_of(objective)._space
        if state.theta.shape != (space.n_params,):
            raise ValueError(f"theta is {_kind(state.theta)}, objective has {shown(space)}")
        return with_rates(objective, state.inner_lr)
    except TypeError as error:
        raise ValueError(error) from error


def _get(header: Mapping[str, Any], name: str) -> Any:
    if name not in header:
        raise ValueError(f"its header has no {name}")
    return header[name]


def _count(header: Mapping[str, Any], name: str) -> int:
    try:
        return as_count(name, _get(header, name))
    except TypeError as error:
        raise ValueError(error) from None


def _number(header: Mapping[str, Any], name: str) -> float:
    """A number that may be infinite or NaN, as the values of a training that diverges are."""
    value = _get(header, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {shown(value)}; accepted is a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is an integer too large for a float") from None


def _value(array: np.ndarray | None) -> Any:
    """An array, or the Python number that an array without axes was."""
    return array if array is None or array.ndim else array.item()


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {shape_text(array.shape)}"


def _rates(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} is {_kind(array)}; accepted are real numbers")
    return array


def _alike(name: str, array: np.ndarray, twin_name: str, twin: np.ndarray) -> np.ndarray:
    if (array.dtype, array.shape) != (twin.dtype, twin.shape):
        raise ValueError(f"{name} is {_kind(array)}, {twin_name} is {_kind(twin)}")
    return array


def _fields(header: Mapping[str, Any], name: str) -> list[str] | None:
    fields = _get(header, name)
    if fields is None:
        return None
    texts = isinstance(fields, list) and all(isinstance(field, str) for field in fields)
    if not texts or len(set(fields)) < len(fields):
        raise ValueError(f"{name} is {shown(fields)}; accepted are names of arrays")
    return list(fields)


def _check_state(name: str, state: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    """Check an optimizer's state: of any, that it is numbers; of the package's own, all."""
    own = tuple(state) in (SGDState._fields, AdamState._fields)
    for field, array in state.items():
        where = f"{name}.{field}"
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{where} is {_kind(array)}; accepted are numbers")
        if own and field == "n_updates":
            if array.ndim or array.dtype.kind not in "iu":
                raise ValueError(f"{where} is {_kind(array)}; accepted is one integer")
            _count({where: array.item()}, where)
        elif own:
            accepted = [shape, (0,)] if field == "velocity" else [shape]  # none without momentum
            if array.dtype not in FLOATS or array.shape not in accepted:
                raise ValueError(
                    f"{where} is {_kind(array)}; accepted are floats of shape {shape_text(shape)}"
                )


def _generator(state: Any) -> Mapping[str, Any] | None:
    """The state of a generator; if it is one of NumPy's, one that it takes and gives back."""
    if state is None:
        return None
    kind = state.get("bit_generator") if isinstance(state, dict) else None
    if not isinstance(kind, str):
        raise ValueError(f"generator is {shown(state)}; accepted is the state of a bit generator")
    if kind in BIT_GENERATORS:
        fresh = BIT_GENERATORS[kind](0)
        try:
            fresh.state = state
            # NumPy would read beyond these buffers.
            whole = (
                0 <= state["state"].get("pos", 0) <= 624 and 0 <= state.get("buffer_pos", 0) <= 4
            )
            whole = whole and _text(fresh.state) == _text(state)
        except Exception:  # NumPy raises half a dozen kinds
            whole = False
        if not whole:
            raise ValueError(f"generator is not a state that NumPy's {kind} can have")
    return state


def _text(state: Any) -> str:
    return json.dumps(state, default=_plain, sort_keys=True)
