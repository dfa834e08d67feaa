"""A formula as a model: named parameters, some of them positive or within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
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
    shape_text,
    shown,
)
from ..family import Compiled
from ..kernels.models.formula import formula_passes
from ..kernels.models.formula_lanes import formula_lanes
from ..kernels.models.formula_table import formula_table
from ..kernels.models.programs import Program
from ..parameters import as_thetas
from ..predict import predict as predict_of_any_model
from .expression import as_expressions, place, require_sympy
from .graph import Graph
from .named import Domain, as_bounds, as_names, domains_of, require_limits

__all__ = ["Formula"]


@final
@dataclass(frozen=True, init=False, repr=False)
class Formula:
    """A model that is a formula, such as a law of physics, with named parameters.

    Its derivatives are made from the formula, and compiled for vector registers when they are
    first called for; they are kept on disk, as kernels are. Needs SymPy, from the extra
    ``formula``, to be constructed (not to be unpickled, or to compute).

    Parameters
    ----------
    expression : sympy.Expr, sequence of them, or callable
        f, or one expression for each output. A callable is called with a symbol for each parameter
        and input, by name, and returns such. It may have numbers, sums, products, powers, the
        trigonometric and hyperbolic functions and their inverses, ``exp``, ``log``, ``sqrt``,
        ``Abs``, ``sign``, ``Min``, ``Max`` and ``erf``.
    parameters : sequence of str or sympy.Symbol
        What is learned and adapted, in the order of theta. Each is a layer of its own: a rate for
        each layer is a rate for each parameter.
    inputs : sequence of str or sympy.Symbol
        The columns of x, in order; the formula need not use all of them.
    positive : sequence of str or sympy.Symbol
        Parameters that are above zero: theta holds their logarithm.
    bounds : dict of (low, high), optional
        Parameters that are between two numbers: ``low + (high - low) / (1 + exp(-t))``, and theta
        holds t.

    Attributes
    ----------
    parameters, inputs, positive : tuple of str
    bounds : tuple of (str, float, float)
    n_params, n_inputs, n_outputs, n_layers : int

    Raises
    ------
    ImportError
        Without SymPy.
    TypeError
        If an argument is of another kind.
    ValueError
        If a symbol is unknown or a name twice, if no output depends on a parameter, or for a
        function that is not known.

    Notes
    -----
    Where the formula has no value, as the logarithm of a negative number, it is NaN; if a task
    comes there it has diverged, and the usual warning names it. ``x**y`` is NaN for a negative x,
    unless a whole number stands in the place of y.

    Examples
    --------
    >>> import sympy
    >>> import fastmaml as fm
    >>> t, A, k = sympy.symbols("t A k")
    >>> model = fm.Formula(A * sympy.exp(-k * t), parameters=[A, k], inputs=[t], positive=[k])
    >>> model
    Formula(A*exp(-k*t), parameters=['A', 'k'], inputs=['t'], positive=['k'])
    >>> theta = model.pack({"A": 2.0, "k": 1.0})
    >>> theta
    array([2., 0.])
    >>> model.unpack(theta)
    {'A': array(2.), 'k': array(1.)}
    >>> model.predict(theta, [[0.0], [1.0]]).round(4)
    array([[2.    ],
           [0.7358]])

    The same from a function of symbols:

    >>> def decay(t, A, k):
    ...     return A * sympy.exp(-k * t)
    >>> fm.Formula(decay, parameters=["A", "k"], inputs=["t"], positive=["k"]) == model
    True
    >>> model.init(0).shape
    (2,)
    """

    text: tuple[str, ...] = field()
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    positive: tuple[str, ...]
    bounds: tuple[tuple[str, float, float], ...]
    program: Program

    def __init__(
        self, expression: Any, *, parameters: Iterable[Any], inputs: Iterable[Any],
        positive: Iterable[Any] = (), bounds: Mapping[Any, Any] | None = None,
    ) -> None:  # fmt: skip
        require_sympy()
        put = object.__setattr__  # frozen from here on
        put(self, "parameters", as_names("parameters", parameters))
        put(self, "inputs", as_names("inputs", inputs))
        put(self, "positive", as_names("positive", positive, some=False))
        put(self, "bounds", as_bounds(bounds))
        require_limits(self.parameters, self.inputs, self.positive, self.bounds)
        names = (*self.parameters, *self.inputs)
        expressions = as_expressions(expression, names)
        used = {symbol.name for each in expressions for symbol in each.free_symbols}
        if used - set(names):
            raise ValueError(
                f"expression has the symbols {', '.join(sorted(used - set(names)))}, which are "
                f"neither parameters ({', '.join(self.parameters)}) nor inputs "
                f"({', '.join(self.inputs)})"
            )
        put(self, "text", tuple(str(each) for each in expressions))
        put(self, "program", self._program(expressions))

    def _program(self, expressions: tuple[Any, ...]) -> Program:
        graph = Graph()
        leaves = {name: graph.node("input", c) for c, name in enumerate(self.inputs)}
        for j, (name, domain) in enumerate(self._domains.items()):
            leaves[name] = domain.node(graph, graph.node("parameter", j))
        outputs = [place(graph, each, leaves) for each in expressions]
        program = graph.program(len(self.inputs), len(self.parameters), outputs)
        for j, name in enumerate(self.parameters):
            if all(slopes[j] is None for slopes in program.slopes):
                raise ValueError(
                    f"parameters has {name!r}, and no output depends on it "
                    f"({', '.join(self.text)}); accepted are parameters that one does"
                )
        return program

    @property
    def _domains(self) -> dict[str, Domain]:
        return domains_of(self.parameters, self.positive, self.bounds)

    @property
    def n_params(self) -> int:
        """Number of parameters, P."""
        return len(self.parameters)

    @property
    def n_layers(self) -> int:
        """Number of layers: each parameter is one."""
        return len(self.parameters)

    @property
    def n_inputs(self) -> int:
        """Number of input features."""
        return len(self.inputs)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return len(self.text)

    @property
    def layer_sizes(self) -> None:
        """None: it is no stack of weight layers."""
        return

    def __repr__(self) -> str:
        text = self.text[0] if len(self.text) == 1 else f"[{', '.join(self.text)}]"
        parts = [text, f"parameters={list(self.parameters)}", f"inputs={list(self.inputs)}"]
        if self.positive:
            parts.append(f"positive={list(self.positive)}")
        if self.bounds:
            within = {name: (low, high) for name, low, high in self.bounds}
            parts.append(f"bounds={within}")
        return f"Formula({', '.join(parts)})"

    def layers(self) -> dict[str, slice]:
        """Where each parameter lies in theta, by its name."""
        return {name: slice(j, j + 1) for j, name in enumerate(self.parameters)}

    def init(
        self,
        rng: int | np.random.Generator | None = None,
        dtype: DTypeLike = np.float64,
        values: Mapping[str, float] | None = None,
    ) -> NDArray[Any]:
        """Make initial parameters, of values where they are known.

        Parameters
        ----------
        rng : int, numpy.random.Generator or None
            A seed, a generator to draw from, or None for fresh entropy.
        dtype : dtype
            float64 or float32.
        values : dict, optional
            Parameters by their names, as `unpack` gives them. What is not there is drawn: its
            number in theta is standard normal.

        Returns
        -------
        theta : ndarray, shape (P,)

        Raises
        ------
        TypeError, ValueError
            For an argument of another kind, an unknown name, or a number that the parameter
            cannot be.
        """
        wanted, given = as_float_dtype("dtype", dtype), {} if values is None else values
        theta, domains = as_rng("rng", rng).normal(size=self.n_params), self._domains
        for name, number in self._known("values", given).items():
            hidden = domains[name].hidden(f"values[{name!r}]", number)
            if hidden.shape:
                raise ValueError(
                    f"values[{name!r}] has shape {shape_text(hidden.shape)}; accepted is one number"
                )
            theta[self.parameters.index(name)] = hidden
        return theta.astype(wanted, copy=False)

    def pack(self, values: Mapping[str, ArrayLike]) -> NDArray[Any]:
        """Return the flat parameters of named values.

        Parameters
        ----------
        values : dict
            A number, or an array of them, shape (...), for each parameter.

        Returns
        -------
        theta : ndarray, shape (..., P)
            float32 if every array is float32, else float64.

        Raises
        ------
        TypeError, ValueError
            For an argument of another kind, a missing or unknown name, a number that the parameter
            cannot be, or shapes that do not go together.
        """
        known = self._known("values", values)
        missing = [name for name in self.parameters if name not in known]
        if missing:
            raise ValueError(
                f"values lacks {', '.join(missing)}; accepted is a value for each of "
                f"{', '.join(self.parameters)}"
            )
        columns = [
            domain.hidden(f"values[{name!r}]", known[name])
            for name, domain in self._domains.items()
        ]
        try:
            columns = list(np.broadcast_arrays(*columns))
        except ValueError as error:
            raise ValueError(f"values has shapes that do not go together ({error})") from None
        dtypes = {as_dtype("values", known[name]) for name in self.parameters}
        dtype = FLOAT32 if dtypes == {FLOAT32} else FLOAT64
        return np.stack(columns, axis=-1).astype(dtype)

    def unpack(self, theta: ArrayLike) -> dict[str, NDArray[Any]]:
        """Return the values of the named parameters that flat ones stand for.

        Parameters
        ----------
        theta : array_like, shape (..., P)
            Parameters; leading axes, such as one of tasks, are kept.

        Returns
        -------
        values : dict
            By name, arrays (...), as they stand in the formula.

        Raises
        ------
        TypeError
            If `theta` does not hold real numbers.
        ValueError
            If its last axis is not P long.
        """
        given = as_thetas(self, theta)
        array = as_array("theta", given, as_dtype("theta", given))
        return {
            name: np.asarray(domain.values(np.array(array[..., j])), array.dtype)
            for j, (name, domain) in enumerate(self._domains.items())
        }

    predict = predict_of_any_model

    def compiled(self, dtype: np.dtype[Any]) -> Compiled:
        """The model as the kernels of a dtype take it."""
        return _compiled(self.program, dtype)

    def _known(self, argument: str, values: Any) -> dict[str, Any]:
        """The values of a mapping, whose names must be parameters."""
        if not isinstance(values, Mapping):
            raise TypeError(f"{argument} is {shown(values)}; accepted are dicts of named values")
        named: dict[Any, Any] = {getattr(key, "name", key): each for key, each in values.items()}
        for name in named:
            if name not in self.parameters:
                raise ValueError(
                    f"{argument} has {name!r}; accepted are {', '.join(self.parameters)}"
                )
        return named


@lru_cache(maxsize=64)
def _compiled(program: Program, dtype: np.dtype[Any]) -> Compiled:
    table, passes = formula_table(program, dtype), formula_passes(program)
    return Compiled(table, passes, dtype, lanes=partial(formula_lanes, program))
