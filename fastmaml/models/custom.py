"""A model of compiled functions of a user's own: `Custom`, and what is derived for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple, final

import numpy as np
from numba import config
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..checks import (
    FLOAT64,
    as_count,
    as_float_dtype,
    as_rng,
    real_array,
    require_finite,
    shape_text,
    shown,
)
from ..family import Compiled
from ..kernels.compile.given import hides, is_compiled, name_of, python_of, result_for
from ..kernels.models.completed import hvp_of_vjp, jvp_of_forward, jvp_of_vjp, vjp_of_jvp
from ..kernels.models.custom import ARGUMENTS, passes_of, types_of
from ..kernels.models.lanes import LanePasses
from ..kernels.models.padded import plain_table
from ..kernels.models.passes import Passes
from ..predict import predict as predict_of_any_model
from .base import MAX_SIZE

__all__ = ["Custom"]


@final
@dataclass(frozen=True, init=False, repr=False)
class Custom:
    """A model f(theta, x) of compiled functions, which are given as they are.

    Each is what ``numba.njit`` returns, has these arguments in this order, writes to the last one
    and returns nothing:

    * ``forward(theta, x, f)``: ``f[j] = f(theta, x[j])`` for each row j.
    * ``vjp(theta, x, delta, g)``: ``g += J^T delta``, that is, g[p] gains the sum over rows j and
      outputs o of ``delta[j, o] * df_o(x[j])/dtheta_p``.
    * ``jvp(theta, x, v, rf)``: ``rf = J v``, rf[j, o] is the derivative of f_o(x[j]) along v.
    * ``hvp(theta, x, delta, v, h)``: h[p] gains the sum over j, o and q of
      ``delta[j, o] * d2f_o(x[j])/(dtheta_p dtheta_q) * v[q]``.

    theta, v, g and h are arrays (n_params,), x is (rows, n_inputs), f, delta and rf are (rows,
    n_outputs): C-contiguous, float64 or float32, and only the last one may be written to. The rows
    are some of a task's; a function must do with any number, and give each row what it
    would give it alone.

    Parameters
    ----------
    n_params, n_inputs, n_outputs : int
        Numbers of parameters (P), of input features and of outputs.
    forward : numba function
    vjp, jvp, hvp : numba function, optional
        What is left out is derived, exactly, and slower; `derived` says from what:

        * jvp from forward by the complex step, if that compiles for complex parameters; else from
          vjp, a call for each row and output.
        * vjp from jvp, a call for each parameter.
        * hvp from vjp by the complex step; else from a jvp that was given, so, a call for each
          parameter. Not from forward alone.

        For a complex step theta is complex, and so is what depends on it (f, g, rf or h), in double
        precision; x, delta and v are real. A function fits that compiles so and takes no absolute
        value, no conjugate and no integer power but the square, whose derivatives would be lost.
        (``theta[0].real`` is a real number to compare, for branches.)
    init : array_like, shape (P,), or callable, optional
        What the method ``init`` returns: these numbers, or those that ``init(rng)`` returns for a
        ``numpy.random.Generator``. By default they are standard normal draws.

    Attributes
    ----------
    n_params, n_inputs, n_outputs : int
    n_layers : int
        Always 1: all parameters are one layer, "theta".
    forward, vjp, jvp, hvp : numba function or None
        As given.

    Raises
    ------
    TypeError
        If a function is not compiled by numba, takes other arguments, does not compile or returns
        something, or a number is not an integer.
    ValueError
        If a number is below 1, or `init` has another shape. Where a derivative is needed that is
        neither given nor can be derived, the call that needs it raises.

    Notes
    -----
    Nothing watches the bounds of arrays in compiled code: an index beyond them reads or destroys
    memory, as anywhere in Numba. `fastmaml.check_model` finds it, and wrong derivatives.

    Where a function raises, all that it was to write is NaN, and the task is reported as one that
    diverged. Numba lets the arrays that it had made leak then.

    Two models are equal if sizes, functions and init are, and functions are equal if they are the
    same object. Pickles hold the functions as Numba pickles them: in another process they are
    compiled anew, and are others.

    Examples
    --------
    The decay a exp(-b x), and no derivative but the product with the transposed Jacobian:

    >>> import numpy as np
    >>> from numba import njit
    >>> import fastmaml as fm
    >>> @njit
    ... def forward(theta, x, f):
    ...     for j in range(len(x)):
    ...         f[j, 0] = theta[0] * np.exp(-theta[1] * x[j, 0])
    >>> @njit
    ... def vjp(theta, x, delta, g):
    ...     for j in range(len(x)):
    ...         e = np.exp(-theta[1] * x[j, 0])
    ...         g[0] += delta[j, 0] * e
    ...         g[1] -= delta[j, 0] * theta[0] * x[j, 0] * e
    >>> model = fm.Custom(2, 1, 1, forward=forward, vjp=vjp, init=[1.0, 0.5])
    >>> model
    Custom(2, 1, 1, forward=forward, vjp=vjp)
    >>> model.derived
    {'jvp': 'forward, by the complex step', 'hvp': 'vjp, by the complex step'}
    >>> model.predict(model.init(), [[0.0], [2.0]]).round(4)
    array([[1.    ],
           [0.3679]])
    """

    n_params: int
    n_inputs: int
    n_outputs: int
    forward: Any
    vjp: Any
    jvp: Any
    hvp: Any
    start: tuple[float, ...] | Callable[[np.random.Generator], ArrayLike] | None
    _hash: int = field(compare=False)

    n_layers = 1
    layer_sizes = None
    predict = predict_of_any_model

    def __init__(
        self, n_params: int, n_inputs: int, n_outputs: int, *, forward: Any, vjp: Any = None,
        jvp: Any = None, hvp: Any = None,
        init: ArrayLike | Callable[[np.random.Generator], ArrayLike] | None = None,
    ) -> None:  # fmt: skip
        put = object.__setattr__  # frozen from here on
        for name, count in (
            ("n_params", n_params), ("n_inputs", n_inputs), ("n_outputs", n_outputs),
        ):  # fmt: skip
            put(self, name, as_count(name, count, 1, MAX_SIZE))
        given = {"forward": forward, "vjp": vjp, "jvp": jvp, "hvp": hvp}
        for name, function in given.items():
            if name == "forward" or function is not None:
                _require_function(name, function)
            put(self, name, function)
        start: Any = init
        if init is not None and not callable(init):
            start = tuple(self._as_start("init", init).tolist())
        put(self, "start", start)
        sizes = self.n_params, self.n_inputs, self.n_outputs
        put(self, "_hash", hash((sizes, *given.values(), start)))

    def __hash__(self) -> int:
        return self._hash  # asked in every call

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_hash"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(
            **{name: value for name, value in state.items() if name != "start"},
            init=state["start"],
        )

    def __repr__(self) -> str:
        given = [
            f"{name}={name_of(getattr(self, name))}"
            for name in ARGUMENTS
            if getattr(self, name) is not None
        ]
        return f"Custom({self.n_params}, {self.n_inputs}, {self.n_outputs}, {', '.join(given)})"

    @property
    def derived(self) -> dict[str, str]:
        """What was left out and is derived, and from what."""
        return dict(_completed(*self._functions).how)

    @property
    def _functions(self) -> tuple[Any, Any, Any, Any]:
        return self.forward, self.vjp, self.jvp, self.hvp

    def init(
        self, rng: int | np.random.Generator | None = None, dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Return initial parameters.

        Parameters
        ----------
        rng : int, numpy.random.Generator or None
            A seed, a generator to draw from, or None for fresh entropy.
        dtype : dtype
            float64 or float32.

        Returns
        -------
        theta : ndarray, shape (P,)

        Raises
        ------
        TypeError
            If an argument is of another kind, or the model's ``init`` returns no real numbers.
        ValueError
            If the seed is negative, or what the model's ``init`` returns is not (P,) or not finite.
        """
        wanted, generator = as_float_dtype("dtype", dtype), as_rng("rng", rng)
        if self.start is None:
            theta = generator.standard_normal(self.n_params)
        elif callable(self.start):
            theta = self._as_start("init(rng)", self.start(generator))
        else:
            theta = np.array(self.start)
        return theta.astype(wanted)

    def _as_start(self, name: str, value: Any) -> NDArray[Any]:
        array = real_array(name, value).astype(FLOAT64)
        if array.shape != (self.n_params,):
            raise ValueError(
                f"{name} has shape {shape_text(array.shape)}; "
                f"accepted is {shape_text((self.n_params,))}"
            )
        require_finite(name, array, ("parameter",))
        return array

    def layers(self) -> dict[str, slice]:
        """Where each layer's parameters lie in theta, by its name."""
        return {"theta": slice(0, self.n_params)}

    def compiled(self, dtype: np.dtype[Any]) -> Compiled:
        """The model as the kernels of a dtype take it."""
        return _compiled(self, dtype)


def _call_text(name: str) -> str:
    return f"{name}({', '.join(ARGUMENTS[name])})"


def _require_function(name: str, function: Any) -> None:
    if not is_compiled(function):
        hint = "; put @numba.njit above it" if inspect.isfunction(function) else ""
        raise TypeError(
            f"{name} is {shown(function)}; "
            f"accepted are functions that numba.njit compiled, {_call_text(name)}{hint}"
        )
    signature = inspect.signature(python_of(function))
    try:
        signature.bind(*ARGUMENTS[name])
    except TypeError:
        raise TypeError(
            f"{name} is {name_of(function)}{signature}; accepted is {_call_text(name)}"
        ) from None
    _require_compiles(name, function, FLOAT64)


def _require_compiles(name: str, function: Any, dtype: np.dtype[Any]) -> None:
    try:
        result = result_for(function, types_of(name, dtype))
    except TypeError as error:
        raise TypeError(
            f"{name} does not compile for arrays of {dtype}: {error}; accepted is "
            f"{_call_text(name)}, theta, v, g and h of one axis, x, f, delta and rf of two"
        ) from error.__cause__
    if str(result) != "none":
        raise TypeError(
            f"{name} returns {result}; accepted is nothing: it writes to {ARGUMENTS[name][-1]}"
        )


# What is derived ---------------------------------------------------------------------------------


class _Completed(NamedTuple):
    """The passes; what those functions that were left out are derived from, or why they cannot."""

    passes: Passes
    how: dict[str, str]
    why_not: dict[str, str]


def _unfit(name: str, function: Any) -> str | None:
    """Why a function is not fit for a complex step, if it is not."""
    arguments = types_of(name, FLOAT64, by_complex_step=True)
    try:
        result_for(function, arguments)
    except TypeError as error:
        return f"{name} does not compile for complex parameters: {error}"
    hidden = hides(function, arguments)
    return None if hidden is None else f"of {name}, a complex step would lose {hidden}"


@lru_cache(maxsize=64)
def _completed(forward: Any, vjp: Any, jvp: Any, hvp: Any) -> _Completed:
    given = {"vjp": vjp, "jvp": jvp}
    how: dict[str, str] = {}
    why_not: dict[str, str] = {}
    if jvp is None:
        reason = _unfit("forward", forward)
        if reason is None:
            jvp, how["jvp"] = jvp_of_forward(forward), "forward, by the complex step"
        elif vjp is not None:
            jvp, how["jvp"] = jvp_of_vjp(vjp), "vjp, a call for each row and output"
        else:
            why_not["vjp"] = reason
    if vjp is None and jvp is not None:
        vjp, how["vjp"] = vjp_of_jvp(jvp), "jvp, a call for each parameter"
    if hvp is None:
        reasons = {
            name: _unfit(name, function) for name, function in given.items() if function is not None
        }
        fit = [name for name, reason in reasons.items() if reason is None]
        if fit[:1] == ["vjp"]:
            hvp, how["hvp"] = hvp_of_vjp(given["vjp"]), "vjp, by the complex step"
        elif fit:
            hvp = hvp_of_vjp(vjp_of_jvp(given["jvp"]))
            how["hvp"] = "jvp, by the complex step, a call for each parameter"
        else:
            said = "; ".join(reason for reason in reasons.values() if reason is not None)
            why_not["hvp"] = said or "it takes vjp or jvp, forward is not enough"
    return _Completed(passes_of(forward, vjp, jvp, hvp), how, why_not)


@dataclass(frozen=True, eq=False)
class _CustomCompiled(Compiled):
    """One that has only the derivatives which are given or derived."""

    model: Any = None

    def reaching(self, order: int | None) -> NDArray[np.int64]:
        """See `Compiled`; ValueError where a derivative of that order is not to be had."""
        why_not = _completed(*self.model._functions).why_not
        for name, least in (("vjp", 1), ("hvp", 2)):
            if name in why_not and order is not None and order >= least:
                raise ValueError(
                    f"model has no {name}, and none can be derived: {why_not[name]}; "
                    f"accepted are models with {_call_text(name)} ({self.model!r})"
                )
        return super().reaching(order)


@lru_cache(maxsize=64)
def _compiled(model: Custom, dtype: np.dtype[Any]) -> Compiled:
    for name in ARGUMENTS:
        if getattr(model, name) is not None:
            _require_compiles(name, getattr(model, name), dtype)
    table = plain_table(model.n_inputs, model.n_outputs, model.n_params, dtype)
    passes = _completed(*model._functions).passes
    lanes = None
    if not config.DISABLE_JIT and None not in model._functions:
        lanes = partial(_lanes, model, dtype)
    return _CustomCompiled(table, passes, dtype, lanes=lanes, model=model)


@lru_cache(maxsize=64)
def _unfit_for_lanes(functions: tuple[Any, ...], dtype: np.dtype[Any]) -> str | None:
    """Why functions cannot compute several tasks at once, or None."""
    from ..kernels.models.custom_lanes import require_lanes  # which tells Numba of a type

    for name, function in zip(ARGUMENTS, functions, strict=True):
        try:
            require_lanes(name, function, dtype)
        except Exception as error:  # Numba has many ways to fail on a type that is new to it
            return f"{name} does not compile for several tasks at once: {error}"
    return None


def _lanes(model: Custom, dtype: np.dtype[Any], kind: str, query_kind: str) -> LanePasses:
    """The passes of the method ``lanes``; ValueError where the functions have none."""
    why_not = _unfit_for_lanes(model._functions, dtype)
    if why_not is not None:
        raise ValueError(
            f'method is "lanes", and {why_not}; accepted are "dense", "explicit" and "auto" '
            f"({model!r})"
        )
    from ..kernels.models.custom_lanes import custom_lanes

    sizes = model.n_params, model.n_inputs, model.n_outputs
    return custom_lanes(sizes, model._functions, kind, query_kind)
