"""Causes in the ranges of activations: how they were trained or calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.diagnose.rules.model import (
    Explanation,
    FileRule,
    Judged,
    Sign,
    TraceRule,
    at,
    listed,
    together,
)
from tfldbg.diagnose.scales import same
from tfldbg.diagnose.words import number
from tfldbg.graph.query import SAME_SCALE_KINDS

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Signal

_TIE = 0.01
"""How near to one half a zero point counts as a tie: float32 division of 255 steps is off by up to
255 x 2**-24, and two implementations by several times that; a hundredth leaves room."""
_CLIPPED = 0.01
"""Share of a fake-quantized activation beyond its range from which the range has not converged: a
moving average with decay 0.999 over batches leaves out the extremes of single batches, far less."""
_START = 6.0
"""Where tfmot's observers begin: -6 to 6 (``MovingAverageQuantizer``, default_8bit_quantizers)."""
_BELOW = 0.05
"""Share of the range below zero, behind an operator that is never negative, that is left from the
start: the start's share falls to 5 % after 2,900 steps with decay 0.999 for a range of 0 to 6."""
_USED = 8
"""A tensor that uses less than one part in so many of its codes has lost three of eight bits."""
_EIGHT_BITS = 256
"""Codes; of sixteen bits three may go unused."""
_NARROW = 16
"""A concatenated branch with fewer codes than that has four bits, or less, of eight."""
_MANY = 3
_NEVER_NEGATIVE = frozenset({"RELU", "RELU6"})

_OTHER_OBSERVER = Explanation(
    code="TFL013",
    title="The file's ranges are not those that the QAT model learned",
    severity="error",
    meaning="Most scales are others than the QAT model's: the file was quantized after training, "
    "with ranges from calibration data, and not converted from the QAT model. The difference grows "
    "with depth; nothing is wrong with any single operator.",
    evidence="Scales and zero points against the fake-quant nodes of the model: more than half of "
    "them differ.",
    suggestion="convert the QAT model itself, without a representative data set",
    sources=("abagrahari/tf-qat-vs-tflite",),
)
_ZERO_POINT_TIE = Explanation(
    code="TFL014",
    title="Zero point at a tie",
    severity="warning",
    meaning="The trained range is so symmetric that its zero point lies halfway between two codes. "
    "One implementation rounds it up, the other down: every value is shifted by one step, and one "
    "end of the range is clipped.",
    evidence="Same scale, zero points one apart, and a trained minimum of a whole number of steps "
    "and a half.",
    suggestion="move the trained range by a fraction of a step, or use symmetric quantization",
    sources=("tensorflow/model-optimization#858", "tensorflow/tensorflow#117962"),
)
_NO_ZERO = Explanation(
    code="TFL015",
    title="The trained range does not include zero",
    severity="warning",
    meaning="Zero must be a code, since padding and biases need it. A range that leaves it out is "
    "shifted by fake-quant and widened by the converter, so that both sides use other ranges, and "
    "few of the codes.",
    evidence="The trained minimum is above zero, or the maximum below.",
    suggestion="widen the range to include zero: min(range, 0) and max(range, 0)",
    sources=("tensorflow/tensorflow#16995", "tensorflow/tensorflow#23351"),
)
_UNCONVERGED = Explanation(
    code="TFL017",
    title="Ranges that have not converged",
    severity="warning",
    meaning="QAT learns ranges as moving averages that start at -6 to 6. After too few steps they "
    "still remember the start: too wide where values are small, and values are clipped where they "
    "are large.",
    evidence="The trained range is the start itself; or 5 % of it lie below zero behind a RELU; or "
    "more than 1 % of at least 256 values of your data lie beyond it.",
    suggestion="train longer, with a faster decay, or set the ranges from data: tfldbg convert "
    "QAT.h5 --calibrate all-values --data DATA",
    sources=("tensorflow/model-optimization#368",),
)
_UNUSED = Explanation(
    code="TFL018",
    title="Most of a range is never used",
    severity="warning",
    meaning="The values of an activation fill a small part of its codes only: it was calibrated on "
    "other data than this, or on outliers. The rounding error is as large as for a model of fewer "
    "bits.",
    evidence="The lowest and highest code that occurred over your data: they span less than an "
    "eighth. Not where another operator imposes the range, nor from fewer than 256 values.",
    suggestion="calibrate on representative data, scaled as at inference; leave outliers out",
    sources=("ultralytics/ultralytics#1695",),
)
_MIXED = Explanation(
    code="TFL026",
    title="A concatenation of a wide and a narrow range",
    severity="warning",
    meaning="A concatenation has one scale for all its inputs. A branch with small values next to "
    "one with large values is left with a few codes.",
    evidence="The codes that occur over your data: at most 16 in one input of the CONCATENATION, "
    "more than half of all in its output.",
    suggestion="bring the branches to one range before they are joined (a batch norm, a clip), or "
    "concatenate in float",
    sources=("ultralytics/ultralytics#1683", "tensorflow/tensorflow#52357"),
)
_BYPASSED = Explanation(
    code="TFL045",
    title="The converter left a fake-quant out",
    severity="info",
    meaning="Operators with one scale for input and output (concatenation, pooling) take the "
    "parameters of one end; the fake-quant of the other is dropped. The file then rounds once "
    "where the QAT model rounds twice: values differ by up to a step of the dropped fake-quant, "
    "from here on.",
    evidence="A tensor whose fake-quant has other parameters than the file, and a CONCATENATION "
    "that imposes its own; the accumulated error there is above one LSB.",
    suggestion="nothing is broken; to remove the difference, quantize only the output of the "
    "concatenation in QAT",
    sources=("tfldbg, docs/verdict.md: Matching",),
)


def _other_observer(judged: Judged) -> Iterator[Sign]:
    compared = [
        o
        for o in judged.evidence.ops
        if o.expected is not None and o.parameters in ("equal", "differ")
    ]
    differ = [o for o in compared if o.parameters == "differ"]
    if judged.evidence.run.reference_kind != "keras" or len(differ) < _MANY:
        return
    if 2 * len(differ) <= len(compared):
        return
    ratios = [o.scale / o.expected[0] for o in differ if o.scale and o.expected]
    middle = float(np.median(np.abs(np.log2(ratios)))) if ratios else 0.0
    message = (
        f"{len(differ)} of {len(compared)} activations have other parameters than the QAT model "
        f"learned; the scales differ by {2**middle - 1:.1%} in the middle: the file was quantized "
        "after training"
    )
    yield Sign(None, None, message, {"ops": [o.op for o in differ], "compared": len(compared)})


def _zero_point_tie(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("parameters"):
        if op.trained is None or op.expected is None or op.scale is None or op.zero_point is None:
            continue
        if not same(op.scale, op.expected[0]) or abs(op.zero_point - op.expected[1]) != 1:
            continue
        exact = -op.trained[0] / op.expected[0]
        if abs(exact % 1.0 - 0.5) < _TIE:
            message = (
                f"the trained range {number(op.trained[0])} to {number(op.trained[1])} puts zero "
                f"at {exact:.3f} steps, a tie: the file rounds it to {op.zero_point}, the QAT "
                f"model to {op.expected[1]}"
            )
            yield at(op, message, trained=list(op.trained), exact=exact)


def _without_zero(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        if op.trained is not None and (op.trained[0] > 0 or op.trained[1] < 0):
            low, high = op.trained
            message = f"its trained range {number(low)} to {number(high)} leaves zero out"
            yield at(op, message, trained=[low, high])


def _unconverged(judged: Judged) -> Iterator[Sign]:
    for rule in (_at_start, _below_zero, _beyond):
        found = [(op, rule(judged, op)) for op in judged.evidence.ops if _is_trained(op)]
        yield from together([at(op, said, trained=op.trained) for op, said in found if said])


def _is_trained(op: OpEvidence) -> bool:
    return op.trained is not None and op.match_rule != "carried"


def _at_start(judged: Judged, op: OpEvidence) -> str | None:
    del judged
    low, high = op.trained or (0.0, 0.0)
    if same(-low, _START) and same(high, _START):
        return "its range is still the -6 to 6 that training starts from"
    return None


def _below_zero(judged: Judged, op: OpEvidence) -> str | None:
    low, high = op.trained or (0.0, 0.0)
    never_negative = {op.kind, op.options.get("fusedActivationFunction")} & _NEVER_NEGATIVE
    share = -low / (high - low) if high > low else 0.0
    begun = _at_start(judged, op) is None
    if begun and never_negative and op.parameters == "equal" and share > _BELOW:
        return (
            f"its range {number(low)} to {number(high)} reaches below zero, where no value is: "
            "it has not forgotten the -6 to 6 that it started from"
        )
    return None


def _beyond(judged: Judged, op: OpEvidence) -> str | None:
    low, high = op.trained or (0.0, 0.0)
    clipped = op.local.saturated / op.local.elements if op.local and op.local.elements else 0.0
    sound = op.parameters == "equal" and not judged.behind_origin(op)
    if clipped > _CLIPPED and sound and judged.settles(op):
        return f"{clipped:.1%} of its values lie beyond the range {number(low)} to {number(high)}"
    return None


def _unused(judged: Judged) -> Iterator[Sign]:
    imposed = _imposed(judged.evidence.ops)
    found = []
    for op in judged.evidence.ops:
        usage = op.usage
        if usage is None or not judged.settles(op) or usage.codes > _EIGHT_BITS:
            continue
        if not op.activation or op.kind in SAME_SCALE_KINDS | _FIXED or op.tensor in imposed:
            continue  # others decide on the range
        if judged.behind_origin(op):
            continue  # what a broken operator yields says nothing about ranges
        if _USED * usage.span < usage.codes and usage.span > 1:
            low, high = usage.lowest, usage.highest
            message = (
                f"its values use the codes {low} to {high} only, {usage.span} of {usage.codes}"
            )
            found.append(at(op, message, lowest=low, highest=high, codes=usage.codes))
    yield from together(found)


def _imposed(ops: Sequence[OpEvidence]) -> frozenset[int]:
    """Return the tensors whose range a reader decides on: it copies codes, or keeps the range."""
    written = {o.tensor: (o.scale, o.zero_point) for o in ops}
    found: set[int] = set()
    for op in ops:
        own = (op.scale, op.zero_point)
        same_range = {i for i in op.reads if written.get(i) == own}
        found |= set(op.reads) if op.kind in SAME_SCALE_KINDS else same_range
    return frozenset(found)


_FIXED = frozenset({"SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION", "LOG_SOFTMAX"})
"""Operators whose range the specification fixes."""


def _mixed_ranges(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        if op.kind != "CONCATENATION" or op.usage is None or 2 * op.usage.span < op.usage.codes:
            continue
        branches = [o for o in judged.writers(op) if judged.settles(o)]
        narrow = [o for o in branches if o.usage and 1 < o.usage.span <= _NARROW]
        if narrow and not judged.behind_origin(op):
            worst = min(narrow, key=lambda o: o.usage.span if o.usage else 0)
            span = worst.usage.span if worst.usage else 0
            message = (
                f"the branch from operator {worst.op} {worst.kind} has {span} of the "
                f"{op.usage.codes} codes that the others fill"
            )
            yield at(op, message, branches=[o.op for o in narrow], codes=span)


def _bypassed(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        drift = op.accumulated.max_lsb if op.accumulated else None
        if op.kind != "CONCATENATION" or drift is None or drift <= 1.0:
            continue
        left_out = [o for o in judged.writers(op) if o.parameters == "bypassed"]
        clean = not judged.behind_origin(op)
        if left_out and clean and all(_is_small(o) for o in left_out):
            message = (
                f"the fake-quants behind operators {listed([o.op for o in left_out])} were left "
                f"out in its favour; the accumulated error is {number(drift)} LSB from here on"
            )
            yield at(op, message, ops=[o.op for o in left_out], accumulated_lsb=drift)


def _is_small(op: OpEvidence) -> bool:
    """Whether the raw value before the dropped fake-quant is the file's, to a step."""
    return op.local is None or op.local.max_lsb is None or op.local.max_lsb <= 1.0


_PARAMETERS: frozenset[Signal] = frozenset({"parameters"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (
    TraceRule(_OTHER_OBSERVER, _other_observer, _PARAMETERS),
    TraceRule(_ZERO_POINT_TIE, _zero_point_tie, _PARAMETERS),
    TraceRule(_NO_ZERO, _without_zero, _PARAMETERS),
    TraceRule(_UNCONVERGED, _unconverged),
    TraceRule(_UNUSED, _unused),
    TraceRule(_MIXED, _mixed_ranges),
    TraceRule(_BYPASSED, _bypassed),
)
