"""A result in the documented JSON of format ``tfldbg.trace``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from tfldbg.measures import MEASUREMENTS
from tfldbg.report import json_form as form

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Body, Evidence, OpEvidence
    from tfldbg.diagnose.gate import Gate
    from tfldbg.diagnose.model import Diagnosis, Divergence, Finding
    from tfldbg.diagnose.result import Result

_T = TypeVar("_T")


def trace_to_dict(result: Result) -> dict[str, Any]:
    """Return a result as the documented JSON of format ``tfldbg.trace``."""
    found: dict[str, Any] = form.plain(_trace(result))
    for measurement in MEASUREMENTS:
        found |= form.plain(measurement.json(result))
    return found


def _trace(result: Result) -> form.TraceJson:
    evidence, diagnosis, first = result.evidence, result.diagnosis, result.first_divergence
    run, cause = evidence.run, result.cause
    bodies = zip(evidence.bodies, diagnosis.inside, strict=True)
    return _filled(
        form.TraceJson,
        run,
        format="tfldbg.trace",
        format_version=1,
        model=form.ModelJson(run.model_path, run.model_sha256),
        reference=form.ReferenceJson(run.reference_kind, run.reference_path, run.reference_sha256),
        verdict=diagnosis.verdict,
        sentence=diagnosis.sentence,
        first_divergence=_divergence(first, cause) if first else None,
        origins=result.origins,
        gate=_gate(result.gate) if result.gate else None,
        ops=_ops(evidence, diagnosis),
        findings=tuple(_filled(form.FindingJson, finding) for finding in diagnosis.findings),
        coverage=_coverage(evidence),
        observer=form.ObserverJson(run.observer_identical, run.observer_samples, run.repair),
        bodies=tuple(_body(body, inside) for body, inside in bodies),
        timing=form.TimingJson(**{f.name: run.timing.get(f.name) for f in fields(form.TimingJson)}),
        outputs=evidence.outputs,
    )


def _filled(kind: type[_T], source: Any, **others: Any) -> _T:
    """Return an object whose fields are the attributes of the same names of another object.

    Args:
        kind: A dataclass.
        source: The object with the attributes.
        **others: The values of the remaining fields.
    """
    names = [f.name for f in fields(kind) if f.name not in others]  # type: ignore[arg-type]
    return kind(**{name: getattr(source, name) for name in names}, **others)


def _divergence(found: Divergence, cause: Finding | None) -> form.DivergenceJson:
    return _filled(form.DivergenceJson, found, cause=cause.code if cause else None)


def _gate(gate: Gate) -> form.GateJson:
    broken = tuple(_filled(form.BrokenJson, one) for one in gate.broken)
    return form.GateJson(gate.passed, gate.rules, broken)


def _coverage(evidence: Evidence) -> form.CoverageJson:
    activations = [o for o in evidence.ops if o.activation]
    matched = sum(o.reference is not None for o in activations)
    return form.CoverageJson(len(activations), matched, len(activations) - matched)


def _ops(evidence: Evidence, diagnosis: Diagnosis) -> tuple[form.OpJson, ...]:
    pairs = zip(evidence.ops, diagnosis.statuses, strict=True)
    return tuple(
        _filled(
            form.OpJson,
            op,
            tensor=op.name,
            tensor_index=op.tensor,
            unchecked_reason=op.local_reason,
            status=status,
            expected_parameters=op.expected,
            histogram=_histogram(op),
        )
        for op, status in pairs
    )


def _histogram(op: OpEvidence) -> form.HistogramJson | None:
    """Return the histograms of an operator's errors, None if they were not requested."""
    local, accumulated = (s.histogram if s else () for s in (op.local, op.accumulated))
    return form.HistogramJson(local or None, accumulated or None) if local or accumulated else None


def _body(body: Body, diagnosis: Diagnosis | None) -> form.BodyJson:
    """Return the JSON of a subgraph that an operator runs."""
    ops = _ops(body.evidence, diagnosis) if body.evidence and diagnosis else ()
    return _filled(form.BodyJson, body, unchecked_reason=body.reason, ops=ops)
