"""A trace with its verdict, and its JSON form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.diagnose import json_form as form
from tfldbg.diagnose.evidence import Evidence
from tfldbg.diagnose.gate import Gate, judge
from tfldbg.diagnose.model import Diagnosis, Verdict
from tfldbg.diagnose.rules.differences import BY_SIGNAL

if TYPE_CHECKING:
    from tfldbg.compare.accuracy import Accuracy, SideAccuracy
    from tfldbg.diagnose.evidence import Body, OpEvidence
    from tfldbg.diagnose.limits import Rule
    from tfldbg.diagnose.model import Divergence, Finding

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Result:
    """What a trace found out."""

    evidence: Evidence
    diagnosis: Diagnosis
    gate: Gate | None = None
    """What came of the user's own rules, None where there are none."""

    @property
    def verdict(self) -> Verdict:
        """``"clean"`` or ``"diverged"``."""
        return self.diagnosis.verdict

    @property
    def passed(self) -> bool:
        """Whether a build may go on: what the rules say and, without rules, the verdict."""
        return self.gate.passed if self.gate is not None else self.verdict == "clean"

    @property
    def first_divergence(self) -> Divergence | None:
        """The first operator that differs, None when none does."""
        return self.diagnosis.divergences[0] if self.diagnosis.divergences else None

    @property
    def cause(self) -> Finding | None:
        """What explains the first divergence, None where no rule does."""
        first = self.first_divergence
        found = self.diagnosis.findings[0] if first and self.diagnosis.findings else None
        return found if first and found and found.code != BY_SIGNAL[first.signal].code else None

    @property
    def origins(self) -> tuple[int, ...]:
        """Every operator that differs by itself, in execution order."""
        return tuple(dict.fromkeys(d.op for d in self.diagnosis.divergences))

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as the documented JSON of format ``tfldbg.trace``."""
        found: dict[str, Any] = form.plain(_trace(self))
        return found


def gated(result: Result, rules: Sequence[Rule]) -> Result:
    """Return the result with its gate; without rules it has none and the verdict decides.

    Raises:
        UsageError: A rule matches no operator, or none that has its figure.
    """
    if not rules:
        return result
    return replace(result, gate=judge(result.evidence, result.diagnosis, rules))


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
        steps=evidence.steps,
        bodies=tuple(_body(body, inside) for body, inside in bodies),
        timing=form.TimingJson(**{f.name: run.timing.get(f.name) for f in fields(form.TimingJson)}),
        outputs=evidence.outputs,
        accuracy=_accuracy(evidence.accuracy) if evidence.accuracy else None,
        worst=evidence.worst,
        histogram_edges_lsb=EDGES_LSB if _has_histograms(evidence) else None,
        compounding=evidence.compounding,
    )


def _filled(kind: type[_T], source: Any, **others: Any) -> _T:
    """Return an object whose fields are the attributes of another one with the same names.

    Args:
        kind: A dataclass.
        source: Whose attributes they are.
        **others: The fields that are something else.
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


def _has_histograms(evidence: Evidence) -> bool:
    return any(_histogram(op) for op in evidence.ops)


def _histogram(op: OpEvidence) -> form.HistogramJson | None:
    """Return the counts of an operator's errors, None where nobody asked for them."""
    local, accumulated = (s.histogram if s else () for s in (op.local, op.accumulated))
    return form.HistogramJson(local or None, accumulated or None) if local or accumulated else None


def _body(body: Body, diagnosis: Diagnosis | None) -> form.BodyJson:
    """Return what is known about a subgraph that an operator runs."""
    ops = _ops(body.evidence, diagnosis) if body.evidence and diagnosis else ()
    return _filled(form.BodyJson, body, unchecked_reason=body.reason, ops=ops)


def _accuracy(accuracy: Accuracy) -> form.AccuracyJson:
    return _filled(
        form.AccuracyJson, accuracy, sides=tuple(_side(s, accuracy.samples) for s in accuracy.sides)
    )


def _side(side: SideAccuracy, samples: int) -> form.SideAccuracyJson:
    count = max(samples, 1)
    shares = {"top_1_share": side.top_1 / count, "top_k_share": side.top_k / count}
    return _filled(form.SideAccuracyJson, side, **shares)
