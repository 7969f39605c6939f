"""Correct a file that the runtime refuses for a mistake that changes no value.

``InterpreterBuilder::ParseQuantization`` refuses a tensor whose quantized dimension lies outside
its shape.  If the tensor has one dimension, or one scale, only one value is possible: older
converters copied the number from the weights to the bias, and other runtimes ignore it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Tensor

_DIMENSION_FIELD = 16  # vtable offset of QuantizationParameters.quantized_dimension: 4 + 2 * 6


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """A copy that the runtime accepts."""

    data: bytes
    said: str
    """The differences of the copy, and their reason."""


def repair(graph: Graph) -> Repair | None:
    """Replace every impossible quantized dimension by the only possible value.

    Args:
        graph: The file.

    Returns:
        The changed copy, or None if the file needs no change.
    """
    from ai_edge_litert import schema_py_generated as schema

    wrong = [
        (subgraph.index, tensor)
        for subgraph in graph.subgraphs
        for tensor in subgraph.tensors
        if tensor.quant is not None and tensor.quant.stated_axis is not None
    ]
    if not wrong:
        return None
    changed = bytearray(graph.data)
    model = schema.Model.GetRootAs(graph.data, 0)
    for index, tensor in wrong:
        table = model.Subgraphs(index).Tensors(tensor.index).Quantization()._tab
        position = table.Pos + table.Offset(_DIMENSION_FIELD)
        struct.pack_into("<i", changed, position, tensor.quant.axis if tensor.quant else 0)
    return Repair(bytes(changed), _said([tensor for _, tensor in wrong]))


def _said(tensors: list[Tensor]) -> str:
    first = tensors[0]
    stated = first.quant.stated_axis if first.quant else None
    one = (
        f"tensor {first.index} '{first.name}', whose shape is {list(first.shape)}, states {stated}"
    )
    which = one if len(tensors) == 1 else f"of {len(tensors)} tensors; the first, {one}"
    return (
        "LiteRT refuses the file as it is: a quantized dimension lies outside the tensor's shape "
        f"({which}). The copy that runs has 0 there, which changes no value"
    )
