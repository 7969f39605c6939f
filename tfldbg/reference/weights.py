"""Weights are handed to a session when it runs, and are no part of its graph.

TensorFlow copies a graph about ten times on its way to the kernels (protocol buffers, their bytes,
the optimizer's own graphs), and a protocol buffer holds 2 GB at most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE = 1 << 16
"""Bytes of a constant from which it is handed over; smaller ones may be folded into others."""
_ALIGNMENT = 64
"""Bytes: what begins elsewhere TensorFlow copies at every run."""


def take_weights(definition: Any) -> dict[str, NDArray[Any]]:
    """Make a placeholder of every large constant, in place; return what they held, by name.

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
    """Return a copy that TensorFlow reads where it is."""
    room = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    found = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    found[...] = values
    return found


def add_placeholder(definition: Any, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    """Append a placeholder of a known shape."""
    _placeholder(definition.node.add(name=name), dtype, shape)


def _placeholder(node: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    import tensorflow as tf

    node.op = "Placeholder"
    node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
