"""Findings about the differences themselves, one code per signal, and limitations of the trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.fitting import clipped_share
from tfldbg.diagnose.model import Divergence, Finding, Signal, Subject
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
from tfldbg.diagnose.rules.specification import REMEDIES
from tfldbg.diagnose.words import number, plural

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.traits import Traits

_LOCAL = Explanation(
    code="TFL001",
    title="The operator's arithmetic differs",
    severity="error",
    meaning="On the inputs that it really had, the operator's output differs from its reference by "
    "more than the rounding of its kernels explains.",
    evidence="The local error against the bound of the operator (docs/verdict.md).",
    suggestion="compare this operator's bias, activation and padding with the layer in Keras",
)
_PARAMETERS = Explanation(
    code="TFL002",
    title="The quantization parameters differ",
    severity="error",
    meaning="The scale or zero point of the output is not the reference's, or contradicts the file "
    "itself: the same code means another value.",
    evidence="Scale (1e-5 relative) and zero point against the fake-quant node, the other file, or "
    "the rules of the specification.",
    suggestion="convert the QAT model itself again; do not edit or recalibrate its scales",
)
_WEIGHTS = Explanation(
    code="TFL003",
    title="Weights or bias differ",
    severity="error",
    meaning="A constant of the operator is further from the reference's than rounding explains.",
    evidence="The dequantized constant against the reference's, batch norm folded in: more than "
    "half a step.",
    suggestion="check that the .tflite was converted from this Keras file, after its last training",
)
_NONFINITE = Explanation(
    code="TFL004",
    title="NaN or infinity",
    severity="error",
    meaning="The operator computes NaN or infinite values from finite inputs.",
    evidence="The values of its output, and of its inputs.",
    suggestion="look at this operator's constants and at divisions by zero",
)
_SHAPE = Explanation(
    code="TFL009",
    title="The output has another shape",
    severity="error",
    meaning="The operator's output has other dimensions than the reference's, or than the file "
    "states, although its inputs have the same.",
    evidence="The shapes at run time.",
    suggestion="compare this operator's padding, strides and axes with the layer in Keras",
)
_INPUT = Explanation(
    code="TFL050",
    title="The model was given other inputs",
    severity="error",
    meaning="The recorded run was given other codes than the data quantizes to; all operators "
    "after the input are judged on what was recorded.",
    evidence="The recorded input against the data of --data.",
    suggestion="quantize the input with its scale and zero point, rounding to nearest",
)
_CLIPPED = Explanation(
    code="TFL005",
    title="Values are clipped",
    severity="info",
    meaning="Values of the reference are outside the range that the output can represent. No "
    "operator is to blame for a range; on other data than the calibration's this is normal.",
    evidence="The share of the reference's values more than a step beyond the range, above 0.1 %.",
    suggestion="calibrate on data like this, or trace on data like the calibration's",
)
_OBSERVER = Explanation(
    code="TFL006",
    title="Observing the model changed it",
    severity="warning",
    meaning="With its intermediate tensors exposed the model computes other final outputs than "
    "untouched, so the trace is of another program than the one that ships. Or the subgraph of a "
    "loop, an IF or a composite, run separately, computes other values than the operator.",
    evidence="The final outputs of both, byte for byte, on the first samples.",
    suggestion="try --runtime builtin; a buffer that is reused too early shows like this",
)
_UNCHECKED = Explanation(
    code="TFL007",
    title="Operators that could not be checked",
    severity="warning",
    meaning="A fault in one of these operators is not seen.",
    evidence="Each has its reason in the list of unchecked operators.",
    suggestion="read the reasons in the list of unchecked operators",
)
_REFERENCE = Explanation(
    code="TFL008",
    title="The reference has NaN or infinite values",
    severity="warning",
    meaning="Such values say nothing about the file and are left out.",
    evidence="The values of the reference.",
    suggestion="look at the Keras layer and at the data",
)

BY_SIGNAL: Mapping[Signal, Explanation] = {
    "local": _LOCAL,
    "parameters": _PARAMETERS,
    "weights": _WEIGHTS,
    "nonfinite": _NONFINITE,
    "shape": _SHAPE,
    "input": _INPUT,
}
_BY_TRAIT: Mapping[str, Mapping[str, str]] = {
    "local": {
        "of_the_file": "trace the file under another --runtime: if the kernels agree, the file is "
        "to blame, if not, the kernel",
        "other_file": "compare this operator's options and constants in both files with tfldbg "
        "inspect",
        "recorded": "trace the file alone: if it is clean, look at the kernel that was recorded",
        "kernels": "trace the file alone under both runtimes: the one that differs from its float "
        "arithmetic is wrong",
    },
    "parameters": {
        "of_the_file": "convert the model again; scales that were edited one by one contradict "
        "each other",
        "other_file": "convert the model again with the calibration of the reference",
        "recorded": "check that both sides ran the same file",
    },
    "weights": {"other_file": "check that both files were converted from the same checkpoint"},
    "shape": {
        "of_the_file": "convert the model again: the file states another shape than the kernels "
        "compute",
        "other_file": "compare this operator's padding, strides and axes in both files",
    },
}
"""Suggestions by signal and trait; the first trait that the reference has counts."""


def of_divergence(divergence: Divergence, op: OpEvidence, traits: Traits) -> Finding:
    """Return a divergence as a finding."""
    about = BY_SIGNAL[divergence.signal]
    shown: dict[str, object] = {}
    remedy = REMEDIES.get(divergence.rule) if divergence.rule is not None else None
    if divergence.signal == "parameters":
        shown = {"scale": op.scale, "zero_point": op.zero_point, "expected": op.expected}
    elif divergence.signal == "weights" and op.weights is not None:
        shown = asdict(op.weights)
    elif op.local is not None:
        shown = {"max_lsb": op.local.max_lsb, "max_abs": op.local.max_abs}
        shown["worst_channel"] = op.local.worst_channel
    return Finding(
        code=about.code,
        severity=about.severity,
        op=divergence.op,
        tensor=divergence.tensor,
        predicate=divergence.message,
        evidence=shown,
        suggestion=remedy or _suggestion(divergence.signal, traits) or about.suggestion,
        subject=Subject(op.op, op.kind, divergence.tensor),
    )


def _suggestion(signal: Signal, traits: Traits) -> str | None:
    """Return the suggestion for a divergence, if it depends on the reference."""
    return next(
        (said for trait, said in _BY_TRAIT.get(signal, {}).items() if getattr(traits, trait)), None
    )


def _observer(judged: Judged) -> Iterator[Sign]:
    if not judged.evidence.run.observer_identical:
        message = (
            "exposing the intermediate tensors changed the model's final outputs, so this "
            "trace is not of the program that ships"
        )
        yield Sign(None, None, message, {"final_outputs_identical": False})
    for body in judged.evidence.bodies:
        if not body.identical:
            predicate = (
                f"its {body.role} (subgraph {body.subgraph}), run separately, computes other "
                "values than the operator"
            )
            evidence: dict[str, object] = {"identical": False, "subgraph": body.subgraph}
            subject = Subject(body.op, body.kind, None)
            yield Sign(body.op, None, predicate, evidence, subject=subject)


def _unchecked(judged: Judged) -> Iterator[Sign]:
    covered = judged.evidence.covered
    known = covered | {d.op for d in judged.divergences}
    blind = sorted({o.op for o in judged.evidence.ops if o.activation and o.op not in known})
    if blind and judged.evidence.run.traits.exists:
        message = (
            f"{plural(len(blind), 'operator')} could not be checked "
            f"({listed(blind)}), and a fault there is not seen"
        )
        yield Sign(None, None, message, {"ops": blind})


def _reference_nonfinite(judged: Judged) -> Iterator[Sign]:
    for op in judged.evidence.ops:
        count = op.local.reference_nonfinite if op.local else 0
        if count:
            message = (
                f"the reference has {plural(count, 'value')} that are NaN or infinite; left out"
            )
            yield at(op, message, reference_nonfinite=count)


def _clipped(judged: Judged) -> Iterator[Sign]:
    shares = [(op, clipped_share(op)) for op in judged.evidence.ops]
    found = [(op, share) for op, share in shares if share > judged.thresholds.saturation]
    if not found:
        return
    worst, most = max(found, key=lambda pair: pair[1])
    for sign in at_first([_clips(op, share) for op, share in found]):
        more = f"; most at operator {worst.op}: {most:.2%}" if len(found) > 1 else ""
        yield replace(sign, predicate=sign.predicate + more)


def _clips(op: OpEvidence, share: float) -> Sign:
    message = (
        f"{share:.2%} of its values are outside the range that scale {number(op.scale)} "
        "can represent and are clipped"
    )
    return at(op, message, saturated=op.local.saturated if op.local else 0, share=share)


FILE_RULES: tuple[FileRule, ...] = ()
TRACE_RULES = (
    TraceRule(_OBSERVER, _observer),
    TraceRule(_UNCHECKED, _unchecked),
    TraceRule(_REFERENCE, _reference_nonfinite),
    TraceRule(_CLIPPED, _clipped),
)
