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
    """The result of a trace."""

    evidence: Evidence
    diagnosis: Diagnosis
    gate: Gate | None = None
    """The outcome of the user's own rules, None if there are none."""

    @property
    def verdict(self) -> Verdict:
        """The verdict: ``"clean"`` or ``"diverged"``."""
        return self.diagnosis.verdict

    @property
    def passed(self) -> bool:
        """True if a build may go on, according to the rules or, without rules, to the verdict."""
        return self.gate.passed if self.gate is not None else self.verdict == "clean"

    @property
    def first_divergence(self) -> Divergence | None:
        """The first operator that differs, None if none does."""
        return self.diagnosis.divergences[0] if self.diagnosis.divergences else None

    @property
    def cause(self) -> Finding | None:
        """The finding that explains the first divergence, None if no rule does."""
        first = self.first_divergence
        found = self.diagnosis.findings[0] if first and self.diagnosis.findings else None
        return found if first and found and found.code != BY_SIGNAL[first.signal].code else None

    @property
    def origins(self) -> tuple[int, ...]:
        """All operators that are origins, in execution order."""
        return tuple(dict.fromkeys(d.op for d in self.diagnosis.divergences))


def gated(result: Result, rules: Sequence[Rule]) -> Result:
    """Return the result with a gate for the rules, or unchanged if there are no rules.

    Raises:
        UsageError: A rule matches no operator, or no operator that has its figure.
    """
    if not rules:
        return result
    return replace(result, gate=judge(result.evidence, result.diagnosis, rules))
