"""Out of Python: a learned model as C for a microcontroller, an adapted one as ONNX.

* `to_c` writes one C99 file and its header, which adapt and predict there, in the user's units.
* `to_onnx` writes the network of one task, adapted here, for whatever runs ONNX.
"""

from .c import to_c as to_c
from .onnx import to_onnx as to_onnx

__all__ = ["to_c", "to_onnx"]
