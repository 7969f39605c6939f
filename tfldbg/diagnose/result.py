"""A trace with its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from tfldbg.diagnose.evidence import Evidence
from tfldbg.diagnose.gate import Gate, judge
from tfldbg.diagnose.model import Diagnosis, Verdict
from tfldbg.diagnose.rules.differences import BY_SIGNAL

if TYPE_CHECKING:
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


def gated(result: Result, rules: Sequence[Rule]) -> Result:
    """Return the result with its gate; without rules it has none and the verdict decides.

    Raises:
        UsageError: A rule matches no operator, or none that has its figure.
    """
    if not rules:
        return result
    return replace(result, gate=judge(result.evidence, result.diagnosis, rules))
