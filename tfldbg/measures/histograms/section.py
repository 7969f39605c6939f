"""The section of a report with histograms of the errors of operators, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfldbg.compare.histogram import EDGES_LSB, beyond
from tfldbg.measures.accuracy.section import percent
from tfldbg.measures.section import BLOCKS, Column, Section

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.evidence import Evidence, OpEvidence

_BEYOND = 0.5
_COLUMNS = (
    Column("op", right=True),
    Column("kind", fold=True),
    Column("local"),
    Column(f">{_BEYOND}", right=True),
    Column("accumulated"),
    Column(f">{_BEYOND}", right=True),
)


def histogram_section(evidence: Evidence, chosen: Sequence[int] | None) -> tuple[Section, ...]:
    """Return the histograms, if there are any.

    Args:
        evidence: The trace.
        chosen: The numbers of the operator outputs to show, None for all.
    """
    shown = evidence.ops if chosen is None else [evidence.ops[i] for i in chosen]
    rows = tuple(_row(op) for op in shown if _counts(op.local) or _counts(op.accumulated))
    if not rows:
        return ()
    edges = ", ".join(f"{e:g}" for e in EDGES_LSB if e > 0)
    legend = (
        f"TFLite minus reference; the bins end at {edges} LSB on either side of 0, the outermost "
        f"are open; heights are relative to the fullest bin; >{_BEYOND}: share of the elements "
        f"that are off by more than {_BEYOND} LSB"
    )
    return (Section("histograms of the error in LSB", _COLUMNS, rows, (legend,)),)


def _row(op: OpEvidence) -> tuple[str, ...]:
    return (str(op.op), op.kind, *_cells(op.local), *_cells(op.accumulated))


def _cells(stats: TensorStats | None) -> tuple[str, str]:
    counts = _counts(stats)
    if not counts:
        return "-", "-"
    return bars(counts), percent(beyond(counts, _BEYOND), sum(counts))


def _counts(stats: TensorStats | None) -> tuple[int, ...]:
    return stats.histogram if stats is not None else ()


def bars(counts: Sequence[int]) -> str:
    """Return counts as bars; counts above zero have at least the lowest bar."""
    most = max(counts, default=0)
    heights = [-(-len(BLOCKS) * count // most) if most else 0 for count in counts]
    return "".join(BLOCKS[h - 1] if h else " " for h in heights)
