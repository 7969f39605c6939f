"""Causes in the inputs of the model and in the order of its outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfldbg.compare.sides import REFERENCE
from tfldbg.diagnose.fitting import is_clipped, is_narrow, quantized_instead
from tfldbg.diagnose.rules.model import Explanation, FileRule, Judged, Sign, TraceRule
from tfldbg.diagnose.words import number, short

if TYPE_CHECKING:
    from tfldbg.compare.accuracy import Accuracy
    from tfldbg.diagnose.evidence import InputEvidence
    from tfldbg.diagnose.model import Signal

_SIGMAS = 3.0
"""The standard deviations above chance up to which guessing explains an accuracy."""

_MISCAST = Explanation(
    code="TFL035",
    title="The input was cast instead of quantized",
    severity="error",
    meaning="Codes are round(value / scale) + zero point. A plain cast cuts off (125.99 becomes "
    "125), and leaving out the scale or the zero point gives codes that mean other values. All "
    "layers are then right, and the result is wrong from the input on.",
    evidence="The recorded codes of an input equal those of a cast of the data, not those of its "
    "quantization.",
    suggestion="quantize the input with the scale and zero point of the input tensor, rounding to "
    "nearest",
    sources=("tensorflow/tensorflow#35072", "tensorflow/tensorflow#62640"),
)
_NORMALIZED = Explanation(
    code="TFL036",
    title="The data is on another scale than the input",
    severity="warning",
    meaning="The values that the model is given do not fit the range that its input was calibrated "
    "for: many are clipped, or they use a few codes. Usually a normalization (0..255, 0..1, -1..1, "
    "mean and deviation) is missing or done twice.",
    evidence="In your data, given in real units, more than 20 % of the values that are not zero "
    "are beyond the input's range, or fewer than one in 32 codes are used.",
    suggestion="prepare the data as in training; if it is, the file was calibrated on data of "
    "another scale: convert it again",
    sources=("tensorflow/tensorflow#24966",),
)
_CAST = Explanation(
    code="TFL057",
    title="Real values given as codes",
    severity="warning",
    meaning="Integer data is taken as the input's codes. Real values that were cast to the input's "
    "type instead of quantized are a few codes next to zero, from which the model learns little. "
    "Neither the file nor its calibration is to blame.",
    evidence="Your data, given as integers and read as real numbers, is within the input's range, "
    "and quantized it would be at least eight times as many codes.",
    suggestion="quantize the data with the input's scale and zero point, rounding to nearest, or "
    "give the real values as floats: tfldbg quantizes them",
    sources=("tensorflow/tensorflow#53278",),
)
_CHANCE = Explanation(
    code="TFL056",
    title="The reference itself is no better than guessing",
    severity="warning",
    meaning="On this data the reference chooses the right class as often as guessing does, so its "
    "agreement with the file says little about the quality of either. Usually the data is prepared "
    "differently than in training (0..1 instead of -1..1), or the labels are counted from another "
    "number.",
    evidence="The accuracy of the reference and of the file, with --labels: at most three standard "
    "deviations, sqrt(p (1 - p) / n) each, above p = 1 / classes; not if there are so few samples "
    "that this reaches half way to perfect.",
    suggestion="prepare the data as in training, and compare the order of the classes",
    sources=("tfldbg, docs/verdict.md",),
)
_PERMUTED = Explanation(
    code="TFL037",
    title="The outputs are in another order",
    severity="info",
    meaning="The converter orders outputs by name, not as the Keras model does. A script that "
    "takes them by number gets them exchanged.",
    evidence="The output of the Keras model that computes each output of the file.",
    suggestion="take the outputs by their names in the signature, not by number",
    sources=("tensorflow/tensorflow#33303", "tensorflow/tensorflow#53071"),
)


def _miscast(judged: Judged) -> Iterator[Sign]:
    for given in judged.evidence.inputs:
        if given.miscast is not None:
            message = f"the input '{short(given.name)}' of the recording is {given.miscast}"
            yield Sign(given.first_reader, given.name, message, {"input": given.name})


def _normalized(judged: Judged) -> Iterator[Sign]:
    if not judged.evidence.run.has_real_data:
        return
    for given in judged.evidence.inputs:
        usage, clipped = given.usage, is_clipped(given)
        if not (clipped or is_narrow(given)) or usage is None:
            continue
        message = f"{_held(given)}: the data uses {usage.span} of its {usage.codes} codes"
        if clipped:  # the clipped values are no longer known
            message = (
                f"input '{short(given.name)}' of range {_range_of(given)}: {given.beyond:.0%} of "
                "the values given to it, zeros left out, are beyond it"
            )
        yield Sign(
            given.first_reader,
            given.name,
            message,
            {"beyond": given.beyond, "lowest": usage.lowest, "highest": usage.highest},
        )


def _cast(judged: Judged) -> Iterator[Sign]:
    if not judged.evidence.run.has_real_data:
        return
    inputs = judged.evidence.inputs
    for given in inputs:
        right, usage = quantized_instead(given, alone=len(inputs) == 1), given.usage
        if right is not None and usage is not None:
            span = f"{usage.lowest} to {usage.highest}"
            held = f"the codes {span} only, {usage.span} of {usage.codes}"
            if usage.span == 1:
                span, held = "between it and the next", f"the code {usage.lowest} only"
            message = (
                f"input '{short(given.name)}' of scale {number(given.scale)}: the data holds "
                f"{held}; real values {span}, quantized, are the codes {right[0]} to {right[1]}: "
                "real values were cast to codes"
            )
            evidence: dict[str, object] = {"lowest": usage.lowest, "highest": usage.highest}
            evidence["quantized"] = list(right)
            yield Sign(given.first_reader, given.name, message, evidence)


def _near_chance(judged: Judged) -> Iterator[Sign]:
    accuracy: Accuracy | None = judged.evidence.measures.get("accuracy")
    if accuracy is None or accuracy.classes < 2:
        return
    chance, samples = 1.0 / accuracy.classes, max(accuracy.samples, 1)
    spread = _SIGMAS * math.sqrt(chance * (1.0 - chance) / samples)
    right = {s.side: s.top_1 / samples for s in accuracy.sides}
    telling = 2 * spread <= 1.0 - chance  # guessing does not reach half way to perfect
    if REFERENCE not in right or not telling or max(right.values()) > chance + spread:
        return
    said = "; ".join(_held(i) for i in judged.evidence.inputs if i.usage and i.scale)
    message = (
        f"the reference itself is right on {right[REFERENCE]:.0%} of {samples} samples, and "
        f"guessing one of {accuracy.classes} classes is on {chance:.0%}: the data or the labels do "
        f"not suit the model{f'; {said}' if said else ''}"
    )
    first = judged.evidence.inputs[0] if judged.evidence.inputs else None
    yield Sign(
        first.first_reader if first else None,
        first.name if first else None,
        message,
        {"top_1": right[REFERENCE], "chance": chance, "samples": samples},
    )


def _held(given: InputEvidence) -> str:
    """Return the given values of an input and their share of its range in words."""
    usage, affine = given.usage, given.affine
    if usage is None or affine is None:
        return ""
    codes = (usage.lowest, usage.highest)
    held = [number((code - affine.zero_point) * affine.scale) for code in codes]
    return (
        f"input '{short(given.name)}' is given {held[0]} to {held[1]}, "
        f"{usage.span / usage.codes:.0%} of its range {_range_of(given)}"
    )


def _range_of(given: InputEvidence) -> str:
    """Return the range of an input in words, or its scale in an old recording."""
    if given.type is None or given.affine is None:
        return f"of scale {number(given.scale)}"
    return " to ".join(map(number, given.affine.real_range(given.type)))


def _permuted(judged: Judged) -> Iterator[Sign]:
    moved = [p for p in judged.evidence.ports if p.position != p.reference_position]
    if moved:
        pairs = ", ".join(
            f"output {p.position} of the file is output {p.reference_position} '{p.reference}' of "
            "the model"
            for p in moved
        )
        positions = {str(p.position): p.reference_position for p in moved}
        yield Sign(None, None, pairs, {"positions": positions})


_INPUT: frozenset[Signal] = frozenset({"input"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (
    TraceRule(_MISCAST, _miscast, _INPUT),
    TraceRule(_NORMALIZED, _normalized),
    TraceRule(_CAST, _cast),
    TraceRule(_CHANCE, _near_chance),
    TraceRule(_PERMUTED, _permuted),
)
