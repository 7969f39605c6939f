"""Whether the tensors of a running model stay where they are in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.graph.query import CALLED, custom_operators

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph

_BY_VALUES = frozenset(
    {"BROADCAST_ARGS", "DENSIFY", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"}
    | {"RANGE", "SEGMENT_SUM", "UNIQUE", "UNSORTED_SEGMENT_SUM", "WHERE"}
)
"""Operators whose results have a shape that depends on values."""
_NUMBERS = frozenset({"INT32", "INT64", "UINT32"})
"""The types of inputs that may state a shape."""
_HELD = frozenset({"BOOL", "FLOAT16", "FLOAT32", "INT16", "INT32", "INT64", "INT8", "UINT8"})


def tensors_stay(subgraph: Subgraph) -> bool:
    """Return whether all tensors keep their memory from one run to the next.

    LiteRT moves tensors during a run after an operator whose results have a shape that depends on
    values.  The answer is no wherever that is possible.
    """
    if custom_operators(subgraph) or any(t.type not in _HELD for t in subgraph.tensors):
        return False
    for op in subgraph.operators:
        if op.kind in CALLED or op.kind in _BY_VALUES:
            return False
        given = (subgraph.tensors[i] for i in op.inputs if i >= 0)
        if any(t.type in _NUMBERS and not t.has_data for t in given):
            return False
    return True
