"""Records read by name: a table of int64 numbers as ``net.width`` and ``layer.ld_out``.

A table describes a model, and the losses of its tasks. It is a record of the model, `NET`; for a
stack of weight layers one more for each of them, `LAYER`; then one for each *piece* of its
parameter vector, `PIECE`; of a model with parts one for each of these, `PART`, with their tables;
and last, where there are losses, one for that of the support rows and one for that of the query
rows, `LOSS`, and their numbers. Compiled code holds a pointer to the
first and reads a field where it lies. (Before a loop that stores, read a field into a local: LLVM
must assume that the store changes the record.) Numba would load a whole record to read one field of
an array of them, so finding a record is an intrinsic here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import numpy_support

#: of a model
NET_FIELDS = (
    "n_in",
    "n_out",
    "ld_in",  # n_in and n_out with padding
    "ld_out",
    "n_theta",  # numbers in a parameter vector
    "n_padded",  # in a padded one
    "n_derived",  # in what is derived from it
    "n_layers",  # runs of parameters that have a rate of their own
    "n_pieces",  # runs of parameters that lie in a padded vector as they do in a plain one,
    "pieces",  # and where their records begin, in numbers
    "n_parts",  # models that it is a sum of,
    "parts",  # and where their records begin
    "numbers",  # where the model's own numbers begin
    # What is kept of a row of data: numbers in all, and if only the value of f is wanted
    "row_size",
    "value_size",
    # and where the outputs lie there: f, its delta, and the derivatives of both along a direction
    "f",
    "delta",
    "rf",
    "r_delta",
    "losses",  # where the records of the losses begin, in numbers
    # Addresses of the model's passes, see ``models.passes``
    "derive",
    "forward",
    "backward",
    "r_forward",
    "r_backward",
    # Of a stack of weight layers: numbers in a row of all values, in a task's own weights, and how
    # many layers have none: see ``own_weights``
    "width",
    "own_size",
    "n_common",
    # Of a model with passes for a task in each lane: vectors that these leave of a row, and their
    # addresses, see ``models.lanes``
    "lane_made",
    "lane_kept",
    "lane_room",
    "lane_prepare",
    "lane_slopes",
    "lane_query",
    "lane_products",
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
    "activation",  # which phi it ends with
    "own",  # where its bias lies in a task's own weights, which are around it, or -1
    "common",  # its number among the layers of which no task has own weights
)
#: of a matrix (rows, cols) of parameters, which is (rows, ld) in a padded vector
PIECE_FIELDS = (
    "theta",  # where it begins in a parameter vector,
    "padded",  # and in a padded one
    "rows",
    "cols",
    "ld",
    "layer",  # whose it is, from 0
    "last",  # whether it is the last of that layer, whose pieces follow each other
)
#: of a loss: 0 is that of the support rows, 1 that of the query rows
LOSS_FIELDS = (
    "slope",  # addresses of its functions, see ``losses.passes``
    "bend",
    "averaged",  # whether it is divided by the rows of a task, or by the sum of their weights
    "n_y",  # targets of a row,
    "ld_y",  # and numbers in a row of y: these, and its weight where rows have weights
    "numbers",  # where its own numbers begin in the table
)
#: of a model that is a part of another
PART_FIELDS = (
    "net",  # where its own table begins
    "padded",  # where its parameters begin in a padded vector,
    "derived",  # and what is derived from them
    "place",  # how many numbers of each row lie before its block, but for values alone
    "column",  # of a row of x, where its inputs begin
)


def _record(names: tuple[str, ...]) -> Any:
    return np.dtype((np.record, np.dtype([(name, np.int64) for name in names], align=True)))


NET, LAYER, PIECE = map(_record, (NET_FIELDS, LAYER_FIELDS, PIECE_FIELDS))
PART, LOSS = map(_record, (PART_FIELDS, LOSS_FIELDS))
_NET, _LAYER, _PIECE, _PART, _LOSS = map(numpy_support.from_dtype, (NET, LAYER, PIECE, PART, LOSS))
_NUMBERS = types.CPointer(types.float64)


class View:
    """A table as Python reads it: a model's fields by name, its layers and its pieces."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table
        self._net = table[: len(NET_FIELDS)].view(NET)[0]

    def __getattr__(self, name: str) -> int:
        return int(getattr(self._net, name))

    @property
    def layers(self) -> Any:
        """The records of the layers, the first at 0, and the one more."""
        return self.table[len(NET_FIELDS) : self.pieces].view(LAYER, np.recarray)

    @property
    def all_pieces(self) -> Any:
        """The records of the pieces."""
        end = self.pieces + self.n_pieces * len(PIECE_FIELDS)
        return self.table[self.pieces : end].view(PIECE, np.recarray)

    @property
    def all_parts(self) -> Any:
        """The records of the parts."""
        end = self.parts + self.n_parts * len(PART_FIELDS)
        return self.table[self.parts : end].view(PART, np.recarray)

    @property
    def all_losses(self) -> Any:
        """The records of the two losses."""
        return self.table[self.losses : self.losses + 2 * len(LOSS_FIELDS)].view(LOSS, np.recarray)


def table_of(
    fields: dict[str, int], layers: list[tuple[int, ...]], pieces: list[tuple[int, ...]]
) -> np.ndarray:
    """The table of a model, without losses. Fields that are not given are 0."""
    pieces_at = len(NET_FIELDS) + len(layers) * len(LAYER_FIELDS)
    losses_at = pieces_at + len(pieces) * len(PIECE_FIELDS)
    fields = {**fields, "n_pieces": len(pieces), "pieces": pieces_at, "losses": losses_at}
    net = [fields.get(name, 0) for name in NET_FIELDS]
    return np.array([*net, *(n for record in layers + pieces for n in record)], np.int64)


def with_parts(
    table: np.ndarray, tables: list[np.ndarray], places: list[tuple[int, int, int, int]],
    numbers: Any = (),
) -> np.ndarray:  # fmt: skip
    """A table with those of the model's parts, for each the rest of a `PART`, and its numbers."""
    begin = View(table).losses
    net_at, records = begin + len(tables) * len(PART_FIELDS), []
    for part, rest in zip(tables, places, strict=True):
        records += [net_at, *rest]
        net_at += len(part)
    own = np.array(numbers, np.float64).view(np.int64)
    table = np.concatenate([table[:begin], np.array(records, np.int64), *tables, own])
    fields = {"n_parts": len(tables), "parts": begin, "numbers": net_at}
    for name, value in (*fields.items(), ("losses", net_at + len(own))):
        table[NET_FIELDS.index(name)] = value
    return table


@intrinsic
def _emit_net(typingctx, table):
    def emit(context, builder, signature, arguments):
        (value,) = arguments
        if isinstance(table, types.Array):
            value = cgutils.create_struct_proxy(table)(context, builder, value=value).data
        return builder.bitcast(value, context.get_value_type(_NET))

    return _NET(table), emit


def _found(kind: Any, size: int, begin: int | str) -> Any:
    """A function that finds a record of a kind by its number.

    Record 0 lies at ``begin``, or where that field says, and each is ``size`` numbers long.
    """

    @intrinsic
    def find(typingctx, net, number):
        def emit(context, builder, signature, arguments):
            table = builder.bitcast(arguments[0], ir.IntType(64).as_pointer())
            index = context.cast(builder, arguments[1], number, types.int64)
            place = builder.mul(index, ir.Constant(ir.IntType(64), size))
            if isinstance(begin, str):
                field = ir.Constant(ir.IntType(64), NET_FIELDS.index(begin))
                start = builder.load(builder.gep(table, [field]))
            else:
                start = ir.Constant(ir.IntType(64), begin)
            pointer = builder.gep(table, [builder.add(start, place)])
            return builder.bitcast(pointer, context.get_value_type(kind))

        return kind(net, number), emit

    return find


def _plain_layer(net: View, number: int) -> Any:
    return net.layers[number - 1]


def _plain_piece(net: View, number: int) -> Any:
    return net.all_pieces[number]


def _plain_part(net: View, number: int) -> Any:
    return net.all_parts[number]


def _plain_net_at(net: View, place: int) -> View:
    return View(net.table[place:])


def _plain_loss(net: View, number: int) -> Any:
    return net.all_losses[number]


def _plain_numbers(net: View, place: int) -> Any:
    return net.table[place:].view(np.float64)


def _plain_own_numbers(net: View, number: int) -> Any:
    return net.table[net.numbers + number :].view(np.float64)


_LAYERS_BEGIN = len(NET_FIELDS) - len(LAYER_FIELDS)  # of a layer 0, which there is not

#: the model that a table describes
net_of = View if config.DISABLE_JIT else _emit_net
#: the record of a layer, 1 to L; that of L + 1 only has a place
layer_of = _plain_layer if config.DISABLE_JIT else _found(_LAYER, len(LAYER_FIELDS), _LAYERS_BEGIN)
#: the record of a piece, from 0
piece_of = _plain_piece if config.DISABLE_JIT else _found(_PIECE, len(PIECE_FIELDS), "pieces")
#: the record of a part, from 0, and the model that is described from some place on
part_of = _plain_part if config.DISABLE_JIT else _found(_PART, len(PART_FIELDS), "parts")
net_at = _plain_net_at if config.DISABLE_JIT else _found(_NET, 1, 0)
#: the model's own numbers from one of them on
own_numbers = _plain_own_numbers if config.DISABLE_JIT else _found(_NUMBERS, 1, "numbers")
#: the record of a loss: 0 of the support rows, 1 of the query rows
loss_of = _plain_loss if config.DISABLE_JIT else _found(_LOSS, len(LOSS_FIELDS), "losses")
#: the numbers that begin at a place of the table
numbers_at = _plain_numbers if config.DISABLE_JIT else _found(_NUMBERS, 1, 0)
