"""Judge the parameters around operators that must have one scale for input and output.

Operators such as CONCATENATION and RESIZE_BILINEAR keep their input's scale (TFLite 8-bit
quantization specification).  If the QAT model quantizes both input and output, the converter drops
one of the two fake-quants: it gives the input the output's parameters, or leaves the change to a
QUANTIZE after the operator.  If the QAT model quantizes only the output, the input must have the
output's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.graph.query import SAME_SCALE_KINDS
from tfldbg.match.settle import same_parameters

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.match.model import Match


def resolve_parameters(subgraph: Subgraph, matches: Mapping[int, Match]) -> dict[int, Match]:
    """Return the matches with corrected ``parameters`` around operators that keep a scale.

    ``differ`` becomes ``bypassed`` or ``deferred`` if the converter had to move the parameters;
    only the reference's parameters after the operator are an excuse, so that a wrong scale of two
    operators is still an error.  ``none`` becomes ``differ`` if an operator after the tensor has
    the reference's parameters and the tensor has others.
    """
    resolved = dict(matches)
    consumers, producers = subgraph.consumers, subgraph.producers
    ordered = [i for op in reversed(subgraph.operators) for i in op.outputs]
    for index in (i for i in (*ordered, *subgraph.inputs) if i in resolved):
        match, tensor = resolved[index], subgraph.tensors[index]
        keeping = [
            op for op in consumers.get(index, ()) if op.kind in SAME_SCALE_KINDS and op.outputs
        ]
        if match.parameters == "none" and tensor.lsb is not None:
            resolved[index] = _owed(tensor, match, keeping, resolved)
        elif match.parameters == "differ":
            if any(_imposes(subgraph, op, tensor, resolved) for op in keeping):
                resolved[index] = replace(match, parameters="bypassed")
            elif _keeps_input_scale(subgraph, producers.get(index), tensor) and any(
                op.kind == "QUANTIZE" for op in consumers.get(index, ())
            ):
                resolved[index] = replace(match, parameters="deferred")
    return resolved


def _owed(
    tensor: Tensor, match: Match, keeping: list[Operator], matches: Mapping[int, Match]
) -> Match:
    """Compare a tensor that the reference does not quantize with the operators after it."""
    for op in keeping:
        found = matches.get(op.outputs[0])
        if found is None or found.expected is None or found.parameters != "equal":
            continue
        if not same_parameters(tensor, found.expected):
            return replace(match, parameters="differ", expected=found.expected)
    return match


def _imposes(
    subgraph: Subgraph, op: Operator, tensor: Tensor, matches: Mapping[int, Match]
) -> bool:
    """Return whether ``op``, which keeps its input's scale, requires the tensor's parameters."""
    found = matches.get(op.outputs[0])
    if found is None or found.parameters in ("bypassed", "deferred"):
        return _same(subgraph.tensors[op.outputs[0]], tensor)
    return found.expected is not None and same_parameters(tensor, found.expected)


def _keeps_input_scale(subgraph: Subgraph, op: Operator | None, tensor: Tensor) -> bool:
    if op is None or op.kind not in SAME_SCALE_KINDS:
        return False
    return any(_same(subgraph.tensors[i], tensor) for i in op.inputs if i >= 0)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.affine is not None and one.affine == other.affine
