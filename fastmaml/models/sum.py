"""A sum of models, such as a formula and a network that learns what the formula leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..checks import (
    FLOAT32,
    FLOAT64,
    as_array,
    as_dtype,
    as_float_dtype,
    as_rng,
    real_array,
    shape_text,
    shown,
)
from ..family import Compiled, Family, FeatureMap, as_model
from ..kernels.models.sums import SUM, sum_table
from ..parameters import as_theta, as_thetas
from ..predict import predict as predict_of_any_model
from .around import Around
from .maps import joined

__all__ = ["Sum"]


@final
@dataclass(frozen=True, init=False, repr=False, eq=False)
class Sum:
    """The sum of two or more models of the same inputs and outputs, each with its own parameters.

    A *grey box* is the sum of a formula, which is known, and a network for the remainder, which is
    learned. theta is the parts' parameters, one after the other.

    Parameters
    ----------
    *parts : model
        `Formula`, `MLP`, `Linear`, another `Sum`, or any other model.
    names : sequence of str, optional
        What the parts are called. By default their classes in small letters, numbered from the
        second of a class on: ``"formula"``, ``"mlp"``, ``"mlp 2"``.

    Attributes
    ----------
    parts : tuple of models
    names : tuple of str
    n_params, n_inputs, n_outputs, n_layers : int

    Raises
    ------
    TypeError
        If a part is no model, or a name no text.
    ValueError
        For less than two parts, parts that differ in their inputs or outputs, a name that is there
        twice, that has a ``/`` or is an argument of `init`, or more or less names than parts.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Sum(fm.Linear(1), fm.MLP([1, 8, 1]))
    >>> model
    Sum(Linear(1, n_outputs=1, intercept=True), MLP([1, 8, 1], activation='tanh'))
    >>> model.layers()["mlp/layer 1"]
    slice(2, 18, None)
    >>> theta = model.init(0, linear=[2.0, 1.0], mlp=model.parts[1].init(0) * 0.0)
    >>> model.predict(theta, [[1.0], [2.0]])
    array([[3.],
           [5.]])
    >>> parts = model.unpack(theta)
    >>> bool((model.pack(parts) == theta).all())
    True
    """

    parts: tuple[Any, ...]
    names: tuple[str, ...]

    def __init__(self, *parts: Family, names: Iterable[str] | None = None) -> None:
        if len(parts) < 2:
            raise ValueError(f"parts has {len(parts)} models; accepted are two or more")
        first = as_model(parts[0])
        for i, part in enumerate(parts):
            model = as_model(part)
            for word in ("n_inputs", "n_outputs"):
                if getattr(model, word) != getattr(first, word):
                    raise ValueError(
                        f"parts[{i}] has {getattr(model, word)} {word[2:]}, parts[0] "
                        f"{getattr(first, word)}; they must be equal ({model!r}, {first!r})"
                    )
        put = object.__setattr__  # frozen from here on
        put(self, "parts", tuple(parts))
        put(self, "names", _as_names(names, parts))

    def __reduce__(self) -> Any:
        return _again, (self.parts, self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sum):
            return NotImplemented
        return self is other or (self.parts == other.parts and self.names == other.names)

    @cached_property
    def _hash(self) -> int:
        return hash((self.parts, self.names))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        parts = ", ".join(map(repr, self.parts))
        names = "" if self.names == _usual_names(self.parts) else f", names={list(self.names)}"
        return f"Sum({parts}{names})"

    @cached_property
    def n_params(self) -> int:
        """Number of parameters, P."""
        return sum(part.n_params for part in self.parts)

    @cached_property
    def n_layers(self) -> int:
        """Number of layers of all parts."""
        return sum(part.n_layers for part in self.parts)

    @property
    def n_inputs(self) -> int:
        """Number of input features."""
        return int(self.parts[0].n_inputs)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.parts[0].n_outputs)

    @cached_property
    def feature_map(self) -> FeatureMap | None:
        """What the rows of x go through before the kernels see them: the parts' own, at once."""
        return joined(self.parts)[0]

    @property
    def layer_sizes(self) -> None:
        """None: it is no stack of weight layers."""
        return

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each part's parameters lie in theta, by its name."""
        ends = accumulate((part.n_params for part in self.parts), initial=0)
        return {name: slice(*pair) for name, pair in zip(self.names, pairwise(ends), strict=True)}

    def layers(self) -> dict[str, slice]:
        """Where each layer's parameters lie in theta, by the names of its part and its own."""
        return {
            f"{name}/{layer}": slice(at.start + where.start, at.start + where.stop)
            for (name, at), part in zip(self.slices.items(), self.parts, strict=True)
            for layer, where in part.layers().items()
        }

    def init(
        self,
        /,
        rng: int | np.random.Generator | None = None,
        dtype: DTypeLike = np.float64,
        **parts: Any,
    ) -> NDArray[Any]:
        """Draw initial parameters, but for the parts whose are given.

        Parameters
        ----------
        rng : int, numpy.random.Generator or None
            A seed, a generator that the parts draw from in turn, or None for fresh entropy.
        dtype : dtype
            float64 or float32.
        **parts : array_like (P_k,) or dict
            A part's parameters by its name; for a formula, or another sum, also a dict of what its
            own ``init`` takes: ``formula={"k": 2.0}``.

        Returns
        -------
        theta : ndarray, shape (P,)

        Raises
        ------
        TypeError, ValueError
            For an argument of another kind, an unknown name, or parameters that the part cannot
            have.
        """
        wanted, generator = as_float_dtype("dtype", dtype), as_rng("rng", rng)
        self._require_names("parts", parts)
        pieces = [
            _initial(name, part, parts.get(name), generator)
            for name, part in zip(self.names, self.parts, strict=True)
        ]
        return np.concatenate(pieces).astype(wanted, copy=False)

    def pack(self, parts: Mapping[str, Any]) -> NDArray[Any]:
        """Return the flat parameters of all parts.

        Parameters
        ----------
        parts : dict
            For each part what `unpack` gives, or its flat parameters (..., P_k).

        Returns
        -------
        theta : ndarray, shape (..., P)
            float32 if every part is float32, else float64.

        Raises
        ------
        TypeError, ValueError
            For a missing or unknown name, or what the part does not take.
        """
        if not isinstance(parts, Mapping):
            raise TypeError(f"parts is {shown(parts)}; accepted are dicts of parts by their names")
        self._require_names("parts", parts)
        missing = [name for name in self.names if name not in parts]
        if missing:
            raise ValueError(f"parts lacks {', '.join(missing)}; accepted are all of {self._all}")
        pieces = []
        for name, part in zip(self.names, self.parts, strict=True):
            given = parts[name]
            packs = isinstance(given, Mapping) or (
                isinstance(given, list | tuple) and given and isinstance(given[0], tuple)
            )
            packs = packs and hasattr(part, "pack")
            array = part.pack(given) if packs else real_array(f"parts[{name!r}]", given)
            if not array.ndim or array.shape[-1] != part.n_params:
                raise ValueError(
                    f"parts[{name!r}] has shape {shape_text(array.shape)}, "
                    f"the part takes (..., {part.n_params}) ({part!r})"
                )
            pieces.append(array)
        dtypes = {as_dtype("parts", piece) for piece in pieces}
        dtype = FLOAT32 if dtypes == {FLOAT32} else FLOAT64
        leads = [piece.shape[:-1] for piece in pieces]
        try:
            lead = np.broadcast_shapes(*leads)
        except ValueError as error:
            raise ValueError(f"parts has shapes that do not go together ({error})") from None
        full = [np.broadcast_to(piece, (*lead, piece.shape[-1])) for piece in pieces]
        return np.concatenate(full, axis=-1).astype(dtype)

    def unpack(self, theta: ArrayLike) -> dict[str, Any]:
        """Return each part's parameters as that unpacks them, by its name.

        Parameters
        ----------
        theta : array_like, shape (..., P)

        Returns
        -------
        parts : dict
            What each part's ``unpack`` gives; of a part without one, its flat parameters.

        Raises
        ------
        TypeError
            If `theta` does not hold real numbers.
        ValueError
            If its last axis is not P long.
        """
        array = as_thetas(self, theta)
        return {
            name: getattr(part, "unpack", np.asarray)(array[..., self.slices[name]])
            for name, part in zip(self.names, self.parts, strict=True)
        }

    predict = predict_of_any_model

    def compiled(self, dtype: np.dtype[Any]) -> Compiled:
        """The model as the kernels of a dtype take it."""
        return _compiled(self, dtype)

    @property
    def _all(self) -> str:
        return ", ".join(self.names)

    def _require_names(self, argument: str, given: Iterable[Any]) -> None:
        for name in given:
            if name not in self.names:
                raise ValueError(f"{argument} has {name!r}; accepted are {self._all}")


def _again(parts: tuple[Any, ...], names: tuple[str, ...]) -> Sum:
    """A sum that was pickled."""
    return Sum(*parts, names=names)


def _initial(name: str, part: Any, given: Any, rng: np.random.Generator) -> NDArray[Any]:
    """A part's initial parameters in float64."""
    if given is None:
        return np.asarray(part.init(rng), FLOAT64)
    if isinstance(given, Mapping):
        inside = part
        while isinstance(inside, Around):
            inside = inside.model
        if isinstance(inside, Sum):
            return np.asarray(part.init(rng, **given))
        try:
            return np.asarray(part.init(rng, values=given), FLOAT64)
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            raise TypeError(
                f"parts[{name!r}] is {shown(given)}; accepted are parameters ({part.n_params},) "
                f"({part!r})"
            ) from error
    array = as_array(f"parts[{name!r}]", given, FLOAT64)
    return as_theta(part, array, name=f"parts[{name!r}]")


def _usual_names(parts: tuple[Any, ...]) -> tuple[str, ...]:
    names: list[str] = []
    for part in parts:
        word = type(part).__name__.lower()
        before = sum(name.split(" ")[0] == word for name in names)
        names.append(f"{word} {before + 1}" if before else word)
    return tuple(names)


def _as_names(given: Any, parts: tuple[Any, ...]) -> tuple[str, ...]:
    if given is None:
        return _usual_names(parts)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"names is {shown(given)}; accepted are sequences of texts")
    names = tuple(given)
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise TypeError(f"names[{i}] is {shown(name)}; accepted are texts")
        if "/" in name or name in ("rng", "dtype"):
            raise ValueError(
                f"names[{i}] is {shown(name)}; accepted are texts without a '/', which parts the "
                "names of layers, and neither 'rng' nor 'dtype', which init has"
            )
    if len(names) != len(parts) or len(set(names)) != len(names):
        raise ValueError(
            f"names is {shown(names)}; accepted are {len(parts)} that differ, one for each part"
        )
    return names


@lru_cache(maxsize=64)
def _compiled(model: Sum, dtype: np.dtype[Any]) -> Compiled:
    parts = tuple(part.compiled(dtype) for part in model.parts)
    table_of = partial(sum_table, columns=joined(model.parts)[1])
    return Compiled(table_of([part.table for part in parts]), SUM, dtype, parts, table_of)
