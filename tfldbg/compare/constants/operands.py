"""Compare the constant operand of elementwise operators with the reference's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.constants.arrangement import weights_arrangement
from tfldbg.compare.constants.candidates import AFTER
from tfldbg.compare.constants.checks import Doubles, WeightCheck, difference, step_sizes
from tfldbg.compare.constants.folding import FOLDING
from tfldbg.graph.query import activation_slots, real_constant, stored
from tfldbg.reference.evaluate import Frozen, Segment, evaluate_once
from tfldbg.reference.graphdef import RefGraph, RefNode, node_of

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

_OPERAND: Mapping[tuple[str, str], Callable[[Doubles], Doubles]] = {
    ("ADD", "Add"): lambda c: c,
    ("ADD", "AddV2"): lambda c: c,
    ("ADD", "BiasAdd"): lambda c: c,
    ("ADD", "Sub"): lambda c: -c,
    ("SUB", "Sub"): lambda c: c,
    ("SUB", "Add"): lambda c: -c,
    ("SUB", "AddV2"): lambda c: -c,
    ("MUL", "Mul"): lambda c: c,
    ("MUL", "RealDiv"): lambda c: 1 / c,
    ("MUL", "Div"): lambda c: 1 / c,
    ("DIV", "RealDiv"): lambda c: c,
    ("DIV", "Div"): lambda c: c,
    ("DIV", "Mul"): lambda c: 1 / c,
}
"""The file's operand as a function of the reference's, by TFLite operator and operation."""
_EITHER_WAY = frozenset({"ADD", "MUL", "Add", "AddV2", "BiasAdd", "Mul"})


def compare_operands(
    graph: Graph, subgraph: Subgraph, frozen: Frozen, segments: Mapping[int, Segment]
) -> dict[int, WeightCheck]:
    """Compare the constant operand of ADD, SUB, MUL and DIV with the reference's."""
    pairs = []
    for op in subgraph.operators:
        segment = segments.get(op.outputs[0]) if op.outputs else None
        tensor = _operand(subgraph, op)
        node = None if segment is None else _binary(segment, frozen.graph)
        if tensor is None or node is None or (op.kind, node.op) not in _OPERAND:
            continue
        place = _place(frozen.graph, node)
        same_side = tensor.index == stored_index(subgraph, op, 1) and place == 1
        if same_side or (op.kind in _EITHER_WAY and node.op in _EITHER_WAY):
            pairs.append((op, tensor, node, node.inputs[place]))
    if not pairs:
        return {}
    values, _ = evaluate_once(frozen, [source for *_, source in pairs])
    checks = {}
    for (op, tensor, node, _), value in zip(pairs, values, strict=True):
        with np.errstate(divide="ignore"):
            wanted = _OPERAND[op.kind, node.op](value.astype(np.float64))
        check = _compare_operand(graph, op, tensor, wanted)
        if check is not None:
            checks[check.tensor] = check
    return checks


def stored_index(subgraph: Subgraph, op: Operator, number: int) -> int:
    """Return the tensor that holds a constant input of an operator, or -1 if it is computed."""
    tensor = stored(subgraph, op.inputs[number]) if number < len(op.inputs) else None
    return -1 if tensor is None else tensor.index


def _operand(subgraph: Subgraph, op: Operator) -> Tensor | None:
    """Return the constant that an elementwise operator combines with its one activation."""
    if op.kind not in ("ADD", "SUB", "MUL", "DIV") or activation_slots(subgraph, op) != 1:
        return None
    constants = [t for i in op.inputs if (t := stored(subgraph, i)) is not None]
    return constants[0] if len(constants) == 1 and constants[0].type != "INT32" else None


def _binary(segment: Segment, graph: RefGraph) -> RefNode | None:
    """Return the one operation of a segment, except activations, that has a constant operand."""
    name = node_of(segment.output)
    while name not in segment.cuts and name in graph.computed:
        node = graph.nodes[name]
        sources = graph.computed_sources(name)
        if len(sources) != 1:
            return None
        if node.op not in AFTER:
            constants = [s for s in node.sources if s not in graph.computed]
            alone = len(node.inputs) == 2 and len(constants) == 1 and sources[0] in segment.cuts
            return node if alone else None
        name = sources[0]
    return None


def _place(graph: RefGraph, node: RefNode) -> int:
    return next(i for i, s in enumerate(node.sources) if s not in graph.computed)


def _compare_operand(
    graph: Graph, op: Operator, tensor: Tensor, wanted: Doubles
) -> WeightCheck | None:
    found = real_constant(graph, tensor)
    if found is None or wanted.size != found.size or not np.isfinite(wanted).all():
        return None
    shape = tensor.shape or (1,)
    axis = tensor.quant.axis if tensor.quant and not tensor.quant.per_tensor else len(shape) - 1
    wanted, found = wanted.reshape(shape), found.reshape(shape)
    rounding = FOLDING * np.abs(wanted)
    check = difference(op.outputs[0], tensor, wanted, rounding, found, axis)
    step = step_sizes(tensor, wanted, rounding, axis)
    if check is None or step is None:
        return check
    arranged = weights_arrangement(found.astype(np.float64), wanted, step, axis)
    return replace(check, arrangement=arranged)
