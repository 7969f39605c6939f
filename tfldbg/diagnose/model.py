"""Thresholds and verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from tfldbg.compare.metrics import FLOAT_RELATIVE
from tfldbg.errors import UsageError

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
class Thresholds:
    """How much of an operator's own error arithmetic explains.  None of them is fitted."""

    local_lsb: float = 0.75
    """Quantized outputs: half a step of rounding, a quarter for fixed-point multipliers."""
    int16_lsb: float = 8.0
    """16-bit functions that kernels interpolate in tables, whose error spans several steps."""
    recurrent_lsb: float = 8.0
    """Operators that loop over time and read their own rounded state again."""
    float_relative: float = FLOAT_RELATIVE
    """Float outputs: largest difference over the largest value."""
    hybrid_relative: float = 0.02
    """Float activations with integer weights, where the weights tell no closer bound: RMSE over
    RMS."""
    saturation: float = 0.001
    """Share of an output's elements beyond its range that is worth a finding."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(
                    f"the threshold {name} is {value}", hint="give a number that is 0 or more"
                )

    def lsb(self, rule: str) -> float:
        """Return the limit of a quantized output in LSB, by the rule of its bound."""
        return {"table": self.int16_lsb, "recurrent": self.recurrent_lsb}.get(rule, self.local_lsb)


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

    verdict: Verdict
    sentence: str
    divergences: tuple[Divergence, ...]
    """In execution order; the first is the first divergence."""
    statuses: tuple[Status, ...]
    """One per operator output of the evidence."""
    findings: tuple[Finding, ...]
    inside: tuple[Diagnosis | None, ...] = ()
    """The verdict over each of the evidence's bodies, None where it could not be traced."""
