"""A trace with its verdict, and its JSON form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.diagnose.gate import Gate, judge
from tfldbg.diagnose.rules.differences import BY_SIGNAL

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.accuracy import Accuracy
    from tfldbg.compare.compounding.shares import Compounding
    from tfldbg.diagnose.evidence import Body, Delegated, Evidence, OpEvidence
    from tfldbg.diagnose.limits import Rule
    from tfldbg.diagnose.model import Diagnosis, Divergence, Finding, Status

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What a trace found out."""

    evidence: Evidence
    diagnosis: Diagnosis
    gate: Gate | None = None
    """What came of the user's own rules, None where there are none."""

    @property
    def verdict(self) -> str:
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
        run, first = self.evidence.run, self.first_divergence
        ops = zip(self.evidence.ops, self.diagnosis.statuses, strict=True)
        activations = [o for o in self.evidence.ops if o.activation]
        matched = sum(o.reference is not None for o in activations)
        return {
            "format": "tfldbg.trace",
            "format_version": FORMAT_VERSION,
            "model": {"path": run.model_path, "sha256": run.model_sha256},
            "reference": {
                "kind": run.reference_kind,
                "path": run.reference_path,
                "sha256": run.reference_sha256,
            },
            "runtime": run.runtime,
            "delegate": _delegate(run.delegate),
            "signature": run.signature,
            "samples": run.samples,
            "stream_steps": run.stream_steps,
            "data": run.data,
            "seed": run.seed,
            "verdict": self.verdict,
            "sentence": self.diagnosis.sentence,
            "first_divergence": _divergence(first, self.cause) if first else None,
            "origins": list(self.origins),
            "gate": _gate(self.gate),
            "ops": [_op(evidence, status) for evidence, status in ops],
            "findings": [f.to_dict() for f in self.diagnosis.findings],
            "coverage": {
                "ops": len(activations),
                "matched": matched,
                "unmatched": len(activations) - matched,
            },
            "observer": {
                "final_outputs_identical": run.observer_identical,
                "samples": run.observer_samples,
                "repair": run.repair,
            },
            "steps": _steps(self.evidence),
            "bodies": [
                _body(body, diagnosis)
                for body, diagnosis in zip(self.evidence.bodies, self.diagnosis.inside, strict=True)
            ],
            "notes": list(run.notes),
            "timing": dict(run.timing),
            "versions": dict(run.versions),
            "outputs": _listed([asdict(o) for o in self.evidence.outputs]),
            "accuracy": _accuracy(self.evidence.accuracy),
            "worst": _listed([asdict(w) for w in self.evidence.worst]),
            "histogram_edges_lsb": list(EDGES_LSB) if _histograms(self.evidence) else None,
            "compounding": _compounding(self.evidence.compounding),
        }


def _delegate(delegate: Delegated | None) -> dict[str, Any] | None:
    if delegate is None:
        return None
    return {**asdict(delegate), "operators": list(delegate.operators)}


def gated(result: Result, rules: Sequence[Rule]) -> Result:
    """Return the result with its gate; without rules it has none and the verdict decides.

    Raises:
        UsageError: A rule matches no operator, or none that has its figure.
    """
    if not rules:
        return result
    return replace(result, gate=judge(result.evidence, result.diagnosis, rules))


def _accuracy(accuracy: Accuracy | None) -> dict[str, Any] | None:
    if accuracy is None:
        return None
    plain = asdict(accuracy)
    for side in plain["sides"]:
        side["top_1_share"] = side["top_1"] / max(accuracy.samples, 1)
        side["top_k_share"] = side["top_k"] / max(accuracy.samples, 1)
    found: dict[str, Any] = _listed(plain)
    return found


def _listed(value: Any) -> Any:
    """Return lists in place of tuples, as they come back from JSON."""
    if isinstance(value, dict):
        return {k: _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, (list, tuple)) else value


def _histograms(evidence: Evidence) -> bool:
    return any(s.histogram for o in evidence.ops for s in (o.local, o.accumulated) if s)


def _histogram(op: OpEvidence) -> dict[str, list[int] | None] | None:
    """Return the counts of an operator's errors, None where nobody asked for them."""
    found = {"local": op.local, "accumulated": op.accumulated}
    counts = {k: list(s.histogram) if s and s.histogram else None for k, s in found.items()}
    return counts if any(counts.values()) else None


def _divergence(found: Divergence, cause: Finding | None) -> dict[str, Any]:
    return {**found.to_dict(), "cause": cause.code if cause else None}


def _gate(gate: Gate | None) -> dict[str, Any] | None:
    if gate is None:
        return None
    return {
        "passed": gate.passed,
        "rules": list(gate.rules),
        "broken": [broken.to_dict() for broken in gate.broken],
    }


def _op(op: OpEvidence, status: Status) -> dict[str, Any]:
    return {
        "op": op.op,
        "kind": op.kind,
        "tensor": op.name,
        "tensor_index": op.tensor,
        "scale": op.scale,
        "zero_point": op.zero_point,
        "reference": op.reference,
        "match_rule": op.match_rule,
        "unmatched_reason": op.unmatched_reason,
        "unchecked_reason": op.local_reason,
        "status": status,
        "parameters": op.parameters,
        "expected_parameters": list(op.expected) if op.expected else None,
        "weights": asdict(op.weights) if op.weights else None,
        "local": _stats(op.local),
        "accumulated": _stats(op.accumulated),
        "split": asdict(op.split) if op.split else None,
        "histogram": _histogram(op),
    }


def _compounding(found: Compounding | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "samples": found.samples,
        "final": [_named(asdict(final)) for final in found.finals],
        "ops": [_named(asdict(share)) for share in found.shares],
        "interaction": found.interaction,
        "replay_error": found.replay_error,
        "notes": list(found.notes),
    }


def _named(plain: dict[str, Any]) -> dict[str, Any]:
    """Call a tensor's name and index as everywhere else in the JSON."""
    renamed = {**plain, "tensor": plain["name"], "tensor_index": plain["tensor"]}
    del renamed["name"]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in renamed.items()}


def _steps(evidence: Evidence) -> list[dict[str, Any]] | None:
    if evidence.steps is None:
        return None
    return [{**asdict(step), "ops": list(step.ops)} for step in evidence.steps]


def _body(body: Body, diagnosis: Diagnosis | None) -> dict[str, Any]:
    """Return what is known about a subgraph that an operator runs."""
    names = ("op", "kind", "role", "subgraph", "samples", "steps", "identical")
    plain = {name: getattr(body, name) for name in names}
    rows: list[dict[str, Any]] = []
    if body.evidence is not None and diagnosis is not None:
        pairs = zip(body.evidence.ops, diagnosis.statuses, strict=True)
        rows = [_op(op, status) for op, status in pairs]
    return {**plain, "unchecked_reason": body.reason, "ops": rows}


def _stats(stats: TensorStats | None) -> dict[str, Any] | None:
    if stats is None:
        return None
    plain = asdict(stats)
    plain["channel_max_abs"] = list(stats.channel_max_abs)
    del plain["histogram"]  # stands with the operator
    if not stats.metrics:
        del plain["metrics"]
    return plain
