"""Compute the constants that an operator should have: the reference's, with nodes folded in.

The nodes after the weights in the reference (bias, batch norm) are an affine map per channel, and
so may be the nodes before them.  The map is measured by sending zeros and one other value through
it, so that no kind of normalization needs its own rule.  The answer to zeros is the folded bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.constants.candidates import (
    BIASED,
    Candidate,
    Term,
    candidate,
    core_input,
    summed_axes,
)
from tfldbg.compare.constants.checks import TINY, Doubles, Floats, broadcast_along
from tfldbg.compare.constants.probing import EPSILON, PROBE, affine, ask
from tfldbg.reference.evaluate import Frozen, Segment
from tfldbg.reference.graphdef import node_of

if TYPE_CHECKING:
    from tfldbg.compare.constants.turned import Turn
    from tfldbg.graph.model import Operator, Subgraph
    from tfldbg.reference.graphdef import RefNode

FOLDING = 10 * 2.0**-23
"""The rounding of a folded constant, as a share of the sum of the magnitudes of its terms.

Each side folds in float32: variance plus epsilon, its reciprocal root (accurate to two units in the
last place), times gamma, bias minus mean, their product, plus beta: at most nine times half an
epsilon.  The file's bias adds two for its scale and the division by it: twenty halves for both.
"""
_DEAD = 1e-9
_CONSTANT = 1e-5
"""The largest variation of a folded bias over an image, relative to the magnitudes that it sums."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """The constants that an operator should have: the reference's, with other nodes folded in."""

    op: Operator
    weights: int
    """The tensor that holds the file's weights."""
    bias: int | None
    """The tensor that holds the file's bias, -1 without one, None if it is computed."""
    kernel: Doubles
    """The weights in TFLite's layout, real units."""
    kernel_rounding: Doubles
    """The largest change by float32 rounding; same shape, real units."""
    offset: Doubles
    """(channels,) the bias, real units."""
    offset_rounding: Doubles
    """(channels,) the largest change by float32 rounding, real units."""
    channel_axis: int
    """The axis of the output channels in ``kernel``."""
    unfolded: Doubles
    """``kernel`` without the factor of the nodes after the core."""
    terms: tuple[tuple[str, Doubles], ...]
    """The terms whose sum is the bias: role and (channels,) values, real units."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Conversions between the reference's layout of weights and TFLite's."""

    to_tflite: Callable[[Floats], Floats]
    to_reference: Callable[[Floats, tuple[int, ...]], Floats]
    channel_axis: int
    """The axis of the output channels in TFLite's layout."""


_LAYOUTS: Mapping[str, _Layout] = {
    "Conv2D": _Layout(lambda w: w.transpose(3, 0, 1, 2), lambda w, _: w.transpose(1, 2, 3, 0), 0),
    "DepthwiseConv2dNative": _Layout(
        lambda w: w.reshape(1, *w.shape[:2], -1), lambda w, shape: w.reshape(shape), 3
    ),
    "BatchMatMulV2": _Layout(lambda w: w.T, lambda w, _: w.T, 0),
    "MatMul": _Layout(lambda w: w.T, lambda w, _: w.T, 0),
    "Conv2DBackpropInput": _Layout(
        lambda w: w.transpose(2, 0, 1, 3), lambda w, _: w.transpose(1, 2, 0, 3), 0
    ),
}


def _layout_of(core: RefNode) -> _Layout:
    """Return the layout of a core's weights; those of an Einsum may have more than two axes."""
    summed = summed_axes(core) if core.op == "Einsum" else None
    if summed is None:
        return _LAYOUTS[core.op]
    return _Layout(
        lambda w: w.reshape(math.prod(w.shape[:summed]), -1).T,
        lambda w, shape: w.T.reshape(shape),
        0,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Before:
    """The scale and shift of values before a core, in the layout of the weights."""

    scale: Doubles
    """The scale, broadcastable to the weights in TFLite's layout."""
    shift: Doubles
    """The shift, broadcastable likewise, real units."""


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """The reference's answers for one candidate."""

    candidate: Candidate
    reference: Floats
    """The weights in the reference's own layout."""
    gain: Doubles
    """(channels,) the factor of the nodes after the core."""
    folded: Folded
    turn: Turn | None
    """The matrices that multiply the activation in the file, and inversely its weights."""
    before: _Before | None
    last: tuple[Term, Floats] | None
    """The constant that is added last, and its values."""


def fold(
    subgraph: Subgraph, frozen: Frozen, segments: Mapping[int, Segment], turns: Mapping[int, Turn]
) -> dict[int, Folded]:
    """Return the reference's weights and bias for each operator, by output tensor.

    Args:
        subgraph: The TFLite side.
        frozen: The reference.
        segments: Each operator cut out of the reference, by output tensor.
        turns: The matrices that multiply activations, and inversely weights, by operator.
    """
    return {m.candidate.tensor: m.folded for m in probe(subgraph, frozen, segments, turns)}


def probe(
    subgraph: Subgraph, frozen: Frozen, segments: Mapping[int, Segment], turns: Mapping[int, Turn]
) -> Iterator[Probed]:
    """Send zeros and another value through the nodes before and after each core.

    The results need six times the memory of the weights, so they are yielded one by one.
    """
    candidates = [
        found
        for op in subgraph.operators
        if op.outputs and op.outputs[0] in segments
        for found in [candidate(subgraph, op, segments[op.outputs[0]], frozen.graph)]
        if found is not None
    ]
    if not candidates:
        return
    term_names = list(dict.fromkeys(t.source for c in candidates for t in c.terms))
    constants = [c.source for c in candidates] + term_names
    asked = [_probes(c) for c in candidates]
    probes = [probe for own in asked for probe in own]
    nodes = frozen.graph.nodes
    shapes = {
        key: _probed_shape(nodes[node_of(cut)]) for p in probes for cut, key in p.cuts.items()
    }
    values, answers = ask(frozen, constants, probes, shapes)
    terms = dict(zip(term_names, values[len(candidates) :], strict=True))
    answered = iter(answers)
    for found, reference, sent in zip(candidates, values, asked, strict=False):
        own = [next(answered) for _ in sent]
        measured = _fold(subgraph, found, reference, own, terms, turns.get(found.op.index))
        if measured is not None:
            yield measured


def _probes(found: Candidate) -> list[Segment]:
    """Return probes of the nodes after the core, and if needed of those before it and of all."""
    key, end = found.tensor, found.before_activation
    probes = [Segment(key=key, output=end, cuts={found.moved.name: key})]
    if found.start is not None:
        cuts = {found.start: -1 - key}
        probes += [Segment(-1 - key, output, cuts) for output in (core_input(found.core), end)]
    return probes


def _probed_shape(node: RefNode) -> tuple[int, ...]:
    """Return the shape of one sample of a node's output."""
    shape = tuple(d or 1 for d in node.shape or ())
    return shape if node.whole else (1, *shape[1:])


def _fold(
    subgraph: Subgraph,
    found: Candidate,
    reference: Floats,
    answers: Sequence[Floats],
    terms: Mapping[str, Floats],
    turn: Turn | None,
) -> Probed | None:
    layout = _layout_of(found.core)
    plain = layout.to_tflite(reference).astype(np.float64)
    if found.core.op == "Einsum":  # its channels are several axes
        answers = [answers[0].reshape(3, -1, plain.shape[0]), *answers[1:]]
    behind = affine(answers[0])
    before = _before(found, answers[1:], plain)
    if before is None and found.start is not None:
        return None
    own, sizes = _scaled(plain, before, turn)
    axis = layout.channel_axis
    if behind is None or own.shape != subgraph.tensors[found.weights].shape:
        return None
    zeros, probed = behind
    if own.shape[axis] != zeros.size:
        return None
    gain = (probed - zeros) / PROBE
    lost = EPSILON * (np.abs(probed) + np.abs(zeros)) / PROBE
    kernel = own * broadcast_along(gain, axis, own.ndim)
    rounding = FOLDING * np.abs(gain) + lost
    parts = _contributions(found, zeros, gain, terms)
    offset_rounding = FOLDING * sum((np.abs(part) for _, part in parts), np.abs(zeros))
    last = _last(found, zeros.size, terms)
    if before is not None:
        shift = gain * _summed(plain * before.shift, axis)
        summed = np.abs(gain) * _summed(np.abs(plain * before.shift), axis)
        known = bool(found.shift) or _is_constant(answers[2], summed + np.abs(zeros))
        if shift.any() and (last is None or not known):
            return None
        zeros = zeros + shift
        # A sum of n products is off by up to n / 2 units in the last place of its magnitudes.
        offset_rounding = offset_rounding + (FOLDING + EPSILON * plain.size / zeros.size) * summed
        parts = (*parts, ("shift before it", shift))
    folded = Folded(
        op=found.op,
        weights=found.weights,
        bias=found.bias,
        kernel=kernel,
        kernel_rounding=sizes * broadcast_along(rounding, axis, own.ndim),
        offset=zeros,
        offset_rounding=offset_rounding,
        channel_axis=axis,
        unfolded=own,
        terms=parts,
    )
    return Probed(found, reference, gain, folded, turn, before, last)


def _before(found: Candidate, answers: Sequence[Floats], plain: Doubles) -> _Before | None:
    """Return the scale and shift before the core, or None if there are none.

    Args:
        found: The operator.
        answers: The answers at the core's input; empty if values reach it unchanged.
        plain: The reference's weights in TFLite's layout.
    """
    if found.shift:
        every = np.ones(plain.shape[-1])
        return _Before(every, found.shift * every)
    reached = affine(answers[0]) if answers else None
    if reached is None:
        return None
    zeros, probed = reached
    repeated = 1
    if found.core.op == "DepthwiseConv2dNative":  # each input channel meets several weights
        repeated = plain.shape[-1] // max(zeros.size, 1)
    scale, shift = (np.repeat(v, repeated) for v in ((probed - zeros) / PROBE, zeros))
    return _Before(scale, shift) if scale.size == plain.shape[-1] else None


def _scaled(plain: Doubles, before: _Before | None, turn: Turn | None) -> tuple[Doubles, Doubles]:
    """Return the weights with the scale before them and the turn, and their summed magnitudes."""
    if before is not None:
        plain = plain * before.scale
    if turn is None:
        return plain, np.abs(plain)
    return turn.weights(plain), turn.spread(np.abs(plain))


def _summed(values: Doubles, axis: int) -> Doubles:
    """Return the sum over each output channel, (channels,)."""
    summed: Doubles = values.sum(tuple(i for i in range(values.ndim) if i != axis))
    return summed


def _is_constant(answer: Floats, magnitudes: Doubles) -> bool:
    """Return whether the answer to zeros is the same everywhere, which padding prevents."""
    zeros = answer[0].reshape(-1, answer.shape[-1]).astype(np.float64)
    return bool((np.ptp(zeros, axis=0) <= _CONSTANT * magnitudes).all())


def _last(
    found: Candidate, channels: int, terms: Mapping[str, Floats]
) -> tuple[Term, Floats] | None:
    """Return a constant of every channel that is added after all factors, with its values."""
    added = (t for t in found.terms if not t.scaled and terms[t.source].size == channels)
    return next(((t, terms[t.source]) for t in added), None)


def _contributions(
    found: Candidate, offset: Doubles, gain: Doubles, terms: Mapping[str, Floats]
) -> tuple[tuple[str, Doubles], ...]:
    """Return role and value of all terms of the folded bias, (channels,) real units."""
    parts = []
    for term in found.terms:
        values = term.sign * terms[term.source].astype(np.float64).reshape(-1)
        if values.size not in (1, offset.size):
            values = np.abs(values).max(initial=0.0, keepdims=True)
        scaled = values * (gain if term.scaled else 1.0)
        parts.append((term.role, np.broadcast_to(scaled, offset.shape)))
    return tuple(parts)


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
    return np.maximum(scales, TINY) if scales.size else None


def rounded_constants(measured: Probed, file_weights: Floats) -> dict[str, Floats]:
    """Return the constants that make the reference compute with the file's weights.

    Args:
        measured: The operator.
        file_weights: The file's weights in its layout, real units.

    Returns:
        The values by reference tensor: the weights, and if values are shifted before them, the
        constant that is added last, so that the bias does not change.
    """
    layout = _layout_of(measured.candidate.core)
    before, plain = measured.before, layout.to_tflite(measured.reference)
    chosen = _unfolded(measured, file_weights, plain)
    shape = measured.reference.shape
    weights = np.ascontiguousarray(layout.to_reference(chosen, shape))
    constants = {measured.candidate.source: weights}
    if before is not None and before.shift.any() and measured.last is not None:
        moved = (chosen.astype(np.float64) - plain) * before.shift
        shift = measured.gain * _summed(moved, layout.channel_axis)
        term, values = measured.last
        kept = values - (term.sign * shift).reshape(values.shape)
        constants[term.source] = kept.astype(values.dtype)
    return constants


def _unfolded(measured: Probed, file_weights: Floats, plain: Floats) -> Floats:
    """Undo the folding, so that the reference's own batch norm gives the file's weights."""
    if measured.turn is not None:
        file_weights = measured.turn.plain(file_weights).astype(np.float32)
    axis = _layout_of(measured.candidate.core).channel_axis
    factor: Doubles = broadcast_along(measured.gain, axis, plain.ndim)
    if measured.before is not None:
        factor = factor * measured.before.scale
    dead = np.abs(factor) <= _DEAD * np.abs(factor).max()
    chosen: Floats = np.where(dead, plain, file_weights / np.where(dead, 1.0, factor))
    return chosen.astype(np.float32)
