"""Compare the constants of MUL and ADD with the batch norm that they compute together.

The converter turns a batch norm that it cannot fold into a MUL and an ADD.  The tensor between
them has no counterpart in the reference, so their errors are measured together; their constants
show which of them is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.constants.candidates import AFTER
from tfldbg.compare.constants.checks import Doubles, WeightCheck, difference
from tfldbg.compare.constants.folding import FOLDING
from tfldbg.compare.constants.probing import PROBE, affine, ask
from tfldbg.graph.query import activation_slots, real_constant, stored
from tfldbg.reference.evaluate import Frozen, Segment
from tfldbg.reference.graphdef import RefGraph, node_of

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor
    from tfldbg.reference.evaluate import Floats


@dataclass(frozen=True, slots=True, eq=False)
class _MulAdd:
    """A MUL and the ADD that reads it."""

    scaling: Operator
    shifting: Operator
    factor: Tensor
    term: Tensor
    given: int
    """The tensor that the MUL reads."""
    segment: Segment


def check_pairs(
    graph: Graph,
    subgraph: Subgraph,
    frozen: Frozen,
    segments: Mapping[int, Segment],
    joint: Mapping[int, tuple[int, ...]],
) -> dict[int, WeightCheck]:
    """Compare the factors and terms of all such pairs.

    Args:
        graph: The file.
        subgraph: The subgraph.
        frozen: The reference.
        segments: Each operator cut out of the reference, by output tensor.
        joint: The operators that a segment computes together, by output tensor.

    Returns:
        The comparison of the constant of each MUL and ADD, by output tensor.
    """
    pairs = [
        pair
        for tensor, operators in joint.items()
        if tensor in segments
        for pair in [_pair(subgraph, operators, segments[tensor], frozen.graph)]
        if pair is not None
    ]
    if not pairs:
        return {}
    shapes = {p.given: subgraph.tensors[p.given].shape for p in pairs}
    _, answers = ask(frozen, [], [p.segment for p in pairs], shapes)
    checks: dict[int, WeightCheck] = {}
    for pair, answer in zip(pairs, answers, strict=True):
        checks |= _compare(graph, pair, answer)
    return checks


def _pair(
    subgraph: Subgraph, operators: tuple[int, ...], segment: Segment, graph: RefGraph
) -> _MulAdd | None:
    members = [subgraph.operators[i] for i in operators]
    if [op.kind for op in members] != ["MUL", "ADD"]:
        return None
    scaling, shifting = members
    constants = [_constant(subgraph, op) for op in members]
    activations = [i for i in scaling.inputs if not subgraph.tensors[i].has_data]
    single = all(activation_slots(subgraph, op) == 1 for op in members)
    if None in constants or not single or scaling.outputs[0] not in shifting.inputs:
        return None
    factor, term = (t for t in constants if t is not None)
    end = node_of(segment.output)
    while graph.nodes[end].op in AFTER and end not in segment.cuts:
        end = graph.computed_sources(end)[0]
    probed = Segment(segment.key, end, segment.cuts)
    return _MulAdd(scaling, shifting, factor, term, activations[0], probed)


def _constant(subgraph: Subgraph, op: Operator) -> Tensor | None:
    found = [t for i in op.inputs if (t := stored(subgraph, i)) is not None]
    return found[0] if len(found) == 1 else None


def _compare(graph: Graph, pair: _MulAdd, answer: Floats) -> dict[int, WeightCheck]:
    answers = affine(answer)
    if answers is None:
        return {}
    zeros, probed = answers
    gain = (probed - zeros) / PROBE
    wanted = ((pair.scaling, pair.factor, gain), (pair.shifting, pair.term, zeros))
    found = {}
    for op, tensor, values in wanted:
        check = _check(graph, op, tensor, values)
        if check is not None:
            found[op.outputs[0]] = check
    return found


def _check(graph: Graph, op: Operator, tensor: Tensor, wanted: Doubles) -> WeightCheck | None:
    own = real_constant(graph, tensor)
    if own is None or own.size != wanted.size:
        return None
    shape = tensor.shape or (1,)
    wanted, own = wanted.reshape(shape), own.reshape(shape)
    # The factor is the difference of two answers of the size of the probe.
    rounding = FOLDING * np.abs(wanted) + FOLDING * np.abs(wanted).max()
    return difference(op.outputs[0], tensor, wanted, rounding, own, len(shape) - 1)
