"""The causes that tfldbg can name, one module per family.

A rule is an `Explanation`, the text that a user reads, and a function that looks for signs of the
cause in the file alone or in a trace.  `tfldbg.diagnose.findings` runs the rules and orders their
findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules import (
    constants,
    differences,
    functions,
    inputs,
    kernels,
    patterns,
    ranges,
    recurrent,
    specification,
    structure,
    weights,
)
from tfldbg.diagnose.rules.model import Explanation, FileRule, Judged, Sign, TraceRule, to_finding

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Finding
    from tfldbg.graph.model import Graph, Subgraph

__all__ = [
    "CATALOG",
    "FAMILIES",
    "FILE_RULES",
    "TRACE_RULES",
    "Explanation",
    "Judged",
    "Sign",
    "TraceRule",
    "explanations",
    "file_findings",
    "inspect_findings",
    "to_finding",
]

FAMILIES: tuple[ModuleType, ...] = (
    differences,
    weights,
    specification,
    ranges,
    inputs,
    constants,
    structure,
    patterns,
    kernels,
    functions,
    recurrent,
)
"""The families, in the order of preference if several causes explain one divergence."""

FILE_RULES: tuple[FileRule, ...] = tuple(r for family in FAMILIES for r in family.FILE_RULES)
TRACE_RULES: tuple[TraceRule, ...] = tuple(r for family in FAMILIES for r in family.TRACE_RULES)


def explanations(family: ModuleType) -> tuple[Explanation, ...]:
    """Return the explanations of a family, by code."""
    rules = (*family.FILE_RULES, *family.TRACE_RULES)
    found = {rule.about.code: rule.about for rule in rules}
    if family is differences:
        found.update({about.code: about for about in differences.BY_SIGNAL.values()})
    return tuple(found[code] for code in sorted(found))


CATALOG: Mapping[str, Explanation] = {
    about.code: about for family in FAMILIES for about in explanations(family)
}
"""All explanations by code."""


def file_findings(graph: Graph, subgraph: Subgraph) -> tuple[Finding, ...]:
    """Return the findings from the file alone, without breaches of the specification.

    Breaches are judged in a trace, where the reference may refute them.
    """
    return tuple(
        to_finding(rule.about, sign) for rule in FILE_RULES for sign in rule.find(graph, subgraph)
    )


def inspect_findings(graph: Graph, subgraph: Subgraph) -> tuple[Finding, ...]:
    """Return all findings from the file alone, ordered by severity, then by operator."""
    broken = (to_finding(*found) for found in specification.breaches(graph, subgraph))
    ranks = ("error", "warning", "info")
    return tuple(
        sorted(
            (*broken, *file_findings(graph, subgraph)),
            key=lambda f: (ranks.index(f.severity), -1 if f.op is None else f.op),
        )
    )
