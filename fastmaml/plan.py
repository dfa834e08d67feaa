"""Decisions: which method, how the tasks are cut into chunks, how many workers.

Functions of sizes alone. Chunks and pieces never depend on the number of threads, so results do not
either. A *chunk* is a run of whole tasks whose sum one worker makes; a *piece* is the run of chunks
that one call of a kernel works, so that Python regains control (Ctrl-C) between pieces.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels.jit import max_workers
from .kernels.mlp import LD_IN, P_BIAS, P_WEIGHT, ROW, WEIGHT, layer_table
from .models.base import Network

METHODS = ("auto", "explicit", "dense", "factored")

#: floating-point operations below which one thread is faster than waking the others
SERIAL_WORK = 300_000
#: most chunks of a piece, and operations after which a piece ends (about a tenth of a second)
PIECE_CHUNKS = 64
PIECE_WORK = 4_000_000_000


@lru_cache(maxsize=64)
def table_of(model: Network, dtype: np.dtype[Any]) -> NDArray[np.int64]:
    """The kernels' description of a model."""
    return layer_table(model.layer_sizes, model.activation, model.intercept, dtype)


@lru_cache(maxsize=64)
def padded_index(model: Network, dtype: np.dtype[Any]) -> NDArray[np.int64]:
    """Where each parameter lies in a padded parameter vector."""
    index = np.empty(model.n_params, np.int64)
    rows = table_of(model, dtype).reshape(-1, ROW)[1 : model.n_layers + 1]
    for (weight, bias), row in zip(model.unpack(index), rows, strict=True):
        n_out, n_in = weight.shape
        weight[...] = row[P_WEIGHT] + np.arange(n_out)[:, None] * row[LD_IN] + np.arange(n_in)
        if bias is not None:
            bias[...] = row[P_BIAS] + np.arange(n_out)
    return index


@lru_cache(maxsize=64)
def layer_starts(model: Network) -> NDArray[np.int64]:
    """Where each layer's parameters start in theta."""
    rows = table_of(model, np.dtype(np.float64)).reshape(-1, ROW)
    return rows[1 : model.n_layers + 1, WEIGHT].copy()


def choose_method(method: str, per_parameter: bool) -> str:
    """The method that ``"auto"`` stands for."""
    if method != "auto":
        return method
    return "dense" if per_parameter else "factored"


def work_of(model: Network, support_rows: int, query_rows: int, steps: int) -> int:
    """About how many floating-point operations a meta-gradient takes."""
    return model.n_params * (24 * steps * support_rows + 6 * query_rows)


def chunks_of(offsets: NDArray[np.int64], work: int) -> NDArray[np.int64]:
    """Boundaries of the chunks, as tasks: about equal numbers of rows, at least one task each."""
    n_tasks = len(offsets) - 1
    wanted = max(PIECE_CHUNKS, -(-work * PIECE_CHUNKS // PIECE_WORK))
    n_chunks = min(n_tasks, wanted)
    rows = np.linspace(0, offsets[-1], n_chunks + 1)
    # The first task that starts at or after each mark; consecutive runs, empty ones dropped.
    return np.unique(np.searchsorted(offsets, rows)).astype(np.int64)


def pieces_of(n_chunks: int) -> list[tuple[int, int]]:
    """First and last chunk of each piece."""
    starts = range(0, n_chunks, PIECE_CHUNKS)
    return [(start, min(start + PIECE_CHUNKS, n_chunks)) for start in starts]


def workers_for(work: int, n_chunks: int) -> int:
    """How many workers a call gets; only a parallel call asks (and starts) the threading layer."""
    return 1 if work < SERIAL_WORK or n_chunks < 2 else min(max_workers(), n_chunks)
