"""Causes in what an operator computes: functions, options, requantization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.fitting import AMPLIFIED, LARGE_LSB
from tfldbg.diagnose.rules.model import Explanation, FileRule, Judged, Sign, TraceRule, at
from tfldbg.diagnose.words import number
from tfldbg.match.kinds import LOOKALIKE

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Signal

_STEEP_KINDS = frozenset({"DIV", "EXP", "LOG", "POW", "RSQRT", "SQRT"})
_SMALL_LSB = 2.0
"""The error at the inputs that a few roundings explain."""
_FIXED = frozenset({"LOGISTIC", "SOFTMAX", "TANH"})
_SPREAD = frozenset({"SOFTMAX"})
"""Those of them whose outputs add up to one for any data, so that some of them must be large."""
_ROUNDED_ONCE = 0.75
_SLOPE = 0.005
"""The relative difference of a slope from 1 that rounding to 8 bits cannot explain: half a step of
128."""
_REMOVED = 3.0
"""The factor by which a line that explains an error reduces it: nine tenths of its energy.  The
rest is rounding, and the values that were clipped."""
_CORRELATED = 0.99
"""The correlation from which values are on a line: it leaves 2 % of their variance."""
_POINTS = 32
"""The number of values below which no line is fitted: a dozen are near one by chance."""
_RESIZE_OPTIONS = ("alignCorners", "halfPixelCenters")
_VARIED_LSB = 1.0
"""The standard deviation in LSB from which a reference is not constant."""

_STEEP = Explanation(
    code="TFL012",
    title="A small error is amplified",
    severity="warning",
    meaning="Near its steep part a function such as rsqrt, exp or a division turns an error of one "
    "step at its input into many at its output. The operator itself computes correctly.",
    evidence="A local error within the bound and no clipping, an accumulated error of at most 2 "
    "LSB at the inputs, and one of at least 8 LSB and at least four times as much at the output.",
    suggestion="keep this part in float or 16 bits, or keep its input away from the steep part "
    "(a larger epsilon)",
    sources=("google-ai-edge/LiteRT#7441",),
)
_VANISH = Explanation(
    code="TFL028",
    title="Small values vanish in a fixed output range",
    severity="warning",
    meaning="SOFTMAX and LOGISTIC have a fixed output scale of 1/256, TANH of 1/128. Scores below "
    "half a step become zero, all of them if there are many classes; the cosine stays high.",
    evidence="Every output is within a step of zero, while the input uses more codes. LOGISTIC "
    "and TANH: only on your data, since the scores of random data may well be zero.",
    suggestion="compare the logits, and take the scores of the operator before this one",
    sources=("TFLite 8-bit quantization specification", "ultralytics/ultralytics#25524"),
)
_MEAN = Explanation(
    code="TFL030",
    title="MEAN rounds its input's zero point",
    severity="info",
    meaning="The builtin and reference kernels of a MEAN over height and width that keeps these "
    "axes round the input's zero point to whole steps of the output before they subtract it: a "
    "constant shift of up to half a step, the same for every channel.",
    evidence="A local error above 0.75 LSB at a MEAN, within what its zero points explain.",
    suggestion="give input and output of the MEAN one scale, or use the XNNPACK kernels",
    sources=("tensorflow/tensorflow#33588", "tensorflow/model-optimization#805"),
)
_HARD_SWISH = Explanation(
    code="TFL031",
    title="Hard-swish loses precision",
    severity="error",
    meaning="Integer kernels of HARD_SWISH multiply twice in 16 bits. With an unlucky ratio of "
    "scales single values are far off.",
    evidence="A HARD_SWISH whose local error exceeds its bound, and not under all kernels alike.",
    suggestion="replace it by RELU6 in this place, widen its input range, or compare --runtime "
    "xnnpack and reference",
    sources=("tensorflow/tensorflow#40781", "tensorflow/tensorflow#35847"),
)
_WRONG_LINE = Explanation(
    code="TFL038",
    title="The values are right up to a factor or an offset",
    severity="error",
    meaning="The output is the reference times a factor plus an offset: it was computed or "
    "dequantized with a wrong scale (factor), zero point or bias (offset).",
    evidence="A line fitted to all values: its slope is off by more than 0.5 %, or its offset by "
    "more than a step; the correlation is at least 0.99, and the line explains nine tenths of "
    "the error's energy.",
    suggestion="compare scale and zero point of this tensor, and of the constants, with the "
    "reference: tfldbg params",
    sources=("tensorflow/tensorflow#93917",),
)
_RESIZE = Explanation(
    code="TFL040",
    title="Resizing samples at other places",
    severity="error",
    meaning="half_pixel_centers and align_corners decide which input pixels an output pixel is "
    "made of. With the wrong options the image is shifted by a fraction of a pixel.",
    evidence="The operator's float copy is run with the other values of both options, on the "
    "inputs that it had: with the options that are named it agrees with the reference.",
    suggestion="convert again with the options of the Keras layer (half_pixel_centers=True)",
    sources=("tensorflow/tensorflow#33691",),
)
_OPTION = Explanation(
    code="TFL049",
    title="Another option, order or kind explains the difference",
    severity="error",
    meaning="The operator's own float arithmetic with one thing changed (its kind, activation or "
    "padding, the order of its inputs or outputs) is what the reference computes, or the reference "
    "has an operator of another, similar kind in its place: the file has the wrong one.",
    evidence="The float copy of the operator, and of those that are checked together with it, is "
    "run with one change at a time, on the inputs that they had; or the kind of its counterpart.",
    suggestion="convert again; if the option is right in Keras, report the converter",
    sources=("tfldbg, docs/verdict.md",),
)


_CONSTANT = Explanation(
    code="TFL051",
    title="The output is constant",
    severity="error",
    meaning="The operator computes one value everywhere, although its reference does not: a kernel "
    "that does not know the operator's types or scales leaves its output as it was, or all "
    "values are beyond one end of the range.",
    evidence="One code over all samples, and a reference whose values vary by more than a step.",
    suggestion="check that the runtime supports the operator with these types (per-channel, "
    "16-bit, blockwise), and look at the output's range",
    sources=("tfldbg, docs/selftrace.md",),
)


_OVERFLOWED = (
    "compare the constant with the layer's: one that is far larger than the values, such as 1e12, "
    "overflows when it is converted, and must be clamped in Keras. Otherwise MAXIMUM and MINIMUM "
    "were exchanged"
)


def _constant(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("local"):
        usage = op.usage
        if usage is not None and usage.span == 1 and _reference_varies(op.local):
            message = f"all {usage.total} values of its output have the code {usage.lowest}"
            limit = _limit(op, usage.lowest)
            told = "" if limit is None else f", as its constant has, {number(limit)}"
            sign = at(op, message + told, code=usage.lowest, total=usage.total)
            yield sign if limit is None else replace(sign, suggestion=_OVERFLOWED)


def _limit(op: OpEvidence, code: int) -> float | None:
    """Return the constant of a MAXIMUM or MINIMUM that its whole output is equal to, real units."""
    affine = op.affine
    if op.kind not in ("MAXIMUM", "MINIMUM") or affine is None or not affine.scale:
        return None
    codes = {round(mark / affine.scale) + affine.zero_point: mark for mark in op.marks}
    return codes.get(code)


def _reference_varies(local: TensorStats | None) -> bool:
    """Return whether the reference of a constant output is not constant.

    The error then has the reference's own variance: mean square minus square of the mean.
    """
    if local is None or local.rmse_lsb is None or local.bias_lsb is None:
        return False
    return local.rmse_lsb**2 - local.bias_lsb**2 > _VARIED_LSB**2


def _steep(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        drift = _lsb(op.accumulated)
        before = [_lsb(o.accumulated) for o in judged.producers(op)]
        known = [b for b in before if b is not None]
        unclipped = op.local is not None and not op.local.saturated
        if op.kind not in _STEEP_KINDS or drift is None or not known or not unclipped:
            continue
        reached = max(known)
        if judged.is_origin_or_downstream(op):
            continue  # the error that reaches it is not that of roundings
        if reached <= _SMALL_LSB and drift >= max(LARGE_LSB, AMPLIFIED * reached):
            message = (
                f"an accumulated error of {number(reached)} LSB at its inputs becomes "
                f"{number(drift)} LSB at its output; its own is {number(_lsb(op.local))} LSB"
            )
            yield at(op, message, inputs_lsb=reached, output_lsb=drift)


def _lsb(stats: TensorStats | None) -> float | None:
    return stats.max_lsb if stats else None


def _vanish(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        usage, zero = op.usage, op.zero_point
        if op.kind not in _FIXED or usage is None or zero is None:
            continue
        telling = judged.evidence.run.has_real_data or op.kind in _SPREAD
        if not telling or usage.lowest < zero - 1 or usage.highest > zero + 1:
            continue
        before = [o.usage.span for o in judged.producers(op) if o.usage]
        if before and max(before) > usage.span and not judged.is_origin_or_downstream(op):
            message = (
                f"all {usage.total} values of its output are within one step of zero "
                f"({number(op.scale)}), while its input uses {max(before)} codes"
            )
            low, high = usage.lowest, usage.highest
            yield at(op, message, lowest=low, highest=high, input_codes=max(before))


def _mean(judged: Judged) -> Iterator[Sign]:
    if judged.evidence.run.traits.kernels:
        return  # both sides are kernels, and may round the same way
    for op in judged.evidence.ops:
        own, explained = _lsb(op.local), max(op.bound.extra_lsb)
        if op.kind != "MEAN" or own is None or judged.signals(op.op):
            continue
        if own > _ROUNDED_ONCE and explained >= own - _ROUNDED_ONCE:
            message = f"{number(own)} LSB, of which its zero points explain {number(explained)}"
            yield at(op, message, max_lsb=own, explained_lsb=explained)


def _hard_swish(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("local"):
        if op.kind != "HARD_SWISH" or op.local is None or judged.same_under_all_kernels(op):
            continue
        share = op.local.differing / max(op.local.elements, 1)
        message = f"{number(_lsb(op.local))} LSB; {share:.1%} of its values are off"
        yield at(op, message, share=share)


def _wrong_line(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("local", "parameters", "weights"):
        line = op.local.line if op.local else None
        if line is None or op.local is None or op.scale is None or op.local.elements < _POINTS:
            continue
        if op.local.rmse < _REMOVED * line.rmse or abs(line.correlation) < _CORRELATED:
            continue
        if abs(line.gain - 1) > _SLOPE or abs(line.offset) > op.scale:
            sign = "minus" if line.offset < 0 else "plus"
            message = (
                f"its values are the reference's times {number(line.gain)} {sign} "
                f"{number(abs(line.offset))}, to within {number(line.rmse / op.scale)} LSB (RMSE)"
            )
            yield at(op, message, gain=line.gain, offset=line.offset)


def _resize(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("local"):
        right = _explaining(judged, op) if op.kind.startswith("RESIZE_") else []
        if right:
            own = {name: bool(op.options.get(name)) for name in _RESIZE_OPTIONS}
            said = " and ".join(f"{name} {value}" for name, value in own.items())
            message = f"it resizes with {said}; with {' or '.join(right)} it agrees"
            yield at(op, message, options=own, right=right)


def _option(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("local", "shape"):
        if op.match_rule == LOOKALIKE:
            other = op.operation or "another operator"
            yield at(op, f"the reference has {other} in its place", operation=op.operation)
    for op in {o.op: o for o in judged.diverged("local", "shape")}.values():
        right = _explaining(judged, op)
        if right and not op.kind.startswith("RESIZE_"):
            said = " or ".join(right)
            message = f"with {said} its float arithmetic agrees with the reference"
            yield at(op, message, options=right)


def _explaining(judged: Judged, op: OpEvidence) -> list[str]:
    """Return the options with which an operator agrees, none if it agrees under other kernels.

    An operator that is right under other kernels is right in the file.  An option that then gives
    the same result, as another kind of padding may, says nothing.
    """
    if judged.right_elsewhere(op):
        return []
    tried = (t for t in judged.evidence.trials if t.op == op.op and t.changed)
    return list(dict.fromkeys(t.value for t in tried if t.agrees))


_LOCAL: frozenset[Signal] = frozenset({"local"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (
    TraceRule(_CONSTANT, _constant, _LOCAL),
    TraceRule(_RESIZE, _resize, _LOCAL),
    TraceRule(_OPTION, _option, frozenset({"local", "shape"})),
    TraceRule(_HARD_SWISH, _hard_swish, _LOCAL),
    TraceRule(_WRONG_LINE, _wrong_line, frozenset({"local", "parameters", "weights"})),
    TraceRule(_STEEP, _steep),
    TraceRule(_VANISH, _vanish),
    TraceRule(_MEAN, _mean),
)
