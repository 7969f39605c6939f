"""Verdicts, divergences and findings."""

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
"""The code of a finding, with its pattern for the JSON Schema."""

Confidence = Literal["certain", "likely", "ambiguous"]
"""``certain``: compared directly, or beyond twice the bound; ``likely``: less than that, or an
operator chosen among several that are checked together; ``ambiguous``: another operator, which the
message names, may be wrong instead."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """An operator that differs from its reference."""

    op: int
    kind: str
    tensor: str
    tensor_index: int
    signal: Signal
    message: str
    """The difference and its size, as the end of a sentence that begins with the operator."""
    confidence: Confidence = "certain"
    rule: str | None = None
    """The rule of the quantization specification that is broken, if that is the difference."""

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
    """The name of the tensor that distinguishes it from others of its kind; None to omit it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding: its subject, a predicate, the figures, and a suggestion."""

    code: str
    severity: Severity
    op: int | None
    """The operator to look at, None for the whole file."""
    tensor: str | None
    """The name of the tensor to look at."""
    predicate: str
    """The problem, without the name of the subject."""
    evidence: dict[str, object]
    """The figures, by name."""
    suggestion: str
    """The suggestion, as an imperative."""
    subject: Subject | None = None
    """The operator that the predicate is about; None if the predicate is a whole sentence."""

    @property
    def message(self) -> str:
        """The subject and the predicate in one sentence."""
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
    """The verdict about a trace."""

    verdict: Verdict
    sentence: str
    divergences: tuple[Divergence, ...]
    """All divergences in execution order."""
    statuses: tuple[Status, ...]
    """The status of each operator output of the evidence."""
    findings: tuple[Finding, ...]
    inside: tuple[Diagnosis | None, ...] = ()
    """The verdict about each of the evidence's bodies, None for those that could not be traced."""
