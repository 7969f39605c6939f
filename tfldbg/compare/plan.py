"""Cut the reference at the matched tensors: one segment for every operator."""

from __future__ import annotations

from dataclasses import dataclass

from tfldbg.graph.model import Operator, Subgraph
from tfldbg.graph.query import activation_inputs
from tfldbg.match.model import Matching
from tfldbg.reference.evaluate import Segment, open_ends
from tfldbg.reference.graphdef import RefGraph


@dataclass(frozen=True, slots=True)
class Uncut:
    """An operator output whose own error cannot be told from the inherited one, and why."""

    tensor: int
    reason: str


def cut(
    subgraph: Subgraph, matching: Matching, graph: RefGraph
) -> tuple[dict[int, Segment], dict[int, Uncut]]:
    """Plan the computation of every matched operator output from the operator's own inputs.

    Args:
        subgraph: The TFLite side.
        matching: Which node computes which tensor.
        graph: The reference.

    Returns:
        By tensor index: the segments, and the outputs for which there is none.
    """
    segments: dict[int, Segment] = {}
    uncut: dict[int, Uncut] = {}
    for op in subgraph.operators:
        for index in op.outputs:
            if index < 0 or index not in matching.matches:
                continue
            planned = _segment(subgraph, op, index, matching, graph)
            if isinstance(planned, Segment):
                segments[index] = planned
            else:
                uncut[index] = Uncut(index, planned)
    return segments, uncut


def _segment(
    subgraph: Subgraph, op: Operator, index: int, matching: Matching, graph: RefGraph
) -> Segment | str:
    given = activation_inputs(subgraph, op)
    missing = [t for t in given if t.index not in matching.matches]
    if missing:
        return f"its input tensor {missing[0].index} has no counterpart in the reference"
    if any(t.is_variable for t in given):
        return "it reads a variable, whose value the reference does not hand out"
    known = [matching.matches[t.index] for t in given]
    # A node that is exactly an input's value goes before one that only hands such a value on.
    cuts = {name: m.tensor for m in known for name in (m.node, m.raw)}
    for match in known:
        for name in match.chain:
            cuts.setdefault(name, match.tensor)
    segment = Segment(key=index, output=matching.matches[index].raw, cuts=cuts)
    reached = open_ends(graph, segment)
    if reached:
        return f"the reference computes it from '{min(reached)}' past this operator's inputs"
    return segment
