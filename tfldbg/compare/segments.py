"""Cut the reference at the matched tensors into one segment per operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tfldbg.graph.query import activation_inputs
from tfldbg.match.kinds import COMPUTING
from tfldbg.reference.evaluate import Segment, open_ends

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph
    from tfldbg.match.model import Match, Matching
    from tfldbg.reference.graphdef import RefGraph

_NOTHING_BETWEEN = "its counterpart is also that of its input, so that nothing checks it"
_MOST_TOGETHER = 64
"""The largest number of operators checked together, above the longest lowering of one layer."""


@dataclass(frozen=True, slots=True)
class Uncut:
    """An operator output whose local error cannot be separated from the inherited one."""

    tensor: int
    reason: str
    idle: bool = False
    """True if its counterpart is also that of the operator's input, so that nothing is between
    them."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The reference, cut into operators."""

    segments: Mapping[int, Segment]
    """The segments by output tensor."""
    joint: Mapping[int, tuple[int, ...]]
    """The operators that only one segment can compute together, by output tensor, with its writer
    last."""
    uncut: Mapping[int, Uncut]
    beyond: frozenset[int]
    """The output tensors that the reference computes from more than their operators read."""


def cut(subgraph: Subgraph, matching: Matching, graph: RefGraph) -> Cut:
    """Plan the computation of each matched operator output from the operator's own inputs.

    If an input has no counterpart, the operators before it are computed together with the operator,
    from inputs that have one.  If the reference computes an output from a value that the operator
    does not read, that also has TFLite's value, if it has a counterpart.

    Args:
        subgraph: The TFLite side.
        matching: The matches of nodes and tensors.
        graph: The reference.
    """
    segments: dict[int, Segment] = {}
    joint: dict[int, tuple[int, ...]] = {}
    uncut: dict[int, Uncut] = {}
    beyond: set[int] = set()
    before: dict[int, None] = dict.fromkeys(subgraph.inputs)
    for op in subgraph.operators:
        for index in op.outputs:
            if index < 0 or index not in matching.matches:
                continue
            reached = _reach(subgraph, op, matching)
            if isinstance(reached, str):
                uncut[index] = Uncut(index, reached)
                continue
            planned = _segment(index, reached.inputs, matching)
            if open_ends(graph, planned):
                known = [i for i in reversed(before) if _tells(i, index, matching)]
                planned = _segment(index, (*reached.inputs, *known), matching)
                beyond.add(index)
            if planned.output in planned.cuts and op.kind in COMPUTING:
                own = {name for i in reached.inputs for name in _named(matching.matches[i])}
                if planned.output in own:
                    uncut[index] = Uncut(index, _NOTHING_BETWEEN, idle=True)
                    continue
                # Its input has the same values on this data, as before adding a state of zeros.
                cuts = {name: i for name, i in planned.cuts.items() if name != planned.output}
                planned = replace(planned, cuts=cuts)
            if open_ones := open_ends(graph, planned):
                reason = f"the reference computes it from '{min(open_ones)}', which has no match"
                uncut[index] = Uncut(index, reason)
                continue
            segments[index] = planned
            if len(reached.operators) > 1:
                joint[index] = reached.operators
        before |= dict.fromkeys(op.outputs)
    return Cut(segments, joint, uncut, frozenset(beyond & segments.keys()))


@dataclass(frozen=True, slots=True)
class _Reach:
    """Operators back to the nearest inputs that have a counterpart."""

    inputs: tuple[int, ...]
    operators: tuple[int, ...]


def _reach(subgraph: Subgraph, op: Operator, matching: Matching) -> _Reach | str:
    inputs: dict[int, None] = {}
    operators = {op.index}
    stack = [op]
    while stack:
        for tensor in activation_inputs(subgraph, stack.pop()):
            producer = subgraph.producers.get(tensor.index)
            if tensor.index in matching.matches:
                inputs[tensor.index] = None
            elif producer is None or len(operators) > _MOST_TOGETHER:
                return f"its input tensor {tensor.index} has no counterpart in the reference"
            elif producer.index not in operators:
                operators.add(producer.index)
                stack.append(producer)
    return _Reach(tuple(inputs), tuple(sorted(operators)))


def _tells(other: int, index: int, matching: Matching) -> bool:
    """Return whether a tensor has a counterpart that is not the value of another tensor."""
    match, own = matching.matches.get(other), matching.matches[index]
    return match is not None and own.raw not in match.names


def _named(match: Match) -> tuple[str, str]:
    """Return the node of a match, and the node that it quantizes."""
    return match.node, match.raw


def _segment(index: int, inputs: Sequence[int], matching: Matching) -> Segment:
    own = matching.matches[index]
    known = [matching.matches[i] for i in inputs]
    # A node that is exactly an input's value has priority over one that only passes it on.
    cuts: dict[str, int] = {}
    for match in known:
        for name in _named(match):
            cuts.setdefault(name, match.tensor)
    for match in known:
        for name in match.chain:
            cuts.setdefault(name, match.tensor)
    return Segment(key=index, output=own.raw, cuts=cuts)
