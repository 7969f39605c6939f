"""Weights that are passed to a session when it runs, instead of being part of its graph.

TensorFlow copies a graph about ten times on its way to the kernels (protocol buffers, their bytes,
the optimizer's own graphs), and a protocol buffer holds at most 2 GB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE = 1 << 16
"""The size in bytes from which a constant is passed; smaller ones may be folded into others."""
_ALIGNMENT = 64
"""The alignment in bytes; TensorFlow copies arrays with another start at every run."""


def take_weights(definition: Any) -> dict[str, NDArray[Any]]:
    """Replace large constants by placeholders, in place; return their values by name.

    Args:
        definition: A ``tensorflow.GraphDef``.
    """
    from tensorflow import make_ndarray

    found = {}
    for node in definition.node:
        if node.op != "Const" or len(node.attr["value"].tensor.tensor_content) < LARGE:
            continue
        values = make_ndarray(node.attr["value"].tensor)
        found[node.name] = aligned(values)
        node.ClearField("attr")
        _placeholder(node, values.dtype, values.shape)
    return found


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """Return an aligned copy, which TensorFlow reads without copying it."""
    room = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    found = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    found[...] = values
    return found


def add_placeholder(definition: Any, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    """Append a placeholder with a known shape."""
    _placeholder(definition.node.add(name=name), dtype, shape)


def _placeholder(node: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    import tensorflow as tf

    node.op = "Placeholder"
    node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
