"""Causes in the ranges of activations: how they were trained or calibrated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.diagnose.fitting import data_suits, exceeded, hoisted, imposed
from tfldbg.diagnose.rules.model import (
    Explanation,
    FileRule,
    Judged,
    Sign,
    TraceRule,
    at,
    at_first,
    listed,
    subject_of,
)
from tfldbg.diagnose.scales import same, trained_tie
from tfldbg.diagnose.words import number, short
from tfldbg.graph.query import SAME_SCALE_KINDS

if TYPE_CHECKING:
    from tfldbg.compare.ranges.fit import Misfit
    from tfldbg.diagnose.evidence import InputEvidence, OpEvidence
    from tfldbg.diagnose.model import Signal

_CLIPPED = 0.01
"""The share of a fake-quantized activation beyond its range from which the range has not converged:
a moving average with decay 0.999 over batches leaves out far less, the extremes of single batches.
"""
_START = 6.0
"""The start of tfmot's observers: -6 to 6 (``MovingAverageQuantizer``, default_8bit_quantizers)."""
_BELOW = 0.05
"""The share of the range below zero, after an operator that is never negative, that remains from
the start: it falls to 5 % after 2,900 steps with decay 0.999 for a range of 0 to 6."""
_USED = 8
"""A tensor that uses less than one in this many of its codes has lost three of eight bits."""
_EIGHT_BITS = 256
"""The number of codes of eight bits; of sixteen bits, three may remain unused."""
_NARROW = 16
"""A concatenated branch with at most this many codes has four bits, or less, of eight."""
_MANY = 3
_NEVER_NEGATIVE = frozenset({"RELU", "RELU6"})

_OTHER_OBSERVER = Explanation(
    code="TFL013",
    title="The file's ranges are not those that the QAT model learned",
    severity="error",
    meaning="Most scales are not the QAT model's: the file was quantized after training, with "
    "ranges from calibration data, and not converted from the QAT model. The difference grows with "
    "depth; no single operator is wrong.",
    evidence="Scales and zero points against the fake-quant nodes of the model: more than half of "
    "them differ, and not more than half of the weights.",
    suggestion="convert the QAT model itself, without a representative data set",
    sources=("abagrahari/tf-qat-vs-tflite",),
)
_ZERO_POINT_TIE = Explanation(
    code="TFL014",
    title="Zero point at a tie",
    severity="warning",
    meaning="The trained range is so symmetric that its zero point is halfway between two codes. "
    "Training computes it in float32 (127.49999), the converter in double precision (127.5): one "
    "rounds it down, the other up. Both ranges have the same steps, but one reaches a step further "
    "at the lower end, the other at the upper end; and all values of 8-bit images prepared as "
    "x / 127.5 - 1 are halfway between codes, so that the two round them to different sides. These "
    "values differ by one step. This is not a fault of the file, and converting it again changes "
    "nothing.",
    evidence="The same scale, zero points one apart, and between them a trained zero at a whole "
    "number of steps and a half, up to four float32 roundings (255 x 2**-22 of a step). The "
    "verdict does not count it; --fail-on TFL014 does.",
    suggestion="widen the trained range by a fraction of a step (-1 to 1.0001), or prepare the "
    "data as x / 128 - 1 instead of x / 127.5 - 1, and train again",
    sources=("tensorflow/model-optimization#858", "tensorflow/tensorflow#117962"),
)
_NO_ZERO = Explanation(
    code="TFL015",
    title="The trained range does not include zero",
    severity="warning",
    meaning="Zero must be a code, since padding and biases need it. A range that leaves it out is "
    "shifted by fake-quant and widened by the converter, so that the two sides use different "
    "ranges, and few of the codes.",
    evidence="The trained minimum is above zero, or the maximum below.",
    suggestion="widen the range to include zero: min(range, 0) and max(range, 0)",
    sources=("tensorflow/tensorflow#16995", "tensorflow/tensorflow#23351"),
)
_UNCONVERGED = Explanation(
    code="TFL017",
    title="Ranges that have not converged",
    severity="warning",
    meaning="QAT learns ranges as moving averages that start at -6 to 6. After too few steps they "
    "still depend on the start: they are too wide for small values, and clip large ones.",
    evidence="The trained range is the start itself; or more than 5 % of it is below zero after a "
    "RELU; or more than 1 % of at least 256 values of your data are beyond it.",
    suggestion="train longer, with a faster decay, or set the ranges from data: tfldbg convert "
    "QAT.h5 --calibrate all-values --data DATA",
    sources=("tensorflow/model-optimization#368",),
)
_EXCEEDED = Explanation(
    code="TFL065",
    title="A range that a fifth of the values exceed",
    severity="warning",
    meaning="The range of an output is far too narrow for the values of your data, although the "
    "data suits the model's inputs: it was calibrated on other data, edited, or computed wrongly "
    "by the converter. Values beyond it are cut off, which costs far more than rounding.",
    evidence="More than 20 % of at least 256 values of the reference are more than a step beyond "
    "the range. Not on random data, nor on data that does not suit the input, nor after an "
    "operator that is itself wrong, nor if a reader imposes the range, as MAXIMUM does. The "
    "verdict does not count it, since the range may suit other data; --fail-on TFL065 does.",
    suggestion="calibrate on data like this and convert again; if it was, look at the values of "
    "this tensor with tfldbg params --data, and report the converter",
    sources=("tensorflow/tensorflow#127842",),
)
_UNUSED = Explanation(
    code="TFL018",
    title="Most of a range is never used",
    severity="warning",
    meaning="The values of an activation use only a small part of its codes: it was calibrated on "
    "other data than this, or on outliers. The rounding error is as large as for a model of fewer "
    "bits.",
    evidence="The lowest and highest code that occur on your data span less than an eighth of the "
    "codes. Not if another operator imposes the range, nor with fewer values than half of the "
    "codes.",
    suggestion="calibrate on representative data, scaled as at inference; leave outliers out",
    sources=("ultralytics/ultralytics#1695",),
)
_NEIGHBOUR = Explanation(
    code="TFL053",
    title="A range taken over from the next operator",
    severity="warning",
    meaning="The range of an output is that of the operator that reads it, and many times wider "
    "than its own values need. Calibration reads tensors after the run; where an operator wrote "
    "its result in place, into the buffer of its input, the input gets the range of the result.",
    evidence="On your data the float values reach less than an eighth of the range, and use at "
    "most 32 codes; the range is, to an eighth, that of a reader that multiplies or divides and "
    "whose values fill it; a sum would round to the same steps itself. A range that is f times too "
    "wide costs log2(f) bits: its steps are f times as wide and the noise of rounding is step^2 / "
    "12, so 20 log10(f) dB are lost. Against a float model or file the verdict counts it. Not on "
    "random data, nor on data that does not suit the input.",
    suggestion="calibrate again with a converter that records each tensor separately, or move the "
    "factor from after the operator to before it, so that there is no buffer to share",
    sources=("tensorflow/tensorflow#127842",),
)
_SENTINEL = Explanation(
    code="TFL054",
    title="A sentinel takes the range",
    severity="warning",
    meaning="A constant that is a marker, such as a mask of -1e9 or a padding of -1e3, shares one "
    "range with values that are far smaller. They are left with a few codes, or one.",
    evidence="As for TFL053, but the range is filled by a constant of one or two values, or by a "
    "mask that is made from one, after the operator or added to its values. The lost bits, and "
    "whether the verdict counts it, follow as there.",
    suggestion="clamp the sentinel to what the values need (a mask of -30 instead of -1e9: "
    "exp(-30) is zero in any of these types), or pad with the lowest value, and calibrate again",
    sources=("tensorflow/tensorflow#117052", "google-ai-edge/ai-edge-quantizer#479"),
)
_HOISTED = Explanation(
    code="TFL055",
    title="Clipped before an average",
    severity="error",
    meaning="The reference quantizes the output of a resize or an average pool. These have one "
    "scale for input and output, so the converter quantizes their input with the same range; "
    "values beyond it are then clipped before they are averaged, which gives another result.",
    evidence="A tensor that has its reader's parameters, with more than 0.1 % of its values beyond "
    "its range, and after the operator that averages an accumulated error of at least 8 LSB and "
    "four times that before.",
    suggestion="quantize the operator's input in QAT too, or clip there (a RELU6, say), so that "
    "its range holds the values",
    sources=("tensorflow/model-optimization#1000",),
)
MISPLACED = frozenset(about.code for about in (_NEIGHBOUR, _SENTINEL, _HOISTED))
"""Findings about ranges that are wrong although the reference has no other."""
_MIXED = Explanation(
    code="TFL026",
    title="A concatenation of a wide and a narrow range",
    severity="warning",
    meaning="A concatenation has one scale for all its inputs. A branch with small values next to "
    "one with large values is left with a few codes.",
    evidence="The codes that occur on your data: at most 16 in one input of the CONCATENATION, "
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
    differ = [o for o in compared if o.parameters == "differ" and trained_tie(o) is None]
    if not judged.evidence.run.traits.full_precision or len(differ) < _MANY:
        return
    if 2 * len(differ) <= len(compared):
        return
    if 2 * len(judged.other_weights) > len(judged.checked_weights):
        return  # other weights give other ranges, and calibration does not change weights
    ratios = [o.scale / o.expected[0] for o in differ if o.scale and o.expected]
    middle = float(np.median(np.abs(np.log2(ratios)))) if ratios else 0.0
    message = (
        f"{len(differ)} of {len(compared)} activations have other parameters than the QAT model "
        f"learned; the median difference of the scales is {2**middle - 1:.1%}: the file was "
        "quantized after training"
    )
    yield Sign(None, None, message, {"ops": [o.op for o in differ], "compared": len(compared)})


def _zero_point_tie(judged: Judged) -> Iterator[Sign]:
    by_op = {o.op: o for o in reversed(judged.evidence.ops)}
    for given in judged.evidence.inputs:
        reader = by_op.get(-1 if given.first_reader is None else given.first_reader)
        exact = trained_tie(given)
        if reader is not None and exact is not None:
            what = f"input '{short(given.name)}': {_at_tie(judged, given, exact)}"
            shown, subject = _shown(given, exact), subject_of(reader)
            yield Sign(reader.op, given.name, what, shown, subject=subject)
    for op in judged.evidence.ops:
        exact = trained_tie(op)
        if exact is not None:
            what, shown = _at_tie(judged, op, exact), _shown(op, exact)
            yield Sign(op.op, op.name, what, shown, subject=subject_of(op))


def _at_tie(judged: Judged, tied: InputEvidence | OpEvidence, exact: float) -> str:
    """Return the different rounding and its cost in words: here, and at the last operator."""
    (low, high), expected = tied.trained or (0.0, 0.0), tied.expected or (0.0, 0)
    # After an operator that is wrong, the error at the end is caused by that one.
    sound = () if judged.divergences else judged.evidence.ops
    left = next((o for o in reversed(sound) if o.accumulated is not None), None)
    cost = f"values at its ends and halfway between codes differ by one step, {number(tied.scale)}"
    if left is not None and left.accumulated is not None and left.accumulated.sqnr_db is not None:
        lsb, db = left.accumulated.max_lsb, left.accumulated.sqnr_db
        most = f"{number(left.accumulated.max_abs)}" if lsb is None else f"{number(lsb)} LSB"
        cost += f"; the accumulated error at operator {left.op} is {most} ({db:.0f} dB)"
    return (
        f"the trained range {number(low)} to {number(high)} puts zero at {exact:.3f} steps, a tie: "
        f"the file rounds it to zero point {tied.zero_point}, the QAT model to {expected[1]}; "
        f"{cost}"
    )


def _shown(tied: InputEvidence | OpEvidence, exact: float) -> dict[str, object]:
    return {"trained": list(tied.trained or ()), "exact": exact, "step": tied.scale}


def _without_zero(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        if op.trained is not None and (op.trained[0] > 0 or op.trained[1] < 0):
            low, high = op.trained
            message = f"its trained range {number(low)} to {number(high)} leaves zero out"
            yield at(op, message, trained=[low, high])


def _unconverged(judged: Judged) -> Iterator[Sign]:
    for rule in (_at_start, _below_zero, _beyond):
        found = [(op, rule(judged, op)) for op in judged.evidence.ops if _is_trained(op)]
        yield from at_first([at(op, said, trained=op.trained) for op, said in found if said])


def _is_trained(op: OpEvidence) -> bool:
    return op.trained is not None and op.match_rule != "carried"


def _at_start(judged: Judged, op: OpEvidence) -> str | None:
    del judged
    low, high = op.trained or (0.0, 0.0)
    if same(-low, _START) and same(high, _START):
        return "its range is still -6 to 6, where training starts"
    return None


def _below_zero(judged: Judged, op: OpEvidence) -> str | None:
    low, high = op.trained or (0.0, 0.0)
    never_negative = {op.kind, op.options.get("fusedActivationFunction")} & _NEVER_NEGATIVE
    share = -low / (high - low) if high > low else 0.0
    begun = _at_start(judged, op) is None
    if begun and never_negative and op.parameters == "equal" and share > _BELOW:
        return (
            f"its range {number(low)} to {number(high)} reaches below zero, but no value does: "
            "it has not converged from the -6 to 6 that it started from"
        )
    return None


def _beyond(judged: Judged, op: OpEvidence) -> str | None:
    low, high = op.trained or (0.0, 0.0)
    clipped = op.local.saturated / op.local.elements if op.local and op.local.elements else 0.0
    sound = op.parameters == "equal" and not judged.is_origin_or_downstream(op)
    if clipped > _CLIPPED and sound and judged.settles(op):
        return f"{clipped:.1%} of its values are beyond the range {number(low)} to {number(high)}"
    return None


def _misfit(judged: Judged, sentinel: bool) -> Iterator[Sign]:
    by_tensor = {o.tensor: o for o in judged.evidence.ops}
    for index, misfit in judged.misfits.items():
        op = by_tensor.get(index)
        if op is not None and (misfit.sentinel is not None) is sentinel:
            figures = _figures(misfit)
            yield Sign(op.op, op.name, misfit.message, figures, subject=subject_of(op))


def _clipped_first(judged: Judged) -> Iterator[Sign]:
    found = hoisted(judged.evidence, judged.thresholds.saturation)
    for op in judged.evidence.ops:
        early = found.get(op.tensor)
        if early is not None:
            yield at(op, early.message, share=early.share, averaging=early.averaging.op)


def _figures(misfit: Misfit) -> dict[str, object]:
    return {
        "factor": misfit.factor,
        "bits_lost": misfit.bits,
        "db_lost": misfit.decibels,
        "reach": misfit.reach,
        "range": misfit.range,
        "by": misfit.by,
        "sentinel": misfit.sentinel,
    }


def _unused(judged: Judged) -> Iterator[Sign]:
    if not data_suits(judged.evidence):
        return  # the data is to blame, not the calibration
    others = imposed(judged.evidence.ops)
    found = []
    for op in judged.evidence.ops:
        usage = op.usage
        if usage is None or usage.codes > _EIGHT_BITS or 2 * usage.total < usage.codes:
            continue
        if not op.activation or op.kind in SAME_SCALE_KINDS | _FIXED or op.tensor in others:
            continue  # others decide on the range
        if judged.is_origin_or_downstream(op) or op.tensor in judged.misfits:
            continue  # the output of a wrong operator says nothing about ranges
        if _USED * usage.span < usage.codes and usage.span > 1:
            low, high = usage.lowest, usage.highest
            times = usage.codes / usage.span
            message = (
                f"its values use only the codes {low} to {high}, {usage.span} of {usage.codes}: "
                f"the range is {number(times)} times as wide as they need, which costs "
                f"{math.log2(times):.1f} bits ({20 * math.log10(times):.0f} dB)"
            )
            found.append(at(op, message, lowest=low, highest=high, codes=usage.codes))
    yield from at_first(found)


def _exceeded(judged: Judged) -> Iterator[Sign]:
    found = exceeded(judged.evidence)
    for op in judged.evidence.ops:
        affine = op.affine
        if op.tensor in found and affine is not None and not judged.is_origin_or_downstream(op):
            ends = affine.real_range(op.type)
            message = (
                f"{found[op.tensor]:.2%} of its values are beyond its range, which reaches from "
                f"{' to '.join(number(end) for end in ends)}, and are cut off"
            )
            yield at(op, message, share=found[op.tensor])


_FIXED = frozenset({"SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION", "LOG_SOFTMAX"})
"""Operators whose range the specification fixes."""


def _mixed_ranges(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        if op.kind != "CONCATENATION" or op.usage is None or 2 * op.usage.span < op.usage.codes:
            continue
        branches = [o for o in judged.producers(op) if judged.settles(o)]
        narrow = [o for o in branches if o.usage and 1 < o.usage.span <= _NARROW]
        if narrow and not judged.is_origin_or_downstream(op):
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
        left_out = [o for o in judged.producers(op) if o.parameters == "bypassed"]
        clean = not judged.is_origin_or_downstream(op)
        if left_out and clean and all(_is_small(o) for o in left_out):
            message = (
                f"the fake-quants after operators {listed([o.op for o in left_out])} were left out "
                f"in favour of its own; the accumulated error is {number(drift)} LSB from here on"
            )
            yield at(op, message, ops=[o.op for o in left_out], accumulated_lsb=drift)


def _is_small(op: OpEvidence) -> bool:
    """Return whether the raw value before the dropped fake-quant is the file's, to a step."""
    return op.local is None or op.local.max_lsb is None or op.local.max_lsb <= 1.0


_PARAMETERS: frozenset[Signal] = frozenset({"parameters"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (
    TraceRule(_OTHER_OBSERVER, _other_observer, _PARAMETERS),
    TraceRule(_ZERO_POINT_TIE, _zero_point_tie),
    TraceRule(_NO_ZERO, _without_zero, _PARAMETERS),
    TraceRule(_UNCONVERGED, _unconverged),
    TraceRule(_NEIGHBOUR, lambda judged: _misfit(judged, sentinel=False), _PARAMETERS),
    TraceRule(_SENTINEL, lambda judged: _misfit(judged, sentinel=True), _PARAMETERS),
    TraceRule(_HOISTED, _clipped_first, _PARAMETERS),
    TraceRule(_EXCEEDED, _exceeded),
    TraceRule(_UNUSED, _unused),
    TraceRule(_MIXED, _mixed_ranges),
    TraceRule(_BYPASSED, _bypassed),
)
