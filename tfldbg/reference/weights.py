"""Weights that are passed to a session when it runs, instead of being part of its graph.

TensorFlow copies a graph about ten times on its way to the kernels (protocol buffers, their bytes,
the optimizer's own graphs), and a protocol buffer holds at most 2 GB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tfldbg.reference.protos import TYPES, set_shape, values_of

LARGE = 1 << 16
"""The size in bytes from which a constant is passed; smaller ones may be folded into others."""


def take_weights(definition: Any) -> dict[str, NDArray[Any]]:
    """Replace large constants by placeholders, in place; return their values by name.

    Args:
        definition: A `protos.GraphDef`.
    """
    found = {}
    for node in definition.node:
        if node.op != "Const" or len(node.attr["value"].tensor.tensor_content) < LARGE:
            continue
        values = found[node.name] = values_of(node.attr["value"].tensor)
        node.ClearField("attr")
        _placeholder(node, values.dtype, values.shape)
    return found


def add_placeholder(definition: Any, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    """Append a placeholder with a known shape."""
    _placeholder(definition.node.add(name=name), dtype, shape)


def _placeholder(node: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    node.op = "Placeholder"
    node.attr["dtype"].type = TYPES[np.dtype(dtype).name]
    set_shape(node.attr["shape"].shape, shape)
