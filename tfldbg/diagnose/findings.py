"""List the findings: those that explain the verdict first, then the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.fitting import misfitting
from tfldbg.diagnose.rules import FILE_RULES, TRACE_RULES, Judged, to_finding
from tfldbg.diagnose.rules.differences import of_divergence
from tfldbg.diagnose.rules.ranges import MISPLACED
from tfldbg.diagnose.rules.specification import AS_CONVERTED

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.diagnose.model import Divergence, Finding, Severity, Signal
    from tfldbg.options.judge import Thresholds

_RANKS: tuple[Severity, ...] = ("error", "warning", "info")


def findings(
    evidence: Evidence,
    divergences: tuple[Divergence, ...],
    thresholds: Thresholds,
    downstream: frozenset[int],
) -> tuple[Finding, ...]:
    """Return the findings.

    The divergences come in execution order, each after the causes that explain it, so that the
    first finding of a diverged model explains the first divergence.  Of several causes, the one
    whose code explains the most divergences comes first.  Findings that explain nothing follow, by
    severity.

    Args:
        evidence: The trace.
        divergences: Its divergences.
        thresholds: The thresholds of the verdict.
        downstream: The tensors downstream of their origins.
    """
    judged = Judged(evidence, divergences, thresholds, downstream, misfitting(evidence))
    causes = _causes(judged)
    explained = Counter(
        f.code for f, signals in causes for d in divergences if _explains(f, signals, d)
    )
    causes.sort(key=lambda cause: -explained[cause[0].code])
    by_tensor = {o.tensor: o for o in evidence.ops}
    by_op = {o.op: o for o in reversed(evidence.ops)}
    traits = evidence.run.traits
    found: list[Finding] = []
    left = list(causes)
    for divergence in divergences:
        explaining = [(f, s) for f, s in left if _explains(f, s, divergence)]
        left = [cause for cause in left if cause not in explaining]
        found += [replace(f, severity="error") for f, _ in explaining]
        op = by_tensor.get(divergence.tensor_index, by_op[divergence.op])
        told = of_divergence(divergence, op, traits)
        # The parameters are those of the reference, so other remedies would not help.
        if explaining and explaining[0][0].code in MISPLACED | AS_CONVERTED:
            told = replace(told, suggestion=explaining[0][0].suggestion)
        found.append(told)
    rest = sorted((f for f, _ in left), key=lambda f: _RANKS.index(f.severity))
    return (*found, *rest)


def _causes(judged: Judged) -> list[tuple[Finding, frozenset[Signal]]]:
    """Return the findings of the rules, with the kinds of divergence that they explain."""
    explains = {rule.about.code: rule.explains for rule in FILE_RULES}
    found = [
        (to_finding(rule.about, sign), rule.explains)
        for rule in TRACE_RULES
        for sign in rule.find(judged)
    ]
    return found + [(f, explains.get(f.code, frozenset())) for f in judged.evidence.file]


def _explains(finding: Finding, signals: Iterable[Signal], divergence: Divergence) -> bool:
    return divergence.signal in signals and finding.op in (None, divergence.op)
