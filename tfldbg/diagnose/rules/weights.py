"""Causes in the differences between the file's constants and the reference's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules.model import (
    Explanation,
    FileRule,
    Judged,
    Sign,
    TraceRule,
    at,
    at_first,
    listed,
)
from tfldbg.diagnose.words import number

if TYPE_CHECKING:
    from tfldbg.compare.constants.checks import WeightCheck
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Signal

_MANY = 2

_STALE = Explanation(
    code="TFL043",
    title="The file holds other weights",
    severity="error",
    meaning="Most constants of the file are not the reference's, by far more than rounding: the "
    "file was converted from another checkpoint, before the last training, or from another model "
    "of the same architecture.",
    evidence="The dequantized constants against the Keras variables, batch norm folded in: more "
    "than half of the operators differ.",
    suggestion="convert the Keras file again, or find the one that this file was made from",
    sources=("tfldbg, docs/verdict.md",),
)
_MISFOLDED = Explanation(
    code="TFL044",
    title="Batch norm folded wrongly",
    severity="error",
    meaning="A batch norm folds into weights x s and bias beta - mean x s + bias x s, with s = "
    "gamma / sqrt(variance + epsilon). One of these terms is missing or counted twice in the file.",
    evidence="The difference between the file's constants and the folded ones is, on every "
    "channel, one of the terms.",
    suggestion="convert the inference graph (training=False) with a current converter; do not fold "
    "by hand",
    sources=("tensorflow/model-optimization#552",),
)

_ARRANGED = Explanation(
    code="TFL052",
    title="The reference's constants, changed in one way",
    severity="error",
    meaning="The constant is the reference's except for one change that explains every value: "
    "channels negated, zeroed, scaled, shifted or in another order, its inputs in another order "
    "(a Flatten that takes channels first; RGB and BGR), mirrored, height and width exchanged, the "
    "bytes of its transpose under the unchanged shape, large values cut off, a missing bias.",
    evidence="Each of these changes is tried; rounding explains half a step.",
    suggestion="look for the step of the conversion, or the edit, that does this to the constant",
)


_CUT = Explanation(
    code="TFL062",
    title="Large weights are cut off for smaller steps",
    severity="info",
    meaning="The quantizer chose a scale that does not hold the largest weights (OCTAV, MSE): they "
    "are cut off, and all others are rounded more finely. As a whole the constant is closer to the "
    "reference than with a scale that holds every weight, so this is not a fault; its cost shows "
    "in the accumulated error.",
    evidence="The squares of the differences of the whole constant, against those of rounding with "
    "largest weight / largest code as scale: the file's are no more.",
    suggestion="quantize this operator with the scale of its largest weight (min/max), or keep it "
    "in more bits, if its error is too large",
)
_COMPENSATED = Explanation(
    code="TFL063",
    title="Weights rounded to the code next to the nearest",
    severity="error",
    meaning="Every weight is the reference's, rounded to the nearest code or to the one next to "
    "it. Quantizers that compensate the error of one weight in the next (GPTQ) do that, and the "
    "operator's results are then closer to the reference's than its weights are. A reference that "
    "was trained a little more after the conversion looks the same.",
    evidence="No weight is off by more than one and a half steps, of at least 32 weights.",
    suggestion="if the file was made by such a quantizer, trace it without a reference, and "
    "compare it with this reference by its outputs; if not, convert the reference again",
)


def _cut(judged: Judged) -> Iterator[Sign]:
    signs = []
    for op in judged.evidence.ops:
        check = op.weights
        if check is not None and check.cut and not check.differ:
            message = f"{check.cut} of its {check.total} weights are beyond the range of its scale"
            signs.append(at(op, message, cut=check.cut, total=check.total))
    yield from at_first(signs)


def _compensated(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("weights"):
        check = op.weights
        if check is not None and _rounded_otherwise(check):
            message = (
                f"{check.wrong} of its {check.total} weights have the code next to the nearest "
                f"(off by up to {number(check.max_steps)} steps), the others the nearest"
            )
            yield at(op, message, wrong=check.wrong, total=check.total)


def _understood(op: OpEvidence) -> bool:
    check = op.weights
    return check is not None and (check.arrangement is not None or _rounded_otherwise(check))


def _rounded_otherwise(check: WeightCheck) -> bool:
    bias = check.bias is not None and check.bias.differ
    return check.differ and check.neighbours and check.arrangement is None and not bias


def _arranged(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("weights"):
        check = op.weights
        if check is None or _slip(op) is not None:
            continue
        if check.arrangement is not None:
            yield at(op, f"its weights: {check.arrangement}", weights=check.arrangement)
        elif check.bias is not None and check.bias.arrangement is not None:
            yield at(op, f"its bias: {check.bias.arrangement}", bias=check.bias.arrangement)


def _stale(judged: Judged) -> Iterator[Sign]:
    checked, differ = judged.checked_weights, judged.other_weights
    if all(_slip(o) is not None or _understood(o) for o in differ):
        return  # all of them are the reference's own weights with a known change
    if len(differ) < _MANY or 2 * len(differ) <= len(checked):
        return
    message = (
        f"{len(differ)} of {len(checked)} operators hold other weights than the reference "
        f"({listed([o.op for o in differ])}): the file was made from another checkpoint"
    )
    yield Sign(None, None, message, {"ops": [o.op for o in differ], "checked": len(checked)})


def _misfolded(judged: Judged) -> Iterator[Sign]:
    for op in judged.diverged("weights"):
        said = _slip(op)
        if said is not None:
            yield at(op, f"{said} when the batch norm was folded", slip=said)


def _slip(op: OpEvidence) -> str | None:
    check = op.weights
    if check is None:
        return None
    return check.misfolded or (check.bias.misfolded if check.bias else None)


_WEIGHTS: frozenset[Signal] = frozenset({"weights"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (
    TraceRule(_MISFOLDED, _misfolded, _WEIGHTS),
    TraceRule(_STALE, _stale, _WEIGHTS | {"parameters"}),
    TraceRule(_ARRANGED, _arranged, _WEIGHTS),
    TraceRule(_COMPENSATED, _compensated, _WEIGHTS),
    TraceRule(_CUT, _cut),
)
