"""Decide which of several contradicting scales is wrong.

A wrong scale contradicts its neighbours, and the contradiction alone does not show which side is
wrong.  Here the neighbours vote: operators that copy codes tie their tensors into a family with
one scale and zero point, and every bias scale, divided by its weights' scale, gives the input scale
that it was quantized for.  The majority is believed and the others are reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.breach import (
    ACTIVATIONS,
    Breach,
    in_words,
    input_of,
    output_of,
    parameters_of,
    role_of,
)
from tfldbg.graph.query import SAME_SCALE_KINDS, WEIGHTED
from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph

TOLERANCE = 1e-6
"""The relative difference up to which two scales count as equal.

A bias scale is the product of two scales, rounded to float32.  If the converter multiplied its own
doubles, the stored factors were rounded separately: three roundings of at most 2**-24 each, 1.8e-7.
So two channels of one bias can differ by 3.6e-7 in the input scale that they give.  The bound is
the next power of ten.
"""

_HALF_STEP = 0.5
"""The difference that rounding explains, steps."""
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

_ONE_SCALE = SAME_SCALE_KINDS | {
    "BROADCAST_TO",
    "DYNAMIC_UPDATE_SLICE",
    "FILL",
    "GATHER_ND",
    "PACK",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "REVERSE_V2",
    "SCATTER_ND",
    "SELECT",
    "SELECT_V2",
    "SPLIT_V",
    "TOPK_V2",
    "UNPACK",
}
"""Operators whose kernels copy or compare codes and never rescale them."""

_Params = dict[int, tuple[float, int]]


@dataclass(frozen=True, slots=True, eq=False)
class _BiasVote:
    """The input scale that the bias of one operator implies."""

    op: Operator
    input: int
    weights: int
    tensor: int
    scale: float | None
    """The input scale that the bias was quantized for; None if its channels do not agree."""
    wrong: tuple[int, ...]
    """The channels that imply another scale."""
    have: NDArray[np.float64]
    """The bias scale of each channel."""
    steps: NDArray[np.float64]
    """The weight scale of each channel."""
    owners: tuple[int, ...] = ()
    """The operators that read the same bias and whose inputs it was quantized for, if most of its
    consumers have other inputs."""


@dataclass(frozen=True, slots=True, eq=False)
class _Claim:
    """A scale and zero point that some members of a family have."""

    scale: float
    zero_point: int | None
    """None if only biases make the claim."""
    tensors: tuple[int, ...]
    biases: tuple[_BiasVote, ...]

    @property
    def weight(self) -> int:
        """One vote for each bias, and one for all tensors, which the converter sets together.

        Operators that share a bias or weights, such as the heads of a detector, have one vote.
        """
        apart = min(len({b.tensor for b in self.biases}), len({b.weights for b in self.biases}))
        return apart + bool(self.tensors)


@dataclass(frozen=True, slots=True, eq=False)
class _Tie:
    """An operator that copies codes, and the tensors that must have the same scale."""

    op: Operator
    tensors: tuple[int, ...]


def disagreements(
    subgraph: Subgraph, zeros: frozenset[int], alone: Iterable[Breach]
) -> Iterator[Breach]:
    """Yield the tensors whose scale contradicts that of the majority.

    Args:
        subgraph: The subgraph.
        zeros: The constants that are all zero, so that their scale does not matter: the converter
            shares such a bias among operators of any scale.
        alone: The breaches of rules about single tensors.
    """
    believed = _believed(subgraph, alone)
    read = (_read_bias(subgraph, op, believed) for op in subgraph.operators)
    found = [b for b in read if b is not None and b.tensor not in zeros]
    biases = [_with_owners(subgraph, b, found, believed) for b in found]
    for bias in biases:
        yield from _single_channels(bias, believed)
    ties = _ties(subgraph)
    for family in _families(ties, [b.input for b in biases]):
        said = [b for b in biases if b.input in family and b.scale is not None]
        members = sorted((t for t in family if t in believed), key=lambda t: _position(subgraph, t))
        claims = _claims(members, said, believed)
        if len(claims) > 1:
            yield from _Dispute(subgraph, ties, believed, claims).settle()


def _position(subgraph: Subgraph, tensor: int) -> int:
    producer = subgraph.producers.get(tensor)
    return producer.index if producer is not None else -1


def _believed(subgraph: Subgraph, alone: Iterable[Breach]) -> _Params:
    """Return the scale and zero point of every activation, corrected where a rule fixes them.

    Tensors that break a rule on their own are reported already.  If the rule does not give the
    correct value, the tensor is left out, so that its neighbours are not blamed.
    """
    believed = {}
    for tensor in subgraph.tensors:
        have = parameters_of(tensor) if tensor.type in ACTIVATIONS else None
        if have is not None:
            believed[tensor.index] = have
    for breach in alone:
        if breach.expected is not None and breach.tensor in believed:
            believed[breach.tensor] = breach.expected
        elif breach.rule in ("impossible_scale", "zero_point_range", "no_positive_code"):
            believed.pop(breach.tensor, None)
    return believed


def _read_bias(subgraph: Subgraph, op: Operator, believed: _Params) -> _BiasVote | None:
    """Return the scale that an operator's bias implies; None without a comparable bias."""
    if op.kind not in WEIGHTED:
        return None
    given, weights, bias = (input_of(subgraph, op, i) for i in WEIGHTED[op.kind][:3])
    if given is None or weights is None or bias is None or not given.has_codes:
        return None
    if weights.quant is None or bias.quant is None or bias.type not in ("INT32", "INT64"):
        return None
    have = np.asarray(bias.quant.scale, np.float64)
    steps = np.asarray(weights.quant.scale, np.float64)
    if have.size not in (1, steps.size) and steps.size != 1:
        return None
    if not (have.size and steps.size and np.all(have > 0) and np.all(steps > 0)):
        return None
    have, steps = np.broadcast_arrays(have, steps)
    if not np.all(np.isfinite(have * steps)):
        return None
    scale, agrees = _quantized_for(have, steps, believed.get(given.index))
    wrong = tuple(int(c) for c in np.flatnonzero(~agrees))
    return _BiasVote(op, given.index, weights.index, bias.index, scale, wrong, have, steps)


def _with_owners(
    subgraph: Subgraph, bias: _BiasVote, biases: Sequence[_BiasVote], believed: _Params
) -> _BiasVote:
    """Add the operators that a shared bias fits, if its consumers have inputs of different scales.

    One bias has one scale.  If it fits the majority of its consumers, the inputs of the others are
    wrong; if it fits a minority, the converter let operators share it that must not.  A tie counts
    as a minority in 16x8 files, whose converter shares biases; the int8 converter makes copies.
    """
    shared = [b for b in biases if b.tensor == bias.tensor]
    suits = [b for b in shared if _suits(b, believed)]
    draw = subgraph.tensors[bias.tensor].type == "INT64"
    if _suits(bias, believed) or not 0 < 2 * len(suits) < len(shared) + draw:
        return bias
    return replace(bias, owners=tuple(b.op.index for b in suits))


def _suits(bias: _BiasVote, believed: _Params) -> bool:
    """Return whether a bias was quantized for the input that its operator reads."""
    now = believed.get(bias.input)
    return bias.scale is not None and now is not None and _same(bias.scale, now[0])


def _quantized_for(
    have: NDArray[np.float64], steps: NDArray[np.float64], now: tuple[float, int] | None
) -> tuple[float | None, NDArray[np.bool_]]:
    """Return the input scale that bias scales were made with, and the channels that agree with it.

    If any channel agrees with the present input, the input is correct: channels that are wrong
    independently do not match it by chance.  Otherwise most channels have to agree on a scale.

    Args:
        have: (C,) bias scales.
        steps: (C,) weight scales.
        now: The scale and zero point of the input, or None if they are not believed.
    """

    def agreeing(scale: float) -> NDArray[np.bool_]:
        product = scale * steps
        close: NDArray[np.bool_] = np.abs(have - product) <= TOLERANCE * product + _SMALLEST
        return close

    if now is not None:
        agrees = agreeing(now[0])
        if agrees.any():
            return now[0], agrees
    middle = float(np.sort(have / steps)[(have.size - 1) // 2])
    agrees = agreeing(middle)
    if 2 * int(np.count_nonzero(agrees)) > have.size:
        return middle, agrees
    return None, np.zeros(have.shape, np.bool_)


def _single_channels(bias: _BiasVote, believed: _Params) -> Iterator[Breach]:
    """Yield channels that disagree independently, which no other operator can cause."""
    scale = bias.scale or believed.get(bias.input, (None, 0))[0]
    if not bias.wrong or scale is None:
        return
    wrong = np.asarray(bias.wrong)
    ratios = np.abs(np.log(bias.have[wrong] / (scale * bias.steps[wrong])))
    channel = int(wrong[int(np.argmax(ratios))])
    want = scale * float(bias.steps[channel])
    message = (
        f"its bias has scale {bias.have[channel]:.7g} on channel {channel}, but input scale x "
        f"weight scale is {want:.7g}; {wrong.size} of {bias.have.size} channels differ"
    )
    yield Breach("bias_scale", bias.op.index, bias.tensor, channel, message, (want, 0))


def _ties(subgraph: Subgraph) -> tuple[_Tie, ...]:
    """Return the operators that copy codes, with their input and output tensors."""
    ties = []
    for op in subgraph.operators:
        out = output_of(subgraph, op)
        # The uint8 kernel of CONCATENATION alone rescales (``ConcatenationWithScaling``).
        rescales = op.kind == "CONCATENATION" and out is not None and out.type == "UINT8"
        if op.kind not in _ONE_SCALE or out is None or out.type not in ACTIVATIONS or rescales:
            continue
        used = dict.fromkeys(i for i in (*op.inputs, *op.outputs) if i >= 0)
        tensors = [subgraph.tensors[i] for i in used]
        same = tuple(t.index for t in tensors if t.type == out.type and t.has_codes)
        ties.append(_Tie(op, same))
    return tuple(ties)


def _families(ties: Iterable[_Tie], alone: Iterable[int]) -> list[set[int]]:
    """Return the sets of tensors that must share a scale; each of ``alone`` starts its own set."""
    family = {t: {t} for t in alone}
    for tie in ties:
        joined = set(tie.tensors).union(*(family.get(t, ()) for t in tie.tensors))
        family.update(dict.fromkeys(joined, joined))
    return list({id(members): members for members in family.values()}.values())


def _same(left: float, right: float) -> bool:
    return abs(left - right) <= TOLERANCE * max(left, right)


def _claims(members: list[int], said: list[_BiasVote], believed: _Params) -> list[_Claim]:
    """Group a family by scale and zero point, with tensors in the order of their producers."""
    groups: list[tuple[float, int | None, list[int]]] = []
    for tensor in members:
        scale, zero = believed[tensor]
        known = [g for g in groups if _same(g[0], scale) and g[1] == zero]
        if known:
            known[0][2].append(tensor)
        else:
            groups.append((scale, zero, [tensor]))
    for bias in said:
        if bias.scale is not None and not any(_same(g[0], bias.scale) for g in groups):
            groups.append((bias.scale, None, []))
    return [
        _Claim(
            scale=scale,
            zero_point=zero,
            tensors=tuple(tensors),
            biases=tuple(b for b in said if b.scale is not None and _same(b.scale, scale)),
        )
        for scale, zero, tensors in groups
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Dispute:
    """A family of tensors whose scales contradict each other."""

    subgraph: Subgraph
    ties: tuple[_Tie, ...]
    believed: _Params
    claims: list[_Claim]

    def settle(self) -> Iterator[Breach]:
        """Believe the claim with most votes, then most tensors, then the likelier zero point.

        If they are still equal, the first one in execution order is believed.
        """
        right = max(self.claims, key=lambda c: (c.weight, len(c.tensors), self._begins_at_zero(c)))
        for claim in self.claims:
            if claim is right:
                continue
            between = self._between(claim, right)
            if between is not None:
                yield from self._misreads(between)
                continue
            for tensor in claim.tensors:
                yield from self._odd_tensor(tensor, claim, right)
            if not claim.tensors:
                for bias in claim.biases:
                    yield self._odd_bias(bias, claim, right)

    def _between(self, claim: _Claim, right: _Claim) -> Operator | None:
        """Return the single operator between two groups of tensors that are each consistent.

        One mistake does not change several tensors that are computed independently.  The converter
        may rather have missed that an operator between them copies codes.
        """
        touching = [t for t in self.ties if any(i in claim.tensors for i in t.tensors)]
        both = [t for t in touching if any(i in right.tensors for i in t.tensors)]
        copying = {tie.op.index for tie in self.ties}
        known = (self.subgraph.producers.get(i) for i in claim.tensors)
        computing = [op for op in known if op is not None and op.index not in copying]
        alone = len(both) == 1 and len(touching) > 1 and len(computing) > 1
        return both[0].op if alone else None

    def _misreads(self, op: Operator) -> Iterator[Breach]:
        """Report an operator that copies codes to an output where they have another meaning."""
        tensors = self.subgraph.tensors
        given, out = tensors[op.inputs[0]], tensors[op.outputs[0]]
        have, want = self.believed[given.index], self.believed[out.index]
        off = (have[0] * (c - have[1]) - want[0] * (c - want[1]) for c in code_range(out.type))
        if max(map(abs, off)) <= _HALF_STEP * want[0]:
            return
        message = (
            f"it copies the codes of its input, of {in_words(have)}, to an output of "
            f"{in_words(want)}"
        )
        yield Breach("copied_codes", op.index, out.index, None, message)

    def _begins_at_zero(self, claim: _Claim) -> bool:
        """Return whether a claim has its lowest code for zero after an operator with a fused RELU.

        Any calibration gives such a zero point, because it sees no value below zero.
        """
        tensors = [i for tie in self.ties for i in tie.tensors]
        known = (self.subgraph.producers.get(i) for i in tensors)
        kept = any(
            op is not None and op.options.get("fusedActivationFunction") in ("RELU", "RELU6")
            for op in known
        )
        types = (self.subgraph.tensors[i].type for i in tensors)
        return kept and any(claim.zero_point == code_range(name)[0] for name in types)

    def _odd_tensor(self, tensor: int, claim: _Claim, right: _Claim) -> Iterator[Breach]:
        producer = self.subgraph.producers.get(tensor)
        ties = [tie for tie in self.ties if tensor in tie.tensors]
        carried = producer is not None and any(
            tie.op is producer and any(i in claim.tensors for i in producer.inputs) for tie in ties
        )
        if carried:
            return  # the operator before it is reported
        users = [tie.op for tie in ties] + [b.op for b in right.biases if b.input == tensor]
        named = producer or next(iter(users), None)
        if named is None:
            return
        have = self.believed[tensor]
        want = (right.scale, have[1] if right.zero_point is None else right.zero_point)
        side = role_of(named, self.subgraph.tensors[tensor])
        message = (
            f"{side} has {in_words(have)}, but {self._reason(ties, claim, right)} {in_words(want)}"
        )
        other = None
        if (claim.weight, len(claim.tensors)) == (right.weight, len(right.tensors)):
            other = self.subgraph.producers.get(right.tensors[0]) if right.tensors else None
        suspect = other.index if other else None
        message += (
            f"; the output of operator {suspect} may be wrong instead" if other is not None else ""
        )
        rule = "same_scale" if right.tensors else "bias_scale"
        copying = tuple(tie.op.index for tie in self.ties)
        yield Breach(rule, named.index, tensor, None, message, want, suspect, copying)

    def _reason(self, ties: list[_Tie], claim: _Claim, right: _Claim) -> str:
        if right.biases and not _same(claim.scale, right.scale):
            shown = [str(b.op.index) for b in right.biases[:4]]
            dots = ", ..." if len(right.biases) > 4 else ""
            word = "bias of operator" if len(shown) == 1 else "biases of operators"
            verb = "was" if len(shown) == 1 else "were"
            return f"the {word} {', '.join(shown)}{dots} {verb} quantized for"
        near = [tie.op for tie in ties if any(i in right.tensors for i in tie.tensors)]
        op = next(iter(near), ties[0].op)
        return f"operator {op.index} {op.kind} copies codes, and what else it touches has"

    def _odd_bias(self, bias: _BiasVote, claim: _Claim, right: _Claim) -> Breach:
        want = right.scale * float(bias.steps[0])
        if bias.owners:
            return _of_another(bias, want)
        channels = bias.have.size
        message = (
            f"its bias has scale {bias.have[0]:.7g}, but input scale x weight scale is {want:.7g}"
        )
        message += f", on all {channels} channels by the same factor" if channels > 1 else ""
        producer = self.subgraph.producers.get(bias.input)
        # Several tensors that agree with each other were not changed by one mistake.
        alone = claim.weight >= right.weight and len(right.tensors) == 1
        suspect = producer.index if alone and producer is not None else None
        if suspect is not None:
            message += f"; the output scale of operator {suspect} may be wrong instead"
        expected = (want, 0) if channels == 1 else None
        return Breach("bias_scale", bias.op.index, bias.tensor, None, message, expected, suspect)


def _of_another(bias: _BiasVote, want: float) -> Breach:
    """Report a bias that belongs to other operators."""
    shown = ", ".join(map(str, bias.owners[:3])) + (", ..." * (len(bias.owners) > 3))
    many = len(bias.owners) > 1
    factor = want / float(bias.have[0])
    message = (
        f"it shares the bias of operator{'s' * many} {shown}, which was quantized for an input of "
        f"another scale: it counts {factor:.4g} times here, since its scale is {bias.have[0]:.7g}, "
        f"but input scale x weight scale is {want:.7g}"
    )
    return Breach("shared_bias", bias.op.index, bias.tensor, None, message)
