"""Check whether data and ranges suit each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.compare.ranges.fit import WASTED, Filled, Misfit, Producer, misfits, rounded_to
from tfldbg.diagnose.downstream import computed_from
from tfldbg.diagnose.words import number
from tfldbg.graph.query import SAME_SCALE_KINDS
from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence

ENOUGH = 256
"""The number of values below which a range is not judged: as many as eight bits have codes."""
CLIPPED = 0.2
"""The share of the given values, zeros left out, outside the input's range from which the data is
on another scale.

Outliers are a few per cent; data in 0..255 for an input of 0..1 is outside for all but black."""
FEW = 32
"""Real data that uses less than one part in so many of the input's codes is on another scale: 0..1
for an input of 0..255 uses one code in 128, and no exposure loses five bits of eight."""
LARGE_LSB = 8.0
"""An error of three bits of eight."""
AMPLIFIED = 4.0
"""The ratio to the error at an operator's inputs from which an error is not inherited."""
_AVERAGES = frozenset({"AVERAGE_POOL_2D", "RESIZE_BILINEAR"})
"""Operators of one scale whose output values are between their input values."""
_UNCLAMPED = frozenset({"none", "differ", "computed"})
"""The parameters of outputs that no fake-quant of the reference clamps to the same range."""
_ARITHMETIC = frozenset({"ADD", "DIV", "MUL", "SUB"})
"""Operators with two operands, whose output has its own range."""
_OWED = frozenset({"bypassed", "deferred"})
"""Parameters that are those of a consumer (`tfldbg.match.model.Match`)."""
_TWO = 2


def is_clipped(given: InputEvidence) -> bool:
    """Return whether too many of the given values are beyond the input's range."""
    return given.beyond is not None and given.beyond > CLIPPED


def is_narrow(given: InputEvidence) -> bool:
    """Return whether the data, in real units, uses few codes.

    A single code is a constant input, such as a state that is zero.
    """
    usage = given.usage
    if given.beyond is None or usage is None or usage.span == 1:
        return False
    return FEW * usage.span < usage.codes


def quantized_instead(given: InputEvidence, alone: bool) -> tuple[int, int] | None:
    """Return the codes that quantizing the data would give, if it was cast to codes instead.

    The data was given as codes.  Read as real values they are within the input's range, and
    quantized they would be at least `WASTED` times as many codes.

    Args:
        given: An input of the model.
        alone: True if it is the only input, so that a single code cannot be a state of zeros.

    Returns:
        The lowest and the highest code; None if the data may well be codes.
    """
    usage, affine = given.usage, given.affine
    if usage is None or given.beyond is not None or affine is None or not affine.scale:
        return None
    if given.type is None or usage.total < ENOUGH or (usage.span == 1 and not alone):
        return None
    held = (usage.lowest, usage.highest + (usage.span == 1))
    ends = affine.real_range(given.type)
    if held[0] < ends[0] - 1 or held[1] > ends[1] + 1:
        return None  # a cast changes a value by less than one
    first, last = code_range(given.type)
    codes = (round(v / affine.scale) + affine.zero_point for v in held)
    low, high = (min(max(code, first), last) for code in codes)
    return (low, high) if high - low + 1 >= WASTED * usage.span else None


def data_suits(evidence: Evidence) -> bool:
    """Return whether the data is the user's and fits the inputs, so that it can judge ranges."""
    alone = len(evidence.inputs) == 1
    return evidence.run.data != "random" and not any(
        is_clipped(i) or is_narrow(i) or quantized_instead(i, alone) for i in evidence.inputs
    )


def clipped_share(op: OpEvidence) -> float:
    """Return the share of the reference's values beyond the range, if no fake-quant clamps them."""
    if op.local is None or op.parameters not in _UNCLAMPED or not op.local.elements:
        return 0.0
    return op.local.saturated / op.local.elements


def exceeded(evidence: Evidence) -> dict[int, float]:
    """Return the share of clipped values of each tensor, if a calibration cannot explain it."""
    if not data_suits(evidence):
        return {}
    others = imposed(evidence.ops)  # clipping commutes with taking the largest
    own = (o for o in evidence.ops if _is_filled(o) and o.tensor not in others)
    shares = {o.tensor: clipped_share(o) for o in own}
    return {tensor: share for tensor, share in shares.items() if share > CLIPPED}


def imposed(ops: Sequence[OpEvidence]) -> frozenset[int]:
    """Return the tensors whose range a consumer decides on: it copies codes, or keeps the range."""
    written = {o.tensor: (o.scale, o.zero_point) for o in ops}
    found: set[int] = set()
    for op in ops:
        own = (op.scale, op.zero_point)
        computes = op.kind in _ARITHMETIC  # arithmetic imposes no range on its inputs
        same_range = {i for i in op.reads if written.get(i) == own and not computes}
        found |= set(op.reads) if op.kind in SAME_SCALE_KINDS else same_range
    return frozenset(found)


def _is_filled(op: OpEvidence) -> bool:
    return op.scale is not None and op.usage is not None and op.usage.total >= ENOUGH


def misfitting(evidence: Evidence) -> dict[int, Misfit]:
    """Return the ranges, by tensor, that another operator's values or a sentinel made too wide."""
    traits = evidence.run.traits
    if not data_suits(evidence) or traits.kernels or not traits.exists:
        return {}
    inputs = [f for i in evidence.inputs if (f := _filled_input(i)) is not None]
    made = {o.tensor: Producer(o.kind, o.reads, o.marks, o.scale is None) for o in evidence.ops}
    written = (_filled(o, rounded_to(o.tensor, made)) for o in evidence.ops)
    found = misfits([*inputs, *(f for f in written if f is not None)])
    known = {o.tensor for o in evidence.ops if _is_filled(o)}
    return {index: misfit for index, misfit in found.items() if index in known}


def _costly(evidence: Evidence) -> Mapping[int, Misfit]:
    """Return the misfits that a float reference does not share, which the verdict counts."""
    if not evidence.run.traits.own_constants:
        return {}
    # In a reference without any ranges, tensors without a counterpart have no range either.
    ranged = any(o.expected is not None for o in evidence.ops)
    none = {"none"} if ranged else {"none", None}
    unshared = {o.tensor: o for o in evidence.ops if o.parameters in none}
    wide = misfitting(evidence)
    return {i: m for i, m in wide.items() if i in unshared and _tells(m, unshared[i], evidence)}


def _tells(misfit: Misfit, wide: OpEvidence, evidence: Evidence) -> bool:
    """Return whether rounding to the steps of a range makes the larger part of the error.

    The other parts are what its operator inherits, and the errors of the other inputs of its
    readers.  If they are larger, the finer steps that the values need would change nothing.
    """
    made = _rounding(misfit, wide)
    free = wide.accumulated.relative_rmse if wide.accumulated is not None else 0.0
    if free > math.sqrt(2.0) * made:
        return False  # more than half of the power of its error is inherited
    known = {o.tensor: o for o in evidence.ops}
    met = [
        max((_drifted(known[i]) for i in others), default=0.0)
        for others in _meeting(wide.tensor, evidence)
    ]
    return not met or min(met) < made


def _rounding(misfit: Misfit, op: OpEvidence) -> float:
    """Return the error of rounding to an output's steps, relative to the RMS of the reference.

    Without values of the reference it is relative to the largest value, which gives less.
    """
    free, step = op.accumulated, (op.scale or 0.0) / math.sqrt(12.0)
    if free is None:
        return min(1.0, step / misfit.reach)
    if not free.relative_rmse:
        return math.inf
    return min(1.0, step * free.relative_rmse / free.rmse)


def _drifted(op: OpEvidence) -> float:
    return op.accumulated.relative_rmse if op.accumulated is not None else 0.0


def _meeting(tensor: int, evidence: Evidence) -> list[tuple[int, ...]]:
    """Return the other computed inputs of each operator that computes with a tensor.

    Tensors computed from the tensor itself are left out, since they carry its error.
    """
    copies = {tensor}
    found = []
    for op in evidence.ops:
        if copies.isdisjoint(op.reads):
            continue
        if op.kind in SAME_SCALE_KINDS:
            copies.add(op.tensor)
        else:
            found.append(op.reads)
    others = {o.tensor for o in evidence.ops} - {tensor} - computed_from(evidence.ops, [tensor])
    return [tuple(i for i in reads if i in others) for reads in found]


@dataclass(frozen=True, slots=True)
class Hoisted:
    """A requantization that clips before an operator, where the reference clips after it."""

    tensor: int
    share: float
    """The share of its values that is clipped."""
    averaging: OpEvidence
    """The operator that averages the clipped values."""

    @property
    def message(self) -> str:
        """The share of early clipping and its effect, as the end of a sentence."""
        behind = f"operator {self.averaging.op} {self.averaging.kind}"
        return (
            f"{self.share:.2%} of its values are beyond its range and are clipped before {behind} "
            "averages them, where the reference clips its result; the accumulated error there "
            f"is {number(_drift(self.averaging))} LSB"
        )


def hoisted(evidence: Evidence, saturation: float) -> dict[int, Hoisted]:
    """Return the requantizations, by tensor, that clip because they were moved before an average.

    Clipping commutes with copying and with taking the largest, but not with averaging.  The error
    after the average is that of the clipping if it is at least `LARGE_LSB` and `AMPLIFIED` times
    the error that reaches the requantization.

    Args:
        evidence: The trace.
        saturation: The share of clipped values from which it counts.
    """
    consumers: dict[int, list[OpEvidence]] = {}
    for op in evidence.ops:
        for index in dict.fromkeys(op.reads):
            consumers.setdefault(index, []).append(op)
    drifts = {o.tensor: _drift(o) for o in evidence.ops}
    found = {}
    for op in evidence.ops:
        share = op.local.saturated / max(op.local.elements, 1) if op.local else 0.0
        if op.parameters not in _OWED or share <= saturation:
            continue
        most = max(LARGE_LSB, AMPLIFIED * max((drifts.get(i, 0.0) for i in op.reads), default=0.0))
        averaging = next(_averaging(op, consumers), None)
        if averaging is not None and _drift(averaging) >= most:
            found[op.tensor] = Hoisted(op.tensor, share, averaging)
    return found


def _averaging(op: OpEvidence, consumers: Mapping[int, list[OpEvidence]]) -> Iterator[OpEvidence]:
    """Yield the operators that average the output of an operator, or a copy of it."""
    for consumer in consumers.get(op.tensor, ()):
        if consumer.kind in _AVERAGES:
            yield consumer
        elif consumer.kind in SAME_SCALE_KINDS:
            yield from _averaging(consumer, consumers)


def _drift(op: OpEvidence) -> float:
    return (op.accumulated.max_lsb or 0.0) if op.accumulated else 0.0


def misplaced(evidence: Evidence, saturation: float) -> dict[int, str]:
    """Return the messages, by tensor, about ranges that are another's or were moved."""
    costs = {i: misfit.message for i, misfit in _costly(evidence).items()}
    return costs | {i: found.message for i, found in hoisted(evidence, saturation).items()}


def _filled_input(given: InputEvidence) -> Filled | None:
    usage, affine = given.usage, given.affine
    if usage is None or affine is None or given.type is None:
        return None
    held = max(abs(code - affine.zero_point) for code in (usage.lowest, usage.highest))
    return Filled(
        tensor=given.tensor,
        op=None,
        kind="input",
        codes=usage.codes,
        range=max(map(abs, affine.real_range(given.type))),
        reach=held * affine.scale,
        reads=(),
        two_valued=usage.distinct is not None and usage.distinct <= _TWO,
    )


def _filled(op: OpEvidence, made: Producer) -> Filled | None:
    usage, free, affine = op.usage, op.accumulated, op.affine
    if usage is None or affine is None or not op.activation:
        return None
    held = max(abs(code - affine.zero_point) for code in (usage.lowest, usage.highest))
    return Filled(
        tensor=op.tensor,
        op=op.op,
        kind=made.kind,
        codes=usage.codes,
        range=max(map(abs, affine.real_range(op.type))),
        reach=free.reference_max_abs if free is not None else held * affine.scale,
        reads=made.reads,
        marks=made.marks,
        two_valued=usage.distinct is not None and usage.distinct <= _TWO,
    )
