"""Records read by name: a network's table of int64 numbers as ``net.width`` and ``layer.ld_out``.

A table has a record for the network and one for each layer; all are of one size. Compiled code
holds a pointer to the first and reads a field where it lies. (Before a loop that stores, read a
field into a local: LLVM must assume that the store changes the record.) Numba would load a whole
record to read one field of an array of them, so finding a layer's record is an intrinsic here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import numpy_support

#: of a network
NET_FIELDS = (
    "n_layers",
    "n_theta",  # numbers in a parameter vector
    "n_padded",  # in a padded one
    "n_transposed",  # in the transposed copy of its weights
    "width",  # in a row of all values
    "own_size",  # in a task's own weights,
    "n_common",  # and how many layers have none: see own_weights
)
#: of layer l = 1 ... L, which makes value l from value l - 1. One more record holds the place of
#: value L.
LAYER_FIELDS = (
    "n_in",
    "n_out",
    "ld_in",  # n_in and n_out with padding
    "ld_out",
    "weight",  # where the weights (n_out, n_in) begin in a parameter vector,
    "bias",  # and the bias (n_out,), or -1
    "p_weight",  # where the weights (n_out, ld_in) begin in a padded vector,
    "p_bias",  # and the bias (ld_out,)
    "t_weight",  # where the weights (ld_in, ld_out) begin in a transposed copy
    "place",  # where the layer's input lies in a row of all values
    "own",  # where its bias lies in a task's own weights, which are around it, or -1
    "common",  # its number among the layers of which no task has own weights
    "activation",  # which phi its z goes through; that of the last layer is never applied
)


def _records(names: tuple[str, ...]) -> Any:
    filled = names + tuple(f"unused_{i}" for i in range(len(LAYER_FIELDS) - len(names)))
    return np.dtype((np.record, np.dtype([(name, np.int64) for name in filled], align=True)))


NET, LAYER = _records(NET_FIELDS), _records(LAYER_FIELDS)
_NET, _LAYER = numpy_support.from_dtype(NET), numpy_support.from_dtype(LAYER)


class View:
    """A table as Python reads it: a network's fields by name, and its layers."""

    def __init__(self, table: np.ndarray) -> None:
        self._net = table.view(NET)[0]
        self.layers: Any = table.view(LAYER, np.recarray)

    def __getattr__(self, name: str) -> int:
        return int(getattr(self._net, name))


@intrinsic
def _emit_net(typingctx, table):
    def emit(context, builder, signature, arguments):
        (value,) = arguments
        if isinstance(table, types.Array):
            value = cgutils.create_struct_proxy(table)(context, builder, value=value).data
        return builder.bitcast(value, context.get_value_type(_NET))

    return _NET(table), emit


@intrinsic
def _emit_layer(typingctx, net, number):
    def emit(context, builder, signature, arguments):
        kind = context.get_value_type(_LAYER)
        start = builder.bitcast(arguments[0], ir.IntType(8).as_pointer())
        index = context.cast(builder, arguments[1], number, types.int64)
        size = ir.Constant(ir.IntType(64), LAYER.itemsize)
        return builder.bitcast(builder.gep(start, [builder.mul(index, size)]), kind)

    return _LAYER(net, number), emit


def _plain_layer(net: View, number: int) -> Any:
    return net.layers[number]


#: the network that a table describes
net_of = View if config.DISABLE_JIT else _emit_net
#: the record of a layer of a network, 1 to L
layer_of = _plain_layer if config.DISABLE_JIT else _emit_layer
