"""Causes in the kernels that computed the values, and in the recording of the values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules.model import Explanation, FileRule, Judged, Sign, TraceRule, at
from tfldbg.diagnose.words import number, plural

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Signal

_ONE_CODE = 1.0 + 1e-3
"""The difference of two codes that are one apart, with float32 rounding."""
_SHARE = 0.05
"""The share of values that may differ by one code if only rounding differs.

Two roundings of one exact value differ if it is near a tie: within the 2**-15 to 2**-7 of a step
that fixed-point multipliers lose, a few per cent at most."""

_ROUNDING = Explanation(
    code="TFL011",
    title="Kernels that round differently",
    severity="info",
    meaning="Two kernels compute the same value and round it differently: to even or away from "
    "zero, once in float or twice in fixed point. They then differ by one code on a few values. "
    "This is not a fault, but a test for equality fails.",
    evidence="A difference of one code on fewer than 5 % of the values, with equal inputs.",
    suggestion="compare with a tolerance of one LSB, or run both sides with the same kernels",
    sources=("google-ai-edge/LiteRT#7441", "tensorflow/tflite-micro#3252"),
)
_CLOBBERED = Explanation(
    code="TFL039",
    title="A recorded tensor was overwritten",
    severity="error",
    meaning="Later operators reuse the memory of intermediate tensors. A tensor that is neither "
    "preserved nor an output, and that is read after the run, holds what another operator wrote "
    "there; a faulty memory plan does the same while the model runs.",
    evidence="A recorded tensor that holds the bytes of a tensor that is written later and that no "
    "operator copies there, and an operator that disagrees with its own replay.",
    suggestion="record the outputs of a file from tfldbg expose, not intermediates with get_tensor",
    sources=("tensorflow/model-optimization#911", "google-ai-edge/LiteRT#8928"),
)
_HALF = Explanation(
    code="TFL042",
    title="Recorded with half precision",
    severity="error",
    meaning="A delegate computes a float model in 16 bits (fp16). Everything is off by about "
    "0.05 %, and more after long sums; the same file is right without the delegate.",
    evidence="Every recorded float value is a float16 number, and float operators differ.",
    suggestion="forbid the delegate to reduce precision (allow_fp16 = 0, precision loss not "
    "allowed), or compare with --float-tolerance 0.01",
    sources=("tensorflow/tflite-support#534",),
)
_DISAGREE = Explanation(
    code="TFL046",
    title="Kernels disagree",
    severity="error",
    meaning="The same operator on the same inputs gives another result under other kernels, by "
    "more than rounding: one of the kernels is wrong, or does not support the operator's types.",
    evidence="The operator is run alone, on the inputs that it had, under the other kernels; "
    "or the trace itself compares two runtimes.",
    suggestion="use the runtime that agrees with float arithmetic, and report the other's kernel",
    sources=("tfldbg, docs/selftrace.md",),
)
_ALIKE = Explanation(
    code="TFL048",
    title="All kernels give the same result",
    severity="info",
    meaning="The operator differs from its reference in the same way under all kernels, so the "
    "cause is in the file (its constants, options, parameters) or in the reference, not in one "
    "kernel.",
    evidence="The operator is run alone, on the inputs that it had, under the other kernels.",
    suggestion="compare the operator's constants and options with the layer",
)


def _rounding(judged: Judged) -> Iterator[Sign]:
    if not judged.evidence.run.traits.kernels:
        return
    found = [o for o in judged.evidence.ops if _rounds_differently(o) and not judged.signals(o.op)]
    if found:
        worst = max(found, key=_share)
        message = (
            f"{plural(len(found), 'operator')} with a difference of one code on a few values, at "
            f"most {_share(worst):.2%} of those of operator {worst.op} {worst.kind}: the kernels "
            "round differently"
        )
        shares = {str(o.op): _share(o) for o in found}
        yield Sign(worst.op, worst.name, message, {"shares": shares})


def _share(op: OpEvidence) -> float:
    return op.local.differing / max(op.local.elements, 1) if op.local else 0.0


def _rounds_differently(op: OpEvidence) -> bool:
    local = op.local
    if local is None or local.max_lsb is None or not local.differing:
        return False
    return local.max_lsb <= _ONE_CODE and _share(op) < _SHARE


def _clobbered(judged: Judged) -> Iterator[Sign]:
    recording = judged.evidence.recording
    copies = dict(recording.copies) if recording else {}
    by_tensor = {o.tensor: o for o in judged.evidence.ops}
    for op in judged.diverged("local"):
        other = by_tensor.get(copies.get(op.tensor, -1))
        if other is not None:
            message = (
                f"its recorded values hold those of operator {other.op} {other.kind}, which runs "
                "later and is not copied here: the memory was reused"
            )
            yield at(op, message, other=other.op)


def _half_precision(judged: Judged) -> Iterator[Sign]:
    recording = judged.evidence.recording
    if recording is None or not recording.half_precision:
        return
    local = [o for o in judged.diverged("local") if o.local is not None and o.scale is None]
    if local:
        worst = max(o.local.relative_rmse if o.local else 0.0 for o in local)
        message = (
            f"every recorded value is a float16 number; {plural(len(local), 'operator')} "
            f"{'is' if len(local) == 1 else 'are'} off by up to {worst:.2%} of the signal"
        )
        yield Sign(None, None, message, {"ops": [o.op for o in local], "worst": worst})


def _disagree(judged: Judged) -> Iterator[Sign]:
    traits = judged.evidence.run.traits
    if traits.kernels and not traits.recorded:
        for op in judged.diverged("local", "nonfinite"):
            other = judged.evidence.run.reference_path
            yield at(op, f"{_said(op)} from {other}, on the same inputs", max_lsb=_lsb(op))
        return
    for op in judged.diverged("local", "nonfinite"):
        right = judged.right_elsewhere(op)
        if right:
            names = " and ".join(right)
            message = (
                f"under {names} the same operator agrees with the reference on the same inputs; "
                f"{judged.evidence.run.computed_by(op.op)} does not"
            )
            yield at(op, message, agree=list(right))


def _alike(judged: Judged) -> Iterator[Sign]:
    if judged.evidence.run.traits.of_the_file:
        return  # the file's own constants are on both sides
    for op in judged.diverged("local"):
        if judged.same_under_all_kernels(op):
            trials = (t for t in judged.evidence.trials if t.op == op.op and t.kind == "runtime")
            names = list(dict.fromkeys(t.value for t in trials))  # each output was tried
            yields = f"give the same result as {judged.evidence.run.computed_by(op.op)}"
            yield at(op, f"{' and '.join(names)} {yields}", runtimes=names)


def _said(op: OpEvidence) -> str:
    if op.local is None:
        return "it differs"
    if op.local.max_lsb is not None:
        return f"it differs by {number(op.local.max_lsb)} LSB"
    return f"it differs by {number(op.local.max_abs)}"


def _lsb(op: OpEvidence) -> float | None:
    return op.local.max_lsb if op.local else None


_LOCAL: frozenset[Signal] = frozenset({"local", "nonfinite"})

FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (
    TraceRule(_HALF, _half_precision, _LOCAL),
    TraceRule(_CLOBBERED, _clobbered, _LOCAL),
    TraceRule(_DISAGREE, _disagree, _LOCAL),
    TraceRule(_ROUNDING, _rounding),
    TraceRule(_ALIKE, _alike),
)
