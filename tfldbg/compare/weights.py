"""Compare the weights of the file with those of the reference, batch norm folded in.

A weight may differ by half a step, the rounding that quantization is.  What follows the weights in
the reference (bias, batch norm) is an affine map per channel; it is measured by sending zeros and
one other value through it, so that no kind of normalization needs a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.model import Graph, Operator, Subgraph
from tfldbg.graph.query import real_constant
from tfldbg.reference.evaluate import Evaluator, Frozen, Segment
from tfldbg.reference.graphdef import IDENTITY_OPS, RefGraph, RefNode

Floats = NDArray[np.float32]

HALF_STEP = 0.51
"""Half a step, and room for float32 rounding where a batch norm is folded into up to 127 steps."""
SAME = 0.01
"""Steps below which weights count as equal."""
_DEAD = 1e-9
_PROBE = 1024.0
"""Large against the offset of a batch norm, so that little of the factor is lost to rounding."""
_CORES = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul", "Conv2DBackpropInput"})
_AFTER = frozenset({"Relu", "Relu6", "Tanh"}) | IDENTITY_OPS


@dataclass(frozen=True, slots=True)
class WeightCheck:
    """How far the weights of one operator are from the reference's."""

    tensor: int
    """The operator's output tensor."""
    weights: int
    """The tensor that holds the weights."""
    max_steps: float
    """Largest difference in steps of the weight's own scale."""
    worst_channel: int
    """Output channel of that difference."""
    wrong: int
    """Weights that differ by more than half a step."""
    total: int

    @property
    def differ(self) -> bool:
        """Whether rounding cannot explain the difference."""
        return self.max_steps > HALF_STEP


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
class _Candidate:
    tensor: int
    weights: int
    core: RefNode
    source: str
    """The reference tensor that holds the weights."""
    before_activation: str


def check_weights(
    graph: Graph, subgraph: Subgraph, frozen: Frozen, segments: Mapping[int, Segment]
) -> tuple[dict[int, WeightCheck], dict[int, Segment]]:
    """Compare constant weights and let rounded ones stand in for the reference's.

    Args:
        graph: The file.
        subgraph: Its subgraph.
        frozen: The reference.
        segments: By output tensor, each operator cut out of the reference.

    Returns:
        By output tensor the checks, and all segments, those whose weights are the reference's
        rounded ones computing with the file's weights: what is left is the operator's arithmetic.
    """
    candidates = [
        found
        for op in subgraph.operators
        if op.outputs and op.outputs[0] in segments
        for found in [_candidate(subgraph, op, segments[op.outputs[0]], frozen.graph)]
        if found is not None
    ]
    if not candidates:
        return {}, dict(segments)
    probes = [
        Segment(key=c.tensor, output=c.before_activation, cuts={c.core.name: c.tensor})
        for c in candidates
    ]
    evaluator = Evaluator(frozen, [c.source for c in candidates], probes)
    feeds = {c.tensor: _probe(c.core) for c in candidates}
    weights, answers = evaluator.run(None, feeds)
    evaluator.close()
    checks: dict[int, WeightCheck] = {}
    planned = dict(segments)
    for candidate, reference, answer in zip(candidates, weights, answers, strict=True):
        gain = _gain(answer)
        file_weights = real_constant(graph, subgraph.tensors[candidate.weights])
        if gain is None or file_weights is None:
            continue
        check = _compare(subgraph, candidate, reference, gain, file_weights)
        if check is None:
            continue
        checks[candidate.tensor] = check
        if SAME < check.max_steps <= HALF_STEP:
            rounded = _in_reference_layout(candidate.core, reference, gain, file_weights)
            segment = segments[candidate.tensor]
            planned[candidate.tensor] = replace(segment, constants={candidate.source: rounded})
    return checks, planned


def _candidate(
    subgraph: Subgraph, op: Operator, segment: Segment, graph: RefGraph
) -> _Candidate | None:
    weights = next(
        (
            i
            for i in op.inputs[:2]
            if i >= 0 and subgraph.tensors[i].has_data and subgraph.tensors[i].quant is not None
        ),
        None,
    )
    core_and_end = _core(segment, graph)
    if weights is None or core_and_end is None:
        return None
    core, before_activation = core_and_end
    source = core.inputs[1]
    shape = core.shape
    if source.split(":")[0] in graph.computed or core.transposed:
        return None
    if shape is None or shape[-1] is None or _reads_shapes(core, before_activation, graph):
        return None
    return _Candidate(op.outputs[0], weights, core, source, before_activation)


def _reads_shapes(core: RefNode, end: str, graph: RefGraph) -> bool:
    """Whether what follows the core reshapes to a shape that depends on the model's input."""
    name = end
    while name != core.name:
        if any(s in graph.shapes for s in graph.nodes[name].sources):
            return True
        name = graph.computed_sources(name)[0]
    return False


def _core(segment: Segment, graph: RefGraph) -> tuple[RefNode, str] | None:
    """Walk up from a segment's output to the one operation that uses the weights."""
    name = segment.output.split(":")[0]
    end: str | None = None
    while name not in segment.cuts and name in graph.computed:
        node = graph.nodes[name]
        if node.op in _CORES:
            return node, end or name
        sources = graph.computed_sources(name)
        if len(sources) != 1:
            return None
        if node.op not in _AFTER and end is None:
            end = name
        name = sources[0]
    return None


def _probe(core: RefNode) -> Floats:
    shape = tuple(d or 1 for d in (core.shape or ())[1:])
    return np.stack([np.zeros(shape, np.float32), np.full(shape, _PROBE, np.float32)])


def _gain(answer: Floats) -> NDArray[np.float64] | None:
    """Return the factor per channel, None where what follows is not an affine map per channel."""
    channels = answer.shape[-1]
    zeros, probed = (a.reshape(-1, channels).astype(np.float64) for a in answer)
    if np.ptp(zeros, axis=0).max() > 1e-6 * (1 + np.abs(zeros).max()):
        return None
    gain: NDArray[np.float64] = (probed - zeros)[0] / _PROBE
    return gain


def _compare(
    subgraph: Subgraph,
    candidate: _Candidate,
    reference: Floats,
    gain: NDArray[np.float64],
    file_weights: Floats,
) -> WeightCheck | None:
    layout = _LAYOUTS[candidate.core.op]
    params = subgraph.tensors[candidate.weights].quant
    wanted = layout.to_tflite(reference).astype(np.float64)
    if params is None or wanted.shape != file_weights.shape:
        return None
    axis = layout.channel_axis
    if wanted.shape[axis] != gain.size or params.scale.size not in (1, gain.size):
        return None
    along = [1] * wanted.ndim
    along[axis] = -1
    wanted = wanted * gain.reshape(along)
    steps = np.abs(file_weights - wanted) / params.scale.astype(np.float64).reshape(
        along if params.scale.size > 1 else [1] * wanted.ndim
    )
    per_channel = steps.max(tuple(i for i in range(steps.ndim) if i != axis))
    return WeightCheck(
        tensor=candidate.tensor,
        weights=candidate.weights,
        max_steps=float(per_channel.max()),
        worst_channel=int(per_channel.argmax()),
        wrong=int((steps > HALF_STEP).sum()),
        total=int(steps.size),
    )


def _in_reference_layout(
    core: RefNode, reference: Floats, gain: NDArray[np.float64], file_weights: Floats
) -> Floats:
    """Undo the folding, so that the reference's own batch norm gives the file's weights again."""
    layout = _LAYOUTS[core.op]
    along = [1] * file_weights.ndim
    along[layout.channel_axis] = -1
    dead = np.abs(gain) <= _DEAD * np.abs(gain).max()
    unfolded = file_weights / np.where(dead, 1.0, gain).reshape(along)
    own = layout.to_tflite(reference)
    chosen = np.where(dead.reshape(along), own, unfolded).astype(np.float32)
    return np.ascontiguousarray(layout.to_reference(chosen, reference.shape))
