"""A learned model as one file: all that it takes to adapt and predict elsewhere, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import as_flag, shown
from .closed_form import BayesianLastLayer
from .files import write_whole
from .learn import Scaling
from .learn.spec import build, describe, learner_of, maml_of
from .learner import Learner
from .maml import MAML
from .npz import parse_json, read_headed, require_shallow
from .parameters import as_theta
from .version import __version__

__all__ = ["Saved", "load", "predicted", "require_columns", "save"]

#: the layout of the file; a reader refuses what is newer than itself
FORMAT = 1
HEADER = "fastmaml_model"
FIELDS = ("format", "version", "objective", "scaling", "inputs", "outputs", "extra")


class Saved(NamedTuple):
    """What :func:`load` returns.

    Attributes
    ----------
    objective : MAML, BayesianLastLayer or Reptile
        With the inner rates that were learned.
    theta : ndarray, shape (P,)
    scaling : Scaling or None
    inputs, outputs : tuple of str, or None
        The names of the columns.
    extra : object
        What was given to be kept, as JSON keeps it.
    version : str
        The version of fastmaml that wrote the file.
    """

    objective: Any
    theta: NDArray[Any]
    scaling: Scaling | None
    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...] | None
    extra: Any
    version: str

    @property
    def maml(self) -> MAML:
        """How tasks adapt by gradient steps: the objective, or what a Reptile wraps.

        A BayesianLastLayer takes none: a TypeError, and `objective` is the name for all.
        """
        return maml_of(self.objective)

    def predict(
        self, x: Any, y: Any, x_new: Any, return_std: bool = False, *, sample_weight: Any = None
    ) -> Any:
        """Adapt to each task's rows (x, y) and predict at `x_new`, all in the user's units.

        Parameters
        ----------
        x, y, x_new : array_like or list of array_like
            As for :meth:`fastmaml.MAML.predict`.
        return_std : bool
            Whether to return standard deviations, too, which a BayesianLastLayer has.
        sample_weight : array_like or list of array_like, optional
            Of each row of (x, y), as for :meth:`fastmaml.MAML.predict`.

        Returns
        -------
        mean : ndarray or list of ndarray
            In float64 if there is a scaling, else in the dtype of theta.
        std : as mean
            Only with `return_std`: of an observation, its noise included.

        Raises
        ------
        TypeError, ValueError
            For data of the wrong kind or shape, or that is not finite, and for `return_std` with
            another objective.
        """
        return predicted(
            self.objective, self.theta, self.scaling, x, y, x_new, return_std, sample_weight
        )


def predicted(
    objective: Any,
    theta: NDArray[Any],
    scaling: Scaling | None,
    x: Any,
    y: Any,
    x_new: Any,
    return_std: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Return what `Saved.predict` does, of an objective, its parameters and their scaling."""
    learner, options = learner_of(objective), {"sample_weight": sample_weight}
    if as_flag("return_std", return_std):
        if not isinstance(learner, BayesianLastLayer):
            raise ValueError(
                f"return_std is True, the model adapts by a {type(learner).__name__}, which has no "
                "standard deviations; accepted is False"
            )
        options["return_std"] = True
    if scaling is None:
        return learner.predict(theta, x, y, x_new, **options)
    x, x_new = scaling.scale_x(x), scaling.scale_x(x_new, name="x_new")
    if not learner._predicts_y:  # y is not scaled then, and outputs are something else
        return learner.predict(theta, x, y, x_new, **options)
    result = learner.predict(theta, x, scaling.scale_y(y), x_new, **options)
    if not return_std:
        return scaling.unscale_y(result)
    mean, std = result
    return scaling.unscale_y(mean), scaling.unscale_std(std)


def save(
    path: str | Path,
    objective: Any,
    theta: ArrayLike | None = None,
    *,
    scaling: Scaling | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    extra: Any = None,
) -> None:
    """Write a learned model, whole or not at all: one npz file without pickle.

    Parameters
    ----------
    path : str or Path
        An existing file is replaced at the very end.
    objective : MAML, BayesianLastLayer or Reptile
        With the rates that were learned: ``result.maml``. Or a fitted regressor of
        `fastmaml.learn`, alone: it has all that follows, and carries no rows of its training.
        ``MAMLRegressor.from_saved(fastmaml.load(path))`` is the regressor again.
    theta : array_like, shape (P,)
        The meta-parameters; their dtype and bits are kept.
    scaling : Scaling, optional
        Of the data that theta was learned from.
    inputs, outputs : sequence of str, optional
        The names of the columns.
    extra : object, optional
        Anything that JSON can hold, to be found again on loading.

    Raises
    ------
    TypeError
        For an objective of another class (a subclass included), whose behaviour a file cannot
        hold, or something that JSON cannot.
    ValueError
        For parameters, a scaling or names that do not fit the model.
    OSError
        If the file cannot be written; an old one is then as it was.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastmaml as fm
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), inner_lr=[[0.01, 0.02]])
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.npz")
    >>> fm.save(path, maml, maml.model.init(0), inputs=["volt"], outputs=["ampere"])
    >>> saved = fm.load(path)
    >>> saved.objective.inner_lr, saved.inputs
    (array([[0.01, 0.02]]), ('volt',))
    >>> saved.predict([[[0.0], [1.0]]], [[[0.0], [2.0]]], [[0.5]]).shape
    (1, 1, 1)
    """
    if theta is None and hasattr(objective, "to_save"):
        if any(given is not None for given in (scaling, inputs, outputs, extra)):
            raise TypeError(f"{objective!r:.60} is given; accepted is nothing but it and path")
        return save(path, **objective.to_save())
    learner = learner_of(objective)
    arrays: dict[str, Any] = {}
    header = {
        "format": FORMAT,
        "version": __version__,
        "objective": describe(objective, arrays),
        "scaling": None,
        "inputs": _names("inputs", inputs, learner.model.n_inputs),
        "outputs": _names("outputs", outputs, learner._n_targets),
        "extra": extra,
    }
    arrays["theta"] = as_theta(learner._space, theta)
    if scaling is not None:
        require_columns(scaling, learner)
        header["scaling"] = scaling.to_dict()
    try:
        require_shallow(extra)
        text = json.dumps(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"extra is not what JSON can hold: {error}") from error
    arrays[HEADER] = np.array(text)
    write_whole(Path(path), lambda file: np.savez(file, **arrays))


def load(path: str | Path) -> Saved:
    """Read what :func:`save` wrote.

    Nothing in the file is trusted: no pickle is read, and all of it is checked.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Saved

    Raises
    ------
    ValueError
        If the file is no saved model, is cut short or damaged, or was written by a newer version
        whose format this one does not know. The text begins with the file's name.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.load("no/such/file.npz")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'no/such/file.npz'
    """
    saved: Saved = read_headed(
        path, _header, _unpack, FORMAT, "no saved model; accepted are files of fastmaml.save",
        "a damaged model",
    )  # fmt: skip
    return saved


def _header(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    text = arrays.pop(HEADER, None)
    if text is None or text.dtype.kind != "U" or text.ndim:
        if "fastmaml_checkpoint" in arrays:
            raise ValueError("it is a checkpoint, which load_checkpoint reads")
        raise ValueError(f"there is no text {HEADER}")
    header = parse_json(text.item())
    if (
        not isinstance(header, dict)
        or type(header.get("format")) is not int
        or header["format"] < 1
    ):
        raise ValueError("its header has no format")
    return dict(header)


def _unpack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Saved:
    if set(header) != set(FIELDS):
        raise ValueError(f"its header has {', '.join(sorted(header))}; wanted: {', '.join(FIELDS)}")
    if not isinstance(header["version"], str):
        raise ValueError(f"version is {shown(header['version'])}; accepted is a text")
    theta = arrays.pop("theta", None)
    if theta is None or theta.dtype not in (np.float32, np.float64):
        raise ValueError("it has no theta of float32 or float64")
    objective = build(header["objective"], arrays)
    learner = learner_of(objective)
    again: dict[str, np.ndarray] = {}
    describe(objective, again)
    if set(again) != set(arrays):
        raise ValueError("its arrays are not those of the objective")
    theta = as_theta(learner._space, theta)
    scaling = None
    if header["scaling"] is not None:
        scaling = Scaling.from_dict(header["scaling"])
        require_columns(scaling, learner)
    inputs = _names("inputs", header["inputs"], learner.model.n_inputs)
    outputs = _names("outputs", header["outputs"], learner._n_targets)
    return Saved(objective, theta, scaling, inputs, outputs, header["extra"], header["version"])


def _names(name: str, given: Any, width: int) -> tuple[str, ...] | None:
    if given is None:
        return None
    ordered = np.iterable(given) and not isinstance(given, str | Mapping | Set)
    names = tuple(given) if ordered else ()
    if len(names) != width or not all(isinstance(entry, str) for entry in names):
        raise ValueError(
            f"{name} is {shown(given)}; accepted are None and the names of {width} columns, "
            f"as many as the model has {name}"
        )
    return tuple(str(entry) for entry in names)


def require_columns(scaling: Any, learner: Learner) -> None:
    """Raise unless `scaling` is a Scaling of as many columns as the model has."""
    if not isinstance(scaling, Scaling):
        raise TypeError(f"scaling is {shown(scaling)}; accepted are a Scaling and None")
    model, columns = learner.model, (len(scaling.x_mean), len(scaling.y_mean))
    if columns != (model.n_inputs, learner._n_targets):
        raise ValueError(
            f"scaling has {columns[0]} inputs and {columns[1]} outputs; accepted are those of "
            f"the model, {model.n_inputs} and {learner._n_targets} ({shown(model)})"
        )
    if not learner._predicts_y and (np.any(scaling.y_mean) or np.any(scaling.y_scale != 1)):
        raise ValueError(
            f"scaling changes y, and with the loss {shown(learner.loss)} outputs are not in units "  # type: ignore[attr-defined]
            "of y; accepted are y_mean 0 and y_scale 1"
        )
