"""Findings: one for each divergence, and what else a user should know about the trace."""

from __future__ import annotations

from dataclasses import asdict

from tfldbg.compare.emulate import EMULATIONS
from tfldbg.diagnose.evidence import Evidence, OpEvidence
from tfldbg.diagnose.model import Divergence, Finding, Thresholds
from tfldbg.diagnose.words import number, op_name

_CODES = {
    "local": "TFL001",
    "parameters": "TFL002",
    "weights": "TFL003",
    "nonfinite": "TFL004",
    "shape": "TFL009",
}
_UNCLAMPED = frozenset({"none", "differ", "computed"})
"""Parameters of an output that no fake-quant of the reference clamps to the same range."""
_SUGGESTIONS = {
    "local": "compare this operator's bias, activation and padding with the layer in Keras",
    "parameters": "convert the QAT model itself again; do not edit or recalibrate its scales",
    "weights": "check that the .tflite was converted from this Keras file, after its last training",
    "shape": "compare this operator's padding, strides and axes with the layer in Keras",
    "nonfinite": "look at this operator's constants and at divisions by zero",
}
_OTHER_SUGGESTIONS = {
    "local": {
        "self": "trace the file under another --runtime: kernels that agree point to the file, "
        "kernels that do not to the kernel",
        "tflite": "compare this operator's options and constants in both files with tfldbg inspect",
        "runtime": "trace the file alone under both runtimes: the one that differs from its float "
        "arithmetic is wrong",
        "capture": "trace the file alone: if it is clean, look at the kernel that was recorded",
    },
    "parameters": {
        "self": "convert the model again; scales that were edited one by one contradict each other",
        "tflite": "convert the model again with the calibration of the reference",
        "capture": "check that both sides ran the same file",
    },
    "weights": {"tflite": "check that both files were converted from the same checkpoint"},
    "shape": {
        "self": "convert the model again: the file states another shape than the kernels compute",
        "tflite": "compare this operator's padding, strides and axes in both files",
    },
}


def findings(
    evidence: Evidence, divergences: tuple[Divergence, ...], thresholds: Thresholds
) -> tuple[Finding, ...]:
    """List the findings, those that explain the verdict first."""
    by_op = {o.op: o for o in evidence.ops}
    kind = evidence.run.reference_kind
    kind = "self" if kind in EMULATIONS else kind
    found = [_of_divergence(d, by_op[d.op], kind) for d in divergences]
    if not evidence.run.observer_identical:
        found.append(_observer())
    covered = evidence.covered
    blind = [o for o in evidence.ops if o.activation and o.op not in covered]
    if blind and evidence.run.reference_kind != "none":
        found.append(_unchecked(blind))
    found += [
        _reference_nonfinite(op)
        for op in evidence.ops
        if op.local is not None and op.local.reference_nonfinite
    ]
    found += [_saturated(op) for op in evidence.ops if _saturated_share(op) > thresholds.saturation]
    return tuple(found)


def _of_divergence(divergence: Divergence, op: OpEvidence, reference_kind: str) -> Finding:
    shown: dict[str, object] = {}
    if divergence.signal == "parameters":
        shown = {"scale": op.scale, "zero_point": op.zero_point, "expected": op.expected}
    elif divergence.signal == "weights" and op.weights is not None:
        shown = asdict(op.weights)
    elif op.local is not None:
        shown = {"max_lsb": op.local.max_lsb, "max_abs": op.local.max_abs}
        shown["worst_channel"] = op.local.worst_channel
    return Finding(
        code=_CODES[divergence.signal],
        severity="error",
        op=divergence.op,
        tensor=divergence.tensor,
        message=f"{op_name(op.op, op.kind, divergence.tensor)}: {divergence.message}",
        evidence=shown,
        suggestion=_OTHER_SUGGESTIONS.get(divergence.signal, {}).get(
            reference_kind, _SUGGESTIONS[divergence.signal]
        ),
    )


def _observer() -> Finding:
    return Finding(
        code="TFL006",
        severity="warning",
        op=None,
        tensor=None,
        message="exposing the intermediate tensors changed the model's final outputs, so this "
        "trace is not of the program that ships",
        evidence={"final_outputs_identical": False},
        suggestion="try --runtime builtin; a buffer that is reused too early shows like this",
    )


def _unchecked(blind: list[OpEvidence]) -> Finding:
    return Finding(
        code="TFL007",
        severity="warning",
        op=None,
        tensor=None,
        message=f"{len(blind)} operators could not be checked, and a fault in one of them is not "
        "seen",
        evidence={"ops": sorted({o.op for o in blind})},
        suggestion="read the reasons in the list of unchecked operators",
    )


def _reference_nonfinite(op: OpEvidence) -> Finding:
    count = op.local.reference_nonfinite if op.local else 0
    return Finding(
        code="TFL008",
        severity="warning",
        op=op.op,
        tensor=op.name,
        message=f"{op_name(op.op, op.kind, op.name)}: the reference has {count} values that are "
        "NaN or infinite, which were left out",
        evidence={"reference_nonfinite": count},
        suggestion="look at the Keras layer and at the data",
    )


def _saturated_share(op: OpEvidence) -> float:
    """Share of the reference's values beyond the output's range that no fake-quant clamps."""
    if op.local is None or op.parameters not in _UNCLAMPED or not op.local.elements:
        return 0.0
    return op.local.saturated / op.local.elements


def _saturated(op: OpEvidence) -> Finding:
    share = _saturated_share(op)
    return Finding(
        code="TFL005",
        severity="info",
        op=op.op,
        tensor=op.name,
        message=f"{op_name(op.op, op.kind, op.name)}: {share:.2%} of its values lie outside the "
        f"range that scale {number(op.scale)} can represent and are clipped",
        evidence={"saturated": op.local.saturated if op.local else 0, "share": share},
        suggestion="calibrate on data like this, or trace on data like the calibration's",
    )
