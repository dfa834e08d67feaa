"""Programs: a formula, its slopes and its curvature as one list of operations on vectors of rows.

A program is made of text-like data (``fastmaml.models.graph`` writes it), so it can be compared,
pickled, and hashed for the kernel cache. Each node is an operation on earlier nodes. With w_j the
parameters, x_c the inputs and v_j a direction, the *outputs* of a program are nodes, or None for
zero:

* ``f[o]``, of the model's outputs
* ``slopes[o][j]``, ``df_o / dw_j``
* ``bends[o][j]``, ``sum_k d2f_o / dw_j dw_k v_k``

What depends on parameters alone is computed once, by ``derive``, as far as later nodes use it: its
*slots*. What a pass leaves for later ones is *kept*.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

from ..vectors.elementary import FUNCTIONS, PREPARED

Node = tuple[Any, ...]
Entries = tuple[tuple[int | None, ...], ...]

#: what a node depends on
ROW, ALONG, AT = 1, 2, 4
LEAVES = {"constant": 0, "input": ROW, "direction": ALONG, "parameter": AT}


class Program:
    """See the module. Equal to one with the same text."""

    def __init__(
        self, n_inputs: int, n_params: int, nodes: tuple[Node, ...], f: tuple[int, ...],
        slopes: Entries, bends: Entries,
    ) -> None:  # fmt: skip
        self.n_inputs, self.n_params, self.n_outputs = n_inputs, n_params, len(f)
        self.nodes, self.f, self.slopes, self.bends = nodes, f, slopes, bends
        self._given = n_inputs, n_params, nodes, f, slopes, bends
        self.text = repr(self._given)
        self._hash = hash(hashlib.sha256(self.text.encode()).digest())

    def __reduce__(self) -> Any:
        return Program, self._given

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Program) and self.text == other.text)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def depends(self) -> list[int]:
        """What each node depends on."""
        found: list[int] = []
        for op, *args in self.nodes:
            if op in LEAVES:
                found.append(LEAVES[op])
            else:
                found.append(0)
                for each in args:
                    found[-1] |= found[each]
        return found

    def needed(self, wanted: Any, known: Any = ()) -> list[int]:
        """The nodes that the wanted ones are made of, these too, in order; known ones are not."""
        found: set[int] = set()
        pending = [node for node in wanted if node is not None]
        while pending:
            node = pending.pop()
            if node not in found and node not in known:
                found.add(node)
                op, *args = self.nodes[node]
                pending.extend(() if op in LEAVES else args)
        return sorted(found)

    @cached_property
    def with_slopes(self) -> list[int]:
        """f and the slopes."""
        return [*self.f, *entries_of(self.slopes)]

    def used_by(self, nodes: Any) -> set[int]:
        """What nodes are made of directly."""
        return {
            each
            for op, *args in (self.nodes[node] for node in nodes)
            if op not in LEAVES
            for each in args
        }

    @cached_property
    def slots(self) -> dict[int, int]:
        """Where each node that depends on parameters alone, and that others use, lies in c."""
        later = [node for node, what in enumerate(self.depends) if what & (ROW | ALONG)]
        used = self.used_by(later) | {*self.with_slopes, *entries_of(self.bends)}
        alone = [
            node
            for node in sorted(used)
            if self.depends[node] == AT and self.nodes[node][0] != "parameter"
        ]
        return {node: slot for slot, node in enumerate(alone)}

    @cached_property
    def kept(self) -> dict[int, int]:
        """The numbers of the nodes that a pass for gradients leaves."""
        made = set(self.needed(self.with_slopes))
        later = self.needed(entries_of(self.bends), made)
        used = {*entries_of(self.slopes), *entries_of(self.bends)} | self.used_by(later)
        rows = [
            node
            for node in sorted(used & made)
            if self.depends[node] & ROW and self.nodes[node][0] != "input"
        ]
        return {node: number for number, node in enumerate(rows)}

    def outside(self, wanted: Any, known: Any = ()) -> list[int]:
        """Of the nodes that the wanted ones are made of, those that are the same for all rows."""
        needed = self.needed(wanted, {*known, *self.slots})
        found = {node for node in needed if not self.depends[node] & ROW}
        used = {*wanted, *self.used_by(needed)} & set(self.slots)
        return sorted(found | used)


def entries_of(table: Entries) -> list[int]:
    """The entries that are not zero."""
    return [node for row in table for node in row if node is not None]


def evaluate(
    m: Any, program: Program, wanted: Any, known: dict[int, Any], shared: Any = ()
) -> dict[int, Any]:
    """The values of nodes on a machine, and of what they are made of, from those that are known.

    ``shared`` is what functions prepare of a node, as far as it is known: by the function that
    does and the node.
    """
    values, prepared = dict(known), dict[Any, Any](shared)
    for node in program.needed(wanted, known):
        op, *args = program.nodes[node]
        if op == "constant":
            values[node] = m.constant(args[0])
        elif op in PREPARED:
            prepare, finish = PREPARED[op]
            given = [values[each] for each in args]
            key = prepare, args[0]
            if key not in prepared:
                prepared[key] = prepare(m, given[0])
            values[node] = finish(m, prepared[key], *given)
        else:
            values[node] = FUNCTIONS[op](m, *(values[each] for each in args))
    return values
