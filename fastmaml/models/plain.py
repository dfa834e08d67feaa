"""A formula as plain values, for files: what it was constructed to, which takes no SymPy to read.

Nothing of a file is trusted, and nothing of it is run: names and operations are looked up, and
every number that says where something lies is checked.
"""

from __future__ import annotations

import math
from typing import Any

from ..checks import shown
from ..kernels.models.programs import ALONG, Program
from .formula import Formula
from .graph import ARITY
from .named import as_bounds, as_names, require_limits

__all__ = ["formula_of", "plain_formula"]


def plain_formula(model: Formula) -> dict[str, Any]:
    """Return lists, texts and numbers that `formula_of` makes the same formula of."""
    program = model.program
    return {
        "text": list(model.text),
        "parameters": list(model.parameters),
        "inputs": list(model.inputs),
        "positive": list(model.positive),
        "bounds": [list(each) for each in model.bounds],
        "nodes": [list(node) for node in program.nodes],
        "outputs": list(program.f),
        "slopes": [list(row) for row in program.slopes],
        "bends": [list(row) for row in program.bends],
    }


def formula_of(
    text: Any, parameters: Any, inputs: Any, positive: Any, bounds: Any, nodes: Any, outputs: Any,
    slopes: Any, bends: Any,
) -> Formula:  # fmt: skip
    """Return the formula of plain values.

    Raises
    ------
    TypeError, ValueError
        For what `plain_formula` does not make.
    """
    fields = {
        "text": tuple(text),
        "parameters": as_names("parameters", parameters),
        "inputs": as_names("inputs", inputs),
        "positive": as_names("positive", positive, some=False),
        "bounds": as_bounds({name: [low, high] for name, low, high in bounds}),
    }
    require_limits(fields["parameters"], fields["inputs"], fields["positive"], fields["bounds"])
    if not text or not all(isinstance(each, str) for each in fields["text"]):
        raise ValueError(f"text is {shown(text)}; accepted are texts, one for each output")
    n_in, n_params, n_out = (len(fields[name]) for name in ("inputs", "parameters", "text"))
    leaves = {"input": n_in, "parameter": n_params, "direction": n_params}
    made = tuple(_node(number, node, leaves) for number, node in enumerate(nodes))
    places = tuple(_place("outputs", place, len(made), False) for place in outputs)
    tables = [
        tuple(tuple(_place(name, place, len(made)) for place in row) for row in table)
        for name, table in (("slopes", slopes), ("bends", bends))
    ]
    if len(places) != n_out or any(
        len(table) != n_out or any(len(row) != n_params for row in table) for table in tables
    ):
        raise ValueError(
            f"outputs, slopes and bends are not those of {n_out} outputs and {n_params} parameters"
        )
    program = Program(n_in, n_params, made, places, *tables)
    if any(program.depends[place] & ALONG for place in program.with_slopes):
        raise ValueError("outputs or slopes depend on a direction, as only bends may")
    formula = object.__new__(Formula)
    for name, value in (*fields.items(), ("program", program)):
        object.__setattr__(formula, name, value)
    return formula


def _node(number: int, node: Any, leaves: dict[str, int]) -> tuple[Any, ...]:
    """A node, which is made of earlier ones."""
    op, *given = node
    if op == "constant":
        (value,) = given
        if type(value) is not float or not math.isfinite(value):
            raise ValueError(f"nodes[{number}] is {shown(node)}; accepted are finite constants")
        return op, value
    count = 1 if op in leaves else ARITY.get(op) if isinstance(op, str) else None
    if len(given) != count:
        raise ValueError(f"nodes[{number}] is {shown(node)}, which is no operation")
    below = leaves.get(op, number)
    return op, *(_place(f"nodes[{number}]", each, below, False) for each in given)


def _place(name: str, place: Any, below: int, optional: bool = True) -> Any:
    """The number of a node or of a leaf."""
    if (place is None and optional) or (type(place) is int and 0 <= place < below):
        return place
    raise ValueError(f"{name} has {shown(place)}; accepted are integers from 0 to below {below}")
