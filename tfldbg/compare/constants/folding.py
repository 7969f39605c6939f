"""What the constants of an operator should be: the reference's, with what follows folded in.

What follows the weights in the reference (bias, batch norm) is an affine map per channel; it is
measured by sending zeros and one other value through it, so that no kind of normalization needs a
rule of its own.  The answer to zeros is the folded bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.constants.checks import Doubles, Floats, along
from tfldbg.compare.constants.probing import EPSILON, PROBE, affine, ask
from tfldbg.graph.query import stored
from tfldbg.reference.evaluate import Frozen, Segment
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, RefGraph, RefNode, node_of

if TYPE_CHECKING:
    from tfldbg.compare.constants.turned import Turn
    from tfldbg.graph.model import Operator, Subgraph

FOLDING = 10 * 2.0**-23
"""Rounding of a folded constant, as a share of the sum of the magnitudes of its terms.

Each side folds in float32: variance plus epsilon, its reciprocal root (accurate to two units in the
last place), times gamma, bias minus mean, their product, plus beta: nine times half an epsilon at
most.  The file's bias adds two for its scale and the division by it: twenty halves for both.
"""
_DEAD = 1e-9
_CORES = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul", "Conv2DBackpropInput"})
AFTER = frozenset({"Relu", "Relu6", "Tanh"}) | IDENTITY_OPS
_BEFORE = (
    frozenset({"Pad", "PadV2", "SpaceToBatchND", "Reshape", "Squeeze", "ExpandDims", "Transpose"})
    | IDENTITY_OPS
    | FAKE_QUANT_OPS
)
"""Operations before the core that leave the values as they are."""
BIASED: Mapping[str, tuple[int, int]] = {
    "CONV_2D": (0, 2),
    "DEPTHWISE_CONV_2D": (0, 2),
    "FULLY_CONNECTED": (0, 2),
    "TRANSPOSE_CONV": (2, 3),
}
"""Operators whose second input is weights: which inputs are the activation and the bias."""
_MOVES = frozenset({"Reshape", "Squeeze", "ExpandDims", "BatchToSpaceND"})
"""Operations behind the core that may put its values elsewhere, channels staying last."""
_SUMS = frozenset({"Add", "AddV2", "BiasAdd", "Sub"})
_SCALINGS = frozenset({"Mul", "RealDiv", "Div"})


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """The constants that one operator should have: the reference's, with what follows folded in."""

    op: Operator
    weights: int
    """The tensor that holds the file's weights."""
    bias: int | None
    """The tensor that holds the file's bias, -1 without one, None where it is computed."""
    kernel: Doubles
    """The weights in TFLite's layout, real units."""
    kernel_rounding: Doubles
    """By how much float32 rounding may move them; same shape, real units."""
    offset: Doubles
    """(channels,) the bias, real units."""
    offset_rounding: Doubles
    """(channels,) by how much float32 rounding may move it, real units."""
    channel_axis: int
    """Of the output channels in ``kernel``."""
    unfolded: Doubles
    """``kernel`` without the factor of what follows the core."""
    terms: tuple[tuple[str, Doubles], ...]
    """What the bias is the sum of: role and (channels,) values, real units."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Between the reference's layout of weights and TFLite's, output channels first or last."""

    to_tflite: Callable[[Floats], Floats]
    to_reference: Callable[[Floats, tuple[int, ...]], Floats]
    channel_axis: int
    """Of the output channels in TFLite's layout."""


_LAYOUTS: Mapping[str, _Layout] = {
    "Conv2D": _Layout(lambda w: w.transpose(3, 0, 1, 2), lambda w, _: w.transpose(1, 2, 3, 0), 0),
    "DepthwiseConv2dNative": _Layout(
        lambda w: w.reshape(1, *w.shape[:2], -1), lambda w, shape: w.reshape(shape), 3
    ),
    "MatMul": _Layout(lambda w: w.T, lambda w, _: w.T, 0),
    "Conv2DBackpropInput": _Layout(
        lambda w: w.transpose(2, 0, 1, 3), lambda w, _: w.transpose(1, 2, 0, 3), 0
    ),
}


@dataclass(frozen=True, slots=True)
class _Term:
    """One of the constants that the folded bias is a sum of."""

    source: str
    """The reference tensor that holds it."""
    scaled: bool
    """Whether the factor of a batch norm is applied behind it."""
    role: str
    """``bias``, or ``beta`` and ``mean`` of a batch norm."""
    sign: int
    """1 where it is added, -1 where it is subtracted."""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    op: Operator
    weights: int
    bias: int | None
    core: RefNode
    source: str
    """The reference tensor that holds the weights."""
    moved: RefNode
    """The core, or the last of those behind it that only move what it yields."""
    before_activation: str
    terms: tuple[_Term, ...]

    @property
    def tensor(self) -> int:
        return self.op.outputs[0]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the reference answered for one candidate."""

    candidate: _Candidate
    reference: Floats
    """The weights in the reference's own layout."""
    gain: Doubles
    """(channels,) the factor of what follows the core."""
    folded: Folded
    turn: Turn | None
    """What the file multiplies the activation by, and its weights by the inverse."""


def fold(
    subgraph: Subgraph, frozen: Frozen, segments: Mapping[int, Segment], turns: Mapping[int, Turn]
) -> dict[int, Folded]:
    """Return by output tensor the weights and bias that the reference wants there.

    Args:
        subgraph: The TFLite side.
        frozen: The reference.
        segments: By output tensor, each operator cut out of the reference.
        turns: By operator, what its activation is multiplied by, and its weights by the inverse.
    """
    return {m.candidate.tensor: m.folded for m in measure(subgraph, frozen, segments, turns)}


def measure(
    subgraph: Subgraph, frozen: Frozen, segments: Mapping[int, Segment], turns: Mapping[int, Turn]
) -> Iterator[Measured]:
    """Send zeros and another value through what follows each core of the reference.

    What is yielded holds six times as many bytes as the weights, so it is yielded one by one.
    """
    candidates = [
        found
        for op in subgraph.operators
        if op.outputs and op.outputs[0] in segments
        for found in [_candidate(subgraph, op, segments[op.outputs[0]], frozen.graph)]
        if found is not None
    ]
    if not candidates:
        return
    probes = [
        Segment(key=c.tensor, output=c.before_activation, cuts={c.moved.name: c.tensor})
        for c in candidates
    ]
    term_names = list(dict.fromkeys(t.source for c in candidates for t in c.terms))
    shapes = {c.tensor: _probed_shape(c.moved) for c in candidates}
    values, answers = ask(frozen, [c.source for c in candidates] + term_names, probes, shapes)
    terms = dict(zip(term_names, values[len(candidates) :], strict=True))
    for candidate, reference, answer in zip(candidates, values, answers, strict=False):
        turn = turns.get(candidate.op.index)
        measured = _fold(subgraph, candidate, reference, answer, terms, turn)
        if measured is not None:
            yield measured


def _candidate(
    subgraph: Subgraph, op: Operator, segment: Segment, graph: RefGraph
) -> _Candidate | None:
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
    moved = _moved(core, before_activation, graph)
    if _reads_shapes(moved, before_activation, graph):
        return None
    tail = _tail(moved, before_activation, graph)
    if not core.whole and any(node.op == "Reshape" and _is_fixed(node) for node in tail):
        return None  # it takes as many values as the model's own batch has, and no probe
    if not _reads_input_as_it_is(core, segment, graph):
        return None
    terms = _terms(core, before_activation, graph)
    bias = bias_index(subgraph, op)
    return _Candidate(op, weights.index, bias, core, source, moved, before_activation, terms)


def has_weights(op: Operator) -> bool:
    """Whether an operator is of a kind whose second input is weights."""
    return op.kind in BIASED and len(op.inputs) > 1


def bias_index(subgraph: Subgraph, op: Operator) -> int | None:
    """Return the tensor that holds an operator's bias, -1 without one, None where it is computed.

    Args:
        subgraph: Whose operator it is.
        op: An operator with weights.
    """
    place = BIASED[op.kind][1]
    if len(op.inputs) <= place or op.inputs[place] < 0:
        return -1
    bias = stored(subgraph, op.inputs[place])
    return None if bias is None else bias.index


def _reads_input_as_it_is(core: RefNode, segment: Segment, graph: RefGraph) -> bool:
    """Whether nothing that the converter may fold into the weights stands before the core."""
    name = core.inputs[2 if core.op == "Conv2DBackpropInput" else 0]
    while name not in segment.cuts and node_of(name) not in segment.cuts:
        sources = graph.computed_sources(node_of(name))
        if graph.nodes[node_of(name)].op not in _BEFORE or len(sources) != 1:
            return False
        name = sources[0]
    return True


def _reads_shapes(core: RefNode, end: str, graph: RefGraph) -> bool:
    """Whether what follows the core reshapes to a shape that depends on the model's input."""
    return any(s in graph.shapes for node in _tail(core, end, graph) for s in node.sources)


def _is_fixed(node: RefNode) -> bool:
    """Whether a node's shape leaves no batch size open."""
    return node.shape is not None and None not in node.shape


def _moved(core: RefNode, end: str, graph: RefGraph) -> RefNode:
    """Return the last node behind the core up to which values are moved and channels are not."""
    moved = core
    for node in reversed(_tail(core, end, graph)):
        same_channels = node.shape is not None and node.shape[-1:] == (core.shape or ())[-1:]
        if node.op not in _MOVES or not same_channels:
            break
        moved = node
    return moved


def _tail(core: RefNode, end: str, graph: RefGraph) -> list[RefNode]:
    """Return what follows the core, last first."""
    nodes = []
    name = end
    while name != core.name:
        nodes.append(graph.nodes[name])
        name = graph.computed_sources(name)[0]
    return nodes


def _terms(core: RefNode, end: str, graph: RefGraph) -> tuple[_Term, ...]:
    """Find the constants whose sum the folded bias is: their magnitudes bound its rounding."""
    found: list[_Term] = []
    scaled = False
    for node in _tail(core, end, graph):
        if node.op.startswith("FusedBatchNorm"):
            beta, mean = node.inputs[2:4]
            found += [_Term(beta, scaled, "beta", 1), _Term(mean, True, "mean", -1)]
            scaled = True
        elif node.op in _SUMS:
            found += _summands(node, scaled, graph)
        elif node.op in _SCALINGS:
            scaled = True
    return tuple(found)


def _summands(node: RefNode, scaled: bool, graph: RefGraph, sign: int = 1) -> list[_Term]:
    """Return the constant terms of a sum, such as beta minus mean times factor."""
    found: list[_Term] = []
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
        else:  # where a batch norm is not fused, its constants are beta - mean * factor
            role = ("mean" if own < 0 else "beta") if folded else "bias"
            found.append(_Term(tensor, scaled, role, own))
    return found


def _core(segment: Segment, graph: RefGraph) -> tuple[RefNode, str] | None:
    """Walk up from a segment's output to the one operation that uses the weights.

    Returns:
        That operation, and the last node behind it up to which all is affine: an activation is not.
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
    """Return the last of the nodes behind a core, given last first, before one that is not affine.

    What only hands values on is left out at the end.
    """
    last = core.name
    for node in reversed(behind):
        if node.op.startswith("FusedBatchNorm") or node.op in _SUMS | _SCALINGS:
            last = node.name
        elif node.op not in _MOVES | IDENTITY_OPS:
            break
    return last


def _probed_shape(node: RefNode) -> tuple[int, ...]:
    """Return the shape of one sample of what a node yields."""
    shape = tuple(d or 1 for d in node.shape or ())
    return shape if node.whole else (1, *shape[1:])


def _fold(
    subgraph: Subgraph,
    candidate: _Candidate,
    reference: Floats,
    answer: Floats,
    terms: Mapping[str, Floats],
    turn: Turn | None,
) -> Measured | None:
    answers = affine(answer)
    layout = _LAYOUTS[candidate.core.op]
    plain = layout.to_tflite(reference).astype(np.float64)
    own = plain if turn is None else turn.weights(plain)
    sizes = np.abs(plain) if turn is None else turn.spread(np.abs(plain))
    axis = layout.channel_axis
    if answers is None or own.shape != subgraph.tensors[candidate.weights].shape:
        return None
    zeros, probed = answers
    if own.shape[axis] != zeros.size:
        return None
    gain = (probed - zeros) / PROBE
    lost = EPSILON * (np.abs(probed) + np.abs(zeros)) / PROBE
    kernel = own * along(gain, axis, own.ndim)
    rounding = FOLDING * np.abs(gain) + lost
    parts = _contributions(candidate, zeros, gain, terms)
    folded = Folded(
        op=candidate.op,
        weights=candidate.weights,
        bias=candidate.bias,
        kernel=kernel,
        kernel_rounding=sizes * along(rounding, axis, own.ndim),
        offset=zeros,
        offset_rounding=FOLDING * sum((np.abs(part) for _, part in parts), np.abs(zeros)),
        channel_axis=axis,
        unfolded=own,
        terms=parts,
    )
    return Measured(candidate, reference, gain, folded, turn)


def _contributions(
    candidate: _Candidate, offset: Doubles, gain: Doubles, terms: Mapping[str, Floats]
) -> tuple[tuple[str, Doubles], ...]:
    """Return role and value of everything the bias is folded from, (channels,) real units."""
    found = []
    for term in candidate.terms:
        values = term.sign * terms[term.source].astype(np.float64).reshape(-1)
        if values.size not in (1, offset.size):
            values = np.abs(values).max(initial=0.0, keepdims=True)
        scaled = values * (gain if term.scaled else 1.0)
        found.append((term.role, np.broadcast_to(scaled, offset.shape)))
    return tuple(found)


def product_scale(subgraph: Subgraph, op: Operator) -> Doubles | None:
    """Return the scale that an operator's bias must have, (1,) or (channels,); None for floats.

    It is input scale times weight scale (TFLite 8-bit quantization specification).
    """
    given, weights = (
        subgraph.tensors[op.inputs[BIASED[op.kind][0]]],
        subgraph.tensors[op.inputs[1]],
    )
    if given.lsb is None or weights.quant is None or weights.quant.block_size is not None:
        return None
    scales: Doubles = given.lsb * weights.quant.scale.astype(np.float64)
    return scales if scales.size else None


def in_reference_layout(measured: Measured, file_weights: Floats) -> Floats:
    """Undo the folding, so that the reference's own batch norm gives the file's weights again."""
    if measured.turn is not None:
        file_weights = measured.turn.plain(file_weights).astype(np.float32)
    layout, gain = _LAYOUTS[measured.candidate.core.op], measured.gain
    axis = layout.channel_axis
    dead = np.abs(gain) <= _DEAD * np.abs(gain).max()
    unfolded = file_weights / along(np.where(dead, 1.0, gain), axis, file_weights.ndim)
    own = layout.to_tflite(measured.reference)
    chosen = np.where(along(dead, axis, own.ndim), own, unfolded).astype(np.float32)
    return np.ascontiguousarray(layout.to_reference(chosen, measured.reference.shape))
