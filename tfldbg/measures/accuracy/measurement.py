"""The accuracy of each side, counted in the stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from tfldbg.compare import accuracy as counted
from tfldbg.compare.metrics import Finite
from tfldbg.compare.outputs import TOLERANCE
from tfldbg.measures.accuracy.section import output_sections
from tfldbg.measures.measurement import Finished, Measurement, Shown, Traced
from tfldbg.run.labels import read_labels

if TYPE_CHECKING:
    from tfldbg.compare.tally import Plan
    from tfldbg.diagnose.result import Result
    from tfldbg.measures.section import Section
    from tfldbg.options.measure import Measure
    from tfldbg.options.sources import DataSource
    from tfldbg.run.job import Job


@dataclass(frozen=True, slots=True)
class SideAccuracyJson(counted.SideAccuracy):
    """The accuracy of one side."""

    top_1_share: Finite
    """The share of right samples: top_1 over samples."""
    top_k_share: Finite
    """The share of samples whose right class is among the k largest values: top_k over samples."""


@dataclass(frozen=True, slots=True)
class AccuracyJson(counted.Accuracy):
    """The accuracy of each side that is known."""

    sides: tuple[SideAccuracyJson, ...]
    """The accuracy of each side."""


class AccuracyMeasurement(Measurement):
    """``--labels``, ``--top-k`` and ``--tolerance``."""

    name = "accuracy"
    result = counted.Accuracy
    keys: ClassVar = {"accuracy": (AccuracyJson | None, "The accuracy; None without --labels.")}

    def plan(self, plan: Plan, measure: Measure, job: Job, data: DataSource) -> Plan:
        """Count the accuracy, and the elements of the final outputs beyond the tolerance.

        Raises:
            DataError: The labels do not fit.
        """
        labels = None
        if measure.labels is not None:
            labels = read_labels(measure.labels, data, job.loaded, job.samples)
        tolerance = TOLERANCE if measure.tolerance is None else measure.tolerance
        wanted = replace(plan.wanted, tolerance=tolerance, labels=labels, k=measure.top_k)
        return replace(plan, wanted=wanted)

    def finish(self, traced: Traced) -> Finished:
        """Return the accuracy that the stream counted."""
        return Finished(traced.measured.finals.accuracy)

    def json(self, result: Result) -> dict[str, Any]:
        """Return the accuracy with the shares of the samples."""
        found: counted.Accuracy | None = result.evidence.measures.get(self.name)
        return {"accuracy": None if found is None else _with_shares(found)}

    def sections(self, result: Result, shown: Shown) -> tuple[Section, ...]:
        """Return the final outputs and the accuracy, if one of the options was given."""
        del shown
        return output_sections(result.evidence, result.evidence.measures.get(self.name))


def _with_shares(accuracy: counted.Accuracy) -> AccuracyJson:
    count = max(accuracy.samples, 1)
    sides = tuple(
        SideAccuracyJson(
            **{name: getattr(side, name) for name in side.__slots__},
            top_1_share=side.top_1 / count,
            top_k_share=side.top_k / count,
        )
        for side in accuracy.sides
    )
    given = {name: getattr(accuracy, name) for name in accuracy.__slots__}
    return AccuracyJson(**{**given, "sides": sides})
