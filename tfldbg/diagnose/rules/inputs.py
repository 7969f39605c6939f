"""Causes at the ends of the model: what it is given, and which output is which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules.model import Explanation, FileRule, Judged, Sign, TraceRule
from tfldbg.diagnose.words import number, short

if TYPE_CHECKING:
    from tfldbg.compare.usage import Usage
    from tfldbg.diagnose.model import Signal

_CLIPPED = 0.2
"""Share of the given values, zeros left out, outside the input's range from which the data is on
another scale.

Outliers are a few per cent; data in 0..255 for an input of 0..1 is outside for all but black."""
_FEW = 32
"""Real data that uses less than one part in so many of the input's codes is on another scale: 0..1
for an input of 0..255 uses one code in 128, and no exposure loses five bits of eight."""

_MISCAST = Explanation(
    code="TFL035",
    title="The input was cast instead of quantized",
    severity="error",
    meaning="Codes are round(value / scale) + zero point. A plain cast cuts off (125.99 becomes "
    "125), and forgetting the scale or the zero point gives codes that mean other values. All "
    "layers are then right, and the result is wrong from the first.",
    evidence="The recorded codes of an input equal what a cast makes of the data, and not what "
    "quantization makes of it.",
    suggestion="quantize the input with the scale and zero point of the input tensor, rounding to "
    "nearest",
    sources=("tensorflow/tensorflow#35072", "tensorflow/tensorflow#62640"),
)
_NORMALIZED = Explanation(
    code="TFL036",
    title="The data is on another scale than the input",
    severity="warning",
    meaning="The values that the model is given do not fit the range that its input was calibrated "
    "for: most are clipped, or they use a few codes. Usually a normalization (0..255, 0..1, -1..1, "
    "mean and deviation) is missing or done twice.",
    evidence="Of your data, given in real units: more than 20 % of what is not zero lie beyond the "
    "input's range, or fewer than one in 32 codes are used.",
    suggestion="prepare the data as in training, and look at the input's range in tfldbg inspect",
    sources=("tensorflow/tensorflow#24966",),
)
_PERMUTED = Explanation(
    code="TFL037",
    title="The outputs are in another order",
    severity="info",
    meaning="The converter orders outputs by name, not as the Keras model does. A script that "
    "takes them by number gets them exchanged.",
    evidence="Which output of the Keras model computes each output of the file.",
    suggestion="take the outputs by their names in the signature, not by number",
    sources=("tensorflow/tensorflow#33303", "tensorflow/tensorflow#53071"),
)


def _miscast(judged: Judged) -> Iterator[Sign]:
    for given in judged.evidence.inputs:
        if given.miscast is not None:
            message = f"the input '{short(given.name)}' of the recording is {given.miscast}"
            yield Sign(given.first_reader, given.name, message, {"input": given.name})


def _normalized(judged: Judged) -> Iterator[Sign]:
    if not judged.real_data:
        return
    for given in judged.evidence.inputs:
        usage = given.usage
        clipped = given.beyond is not None and given.beyond > _CLIPPED
        few = usage is not None and given.beyond is not None and _is_narrow(usage)
        if not (clipped or few) or usage is None:
            continue
        said = f"{given.beyond:.0%} of the values given to it, zeros left out, are beyond its range"
        if not clipped:
            said = f"the data uses {usage.span} of its {usage.codes} codes"
        message = f"input '{short(given.name)}' of scale {number(given.scale)}: {said}"
        yield Sign(
            given.first_reader,
            given.name,
            message,
            {"beyond": given.beyond, "lowest": usage.lowest, "highest": usage.highest},
        )


def _is_narrow(usage: Usage) -> bool:
    """Whether few codes are used; one alone is a constant input, such as a state that is zero."""
    return usage.span > 1 and _FEW * usage.span < usage.codes


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
    TraceRule(_PERMUTED, _permuted),
)
