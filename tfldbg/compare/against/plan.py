"""Cut the reference at the matched tensors: one segment for every operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.graph.query import activation_inputs, producers
from tfldbg.reference.evaluate import Segment, open_ends

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph
    from tfldbg.match.model import Matching
    from tfldbg.reference.graphdef import RefGraph

_MOST_TOGETHER = 64
"""Operators that are checked together: more than the longest lowering of one layer has."""


@dataclass(frozen=True, slots=True)
class Uncut:
    """An operator output whose own error cannot be told from the inherited one, and why."""

    tensor: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """How the reference is computed operator by operator."""

    segments: Mapping[int, Segment]
    """By output tensor."""
    joint: Mapping[int, tuple[int, ...]]
    """By output tensor the operators that only one segment can compute together, the last of them
    being the one that writes it."""
    uncut: Mapping[int, Uncut]


def cut(subgraph: Subgraph, matching: Matching, graph: RefGraph) -> Cut:
    """Plan the computation of every matched operator output from the operator's own inputs.

    Where an input has no counterpart, the operators before it are computed together with it, from
    the inputs that have one.

    Args:
        subgraph: The TFLite side.
        matching: Which node computes which tensor.
        graph: The reference.
    """
    segments: dict[int, Segment] = {}
    joint: dict[int, tuple[int, ...]] = {}
    uncut: dict[int, Uncut] = {}
    writers = producers(subgraph)
    for op in subgraph.operators:
        for index in op.outputs:
            if index < 0 or index not in matching.matches:
                continue
            reached = _reach(subgraph, op, matching, writers)
            planned = (
                reached if isinstance(reached, str) else _segment(index, reached, matching, graph)
            )
            if isinstance(planned, str) or isinstance(reached, str):
                uncut[index] = Uncut(index, str(planned))
                continue
            segments[index] = planned
            if len(reached.operators) > 1:
                joint[index] = reached.operators
    return Cut(segments, joint, uncut)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Operators up to the nearest inputs that have a counterpart."""

    inputs: tuple[int, ...]
    operators: tuple[int, ...]


def _reach(
    subgraph: Subgraph, op: Operator, matching: Matching, writers: Mapping[int, Operator]
) -> _Reach | str:
    inputs: dict[int, None] = {}
    operators = {op.index}
    stack = [op]
    while stack:
        for tensor in activation_inputs(subgraph, stack.pop()):
            writer = writers.get(tensor.index)
            if tensor.index in matching.matches:
                inputs[tensor.index] = None
            elif writer is None or len(operators) > _MOST_TOGETHER:
                return f"its input tensor {tensor.index} has no counterpart in the reference"
            elif writer.index not in operators:
                operators.add(writer.index)
                stack.append(writer)
    return _Reach(tuple(inputs), tuple(sorted(operators)))


def _segment(index: int, reached: _Reach, matching: Matching, graph: RefGraph) -> Segment | str:
    known = [matching.matches[i] for i in reached.inputs]
    # A node that is exactly an input's value goes before one that only hands such a value on.
    cuts = {name: m.tensor for m in known for name in (m.node, m.raw)}
    for match in known:
        for name in match.chain:
            cuts.setdefault(name, match.tensor)
    segment = Segment(key=index, output=matching.matches[index].raw, cuts=cuts)
    open_ones = open_ends(graph, segment)
    if open_ones:
        return f"the reference computes it from '{min(open_ones)}' past this operator's inputs"
    return segment
