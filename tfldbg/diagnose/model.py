"""Thresholds and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "origin", "inherited", "unchecked"]
Signal = Literal["input", "parameters", "weights", "shape", "nonfinite", "local"]
Severity = Literal["error", "warning", "info"]

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


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth telling, with its evidence and what to do."""

    code: str
    severity: Severity
    op: int | None
    tensor: str | None
    message: str
    evidence: dict[str, object]
    suggestion: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdict over a trace."""

    verdict: Literal["clean", "diverged"]
    sentence: str
    divergences: tuple[Divergence, ...]
    """In execution order; the first is the first divergence."""
    statuses: tuple[Status, ...]
    """One per operator output of the evidence."""
    findings: tuple[Finding, ...]
    inside: tuple[Diagnosis | None, ...] = ()
    """The verdict over each of the evidence's bodies, None where it could not be traced."""
