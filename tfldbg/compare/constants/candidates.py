"""Find the operation of the reference that uses an operator's weights, and what is folded into it.

The converter folds the nodes after this operation (a bias, a batch norm), and also the nodes before
it if they scale and shift each value (a batch norm, a normalization).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.graph.query import stored
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, RefGraph, RefNode, node_of

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph
    from tfldbg.reference.evaluate import Segment

_CORES = frozenset(
    {"BatchMatMulV2", "Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "Einsum", "MatMul"}
)
AFTER = frozenset({"Relu", "Relu6", "Tanh"}) | IDENTITY_OPS
_BEFORE = (
    frozenset({"Pad", "PadV2", "SpaceToBatchND", "Reshape", "Squeeze", "ExpandDims", "Transpose"})
    | IDENTITY_OPS
    | FAKE_QUANT_OPS
)
"""Operations before the core that do not change the values."""
BIASED: Mapping[str, tuple[int, int]] = {
    "CONV_2D": (0, 2),
    "DEPTHWISE_CONV_2D": (0, 2),
    "FULLY_CONNECTED": (0, 2),
    "TRANSPOSE_CONV": (2, 3),
}
"""The input numbers of activation and bias for operators whose second input is weights."""
_MOVES = frozenset({"Reshape", "Squeeze", "ExpandDims", "BatchToSpaceND"})
"""Operations after the core that may move its values but keep the channels last."""
_SHIFTED: Mapping[str, float] = {"Expm1": -1.0}
"""Operations that add a constant to the output of one operator of the file; the converter folds it
into the next bias."""
_SUMS = frozenset({"Add", "AddV2", "BiasAdd", "Sub"})
_SCALINGS = frozenset({"Mul", "RealDiv", "Div"})


@dataclass(frozen=True, slots=True)
class Term:
    """One of the constants whose sum is the folded bias."""

    source: str
    """The reference tensor that holds it."""
    scaled: bool
    """True if the factor of a batch norm is applied after it."""
    role: str
    """``bias``, or ``beta`` and ``mean`` of a batch norm."""
    sign: int
    """1 if it is added, -1 if it is subtracted."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An operator, and the operation of the reference that uses its weights."""

    op: Operator
    weights: int
    """The tensor that holds the file's weights."""
    bias: int | None
    """The bias as returned by `bias_index`."""
    core: RefNode
    """The operation that uses the weights."""
    source: str
    """The reference tensor that holds the weights."""
    moved: RefNode
    """The core, or the last of the nodes after it that only move its values."""
    before_activation: str
    """The last node after the core up to which all nodes are affine."""
    terms: tuple[Term, ...]
    start: str | None
    """The reference tensor that is scaled or shifted before the core reads it, or None if the core
    reads its values unchanged."""
    shift: float
    """The constant that the operation before the core adds to all values and no operator adds."""

    @property
    def tensor(self) -> int:
        """The operator's output tensor."""
        return self.op.outputs[0]


def candidate(
    subgraph: Subgraph, op: Operator, segment: Segment, graph: RefGraph
) -> Candidate | None:
    """Return where the reference uses the weights of an operator; None if nothing can be folded.

    Args:
        subgraph: The TFLite side.
        op: The operator.
        segment: The operator cut out of the reference.
        graph: The reference.
    """
    if not has_weights(op):
        return None
    weights = stored(subgraph, op.inputs[1])
    core_and_end = _core(segment, graph)
    if weights is None or core_and_end is None:
        return None
    core, before_activation = core_and_end
    source = core.inputs[1]
    shape = core.shape
    if node_of(source) in graph.computed or core.transposed:
        return None
    if shape is None or shape[-1] is None:
        return None
    if core.op == "Einsum" and summed_axes(core) is None:
        return None
    moved = _moved(core, before_activation, graph)
    if _reads_shapes(moved, before_activation, graph):
        return None
    tail = _tail(moved, before_activation, graph)
    if not core.whole and any(node.op == "Reshape" and _is_fixed(node) for node in tail):
        return None  # it accepts only the values of the model's own batch, no probe
    before = _before(core, segment, graph)
    if before is None:
        return None
    start, scaled = before
    if scaled and segment.cuts.get(start) != op.inputs[BIASED[op.kind][0]]:
        return None  # another operator between them may do part of it
    terms = _terms(core, before_activation, graph)
    bias = bias_index(subgraph, op)
    known = scaled or start in segment.cuts
    return Candidate(
        op,
        weights.index,
        bias,
        core,
        source,
        moved,
        before_activation,
        terms,
        start if scaled else None,
        0.0 if known else _shift(subgraph, op, graph.nodes[node_of(start)]),
    )


def _shift(subgraph: Subgraph, op: Operator, before: RefNode) -> float:
    """Return the constant of the operation before an operator that its bias includes."""
    if before.op not in _SHIFTED:
        return 0.0
    given = op.inputs[BIASED[op.kind][0]]
    producer = subgraph.producers.get(given)
    added = producer is not None and producer.kind in ("ADD", "SUB")
    return 0.0 if added else _SHIFTED[before.op]


def has_weights(op: Operator) -> bool:
    """Return whether the second input of an operator is weights."""
    return op.kind in BIASED and len(op.inputs) > 1


def bias_index(subgraph: Subgraph, op: Operator) -> int | None:
    """Return the tensor that holds an operator's bias, -1 without one, None if it is computed.

    Args:
        subgraph: The subgraph of the operator.
        op: An operator with weights.
    """
    place = BIASED[op.kind][1]
    if len(op.inputs) <= place or op.inputs[place] < 0:
        return -1
    bias = stored(subgraph, op.inputs[place])
    return None if bias is None else bias.index


def summed_axes(core: RefNode) -> int | None:
    """Return the number of axes that an Einsum sums over, if it is the product with a matrix.

    Its weights have the summed axes first, in the order of its input's last axes, and then the last
    axes of its output, such as ``abc,cde->abde`` for a projection to several heads.  None for every
    other Einsum.

    Args:
        core: An Einsum of an activation and weights.
    """
    operands, _, made = core.equation.partition("->")
    given, _, weights = operands.partition(",")
    summed = "".join(letter for letter in given if letter not in made)
    free = weights[len(summed) :]
    kept = given[: len(given) - len(summed)]
    plain = bool(summed and free and weights.startswith(summed) and given == kept + summed)
    return len(summed) if plain and made == kept + free else None


def core_input(core: RefNode) -> str:
    """Return the tensor that a core multiplies by its weights."""
    return core.inputs[2 if core.op == "Conv2DBackpropInput" else 0]


def _before(core: RefNode, segment: Segment, graph: RefGraph) -> tuple[str, bool] | None:
    """Return the start of a segment, and whether it scales or shifts values before its core.

    None if nothing can be sent through the nodes that scale or shift them.
    """
    name, scaled = core_input(core), False
    shaped = not graph.shapes.isdisjoint(core.sources)
    while name not in segment.cuts and node_of(name) not in segment.cuts:
        node = graph.nodes[node_of(name)]
        sources = graph.computed_sources(node.name)
        affine = node.op in _SUMS | _SCALINGS or node.op.startswith("FusedBatchNorm")
        if not (affine or node.op in _BEFORE) or len(sources) != 1:
            return None if scaled else (name, False)  # this is not folded into weights
        name, scaled = sources[0], scaled or affine
        shaped = shaped or not graph.shapes.isdisjoint(node.sources)
    open_ended = shaped or _reads_shapes(core, node_of(segment.output), graph)
    if scaled and (open_ended or not _is_known(graph.nodes[node_of(name)])):
        return None
    return (name if name in segment.cuts else node_of(name)), scaled


def _is_known(node: RefNode) -> bool:
    """Return whether a node's shape is known except for the batch."""
    return node.shape is not None and None not in node.shape[0 if node.whole else 1 :]


def _reads_shapes(core: RefNode, end: str, graph: RefGraph) -> bool:
    """Return whether a node after the core uses a shape that depends on the model's input."""
    return any(s in graph.shapes for node in _tail(core, end, graph) for s in node.sources)


def _is_fixed(node: RefNode) -> bool:
    """Return whether a node's shape is known, including the batch size."""
    return node.shape is not None and None not in node.shape


def _moved(core: RefNode, end: str, graph: RefGraph) -> RefNode:
    """Return the last node after the core up to which values are moved and channels are not."""
    moved = core
    for node in reversed(_tail(core, end, graph)):
        same_channels = node.shape is not None and node.shape[-1:] == (core.shape or ())[-1:]
        if node.op not in _MOVES or not same_channels:
            break
        moved = node
    return moved


def _tail(core: RefNode, end: str, graph: RefGraph) -> list[RefNode]:
    """Return the nodes after the core, last first."""
    nodes = []
    name = end
    while name != core.name:
        nodes.append(graph.nodes[name])
        name = graph.computed_sources(name)[0]
    return nodes


def _terms(core: RefNode, end: str, graph: RefGraph) -> tuple[Term, ...]:
    """Return the constants whose sum is the folded bias: their magnitudes bound its rounding."""
    found: list[Term] = []
    scaled = False
    for node in _tail(core, end, graph):
        if node.op.startswith("FusedBatchNorm"):
            beta, mean = node.inputs[2:4]
            found += [Term(beta, scaled, "beta", 1), Term(mean, True, "mean", -1)]
            scaled = True
        elif node.op in _SUMS:
            found += _summands(node, scaled, graph)
        elif node.op in _SCALINGS:
            scaled = True
    return tuple(found)


def _summands(node: RefNode, scaled: bool, graph: RefGraph, sign: int = 1) -> list[Term]:
    """Return the constant terms of a sum, such as beta minus mean times factor."""
    found: list[Term] = []
    signs = (sign, -sign if node.op == "Sub" else sign)
    folded = node.op == "Sub" and not graph.computed_sources(node.name)
    for tensor, own in zip(node.inputs, signs, strict=False):
        inner = graph.nodes[node_of(tensor)]
        if inner.name in graph.computed:
            continue
        while inner.op in IDENTITY_OPS:
            inner = graph.nodes[inner.sources[0]]
        if inner.op in _SUMS:
            found += _summands(inner, scaled, graph, own)
        else:  # if a batch norm is not fused, its constants are beta - mean * factor
            role = ("mean" if own < 0 else "beta") if folded else "bias"
            found.append(Term(tensor, scaled, role, own))
    return found


def _core(segment: Segment, graph: RefGraph) -> tuple[RefNode, str] | None:
    """Return the operation upstream of a segment's output that uses the weights.

    Returns:
        That operation, and the last node after it up to which all nodes are affine.
    """
    name = node_of(segment.output)
    behind: list[RefNode] = []
    while name not in segment.cuts and name in graph.computed:
        node = graph.nodes[name]
        if node.op in _CORES:
            return node, _last_affine(node, behind)
        sources = graph.computed_sources(name)
        if len(sources) != 1:
            return None
        behind.append(node)
        name = sources[0]
    return None


def _last_affine(core: RefNode, behind: Sequence[RefNode]) -> str:
    """Return the last of the nodes after a core, given last first, before one that is not affine.

    Nodes at the end that only pass values on are left out.
    """
    last = core.name
    for node in reversed(behind):
        if node.op.startswith("FusedBatchNorm") or node.op in _SUMS | _SCALINGS:
            last = node.name
        elif node.op not in _MOVES | IDENTITY_OPS:
            break
    return last
