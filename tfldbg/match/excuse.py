"""Tell parameters that are wrong from parameters that the converter had to move.

Operators such as CONCATENATION and RESIZE_BILINEAR must have one scale for input and output (TFLite
8-bit quantization specification).  Where the QAT model quantizes both, the converter drops one of
the two fake-quants: it gives the input the output's parameters, or leaves the change to a QUANTIZE
behind the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tfldbg.graph.model import Operator, Subgraph, Tensor
from tfldbg.graph.query import SAME_SCALE_KINDS, consumers, producers
from tfldbg.match.model import Match
from tfldbg.match.settle import same_parameters


def excuse(subgraph: Subgraph, matches: Mapping[int, Match]) -> dict[int, Match]:
    """Change ``differ`` to ``bypassed`` or ``deferred`` where that explains it.

    An excuse holds only for the parameters that the reference has behind the operator: a wrong
    scale that two operators share stays wrong.
    """
    excused = dict(matches)
    readers, writers = consumers(subgraph), producers(subgraph)
    ordered = [i for op in reversed(subgraph.operators) for i in op.outputs]
    for index in (i for i in (*ordered, *subgraph.inputs) if i in excused):
        match, tensor = excused[index], subgraph.tensors[index]
        if match.parameters != "differ":
            continue
        if any(_imposes(subgraph, op, tensor, excused) for op in readers.get(index, ())):
            excused[index] = replace(match, parameters="bypassed")
        elif _keeps_input_scale(subgraph, writers.get(index), tensor) and any(
            op.kind == "QUANTIZE" for op in readers.get(index, ())
        ):
            excused[index] = replace(match, parameters="deferred")
    return excused


def _imposes(
    subgraph: Subgraph, op: Operator, tensor: Tensor, matches: Mapping[int, Match]
) -> bool:
    """Whether ``op``, which keeps its input's scale, forces the reference's parameters on it."""
    found = matches.get(op.outputs[0]) if op.outputs else None
    if op.kind not in SAME_SCALE_KINDS or found is None:
        return False
    if found.parameters == "bypassed":
        return _same(subgraph.tensors[op.outputs[0]], tensor)
    return found.expected is not None and same_parameters(tensor, found.expected)


def _keeps_input_scale(subgraph: Subgraph, op: Operator | None, tensor: Tensor) -> bool:
    if op is None or op.kind not in SAME_SCALE_KINDS:
        return False
    return _same(subgraph.tensors[op.inputs[0]], tensor)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.lsb is not None and one.lsb == other.lsb and one.zero_point == other.zero_point
