"""The user's own metrics, counted in the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.measures.measurement import Finished, Measurement, Shown, Traced
from tfldbg.measures.own.find import find_metrics
from tfldbg.measures.own.section import metric_section

if TYPE_CHECKING:
    from tfldbg.compare.tally import Plan
    from tfldbg.diagnose.result import Result
    from tfldbg.diagnose.traits import Traits
    from tfldbg.measures.section import Section
    from tfldbg.options.measure import Measure
    from tfldbg.options.sources import DataSource
    from tfldbg.run.job import Job


class OwnMetricsMeasurement(Measurement):
    """``--metric``; the figures are held by the statistics of the operators."""

    name = "own"
    result = None

    def check(self, measure: Measure, traits: Traits, steps: int) -> None:
        """Check that all metrics exist.

        Raises:
            UsageError: A metric does not exist.
            PluginError: A metric cannot be loaded.
        """
        del traits, steps
        find_metrics(measure.metrics)

    def plan(self, plan: Plan, measure: Measure, job: Job, data: DataSource) -> Plan:
        """Count the metrics of all tensors."""
        del job, data
        return replace(plan, metrics=find_metrics(measure.metrics))

    def finish(self, traced: Traced) -> Finished:
        """Return nothing: the statistics of the operators hold the figures."""
        del traced
        return Finished()

    def sections(self, result: Result, shown: Shown) -> tuple[Section, ...]:
        """Return the metrics, one line per operator output."""
        return metric_section(result.evidence, shown.chosen)
