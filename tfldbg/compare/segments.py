"""Cut the reference at the matched tensors: one segment for every operator."""

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

_NOTHING_BETWEEN = "its counterpart is also that of what it reads, so that nothing checks it"
_MOST_TOGETHER = 64
"""Operators that are checked together: more than the longest lowering of one layer has."""


@dataclass(frozen=True, slots=True)
class Uncut:
    """An operator output whose own error cannot be told from the inherited one, and why."""

    tensor: int
    reason: str
    idle: bool = False
    """Whether its counterpart is that of what the operator reads, so that nothing lies between."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """How the reference is computed operator by operator."""

    segments: Mapping[int, Segment]
    """By output tensor."""
    joint: Mapping[int, tuple[int, ...]]
    """By output tensor the operators that only one segment can compute together, the last of them
    being the one that writes it."""
    uncut: Mapping[int, Uncut]
    beyond: frozenset[int]
    """Output tensors that the reference computes from more than their operators read."""


def cut(subgraph: Subgraph, matching: Matching, graph: RefGraph) -> Cut:
    """Plan the computation of every matched operator output from the operator's own inputs.

    Where an input has no counterpart, the operators before it are computed together with it, from
    the inputs that have one.  Where the reference computes an output from something that the
    operator does not read, that too has the value that TFLite gave it, if it has a counterpart.

    Args:
        subgraph: The TFLite side.
        matching: Which node computes which tensor.
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
                # What it reads holds the same on this data, as what adds an initial state does.
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
    """Operators up to the nearest inputs that have a counterpart."""

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
    """Whether a tensor has a counterpart that is not the very value of another tensor."""
    match, own = matching.matches.get(other), matching.matches[index]
    return match is not None and own.raw not in match.names


def _named(match: Match) -> tuple[str, str]:
    """Return the node of a match, and what it quantizes."""
    return match.node, match.raw


def _segment(index: int, inputs: Sequence[int], matching: Matching) -> Segment:
    own = matching.matches[index]
    known = [matching.matches[i] for i in inputs]
    # A node that is exactly an input's value goes before one that only hands such a value on.
    cuts: dict[str, int] = {}
    for match in known:
        for name in _named(match):
            cuts.setdefault(name, match.tensor)
    for match in known:
        for name in match.chain:
            cuts.setdefault(name, match.tensor)
    return Segment(key=index, output=own.raw, cuts=cuts)
