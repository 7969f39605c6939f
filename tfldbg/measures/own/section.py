"""The section of a report with the user's own metrics, one line per operator output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfldbg.diagnose.words import number
from tfldbg.measures.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.custom import MetricStats
    from tfldbg.diagnose.evidence import Evidence, OpEvidence

_LEGEND = (
    "the mean over the samples, with the smallest and the largest value; samples with an infinite "
    "metric are counted separately"
)


def metric_section(evidence: Evidence, chosen: Sequence[int] | None) -> tuple[Section, ...]:
    """Return the metrics, if there are any.

    Args:
        evidence: The trace.
        chosen: The numbers of the operator outputs to show, None for all.
    """
    both = [stats for op in evidence.ops for stats in (op.local, op.accumulated)]
    names = tuple(dict.fromkeys(name for s in both if s is not None for name in s.metrics))
    if not names:
        return ()
    shown = evidence.ops if chosen is None else [evidence.ops[i] for i in chosen]
    columns = [Column("op", right=True), Column("kind", fold=True)]
    for name in names:
        columns += [Column(f"local {name}"), Column(f"accumulated {name}")]
    rows = tuple(_row(op, names) for op in shown if op.activation)
    return (Section("your own metrics", tuple(columns), rows, (_LEGEND,)),)


def _row(op: OpEvidence, names: Sequence[str]) -> tuple[str, ...]:
    cells = [str(op.op), op.kind]
    for name in names:
        cells += [_cell(op.local, name), _cell(op.accumulated, name)]
    return tuple(cells)


def _cell(stats: TensorStats | None, name: str) -> str:
    found = stats.metrics.get(name) if stats is not None else None
    return "-" if found is None else _figures(found)


def _figures(found: MetricStats) -> str:
    if found.mean is None:
        return f"{found.infinite} inf" if found.infinite else "-"
    infinite = f", {found.infinite} inf" if found.infinite else ""
    return f"{number(found.mean)} ({number(found.min)} to {number(found.max)}{infinite})"
