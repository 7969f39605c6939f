"""Histograms of the errors of operators, counted in the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.compare.metrics import Finite
from tfldbg.measures.histograms.section import histogram_section
from tfldbg.measures.measurement import Finished, Measurement, Shown, Traced

if TYPE_CHECKING:
    from tfldbg.compare.tally import Plan
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.diagnose.result import Result
    from tfldbg.measures.section import Section
    from tfldbg.options.measure import Measure
    from tfldbg.options.sources import DataSource
    from tfldbg.run.job import Job


class HistogramsMeasurement(Measurement):
    """``--histograms``; the counts are held by the statistics of the operators."""

    name = "histograms"
    result = None
    keys: ClassVar = {
        "histogram_edges_lsb": (
            tuple[Finite, ...] | None,
            "The edges of all histograms, LSB; None without --histograms.",
        )
    }

    def plan(self, plan: Plan, measure: Measure, job: Job, data: DataSource) -> Plan:
        """Count histograms, if requested or for pictures."""
        del job, data
        return replace(plan, histograms=measure.histograms or measure.pictures)

    def finish(self, traced: Traced) -> Finished:
        """Return a note if no histogram could be counted."""
        if not traced.measure.histograms or _counted(traced.evidence):
            return Finished()
        return Finished(notes=("no histograms: no tensor that was compared is quantized",))

    def json(self, result: Result) -> dict[str, Any]:
        """Return the edges of the bins, if there are histograms."""
        return {"histogram_edges_lsb": EDGES_LSB if _counted(result.evidence) else None}

    def sections(self, result: Result, shown: Shown) -> tuple[Section, ...]:
        """Return the histograms, one line per operator output."""
        return histogram_section(result.evidence, shown.chosen) if shown.histograms else ()


def _counted(evidence: Evidence) -> bool:
    return any(s.histogram for o in evidence.ops for s in (o.local, o.accumulated) if s)
