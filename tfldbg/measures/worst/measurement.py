"""The samples with the largest error, run once more after the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from tfldbg.compare.sides import REFERENCE, TFLITE
from tfldbg.measures.measurement import Finished, Measurement, Shown, Traced
from tfldbg.measures.worst.examine import WorstSample, examine
from tfldbg.measures.worst.section import worst_sections

if TYPE_CHECKING:
    from tfldbg.compare.tally import Plan
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.diagnose.result import Result
    from tfldbg.measures.section import Section
    from tfldbg.options.measure import Measure
    from tfldbg.options.sources import DataSource
    from tfldbg.run.job import Job


class WorstMeasurement(Measurement):
    """``--worst``."""

    name = "worst"
    result = tuple[WorstSample, ...]
    keys: ClassVar = {
        "worst": (tuple[WorstSample, ...], "The samples of --worst, the worst first.")
    }

    def plan(self, plan: Plan, measure: Measure, job: Job, data: DataSource) -> Plan:
        """Find the samples with the largest error."""
        del job, data
        return replace(plan, wanted=replace(plan.wanted, worst=measure.worst))

    def finish(self, traced: Traced) -> Finished:
        """Compare these samples operator by operator."""
        numbers, bench = traced.measured.finals.worst_samples, traced.bench
        found = examine(
            traced.plan,
            bench.job.samples,
            bench.runner,
            traced.reference,
            numbers,
            bench.progress,
        )
        if traced.measure.worst and not found:
            return Finished((), (f"no worst samples: {_why_none(traced.evidence)}",))
        return Finished(found)

    def json(self, result: Result) -> dict[str, Any]:
        """Return the samples."""
        return {"worst": result.evidence.measures.get(self.name) or ()}

    def sections(self, result: Result, shown: Shown) -> tuple[Section, ...]:
        """Return one section for each sample."""
        found = result.evidence.measures.get(self.name) or ()
        return worst_sections(found, result.evidence.run, everything=shown.everything)


def _why_none(evidence: Evidence) -> str:
    pairs = [(p.test, p.against) for output in evidence.outputs for p in output.pairs]
    if (TFLITE, REFERENCE) in pairs:
        return "the final outputs equal the reference's in every sample"
    return "no final output has a counterpart in the reference"
