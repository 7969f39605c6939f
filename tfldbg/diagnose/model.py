"""Thresholds and verdicts."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tfldbg.diagnose.words import op_name

Status = Literal["ok", "origin", "inherited", "unchecked"]
Signal = Literal["input", "parameters", "weights", "shape", "nonfinite", "local"]
Severity = Literal["error", "warning", "info"]
Verdict = Literal["clean", "diverged"]
Code = Annotated[str, "^TFL[0-9]{3}$"]
"""Of a finding, and the pattern that the JSON Schema gives."""

Confidence = Literal["certain", "likely", "ambiguous"]
"""``certain``: compared directly, or twice beyond the bound; ``likely``: less than that, or an
operator chosen among several that are checked together; ``ambiguous``: another operator, which the
message names, may be wrong instead."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """An operator that does something other than its reference."""

    op: int
    kind: str
    tensor: str
    tensor_index: int
    signal: Signal
    message: str
    """What differs and by how much, as the end of a sentence that names the operator."""
    confidence: Confidence = "certain"
    rule: str | None = None
    """The rule of the quantization specification that is broken, where that is what differs."""

    def to_dict(self) -> dict[str, Any]:
        """Return the divergence as the documented JSON, without the cause."""
        return {
            "op": self.op,
            "kind": self.kind,
            "tensor": self.tensor,
            "tensor_index": self.tensor_index,
            "signal": self.signal,
            "message": self.message,
            "confidence": self.confidence,
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """The operator that a predicate is about."""

    op: int
    kind: str
    tensor: str | None
    """Name of the tensor that tells it from others of its kind; None where it is not named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth telling: what is wrong with what, the figures, and what to do."""

    code: str
    severity: Severity
    op: int | None
    """The operator to look at, None for the whole file."""
    tensor: str | None
    """Name of the tensor to look at."""
    predicate: str
    """What is wrong, without the name of the subject."""
    evidence: dict[str, object]
    """The figures, by name."""
    suggestion: str
    """What to do, as an order."""
    subject: Subject | None = None
    """The operator that the predicate is about; None where the predicate is a whole sentence."""

    @property
    def message(self) -> str:
        """Subject and predicate in one sentence."""
        if self.subject is None:
            return self.predicate
        name = op_name(self.subject.op, self.subject.kind, self.subject.tensor)
        return f"{name}: {self.predicate}"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as the documented JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "op": self.op,
            "tensor": self.tensor,
            "message": self.message,
            "evidence": deepcopy(self.evidence),
            "suggestion": self.suggestion,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdict over a trace."""

    verdict: Verdict
    sentence: str
    divergences: tuple[Divergence, ...]
    """In execution order; the first is the first divergence."""
    statuses: tuple[Status, ...]
    """One per operator output of the evidence."""
    findings: tuple[Finding, ...]
    inside: tuple[Diagnosis | None, ...] = ()
    """The verdict over each of the evidence's bodies, None where it could not be traced."""
