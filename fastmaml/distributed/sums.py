"""A sum whose order is fixed: a binary tree over the places of its terms.

Whoever has two neighbours of the tree adds them, in any order in time; what is added to what
depends on the number of terms alone. So the bits of the whole do not depend on who had which terms,
and who had a run of them passes on a few sums instead of all terms.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["TreeSum"]

#: of a node of the tree: how many levels above the terms it is, and its place in that level
Node = tuple[int, int]


class TreeSum:
    """The nodes of the tree that are known and not yet added to a neighbour.

    Parameters
    ----------
    n_terms : int
        Places of the tree.

    Attributes
    ----------
    nodes : dict
        From (level, place) to the sum of the terms below, at places ``place * 2**level`` to
        ``(place + 1) * 2**level``.

    Examples
    --------
    >>> import numpy as np
    >>> total = TreeSum(3)
    >>> for place in (2, 0, 1):
    ...     total.put((0, place), np.array([10.0**place]))
    >>> total.nodes
    {(2, 0): array([111.])}
    """

    def __init__(self, n_terms: int) -> None:
        self._n_terms = n_terms
        self.nodes: dict[Node, NDArray[Any]] = {}

    def put(self, node: Node, term: NDArray[Any]) -> None:
        """Take in a term, as node (0, place), or a sum that another TreeSum had."""
        level, place = node
        while 1 << level < self._n_terms:
            neighbour = level, place ^ 1
            if neighbour[1] << level < self._n_terms:  # else there is none, and the sum moves up
                other = self.nodes.pop(neighbour, None)
                if other is None:
                    break
                term = other + term if place & 1 else term + other
            level, place = level + 1, place >> 1
        self.nodes[level, place] = term

    @property
    def total(self) -> NDArray[Any] | None:
        """The sum of all terms; None as long as some are missing."""
        top = max(0, (self._n_terms - 1).bit_length())
        return self.nodes.get((top, 0))
