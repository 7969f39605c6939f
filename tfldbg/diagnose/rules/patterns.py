"""Causes that the pattern of an operator's error shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules.model import Explanation, FileRule, Judged, Sign, TraceRule, at

if TYPE_CHECKING:
    from tfldbg.compare.patterns import Pattern
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Signal

_EDGE = Explanation(
    code="TFL059",
    title="Wrong only at the edge",
    severity="error",
    meaning="Only the first or last rows or columns of the operator's output differ. A kernel that "
    "reads beyond the end of its input there, pads with another value than the input's zero point, "
    "or pads on the other side, is right everywhere else.",
    evidence="All values that differ are in these rows and columns, at least half of whose "
    "positions differ, and at least 32 values elsewhere agree. The rows and columns in which the "
    "filter's window reaches beyond the input follow from its size, stride and padding.",
    suggestion="look at how the kernel pads: with SAME, the odd row and column of padding is the "
    "last one, and its value is the input's zero point",
    sources=("espressif/esp-nn#31",),
)
_SCALE = Explanation(
    code="TFL060",
    title="Each channel is off by its own factor",
    severity="error",
    meaning="The weights have a scale for each channel, and the kernel uses another one: that of "
    "the first channel for all of them, as if the weights had one scale.",
    evidence="The operator is computed in float with the scale of one channel for all, on the "
    "inputs that it had: that explains nine tenths of the error's energy or more. Or one factor "
    "per channel, fitted to the values, does.",
    suggestion="use a kernel that supports weights with a scale for each channel, or quantize the "
    "weights per tensor",
    sources=("tensorflow/tflite-micro#2602",),
)
_ZERO_POINT = Explanation(
    code="TFL061",
    title="Each channel is off by its own constant",
    severity="error",
    meaning="A kernel that leaves out the zero point of its input adds to each channel the zero "
    "point times the sum of the channel's weights; a wrong bias adds a constant as well.",
    evidence="The operator is computed in float from the codes of its input without the zero "
    "point: that explains nine tenths of the error's energy or more. Or one constant per channel, "
    "fitted to the values, does.",
    suggestion="use a kernel that subtracts the input's zero point, or check whether the bias "
    "should have absorbed it",
    sources=("google-ai-edge/LiteRT#8979",),
)
_KINDS: Mapping[str, tuple[str, ...]] = {
    _EDGE.code: ("edge",),
    _SCALE.code: ("scale", "factors"),
    _ZERO_POINT.code: ("zero_point", "offsets"),
}


def _shown(about: Explanation) -> Callable[[Judged], Iterable[Sign]]:
    """Return the function that finds the patterns of one code."""

    def find(judged: Judged) -> Iterator[Sign]:
        by_tensor = {o.tensor: o for o in judged.diverged("local")}
        for pattern in judged.evidence.patterns:
            op = by_tensor.get(pattern.tensor)
            known = op is not None and not _explained_otherwise(judged, op)
            if op is not None and known and pattern.kind in _KINDS[about.code]:
                message = f"{_who(judged, pattern)}{pattern.said}. That explains {_share(pattern)}"
                yield at(op, f"{message} of the error", explained=pattern.explained)

    return find


def _explained_otherwise(judged: Judged, op: OpEvidence) -> bool:
    """Return whether reused memory or another option is the cause of an operator's error."""
    recording = judged.evidence.recording
    overwritten = recording is not None and op.tensor in dict(recording.copies)
    return overwritten or any(
        t.op == op.op and t.changed and t.agrees for t in judged.evidence.trials
    )


def _who(judged: Judged, pattern: Pattern) -> str:
    """Return the beginning of a message: the side whose values show a computed pattern."""
    run = judged.evidence.run
    if pattern.side is None:
        return ""
    if pattern.side == "traced":
        return f"{run.computed_by(pattern.op)} computes what results if "
    holder = "the recording" if run.traits.recorded else run.reference_path
    return f"{holder} holds what results if "


def _share(pattern: Pattern) -> str:
    """Return a share in words, without rounding it up to 100 %."""
    return f"{min(pattern.explained, 0.9999):.2%}"


_LOCAL: frozenset[Signal] = frozenset({"local"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = tuple(
    TraceRule(about, _shown(about), _LOCAL) for about in (_EDGE, _SCALE, _ZERO_POINT)
)
