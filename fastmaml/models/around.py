"""Models around another model, which have its parameters: in other units, or partly frozen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..checks import FLOAT64, as_array, real_array, require_finite, shape_text, shown
from ..family import Compiled, Family, FeatureMap, as_model, feature_map_of
from ..kernels.models.frozen import FROZEN, frozen_table
from ..kernels.models.scaled import SCALED, scaled_table
from ..predict import predict as predict_of_any_model
from .maps import Shifted

__all__ = ["Around", "Frozen", "Scaled"]


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Around:
    """What such models have of the one inside."""

    model: Any
    numbers: tuple[float, ...]

    def __init__(self, model: Any, numbers: Iterable[float]) -> None:
        object.__setattr__(self, "model", as_model(model))
        object.__setattr__(self, "numbers", tuple(float(each) for each in numbers))

    def __reduce__(self) -> Any:
        return _again, (type(self), self.model, self.numbers)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or (self.model, self.numbers) == (other.model, other.numbers)

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), self.model, self.numbers))

    def __hash__(self) -> int:
        return self._hash

    @property
    def n_params(self) -> int:
        """Number of parameters, P."""
        return int(self.model.n_params)

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.model.n_layers)

    @property
    def n_inputs(self) -> int:
        """Number of input features."""
        return int(self.model.n_inputs)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.model.n_outputs)

    @property
    def layer_sizes(self) -> None:
        """None: it is no stack of weight layers."""
        return

    @cached_property
    def feature_map(self) -> FeatureMap | None:
        """What the rows of x go through before the kernels see them, if anything."""
        return feature_map_of(self.model)

    def layers(self) -> dict[str, slice]:
        """Where each layer's parameters lie in theta, by its name."""
        return dict(self.model.layers())

    def init(
        self,
        /,
        rng: int | np.random.Generator | None = None,
        dtype: DTypeLike = np.float64,
        **options: Any,
    ) -> NDArray[Any]:
        """Return initial parameters (P,) as the model inside does: rng, dtype and options as there.

        Raises
        ------
        TypeError, ValueError
            As the model inside.
        """
        return np.asarray(self.model.init(rng, dtype, **options))

    def pack(self, parameters: Any) -> NDArray[Any]:
        """Return flat parameters, as the model inside does.

        Raises
        ------
        TypeError, ValueError
            As the model inside.
        """
        return np.asarray(self.model.pack(parameters))

    def unpack(self, theta: ArrayLike) -> Any:
        """Return the parameters in theta (..., P) as the model inside does, or as they are.

        Raises
        ------
        TypeError, ValueError
            As the model inside.
        """
        return getattr(self.model, "unpack", np.asarray)(theta)

    predict = predict_of_any_model

    def compiled(self, dtype: np.dtype[Any]) -> Compiled:
        """The model as the kernels of a dtype take it."""
        return _compiled(self, dtype)

    def _make(self, inside: Compiled) -> Compiled:
        raise NotImplementedError


def _again(kind: Any, model: Any, numbers: tuple[float, ...]) -> Any:
    """A model that was pickled."""
    made = object.__new__(kind)
    Around.__init__(made, model, numbers)
    return made


@lru_cache(maxsize=64)
def _compiled(model: Around, dtype: np.dtype[Any]) -> Compiled:
    return model._make(model.model.compiled(dtype))


@final
class Scaled(Around):
    """A model in the user's units: ``y_mean + y_scale * model((x - x_mean) / x_scale)``.

    Losses and learning are then in these units, too. (To standardise data beforehand, and learn on
    numbers of about 1, is `fastmaml.learn.Scaling`, whose arrays this takes.)

    Parameters
    ----------
    model : model
        The model inside, whose parameters it has.
    x_mean, x_scale : float or array_like, shape (n_inputs,)
    y_mean, y_scale : float or array_like, shape (n_outputs,)
        The scales are above 0.

    Raises
    ------
    TypeError
        If `model` is no model, or a number no real one.
    ValueError
        If an array has another shape, is not finite, or has a scale that is not above 0.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Scaled(fm.Linear(1), x_mean=20.0, x_scale=10.0, y_scale=1000.0)
    >>> model
    Scaled(Linear(1, n_outputs=1, intercept=True), x_mean=20.0, x_scale=10.0, y_scale=1000.0)
    >>> model.predict([1.0, 0.5], [[20.0], [30.0]])
    array([[ 500.],
           [1500.]])
    >>> theta = model.init(0)
    >>> bool((model.pack(model.unpack(theta)) == theta).all())
    True
    """

    def __init__(
        self, model: Family, x_mean: ArrayLike = 0.0, x_scale: ArrayLike = 1.0,
        y_mean: ArrayLike = 0.0, y_scale: ArrayLike = 1.0,
    ) -> None:  # fmt: skip
        given = {"x_mean": x_mean, "x_scale": x_scale, "y_mean": y_mean, "y_scale": y_scale}
        numbers: list[float] = []
        for name, value in given.items():
            count = as_model(model).n_inputs if name[0] == "x" else model.n_outputs
            numbers += _as_numbers(name, value, count)
        super().__init__(model, numbers)

    @property
    def scales(self) -> dict[str, list[float]]:
        """The arrays by their names, a number for each column."""
        n_in, n_out = self.n_inputs, self.n_outputs
        ends = np.cumsum([0, n_in, n_in, n_out, n_out])
        names = ("x_mean", "x_scale", "y_mean", "y_scale")
        return {name: list(self.numbers[ends[i] : ends[i + 1]]) for i, name in enumerate(names)}

    def __repr__(self) -> str:
        words = [repr(self.model)]
        for name, own in self.scales.items():
            if any(each != name.endswith("scale") for each in own):
                words.append(f"{name}={own[0] if len(set(own)) == 1 else own}")
        return f"Scaled({', '.join(words)})"

    @cached_property
    def feature_map(self) -> FeatureMap | None:
        """What the rows of x go through before the kernels see them, if anything.

        Where there is such a map the inputs are scaled before it, and so not in the kernels.
        """
        inside, n_in = feature_map_of(self.model), self.n_inputs
        if inside is None:
            return None
        return Shifted(inside, self.numbers[:n_in], self.numbers[n_in : 2 * n_in])

    def _make(self, inside: Compiled) -> Compiled:
        numbers = self.numbers
        if self.feature_map is not None:
            n_in = self.feature_map.n_features
            numbers = (*[0.0] * n_in, *[1.0] * n_in, *numbers[2 * self.n_inputs :])
        table_of = partial(_table_of, scaled_table, numbers)
        return Compiled(table_of([inside.table]), SCALED, inside.dtype, (inside,), table_of)


@final
class Frozen(Around):
    """A model of which some parameters stay as they are: they neither adapt nor are learned.

    theta still holds them, where they begin and stay: their entries of every gradient, of every
    product with a Hessian and of every direction are zero. (With an `inner_lr` of 0 a layer does
    not adapt, but is learned.)

    Parameters
    ----------
    model : model
        The model inside, whose parameters it has. If it is a frozen one, what stays there stays.
    frozen : str, sequence of str, or array_like of bool, shape (P,)
        Names of layers, as `layers` has them, or what such names begin with before a ``/``, as a
        part of a `Sum`; or True for each parameter that stays.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If a name is unknown, a mask has another shape, or nothing or everything would stay.

    Notes
    -----
    An optimizer with weight decay (`fastmaml.learn.AdamW`) shrinks all of theta, whatever the
    gradient is.

    Examples
    --------
    >>> import fastmaml as fm
    >>> model = fm.Frozen(fm.MLP([1, 8, 1]), "layer 1")
    >>> theta = model.init(0)
    >>> gradient = fm.MAML(model, 0.1).gradient(theta, [[[0.5], [1.0]]], [[[1.0], [2.0]]])
    >>> bool((gradient[:16] == 0).all()), bool((gradient[16:] != 0).all())
    (True, True)
    >>> bool((model.pack(model.unpack(theta)) == theta).all()), model.predict(theta, [[0.5]]).shape
    (True, (1, 1))
    """

    def __init__(self, model: Family, frozen: Any) -> None:
        own = _as_mask(as_model(model), frozen)
        mask, inside = own, model
        if isinstance(model, Frozen):  # frozen twice is frozen once
            mask, inside = own | model.mask, model.model
        if mask.all() or not own.any():
            which = "no parameter" if not own.any() else f"all {model.n_params} parameters"
            raise ValueError(f"frozen has {which}; accepted are some of them, not all ({model!r})")
        super().__init__(inside, ~mask)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which parameters stay, (P,)."""
        return np.array(self.numbers) == 0

    def __repr__(self) -> str:
        names = [name for name, at in self.layers().items() if self.mask[at].all()]
        covered = sum(at.stop - at.start for name, at in self.layers().items() if name in names)
        if covered == self.mask.sum():
            return f"Frozen({self.model!r}, {names[0] if len(names) == 1 else names!r})"
        return f"Frozen({self.model!r}, {int(self.mask.sum())} of {self.n_params} parameters)"

    def _make(self, inside: Compiled) -> Compiled:
        free = np.ones(inside.n_padded)
        free[inside.padded_index] = self.numbers
        table_of = partial(_table_of, frozen_table, tuple(free))
        return Compiled(table_of([inside.table]), FROZEN, inside.dtype, (inside,), table_of)


def _table_of(make: Any, numbers: tuple[float, ...], tables: list[NDArray[np.int64]]) -> Any:
    return make(tables[0], numbers)


def _as_numbers(name: str, value: Any, count: int) -> list[float]:
    """One number for each column."""
    array = as_array(name, real_array(name, value), FLOAT64)
    if array.shape not in ((), (count,)):
        raise ValueError(
            f"{name} has shape {shape_text(array.shape)}; accepted are a number and ({count},)"
        )
    require_finite(name, array)
    if name.endswith("scale") and array.min() <= 0:
        raise ValueError(f"{name} holds {array.min()}; accepted are numbers above 0")
    return [float(each) for each in np.broadcast_to(array, count)]


def _as_mask(model: Family, frozen: Any) -> NDArray[np.bool_]:
    """Which parameters stay."""
    layers, mask = model.layers(), np.zeros(model.n_params, bool)
    words = [frozen] if isinstance(frozen, str) else frozen
    if isinstance(words, list | tuple) and all(isinstance(each, str) for each in words):
        for word in words:
            found = [at for name, at in layers.items() if f"{name}/".startswith(f"{word}/")]
            if not found:
                raise ValueError(
                    f"frozen has {word!r}; accepted are {', '.join(map(repr, layers))}, and what "
                    "they begin with before a '/'"
                )
            for at in found:
                mask[at] = True
    else:
        try:
            given = real_array("frozen", frozen)
        except (TypeError, ValueError):  # what is said there is of numbers
            given = np.zeros(0)
        if given.dtype != bool:
            raise TypeError(
                f"frozen is {shown(frozen)}; accepted are names, in a list if they are several, "
                "and masks of bool"
            )
        if given.shape != mask.shape:
            raise ValueError(
                f"frozen has shape {shape_text(given.shape)}, the model takes "
                f"{shape_text(mask.shape)} ({model!r})"
            )
        mask[...] = given
    return mask
